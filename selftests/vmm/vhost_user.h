/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A generic vhost-user front end: it knows nothing of the device behind it.
 * (QEMU's docs/interop/vhost-user.rst is the protocol.)
 *
 * Two sockets. On the first this side asks and waits for answers, one request
 * at a time; the caller serializes. On the second, the backend channel, the
 * backend asks, which today is only "the configuration space has changed".
 * A backend may wait for the answer there before it answers here, so whoever
 * serves the channel must not wait for whoever talks on the first: the two
 * share nothing in this file, and vhost_user_handle_channel() takes no lock.
 *
 * A backend that answers wrongly, late or not at all is given up: every call
 * then fails with -EPIPE.
 */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

struct inflight;
struct memory;

/* Most bytes of configuration space one message carries (the spec's limit). */
#define VHOST_USER_CONFIG_MAX 256

/**
 * struct vhost_user - a connection to a backend
 * @fd: first socket
 * @channel_fd: our end of the backend channel, -1 if the backend has none
 * @config_size: bytes of the device's configuration space
 * @features: virtio features the backend offers, without vhost-user's own
 * @protocol_features: those in use
 * @broken: the backend was given up
 */
struct vhost_user {
	int fd;
	int channel_fd;
	uint32_t config_size;
	uint64_t features;
	uint64_t protocol_features;
	bool broken;
};

/**
 * struct vhost_user_queue - a virtqueue as a backend is told of it
 * @index: which
 * @size: entries
 * @base: where in the available ring to begin; for a packed ring where in it,
 *	for driver and device, in the protocol's form
 * @desc: where the descriptors are in this process
 * @avail: the driver's ring
 * @used: the device's ring
 * @kick_fd: eventfd, signalled when the driver has made buffers available
 * @call_fd: eventfd that the backend signals when it has used some
 */
struct vhost_user_queue {
	uint32_t index;
	uint32_t size;
	uint32_t base;
	void *desc;
	void *avail;
	void *used;
	int kick_fd;
	int call_fd;
};

void vhost_user_init(struct vhost_user *vu);

/**
 * vhost_user_connect() - connect to a backend's socket
 * @path: of the socket
 *
 * Return: the connection for vhost_user_open(), or a negative errno.
 */
int vhost_user_connect(const char *path);

/**
 * vhost_user_open() - negotiate with a backend
 * @vu: the connection
 * @fd: a connected socket, which it takes over
 * @config_size: size of the device's configuration space
 *
 * Return: 0 or a negative errno, with a message.
 */
int vhost_user_open(struct vhost_user *vu, int fd, uint32_t config_size);

/**
 * vhost_user_shutdown() - make every call fail from now on
 * @vu: the connection; another thread may be waiting for an answer
 */
void vhost_user_shutdown(struct vhost_user *vu);
void vhost_user_close(struct vhost_user *vu);

/**
 * vhost_user_set_memory() - share all guest memory with the backend
 * @vu: the connection
 * @memory: the VM's memory; the region is shared whole, plugged or not, so
 *	rings and buffers in hotplugged memory work
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_memory(struct vhost_user *vu, const struct memory *memory);

/**
 * vhost_user_set_features() - what the driver has accepted
 * @vu: the connection
 * @features: a subset of those offered
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_features(struct vhost_user *vu, uint64_t features);

/**
 * vhost_user_set_status() - pass on what the driver wrote to device status
 * @vu: the connection
 * @status: what it wrote, but 0; that is vhost_user_reset()
 * @accepted: what the device made of it; the same for a backend without
 *	VHOST_USER_PROTOCOL_F_STATUS
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_status(struct vhost_user *vu, uint8_t status,
			  uint8_t *accepted);

/**
 * vhost_user_get_config() - read the whole configuration space
 * @vu: the connection
 * @config: @vu->config_size bytes
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_get_config(struct vhost_user *vu, uint8_t *config);

/**
 * vhost_user_set_config() - write to the configuration space
 * @vu: the connection
 * @offset: where, with @size inside @vu->config_size
 * @data: what
 * @size: bytes
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_config(struct vhost_user *vu, uint32_t offset,
			  const void *data, uint32_t size);

/**
 * vhost_user_has_inflight() - does the backend note what it has taken?
 * @vu: the connection
 */
bool vhost_user_has_inflight(const struct vhost_user *vu);

/**
 * vhost_user_get_inflight() - have the backend make memory to note that in
 * @vu: the connection
 * @inflight: the memory
 * @nr_queues: how many queues there are
 * @queue_size: entries of each, at most
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_get_inflight(struct vhost_user *vu, struct inflight *inflight,
			    uint16_t nr_queues, uint16_t queue_size);

/**
 * vhost_user_set_inflight() - give the backend that memory
 * @vu: the connection
 * @inflight: as an earlier backend, or this one, has made it
 * @nr_queues: how many queues there are
 * @queue_size: entries of each, at most
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_inflight(struct vhost_user *vu,
			    const struct inflight *inflight, uint16_t nr_queues,
			    uint16_t queue_size);

int vhost_user_start_queue(struct vhost_user *vu,
			   const struct vhost_user_queue *queue);

/**
 * vhost_user_stop_queue() - have the backend let go of a started queue
 * @vu: the connection
 * @index: which
 *
 * Return: 0 or a negative errno. On success the backend neither reads nor
 * writes the rings any more.
 */
int vhost_user_stop_queue(struct vhost_user *vu, uint32_t index);

/**
 * vhost_user_reset() - device reset, after all queues were stopped
 * @vu: the connection
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_reset(struct vhost_user *vu);

/**
 * vhost_user_handle_channel() - serve one message of the backend channel
 * @vu: the connection
 * @config_changed: set if it was a change of the configuration space
 *
 * Return: 0 or a negative errno; -EPIPE: the channel is closed.
 */
int vhost_user_handle_channel(struct vhost_user *vu, bool *config_changed);

#endif /* VHOST_USER_H */
