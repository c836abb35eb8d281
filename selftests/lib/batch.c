// SPDX-License-Identifier: GPL-2.0-or-later
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tap.h"

#define FIRST_CAPACITY 16

/**
 * kvm_vmem_open() - Return: a descriptor of the device. Skips the case if the
 * device is absent.
 */
int kvm_vmem_open(void)
{
	int fd = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		tap_skip("/dev/kvm-vmem: %s", strerror(errno));
	return fd;
}

/** batch_init() - Begin an empty batch. */
void batch_init(struct batch *b)
{
	memset(b, 0, sizeof(*b));
}

/** batch_free() - Free the entries. */
void batch_free(struct batch *b)
{
	free(b->entries);
	batch_init(b);
}

/** batch_reset() - Drop all entries, keep their room. */
void batch_reset(struct batch *b)
{
	b->nr = 0;
}

/** batch_set() - Append an entry: create a memslot or change its flags. */
void batch_set(struct batch *b, uint32_t slot, uint32_t flags, uint64_t gpa,
	       uint64_t size, const void *hva)
{
	if (b->nr == b->capacity) {
		b->capacity = b->capacity ? 2 * b->capacity : FIRST_CAPACITY;
		b->entries = reallocarray(b->entries, b->capacity,
					  sizeof(*b->entries));
		ASSERT_TRUE(b->entries);
	}
	b->entries[b->nr++] = (struct kvm_userspace_memory_region){
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
}

/** batch_delete() - Append an entry that deletes a memslot. */
void batch_delete(struct batch *b, uint32_t slot)
{
	batch_set(b, slot, 0, 0, 0, NULL);
}

/**
 * batch_call() - Call KVM_VMEM_MEMSLOT_BATCH.
 * @flags: KVM_VMEM_BATCH_*
 *
 * On failure @b->bad_index is the index that the module reported, or
 * BATCH_INDEX_UNTOUCHED.
 *
 * Return: 0 or -errno.
 */
int batch_call(int dev_fd, int vm_fd, struct batch *b, uint32_t flags)
{
	struct kvm_vmem_memslot_batch arg = {
		.size = sizeof(arg),
		.vm_fd = vm_fd,
		.flags = flags,
		.nr = b->nr,
		.regions = (uintptr_t)b->entries,
		.bad_index = BATCH_INDEX_UNTOUCHED,
		.entry_size = sizeof(*b->entries),
	};
	int r = ioctl(dev_fd, KVM_VMEM_MEMSLOT_BATCH, &arg) < 0 ? -errno : 0;

	b->bad_index = arg.bad_index;
	b->zapped = arg.zapped;
	return r;
}

/** batch_apply() - Apply the batch to a VM. Return: 0 or -errno. */
int batch_apply(int dev_fd, const struct vm *vm, struct batch *b)
{
	return batch_call(dev_fd, vm->fd, b, 0);
}
