/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coming back to a backend that was lost.
 *
 * A backend may end at any time and be started again. Until it is back the
 * guest goes on: its requests stay in the rings, and a vCPU that reads the
 * configuration space waits. Then the new one is told all that the old one had
 * been told, and goes on where the rings say that the old one
 * was. A request that the old one had taken and not answered is taken once
 * more; that it is not carried out twice is the backend's affair.
 *
 * One thread, from reconnect_start() on, does what waits for the backend, for
 * the main loop has the backend channel to serve. It takes the device's lock to
 * exchange the connection; whoever holds that and waits for the old backend
 * does not wait any more, as the old connection is shut down.
 */
#ifndef RECONNECT_H
#define RECONNECT_H

#include <pthread.h>
#include <stdbool.h>

#include "vhost_user.h"
#include "virtio_mmio.h"

struct memory;

/**
 * struct reconnect - the way back
 * @dev: the device, whose connection is exchanged
 * @memory: shared with the backend
 * @connect: make a connection, without a message if there is nobody. Return: a
 *	socket or a negative errno
 * @opaque: for @connect
 * @back_fd: eventfd, readable when there is a new connection to be polled
 * @stop_fd: eventfd, readable when it is over
 * @running: there is a thread
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
 * reconnect_open() - be ready to come back
 * @reconnect: with @dev, @memory, @connect and @opaque set
 *
 * Return: 0 or a negative errno, with a message.
 */
int reconnect_open(struct reconnect *reconnect);

/**
 * reconnect_start() - the connection is lost and shut down: try until there is
 * another one
 * @reconnect: the way back
 *
 * Return: 0 or a negative errno, with a message.
 */
int reconnect_start(struct reconnect *reconnect);

/**
 * reconnect_finish() - to be called when @back_fd is readable
 * @reconnect: the way back
 *
 * The connection may be polled again.
 */
void reconnect_finish(struct reconnect *reconnect);
void reconnect_close(struct reconnect *reconnect);

#endif /* RECONNECT_H */
