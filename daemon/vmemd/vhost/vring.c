// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device's side of a virtqueue (virtio 1.3, 2.6 to 2.8). The two formats
 * are in vring_split.c and vring_packed.c, and chains of descriptors, which
 * are the same in both, in vring_chain.c.
 *
 * The guest may write the rings, and all memory that they point to, at any
 * time. So each value is read once into a local variable, and checked and used
 * there. A chain is walked once: device-readable buffers are copied, and
 * device-writable ones translated. A chain that breaks a rule breaks the queue,
 * since no later data of the driver can be trusted.
 *
 * Chains are answered in the order in which they are taken. At most one chain
 * is taken and not answered. The order matters, as the meaning of virtio-mem
 * requests depends on it.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "vhost/vring.h"
#include "vhost/vring_locate.h"
#include "vhost/vring_packed.h"
#include "vhost/vring_split.h"

static bool is_packed(const struct vring_queue *vring)
{
	return vring_has(vring, VIRTIO_F_RING_PACKED);
}

/* Reset a queue to its state before setup. */
void vring_reset(struct vring_queue *vring)
{
	*vring = (struct vring_queue){.avail_wrap = true, .used_wrap = true};
}

bool vring_valid_size(uint32_t size, bool packed)
{
	return size && size <= VRING_MAX_SIZE &&
	       (packed || !(size & (size - 1)));
}

/*
 * The device's position in its queue, in the protocol's form. Split queues: the
 * index in the available ring; the index in the used ring is in memory. Packed
 * queues: both indexes, each with its wrap counter as bit 15.
 */
uint32_t vring_base(const struct vring_queue *vring)
{
	if (!is_packed(vring))
		return vring->last_avail;
	return vring->last_avail | (uint32_t)vring->avail_wrap << 15 |
	       (uint32_t)vring->used_index << 16 |
	       (uint32_t)vring->used_wrap << 31;
}

/**
 * vring_set_base() - set the position that vring_base() returns
 * @vring: the queue
 * @base: position in the form of vring_base()
 *
 * It is used until the queue starts. The real position is found in the queue
 * then; see vring_locate.c.
 *
 * Return: 0; -EINVAL: more than 16 bits for a split queue; the lower ones are
 * used.
 */
int vring_set_base(struct vring_queue *vring, uint32_t base)
{
	vring->last_avail = base;
	vring->used_index = base;
	if (!is_packed(vring))
		return base > UINT16_MAX ? -EINVAL : 0;
	vring->last_avail &= VRING_PACKED_INDEX_MASK;
	vring->avail_wrap = base >> VRING_PACKED_EVENT_F_WRAP_CTR & 1;
	vring->used_index = base >> 16 & VRING_PACKED_INDEX_MASK;
	vring->used_wrap = base >> 31;
	return 0;
}

/**
 * vring_find() - find the rings in memory
 * @vring: the queue
 * @memory: the guest's memory
 * @err: set on failure; may be NULL
 *
 * To be called each time before the rings are accessed: the blocks of memory
 * that contain them may have been unplugged.
 *
 * Return: 0; -EINVAL: misaligned; -EFAULT: not in memory.
 */
int vring_find(struct vring_queue *vring, const struct guest_memory *memory,
	       struct error *err)
{
	if (is_packed(vring))
		return vring_packed_find(vring, memory, err);
	return vring_split_find(vring, memory, err);
}

/**
 * vring_map() - map the rings of a started queue
 * @vring: the queue
 * @memory: the guest's memory
 * @err: set on failure; may be NULL
 *
 * Called when size, addresses and memory are known, and again when the memory
 * changes. The first call after vring_stop() finds the position.
 *
 * Return: see vring_find().
 */
int vring_map(struct vring_queue *vring, const struct guest_memory *memory,
	      struct error *err)
{
	int ret;

	vring->mapped = false;
	/* The format may have been negotiated after the size was set. */
	if (!vring_valid_size(vring->size, is_packed(vring)))
		return error_set(err, -EINVAL,
				 "a size that the queue's format cannot have");
	ret = vring_find(vring, memory, err);
	if (ret)
		return ret;
	if (!vring->located) {
		vring_locate(vring);
		vring->tell = true;
	}
	vring->located = true;
	vring->mapped = true;
	return 0;
}

