// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dropping the mappings of many deleted memslots with one flush.
 *
 * When KVM deletes a memslot and keeps the mappings of the others, its hook
 * takes mmu_lock, unmaps the memslot's range and flushes the TLBs of all vCPUs.
 * A batch that calls the hook for each of its deletes sends as many flushes.
 * Here all ranges are unmapped under one hold of mmu_lock, and one flush ends
 * it.
 *
 * This is done for a VM for which KVM would do the same by itself: one whose
 * VMM has switched KVM_X86_QUIRK_SLOT_ZAP_ALL off. In all others a delete drops
 * every mapping, and KVM's hook does that once. For these VMs single ranges are
 * unmapped only if the caller asks for it: the VM keeps the mappings of its
 * other memory.
 *
 * KVM once dropped the mappings of single memslots (4e103134b862, 5.1), and
 * reverted to dropping all because a VM with an assigned GPU broke. The cause
 * was never found. As a precaution the request is ignored for a VM with an
 * assigned device, and on kernels that were not reviewed. The argument below
 * does not depend on devices. The decision is made once for a batch, or once
 * for each part if the batch is carried out in parts. For a device that is
 * assigned later, the batch happened before. If the VMM has switched the quirk
 * off, devices make no difference, as in KVM.
 *
 * Why this is safe, and why the result of vmem_zap_is_safe() stays valid:
 *
 *  - The caller holds slots_lock from before the INVALID copies are linked. No
 *    other memslot changes. All mappings are dropped at the same time only as
 *    the mm ends (KVM's release notifier), which leaves nothing to find.
 *  - The INVALID copies are in the active sets and a grace period of kvm->srcu
 *    has passed. A vCPU stays inside kvm->srcu from the look-up of a memslot
 *    until the page is mapped. So no page of these memslots is mapped any more,
 *    and no guest page table inside them becomes shadowed.
 *  - Freeing a shadow page updates the metadata of the memslot that has the
 *    guest's page table. A shadow page that outlives its memslot is a
 *    use-after-free. Such pages are on active_mmu_pages, those of the TDP MMU
 *    are not. If the list is empty under mmu_lock, no shadow page refers to
 *    these memslots. By the previous point none will refer to them later, even
 *    if a nested guest starts while mmu_lock is dropped.
 *  - The quirk, once off, stays off. The request is a flag of the batch and
 *    does not change.
 *  - Before 6.5 KVM's hook also notifies page trackers of a deleted memslot. If
 *    there are trackers other than KVM's own, the hook is called. The check is
 *    made where the hook would be called, so a tracker that registers later
 *    misses the same notifications as with KVM.
 *
 * mmu_lock is a spinning lock and is taken for write. It is dropped between
 * chunks if it is contended or the CPU is needed, but never while a flush is
 * pending: an mmu notifier that finds no mapping sends no flush, and its caller
 * frees the page. For the same reason KVM's function must not drop the lock
 * itself.
 *
 * This is done whatever part of the VM is deleted. A zap-all needs less
 * than half the instructions for each page that goes, but a page that stays and is faulted in
 * again costs 25 to 31 times the difference (measured on AMD and Intel; see
 * doc/costs.md). It pays only if nearly nothing stays.
 *
 * Cached MMIO mappings are not dropped here. They become invalid with the
 * generation of the memslots, as for KVM's own creates. Page tables stay, and
 * the next memslot at the same address uses them.
 */
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include "compat.h"
#include "series.h"
#include "symbols.h"
#include "zap.h"

/*
 * Number of pages that are unmapped before mmu_lock may be dropped. It takes a
 * few hundred microseconds if all are mapped as small pages, and a large
 * memslot with few mappings needs few walks from the root.
 */
#define CHUNK_PAGES (SZ_32M >> PAGE_SHIFT)

/*
 * vmem_zap_is_wanted() - decide whether to keep the mappings of other memslots
 * @asked: the caller requests it, even if KVM drops all mappings by default
 *
 * If the result is false, call KVM's hook and no other function of this file.
 */
bool vmem_zap_is_wanted(struct kvm *kvm, bool asked)
{
	if (vmem_flush_tells_others(kvm))
		return false;
	return vmem_delete_keeps_others(kvm) ||
	       (asked && vmem_series_reviewed() &&
		!vmem_has_assigned_device(kvm));
}

/*
 * vmem_zap_is_safe() - check whether mappings of single memslots may be dropped
 *
 * Call this under mmu_lock, after the grace period that follows the swap to the
 * INVALID copies.
 *
 * Return: true, which stays valid when mmu_lock is dropped; false: KVM's hook
 * must drop the mappings.
 */
bool vmem_zap_is_safe(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->slots_lock);
	lockdep_assert_held_write(&kvm->mmu_lock);
	return list_empty(&kvm->arch.active_mmu_pages);
}

/*
 * vmem_zap_flush() - flush TLBs if a flush is pending
 *
 * Call this before mmu_lock is dropped.
 */
void vmem_zap_flush(struct vmem_zap *zap)
{
	if (zap->flush)
		kvm_hook(kvm_flush_remote_tlbs)(zap->kvm);
	zap->flush = false;
}

/*
 * vmem_zap_memslot() - drop the mappings of a memslot
 * @slot: the INVALID copy of the memslot, in the active set
 *
 * May drop and take mmu_lock.
 */
void vmem_zap_memslot(struct vmem_zap *zap, struct kvm_memory_slot *slot)
{
	gfn_t end = slot->base_gfn + slot->npages;
	struct kvm_gfn_range range = {
		.slot = slot,
		.start = slot->base_gfn,
		.may_block = false,
	};

	vmem_range_is_all_memory(&range);
	while (range.start < end) {
		range.end = min_t(gfn_t, end, range.start + CHUNK_PAGES);
		if (kvm_hook(kvm_unmap_gfn_range)(zap->kvm, &range))
			zap->flush = true;
		range.start = range.end;
		if (need_resched() || rwlock_needbreak(&zap->kvm->mmu_lock)) {
			vmem_zap_flush(zap);
			cond_resched_rwlock_write(&zap->kvm->mmu_lock);
		}
	}
}
