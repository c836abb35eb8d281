/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtqueue, the device's side; see vring.c. */
#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vhost/guest_memory.h"

/* Most descriptors of a queue, by the specification (2.7). */
#define VRING_MAX_SIZE 32768

/*
 * Most descriptors of an indirect table in a queue that is smaller than this.
 * No table may have more than the queue's size (2.7.5.3.1), but QEMU takes
 * chains as long as this from any queue.
 */
#define VRING_MAX_TABLE 1024

/*
 * Most descriptors of one chain, those of its indirect table included: it bounds
 * what one request costs, whatever the queue's size.
 */
#define VRING_CHAIN_MAX 2048

/* Most bytes taken from a chain and given to it: more than any request has. */
#define VRING_READ_MAX	64
#define VRING_WRITE_MAX 16

/* Feature bits that change how a queue is read. */
#define VRING_FEATURES                         \
	(1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
	 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_F_RING_PACKED)

/**
 * struct vring_split - the parts of a split virtqueue (virtio 1.3, 2.7)
 * @desc: descriptor table
 * @avail: available ring, the driver's
 * @used: used ring, the device's
 */
struct vring_split {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

/**
 * struct vring_packed - the parts of a packed virtqueue (virtio 1.3, 2.8)
 * @desc: descriptor ring
 * @driver: when the driver wants to be told, the driver event suppression
 * @device: when the device wants to be told
 */
struct vring_packed {
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver;
	struct vring_packed_desc_event *device;
};

/**
 * struct vring_queue - a virtqueue
 * @features: of VRING_FEATURES those that were negotiated
 * @size: descriptors, for a split queue a power of two; 0 until set
 * @desc_uva: descriptor table or ring in the front end's address space
 * @avail_uva: available ring or driver event suppression, likewise
 * @used_uva: used ring or device event suppression, likewise
 * @has_addresses: the three are set
 * @split, @packed: where they are mapped here, while @mapped
 * @located: the positions below are those of the queue that was started
 * @last_avail: next entry of the available ring, or of the descriptor ring
 * @used_index: next entry of the used ring, or of the descriptor ring
 * @avail_wrap: packed: the driver's wrap counter at @last_avail
 * @used_wrap: packed: the device's wrap counter at @used_index
 * @untold: entries used since vring_wants_interrupt() was asked
 * @tell: the driver is to be told whatever it wants: what was used before
 *	@untold is not known
 * @enabled: the front end has enabled the ring
 * @started: the front end has given a kick descriptor, and not stopped it
 * @broken: the driver has written nonsense; nothing is done until the front
 *	end starts the ring anew
 */
struct vring_queue {
	uint64_t features;
	uint16_t size;
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	bool has_addresses;
	bool mapped;
	bool located;
	bool enabled;
	bool started;
	bool broken;
	union {
		struct vring_split split;
		struct vring_packed packed;
	};
	uint16_t last_avail;
	uint16_t used_index;
	bool avail_wrap;
	bool used_wrap;
	uint16_t untold;
	bool tell;
};

/**
 * struct vring_chain - which chain it is
 * @id: its first descriptor in the table of a split queue, its buffer id in a
 *	packed one
 * @index: packed: its first descriptor in the ring
 * @nr: entries that it takes of what the driver makes available: 1 in a split
 *	queue, its descriptors in the ring of a packed one
 */
struct vring_chain {
	uint16_t id;
	uint16_t index;
	uint16_t nr;
};

/* A request of which no address is known that is not in memory. */
#define VRING_NO_FAULT UINT64_MAX

/**
 * struct vring_request - a descriptor chain, taken apart
 * @chain: which
 * @read: the first @read_size bytes that the driver has written
 * @read_size: at most VRING_READ_MAX
 * @write: the first @write_size writable bytes, mapped
 * @nr_write: entries of @write
 * @write_size: at most VRING_WRITE_MAX
 * @fault: after -EFAULT, the guest address that is not in memory
 */
struct vring_request {
	struct vring_chain chain;
	uint8_t read[VRING_READ_MAX];
	size_t read_size;
	struct iovec write[VRING_WRITE_MAX];
	size_t nr_write;
	size_t write_size;
	uint64_t fault;
};

static inline bool vring_has(const struct vring_queue *vring, unsigned int bit)
{
	return vring->features & 1ULL << bit;
}

void vring_reset(struct vring_queue *vring);
bool vring_valid_size(uint32_t size, bool packed);
uint32_t vring_base(const struct vring_queue *vring);
int vring_set_base(struct vring_queue *vring, uint32_t base);
int vring_map(struct vring_queue *vring, const struct guest_memory *memory,
	      struct error *err);
int vring_find(struct vring_queue *vring, const struct guest_memory *memory,
	       struct error *err);
void vring_stop(struct vring_queue *vring);
int vring_pop(struct vring_queue *vring, const struct guest_memory *memory,
	      struct vring_request *request, struct error *err);
void vring_unpop(struct vring_queue *vring, const struct vring_chain *chain);
int vring_again(struct vring_queue *vring, const struct guest_memory *memory,
		const struct vring_chain *chain, struct vring_request *request,
		struct error *err);
size_t vring_write(struct vring_request *request, const void *data,
		   size_t size);
void vring_push(struct vring_queue *vring, const struct vring_chain *chain,
		size_t written);
bool vring_wants_interrupt(struct vring_queue *vring);

#endif /* VRING_H */
