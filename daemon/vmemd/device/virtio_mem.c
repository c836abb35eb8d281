// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtio-mem device model (virtio 1.3, section 5.15): configuration space,
 * and the four requests with their answers. It knows nothing of queues,
 * sockets or the kernel; struct backing carries out what it decides.
 *
 * Answers. ERROR is for a guest that breaks the specification, and only for
 * that: the Linux driver gives the device up for good on ERROR. A host that
 * cannot carry out a valid request answers BUSY, and the guest tries again
 * later. NACK is for a plug beyond the requested size, and only for that: the
 * driver tries again at once.
 *
 * The usable region is what the guest may choose blocks from: the requested
 * size and VIRTIO_MEM_USABLE_EXTRA, at most the region. It grows at once when
 * the requested size does. It must not shrink under a driver that counts on
 * it, so it does only when all blocks are unplugged on the driver's request.
 * How far it had grown is not written down anywhere but here; after a restart
 * on a region that was in use the whole region is usable, which is the one
 * size that cannot have been larger before.
 *
 * Requests. There is one at a time, and it may wait: for the backing, or for
 * memory to be discarded. virtio_mem_handle() returns without an answer then,
 * and dev->answered() is called with it. What a request contradicts is judged
 * by what we believe to be plugged, and that may be out of date: others may
 * hold the region. So before the guest is told that it was wrong, and before
 * nothing is done because there is nothing to do, the backing verifies it.
 *
 * Memory. A block that is unplugged loses its memslot (where it was the last
 * in it) before its memory is given back, so that the guest cannot fault the
 * memory back in between. Until it is given back, the block is in the backing's
 * set of blocks that are owed; it is discarded before it is plugged again,
 * since a plugged block must not show old contents of another owner. Most is
 * discarded at once, before the guest is answered; the rest, and what could not
 * be, by virtio_mem_work(), a part at a time, which has its turn however many
 * requests a guest has. It goes round and round, so that a guest which always
 * owes the same blocks anew keeps no others waiting.
 *
 * A sweep gives back the memory of all unplugged blocks, also of those that are
 * not known to have any. It has a part of each turn of the work for itself. One
 * begins at the start, since a daemon that was killed in between has left some
 * behind.
 *
 * Blocks that somebody else has unplugged are owed as well. It would be his to
 * discard them, but we are the ones who tell the guest that a block it plugs
 * reads zero. Whoever plugs blocks with contents is not harmed: the backing looks
 * at the kernel's state before it discards. What is restored from a file is
 * plugged before the device starts, and never owed.
 *
 * A guest that plugs a range, and then unplugs just that, though it was asked
 * for more, could not use it: a driver plugs before it adds the memory to its
 * system, and takes the plug back if that fails. Nothing tells the device why;
 * it is noted for those who wonder why nothing goes on.
 *
 * Suspend. A driver that suspends its system resets the device, and sets it up
 * again when the system wakes: what is said of a reset below holds, and only
 * requests of a driver, or of whoever else holds the region, plug and unplug.
 * So nothing has to be known of suspend, and PERSISTENT_SUSPEND is offered:
 * Linux from 6.10 does not suspend to RAM without it while it has plugged
 * memory. There is no option to withhold it, since there is nothing that a VMM
 * would have to do for it but to leave the VM and its region there, and not to
 * take waking up for a reset of the system. It is not offered where the front
 * end maps the memory: QEMU drops the mappings when the guest wakes up, which to
 * QEMU is a reset, so the kernel that resumes would find its memory gone.
 * Suspend to idle resets nothing and works with any backing.
 *
 * Holding. While a VM is migrated, its VMM copies what is plugged, and the blocks
 * and memslots must stay as they are: valid requests are answered BUSY then, both
 * to plug and to unplug. Requests that change nothing are answered as ever.
 *
 * Losing the state. A backing may come to a guest that has blocks, and not know
 * which. Nothing that could be answered then is right but BUSY: what the guest
 * plugs it may have, and what it unplugs may be all it has. The plugged size
 * includes all that it may have, so that the driver of a new system unplugs all,
 * after which it is known that there is none; a reset of the system does as well.
 * Nobody says meanwhile that the configuration has changed: Linux would look at
 * the plugged size, warn that it is not what it has plugged, and believe it. The
 * requested size may be changed, and is heard of after that.
 *
 * Reset. A reset of the device changes no block. A reset of the system unplugs
 * all and shrinks the usable region, like UNPLUG_ALL, but nobody is answered
 * and the driver, if there is one, is notified. vhost-user has no message for
 * it, so only a VMM that says so (virtio_mem_system_reset()) has it before the
 * new system runs. Without, the driver of the new system finds plugged_size
 * != 0 and sends UNPLUG_ALL itself, as the specification has it.
 *
 * A reset of the system is the current request while it goes on, and waits for
 * one that does; requests wait for it in the ring. The geometry could change
 * with it by the specification; ours is the region's, and does not.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

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

