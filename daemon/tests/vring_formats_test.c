// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What virtqueues of all formats do: each case is run with split and packed
 * rings, direct and indirect descriptors, with and without event index. Then
 * what only some have: tables, and wrap counters.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"
#include "formats.h"
#include "guest_memory.h"
#include "unit.h"
#include "vring.h"
#include "vring_packed.h"

#define SIZE	16
#define MEMORY	(64 * KIB)
#define GPA	(1 * GIB)
#define UVA	0x700001000000ULL
#define DESC	0
#define AVAIL	0x1000
#define USED	0x2000
#define BUFFERS 0x4000
#define TABLES	0x8000

#define OUTSIDE	      "a descriptor outside the guest's memory"
#define TABLE_OUTSIDE "an indirect table outside the guest's memory"

static const struct driver_layout layout = {DESC, AVAIL, USED, TABLES};

/**
 * struct fixture - a device, a driver, and memory between them
 * @features: the format
 * @forbidden: first guest address of what may not be touched
 */
struct fixture {
	uint64_t features;
	int fd;
	uint8_t *memory;
	struct guest_memory shared;
	uint64_t forbidden;
	struct driver driver;
	struct vring_queue vring;
	struct vring_request request;
	const char *reason;
};

static uint64_t accessible(const void *arg, uint64_t gpa, uint64_t size)
{
	const struct fixture *f = arg;

	if (gpa >= f->forbidden)
		return 0;
	return size < f->forbidden - gpa ? size : f->forbidden - gpa;
}

static void map(struct fixture *f)
{
	assert_int_equal(vring_map(&f->vring, &f->shared, &f->reason), 0);
}

/* A driver sets up its queue. */
static void start(struct fixture *f, uint16_t size)
{
	memset(f->memory, 0, MEMORY);
	driver_init(&f->driver, f->memory, GPA, &layout, f->features, size);
	vring_reset(&f->vring);
	f->vring.features = f->features;
	f->vring.size = size;
	f->vring.desc_uva = UVA + DESC;
	f->vring.avail_uva = UVA + AVAIL;
	f->vring.used_uva = UVA + USED;
	map(f);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->features = *(const uint64_t *)*state;
	f->forbidden = UINT64_MAX;
	f->fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, MEMORY), 0);
	f->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED,
			 f->fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	f->shared.accessible = accessible;
	f->shared.arg = f;
	assert_int_equal(guest_memory_add(&f->shared, GPA, UVA, MEMORY, 0,
					  f->fd, &f->reason),
			 0);
	start(f, SIZE);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_memory_clear(&f->shared);
	munmap(f->memory, MEMORY);
	close(f->fd);
	free(f);
	return 0;
}

static bool has(const struct fixture *f, unsigned int bit)
{
	return f->features & 1ULL << bit;
}

static bool packed(const struct fixture *f)
{
	return has(f, VIRTIO_F_RING_PACKED);
}

static bool indirect(const struct fixture *f)
{
	return has(f, VIRTIO_RING_F_INDIRECT_DESC);
}

static int pop(struct fixture *f)
{
	return vring_pop(&f->vring, &f->shared, &f->request, &f->reason);
}

static void push(struct fixture *f, size_t written)
{
	vring_push(&f->vring, &f->request.chain, written);
}

/* A request of 24 bytes and room for a response of 10. */
static struct driver_chain add_request(struct fixture *f)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA + BUFFERS, .size = 24},
		{.gpa = GPA + BUFFERS + 100, .size = 10, .write = true},
	};

	return driver_add(&f->driver, buffers, 2);
}

/* The driver gets the chain back. */
static void assert_back(struct fixture *f, const struct driver_chain *chain,
			uint32_t written)
{
	uint32_t size;
	uint16_t id;

	assert_true(driver_take(&f->driver, chain->nr, &id, &size));
	assert_int_equal(id, chain->id);
	assert_int_equal(size, written);
}

/* The queue is broken by what the driver has made available, and starts anew */
static void assert_broken(struct fixture *f, int error, const char *reason)
{
	uint32_t base = vring_base(&f->vring);

	assert_int_equal(pop(f), error);
	assert_string_equal(f->reason, reason);
	assert_true(f->vring.broken);
	assert_int_equal(vring_base(&f->vring), base);
	start(f, SIZE);
}

static uint16_t flags_of(const struct driver_entry *entry)
{
	return le16toh(*entry->flags);
}

/* --- All formats --- */

