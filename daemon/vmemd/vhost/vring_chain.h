/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walking a descriptor chain; see vring_chain.c. */
#ifndef VRING_CHAIN_H
#define VRING_CHAIN_H

#include "vhost/vring.h"

/**
 * struct vring_walk - a walk along a chain
 * @memory: where buffers and indirect tables are
 * @request: what the chain comes to
 * @err: filled on failure; may be NULL
 * @features: as negotiated
 * @nr: buffers up to here
 * @max_table: most descriptors of an indirect table
 * @total: bytes of its buffers up to here
 * @writable: the device's part has begun
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
 * struct vring_element - a descriptor of either format, as it was read
 * @gpa: of its buffer
 * @size: of its buffer, bytes
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