/* Is it not known which blocks the guest has? */
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
 * virtio_mem_accessible() - memory that the guest has, as opposed to what is
 *	shared
 *
 * Return: how many of @size bytes from @gpa on are in no unplugged block.
 */
uint64_t virtio_mem_accessible(const struct virtio_mem *dev, uint64_t gpa,
			       uint64_t size)
{
	const struct backing *backing = dev->backing;
	uint64_t offset, end, left;

	/* Until it is known where the region is, nobody has blocks of it. */
	if (!backing || !backing->placed)
		return size;
	if (gpa < backing->gpa) {
		/* What is behind the region's start is asked for next. */
		left = backing->gpa - gpa;
		return size < left ? size : left;
	}
	offset = gpa - backing->gpa;
	if (offset >= backing->size || !size)
		return size;
	if (size > backing->size - offset)
		size = backing->size - offset;
	/* No more blocks are looked at than are asked for. */
	end = (offset + size - 1) / backing->block_size + 1;
	end = blocks_next_until(&backing->plugged, block_of(dev, gpa), end,
				false);
	left = end * backing->block_size;
	left = left > offset ? left - offset : 0;
	return size < left ? size : left;
}

/* Is memory in the region, and not known yet whether the guest has it? */
bool virtio_mem_unread(const struct virtio_mem *dev, uint64_t gpa)
{
	const struct backing *backing = dev->backing;

	return backing && backing->placed && backing->unread &&
	       gpa >= backing->gpa && gpa - backing->gpa < backing->size;
}

/*
 * What the usable region must have at least, by the present state. The last
 * block that VIRTIO_MEM_USABLE_EXTRA reaches into is usable as a whole: sizes
 * are multiples of the block size, and so is the region's.
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
	return usable > end ? usable : end;
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
 * Discard what is owed of blocks, but not for long.
 * @at: the first; where the next look is to begin, on return. One that could not
 *	be discarded is passed over: others are not to wait for it
 * @end: behind the last
 * @most: bytes
 *
 * Return: 0 nothing is owed any more; -EINPROGRESS some is; an errno.
 */
static int discard_blocks(struct virtio_mem *dev, uint64_t *at, uint64_t end,
			  uint64_t most)
{
	struct backing *backing = dev->backing;
	uint64_t budget = most / backing->block_size;
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

/* The same for a range, of which something waits for all of it. */
static int discard_owed(struct virtio_mem *dev, uint64_t gpa, uint64_t size,
			uint64_t most)
{
	uint64_t first = block_of(dev, gpa);

	return discard_blocks(dev, &first,
			      first + size / dev->backing->block_size, most);
}

/*
 * A slice of what is owed, from where the last one ended.
 *
 * Return: as of discard_blocks(), of all blocks.
 */
static int discard_slice(struct virtio_mem *dev)
{
	struct blocks *owed = &dev->backing->owed;
	int ret;

	if (blocks_next(owed, dev->next_owed, true) == owed->nr)
		dev->next_owed = 0;
	ret = discard_blocks(dev, &dev->next_owed, owed->nr,
			     BACKING_DISCARD_SLICE);
	/* What is left is before that: in the next turn. */
	return ret || !owed->set ? ret : -EINPROGRESS;
}

static void complain_of_owed(struct virtio_mem *dev)
{
	log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
		    "memory of unplugged blocks cannot be given back: %s; "
		    "tried again later, and before they are plugged",
		    dev->backing->reason);
}

/* Discard a range, or leave it for later. */
static void discard(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	int ret = discard_owed(dev, gpa, size, BACKING_DISCARD_MAX);

	if (ret < 0 && ret != -EINPROGRESS && ret != -EAGAIN)
		complain_of_owed(dev);
}

