// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl on a host with kvm_vmem and VMs, for vmemctl_test. The data is
 * invented; vmemctl's code is real. The linker replaces the functions that
 * query the module and find VMs by these.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/vm_memslots.h"
#include "common/vmem_nl.h"
#include "host_vm.h"

#define MIB (1ULL << 20)

/* Names that the linker requires for wrapped functions. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

int __wrap_vmem_nl_open(struct vmem_nl **nlp, struct error *err);
void __wrap_vmem_nl_close(struct vmem_nl *nl);
int __wrap_vmem_nl_region_dump(struct vmem_nl *nl, vmem_nl_region_fn fn,
			       void *arg, struct error *err);
int __wrap_vm_memslots_open(unsigned int *address_spaces);
int __wrap_vm_memslots_read(int device, int vm_fd, unsigned int address_space,
			    struct vm_memslots *memslots);
int __wrap_host_vm_of(struct host_vms *vms, pid_t pid);
int __wrap_host_vm_all(struct host_vms *vms);
void __wrap_host_vm_command(pid_t pid, char command[COMMAND_MAX]);

int __wrap_vmem_nl_open(struct vmem_nl **nlp, struct error *err)
{
	(void)err;
	*nlp = NULL;
	return 0;
}

void __wrap_vmem_nl_close(struct vmem_nl *nl)
{
	(void)nl;
}

/*
 * The regions are not sorted by id; the metadata of one memslot is unknown for
 * the last region.
 */
int __wrap_vmem_nl_region_dump(struct vmem_nl *nl, vmem_nl_region_fn fn,
			       void *arg, struct error *err)
{
	static const struct vmem_nl_region regions[] = {
		{
			.id = 9,
			.pid = 30,
			.size = 512 * MIB,
			.requested_size = 256 * MIB,
			.plugged_size = 128 * MIB,
			.populated_slots = 1,
			.nr_slots = 4,
			.has_metadata = true,
			.metadata.total = 1 * MIB,
			.has_whole_metadata = true,
			.whole_metadata.total = 9 * MIB,
		},
		{
			.id = 4,
			.pid = 10,
			.size = 256 * MIB,
			.requested_size = 64 * MIB,
			.plugged_size = 32 * MIB,
			.populated_slots = 2,
			.nr_slots = 8,
			.has_metadata = true,
			.metadata.total = 2 * MIB,
			.has_whole_metadata = true,
			.whole_metadata.total = 18 * MIB,
		},
		{
			.id = 6,
			.pid = 20,
			.size = 128 * MIB,
			.requested_size = 32 * MIB,
			.plugged_size = 16 * MIB,
			.populated_slots = 4,
			.nr_slots = 16,
			.has_metadata = true,
			.metadata.total = 4 * MIB,
		},
	};
	int ret = 0;

	(void)nl;
	(void)err;
	for (size_t i = 0; !ret && i < sizeof(regions) / sizeof(regions[0]);
	     i++)
		ret = fn(&regions[i], arg);
	return ret;
}

int __wrap_vm_memslots_open(unsigned int *address_spaces)
{
	*address_spaces = VM_ADDRESS_SPACES;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/*
 * One memslot in each address space of the VM with descriptor 10, 20 or 30. 20
 * and 30 have equal metadata; the memslots of 30 change all the time. A
 * descriptor by number is the test's.
 */
int __wrap_vm_memslots_read(int device, int vm_fd, unsigned int address_space,
			    struct vm_memslots *memslots)
{
	struct kvm_vmem_memslot *memslot = calloc(1, sizeof(*memslot));

	(void)device;
	if (!memslot)
		return -ENOMEM;
	*memslot = (struct kvm_vmem_memslot){
		.slot = address_space << 16 | 5,
		.guest_phys_addr = 4096 * MIB,
		.memory_size = (address_space ? 2 : 1) * MIB,
		.memslot = vm_fd == 10 ? MIB : 4 * MIB,
		.rmap = 8 * MIB,
	};
	/* A descriptor by number: all values differ. */
	if (vm_fd != 10 && vm_fd != 20 && vm_fd != 30) {
		memslot->flags = 3;
		memslot->lpage_info = 11;
		memslot->gfn_track = 12;
		memslot->dirty_bitmap = 13;
	}
	*memslots = (struct vm_memslots){
		.memslots = memslot,
		.nr = 1,
		.changing = vm_fd == 30 && address_space == 1,
	};
	return 0;
}

static void add_vm(struct host_vms *vms, pid_t pid)
{
	struct host_vm *vm = &vms->vms[vms->nr++];

	vm->pid = pid;
	vm->number = pid + 1;
	vm->fd = pid;
	snprintf(vm->command, sizeof(vm->command), "vm%d", (int)pid);
}

/* Some processes cannot be inspected: the errno is the PID, from 1000 on. */
int __wrap_host_vm_of(struct host_vms *vms, pid_t pid)
{
	if (pid >= 1000)
		return 1000 - pid;
	vms->vms = calloc(1, sizeof(*vms->vms));
	if (!vms->vms)
		return -ENOMEM;
	add_vm(vms, pid);
	return 0;
}

int __wrap_host_vm_all(struct host_vms *vms)
{
	static const pid_t pids[] = {30, 10, 20};

	vms->vms = calloc(3, sizeof(*vms->vms));
	if (!vms->vms)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++)
		add_vm(vms, pids[i]);
	return 0;
}

void __wrap_host_vm_command(pid_t pid, char command[COMMAND_MAX])
{
	snprintf(command, COMMAND_MAX, "vm%d", (int)pid);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
