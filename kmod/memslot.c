// SPDX-License-Identifier: GPL-2.0-only
/*
 * Surgery on KVM's memslots: every touch of their internals is here.
 *
 * KVM keeps two sets of memslots for each address space. One is active: vCPUs
 * and everybody else find it through kvm->memslots[] under kvm->srcu. The
 * other is inactive, and nobody but the holder of slots_lock looks at it.
 * Both hold the same memslots, each linked by node number node_idx of the set.
 * So a change is made in the inactive set, the pointer is swapped, a grace
 * period passes after which nobody uses what is now the inactive set, and the
 * change is made there too. See virt/kvm/kvm_main.c; the functions here are
 * like the ones there of similar name, but that one swap takes any number of
 * changes in any number of address spaces.
 *
 * Locks, outermost first:
 *
 *   slots_lock		mutex. Serializes all changes. Held by the caller
 *			throughout, for everything here, but that kvm->srcu will
 *			do for who only looks: vmem_memslot_find(),
 *			vmem_memslot_is*() and vmem_memslot_*_metadata().
 *			vmem_memslot_list() enters it itself.
 *   slots_arch_lock	mutex. The arch part of active memslots (lazily
 *			allocated rmaps) changes under it alone, from vCPUs
 *			inside kvm->srcu. Whoever copies that part into memslots
 *			that will replace them holds it from the copy until the
 *			pointers are assigned; and drops it before the grace
 *			period, which would never end with a vCPU waiting for
 *			the lock inside.
 *   mn_invalidate_lock	spinlock. The pointers change under it and only while
 *			no mmu notifier invalidation is between its start and
 *			its end, as those count on finding the same memslots.
 *
 * Everything here may sleep.
 */
#include <linux/hashtable.h>
#include <linux/interval_tree.h>
#include <linux/mm.h>
#include <linux/rcuwait.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "memslot.h"
#include "symbols.h"

static struct kvm_memslots *inactive_memslots(struct kvm *kvm, int as_id)
{
	int active = __kvm_memslots(kvm, as_id)->node_idx;

	return &kvm->__memslots[as_id][active ^ 1];
}

/*
 * vmem_memslot_find() - look a memslot up in the active set
 *
 * Return: the memslot or NULL. Valid until slots_lock is dropped or kvm->srcu is
 * left: no memslot is freed that was in the active set when a reader entered.
 */
struct kvm_memory_slot *vmem_memslot_find(struct kvm *kvm, int as_id, int id)
{
	return id_to_memslot(__kvm_memslots(kvm, as_id), id);
}

/*
 * vmem_memslot_index() - look up all memslots of an address space at once
 *
 * KVM finds a memslot by its id in one of 128 chains, which are long where
 * there are many memslots.
 *
 * Return: array of the KVM_USER_MEM_SLOTS that can be, by id, to be freed with
 * kvfree(); NULL without memory. What is in it is valid until slots_lock is
 * dropped.
 */
struct kvm_memory_slot **vmem_memslot_index(struct kvm *kvm, int as_id)
{
	struct kvm_memory_slot **index, *slot;
	int bkt;

	index = kvcalloc(KVM_USER_MEM_SLOTS, sizeof(*index),
			 GFP_KERNEL | __GFP_NOWARN);
	if (!index)
		return NULL;
	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, as_id)) {
		/* KVM's own have the ids above. */
		if (slot->id < KVM_USER_MEM_SLOTS)
			index[slot->id] = slot;
	}
	return index;
}

/*
 * vmem_memslot_is() - does a memslot have these addresses and this size?
 * @slot: the memslot, or NULL
 */
bool vmem_memslot_is(const struct kvm_memory_slot *slot,
		     const struct kvm_userspace_memory_region *mem)
{
	return slot && slot->base_gfn == gpa_to_gfn(mem->guest_phys_addr) &&
	       slot->npages == mem->memory_size >> PAGE_SHIFT &&
	       slot->userspace_addr == mem->userspace_addr;
}

