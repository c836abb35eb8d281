// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtio-mem device model (virtio 1.3, section 5.15): configuration space,
 * and the four requests with their answers. It does not depend on queues,
 * sockets or the kernel; struct backing executes its decisions.
 *
 * Answers. ERROR means that the guest broke the specification, and nothing
 * else: the Linux driver stops using the device on ERROR. If the host cannot
 * execute a valid request, the answer is BUSY, and the guest tries again later.
 * NACK means that a plug exceeds the requested size, and nothing else: the
 * driver tries again at once.
 *
 * Usable region. The guest may plug blocks in the usable region: the requested
 * size plus VIRTIO_MEM_USABLE_EXTRA, at most the region. The usable region
 * grows with the requested size. It must not shrink while a driver relies on
 * it, so it only shrinks when all blocks are unplugged: by UNPLUG_ALL or a
 * reset of the system. Its size is not stored persistently. After a restart on
 * a region that was in use, the whole region is usable, since any smaller size
 * could be a shrink.
 *
 * Requests. One request is in progress at a time. It may wait for the backing,
 * or for memory to be discarded. Then virtio_mem_handle() returns without an
 * answer, and dev->answered() is called later. A request may contradict the set
 * of plugged blocks that the backing knows. This set may be out of date, since
 * other processes may hold the region. So the backing verifies the set before
 * the answer is ERROR, and before a request is ignored as already executed.
 *
 * Memory. When a block is unplugged, its memslot is removed (if no other block
 * of the memslot is plugged) before its memory is discarded, so that the guest
 * cannot fault the memory in again. Until the memory is discarded, the block is
 * in the backing's set of owed blocks. An owed block is discarded before it is
 * plugged again, because a plugged block must not expose old contents. Most
 * memory is discarded before the guest gets its answer. virtio_mem_work()
 * discards the rest in slices, including blocks for which discarding failed. It
 * gets its turn regardless of the number of requests, and it proceeds round
 * robin, so that a guest which keeps unplugging the same blocks does not delay
 * others.
 *
 * A sweep discards the memory of all unplugged blocks, whether or not they are
 * known to have any. It has its own share of each turn of virtio_mem_work(). A
 * sweep starts with the device, because an earlier daemon may have been killed
 * between unplugging and discarding.
 *
 * Blocks that another process has unplugged are owed as well. That process
 * should discard them, but this device guarantees that a newly plugged block
 * reads zero. A process that plugs blocks with contents is safe: the backing
 * checks the kernel's state before it discards. Blocks that are restored from a
 * file are plugged before the device starts and are never owed.
 *
 * A guest may plug a range and unplug the same range right away, although more
 * memory is requested. This means that it could not use the memory: the driver
 * plugs blocks before it adds them to Linux, and unplugs them if adding fails.
 * The device does not learn the cause. It records the event for the status
 * (@given_back).
 *
 * Suspend. A driver resets the device when its system suspends, and sets it up
 * again on wakeup. A reset of the device changes no block (see below), so no
 * further support for suspend is needed, and PERSISTENT_SUSPEND is always
 * offered for a region in the kernel. Without this feature, Linux 6.10 and
 * later does not suspend to RAM while memory is plugged. The VMM only has to
 * keep the VM and its region, and must not report the wakeup as a reset of the
 * system. The feature is not offered if the front end maps the memory: QEMU
 * treats a wakeup as a reset and drops the mappings, so the resuming kernel
 * would lose its memory. Suspend to idle resets nothing and works with any
 * backing.
 *
 * Hold. During a migration the VMM copies the plugged blocks, so blocks and
 * memslots must not change. Valid requests to plug or unplug are answered BUSY
 * then. Requests that change nothing are answered as usual.
 *
 * Lost state. A backing may be attached to a guest that has blocks, without
 * knowing which. BUSY is the only correct answer then: the guest may already
 * have the blocks that it plugs, and a block that it unplugs may be in any
 * state. The plugged size includes all blocks that the guest may have, so that
 * the driver of a new system sends UNPLUG_ALL. UNPLUG_ALL and a reset of the
 * system end this state. Until then no configuration change is notified: Linux
 * would read the plugged size, warn that it differs from its own, and adopt it.
 * The requested size can be changed; the guest is notified of it afterwards.
 *
 * Reset. A reset of the device changes no block. A reset of the system unplugs
 * all blocks and shrinks the usable region, like UNPLUG_ALL, but there is no
 * answer, and the driver, if any, is notified. vhost-user has no message for
 * it, so blocks are only unplugged before the new system runs if the VMM
 * reports the reset (virtio_mem_system_reset()). Otherwise the driver of the
 * new system finds plugged_size != 0 and sends UNPLUG_ALL, as specified.
 *
 * A reset of the system is handled as the current request. It waits for a
 * request in progress, and new requests wait in the ring. The specification
 * allows the geometry to change with it; the geometry of a region is fixed.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "common/min_max.h"
