// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memslots of a region.
 *
 * A slot of a region is one memslot in each address space of the region's mask.
 * This file describes these memslots, and changes many of them as one batch.
 *
 * Memslots are looked up in KVM by id each time. The VMM can change them without
 * the module's knowledge. A batch fails with ESTALE if a memslot is not as the
 * region made it.
 *
 * Memory. Allocations of a work are charged to the VMM's memory cgroup, as the
 * memslots belong to the VMM. A work takes slots_lock first, see batch.c, so the
 * works of all regions of a VM use the memory of one batch at a time.
 *
 * The end of a region may find no memory for a batch of all memslots. It then
 * removes them one slot at a time, with what fits on the stack.
 *
 * region.c has the locks.
 */
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/memcontrol.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "batch.h"
#include "compat.h"
#include "region.h"
#include "region_memslots.h"

/*
 * Slots that the end of a region removes one by one, where there is no memory to
 * remove all at once, before it lets others have KVM's lock and the VM: as many as
 * there are grace periods to wait for.
 */
#define DROP_SLOTS 64

u64 vmem_region_slot_bytes(const struct vmem_region *region, u32 slot)
{
	u64 offset = slot * region->slot_size;

	return min(region->slot_size, region->size - offset);
}

/* The memslot of a slot in one address space, as KVM has it or is to. */
void vmem_region_describe_slot(const struct vmem_region *region, u32 slot,
			       int as_id,
			       struct kvm_userspace_memory_region *mem)
{
	u64 offset = slot * region->slot_size;

	*mem = (struct kvm_userspace_memory_region) {
		.slot = as_id << 16 | (region->first_slot + slot),
		.flags = region->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = region->gpa + offset,
		.memory_size = vmem_region_slot_bytes(region, slot),
		.userspace_addr = region->hva + offset,
	};
}

/* What KVM would hold for a slot in one address space, with every kind. */
void vmem_region_slot_metadata(const struct vmem_region *region, u32 slot,
			       struct vmem_metadata *full)
{
	vmem_memslot_full_metadata(gpa_to_gfn(region->gpa +
					      slot * region->slot_size),
				   vmem_region_slot_bytes(region, slot) >>
					   PAGE_SHIFT, full);
}

u32 vmem_region_nr_address_spaces(const struct vmem_region *region)
{
	return hweight_long(region->as_mask);
}

/* For a batch over so many slots. @spare: as vmem_batch_alloc() has it. */
struct vmem_change *
vmem_region_alloc_changes(const struct vmem_region *region, u32 nr_slots,
			  bool spare)
{
	u32 nr_as = vmem_region_nr_address_spaces(region);

	return vmem_batch_alloc(array_size(nr_slots, nr_as),
				sizeof(struct vmem_change), spare);
}

/* Add the memslots of one slot to a batch of @nr entries; new number. */
u32 vmem_region_add_changes(const struct vmem_region *region, u32 slot,
			    enum vmem_change_kind kind,
			    struct vmem_change *changes, u32 nr)
{
	int as_id;

	for_each_set_bit(as_id, &region->as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		changes[nr].kind = kind;
		vmem_region_describe_slot(region, slot, as_id, &changes[nr].mem);
		nr++;
	}
	return nr;
}

/* Readers must not judge the memslots meanwhile. Under region->lock. */
void vmem_region_mark_changing(struct vmem_region *region, bool changing)
{
	lockdep_assert_held(&region->lock);
	region->changing = changing;
}

void vmem_region_set_changing(struct vmem_region *region, bool changing)
{
	mutex_lock(&region->lock);
	vmem_region_mark_changing(region, changing);
	mutex_unlock(&region->lock);
}

/*
 * Is the mm some process's own? An exiting process hands it over to another that
 * shares it, before it closes its files.
 */
static bool has_owner(const struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	return rcu_access_pointer(mm->owner);
#else
	return true;
#endif
}

/* NULL where there are no memory cgroups, or they are disabled. */
static struct mem_cgroup *get_memcg(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	if (memcg)
		css_get(&memcg->css);
#endif
	return memcg;
}

/*
 * Who pays for a change: the cgroup of the VMM as it is now. An mm whose last
 * thread has exited, and that something else still holds, has no owner, and is
 * charged to nobody: then it is the cgroup in which the region was made.
 */
static struct mem_cgroup *get_payer(const struct vmem_region *region)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(region->kvm->mm);

	/* Asked for after that: an owner that has gone does not come back. */
	if (has_owner(region->kvm->mm))
		return memcg;
	mem_cgroup_put(memcg);
	return get_memcg(region->memcg);
}

