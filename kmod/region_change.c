// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of a region: blocks are plugged and unplugged, the requested size and
 * dirty logging are set.
 *
 * A request changes the bits and the memslots together or neither: the batch goes
 * first, and what follows it cannot fail. A request checks all memslots that
 * contain its blocks, including those that it does not change, and fails with
 * ESTALE if one is not as the region made it.
 *
 * Changes are made by jobs, one at a time, see region_job.c. So they read the
 * region's state without a lock. They take region->lock only to update what
 * readers see, sums over all blocks and slots included: work proportional to
 * their number is never done under that lock. Bitmaps and counts of slots are
 * written without the lock. A reader detects that by region->updates, see
 * region_dump.c.
 */
#include <linux/bitmap.h>
#include <linux/lockdep.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "batch.h"
#include "region.h"
#include "region_change.h"
#include "region_internal.h"
#include "region_job.h"
#include "region_memslots.h"

/* Blocks of a request in one slot. */
struct slot_blocks {
	u32 slot;
	u32 blocks;
};

static void tell_readers(struct vmem_region *region)
{
	atomic64_inc(&region->changes);
	wake_up_poll(&region->wait, EPOLLIN | EPOLLRDNORM);
}

static int compare_ranges(const void *a, const void *b)
{
	const struct vmem_range *ra = a, *rb = b;

	return ra->first < rb->first ? -1 : ra->first > rb->first;
}

static int fault(struct vmem_fault *f, int range, const char *reason, int err)
{
	f->range = range;
	f->reason = reason;
	return err;
}

/*
 * vmem_region_alloc_ranges() - room for the ranges of a request, for its job
 * @f: out, on error: the reason, for the sender
 *
 * Charged to the cgroup in which the region was made. At its limit an unplug has
 * the spare for them, too.
 *
 * Return: 0; -ENODEV if the request will not be carried out; -ENOMEM.
 */
int vmem_region_alloc_ranges(struct vmem_region *region,
			     struct vmem_request *req, struct vmem_fault *f)
{
	struct mem_cgroup *old;

	*f = (struct vmem_fault) {
		.range = -1,
		.reason = vmem_region_refuses(region),
	};
	if (f->reason)
		return -ENODEV;
	old = set_active_memcg(region->memcg);
	req->ranges = vmem_batch_alloc(req->nr, sizeof(*req->ranges),
				       req->type == VMEM_REQUEST_UNPLUG);
	set_active_memcg(old);
	return req->ranges ? 0 : -ENOMEM;
}

/*
 * Which of two ranges that overlap comes later in the request: its index there.
 * One that only begins where either does overlaps as well.
 */
static int later_of(const struct vmem_request *req, const struct vmem_range *a,
		    const struct vmem_range *b)
{
	int i = req->nr;

	while (--i > 0)
		if (req->ranges[i].first == a->first ||
		    req->ranges[i].first == b->first)
			break;
	return i;
}

/*
 * The ranges of a request, ascending and inside the region, all their blocks
 * plugged or all not.
 */
static int check_ranges(const struct vmem_region *region,
			const struct vmem_request *req,
			const struct vmem_range *sorted, struct vmem_fault *f)
{
	bool plug = req->type == VMEM_REQUEST_PLUG;
	u32 i;

	/* First, so that what follows looks at each block once at most. */
	for (i = 1; i < req->nr; i++)
		if (sorted[i - 1].first + sorted[i - 1].nr > sorted[i].first)
			return fault(f, later_of(req, &sorted[i - 1], &sorted[i]),
				     "ranges overlap", -EINVAL);
	for (i = 0; i < req->nr; i++) {
		const struct vmem_range *range = &req->ranges[i];
		u64 end = range->first + range->nr;

		if (plug && find_next_bit(region->plugged, end, range->first) < end)
			return fault(f, i, "a block is plugged already", -EEXIST);
		if (!plug && find_next_zero_bit(region->plugged, end,
						range->first) < end)
			return fault(f, i, "a block is not plugged", -ENXIO);
		cond_resched();
	}
	return 0;
}

/* Spread sorted ranges over slots, each slot once; how many slots. */
static u32 spread_ranges(const struct vmem_region *region,
			 const struct vmem_range *sorted, u32 nr,
			 struct slot_blocks *slots)
{
	u32 i, nr_slots = 0;

	for (i = 0; i < nr; i++) {
		u64 block = sorted[i].first;
		u64 end = block + sorted[i].nr;

		while (block < end) {
			u32 slot = div64_u64(block, region->blocks_per_slot);
			u64 slot_end = (slot + 1) * region->blocks_per_slot;
			u32 blocks = min(end, slot_end) - block;

			if (!nr_slots || slots[nr_slots - 1].slot != slot)
				slots[nr_slots++] = (struct slot_blocks) {
					.slot = slot,
				};
			slots[nr_slots - 1].blocks += blocks;
			block += blocks;
		}
	}
	return nr_slots;
}

