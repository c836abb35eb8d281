// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The backend channel: requests and notifications from the device to its front
 * end.
 *
 * The channel is a separate socket, which the front end sends if BACKEND_REQ
 * was negotiated. Some front ends send it after they have enabled the queue. It
 * carries notifications that the configuration space has changed and, with
 * SHMEM, requests to map memory. A device that needs such requests does not
 * serve its queue without the channel.
 *
 * The device never waits for a front end that does not read. A notification is
 * kept until it can be sent. A channel that does not accept a request is
 * closed.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/fd.h"
#include "vhost/backend_channel.h"
#include "vhost/connection.h"
#include "vhost/vhost_queue.h"

/*
 * Close the channel. Pending requests get no reply. This is handled in the next
 * turn, since the caller may be sending a request at the moment.
 */
void vhost_channel_drop(struct vhost_user *vu)
{
	if (vu->shmem_started)
		turn_take(&vu->more);
	vu->backend_source = sd_event_source_disable_unref(vu->backend_source);
	fd_close(&vu->backend_fd);
	vu->config_pending = false;
	vu->reply.have = 0;
	vu->unanswered = 0;
	vu->stale = 0;
}

/* Replies only arrive if a backing sends requests. */
static uint32_t backend_events(const struct vhost_user *vu)
{
	return vu->shmem ? EPOLLIN : 0;
}

static void channel_full(struct vhost_user *vu)
{
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: the backend channel does not take messages; "
		    "channel closed");
	vhost_channel_drop(vu);
}

static void send_config_change(struct vhost_user *vu)
{
	struct vhost_user_header header = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_FLAGS_VERSION,
	};
	ssize_t sent;

	/*
	 * Front ends with SHMEM crash on a notification without a driver. While
	 * the state is lost, Linux must not read the plugged size, which it
	 * would adopt.
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
		/* One notification covers any number of changes. */
		vu->config_pending = true;
	} else {
		channel_full(vu);
		return;
	}
	sd_event_source_set_io_events(
		vu->backend_source,
		backend_events(vu) | (vu->config_pending ? EPOLLOUT : 0));
}

/*
 * The backing does not wait for replies any more. A reply does not say which
 * request it is for, so those to earlier requests are counted and ignored.
 */
void vhost_channel_stopped(struct vhost_user *vu)
{
	vu->shmem_started = false;
	vu->stale = vu->unanswered;
	vu->shmem->stopped(vu->shmem_arg);
}

/*
 * No more requests to the front end are possible. A request of the guest that
 * waits for one is handled again later.
 */
void vhost_channel_leave(struct vhost_user *vu)
{
	if (!vu->shmem_started)
		return;
	if (vu->waiting)
		vring_unpop(&vu->vring, &vu->waiting_chain);
	vu->waiting = false;
	vhost_channel_stopped(vu);
}

/* Does the queue wait for a channel, which the front end has not sent? */
bool vhost_channel_lacking(const struct vhost_user *vu)
{
	return vu->shmem && vu->backend_fd < 0;
}

/*
 * May requests of the guest be handled? A backing that maps memory needs the
 * channel first, and must have corrected the mappings.
 */
bool vhost_channel_ready(struct vhost_user *vu)
{
	if (!vu->shmem)
		return true;
	if (vhost_channel_lacking(vu)) {
		vhost_channel_leave(vu);
		return false;
	}
	if (vhost_queue_runs(vu) && !vu->shmem_started) {
		vu->shmem_started = true;
		vu->shmem->started(vu->shmem_arg);
		if (vu->config_pending)
			send_config_change(vu);
	}
	return vu->shmem->ready(vu->shmem_arg);
}

/**
 * vhost_channel_ask() - send a request to the front end
 * @vu: the back end
 * @request: a value of enum vhost_user_backend_request
 * @payload: payload of the request
 * @size: bytes in @payload
 * @fd: descriptor to send with the request; -1: none
 *
 * The reply is passed to the ops of vhost_channel_use_shmem().
 *
 * Return: 0; -ENOTCONN: there is no channel; another errno of sendmsg(2): it may
 * be sent later.
 */
int vhost_channel_ask(struct vhost_user *vu, uint32_t request,
		      const void *payload, uint32_t size, int fd)
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
	if (sent == (ssize_t)(sizeof(header) + size)) {
		vu->unanswered++;
		return 0;
	}
	if (sent < 0 &&
	    (errno == EAGAIN || errno == EINTR || fd_is_shortage(-errno)))
		return -errno;
	channel_full(vu);
	return -ENOTCONN;
}

/* Return: 1: a reply is complete; 0: not yet; -EPROTO: not a reply. */
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

/* Receive replies on the backend channel. */
static void on_reply(struct vhost_user *vu)
{
	const struct vhost_user_reply *reply = &vu->reply;
	int ret;

	ret = receive_reply(vu);
	if (ret < 0) {
		error_set(&vu->error, ret, "no reply, on the backend channel");
		vhost_connection_end_with(vu, NULL);
		return;
	}
	if (!ret)
		return;
	if (vu->unanswered)
		vu->unanswered--;
	if (vu->stale)
		vu->stale--;
	else if (vu->shmem_started)
		vu->shmem->replied(vu->shmem_arg, reply->message.header.request,
				   !reply->message.value);
}

/**
 * vhost_channel_use_shmem() - give the device a shared memory region
 * @vu: the back end
 * @size: bytes in the region
 * @ops: callbacks for the backing that maps memory in it
 * @arg: for @ops
 *
 * To be called before the first front end connects. Front ends without support
 * for SHMEM are refused.
 */
void vhost_channel_use_shmem(struct vhost_user *vu, uint64_t size,
			     const struct vhost_user_shmem_ops *ops, void *arg)
{
	vu->shmem_size = size;
	vu->shmem = ops;
	vu->shmem_arg = arg;
}

static int on_backend_channel(sd_event_source *source __attribute__((unused)),
			      int fd __attribute__((unused)), uint32_t revents,
			      void *arg)
{
	struct vhost_user *vu = arg;

	if (revents & (EPOLLHUP | EPOLLERR))
		vhost_channel_drop(vu);
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
 * Send a pending notification. While the queue is stopped, the device is
 * suspended and must not send any. A driver that starts the queue again has
 * read the configuration.
 */
void vhost_channel_tell_config(struct vhost_user *vu)
{
	if (vu->config_pending && vu->backend_fd >= 0 && vu->vring.started)
		send_config_change(vu);
}

/* The device's configuration space has changed: notify the driver. */
void vhost_channel_config_changed(struct vhost_user *vu)
{
	vu->config_pending = true;
	vhost_channel_tell_config(vu);
}

/**
 * vhost_channel_open() - use a channel that the front end has sent
 * @vu: the back end
 * @fd: the channel, which replaces an earlier one; taken over, also on error
 *
 * Return: 0, or an errno with vu->error set.
 */
int vhost_channel_open(struct vhost_user *vu, int fd)
{
	int ret;

	vhost_channel_drop(vu);
	vhost_channel_leave(vu);
	vu->backend_fd = fd;
	ret = sd_event_add_io(vu->event, &vu->backend_source, vu->backend_fd,
			      backend_events(vu), on_backend_channel, vu);
	if (ret < 0)
		return error_set(&vu->error, ret,
				 "the channel cannot be polled");
	/*
	 * The configuration may have changed without a channel, or before a
	 * restart. A notification without a change is harmless for a driver.
	 */
	vu->config_pending = true;
	vhost_channel_tell_config(vu);
	return 0;
}
