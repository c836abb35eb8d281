/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A generic vhost-user front end, independent of the kind of device. (QEMU's
 * docs/interop/vhost-user.rst is the protocol.)
 *
 * There are two sockets. On the first one this side sends requests and waits
 * for answers, one request at a time; the caller serializes. On the second one,
 * the backend channel, the backend sends requests; the only one supported is
 * "the configuration space has changed". A backend may wait for that answer
 * before it answers here. The thread that serves the channel must therefore not
 * wait for a thread that uses the first socket: the two share nothing in this
 * file, and vhost_user_handle_channel() takes no lock.
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

/*
 * Maximum number of bytes of configuration space in one message (the
 * specification's limit).
 */
#define VHOST_USER_CONFIG_MAX 256

/**
 * struct vhost_user - a connection to a backend
 * @fd: first socket
 * @channel_fd: this side's socket of the backend channel, -1 if the backend
 *	does not support it
 * @config_size: bytes of the device's configuration space
 * @features: virtio features that the backend offers, without vhost-user's own
 * @protocol_features: negotiated protocol features
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
 * struct vhost_user_queue - a virtqueue, as the backend gets it
 * @index: number of the queue
 * @size: entries
 * @base: start in the available ring; for a packed ring, the positions of
 *	driver and device in the protocol's form
 * @desc: the descriptors in this process
 * @avail: the driver's ring
 * @used: the device's ring
 * @kick_fd: eventfd, signalled when the driver has made buffers available
 * @call_fd: eventfd that the backend signals when it has used buffers
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
 * @fd: a connected socket, owned by @vu from now on
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
 * @memory: the VM's memory; the region is shared as a whole, plugged or not, so
 *	that rings and buffers may be in hotplugged memory
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_memory(struct vhost_user *vu, const struct memory *memory);

/**
 * vhost_user_set_features() - set the features that the driver has accepted
 * @vu: the connection
 * @features: a subset of those offered
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_features(struct vhost_user *vu, uint64_t features);

/**
 * vhost_user_set_status() - pass on a write to the device status
 * @vu: the connection
 * @status: the value written, not 0; vhost_user_reset() is for 0
 * @accepted: out: the resulting status; @status for a backend without
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
 * @offset: offset, with @size inside @vu->config_size
 * @data: the bytes
 * @size: number of bytes
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_config(struct vhost_user *vu, uint32_t offset,
			  const void *data, uint32_t size);

/**
 * vhost_user_has_inflight() - does the backend support inflight memory?
 * @vu: the connection
 */
bool vhost_user_has_inflight(const struct vhost_user *vu);

/**
 * vhost_user_get_inflight() - request inflight memory from the backend
 * @vu: the connection
 * @inflight: out: the memory
 * @nr_queues: number of queues
 * @queue_size: maximum number of entries of each
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_get_inflight(struct vhost_user *vu, struct inflight *inflight,
			    uint16_t nr_queues, uint16_t queue_size);

/**
 * vhost_user_set_inflight() - give the backend inflight memory
 * @vu: the connection
 * @inflight: memory that this or an earlier backend has created
 * @nr_queues: number of queues
 * @queue_size: maximum number of entries of each
 *
 * Return: 0 or a negative errno.
 */
int vhost_user_set_inflight(struct vhost_user *vu,
			    const struct inflight *inflight, uint16_t nr_queues,
			    uint16_t queue_size);

int vhost_user_start_queue(struct vhost_user *vu,
			   const struct vhost_user_queue *queue);

/**
 * vhost_user_stop_queue() - stop a started queue
 * @vu: the connection
 * @index: number of the queue
 *
 * Return: 0 or a negative errno. On success the backend neither reads nor
 * writes the rings any more.
 */
int vhost_user_stop_queue(struct vhost_user *vu, uint32_t index);

/**
 * vhost_user_reset() - reset the device, after all queues were stopped
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
