/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A split virtqueue, the device's side; see vring.c. */
#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "guest_memory.h"

/*
 * Most descriptors of a queue. virtio-mem's driver has one request at a time;
 * QEMU gives its queue 128.
 */
#define VRING_MAX_SIZE 1024

/* Most bytes taken from a chain and given to it: more than any request has. */
#define VRING_READ_MAX	64
#define VRING_WRITE_MAX 16

/**
 * struct vring_queue - a split virtqueue
 * @size: descriptors, a power of two; 0 until set
 * @desc_uva: descriptor table in the front end's address space; likewise
 *	@avail_uva, @used_uva
 * @has_addresses: the three are set
 * @desc: where they are mapped here, while @mapped
 * @last_avail: next entry of the available ring
 * @used_index: next entry of the used ring
 * @enabled: the front end has enabled the ring
 * @started: the front end has given a kick descriptor, and not stopped it
 * @broken: the driver has written nonsense; nothing is done until the front
 *	end starts the ring anew
 */
struct vring_queue {
	uint16_t size;
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	bool has_addresses;
	bool mapped;
	bool enabled;
	bool started;
	bool broken;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t last_avail;
	uint16_t used_index;
};

/**
 * struct vring_request - a descriptor chain, taken apart
 * @head: of the chain
 * @read: the first @read_size bytes that the driver has written
 * @read_size: at most VRING_READ_MAX
 * @write: the first @write_size writable bytes, mapped
 * @nr_write: entries of @write
 * @write_size: at most VRING_WRITE_MAX
 */
struct vring_request {
	uint16_t head;
	uint8_t read[VRING_READ_MAX];
	size_t read_size;
	struct iovec write[VRING_WRITE_MAX];
	size_t nr_write;
	size_t write_size;
};

bool vring_valid_size(uint32_t size);
int vring_map(struct vring_queue *vring, const struct guest_memory *memory,
	      const char **reason);
int vring_find(struct vring_queue *vring, const struct guest_memory *memory,
	       const char **reason);
void vring_unmap(struct vring_queue *vring);
int vring_walk(struct vring_queue *vring, const struct guest_memory *memory,
	       uint16_t head, struct vring_request *request,
	       const char **reason);
int vring_pop(struct vring_queue *vring, const struct guest_memory *memory,
	      struct vring_request *request, const char **reason);
size_t vring_write(struct vring_request *request, const void *data,
		   size_t size);
void vring_push(struct vring_queue *vring, const struct vring_request *request,
		size_t written);
bool vring_wants_interrupt(const struct vring_queue *vring);

#endif /* VRING_H */