/* How many slots sorted ranges may touch, at most. */
static u32 count_slots(const struct vmem_region *region,
		       const struct vmem_range *sorted, u32 nr)
{
	u64 total = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		u64 last = sorted[i].first + sorted[i].nr - 1;

		total += div64_u64(last, region->blocks_per_slot) -
			 div64_u64(sorted[i].first, region->blocks_per_slot) + 1;
	}
	return min_t(u64, total, region->nr_slots);
}

/* What a plug or unplug means for a slot's memslots. */
static enum vmem_change_kind slot_change(const struct vmem_region *region,
					 enum vmem_request_type type,
					 const struct slot_blocks *s)
{
	u32 plugged = region->slot_plugged[s->slot];

	if (type == VMEM_REQUEST_PLUG && !plugged)
		return VMEM_CHANGE_CREATE;
	if (type == VMEM_REQUEST_UNPLUG && plugged == s->blocks)
		return VMEM_CHANGE_DELETE;
	return VMEM_CHANGE_EXPECT;
}

/* Readers without the lock may see a part of what is written in between. */
static void begin_update(struct vmem_region *region)
{
	WRITE_ONCE(region->updates, region->updates + 1);
	/* The count before what it announces; see vmem_region_dump_seq(). */
	smp_wmb();
}

static void end_update(struct vmem_region *region)
{
	/* What was announced before the count. */
	smp_wmb();
	WRITE_ONCE(region->updates, region->updates + 1);
}

/* Set or clear the bits of a range, and keep the counts of its chunks. */
static void mark_range(struct vmem_region *region,
		       const struct vmem_range *range, bool plugged)
{
	u64 block = range->first, end = range->first + range->nr;

	while (block < end) {
		u64 chunk = block >> CHUNK_SHIFT;
		u32 nr = min(end, (chunk + 1) << CHUNK_SHIFT) - block;

		if (plugged) {
			bitmap_set(region->plugged, block, nr);
			region->chunk_plugged[chunk] += nr;
		} else {
			bitmap_clear(region->plugged, block, nr);
			region->chunk_plugged[chunk] -= nr;
		}
		block += nr;
		cond_resched();
	}
}

/* What readers see of all blocks and slots together. Under region->lock. */
static void set_counts(struct vmem_region *region, u64 blocks, u32 populated,
		       const struct vmem_metadata *full)
{
	lockdep_assert_held(&region->lock);
	region->plugged_blocks = blocks;
	region->populated_slots = populated;
	region->full_metadata = *full;
}

static void plug_blocks(struct vmem_region *region,
			const struct vmem_range *ranges, u32 nr,
			const struct slot_blocks *slots, u32 nr_slots)
{
	struct vmem_metadata full = region->full_metadata, one;
	u32 i, populated = region->populated_slots;
	u64 blocks = region->plugged_blocks;

	begin_update(region);
	for (i = 0; i < nr; i++) {
		mark_range(region, &ranges[i], true);
		blocks += ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		u32 slot = slots[i].slot;

		if (!region->slot_plugged[slot]) {
			populated++;
			set_bit(slot, region->populated);
			vmem_region_slot_metadata(region, slot, &one);
			vmem_metadata_add(&full, &one, 1);
		}
		region->slot_plugged[slot] += slots[i].blocks;
	}
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, blocks, populated, &full);
	mutex_unlock(&region->lock);
}

static void unplug_blocks(struct vmem_region *region,
			  const struct vmem_range *ranges, u32 nr,
			  const struct slot_blocks *slots, u32 nr_slots)
{
	struct vmem_metadata full = region->full_metadata, one;
	u32 i, populated = region->populated_slots;
	u64 blocks = region->plugged_blocks;

	begin_update(region);
	for (i = 0; i < nr; i++) {
		mark_range(region, &ranges[i], false);
		blocks -= ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		u32 slot = slots[i].slot;

		region->slot_plugged[slot] -= slots[i].blocks;
		if (!region->slot_plugged[slot]) {
			populated--;
			clear_bit(slot, region->populated);
			vmem_region_slot_metadata(region, slot, &one);
			vmem_metadata_sub(&full, &one);
		}
	}
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, blocks, populated, &full);
	mutex_unlock(&region->lock);
}

