// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device as a vhost-user back end (QEMU's docs/interop/vhost-user.rst).
 *
 * A front end is a VMM's generic vhost-user code: it knows the device's id
 * (24), one queue, and 56 bytes of configuration space. It connects, shares
 * the guest's memory, sets up the queue, and from then on the guest's requests
 * come by the kick descriptor, which KVM signals, and are answered by the call
 * descriptor, which KVM turns into an interrupt. The front end is out of it.
 *
 * Nothing here blocks, whatever the front end does to the descriptors that it
 * shares with us: the kick's is never read, and the others are signalled by
 * doorbell.c. A message is received in parts if it comes in parts; a
 * reply that the socket does not take at once ends the connection, since
 * replies are small and a front end that lets them pile up is broken.
 *
 * What a front end sends is checked twice: its size, its number of
 * descriptors and that its feature was negotiated, by the table at the end of
 * this file; its contents, by its handler. A message that fails ends the
 * connection with the reason in the log, since what the front end believes to
 * be set up is not known then. The next front end is accepted after that. The
 * device's blocks are not touched by any of it.
 *
 * The queue is worked on only when the front end has started and enabled it
 * and the driver has accepted the features that the device cannot do without.
 * A device whose memory the front end maps also needs the backend channel that
 * was negotiated; some front ends send it after they have enabled the queue.
 *
 * Memory comes and goes while the queue runs: a front end may remove a region
 * and add it again. A queue whose rings are not in shared memory waits, and so
 * does a request that is in memory which was removed. Both go on when memory is
 * added. See removed_memory.c.
 *
 * Reset. RESET_DEVICE, and status 0, stop the queue and forget what was
 * negotiated. Blocks stay plugged, as the specification demands of a device
 * reset; see device/virtio_mem.c on system reset.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "common/fd.h"
#include "vhost/vhost_user.h"

#define BIT(n) (1ULL << (n))

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
 * What it takes to have memory mapped by the front end, and what must not be
 * there then; see backing/vmm.c.
 */
#define SHMEM_NEEDS                               \
	(BIT(VHOST_USER_PROTOCOL_F_SHMEM) |       \
	 BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | \
	 BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))
#define SHMEM_LACKS BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)

/*
 * What a handler returns besides a negative errno, which ends the connection.
 * HANDLED: acknowledged if the front end asked for that. REFUSED: the same,
 * with a non-zero value. REPLY: the message now holds the reply.
 */
enum handled {
	HANDLED,
	REFUSED,
	REPLY,
};

struct handler {
	const char *name;
	int (*handle)(struct vhost_user *vu, struct vhost_user_message *msg);
	uint32_t min_size;
	uint32_t max_size;
	uint8_t min_fds;
	uint8_t max_fds;
	/* Protocol features that must have been negotiated. */
	uint64_t needs;
};

static int on_message(sd_event_source *source, int fd, uint32_t revents,
		      void *arg);
static void send_config_change(struct vhost_user *vu);

static void changed(struct vhost_user *vu)
{
	if (vu->changed)
		vu->changed(vu->arg);
}

static int fail(struct vhost_user *vu, int error, const char *reason)
{
	vu->reason = reason;
	return error;
}

/* Take the one descriptor that came with the message, or -1. */
static int take_fd(struct vhost_user *vu)
{
	int fd;

	if (!vu->in.nr_fds)
		return -1;
	fd = vu->in.fds[0];
	vu->in.fds[0] = -1;
	return fd;
}

static void drop_fds(struct vhost_user_incoming *in)
{
	for (size_t i = 0; i < in->nr_fds; i++)
		fd_close(&in->fds[i]);
	in->nr_fds = 0;
	in->lacking = false;
}

/* --- The queue --- */

static bool protocol_negotiated(const struct vhost_user *vu)
{
	return vu->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static bool ring_runs(const struct vhost_user *vu)
{
	const struct vring_queue *vring = &vu->vring;

	return vring->started && vring->mapped && !vring->broken &&
	       (vring->enabled || !protocol_negotiated(vu)) &&
	       virtio_mem_features_ok(vu->features);
}

static void ring_broken(struct vhost_user *vu, const char *reason)
{
	vu->vring.broken = true;
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "the guest's driver broke its queue: %s", reason);
	doorbell_ring(&vu->bell, vu->err_fd);
	changed(vu);
}

/* Stop all work on memory that was taken away under our hands. */
static bool memory_lost(struct vhost_user *vu)
{
	if (!vu->memory.lost)
		return false;
	/* The connection is ended from the loop: handlers still use it. */
	vu->vring.broken = true;
	if (vu->lost_source)
		sd_event_source_set_enabled(vu->lost_source, SD_EVENT_ONESHOT);
	return true;
}

/*
 * Is a request in memory that the front end has removed, or that a device does
 * not know yet to be the guest's? It waits then.
 * @error: of taking its chain apart
 * @gpa: where that failed, VRING_NO_FAULT if it was not there
 */
static bool must_wait(struct vhost_user *vu, int error, uint64_t gpa)
{
	bool unread;

	if (error != -EFAULT || gpa == VRING_NO_FAULT)
		return false;
	unread = guest_access_unread(vu->access, gpa);
	if (!unread && !removed_memory_has(&vu->removed, gpa))
		return false;
	/* It is there still, and not the driver's fault. */
	vu->vring.broken = false;
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: a request at 0x%" PRIx64
		    " waits for memory that %s",
		    gpa,
		    unread ? "no front end has listed yet"
			   : "the front end has removed");
	return true;
}

/*
 * Give the answer to a chain back to the driver. Where it is to be
 * written is looked up anew: the request may have taken long, and unplugged the
 * very memory.
 */