#include "device/virtio_mem.h"

static const char *const request_names[] = {
	[VIRTIO_MEM_PLUG] = "plug",
	[VIRTIO_MEM_UNPLUG] = "unplug",
	[VIRTIO_MEM_UNPLUG_ALL] = "unplug_all",
	[VIRTIO_MEM_STATE] = "state",
};

static const char *const answer_names[] = {
	[VIRTIO_MEM_ACK] = "ack",
	[VIRTIO_MEM_NACK] = "nack",
	[VIRTIO_MEM_BUSY] = "busy",
	[VIRTIO_MEM_ERROR] = "error",
};

const char *virtio_mem_request_name(enum virtio_mem_request request)
{
	return request_names[request];
}

const char *virtio_mem_answer_name(enum virtio_mem_answer answer)
{
	return answer_names[answer];
}

uint64_t virtio_mem_plugged_size(const struct virtio_mem *dev)
{
	return dev->backing->plugged.set * dev->backing->block_size;
}

/* Is the set of blocks that the guest has plugged unknown? */
bool virtio_mem_lost(const struct virtio_mem *dev)
{
	return dev->backing && dev->backing->lost;
}

/* Number of the block at @gpa, which is inside the region. */
static uint64_t block_of(const struct virtio_mem *dev, uint64_t gpa)
{
	return (gpa - dev->backing->gpa) / dev->backing->block_size;
}

/**
 * virtio_mem_accessible() - length of guest memory without unplugged blocks
 * @dev: the device
 * @gpa: start of the range, inside the region or not
 * @size: bytes in the range
 *
 * Return: number of bytes from @gpa on, up to @size, before the first unplugged
 * block.
 */
uint64_t virtio_mem_accessible(const struct virtio_mem *dev, uint64_t gpa,
			       uint64_t size)
{
	const struct backing *backing = dev->backing;
	uint64_t offset, end;

	/* Nothing can be plugged before the region's address is known. */
	if (!backing || !backing->placed)
		return size;
	/* The caller asks again from the region's start on. */
	if (gpa < backing->gpa)
		return min(size, backing->gpa - gpa);
	offset = gpa - backing->gpa;
	if (offset >= backing->size || !size)
		return size;
	size = min(size, backing->size - offset);
	/* Search only the blocks of the range. */
	end = (offset + size - 1) / backing->block_size + 1;
	end = blocks_next_until(&backing->plugged, block_of(dev, gpa), end,
				false);
	/* @offset may be within the first block that is not plugged. */
	end = max(end * backing->block_size, offset);
	return min(size, end - offset);
}

/* Is @gpa in the region, and unknown whether the guest has plugged it? */
bool virtio_mem_unread(const struct virtio_mem *dev, uint64_t gpa)
{
	const struct backing *backing = dev->backing;

	return backing && backing->placed && backing->unread &&
	       gpa >= backing->gpa && gpa - backing->gpa < backing->size;
}

/*
 * The smallest usable region that is allowed now: the requested size with
 * VIRTIO_MEM_USABLE_EXTRA, rounded up to whole blocks, and all plugged blocks.
 */
static uint64_t usable_minimum(const struct virtio_mem *dev)
{
	const struct backing *backing = dev->backing;
	uint64_t end = blocks_end(&backing->plugged) * backing->block_size;
	uint64_t usable = 0;

	if (dev->requested_size) {
		usable = dev->requested_size;
		if (backing->size - usable <= VIRTIO_MEM_USABLE_EXTRA)
			usable = backing->size;
		else
			usable += VIRTIO_MEM_USABLE_EXTRA;
		usable += -usable & (backing->block_size - 1);
	}
	return max(usable, end);
}

/* Return: whether the usable region grew. */
static bool grow_usable(struct virtio_mem *dev)
{
	uint64_t usable = usable_minimum(dev);

	if (usable <= dev->usable_region_size)
		return false;
	dev->usable_region_size = usable;
	return true;
}

static void note_changed(struct virtio_mem *dev)
{
	if (dev->changed)
		dev->changed(dev->arg);
}

static void config_changed(struct virtio_mem *dev)
{
	if (dev->config_changed)
		dev->config_changed(dev->arg);
	note_changed(dev);
}

static void want_work(struct virtio_mem *dev)
{
	if (dev->work)
		dev->work(dev->arg);
}

/*
 * Discard owed blocks, for a limited time.
 * @at: first block; on return, the block at which to continue. A block that
 *	could not be discarded is skipped, so that it does not delay others
 * @end: end of the blocks, exclusive
 * @most: maximum number of bytes
 * @kept: increased by the number of blocks that stay owed because consumers may
 *	map them
 *
 * Return: 0: no other block is owed any more; -EINPROGRESS: some are; an errno.
 */