/*
 * What a sweep has still to come to of a range that is unplugged is owed now.
 */
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
 * First unplugged block from @from on that may have memory. Only the first sweep
 * asks where there is some, so that a large region of which little was used is
 * not gone through. Where memory was allocated and never written a file says
 * that there is none; what a guest takes so, a later sweep gives back as well.
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
 * A slice of a sweep. What cannot be discarded is owed.
 *
 * Return: 0, or an errno.
 */
static int sweep_slice(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;
	uint64_t budget = BACKING_DISCARD_SLICE / backing->block_size;
	int ret = 0;

	if (!budget)
		budget = 1;
	while (!ret && budget && virtio_mem_sweeping(dev) &&
	       !work_enough(dev->work_done)) {
		uint64_t nr = backing->plugged.nr;
		uint64_t first = next_unplugged(dev, dev->sweep);
		uint64_t end = nr - first > budget ? first + budget : nr;

		end = blocks_next_until(&backing->plugged, first, end, true);
		blocks_set(&backing->owed, first, end - first);
		dev->sweep = end;
		budget -= end - first;
		ret = discard_blocks(dev, &first, end, BACKING_DISCARD_SLICE);
	}
	/* What a turn has no room for is owed like anything else. */
	return ret == -EINPROGRESS || ret == -EAGAIN ? 0 : ret;
}

/**
 * virtio_mem_sweep() - give back all memory of unplugged blocks
 *
 * Whether they have any is not known. It is done by virtio_mem_work(), a part at
 * a time; a block that is plugged before is discarded first.
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

/* Bytes of unplugged blocks that may have memory which is ours to give back. */
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

/* The same, with what a request that is carried out may have allocated. */
uint64_t virtio_mem_owed_size(const struct virtio_mem *dev)
{
	const struct virtio_mem_current *current = &dev->current;
	uint64_t size = virtio_mem_undiscarded_size(dev);

	if (current->active && current->request == VIRTIO_MEM_PLUG)
		size += current->size;
	return size;
}

/* Is there memory to be given back? */
static bool owes(const struct virtio_mem *dev)
{
	return dev->backing->owed.set || virtio_mem_sweeping(dev);
}

static void on_done(void *arg, int result);
static void on_lost_changed(void *arg);
static void on_released(void *arg);

/**
 * virtio_mem_start() - make the device of a backing
 * @dev: zeroed but for @node_id, @has_node and the callbacks
 * @backing: geometry and present state
 * @requested_size: multiple of the block size, at most the region's
 * @used_before: a driver may have seen the device already
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
	backing_count(backing, dev->work_done);
	dev->requested_size = requested_size;
	dev->usable_region_size =
		used_before ? backing->size : usable_minimum(dev);
	want_work(dev);
}

/**
 * virtio_mem_keep_usable() - the usable region was larger before
 * @size: multiple of the block size, at most the region's; a driver may count
 *	on it
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

/* Device-specific and VIRTIO_F_VERSION_1 feature bits that are offered. */
uint64_t virtio_mem_features(const struct virtio_mem *dev)
{
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;

	/* A device that is to be restored has no backing yet: the kernel's. */
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
 * The configuration space as it is now, little-endian. While nobody knows where
 * the region is, it is one without memory, which the Linux driver refuses.
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
 * virtio_mem_set_requested() - ask the guest for another size
 * @requested_size: multiple of the block size, at most the region's
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
 * virtio_mem_hold() - plug and unplug nothing from now on, or go on
 *
 * A request that is being carried out still is: see virtio_mem_busy(). When it
 * goes on the driver is told, so that it does not wait until it tries again.
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

/* Somebody else has plugged or unplugged blocks of the backing. */
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
 * Is it known where the region is? A driver that finds it without a place does
 * not use it; one that has worked with a daemon before us may.
 */
static int check_placed(struct virtio_mem *dev)
{
	if (dev->backing->placed)
		return 0;
	snprintf(dev->backing->reason, sizeof(dev->backing->reason),
		 "where the region is in the guest is not known: \"vmemctl "
		 "place\" it");
	return -EADDRNOTAVAIL;
}

/* The host cannot carry out a valid request now. */
static enum virtio_mem_answer busy(struct virtio_mem *dev,
				   enum virtio_mem_request request)
{
	snprintf(dev->last_failure, sizeof(dev->last_failure), "%s",
		 dev->backing->reason);
	if (dev->current.system_reset)
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "blocks stay plugged over a reset of the system: "
			    "%s",
			    dev->last_failure);
	else
		log_limited(&dev->limit, LOG_LEVEL_WARNING, dev->label,
			    "%s answered busy: %s", request_names[request],
			    dev->last_failure);
	return VIRTIO_MEM_BUSY;
}

