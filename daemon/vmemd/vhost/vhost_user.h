/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device as a vhost-user back end; see connection.c. */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/listener.h"
#include "base/log.h"
#include "base/turn.h"
#include "common/error.h"
#include "device/virtio_mem.h"
#include "vhost/doorbell.h"
#include "vhost/guest_access.h"
#include "vhost/guest_memory.h"
#include "vhost/inflight.h"
#include "vhost/protocol.h"
#include "vhost/removed_memory.h"
#include "vhost/vring.h"

/* Requests of the guest that are handled before other work gets its turn. */
#define VHOST_USER_BUDGET 16

/**
 * struct vhost_user_incoming - a message that is being received
 * @message: the message
 * @have: number of bytes received
 * @fds: descriptors that came with the message; a handler takes one over by
 *	setting it to -1
 * @nr_fds: number of @fds
 * @lacking: descriptors could not be received, e.g. because this process has
 *	too many open files
 */
struct vhost_user_incoming {
	struct vhost_user_message message;
	size_t have;
	int fds[VHOST_USER_MAX_FDS];
	size_t nr_fds;
	bool lacking;
};

/**
 * struct vhost_user_shmem_ops - callbacks for a backing that maps memory
 * @started: a driver uses the queue; the memory table is complete
 * @stopped: no driver uses the queue any more; pending requests will not be
 *	answered
 * @memory: the memory table has changed, also without a driver. Requests are
 *	not allowed in this call
 * @table: the memory table has changed while a driver uses the queue
 * @replied: the front end has answered a request: accepted or not
 * @ready: may the queue be served? If not, it is asked again after
 *	vhost_user_go_on()
 */
struct vhost_user_shmem_ops {
	void (*started)(void *arg);
	void (*stopped)(void *arg);
	void (*memory)(void *arg);
	void (*table)(void *arg);
	void (*replied)(void *arg, uint32_t request, bool ok);
	bool (*ready)(void *arg);
};

/**
 * struct vhost_user_reply - a reply on the backend channel, being received
 * @message: the reply
 * @have: number of bytes received
 */
struct vhost_user_reply {
	struct __attribute__((packed)) {
		struct vhost_user_header header;
		uint64_t value;
	} message;
	size_t have;
};

/**
 * struct vhost_user - the back end, with at most one front end
 * @label: prefix of messages, see base/log.h; NULL, or set by
 *	vhost_user_set_label()
 * @event: the event loop
 * @dev: the device
 * @offer_packed: offer packed virtqueues
 * @changed: something that status shows has changed
 * @arg: for @changed
 * @listener: listening socket for front ends
 * @fd: connection to the front end; -1: none
 * @source: event source of the connection
 * @in: message being received
 * @error: reason for ending the connection, after a handler has failed
 * @reply_fd: descriptor to send with the reply; -1: none
 * @features: feature bits accepted by the driver
 * @protocol_features: feature bits accepted by the front end
 * @status: device status, if STATUS was negotiated
 * @backend_fd: backend channel, for requests to the front end; -1: none
 * @backend_source: event source of the backend channel
 * @config_pending: a configuration change has not been sent yet
 * @shmem_started: @shmem has got @started without @stopped
 * @shmem_size: bytes in the device's shared memory region
 * @shmem: backing that maps memory in this region; NULL: none
 * @shmem_arg: for @shmem
 * @reply: reply being received on the backend channel
 * @unanswered: number of requests on the channel without a reply
 * @stale: number of these that were sent before the queue stopped
 * @memory: guest memory that the front end shares
 * @removed: guest memory that the front end has removed and may add again
 * @vring: the queue
 * @inflight: the inflight region
 * @waiting: a request waits for the answer of the device
 * @waiting_chain: chain of this request
 * @kick_fd: eventfd for requests, shared with the front end; -1: none
 * @call_fd: eventfd for interrupts, shared with the front end; -1: none
 * @err_fd: eventfd for errors, shared with the front end; -1: none
 * @bell: signals @call_fd and @err_fd
 * @kick_source: event source of @kick_fd
 * @access: guest memory that may be accessed; not owned
 * @more: schedules further processing of the queue
 * @lost_source: deferred end of the connection after shared memory was lost
 * @limit: rate limit for messages that a guest or front end can cause
 */
struct vhost_user {
	const char *label;
	sd_event *event;
	struct virtio_mem *dev;
	bool offer_packed;
	void (*changed)(void *arg);
	void *arg;

	struct listener listener;

	int fd;
	sd_event_source *source;
	struct vhost_user_incoming in;
	struct error error;
	int reply_fd;
	uint64_t features;
	uint64_t protocol_features;
	uint8_t status;

	int backend_fd;
	sd_event_source *backend_source;
	bool config_pending;
	bool shmem_started;

	uint64_t shmem_size;
	const struct vhost_user_shmem_ops *shmem;
	void *shmem_arg;
	struct vhost_user_reply reply;
	unsigned int unanswered;
	unsigned int stale;

	struct guest_memory memory;
	struct removed_memory removed;
	struct vring_queue vring;
	struct inflight inflight;
	bool waiting;
	struct vring_chain waiting_chain;
	int kick_fd;
	int call_fd;
	int err_fd;
	struct doorbell bell;
	sd_event_source *kick_source;
	struct guest_access *access;
	struct turn more;
	sd_event_source *lost_source;
	struct log_limit limit;
};

void vhost_user_init(struct vhost_user *vu, sd_event *event,
		     struct virtio_mem *dev, struct guest_access *access);
void vhost_user_set_label(struct vhost_user *vu, const char *label);
void vhost_user_prepare(struct vhost_user *vu);
int vhost_user_listen(struct vhost_user *vu, int fd);
int vhost_user_adopt(struct vhost_user *vu, int fd);
void vhost_user_stop(struct vhost_user *vu);

void vhost_channel_use_shmem(struct vhost_user *vu, uint64_t size,
			     const struct vhost_user_shmem_ops *ops, void *arg);
int vhost_channel_ask(struct vhost_user *vu, uint32_t request,
		      const void *payload, uint32_t size, int fd);

bool vhost_user_answered(struct vhost_user *vu,
			 const struct virtio_mem_resp *resp);
void vhost_user_go_on(struct vhost_user *vu);
void vhost_channel_config_changed(struct vhost_user *vu);
bool vhost_user_connected(const struct vhost_user *vu);
bool vhost_user_driver_ready(const struct vhost_user *vu);

#endif /* VHOST_USER_H */
