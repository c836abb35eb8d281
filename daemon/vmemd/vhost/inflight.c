// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The inflight region of the vhost-user protocol ("Inflight I/O tracking"), in
 * its layouts for split and packed queues. It records requests in flight and
 * outlives the daemon: the back end creates it, and the front end keeps it and
 * passes it to the next back end.
 *
 * Purpose. When a daemon dies, or a connection ends, at most one request of the
 * guest was taken from the queue and not answered. The next daemon, or
 * connection, has two questions. Both are answered elsewhere.
 *
 * - Which chain is it, and at which position does the queue continue? The
 *   device takes and answers chains one after the other, so the chain is the
 *   next one after the used ones, which the ring shows; see vring_locate.c. The
 *   inflight region is only needed if a packed ring is ambiguous. A region that
 *   contradicts the ring belongs to an earlier driver and is initialised again.
 * - Was the request executed? The kernel stores the last request id of the
 *   region and its answer, see backing/kernel.c. If the blocks are already in
 *   the state that a request wants, the kernel is asked to repeat its answer.
 *   The inflight region cannot show this, because the daemon may be killed
 *   between the kernel's change and the mark for it.
 *
 * So a marked chain is not answered from the inflight region. It is taken
 * again, like any other, and handled. The answer is the kernel's, whether it
 * was received before or not, and the mark is removed. A daemon without an
 * inflight region does the same with the chain after the last used one.
 * Permission to repeat the last answer does not depend on the mark: it is
 * granted once after a start, as a front end may not use the region, or may
 * start to use it.
 *
 * Crash consistency. The stores below are made in order. After each of them,
 * the next daemon finds one of these states:
 * - no mark: the chain was not handled, and is found in the queue;
 * - a mark, and the queue's used index is where the region says: the chain was
 *   perhaps handled, and has no answer;
 * - a mark, and the queue's used index is ahead: the chain was answered, and
 *   nothing is in flight. In a packed queue, the descriptor that would be
 *   overwritten is checked instead of the index. Both positions of the region
 *   with their wrap counters are in one word and change atomically.
 * The answer itself is one store to the ring.
 *
 * When the front end stops the queue in an orderly manner, nothing is in
 * flight: a chain that was taken is returned to the queue. The region is then
 * marked unused.
 *
 * Trust. The front end, and any process that it passes the descriptor to, may
 * write the region at any time. Each index is read once and then checked, and
 * positions are compared with the ring. The file is sealed so that it cannot
 * shrink, and a file that is not sealed is refused.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost/inflight.h"
#include "vhost/vring_locate.h"
#include "vhost/vring_packed.h"

/* Version of both layouts; 0: the region is not used yet. */
#define VERSION 1

struct split_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct split_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct split_entry desc[];
};

struct packed_entry {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

/* The device's position in the ring, and the position of the last answer. */
union packed_position {
	struct {
		uint16_t used_idx;
		uint16_t old_used_idx;
		uint8_t used_wrap_counter;
		uint8_t old_used_wrap_counter;
		uint8_t padding[2];
	};
	uint64_t word;
};

struct packed_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	union packed_position position;
	uint8_t padding[8];
	struct packed_entry desc[];
};

_Static_assert(sizeof(struct split_entry) == 16, "as in the protocol");
_Static_assert(sizeof(struct split_region) == 16, "as in the protocol");
_Static_assert(sizeof(struct packed_entry) == 32, "as in the protocol");
_Static_assert(sizeof(struct packed_region) == 32, "as in the protocol");

#define LOAD(object) __atomic_load_n(&(object), __ATOMIC_ACQUIRE)
#define STORE(object, value) \
	__atomic_store_n(&(object), value, __ATOMIC_RELEASE)

static bool is_packed(const struct vring_queue *vring)
{
	return vring_has(vring, VIRTIO_F_RING_PACKED);
}

/* The format may be negotiated later; the packed layout is the larger one. */
uint64_t inflight_size(uint16_t queue_size)
{
	return sizeof(struct packed_region) +
	       queue_size * sizeof(struct packed_entry);
}

/**
 * inflight_create() - create a file for a region
 * @queue_size: number of entries, at most VRING_MAX_SIZE
 * @err: set on error
 *
 * Return: a descriptor, or an errno of memfd_create(2) with @err set.
 */
