// SPDX-License-Identifier: GPL-2.0-only
/*
 * Judging a batch: what each entry requires, and which entry is refused.
 *
 * An entry is judged by itself and against the memslot of its id, in order; then
 * each create against the layout that results, in order. A create that overlaps is
 * therefore found after an entry behind it with bad fields. VMEM_CHANGE_SET gives
 * the errors of KVM's own call; the other kinds have errors of their own, see
 * batch.h, as have guest_memfd and an id that is used twice.
 *
 * slots_lock is held. No memslot changes. Two things are allocated and freed: an
 * index of KVM's memslots, without which look-ups are slower; and, to learn KVM's
 * limit of gfns, a memslot that goes through KVM's prepare hook under
 * slots_arch_lock, see vmem_memslot_probe_gfn().
 */
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "batch_internal.h"
#include "batch_judge.h"
#include "memslot.h"
#include "uapi/linux/kvm_vmem.h"

/*
 * From this number of entries on, one walk over all memslots is cheaper than a
 * look-up for each entry, which walks half of one of 128 chains.
 */
#define INDEX_FROM 256

static int op_id(const struct batch *b, const struct op *op)
{
	return vmem_batch_slot_id(&b->changes[op - b->ops].mem);
}

/* Insert an operation into the tree of ids; -EINVAL: its id is there. */
static int add_id(struct batch *b, struct as_state *as, struct op *op)
{
	struct rb_node **node = &as->by_id.rb_node;
	struct rb_node *parent = NULL;
	int id = op_id(b, op);

	while (*node) {
		int at = op_id(b, rb_entry(*node, struct op, id_node));

		parent = *node;
		if (id == at)
			return -EINVAL;
		node = id < at ? &(*node)->rb_left : &(*node)->rb_right;
	}
	rb_link_node(&op->id_node, parent, node);
	rb_insert_color(&op->id_node, &as->by_id);
	return 0;
}

/* Does the batch delete the memslot of an id? */
static bool deletes_id(const struct batch *b, const struct as_state *as, int id)
{
	const struct rb_node *node = as->by_id.rb_node;

	while (node) {
		const struct op *op = rb_entry(node, struct op, id_node);
		int at = op_id(b, op);

		if (id == at)
			return op->type == OP_DELETE;
		node = id < at ? node->rb_left : node->rb_right;
	}
	return false;
}

/* The checks that KVM makes before it looks up a memslot, in KVM's order. */
static int judge_fields(struct kvm *kvm,
			const struct kvm_userspace_memory_region *mem)
{
	u32 valid_flags = KVM_MEM_LOG_DIRTY_PAGES;

	if (kvm_arch_has_readonly_mem(kvm))
		valid_flags |= KVM_MEM_READONLY;
	if (mem->flags & KVM_MEM_GUEST_MEMFD)
		return -EOPNOTSUPP;
	if (vmem_batch_slot_id(mem) >= KVM_USER_MEM_SLOTS)
		return -EINVAL;
	if (mem->flags & ~valid_flags)
		return -EINVAL;
	if (!PAGE_ALIGNED(mem->memory_size) ||
	    !PAGE_ALIGNED(mem->guest_phys_addr))
		return -EINVAL;
	if (!PAGE_ALIGNED(mem->userspace_addr) ||
	    mem->userspace_addr != untagged_addr(mem->userspace_addr) ||
	    !access_ok((void __user *)(unsigned long)mem->userspace_addr,
		       mem->memory_size))
		return -EINVAL;
	if (vmem_batch_as_id(mem) >= kvm_arch_nr_memslot_as_ids(kvm))
		return -EINVAL;
	if (mem->guest_phys_addr + mem->memory_size < mem->guest_phys_addr)
		return -EINVAL;
	if (mem->memory_size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;
	return 0;
}

/* The operation that KVM_SET_USER_MEMORY_REGION would do. */
static int judge_set(const struct kvm_userspace_memory_region *mem,
		     struct op *op)
{
	const struct kvm_memory_slot *old = op->old;

	if (!mem->memory_size) {
		if (!old)
			return -EINVAL;
		op->type = OP_DELETE;
		return 0;
	}
	if (!old) {
		op->type = OP_CREATE;
		return 0;
	}
	/* MOVE, a change of size or host address, a flip of READONLY. */
	if (!vmem_memslot_is(old, mem) ||
	    (mem->flags ^ old->flags) & KVM_MEM_READONLY)
		return -EINVAL;
	if (mem->flags != old->flags)
		op->type = OP_FLIP;
	return 0;
}

static int judge_kind(const struct vmem_change *change, struct op *op)
{
	const struct kvm_userspace_memory_region *mem = &change->mem;
	bool as_described = vmem_memslot_is_plain(op->old, mem);

	switch (change->kind) {
	case VMEM_CHANGE_SET:
		return judge_set(mem, op);
	case VMEM_CHANGE_CREATE:
		if (op->old)
			return -EEXIST;
		op->type = OP_CREATE;
		return 0;
	case VMEM_CHANGE_DROP:
		if (as_described)
			op->type = OP_DELETE;
		return 0;
	case VMEM_CHANGE_DELETE:
		op->type = OP_DELETE;
		break;
	case VMEM_CHANGE_FLAGS:
		if (as_described && op->old->flags != mem->flags)
			op->type = OP_FLIP;
		break;
	case VMEM_CHANGE_EXPECT:
		break;
	}
	return as_described ? 0 : -ESTALE;
}

/* KVM's memslot with this id; NULL: none. */
static struct kvm_memory_slot *find_slot(struct batch *b, int as_id, int id)
{
	struct as_state *as = &b->as[as_id];

	return as->slots ? as->slots[id] :
			   vmem_memslot_find(b->kvm, as_id, id);
}

/* Judge one entry by itself and against the memslot of its id. */
static int judge_entry(struct batch *b, const struct vmem_change *change,
		       struct op *op)
{
	const struct kvm_userspace_memory_region *mem = &change->mem;
	struct as_state *as;
	int as_id, id;
	int r;

	r = judge_fields(b->kvm, mem);
	if (r)
		return r;

	as_id = array_index_nospec(vmem_batch_as_id(mem), KVM_MAX_NR_ADDRESS_SPACES);
	id = array_index_nospec(vmem_batch_slot_id(mem), KVM_USER_MEM_SLOTS);
	as = &b->as[as_id];
	r = add_id(b, as, op);
	if (r)
		return r;

	op->old = find_slot(b, as_id, id);
	r = judge_kind(change, op);
	if (r || op->type == OP_NONE)
		return r;
	/* A memslot with guest_memfd needs cleanup that is not done here. */
	if (op->old && op->old->flags & KVM_MEM_GUEST_MEMFD)
		return -EOPNOTSUPP;

	b->change_mask |= BIT(as_id);
	if (op->type == OP_FLIP) {
		b->stats.flips++;
	} else if (op->type == OP_DELETE) {
		if (WARN_ON_ONCE(b->kvm->nr_memslot_pages < op->old->npages))
			return -EIO;
		b->stats.deletes++;
		b->delete_mask |= BIT(as_id);
	} else if (op->type == OP_CREATE) {
		b->stats.creates++;
		op->base_gfn = gpa_to_gfn(mem->guest_phys_addr);
		op->last_gfn = op->base_gfn +
			       (mem->memory_size >> PAGE_SHIFT) - 1;
	}
	return 0;
}

/* Insert a create into the tree of its address space; -EEXIST: it overlaps. */
static int add_create(struct as_state *as, struct op *op)
{
	struct rb_node **node = &as->creates.rb_node;
	struct rb_node *parent = NULL;

	while (*node) {
		const struct op *at = rb_entry(*node, struct op, gfn_node);

		parent = *node;
		if (op->last_gfn < at->base_gfn)
			node = &(*node)->rb_left;
		else if (op->base_gfn > at->last_gfn)
			node = &(*node)->rb_right;
		else
			return -EEXIST;
	}
	rb_link_node(&op->gfn_node, parent, node);
	rb_insert_color(&op->gfn_node, &as->creates);
	return 0;
}

/* Judge a create against the resulting layout. */
static int judge_create(struct batch *b, struct op *op)
{
	int as_id = vmem_batch_as_id(&b->changes[op - b->ops].mem);
	struct as_state *as = &b->as[as_id];
	struct kvm_memslot_iter iter;

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(b->kvm, as_id),
					  op->base_gfn, op->last_gfn + 1)
		if (!deletes_id(b, as, iter.slot->id))
			return -EEXIST;
	return add_create(as, op);
}

