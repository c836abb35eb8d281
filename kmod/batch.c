// SPDX-License-Identifier: GPL-2.0-only
/*
 * Batches: many memslot changes for the price of one.
 *
 * KVM changes one memslot per call: a grace period for a create, two and a zap
 * of the whole guest page table for a delete. A batch shares them among all its
 * entries and both address spaces. Its steps, with slots_lock held throughout:
 *
 *  1. Judge (batch_judge.c). Each entry by itself and against the memslots
 *     there are, in order; then each create against the layout that results,
 *     in order. Nothing has been touched when this refuses.
 *  2. Allocate everything that deletes, creates and flips of dirty logging
 *     need. A create's metadata comes from KVM's own prepare hook, under
 *     slots_arch_lock. The batch can still be given up without a trace.
 *  3. If anything is deleted: put INVALID copies of those memslots in the
 *     inactive sets and swap, so that no vCPU maps anything of them any more,
 *     then zap what is mapped. The originals stay in the sets that are now
 *     inactive, which is what makes undoing this simple.
 *  4. Make the new layout in the inactive sets, swap, repeat it in the others.
 *     From the swap on nothing can fail. Then commit and free, one entry after
 *     the other in their order, as KVM's own calls would: KVM's counts step by
 *     one entry before its commit hook, which compares them.
 *
 * KVM does without some metadata until it is needed: rmaps until the first
 * shadow root (a nested guest's), on some kernels write tracking until the
 * first page tracker. It then gives them to the memslots in the active sets,
 * under slots_arch_lock. Should that happen during step 3, when the lock was
 * not held, the creates of step 2 lack what every visible memslot has been
 * given. They are discarded and prepared again under the same hold of the lock
 * in which they are linked. If that allocation fails, the batch swaps the
 * originals back in. The generation has then advanced, as it does when KVM
 * itself gives up a delete.
 *
 * Locks are described in memslot.c. Everything here may sleep.
 *
 * Memory. The caller chooses the number of entries, so all entries, operations
 * and memslots are charged to its memory cgroup. Nothing is allocated before
 * slots_lock is held. A vCPU whose page faults wait for userspace can delay the
 * lock without bound, and memory held by all waiters would add up. With this
 * order, each VM has the memory of at most one batch at a time. The wait for
 * slots_lock is killable, as is the first wait for slots_arch_lock. Later waits
 * cannot be interrupted: the grace period after a swap, which a faulting vCPU
 * (an SRCU reader) delays, and before it the mmu notifier invalidations in
 * progress, which end without userspace. KVM's own calls wait in the same
 * places.
 *
 * A VMM at the limit of its cgroup must still be able to delete memslots, since
 * that frees memory. A batch that only deletes may therefore be charged beyond
 * the limit, without invoking the OOM killer: for its arrays, if it has at most
 * SPARE_ENTRIES entries, and for SPARE_COPIES INVALID copies. If there are
 * fewer copies than memslots to delete, the memslots are deleted in parts:
 * steps 3 and 4 run for as many as there are copies, and repeat for the rest.
 * All entries have been judged by then and nothing else can fail, so the batch
 * is still all or nothing. A larger batch fails with ENOMEM if its arrays
 * cannot be charged.
 */
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "batch_internal.h"
#include "batch_judge.h"
#include "gfp.h"
#include "memslot.h"
#include "symbols.h"
#include "trace.h"
#include "uapi/linux/kvm_vmem.h"
#include "zap.h"

/*
 * The spare of a batch that only deletes: less than 1 MiB in total, and at most
 * one at a time in a VM. A VMM is unlikely to have more than 4096 memslots to
 * delete. With 64 copies the number of grace periods is small relative to that
 * of memslots.
 */
#define SPARE_ENTRIES KVM_VMEM_SPARE_BATCH
#define SPARE_COPIES 64

/* The time, if it is needed: some clocks take a microsecond to read. */
static u64 clock_ns(const struct batch *b)
{
	return b->timed ? ktime_get_ns() : 0;
}

/* Add the time since @start to @sum, and set @start to now. */
static void lap(const struct batch *b, u64 *sum, u64 *start)
{
	u64 now = clock_ns(b);

	*sum += now - *start;
	*start = now;
}

