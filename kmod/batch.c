// SPDX-License-Identifier: GPL-2.0-only
/*
 * Batches: many memslot changes for the price of one.
 *
 * KVM changes one memslot per call: a grace period for a create, two and a zap
 * of the whole guest page table for a delete. A batch shares them among all its
 * entries and both address spaces. Its steps, with slots_lock held throughout:
 *
 *  1. Judge. Each entry by itself and against the memslots there are, in
 *     order; then each create against the layout that results, in order.
 *     Nothing has been touched when this refuses.
 *  2. Allocate everything that deletes, creates and flips of dirty logging
 *     need. A create's metadata comes from KVM's own prepare hook, under
 *     slots_arch_lock. The batch can still be given up without a trace.
 *  3. If anything is deleted: put INVALID copies of those memslots in the
 *     inactive sets and swap, so that no vCPU maps anything of them any more,
 *     then zap what is mapped. The originals stay in the sets that are now
 *     inactive, which is what makes undoing this simple.
 *  4. Make the new layout in the inactive sets, swap, repeat it in the others,
 *     commit and free. From the swap on nothing can fail.
 *
 * KVM does without some metadata until it is needed: rmaps until the first
 * shadow root (a nested guest's), on some kernels write tracking until the first
 * page tracker. It then gives them to the memslots in the active sets, under
 * slots_arch_lock. Should that happen during step 3, when the lock was not held,
 * the creates of step 2 lack what every visible memslot has been given. They
 * are thrown away and prepared once more, under the same hold of the lock in
 * which they are linked. If memory runs out there, of all places, the batch
 * swaps the originals back in; the generation has then advanced, as it does
 * when KVM itself gives up a delete.
 *
 * Locks are described in memslot.c. Everything here may sleep.
 */
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "batch.h"
#include "memslot.h"
#include "symbols.h"
#include "trace.h"
#include "uapi/linux/kvm_vmem.h"

/* What an entry comes down to. */
enum op_type {
	OP_NONE,
	OP_CREATE,
	OP_DELETE,
	OP_FLIP,
};

/**
 * struct op - one entry while its batch is applied
 * @type: what to do
 * @old: the memslot that goes: KVM's until committed
 * @invalid: INVALID copy of @old, ours
 * @new: the memslot that comes: ours until the last swap
 * @prepared: @new has metadata from the prepare hook
 * @has_bitmap: @new has a dirty bitmap that is not @old's
 * @id_node: in the tree of all of its address space, by memslot id
 * @gfn_node: in the tree of creates of its address space, by gfn
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
 * What the entries say of one address space. Trees, not bitmaps of all ids: the
 * smallest batch is to cost no more than a call to KVM.
 */
struct as_state {
	struct rb_root by_id;
	struct rb_root creates;
	/* KVM's memslots, for a batch that looks many up; else NULL. */
	struct kvm_memory_slot **slots;
};

/*
 * From so many entries on, walking all memslots once is less than finding each
 * in its chain: half of one in 128 is walked for every entry.
 */
#define INDEX_FROM 256

/**
 * struct batch - a batch while it is applied
 * @kvm: the VM, slots_lock held
 * @changes: the entries
 * @nr: how many
 * @ops: what became of each
 * @as: state of each address space
 * @delete_mask: address spaces in which memslots are deleted
 * @change_mask: address spaces in which anything changes
 * @bad_index: first entry that was refused
 * @timed: the tracepoint was on when it began
 * @stats: for the tracepoint; no times unless @timed
 */
struct batch {
	struct kvm *kvm;
	const struct vmem_change *changes;
	u32 nr;
	struct op *ops;
	struct as_state as[KVM_MAX_NR_ADDRESS_SPACES];
	unsigned long delete_mask;
	unsigned long change_mask;
	u32 bad_index;
	bool timed;
	struct vmem_batch_stats stats;
};

/* The loops below do little per entry, but there may be 65,528 of them. */
#define for_each_op(op, b)					\
	for ((op) = (b)->ops; (op) < (b)->ops + (b)->nr;	\
	     (op)++, cond_resched())