static void empty_queue_has_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pop(f), 0);
	assert_false(f->vring.broken);
}

static void request_and_response(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	uint32_t written;
	uint16_t id;

	memset(f->memory + BUFFERS, 7, 24);
	chain = add_request(f);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_memory_equal(f->request.read, f->memory + BUFFERS, 24);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_memory_equal(f->memory + BUFFERS + 100, "0123456789", 10);
	assert_false(driver_take(&f->driver, 2, &id, &written));
	push(f, 10);
	assert_back(f, &chain, 10);
	assert_false(driver_take(&f->driver, 2, &id, &written));
	assert_int_equal(pop(f), 0);
}

/* Nothing written is told as that. */
static void nothing_written(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain = add_request(f);

	assert_int_equal(pop(f), 1);
	push(f, 0);
	assert_back(f, &chain, 0);
}

static void framing_is_the_drivers_choice(void **state)
{
	struct driver_buffer buffers[16];
	struct fixture *f = *state;
	struct driver_chain chain;

	/* 12 buffers of two bytes, then 4 with 10 bytes in all. */
	for (unsigned int i = 0; i < 24; i++)
		f->memory[BUFFERS + 64 * (i / 2) + i % 2] = i;
	for (unsigned int i = 0; i < 16; i++)
		buffers[i] = (struct driver_buffer){
			.gpa = GPA + BUFFERS + 64ULL * i,
			.size = i < 12	  ? 2
				: i == 12 ? 1
					  : 3,
			.write = i >= 12,
		};
	chain = driver_add(&f->driver, buffers, 16);
	/* All of the queue in one chain is no loop. */
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(f->request.read[i], i);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(f->request.nr_write, 4);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_int_equal(f->memory[BUFFERS + 12 * 64], '0');
	assert_memory_equal(f->memory + BUFFERS + 13 * 64, "123", 3);
	assert_memory_equal(f->memory + BUFFERS + 15 * 64, "789", 3);
	push(f, 10);
	assert_back(f, &chain, 10);
	/* And the queue goes on. */
	chain = add_request(f);
	assert_int_equal(pop(f), 1);
	push(f, 10);
	assert_back(f, &chain, 10);
}

static void more_than_needed_is_ignored(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA + BUFFERS, .size = 4096},
		{.gpa = GPA + BUFFERS, .size = 4096, .write = true},
	};
	struct fixture *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, VRING_READ_MAX);
	assert_int_equal(f->request.write_size, VRING_WRITE_MAX);
}

static void empty_buffers_are_nothing(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = 0, .size = 0},
		{.gpa = GPA + BUFFERS, .size = 24},
		{.gpa = 0, .size = 0, .write = true},
		{.gpa = GPA + BUFFERS, .size = 10, .write = true},
	};
	struct fixture *f = *state;

	driver_add(&f->driver, buffers, 4);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

/* Past the end of the ring, and of 16-bit indexes, wherever it is cut. */
static void everything_wraps(void **state)
{
	static const uint16_t sizes[] = {2, 3, 4, 8, 13, SIZE};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (!vring_valid_size(sizes[i], packed(f)))
			continue;
		start(f, sizes[i]);
		for (unsigned int n = 0; n < 70000; n++) {
			struct driver_chain chain = add_request(f);

			if (pop(f) != 1)
				fail_msg("%s", f->reason);
			push(f, 10);
			assert_back(f, &chain, 10);
		}
		assert_int_equal(pop(f), 0);
	}
}

static void a_full_queue_is_taken(void **state)
{
	struct fixture *f = *state;
	unsigned int nr = indirect(f) ? SIZE : SIZE / 2;
	struct driver_chain chains[SIZE];

	/* From the middle: the descriptors wrap. */
	for (unsigned int i = 0; i < 3; i++) {
		chains[i] = add_request(f);
		assert_int_equal(pop(f), 1);
		push(f, 1);
		assert_back(f, &chains[i], 1);
	}
	for (unsigned int i = 0; i < nr; i++)
		chains[i] = add_request(f);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->request.chain.id, chains[i].id);
		push(f, i + 1);
	}
	assert_int_equal(pop(f), 0);
	for (unsigned int i = 0; i < nr; i++)
		assert_back(f, &chains[i], i + 1);
}

/* What a ring that was used for a while holds of the rounds before. */
static void go_on_for(struct fixture *f, unsigned int rounds)
{
	while (rounds--) {
		struct driver_chain chain = add_request(f);

		assert_int_equal(pop(f), 1);
		push(f, 10);
		assert_back(f, &chain, 10);
	}
}

