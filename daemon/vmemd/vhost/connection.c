// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device as a vhost-user back end (QEMU's docs/interop/vhost-user.rst).
 *
 * A front end is a VMM's generic vhost-user code: it knows the device's id
 * (24), one queue, and 56 bytes of configuration space. It connects, shares
 * the guest's memory and sets up the queue. From then on the guest's requests
 * arrive by the kick descriptor, which KVM signals, and answers are signalled by
 * the call descriptor, which KVM turns into an interrupt. The front end is not
 * involved.
 *
 * Nothing here blocks, whatever the front end does to the descriptors that it
 * shares with us: the kick's is never read, and the others are signalled by
 * doorbell.c. A message is received in parts if it comes in parts; a
 * reply that the socket does not take at once ends the connection, since
 * replies are small and a front end that lets them pile up is broken.
 *
 * What a front end sends is checked twice: its size, its number of
 * descriptors and that its feature was negotiated, by the table in messages.c;
 * its contents, by its handler there. A message that fails ends the connection
 * with the reason in the log, since the state that the front end assumes is unknown
 * then. The next front end is accepted after that. None of this changes the
 * device's blocks.
 *
 * The queue is in vhost_queue.c, requests to the front end are in
 * backend_channel.c. A device whose memory the front end maps needs that channel
 * before it serves the queue.
 *
 * Reset. RESET_DEVICE, and status 0, stop the queue and forget what was
 * negotiated. Blocks stay plugged, as the specification demands of a device
 * reset; see device/virtio_mem.c on system reset.
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
 * Call and error descriptors are the front end's, not the driver's: they stay,
 * and not every front end sends them again.
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
	/* What is in flight stays marked, for the next front end. */
	vhost_queue_leave(vu);
	inflight_close(&vu->inflight);
	vhost_connection_reset(vu);
	fd_close(&vu->call_fd);
	fd_close(&vu->err_fd);
	vhost_channel_drop(vu);
	guest_memory_clear(&vu->memory);
	removed_memory_clear(&vu->removed);
	/* What was lost was this connection's. */
	if (vu->lost_source)
		sd_event_source_set_enabled(vu->lost_source, SD_EVENT_OFF);
	vu->protocol_features = 0;
	listener_enable(&vu->listener, true);
	vhost_connection_changed(vu);
}

/* A peer sent what it must not: say so, and be done with it. */
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

	/* Also if the front end has sent another table since: work has stopped. */
	error_set(&vu->error, -EFAULT, "a memory region's file was truncated");
	vhost_connection_end_with(vu, NULL);
	return 0;
}

/* --- Receiving --- */

static const char lacking[] =
	"descriptors could not be received: this vmemd has no more "
	"(LimitNOFILE, ulimit -n)";

/* What can be told from the header alone, before its payload is read. */
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
		return error_set(&vu->error, -EPROTO, "a reply to nothing");
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
	fd_close(&vu->reply_fd);
	if (sent != (ssize_t)(sizeof(msg->header) + msg->header.size))
		return error_set(&vu->error, -EPIPE,
				 "the front end does not take the reply");
	return 0;
}

/*
 * A message whose descriptors could not be received, for no fault of the front
 * end's. It is not carried out. A front end that waits for the outcome learns
 * it, and goes on with what it has; with another the connection ends, since it
 * would believe in what is not so.
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

	/* By check_header(). */
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
	return too_many ? error_set(&vu->error, -EPROTO, "too many descriptors")
			: 0;
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
		ret = turn_init(&vu->more, vu->event, vhost_queue_on_more, vu);
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
	vhost_connection_changed(vu);
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