static int discard_blocks(struct virtio_mem *dev, uint64_t *at, uint64_t end,
			  uint64_t most, uint64_t *kept)
{
	struct backing *backing = dev->backing;
	uint64_t budget = most / backing->block_size;
	bool skip;
	int ret;

	if (!budget)
		budget = 1;
	while ((*at = blocks_next_until(&backing->owed, *at, end, true)) <
	       end) {
		uint64_t first = *at, stop, next;

		if (!budget || work_enough(dev->work_done))
			return -EINPROGRESS;
		stop = end - first > budget ? first + budget : end;
		next = blocks_next_until(&backing->owed, first, stop, false);
		next = backing_kept(backing, first, next, &skip);
		if (skip) {
			*kept += next - first;
			*at = next;
			continue;
		}
		ret = backing_discard(
			backing, backing->gpa + first * backing->block_size,
			(next - first) * backing->block_size);
		work_add(dev->work_done,
			 WORK_CALL_STEPS + (next - first) *
						   backing->block_size /
						   WORK_STEP_BYTES);
		if (ret != -EAGAIN)
			*at = next;
		if (ret)
			return ret;
		blocks_clear(&backing->owed, first, next - first);
		budget -= next - first;
	}
	return 0;
}

/* The same for the range of a request, which waits for all of it. */
static int discard_owed(struct virtio_mem *dev, uint64_t gpa, uint64_t size,
			uint64_t most)
{
	uint64_t first = block_of(dev, gpa), kept = 0;
	int ret;

	ret = discard_blocks(dev, &first,
			     first + size / dev->backing->block_size, most,
			     &kept);
	return !ret && kept ? -EBUSY : ret;
}

/*
 * Discard a slice of the owed blocks, starting where the last slice ended. A pass
 * over all blocks may take many turns. If it finds no owed blocks but those that
 * consumers may map, the next pass waits until one of them is released, or for some
 * time.
 *
 * Return: see discard_blocks(); applies to all blocks.
 */
static int discard_slice(struct virtio_mem *dev)
{
	struct blocks *owed = &dev->backing->owed;
	int ret;

	if (blocks_next(owed, dev->next_owed, true) == owed->nr)
		dev->next_owed = 0;
	if (!dev->next_owed)
		dev->kept_owed = 0;
	ret = discard_blocks(dev, &dev->next_owed, owed->nr,
			     BACKING_DISCARD_SLICE, &dev->kept_owed);
	if (ret || !owed->set)
		return ret;
	/* The pass has ended. Other blocks may have become owed behind it. */
	return dev->kept_owed == owed->set && !virtio_mem_sweeping(dev)
		       ? -EBUSY
		       : -EINPROGRESS;
}

static void complain_of_owed(struct virtio_mem *dev)
{
	log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
		    "memory of unplugged blocks cannot be given back: %s; "
		    "tried again later, and before they are plugged",
		    dev->backing->error.text);
}

/* Discard a range, or leave it for later. */
static void discard(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	int ret = discard_owed(dev, gpa, size, BACKING_DISCARD_MAX);

	if (ret < 0 && ret != -EINPROGRESS && ret != -EAGAIN)
		complain_of_owed(dev);
}

/* Add the unswept blocks of an unplugged range to the owed ones. */
static void sweep_range(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	struct backing *backing = dev->backing;
	uint64_t first = block_of(dev, gpa);
	uint64_t end = first + size / backing->block_size;

	if (first < dev->sweep)
		first = dev->sweep;
	if (first < end)
		blocks_set(&backing->owed, first, end - first);
}

/*
 * First unplugged block at or after @from that may have memory. The first sweep
 * skips holes of the memory file, so that it does not visit all of a large
 * region of which little was used. A file reports a hole also for memory that
 * was allocated and never written. A guest can allocate memory this way, so
 * later sweeps do not skip holes.
 */
static uint64_t next_unplugged(const struct virtio_mem *dev, uint64_t from)
{
	struct backing *backing = dev->backing;
	uint64_t next = blocks_next(&backing->plugged, from, false);

	if (!dev->first_sweep || !backing->ops->next_memory ||
	    next >= backing->plugged.nr)
		return next;
	work_add(dev->work_done, WORK_CALL_STEPS);
	next = backing->ops->next_memory(backing, next);
	return blocks_next(&backing->plugged, next, false);
}

/*
 * A slice of a sweep. Blocks that cannot be discarded now become owed.
 *
 * Return: 0, or an errno.
 */
static int sweep_slice(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;
	uint64_t budget = BACKING_DISCARD_SLICE / backing->block_size;
	uint64_t kept = 0;
	int ret = 0;

	if (!budget)
		budget = 1;
	while (!ret && budget && virtio_mem_sweeping(dev) &&
	       !work_enough(dev->work_done)) {
		uint64_t nr = backing->plugged.nr;
		uint64_t first = next_unplugged(dev, dev->sweep);
		uint64_t end = first + min(nr - first, budget);

		end = blocks_next_until(&backing->plugged, first, end, true);
		blocks_set(&backing->owed, first, end - first);
		dev->sweep = end;
		budget -= end - first;
		ret = discard_blocks(dev, &first, end, BACKING_DISCARD_SLICE,
				     &kept);
	}
	/* Blocks beyond the limits of this turn stay owed. */
	return ret == -EINPROGRESS || ret == -EAGAIN ? 0 : ret;
}

