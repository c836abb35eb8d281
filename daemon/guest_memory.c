// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory, mapped from the front end's descriptors.
 *
 * Every number here is the front end's to choose. A region is taken only if
 * its guest and front end ranges do not wrap and overlap no other's, and if
 * the file is as long as the region says: beyond its end a mapping faults.
 * Ranges are compared by their inclusive last byte, so that one that ends with
 * the address space is no special case.
 *
 * What is shared may not be touched all the same: a front end shares all of a
 * virtio-mem device's region, and a write to an unplugged block of it would
 * allocate memory that nobody gives back, and be seen by the guest when the
 * block is plugged. So each look-up asks the device.
 *
 * A file can be truncated at any time, and what was behind its new end then
 * faults with SIGBUS. Files that are sealed against it cannot be asked for:
 * hugetlbfs and plain files cannot be sealed. So there is a handler that puts
 * zero pages in the place of the whole mapping and leaves word; whoever has
 * touched it goes on to find out that the memory is lost. As a handler belongs
 * to the process, so does the pointer to the memory that it looks at.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guest_memory.h"

static bool range_last(uint64_t first, uint64_t size, uint64_t *last)
{
	return size && !__builtin_add_overflow(first, size - 1, last);
}

static bool overlap(uint64_t first_a, uint64_t first_b, uint64_t size_a,
		    uint64_t size_b)
{
	return first_a <= first_b + (size_b - 1) &&
	       first_b <= first_a + (size_a - 1);
}

/*
 * Offsets of mappings are multiples of the page size, on hugetlbfs of the huge
 * page's, which is what its block size is.
 */
static int mapping_unit(int fd, uint64_t *unit)
{
	struct statfs fs;
	long page = sysconf(_SC_PAGESIZE);

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	*unit = page;
	if (fs.f_bsize > page && !(fs.f_bsize & (fs.f_bsize - 1)))
		*unit = fs.f_bsize;
	return 0;
}

/**
 * guest_memory_add() - map a region
 * @gpa: guest-physical address
 * @uva: address in the front end
 * @size: bytes
 * @offset: of the region in @fd, bytes
 * @fd: a regular file (memfd, tmpfs, hugetlbfs); not kept
 * @reason: what is wrong, on error
 *
 * Return: 0; -EINVAL, -EEXIST, -ENOSPC, or an errno of mmap(2).
 */
int guest_memory_add(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
		     uint64_t size, uint64_t offset, int fd,
		     const char **reason)
{
	struct guest_memory_region *region, *grown;
	uint64_t unit = 1, last, skip, map_size;
	struct stat st;
	int ret;

	if (!range_last(gpa, size, &last) || !range_last(uva, size, &last) ||
	    !range_last(offset, size, &last)) {
		*reason = "an empty or overflowing memory region";
		return -EINVAL;
	}
	for (size_t i = 0; i < memory->nr; i++) {
		region = &memory->regions[i];
		if (overlap(gpa, region->gpa, size, region->size) ||
		    overlap(uva, region->uva, size, region->size)) {
			*reason = "overlapping memory regions";
			return -EEXIST;
		}
	}
	if (memory->nr >= GUEST_MEMORY_MAX_REGIONS) {
		*reason = "too many memory regions";
		return -ENOSPC;
	}
	if (fstat(fd, &st) < 0) {
		*reason = "a memory region's descriptor cannot be examined";
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || last >= (uint64_t)st.st_size) {
		*reason = "a memory region beyond the end of its file";
		return -EINVAL;
	}
	ret = mapping_unit(fd, &unit);
	if (ret) {
		*reason = "a memory region's descriptor cannot be examined";
		return ret;
	}
	skip = offset % unit;
	if (__builtin_add_overflow(size, skip, &map_size) ||
	    map_size > SIZE_MAX) {
		*reason = "an overflowing memory region";
		return -EINVAL;
	}

	grown = reallocarray(memory->regions, memory->nr + 1, sizeof(*grown));
	if (!grown) {
		*reason = "out of memory";
		return -ENOMEM;
	}
	memory->regions = grown;
	region = &grown[memory->nr];
	region->map = mmap(NULL, map_size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_NORESERVE, fd, offset - skip);
	if (region->map == MAP_FAILED) {
		*reason = "a memory region cannot be mapped";
		return -errno;
	}
	region->gpa = gpa;
	region->uva = uva;
	region->size = size;
	region->offset = offset;
	region->dev = st.st_dev;
	region->ino = st.st_ino;
	region->map_size = map_size;
	region->hva = (uint8_t *)region->map + skip;
	memory->nr++;
	return 0;
}

