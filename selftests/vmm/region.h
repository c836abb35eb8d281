/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMM's part of a kvm-vmem region: choosing its address, and creating it.
 */
#ifndef REGION_H
#define REGION_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct region_config - a virtio-mem device's region
 * @gpa: guest-physical address; 0: region_place() chooses it
 * @size: bytes, 0 for no region
 * @block_size: bytes of a block
 * @slot_size: bytes of a memslot
 * @page_size: size of its memory's huge pages, 0 for the host's normal pages
 * @address_spaces: mask of KVM address spaces that get the memslots
 * @zap_all: a deleted memslot zaps all mappings of the guest
 */
struct region_config {
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t page_size;
	uint32_t address_spaces;
	bool zap_all;
};

/** region_nr_slots() - number of its memslots; the last may be shorter */
uint64_t region_nr_slots(const struct region_config *config);

/**
 * region_place() - choose the address, and check that the guest can access it
 * @config: the region; gpa is set if it is 0
 * @phys_bits: width of the guest's physical addresses
 * @min_gpa: lowest address
 *
 * Return: 0 or a negative errno, with a message.
 */
int region_place(struct region_config *config, unsigned int phys_bits,
		 uint64_t min_gpa);

/**
 * region_create() - create the region
 * @config: from region_place()
 * @vm_fd: the VM
 * @hva: mapping of the region's memory in this process
 * @first_slot: id of the first memslot the VMM does not use itself
 *
 * Return: the region's fd, or a negative errno, with a message.
 */
int region_create(const struct region_config *config, int vm_fd, void *hva,
		  uint32_t first_slot);

#endif /* REGION_H */