int inflight_create(uint16_t queue_size, struct error *err)
{
	int fd =
		memfd_create("vmemd-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0 || ftruncate(fd, (off_t)inflight_size(queue_size)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
		    0) {
		ret = error_set(err, -errno,
				"an inflight region cannot be made");
		if (fd >= 0)
			close(fd);
		return ret;
	}
	return fd;
}

/**
 * inflight_open() - use a region that the front end has sent
 * @inflight: set on success
 * @fd: the file; the caller keeps it
 * @offset: offset of the region in the file
 * @size: bytes in the region
 * @queue_size: number of entries that the region was made for
 * @err: set on error
 *
 * Return: 0; -EINVAL; -EPERM: the file is not sealed; an errno of mmap(2).
 */
int inflight_open(struct inflight *inflight, int fd, uint64_t offset,
		  uint64_t size, uint16_t queue_size, struct error *err)
{
	uint64_t needed = inflight_size(queue_size), end;
	struct file_map map;
	struct stat st;
	int seals, ret;

	if (size < needed || offset % (uint64_t)sysconf(_SC_PAGESIZE) ||
	    __builtin_add_overflow(offset, size, &end))
		return error_set(
			err, -EINVAL,
			"an inflight region of a size or place that it was "
			"not given");
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return error_set(err, -EPERM,
				 "an inflight region that can be truncated");
	if (fstat(fd, &st) < 0 || end > (uint64_t)st.st_size)
		return error_set(
			err, -EINVAL,
			"an inflight region beyond the end of its file");
	ret = file_map_open(&map, fd, offset, needed, 0);
	if (ret)
		return error_set(err, ret,
				 "an inflight region cannot be mapped");
	inflight_close(inflight);
	if (inflight->guard &&
	    guard_add(inflight->guard, map.start, map.size, inflight->lost)) {
		file_map_close(&map);
		return error_set(err, -ENOMEM, "out of memory");
	}
	inflight->map = map.at;
	inflight->file = map;
	inflight->queue_size = queue_size;
	return 0;
}

/* Unmap the region. Marks stay, for the next back end. */
void inflight_close(struct inflight *inflight)
{
	if (inflight->map && inflight->guard)
		guard_remove(inflight->guard, inflight->file.start);
	file_map_close(&inflight->file);
	*inflight = (struct inflight){
		.guard = inflight->guard,
		.lost = inflight->lost,
	};
}

/* --- Start of a queue --- */

static void init_split(struct inflight *inflight,
		       const struct vring_queue *vring)
{
	struct split_region *region = inflight->map;

	memset(region, 0, inflight_size(inflight->queue_size));
	region->desc_num = inflight->queue_size;
	region->used_idx = vring->used_index;
	STORE(region->version, VERSION);
}

static void init_packed(struct inflight *inflight,
			const struct vring_queue *vring)
{
	struct packed_region *region = inflight->map;

	memset(region, 0, inflight_size(inflight->queue_size));
	region->desc_num = inflight->queue_size;
	region->position.used_idx = vring->used_index;
	region->position.old_used_idx = vring->used_index;
	region->position.used_wrap_counter = vring->used_wrap;
	region->position.old_used_wrap_counter = vring->used_wrap;
	for (uint16_t i = 0; i < inflight->queue_size; i++)
		region->desc[i].next = i + 1;
	inflight->free_head = 0;
	STORE(region->version, VERSION);
}

/*
 * Clear the marks of answered chains, those of the last batch.
 *
 * Return: false: the ring's index contradicts the region's.
 */
static bool settle_split(struct split_region *region, uint16_t nr,
			 uint16_t queue_size)
{
	uint16_t head = LOAD(region->last_batch_head);

	if (nr > queue_size)
		return false;
	while (nr--) {
		if (head >= queue_size)
			return false;
		STORE(region->desc[head].inflight, 0);
		head = LOAD(region->desc[head].next);
	}
	return true;
}

static bool recover_split(struct inflight *inflight,
			  const struct vring_queue *vring)
{
	struct split_region *region = inflight->map;

	if (!settle_split(region, vring->used_index - LOAD(region->used_idx),
			  inflight->queue_size))
		return false;
	STORE(region->used_idx, vring->used_index);
	for (uint16_t i = 0; i < inflight->queue_size; i++) {
		if (!LOAD(region->desc[i].inflight))
			continue;
		if (inflight->taken)
			return false;
		inflight->taken = true;
		inflight->entry = i;
	}
	return true;
}