static struct guest_memory *guarded;

static void on_sigbus(int signal, siginfo_t *info,
		      void *context __attribute__((unused)))
{
	const uint8_t *at = info->si_addr;

	for (size_t i = 0; guarded && i < guarded->nr; i++) {
		const struct guest_memory_region *region = &guarded->regions[i];
		const uint8_t *map = region->map;

		if (at < map || at >= map + region->map_size)
			continue;
		if (mmap(region->map, region->map_size, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS |
				 MAP_NORESERVE,
			 -1, 0) == MAP_FAILED)
			break;
		guarded->lost = true;
		return;
	}
	/* A fault of another kind: as if there were no handler. */
	sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

/**
 * guest_memory_guard() - survive that files are truncated
 * @memory: the one that is guarded; regions may come and go
 *
 * Return: 0, or an errno of sigaction(2).
 */
int guest_memory_guard(struct guest_memory *memory)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	};

	guarded = memory;
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

void guest_memory_unguard(void)
{
	guarded = NULL;
}

/* Return: 0, or -ENOENT: no region has these values. */
int guest_memory_remove(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
			uint64_t size)
{
	for (size_t i = 0; i < memory->nr; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		if (region->gpa != gpa || region->uva != uva ||
		    region->size != size)
			continue;
		munmap(region->map, region->map_size);
		*region = memory->regions[--memory->nr];
		return 0;
	}
	return -ENOENT;
}

void guest_memory_clear(struct guest_memory *memory)
{
	for (size_t i = 0; i < memory->nr; i++)
		munmap(memory->regions[i].map, memory->regions[i].map_size);
	free(memory->regions);
	memory->regions = NULL;
	memory->nr = 0;
	memory->lost = false;
}

/* Bytes from an offset of a region on that may be touched, at most @size. */
static uint64_t accessible(const struct guest_memory *memory,
			   const struct guest_memory_region *region,
			   uint64_t offset, uint64_t size)
{
	if (size > region->size - offset)
		size = region->size - offset;
	if (!memory->accessible || !size)
		return size;
	return memory->accessible(memory->arg, region->gpa + offset, size);
}

/**
 * guest_memory_at_gpa() - where a guest-physical address is mapped here
 * @left: bytes from there on that may be touched, at least 1
 *
 * Return: the address, or NULL if there is no memory that may be touched.
 */
void *guest_memory_at_gpa(const struct guest_memory *memory, uint64_t gpa,
			  uint64_t *left)
{
	for (size_t i = 0; i < memory->nr; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (gpa < region->gpa || gpa - region->gpa >= region->size)
			continue;
		*left = accessible(memory, region, gpa - region->gpa,
				   region->size);
		return *left ? region->hva + (gpa - region->gpa) : NULL;
	}
	return NULL;
}

/* As above for @size bytes at an address of the front end, in one region. */
void *guest_memory_at_uva(const struct guest_memory *memory, uint64_t uva,
			  uint64_t size)
{
	for (size_t i = 0; i < memory->nr; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (uva < region->uva || uva - region->uva >= region->size)
			continue;
		if (accessible(memory, region, uva - region->uva, size) < size)
			return NULL;
		return region->hva + (uva - region->uva);
	}
	return NULL;
}
