/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inflight region, which records requests in flight; see inflight.c. */
#ifndef INFLIGHT_H
#define INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_map.h"
#include "vhost/vring.h"

/**
 * struct inflight - the inflight region of the queue
 * @guard: guards the mapping; NULL: it is not guarded. Not owned
 * @lost: flag for @guard
 * @map: the mapped region; NULL: none
 * @file: the mapping that contains the region
 * @queue_size: number of entries
 * @counter: counter for the next chain that is taken
 * @taken: a chain is marked, by this or by an earlier daemon
 * @entry: first entry of this chain
 * @last: packed: last entry of this chain
 * @free_head: packed: first entry of the free list
 */
struct inflight {
	struct guard *guard;
	volatile bool *lost;
	void *map;
	struct file_map file;
	uint16_t queue_size;
	uint64_t counter;
	bool taken;
	uint16_t entry;
	uint16_t last;
	uint16_t free_head;
};

/* Returned by inflight_start(): the region was of another queue. */
#define INFLIGHT_ANEW 1

uint64_t inflight_size(uint16_t queue_size);
int inflight_create(uint16_t queue_size, struct error *err);
int inflight_open(struct inflight *inflight, int fd, uint64_t offset,
		  uint64_t size, uint16_t queue_size, struct error *err);
void inflight_close(struct inflight *inflight);

int inflight_start(struct inflight *inflight, struct vring_queue *vring,
		   struct error *err);
void inflight_forget(struct inflight *inflight);
void inflight_take(struct inflight *inflight, const struct vring_queue *vring,
		   const struct vring_chain *chain);
void inflight_push(struct inflight *inflight, struct vring_queue *vring,
		   const struct vring_chain *chain, size_t written);

#endif /* INFLIGHT_H */