/* Judge whether the creates before @end are below KVM's limit of gfns. */
static int judge_gfns(struct batch *b, const struct op *end)
{
	gfn_t highest = 0;
	struct op *op;
	int r;

	/* The limit is the same for all, so the highest gfn is probed first. */
	for_each_op_of(op, b, OP_CREATE)
		if (op < end)
			highest = max(highest, op->last_gfn);
	r = vmem_memslot_probe_gfn(b->kvm, highest);
	if (r != -EINVAL)
		return r;

	for_each_op_of(op, b, OP_CREATE) {
		r = vmem_memslot_probe_gfn(b->kvm, op->last_gfn);
		if (r == -EINVAL)
			b->bad_index = op - b->ops;
		if (r)
			return r;
	}
	return 0;
}

/*
 * KVM also checks that the number of pages of all memslots fits an unsigned
 * long. It cannot overflow: the maximum number of memslots times their maximum
 * size fits.
 */
static int judge_creates(struct batch *b, bool validate_only)
{
	const struct op *end = b->ops + b->nr;
	struct op *op;
	int gfn_r, r = 0;

	for_each_op_of(op, b, OP_CREATE) {
		r = judge_create(b, op);
		if (r) {
			b->bad_index = op - b->ops;
			end = op;
			break;
		}
	}
	/*
	 * The prepare hook refuses a create beyond KVM's limit. Probe here only
	 * if the hook will not be called, or if an earlier create than the one
	 * that is already refused may be beyond the limit.
	 */
	if (!r && !validate_only)
		return 0;
	gfn_r = judge_gfns(b, end);
	if (gfn_r == -ENOMEM || gfn_r == -EINTR)
		b->bad_index = KVM_VMEM_NO_INDEX;
	return gfn_r ?: r;
}

/**
 * vmem_batch_judge - judge all entries
 * @b: the batch; its entries get their operations
 * @validate_only: the batch is not carried out, so that its creates do not reach
 *	the prepare hook, which refuses those beyond KVM's limit
 *
 * Changes nothing but @b. If an entry is refused, @b->bad_index is its index.
 *
 * Return: 0; the error of the entry that is refused; -ENOMEM or -EINTR, without an
 * index; or -ENODEV, see @gone of struct batch.
 */
int vmem_batch_judge(struct batch *b, bool validate_only)
{
	u32 i;
	int r;

	if (b->nr >= INDEX_FROM) {
		/* Without the index, look-ups are slower. */
		for (i = 0; i < kvm_arch_nr_memslot_as_ids(b->kvm); i++)
			b->as[i].slots = vmem_memslot_index(b->kvm, i);
	}
	for (i = 0; i < b->nr; i++) {
		r = vmem_batch_check_wanted(b);
		if (r)
			return r;
		r = judge_entry(b, &b->changes[i], &b->ops[i]);
		if (r) {
			b->bad_index = i;
			return r;
		}
		cond_resched();
	}
	return judge_creates(b, validate_only);
}
