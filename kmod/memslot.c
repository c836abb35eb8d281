// SPDX-License-Identifier: GPL-2.0-only
/*
 * All access to the internals of KVM's memslots.
 *
 * KVM keeps two sets of memslots for each address space. The active set is
 * found through kvm->memslots[] under kvm->srcu, by vCPUs and all other
 * readers. Only the holder of slots_lock accesses the inactive set. Both
 * contain the same memslots, each linked by the node of index node_idx of the
 * set. A change is made in the inactive set, and the pointer is swapped. After
 * a grace period the set that is now inactive has no readers left, and the
 * change is repeated there. See virt/kvm/kvm_main.c. The functions here
 * resemble the ones of similar name there, except that one swap covers any
 * number of changes in any number of address spaces.
 *
 * Locks, outermost first:
 *
 *   slots_lock		mutex. Serializes all changes. The caller holds it for
 *			all functions here. Readers may hold kvm->srcu instead:
 *			vmem_memslot_find*(), vmem_memslot_is*() and
 *			vmem_memslot_*_metadata(). vmem_memslot_list() enters
 *			kvm->srcu itself.
 *   slots_arch_lock	mutex. Protects the arch part of active memslots (lazily
 *			allocated rmaps), which vCPUs inside kvm->srcu change.
 *			A copy of that part into a memslot that replaces another
 *			is made under this lock, which is held until the
 *			pointers are assigned. It must be dropped before the
 *			grace period: a vCPU that waits for it inside kvm->srcu
 *			would prevent the grace period from ending.
 *   mn_invalidate_lock	spinlock. The pointers change only under this lock, and
 *			only while no mmu notifier invalidation is in progress:
 *			the end of an invalidation must find the memslots of its
 *			start.
 *
 * Everything here may sleep.
 */
#include <linux/hashtable.h>
#include <linux/interval_tree.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/rcuwait.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "gfp.h"
#include "memslot.h"
#include "symbols.h"

static struct kvm_memslots *inactive_memslots(struct kvm *kvm, int as_id)
{
	int active = __kvm_memslots(kvm, as_id)->node_idx;

	return &kvm->__memslots[as_id][active ^ 1];
}

/*
 * vmem_memslot_find() - look up a memslot in the active set
 *
 * Return: the memslot or NULL. It is valid until slots_lock is dropped or
 * kvm->srcu is left: a memslot that was in the active set when a reader entered
 * is not freed before the reader leaves.
 */
struct kvm_memory_slot *vmem_memslot_find(struct kvm *kvm, int as_id, int id)
{
	return id_to_memslot(__kvm_memslots(kvm, as_id), id);
}

/*
 * vmem_memslot_find_at() - look up a memslot by guest address and id
 *
 * A look-up in KVM's tree of addresses takes logarithmic time. A look-up in its
 * chains of ids does not, see vmem_memslot_index().
 *
 * Return: the memslot with this id that contains @gfn; NULL: none.
 */
struct kvm_memory_slot *vmem_memslot_find_at(struct kvm *kvm, int as_id,
					     gfn_t gfn, int id)
{
	struct kvm_memory_slot *slot =
		search_memslots(__kvm_memslots(kvm, as_id), gfn, false);

	return slot && slot->id == id ? slot : NULL;
}

/*
 * vmem_memslot_index() - look up all memslots of an address space at once
 *
 * KVM looks up an id in one of 128 chains, which are long if there are many
 * memslots.
 *
 * Return: an array of KVM_USER_MEM_SLOTS memslots or NULL, by id, which
 * kvfree() frees; NULL: out of memory. The memslots are valid until slots_lock
 * is dropped.
 */
struct kvm_memory_slot **vmem_memslot_index(struct kvm *kvm, int as_id)
{
	struct kvm_memory_slot **index, *slot;
	int bkt;

	index = kvcalloc(KVM_USER_MEM_SLOTS, sizeof(*index),
			 VMEM_GFP_QUICK);
	if (!index)
		return NULL;
	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, as_id)) {
		/* KVM's internal memslots have higher ids. */
		if (slot->id < KVM_USER_MEM_SLOTS)
			index[slot->id] = slot;
	}
	return index;
}

/*
 * vmem_memslot_is() - check whether a memslot has these addresses and this size
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
 * vmem_memslot_is_plain() - as vmem_memslot_is(), and check the flags
 *
 * The only flag that the memslot may have is that for dirty logging, which the
 * VMM may change.
 */
bool vmem_memslot_is_plain(const struct kvm_memory_slot *slot,
			   const struct kvm_userspace_memory_region *mem)
{
	return vmem_memslot_is(slot, mem) &&
	       !(slot->flags & ~KVM_MEM_LOG_DIRTY_PAGES);
}