static bool answer(struct vhost_user *vu, const struct vring_chain *chain,
		   const struct virtio_mem_resp *resp)
{
	struct vring_request request = {.fault = VRING_NO_FAULT};
	const char *reason;
	int ret;

	if (!vu->vring.mapped) {
		vring_unpop(&vu->vring, chain);
		return false;
	}
	ret = vring_find(&vu->vring, &vu->memory, &reason);
	if (!ret)
		ret = vring_again(&vu->vring, &vu->memory, chain, &request,
				  &reason);
	if (must_wait(vu, ret, request.fault)) {
		/* It is taken again, and the backing repeats its answer. */
		vring_unpop(&vu->vring, chain);
		return false;
	}
	if (ret) {
		ring_broken(vu, reason);
		return false;
	}
	if (request.write_size < sizeof(*resp)) {
		ring_broken(vu, "too little room for a response");
		return false;
	}
	inflight_push(&vu->inflight, &vu->vring, chain,
		      vring_write(&request, resp, sizeof(*resp)));
	return true;
}

/* Carry out one request. Return: whether there was one, and is an answer. */
static bool handle_request(struct vhost_user *vu)
{
	struct vring_request request = {.fault = VRING_NO_FAULT};
	struct virtio_mem_req req = {};
	struct virtio_mem_resp resp;
	const char *reason;
	int ret;

	ret = vring_find(&vu->vring, &vu->memory, &reason);
	if (!ret)
		ret = vring_pop(&vu->vring, &vu->memory, &request, &reason);
	if (must_wait(vu, ret, request.fault))
		return false;
	if (ret < 0)
		ring_broken(vu, reason);
	if (ret <= 0)
		return false;
	if (request.read_size < sizeof(req)) {
		ring_broken(vu, "a request that is too short");
		return false;
	}
	if (request.write_size < sizeof(resp)) {
		ring_broken(vu, "too little room for a response");
		return false;
	}
	inflight_take(&vu->inflight, &vu->vring, &request.chain);
	memcpy(&req, request.read, sizeof(req));
	if (!virtio_mem_handle(vu->dev, &req, &resp)) {
		vu->waiting = true;
		vu->waiting_chain = request.chain;
		return false;
	}
	return answer(vu, &request.chain, &resp);
}

static void tell_used(struct vhost_user *vu)
{
	const char *reason;

	if (!vring_find(&vu->vring, &vu->memory, &reason) &&
	    vring_wants_interrupt(&vu->vring))
		doorbell_ring(&vu->bell, vu->call_fd);
}

/*
 * The front end cannot be asked any more. A request that waits for it is taken
 * again by whoever can ask.
 */
static void shmem_leave(struct vhost_user *vu)
{
	if (!vu->shmem_started)
		return;
	if (vu->waiting)
		vring_unpop(&vu->vring, &vu->waiting_chain);
	vu->waiting = false;
	vu->shmem_started = false;
	vu->shmem->stopped(vu->shmem_arg);
}

/*
 * May requests be carried out, as far as memory goes that is to be mapped? Not
 * before the channel is there on which the front end is asked.
 */
static bool shmem_ready(struct vhost_user *vu)
{
	if (!vu->shmem)
		return true;
	if (vu->backend_fd < 0) {
		shmem_leave(vu);
		return false;
	}
	if (ring_runs(vu) && !vu->shmem_started) {
		vu->shmem_started = true;
		vu->shmem->started(vu->shmem_arg);
		if (vu->config_pending)
			send_config_change(vu);
	}
	return vu->shmem->ready(vu->shmem_arg);
}

/*
 * While the device carries out a request, of this connection's or of one that
 * is gone, the next ones stay in the ring.
 */
static void process_ring(struct vhost_user *vu)
{
	bool enough = false;
	int done;

	if (memory_lost(vu) || !shmem_ready(vu))
		return;

	for (done = 0; done < VHOST_USER_BUDGET && ring_runs(vu) &&
		       !virtio_mem_busy(vu->dev);
	     done++) {
		enough = work_enough(vu->memory.work);
		if (enough || !handle_request(vu))
			break;
	}
	if (done)
		tell_used(vu);
	if (memory_lost(vu))
		return;
	/* There may be more; others have their turn first. */
	if (done == VHOST_USER_BUDGET || enough)
		turn_take(&vu->more);
}

/*
 * The device can take requests again. Not from here: it is not done with what
 * kept it from that.
 */
void vhost_user_go_on(struct vhost_user *vu)
{
	turn_take(&vu->more);
}

/**
 * vhost_user_answered() - the device has the answer to the request that waits
 *
 * Return: whether there is still a ring to put it into.
 */
bool vhost_user_answered(struct vhost_user *vu,
			 const struct virtio_mem_resp *resp)
{
	bool told = false;

	if (vu->waiting) {
		vu->waiting = false;
		told = answer(vu, &vu->waiting_chain, resp) && !memory_lost(vu);
		if (told)
			tell_used(vu);
	}
	vhost_user_go_on(vu);
	return told;
}

/* The position of a queue that was started is known: is something in flight? */
static int resume_inflight(struct vhost_user *vu)
{
	const char *reason;
	int ret;

	ret = inflight_start(&vu->inflight, &vu->vring, &reason);
	if (ret < 0)
		return fail(vu, ret, reason);
	if (ret == INFLIGHT_ANEW)
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: the inflight region is of another "
			    "queue; begun anew");
	if (vu->inflight.taken)
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: a request is in flight");
	return 0;
}

/*
 * Map a started ring, when it or the memory was changed. Without its memory it
 * waits; the front end is expected to share it, or to share it again.
 */
static int remap_ring(struct vhost_user *vu)
{
	bool first = !vu->vring.located;
	const char *reason;
	int ret;

	if (!vu->vring.started)
		return 0;
	if (!vu->vring.size || !vu->vring.has_addresses)
		return fail(vu, -EINVAL,
			    "a ring started without size or addresses");
	ret = vring_map(&vu->vring, &vu->memory, &reason);
	if (ret == -EFAULT)
		return 0;
	if (ret)
		return fail(vu, ret, reason);
	return first ? resume_inflight(vu) : 0;
}

static void end_with_reason(struct vhost_user *vu, const char *request);