/*
 * vmem_region_begin_batch() - begin to change memslots, from a work
 *
 * Until vmem_region_end_batch() the VMM is charged for all that the work
 * allocates.
 *
 * Return: 0; -ENODEV: the VMM has ended while the lock was waited for. What
 * follows then would answer for a VM that is gone, and allocate while the end of
 * an OOM victim waits for vm_lock.
 */
int vmem_region_begin_batch(struct vmem_region *region)
{
	int r = vmem_batch_lock(region->kvm);

	if (r)
		return r;
	if (!vmem_region_alive(region)) {
		vmem_batch_unlock(region->kvm);
		return -ENODEV;
	}
	region->payer = get_payer(region);
	set_active_memcg(region->payer);
	return 0;
}

void vmem_region_end_batch(struct vmem_region *region)
{
	set_active_memcg(NULL);
	mem_cgroup_put(region->payer);
	region->payer = NULL;
	vmem_batch_unlock(region->kvm);
}

/* A batch of the region's, between begin and end. */
int vmem_region_apply(struct vmem_region *region,
		      const struct vmem_change *changes, u32 nr,
		      u32 *bad_index)
{
	struct vmem_batch_result result;
	int r;

	r = vmem_batch_apply(region->kvm, changes, nr,
			     region->zap_ranges ? KVM_VMEM_BATCH_ZAP_RANGES : 0,
			     &region->gone, &result);
	*bad_index = result.bad_index;
	if (!r && result.zapped) {
		mutex_lock(&region->lock);
		if (result.zapped & KVM_VMEM_ZAPPED_BY_KVM)
			region->zaps_by_kvm++;
		else
			region->range_zaps++;
		mutex_unlock(&region->lock);
	}
	return r;
}

/* One batch over all populated slots, between begin and end. */
int vmem_region_change_populated(struct vmem_region *region,
				 enum vmem_change_kind kind)
{
	struct vmem_change *changes;
	u32 slot, bad_index, nr = 0;
	int r;

	if (!region->populated_slots)
		return 0;
	changes = vmem_region_alloc_changes(region, region->populated_slots,
					    kind != VMEM_CHANGE_FLAGS);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		if (region->slot_plugged[slot])
			nr = vmem_region_add_changes(region, slot, kind,
						     changes, nr);
	r = vmem_region_apply(region, changes, nr, &bad_index);
	kvfree(changes);
	return r;
}

/*
 * Is a memslot in the way? KVM's answer to creating all of the region's,
 * without creating them. Under slots_lock.
 */
int vmem_region_check_memslots(const struct vmem_region *region)
{
	struct vmem_batch_result result;
	struct vmem_change *changes;
	u32 slot, nr = 0;
	int r;

	changes = vmem_region_alloc_changes(region, region->nr_slots, false);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		nr = vmem_region_add_changes(region, slot, VMEM_CHANGE_CREATE,
					     changes, nr);
	r = vmem_batch_apply(region->kvm, changes, nr,
			     KVM_VMEM_BATCH_VALIDATE_ONLY, NULL, &result);
	kvfree(changes);
	return r;
}

/* The next slots from @slot on, with little memory. */
static int drop_some(struct vmem_region *region, u32 *slot)
{
	struct vmem_change changes[KVM_MAX_NR_ADDRESS_SPACES];
	u32 bad_index, nr, dropped = 0;
	int r;

	r = vmem_region_begin_batch(region);
	if (r)
		return r;
	for (; *slot < region->nr_slots && dropped < DROP_SLOTS; ++*slot) {
		if (!region->slot_plugged[*slot])
			continue;
		nr = vmem_region_add_changes(region, *slot, VMEM_CHANGE_DROP,
					     changes, 0);
		r = vmem_region_apply(region, changes, nr, &bad_index);
		if (r)
			break;
		dropped++;
	}
	vmem_region_end_batch(region);
	return r;
}

/*
 * The end of a region: its memslots go, those that are still as it made them.
 * Under region->vm_lock, which is dropped meanwhile where that takes long.
 */
int vmem_region_drop_memslots(struct vmem_region *region)
{
	u32 slot = 0;
	int r;

	lockdep_assert_held(&region->vm_lock);
	r = vmem_region_begin_batch(region);
	if (r)
		return r;
	r = vmem_region_change_populated(region, VMEM_CHANGE_DROP);
	vmem_region_end_batch(region);
	if (r != -ENOMEM)
		return r;
	do {
		r = drop_some(region, &slot);
		mutex_unlock(&region->vm_lock);
		cond_resched();
		mutex_lock(&region->vm_lock);
		if (!region->kvm)
			return -ENODEV;
	} while (!r && slot < region->nr_slots);
	return r;
}
