/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory in which a backend notes what it has taken from a queue and not
 * answered (docs/interop/vhost-user.rst, "Inflight I/O tracking"). The backend
 * makes it; this side keeps it and gives it to the next backend, which goes on
 * where the lost one was.
 *
 * Only one thing in it is looked at here: how far the device is in a packed
 * ring, which is not in the ring.
 */
#ifndef INFLIGHT_H
#define INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct inflight - the memory, if there is any
 * @fd: -1 if there is none
 * @size: bytes
 * @offset: where it begins in @fd
 * @map: where it is mapped
 */
struct inflight {
	int fd;
	uint64_t size;
	uint64_t offset;
	const void *map;
};

void inflight_init(struct inflight *inflight);

/**
 * inflight_take() - take over what a backend has made
 * @inflight: the memory; what was there is given up
 * @fd: its descriptor, which it takes over
 * @size: bytes
 * @offset: where it begins in @fd
 *
 * Return: 0 or a negative errno.
 */
int inflight_take(struct inflight *inflight, int fd, uint64_t size,
		  uint64_t offset);
void inflight_close(struct inflight *inflight);

/**
 * inflight_packed_position() - how far a packed ring's device is
 * @inflight: memory of one queue, and there is some
 *
 * Return: index of the descriptor that is used next, and the wrap counter in
 * bit 15.
 */
uint16_t inflight_packed_position(const struct inflight *inflight);

#endif /* INFLIGHT_H */