static int on_more(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vhost_user *vu = arg;

	/* It may be in blocks of which a device did not know before. */
	if (vu->vring.started && !vu->vring.mapped) {
		if (remap_ring(vu)) {
			end_with_reason(vu, NULL);
			return 0;
		}
		if (vu->vring.mapped)
			changed(vu);
	}
	process_ring(vu);
	return 0;
}

/* There is other memory: what has waited for it goes on from the loop. */
static int memory_changed(struct vhost_user *vu)
{
	int ret;

	/* It may say which memory the guest has, where the ring may be. */
	if (vu->shmem)
		vu->shmem->memory(vu->shmem_arg);
	ret = remap_ring(vu);
	if (ret)
		return ret;
	changed(vu);
	if (vu->vring.started)
		turn_take(&vu->more);
	if (vu->shmem && vu->shmem_started)
		vu->shmem->table(vu->shmem_arg);
	return 0;
}

/* The ring's front end is lost, or stops it. */
static void leave_ring(struct vhost_user *vu)
{
	vu->kick_source = sd_event_source_disable_unref(vu->kick_source);
	fd_close(&vu->kick_fd);
	/* Whoever goes on with the ring finds the request in it again. */
	if (vu->waiting)
		vring_unpop(&vu->vring, &vu->waiting_chain);
	vu->waiting = false;
	vring_stop(&vu->vring);
	turn_drop(&vu->more);
	if (vu->shmem_started) {
		vu->shmem_started = false;
		vu->shmem->stopped(vu->shmem_arg);
	}
}

/* The front end stops it, and knows from where to go on. */
static void stop_ring(struct vhost_user *vu)
{
	leave_ring(vu);
	inflight_forget(&vu->inflight);
}

/* --- The connection --- */

/*
 * Call and error descriptors are the front end's, not the driver's: they stay,
 * and not every front end sends them again.
 */
static void reset_device(struct vhost_user *vu)
{
	stop_ring(vu);
	vring_reset(&vu->vring);
	vu->features = 0;
	vu->status = 0;
}

/*
 * What was asked for on it gets no reply. That is dealt with in the next turn,
 * since whoever asks may be the one who finds the channel broken.
 */
static void drop_backend_channel(struct vhost_user *vu)
{
	if (vu->shmem_started)
		turn_take(&vu->more);
	vu->backend_source = sd_event_source_disable_unref(vu->backend_source);
	fd_close(&vu->backend_fd);
	vu->config_pending = false;
	vu->reply.have = 0;
}

static void end_connection(struct vhost_user *vu)
{
	vu->source = sd_event_source_disable_unref(vu->source);
	fd_close(&vu->fd);
	drop_fds(&vu->in);
	vu->in.have = 0;
	/* What is in flight stays marked, for the next front end. */
	leave_ring(vu);
	inflight_close(&vu->inflight);
	reset_device(vu);
	fd_close(&vu->call_fd);
	fd_close(&vu->err_fd);
	drop_backend_channel(vu);
	guest_memory_clear(&vu->memory);
	removed_memory_clear(&vu->removed);
	/* What was lost was this connection's. */
	if (vu->lost_source)
		sd_event_source_set_enabled(vu->lost_source, SD_EVENT_OFF);
	vu->protocol_features = 0;
	listener_enable(&vu->listener, true);
	changed(vu);
}

/* A peer sent what it must not: say so, and be done with it. */
static void end_with_reason(struct vhost_user *vu, const char *request)
{
	log_limited(&vu->limit, LOG_LEVEL_ERR, vu->label,
		    "vhost-user: %s%s%s; connection closed",
		    request ? request : "", request ? ": " : "", vu->reason);
	end_connection(vu);
}

static int on_lost(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vhost_user *vu = arg;

	/* Also if the front end has sent another table since: work has stopped. */
	vu->reason = "a memory region's file was truncated";
	end_with_reason(vu, NULL);
	return 0;
}

/*
 * Each kick is an edge. The count is left where it is: to read it would be to
 * wait for the next kick, should the front end have read it and O_NONBLOCK be
 * gone, since the open file is the front end's too.
 */
static int on_kick(sd_event_source *source __attribute__((unused)),
		   int fd __attribute__((unused)), uint32_t revents, void *arg)
{
	struct vhost_user *vu = arg;

	if (revents & (EPOLLHUP | EPOLLERR)) {
		vu->reason = "the kick descriptor is no good";
		end_with_reason(vu, NULL);
		return 0;
	}
	if (!vu->vring.mapped)
		log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
			    "vhost-user: the driver uses its queue, whose "
			    "memory the front end does not share; it waits");
	process_ring(vu);
	return 0;
}

/* Replies come to those who ask. */
static uint32_t backend_events(const struct vhost_user *vu)
{
	return vu->shmem ? EPOLLIN : 0;
}

static void channel_full(struct vhost_user *vu)
{
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: the backend channel does not take messages; "
		    "channel closed");
	drop_backend_channel(vu);
}

static void send_config_change(struct vhost_user *vu)
{
	struct vhost_user_header header = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_FLAGS_VERSION,
	};
	ssize_t sent;

	/*
	 * Front ends that have SHMEM crash on it while no driver is there. Linux
	 * takes over a plugged size that differs from what it has plugged: it is
	 * to look when it is known.
	 */
	if (vu->shmem && (!vu->shmem_started || virtio_mem_lost(vu->dev))) {
		vu->config_pending = true;
		sd_event_source_set_io_events(vu->backend_source,
					      backend_events(vu));
		return;
	}
	sent = send(vu->backend_fd, &header, sizeof(header),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == sizeof(header)) {
		vu->config_pending = false;
	} else if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
		/* One message tells of any number of changes. */
		vu->config_pending = true;
	} else {
		channel_full(vu);
		return;
	}
	sd_event_source_set_io_events(
		vu->backend_source,
		backend_events(vu) | (vu->config_pending ? EPOLLOUT : 0));
}

/**
 * vhost_user_ask() - ask something of the front end
 * @request: of enum vhost_user_backend_request
 * @payload: @size bytes of it
 * @fd: descriptor that goes with it, or -1
 *
 * The ops of vhost_user_use_shmem() are told the reply.
 *
 * Return: 0; -ENOTCONN there is no channel; -EAGAIN it is full.
 */
