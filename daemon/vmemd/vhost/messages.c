// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Handlers of the messages of a front end, and a table of them.
 *
 * The table has the limits that are checked before a handler is called: the
 * message's size, its number of descriptors, and the required protocol
 * features. The handler checks the contents. It returns enum
 * vhost_message_handled, or a negative errno with vu->error set, which ends the
 * connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "common/fd.h"
#include "vhost/backend_channel.h"
#include "vhost/connection.h"
#include "vhost/messages.h"
#include "vhost/vhost_queue.h"

#define PROTOCOL_FEATURES                                 \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) |                  \
	 BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |           \
	 BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |         \
	 BIT(VHOST_USER_PROTOCOL_F_CONFIG) |              \
	 BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |      \
	 BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |        \
	 BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | \
	 BIT(VHOST_USER_PROTOCOL_F_STATUS))

/*
 * Protocol features that memory mapped by the front end requires, and those
 * that it excludes; see backing/vmm.c.
 */
#define SHMEM_NEEDS                               \
	(BIT(VHOST_USER_PROTOCOL_F_SHMEM) |       \
	 BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | \
	 BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))
#define SHMEM_LACKS BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)

int vhost_message_reply_u64(struct vhost_user_message *msg, uint64_t value)
{
	msg->payload.u64 = value;
	msg->header.size = sizeof(msg->payload.u64);
	return VHOST_MESSAGE_REPLY;
}

static uint64_t offered_features(const struct vhost_user *vu)
{
	uint64_t features = virtio_mem_features(vu->dev) | VRING_FEATURES |
			    BIT(VHOST_USER_F_PROTOCOL_FEATURES);

	return vu->offer_packed ? features
				: features & ~BIT(VIRTIO_F_RING_PACKED);
}

static int get_features(struct vhost_user *vu, struct vhost_user_message *msg)
{
	return vhost_message_reply_u64(msg, offered_features(vu));
}

/*
 * The required feature that is missing, or NULL. Drivers of virtio-mem accept
 * both. A front end that does not pass on device-specific feature bits
 * withholds the second one.
 */
static const char *features_lacking(uint64_t features)
{
	if (!(features & BIT(VIRTIO_F_VERSION_1)))
		return "the driver does not accept VIRTIO_F_VERSION_1 (bit 32)";
	return "the front end does not pass on the device's feature bits 0 to "
	       "2, or the driver is none of virtio-mem: "
	       "VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE (bit 1) is missing";
}

static int set_features(struct vhost_user *vu, struct vhost_user_message *msg)
{
	uint64_t features = msg->payload.u64;
	/* The driver has chosen the features, and lacks one. */
	bool lacking = features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES) &&
		       !virtio_mem_features_ok(features);
	int ret;

	if (features & ~offered_features(vu))
		return error_set(&vu->error, -EINVAL,
				 "features that were not offered");
	if (vu->vring.located &&
	    vu->vring.features != (features & VRING_FEATURES)) {
		if (!vhost_queue_set_up_again(vu))
			return error_set(
				&vu->error, -EBUSY,
				"another format of a queue that is started");
		/* The size of one format may be invalid in the other. */
		vu->vring.size = 0;
	}
	/*
	 * With STATUS, the front end learns from FEATURES_OK that the features
	 * are insufficient. Otherwise the connection ends, but only once the
	 * driver has chosen the features.
	 */
	if (lacking &&
	    !(vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_STATUS)))
		return error_set(&vu->error, -EINVAL, "%s",
				 features_lacking(features));
	vu->features = features;
	vu->vring.features = features & VRING_FEATURES;
	if (!virtio_mem_features_ok(features))
		vu->status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (lacking)
		log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
			    "vhost-user: %s; the queue is not served",
			    features_lacking(features));
	ret = vhost_queue_remap(vu);
	if (ret)
		return ret;
	vhost_connection_changed(vu);
	vhost_queue_process(vu);
	return VHOST_MESSAGE_HANDLED;
}

static uint64_t offered_protocol_features(const struct vhost_user *vu)
{
	return vu->shmem ? (PROTOCOL_FEATURES | SHMEM_NEEDS) & ~SHMEM_LACKS
			 : PROTOCOL_FEATURES;
}

static int get_protocol_features(struct vhost_user *vu,
				 struct vhost_user_message *msg)
{
	return vhost_message_reply_u64(msg, offered_protocol_features(vu));
}

