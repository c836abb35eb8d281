// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device's side of a split virtqueue (virtio 1.3, section 2.7), without
 * indirect descriptors and event index, which are not offered.
 *
 * The rings and everything they point to are in memory that the guest writes
 * at any time. So every value is read once, into a variable of ours, checked
 * there and used from there; and a chain is walked once, what the driver has
 * written being copied out and what it lets us write being translated on the
 * way. A chain that breaks a rule breaks the queue: which of the driver's
 * data to believe after that is not known.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include "vring.h"

bool vring_valid_size(uint32_t size)
{
	return size && size <= VRING_MAX_SIZE && !(size & (size - 1));
}

/**
 * vring_find() - find the rings in memory
 * @reason: what is wrong, on error
 *
 * To be called each time before the rings are touched: the blocks of memory
 * that they are in may have been unplugged.
 *
 * Return: 0; -EINVAL misaligned; -EFAULT not in memory.
 */
int vring_find(struct vring_queue *vring, const struct guest_memory *memory,
	       const char **reason)
{
	size_t size = vring->size;

	if (vring->desc_uva % VRING_DESC_ALIGN_SIZE ||
	    vring->avail_uva % VRING_AVAIL_ALIGN_SIZE ||
	    vring->used_uva % VRING_USED_ALIGN_SIZE) {
		*reason = "a misaligned ring";
		return -EINVAL;
	}
	/* The last uint16_t of each is the event index, used or not. */
	vring->desc = guest_memory_at_uva(memory, vring->desc_uva,
					  size * sizeof(*vring->desc));
	vring->avail = guest_memory_at_uva(
		memory, vring->avail_uva,
		sizeof(*vring->avail) + (size + 1) * sizeof(uint16_t));
	vring->used = guest_memory_at_uva(
		memory, vring->used_uva,
		sizeof(*vring->used) + size * sizeof(struct vring_used_elem) +
			sizeof(uint16_t));
	if (!vring->desc || !vring->avail || !vring->used) {
		*reason = "a ring outside the guest's memory";
		return -EFAULT;
	}
	/* Our own mapping may be less aligned than the front end's. */
	if ((uintptr_t)vring->desc % VRING_DESC_ALIGN_SIZE ||
	    (uintptr_t)vring->avail % VRING_AVAIL_ALIGN_SIZE ||
	    (uintptr_t)vring->used % VRING_USED_ALIGN_SIZE) {
		*reason = "a ring in a misaligned memory region";
		return -EINVAL;
	}
	return 0;
}

/**
 * vring_map() - start to work with the rings
 *
 * Called when all of size, addresses and memory are there, and again when the
 * memory changes.
 *
 * Return: as vring_find().
 */
int vring_map(struct vring_queue *vring, const struct guest_memory *memory,
	      const char **reason)
{
	int ret;

	vring->mapped = false;
	ret = vring_find(vring, memory, reason);
	if (ret)
		return ret;
	vring->used_index =
		le16toh(__atomic_load_n(&vring->used->idx, __ATOMIC_RELAXED));
	vring->mapped = true;
	return 0;
}

void vring_unmap(struct vring_queue *vring)
{
	vring->mapped = false;
	vring->desc = NULL;
	vring->avail = NULL;
	vring->used = NULL;
}

static int take_readable(const struct guest_memory *memory, uint64_t gpa,
			 uint32_t size, struct vring_request *request,
			 const char **reason)
{
	while (size) {
		size_t room = VRING_READ_MAX - request->read_size;
		uint64_t left;
		void *from = guest_memory_at_gpa(memory, gpa, &left);

		if (!from) {
			*reason = "a descriptor outside the guest's memory";
			return -EFAULT;
		}
		if (left > size)
			left = size;
		memcpy(request->read + request->read_size, from,
		       left < room ? left : room);
		request->read_size += left < room ? left : room;
		size -= left;
		gpa += left;
	}
	return 0;
}

static int take_writable(const struct guest_memory *memory, uint64_t gpa,
			 uint32_t size, struct vring_request *request,
			 const char **reason)
{
	while (size) {
		size_t room = VRING_WRITE_MAX - request->write_size;
		uint64_t left;
		void *to = guest_memory_at_gpa(memory, gpa, &left);

		if (!to) {
			*reason = "a descriptor outside the guest's memory";
			return -EFAULT;
		}
		if (left > size)
			left = size;
		if (room) {
			/* Each takes a byte at least: there are enough. */
			struct iovec *iov = &request->write[request->nr_write];

			iov->iov_base = to;
			iov->iov_len = left < room ? left : room;
			request->write_size += iov->iov_len;
			request->nr_write++;
		}
		size -= left;
		gpa += left;
	}
	return 0;
}

