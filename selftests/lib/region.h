/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A region of a VM with a model of its plugged blocks. Checks that the guest,
 * KVM's memslot ids and the module's dumps agree with the model.
 */
#ifndef SELFTESTS_REGION_H
#define SELFTESTS_REGION_H

#include "common/vmem_nl.h"
#include <linux/kvm_vmem.h>
#include <stdbool.h>

#include "vcpu.h"
#include "vm.h"

/* Masks of address spaces. */
#define AS_MASK_NORMAL (1U << AS_NORMAL)
#define AS_MASK_SMM    (1U << AS_SMM)
#define AS_MASK_BOTH   (AS_MASK_NORMAL | AS_MASK_SMM)

/*
 * The geometry of most tests: seven slots of four blocks each, except the last,
 * which has two. The region does not begin at a multiple of the slot size, and
 * its memslot ids do not begin at 0.
 */
#define REGION_BLOCK	       KIB(64)
#define REGION_BLOCKS_PER_SLOT 4U
#define REGION_NR_BLOCKS       26U
#define REGION_NR_SLOTS	       7U
#define REGION_GPA	       (GIB(5) + REGION_BLOCK)
#define REGION_FIRST_SLOT      40U

/* Maximum number of blocks in the model. */
#define REGION_MAX_BLOCKS 64U

/**
 * struct region - a region and its model
 * @dev: /dev/kvm-vmem
 * @vm: the region's VM
 * @vcpu: a vCPU of the VM
 * @mem: the region's memory
 * @nl: netlink handle
 * @args: arguments that the region was created with
 * @fd: the region's descriptor
 * @nr_blocks: blocks of the region
 * @blocks_per_slot: blocks of each slot but the last
 * @nr_slots: slots of the region
 * @plugged: the model: the plugged blocks
 */
struct region {
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct vmem_nl *nl;
	struct kvm_vmem_create_region args;
	int fd;
	unsigned int nr_blocks;
	unsigned int blocks_per_slot;
	unsigned int nr_slots;
	bool plugged[REGION_MAX_BLOCKS];
};

int region_call_create(int dev_fd, struct kvm_vmem_create_region *args);
uint32_t region_count(int dev_fd);
void await_no_vm(void);
void region_await_none(void);
struct vmem_nl *netlink_open(void);

void region_prepare(struct region *r);
void region_create(struct region *r);
void region_init(struct region *r, uint32_t address_spaces);

uint64_t region_block_gpa(const struct region *r, unsigned int block);
uint8_t *region_block_hva(const struct region *r, unsigned int block);
struct vmem_nl_range region_range(const struct region *r, unsigned int first,
				  unsigned int nr);

int region_plug(struct region *r, unsigned int first, unsigned int nr);
int region_unplug(struct region *r, unsigned int first, unsigned int nr);
int region_unplug_all(struct region *r);
void region_model_set(struct region *r, unsigned int first, unsigned int nr,
		      bool plugged);
bool region_slot_populated(const struct region *r, unsigned int slot);
unsigned int region_nr_populated(const struct region *r);

void region_expect_guest(const char *file, int line, struct region *r);
void region_expect_dumps(const char *file, int line, struct region *r);

/*
 * The guest and KVM's memslot ids agree with the model, in each address space.
 */
#define EXPECT_GUEST_AS_MODEL(r) region_expect_guest(__FILE__, __LINE__, r)
/* The module's region state, block dump and slot dump agree with the model. */
#define EXPECT_DUMPS_AS_MODEL(r) region_expect_dumps(__FILE__, __LINE__, r)
#define EXPECT_AS_MODEL(r)                \
	do {                              \
		EXPECT_GUEST_AS_MODEL(r); \
		EXPECT_DUMPS_AS_MODEL(r); \
	} while (0)

#endif /* SELFTESTS_REGION_H */