int vhost_user_ask(struct vhost_user *vu, uint32_t request, const void *payload,
		   uint32_t size, int fd)
{
	struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_FLAGS_VERSION | VHOST_USER_FLAGS_NEED_REPLY,
		.size = size,
	};
	struct iovec iov[] = {
		{.iov_base = &header, .iov_len = sizeof(header)},
		{.iov_base = (void *)payload, .iov_len = size},
	};
	ssize_t sent;

	if (vu->backend_fd < 0)
		return -ENOTCONN;
	sent = fd_send(vu->backend_fd, iov, 2, fd, MSG_DONTWAIT);
	if (sent == (ssize_t)(sizeof(header) + size))
		return 0;
	if (sent < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	channel_full(vu);
	return -ENOTCONN;
}

/* Return: 1 a reply is complete; 0 not yet; -EPROTO it is none. */
static int receive_reply(struct vhost_user *vu)
{
	struct vhost_user_reply *reply = &vu->reply;
	struct vhost_user_header header;
	ssize_t got;

	got = recv(vu->backend_fd, (uint8_t *)&reply->message + reply->have,
		   sizeof(reply->message) - reply->have, MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPROTO;
	if (!got)
		return -EPROTO;
	reply->have += got;
	if (reply->have < sizeof(reply->message))
		return 0;
	reply->have = 0;
	header = reply->message.header;
	if (header.size != sizeof(reply->message.value) ||
	    !(header.flags & VHOST_USER_FLAGS_REPLY))
		return -EPROTO;
	return 1;
}

/* Replies on the backend channel. Only those who ask get any. */
static void on_reply(struct vhost_user *vu)
{
	const struct vhost_user_reply *reply = &vu->reply;
	int ret;

	ret = receive_reply(vu);
	if (ret < 0) {
		vu->reason = "no reply, on the backend channel";
		end_with_reason(vu, NULL);
	} else if (ret && vu->shmem_started) {
		vu->shmem->replied(vu->shmem_arg, reply->message.header.request,
				   !reply->message.value);
	}
}

/**
 * vhost_user_use_shmem() - have a shared memory region
 * @size: bytes
 * @ops: of whoever asks for memory to be mapped there
 *
 * Before the first front end. Front ends that cannot do that are refused.
 */
void vhost_user_use_shmem(struct vhost_user *vu, uint64_t size,
			  const struct vhost_user_shmem_ops *ops, void *arg)
{
	vu->shmem_size = size;
	vu->shmem = ops;
	vu->shmem_arg = arg;
}

/* The queue may be served again. */
void vhost_user_resume(struct vhost_user *vu)
{
	turn_take(&vu->more);
}

static int on_backend_channel(sd_event_source *source __attribute__((unused)),
			      int fd __attribute__((unused)), uint32_t revents,
			      void *arg)
{
	struct vhost_user *vu = arg;

	if (revents & (EPOLLHUP | EPOLLERR))
		drop_backend_channel(vu);
	else if (revents & EPOLLIN)
		on_reply(vu);
	else if (vu->config_pending && vu->vring.started)
		send_config_change(vu);
	else
		sd_event_source_set_io_events(vu->backend_source,
					      backend_events(vu));
	return 0;
}

/*
 * Not while the queue is stopped: the device is suspended then, and must send
 * nothing. A driver that starts it anew has read the configuration itself.
 */
static void tell_config_change(struct vhost_user *vu)
{
	if (vu->config_pending && vu->backend_fd >= 0 && vu->vring.started)
		send_config_change(vu);
}

/* The device's configuration space has changed: tell the driver. */
void vhost_user_config_changed(struct vhost_user *vu)
{
	vu->config_pending = true;
	tell_config_change(vu);
}

bool vhost_user_connected(const struct vhost_user *vu)
{
	return vu->fd >= 0;
}

/* Does a driver that has accepted our features work its queue? */
bool vhost_user_driver_ready(const struct vhost_user *vu)
{
	return ring_runs(vu);
}

/* --- The messages --- */

static int reply_u64(struct vhost_user_message *msg, uint64_t value)
{
	msg->payload.u64 = value;
	msg->header.size = sizeof(msg->payload.u64);
	return REPLY;
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
	return reply_u64(msg, offered_features(vu));
}

/*
 * Drivers of virtio-mem accept both. A front end that does not pass on the
 * device's own feature bits withholds the second from them.
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

	if (features & ~offered_features(vu))
		return fail(vu, -EINVAL, "features that were not offered");
	if (vu->vring.started &&
	    vu->vring.features != (features & VRING_FEATURES))
		return fail(vu, -EBUSY,
			    "another format of a queue that is started");
	/*
	 * A front end that speaks STATUS learns that these features do not do
	 * when it finds FEATURES_OK unset. Another has to be told like this,
	 * once it is the driver that has chosen features.
	 */
	if (!(vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_STATUS)) &&
	    features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES) &&
	    !virtio_mem_features_ok(features))
		return fail(vu, -EINVAL, features_lacking(features));
	vu->features = features;
	vu->vring.features = features & VRING_FEATURES;
	if (!virtio_mem_features_ok(features))
		vu->status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES) &&
	    !virtio_mem_features_ok(features))
		log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
			    "vhost-user: %s; the queue is not served",
			    features_lacking(features));
	changed(vu);
	process_ring(vu);
	return HANDLED;
}

static uint64_t offered_protocol_features(const struct vhost_user *vu)
{
	return vu->shmem ? (PROTOCOL_FEATURES | SHMEM_NEEDS) & ~SHMEM_LACKS
			 : PROTOCOL_FEATURES;
}

static int get_protocol_features(struct vhost_user *vu,
				 struct vhost_user_message *msg)
{
	return reply_u64(msg, offered_protocol_features(vu));
}