/* A chain that is left to whoever comes next is found by it. */
static void a_chain_that_was_taken_is_left(void **state)
{
	struct fixture *f = *state;

	for (unsigned int round = 0; round < 40; round++) {
		struct driver_chain chain = add_request(f);
		uint32_t base = vring_base(&f->vring);

		assert_int_equal(pop(f), 1);
		assert_int_equal(pop(f), 0);
		vring_unpop(&f->vring, &f->request.chain);
		assert_int_equal(vring_base(&f->vring), base);
		assert_int_equal(base, driver_base(&f->driver));
		/* Another daemon is told only this. */
		vring_reset(&f->vring);
		f->vring.features = f->features;
		f->vring.size = SIZE;
		f->vring.desc_uva = UVA + DESC;
		f->vring.avail_uva = UVA + AVAIL;
		f->vring.used_uva = UVA + USED;
		assert_int_equal(vring_set_base(&f->vring, base), 0);
		map(f);
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->request.chain.id, chain.id);
		push(f, 10);
		assert_back(f, &chain, 10);
		go_on_for(f, round % 5);
	}
}

static void a_chain_is_walked_again(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	struct vring_chain taken;

	for (unsigned int round = 0; round < 40; round++) {
		chain = add_request(f);
		assert_int_equal(pop(f), 1);
		taken = f->request.chain;
		memset(&f->request, 0xa5, sizeof(f->request));
		assert_int_equal(vring_again(&f->vring, &f->shared, &taken,
					     &f->request, &f->reason),
				 0);
		assert_memory_equal(&f->request.chain, &taken, sizeof(taken));
		assert_int_equal(f->request.read_size, 24);
		assert_int_equal(f->request.write_size, 10);
		vring_push(&f->vring, &taken, 10);
		assert_back(f, &chain, 10);
	}
}

static void a_chain_that_changes_under_our_hands(void **state)
{
	struct fixture *f = *state;
	struct driver_entry entry;
	struct driver_chain chain;
	struct vring_chain taken;

	/* It gets a buffer elsewhere. */
	go_on_for(f, 5);
	chain = add_request(f);
	assert_int_equal(pop(f), 1);
	taken = f->request.chain;
	entry = driver_entry(&f->driver, &chain, 1);
	*entry.gpa = htole64(GPA + MEMORY);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->reason),
			 -EFAULT);
	assert_true(f->vring.broken);
	/* It gets longer than the next one's place. */
	start(f, SIZE);
	chain = add_request(f);
	add_request(f);
	assert_int_equal(pop(f), 1);
	taken = f->request.chain;
	entry = driver_slot(&f->driver,
			    indirect(f) ? chain.slot : chain.slot + 1);
	*entry.flags |= htole16(VRING_DESC_F_NEXT);
	*entry.next = htole16(chain.slot + 2);
	assert_int_not_equal(vring_again(&f->vring, &f->shared, &taken,
					 &f->request, &f->reason),
			     0);
	assert_true(f->vring.broken);
}

static void buffer_over_adjacent_regions(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA + MEMORY - 5, .size = 10},
		{.gpa = GPA + MEMORY - 5, .size = 10, .write = true},
	};
	const struct driver_buffer beyond = {
		.gpa = GPA + 2 * MEMORY - 5,
		.size = 10,
	};
	struct fixture *f = *state;
	int fd = memfd_create("next", MFD_CLOEXEC);

	/* Next to the first in the guest, elsewhere in the front end. */
	assert_int_equal(ftruncate(fd, MEMORY), 0);
	assert_int_equal(guest_memory_add(&f->shared, GPA + MEMORY, UVA / 2,
					  MEMORY, 0, fd, &f->reason),
			 0);
	assert_int_equal(pwrite(fd, "world", 5, 0), 5);
	memcpy(f->memory + MEMORY - 5, "hello", 5);
	driver_add(&f->driver, buffers, 2);
	assert_int_equal(pop(f), 1);
	assert_memory_equal(f->request.read, "helloworld", 10);
	assert_int_equal(f->request.nr_write, 2);
	push(f, 10);
	driver_add(&f->driver, &beyond, 1);
	assert_broken(f, -EFAULT, OUTSIDE);
	close(fd);
}

