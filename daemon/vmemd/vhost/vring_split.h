/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The split format of virtqueues; see vring_split.c. */
#ifndef VRING_SPLIT_H
#define VRING_SPLIT_H

#include "vhost/vring.h"

int vring_split_find(struct vring_queue *vring,
		     const struct guest_memory *memory, struct error *err);
int vring_split_walk(struct vring_queue *vring,
		     const struct guest_memory *memory, uint16_t head,
		     struct vring_request *request, struct error *err);
int vring_split_pop(struct vring_queue *vring,
		    const struct guest_memory *memory,
		    struct vring_request *request, struct error *err);
void vring_split_push(struct vring_queue *vring,
		      const struct vring_chain *chain, uint32_t written);
bool vring_split_wants_interrupt(const struct vring_queue *vring,
				 uint16_t used);

#endif /* VRING_SPLIT_H */