/*
 * Complete the last answer if it reached the ring; revert it otherwise.
 *
 * Return: the first free entry, or -EINVAL.
 */
static int settle_packed(struct packed_region *region,
			 const struct vring_queue *vring,
			 union packed_position *position)
{
	uint16_t free_head = LOAD(region->free_head);
	uint16_t old_free_head = LOAD(region->old_free_head);
	bool new_wrap, old_wrap;

	position->word = LOAD(region->position.word);
	new_wrap = position->used_wrap_counter;
	old_wrap = position->old_used_wrap_counter;
	if (position->used_idx >= vring->size ||
	    position->old_used_idx >= vring->size)
		return -EINVAL;
	if ((position->used_idx != position->old_used_idx ||
	     new_wrap != old_wrap) &&
	    !vring_packed_is_available(vring, position->old_used_idx,
				       old_wrap)) {
		old_free_head = free_head;
		position->old_used_idx = position->used_idx;
		position->old_used_wrap_counter = new_wrap;
	} else {
		position->used_idx = position->old_used_idx;
		position->used_wrap_counter = old_wrap;
	}
	return old_free_head;
}

static bool recover_packed(struct inflight *inflight, struct vring_queue *vring)
{
	struct packed_region *region = inflight->map;
	uint16_t size = inflight->queue_size, head;
	union packed_position position;
	int free_head;

	free_head = settle_packed(region, vring, &position);
	if (free_head < 0 || !vring_may_be_at(vring, position.used_idx,
					      position.used_wrap_counter))
		return false;
	/* Free entries are not in flight. The list may end anywhere. */
	head = free_head;
	for (uint16_t i = 0; i < size && head < size; i++) {
		STORE(region->desc[head].inflight, 0);
		head = LOAD(region->desc[head].next);
	}
	for (uint16_t i = 0; i < size; i++) {
		if (!LOAD(region->desc[i].inflight))
			continue;
		inflight->entry = i;
		inflight->last = LOAD(region->desc[i].last);
		if (inflight->taken || inflight->last >= size)
			return false;
		inflight->taken = true;
	}
	inflight->free_head = free_head;
	STORE(region->free_head, free_head);
	STORE(region->old_free_head, free_head);
	STORE(region->position.word, position.word);
	vring->used_index = position.used_idx;
	vring->used_wrap = position.used_wrap_counter;
	vring->last_avail = vring->used_index;
	vring->avail_wrap = vring->used_wrap;
	return true;
}

static void init(struct inflight *inflight, const struct vring_queue *vring)
{
	inflight->taken = false;
	if (is_packed(vring))
		init_packed(inflight, vring);
	else
		init_split(inflight, vring);
}

/**
 * inflight_start() - find the chain in flight, or initialise the region
 * @inflight: the region
 * @vring: the queue that starts, mapped and located
 * @err: set on failure; may be NULL
 *
 * If a chain is in flight, the queue continues with it.
 *
 * Return: 0; INFLIGHT_ANEW; -EINVAL: the region has another size or layout.
 */
int inflight_start(struct inflight *inflight, struct vring_queue *vring,
		   struct error *err)
{
	/* Both layouts have the same header. */
	const struct split_region *region = inflight->map;
	uint16_t version;
	bool known;

	if (!region)
		return 0;
	inflight->taken = false;
	if (vring->size > inflight->queue_size)
		return error_set(err, -EINVAL,
				 "an inflight region for a smaller queue");
	version = LOAD(region->version);
	if (!version) {
		init(inflight, vring);
		return 0;
	}
	if (version != VERSION ||
	    LOAD(region->desc_num) != inflight->queue_size)
		return error_set(err, -EINVAL,
				 "an inflight region of another queue");
	known = is_packed(vring) ? recover_packed(inflight, vring)
				 : recover_split(inflight, vring);
	if (known)
		return 0;
	init(inflight, vring);
	return INFLIGHT_ANEW;
}

/* The front end has stopped the queue: no request is in flight. */
void inflight_forget(struct inflight *inflight)
{
	struct split_region *region = inflight->map;

	if (!region)
		return;
	STORE(region->version, 0);
	inflight->taken = false;
}