#define for_each_op_of(op, b, t)				\
	for ((op) = first_op((b), (b)->ops, (t)); (op);		\
	     (op) = first_op((b), (op) + 1, (t)))

/* The first operation of a type from @op on, NULL if there is none. */
static struct op *first_op(const struct batch *b, struct op *op,
			   enum op_type type)
{
	for (; op < b->ops + b->nr; op++, cond_resched())
		if (op->type == type)
			return op;
	return NULL;
}

/* The time, where it is wanted: some clocks take a microsecond to read. */
static u64 clock_ns(const struct batch *b)
{
	return b->timed ? ktime_get_ns() : 0;
}

/* Add to @sum the time that has passed since @start, which becomes now. */
static void lap(const struct batch *b, u64 *sum, u64 *start)
{
	u64 now = clock_ns(b);

	*sum += now - *start;
	*start = now;
}

static int mem_as_id(const struct kvm_userspace_memory_region *mem)
{
	return mem->slot >> 16;
}

static int mem_id(const struct kvm_userspace_memory_region *mem)
{
	return (u16)mem->slot;
}

static int op_id(const struct batch *b, const struct op *op)
{
	return mem_id(&b->changes[op - b->ops].mem);
}

/* Put an operation in the tree of ids; -EINVAL if its id is there. */
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

/* What KVM checks before it looks at any memslot, in KVM's order. */
static int judge_fields(struct kvm *kvm,
			const struct kvm_userspace_memory_region *mem)
{
	u32 valid_flags = KVM_MEM_LOG_DIRTY_PAGES;

	if (kvm_arch_has_readonly_mem(kvm))
		valid_flags |= KVM_MEM_READONLY;
	if (mem->flags & KVM_MEM_GUEST_MEMFD)
		return -EOPNOTSUPP;
	if (mem_id(mem) >= KVM_USER_MEM_SLOTS)
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
	if (mem_as_id(mem) >= kvm_arch_nr_memslot_as_ids(kvm))
		return -EINVAL;
	if (mem->guest_phys_addr + mem->memory_size < mem->guest_phys_addr)
		return -EINVAL;
	if (mem->memory_size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;
	return 0;
}

/* What KVM_SET_USER_MEMORY_REGION would make of the entry. */
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
	/* MOVE, a size or backing that changes, a flip of READONLY. */
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

/* KVM's memslot of an id, NULL if there is none. */
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

	as_id = array_index_nospec(mem_as_id(mem), KVM_MAX_NR_ADDRESS_SPACES);
	id = array_index_nospec(mem_id(mem), KVM_USER_MEM_SLOTS);
	as = &b->as[as_id];
	r = add_id(b, as, op);
	if (r)
		return r;

	op->old = find_slot(b, as_id, id);
	r = judge_kind(change, op);
	if (r || op->type == OP_NONE)
		return r;
	/* Memory of a guest_memfd has more to undo than is done here. */
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

/* Put a create in the tree of its address space, unless it overlaps one. */
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

/* Judge a create against the layout that results. */
static int judge_create(struct batch *b, struct op *op)
{
	int as_id = mem_as_id(&b->changes[op - b->ops].mem);
	struct as_state *as = &b->as[as_id];
	struct kvm_memslot_iter iter;

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(b->kvm, as_id),
					  op->base_gfn, op->last_gfn + 1)
		if (!deletes_id(b, as, iter.slot->id))
			return -EEXIST;
	return add_create(as, op);
}

/* Judge whether the creates before @end are where KVM can have memslots. */
static int judge_gfns(struct batch *b, const struct op *end)
{
	gfn_t highest = 0;
	struct op *op;
	int r;

	/* The limit is the same for all, so one probe may answer for all. */
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
 * That the pages of all memslots fit an unsigned long, which KVM checks as
 * well, follows from the most there can be of each times the most of them.
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
	 * Preparing the creates will find one that is beyond KVM's limit. Look
	 * for it only where that does not come, or may come too late to be the
	 * first that is bad.
	 */
	if (!r && !validate_only)
		return 0;
	gfn_r = judge_gfns(b, end);
	if (gfn_r == -ENOMEM)
		b->bad_index = KVM_VMEM_NO_INDEX;
	return gfn_r ?: r;
}

