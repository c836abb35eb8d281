// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finding the device's position in a queue that starts, from the ring itself.
 *
 * The position that SET_VRING_BASE sets is not reliable. A front end whose back
 * end was killed never received the answer to GET_VRING_BASE. Some front ends
 * then send the driver's index, which skips waiting requests. Some send their
 * last base again, which replays requests that were answered. A packed queue
 * has no index in memory that a front end could read. The queue is part of
 * guest memory, which outlives the daemon and migrates with the guest, so the
 * position is read there. The base is only the default for GET_VRING_BASE
 * before the first start.
 *
 * This works because the device answers chains in the order it takes them, and
 * answers each before it takes the next. So all chains before the position have
 * an answer, and none after it has one.
 *
 * Split queues: the used index is the position.
 *
 * Packed queues: the device marks the first descriptor of a chain used, with
 * its wrap counter, and does not change the chain's other descriptors. So the
 * position follows the last marked chain:
 *
 * - Marks of the current round are at the front of the ring, and marks of the
 *   previous round follow. The last mark with the first mark's wrap counter is
 *   the newest. A driver that is adding a chain overwrites marks of the
 *   previous round only.
 * - A mark does not have the length of its chain. The descriptors after it look
 *   like an available chain: they are either the rest of the marked chain or
 *   the next chain. The rest has the same id as the mark. The next chain is a
 *   whole request, with a readable and a writable part. Without indirect
 *   descriptors, a whole request has more than one descriptor, so the marked
 *   chain has a rest.
 * - Without any mark, the ring is full of available chains, and the wrap
 *   counter changes at the position.
 *
 * One case is ambiguous: indirect descriptors were negotiated, and the marked
 * chain had at least three direct descriptors, of which all but the first form
 * a whole request. These are taken for the next chain. An inflight region
 * resolves this; its position is used if it is one of the two.
 *
 * A guest that writes other marks affects only its own device. All loops are
 * bounded by the size of the queue.
 */
#include <endian.h>

#include <linux/virtio_mem.h>

#include "vhost/vring_locate.h"
#include "vhost/vring_packed.h"

#define FLAG_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1U << VRING_PACKED_DESC_F_USED)

struct place {
	uint16_t index;
	bool wrap;
};

/**
 * struct group - descriptors that look like an available chain
 * @nr: number of descriptors; 0: none
 * @id: id of the last descriptor
 * @whole: the descriptors form a whole request
 */
struct group {
	uint16_t nr;
	uint16_t id;
	bool whole;
};

/**
 * struct packed_place - position at which a packed queue continues
 * @place: the position that the ring shows
 * @other: the alternative, if the ring is ambiguous; otherwise the same
 */
struct packed_place {
	struct place place;
	struct place other;
};

static uint16_t flags_at(const struct vring_queue *vring, uint16_t index)
{
	return le16toh(__atomic_load_n(&vring->packed.desc[index].flags,
				       __ATOMIC_ACQUIRE));
}

static uint16_t id_at(const struct vring_queue *vring, uint16_t index)
{
	return le16toh(__atomic_load_n(&vring->packed.desc[index].id,
				       __ATOMIC_RELAXED));
}

static void advance_place(const struct vring_queue *vring, struct place *place,
			  uint16_t nr)
{
	vring_packed_advance(vring, &place->index, &place->wrap, nr);
}

/* Find the newest mark. Return: whether there is a mark. */
static bool last_mark(const struct vring_queue *vring, struct place *mark)
{
	bool found = false;

	for (uint16_t i = 0; i < vring->size; i++) {
		uint16_t flags = flags_at(vring, i);
		bool wrap = flags & FLAG_AVAIL;

		if (wrap != !!(flags & FLAG_USED))
			continue;
		if (found && wrap != mark->wrap)
			break;
		found = true;
		*mark = (struct place){i, wrap};
	}
	return found;
}

