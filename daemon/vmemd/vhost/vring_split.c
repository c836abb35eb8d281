// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Split virtqueues (virtio 1.3, 2.7): a table of descriptors, a ring in which
 * the driver makes chains available, and a ring in which the device gives them
 * back. Each ring has a free-running index, and an event index at its end. If
 * negotiated, the event index says when the other side wants a notification.
 */
#include <endian.h>
#include <errno.h>

#include "vhost/vring_chain.h"
#include "vhost/vring_split.h"

/* The event index follows the last entry of a ring. */
static uint16_t *used_event(const struct vring_queue *vring)
{
	return &vring->split.avail->ring[vring->size];
}

static uint16_t *avail_event(const struct vring_queue *vring)
{
	return (uint16_t *)&vring->split.used->ring[vring->size];
}

int vring_split_find(struct vring_queue *vring,
		     const struct guest_memory *memory, struct error *err)
{
	struct vring_split *split = &vring->split;
	size_t size = vring->size;

	if (vring->desc_uva % VRING_DESC_ALIGN_SIZE ||
	    vring->avail_uva % VRING_AVAIL_ALIGN_SIZE ||
	    vring->used_uva % VRING_USED_ALIGN_SIZE)
		return error_set(err, -EINVAL, "a misaligned ring");
	/* The last uint16_t of each ring is the event index, used or not. */
	split->desc = guest_memory_at_uva(memory, vring->desc_uva,
					  size * sizeof(*split->desc));
	split->avail = guest_memory_at_uva(
		memory, vring->avail_uva,
		sizeof(*split->avail) + (size + 1) * sizeof(uint16_t));
	split->used = guest_memory_at_uva(
		memory, vring->used_uva,
		sizeof(*split->used) + size * sizeof(struct vring_used_elem) +
			sizeof(uint16_t));
	if (!split->desc || !split->avail || !split->used)
		return error_set(err, -EFAULT,
				 "a ring outside the guest's memory");
	/* The mapping may be less aligned than the front end's. */
	if ((uintptr_t)split->desc % VRING_DESC_ALIGN_SIZE ||
	    (uintptr_t)split->avail % VRING_AVAIL_ALIGN_SIZE ||
	    (uintptr_t)split->used % VRING_USED_ALIGN_SIZE)
		return error_set(err, -EINVAL,
				 "a ring in a misaligned memory region");
	return 0;
}

int vring_split_walk(struct vring_queue *vring,
		     const struct guest_memory *memory, uint16_t head,
		     struct vring_request *request, struct error *err)
{
	uint16_t index = head, steps;
	struct vring_walk walk;

	vring_walk_begin(&walk, vring, memory, request, err);
	request->chain = (struct vring_chain){.id = head, .nr = 1};
	for (steps = 0;; steps++) {
		const volatile struct vring_desc *desc;
		struct vring_element element;
		int ret;

		if (index >= vring->size)
			return error_set(
				err, -EINVAL,
				"a descriptor index outside the queue");
		if (steps >= vring->size)
			return error_set(err, -ELOOP, "a loop of descriptors");
		desc = &vring->split.desc[index];
		element.gpa = le64toh(desc->addr);
		element.size = le32toh(desc->len);
		element.flags = le16toh(desc->flags);
		index = le16toh(desc->next);
		ret = vring_walk_add(&walk, &element);
		if (ret)
			return ret;
		if (!(element.flags & VRING_DESC_F_NEXT))
			return 0;
	}
}

static uint16_t available(const struct vring_queue *vring)
{
	uint16_t index = le16toh(
		__atomic_load_n(&vring->split.avail->idx, __ATOMIC_ACQUIRE));

	return index - vring->last_avail;
}

/*
 * The queue is empty: request a kick for the next chain. An earlier back end
 * may have suppressed kicks.
 */
static void want_kick(const struct vring_queue *vring)
{
	if (vring_has(vring, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n(avail_event(vring), htole16(vring->last_avail),
				 __ATOMIC_RELAXED);
	else
		__atomic_store_n(&vring->split.used->flags, 0,
				 __ATOMIC_RELAXED);
	/* Make this visible before the driver's index is read again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

int vring_split_pop(struct vring_queue *vring,
		    const struct guest_memory *memory,
		    struct vring_request *request, struct error *err)
{
	uint16_t nr = available(vring), index, head;
	int ret;

	if (!nr) {
		want_kick(vring);
		nr = available(vring);
		if (!nr)
			return 0;
	}
	if (nr > vring->size)
		return error_set(
			err, -EINVAL,
			"more chains available than the queue has descriptors");
	index = vring->last_avail & (vring->size - 1);
	head = le16toh(__atomic_load_n(&vring->split.avail->ring[index],
				       __ATOMIC_RELAXED));
	ret = vring_split_walk(vring, memory, head, request, err);
	if (ret)
		return ret;
	vring->last_avail++;
	return 1;
}

void vring_split_push(struct vring_queue *vring,
		      const struct vring_chain *chain, uint32_t written)
{
	uint16_t index = vring->used_index & (vring->size - 1);
	struct vring_used_elem *elem = &vring->split.used->ring[index];

	elem->id = htole32(chain->id);
	elem->len = htole32(written);
	vring->used_index++;
	__atomic_store_n(&vring->split.used->idx, htole16(vring->used_index),
			 __ATOMIC_RELEASE);
}

/* @used: number of entries used since the last call */
bool vring_split_wants_interrupt(const struct vring_queue *vring, uint16_t used)
{
	uint16_t event;

	if (!vring_has(vring, VIRTIO_RING_F_EVENT_IDX))
		return !(le16toh(__atomic_load_n(&vring->split.avail->flags,
						 __ATOMIC_RELAXED)) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	event = le16toh(__atomic_load_n(used_event(vring), __ATOMIC_RELAXED));
	return vring_need_event(event, vring->used_index,
				vring->used_index - used);
}