static void unplugged_memory_is_not_touched(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA + BUFFERS, .size = 24},
		{.gpa = GPA + MEMORY - 10, .size = 10, .write = true},
	};
	struct fixture *f = *state;

	f->forbidden = GPA + MEMORY - 1;
	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EFAULT, OUTSIDE);
	f->forbidden = GPA + MEMORY;
	driver_add(&f->driver, buffers, 2);
	assert_int_equal(pop(f), 1);
}

/* --- Who wants to be told --- */

/* Have the device answer @nr requests. Return: does the driver want to know? */
static bool answer(struct fixture *f, unsigned int nr)
{
	while (nr--) {
		add_request(f);
		assert_int_equal(pop(f), 1);
		push(f, 10);
	}
	return vring_wants_interrupt(&f->vring);
}

static void interrupts_are_the_drivers_choice(void **state)
{
	struct fixture *f = *state;
	bool event_idx = has(f, VIRTIO_RING_F_EVENT_IDX);

	/* With the event index the flags of a split queue mean nothing. */
	driver_want_interrupt(&f->driver, true);
	assert_true(answer(f, 1));
	if (event_idx && !packed(f))
		return;
	assert_true(answer(f, 1));
	driver_want_interrupt(&f->driver, false);
	assert_false(answer(f, 1));
	driver_want_interrupt(&f->driver, true);
	assert_true(answer(f, 1));
}

static void interrupts_at_the_event_index(void **state)
{
	struct fixture *f = *state;
	unsigned int per = packed(f) && !indirect(f) ? 2 : 1;

	if (!has(f, VIRTIO_RING_F_EVENT_IDX))
		return;
	/* What a back end before us did not tell is not known. */
	driver_want_interrupt_after(&f->driver, 5);
	assert_true(answer(f, 1));
	go_on_for(f, 0);
	for (unsigned int round = 0; round < 40; round++) {
		struct driver_chain none = {.nr = 2};
		uint32_t written;

		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
		/* The third from here. */
		driver_want_interrupt_after(&f->driver, 3 * per);
		assert_false(answer(f, 1));
		assert_false(answer(f, 1));
		assert_true(answer(f, 1));
		assert_false(answer(f, 1));
		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
		/* Several at once, and it is among them. */
		driver_want_interrupt_after(&f->driver, 2 * per);
		assert_true(answer(f, 3));
		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
	}
}

/* A queue that was found empty says that it wants to be told of the next. */
static void kicks_are_asked_for(void **state)
{
	struct fixture *f = *state;

	if (!packed(f) && !has(f, VIRTIO_RING_F_EVENT_IDX))
		((struct vring_used *)(f->memory + USED))->flags =
			htole16(VRING_USED_F_NO_NOTIFY);
	for (unsigned int round = 0; round < 40; round++) {
		assert_int_equal(pop(f), 0);
		add_request(f);
		assert_true(driver_needs_kick(&f->driver));
		/* It was told once; there is no need to tell again. */
		add_request(f);
		assert_int_equal(driver_needs_kick(&f->driver),
				 !has(f, VIRTIO_RING_F_EVENT_IDX));
		for (unsigned int i = 0; i < 2; i++) {
			struct driver_chain none = {.nr = 2};
			uint32_t written;

			assert_int_equal(pop(f), 1);
			push(f, 10);
			assert_true(driver_take(&f->driver, none.nr, &none.id,
						&written));
		}
	}
}

/* --- Bad chains --- */

static void loops_break_the_queue(void **state)
{
	struct fixture *f = *state;
	struct driver_entry entry;
	struct driver_chain chain;

	/* In a packed table there are no links. */
	if (packed(f) && indirect(f))
		return;
	chain = add_request(f);
	for (unsigned int i = 0; i < SIZE; i++) {
		entry = indirect(f) ? driver_entry(&f->driver, &chain, i % 2)
				    : driver_slot(&f->driver, i);
		*entry.gpa = htole64(GPA + BUFFERS);
		*entry.flags = htole16(
			(flags_of(&entry) & (uint16_t)~VRING_DESC_F_WRITE) |
			VRING_DESC_F_NEXT);
		if (!packed(f))
			*entry.next = htole16(i % 2 ? 0 : 1);
	}
	assert_broken(f, -ELOOP, "a loop of descriptors");
}

static void readable_after_writable_breaks_the_queue(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA + BUFFERS, .size = 10, .write = true},
		{.gpa = GPA + BUFFERS, .size = 24},
	};
	struct fixture *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EINVAL, "a readable descriptor after a writable one");
}

