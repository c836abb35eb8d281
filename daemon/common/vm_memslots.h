/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memslots of a VM, as /dev/kvm-vmem tells them: any VM's. */
#ifndef VM_MEMSLOTS_H
#define VM_MEMSLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm_vmem.h>

/* Most address spaces of a VM: the normal one, and SMM's. */
#define VM_ADDRESS_SPACES 2

/**
 * struct vm_memslots - memslots of one address space, by their addresses
 * @memslots: @nr of them
 * @changing: they changed each time they were read: each is right, but some may
 *	be of one time and some of another
 */
struct vm_memslots {
	struct kvm_vmem_memslot *memslots;
	size_t nr;
	bool changing;
};

/**
 * struct vm_metadata - what KVM holds for memslots, in bytes
 * @nr: memslots
 * @memory: their sizes
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
