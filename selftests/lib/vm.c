// SPDX-License-Identifier: GPL-2.0-or-later
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"

/* Enough for the CPUID leaves of any host. */
#define MAX_CPUID_ENTRIES 256

/* CPUID leaf with the guest-physical address width, in EAX bits 7:0. */
#define CPUID_ADDRESS_SIZES 0x80000008U

/* Since 6.12; for older headers. */
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif

/* KVM accepts no userspace address beyond the x86 architecture's 52 bits. */
#define MAX_PHYS_BITS 52

static int enable_cap(const struct vm *vm, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap args = {.cap = cap, .args = {arg}};

	return ioctl(vm->fd, KVM_ENABLE_CAP, &args);
}

/** vm_can_zap_slots() - Return: whether KVM can do VM_ZAP_SLOTS. */
bool vm_can_zap_slots(const struct vm *vm)
{
	return vm_check_extension(vm, KVM_CAP_DISABLE_QUIRKS2) &
	       KVM_X86_QUIRK_SLOT_ZAP_ALL;
}

static void set_modes(const struct vm *vm, unsigned int flags)
{
	if (flags & VM_ZAP_SLOTS) {
		if (!vm_can_zap_slots(vm))
			tap_skip("this KVM has no KVM_X86_QUIRK_SLOT_ZAP_ALL");
		ASSERT_EQ(enable_cap(vm, KVM_CAP_DISABLE_QUIRKS2,
				     KVM_X86_QUIRK_SLOT_ZAP_ALL),
			  0);
	}
	if (flags & VM_DIRTY_RING)
		ASSERT_EQ(enable_cap(vm, KVM_CAP_DIRTY_LOG_RING,
				     VM_DIRTY_RING_ENTRIES *
					     sizeof(struct kvm_dirty_gfn)),
			  0);
}

/**
 * vm_create() - Make a VM.
 * @flags: VM_SMM, VM_BARE, VM_ZAP_SLOTS, VM_DIRTY_RING; the test is skipped if
 *	KVM does not support VM_ZAP_SLOTS
 */
void vm_create(struct vm *vm, unsigned int flags)
{
	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		tap_skip("/dev/kvm: %s", strerror(errno));
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	ASSERT_GE(vm->fd, 0);
	set_modes(vm, flags);
	if (flags & VM_BARE)
		return;

	vm->boot_hva = mmap(NULL, VM_BOOT_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((void *)vm->boot_hva, MAP_FAILED);
	ASSERT_OK(vm_set_region(vm, SLOT(AS_NORMAL, VM_BOOT_SLOT), 0, 0,
				VM_BOOT_SIZE, vm->boot_hva));
	if (flags & VM_SMM)
		ASSERT_OK(vm_set_region(vm, SLOT(AS_SMM, VM_BOOT_SLOT), 0, 0,
					VM_BOOT_SIZE, vm->boot_hva));
}

/** vm_destroy() - Close the VM. The caller closes its vCPUs. */
void vm_destroy(struct vm *vm)
{
	close(vm->fd);
	close(vm->kvm_fd);
	if (vm->boot_hva)
		munmap(vm->boot_hva, VM_BOOT_SIZE);
}

/** vm_check_extension() - Return: KVM_CHECK_EXTENSION's answer. */
int vm_check_extension(const struct vm *vm, long cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

/**
 * vm_max_gpa() - The guest-physical address space of the host's virtual CPUs.
 *
 * Return: the first address beyond it.
 */
uint64_t vm_max_gpa(const struct vm *vm)
{
	uint64_t max = 0;
	struct kvm_cpuid2 *cpuid;
	unsigned int i;

	cpuid = calloc(1, sizeof(*cpuid) +
				  MAX_CPUID_ENTRIES * sizeof(*cpuid->entries));
	ASSERT_TRUE(cpuid);
	cpuid->nent = MAX_CPUID_ENTRIES;
	ASSERT_EQ(ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == CPUID_ADDRESS_SIZES)
			max = 1ULL << (cpuid->entries[i].eax & 0xff);
	free(cpuid);
	ASSERT_GT(max, 0U);
	ASSERT_LE(max, 1ULL << MAX_PHYS_BITS);
	return max;
}

/** vm_need_gpa() - skip the test if the CPU's address space ends below @end */
void vm_need_gpa(const struct vm *vm, uint64_t end)
{
	const uint64_t max = vm_max_gpa(vm);

	if (max < end)
		tap_skip("the CPU reaches %" PRIu64
			 " GiB of guest memory, the region ends at %" PRIu64,
			 max >> 30, end >> 30);
}

/** vm_set_region() - KVM's own call for one memslot. Return: 0 or -errno. */
int vm_set_region(const struct vm *vm, uint32_t slot, uint32_t flags,
		  uint64_t gpa, uint64_t size, const void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	return 0;
}

/**
 * vm_delete_slot() - Return: 0 or -errno, -EINVAL if the memslot does not
 * exist.
 */
int vm_delete_slot(const struct vm *vm, uint32_t slot)
{
	return vm_set_region(vm, slot, 0, 0, 0, NULL);
}

/**
 * vm_dirty_log() - Fetch and clear a memslot's dirty bitmap.
 * @bitmap: a bit for each page, 64-bit words; not NULL
 *
 * Return: 0, -ENOENT if the memslot does not exist or does not log.
 */
int vm_dirty_log(const struct vm *vm, uint32_t slot, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = slot};

	log.dirty_bitmap = bitmap;
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0)
		return -errno;
	return 0;
}

