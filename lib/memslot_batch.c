// SPDX-License-Identifier: MIT
/* Batches of memslot changes. */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "fail.h"

/* Initial capacity in entries; it is doubled as needed. */
#define FIRST_ROOM 64

/**
 * struct kvmvmem_batch - a batch
 * @entries: the memslots
 * @nr: number of @entries
 * @room: capacity of @entries
 * @failed: negative errno of an entry that could not be added; 0: none
 * @bad_index: index of the entry that failed in the last submit
 */
struct kvmvmem_batch {
	struct kvm_userspace_memory_region *entries;
	uint32_t nr;
	uint32_t room;
	int failed;
	uint32_t bad_index;
};

struct kvmvmem_batch *kvmvmem_batch_new(void)
{
	struct kvmvmem_batch *batch = calloc(1, sizeof(*batch));

	if (batch)
		batch->bad_index = KVM_VMEM_NO_INDEX;
	return batch;
}

void kvmvmem_batch_free(struct kvmvmem_batch *batch)
{
	if (!batch)
		return;
	free(batch->entries);
	free(batch);
}

void kvmvmem_batch_clear(struct kvmvmem_batch *batch)
{
	batch->nr = 0;
	batch->failed = 0;
	batch->bad_index = KVM_VMEM_NO_INDEX;
}

uint32_t kvmvmem_batch_count(const struct kvmvmem_batch *batch)
{
	return batch->nr;
}

uint32_t kvmvmem_batch_bad_index(const struct kvmvmem_batch *batch)
{
	return batch->bad_index;
}

static int make_room(struct kvmvmem_batch *batch)
{
	uint32_t room = batch->room ? 2 * batch->room : FIRST_ROOM;
	struct kvm_userspace_memory_region *grown;

	if (batch->nr == KVM_VMEM_MAX_BATCH)
		return -EMSGSIZE;
	if (batch->nr < batch->room)
		return 0;
	grown = realloc(batch->entries, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	batch->entries = grown;
	batch->room = room;
	return 0;
}

int kvmvmem_batch_set(struct kvmvmem_batch *batch, uint32_t slot,
		      uint32_t flags, uint64_t gpa, uint64_t size,
		      const void *hva)
{
	int ret = make_room(batch);

	if (ret) {
		batch->failed = ret;
		return ret;
	}
	batch->entries[batch->nr++] = (struct kvm_userspace_memory_region){
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
	return 0;
}

int kvmvmem_batch_delete(struct kvmvmem_batch *batch, uint32_t slot)
{
	return kvmvmem_batch_set(batch, slot, 0, 0, 0, NULL);
}

/* Set the error, with the values of the entry that the kernel refused. */
static int fail_batch(const struct kvmvmem_batch *batch, int number,
		      struct kvmvmem_error *error)
{
	const struct kvm_userspace_memory_region *entry;
	char text[128];

	if (batch->bad_index >= batch->nr)
		return kvmvmem_fail(
			error, -number, "batch of %" PRIu32 " memslots: %s",
			batch->nr, kvmvmem_text_of(number, text, sizeof(text)));
	entry = &batch->entries[batch->bad_index];
	return kvmvmem_fail(error, -number,
			    "batch: entry %" PRIu32 ", memslot %" PRIu32
			    " of 0x%llx bytes at 0x%llx: %s",
			    batch->bad_index, entry->slot,
			    (unsigned long long)entry->memory_size,
			    (unsigned long long)entry->guest_phys_addr,
			    kvmvmem_text_of(number, text, sizeof(text)));
}

int kvmvmem_batch_submit(struct kvmvmem_batch *batch, int device_fd, int vm_fd,
			 uint32_t flags, struct kvmvmem_error *error)
{
	struct kvm_vmem_memslot_batch call = {
		.size = sizeof(call),
		.vm_fd = vm_fd,
		.flags = flags,
		.nr = batch->nr,
		.regions = (uintptr_t)batch->entries,
		.bad_index = KVM_VMEM_NO_INDEX,
		.entry_size = sizeof(*batch->entries),
	};
	int number;

	batch->bad_index = KVM_VMEM_NO_INDEX;
	if (batch->failed)
		return fail_batch(batch, -batch->failed, error);
	if (!ioctl(device_fd, KVM_VMEM_MEMSLOT_BATCH, &call))
		return 0;
	number = errno;
	batch->bad_index = call.bad_index;
	return fail_batch(batch, number, error);
}
