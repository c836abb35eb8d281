// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Restoring a region from a saved state, before a driver uses the device.
 *
 * Batches. Creating memslots is expensive, so all are created in one batch if
 * possible. One message to the kernel is one batch of at most
 * KVM_VMEM_MAX_RANGES ranges. Up to this number of saved runs are plugged
 * atomically by one message. If there are more runs, gaps between runs are
 * plugged as well, if that needs no further memslot. This leaves one range per
 * group of adjacent memslots. Then the gaps are unplugged again, which empties
 * no memslot and so changes none. More batches are only needed if there are
 * more groups than KVM_VMEM_MAX_RANGES, which takes small memslots and a very
 * fragmented state.
 *
 * Contents. The contents of memory are not touched: the VMM restores them
 * before or after this. The blocks that are plugged here are not owed.
 *
 * Failures. On a failure all blocks are unplugged again. If the daemon is
 * killed during a restore, the next daemon continues. Only the last step has a
 * request id, which the kernel stores. Without a request id, plugged blocks are
 * accepted as an interrupted restore if they include all saved blocks, and
 * otherwise only gaps. A region with a request id has been served since and is
 * left as it is: after a restart with the same command line, it is newer than
 * the file. So the last step is not undone if the kernel's answer to it was
 * lost: it may still be in the module's queue, and unplugging behind it would
 * leave an empty region with its request id. If the kernel did not carry it out,
 * the blocks of earlier messages stay plugged without a request id, and the
 * state has to be restored to a new region.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "common/size.h"
#include "device/restore.h"

/*
 * Request id of the last step of a restore. A region with a request id is not
 * restored again, so later changes survive a restart of the daemon.
 */
#define REQUEST_ID 1

/**
 * restore_check() - check that a saved state fits a region and its device
 * @saved: the saved state
 * @region: the region
 * @dev: the device
 * @err: set on error
 *
 * Return: 0, or -EINVAL.
 */
int restore_check(const struct save_state *saved,
		  const struct kernel_backing *region,
		  const struct virtio_mem *dev, struct error *err)
{
	const struct vmem_nl_region *state = &region->state;
	uint64_t missing = saved->features & ~virtio_mem_features(dev);
	char was[SIZE_TEXT_MAX], is[SIZE_TEXT_MAX];

	if (saved->gpa != state->gpa)
		return error_set(err, -EINVAL,
				 "the saved region is at 0x%" PRIx64
				 ", this one at 0x%" PRIx64,
				 saved->gpa, state->gpa);
	if (saved->region_size != state->size) {
		return error_set(err, -EINVAL,
				 "the saved region has %s, this one %s",
				 size_format_exact(saved->region_size, was),
				 size_format_exact(state->size, is));
	}
	if (saved->block_size != state->block_size)
		return error_set(
			err, -EINVAL,
			"the saved region has blocks of %s, this one of %s",
			size_format_exact(saved->block_size, was),
			size_format_exact(state->block_size, is));
	if (missing) {
		return error_set(
			err, -EINVAL,
			"the saved device offers features that this one does "
			"not: 0x%" PRIx64 "%s",
			missing,
			missing & 1ULL << VIRTIO_MEM_F_ACPI_PXM
				? " (it has a --node)"
				: "");
	}
	if (saved->features & 1ULL << VIRTIO_MEM_F_ACPI_PXM &&
	    saved->node != dev->node_id)
		return error_set(
			err, -EINVAL,
			"the saved device belongs to node %u, this one to %u",
			saved->node, dev->node_id);
	return 0;
}

static uint64_t nr_runs(const struct blocks *blocks)
{
	uint64_t at = 0, nr = 0;

	while ((at = blocks_next(blocks, at, true)) < blocks->nr) {
		at = blocks_next(blocks, at, false);
		nr++;
	}
	return nr;
}

static int copy(struct blocks *to, const struct blocks *from)
{
	int ret = blocks_init(to, from->nr);

	if (!ret)
		blocks_add(to, from);
	return ret;
}

/**
 * restore_cover() - merge runs of blocks across gaps that need no memslot
 * @wanted: blocks to restore
 * @blocks_per_slot: blocks per memslot
 * @cover: initialised on success: @wanted and the gaps
 *
 * Return: 0, or -ENOMEM.
 */
int restore_cover(const struct blocks *wanted, uint64_t blocks_per_slot,
		  struct blocks *cover)
{
	uint64_t gap, next, at = 0;
	int ret;