static void outside_memory_breaks_the_queue(void **state)
{
	static const struct driver_buffer bad[] = {
		{0, 1, false},
		{GPA - 1, 1, false},
		{GPA - 1, 2, true},
		{GPA + MEMORY, 1, false},
		{GPA + MEMORY - 1, 2, false},
		{GPA + MEMORY - 1, 2, true},
		{GPA, MEMORY + 1, false},
		{GPA, UINT32_MAX - 4096, true},
		/* An address of the front end's is no guest address. */
		{UVA, 1, false},
		{UINT64_MAX - 100, 50, true},
		{UINT64_MAX, 2, false},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct driver_buffer buffers[] = {
			/* Not even where nobody would read it. */
			{.gpa = GPA + BUFFERS, .size = 4096},
			bad[i],
		};

		driver_add(&f->driver, &bad[i], 1);
		assert_broken(f, -EFAULT, OUTSIDE);
		driver_add(&f->driver, buffers, 2);
		assert_broken(f, -EFAULT, OUTSIDE);
	}
}

static void huge_chains_break_the_queue(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = GPA, .size = MEMORY},
		{.gpa = GPA, .size = UINT32_MAX},
	};
	struct fixture *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EINVAL, "a descriptor chain of 4 GiB or more");
}

/* --- Tables --- */

static void tables_need_the_feature(void **state)
{
	struct fixture *f = *state;
	struct driver_entry entry;
	struct driver_chain chain = add_request(f);

	entry = driver_slot(&f->driver, chain.slot);
	*entry.flags |= htole16(VRING_DESC_F_INDIRECT);
	*entry.flags &= htole16((uint16_t)~VRING_DESC_F_NEXT);
	if (!indirect(f))
		assert_broken(f, -EINVAL,
			      "an indirect descriptor, not negotiated");
	else
		assert_int_equal(pop(f), 1);
}

