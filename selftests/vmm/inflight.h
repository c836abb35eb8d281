/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory in which a backend records the requests that it has taken but not
 * answered (docs/interop/vhost-user.rst, "Inflight I/O tracking"). The backend
 * creates it. This side keeps it and passes it to the next backend, which
 * continues where the lost one was.
 *
 * The front end reads only one thing in it: the device's position in a packed
 * ring, which the ring itself does not have.
 */
#ifndef INFLIGHT_H
#define INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct inflight - the memory
 * @fd: -1 if there is none
 * @size: bytes
 * @offset: its offset in @fd
 * @map: its mapping
 */
struct inflight {
	int fd;
	uint64_t size;
	uint64_t offset;
	const void *map;
};

void inflight_init(struct inflight *inflight);

/**
 * inflight_take() - take the memory that a backend has created
 * @inflight: replaced; the old memory is closed
 * @fd: its descriptor, owned by @inflight from now on
 * @size: bytes
 * @offset: its offset in @fd
 *
 * Return: 0 or a negative errno.
 */
int inflight_take(struct inflight *inflight, int fd, uint64_t size,
		  uint64_t offset);
void inflight_close(struct inflight *inflight);

/**
 * inflight_packed_position() - the device's position in a packed ring
 * @inflight: existing memory of one queue
 *
 * Return: index of the next used descriptor, and the wrap counter in bit 15.
 */
uint16_t inflight_packed_position(const struct inflight *inflight);

#endif /* INFLIGHT_H */