/*
 * A request that contradicts what is plugged: is that true, and is it the
 * request of an answer that was lost?
 *
 * @all: all of its blocks are as it wants them
 * Return: an answer; -EAGAIN judge again; -EINPROGRESS; an errno.
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

/* Blocks were plugged or unplugged, as the current request wanted. */
static void note_plugged(struct virtio_mem *dev)
{
	const struct virtio_mem_current *current = &dev->current;

	if (current->request == VIRTIO_MEM_PLUG) {
		/* That before was of use. */
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

/* May blocks be changed? What does not change any is not held up. */
static int check_held(struct virtio_mem *dev)
{
	if (!dev->held)
		return 0;
	snprintf(dev->backing->reason, sizeof(dev->backing->reason),
		 "held for a migration (vmemctl hold)");
	return -EBUSY;
}

/* Is it known which blocks the guest has? Else it is not at fault. */
static int check_known(struct virtio_mem *dev)
{
	if (!dev->backing->lost)
		return 0;
	snprintf(dev->backing->reason, sizeof(dev->backing->reason),
		 "the state was lost: which blocks the guest has is not known "
		 "until it unplugs all or its system is reset");
	return -ENODATA;
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
	/* Before old memory is shown to the guest again, it must be gone. */
	if (!current->swept)
		sweep_range(dev, current->gpa, current->size);
	/* Judged again, it does not owe what has been discarded since. */
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

	/* What is found while somebody is waited for may not be so afterwards. */
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
 * Go on with the current request after a step that returned @ret.
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
		/* It was asked for; the specification has no notification. */
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
		dev->last_failure[0] = '\0';
	note_changed(dev);
	if (owes(dev))
		want_work(dev);
}

static int begin_reset(struct virtio_mem *dev);

/* Take up the reset that has waited for the current request to end. */
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
		dev->last_failure[0] = '\0';
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

/* After a step of the current request. */
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
 * virtio_mem_system_reset() - the guest's system is reset: unplug all
 *
 * Not for a reset of the device, and not for waking up from suspend: memory
 * that the guest still has is gone after it.
 *
 * Return: 0; -EINPROGRESS: dev->system_reset() will be called; -EALREADY one
 * is going on; -EBUSY with the backing's reason, nothing was changed.
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

/* The backing has carried out what the current request waited for. */
static void on_done(void *arg, int result)
{
	advance_current(arg, result);
}

/* What the guest has is not known any more, or again. */
static void on_lost_changed(void *arg)
{
	struct virtio_mem *dev = arg;

	/* How much was usable before is not known either. */
	if (dev->backing->lost) {
		dev->usable_region_size = dev->backing->size;
		note_changed(dev);
	} else {
		config_changed(dev);
		if (owes(dev))
			want_work(dev);
	}
}

/* What could not be discarded before may be now. */
static void on_released(void *arg)
{
	struct virtio_mem *dev = arg;

	if (owes(dev))
		want_work(dev);
}

/**
 * virtio_mem_work() - do some of what nobody waits for
 *
 * To be called when dev->work() was, and again as long as there is more.
 *
 * Return: 1 there is more; 0 there is not; an errno: call again some time
 * later.
 */
int virtio_mem_work(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;
	int swept, ret;

	if (!backing)
		return 0;
	if (dev->current.active) {
		/* Then the request itself is the work, or the backing has it. */
		if (dev->current.step == VIRTIO_MEM_JUDGING)
			advance_current(dev, judge(dev));
		return 0;
	}
	/* An error has it called again much later: both have their share before. */
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

/* Is a request being carried out? There can be no other one then. */
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
 * virtio_mem_handle() - carry out a request of the driver's
 * @req: the request, as the guest wrote it (little-endian, any contents)
 * @resp: the response, to be given to the guest as it is
 *
 * Return: true if the response is there; false if dev->answered() will be
 * called with it.
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
	/* The three requests that have a range have it in the same place. */
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