static int set_protocol_features(struct vhost_user *vu,
				 struct vhost_user_message *msg)
{
	if (msg->payload.u64 & ~offered_protocol_features(vu))
		return fail(vu, -EINVAL,
			    "protocol features that were not offered");
	if (vu->shmem && (msg->payload.u64 & SHMEM_NEEDS) != SHMEM_NEEDS)
		return fail(vu, -EOPNOTSUPP,
			    "the front end cannot map memory for us: SHMEM, "
			    "BACKEND_REQ and REPLY_ACK are needed");
	vu->protocol_features = msg->payload.u64;
	return HANDLED;
}

static int get_queue_num(struct vhost_user *vu __attribute__((unused)),
			 struct vhost_user_message *msg)
{
	return reply_u64(msg, 1);
}

static int set_owner(struct vhost_user *vu __attribute__((unused)),
		     struct vhost_user_message *msg __attribute__((unused)))
{
	return HANDLED;
}

/* No longer used; means to stop the rings where it is. */
static int reset_owner(struct vhost_user *vu,
		       struct vhost_user_message *msg __attribute__((unused)))
{
	stop_ring(vu);
	changed(vu);
	return HANDLED;
}

static int handle_reset_device(struct vhost_user *vu,
			       struct vhost_user_message *msg
			       __attribute__((unused)))
{
	reset_device(vu);
	changed(vu);
	return HANDLED;
}