static void tables_of_no_whole_descriptors(void **state)
{
	static const uint32_t bad[] = {0, 1, 15, 17, 31, UINT32_MAX};
	struct fixture *f = *state;

	if (!indirect(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = add_request(f);

		*driver_slot(&f->driver, chain.slot).size = htole32(bad[i]);
		assert_broken(f, -EINVAL,
			      "an indirect table of no whole descriptors");
	}
}

static void tables_that_are_too_long(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;

	if (!indirect(f))
		return;
	chain = add_request(f);
	*driver_slot(&f->driver, chain.slot).size =
		htole32(16 * (VRING_MAX_SIZE + 1));
	assert_broken(f, -EINVAL, "too long an indirect table");
	chain = add_request(f);
	*driver_slot(&f->driver, chain.slot).size = htole32(0xfffffff0);
	assert_broken(f, -EINVAL, "too long an indirect table");
	/* As long as can be: empty ones, linked or not. */
	chain = add_request(f);
	*driver_slot(&f->driver, chain.slot).size =
		htole32(16 * VRING_MAX_SIZE);
	for (unsigned int i = 2; i < VRING_MAX_SIZE; i++) {
		struct driver_entry entry = driver_entry(&f->driver, &chain, i);

		*driver_entry(&f->driver, &chain, i - 1).flags |=
			htole16(VRING_DESC_F_NEXT);
		*driver_entry(&f->driver, &chain, i - 1).next = htole16(i);
		*entry.flags = htole16(VRING_DESC_F_WRITE);
	}
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

static void tables_outside_memory(void **state)
{
	static const uint64_t bad[] = {
		0,
		GPA - 16,
		GPA - 1,
		GPA + MEMORY - 31,
		GPA + MEMORY - 16,
		GPA + MEMORY,
		UVA,
		UINT64_MAX - 31,
		UINT64_MAX - 15,
		UINT64_MAX,
	};
	struct fixture *f = *state;

	if (!indirect(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = add_request(f);

		/* What of it is in memory is a good part of a chain. */
		if (bad[i] >= GPA && bad[i] - GPA <= MEMORY - 16)
			memcpy(f->memory + (bad[i] - GPA),
			       driver_entry(&f->driver, &chain, 0).gpa, 16);
		*driver_slot(&f->driver, chain.slot).gpa = htole64(bad[i]);
		assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	}
}

static void tables_in_unplugged_memory(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	uint64_t table;

	if (!indirect(f))
		return;
	chain = add_request(f);
	table = le64toh(*driver_slot(&f->driver, chain.slot).gpa);
	f->forbidden = table;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	/* The first byte of its second descriptor is. */
	add_request(f);
	f->forbidden = table + 16;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	add_request(f);
	f->forbidden = table + 31;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	add_request(f);
	f->forbidden = table + 32;
	assert_int_equal(pop(f), 1);
}

static void a_table_over_adjacent_regions(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	uint8_t table[32];

	if (!indirect(f))
		return;
	/* Cut at every byte of it. */
	for (unsigned int cut = 0; cut <= 32; cut++) {
		int fd = memfd_create("next", MFD_CLOEXEC);

		start(f, SIZE);
		assert_int_equal(ftruncate(fd, MEMORY), 0);
		assert_int_equal(guest_memory_add(&f->shared, GPA + MEMORY,
						  UVA / 2, MEMORY, 0, fd,
						  &f->reason),
				 0);
		chain = add_request(f);
		memcpy(table, driver_entry(&f->driver, &chain, 0).gpa, 32);
		memset(f->memory + TABLES, 0xff, 32);
		memcpy(f->memory + MEMORY - cut, table, cut);
		assert_int_equal(pwrite(fd, table + cut, 32 - cut, 0),
				 32 - cut);
		*driver_slot(&f->driver, chain.slot).gpa =
			htole64(GPA + MEMORY - cut);
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->request.read_size, 24);
		assert_int_equal(f->request.write_size, 10);
		assert_int_equal(guest_memory_remove(&f->shared, GPA + MEMORY,
						     UVA / 2, MEMORY),
				 0);
		close(fd);
	}
}

static void a_table_in_a_table(void **state)
{
	struct fixture *f = *state;

	if (!indirect(f))
		return;
	for (unsigned int i = 0; i < 2; i++) {
		struct driver_chain chain = add_request(f);

		*driver_entry(&f->driver, &chain, i).flags |=
			htole16(VRING_DESC_F_INDIRECT);
		assert_broken(f, -EINVAL,
			      "an indirect table in an indirect table");
	}
}

static void a_table_is_the_end_of_its_chain(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;

	if (!indirect(f))
		return;
	chain = add_request(f);
	add_request(f);
	*driver_slot(&f->driver, chain.slot).flags |=
		htole16(VRING_DESC_F_NEXT);
	*driver_slot(&f->driver, chain.slot).next = htole16(chain.slot + 1);
	assert_broken(f, -EINVAL,
		      "an indirect descriptor that is not the last");
}

static void what_a_table_is_marked_as_means_nothing(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;

	if (!indirect(f))
		return;
	chain = add_request(f);
	*driver_slot(&f->driver, chain.slot).flags |=
		htole16(VRING_DESC_F_WRITE);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

/* Descriptors of the ring, then a table with the rest. */
static void a_table_after_descriptors(void **state)
{
	const struct driver_buffer rest[] = {
		{.gpa = GPA + BUFFERS + 20, .size = 4},
		{.gpa = GPA + BUFFERS + 100, .size = 10, .write = true},
	};
	struct fixture *f = *state;
	struct driver_entry first, second;
	struct driver_chain chain;

	if (!indirect(f) || packed(f))
		return;
	for (unsigned int i = 0; i < 24; i++)
		f->memory[BUFFERS + i] = i;
	chain = driver_add(&f->driver, rest, 2);
	/* What is there moves to the next slot. */
	first = driver_slot(&f->driver, chain.slot);
	second = driver_slot(&f->driver, chain.slot + 1);
	memcpy(second.gpa, first.gpa, 16);
	*first.gpa = htole64(GPA + BUFFERS);
	*first.size = htole32(20);
	*first.flags = htole16(VRING_DESC_F_NEXT);
	*first.next = htole16(chain.slot + 1);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(f->request.read[i], i);
	assert_int_equal(f->request.write_size, 10);
}

static void index_outside_the_table(void **state)
{
	static const uint16_t bad[] = {2, 3, 0x7fff, UINT16_MAX};
	struct fixture *f = *state;

	if (!indirect(f) || packed(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = add_request(f);

		*driver_entry(&f->driver, &chain, 0).next = htole16(bad[i]);
		assert_broken(f, -EINVAL,
			      "a descriptor index outside the table");
	}
}

/* --- Packed rings --- */

#define PACKED_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1U << VRING_PACKED_DESC_F_USED)

static void another_rounds_descriptors_are_not_there(void **state)
{
	static const uint16_t other[] = {0, PACKED_USED,
					 PACKED_AVAIL | PACKED_USED};
	struct fixture *f = *state;

	if (!packed(f))
		return;
	for (unsigned int round = 0; round < 2; round++) {
		uint16_t slot = f->driver.next;
		struct driver_entry entry;

		add_request(f);
		entry = driver_slot(&f->driver, slot);
		for (unsigned int i = 0; i < 3; i++) {
			uint16_t good = flags_of(&entry);
			uint16_t flags = other[i];

			/* In the other round all is the other way round. */
			if (round)
				flags ^= PACKED_AVAIL | PACKED_USED;
			*entry.flags =
				htole16((good & (uint16_t) ~(PACKED_AVAIL |
							     PACKED_USED)) |
					flags);
			assert_int_equal(pop(f), 0);
			assert_false(f->vring.broken);
			*entry.flags = htole16(good);
		}
		assert_int_equal(pop(f), 1);
		push(f, 10);
		if (round)
			break;
		f->driver.seen = f->driver.avail;
		f->driver.used = f->driver.next;
		go_on_for(f, indirect(f) ? SIZE - 1 : SIZE / 2 - 1);
	}
}

/* Ids are the driver's, and a device that looked into them would be wrong. */
static void any_id_comes_back(void **state)
{
	static const uint16_t ids[] = {0, 1, SIZE, 0x7fff, 0x8000, UINT16_MAX};
	struct fixture *f = *state;

	if (!packed(f))
		return;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct driver_chain chain = add_request(f);
		uint16_t last = indirect(f) ? chain.slot : chain.slot + 1;

		chain.id = ids[i];
		*driver_slot(&f->driver, last).next = htole16(chain.id);
		assert_int_equal(pop(f), 1);
		push(f, 10);
		assert_back(f, &chain, 10);
	}
}

/* Its id or its length is another one when it is answered. */
static void a_packed_chain_that_changes(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	struct vring_chain taken;
	uint16_t last;

	if (!packed(f))
		return;
	chain = add_request(f);
	last = indirect(f) ? chain.slot : chain.slot + 1;
	assert_int_equal(pop(f), 1);
	taken = f->request.chain;
	*driver_slot(&f->driver, last).next = htole16(chain.id + 1);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->reason),
			 -EINVAL);
	assert_string_equal(f->reason,
			    "a chain that was changed after it was taken");
	assert_true(f->vring.broken);
	if (indirect(f))
		return;
	/* Shorter: the next one would begin elsewhere. */
	start(f, SIZE);
	chain = add_request(f);
	assert_int_equal(pop(f), 1);
	taken = f->request.chain;
	*driver_slot(&f->driver, chain.slot).flags &=
		htole16((uint16_t)~VRING_DESC_F_NEXT);
	*driver_slot(&f->driver, chain.slot).next = htole16(chain.id);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->reason),
			 -EINVAL);
	assert_string_equal(f->reason,
			    "a chain that was changed after it was taken");
}