/*
 * vmem_memslot_is_plain() - is it so, and as the module makes them?
 *
 * That is, with no flag but that for dirty logging, which the VMM may change.
 */
bool vmem_memslot_is_plain(const struct kvm_memory_slot *slot,
			   const struct kvm_userspace_memory_region *mem)
{
	return vmem_memslot_is(slot, mem) &&
	       !(slot->flags & ~KVM_MEM_LOG_DIRTY_PAGES);
}

/* A memslot that stays is charged to the VMM, one that goes again is not. */
struct kvm_memory_slot *vmem_memslot_alloc(gfp_t gfp)
{
	return kzalloc(sizeof(struct kvm_memory_slot), gfp);
}

/*
 * vmem_memslot_copy() - what of a memslot outlives its links
 *
 * The arch part may be stale by the time the copy is linked: whoever links it
 * copies that part again under slots_arch_lock.
 *
 * Return: an unlinked memslot, NULL without memory.
 */
struct kvm_memory_slot *vmem_memslot_copy(const struct kvm_memory_slot *src,
					  gfp_t gfp)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(gfp);

	if (!slot)
		return NULL;
	slot->base_gfn = src->base_gfn;
	slot->npages = src->npages;
	slot->dirty_bitmap = src->dirty_bitmap;
	slot->arch = src->arch;
	slot->userspace_addr = src->userspace_addr;
	slot->flags = src->flags;
	slot->id = src->id;
	slot->as_id = src->as_id;
	return slot;
}

/*
 * vmem_memslot_alloc_dirty_bitmap() - give a memslot that logs its bitmap
 *
 * Two bitmaps in a row, as KVM_GET_DIRTY_LOG copies one into the other. None
 * if the VM logs into rings only.
 */
int vmem_memslot_alloc_dirty_bitmap(struct kvm *kvm,
				    struct kvm_memory_slot *slot)
{
	if (!vmem_uses_dirty_bitmap(kvm))
		return 0;

	slot->dirty_bitmap = __vcalloc(2, kvm_dirty_bitmap_bytes(slot),
				       GFP_KERNEL_ACCOUNT);
	if (!slot->dirty_bitmap)
		return -ENOMEM;

	if (kvm_dirty_log_manual_protect_and_init_set(kvm))
		bitmap_set(slot->dirty_bitmap, 0, slot->npages);
	return 0;
}

void vmem_memslot_free_dirty_bitmap(struct kvm_memory_slot *slot)
{
	kvfree(slot->dirty_bitmap);
	slot->dirty_bitmap = NULL;
}

/*
 * vmem_memslot_probe_gfn() - can a memslot reach up to this page?
 *
 * KVM keeps its limit to itself, so ask with a memslot of one page.
 *
 * Return: 0, -EINVAL if it is beyond, -ENOMEM.
 */
int vmem_memslot_probe_gfn(struct kvm *kvm, gfn_t gfn)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(GFP_KERNEL);
	int r;

	if (!slot)
		return -ENOMEM;
	slot->base_gfn = gfn;
	slot->npages = 1;

	mutex_lock(&kvm->slots_arch_lock);
	r = kvm_hook(kvm_arch_prepare_memory_region)(kvm, NULL, slot,
						     KVM_MR_CREATE);
	mutex_unlock(&kvm->slots_arch_lock);
	if (!r)
		kvm_hook(kvm_arch_free_memslot)(kvm, slot);
	kfree(slot);
	return r;
}

static void insert_gfn_node(struct kvm_memslots *slots,
			    struct kvm_memory_slot *slot)
{
	struct rb_node **node = &slots->gfn_tree.rb_node;
	struct rb_node *parent = NULL;
	int idx = slots->node_idx;

	while (*node) {
		struct kvm_memory_slot *at;

		at = container_of(*node, struct kvm_memory_slot, gfn_node[idx]);
		/* Only one of a set can be there, or the batch was misjudged. */
		WARN_ON_ONCE(slot->base_gfn == at->base_gfn);
		parent = *node;
		if (slot->base_gfn < at->base_gfn)
			node = &(*node)->rb_left;
		else
			node = &(*node)->rb_right;
	}
	rb_link_node(&slot->gfn_node[idx], parent, node);
	rb_insert_color(&slot->gfn_node[idx], &slots->gfn_tree);
}