/* Which range of a request has blocks in a slot? */
static int range_in_slot(const struct vmem_region *region,
			 const struct vmem_request *req, u32 slot)
{
	u64 first = slot * region->blocks_per_slot;
	u32 i;

	for (i = 0; i < req->nr; i++)
		if (vmem_ranges_meet(req->ranges[i].first, req->ranges[i].nr,
				     first, region->blocks_per_slot))
			return i;
	return -1;
}

/* Between begin and end of a batch. */
static int change_blocks(struct vmem_region *region,
			 const struct vmem_request *req, struct vmem_fault *f)
{
	bool spare = req->type == VMEM_REQUEST_UNPLUG;
	struct vmem_range *sorted = NULL;
	struct slot_blocks *slots = NULL;
	struct vmem_change *changes = NULL;
	u32 i, nr_slots, bad_index, nr = 0;
	int r = -ENOMEM;

	sorted = vmem_batch_alloc(req->nr, sizeof(*sorted), spare);
	if (!sorted)
		goto out;
	memcpy(sorted, req->ranges, array_size(req->nr, sizeof(*sorted)));
	sort(sorted, req->nr, sizeof(*sorted), compare_ranges, NULL);
	r = check_ranges(region, req, sorted, f);
	if (r)
		goto out;

	r = -ENOMEM;
	nr_slots = count_slots(region, sorted, req->nr);
	slots = vmem_batch_alloc(nr_slots, sizeof(*slots), spare);
	changes = vmem_region_alloc_changes(region, nr_slots, spare);
	if (!slots || !changes)
		goto out;
	nr_slots = spread_ranges(region, sorted, req->nr, slots);
	for (i = 0; i < nr_slots; i++)
		nr = vmem_region_add_changes(region, slots[i].slot,
					     slot_change(region, req->type,
							 &slots[i]),
					     changes, nr);
	r = vmem_region_apply(region, changes, nr, &bad_index);
	if (r) {
		if (bad_index < nr) {
			i = bad_index / vmem_region_nr_address_spaces(region);
			f->range = range_in_slot(region, req, slots[i].slot);
		}
		goto out;
	}

	if (req->type == VMEM_REQUEST_PLUG)
		plug_blocks(region, sorted, req->nr, slots, nr_slots);
	else
		unplug_blocks(region, sorted, req->nr, slots, nr_slots);
out:
	kvfree(changes);
	kvfree(slots);
	kvfree(sorted);
	return r;
}

/* Between begin and end of a batch. */
static int unplug_all(struct vmem_region *region)
{
	static const struct vmem_metadata none;
	int r = vmem_region_change_populated(region, VMEM_CHANGE_DELETE);

	if (r)
		return r;
	begin_update(region);
	bitmap_zero(region->plugged, region->nr_blocks);
	memset(region->chunk_plugged, 0,
	       DIV_ROUND_UP(region->nr_blocks, CHUNK_BLOCKS) *
	       sizeof(*region->chunk_plugged));
	memset(region->slot_plugged, 0,
	       region->nr_slots * sizeof(*region->slot_plugged));
	bitmap_zero(region->populated, region->nr_slots);
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, 0, 0, &none);
	mutex_unlock(&region->lock);
	return 0;
}

/*
 * The mark of a request, by which a repeated one is recognised. The ranges are
 * not kept: they take memory that a VMM at the limit of its cgroup may not have.
 * The key is secret, so that a guest, who chooses the ranges that vmemd sends,
 * cannot make two requests look the same.
 */
static struct vmem_request_mark mark_of(const struct vmem_region *region,
					const struct vmem_request *req)
{
	return (struct vmem_request_mark) {
		.type = req->type,
		.id = req->id,
		.nr = req->nr,
		.hash = siphash(req->ranges,
				array_size(req->nr, sizeof(*req->ranges)),
				&region->mark_key),
	};
}

static bool same_request(const struct vmem_request_mark *a,
			 const struct vmem_request_mark *b)
{
	return a->type == b->type && a->nr == b->nr && a->hash == b->hash;
}

static const char *explain(struct vmem_region *region, int err)
{
	switch (err) {
	case -ENODEV:
		return vmem_region_why_ended(region);
	case -ESTALE:
		return "a memslot of the region was changed by someone else";
	case -EEXIST:
		return "a memslot made by someone else is in the way";
	case -ENOMEM:
		return "not enough memory for the memslots' metadata";
	default:
		return NULL;
	}
}

/*
 * May a request be carried out? Not if the VM has ended; nor if the region has and
 * the request, which did not wait for credit for that, goes without. If it may,
 * the VM is there until vm_lock is dropped: the end of the mm marks the region as
 * gone before it drops the VM; and the end of the region, which drops the VM too,
 * is the last work of its lane.
 */
