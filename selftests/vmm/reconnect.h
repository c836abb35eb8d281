/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reconnecting to a backend that was lost.
 *
 * A backend may end at any time and be started again. Meanwhile the guest
 * continues: its requests stay in the rings, and a vCPU that reads the
 * configuration space waits. The new backend then gets the same setup as the
 * old one, and continues at the position in the rings. It handles a request
 * again that the old one had taken and not answered. The backend itself ensures
 * that it is not carried out twice.
 *
 * One thread, started by reconnect_start(), does everything that waits for the
 * backend, since the main loop has to serve the backend channel. The thread
 * takes the device's lock to exchange the connection. The lock's holder does
 * not wait for the old backend any more, because the old connection is shut
 * down.
 */
#ifndef RECONNECT_H
#define RECONNECT_H

#include <pthread.h>
#include <stdbool.h>

#include "vhost_user.h"
#include "virtio_mmio.h"

struct memory;

/**
 * struct reconnect - reconnects a device
 * @dev: the device whose connection is exchanged
 * @memory: shared with the backend
 * @connect: connects, without a message if there is no backend. Return: a
 *	socket or a negative errno
 * @opaque: argument of @connect
 * @back_fd: eventfd, readable when a new connection can be polled
 * @stop_fd: eventfd, readable when the thread has to stop
 * @running: the thread exists
 */
struct reconnect {
	struct virtio_mmio *dev;
	const struct memory *memory;
	int (*connect)(void *opaque);
	void *opaque;
	int back_fd;
	int stop_fd;
	bool running;
	pthread_t thread;
};

void reconnect_init(struct reconnect *reconnect);

/**
 * reconnect_open() - prepare to reconnect
 * @reconnect: with @dev, @memory, @connect and @opaque set
 *
 * Return: 0 or a negative errno, with a message.
 */
int reconnect_open(struct reconnect *reconnect);

/**
 * reconnect_start() - retry until there is a new connection
 * @reconnect: the old connection is lost and shut down
 *
 * Return: 0 or a negative errno, with a message.
 */
int reconnect_start(struct reconnect *reconnect);

/**
 * reconnect_finish() - take the new connection
 * @reconnect: its @back_fd is readable
 *
 * The connection may be polled again.
 */
void reconnect_finish(struct reconnect *reconnect);
void reconnect_close(struct reconnect *reconnect);

#endif /* RECONNECT_H */
