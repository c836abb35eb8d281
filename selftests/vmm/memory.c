// SPDX-License-Identifier: GPL-2.0-or-later
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout.h"
#include "util.h"

/*
 * KVM and the host map huge pages only if guest-physical and host-virtual
 * address are equal modulo the huge page's size. Every range is therefore
 * mapped at an address that is equal modulo the largest size, 1 GiB.
 */
#define HVA_ALIGN GIB

void memory_init(struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	memory->boot.fd = -1;
}

/* Map @size bytes of @fd at an address that is @gpa modulo HVA_ALIGN. */
static void *map_congruent(int fd, uint64_t gpa, uint64_t size)
{
	uint64_t reserve_size;
	uintptr_t start, hva;
	void *reserve;

	if (__builtin_add_overflow(size, 2 * HVA_ALIGN, &reserve_size))
		return MAP_FAILED;
	reserve = mmap(NULL, reserve_size, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserve == MAP_FAILED)
		return MAP_FAILED;
	start = (uintptr_t)reserve;
	hva = ((start + HVA_ALIGN - 1) & ~(HVA_ALIGN - 1)) +
	      (gpa & (HVA_ALIGN - 1));
	if (mmap((void *)hva, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(reserve, reserve_size);
		return MAP_FAILED;
	}
	if (hva > start)
		munmap(reserve, hva - start);
	if (start + reserve_size > hva + size)
		munmap((void *)(hva + size), start + reserve_size - hva - size);
	return (void *)hva;
}

static int range_create(struct memory_range *range, const char *name,
			uint64_t gpa, uint64_t size, uint64_t page_size)
{
	unsigned int flags = MFD_CLOEXEC;
	int ret;

	if (page_size)
		flags |= MFD_HUGETLB | (unsigned int)__builtin_ctzll(page_size)
					       << MFD_HUGE_SHIFT;
	range->fd = memfd_create(name, flags);
	if (range->fd < 0) {
		ret = -errno;
		error_errno(errno, "memfd_create");
		return ret;
	}
	if (ftruncate(range->fd, (off_t)size)) {
		ret = -errno;
		error_errno(errno, "cannot size the memfd %s to %llu bytes",
			    name, (unsigned long long)size);
		goto err_close;
	}
	range->hva = map_congruent(range->fd, gpa, size);
	if (range->hva == MAP_FAILED) {
		ret = -errno;
		error_errno(errno, "cannot map %llu bytes of %s",
			    (unsigned long long)size, name);
		goto err_close;
	}
	/* A hint: kernels without shmem huge pages refuse it. */
	madvise(range->hva, size, MADV_HUGEPAGE);
	range->gpa = gpa;
	range->size = size;
	return 0;

err_close:
	range->hva = NULL;
	close(range->fd);
	range->fd = -1;
	return ret;
}

static void range_destroy(struct memory_range *range)
{
	if (range->fd < 0)
		return;
	munmap(range->hva, range->size);
	close(range->fd);
	range->fd = -1;
	range->size = 0;
}

static int set_memslot(int vm_fd, uint32_t slot,
		       const struct memory_range *range)
{
	struct kvm_userspace_memory_region memslot = {
		.slot = slot,
		.guest_phys_addr = range->gpa,
		.memory_size = range->size,
		.userspace_addr = (uintptr_t)range->hva,
	};

	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &memslot))
		return -errno;
	return 0;
}

int memory_add_boot(struct memory *memory, int vm_fd, uint64_t size, bool smm)
{
	int ret;

	ret = range_create(&memory->boot, "vmem-boot", 0, size, 0);
	if (ret)
		return ret;
	ret = set_memslot(vm_fd, BOOT_SLOT, &memory->boot);
	if (!ret && smm)
		ret = set_memslot(vm_fd, SMM_SLOT | BOOT_SLOT, &memory->boot);
	if (ret)
		error_errno(-ret, "KVM refuses the memslot of boot memory");
	return ret;
}

int memory_clear_boot(const struct memory *memory)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const struct memory_range *boot = &memory->boot;

	if (fallocate(boot->fd, mode, 0, ACPI_GPA) ||
	    fallocate(boot->fd, mode, ACPI_END, (off_t)boot->size - ACPI_END))
		return -errno;
	return 0;
}

int memory_add_region(struct memory *memory, uint64_t gpa, uint64_t size,
		      uint64_t page_size, struct memory_range **range)
{
	char name[sizeof("vmem-region") + 4];
	unsigned int nr = memory->nr_regions;
	int ret;

	if (nr == MAX_DEVICES)
		return -ENOSPC;
	/* The first region's name has no number, as if it were the only one. */
	snprintf(name, sizeof(name), nr ? "vmem-region%u" : "vmem-region", nr);
	ret = range_create(&memory->regions[nr], name, gpa, size, page_size);
	if (ret)
		return ret;
	*range = &memory->regions[memory->nr_regions++];
	return 0;
}

static bool contains(const struct memory_range *range, uint64_t gpa,
		     uint64_t size)
{
	uint64_t offset = gpa - range->gpa;

	return gpa >= range->gpa && offset < range->size &&
	       size <= range->size - offset;
}

/* Return: the range that has all of the bytes, or NULL. */
static const struct memory_range *find(const struct memory *memory,
				       uint64_t gpa, uint64_t size)
{
	if (contains(&memory->boot, gpa, size))
		return &memory->boot;
	for (unsigned int i = 0; i < memory->nr_regions; i++)
		if (contains(&memory->regions[i], gpa, size))
			return &memory->regions[i];
	return NULL;
}

void *memory_hva(const struct memory *memory, uint64_t gpa, uint64_t size)
{
	const struct memory_range *range = find(memory, gpa, size);

	return range ? (char *)range->hva + (gpa - range->gpa) : NULL;
}

void *memory_view(const struct memory *memory, uint64_t gpa, uint64_t size)
{
	const struct memory_range *range = find(memory, gpa, size);

	if (!range || !range->view)
		return memory_hva(memory, gpa, size);
	return (char *)range->view + (gpa - range->gpa);
}

void memory_destroy(struct memory *memory)
{
	while (memory->nr_regions)
		range_destroy(&memory->regions[--memory->nr_regions]);
	range_destroy(&memory->boot);
}
