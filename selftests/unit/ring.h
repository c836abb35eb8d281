/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue with both ends, for tests: the daemon's objects, a driver, and guest
 * memory between them.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stdint.h>

#include "driver.h"
#include "unit.h"
#include "vhost/guest_memory.h"
#include "vhost/vring.h"
#include "vhost/vring_packed.h"

#define RING_SIZE   16
#define RING_MEMORY (64 * KIB)

/* Memory of the largest queue, behind the other memory. */
#define RING_LARGE	  (64 * KIB)
#define RING_LARGE_MEMORY (2 * MIB)
#define RING_GPA	  (1 * GIB)
#define RING_UVA	  0x700001000000ULL
#define RING_DESC	  0
#define RING_AVAIL	  0x1000
#define RING_USED	  0x2000
#define RING_BUFFERS	  0x4000
#define RING_TABLES	  0x8000

/**
 * struct ring - a device, a driver, and memory between them
 * @features: the format
 * @layout: offsets of the queue's parts
 * @forbidden: first guest address that must not be accessed
 * @request: the last request taken
 */
struct ring {
	uint64_t features;
	int fd;
	uint8_t *memory;
	struct guest_memory shared;
	struct driver_layout layout;
	uint64_t forbidden;
	struct driver driver;
	struct vring_queue vring;
	struct vring_request request;
	struct error err;
};

int ring_set_up(void **state);
int ring_tear_down(void **state);

void ring_map(struct ring *f);
void ring_start(struct ring *f, uint16_t size);
void ring_start_large(struct ring *f);
void ring_next_daemon(struct ring *f, uint32_t base);
bool ring_has(const struct ring *f, unsigned int bit);
bool ring_packed(const struct ring *f);
bool ring_indirect(const struct ring *f);
int ring_pop(struct ring *f);
void ring_push(struct ring *f, size_t written);
struct driver_chain ring_add_request(struct ring *f);
void ring_assert_back(struct ring *f, const struct driver_chain *chain,
		      uint32_t written);
void ring_go_on_for(struct ring *f, unsigned int rounds);

#endif /* RING_H */
