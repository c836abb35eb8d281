// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Walking a descriptor chain (virtio 1.3, 2.7.5 and 2.8.5 to 2.8.7), for both
 * formats.
 *
 * The caller reads the descriptors of its ring and adds them one by one. An
 * indirect descriptor refers to a table of descriptors anywhere in the guest's
 * memory, which is walked here. A table is handled like a buffer: it may span
 * two shared regions, and it is not read if it is in an unplugged block. A
 * table ends its chain and cannot contain other tables, so the length of a
 * chain is bounded by the sizes of the queue and of one table.
 *
 * In a table of the split format, descriptors are linked by "next". In a table
 * of the packed format, all descriptors are consecutive; "write" is the only
 * flag in use, "indirect" is not allowed, and other flags are ignored.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/min_max.h"
#include "vhost/vring_chain.h"

#define OUTSIDE "a descriptor outside the guest's memory"

void vring_walk_begin(struct vring_walk *walk, const struct vring_queue *vring,
		      const struct guest_memory *memory,
		      struct vring_request *request, struct error *err)
{
	*walk = (struct vring_walk){
		.memory = memory,
		.request = request,
		.err = err,
		.features = vring->features,
		.max_table = vring->size > VRING_MAX_TABLE ? vring->size
							   : VRING_MAX_TABLE,
	};
	request->read_size = 0;
	request->nr_write = 0;
	request->write_size = 0;
}

static int fault(const struct vring_walk *walk, uint64_t gpa,
		 const char *reason)
{
	walk->request->fault = gpa;
	return error_set(walk->err, -EFAULT, "%s", reason);
}

static int take_readable(struct vring_walk *walk, uint64_t gpa, uint32_t size)
{
	struct vring_request *request = walk->request;

	while (size) {
		size_t room = VRING_READ_MAX - request->read_size;
		uint64_t left;
		void *from =
			guest_memory_at_gpa(walk->memory, gpa, size, &left);

		if (!from)
			return fault(walk, gpa, OUTSIDE);
		memcpy(request->read + request->read_size, from,
		       min(left, room));
		request->read_size += min(left, room);
		size -= left;
		gpa += left;
	}
	return 0;
}

static int take_writable(struct vring_walk *walk, uint64_t gpa, uint32_t size)
{
	struct vring_request *request = walk->request;

	while (size) {
		size_t room = VRING_WRITE_MAX - request->write_size;
		uint64_t left;
		void *to = guest_memory_at_gpa(walk->memory, gpa, size, &left);

		if (!to)
			return fault(walk, gpa, OUTSIDE);
		if (room) {
			/* Entries have at least a byte, so @write suffices. */
			struct iovec *iov = &request->write[request->nr_write];

			iov->iov_base = to;
			iov->iov_len = min(left, room);
			request->write_size += iov->iov_len;
			request->nr_write++;
		}
		size -= left;
		gpa += left;
	}
	return 0;
}

/* Add a buffer to the request. */
static int add_buffer(struct vring_walk *walk,
		      const struct vring_element *element)
{
	work_add(walk->memory->work, 1);
	if (++walk->nr > VRING_CHAIN_MAX)
		return error_set(walk->err, -ELOOP,
				 "a chain of too many descriptors");
	/* This also bounds the time for a chain. */
	if (__builtin_add_overflow(walk->total, element->size, &walk->total))
		return error_set(walk->err, -EINVAL,
				 "a descriptor chain of 4 GiB or more");
	if (element->gpa > UINT64_MAX - element->size)
		return fault(walk, UINT64_MAX, OUTSIDE);
	if (element->flags & VRING_DESC_F_WRITE) {
		walk->writable = true;
		return take_writable(walk, element->gpa, element->size);
	}
	if (walk->writable)
		return error_set(walk->err, -EINVAL,
				 "a readable descriptor after a writable one");
	return take_readable(walk, element->gpa, element->size);
}

/*
 * Copy a descriptor of a table and read each byte once: with memcpy(), the
 * compiler could read the guest's memory again later.
 */
static int read_entry(struct vring_walk *walk, uint64_t gpa,
		      struct vring_desc *desc)
{
	uint8_t *to = (uint8_t *)desc;
	size_t size = sizeof(*desc);

	while (size) {
		const volatile uint8_t *from;
		uint64_t left;

		from = guest_memory_at_gpa(walk->memory, gpa, size, &left);
		if (!from)
			return fault(walk, gpa,
				     "an indirect table outside the guest's "
				     "memory");
		size -= left;
		gpa += left;
		while (left--)
			*to++ = *from++;
	}
	return 0;
}

static int add_entry(struct vring_walk *walk, const struct vring_desc *desc)
{
	/* The formats only differ in the offset of "flags". */
	const struct vring_packed_desc *packed =
		(const struct vring_packed_desc *)desc;
	bool is_packed = walk->features & 1ULL << VIRTIO_F_RING_PACKED;
	const struct vring_element element = {
		.gpa = le64toh(desc->addr),
		.size = le32toh(desc->len),
		.flags = le16toh(is_packed ? packed->flags : desc->flags),
	};

	if (element.flags & VRING_DESC_F_INDIRECT)
		return error_set(walk->err, -EINVAL,
				 "an indirect table in an indirect table");
	return add_buffer(walk, &element);
}

static int add_table(struct vring_walk *walk, uint64_t gpa, uint32_t nr)
{
	bool packed = walk->features & 1ULL << VIRTIO_F_RING_PACKED;
	uint32_t index = 0;

	for (uint32_t steps = 0; steps < nr; steps++) {
		struct vring_desc desc;
		int ret;

		ret = read_entry(walk, gpa + index * sizeof(desc), &desc);
		if (!ret)
			ret = add_entry(walk, &desc);
		if (ret)
			return ret;
		if (packed) {
			index++;
			continue;
		}
		if (!(le16toh(desc.flags) & VRING_DESC_F_NEXT))
			return 0;
		index = le16toh(desc.next);
		if (index >= nr)
			return error_set(
				walk->err, -EINVAL,
				"a descriptor index outside the table");
	}
	return packed ? 0
		      : error_set(walk->err, -ELOOP, "a loop of descriptors");
}

static int add_indirect(struct vring_walk *walk,
			const struct vring_element *element)
{
	const uint32_t unit = sizeof(struct vring_desc);

	if (!(walk->features & 1ULL << VIRTIO_RING_F_INDIRECT_DESC))
		return error_set(walk->err, -EINVAL,
				 "an indirect descriptor, not negotiated");
	if (element->flags & VRING_DESC_F_NEXT)
		return error_set(walk->err, -EINVAL,
				 "an indirect descriptor that is not the last");
	if (!element->size || element->size % unit)
		return error_set(walk->err, -EINVAL,
				 "an indirect table of no whole descriptors");
	if (element->size / unit > walk->max_table)
		return error_set(walk->err, -EINVAL,
				 "too long an indirect table");
	if (element->gpa > UINT64_MAX - (element->size - 1))
		return fault(walk, UINT64_MAX,
			     "an indirect table outside the guest's memory");
	return add_table(walk, element->gpa, element->size / unit);
}

/**
 * vring_walk_add() - add the next descriptor of the ring
 * @walk: the walk
 * @element: the descriptor
 *
 * Return: 0; -EINVAL, -EFAULT, -ELOOP with the error set: the driver broke a
 * rule.
 */
int vring_walk_add(struct vring_walk *walk, const struct vring_element *element)
{
	/* "write" is ignored for an indirect descriptor. */
	if (element->flags & VRING_DESC_F_INDIRECT)
		return add_indirect(walk, element);
	return add_buffer(walk, element);
}
