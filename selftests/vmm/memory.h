/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory, as the VMM and its devices see it.
 *
 * Each range is a memfd mapped shared so that a vhost-user backend can map it
 * too. Boot memory is one KVM memslot that the VMM creates. A region is a
 * virtio-mem device's: it is mapped whole at one address, so that devices may
 * DMA to any plugged part of it. The VMM creates no memslot for it; kvm_vmem.ko
 * does, for the parts with plugged blocks. For its own accesses the VMM has a view,
 * another mapping of the region in which only these parts are accessible.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

/* KVM's address space number of SMM, in the upper half of a slot id. */
#define SMM_SLOT (1U << 16)

/* Memslots that the VMM itself creates; the first in each address space. */
#define BOOT_SLOT	  0
#define BAR_SLOT	  1
#define FIRST_REGION_SLOT 2

/**
 * struct memory_range - guest memory with one mapping
 * @gpa: guest-physical address
 * @size: bytes, 0 if unused
 * @hva: address of the mapping, for KVM and vhost
 * @fd: memfd whose offset 0 is at @gpa; -1 if unused
 * @view: address of another mapping, for the VMM's own accesses, in which memory
 *	without a memslot is inaccessible; NULL: none, use @hva
 */
struct memory_range {
	uint64_t gpa;
	uint64_t size;
	void *hva;
	int fd;
	void *view;
};

struct memory {
	struct memory_range boot;
	struct memory_range regions[MAX_DEVICES];
	unsigned int nr_regions;
};

void memory_init(struct memory *memory);

/**
 * memory_add_boot() - create boot memory at guest address 0 and its memslot
 * @memory: the VM's memory
 * @vm_fd: the VM
 * @size: bytes, a multiple of 1 MiB, up to BOOT_MEMORY_MAX
 * @smm: also make the memslot in the SMM address space
 *
 * Return: 0 or a negative errno, with a message.
 */
int memory_add_boot(struct memory *memory, int vm_fd, uint64_t size, bool smm);

/**
 * memory_clear_boot() - zero boot memory
 * @memory: the VM's memory, with no vCPU running
 *
 * The range from ACPI_GPA to ACPI_END is kept: it belongs to the machine, not
 * to the guest.
 *
 * Return: 0 or a negative errno.
 */
int memory_clear_boot(const struct memory *memory);

/**
 * memory_add_region() - reserve the memory of a virtio-mem device
 * @memory: the VM's memory
 * @gpa: guest-physical address, a multiple of 4 KiB
 * @size: bytes, a multiple of 4 KiB
 * @page_size: size of the host's huge pages, a power of two; 0 for normal pages
 * @range: out: the reserved range
 *
 * There are at most MAX_DEVICES regions.
 *
 * Pages are allocated only when the guest or a device touches them, including
 * pages of the huge page pool: if the pool is empty, the accessing process is
 * killed.
 *
 * Return: 0 or a negative errno, with a message.
 */
int memory_add_region(struct memory *memory, uint64_t gpa, uint64_t size,
		      uint64_t page_size, struct memory_range **range);

/**
 * memory_hva() - address of guest memory in this process, to pass to others
 * @memory: the VM's memory
 * @gpa: guest-physical address
 * @size: number of bytes required, not 0
 *
 * Return: the address, NULL if any of the bytes is not memory.
 */
void *memory_hva(const struct memory *memory, uint64_t gpa, uint64_t size);

/**
 * memory_view() - address of guest memory, for accesses by an emulated device
 *
 * As memory_hva(). If nothing is plugged there, the access raises SIGSEGV, and the
 * guest, which has named the address, ends its VMM.
 */
void *memory_view(const struct memory *memory, uint64_t gpa, uint64_t size);

void memory_destroy(struct memory *memory);

#endif /* MEMORY_H */