/**
 * virtio_mem_sweep() - start to discard the memory of all unplugged blocks
 * @dev: the device
 *
 * virtio_mem_work() executes the sweep in slices. A block that is to be plugged
 * before the sweep reaches it is discarded first.
 */
void virtio_mem_sweep(struct virtio_mem *dev)
{
	dev->sweep = 0;
	dev->first_sweep = false;
	want_work(dev);
}

bool virtio_mem_sweeping(const struct virtio_mem *dev)
{
	return dev->backing && dev->sweep < dev->backing->plugged.nr;
}

/* Bytes in unplugged blocks that still have to be discarded. */
uint64_t virtio_mem_undiscarded_size(const struct virtio_mem *dev)
{
	const struct backing *backing = dev->backing;
	uint64_t nr = backing->owed.set, from = dev->sweep, left;

	if (dev->first_sweep && virtio_mem_sweeping(dev)) {
		left = backing->owed.nr - from;
		nr += left - blocks_count(&backing->plugged, from, left) -
		      blocks_count(&backing->owed, from, left);
	}
	return nr * backing->block_size;
}

/* The same, plus the memory that a plug in progress may have allocated. */
uint64_t virtio_mem_owed_size(const struct virtio_mem *dev)
{
	const struct virtio_mem_current *current = &dev->current;
	uint64_t size = virtio_mem_undiscarded_size(dev);

	if (current->active && current->request == VIRTIO_MEM_PLUG)
		size += current->size;
	return size;
}

/* Is there memory to discard? */
static bool owes(const struct virtio_mem *dev)
{
	return dev->backing->owed.set || virtio_mem_sweeping(dev);
}

static void on_done(void *arg, int result);
static void on_lost_changed(void *arg);
static void on_released(void *arg);

/**
 * virtio_mem_start() - start the device on a backing
 * @dev: zeroed except for what its owner sets: label, node, callbacks and
 *	@work_done
 * @backing: geometry and current state
 * @requested_size: a multiple of the block size, at most the region's size
 * @used_before: a driver may have used the device already
 */
void virtio_mem_start(struct virtio_mem *dev, struct backing *backing,
		      uint64_t requested_size, bool used_before)
{
	dev->backing = backing;
	backing->done = on_done;
	backing->lost_changed = on_lost_changed;
	backing->released = on_released;
	backing->arg = dev;
	dev->sweep = 0;
	dev->first_sweep = true;
	dev->next_owed = 0;
	dev->kept_owed = 0;
	backing_count(backing, dev->work_done);
	dev->requested_size = requested_size;
	dev->usable_region_size =
		used_before ? backing->size : usable_minimum(dev);
	want_work(dev);
}

/**
 * virtio_mem_keep_usable() - set the lower bound of a restored usable region
 * @dev: the device
 * @size: bytes that a driver may rely on; a multiple of the block size, at most
 *	the region's size
 */
void virtio_mem_keep_usable(struct virtio_mem *dev, uint64_t size)
{
	if (size > dev->usable_region_size)
		dev->usable_region_size = size;
}

void virtio_mem_stop(struct virtio_mem *dev)
{
	if (dev->backing) {
		dev->backing->done = NULL;
		dev->backing->lost_changed = NULL;
		dev->backing->released = NULL;
	}
	dev->backing = NULL;
	memset(&dev->current, 0, sizeof(dev->current));
	dev->reset_wanted = false;
}

/* Offered feature bits: the device-specific ones and VIRTIO_F_VERSION_1. */
uint64_t virtio_mem_features(const struct virtio_mem *dev)
{
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;

	/* Without a backing: a device to be restored, always in the kernel. */
	if (!dev->backing || !dev->backing->lost_at_reset)
		features |= 1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND;
	if (dev->has_node)
		features |= 1ULL << VIRTIO_MEM_F_ACPI_PXM;
	return features;
}

/*
 * Without UNPLUGGED_INACCESSIBLE the driver could read unplugged memory, which
 * has no memslot; the specification lets the device refuse that.
 */
bool virtio_mem_features_ok(uint64_t features)
{
	uint64_t needed = 1ULL << VIRTIO_F_VERSION_1 |
			  1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;

	return (features & needed) == needed;
}

/*
 * The current configuration space, little-endian. As long as the region's
 * address is unknown, it describes a device without memory, which the Linux
 * driver refuses to probe.
 */