static int add_region(struct vhost_user *vu, struct guest_memory *memory,
		      const struct vhost_user_region *region, int fd)
{
	const char *reason;
	int ret;

	ret = guest_memory_add(memory, region->gpa, region->uva, region->size,
			       region->mmap_offset, fd, &reason);
	return ret ? fail(vu, ret, reason) : 0;
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
		return fail(vu, -EINVAL,
			    "a table of another size than it says");
	if (table.nr != vu->in.nr_fds)
		return fail(vu, -EINVAL,
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
	return memory_changed(vu);
}

static int get_max_mem_slots(struct vhost_user *vu __attribute__((unused)),
			     struct vhost_user_message *msg)
{
	return reply_u64(msg, GUEST_MEMORY_MAX_REGIONS);
}

static int add_mem_reg(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_region *region = &msg->payload.mem_reg.region;
	int ret;

	ret = add_region(vu, &vu->memory, region, vu->in.fds[0]);
	if (ret)
		return ret;
	removed_memory_back(&vu->removed, region->gpa, region->size);
	return memory_changed(vu);
}

static int rem_mem_reg(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_region *region = &msg->payload.mem_reg.region;

	if (guest_memory_remove(&vu->memory, region->gpa, region->uva,
				region->size))
		return fail(vu, -ENOENT, "no such memory region");
	removed_memory_add(&vu->removed, region->gpa, region->size);
	return memory_changed(vu);
}

static int set_vring_num(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return fail(vu, -EINVAL, "no such queue");
	if (!vring_valid_size(msg->payload.vring_state.num,
			      vring_has(&vu->vring, VIRTIO_F_RING_PACKED)))
		return fail(vu, -EINVAL, "an invalid queue size");
	if (vu->vring.started)
		return fail(vu, -EBUSY, "the queue is started");
	vu->vring.size = msg->payload.vring_state.num;
	return HANDLED;
}

static int set_vring_addr(struct vhost_user *vu, struct vhost_user_message *msg)
{
	const struct vhost_user_vring_addr *addr = &msg->payload.vring_addr;
	int ret;

	if (addr->index)
		return fail(vu, -EINVAL, "no such queue");
	vu->vring.desc_uva = addr->desc_uva;
	vu->vring.avail_uva = addr->avail_uva;
	vu->vring.used_uva = addr->used_uva;
	vu->vring.has_addresses = true;
	ret = remap_ring(vu);
	/* A kick that came while the ring was not mapped is not repeated. */
	if (!ret && vu->vring.started)
		turn_take(&vu->more);
	return ret;
}

static int set_vring_base(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return fail(vu, -EINVAL, "no such queue");
	if (vu->vring.started)
		return fail(vu, -EBUSY, "the queue is started");
	if (vring_set_base(&vu->vring, msg->payload.vring_state.num))
		return fail(vu, -EINVAL, "an invalid ring index");
	return HANDLED;
}

static int get_vring_base(struct vhost_user *vu, struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return fail(vu, -EINVAL, "no such queue");
	stop_ring(vu);
	changed(vu);
	msg->payload.vring_state.num = vring_base(&vu->vring);
	msg->header.size = sizeof(msg->payload.vring_state);
	return REPLY;
}

/*
 * Is it an eventfd? It is an anonymous inode at least, which has no type. Pipes
 * and sockets fill, and whether a write waits then is up to all who share them:
 * O_NONBLOCK may be gone when we write.
 */
static bool like_eventfd(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(st.st_mode & S_IFMT);
}

/* The descriptor of a KICK, CALL or ERR message, or -1 if it says none. */
static int vring_fd(struct vhost_user *vu, const struct vhost_user_message *msg,
		    int *fd)
{
	uint64_t value = msg->payload.u64;
	bool none = value & VHOST_USER_VRING_NOFD;
	int ret;

	if (value & VHOST_USER_VRING_INDEX_MASK)
		return fail(vu, -EINVAL, "no such queue");
	if (none == !!vu->in.nr_fds)
		return fail(vu, -EINVAL,
			    none ? "a descriptor that it says is "
				   "not there"
				 : "no descriptor");
	*fd = take_fd(vu);
	if (*fd < 0)
		return 0;
	if (!like_eventfd(*fd)) {
		fd_close(fd);
		return fail(vu, -EINVAL, "not an eventfd");
	}
	ret = fd_set_nonblock(*fd);
	if (ret) {
		fd_close(fd);
		return fail(vu, ret, "the descriptor cannot be set up");
	}
	return 0;
}

static int start_ring(struct vhost_user *vu)
{
	vu->vring.started = true;
	vu->vring.broken = false;
	return remap_ring(vu);
}

static int restart_ring(struct vhost_user *vu)
{
	vu->vring.broken = false;
	return remap_ring(vu);
}

static int set_vring_kick(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	if (fd < 0)
		return fail(vu, -EOPNOTSUPP, "polling of the queue");
	vu->kick_source = sd_event_source_disable_unref(vu->kick_source);
	fd_close(&vu->kick_fd);
	vu->kick_fd = fd;
	ret = sd_event_add_io(vu->event, &vu->kick_source, fd,
			      EPOLLIN | EPOLLET, on_kick, vu);
	if (ret < 0)
		return fail(vu, ret, "the descriptor cannot be polled");
	ret = vu->vring.started ? restart_ring(vu) : start_ring(vu);
	if (ret)
		return ret;
	changed(vu);
	tell_config_change(vu);
	/* A kick that a back end before us has consumed. */
	process_ring(vu);
	return HANDLED;
}

static int set_vring_call(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	fd_close(&vu->call_fd);
	vu->call_fd = fd;
	/* What was used while there was nobody to tell. */
	if (ring_runs(vu))
		doorbell_ring(&vu->bell, fd);
	return HANDLED;
}

static int set_vring_err(struct vhost_user *vu, struct vhost_user_message *msg)
{
	int fd, ret;

	ret = vring_fd(vu, msg, &fd);
	if (ret)
		return ret;
	fd_close(&vu->err_fd);
	vu->err_fd = fd;
	return HANDLED;
}

static int set_vring_enable(struct vhost_user *vu,
			    struct vhost_user_message *msg)
{
	if (msg->payload.vring_state.index)
		return fail(vu, -EINVAL, "no such queue");
	if (msg->payload.vring_state.num > 1)
		return fail(vu, -EINVAL, "neither on nor off");
	vu->vring.enabled = msg->payload.vring_state.num;
	changed(vu);
	process_ring(vu);
	return HANDLED;
}

static int use_inflight(struct vhost_user *vu,
			const struct vhost_user_inflight *inflight, int fd)
{
	const char *reason;
	int ret;

	ret = inflight_open(&vu->inflight, fd, inflight->mmap_offset,
			    inflight->mmap_size, inflight->queue_size, &reason);
	return ret ? fail(vu, ret, reason) : 0;
}

static int check_inflight(struct vhost_user *vu,
			  const struct vhost_user_inflight *inflight)
{
	if (inflight->nr_queues != 1)
		return fail(vu, -EINVAL, "another number of queues");
	if (!vring_valid_size(inflight->queue_size, true))
		return fail(vu, -EINVAL, "an invalid queue size");
	if (vu->vring.started)
		return fail(vu, -EBUSY, "the queue is started");
	return 0;
}

/* A new one, which is used from here on, whether it is sent back or not. */
static int get_inflight_fd(struct vhost_user *vu,
			   struct vhost_user_message *msg)
{
	struct vhost_user_inflight *inflight = &msg->payload.inflight;
	const char *reason;
	int fd, ret;

	ret = check_inflight(vu, inflight);
	if (ret)
		return ret;
	fd = inflight_create(inflight->queue_size, &reason);
	if (fd < 0)
		return fail(vu, fd, reason);
	inflight->mmap_size = inflight_size(inflight->queue_size);
	inflight->mmap_offset = 0;
	ret = use_inflight(vu, inflight, fd);
	if (ret) {
		close(fd);
		return ret;
	}
	vu->reply_fd = fd;
	return REPLY;
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
		return fail(vu, -ENOTSOCK, "not a UNIX stream socket");
	drop_backend_channel(vu);
	shmem_leave(vu);
	vu->backend_fd = take_fd(vu);
	ret = sd_event_add_io(vu->event, &vu->backend_source, vu->backend_fd,
			      backend_events(vu), on_backend_channel, vu);
	if (ret < 0)
		return fail(vu, ret, "the channel cannot be polled");
	/*
	 * What has changed while there was no channel, or before a restart,
	 * nobody was told of. To a driver, news of no change does no harm.
	 */
	vu->config_pending = true;
	tell_config_change(vu);
	process_ring(vu);
	return HANDLED;
}

static int get_config(struct vhost_user *vu, struct vhost_user_message *msg)
{
	struct vhost_user_config *config = &msg->payload.config;
	struct virtio_mem_config space;

	_Static_assert(sizeof(space) == 56, "virtio-mem configuration space");
	if (msg->header.size != offsetof(struct vhost_user_config, data) &&
	    msg->header.size !=
		    offsetof(struct vhost_user_config, data) + config->size)
		return fail(vu, -EINVAL,
			    "a message of another size than it says");
	if (config->size > sizeof(config->data))
		return fail(vu, -EINVAL,
			    "more of the configuration space "
			    "than a message can carry");
	if (!vu->dev->backing->placed)
		vu->dev->asked_early = true;
	virtio_mem_config(vu->dev, &space);
	/*
	 * What is behind its end reads zero. The protocol has an answer without
	 * payload for an error, which some front ends wait to become longer.
	 */
	memset(config->data, 0, config->size);
	if (config->offset < sizeof(space))
		memcpy(config->data, (uint8_t *)&space + config->offset,
		       config->size < sizeof(space) - config->offset
			       ? config->size
			       : sizeof(space) - config->offset);
	msg->header.size =
		offsetof(struct vhost_user_config, data) + config->size;
	return REPLY;
}

/* There is nothing in the configuration space that a driver may write. */
static int set_config(struct vhost_user *vu,
		      struct vhost_user_message *msg __attribute__((unused)))
{
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: SET_CONFIG: the configuration space is "
		    "read-only");
	return REFUSED;
}

static int set_status(struct vhost_user *vu, struct vhost_user_message *msg)
{
	uint8_t status = msg->payload.u64;

	if (msg->payload.u64 > UINT8_MAX)
		return fail(vu, -EINVAL, "an invalid status");
	if (!status)
		reset_device(vu);
	if (!virtio_mem_features_ok(vu->features))
		status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	vu->status = status;
	changed(vu);
	return HANDLED;
}

static int get_status(struct vhost_user *vu, struct vhost_user_message *msg)
{
	return reply_u64(msg, vu->status);
}

