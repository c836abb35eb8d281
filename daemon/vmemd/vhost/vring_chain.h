/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walking a descriptor chain; see vring_chain.c. */
#ifndef VRING_CHAIN_H
#define VRING_CHAIN_H

#include "vhost/vring.h"

/**
 * struct vring_walk - state of a walk along a chain
 * @memory: guest memory with buffers and indirect tables
 * @request: result
 * @err: set on failure; may be NULL
 * @features: negotiated feature bits
 * @nr: number of buffers so far
 * @max_table: maximum number of descriptors in an indirect table
 * @total: bytes in the buffers so far
 * @writable: a device-writable buffer has been seen
 */
struct vring_walk {
	const struct guest_memory *memory;
	struct vring_request *request;
	struct error *err;
	uint64_t features;
	uint32_t nr;
	uint32_t max_table;
	uint32_t total;
	bool writable;
};

/**
 * struct vring_element - a copy of a descriptor of either format
 * @gpa: guest address of the buffer
 * @size: bytes in the buffer
 * @flags: VRING_DESC_F_*
 */
struct vring_element {
	uint64_t gpa;
	uint32_t size;
	uint16_t flags;
};

void vring_walk_begin(struct vring_walk *walk, const struct vring_queue *vring,
		      const struct guest_memory *memory,
		      struct vring_request *request, struct error *err);
int vring_walk_add(struct vring_walk *walk,
		   const struct vring_element *element);

#endif /* VRING_CHAIN_H */
