// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Packed virtqueues (virtio 1.3, 2.8): one ring of descriptors, in which the
 * driver makes chains available, and the device overwrites the first descriptor
 * of a chain to give it back.
 *
 * There are no indexes in memory. Each side keeps its own index, with a wrap
 * counter that changes when the index passes the end of the ring. Two bits of a
 * descriptor's flags are compared with it. If "available" is equal to the
 * counter and "used" is different, the driver has made the descriptor available
 * in this round. If both are equal to the counter, the device has used it. How
 * the device's position is found after a restart: see vring_locate.c.
 *
 * The device gives chains back in the order in which it took them, and each
 * before it takes the next. So a chain's descriptors stay in the ring until it
 * is answered, and the answer overwrites the first of them.
 *
 * Only the first descriptor of a chain is checked for being available: the
 * driver marks it last, and a driver that breaks this rule affects only its own
 * device.
 */
#include <endian.h>
#include <errno.h>

#include "vhost/vring_chain.h"
#include "vhost/vring_packed.h"

#define FLAG_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1U << VRING_PACKED_DESC_F_USED)

/* Alignment of both event suppression areas. */
#define EVENT_ALIGN_SIZE 4

int vring_packed_find(struct vring_queue *vring,
		      const struct guest_memory *memory, struct error *err)
{
	struct vring_packed *packed = &vring->packed;

	if (vring->desc_uva % VRING_DESC_ALIGN_SIZE ||
	    vring->avail_uva % EVENT_ALIGN_SIZE ||
	    vring->used_uva % EVENT_ALIGN_SIZE)
		return error_set(err, -EINVAL, "a misaligned ring");
	packed->desc = guest_memory_at_uva(memory, vring->desc_uva,
					   vring->size * sizeof(*packed->desc));
	packed->driver = guest_memory_at_uva(memory, vring->avail_uva,
					     sizeof(*packed->driver));
	packed->device = guest_memory_at_uva(memory, vring->used_uva,
					     sizeof(*packed->device));
	if (!packed->desc || !packed->driver || !packed->device)
		return error_set(err, -EFAULT,
				 "a ring outside the guest's memory");
	if ((uintptr_t)packed->desc % VRING_DESC_ALIGN_SIZE ||
	    (uintptr_t)packed->driver % EVENT_ALIGN_SIZE ||
	    (uintptr_t)packed->device % EVENT_ALIGN_SIZE)
		return error_set(err, -EINVAL,
				 "a ring in a misaligned memory region");
	return 0;
}

/* Advance a position by @nr descriptors, at most the ring's size. */
void vring_packed_advance(const struct vring_queue *vring, uint16_t *index,
			  bool *wrap, uint16_t nr)
{
	*index += nr;
	if (*index >= vring->size) {
		*index -= vring->size;
		*wrap = !*wrap;
	}
}

static uint16_t load_flags(const struct vring_queue *vring, uint16_t index)
{
	return le16toh(__atomic_load_n(&vring->packed.desc[index].flags,
				       __ATOMIC_ACQUIRE));
}

/* Has the driver made the descriptor available in the round of @wrap? */
bool vring_packed_is_available(const struct vring_queue *vring, uint16_t index,
			       bool wrap)
{
	uint16_t flags = load_flags(vring, index);

	return !!(flags & FLAG_AVAIL) == wrap && !!(flags & FLAG_USED) != wrap;
}

/* Walk the chain whose first descriptor is at @index of the ring. */
int vring_packed_walk(struct vring_queue *vring,
		      const struct guest_memory *memory, uint16_t index,
		      struct vring_request *request, struct error *err)
{
	struct vring_chain *chain = &request->chain;
	struct vring_walk walk;

	vring_walk_begin(&walk, vring, memory, request, err);
	*chain = (struct vring_chain){.index = index};
	for (;;) {
		const volatile struct vring_packed_desc *desc;
		struct vring_element element;
		int ret;

		if (chain->nr >= vring->size)
			return error_set(err, -ELOOP, "a loop of descriptors");
		/* The acquire ensures that the other fields are valid. */
		element.flags = load_flags(vring, index);
		desc = &vring->packed.desc[index];
		element.gpa = le64toh(desc->addr);
		element.size = le32toh(desc->len);
		/* The id of the last descriptor is the chain's. */
		chain->id = le16toh(desc->id);
		chain->nr++;
		ret = vring_walk_add(&walk, &element);
		if (ret)
			return ret;
		if (!(element.flags & VRING_DESC_F_NEXT))
			return 0;
		if (++index == vring->size)
			index = 0;
	}
}

