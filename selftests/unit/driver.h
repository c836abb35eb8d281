/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of a virtqueue, for tests: in each format, with and without
 * indirect descriptors and event index. It follows the specification; a test
 * that violates a rule modifies what the driver has written.
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

/* Most descriptors of a table; each slot of the ring has room for one. */
#define DRIVER_TABLE 32

/**
 * struct driver_layout - offsets in the guest's memory
 * @desc, @avail, @used: parts of the queue, by their names in the split format
 * @tables: room for an indirect table per slot
 */
struct driver_layout {
	size_t desc;
	size_t avail;
	size_t used;
	size_t tables;
};

/* A buffer of a chain. */
struct driver_buffer {
	uint64_t gpa;
	uint32_t size;
	bool write;
};

/**
 * struct driver_chain - a chain that the driver has made
 * @slot: its first descriptor in the ring or table of the queue
 * @nr: number of buffers
 * @id: id with which the device returns it
 */
struct driver_chain {
	uint16_t slot;
	uint16_t nr;
	uint16_t id;
};

/* The fields of a descriptor in either format; little-endian. */
struct driver_entry {
	uint64_t *gpa;
	uint32_t *size;
	uint16_t *flags;
	uint16_t *next;
};

/**
 * struct driver - a driver of a queue
 * @features: negotiated features
 * @size: size of the queue
 * @memory: the guest's memory, from @gpa on
 * @next: slot of the next chain
 * @used: packed: slot in which the device returns the next chain
 * @avail: number of entries made available, modulo 2^16
 * @seen: number of entries taken back, modulo 2^16
 * @kicked: @avail at the last kick
 * @avail_wrap, @used_wrap: wrap counters of the packed format
 */
struct driver {
	uint64_t features;
	uint16_t size;
	uint8_t *memory;
	uint64_t gpa;
	struct driver_layout layout;
	uint16_t next;
	uint16_t used;
	uint16_t avail;
	uint16_t seen;
	uint16_t kicked;
	bool avail_wrap;
	bool used_wrap;
};

void driver_init(struct driver *driver, uint8_t *memory, uint64_t gpa,
		 const struct driver_layout *layout, uint64_t features,
		 uint16_t size);
bool driver_has(const struct driver *driver, unsigned int bit);
struct driver_chain driver_add(struct driver *driver,
			       const struct driver_buffer *buffers,
			       uint16_t nr);
struct driver_entry driver_slot(const struct driver *driver, uint16_t slot);
struct driver_entry driver_entry(const struct driver *driver,
				 const struct driver_chain *chain, uint16_t i);
bool driver_take(struct driver *driver, uint16_t nr, uint16_t *id,
		 uint32_t *written);
uint16_t driver_slot_of(const struct driver *driver, uint16_t id);
bool driver_needs_kick(struct driver *driver);
void driver_want_interrupt(struct driver *driver, bool want);
void driver_want_interrupt_after(struct driver *driver, uint16_t nr);
uint32_t driver_base(const struct driver *driver);

#endif /* DRIVER_H */