/*
 * vmem_memslot_replace() - change the inactive set of an address space
 * @old: memslot to unlink, or NULL
 * @new: memslot to link, or NULL
 */
void vmem_memslot_replace(struct kvm *kvm, struct kvm_memory_slot *old,
			  struct kvm_memory_slot *new)
{
	struct kvm_memslots *slots =
		inactive_memslots(kvm, old ? old->as_id : new->as_id);
	int idx = slots->node_idx;

	if (old) {
		hash_del(&old->id_node[idx]);
		interval_tree_remove(&old->hva_node[idx], &slots->hva_tree);
		rb_erase(&old->gfn_node[idx], &slots->gfn_tree);
		/* A cache for lookups by gfn, from when the set was active. */
		if (atomic_long_read(&slots->last_used_slot) == (long)old)
			atomic_long_set(&slots->last_used_slot, (long)new);
	}
	if (new) {
		new->hva_node[idx].start = new->userspace_addr;
		new->hva_node[idx].last = new->userspace_addr +
					  (new->npages << PAGE_SHIFT) - 1;
		hash_add(slots->id_hash, &new->id_node[idx], new->id);
		interval_tree_insert(&new->hva_node[idx], &slots->hva_tree);
		insert_gfn_node(slots, new);
	}
}

static void assign_memslots(struct kvm *kvm, unsigned long as_mask)
{
	int as_id;

	spin_lock(&kvm->mn_invalidate_lock);
	prepare_to_rcuwait(&kvm->mn_memslots_update_rcuwait);
	while (kvm->mn_active_invalidate_count) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		spin_unlock(&kvm->mn_invalidate_lock);
		schedule();
		spin_lock(&kvm->mn_invalidate_lock);
	}
	finish_rcuwait(&kvm->mn_memslots_update_rcuwait);
	for_each_set_bit(as_id, &as_mask, KVM_MAX_NR_ADDRESS_SPACES)
		rcu_assign_pointer(kvm->memslots[as_id],
				   inactive_memslots(kvm, as_id));
	spin_unlock(&kvm->mn_invalidate_lock);
}

/*
 * vmem_memslot_swap() - make the inactive sets of address spaces active
 * @as_mask: the address spaces
 *
 * Called with slots_arch_lock held, which is dropped. On return nobody uses
 * the sets that were active.
 */
void vmem_memslot_swap(struct kvm *kvm, unsigned long as_mask)
{
	int as_id;

	for_each_set_bit(as_id, &as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		u64 gen = __kvm_memslots(kvm, as_id)->generation;

		WARN_ON_ONCE(gen & KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS);
		inactive_memslots(kvm, as_id)->generation =
			gen | KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS;
	}

	assign_memslots(kvm, as_mask);
	mutex_unlock(&kvm->slots_arch_lock);
	synchronize_srcu_expedited(&kvm->srcu);

	for_each_set_bit(as_id, &as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		struct kvm_memslots *slots = __kvm_memslots(kvm, as_id);
		u64 gen = slots->generation;

		/* Generations are unique over all address spaces of a VM. */
		gen &= ~KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS;
		gen += kvm_arch_nr_memslot_as_ids(kvm);
		kvm_hook(kvm_arch_memslots_updated)(kvm, gen);
		slots->generation = gen;
	}
}

/*
 * vmem_memslot_account() - count a change that all can see
 * @old: memslot no set holds any more, NULL for a create
 * @new: memslot in both sets, NULL for a delete
 *
 * KVM's commit hook reads these counts, so all of a batch go before it.
 */
void vmem_memslot_account(struct kvm *kvm, const struct kvm_memory_slot *old,
			  const struct kvm_memory_slot *new,
			  enum kvm_mr_change change)
{
	u32 old_flags = old ? old->flags : 0;
	u32 new_flags = new ? new->flags : 0;

