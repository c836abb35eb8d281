// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/min_max.h"
#include "common/vm_memslots.h"

/* Memslots per ioctl: several times as many as most VMs have. */
#define PAGE 1024
_Static_assert(PAGE <= KVM_VMEM_MAX_LIST, "the kernel tells no more at once");

/*
 * Number of attempts to read a list that changes meanwhile. A single page is
 * always consistent, so only VMs with more memslots need further attempts.
 */
#define TRIES 16

/**
 * vm_memslots_open() - open the module's device
 * @address_spaces: set to the number of address spaces per VM, at most
 *	VM_ADDRESS_SPACES
 *
 * Return: a descriptor, or a negative errno.
 */
int vm_memslots_open(unsigned int *address_spaces)
{
	struct kvm_vmem_query query = {.size = sizeof(query)};
	int fd = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, KVM_VMEM_QUERY, &query)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	*address_spaces =
		(unsigned int)min(query.address_spaces, VM_ADDRESS_SPACES);
	return fd;
}

static int grow(struct vm_memslots *memslots)
{
	struct kvm_vmem_memslot *grown;

	grown = reallocarray(memslots->memslots, memslots->nr + PAGE,
			     sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memslots->memslots = grown;
	return 0;
}

/* Return: 0; 1: the memslots changed meanwhile; a negative errno. */
static int read_once(int device, int vm_fd, unsigned int address_space,
		     struct vm_memslots *memslots)
{
	struct kvm_vmem_get_memslots args = {
		.size = sizeof(args),
		.vm_fd = vm_fd,
		.address_space = address_space,
		.memslot_size = sizeof(struct kvm_vmem_memslot),
	};
	uint64_t generation = 0;
	int changed = 0;
	int ret;

	memslots->nr = 0;
	do {
		ret = grow(memslots);
		if (ret)
			return ret;
		args.nr = PAGE;
		args.memslots = (uintptr_t)(memslots->memslots + memslots->nr);
		if (ioctl(device, KVM_VMEM_GET_MEMSLOTS, &args))
			return -errno;
		if (memslots->nr && args.generation != generation)
			changed = 1;
		generation = args.generation;
		memslots->nr += args.nr;
	} while (args.nr == PAGE);
	return changed;
}

/**
 * vm_memslots_read() - read the memslots of an address space
 * @device: descriptor of vm_memslots_open()
 * @vm_fd: descriptor of the VM, which may belong to another process
 * @address_space: the address space
 * @memslots: set, also on error; to be freed by vm_memslots_free()
 *
 * Return: 0; -ENOTTY: the module is too old; -EINVAL: @vm_fd is not a VM;
 * another errno.
 */
int vm_memslots_read(int device, int vm_fd, unsigned int address_space,
		     struct vm_memslots *memslots)
{
	int ret = 1;

	*memslots = (struct vm_memslots){0};
	for (int i = 0; ret == 1 && i < TRIES; i++)
		ret = read_once(device, vm_fd, address_space, memslots);
	memslots->changing = ret == 1;
	return ret < 0 ? ret : 0;
}

void vm_memslots_free(struct vm_memslots *memslots)
{
	free(memslots->memslots);
	*memslots = (struct vm_memslots){0};
}

/* Add the metadata of a memslot. */
void vm_metadata_add(struct vm_metadata *sum,
		     const struct kvm_vmem_memslot *memslot)
{
	sum->nr++;
	sum->memory += memslot->memory_size;
	sum->memslot += memslot->memslot;
	sum->rmap += memslot->rmap;
	sum->lpage_info += memslot->lpage_info;
	sum->gfn_track += memslot->gfn_track;
	sum->dirty_bitmap += memslot->dirty_bitmap;
}

/* Add another sum. */
void vm_metadata_sum(struct vm_metadata *sum, const struct vm_metadata *more)
{
	sum->nr += more->nr;
	sum->memory += more->memory;
	sum->memslot += more->memslot;
	sum->rmap += more->rmap;
	sum->lpage_info += more->lpage_info;
	sum->gfn_track += more->gfn_track;
	sum->dirty_bitmap += more->dirty_bitmap;
}

/* The total number of bytes of metadata. */
uint64_t vm_metadata_total(const struct vm_metadata *metadata)
{
	return metadata->memslot + metadata->rmap + metadata->lpage_info +
	       metadata->gfn_track + metadata->dirty_bitmap;
}