static int get_shmem_config(struct vhost_user *vu,
			    struct vhost_user_message *msg)
{
	struct vhost_user_shmem_config *config = &msg->payload.shmem_config;

	memset(config, 0, sizeof(*config));
	config->nr = 1;
	config->sizes[0] = vu->shmem_size;
	msg->header.size = sizeof(*config);
	return REPLY;
}

#define PAYLOAD(member) sizeof(((union vhost_user_payload *)0)->member)
#define EXACTLY(member) .min_size = PAYLOAD(member), .max_size = PAYLOAD(member)
#define INFLIGHT_MIN_SIZE \
	(offsetof(struct vhost_user_inflight, queue_size) + sizeof(uint16_t))
#define FDS(least, most) .min_fds = (least), .max_fds = (most)

static const struct handler handlers[VHOST_USER_NR_REQUESTS] = {
	[VHOST_USER_GET_FEATURES] = {"GET_FEATURES", get_features},
	[VHOST_USER_SET_FEATURES] = {"SET_FEATURES", set_features,
				     EXACTLY(u64)},
	/* Has no payload; some front ends send a number, it means nothing. */
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
	/* Some front ends send the descriptor here too; it means nothing. */
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

/* --- Receiving --- */

static const char lacking[] =
	"descriptors could not be received: this vmemd has no more "
	"(LimitNOFILE, ulimit -n)";

static const struct handler *handler_of(uint32_t request)
{
	if (request >= VHOST_USER_NR_REQUESTS || !handlers[request].handle)
		return NULL;
	return &handlers[request];
}

/* What can be told from the header alone, before its payload is read. */
static int check_header(struct vhost_user *vu)
{
	const struct vhost_user_header *header = &vu->in.message.header;
	const struct handler *handler = handler_of(header->request);

	if ((header->flags & VHOST_USER_FLAGS_VERSION_MASK) !=
	    VHOST_USER_FLAGS_VERSION)
		return fail(vu, -EPROTO, "an unknown protocol version");
	if (header->flags & VHOST_USER_FLAGS_REPLY)
		return fail(vu, -EPROTO, "a reply to nothing");
	if (!handler)
		return fail(vu, -EOPNOTSUPP, "an unknown request");
	if (header->size < handler->min_size)
		return fail(vu, -EPROTO, "too short a message");
	if (header->size > handler->max_size)
		return fail(vu, -EPROTO, "too long a message");
	return 0;
}

static int send_reply(struct vhost_user *vu)
{
	struct vhost_user_message *msg = &vu->in.message;
	struct iovec iov[] = {
		{.iov_base = &msg->header, .iov_len = sizeof(msg->header)},
		{.iov_base = &msg->payload, .iov_len = msg->header.size},
	};
	ssize_t sent;

	msg->header.flags = VHOST_USER_FLAGS_VERSION | VHOST_USER_FLAGS_REPLY;
	sent = fd_send(vu->fd, iov, 2, vu->reply_fd, MSG_DONTWAIT);
	fd_close(&vu->reply_fd);
	if (sent != (ssize_t)(sizeof(msg->header) + msg->header.size))
		return fail(vu, -EPIPE,
			    "the front end does not take the reply");
	return 0;
}

/*
 * A message whose descriptors could not be received, for no fault of the front
 * end's. It is not carried out. A front end that waits for the outcome learns
 * it, and goes on with what it has; with another the connection ends, since it
 * would believe in what is not so.
 */
static int refuse_lacking(struct vhost_user *vu, const struct handler *handler,
			  bool ack)
{
	if (!ack ||
	    !(vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)))
		return fail(vu, -EMFILE, lacking);
	log_limited(&vu->limit, LOG_LEVEL_ERR, vu->label,
		    "vhost-user: %s: %s; refused", handler->name, lacking);
	reply_u64(&vu->in.message, REFUSED);
	return send_reply(vu);
}

static int dispatch(struct vhost_user *vu)
{
	struct vhost_user_message *msg = &vu->in.message;
	const struct handler *handler = handler_of(msg->header.request);
	bool ack = msg->header.flags & VHOST_USER_FLAGS_NEED_REPLY;
	int ret;

	/* By check_header(). */
	if (!handler)
		return fail(vu, -EOPNOTSUPP, "an unknown request");
	if ((vu->protocol_features & handler->needs) != handler->needs)
		return fail(vu, -EPROTO, "its feature was not negotiated");
	if (vu->in.lacking)
		return refuse_lacking(vu, handler, ack);
	if (vu->in.nr_fds < handler->min_fds ||
	    vu->in.nr_fds > handler->max_fds)
		return fail(vu, -EPROTO, "a wrong number of descriptors");
	ret = handler->handle(vu, msg);
	if (ret < 0)
		return ret;
	log_debug_of(vu->label, "vhost-user: %s", handler->name);
	if (ret == REPLY)
		return send_reply(vu);
	if (ack &&
	    vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
		reply_u64(msg, ret);
		return send_reply(vu);
	}
	return 0;
}

/* Keep descriptors that came with a part of a message. */
static int keep_fds(struct vhost_user *vu, struct msghdr *mh)
{
	struct vhost_user_incoming *in = &vu->in;
	size_t before = in->nr_fds;
	bool too_many;

	too_many = !fd_keep(mh, in->fds, &in->nr_fds, VHOST_USER_MAX_FDS);
	/*
	 * The kernel also cuts descriptors off when this process has no room
	 * for them; those that came did not fill the buffer then.
	 */
	if (mh->msg_flags & MSG_CTRUNC) {
		if (in->nr_fds - before < VHOST_USER_MAX_FDS)
			in->lacking = true;
		else
			too_many = true;
	}
	return too_many ? fail(vu, -EPROTO, "too many descriptors") : 0;
}

/*
 * Receive @size bytes to @to. Never more: descriptors come with the first byte
 * of their message, and must not be taken for another's.
 *
 * Return: 1 all came; 0 not yet; -ENODATA the peer has closed.
 */
