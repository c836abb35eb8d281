// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device as a vhost-user back end (QEMU's docs/interop/vhost-user.rst).
 *
 * A front end is the generic vhost-user code of a VMM: it knows the device's id
 * (24), one queue, and 56 bytes of configuration space. It connects, shares the
 * guest's memory and sets up the queue. From then on, KVM signals the kick
 * descriptor for the guest's requests, and it turns the call descriptor into an
 * interrupt for the answers. The front end is not involved.
 *
 * No function here blocks, whatever the front end does to the descriptors that
 * it shares: the kick descriptor is never read, and the others are signalled by
 * doorbell.c. Messages may arrive in parts. A reply that the socket does not
 * accept at once ends the connection: replies are small, so a front end that
 * lets them pile up is broken.
 *
 * Messages are checked in two steps. The table in messages.c gives the size,
 * the number of descriptors and the required features; the handler checks the
 * contents. A failure ends the connection with the reason in the log, because
 * the state that the front end assumes is unknown then. The next front end is
 * accepted after that. Blocks stay plugged.
 *
 * The queue is in vhost_queue.c, and requests to the front end are in
 * backend_channel.c. A device whose memory the front end maps needs that
 * channel before it serves the queue.
 *
 * Reset. RESET_DEVICE and status 0 stop the queue and drop negotiated features.
 * Blocks stay plugged, as specified for a reset of the device; see
 * device/virtio_mem.c for a reset of the system.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "vhost/backend_channel.h"
#include "vhost/connection.h"
#include "vhost/messages.h"
#include "vhost/vhost_queue.h"

void vhost_connection_changed(struct vhost_user *vu)
{
	if (vu->changed)
		vu->changed(vu->arg);
}

static void drop_fds(struct vhost_user_incoming *in)
{
	for (size_t i = 0; i < in->nr_fds; i++)
		fd_close(&in->fds[i]);
	in->nr_fds = 0;
	in->lacking = false;
}

/* --- The end --- */

/*
 * Reset the state that belongs to the driver. Call and error descriptors belong
 * to the front end and are kept; not every front end sends them again.
 */
void vhost_connection_reset(struct vhost_user *vu)
{
	vhost_queue_stop(vu);
	vring_reset(&vu->vring);
	vu->features = 0;
	vu->status = 0;
}

static void end_connection(struct vhost_user *vu)
{
	vu->source = sd_event_source_disable_unref(vu->source);
	fd_close(&vu->fd);
	drop_fds(&vu->in);
	vu->in.have = 0;
	/* A request in flight stays marked, for the next front end. */
	vhost_queue_leave(vu);
	inflight_close(&vu->inflight);
	vhost_connection_reset(vu);
	fd_close(&vu->call_fd);
	fd_close(&vu->err_fd);
	vhost_channel_drop(vu);
	guest_memory_clear(&vu->memory);
	removed_memory_clear(&vu->removed);
	/* A pending loss of memory concerned this connection. */
	if (vu->lost_source)
		sd_event_source_set_enabled(vu->lost_source, SD_EVENT_OFF);
	vu->protocol_features = 0;
	listener_enable(&vu->listener, true);
	vhost_connection_changed(vu);
}

/* Log an error of the front end and end the connection. */
void vhost_connection_end_with(struct vhost_user *vu, const char *request)
{
	log_limited(&vu->limit, LOG_LEVEL_ERR, vu->label,
		    "vhost-user: %s%s%s; connection closed",
		    request ? request : "", request ? ": " : "",
		    vu->error.text);
	end_connection(vu);
}

static int on_lost(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vhost_user *vu = arg;

	/* Also with a new memory table: the queue is broken already. */
	error_set(&vu->error, -EFAULT, "a memory region's file was truncated");
	vhost_connection_end_with(vu, NULL);
	return 0;
}

/* --- Receiving --- */

static const char lacking[] =
	"descriptors could not be received; perhaps this vmemd has too many "
	"open files (LimitNOFILE, ulimit -n)";

/* Check the header, before the payload is received. */
static int check_header(struct vhost_user *vu)
{
	const struct vhost_user_header *header = &vu->in.message.header;
	const struct vhost_message_handler *handler =
		vhost_message_handler(header->request);

	if ((header->flags & VHOST_USER_FLAGS_VERSION_MASK) !=
	    VHOST_USER_FLAGS_VERSION)
		return error_set(&vu->error, -EPROTO,
				 "an unknown protocol version");
	if (header->flags & VHOST_USER_FLAGS_REPLY)
		return error_set(&vu->error, -EPROTO,
				 "a reply without a request");
	if (!handler)
		return error_set(&vu->error, -EOPNOTSUPP, "an unknown request");
	if (header->size < handler->min_size)
		return error_set(&vu->error, -EPROTO, "too short a message");
	if (header->size > handler->max_size)
		return error_set(&vu->error, -EPROTO, "too long a message");
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
	/* Only the reply with an inflight region has a descriptor. */
	if (sent < 0 && vu->reply_fd >= 0 && fd_is_shortage(-errno)) {
		vhost_message_no_inflight(vu, msg, -errno);
		sent = fd_send(vu->fd, iov, 2, -1, MSG_DONTWAIT);
	}
	fd_close(&vu->reply_fd);
	if (sent != (ssize_t)(sizeof(msg->header) + msg->header.size))
		return error_set(&vu->error, -EPIPE,
				 "the front end does not take the reply");
	return 0;
}