static int set_protocol_features(struct vhost_user *vu,
				 struct vhost_user_message *msg)
{
	if (msg->payload.u64 & ~offered_protocol_features(vu))
		return error_set(&vu->error, -EINVAL,
				 "protocol features that were not offered");
	if (vu->shmem && (msg->payload.u64 & SHMEM_NEEDS) != SHMEM_NEEDS)
		return error_set(
			&vu->error, -EOPNOTSUPP,
			"the front end cannot map memory for us: SHMEM, "
			"BACKEND_REQ and REPLY_ACK are needed");
	vu->protocol_features = msg->payload.u64;
	return VHOST_MESSAGE_HANDLED;
}

static int get_queue_num(struct vhost_user *vu __attribute__((unused)),
			 struct vhost_user_message *msg)
{
	return vhost_message_reply_u64(msg, 1);
}

static int set_owner(struct vhost_user *vu __attribute__((unused)),
		     struct vhost_user_message *msg __attribute__((unused)))
{
	return VHOST_MESSAGE_HANDLED;
}

/* Deprecated by the protocol; back ends that handle it stop the rings. */
static int reset_owner(struct vhost_user *vu,
		       struct vhost_user_message *msg __attribute__((unused)))
{
	vhost_queue_stop(vu);
	vhost_connection_changed(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int handle_reset_device(struct vhost_user *vu,
			       struct vhost_user_message *msg
			       __attribute__((unused)))
{
	vhost_connection_reset(vu);
	vhost_connection_changed(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int add_region(struct vhost_user *vu, struct guest_memory *memory,
		      const struct vhost_user_region *region, int fd)
{
	return guest_memory_add(memory, region->gpa, region->uva, region->size,
				region->mmap_offset, fd, &vu->error);
}

static int set_mem_table(struct vhost_user *vu, struct vhost_user_message *msg)
{
	struct vhost_user_mem_table table = {};
	struct guest_memory memory = {.guard = vu->memory.guard};
	int ret;

	memcpy(&table, &msg->payload, msg->header.size);
	if (table.nr > VHOST_USER_MEM_TABLE_SIZE ||
	    msg->header.size != offsetof(struct vhost_user_mem_table, regions) +
					table.nr * sizeof(table.regions[0]))
		return error_set(&vu->error, -EINVAL,
				 "a table of another size than it says");
	if (table.nr != vu->in.nr_fds)
		return error_set(&vu->error, -EINVAL,
				 "as many descriptors as regions are "
				 "needed");
	for (uint32_t i = 0; i < table.nr; i++) {
		ret = add_region(vu, &memory, &table.regions[i], vu->in.fds[i]);
		if (ret) {
			guest_memory_clear(&memory);
			return ret;
		}
	}
	for (size_t i = 0; i < vu->memory.nr; i++)
		removed_memory_add(&vu->removed, vu->memory.regions[i].gpa,
				   vu->memory.regions[i].size);
	guest_memory_replace(&vu->memory, &memory);
	for (size_t i = 0; i < vu->memory.nr; i++)
		removed_memory_back(&vu->removed, vu->memory.regions[i].gpa,
				    vu->memory.regions[i].size);
	return vhost_queue_memory_changed(vu);
}

static int get_max_mem_slots(struct vhost_user *vu __attribute__((unused)),
			     struct vhost_user_message *msg)
{
	return vhost_message_reply_u64(msg, GUEST_MEMORY_MAX_REGIONS);
}

static int add_mem_reg(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_region *region = &msg->payload.mem_reg.region;
	int ret;

	ret = add_region(vu, &vu->memory, region, vu->in.fds[0]);
	if (ret)
		return ret;
	removed_memory_back(&vu->removed, region->gpa, region->size);
	return vhost_queue_memory_changed(vu);
}

static int rem_mem_reg(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_region *region = &msg->payload.mem_reg.region;

	if (guest_memory_remove(&vu->memory, region->gpa, region->uva,
				region->size))
		return error_set(&vu->error, -ENOENT, "no such memory region");
	removed_memory_add(&vu->removed, region->gpa, region->size);
	return vhost_queue_memory_changed(vu);
}

/* The ring has changed. Handle a kick that arrived while it was not mapped. */
static int remap(struct vhost_user *vu)
{
	int ret = vhost_queue_remap(vu);

	if (!ret && vu->vring.started)
		turn_take(&vu->more);
	return ret;
}

/* May the queue be packed? The features, which say it, may come later. */
static bool may_be_packed(const struct vhost_user *vu)
{
	return vring_has(&vu->vring, VIRTIO_F_RING_PACKED) ||
	       (vu->offer_packed && !virtio_mem_features_ok(vu->features));
}

static int set_vring_num(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return error_set(&vu->error, -EINVAL, "no such queue");
	if (!vring_valid_size(msg->payload.vring_state.num, may_be_packed(vu)))
		return error_set(&vu->error, -EINVAL, "an invalid queue size");
	if (!vhost_queue_set_up_again(vu))
		return error_set(&vu->error, -EBUSY, "the queue is started");
	vu->vring.size = msg->payload.vring_state.num;
	return remap(vu);
}

static int set_vring_addr(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_vring_addr *addr = &msg->payload.vring_addr;

	if (addr->index)
		return error_set(&vu->error, -EINVAL, "no such queue");
	/* A queue in use may move. */
	vhost_queue_set_up_again(vu);
	vu->vring.desc_uva = addr->desc_uva;
	vu->vring.avail_uva = addr->avail_uva;
	vu->vring.used_uva = addr->used_uva;
	vu->vring.has_addresses = true;
	return remap(vu);
}

static int set_vring_base(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return error_set(&vu->error, -EINVAL, "no such queue");
	if (vhost_queue_runs(vu))
		return error_set(&vu->error, -EBUSY, "the queue is started");
	/* The position was found in the ring already. */
	if (vu->vring.located)
		return VHOST_MESSAGE_HANDLED;
	if (vring_set_base(&vu->vring, msg->payload.vring_state.num) &&
	    !may_be_packed(vu))
		return error_set(&vu->error, -EINVAL, "an invalid ring index");
	return VHOST_MESSAGE_HANDLED;
}

static int get_vring_base(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return error_set(&vu->error, -EINVAL, "no such queue");
	vhost_queue_stop(vu);
	vhost_connection_changed(vu);
	msg->payload.vring_state.num = vring_base(&vu->vring);
	msg->header.size = sizeof(msg->payload.vring_state);
	return VHOST_MESSAGE_REPLY;
}

/* Take over the descriptor of the message; -1: none. */
static int take_fd(struct vhost_user *vu)
{
	int fd;

	if (!vu->in.nr_fds)
		return -1;
	fd = vu->in.fds[0];
	vu->in.fds[0] = -1;
	return fd;
}

/*
 * Can this be an eventfd? At least it is an anonymous inode, which has no type.
 * Pipes and sockets are refused: a write may block when they are full, since
 * any process that shares the open file can clear O_NONBLOCK.
 */
static bool like_eventfd(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(st.st_mode & S_IFMT);
}

/* The descriptor of a KICK, CALL or ERR message; -1 for NOFD. */
static int vring_fd(struct vhost_user *vu, const struct vhost_user_message *msg,
		    int *fd)
{
	uint64_t value = msg->payload.u64;
	bool none = value & VHOST_USER_VRING_NOFD;
	int ret;

	if (value & VHOST_USER_VRING_INDEX_MASK)
		return error_set(&vu->error, -EINVAL, "no such queue");
	if (none == !!vu->in.nr_fds)
		return error_set(&vu->error, -EINVAL,
				 none ? "a descriptor despite NOFD"
				      : "no descriptor");
	*fd = take_fd(vu);
	if (*fd < 0)
		return 0;
	if (!like_eventfd(*fd)) {
		fd_close(fd);
		return error_set(&vu->error, -EINVAL, "not an eventfd");
	}
	ret = fd_set_nonblock(*fd);
	if (ret) {
		fd_close(fd);
		return error_set(&vu->error, ret,
				 "the descriptor cannot be set up");
	}
	return 0;
}

static int set_vring_kick(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	if (fd < 0)
		return error_set(&vu->error, -EOPNOTSUPP,
				 "polling of the queue");
	ret = vhost_queue_start(vu, fd);
	if (ret)
		return ret;
	vhost_connection_changed(vu);
	vhost_channel_tell_config(vu);
	/* An earlier back end may have consumed a kick. */
	vhost_queue_process(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int set_vring_call(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	fd_close(&vu->call_fd);
	vu->call_fd = fd;
	/*
	 * Entries may have been used while there was no call descriptor. A
	 * queue that does not run yet signals it later.
	 */
	if (vhost_queue_runs(vu))
		doorbell_ring(&vu->bell, fd);
	else
		vu->vring.tell = true;
	return VHOST_MESSAGE_HANDLED;
}

static int set_vring_err(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	fd_close(&vu->err_fd);
	vu->err_fd = fd;
	return VHOST_MESSAGE_HANDLED;
}

static int set_vring_enable(struct vhost_user *vu,
			    struct vhost_user_message *msg)
{
	int ret;

	if (msg->payload.vring_state.index)
		return error_set(&vu->error, -EINVAL, "no such queue");
	if (msg->payload.vring_state.num > 1)
		return error_set(&vu->error, -EINVAL, "neither on nor off");
	vu->vring.enabled = msg->payload.vring_state.num;
	ret = vhost_queue_remap(vu);
	if (ret)
		return ret;
	vhost_connection_changed(vu);
	vhost_queue_process(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int use_inflight(struct vhost_user *vu,
			const struct vhost_user_inflight *inflight, int fd)
{
	return inflight_open(&vu->inflight, fd, inflight->mmap_offset,
			     inflight->mmap_size, inflight->queue_size,
			     &vu->error);
}

static int check_inflight(struct vhost_user *vu,
			  const struct vhost_user_inflight *inflight)
{
	if (inflight->nr_queues != 1)
		return error_set(&vu->error, -EINVAL,
				 "another number of queues");
	if (!vring_valid_size(inflight->queue_size, true))
		return error_set(&vu->error, -EINVAL, "an invalid queue size");
	if (!vhost_queue_set_up_again(vu))
		return error_set(&vu->error, -EBUSY, "the queue is started");
	return 0;
}

/*
 * Create a region and use it. Return: its descriptor, or an errno.
 */
static int new_inflight(struct vhost_user *vu,
			struct vhost_user_inflight *inflight)
{
	int fd, ret;

	fd = inflight_create(inflight->queue_size, &vu->error);
	if (fd < 0)
		return fd;
	inflight->mmap_size = inflight_size(inflight->queue_size);
	inflight->mmap_offset = 0;
	ret = use_inflight(vu, inflight, fd);
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

/**
 * vhost_message_no_inflight() - reply that there is no inflight region
 * @vu: the back end
 * @msg: the message; set to the reply
 * @err: errno of the shortage
 *
 * The size is 0, which QEMU takes as no region. The queue works without; see
 * inflight.c.
 */
void vhost_message_no_inflight(struct vhost_user *vu,
			       struct vhost_user_message *msg, int err)
{
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: an inflight region cannot be made: %s; "
		    "requests in flight are not tracked",
		    strerror(-err));
	inflight_close(&vu->inflight);
	msg->payload.inflight.mmap_size = 0;
	msg->payload.inflight.mmap_offset = 0;
}

/*
 * The region is used whether or not the front end sends it back. The host may
 * have no descriptor or memory for one.
 */
static int get_inflight_fd(struct vhost_user *vu,
			   struct vhost_user_message *msg)
{
	struct vhost_user_inflight *inflight = &msg->payload.inflight;
	int ret;

	ret = check_inflight(vu, inflight);
	if (ret)
		return ret;
	ret = new_inflight(vu, inflight);
	if (ret >= 0) {
		vu->reply_fd = ret;
		return VHOST_MESSAGE_REPLY;
	}
	if (!fd_is_shortage(ret))
		return ret;
	vhost_message_no_inflight(vu, msg, ret);
	return VHOST_MESSAGE_REPLY;
}

static int set_inflight_fd(struct vhost_user *vu,
			   struct vhost_user_message *msg)
{
	const struct vhost_user_inflight *inflight = &msg->payload.inflight;
	int ret;

	ret = check_inflight(vu, inflight);
	return ret ? ret : use_inflight(vu, inflight, vu->in.fds[0]);
}

static bool unix_stream(int fd)
{
	int domain, type;
	socklen_t size = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
	       domain == AF_UNIX && type == SOCK_STREAM;
}

static int set_backend_req_fd(struct vhost_user *vu,
			      struct vhost_user_message *msg
			      __attribute__((unused)))
{
	int ret;

	if (!unix_stream(vu->in.fds[0]))
		return error_set(&vu->error, -ENOTSOCK,
				 "not a UNIX stream socket");
	ret = vhost_channel_open(vu, take_fd(vu));
	if (ret)
		return ret;
	vhost_queue_process(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int get_config(struct vhost_user *vu, struct vhost_user_message *msg)
{
	struct vhost_user_config *config = &msg->payload.config;
	struct virtio_mem_config space;

	_Static_assert(sizeof(space) == 56, "virtio-mem configuration space");
	if (msg->header.size != offsetof(struct vhost_user_config, data) &&
	    msg->header.size !=
		    offsetof(struct vhost_user_config, data) + config->size)
		return error_set(&vu->error, -EINVAL,
				 "a message of another size than it says");
	if (config->size > sizeof(config->data))
		return error_set(&vu->error, -EINVAL,
				 "more of the configuration space "
				 "than a message can carry");
	if (!vu->dev->backing->placed)
		vu->dev->asked_early = true;
	virtio_mem_config(vu->dev, &space);
	/*
	 * Bytes beyond the configuration space read zero. For an error, the
	 * protocol has a reply without payload, but some front ends would wait
	 * for the payload.
	 */
	memset(config->data, 0, config->size);
	if (config->offset < sizeof(space))
		memcpy(config->data, (uint8_t *)&space + config->offset,
		       config->size < sizeof(space) - config->offset
			       ? config->size
			       : sizeof(space) - config->offset);
	msg->header.size =
		offsetof(struct vhost_user_config, data) + config->size;
	return VHOST_MESSAGE_REPLY;
}

/* All fields of the configuration space are read-only. */
static int set_config(struct vhost_user *vu,
		      struct vhost_user_message *msg __attribute__((unused)))
{
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: SET_CONFIG: the configuration space is "
		    "read-only");
	return VHOST_MESSAGE_REFUSED;
}

static int set_status(struct vhost_user *vu, struct vhost_user_message *msg)
{
	uint8_t status = msg->payload.u64;

	if (msg->payload.u64 > UINT8_MAX)
		return error_set(&vu->error, -EINVAL, "an invalid status");
	if (!status)
		vhost_connection_reset(vu);
	if (!virtio_mem_features_ok(vu->features))
		status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	vu->status = status;
	vhost_connection_changed(vu);
	return VHOST_MESSAGE_HANDLED;
}

static int get_status(struct vhost_user *vu, struct vhost_user_message *msg)
{
	return vhost_message_reply_u64(msg, vu->status);
}

static int get_shmem_config(struct vhost_user *vu,
			    struct vhost_user_message *msg)
{
	struct vhost_user_shmem_config *config = &msg->payload.shmem_config;

	memset(config, 0, sizeof(*config));
	config->nr = 1;
	config->sizes[0] = vu->shmem_size;
	msg->header.size = sizeof(*config);
	return VHOST_MESSAGE_REPLY;
}

#define PAYLOAD(member) sizeof(((union vhost_user_payload *)0)->member)
#define EXACTLY(member) .min_size = PAYLOAD(member), .max_size = PAYLOAD(member)
#define INFLIGHT_MIN_SIZE \
	(offsetof(struct vhost_user_inflight, queue_size) + sizeof(uint16_t))
#define FDS(least, most) .min_fds = (least), .max_fds = (most)

static const struct vhost_message_handler handlers[VHOST_USER_NR_REQUESTS] = {
	[VHOST_USER_GET_FEATURES] = {"GET_FEATURES", get_features},
	[VHOST_USER_SET_FEATURES] = {"SET_FEATURES", set_features,
				     EXACTLY(u64)},
	/* Some front ends send a number, which is ignored. */
	[VHOST_USER_SET_OWNER] = {"SET_OWNER", set_owner,
				  .max_size = PAYLOAD(u64)},
	[VHOST_USER_RESET_OWNER] = {"RESET_OWNER", reset_owner},
	[VHOST_USER_SET_MEM_TABLE] = {"SET_MEM_TABLE", set_mem_table,
				      .min_size = offsetof(
					      struct vhost_user_mem_table,
					      regions),
				      .max_size = PAYLOAD(mem_table),
				      FDS(0, VHOST_USER_MEM_TABLE_SIZE)},
	[VHOST_USER_SET_VRING_NUM] = {"SET_VRING_NUM", set_vring_num,
				      EXACTLY(vring_state)},
	[VHOST_USER_SET_VRING_ADDR] = {"SET_VRING_ADDR", set_vring_addr,
				       EXACTLY(vring_addr)},
	[VHOST_USER_SET_VRING_BASE] = {"SET_VRING_BASE", set_vring_base,
				       EXACTLY(vring_state)},
	[VHOST_USER_GET_VRING_BASE] = {"GET_VRING_BASE", get_vring_base,
				       EXACTLY(vring_state)},
	[VHOST_USER_SET_VRING_KICK] = {"SET_VRING_KICK", set_vring_kick,
				       EXACTLY(u64), FDS(0, 1)},
	[VHOST_USER_SET_VRING_CALL] = {"SET_VRING_CALL", set_vring_call,
				       EXACTLY(u64), FDS(0, 1)},
	[VHOST_USER_SET_VRING_ERR] = {"SET_VRING_ERR", set_vring_err,
				      EXACTLY(u64), FDS(0, 1)},
	[VHOST_USER_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES",
					      get_protocol_features},
	[VHOST_USER_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES",
					      set_protocol_features,
					      EXACTLY(u64)},
	[VHOST_USER_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", get_queue_num,
				      .needs = BIT(VHOST_USER_PROTOCOL_F_MQ)},
	[VHOST_USER_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", set_vring_enable,
					 EXACTLY(vring_state)},
	[VHOST_USER_SET_BACKEND_REQ_FD] =
		{"SET_BACKEND_REQ_FD", set_backend_req_fd, FDS(1, 1),
		 .needs = BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ)},
	[VHOST_USER_GET_CONFIG] = {"GET_CONFIG", get_config,
				   .min_size = offsetof(
					   struct vhost_user_config, data),
				   .max_size = PAYLOAD(config),
				   .needs = BIT(VHOST_USER_PROTOCOL_F_CONFIG)},
	[VHOST_USER_SET_CONFIG] = {"SET_CONFIG", set_config,
				   .min_size = offsetof(
					   struct vhost_user_config, data),
				   .max_size = PAYLOAD(config),
				   .needs = BIT(VHOST_USER_PROTOCOL_F_CONFIG)},
	[VHOST_USER_GET_INFLIGHT_FD] =
		{"GET_INFLIGHT_FD", get_inflight_fd,
		 .min_size = INFLIGHT_MIN_SIZE, .max_size = PAYLOAD(inflight),
		 .needs = BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)},
	[VHOST_USER_SET_INFLIGHT_FD] =
		{"SET_INFLIGHT_FD", set_inflight_fd,
		 .min_size = INFLIGHT_MIN_SIZE, .max_size = PAYLOAD(inflight),
		 FDS(1, 1), .needs = BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)},
	[VHOST_USER_RESET_DEVICE] =
		{"RESET_DEVICE", handle_reset_device,
		 .needs = BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE)},
	[VHOST_USER_GET_MAX_MEM_SLOTS] =
		{"GET_MAX_MEM_SLOTS", get_max_mem_slots,
		 .needs = BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)},
	[VHOST_USER_ADD_MEM_REG] =
		{"ADD_MEM_REG", add_mem_reg, EXACTLY(mem_reg), FDS(1, 1),
		 .needs = BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)},
	/* Some front ends send a descriptor, which is ignored. */
	[VHOST_USER_REM_MEM_REG] =
		{"REM_MEM_REG", rem_mem_reg, EXACTLY(mem_reg), FDS(0, 1),
		 .needs = BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)},
	[VHOST_USER_SET_STATUS] = {"SET_STATUS", set_status, EXACTLY(u64),
				   .needs = BIT(VHOST_USER_PROTOCOL_F_STATUS)},
	[VHOST_USER_GET_STATUS] = {"GET_STATUS", get_status,
				   .needs = BIT(VHOST_USER_PROTOCOL_F_STATUS)},
	[VHOST_USER_GET_SHMEM_CONFIG] = {"GET_SHMEM_CONFIG", get_shmem_config,
					 .needs = BIT(
						 VHOST_USER_PROTOCOL_F_SHMEM)},
};

/* The handler of a message; NULL: the message is unknown. */
const struct vhost_message_handler *vhost_message_handler(uint32_t request)
{
	if (request >= VHOST_USER_NR_REQUESTS || !handlers[request].handle)
		return NULL;
	return &handlers[request];
}
