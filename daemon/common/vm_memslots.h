/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memslots of any VM, as reported by /dev/kvm-vmem. */
#ifndef VM_MEMSLOTS_H
#define VM_MEMSLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm_vmem.h>

/* Maximum number of address spaces of a VM: the normal one, and SMM's. */
#define VM_ADDRESS_SPACES 2

/**
 * struct vm_memslots - memslots of one address space
 * @memslots: the memslots, ordered by guest address
 * @nr: number of @memslots
 * @changing: the memslots changed during each attempt to read them. Each entry
 *	is correct, but entries may be from different times.
 */
struct vm_memslots {
	struct kvm_vmem_memslot *memslots;
	size_t nr;
	bool changing;
};

/**
 * struct vm_metadata - bytes of KVM's metadata for a number of memslots
 * @nr: number of memslots
 * @memory: bytes of memory in these memslots
 * @memslot: bytes of struct kvm_memory_slot
 * @rmap: bytes of rmaps
 * @lpage_info: bytes of lpage_info
 * @gfn_track: bytes of gfn_track
 * @dirty_bitmap: bytes of dirty bitmaps
 */
struct vm_metadata {
	uint64_t nr;
	uint64_t memory;
	uint64_t memslot;
	uint64_t rmap;
	uint64_t lpage_info;
	uint64_t gfn_track;
	uint64_t dirty_bitmap;
};

int vm_memslots_open(unsigned int *address_spaces);
int vm_memslots_read(int device, int vm_fd, unsigned int address_space,
		     struct vm_memslots *memslots);
void vm_memslots_free(struct vm_memslots *memslots);

void vm_metadata_add(struct vm_metadata *sum,
		     const struct kvm_vmem_memslot *memslot);
void vm_metadata_sum(struct vm_metadata *sum, const struct vm_metadata *more);
uint64_t vm_metadata_total(const struct vm_metadata *metadata);

#endif /* VM_MEMSLOTS_H */
