// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finding the device's position in a queue that starts, from the ring itself.
 *
 * The position that SET_VRING_BASE sets is not reliable. A front end whose back end
 * was killed never received the answer to GET_VRING_BASE. Some front ends then send
 * the driver's index, which skips waiting requests. Some send their last base again,
 * which replays requests that were answered. A packed queue has no index in memory
 * that a front end could read. The queue is part of guest memory, which outlives
 * the daemon and migrates with the guest, so the position is read there. The base
 * is only the default for GET_VRING_BASE before the first start.
 *
 * This works because the device answers chains in the order it takes them, and
 * answers one before it takes the next: no chain before the position lacks an
 * answer, none after it has one.
 *
 * Split queues: the used index is the position.
 *
 * Packed queues: the device marks the first descriptor of a chain used, with
 * its wrap counter, and leaves the chain's other descriptors as they are. So
 * the position is behind the last chain that was marked:
 *
 * - Marks of the current round are at the front of the ring, those of the round
 *   before follow. The last mark that has the first one's wrap counter is the
 *   last one made. A driver that is about to add a chain can hide marks of the
 *   round before only.
 * - How long that chain was is not in its mark. What follows looks like a chain
 *   that is available either way: it is the rest of that chain, or the next
 *   chain. A rest carries the id of the mark. A next chain is a whole request,
 *   with a part to read and a part to write, and without indirect descriptors a
 *   whole request is more than the one descriptor that a mark replaces.
 * - No mark at all: the ring is full of chains that wait. The wrap counter
 *   changes at the position.
 *
 * One case is left open: indirect descriptors were negotiated, and the last
 * chain had at least three direct ones, of which all but the first are a whole
 * request themselves. That is read as a next chain. An inflight region knows
 * better; its position is taken if it is one of the two.
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
 * struct group - descriptors that look like one available chain
 * @nr: how many; 0: there is none
 * @id: of the last one
 * @whole: they are a request by themselves
 */
struct group {
	uint16_t nr;
	uint16_t id;
	bool whole;
};

/**
 * struct packed_place - where a packed queue goes on
 * @place: by what the ring shows
 * @other: the other place that the ring allows; the same if it allows one only
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

/* Find the last mark. Return: whether there is any. */
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
 * A descriptor that nobody has written yet looks like a mark of the round
 * before the first. A mark of ours has VRING_DESC_F_WRITE: each answer is
 * written.
 */
static bool untouched(const struct vring_queue *vring, const struct place *mark)
{
	return !mark->wrap &&
	       !(flags_at(vring, mark->index) & VRING_DESC_F_WRITE);
}

/* Of a ring full of available chains. */
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
	/* No end: nothing that the driver has made available. */
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
 * @vring: with its rings mapped, and no chain taken
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

/* Does the ring allow that a packed queue goes on there? */
bool vring_may_be_at(const struct vring_queue *vring, uint16_t index, bool wrap)
{
	struct packed_place found = locate_packed(vring);

	return same_place(&found.place, index, wrap) ||
	       same_place(&found.other, index, wrap);
}