	if (change == KVM_MR_DELETE)
		kvm->nr_memslot_pages -= old->npages;
	else if (change == KVM_MR_CREATE)
		kvm->nr_memslot_pages += new->npages;
	if ((old_flags ^ new_flags) & KVM_MEM_LOG_DIRTY_PAGES)
		vmem_count_dirty_logging(kvm, new_flags & KVM_MEM_LOG_DIRTY_PAGES ?
					      1 : -1);
}

/*
 * What does KVM's commit hook do? It sets the limit of MMU pages by the number
 * of pages in all memslots, which is the same for each create and delete of a
 * batch once all are accounted for, and takes mmu_lock each time: once will
 * do. It follows dirty logging on and off, and tells page trackers of deletes:
 * that it does for one memslot at a time.
 */
static bool commit_hook_is_due(struct kvm *kvm,
			       const struct kvm_memory_slot *old,
			       const struct kvm_memory_slot *new)
{
	u32 flags = (old ? old->flags : 0) | (new ? new->flags : 0);

	if (old && new)
		return true;
	if (flags & KVM_MEM_LOG_DIRTY_PAGES)
		return true;
	return old && vmem_commit_tells_trackers(kvm);
}

/*
 * vmem_memslot_commit() - let KVM follow a change, free the old
 * @old: as for vmem_memslot_account(); freed
 * @new: as for vmem_memslot_account()
 * @last: no create or delete follows in the batch
 */
void vmem_memslot_commit(struct kvm *kvm, struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new, enum kvm_mr_change change,
			 bool last)
{
	if (last || commit_hook_is_due(kvm, old, new))
		kvm_hook(kvm_arch_commit_memory_region)(kvm, old, new, change);

	if (change == KVM_MR_DELETE) {
		vmem_memslot_free_dirty_bitmap(old);
		kvm_hook(kvm_arch_free_memslot)(kvm, old);
	} else if (change == KVM_MR_FLAGS_ONLY && !new->dirty_bitmap) {
		/* All other metadata is the new memslot's now. */
		vmem_memslot_free_dirty_bitmap(old);
	}
	kfree(old);
}

/* Bytes behind an allocation by kvmalloc(), without vmalloc's guard page. */
static u64 allocated_bytes(const void *addr, u64 size)
{
	if (!addr)
		return 0;
	return is_vmalloc_addr(addr) ? PAGE_ALIGN(size) :
				       kmalloc_size_roundup(size);
}

static u64 pages_at_level(const struct kvm_memory_slot *slot, int level)
{
	gfn_t last = slot->base_gfn + slot->npages - 1;
	int shift = KVM_HPAGE_GFN_SHIFT(level);

	return (last >> shift) - (slot->base_gfn >> shift) + 1;
}

/* What the bitmaps of a memslot that logs dirty pages take. */
static u64 dirty_bitmap_bytes(const struct kvm_memory_slot *slot)
{
	return PAGE_ALIGN(2 * ALIGN(slot->npages, BITS_PER_LONG) /
			  BITS_PER_BYTE);
}

/*
 * Add up the memslot itself and its arch arrays.
 *
 * @kinds: a memslot of the same VM that has the arrays which count; it may be
 *	@slot itself
 * @gfn_track: likewise
 */
static void add_arch_metadata(const struct kvm_memory_slot *slot,
			      const struct kvm_arch_memory_slot *kinds,
			      const void *gfn_track, struct vmem_metadata *sum)
{
	int level;

	sum->memslot += kmalloc_size_roundup(sizeof(*slot));
	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		const void *rmap = READ_ONCE(kinds->rmap[level - PG_LEVEL_4K]);
		u64 pages = pages_at_level(slot, level);

		sum->rmap += allocated_bytes(rmap,
					     pages * sizeof(*kinds->rmap[0]));
		if (level > PG_LEVEL_4K)
			sum->lpage_info +=
				allocated_bytes(kinds->lpage_info[level - PG_LEVEL_2M],
						pages * sizeof(*kinds->lpage_info[0]));
	}
	sum->gfn_track += allocated_bytes(gfn_track,
					  slot->npages * sizeof(unsigned short));
}