/*
 * Refuse a message whose descriptors could not be received, which is not the
 * front end's fault. If the front end waits for an acknowledgement, it learns
 * of the failure and can continue. Otherwise the connection ends, because the
 * front end would assume success.
 */
static int refuse_lacking(struct vhost_user *vu,
			  const struct vhost_message_handler *handler, bool ack)
{
	if (!ack ||
	    !(vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)))
		return error_set(&vu->error, -EMFILE, "%s", lacking);
	log_limited(&vu->limit, LOG_LEVEL_ERR, vu->label,
		    "vhost-user: %s: %s; refused", handler->name, lacking);
	vhost_message_reply_u64(&vu->in.message, VHOST_MESSAGE_REFUSED);
	return send_reply(vu);
}

static int dispatch(struct vhost_user *vu)
{
	struct vhost_user_message *msg = &vu->in.message;
	const struct vhost_message_handler *handler =
		vhost_message_handler(msg->header.request);
	bool ack = msg->header.flags & VHOST_USER_FLAGS_NEED_REPLY;
	int ret;

	/* check_header() ensures this. */
	if (!handler)
		return error_set(&vu->error, -EOPNOTSUPP, "an unknown request");
	if ((vu->protocol_features & handler->needs) != handler->needs)
		return error_set(&vu->error, -EPROTO,
				 "its feature was not negotiated");
	if (vu->in.lacking)
		return refuse_lacking(vu, handler, ack);
	if (vu->in.nr_fds < handler->min_fds ||
	    vu->in.nr_fds > handler->max_fds)
		return error_set(&vu->error, -EPROTO,
				 "a wrong number of descriptors");
	ret = handler->handle(vu, msg);
	if (ret < 0)
		return ret;
	log_debug_of(vu->label, "vhost-user: %s", handler->name);
	if (ret == VHOST_MESSAGE_REPLY)
		return send_reply(vu);
	if (ack &&
	    vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
		vhost_message_reply_u64(msg, ret);
		return send_reply(vu);
	}
	return 0;
}

/* Keep descriptors that came with a part of a message. */
static int keep_fds(struct vhost_user *vu, struct msghdr *mh)
{
	struct vhost_user_incoming *in = &vu->in;
	int ret = fd_keep(mh, in->fds, &in->nr_fds, VHOST_USER_MAX_FDS);

	if (ret == -E2BIG)
		return error_set(&vu->error, -EPROTO, "too many descriptors");
	if (ret)
		in->lacking = true;
	return 0;
}

/*
 * Receive up to @size bytes. Descriptors come with the first byte of their
 * message, so bytes of the next message must not be received.
 *
 * Return: 1: complete; 0: not yet; -ENODATA: end of file; another errno.
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

/* Return: 1: a whole message was received; 0: not yet; an errno. */
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
	const struct vhost_message_handler *handler = NULL;
	int ret;

	ret = receive(vu);
	if (!ret)
		return 0;
	if (vu->in.have >= sizeof(vu->in.message.header))
		handler = vhost_message_handler(vu->in.message.header.request);
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
		error_set(&vu->error, ret,
			  "the front end has closed the connection in the "
			  "middle of a message");
		vhost_connection_end_with(vu, handler ? handler->name : NULL);
	} else if (ret < 0) {
		vhost_connection_end_with(vu, handler ? handler->name : NULL);
	}
	return 0;
}

/* --- Front ends --- */

static void on_front_end(void *arg, int fd)
{
	vhost_user_adopt(arg, fd);
}

/**
 * vhost_user_init() - initialise the back end
 * @vu: the back end
 * @event: the event loop; not owned
 * @dev: the device; not owned
 * @access: guest memory that may be accessed; not owned
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
	/* The loss of the inflight region is handled like lost guest memory. */
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
 * vhost_user_set_label() - set the prefix of messages
 * @vu: the back end
 * @label: see base/log.h; not owned
 */
void vhost_user_set_label(struct vhost_user *vu, const char *label)
{
	vu->label = label;
	vu->listener.label = label;
	vu->bell.label = label;
}

/**
 * vhost_user_prepare() - acquire resources that need privileges
 * @vu: the back end
 *
 * If this was not called, the first front end or listening socket does it.
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

/* Add deferred event sources with the first front end. */
static int add_deferred(struct vhost_user *vu)
{
	int ret = 0;

	if (!vu->more.source)
		ret = turn_init(&vu->more, vu->event, vhost_queue_on_more, vu);
	if (ret < 0 || vu->lost_source)
		return ret;
	ret = sd_event_add_defer(vu->event, &vu->lost_source, on_lost, vu);
	if (ret < 0)
		return ret;
	return sd_event_source_set_enabled(vu->lost_source, SD_EVENT_OFF);
}

/**
 * vhost_user_adopt() - serve a connected front end
 * @vu: the back end
 * @fd: a stream socket; taken over, also on error
 *
 * Return: 0; -EBUSY: another front end is connected; an errno of sd-event's.
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
	vhost_connection_changed(vu);
	return 0;
}

/**
 * vhost_user_listen() - accept front ends, one at a time
 * @vu: the back end
 * @fd: listening stream socket; taken over, also on error
 *
 * While a front end is served, others wait in the socket's backlog.
 *
 * Return: 0, or an errno.
 */
int vhost_user_listen(struct vhost_user *vu, int fd)
{
	vhost_user_prepare(vu);
	return listener_start(&vu->listener, vu->event, fd);
}

bool vhost_user_connected(const struct vhost_user *vu)
{
	return vu->fd >= 0;
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
