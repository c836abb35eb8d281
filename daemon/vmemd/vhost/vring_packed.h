/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The packed format of virtqueues; see vring_packed.c. */
#ifndef VRING_PACKED_H
#define VRING_PACKED_H

#include "vhost/vring.h"

/* A position has 15 bits of index and a wrap counter. */
#define VRING_PACKED_INDEX_MASK 0x7fffU

int vring_packed_find(struct vring_queue *vring,
		      const struct guest_memory *memory, struct error *err);
int vring_packed_walk(struct vring_queue *vring,
		      const struct guest_memory *memory, uint16_t index,
		      struct vring_request *request, struct error *err);
int vring_packed_pop(struct vring_queue *vring,
		     const struct guest_memory *memory,
		     struct vring_request *request, struct error *err);
void vring_packed_unpop(struct vring_queue *vring,
			const struct vring_chain *chain);
void vring_packed_push(struct vring_queue *vring,
		       const struct vring_chain *chain, uint32_t written);
bool vring_packed_wants_interrupt(const struct vring_queue *vring,
				  uint16_t used);
void vring_packed_advance(const struct vring_queue *vring, uint16_t *index,
			  bool *wrap, uint16_t nr);
bool vring_packed_is_available(const struct vring_queue *vring, uint16_t index,
			       bool wrap);

#endif /* VRING_PACKED_H */
