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
 * Memory. A block that is unplugged loses its memslot (where it was the last
 * in it) before its memory is given back, so that the guest cannot fault the
 * memory back in between. When the memory cannot be given back after that, the
 * block is unplugged all the same, is remembered, and is discarded before it
 * is plugged again, since a plugged block must not show old contents of
 * another owner. The same is done for all unplugged memory at start: a daemon
 * that was killed between the two steps left some behind.
 *
 * Reset. A reset of the device changes no block. After a reset of the system
 * the driver of the new system finds plugged_size != 0 and sends UNPLUG_ALL
 * itself, as the specification lets it; a VMM that does not want to wait for
 * that may unplug all by netlink.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "virtio_mem.h"

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

/* Number of the block at @gpa, which is inside the region. */
static uint64_t block_of(const struct virtio_mem *dev, uint64_t gpa)
{
	return (gpa - dev->backing->gpa) / dev->backing->block_size;
}

/* What the usable region must have at least, by the present state. */
static uint64_t usable_minimum(const struct virtio_mem *dev)
{
	const struct backing *backing = dev->backing;
	uint64_t end = blocks_end(&backing->plugged) * backing->block_size;
	uint64_t usable = 0;

	if (dev->requested_size || end) {
		if (__builtin_add_overflow(dev->requested_size,
					   VIRTIO_MEM_USABLE_EXTRA, &usable) ||
		    usable > backing->size)
			usable = backing->size;
		/* A large block size: sizes are multiples of it. */
		usable -= usable % backing->block_size;
		if (usable < dev->requested_size)
			usable = dev->requested_size;
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

static void changed(struct virtio_mem *dev)
{
	if (dev->changed)
		dev->changed(dev->arg);
}

static void config_changed(struct virtio_mem *dev)
{
	if (dev->config_changed)
		dev->config_changed(dev->arg);
	changed(dev);
}

/* Give back the memory of an unplugged range, or remember that it is owed. */
static void discard(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	struct backing *backing = dev->backing;
	uint64_t first = block_of(dev, gpa);
	uint64_t nr = size / backing->block_size;
	int ret;

	ret = backing->ops->discard(backing, gpa, size);
	if (!ret) {
		blocks_clear(&dev->undiscarded, first, nr);
		return;
	}
	blocks_set(&dev->undiscarded, first, nr);
	log_limited(&dev->limit, LOG_LEVEL_WARNING,
		    "memory of unplugged 0x%" PRIx64 "+0x%" PRIx64
		    " cannot be given back: %s; tried again before it is "
		    "plugged",
		    gpa, size, backing->reason);
}

/* Discard all memory that belongs to no plugged block. */
void virtio_mem_discard_unplugged(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;
	uint64_t first, end = 0;

	for (;;) {
		first = blocks_next(&backing->plugged, end, false);
		if (first >= backing->plugged.nr)
			return;
		end = blocks_next(&backing->plugged, first, true);
		discard(dev, backing->gpa + first * backing->block_size,
			(end - first) * backing->block_size);
	}
}

/**
 * virtio_mem_start() - make the device of a backing
 * @dev: zeroed but for @node_id, @has_node and the callbacks
 * @backing: geometry and present state
 * @requested_size: multiple of the block size, at most the region's
 * @used_before: a driver may have seen the device already
 *
 * Return: 0, or -ENOMEM.
 */
int virtio_mem_start(struct virtio_mem *dev, struct backing *backing,
		     uint64_t requested_size, bool used_before)
{
	int ret;

	ret = blocks_init(&dev->undiscarded,
			  backing->size / backing->block_size);
	if (ret)
		return ret;
	dev->backing = backing;
	dev->requested_size = requested_size;
	dev->usable_region_size =
		used_before ? backing->size : usable_minimum(dev);
	virtio_mem_discard_unplugged(dev);
	return 0;
}

void virtio_mem_stop(struct virtio_mem *dev)
{
	blocks_free(&dev->undiscarded);
	dev->backing = NULL;
}

/* Device-specific and VIRTIO_F_VERSION_1 feature bits that are offered. */
uint64_t virtio_mem_features(const struct virtio_mem *dev)
{
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;

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

/* The configuration space as it is now, little-endian. */
void virtio_mem_config(const struct virtio_mem *dev,
		       struct virtio_mem_config *config)
{
	memset(config, 0, sizeof(*config));
	config->block_size = htole64(dev->backing->block_size);
	config->node_id = htole16(dev->has_node ? dev->node_id : 0);
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
	grow_usable(dev);
	config_changed(dev);
}

/* Somebody else has plugged or unplugged blocks of the backing. */
void virtio_mem_backing_changed(struct virtio_mem *dev)
{
	virtio_mem_discard_unplugged(dev);
	if (grow_usable(dev))
		config_changed(dev);
	else
		changed(dev);
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

/* The host cannot carry out a valid request now. */
static enum virtio_mem_answer busy(struct virtio_mem *dev,
				   enum virtio_mem_request request)
{
	snprintf(dev->last_failure, sizeof(dev->last_failure), "%s",
		 dev->backing->reason);
	log_limited(&dev->limit, LOG_LEVEL_WARNING, "%s answered busy: %s",
		    request_names[request], dev->last_failure);
	return VIRTIO_MEM_BUSY;
}

/* Before old memory is shown to the guest again, it must be gone. */
static int discard_owed(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	struct backing *backing = dev->backing;
	uint64_t first = block_of(dev, gpa);
	uint64_t nr = size / backing->block_size;
	int ret;

	if (!blocks_count(&dev->undiscarded, first, nr))
		return 0;
	ret = backing->ops->discard(backing, gpa, size);
	if (!ret)
		blocks_clear(&dev->undiscarded, first, nr);
	return ret;
}

/* Return: an enum virtio_mem_answer, or the backing's errno. */
static int plug(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	struct backing *backing = dev->backing;
	uint64_t nr = size / backing->block_size;
	uint64_t plugged = virtio_mem_plugged_size(dev);
	uint64_t in_range;
	int ret;

	in_range = blocks_count(&backing->plugged, block_of(dev, gpa), nr);
	if (in_range) {
		if (in_range == nr &&
		    backing->ops->repeated(backing, true, gpa, size))
			return VIRTIO_MEM_ACK;
		return VIRTIO_MEM_ERROR;
	}
	if (plugged > dev->requested_size ||
	    size > dev->requested_size - plugged)
		return VIRTIO_MEM_NACK;
	ret = discard_owed(dev, gpa, size);
	if (ret)
		return ret;
	ret = backing->ops->plug(backing, gpa, size);
	return ret ? ret : VIRTIO_MEM_ACK;
}

/* Return: an enum virtio_mem_answer, or the backing's errno. */
static int unplug(struct virtio_mem *dev, uint64_t gpa, uint64_t size)
{
	struct backing *backing = dev->backing;
	uint64_t nr = size / backing->block_size;
	uint64_t in_range;
	int ret;

	in_range = blocks_count(&backing->plugged, block_of(dev, gpa), nr);
	if (in_range != nr) {
		if (!in_range &&
		    backing->ops->repeated(backing, false, gpa, size))
			return VIRTIO_MEM_ACK;
		return VIRTIO_MEM_ERROR;
	}
	ret = backing->ops->unplug(backing, gpa, size);
	if (ret)
		return ret;
	discard(dev, gpa, size);
	return VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer change(struct virtio_mem *dev,
				     enum virtio_mem_request request,
				     uint64_t gpa, uint16_t nr_blocks)
{
	int (*once)(struct virtio_mem *, uint64_t, uint64_t);
	uint64_t size;
	int ret;

	if (!valid_range(dev, gpa, nr_blocks, &size))
		return VIRTIO_MEM_ERROR;
	once = request == VIRTIO_MEM_PLUG ? plug : unplug;
	ret = once(dev, gpa, size);
	if (ret == -EAGAIN)
		ret = once(dev, gpa, size);
	return ret < 0 ? busy(dev, request) : (enum virtio_mem_answer)ret;
}

static enum virtio_mem_answer unplug_all(struct virtio_mem *dev)
{
	struct backing *backing = dev->backing;

	/*
	 * Nothing plugged is nothing to unplug, but memory may still be owed
	 * and the usable region may shrink.
	 */
	if (backing->plugged.set && backing->ops->unplug_all(backing))
		return busy(dev, VIRTIO_MEM_UNPLUG_ALL);
	discard(dev, backing->gpa, backing->size);
	/* The driver asked for it; the specification has no notification. */
	dev->usable_region_size = usable_minimum(dev);
	return VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer state(struct virtio_mem *dev, uint64_t gpa,
				    uint16_t nr_blocks, uint16_t *result)
{
	uint64_t size, plugged;

	if (!valid_range(dev, gpa, nr_blocks, &size))
		return VIRTIO_MEM_ERROR;
	plugged = blocks_count(&dev->backing->plugged, block_of(dev, gpa),
			       nr_blocks);
	if (!plugged)
		*result = VIRTIO_MEM_STATE_UNPLUGGED;
	else if (plugged == nr_blocks)
		*result = VIRTIO_MEM_STATE_PLUGGED;
	else
		*result = VIRTIO_MEM_STATE_MIXED;
	return VIRTIO_MEM_ACK;
}

/**
 * virtio_mem_handle() - carry out a request of the driver's
 * @req: the request, as the guest wrote it (little-endian, any contents)
 * @resp: the response, to be given to the guest as it is
 */
void virtio_mem_handle(struct virtio_mem *dev, const struct virtio_mem_req *req,
		       struct virtio_mem_resp *resp)
{
	static const uint16_t types[] = {
		[VIRTIO_MEM_ACK] = VIRTIO_MEM_RESP_ACK,
		[VIRTIO_MEM_NACK] = VIRTIO_MEM_RESP_NACK,
		[VIRTIO_MEM_BUSY] = VIRTIO_MEM_RESP_BUSY,
		[VIRTIO_MEM_ERROR] = VIRTIO_MEM_RESP_ERROR,
	};
	enum virtio_mem_answer answer;
	enum virtio_mem_request request;
	/* The three requests that have a range have it in the same place. */
	uint64_t gpa = le64toh(req->u.plug.addr);
	uint16_t nr_blocks = le16toh(req->u.plug.nb_blocks);
	uint16_t result = 0;

	memset(resp, 0, sizeof(*resp));
	switch (le16toh(req->type)) {
	case VIRTIO_MEM_REQ_PLUG:
		request = VIRTIO_MEM_PLUG;
		answer = change(dev, request, gpa, nr_blocks);
		break;
	case VIRTIO_MEM_REQ_UNPLUG:
		request = VIRTIO_MEM_UNPLUG;
		answer = change(dev, request, gpa, nr_blocks);
		break;
	case VIRTIO_MEM_REQ_UNPLUG_ALL:
		request = VIRTIO_MEM_UNPLUG_ALL;
		answer = unplug_all(dev);
		break;
	case VIRTIO_MEM_REQ_STATE:
		request = VIRTIO_MEM_STATE;
		answer = state(dev, gpa, nr_blocks, &result);
		break;
	default:
		log_limited(&dev->limit, LOG_LEVEL_WARNING,
			    "unknown request type %u of the guest",
			    le16toh(req->type));
		resp->type = htole16(VIRTIO_MEM_RESP_ERROR);
		return;
	}

	resp->type = htole16(types[answer]);
	resp->u.state.state = htole16(result);
	dev->answers[request][answer]++;
	if (answer == VIRTIO_MEM_ERROR)
		log_limited(&dev->limit, LOG_LEVEL_WARNING,
			    "%s of %u blocks at 0x%" PRIx64
			    " answered error: the guest's fault",
			    request_names[request], nr_blocks, gpa);
	else
		log_debug("%s of %u blocks at 0x%" PRIx64 ": %s",
			  request_names[request], nr_blocks, gpa,
			  answer_names[answer]);
	if (request == VIRTIO_MEM_STATE)
		return;
	if (answer == VIRTIO_MEM_ACK)
		dev->last_failure[0] = '\0';
	changed(dev);
}
