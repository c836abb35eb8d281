/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device's side of a virtqueue; see vring.c. */
#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vhost/guest_memory.h"

/* Maximum number of descriptors in a queue, by the specification (2.7). */
#define VRING_MAX_SIZE 32768

/*
 * Maximum number of descriptors in an indirect table, if the queue is smaller
 * than this. The specification limits a table to the queue's size (2.7.5.3.1),
 * but QEMU accepts chains of this length from any queue.
 */
#define VRING_MAX_TABLE 1024

/*
 * Maximum number of descriptors in a chain, including its indirect table. It
 * bounds the cost of a request for all queue sizes.
 */
#define VRING_CHAIN_MAX 2048

/* Maximum bytes read from and written to a chain; no request has more. */
#define VRING_READ_MAX	64
#define VRING_WRITE_MAX 16

/* Feature bits that change the format of a queue. */
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
 * @driver: driver event suppression: when the driver wants interrupts
 * @device: device event suppression: when the device wants kicks
 */
struct vring_packed {
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver;
	struct vring_packed_desc_event *device;
};

/**
 * struct vring_queue - a virtqueue
 * @features: negotiated feature bits of VRING_FEATURES
 * @size: number of descriptors; a power of two for a split queue; 0: not set
 * @desc_uva: address of the descriptor table or ring in the front end
 * @avail_uva: likewise of the available ring or driver event suppression
 * @used_uva: likewise of the used ring or device event suppression
 * @has_addresses: the three addresses are set
 * @mapped: @split or @packed is valid
 * @located: the positions below are those of the started queue
 * @enabled: the front end has enabled the ring
 * @started: the front end has sent a kick descriptor and has not stopped the
 *	ring since
 * @broken: the driver has broken a rule; the queue is ignored until the front
 *	end starts the ring again
 * @split: the mapped parts of a split queue
 * @packed: the mapped parts of a packed queue
 * @last_avail: next entry of the available ring, or of the descriptor ring
 * @used_index: next entry of the used ring, or of the descriptor ring
 * @avail_wrap: packed: the driver's wrap counter at @last_avail
 * @used_wrap: packed: the device's wrap counter at @used_index
 * @untold: number of entries used since the last vring_wants_interrupt()
 * @tell: send an interrupt in any case: entries may have been used earlier,
 *	which @untold does not count
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
 * struct vring_chain - identifies a descriptor chain
 * @id: split: index of the first descriptor in the table; packed: buffer id
 * @index: packed: index of the first descriptor in the ring
 * @nr: split: 1; packed: number of descriptors in the ring
 */
struct vring_chain {
	uint16_t id;
	uint16_t index;
	uint16_t nr;
};

/* Value of @fault if no address outside memory is known. */
#define VRING_NO_FAULT UINT64_MAX

/**
 * struct vring_request - a parsed descriptor chain
 * @chain: the chain
 * @read: copy of the first device-readable bytes
 * @read_size: number of bytes in @read
 * @write: the first device-writable bytes, mapped
 * @nr_write: number of entries in @write
 * @write_size: number of bytes in @write, at most VRING_WRITE_MAX
 * @fault: after -EFAULT, the guest address that is outside memory
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