/* Whatever the driver says of when it wants to be told, nothing else happens. */
static void any_event_suppression(void **state)
{
	struct fixture *f = *state;
	struct vring_packed_desc_event *event = (void *)(f->memory + AVAIL);

	if (!packed(f))
		return;
	for (unsigned int i = 0; i < 0x10000; i += 0x111) {
		event->off_wrap = htole16(i);
		event->flags = htole16(i * 7);
		go_on_for(f, 1);
		vring_wants_interrupt(&f->vring);
	}
	/* One that is not defined: rather once too often. */
	event->flags = htole16(3);
	assert_true(answer(f, 1));
}

static void packed_bases(void **state)
{
	struct fixture *f = *state;
	const uint32_t wraps = 1U << 15 | 1U << 31;

	if (!packed(f))
		return;
	assert_int_equal(vring_base(&f->vring), wraps);
	assert_int_equal(vring_set_base(&f->vring, SIZE | wraps), -EINVAL);
	assert_int_equal(vring_set_base(&f->vring, SIZE << 16 | wraps),
			 -EINVAL);
	assert_int_equal(vring_set_base(&f->vring, UINT32_MAX), -EINVAL);
	assert_int_equal(vring_base(&f->vring), wraps);
	assert_int_equal(vring_set_base(&f->vring, 5 | 5 << 16), 0);
	assert_int_equal(vring_base(&f->vring), 5 | 5 << 16);
	/* Without the device's half: nothing is between them. */
	assert_int_equal(vring_set_base(&f->vring, 7 | 1 << 15), 0);
	assert_int_equal(vring_base(&f->vring), 7 | 7 << 16 | wraps);
	/* What is between them was not answered. */
	assert_int_equal(vring_set_base(&f->vring, 2 | 13U << 16 | 1U << 31),
			 0);
	assert_int_equal(vring_base(&f->vring), 13 | 13U << 16 | wraps);
	/* A queue of another size, or format, is chosen later. */
	f->vring.size = 8;
	assert_int_equal(vring_map(&f->vring, &f->shared, &f->reason), -EINVAL);
	assert_false(f->vring.mapped);
	f->vring.size = 13;
	f->vring.features = 0;
	assert_int_equal(vring_map(&f->vring, &f->shared, &f->reason), -EINVAL);
}