static int check_request(struct vmem_region *region, struct vmem_fault *f)
{
	lockdep_assert_held(&region->vm_lock);
	f->reason = vmem_region_refuses(region);
	if (f->reason || WARN_ON_ONCE(!region->kvm))
		return -ENODEV;
	return 0;
}

/* Under region->vm_lock. */
static int do_request(struct vmem_region *region,
		      const struct vmem_request *req,
		      struct vmem_answer *answer, struct vmem_fault *f)
{
	struct vmem_request_mark *last = &region->last_request;
	const struct vmem_request_mark mark = mark_of(region, req);
	int r;

	r = check_request(region, f);
	if (r)
		return r;
	if (req->id && req->id == last->id) {
		if (!same_request(&mark, last))
			return fault(f, -1, "another request had this request id",
				     -EINVAL);
		*answer = region->last_answer;
		return 0;
	}

	r = vmem_region_begin_batch(region);
	if (r)
		goto out;
	vmem_region_set_changing(region, true);
	r = req->type == VMEM_REQUEST_UNPLUG_ALL ? unplug_all(region) :
						   change_blocks(region, req, f);
	vmem_region_set_changing(region, false);
	vmem_region_end_batch(region);
	if (r)
		goto out;

	mutex_lock(&region->lock);
	answer->plugged_size = region->plugged_blocks * region->block_size;
	answer->populated_slots = region->populated_slots;
	if (req->id) {
		*last = mark;
		region->last_answer = *answer;
	}
	tell_readers(region);
	mutex_unlock(&region->lock);
	vmem_region_ops->changed(region);
out:
	if (r && !f->reason)
		f->reason = explain(region, r);
	return r;
}

/*
 * vmem_region_request() - plug or unplug blocks, from a work of the region
 * @region: the region
 * @req: what to do, its ranges checked to lie in the region
 * @answer: out: the state after it
 * @f: out, on error: the reason, for the sender
 *
 * Return: 0, or an error of block-plug and block-unplug in kvm_vmem.yaml.
 */
int vmem_region_request(struct vmem_region *region,
			const struct vmem_request *req,
			struct vmem_answer *answer, struct vmem_fault *f)
{
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	mutex_lock(&region->vm_lock);
	r = do_request(region, req, answer, f);
	mutex_unlock(&region->vm_lock);
	return r;
}

static int set_dirty_log(struct vmem_region *region, bool on)
{
	bool was_on = region->dirty_log;
	int r;

	r = vmem_region_begin_batch(region);
	if (r)
		return r;
	mutex_lock(&region->lock);
	region->dirty_log = on;
	vmem_region_mark_changing(region, true);
	mutex_unlock(&region->lock);
	/* Also where nothing changes here: the VMM may have flipped some. */
	r = vmem_region_change_populated(region, VMEM_CHANGE_FLAGS);
	mutex_lock(&region->lock);
	vmem_region_mark_changing(region, false);
	if (r)
		region->dirty_log = was_on;
	mutex_unlock(&region->lock);
	vmem_region_end_batch(region);
	return r;
}

/* Under region->vm_lock. */
static int do_set(struct vmem_region *region, const u64 *requested_size,
		  const bool *dirty_log, struct vmem_fault *f)
{
	int r;

	lockdep_assert_held(&region->vm_lock);
	if (requested_size) {
		if (!IS_ALIGNED(*requested_size, region->block_size))
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "not a multiple of the block size",
				     -EINVAL);
		if (*requested_size > region->size)
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "larger than the region", -ERANGE);
	}
	r = check_request(region, f);
	if (r)
		return r;
	if (dirty_log) {
		r = set_dirty_log(region, *dirty_log);
		if (r)
			return fault(f, VMEM_SET_DIRTY_LOG,
				     explain(region, r), r);
	}

	mutex_lock(&region->lock);
	if (requested_size)
		region->requested_size = *requested_size;
	tell_readers(region);
	mutex_unlock(&region->lock);
	vmem_region_ops->changed(region);
	return 0;
}

/*
 * vmem_region_set() - change the requested size, dirty logging, or both, from
 *	a work of the region
 * @requested_size: bytes, or NULL
 * @dirty_log: on or off for all populated slots and those to come, or NULL
 * @f: out, on error: the reason, for the sender
 *
 * Return: 0, or an error of region-set in kvm_vmem.yaml, with nothing changed.
 */
int vmem_region_set(struct vmem_region *region, const u64 *requested_size,
		    const bool *dirty_log, struct vmem_fault *f)
{
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	mutex_lock(&region->vm_lock);
	r = do_set(region, requested_size, dirty_log, f);
	mutex_unlock(&region->vm_lock);
	return r;
}