void virtio_mem_config(const struct virtio_mem *dev,
		       struct virtio_mem_config *config)
{
	memset(config, 0, sizeof(*config));
	config->block_size = htole64(dev->backing->block_size);
	config->node_id = htole16(dev->has_node ? dev->node_id : 0);
	if (!dev->backing->placed)
		return;
	config->addr = htole64(dev->backing->gpa);
	config->region_size = htole64(dev->backing->size);
	config->usable_region_size = htole64(dev->usable_region_size);
	config->plugged_size = htole64(virtio_mem_plugged_size(dev));
	config->requested_size = htole64(dev->requested_size);
}

/**
 * virtio_mem_set_requested() - change the requested size
 * @dev: the device
 * @requested_size: a multiple of the block size, at most the region's size
 */
void virtio_mem_set_requested(struct virtio_mem *dev, uint64_t requested_size)
{
	if (dev->requested_size == requested_size)
		return;
	dev->requested_size = requested_size;
	dev->given_back = false;
	grow_usable(dev);
	config_changed(dev);
}

/**
 * virtio_mem_hold() - suspend or resume plugging and unplugging
 * @dev: the device
 * @on: true: suspend; false: resume
 *
 * A request in progress is completed, see virtio_mem_busy(). On resume the
 * driver is notified, so that it tries again at once.
 */
void virtio_mem_hold(struct virtio_mem *dev, bool on)
{
	if (dev->held == on)
		return;
	dev->held = on;
	if (on)
		note_changed(dev);
	else
		config_changed(dev);
}

/* Another process has plugged or unplugged blocks of the backing. */
void virtio_mem_backing_changed(struct virtio_mem *dev)
{
	if (grow_usable(dev))
		config_changed(dev);
	else
		note_changed(dev);
	if (owes(dev))
		want_work(dev);
}

/*
 * Is the range whole blocks of the usable region? The count has 16 bits, so
 * that only a block size of 2^48 and more could overflow.
 */
static bool valid_range(const struct virtio_mem *dev, uint64_t gpa,
			uint16_t nr_blocks, uint64_t *size)
{
	const struct backing *backing = dev->backing;
	uint64_t offset;

	if (!nr_blocks)
		return false;
	if (gpa < backing->gpa || (gpa - backing->gpa) % backing->block_size)
		return false;
	if (__builtin_mul_overflow(nr_blocks, backing->block_size, size))
		return false;
	offset = gpa - backing->gpa;
	return offset < dev->usable_region_size &&
	       *size <= dev->usable_region_size - offset;
}

/*
 * Is the region's address known? A driver does not use a device without one,
 * unless it probed the device while an earlier daemon knew the address.
 */
static int check_placed(struct virtio_mem *dev)
{
	if (dev->backing->placed)
		return 0;
	return error_set(
		&dev->backing->error, -EADDRNOTAVAIL,
		"the region's guest address is unknown: set it with \"vmemctl "
		"place\"");
}

/* The host cannot execute a valid request now. */
static enum virtio_mem_answer busy(struct virtio_mem *dev,
				   enum virtio_mem_request request)
{
	dev->last_failure = dev->backing->error;
	if (dev->current.system_reset)
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "blocks stay plugged over a reset of the system: "
			    "%s",
			    dev->last_failure.text);
	else
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "%s answered busy: %s", request_names[request],
			    dev->last_failure.text);
	return VIRTIO_MEM_BUSY;
}

/*
 * The request contradicts the set of plugged blocks. Verify the set, and check
 * whether the request repeats one whose answer was lost.
 * @all: all blocks of the request are already in the state that it wants
 *
 * Return: an answer; -EAGAIN: judge again; -EINPROGRESS; an errno.
 */
static int contradicted(struct virtio_mem *dev, bool all)
{
	struct virtio_mem_current *current = &dev->current;
	struct backing *backing = dev->backing;
	int ret;

	if (!current->verified) {
		ret = backing_verify(backing);
		if (ret < 0)
			return ret;
		current->verified = true;
		if (ret)
			return -EAGAIN;
	}
	current->wrong = current->request == VIRTIO_MEM_PLUG
				 ? "blocks that are plugged already"
				 : "blocks that are not plugged";
	if (!all)
		return VIRTIO_MEM_ERROR;
	current->step = VIRTIO_MEM_REPEATING;
	return backing_repeat(backing, current->request == VIRTIO_MEM_PLUG,
			      current->gpa, current->size);
}

/* The current request has been executed: update @last_plug, @given_back. */
static void note_plugged(struct virtio_mem *dev)
{
	const struct virtio_mem_current *current = &dev->current;

	if (current->request == VIRTIO_MEM_PLUG) {
		/* The guest kept the plug before: it can use memory. */
		if (dev->last_plug.size)
			dev->given_back = false;
		dev->last_plug.gpa = current->gpa;
		dev->last_plug.size = current->size;
		return;
	}
	dev->given_back = current->request == VIRTIO_MEM_UNPLUG &&
			  current->gpa == dev->last_plug.gpa &&
			  current->size == dev->last_plug.size &&
			  virtio_mem_plugged_size(dev) < dev->requested_size;
	dev->last_plug.size = 0;
}