/*
 * Is the ring unused? A descriptor that was never written looks like a mark of
 * the round before the first. Real marks have VRING_DESC_F_WRITE, because each
 * answer is written to the chain.
 */
static bool untouched(const struct vring_queue *vring, const struct place *mark)
{
	return !mark->wrap &&
	       !(flags_at(vring, mark->index) & VRING_DESC_F_WRITE);
}

/* The position in a ring that is full of available chains. */
static struct place where_the_counter_changes(const struct vring_queue *vring)
{
	bool first = flags_at(vring, 0) & FLAG_AVAIL;

	for (uint16_t i = 1; i < vring->size; i++)
		if (!!(flags_at(vring, i) & FLAG_AVAIL) != first)
			return (struct place){i, !first};
	return (struct place){0, first};
}

static struct group group_at(const struct vring_queue *vring,
			     struct place place)
{
	uint64_t readable = 0, writable = 0;
	struct group group = {};
	bool indirect = false, misplaced = false;

	while (group.nr < vring->size &&
	       vring_packed_is_available(vring, place.index, place.wrap)) {
		const struct vring_packed_desc *desc =
			&vring->packed.desc[place.index];
		uint32_t size =
			le32toh(__atomic_load_n(&desc->len, __ATOMIC_RELAXED));
		uint16_t flags = flags_at(vring, place.index);

		group.nr++;
		indirect = flags & VRING_DESC_F_INDIRECT;
		if (flags & VRING_DESC_F_WRITE)
			writable += size;
		else
			readable += size;
		misplaced |= writable && !(flags & VRING_DESC_F_WRITE);
		if (!(flags & VRING_DESC_F_NEXT)) {
			group.id = id_at(vring, place.index);
			group.whole =
				indirect ||
				(!misplaced &&
				 readable >= sizeof(struct virtio_mem_req) &&
				 writable >= sizeof(struct virtio_mem_resp));
			return group;
		}
		advance_place(vring, &place, 1);
	}
	/* Without an end, this is not a chain. */
	return (struct group){};
}

static struct packed_place locate_packed(const struct vring_queue *vring)
{
	bool indirect = vring_has(vring, VIRTIO_RING_F_INDIRECT_DESC);
	struct place mark = {}, first, after;
	struct group group;
	bool marked = last_mark(vring, &mark);

	if (marked && untouched(vring, &mark))
		return (struct packed_place){{0, true}, {0, true}};
	first = marked ? mark : where_the_counter_changes(vring);
	if (marked)
		advance_place(vring, &first, 1);
	group = group_at(vring, first);
	if (!group.nr || (marked && group.id != id_at(vring, mark.index)))
		return (struct packed_place){first, first};
	after = first;
	advance_place(vring, &after, group.nr);
	if (!group.whole || (marked && !indirect))
		return (struct packed_place){after, after};
	return (struct packed_place){first, marked ? after : first};
}

static bool same_place(const struct place *place, uint16_t index, bool wrap)
{
	return place->index == index && place->wrap == wrap;
}

/**
 * vring_locate() - set the position of a queue that starts
 * @vring: the queue, with its rings mapped and no chain taken
 */
void vring_locate(struct vring_queue *vring)
{
	struct place place;

	if (!vring_has(vring, VIRTIO_F_RING_PACKED)) {
		vring->used_index = le16toh(__atomic_load_n(
			&vring->split.used->idx, __ATOMIC_RELAXED));
		vring->last_avail = vring->used_index;
		return;
	}
	place = locate_packed(vring).place;
	vring->used_index = place.index;
	vring->used_wrap = place.wrap;
	vring->last_avail = place.index;
	vring->avail_wrap = place.wrap;
}

/* Can a packed queue continue at this position, according to the ring? */
bool vring_may_be_at(const struct vring_queue *vring, uint16_t index, bool wrap)
{
	struct packed_place found = locate_packed(vring);

	return same_place(&found.place, index, wrap) ||
	       same_place(&found.other, index, wrap);
}
