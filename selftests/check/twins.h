/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two VMs with the same changes of their memslots: one by batches, the other by
 * KVM's own calls. Everything observable in the first must then be as in the
 * second.
 */
#ifndef CHECK_TWINS_H
#define CHECK_TWINS_H

#include "batch.h"
#include "vcpu.h"
#include "vm.h"

/*
 * Memslots of the twins. Each one has its own guest address, id and memory.
 * There are several for each flag and address space, more than a node of KVM's
 * hash table holds, and few enough to finish in seconds.
 */
#define TWINS_SLOTS	32U
#define TWINS_SLOT_SIZE MIB(2)
#define TWINS_PAGES	(TWINS_SLOT_SIZE / GUEST_PAGE)
#define TWINS_GPA	GIB(1)
#define TWINS_FIRST_ID	1U

/* A memslot may show one of several memories. */
#define TWINS_MEMORIES 2U

/**
 * struct twin - one of the VMs
 * @vm: the VM
 * @vcpu: its vCPU
 * @mem: TWINS_MEMORIES memories of TWINS_SLOTS memslots each
 */
struct twin {
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem[TWINS_MEMORIES];
};

/**
 * struct twins - both VMs
 * @dev: /dev/kvm-vmem
 * @batched: its memslots are changed by batches
 * @single: its memslots are changed by KVM's own calls
 * @batch: the next changes of @batched
 * @address_spaces: KVM's number of address spaces; 1 if it is built without SMM
 */
struct twins {
	int dev;
	struct twin batched;
	struct twin single;
	struct batch batch;
	unsigned int address_spaces;
};

void twins_create(struct twins *t, unsigned int vm_flags);
void twins_destroy(struct twins *t);

uint64_t twins_gpa(unsigned int slot);
uint8_t *twins_hva(const struct twin *twin, unsigned int memory,
		   unsigned int slot);

void twins_set(struct twins *t, unsigned int as, unsigned int slot,
	       unsigned int memory, uint32_t flags);
void twins_delete(struct twins *t, unsigned int as, unsigned int slot);
void twins_apply(struct twins *t);

void twins_expect_same_memslots(struct twins *t);
void twins_expect_memory(struct twins *t, unsigned int slot,
			 unsigned int memory);
void twins_expect_none(struct twins *t, unsigned int slot);
void twins_leave_guest(struct twins *t);

#endif /* CHECK_TWINS_H */