/**
 * vm_slot_exists() - Ask KVM whether a memslot id is used, without a change.
 *
 * The call requests a memslot that KVM refuses in either case, for different
 * reasons: it overlaps the boot memory and has a host address of no memslot.
 * For an unused id KVM reports the overlap, EEXIST; for a used id it refuses
 * the new host address, EINVAL. The address space needs a boot memslot.
 */
bool vm_slot_exists(const struct vm *vm, uint32_t slot)
{
	/* Inside the boot memory's mapping, where no memslot begins. */
	const void *no_slot_hva = vm->boot_hva + GUEST_PAGE;
	int r = vm_set_region(vm, slot, 0, 0, GUEST_PAGE, no_slot_hva);

	ASSERT_TRUE(r == -EEXIST || r == -EINVAL);
	return r == -EINVAL;
}

/** vm_stat() - Return: a statistic that KVM has for the VM. */
uint64_t vm_stat(const struct vm *vm, const char *name)
{
	unsigned long long value;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(),
		 vm->fd, name);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	ASSERT_EQ(fscanf(f, "%llu", &value), 1);
	fclose(f);
	return value;
}

/*
 * A memslot may be larger than its memory, if no page behind it is accessed. KVM
 * refuses one that ends beyond the addresses of user space, so as much is kept
 * free behind the memory.
 */
#define BACKING_BEYOND GIB(64)

/**
 * backing_create() - Make memory for memslots. It is not reserved, so that it
 * may exceed the machine's memory.
 */
void backing_create(struct backing *b, uint64_t size)
{
	const uint64_t align = MIB(2);
	uint8_t *reserved;

	b->size = size;
	b->fd = memfd_create("backing", MFD_CLOEXEC);
	ASSERT_GE(b->fd, 0);
	ASSERT_EQ(ftruncate(b->fd, (off_t)size), 0);

	/*
	 * Reserve more address space than needed, and map over its aligned
	 * part.
	 */
	reserved = mmap(NULL, size + align + BACKING_BEYOND, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE((void *)reserved, MAP_FAILED);
	b->hva = (uint8_t *)(((uintptr_t)reserved + align - 1) & -align);
	ASSERT_EQ(mmap(b->hva, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_NORESERVE | MAP_FIXED, b->fd, 0),
		  (void *)b->hva);
}

/** backing_destroy() - Unmap and close; the reserved rest stays mapped. */
void backing_destroy(struct backing *b)
{
	munmap(b->hva, b->size);
	close(b->fd);
}