/* Stop. The next start finds the position again: another daemon may be next. */
void vring_stop(struct vring_queue *vring)
{
	vring->started = false;
	vring->broken = false;
	vring->mapped = false;
	vring->located = false;
	memset(&vring->split, 0, sizeof(vring->split));
}

/**
 * vring_pop() - take the next available chain
 * @vring: the queue
 * @memory: the guest's memory
 * @request: set to the parsed chain
 * @err: set on failure; may be NULL
 *
 * Return: 1: a chain was taken; 0: there is none, and the driver will kick for
 * the next one; -EINVAL, -EFAULT, -ELOOP: the driver broke a rule, and the
 * queue is marked broken.
 */
int vring_pop(struct vring_queue *vring, const struct guest_memory *memory,
	      struct vring_request *request, struct error *err)
{
	int ret;

	if (is_packed(vring))
		ret = vring_packed_pop(vring, memory, request, err);
	else
		ret = vring_split_pop(vring, memory, request, err);
	if (ret < 0)
		vring->broken = true;
	return ret;
}

/* Return the last chain that was taken to the queue. */
void vring_unpop(struct vring_queue *vring, const struct vring_chain *chain)
{
	if (is_packed(vring))
		vring_packed_unpop(vring, chain);
	else
		vring->last_avail--;
}

/**
 * vring_again() - parse the last chain again
 * @vring: the queue
 * @memory: the guest's memory
 * @chain: the chain
 * @request: set to the parsed chain
 * @err: set on failure; may be NULL
 *
 * A chain that waited for its answer is parsed again before it is written to,
 * since memory may have changed meanwhile.
 *
 * Return: 0; an error of vring_pop(): the queue is marked broken.
 */
int vring_again(struct vring_queue *vring, const struct guest_memory *memory,
		const struct vring_chain *chain, struct vring_request *request,
		struct error *err)
{
	int ret;

	if (is_packed(vring))
		ret = vring_packed_walk(vring, memory, chain->index, request,
					err);
	else
		ret = vring_split_walk(vring, memory, chain->id, request, err);
	/* The position of the next chain relies on this chain's length. */
	if (!ret && (request->chain.nr != chain->nr ||
		     request->chain.id != chain->id)) {
		ret = error_set(err, -EINVAL,
				"a chain that was changed after it was taken");
	}
	if (ret)
		vring->broken = true;
	return ret;
}

/**
 * vring_write() - write to the start of the writable part of a chain
 * @request: the parsed chain
 * @data: data to write
 * @size: bytes in @data
 *
 * Return: number of bytes written, less than @size if the part is shorter.
 */
size_t vring_write(struct vring_request *request, const void *data, size_t size)
{
	size_t done = 0;

	for (size_t i = 0; i < request->nr_write && done < size; i++) {
		const struct iovec *iov = &request->write[i];
		size_t part = iov->iov_len;

		if (part > size - done)
			part = size - done;
		memcpy(iov->iov_base, (const uint8_t *)data + done, part);
		done += part;
	}
	return done;
}

/* Give a chain back to the driver, with @written bytes written to it. */
void vring_push(struct vring_queue *vring, const struct vring_chain *chain,
		size_t written)
{
	if (is_packed(vring))
		vring_packed_push(vring, chain, written);
	else
		vring_split_push(vring, chain, written);
	vring->untold += chain->nr;
}

/* Does the driver want an interrupt for entries used since the last call? */
bool vring_wants_interrupt(struct vring_queue *vring)
{
	uint16_t used = vring->untold;
	bool tell = vring->tell;
	bool wants;

	/* Make the store to the ring visible before reading the flags. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (is_packed(vring))
		wants = vring_packed_wants_interrupt(vring, used);
	else
		wants = vring_split_wants_interrupt(vring, used);
	vring->untold = 0;
	vring->tell = false;
	return wants || (tell && vring_has(vring, VIRTIO_RING_F_EVENT_IDX));
}
