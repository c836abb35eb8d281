/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two VMs that go through the same changes of memslots: one by KVM's own calls,
 * one after the other, the other one by a batch for each step. After each step
 * all that can be seen of both is compared; side_effects.c has the rules.
 */
#ifndef SELFTESTS_SIDE_EFFECTS_H
#define SELFTESTS_SIDE_EFFECTS_H

#include "batch.h"
#include "probe.h"
#include "vcpu.h"
#include "vm.h"

/* Memslots are of the size of their place; some places share their backing. */
#define PAIR_NR_SLOTS	24U
#define PAIR_FIRST_ID	1U
#define PAIR_SLOT_PAGES 32U
#define PAIR_SLOT_SIZE	(PAIR_SLOT_PAGES * GUEST_PAGE)
#define PAIR_GPA	MIB(64)
#define PAIR_NR_HVAS	16U

/* A memslot may have one of two ids: the second is so much higher. */
#define PAIR_TWIN 512U

/* Ways a VM keeps its dirty log. */
enum pair_log {
	PAIR_LOG_PLAIN,
	PAIR_LOG_MANUAL, /* KVM_CLEAR_DIRTY_LOG clears */
	PAIR_LOG_INITIALLY_SET, /* as before, and all is dirty at first */
	PAIR_LOG_RING,
	PAIR_NR_LOGS,
};

/**
 * struct pair_options - what the two VMs are like
 * @log: the dirty log
 * @vcpu: they have a vCPU
 * @pml: KVM believes that the CPU logs dirty pages; not with @vcpu
 * @tracker: a page tracker is registered
 * @zap_slots: deleted memslots take only their own mappings along
 */
struct pair_options {
	enum pair_log log;
	bool vcpu;
	bool pml;
	bool tracker;
	bool zap_slots;
};

/**
 * struct side - one of the two VMs
 * @vm: the VM
 * @vcpu: its vCPU, if it has any
 * @ring: the vCPU's dirty ring, with PAIR_LOG_RING
 * @probe: descriptor of the probe
 * @log: what it was made to do in the last step
 * @before, @after: what KVM kept of it, before and after the last step
 * @dump: what it has, for comparisons
 */
struct side {
	struct vm vm;
	struct vcpu vcpu;
	struct dirty_ring ring;
	int probe;
	struct probe_log log;
	struct probe_vm before, after;
	struct probe_dump dump;
};

/**
 * struct pair - both
 * @options: what they are like
 * @dev: /dev/kvm-vmem
 * @kvm: the one that is changed by KVM's own calls
 * @batch: the one that is changed by batches
 * @mem: what the memslots of both show to their guests
 * @step: changes of the next step
 * @charged: this process is in a memory cgroup of its own
 * @undone: a batch was undone: what is equal may be in another order
 * @zapped: it has dropped mappings that the other VM still has
 */
struct pair {
	struct pair_options options;
	int dev;
	struct side kvm;
	struct side batch;
	struct backing mem;
	struct batch step;
	bool charged;
	bool undone;
	bool zapped;
};

void pair_init(struct pair *p, const struct pair_options *options);
void pair_end(struct pair *p);

uint64_t pair_gpa(unsigned int i);
void pair_create(struct pair *p, unsigned int as, unsigned int i, bool twin,
		 uint32_t flags);
void pair_flip(struct pair *p, unsigned int as, unsigned int i, bool twin,
	       uint32_t flags);
void pair_delete(struct pair *p, unsigned int as, unsigned int i, bool twin);

void pair_apply(struct pair *p);
void pair_refuse(struct pair *p, int error);
void pair_fail(struct pair *p, enum probe_change change, uint32_t skip,
	       bool undone);

void pair_write(struct pair *p, unsigned int as, unsigned int i,
		unsigned int page);
void pair_look(struct pair *p, unsigned int as, unsigned int i);
void pair_compare_logs(struct pair *p);
void pair_compare_state(struct pair *p);

uint32_t side_pml_requests(const struct side *side);

#endif /* SELFTESTS_SIDE_EFFECTS_H */