/* An empty memslot, charged to the current memory cgroup by __GFP_ACCOUNT. */
struct kvm_memory_slot *vmem_memslot_alloc(gfp_t gfp)
{
	return kzalloc(sizeof(struct kvm_memory_slot), gfp);
}

/*
 * vmem_memslot_copy_to() - copy a memslot without its links
 * @slot: an unlinked memslot; its old contents are overwritten
 *
 * The arch part may be stale when the copy is linked. The caller that links the
 * copy copies that part again under slots_arch_lock.
 */
void vmem_memslot_copy_to(struct kvm_memory_slot *slot,
			  const struct kvm_memory_slot *src)
{
	memset(slot, 0, sizeof(*slot));
	slot->base_gfn = src->base_gfn;
	slot->npages = src->npages;
	slot->dirty_bitmap = src->dirty_bitmap;
	slot->arch = src->arch;
	slot->userspace_addr = src->userspace_addr;
	slot->flags = src->flags;
	slot->id = src->id;
	slot->as_id = src->as_id;
}

/* Return: a new copy; NULL: out of memory. */
struct kvm_memory_slot *vmem_memslot_copy(const struct kvm_memory_slot *src,
					  gfp_t gfp)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(gfp);

	if (slot)
		vmem_memslot_copy_to(slot, src);
	return slot;
}

/*
 * vmem_memslot_alloc_dirty_bitmap() - allocate the bitmaps of a memslot that
 * logs
 *
 * These are two adjacent bitmaps, because KVM_GET_DIRTY_LOG copies one into the
 * other. There is none if the VM logs into rings only.
 */
int vmem_memslot_alloc_dirty_bitmap(struct kvm *kvm,
				    struct kvm_memory_slot *slot)
{
	if (!vmem_uses_dirty_bitmap(kvm))
		return 0;