static int receive_part(struct vhost_user *vu, void *to, size_t size)
{
	union {
		char space[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = to, .iov_len = size};
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got;
	int ret;

	if (!size)
		return 1;
	got = recvmsg(vu->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -ENODATA;
	ret = keep_fds(vu, &mh);
	if (ret)
		return ret;
	if (!got)
		return -ENODATA;
	vu->in.have += got;
	return (size_t)got == size;
}

/* Return: 1 a whole message was received, 0 not yet, or an error. */
static int receive(struct vhost_user *vu)
{
	struct vhost_user_incoming *in = &vu->in;
	struct vhost_user_header *header = &in->message.header;
	size_t done;
	int ret;

	if (in->have < sizeof(*header)) {
		ret = receive_part(vu, (uint8_t *)header + in->have,
				   sizeof(*header) - in->have);
		if (ret <= 0)
			return ret;
		ret = check_header(vu);
		if (ret)
			return ret;
	}
	done = in->have - sizeof(*header);
	return receive_part(vu, (uint8_t *)&in->message.payload + done,
			    header->size - done);
}

static int on_message(sd_event_source *source __attribute__((unused)),
		      int fd __attribute__((unused)),
		      uint32_t revents __attribute__((unused)), void *arg)
{
	struct vhost_user *vu = arg;
	const struct handler *handler = NULL;
	int ret;

	ret = receive(vu);
	if (!ret)
		return 0;
	if (vu->in.have >= sizeof(vu->in.message.header))
		handler = handler_of(vu->in.message.header.request);
	if (ret > 0) {
		ret = dispatch(vu);
		drop_fds(&vu->in);
		vu->in.have = 0;
	}
	if (ret == -ENODATA && !vu->in.have) {
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: the front end has closed the "
			    "connection");
		end_connection(vu);
	} else if (ret == -ENODATA) {
		vu->reason = "the front end has closed the connection in the "
			     "middle of a message";
		end_with_reason(vu, handler ? handler->name : NULL);
	} else if (ret < 0) {
		end_with_reason(vu, handler ? handler->name : NULL);
	}
	return 0;
}

/* --- Coming and going --- */

static void on_front_end(void *arg, int fd)
{
	vhost_user_adopt(arg, fd);
}

/**
 * vhost_user_init() - prepare; does nothing yet
 * @event: the loop, not owned
 * @dev: the device, not owned
 * @access: what may be touched of the guest's memory, not owned
 */
void vhost_user_init(struct vhost_user *vu, sd_event *event,
		     struct virtio_mem *dev, struct guest_access *access)
{
	memset(vu, 0, sizeof(*vu));
	vu->event = event;
	vu->dev = dev;
	vu->access = access;
	guest_access_watch(access, &vu->more);
	vring_reset(&vu->vring);
	vu->memory.accessible = guest_access_accessible;
	vu->memory.arg = access;
	vu->memory.guard = &access->guard;
	vu->memory.work = &access->work;
	/* Memory of the connection, too: what is done about it is the same. */
	vu->inflight.guard = &access->guard;
	vu->inflight.lost = &vu->memory.lost;
	listener_init(&vu->listener, "vhost-user", on_front_end, vu);
	vu->fd = -1;
	vu->reply_fd = -1;
	vu->backend_fd = -1;
	vu->kick_fd = -1;
	vu->call_fd = -1;
	vu->err_fd = -1;
	doorbell_init(&vu->bell);
}

/**
 * vhost_user_set_label() - what messages are to say that they are about
 * @label: see base/log.h; not owned
 */
void vhost_user_set_label(struct vhost_user *vu, const char *label)
{
	vu->label = label;
	vu->listener.label = label;
	vu->bell.label = label;
}

/**
 * vhost_user_prepare() - get what is not to be had when the daemon is isolated
 *
 * Without it, the first front end or listening socket does it.
 */
void vhost_user_prepare(struct vhost_user *vu)
{
	int ret = doorbell_open(&vu->bell);

	if (ret)
		log_info_of(
			vu->label,
			"no asynchronous I/O: %s; a VMM that fills its call "
			"descriptor may stop this vmemd",
			strerror(-ret));
}

/* Once, with the first front end. */
static int add_deferred(struct vhost_user *vu)
{
	int ret = 0;

	if (!vu->more.source)
		ret = turn_init(&vu->more, vu->event, on_more, vu);
	if (ret < 0 || vu->lost_source)
		return ret;
	ret = sd_event_add_defer(vu->event, &vu->lost_source, on_lost, vu);
	if (ret < 0)
		return ret;
	return sd_event_source_set_enabled(vu->lost_source, SD_EVENT_OFF);
}

/**
 * vhost_user_adopt() - serve a front end that is connected
 * @fd: a stream socket; owned from here, also on error
 *
 * Return: 0; -EBUSY there is another; an errno of sd-event's.
 */
int vhost_user_adopt(struct vhost_user *vu, int fd)
{
	int ret;

	if (vu->fd >= 0) {
		close(fd);
		return -EBUSY;
	}
	vhost_user_prepare(vu);
	vu->fd = fd;
	ret = add_deferred(vu);
	if (ret >= 0)
		ret = sd_event_add_io(vu->event, &vu->source, fd, EPOLLIN,
				      on_message, vu);
	if (ret < 0) {
		end_connection(vu);
		return ret;
	}
	listener_enable(&vu->listener, false);
	log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
		    "vhost-user: a front end has connected");
	changed(vu);
	return 0;
}

/**
 * vhost_user_listen() - accept front ends, one at a time
 * @fd: listening stream socket; owned from here, also on error
 *
 * While one is served, others wait in the socket's backlog.
 */
int vhost_user_listen(struct vhost_user *vu, int fd)
{
	vhost_user_prepare(vu);
	return listener_start(&vu->listener, vu->event, fd);
}

void vhost_user_stop(struct vhost_user *vu)
{
	vu->changed = NULL;
	end_connection(vu);
	listener_stop(&vu->listener);
	doorbell_close(&vu->bell);
	guest_access_unwatch(vu->access, &vu->more);
	turn_end(&vu->more);
	vu->lost_source = sd_event_source_disable_unref(vu->lost_source);
}