/* The queue is empty: request a kick for the next chain. */
static void want_kick(const struct vring_queue *vring)
{
	struct vring_packed_desc_event *device = vring->packed.device;
	uint16_t position = vring->last_avail |
			    vring->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;
	uint16_t flags = VRING_PACKED_EVENT_FLAG_ENABLE;

	if (vring_has(vring, VIRTIO_RING_F_EVENT_IDX)) {
		__atomic_store_n(&device->off_wrap, htole16(position),
				 __ATOMIC_RELAXED);
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	}
	__atomic_store_n(&device->flags, htole16(flags), __ATOMIC_RELEASE);
	/* Make this visible before the driver's flags are read again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

int vring_packed_pop(struct vring_queue *vring,
		     const struct guest_memory *memory,
		     struct vring_request *request, struct error *err)
{
	uint16_t index = vring->last_avail;
	int ret;

	if (!vring_packed_is_available(vring, index, vring->avail_wrap)) {
		want_kick(vring);
		if (!vring_packed_is_available(vring, index, vring->avail_wrap))
			return 0;
	}
	ret = vring_packed_walk(vring, memory, index, request, err);
	if (ret)
		return ret;
	vring_packed_advance(vring, &vring->last_avail, &vring->avail_wrap,
			     request->chain.nr);
	return 1;
}

void vring_packed_unpop(struct vring_queue *vring,
			const struct vring_chain *chain)
{
	if (vring->last_avail < chain->nr)
		vring->avail_wrap = !vring->avail_wrap;
	vring->last_avail = chain->index;
}

/*
 * The half of a used descriptor that is written, in one store. If vmemd is
 * killed, the next back end finds either the complete mark or the old chain.
 */
union used_half {
	struct {
		uint32_t len;
		uint16_t id;
		uint16_t flags;
	};
	uint64_t word;
};

_Static_assert(offsetof(struct vring_packed_desc, len) == sizeof(uint64_t) &&
		       offsetof(struct vring_packed_desc, flags) == 14,
	       "length, id and flags are an aligned word");

void vring_packed_push(struct vring_queue *vring,
		       const struct vring_chain *chain, uint32_t written)
{
	struct vring_packed_desc *desc = &vring->packed.desc[vring->used_index];
	uint16_t flags = vring->used_wrap ? FLAG_AVAIL | FLAG_USED : 0;
	union used_half used;

	if (written)
		flags |= VRING_DESC_F_WRITE;
	used = (union used_half){{
		.len = htole32(written),
		.id = htole16(chain->id),
		.flags = htole16(flags),
	}};
	__atomic_store_n((uint64_t *)&desc->len, used.word, __ATOMIC_RELEASE);
	vring_packed_advance(vring, &vring->used_index, &vring->used_wrap,
			     chain->nr);
}

/* @used: number of descriptors used since the last call */
bool vring_packed_wants_interrupt(const struct vring_queue *vring,
				  uint16_t used)
{
	const uint32_t *driver = (const uint32_t *)vring->packed.driver;
	struct vring_packed_desc_event event;
	uint32_t both;
	uint16_t flags, position, offset;

	/* Read offset and flags in one load, so that they belong together. */
	both = __atomic_load_n(driver, __ATOMIC_ACQUIRE);
	__builtin_memcpy(&event, &both, sizeof(event));
	flags = le16toh(event.flags);
	position = le16toh(event.off_wrap);
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC ||
	    !vring_has(vring, VIRTIO_RING_F_EVENT_IDX))
		return true;
	offset = position & VRING_PACKED_INDEX_MASK;
	if (position >> VRING_PACKED_EVENT_F_WRAP_CTR != vring->used_wrap)
		offset -= vring->size;
	return vring_need_event(offset, vring->used_index,
				vring->used_index - used);
}