static struct kvm_memory_slot *
slot_from_mem(const struct kvm_userspace_memory_region *mem)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(VMEM_GFP);

	if (!slot)
		return NULL;
	slot->as_id = vmem_batch_as_id(mem);
	slot->id = vmem_batch_slot_id(mem);
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
		op->new = vmem_memslot_copy(op->old, VMEM_GFP);
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

/* The INVALID copy of a memslot to delete; @copies were allocated before. */
static struct kvm_memory_slot *alloc_invalid(struct batch *b,
					     const struct op *op, u32 copies)
{
	struct kvm_memory_slot *copy =
		vmem_memslot_copy(op->old, VMEM_GFP_QUICK);

	/* If the spare was used, reclaim has failed; do not repeat it. */
	if (!copy && !b->spared)
		copy = vmem_memslot_copy(op->old, VMEM_GFP);
	if (!copy && b->only_deletes && copies < SPARE_COPIES) {
		copy = vmem_memslot_copy(op->old, VMEM_GFP_SPARE);
		b->spared = true;
	}
	return copy;
}

/*
 * Step 2, without the metadata of creates.
 *
 * Return: 0; -EAGAIN: there are INVALID copies for the first deletes only, so
 * the memslots have to be deleted in parts; another errno.
 */
static int allocate(struct batch *b)
{
	u32 copies = 0;
	struct op *op;
	int r;

	for_each_op(op, b) {
		r = vmem_batch_check_wanted(b);
		if (r)
			return r;
		switch (op->type) {
		case OP_NONE:
			break;
		case OP_DELETE:
			op->invalid = alloc_invalid(b, op, copies);
			if (!op->invalid)
				return b->only_deletes && copies ? -EAGAIN :
								   -ENOMEM;
			op->invalid->flags |= KVM_MEMSLOT_INVALID;
			copies++;
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
		r = vmem_batch_check_wanted(b);
		if (r)
			break;
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
 * Under slots_arch_lock. A flipped memslot takes over the metadata of its
 * predecessor, so the lock must be held until the pointers are assigned.
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

/* Drop only mappings of the deleted memslots; false: KVM's hook is needed. */
static bool unmap_deleted(struct batch *b)
{
	struct vmem_zap zap = { .kvm = b->kvm };
	struct op *op;
	bool safe;

	if (!vmem_zap_is_wanted(b->kvm, b->zap_ranges))
		return false;
	write_lock(&b->kvm->mmu_lock);
	safe = vmem_zap_is_safe(b->kvm);
	/* Not for_each_op_of(), which may sleep. */
	for (op = b->ops; safe && op < b->ops + b->nr; op++) {
		if (op->type == OP_DELETE) {
			vmem_zap_memslot(&zap, op->invalid);
			b->stats.unmaps++;
		}
	}
	vmem_zap_flush(&zap);
	write_unlock(&b->kvm->mmu_lock);
	return safe;
}

/*
 * Call KVM's hook for the deleted memslots. In most VMs one call drops all
 * mappings and advances the generation of the MMU's pages. The generation is
 * compared after the call and not predicted, because KVM's condition can change
 * at any time. The INVALID copies have the current metadata.
 */
static void flush_deleted(struct batch *b)
{
	struct kvm *kvm = b->kvm;
	struct op *op;

	for_each_op_of(op, b, OP_DELETE) {
		u8 gen = kvm->arch.mmu_valid_gen;

		kvm_hook(kvm_arch_flush_shadow_memslot)(kvm, op->invalid);
		b->stats.zaps++;
		if (gen != kvm->arch.mmu_valid_gen &&
		    !vmem_flush_tells_others(kvm))
			break;
	}
}

/* Drop the mappings of the deleted memslots. */
static void zap_deleted(struct batch *b)
{
	u64 start = clock_ns(b);

	if (!unmap_deleted(b))
		flush_deleted(b);
	kvm_hook(kvm_arch_guest_memory_reclaimed)(b->kvm);
	lap(b, &b->stats.zap_ns, &start);
}

/*
 * Step 3. slots_arch_lock is held on entry and on return, and dropped in
 * between. The arch part of the INVALID copies may change during that time.
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
	 * From here on, no new mapping of a deleted memslot is possible,
	 * because all look-ups find it INVALID. Drop the existing mappings.
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

/* Step 4. Called with slots_arch_lock held, which is dropped. */
static void install(struct batch *b)
{
	struct op *op;

	/* Deletes first: creates may use their guest addresses and ids. */
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

	for_each_op(op, b) {
		bool last = op->type != OP_FLIP && left == 1;

		if (op->type == OP_NONE)
			continue;
		vmem_memslot_commit(b->kvm, op->old, op->new, mr_change(op),
				    last);
		if (op->type != OP_FLIP)
			left--;
		/* KVM owns it now. */
		op->new = NULL;
		op->prepared = false;
		op->has_bitmap = false;
	}
	lap(b, &b->stats.commit_ns, &start);
}

/* Steps 3 and 4. Called with slots_arch_lock held, which is dropped. */
static int change(struct batch *b)
{
	struct kvm *kvm = b->kvm;
	unsigned int lazy;
	int r;

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

/*
 * The part of a batch from @from to the first delete for which there is no
 * INVALID copy. The copies that the previous part has used are at @used, in
 * order, and are used again.
 */
static struct batch take_part(const struct batch *b, struct op *from,
			      struct op *used)
{
	struct batch part = *b;
	struct op *op;
	int as_id;

	part.changes = b->changes + (from - b->ops);
	part.ops = from;
	part.delete_mask = 0;
	memset(&part.stats, 0, sizeof(part.stats));
	for (op = from; op < b->ops + b->nr; op++, cond_resched()) {
		if (op->type != OP_DELETE)
			continue;
		for (; !op->invalid && used < from; used++)
			swap(op->invalid, used->invalid);
		if (!op->invalid)
			break;
		vmem_memslot_copy_to(op->invalid, op->old);
		op->invalid->flags |= KVM_MEMSLOT_INVALID;
		as_id = vmem_batch_as_id(&b->changes[op - b->ops].mem);
		part.delete_mask |= BIT(as_id);
		part.stats.deletes++;
	}
	part.nr = op - from;
	part.change_mask = part.delete_mask;
	return part;
}

/*
 * Steps 3 and 4 of a batch that only deletes and has fewer copies than
 * memslots. Cannot fail. Called with slots_arch_lock held, which is dropped.
 */
static void delete_in_parts(struct batch *b)
{
	struct op *used = b->ops, *from = b->ops;
	struct batch part;

	for (;;) {
		part = take_part(b, from, used);
		WARN_ON_ONCE(change(&part));
		b->stats.grace_periods += part.stats.grace_periods;
		b->stats.zaps += part.stats.zaps;
		b->stats.unmaps += part.stats.unmaps;
		b->stats.grace_ns += part.stats.grace_ns;
		b->stats.zap_ns += part.stats.zap_ns;
		b->stats.commit_ns += part.stats.commit_ns;
		used = from;
		from += part.nr;
		if (from == b->ops + b->nr)
			break;
		mutex_lock(&b->kvm->slots_arch_lock);
	}
}

/* Steps 2 to 4. */
static int carry_out(struct batch *b)
{
	bool in_parts;
	int r;

	r = allocate(b);
	in_parts = r == -EAGAIN;
	if (r && !in_parts)
		return r;
	r = mutex_lock_killable(&b->kvm->slots_arch_lock);
	if (r)
		return r;
	if (!in_parts)
		return change(b);
	delete_in_parts(b);
	return 0;
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
 * vmem_batch_lock - take the lock for changing the memslots of a VM
 * @kvm: the VM; the caller holds a reference and none of its locks
 *
 * Call this before any allocation whose size a user chooses.
 *
 * Return: 0; -EINTR if the caller is killed.
 */
int vmem_batch_lock(struct kvm *kvm)
{
	return mutex_lock_killable(&kvm->slots_lock);
}

void vmem_batch_unlock(struct kvm *kvm)
{
	mutex_unlock(&kvm->slots_lock);
}

/**
 * vmem_batch_alloc - allocate a zeroed array for a batch
 * @nr: number of elements
 * @size: size of an element
 * @spare: the batch may have only deletes and may use the spare
 *
 * Call this between vmem_batch_lock() and vmem_batch_unlock(), or where a VM
 * has one such array at a time for another reason.
 *
 * Return: the array, which kvfree() frees; NULL: out of memory.
 */
void *vmem_batch_alloc(size_t nr, size_t size, bool spare)
{
	/* VMEM_GFP alone would try hard to find contiguous pages. */
	void *array = kvcalloc(nr, size, VMEM_GFP_QUICK);

	if (!array)
		array = kvcalloc(nr, size, VMEM_GFP);
	if (!array && spare && nr <= SPARE_ENTRIES)
		array = kvcalloc(nr, size, VMEM_GFP_SPARE);
	return array;
}

/* Is it certain that no entry creates or flips a memslot? */
static bool only_deletes(const struct vmem_change *changes, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++, cond_resched()) {
		switch (changes[i].kind) {
		case VMEM_CHANGE_SET:
			if (changes[i].mem.memory_size)
				return false;
			break;
		case VMEM_CHANGE_DELETE:
		case VMEM_CHANGE_DROP:
		case VMEM_CHANGE_EXPECT:
			break;
		case VMEM_CHANGE_CREATE:
		case VMEM_CHANGE_FLAGS:
			return false;
		}
	}
	return true;
}

/**
 * vmem_batch_apply - apply many memslot changes in one step
 * @kvm: the VM; call this between vmem_batch_lock() and vmem_batch_unlock()
 * @changes: the entries
 * @nr: number of entries, at most VMEM_BATCH_MAX
 * @flags: KVM_VMEM_BATCH_*
 * @gone: give up if this becomes true, as long as that is possible; or NULL
 * @result: out: the result
 *
 * All entries are applied or none. Memory is charged to the current (or active)
 * memory cgroup.
 *
 * Return: 0; -EIO: the VM is dead; -EOPNOTSUPP: the VM has private memory,
 * whose memslots have more state than is handled here; -ENOMEM; -EINTR: the
 * caller is killed; -ENODEV: @gone; or the error of the entry at bad_index of
 * @result.
 */
int vmem_batch_apply(struct kvm *kvm, const struct vmem_change *changes, u32 nr,
		     u32 flags, const bool *gone,
		     struct vmem_batch_result *result)
{
	bool validate_only = flags & KVM_VMEM_BATCH_VALIDATE_ONLY;
	struct batch b = {
		.kvm = kvm,
		.changes = changes,
		.nr = nr,
		.gone = gone,
		.bad_index = KVM_VMEM_NO_INDEX,
		.zap_ranges = flags & KVM_VMEM_BATCH_ZAP_RANGES,
		.timed = trace_batch_enabled(),
	};
	u64 start;
	int r;

	lockdep_assert_held(&kvm->slots_lock);
	*result = (struct vmem_batch_result) { .bad_index = KVM_VMEM_NO_INDEX };
	if (nr > VMEM_BATCH_MAX)
		return -EMSGSIZE;
	if (!nr)
		return 0;
	if (kvm->vm_dead)
		return -EIO;
	if (kvm_arch_has_private_mem(kvm))
		return -EOPNOTSUPP;

	b.only_deletes = only_deletes(changes, nr);
	b.ops = vmem_batch_alloc(nr, sizeof(*b.ops), b.only_deletes);
	if (!b.ops)
		return -ENOMEM;

	start = clock_ns(&b);
	r = vmem_batch_judge(&b, validate_only);
	lap(&b, &b.stats.judge_ns, &start);
	if (!r && !validate_only && b.change_mask)
		r = carry_out(&b);
	result->bad_index = b.bad_index;
	if (b.stats.unmaps)
		result->zapped |= KVM_VMEM_ZAPPED_RANGES;
	if (b.stats.zaps)
		result->zapped |= KVM_VMEM_ZAPPED_BY_KVM;
	trace_batch(&b.stats, r);
	free_ops(&b);
	return r;
}