/**
 * vring_walk() - take a chain apart
 * @head: its first descriptor
 * @request: the chain, on success
 * @reason: what is wrong with it, on error
 *
 * A chain that waited for its answer is walked again before it is written to:
 * memory may have come and gone meanwhile.
 *
 * Return: 0; -EINVAL, -EFAULT, -ELOOP the driver broke a rule, and the queue
 * is marked broken.
 */
int vring_walk(struct vring_queue *vring, const struct guest_memory *memory,
	       uint16_t head, struct vring_request *request,
	       const char **reason)
{
	uint16_t index = head, steps;
	bool writable = false;
	uint32_t total = 0;
	int ret;

	request->head = head;
	request->read_size = 0;
	request->nr_write = 0;
	request->write_size = 0;
	for (steps = 0;; steps++) {
		const volatile struct vring_desc *desc;
		uint16_t flags;
		uint32_t size;
		uint64_t gpa;

		if (index >= vring->size) {
			*reason = "a descriptor index outside the queue";
			ret = -EINVAL;
			goto broken;
		}
		if (steps >= vring->size) {
			*reason = "a loop of descriptors";
			ret = -ELOOP;
			goto broken;
		}
		desc = &vring->desc[index];
		gpa = le64toh(desc->addr);
		size = le32toh(desc->len);
		flags = le16toh(desc->flags);
		index = le16toh(desc->next);

		/* Also bounds the time that a chain may take. */
		if (__builtin_add_overflow(total, size, &total)) {
			*reason = "a descriptor chain of 4 GiB or more";
			ret = -EINVAL;
			goto broken;
		}
		if (size && gpa > UINT64_MAX - (size - 1)) {
			*reason = "a descriptor outside the guest's memory";
			ret = -EFAULT;
			goto broken;
		}
		if (flags & VRING_DESC_F_INDIRECT) {
			*reason = "an indirect descriptor, not negotiated";
			ret = -EINVAL;
			goto broken;
		}
		if (flags & VRING_DESC_F_WRITE) {
			writable = true;
			ret = take_writable(memory, gpa, size, request, reason);
		} else if (writable) {
			*reason = "a readable descriptor after a writable one";
			ret = -EINVAL;
		} else {
			ret = take_readable(memory, gpa, size, request, reason);
		}
		if (ret)
			goto broken;
		if (!(flags & VRING_DESC_F_NEXT))
			break;
	}
	return 0;

broken:
	vring->broken = true;
	return ret;
}

/**
 * vring_pop() - take the next chain that the driver has made available
 * @request: the chain, on return of 1
 * @reason: what is wrong with the queue, on error
 *
 * Return: 1; 0 there is none; an error of vring_walk(), and the queue is marked
 * broken.
 */
int vring_pop(struct vring_queue *vring, const struct guest_memory *memory,
	      struct vring_request *request, const char **reason)
{
	uint16_t available, index, head;
	int ret;

	available =
		le16toh(__atomic_load_n(&vring->avail->idx, __ATOMIC_ACQUIRE));
	available -= vring->last_avail;
	if (!available)
		return 0;
	if (available > vring->size) {
		*reason =
			"more chains available than the queue has descriptors";
		vring->broken = true;
		return -EINVAL;
	}
	index = vring->last_avail & (vring->size - 1);
	head = le16toh(
		__atomic_load_n(&vring->avail->ring[index], __ATOMIC_RELAXED));
	ret = vring_walk(vring, memory, head, request, reason);
	if (ret)
		return ret;
	vring->last_avail++;
	return 1;
}

/**
 * vring_write() - write to the writable part of a chain, from its start
 *
 * Return: bytes written, less than @size if there is less room.
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
void vring_push(struct vring_queue *vring, const struct vring_request *request,
		size_t written)
{
	uint16_t index = vring->used_index & (vring->size - 1);
	struct vring_used_elem *elem = &vring->used->ring[index];

	elem->id = htole32(request->head);
	elem->len = htole32(written);
	vring->used_index++;
	__atomic_store_n(&vring->used->idx, htole16(vring->used_index),
			 __ATOMIC_RELEASE);
}

/* Does the driver want to be told of used chains? */
bool vring_wants_interrupt(const struct vring_queue *vring)
{
	/* Our store to the index is visible before its flags are read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !(le16toh(__atomic_load_n(&vring->avail->flags,
					 __ATOMIC_RELAXED)) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}
