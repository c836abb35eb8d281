// SPDX-License-Identifier: GPL-2.0-only
/*
 * What readers see of a region: metadata, runs of plugged blocks, populated slots.
 *
 * Readers access KVM's memslots inside kvm->srcu, like vCPUs. They take no lock of
 * KVM and never wait for a change, so they see the current memslots, even in the
 * middle of a change. They cannot distinguish then whether the change or the VMM
 * has removed a memslot. So no memslot is reported as stale while region->changing
 * is set.
 *
 * Work proportional to the number of blocks or slots is never done under
 * region->lock, which netlink's handlers take, nor by a handler before it has data
 * to send. Metadata is therefore the sum, by geometry, of all kinds that KVM can
 * have, which changes maintain; one memslot shows which of them KVM has now. Bitmaps
 * and counts are read without the lock. A reader detects a concurrent change by
 * vmem_region_dump_seq().
 */
#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/srcu.h>

#include "compat.h"
#include "memslot.h"
#include "region.h"
#include "region_dump.h"
#include "region_internal.h"
#include "region_memslots.h"

/*
 * Add up one slot over its address spaces, inside kvm->srcu. False if KVM has
 * other memslots.
 */
static bool add_slot_metadata(struct vmem_region *region, u32 slot,
			      struct vmem_metadata *sum)
{
	struct kvm_userspace_memory_region mem;
	bool as_described = true;
	int as_id;

	for_each_set_bit(as_id, &region->as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		struct kvm_memory_slot *memslot;

		vmem_region_describe_slot(region, slot, as_id, &mem);
		memslot = vmem_memslot_find_at(region->kvm, as_id,
					       gpa_to_gfn(mem.guest_phys_addr),
					       region->first_slot + slot);
		if (vmem_memslot_is_plain(memslot, &mem))
			vmem_memslot_add_metadata(memslot, sum);
		else
			as_described = false;
	}
	return as_described;
}

/*
 * vmem_region_metadata() - what KVM holds for all populated slots
 *
 * Under region->lock, at the same cost for one slot and for all. It is the sum
 * over the memslots that the region has made, each as it was made. One that the
 * VMM has deleted or changed behind the region's back still counts, and counts
 * as made: only looking at it would tell, which vmem_region_next_slot() does.
 */
void vmem_region_metadata(struct vmem_region *region,
			  struct vmem_metadata *sum)
{
	int idx;

	lockdep_assert_held(&region->lock);
	*sum = (struct vmem_metadata) {};
	/* What is left then is about to go, and nobody's any more. */
	if (!region->kvm || !vmem_region_alive(region))
		return;
	vmem_metadata_add(sum, &region->full_metadata,
			  vmem_region_nr_address_spaces(region));
	idx = srcu_read_lock(&region->kvm->srcu);
	vmem_memslot_present_metadata(region->kvm, region->dirty_log, sum);
	srcu_read_unlock(&region->kvm->srcu, idx);
}

/*
 * vmem_region_whole_metadata() - what KVM would hold if the region were one
 *	memslot in each of its address spaces
 *
 * Under region->lock.
 *
 * Return: false if that is not known.
 */
bool vmem_region_whole_metadata(struct vmem_region *region,
				struct vmem_metadata *sum)
{
	struct vmem_metadata whole;
	bool known;
	int idx;

	lockdep_assert_held(&region->lock);
	*sum = (struct vmem_metadata) {};
	if (!region->kvm || !vmem_region_alive(region))
		return false;
	vmem_memslot_full_metadata(gpa_to_gfn(region->gpa),
				   region->size >> PAGE_SHIFT, &whole);
	vmem_metadata_add(sum, &whole, vmem_region_nr_address_spaces(region));
	idx = srcu_read_lock(&region->kvm->srcu);
	known = vmem_memslot_present_metadata(region->kvm, region->dirty_log,
					      sum);
	srcu_read_unlock(&region->kvm->srcu, idx);
	return known;
}

/*
 * vmem_region_dump_seq() - number by which a dump detects a change
 * @last: what was returned before, 0 at first
 *
 * Asked for before and after each look. Not 0, and never the same twice while a
 * change is being written.
 */
u32 vmem_region_dump_seq(struct vmem_region *region, u32 last)
{
	u32 updates, seq;

	/* The look that was before, then the count; see begin_update(). */
	smp_rmb();
	updates = READ_ONCE(region->updates);
	seq = ((u32)atomic64_read(&region->changes) + updates) | BIT(31);
	if (updates & 1 && seq == last)
		seq ^= BIT(30);
	/* The count, then the look that follows; see end_update(). */
	smp_rmb();
	return seq;
}

/* The next block from @block on that is plugged, or is not; else nr_blocks. */
static u64 next_block(const struct vmem_region *region, u64 block, bool plugged)
{
	while (block < region->nr_blocks) {
		u64 chunk = block >> CHUNK_SHIFT;
		u64 end = min(region->nr_blocks, (chunk + 1) << CHUNK_SHIFT);
		u64 size = end - (chunk << CHUNK_SHIFT);
		u32 nr = READ_ONCE(region->chunk_plugged[chunk]);

		if (nr != (plugged ? 0 : size)) {
			block = plugged ?
				find_next_bit(region->plugged, end, block) :
				find_next_zero_bit(region->plugged, end, block);
			if (block < end)
				return block;
		}
		block = end;
	}
	return region->nr_blocks;
}

/*
 * vmem_region_next_run() - the next run of plugged blocks
 * @block: in: where to begin; out: the block after the run
 */
bool vmem_region_next_run(struct vmem_region *region, u64 *block,
			  struct vmem_range *run)
{
	u64 first = next_block(region, *block, true);

	if (first >= region->nr_blocks)
		return false;
	run->first = first;
	/* At least the block that was there: a change may be under way. */
	*block = next_block(region, first + 1, false);
	run->nr = *block - first;
	return true;
}

/* What KVM has for a populated slot. Under region->lock. */
static void look_at_slot(struct vmem_region *region, u32 index,
			 struct vmem_region_slot *slot)
{
	bool as_described;
	int idx;

	lockdep_assert_held(&region->lock);
	if (!region->kvm || !vmem_region_alive(region)) {
		slot->stale = true;
		return;
	}
	idx = srcu_read_lock(&region->kvm->srcu);
	as_described = add_slot_metadata(region, index, &slot->metadata);
	srcu_read_unlock(&region->kvm->srcu, idx);
	slot->has_metadata = true;
	slot->stale = !as_described && !region->changing;
}

/*
 * vmem_region_next_slot() - the next populated slot
 * @index: in: slot of the region to begin at; out: the one after it
 *
 * Return: false if there is none.
 */
bool vmem_region_next_slot(struct vmem_region *region, u32 *index,
			   struct vmem_region_slot *slot)
{
	u32 i, blocks;

	do {
		i = find_next_bit(region->populated, region->nr_slots, *index);
		if (i >= region->nr_slots)
			return false;
		*index = i + 1;
		blocks = READ_ONCE(region->slot_plugged[i]);
		/* None: it is being written. */
	} while (!blocks);
	*slot = (struct vmem_region_slot) {
		.id = region->first_slot + i,
		.gpa = region->gpa + i * region->slot_size,
		.hva = region->hva + i * region->slot_size,
		.size = vmem_region_slot_bytes(region, i),
		.plugged_size = blocks * region->block_size,
	};
	mutex_lock(&region->lock);
	look_at_slot(region, i, slot);
	mutex_unlock(&region->lock);
	return true;
}