static void packed_rings_must_be_in_memory(void **state)
{
	static const struct {
		uint64_t desc;
		uint64_t driver;
		uint64_t device;
		int error;
	} places[] = {
		{UVA + MEMORY - 16 * SIZE, UVA, UVA + 4, 0},
		{UVA + MEMORY - 16 * SIZE + 16, UVA, UVA + 4, -EFAULT},
		{UVA, UVA + MEMORY - 4, UVA + 0x1000, 0},
		{UVA, UVA + MEMORY, UVA + 0x1000, -EFAULT},
		{UVA, UVA + 0x1000, UVA + MEMORY, -EFAULT},
		{UVA, UVA + 0x1000, GPA, -EFAULT},
		{UVA + 8, UVA + 0x1000, UVA + 0x2000, -EINVAL},
		{UVA, UVA + 0x1002, UVA + 0x2000, -EINVAL},
		{UVA, UVA + 0x1000, UVA + 0x2002, -EINVAL},
		{UINT64_MAX - 15, UVA, UVA, -EFAULT},
	};
	struct fixture *f = *state;

	if (!packed(f))
		return;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		f->vring.desc_uva = places[i].desc;
		f->vring.avail_uva = places[i].driver;
		f->vring.used_uva = places[i].device;
		assert_int_equal(vring_map(&f->vring, &f->shared, &f->reason),
				 places[i].error);
	}
}

static const struct format_case cases[] = {
	FORMAT_CASE(empty_queue_has_nothing),
	FORMAT_CASE(request_and_response),
	FORMAT_CASE(nothing_written),
	FORMAT_CASE(framing_is_the_drivers_choice),
	FORMAT_CASE(more_than_needed_is_ignored),
	FORMAT_CASE(empty_buffers_are_nothing),
	FORMAT_CASE(everything_wraps),
	FORMAT_CASE(a_full_queue_is_taken),
	FORMAT_CASE(a_chain_that_was_taken_is_left),
	FORMAT_CASE(a_chain_is_walked_again),
	FORMAT_CASE(a_chain_that_changes_under_our_hands),
	FORMAT_CASE(buffer_over_adjacent_regions),
	FORMAT_CASE(unplugged_memory_is_not_touched),
	FORMAT_CASE(interrupts_are_the_drivers_choice),
	FORMAT_CASE(interrupts_at_the_event_index),
	FORMAT_CASE(kicks_are_asked_for),
	FORMAT_CASE(loops_break_the_queue),
	FORMAT_CASE(readable_after_writable_breaks_the_queue),
	FORMAT_CASE(outside_memory_breaks_the_queue),
	FORMAT_CASE(huge_chains_break_the_queue),
	FORMAT_CASE(tables_need_the_feature),
	FORMAT_CASE(tables_of_no_whole_descriptors),
	FORMAT_CASE(tables_that_are_too_long),
	FORMAT_CASE(tables_outside_memory),
	FORMAT_CASE(tables_in_unplugged_memory),
	FORMAT_CASE(a_table_over_adjacent_regions),
	FORMAT_CASE(a_table_in_a_table),
	FORMAT_CASE(a_table_is_the_end_of_its_chain),
	FORMAT_CASE(what_a_table_is_marked_as_means_nothing),
	FORMAT_CASE(a_table_after_descriptors),
	FORMAT_CASE(index_outside_the_table),
	FORMAT_CASE(another_rounds_descriptors_are_not_there),
	FORMAT_CASE(any_id_comes_back),
	FORMAT_CASE(a_packed_chain_that_changes),
	FORMAT_CASE(any_event_suppression),
	FORMAT_CASE(packed_bases),
	FORMAT_CASE(packed_rings_must_be_in_memory),
};

int main(void)
{
	return formats_run(cases, sizeof(cases) / sizeof(cases[0]), set_up,
			   tear_down);
}