/* May blocks be changed? Not called for requests that change none. */
static int check_held(struct virtio_mem *dev)
{
	if (!dev->held)
		return 0;
	return error_set(&dev->backing->error, -EBUSY,
			 "held for a migration (vmemctl hold)");
}

/* Is the state known? Without it, no request can be judged an ERROR. */
static int check_known(struct virtio_mem *dev)
{
	if (!dev->backing->lost)
		return 0;
	return error_set(
		&dev->backing->error, -ENODATA,
		"the state was lost: the plugged blocks are unknown until the "
		"guest unplugs all or its system is reset");
}

static int plug(struct virtio_mem *dev)
{
	struct virtio_mem_current *current = &dev->current;
	struct backing *backing = dev->backing;
	uint64_t plugged = virtio_mem_plugged_size(dev);
	uint64_t in_range;
	int ret;

	ret = check_known(dev);
	if (ret)
		return ret;
	in_range = blocks_count(&backing->plugged, block_of(dev, current->gpa),
				current->nr_blocks);
	if (in_range)
		return contradicted(dev, in_range == current->nr_blocks);
	if (plugged > dev->requested_size ||
	    current->size > dev->requested_size - plugged)
		return VIRTIO_MEM_NACK;
	ret = check_held(dev);
	if (ret)
		return ret;
	/* The guest must not see old contents: discard them first. */
	if (!current->swept)
		sweep_range(dev, current->gpa, current->size);
	/* Once is enough: on the next call they may have been discarded. */
	current->swept = true;
	ret = discard_owed(dev, current->gpa, current->size,
			   BACKING_DISCARD_MAX);
	if (ret)
		return ret;
	current->step = VIRTIO_MEM_CHANGING;
	return backing_plug(backing, current->gpa, current->size);
}

static int unplug(struct virtio_mem *dev)
{
	struct virtio_mem_current *current = &dev->current;
	struct backing *backing = dev->backing;
	uint64_t in_range;
	int ret;

	ret = check_known(dev);
	if (ret)
		return ret;
	in_range = blocks_count(&backing->plugged, block_of(dev, current->gpa),
				current->nr_blocks);
	if (in_range != current->nr_blocks)
		return contradicted(dev, !in_range);
	ret = check_held(dev);
	if (ret)
		return ret;
	current->step = VIRTIO_MEM_CHANGING;
	return backing_unplug(backing, current->gpa, current->size);
}

static int unplug_all(struct virtio_mem *dev)
{
	struct virtio_mem_current *current = &dev->current;
	struct backing *backing = dev->backing;
	int ret;

	if (!backing->plugged.set && !current->verified) {
		ret = backing_verify(backing);
		if (ret < 0)
			return ret;
		current->verified = true;
	}
	if (backing->plugged.set) {
		ret = check_held(dev);
		if (ret)
			return ret;
	}
	current->step = VIRTIO_MEM_CHANGING;
	if (!backing->plugged.set)
		return 0;
	return backing_unplug_all(backing);
}

static int judge(struct virtio_mem *dev)
{
	int ret;

	/* Wait first: the state may change while the backing waits. */
	if (!dev->current.awaited) {
		dev->current.step = VIRTIO_MEM_AWAITING;
		ret = backing_await(dev->backing);
		if (ret)
			return ret;
		dev->current.awaited = true;
	}
	dev->current.step = VIRTIO_MEM_JUDGING;
	switch (dev->current.request) {
	case VIRTIO_MEM_PLUG:
		return plug(dev);
	case VIRTIO_MEM_UNPLUG:
		return unplug(dev);
	default:
		return unplug_all(dev);
	}
}

/*
 * Continue the current request after a step that returned @ret.
 *
 * Return: an enum virtio_mem_answer, or -EINPROGRESS.
 */
