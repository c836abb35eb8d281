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

/*
 * Requests of the guest that are carried out before other work of the daemon
 * gets its turn.
 */
#define VHOST_USER_BUDGET 16

/**
 * struct vhost_user_incoming - a message as it comes in
 * @message: header, then payload
 * @have: bytes received
 * @fds: descriptors that came with it; -1 where a handler has taken one
 * @nr_fds: how many came
 * @lacking: some could not be received: this process has no more descriptors
 */
struct vhost_user_incoming {
	struct vhost_user_message message;
	size_t have;
	int fds[VHOST_USER_MAX_FDS];
	size_t nr_fds;
	bool lacking;
};

/**
 * struct vhost_user_shmem_ops - what whoever has memory mapped is told
 * @started: a driver works the queue; the memory table is complete
 * @stopped: no more; nothing that was asked for will be answered
 * @memory: the memory table has changed, also without a driver. Nothing may be
 *	asked for
 * @table: the same, while a driver works the queue
 * @replied: the front end has answered what it was asked for: yes or no
 * @ready: may the queue be served? Until vhost_user_go_on() not again, if not
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
 * struct vhost_user_reply - a reply on the backend channel, as it comes in
 * @have: bytes received
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
 * @label: for messages, see base/log.h; NULL or set by vhost_user_set_label()
 * @event: the loop
 * @dev: the device
 * @offer_packed: offer packed virtqueues
 * @changed: something that status shows has changed
 * @arg: for @changed
 * @listener: where front ends connect
 * @fd: the front end, -1 if there is none
 * @in: message being received
 * @error: why the connection is to end, after a handler has failed
 * @reply_fd: to go with the reply, -1 for none
 * @features: that the driver has accepted
 * @protocol_features: that the front end has accepted
 * @status: device status, if the front end speaks STATUS
 * @backend_fd: channel for our requests, -1 if there is none
 * @config_pending: the front end is still to be told of a change
 * @shmem_size: of the shared memory region that the device has, bytes
 * @shmem: who has memory mapped there, NULL if nobody has; with @shmem_arg
 * @shmem_started: it was told that a driver works the queue
 * @reply: from the backend channel
 * @memory: guest memory that the front end shares
 * @removed: what of it was taken back, and may return
 * @vring: the one queue
 * @inflight: what was taken from it and not answered
 * @waiting: a request of the ring waits for its answer
 * @waiting_chain: its chain
 * @kick_fd, @call_fd, @err_fd: eventfds that the front end has too, or -1
 * @access: what may be touched of the guest's memory; not owned
 * @more: there may be more requests in the ring
 * @bell: by which the latter two are signalled
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