	slot->dirty_bitmap = __vcalloc(2, kvm_dirty_bitmap_bytes(slot),
				       VMEM_GFP);
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
 * vmem_memslot_probe_gfn() - check whether a memslot may contain this page
 *
 * KVM does not export its limit, so this prepares a memslot of one page.
 *
 * Return: 0; -EINVAL: @gfn is beyond the limit; -ENOMEM; -EINTR: the caller is
 * killed.
 */
int vmem_memslot_probe_gfn(struct kvm *kvm, gfn_t gfn)
{
	struct kvm_memory_slot *slot = vmem_memslot_alloc(VMEM_GFP);
	int r;

	if (!slot)
		return -ENOMEM;
	slot->base_gfn = gfn;
	slot->npages = 1;

	r = mutex_lock_killable(&kvm->slots_arch_lock);
	if (r)
		goto out_free;
	r = kvm_hook(kvm_arch_prepare_memory_region)(kvm, NULL, slot,
						     KVM_MR_CREATE);
	mutex_unlock(&kvm->slots_arch_lock);
	if (!r)
		kvm_hook(kvm_arch_free_memslot)(kvm, slot);
out_free:
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
		/* A set has at most one memslot at an address. */
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
 * @new: memslot to link, or NULL; at the same guest address as @old
 */
void vmem_memslot_replace(struct kvm *kvm, struct kvm_memory_slot *old,
			  struct kvm_memory_slot *new)
{
	struct kvm_memslots *slots =
		inactive_memslots(kvm, old ? old->as_id : new->as_id);
	int idx = slots->node_idx;

	lockdep_assert_held(&kvm->slots_lock);
	if (old) {
		hash_del(&old->id_node[idx]);
		interval_tree_remove(&old->hva_node[idx], &slots->hva_tree);
		/* Cache for look-ups by gfn, from when the set was active. */
		if (atomic_long_read(&slots->last_used_slot) == (long)old)
			atomic_long_set(&slots->last_used_slot, (long)new);
	}
	if (!new) {
		rb_erase(&old->gfn_node[idx], &slots->gfn_tree);
		return;
	}

	new->hva_node[idx].start = new->userspace_addr;
	new->hva_node[idx].last = new->userspace_addr +
				  (new->npages << PAGE_SHIFT) - 1;
	hash_add(slots->id_hash, &new->id_node[idx], new->id);
	interval_tree_insert(&new->hva_node[idx], &slots->hva_tree);
	if (old) {
		WARN_ON_ONCE(old->base_gfn != new->base_gfn);
		rb_replace_node(&old->gfn_node[idx], &new->gfn_node[idx],
				&slots->gfn_tree);
	} else {
		insert_gfn_node(slots, new);
	}
}

/* Interval in which a swap that waits checks whether the mm has ended. */
#define INVALIDATE_POLL (HZ / 20)

/*
 * Has the mm ended, so that KVM's notifier is no longer called?
 *
 * KVM changes memslots only in tasks of the mm, so each invalidation that it
 * waits for ends. A work of a region may wait here when the mm ends. KVM's
 * notifier is then removed from the list of the mm, KVM is not called at the
 * end of an invalidation in progress, and the count stays above 0 forever. No
 * vCPU runs any more, so the count can be ignored, except for calls of the
 * notifier that are still running. This function waits for them.
 *
 * Called with mn_invalidate_lock held, which is dropped and taken again.
 */
static bool no_more_invalidations(struct kvm *kvm)
{
	if (!hlist_unhashed_lockless(&kvm->mmu_notifier.hlist))
		return false;
	spin_unlock(&kvm->mn_invalidate_lock);
	mmu_notifier_synchronize();
	spin_lock(&kvm->mn_invalidate_lock);
	return true;
}

static void assign_memslots(struct kvm *kvm, unsigned long as_mask)
{
	int as_id;

	spin_lock(&kvm->mn_invalidate_lock);
	prepare_to_rcuwait(&kvm->mn_memslots_update_rcuwait);
	while (kvm->mn_active_invalidate_count && !no_more_invalidations(kvm)) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		spin_unlock(&kvm->mn_invalidate_lock);
		schedule_timeout(INVALIDATE_POLL);
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
 * Called with slots_arch_lock held, which is dropped. On return no reader uses
 * the sets that were active before.
 */
void vmem_memslot_swap(struct kvm *kvm, unsigned long as_mask)
{
	int as_id;

	lockdep_assert_held(&kvm->slots_lock);
	lockdep_assert_held(&kvm->slots_arch_lock);
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
 * Update the counts that KVM's commit hook reads, by this one change and before
 * its hook, as KVM does. The hook acts when a count becomes 1 or 0 (it switches
 * the CPU's own dirty logging, PML). The count that it reads must therefore not
 * include the changes of later memslots.
 */
static void account(struct kvm *kvm, const struct kvm_memory_slot *old,
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
 * Does the commit hook of this create, delete or flip have a lasting effect?
 * The hook takes mmu_lock, which delays running vCPUs, and most calls of a
 * large batch would have no effect. The hook
 *
 *  - follows dirty logging, so it is needed for a memslot that logs now or did
 *    before;
 *  - reports deletes to page trackers, one memslot at a time;
 *  - sets the limit of shadow pages from the number of pages of all memslots.
 *    The hook of the last create or delete sets the final limit, so an earlier
 *    call is only needed if it would free shadow pages. A create raises the
 *    limit. A delete lowers it, but not below KVM_MIN_ALLOC_MMU_PAGES, so it
 *    frees none of a VM that uses no more than that.
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
	if (!old)
		return false;
	return vmem_commit_tells_trackers(kvm) ||
	       vmem_shadow_pages(kvm) > KVM_MIN_ALLOC_MMU_PAGES;
}

/*
 * vmem_memslot_commit() - count a change, call KVM's commit hook, free the old
 * memslot
 * @old: memslot that is in neither set, which is freed; NULL for a create
 * @new: memslot that is in both sets; NULL for a delete
 * @last: no create or delete follows in the batch
 *
 * Called for each change of a batch in the order of the entries.
 */
void vmem_memslot_commit(struct kvm *kvm, struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new, enum kvm_mr_change change,
			 bool last)
{
	lockdep_assert_held(&kvm->slots_lock);
	account(kvm, old, new, change);
	if (last || commit_hook_is_due(kvm, old, new))
		kvm_hook(kvm_arch_commit_memory_region)(kvm, old, new, change);

	if (change == KVM_MR_DELETE) {
		vmem_memslot_free_dirty_bitmap(old);
		kvm_hook(kvm_arch_free_memslot)(kvm, old);
	} else if (change == KVM_MR_FLAGS_ONLY && !new->dirty_bitmap) {
		/* The new memslot has taken over all other metadata. */
		vmem_memslot_free_dirty_bitmap(old);
	}
	kfree(old);
}

/* Bytes of an allocation by kvmalloc(), without the guard page of vmalloc. */
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

/* Bytes of the bitmaps of a memslot that logs dirty pages. */
static u64 dirty_bitmap_bytes(const struct kvm_memory_slot *slot)
{
	return PAGE_ALIGN(2 * ALIGN(slot->npages, BITS_PER_LONG) /
			  BITS_PER_BYTE);
}

/*
 * vmem_memslot_full_metadata() - bytes of a memslot with all kinds of metadata
 * @base_gfn: first page
 * @npages: number of pages
 * @full: out: the bytes
 *
 * Computed from the geometry. KVM allocates the arrays by vmalloc(), in whole
 * pages.
 */
void vmem_memslot_full_metadata(gfn_t base_gfn, u64 npages,
				struct vmem_metadata *full)
{
	const struct kvm_memory_slot slot = {
		.base_gfn = base_gfn,
		.npages = npages,
	};
	const struct kvm_arch_memory_slot *arch = &slot.arch;
	int level;

	*full = (struct vmem_metadata) {
		.memslot = kmalloc_size_roundup(sizeof(slot)),
		.gfn_track = PAGE_ALIGN(npages * sizeof(unsigned short)),
		.dirty_bitmap = dirty_bitmap_bytes(&slot),
	};
	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		u64 pages = pages_at_level(&slot, level);

		full->rmap += PAGE_ALIGN(pages * sizeof(*arch->rmap[0]));
		if (level > PG_LEVEL_4K)
			full->lpage_info +=
				PAGE_ALIGN(pages * sizeof(*arch->lpage_info[0]));
	}
}

/*
 * vmem_memslot_add_metadata() - add the bytes that KVM has allocated for a
 * memslot
 *
 * Hold slots_arch_lock as well if the result must include metadata that a vCPU
 * is allocating. The rest of a linked memslot does not change.
 */
void vmem_memslot_add_metadata(const struct kvm_memory_slot *slot,
			       struct vmem_metadata *sum)
{
	const struct kvm_arch_memory_slot *arch = &slot->arch;
	int level;

	sum->memslot += kmalloc_size_roundup(sizeof(*slot));
	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		const void *rmap = READ_ONCE(arch->rmap[level - PG_LEVEL_4K]);
		u64 pages = pages_at_level(slot, level);

		sum->rmap += allocated_bytes(rmap,
					     pages * sizeof(*arch->rmap[0]));
		if (level > PG_LEVEL_4K)
			sum->lpage_info +=
				allocated_bytes(arch->lpage_info[level - PG_LEVEL_2M],
						pages * sizeof(*arch->lpage_info[0]));
	}
	sum->gfn_track += allocated_bytes(vmem_gfn_track(slot),
					  slot->npages * sizeof(unsigned short));
	if (slot->dirty_bitmap)
		sum->dirty_bitmap += dirty_bitmap_bytes(slot);
}

/* Any memslot of a VM, inside kvm->srcu; NULL: the VM has none. */
static const struct kvm_memory_slot *any_memslot(struct kvm *kvm)
{
	const struct rb_node *node;
	struct kvm_memslots *slots;
	int as_id;

	for (as_id = 0; as_id < KVM_MAX_NR_ADDRESS_SPACES; as_id++) {
		slots = __kvm_memslots(kvm, as_id);
		node = slots->gfn_tree.rb_node;
		if (node)
			return container_of(node, struct kvm_memory_slot,
					    gfn_node[slots->node_idx]);
	}
	return NULL;
}

/*
 * vmem_memslot_present_metadata() - remove kinds that KVM does not have from
 * sums
 * @dirty_log: the memslots log dirty pages
 * @m: in: sums of vmem_memslot_full_metadata(); out: the bytes that KVM has
 *	allocated, or would allocate, for such memslots; zero if the VM has no
 *	memslot
 *
 * Called inside kvm->srcu. The kinds depend on the kernel, its MMU and the
 * history of the VM, because KVM allocates some kinds late. Either all memslots
 * of a VM have a kind or none has it, so any memslot shows the present kinds,
 * and sums of all kinds stay valid.
 *
 * Return: false: the VM has no memslot.
 */
bool vmem_memslot_present_metadata(struct kvm *kvm, bool dirty_log,
				   struct vmem_metadata *m)
{
	const struct kvm_memory_slot *one = any_memslot(kvm);

	if (!one) {
		*m = (struct vmem_metadata) {};
		return false;
	}
	if (!READ_ONCE(one->arch.rmap[0]))
		m->rmap = 0;
	if (!vmem_gfn_track(one))
		m->gfn_track = 0;
	if (!dirty_log || !vmem_uses_dirty_bitmap(kvm))
		m->dirty_bitmap = 0;
	return true;
}

/* The flags of linux/kvm.h; the other bits are internal to KVM. */
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
 * vmem_memslot_list() - describe memslots by ascending address
 * @gfn: skip memslots that end before this page
 * @list: out: the descriptions
 * @nr: size of @list
 * @generation: out: generation of the set of memslots. It changes when a change
 *	of the active set is complete, so different sets have different
 *	generations.
 *
 * Takes no lock: inside kvm->srcu, a set does not change after it became
 * active.
 *
 * Return: number of descriptions.
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