/* Step 1. */
static int judge(struct batch *b, bool validate_only)
{
	u32 i;
	int r;

	if (b->nr >= INDEX_FROM) {
		/* It goes without, only slower. */
		for (i = 0; i < kvm_arch_nr_memslot_as_ids(b->kvm); i++)
			b->as[i].slots = vmem_memslot_index(b->kvm, i);
	}
	for (i = 0; i < b->nr; i++) {
		r = judge_entry(b, &b->changes[i], &b->ops[i]);
		if (r) {
			b->bad_index = i;
			return r;
		}
		cond_resched();
	}
	return judge_creates(b, validate_only);
}

static struct kvm_memory_slot *
slot_from_mem(const struct kvm_userspace_memory_region *mem)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(GFP_KERNEL_ACCOUNT);

	if (!slot)
		return NULL;
	slot->as_id = mem_as_id(mem);
	slot->id = mem_id(mem);
	slot->base_gfn = gpa_to_gfn(mem->guest_phys_addr);
	slot->npages = mem->memory_size >> PAGE_SHIFT;
	slot->flags = mem->flags;
	slot->userspace_addr = mem->userspace_addr;
	return slot;
}

static int alloc_new(struct batch *b, struct op *op)
{
	const struct kvm_userspace_memory_region *mem =
		&b->changes[op - b->ops].mem;
	int r;

	if (op->type == OP_CREATE) {
		op->new = slot_from_mem(mem);
	} else {
		op->new = vmem_memslot_copy(op->old, GFP_KERNEL_ACCOUNT);
		if (op->new)
			op->new->flags = mem->flags;
	}
	if (!op->new)
		return -ENOMEM;

	if (!(mem->flags & KVM_MEM_LOG_DIRTY_PAGES)) {
		op->new->dirty_bitmap = NULL;
	} else if (!op->new->dirty_bitmap) {
		r = vmem_memslot_alloc_dirty_bitmap(b->kvm, op->new);
		if (r)
			return r;
		op->has_bitmap = op->new->dirty_bitmap;
	}
	return 0;
}

/* Step 2, but for the metadata of creates. */
static int allocate(struct batch *b)
{
	struct op *op;
	int r;

	for_each_op(op, b) {
		switch (op->type) {
		case OP_NONE:
			break;
		case OP_DELETE:
			op->invalid = vmem_memslot_copy(op->old, GFP_KERNEL);
			if (!op->invalid)
				return -ENOMEM;
			op->invalid->flags |= KVM_MEMSLOT_INVALID;
			break;
		case OP_CREATE:
		case OP_FLIP:
			r = alloc_new(b, op);
			if (r)
				return r;
			break;
		}
	}
	return 0;
}

static void unprepare(struct batch *b)
{
	struct op *op;

	for_each_op(op, b) {
		if (op->prepared) {
			kvm_hook(kvm_arch_free_memslot)(b->kvm, op->new);
			op->prepared = false;
		}
	}
}

/* Under slots_arch_lock. */
static int prepare_creates(struct batch *b)
{
	u64 start = clock_ns(b);
	struct op *op;
	int r = 0;

	for_each_op_of(op, b, OP_CREATE) {
		r = kvm_hook(kvm_arch_prepare_memory_region)(b->kvm, NULL,
							     op->new,
							     KVM_MR_CREATE);
		if (r) {
			if (r != -ENOMEM)
				b->bad_index = op - b->ops;
			break;
		}
		op->prepared = true;
	}
	lap(b, &b->stats.prepare_ns, &start);
	return r;
}

/*
 * Under slots_arch_lock. A flipped memslot takes its predecessor's metadata
 * over, so this must come under the hold in which the pointers are assigned.
 */
