/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMM's part of a kvm-vmem region: choosing where it is, and making it. */
#ifndef REGION_H
#define REGION_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct region_config - a virtio-mem device's range
 * @gpa: guest-physical address, 0 to have region_place() choose
 * @size: bytes, 0 for no region
 * @block_size: what is plugged at a time
 * @slot_size: bytes of one memslot
 * @page_size: of huge pages that its memory is of, 0 for the host's usual pages
 * @address_spaces: mask of KVM address spaces that get the memslots
 * @zap_ranges: memslots that go take no mappings of other memory along
 */
struct region_config {
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t page_size;
	uint32_t address_spaces;
	bool zap_ranges;
};

/** region_nr_slots() - how many memslots it has; the last may be shorter */
uint64_t region_nr_slots(const struct region_config *config);

/**
 * region_place() - choose the address, check that the guest can reach it
 * @config: the region; gpa is filled in if it is 0
 * @phys_bits: width of the guest's physical addresses
 * @min_gpa: where it may begin
 *
 * Return: 0 or a negative errno, with a message.
 */
int region_place(struct region_config *config, unsigned int phys_bits,
		 uint64_t min_gpa);

/**
 * region_create() - make the region
 * @config: from region_place()
 * @vm_fd: the VM
 * @hva: where the region's memory is mapped in this process
 * @first_slot: id of the first memslot the VMM does not use itself
 *
 * Return: the region's fd, or a negative errno, with a message.
 */
int region_create(const struct region_config *config, int vm_fd, void *hva,
		  uint32_t first_slot);

#endif /* REGION_H */