static int go_on_current(struct virtio_mem *dev, int ret)
{
	struct virtio_mem_current *current = &dev->current;

	if (!ret && current->step == VIRTIO_MEM_AWAITING) {
		current->awaited = true;
		ret = judge(dev);
	}
	while (ret == -EAGAIN && !current->again) {
		current->again = true;
		ret = judge(dev);
	}
	if (ret == -EINPROGRESS)
		return ret;
	if (ret == -EINVAL && current->step == VIRTIO_MEM_REPEATING)
		return VIRTIO_MEM_ERROR;
	if (ret < 0)
		return busy(dev, current->request);
	if (current->step != VIRTIO_MEM_CHANGING)
		return ret;
	note_plugged(dev);
	if (current->request == VIRTIO_MEM_UNPLUG) {
		discard(dev, current->gpa, current->size);
	} else if (current->request == VIRTIO_MEM_UNPLUG_ALL) {
		discard(dev, dev->backing->gpa, dev->backing->size);
		/* As specified, without a configuration change notification. */
		dev->usable_region_size = usable_minimum(dev);
	}
	return VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer state(struct virtio_mem *dev, uint16_t *result)
{
	const struct virtio_mem_current *current = &dev->current;
	uint64_t plugged;

	plugged = blocks_count(&dev->backing->plugged,
			       block_of(dev, current->gpa), current->nr_blocks);
	if (!plugged)
		*result = VIRTIO_MEM_STATE_UNPLUGGED;
	else if (plugged == current->nr_blocks)
		*result = VIRTIO_MEM_STATE_PLUGGED;
	else
		*result = VIRTIO_MEM_STATE_MIXED;
	return VIRTIO_MEM_ACK;
}

static void respond(struct virtio_mem *dev, enum virtio_mem_answer answer,
		    uint16_t result, struct virtio_mem_resp *resp)
{
	static const uint16_t types[] = {
		[VIRTIO_MEM_ACK] = VIRTIO_MEM_RESP_ACK,
		[VIRTIO_MEM_NACK] = VIRTIO_MEM_RESP_NACK,
		[VIRTIO_MEM_BUSY] = VIRTIO_MEM_RESP_BUSY,
		[VIRTIO_MEM_ERROR] = VIRTIO_MEM_RESP_ERROR,
	};
	struct virtio_mem_current *current = &dev->current;
	enum virtio_mem_request request = current->request;

	memset(resp, 0, sizeof(*resp));
	resp->type = htole16(types[answer]);
	resp->u.state.state = htole16(result);
	dev->answers[request][answer]++;
	latency_add(&dev->latencies[request],
		    latency_now_ns() - current->began_ns);
	if (answer == VIRTIO_MEM_ERROR)
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "%s of %u blocks at 0x%" PRIx64
			    " answered error, the guest's fault: %s",
			    request_names[request], current->nr_blocks,
			    current->gpa, current->wrong);
	else if (answer == VIRTIO_MEM_NACK)
		log_limited(&dev->limit, LOG_LEVEL_INFO, dev->label,
			    "plug of %u blocks at 0x%" PRIx64
			    " answered nack: more than requested",
			    current->nr_blocks, current->gpa);
	else
		log_debug_of(dev->label, "%s of %u blocks at 0x%" PRIx64 ": %s",
			     request_names[request], current->nr_blocks,
			     current->gpa, answer_names[answer]);
	current->active = false;
	if (request == VIRTIO_MEM_STATE)
		return;
	if (answer == VIRTIO_MEM_ACK)
		dev->last_failure = (struct error){0};
	note_changed(dev);
	if (owes(dev))
		want_work(dev);
}

static int begin_reset(struct virtio_mem *dev);

/* Start a reset that has waited for the current request to end. */
static void reset_if_wanted(struct virtio_mem *dev)
{
	int ret;

	if (!dev->reset_wanted)
		return;
	dev->reset_wanted = false;
	ret = begin_reset(dev);
	if (ret != -EINPROGRESS && dev->system_reset)
		dev->system_reset(dev->arg, ret);
}

/* Return: 0, or -EBUSY. */
static int end_reset(struct virtio_mem *dev, enum virtio_mem_answer answer)
{
	dev->current.active = false;
	if (answer == VIRTIO_MEM_ACK) {
		dev->last_failure = (struct error){0};
		log_limited(&dev->limit, LOG_LEVEL_INFO, dev->label,
			    "the system was reset: all blocks are unplugged");
		config_changed(dev);
	} else {
		note_changed(dev);
	}
	if (owes(dev))
		want_work(dev);
	return answer == VIRTIO_MEM_ACK ? 0 : -EBUSY;
}

/* Continue the current request after a step, and deliver its answer. */
static void advance_current(struct virtio_mem *dev, int ret)
{
	struct virtio_mem_current *current = &dev->current;
	struct virtio_mem_resp resp;

	ret = go_on_current(dev, ret);
	if (ret == -EINPROGRESS) {
		if (current->step == VIRTIO_MEM_JUDGING)
			want_work(dev);
		return;
	}
	if (current->system_reset) {
		ret = end_reset(dev, (enum virtio_mem_answer)ret);
		if (dev->system_reset)
			dev->system_reset(dev->arg, ret);
		return;
	}
	respond(dev, (enum virtio_mem_answer)ret, 0, &resp);
	if (!dev->answered || !dev->answered(dev->arg, &resp))
		backing_answer_lost(dev->backing);
	reset_if_wanted(dev);
}

static int begin_reset(struct virtio_mem *dev)
{
	int ret;

	dev->current = (struct virtio_mem_current){
		.active = true,
		.system_reset = true,
		.request = VIRTIO_MEM_UNPLUG_ALL,
	};
	ret = go_on_current(dev, judge(dev));
	if (ret == -EINPROGRESS)
		return ret;
	return end_reset(dev, (enum virtio_mem_answer)ret);
}

