/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device as a vhost-user back end; see vhost_user.c. */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "guest_memory.h"
#include "inflight.h"
#include "listener.h"
#include "log.h"
#include "vhost_user_protocol.h"
#include "virtio_mem.h"
#include "vring.h"

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
 */
struct vhost_user_incoming {
	struct vhost_user_message message;
	size_t have;
	int fds[VHOST_USER_MAX_FDS];
	size_t nr_fds;
};

/**
 * struct vhost_user - the back end, with at most one front end
 * @event: the loop
 * @dev: the device
 * @offer_packed: offer packed virtqueues
 * @changed: something that status shows has changed
 * @arg: for @changed
 * @listener: where front ends connect
 * @fd: the front end, -1 if there is none
 * @in: message being received
 * @reason: why the connection is to end, after a handler has failed
 * @reply_fd: to go with the reply, -1 for none
 * @features: that the driver has accepted
 * @protocol_features: that the front end has accepted
 * @status: device status, if the front end speaks STATUS
 * @backend_fd: channel for our requests, -1 if there is none
 * @config_pending: the front end is still to be told of a change
 * @memory: guest memory that the front end shares
 * @vring: the one queue
 * @inflight: what was taken from it and not answered
 * @waiting: a request of the ring waits for its answer
 * @waiting_chain: its chain
 */
struct vhost_user {
	sd_event *event;
	struct virtio_mem *dev;
	bool offer_packed;
	void (*changed)(void *arg);
	void *arg;

	struct listener listener;

	int fd;
	sd_event_source *source;
	struct vhost_user_incoming in;
	const char *reason;
	int reply_fd;
	uint64_t features;
	uint64_t protocol_features;
	uint8_t status;

	int backend_fd;
	sd_event_source *backend_source;
	bool config_pending;

	struct guest_memory memory;
	struct vring_queue vring;
	struct inflight inflight;
	bool waiting;
	struct vring_chain waiting_chain;
	int kick_fd;
	int call_fd;
	int err_fd;
	sd_event_source *kick_source;
	sd_event_source *more_source;
	sd_event_source *lost_source;
	struct log_limit limit;
};

void vhost_user_init(struct vhost_user *vu, sd_event *event,
		     struct virtio_mem *dev);
int vhost_user_listen(struct vhost_user *vu, int fd);
int vhost_user_adopt(struct vhost_user *vu, int fd);
void vhost_user_stop(struct vhost_user *vu);

bool vhost_user_answered(struct vhost_user *vu,
			 const struct virtio_mem_resp *resp);
void vhost_user_go_on(struct vhost_user *vu);
void vhost_user_config_changed(struct vhost_user *vu);
bool vhost_user_connected(const struct vhost_user *vu);
bool vhost_user_driver_ready(const struct vhost_user *vu);

#endif /* VHOST_USER_H */