/* --- Running queue --- */

static void mark_split(struct inflight *inflight,
		       const struct vring_chain *chain)
{
	struct split_region *region = inflight->map;
	struct split_entry *entry = &region->desc[chain->id];

	inflight->entry = chain->id;
	STORE(entry->counter, inflight->counter++);
	STORE(entry->inflight, 1);
}

/* The next entry of the free list. A bad one only harms the VM itself. */
static uint16_t next_of(const struct inflight *inflight, uint16_t entry)
{
	const struct packed_region *region = inflight->map;

	return LOAD(region->desc[entry].next) % inflight->queue_size;
}

static void mark_packed(struct inflight *inflight,
			const struct vring_queue *vring,
			const struct vring_chain *chain)
{
	struct packed_region *region = inflight->map;
	uint16_t entry = inflight->free_head % inflight->queue_size;
	uint16_t index = chain->index;

	inflight->entry = entry;
	for (uint16_t i = 0; i < chain->nr; i++) {
		const volatile struct vring_packed_desc *from =
			&vring->packed.desc[index];
		struct packed_entry *to = &region->desc[entry];

		/*
		 * The copy is for back ends that answer out of order and may
		 * overwrite the descriptors. vmemd only reads the ring.
		 */
		to->addr = le64toh(from->addr);
		to->len = le32toh(from->len);
		to->id = le16toh(from->id);
		to->flags = le16toh(from->flags);
		inflight->last = entry;
		entry = next_of(inflight, entry);
		if (++index == vring->size)
			index = 0;
	}
	inflight->free_head = entry;
	region->desc[inflight->entry].last = inflight->last;
	region->desc[inflight->entry].num = chain->nr;
	region->desc[inflight->entry].counter = inflight->counter++;
	STORE(region->desc[inflight->entry].inflight, 1);
	STORE(region->free_head, entry);
	STORE(region->old_free_head, entry);
}

/* Mark a chain before it is handled, unless an earlier daemon marked it. */
void inflight_take(struct inflight *inflight, const struct vring_queue *vring,
		   const struct vring_chain *chain)
{
	if (!inflight->map || inflight->taken)
		return;
	if (is_packed(vring))
		mark_packed(inflight, vring, chain);
	else
		mark_split(inflight, chain);
	inflight->taken = true;
}

static void push_split(struct inflight *inflight, struct vring_queue *vring,
		       const struct vring_chain *chain, size_t written)
{
	struct split_region *region = inflight->map;
	struct split_entry *entry = &region->desc[inflight->entry];

	STORE(entry->next, LOAD(region->last_batch_head));
	STORE(region->last_batch_head, inflight->entry);
	vring_push(vring, chain, written);
	STORE(entry->inflight, 0);
	STORE(region->used_idx, vring->used_index);
}

static void push_packed(struct inflight *inflight, struct vring_queue *vring,
			const struct vring_chain *chain, size_t written)
{
	struct packed_region *region = inflight->map;
	union packed_position position = {
		.old_used_idx = vring->used_index,
		.old_used_wrap_counter = vring->used_wrap,
	};
	struct vring_queue after = *vring;

	vring_packed_advance(&after, &after.used_index, &after.used_wrap,
			     chain->nr);
	position.used_idx = after.used_index;
	position.used_wrap_counter = after.used_wrap;
	STORE(region->desc[inflight->last].next, inflight->free_head);
	STORE(region->free_head, inflight->entry);
	STORE(region->position.word, position.word);
	vring_push(vring, chain, written);
	STORE(region->desc[inflight->entry].inflight, 0);
	inflight->free_head = inflight->entry;
	STORE(region->old_free_head, inflight->entry);
	position.old_used_idx = position.used_idx;
	position.old_used_wrap_counter = position.used_wrap_counter;
	STORE(region->position.word, position.word);
}

/* Give the chain back to the driver, see vring_push(), and clear its mark. */
void inflight_push(struct inflight *inflight, struct vring_queue *vring,
		   const struct vring_chain *chain, size_t written)
{
	if (!inflight->map || !inflight->taken)
		vring_push(vring, chain, written);
	else if (is_packed(vring))
		push_packed(inflight, vring, chain, written);
	else
		push_split(inflight, vring, chain, written);
	inflight->taken = false;
}