/*
 * vmem_memslot_add_metadata() - add up what KVM holds for a memslot
 *
 * Also under slots_arch_lock if the answer must include what a vCPU is
 * allocating at this moment. All else of a memslot stays as it was linked.
 */
void vmem_memslot_add_metadata(const struct kvm_memory_slot *slot,
			       struct vmem_metadata *sum)
{
	add_arch_metadata(slot, &slot->arch, vmem_gfn_track(slot), sum);
	if (slot->dirty_bitmap)
		sum->dirty_bitmap += dirty_bitmap_bytes(slot);
}

/* Any memslot of a VM, inside kvm->srcu; NULL if it has none. */
static const struct kvm_memory_slot *any_memslot(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	int as_id, bkt;

	for (as_id = 0; as_id < KVM_MAX_NR_ADDRESS_SPACES; as_id++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, as_id))
			return slot;
	}
	return NULL;
}

/*
 * vmem_memslot_foresee_metadata() - add up what a memslot would cost
 * @base_gfn: where it would be
 * @npages: its size
 * @dirty_log: it would log dirty pages
 *
 * Inside kvm->srcu. Which kinds there are depends on the kernel, its MMU and on
 * what the VM has done; all of its memslots have them or none has. So any one
 * of them tells.
 *
 * Return: false if there is none.
 */
bool vmem_memslot_foresee_metadata(struct kvm *kvm, gfn_t base_gfn, u64 npages,
				   bool dirty_log, struct vmem_metadata *sum)
{
	const struct kvm_memory_slot slot = {
		.base_gfn = base_gfn,
		.npages = npages,
	};
	const struct kvm_memory_slot *other = any_memslot(kvm);

	if (!other)
		return false;
	add_arch_metadata(&slot, &other->arch, vmem_gfn_track(other), sum);
	if (dirty_log && vmem_uses_dirty_bitmap(kvm))
		sum->dirty_bitmap += dirty_bitmap_bytes(&slot);
	return true;
}

/* What linux/kvm.h calls flags; the rest are KVM's own. */
#define USER_FLAGS_MASK GENMASK(15, 0)

static void describe(const struct kvm_memory_slot *slot,
		     struct kvm_vmem_memslot *to)
{
	struct vmem_metadata sum = {};

	vmem_memslot_add_metadata(slot, &sum);
	*to = (struct kvm_vmem_memslot) {
		.slot = (u32)slot->as_id << 16 | (u16)slot->id,
		.flags = slot->flags & USER_FLAGS_MASK,
		.guest_phys_addr = gfn_to_gpa(slot->base_gfn),
		.memory_size = (u64)slot->npages << PAGE_SHIFT,
		.memslot = sum.memslot,
		.rmap = sum.rmap,
		.lpage_info = sum.lpage_info,
		.gfn_track = sum.gfn_track,
		.dirty_bitmap = sum.dirty_bitmap,
	};
}

/*
 * vmem_memslot_list() - describe memslots in the order of their addresses
 * @gfn: leave out those that end before it
 * @list: where to
 * @nr: room there
 * @generation: out: of the set they are in. That of a set in use changes only
 *	when its change is complete, so sets that differ never have the same.
 *
 * Takes no lock: inside kvm->srcu, a set is as it was when it became active.
 *
 * Return: how many.
 */
u32 vmem_memslot_list(struct kvm *kvm, int as_id, gfn_t gfn,
		      struct kvm_vmem_memslot *list, u32 nr, u64 *generation)
{
	struct kvm_memslot_iter iter;
	struct kvm_memslots *slots;
	u32 n = 0;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slots = __kvm_memslots(kvm, as_id);
	*generation = READ_ONCE(slots->generation);
	kvm_for_each_memslot_in_gfn_range(&iter, slots, gfn, ULLONG_MAX) {
		if (n == nr)
			break;
		describe(iter.slot, &list[n++]);
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return n;
}