	ret = copy(cover, wanted);
	if (ret)
		return ret;
	at = blocks_next(wanted, 0, true);
	while (at < wanted->nr) {
		gap = blocks_next(wanted, at, false);
		next = blocks_next(wanted, gap, true);
		/* The gap contains no whole memslot. */
		if (next < wanted->nr &&
		    next / blocks_per_slot - (gap - 1) / blocks_per_slot <= 1)
			blocks_set(cover, gap, next - gap);
		at = next;
	}
	return 0;
}

static struct vmem_nl_name name_of(const struct kernel_backing *region)
{
	return VMEM_NL_BY_FD(region->fd);
}

/* Up to one message's number of runs from @at on. Return: their number. */
static size_t next_ranges(const struct backing *backing,
			  const struct blocks *blocks, uint64_t *at,
			  struct vmem_nl_range *ranges)
{
	size_t nr = 0;

	while (nr < KVM_VMEM_MAX_RANGES &&
	       (*at = blocks_next(blocks, *at, true)) < blocks->nr) {
		uint64_t end = blocks_next(blocks, *at, false);

		ranges[nr++] = (struct vmem_nl_range){
			.gpa = backing->gpa + *at * backing->block_size,
			.size = (end - *at) * backing->block_size,
		};
		*at = end;
	}
	*at = blocks_next(blocks, *at, true);
	return nr;
}

/*
 * Plug or unplug blocks with as few messages as possible.
 * @last: this is the last step of the restore
 * @unknown: set if the answer to the message with the request id was lost: it
 *	may still be carried out
 */
static int change(struct kernel_backing *region, bool plug,
		  const struct blocks *blocks, bool last, bool *unknown,
		  struct error *err)
{
	struct vmem_nl_range *ranges;
	uint64_t at = 0, id = 0;
	int ret = 0;
	size_t nr;

	ranges = calloc(KVM_VMEM_MAX_RANGES, sizeof(*ranges));
	if (!ranges)
		return error_set(err, -ENOMEM, "out of memory");
	while (!ret && at < blocks->nr) {
		nr = next_ranges(&region->backing, blocks, &at, ranges);
		if (!nr)
			break;
		id = last && at >= blocks->nr ? REQUEST_ID : 0;
		ret = plug ? vmem_nl_plug(region->nl, name_of(region), id,
					  ranges, nr, NULL, err)
			   : vmem_nl_unplug(region->nl, name_of(region), id,
					    ranges, nr, NULL, err);
	}
	*unknown = ret && id && vmem_nl_failure(region->nl)->unknown;
	free(ranges);
	return ret;
}

/* The blocks of a saved state. */
static int saved_blocks(const struct backing *backing,
			const struct save_state *saved, struct blocks *blocks)
{
	int ret = blocks_init(blocks, backing->plugged.nr);

	for (uint64_t i = 0; !ret && i < saved->nr_runs; i++)
		blocks_set(blocks,
			   (saved->runs[i].gpa - backing->gpa) /
				   backing->block_size,
			   saved->runs[i].size / backing->block_size);
	return ret;
}

/* Is @part a subset of @whole? Return: 1, 0, or an errno. */
static int contains(const struct blocks *whole, const struct blocks *part)
{
	struct blocks rest;
	int ret;

	ret = copy(&rest, part);
	if (ret)
		return ret;
	blocks_remove(&rest, whole);
	ret = !rest.set;
	blocks_free(&rest);
	return ret;
}

/* Allocate the memory before plugging, as for a plug by the guest. */
static int allocate(const struct kernel_backing *region,
		    const struct save_state *saved, struct error *err)
{
	int ret = 0;

	for (uint64_t i = 0; !ret && i < saved->nr_runs; i++)
		ret = memory_allocate(&region->memory,
				      saved->runs[i].gpa - region->backing.gpa,
				      saved->runs[i].size, err);
	return ret;
}

/* Complete the restore of a state without plugged blocks. */
static int plug_nothing(struct kernel_backing *region, struct error *err)
{
	return vmem_nl_unplug_all(region->nl, name_of(region), REQUEST_ID, NULL,
				  err);
}

