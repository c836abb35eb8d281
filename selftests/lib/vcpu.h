/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU that reads and writes guest-physical addresses on command. It shows
 * independently of the module which memslots KVM has.
 */
#ifndef SELFTESTS_VCPU_H
#define SELFTESTS_VCPU_H

#include "vm.h"

/* More than any test needs; each vCPU takes a window per address space. */
#define VM_MAX_VCPUS 8

/* Result of an access to a guest-physical address. */
enum guest_access {
	GUEST_MEMORY, /* the access completed inside the guest */
	GUEST_MMIO, /* no memslot there: KVM exited to the VMM */
};

/**
 * struct vcpu - a vCPU
 * @vm: its VM
 * @fd: its descriptor
 * @run: the page shared with KVM
 * @run_size: bytes mapped at @run
 * @index: its number in the VM
 * @as: address space of its accesses
 * @window_gpa: guest page that its window maps in each address space; all ones:
 *	none yet
 */
struct vcpu {
	struct vm *vm;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	unsigned int index;
	unsigned int as;
	uint64_t window_gpa[2];
};

/* Return value of dirty_ring_harvest() if the ring is empty. */
#define DIRTY_RING_EMPTY UINT64_MAX

/**
 * struct dirty_ring - the dirty ring of a vCPU, in a VM with VM_DIRTY_RING
 * @gfns: the ring
 * @next: next entry to read
 */
struct dirty_ring {
	struct kvm_dirty_gfn *gfns;
	uint32_t next;
};

void vcpu_create(struct vcpu *vcpu, struct vm *vm);
void vcpu_destroy(struct vcpu *vcpu);
void vcpu_set_smm(struct vcpu *vcpu, bool smm);

void dirty_ring_map(struct dirty_ring *ring, const struct vcpu *vcpu);
void dirty_ring_unmap(struct dirty_ring *ring);
uint64_t dirty_ring_harvest(struct dirty_ring *ring);
int dirty_ring_reset(const struct vm *vm);

enum guest_access guest_read(struct vcpu *vcpu, uint64_t gpa, uint64_t *value);
enum guest_access guest_write(struct vcpu *vcpu, uint64_t gpa, uint64_t value);

void guest_expect_memory(const char *file, int line, struct vcpu *vcpu,
			 uint64_t gpa, void *hva);
void guest_expect_mmio(const char *file, int line, struct vcpu *vcpu,
		       uint64_t gpa);

/* The guest reads the value at @hva, and its writes arrive there. */
#define EXPECT_GUEST_MEMORY(vcpu, gpa, hva) \
	guest_expect_memory(__FILE__, __LINE__, vcpu, gpa, hva)

/* The guest has no memory at @gpa, neither for reads nor for writes. */
#define EXPECT_GUEST_MMIO(vcpu, gpa) \
	guest_expect_mmio(__FILE__, __LINE__, vcpu, gpa)

#endif /* SELFTESTS_VCPU_H */
