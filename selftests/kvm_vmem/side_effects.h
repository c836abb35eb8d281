/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pair of VMs that undergo the same memslot changes: one by a sequence of
 * KVM's own calls, the other by one batch for each step. After each step all
 * observable state of both is compared; side_effects.c describes the rules.
 */
#ifndef SELFTESTS_SIDE_EFFECTS_H
#define SELFTESTS_SIDE_EFFECTS_H

#include "batch.h"
#include "probe.h"
#include "vcpu.h"
#include "vm.h"

/* A memslot fills its place. Some places share host memory. */
#define PAIR_NR_SLOTS	24U
#define PAIR_FIRST_ID	1U
#define PAIR_SLOT_PAGES 32U
#define PAIR_SLOT_SIZE	(PAIR_SLOT_PAGES * GUEST_PAGE)
#define PAIR_GPA	MIB(64)
#define PAIR_NR_HVAS	16U

/* A place has two memslot ids. The second is this much higher. */
#define PAIR_TWIN 512U

/* How a VM keeps its dirty log. */
enum pair_log {
	PAIR_LOG_PLAIN,
	PAIR_LOG_MANUAL, /* cleared by KVM_CLEAR_DIRTY_LOG */
	PAIR_LOG_INITIALLY_SET, /* manual, and all pages are dirty at first */
	PAIR_LOG_RING,
	PAIR_NR_LOGS,
};

/**
 * struct pair_options - properties of both VMs
 * @log: kind of dirty log
 * @vcpu: each VM has a vCPU
 * @pml: KVM assumes that the CPU logs dirty pages; not with @vcpu
 * @tracker: a page tracker is registered
 * @zap_slots: deleting a memslot drops only its own mappings
 */
struct pair_options {
	enum pair_log log;
	bool vcpu;
	bool pml;
	bool tracker;
	bool zap_slots;
};

/**
 * struct side - one VM of the pair
 * @vm: the VM
 * @vcpu: its vCPU, with the option vcpu
 * @ring: the vCPU's dirty ring, with PAIR_LOG_RING
 * @probe: descriptor of the probe
 * @log: recorded actions of KVM in the last step
 * @before: KVM's state of the VM before the last step
 * @after: KVM's state of the VM after the last step
 * @dump: buffer for a set of memslots to compare
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
 * struct pair - both VMs
 * @options: properties of both VMs
 * @dev: /dev/kvm-vmem
 * @kvm: the VM that is changed by KVM's own calls
 * @batch: the VM that is changed by batches
 * @mem: host memory of the memslots of both VMs
 * @step: changes of the next step
 * @charged: this process is in a memory cgroup of its own
 * @undone: a batch was undone: equal host addresses may be in another order
 * @zapped: the batch VM has dropped mappings that the other VM still has
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
