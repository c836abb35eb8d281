// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/vm_memslots.h"

/* What most VMs have, several times over, is asked for at once. */
#define PAGE 1024
_Static_assert(PAGE <= KVM_VMEM_MAX_LIST, "the kernel tells no more at once");

/*
 * How often a list is begun anew that changed while it was read. One page is
 * never torn, so this is about VMs with thousands of memslots.
 */
#define TRIES 16

/**
 * vm_memslots_open() - open the module's device
 * @address_spaces: out: how many a VM has here, at most VM_ADDRESS_SPACES
 *
 * Return: its descriptor; a negative errno.
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
	*address_spaces = query.address_spaces < VM_ADDRESS_SPACES
				  ? query.address_spaces
				  : VM_ADDRESS_SPACES;
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

/* Return: 0; 1 they changed meanwhile; a negative errno. */
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
 * vm_memslots_read() - the memslots of an address space
 * @device: from vm_memslots_open()
 * @vm_fd: the VM's descriptor; the VM may be another process's
 * @memslots: out, for vm_memslots_free(); also on error
 *
 * Return: 0; -ENOTTY the module is too old; -EINVAL @vm_fd is no VM; another
 * errno.
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

/** vm_metadata_add() - count one memslot in */
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

/** vm_metadata_sum() - count in what has been counted elsewhere */
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

/** vm_metadata_total() - Return: bytes of all kinds. */
uint64_t vm_metadata_total(const struct vm_metadata *metadata)
{
	return metadata->memslot + metadata->rmap + metadata->lpage_info +
	       metadata->gfn_track + metadata->dirty_bitmap;
}