static int prepare_flips(struct batch *b)
{
	struct op *op;
	int r;

	for_each_op_of(op, b, OP_FLIP) {
		r = kvm_hook(kvm_arch_prepare_memory_region)(b->kvm, op->old,
							     op->new,
							     KVM_MR_FLAGS_ONLY);
		if (r)
			return r;
	}
	return 0;
}

/* Drops slots_arch_lock. */
static void swap_sets(struct batch *b, unsigned long as_mask)
{
	u64 start = clock_ns(b);

	vmem_memslot_swap(b->kvm, as_mask);
	b->stats.grace_periods++;
	lap(b, &b->stats.grace_ns, &start);
}

/*
 * Drop what is mapped of the deleted memslots. In most VMs KVM's hook drops all
 * there is whichever memslot it is called for, which shows in the generation
 * of the MMU's pages; that is looked at, not foretold, as what KVM goes by can
 * change at any time. The INVALID copies have the live metadata.
 */
static void zap_deleted(struct batch *b)
{
	struct kvm *kvm = b->kvm;
	u64 start = clock_ns(b);
	struct op *op;

	for_each_op_of(op, b, OP_DELETE) {
		u8 gen = kvm->arch.mmu_valid_gen;

		kvm_hook(kvm_arch_flush_shadow_memslot)(kvm, op->invalid);
		b->stats.zaps++;
		if (gen != kvm->arch.mmu_valid_gen &&
		    !vmem_flush_tells_others(kvm))
			break;
	}
	kvm_hook(kvm_arch_guest_memory_reclaimed)(kvm);
	lap(b, &b->stats.zap_ns, &start);
}

/*
 * Step 3. slots_arch_lock is held on entry and on return, and dropped between:
 * the arch part of the INVALID copies may have changed meanwhile.
 */
static void invalidate(struct batch *b)
{
	struct op *op;

	for_each_op_of(op, b, OP_DELETE) {
		op->invalid->arch = op->old->arch;
		vmem_memslot_replace(b->kvm, op->old, op->invalid);
	}
	swap_sets(b, b->delete_mask);

	/*
	 * No mapping of a deleted memslot can be made from here on, as all
	 * lookups find it INVALID. What is mapped goes now.
	 */
	zap_deleted(b);

	mutex_lock(&b->kvm->slots_arch_lock);
	for_each_op_of(op, b, OP_DELETE)
		op->old->arch = op->invalid->arch;
}

/* Undo step 3: the originals are still in the inactive sets. */
static void revalidate(struct batch *b)
{
	struct op *op;

	swap_sets(b, b->delete_mask);
	for_each_op_of(op, b, OP_DELETE)
		vmem_memslot_replace(b->kvm, op->invalid, op->old);
}

/* Step 4. Under slots_arch_lock, which is dropped. */
static void install(struct batch *b)
{
	struct op *op;

	/* Deletes make room for creates. */
	for_each_op_of(op, b, OP_DELETE)
		vmem_memslot_replace(b->kvm, op->old, NULL);
	for_each_op(op, b)
		if (op->new)
			vmem_memslot_replace(b->kvm, op->old, op->new);

	swap_sets(b, b->change_mask);

	for_each_op_of(op, b, OP_DELETE)
		vmem_memslot_replace(b->kvm, op->invalid, NULL);
	for_each_op(op, b)
		if (op->new)
			vmem_memslot_replace(b->kvm, op->old, op->new);
}

static enum kvm_mr_change mr_change(const struct op *op)
{
	if (op->type == OP_CREATE)
		return KVM_MR_CREATE;
	return op->type == OP_DELETE ? KVM_MR_DELETE : KVM_MR_FLAGS_ONLY;
}