/* First step: plug all wanted blocks, and gaps if needed. */
static int plug_cover(struct kernel_backing *region,
		      const struct blocks *wanted, const struct blocks *cover,
		      bool *unknown, struct error *err)
{
	uint64_t runs = nr_runs(cover);

	if (runs > KVM_VMEM_MAX_RANGES)
		log_info_of(region->label,
			    "restoring %" PRIu64
			    " groups of memslots takes more "
			    "than one batch: %d at a time",
			    runs, KVM_VMEM_MAX_RANGES);
	return change(region, true, cover, cover->set == wanted->set, unknown,
		      err);
}

/* Second step: unplug the gaps. */
static int unplug_gaps(struct kernel_backing *region,
		       const struct blocks *wanted, bool *unknown,
		       struct error *err)
{
	struct blocks gaps;
	int ret;

	ret = kernel_reload(region, err);
	if (ret)
		return ret;
	ret = copy(&gaps, &region->backing.plugged);
	if (ret)
		return error_set(err, ret, "out of memory");
	blocks_remove(&gaps, wanted);
	if (gaps.set)
		ret = change(region, false, &gaps, true, unknown, err);
	blocks_free(&gaps);
	return ret ? ret : kernel_reload(region, err);
}

/*
 * Unplug the blocks of a restore that failed, unless its last step may have
 * been carried out: the next vmemd leaves a region with a request id as it is,
 * so the blocks have to stay.
 */
static void undo(struct kernel_backing *region)
{
	struct vmem_nl_region state;
	struct error err;
	int ret;

	ret = vmem_nl_region_get(region->nl, name_of(region), &state, &err);
	if (!ret && state.request_id)
		return;
	if (!ret)
		ret = vmem_nl_unplug_all(region->nl, name_of(region), 0, NULL,
					 &err);
	if (ret)
		log_err_of(region->label,
			   "the restored blocks cannot be unplugged: %s",
			   err.text);
}

static int bring_to(struct kernel_backing *region,
		    const struct save_state *saved, const struct blocks *wanted,
		    const struct blocks *cover, struct error *err)
{
	const struct blocks *plugged = &region->backing.plugged;
	bool from_nothing = !plugged->set, unknown = false;
	int ret = 0;

	if (!from_nothing &&
	    (contains(plugged, wanted) != 1 || contains(cover, plugged) != 1))
		return error_set(
			err, -EEXIST,
			"the region has other blocks plugged than the saved "
			"ones");
	if (region->state.requested_size != saved->requested_size)
		ret = vmem_nl_region_set(
			region->nl, name_of(region), VMEM_NL_SET_REQUESTED_SIZE,
			saved->requested_size, false, NULL, err);
	if (!ret && region->prealloc)
		ret = allocate(region, saved, err);
	if (!ret && from_nothing)
		ret = wanted->set
			      ? plug_cover(region, wanted, cover, &unknown, err)
			      : plug_nothing(region, err);
	if (!ret)
		ret = unplug_gaps(region, wanted, &unknown, err);
	if (ret && from_nothing && !unknown)
		undo(region);
	return ret;
}

/**
 * restore_region() - restore plugged blocks and requested size of a region
 * @region: attached, without a device
 * @saved: the saved state, checked by restore_check()
 * @err: set on error
 *
 * On an error, the blocks that this function plugged are unplugged again, except
 * if all of them are there and only reading them has failed, or if the kernel's
 * answer to the last step was lost.
 *
 * Return: 0; 1: the region was served before and was left as it is; -EEXIST:
 * other blocks are plugged; an errno of netlink's.
 */
int restore_region(struct kernel_backing *region,
		   const struct save_state *saved, struct error *err)
{
	uint64_t per_slot = region->state.slot_size / region->state.block_size;
	struct blocks wanted, cover;
	int ret;

	if (region->state.request_id)
		return 1;
	ret = saved_blocks(&region->backing, saved, &wanted);
	if (ret)
		goto no_memory;
	if (saved->nr_runs <= KVM_VMEM_MAX_RANGES)
		ret = copy(&cover, &wanted);
	else
		ret = restore_cover(&wanted, per_slot, &cover);
	if (ret)
		goto free_wanted;
	ret = bring_to(region, saved, &wanted, &cover, err);
	if (ret)
		error_wrap(err, ret, "restore");
	blocks_free(&cover);
	blocks_free(&wanted);
	return ret;

free_wanted:
	blocks_free(&wanted);
no_memory:
	return error_set(err, ret, "restore: out of memory");
}