/**
 * virtio_mem_system_reset() - unplug all blocks for a reset of the system
 * @dev: the device
 *
 * Must not be called for a reset of the device or a wakeup from suspend, since
 * the guest loses all memory of the device.
 *
 * Return: 0; -EINPROGRESS: dev->system_reset() will be called; -EALREADY: a
 * reset is in progress; -EBUSY with the backing's error: nothing was changed.
 */
int virtio_mem_system_reset(struct virtio_mem *dev)
{
	if (dev->reset_wanted ||
	    (dev->current.active && dev->current.system_reset))
		return -EALREADY;
	if (!dev->current.active)
		return begin_reset(dev);
	dev->reset_wanted = true;
	return -EINPROGRESS;
}

/* The backing has completed the step that the current request waits for. */
static void on_done(void *arg, int result)
{
	advance_current(arg, result);
}

/* The state has been lost, or is known again. */
static void on_lost_changed(void *arg)
{
	struct virtio_mem *dev = arg;

	/* The usable region's former size is unknown, too. */
	if (dev->backing->lost) {
		dev->usable_region_size = dev->backing->size;
		note_changed(dev);
	} else {
		config_changed(dev);
		if (owes(dev))
			want_work(dev);
	}
}

/* Blocks that could not be discarded may be discarded now. */
static void on_released(void *arg)
{
	struct virtio_mem *dev = arg;

	if (owes(dev))
		want_work(dev);
}

/**
 * virtio_mem_work() - do a slice of the background work
 * @dev: the device
 *
 * To be called after dev->work(), and again while it returns 1.
 *
 * Return: 1: there is more work; 0: there is none; an errno: work failed, call
 * again some time later.
 */
int virtio_mem_work(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;
	int swept, ret;

	if (!backing)
		return 0;
	if (dev->current.active) {
		/* Discarding is part of the request, or the backing is busy. */
		if (dev->current.step == VIRTIO_MEM_JUDGING)
			advance_current(dev, judge(dev));
		return 0;
	}
	/* After an error the next call is much later, so always do both. */
	swept = sweep_slice(dev);
	ret = discard_slice(dev);
	if (swept)
		ret = swept;
	if (ret == -EINPROGRESS || ret == -EAGAIN)
		return 1;
	if (ret < 0)
		complain_of_owed(dev);
	return ret ? ret : owes(dev);
}

/* Is a request in progress? No other may be started then. */
bool virtio_mem_busy(const struct virtio_mem *dev)
{
	return dev->current.active;
}

static const struct {
	uint16_t type;
	enum virtio_mem_request request;
} request_types[] = {
	{VIRTIO_MEM_REQ_PLUG, VIRTIO_MEM_PLUG},
	{VIRTIO_MEM_REQ_UNPLUG, VIRTIO_MEM_UNPLUG},
	{VIRTIO_MEM_REQ_UNPLUG_ALL, VIRTIO_MEM_UNPLUG_ALL},
	{VIRTIO_MEM_REQ_STATE, VIRTIO_MEM_STATE},
};

/**
 * virtio_mem_handle() - execute a request of the driver
 * @dev: the device; not busy
 * @req: the request as written by the guest (little-endian, unchecked)
 * @resp: set to the response for the guest (little-endian)
 *
 * Return: true: @resp is set; false: dev->answered() will be called with the
 * response.
 */
bool virtio_mem_handle(struct virtio_mem *dev, const struct virtio_mem_req *req,
		       struct virtio_mem_resp *resp)
{
	struct virtio_mem_current *current = &dev->current;
	uint16_t type = le16toh(req->type), result = 0;
	size_t i, nr = sizeof(request_types) / sizeof(request_types[0]);
	int ret;

	for (i = 0; i < nr && request_types[i].type != type; i++)
		;
	if (i == nr) {
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "unknown request type %u of the guest", type);
		memset(resp, 0, sizeof(*resp));
		resp->type = htole16(VIRTIO_MEM_RESP_ERROR);
		return true;
	}
	/* The layout of the range is the same in all three requests. */
	*current = (struct virtio_mem_current){
		.active = true,
		.request = request_types[i].request,
		.gpa = le64toh(req->u.plug.addr),
		.nr_blocks = le16toh(req->u.plug.nb_blocks),
		.began_ns = latency_now_ns(),
		.wrong = "not whole blocks of the usable region",
	};
	ret = check_placed(dev);
	if (ret && current->request != VIRTIO_MEM_STATE)
		ret = go_on_current(dev, ret);
	else if (current->request != VIRTIO_MEM_UNPLUG_ALL &&
		 !valid_range(dev, current->gpa, current->nr_blocks,
			      &current->size))
		ret = VIRTIO_MEM_ERROR;
	else if (current->request == VIRTIO_MEM_STATE)
		ret = state(dev, &result);
	else
		ret = go_on_current(dev, judge(dev));
	if (ret == -EINPROGRESS) {
		if (current->step == VIRTIO_MEM_JUDGING)
			want_work(dev);
		return false;
	}
	respond(dev, (enum virtio_mem_answer)ret, result, resp);
	return true;
}