static void commit(struct batch *b)
{
	u32 left = b->stats.creates + b->stats.deletes;
	u64 start = clock_ns(b);
	struct op *op;

	for_each_op(op, b)
		if (op->type != OP_NONE)
			vmem_memslot_account(b->kvm, op->old, op->new,
					     mr_change(op));

	for_each_op(op, b) {
		bool last = op->type != OP_FLIP && left == 1;

		if (op->type == OP_NONE)
			continue;
		vmem_memslot_commit(b->kvm, op->old, op->new, mr_change(op),
				    last);
		if (op->type != OP_FLIP)
			left--;
		/* KVM's now. */
		op->new = NULL;
		op->prepared = false;
		op->has_bitmap = false;
	}
	lap(b, &b->stats.commit_ns, &start);
}

static int change(struct batch *b)
{
	struct kvm *kvm = b->kvm;
	unsigned int lazy;
	int r;

	mutex_lock(&kvm->slots_arch_lock);
	lazy = vmem_lazy_metadata(kvm);
	r = prepare_creates(b);
	if (r)
		goto out_unlock;

	if (b->delete_mask) {
		invalidate(b);
		if (lazy != vmem_lazy_metadata(kvm)) {
			unprepare(b);
			r = prepare_creates(b);
			if (r)
				goto out_revalidate;
		}
	}
	r = prepare_flips(b);
	if (r)
		goto out_revalidate;

	install(b);
	commit(b);
	return 0;

out_revalidate:
	if (b->delete_mask) {
		revalidate(b);
		return r;
	}
out_unlock:
	mutex_unlock(&kvm->slots_arch_lock);
	return r;
}

static void free_ops(struct batch *b)
{
	struct op *op;
	int i;

	unprepare(b);
	for_each_op(op, b) {
		if (op->has_bitmap)
			vmem_memslot_free_dirty_bitmap(op->new);
		kfree(op->new);
		kfree(op->invalid);
	}
	for (i = 0; i < KVM_MAX_NR_ADDRESS_SPACES; i++)
		kvfree(b->as[i].slots);
	kvfree(b->ops);
}

/**
 * vmem_batch_apply - apply many memslot changes as one step
 * @kvm: the VM; the caller holds a reference and no lock of it
 * @changes: the entries
 * @nr: how many, at most VMEM_BATCH_MAX
 * @validate_only: make all checks, change nothing
 * @bad_index: out, on error: first entry that was refused, or
 *	KVM_VMEM_NO_INDEX
 *
 * All or nothing. Metadata is charged to the current (or active) memory cgroup.
 *
 * Return: 0; -EIO for a dead VM; -EOPNOTSUPP for a VM with private memory,
 * whose memslots KVM ties to more than is known here; -ENOMEM; what the entry
 * at @bad_index earned.
 */
int vmem_batch_apply(struct kvm *kvm, const struct vmem_change *changes, u32 nr,
		     bool validate_only, u32 *bad_index)
{
	struct batch b = {
		.kvm = kvm,
		.changes = changes,
		.nr = nr,
		.bad_index = KVM_VMEM_NO_INDEX,
		.timed = trace_batch_enabled(),
	};
	u64 start;
	int r;

	*bad_index = KVM_VMEM_NO_INDEX;
	if (nr > VMEM_BATCH_MAX)
		return -E2BIG;
	if (!nr)
		return 0;

	/*
	 * What goes again is not charged: a VMM at its limit must be able to
	 * delete memslots, of all things.
	 */
	b.ops = kvcalloc(nr, sizeof(*b.ops), GFP_KERNEL);
	if (!b.ops)
		return -ENOMEM;

	mutex_lock(&kvm->slots_lock);
	if (kvm->vm_dead) {
		r = -EIO;
		goto out_unlock;
	}
	if (kvm_arch_has_private_mem(kvm)) {
		r = -EOPNOTSUPP;
		goto out_unlock;
	}
	start = clock_ns(&b);
	r = judge(&b, validate_only);
	lap(&b, &b.stats.judge_ns, &start);
	if (r || validate_only || !b.change_mask)
		goto out_unlock;
	r = allocate(&b);
	if (!r)
		r = change(&b);

out_unlock:
	mutex_unlock(&kvm->slots_lock);
	*bad_index = b.bad_index;
	trace_batch(&b.stats, r);
	free_ops(&b);
	return r;
}
