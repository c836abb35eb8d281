/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_BATCH_INTERNAL_H
#define KVM_VMEM_BATCH_INTERNAL_H

#include <linux/kvm_host.h>
#include <linux/rbtree.h>
#include <linux/sched.h>

#include "batch.h"

/*
 * What judges a batch (batch_judge.c) and what carries it out (batch.c) share; no
 * others include this.
 */

/* The operation that an entry requires. */
enum op_type {
	OP_NONE,
	OP_CREATE,
	OP_DELETE,
	OP_FLIP,
};

/**
 * struct op - one entry while its batch is applied
 * @type: the operation
 * @old: the memslot that is deleted or replaced; KVM owns it until the commit
 * @invalid: INVALID copy of @old, owned by the batch
 * @new: the new memslot, owned by the batch until the last swap
 * @prepared: @new has metadata from the prepare hook
 * @has_bitmap: @new has a dirty bitmap that is not that of @old
 * @id_node: node in the tree of all entries of its address space, by memslot id
 * @gfn_node: node in the tree of creates of its address space, by gfn
 * @base_gfn: first page of a create
 * @last_gfn: last page of a create
 */
struct op {
	enum op_type type;
	struct kvm_memory_slot *old;
	struct kvm_memory_slot *invalid;
	struct kvm_memory_slot *new;
	bool prepared;
	bool has_bitmap;
	struct rb_node id_node;
	struct rb_node gfn_node;
	gfn_t base_gfn;
	gfn_t last_gfn;
};

/*
 * The entries of one address space. Trees and not bitmaps of all ids, so that
 * the smallest batch costs no more than a call to KVM.
 */
struct as_state {
	struct rb_root by_id;
	struct rb_root creates;
	/* KVM's memslots by id, for a batch with many entries; else NULL. */
	struct kvm_memory_slot **slots;
};

/**
 * struct batch - a batch while it is applied
 * @kvm: the VM; slots_lock is held
 * @changes: the entries
 * @nr: number of entries
 * @ops: the operation of each entry
 * @as: state of each address space
 * @delete_mask: address spaces in which memslots are deleted
 * @change_mask: address spaces in which anything changes
 * @gone: set when the result is no longer needed, or NULL
 * @bad_index: index of the first entry that was refused
 * @only_deletes: the batch only deletes memslots and may use the spare
 * @zap_ranges: drop only the mappings of deleted memslots
 * @spared: an allocation has used the spare, because reclaim has failed
 * @timed: the tracepoint was enabled when the batch began
 * @stats: statistics for the tracepoint; times are only measured if @timed
 */
struct batch {
	struct kvm *kvm;
	const struct vmem_change *changes;
	u32 nr;
	struct op *ops;
	struct as_state as[KVM_MAX_NR_ADDRESS_SPACES];
	unsigned long delete_mask;
	unsigned long change_mask;
	const bool *gone;
	u32 bad_index;
	bool only_deletes;
	bool zap_ranges;
	bool spared;
	bool timed;
	struct vmem_batch_stats stats;
};

/* The loops below do little per entry, but there may be 65,528 of them. */
#define for_each_op(op, b)					\
	for ((op) = (b)->ops; (op) < (b)->ops + (b)->nr;	\
	     (op)++, cond_resched())

#define for_each_op_of(op, b, t)				\
	for ((op) = vmem_batch_first_op((b), (b)->ops, (t)); (op);	\
	     (op) = vmem_batch_first_op((b), (op) + 1, (t)))

/* The first operation of type @type from @op on; NULL: none. */
static inline struct op *vmem_batch_first_op(const struct batch *b,
					     struct op *op,
					     enum op_type type)
{
	for (; op < b->ops + b->nr; op++, cond_resched())
		if (op->type == type)
			return op;
	return NULL;
}

/*
 * Should the batch continue? A batch of many entries takes long, in particular
 * if its cgroup is throttled. Until the last point at which the batch can be
 * given up, this is checked for each entry, so that a killed caller or an
 * exiting VMM does not wait.
 */
static inline int vmem_batch_check_wanted(const struct batch *b)
{
	if (fatal_signal_pending(current))
		return -EINTR;
	return b->gone && READ_ONCE(*b->gone) ? -ENODEV : 0;
}

static inline int vmem_batch_as_id(const struct kvm_userspace_memory_region *mem)
{
	return mem->slot >> 16;
}

static inline int vmem_batch_slot_id(const struct kvm_userspace_memory_region *mem)
{
	return (u16)mem->slot;
}

#endif /* KVM_VMEM_BATCH_INTERNAL_H */
