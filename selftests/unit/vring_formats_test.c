// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtqueues of all formats: each case runs with split and packed rings, direct
 * and indirect descriptors, with and without event index. Also features of some
 * formats: tables and wrap counters.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "formats.h"
#include "ring.h"

#define OUTSIDE	      "a descriptor outside the guest's memory"
#define TABLE_OUTSIDE "an indirect table outside the guest's memory"

/* The available chain breaks the queue, which is then started again. */
static void assert_broken(struct ring *f, int error, const char *reason)
{
	uint32_t base = vring_base(&f->vring);

	assert_int_equal(ring_pop(f), error);
	assert_string_equal(f->err.text, reason);
	assert_true(f->vring.broken);
	assert_int_equal(vring_base(&f->vring), base);
	ring_start(f, RING_SIZE);
}

static uint16_t flags_of(const struct driver_entry *entry)
{
	return le16toh(*entry->flags);
}

/* --- All formats --- */

static void empty_queue_has_nothing(void **state)
{
	struct ring *f = *state;

	assert_int_equal(ring_pop(f), 0);
	assert_false(f->vring.broken);
}

static void request_and_response(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;
	uint32_t written;
	uint16_t id;

	memset(f->memory + RING_BUFFERS, 7, 24);
	chain = ring_add_request(f);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_memory_equal(f->request.read, f->memory + RING_BUFFERS, 24);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_memory_equal(f->memory + RING_BUFFERS + 100, "0123456789", 10);
	assert_false(driver_take(&f->driver, 2, &id, &written));
	ring_push(f, 10);
	ring_assert_back(f, &chain, 10);
	assert_false(driver_take(&f->driver, 2, &id, &written));
	assert_int_equal(ring_pop(f), 0);
}

/* A response of 0 bytes is reported as such. */
static void a_response_may_be_empty(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain = ring_add_request(f);

	assert_int_equal(ring_pop(f), 1);
	ring_push(f, 0);
	ring_assert_back(f, &chain, 0);
}

static void framing_is_the_drivers_choice(void **state)
{
	struct driver_buffer buffers[16];
	struct ring *f = *state;
	struct driver_chain chain;

	/* 12 buffers of two bytes, then 4 with 10 bytes in all. */
	for (unsigned int i = 0; i < 24; i++)
		f->memory[RING_BUFFERS + 64 * (i / 2) + i % 2] = i;
	for (unsigned int i = 0; i < 16; i++)
		buffers[i] = (struct driver_buffer){
			.gpa = RING_GPA + RING_BUFFERS + 64ULL * i,
			.size = i < 12	  ? 2
				: i == 12 ? 1
					  : 3,
			.write = i >= 12,
		};
	chain = driver_add(&f->driver, buffers, 16);
	/* A chain of the whole queue is no loop. */
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(f->request.read[i], i);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(f->request.nr_write, 4);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_int_equal(f->memory[RING_BUFFERS + 12 * 64], '0');
	assert_memory_equal(f->memory + RING_BUFFERS + 13 * 64, "123", 3);
	assert_memory_equal(f->memory + RING_BUFFERS + 15 * 64, "789", 3);
	ring_push(f, 10);
	ring_assert_back(f, &chain, 10);
	/* The queue continues. */
	chain = ring_add_request(f);
	assert_int_equal(ring_pop(f), 1);
	ring_push(f, 10);
	ring_assert_back(f, &chain, 10);
}

static void more_than_needed_is_ignored(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = RING_GPA + RING_BUFFERS, .size = 4096},
		{.gpa = RING_GPA + RING_BUFFERS, .size = 4096, .write = true},
	};
	struct ring *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, VRING_READ_MAX);
	assert_int_equal(f->request.write_size, VRING_WRITE_MAX);
}

static void empty_buffers_are_skipped(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = 0, .size = 0},
		{.gpa = RING_GPA + RING_BUFFERS, .size = 24},
		{.gpa = 0, .size = 0, .write = true},
		{.gpa = RING_GPA + RING_BUFFERS, .size = 10, .write = true},
	};
	struct ring *f = *state;

	driver_add(&f->driver, buffers, 4);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

/* Past the end of the ring and of 16-bit indexes, for all chain lengths. */
static void everything_wraps(void **state)
{
	static const uint16_t sizes[] = {2, 3, 4, 8, 13, RING_SIZE};
	struct ring *f = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (!vring_valid_size(sizes[i], ring_packed(f)))
			continue;
		ring_start(f, sizes[i]);
		for (unsigned int n = 0; n < 70000; n++) {
			struct driver_chain chain = ring_add_request(f);

			if (ring_pop(f) != 1)
				fail_msg("%s", f->err.text);
			ring_push(f, 10);
			ring_assert_back(f, &chain, 10);
		}
		assert_int_equal(ring_pop(f), 0);
	}
}

static void a_full_queue_is_taken(void **state)
{
	struct ring *f = *state;
	unsigned int nr = ring_indirect(f) ? RING_SIZE : RING_SIZE / 2;
	struct driver_chain chains[RING_SIZE];

	/* From the middle of the ring: the descriptors wrap. */
	for (unsigned int i = 0; i < 3; i++) {
		chains[i] = ring_add_request(f);
		assert_int_equal(ring_pop(f), 1);
		ring_push(f, 1);
		ring_assert_back(f, &chains[i], 1);
	}
	for (unsigned int i = 0; i < nr; i++)
		chains[i] = ring_add_request(f);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(f->request.chain.id, chains[i].id);
		ring_push(f, i + 1);
	}
	assert_int_equal(ring_pop(f), 0);
	for (unsigned int i = 0; i < nr; i++)
		ring_assert_back(f, &chains[i], i + 1);
}

/* The next daemon finds a chain that was taken and returned. */
static void a_taken_chain_can_be_returned(void **state)
{
	struct ring *f = *state;

	for (unsigned int round = 0; round < 40; round++) {
		struct driver_chain chain = ring_add_request(f);
		uint32_t base = vring_base(&f->vring);

		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(ring_pop(f), 0);
		vring_unpop(&f->vring, &f->request.chain);
		assert_int_equal(vring_base(&f->vring), base);
		assert_int_equal(base, driver_base(&f->driver));
		/* Another daemon knows only the base. */
		ring_next_daemon(f, base);
		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(f->request.chain.id, chain.id);
		ring_push(f, 10);
		ring_assert_back(f, &chain, 10);
		ring_go_on_for(f, round % 5);
	}
}

static void a_chain_is_walked_again(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;
	struct vring_chain taken;

	for (unsigned int round = 0; round < 40; round++) {
		chain = ring_add_request(f);
		assert_int_equal(ring_pop(f), 1);
		taken = f->request.chain;
		memset(&f->request, 0xa5, sizeof(f->request));
		assert_int_equal(vring_again(&f->vring, &f->shared, &taken,
					     &f->request, &f->err),
				 0);
		assert_memory_equal(&f->request.chain, &taken, sizeof(taken));
		assert_int_equal(f->request.read_size, 24);
		assert_int_equal(f->request.write_size, 10);
		vring_push(&f->vring, &taken, 10);
		ring_assert_back(f, &chain, 10);
	}
}

static void a_chain_that_changes_while_in_use(void **state)
{
	struct ring *f = *state;
	struct driver_entry entry;
	struct driver_chain chain;
	struct vring_chain taken;

	/* A buffer of the chain moves. */
	ring_go_on_for(f, 5);
	chain = ring_add_request(f);
	assert_int_equal(ring_pop(f), 1);
	taken = f->request.chain;
	entry = driver_entry(&f->driver, &chain, 1);
	*entry.gpa = htole64(RING_GPA + RING_MEMORY);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->err),
			 -EFAULT);
	assert_true(f->vring.broken);
	/* The chain becomes longer, up to the next chain's slot. */
	ring_start(f, RING_SIZE);
	chain = ring_add_request(f);
	ring_add_request(f);
	assert_int_equal(ring_pop(f), 1);
	taken = f->request.chain;
	entry = driver_slot(&f->driver,
			    ring_indirect(f) ? chain.slot : chain.slot + 1);
	*entry.flags |= htole16(VRING_DESC_F_NEXT);
	*entry.next = htole16(chain.slot + 2);
	assert_int_not_equal(vring_again(&f->vring, &f->shared, &taken,
					 &f->request, &f->err),
			     0);
	assert_true(f->vring.broken);
}

static void buffer_over_adjacent_regions(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = RING_GPA + RING_MEMORY - 5, .size = 10},
		{.gpa = RING_GPA + RING_MEMORY - 5, .size = 10, .write = true},
	};
	const struct driver_buffer beyond = {
		.gpa = RING_GPA + 2 * RING_MEMORY - 5,
		.size = 10,
	};
	struct ring *f = *state;
	int fd = memfd_create("next", MFD_CLOEXEC);

	/*
	 * Adjacent to the first region in the guest, elsewhere in the front
	 * end.
	 */
	assert_int_equal(ftruncate(fd, RING_MEMORY), 0);
	assert_int_equal(guest_memory_add(&f->shared, RING_GPA + RING_MEMORY,
					  RING_UVA / 2, RING_MEMORY, 0, fd,
					  &f->err),
			 0);
	assert_int_equal(pwrite(fd, "world", 5, 0), 5);
	memcpy(f->memory + RING_MEMORY - 5, "hello", 5);
	driver_add(&f->driver, buffers, 2);
	assert_int_equal(ring_pop(f), 1);
	assert_memory_equal(f->request.read, "helloworld", 10);
	assert_int_equal(f->request.nr_write, 2);
	ring_push(f, 10);
	driver_add(&f->driver, &beyond, 1);
	assert_broken(f, -EFAULT, OUTSIDE);
	close(fd);
}

static void unplugged_memory_is_not_touched(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = RING_GPA + RING_BUFFERS, .size = 24},
		{.gpa = RING_GPA + RING_MEMORY - 10, .size = 10, .write = true},
	};
	struct ring *f = *state;

	f->forbidden = RING_GPA + RING_MEMORY - 1;
	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EFAULT, OUTSIDE);
	f->forbidden = RING_GPA + RING_MEMORY;
	driver_add(&f->driver, buffers, 2);
	assert_int_equal(ring_pop(f), 1);
}

/* --- Interrupts and kicks --- */

/*
 * Have the device answer @nr requests. Return: does the driver request an
 * interrupt?
 */
static bool answer(struct ring *f, unsigned int nr)
{
	while (nr--) {
		ring_add_request(f);
		assert_int_equal(ring_pop(f), 1);
		ring_push(f, 10);
	}
	return vring_wants_interrupt(&f->vring);
}

static void interrupts_are_the_drivers_choice(void **state)
{
	struct ring *f = *state;
	bool event_idx = ring_has(f, VIRTIO_RING_F_EVENT_IDX);

	/* With the event index, the flags of a split queue are ignored. */
	driver_want_interrupt(&f->driver, true);
	assert_true(answer(f, 1));
	if (event_idx && !ring_packed(f))
		return;
	assert_true(answer(f, 1));
	driver_want_interrupt(&f->driver, false);
	assert_false(answer(f, 1));
	driver_want_interrupt(&f->driver, true);
	assert_true(answer(f, 1));
}

static void interrupts_at_the_event_index(void **state)
{
	struct ring *f = *state;
	unsigned int per = ring_packed(f) && !ring_indirect(f) ? 2 : 1;

	if (!ring_has(f, VIRTIO_RING_F_EVENT_IDX))
		return;
	/* The signals of an earlier back end are unknown. */
	driver_want_interrupt_after(&f->driver, 5);
	assert_true(answer(f, 1));
	ring_go_on_for(f, 0);
	for (unsigned int round = 0; round < 40; round++) {
		struct driver_chain none = {.nr = 2};
		uint32_t written;

		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
		/* The third answer from here. */
		driver_want_interrupt_after(&f->driver, 3 * per);
		assert_false(answer(f, 1));
		assert_false(answer(f, 1));
		assert_true(answer(f, 1));
		assert_false(answer(f, 1));
		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
		/* Several answers at once, including that one. */
		driver_want_interrupt_after(&f->driver, 2 * per);
		assert_true(answer(f, 3));
		while (driver_take(&f->driver, none.nr, &none.id, &written))
			;
	}
}

/* An empty queue requests a kick for the next chain. */
static void kicks_are_requested(void **state)
{
	struct ring *f = *state;

	if (!ring_packed(f) && !ring_has(f, VIRTIO_RING_F_EVENT_IDX))
		((struct vring_used *)(f->memory + RING_USED))->flags =
			htole16(VRING_USED_F_NO_NOTIFY);
	for (unsigned int round = 0; round < 40; round++) {
		assert_int_equal(ring_pop(f), 0);
		ring_add_request(f);
		assert_true(driver_needs_kick(&f->driver));
		/* One kick is enough. */
		ring_add_request(f);
		assert_int_equal(driver_needs_kick(&f->driver),
				 !ring_has(f, VIRTIO_RING_F_EVENT_IDX));
		for (unsigned int i = 0; i < 2; i++) {
			struct driver_chain none = {.nr = 2};
			uint32_t written;

			assert_int_equal(ring_pop(f), 1);
			ring_push(f, 10);
			assert_true(driver_take(&f->driver, none.nr, &none.id,
						&written));
		}
	}
}

/* --- Bad chains --- */

static void loops_break_the_queue(void **state)
{
	struct ring *f = *state;
	struct driver_entry entry;
	struct driver_chain chain;

	/* A packed table has no links. */
	if (ring_packed(f) && ring_indirect(f))
		return;
	chain = ring_add_request(f);
	for (unsigned int i = 0; i < RING_SIZE; i++) {
		entry = ring_indirect(f)
				? driver_entry(&f->driver, &chain, i % 2)
				: driver_slot(&f->driver, i);
		*entry.gpa = htole64(RING_GPA + RING_BUFFERS);
		*entry.flags = htole16(
			(flags_of(&entry) & (uint16_t)~VRING_DESC_F_WRITE) |
			VRING_DESC_F_NEXT);
		if (!ring_packed(f))
			*entry.next = htole16(i % 2 ? 0 : 1);
	}
	assert_broken(f, -ELOOP, "a loop of descriptors");
}

static void readable_after_writable_breaks_the_queue(void **state)
{
	const struct driver_buffer buffers[] = {
		{.gpa = RING_GPA + RING_BUFFERS, .size = 10, .write = true},
		{.gpa = RING_GPA + RING_BUFFERS, .size = 24},
	};
	struct ring *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EINVAL, "a readable descriptor after a writable one");
}

static void outside_memory_breaks_the_queue(void **state)
{
	static const struct driver_buffer bad[] = {
		{0, 1, false},
		{RING_GPA - 1, 1, false},
		{RING_GPA - 1, 2, true},
		{RING_GPA + RING_MEMORY, 1, false},
		{RING_GPA + RING_MEMORY - 1, 2, false},
		{RING_GPA + RING_MEMORY - 1, 2, true},
		{RING_GPA, RING_MEMORY + 1, false},
		{RING_GPA, UINT32_MAX - 4096, true},
		/* A front-end address is no guest address. */
		{RING_UVA, 1, false},
		{UINT64_MAX - 100, 50, true},
		{UINT64_MAX, 2, false},
	};
	struct ring *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct driver_buffer buffers[] = {
			/* Not even if the buffer would not be read. */
			{.gpa = RING_GPA + RING_BUFFERS, .size = 4096},
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
		{.gpa = RING_GPA, .size = RING_MEMORY},
		{.gpa = RING_GPA, .size = UINT32_MAX},
	};
	struct ring *f = *state;

	driver_add(&f->driver, buffers, 2);
	assert_broken(f, -EINVAL, "a descriptor chain of 4 GiB or more");
}

/* --- Tables --- */

static void tables_need_the_feature(void **state)
{
	struct ring *f = *state;
	struct driver_entry entry;
	struct driver_chain chain = ring_add_request(f);

	entry = driver_slot(&f->driver, chain.slot);
	*entry.flags |= htole16(VRING_DESC_F_INDIRECT);
	*entry.flags &= htole16((uint16_t)~VRING_DESC_F_NEXT);
	if (!ring_indirect(f))
		assert_broken(f, -EINVAL,
			      "an indirect descriptor, not negotiated");
	else
		assert_int_equal(ring_pop(f), 1);
}

static void tables_of_no_whole_descriptors(void **state)
{
	static const uint32_t bad[] = {0, 1, 15, 17, 31, UINT32_MAX};
	struct ring *f = *state;

	if (!ring_indirect(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = ring_add_request(f);

		*driver_slot(&f->driver, chain.slot).size = htole32(bad[i]);
		assert_broken(f, -EINVAL,
			      "an indirect table of no whole descriptors");
	}
}

static void tables_that_are_too_long(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;

	if (!ring_indirect(f))
		return;
	chain = ring_add_request(f);
	*driver_slot(&f->driver, chain.slot).size =
		htole32(16 * (VRING_MAX_TABLE + 1));
	assert_broken(f, -EINVAL, "too long an indirect table");
	chain = ring_add_request(f);
	*driver_slot(&f->driver, chain.slot).size = htole32(0xfffffff0);
	assert_broken(f, -EINVAL, "too long an indirect table");
	/* Maximum length: empty buffers, linked or not. */
	chain = ring_add_request(f);
	*driver_slot(&f->driver, chain.slot).size =
		htole32(16 * VRING_MAX_TABLE);
	for (unsigned int i = 2; i < VRING_MAX_TABLE; i++) {
		struct driver_entry entry = driver_entry(&f->driver, &chain, i);

		*driver_entry(&f->driver, &chain, i - 1).flags |=
			htole16(VRING_DESC_F_NEXT);
		*driver_entry(&f->driver, &chain, i - 1).next = htole16(i);
		*entry.flags = htole16(VRING_DESC_F_WRITE);
	}
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

static void tables_outside_memory(void **state)
{
	static const uint64_t bad[] = {
		0,
		RING_GPA - 16,
		RING_GPA - 1,
		RING_GPA + RING_MEMORY - 31,
		RING_GPA + RING_MEMORY - 16,
		RING_GPA + RING_MEMORY,
		RING_UVA,
		UINT64_MAX - 31,
		UINT64_MAX - 15,
		UINT64_MAX,
	};
	struct ring *f = *state;

	if (!ring_indirect(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = ring_add_request(f);

		/* The part in memory belongs to a valid chain. */
		if (bad[i] >= RING_GPA && bad[i] - RING_GPA <= RING_MEMORY - 16)
			memcpy(f->memory + (bad[i] - RING_GPA),
			       driver_entry(&f->driver, &chain, 0).gpa, 16);
		*driver_slot(&f->driver, chain.slot).gpa = htole64(bad[i]);
		assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	}
}

static void tables_in_unplugged_memory(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;
	uint64_t table;

	if (!ring_indirect(f))
		return;
	chain = ring_add_request(f);
	table = le64toh(*driver_slot(&f->driver, chain.slot).gpa);
	f->forbidden = table;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	/* The first byte of the second descriptor is forbidden. */
	ring_add_request(f);
	f->forbidden = table + 16;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	ring_add_request(f);
	f->forbidden = table + 31;
	assert_broken(f, -EFAULT, TABLE_OUTSIDE);
	ring_add_request(f);
	f->forbidden = table + 32;
	assert_int_equal(ring_pop(f), 1);
}

static void a_table_over_adjacent_regions(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;
	uint8_t table[32];

	if (!ring_indirect(f))
		return;
	/* Split the table at every byte. */
	for (unsigned int cut = 0; cut <= 32; cut++) {
		int fd = memfd_create("next", MFD_CLOEXEC);

		ring_start(f, RING_SIZE);
		assert_int_equal(ftruncate(fd, RING_MEMORY), 0);
		assert_int_equal(guest_memory_add(&f->shared,
						  RING_GPA + RING_MEMORY,
						  RING_UVA / 2, RING_MEMORY, 0,
						  fd, &f->err),
				 0);
		chain = ring_add_request(f);
		memcpy(table, driver_entry(&f->driver, &chain, 0).gpa, 32);
		memset(f->memory + RING_TABLES, 0xff, 32);
		memcpy(f->memory + RING_MEMORY - cut, table, cut);
		assert_int_equal(pwrite(fd, table + cut, 32 - cut, 0),
				 32 - cut);
		*driver_slot(&f->driver, chain.slot).gpa =
			htole64(RING_GPA + RING_MEMORY - cut);
		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(f->request.read_size, 24);
		assert_int_equal(f->request.write_size, 10);
		assert_int_equal(guest_memory_remove(&f->shared,
						     RING_GPA + RING_MEMORY,
						     RING_UVA / 2, RING_MEMORY),
				 0);
		close(fd);
	}
}

static void a_table_in_a_table(void **state)
{
	struct ring *f = *state;

	if (!ring_indirect(f))
		return;
	for (unsigned int i = 0; i < 2; i++) {
		struct driver_chain chain = ring_add_request(f);

		*driver_entry(&f->driver, &chain, i).flags |=
			htole16(VRING_DESC_F_INDIRECT);
		assert_broken(f, -EINVAL,
			      "an indirect table in an indirect table");
	}
}

static void a_table_is_the_end_of_its_chain(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;

	if (!ring_indirect(f))
		return;
	chain = ring_add_request(f);
	ring_add_request(f);
	*driver_slot(&f->driver, chain.slot).flags |=
		htole16(VRING_DESC_F_NEXT);
	*driver_slot(&f->driver, chain.slot).next = htole16(chain.slot + 1);
	assert_broken(f, -EINVAL,
		      "an indirect descriptor that is not the last");
}

static void flags_of_a_table_are_ignored(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;

	if (!ring_indirect(f))
		return;
	chain = ring_add_request(f);
	*driver_slot(&f->driver, chain.slot).flags |=
		htole16(VRING_DESC_F_WRITE);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

/* Descriptors in the ring, followed by a table. */
static void a_table_after_descriptors(void **state)
{
	const struct driver_buffer rest[] = {
		{.gpa = RING_GPA + RING_BUFFERS + 20, .size = 4},
		{.gpa = RING_GPA + RING_BUFFERS + 100,
		 .size = 10,
		 .write = true},
	};
	struct ring *f = *state;
	struct driver_entry first, second;
	struct driver_chain chain;

	if (!ring_indirect(f) || ring_packed(f))
		return;
	for (unsigned int i = 0; i < 24; i++)
		f->memory[RING_BUFFERS + i] = i;
	chain = driver_add(&f->driver, rest, 2);
	/* Move the descriptor to the next slot. */
	first = driver_slot(&f->driver, chain.slot);
	second = driver_slot(&f->driver, chain.slot + 1);
	memcpy(second.gpa, first.gpa, 16);
	*first.gpa = htole64(RING_GPA + RING_BUFFERS);
	*first.size = htole32(20);
	*first.flags = htole16(VRING_DESC_F_NEXT);
	*first.next = htole16(chain.slot + 1);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(f->request.read[i], i);
	assert_int_equal(f->request.write_size, 10);
}

static void index_outside_the_table(void **state)
{
	static const uint16_t bad[] = {2, 3, 0x7fff, UINT16_MAX};
	struct ring *f = *state;

	if (!ring_indirect(f) || ring_packed(f))
		return;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct driver_chain chain = ring_add_request(f);

		*driver_entry(&f->driver, &chain, 0).next = htole16(bad[i]);
		assert_broken(f, -EINVAL,
			      "a descriptor index outside the table");
	}
}

/* --- Packed rings --- */

#define PACKED_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1U << VRING_PACKED_DESC_F_USED)

static void descriptors_of_another_round_are_not_available(void **state)
{
	static const uint16_t other[] = {0, PACKED_USED,
					 PACKED_AVAIL | PACKED_USED};
	struct ring *f = *state;

	if (!ring_packed(f))
		return;
	for (unsigned int round = 0; round < 2; round++) {
		uint16_t slot = f->driver.next;
		struct driver_entry entry;

		ring_add_request(f);
		entry = driver_slot(&f->driver, slot);
		for (unsigned int i = 0; i < 3; i++) {
			uint16_t good = flags_of(&entry);
			uint16_t flags = other[i];

			/* In the other round the flags are inverted. */
			if (round)
				flags ^= PACKED_AVAIL | PACKED_USED;
			*entry.flags =
				htole16((good & (uint16_t) ~(PACKED_AVAIL |
							     PACKED_USED)) |
					flags);
			assert_int_equal(ring_pop(f), 0);
			assert_false(f->vring.broken);
			*entry.flags = htole16(good);
		}
		assert_int_equal(ring_pop(f), 1);
		ring_push(f, 10);
		if (round)
			break;
		f->driver.seen = f->driver.avail;
		f->driver.used = f->driver.next;
		ring_go_on_for(f, ring_indirect(f) ? RING_SIZE - 1
						   : RING_SIZE / 2 - 1);
	}
}

/* The driver chooses ids, and the device must not interpret them. */
static void any_id_is_returned(void **state)
{
	static const uint16_t ids[] = {0,      1,      RING_SIZE,
				       0x7fff, 0x8000, UINT16_MAX};
	struct ring *f = *state;

	if (!ring_packed(f))
		return;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct driver_chain chain = ring_add_request(f);
		uint16_t last = ring_indirect(f) ? chain.slot : chain.slot + 1;

		chain.id = ids[i];
		*driver_slot(&f->driver, last).next = htole16(chain.id);
		assert_int_equal(ring_pop(f), 1);
		ring_push(f, 10);
		ring_assert_back(f, &chain, 10);
	}
}

/* Its id or its length changes before it is answered. */
static void a_packed_chain_that_changes(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;
	struct vring_chain taken;
	uint16_t last;

	if (!ring_packed(f))
		return;
	chain = ring_add_request(f);
	last = ring_indirect(f) ? chain.slot : chain.slot + 1;
	assert_int_equal(ring_pop(f), 1);
	taken = f->request.chain;
	*driver_slot(&f->driver, last).next = htole16(chain.id + 1);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text,
			    "a chain that was changed after it was taken");
	assert_true(f->vring.broken);
	if (ring_indirect(f))
		return;
	/* A shorter chain: the next chain would begin elsewhere. */
	ring_start(f, RING_SIZE);
	chain = ring_add_request(f);
	assert_int_equal(ring_pop(f), 1);
	taken = f->request.chain;
	*driver_slot(&f->driver, chain.slot).flags &=
		htole16((uint16_t)~VRING_DESC_F_NEXT);
	*driver_slot(&f->driver, chain.slot).next = htole16(chain.id);
	assert_int_equal(vring_again(&f->vring, &f->shared, &taken, &f->request,
				     &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text,
			    "a chain that was changed after it was taken");
}

/* Any values of the event suppression structure have no other effect. */
static void any_event_suppression(void **state)
{
	struct ring *f = *state;
	struct vring_packed_desc_event *event =
		(void *)(f->memory + RING_AVAIL);

	if (!ring_packed(f))
		return;
	for (unsigned int i = 0; i < 0x10000; i += 0x111) {
		event->off_wrap = htole16(i);
		event->flags = htole16(i * 7);
		ring_go_on_for(f, 1);
		vring_wants_interrupt(&f->vring);
	}
	/* An undefined value: an interrupt too many is harmless. */
	event->flags = htole16(3);
	assert_true(answer(f, 1));
}

/* A queue that is not started returns the base that was set. */
static void a_base_is_returned(void **state)
{
	struct ring *f = *state;
	const uint32_t wraps = 1U << 15 | 1U << 31;

	vring_stop(&f->vring);
	if (!ring_packed(f)) {
		assert_int_equal(vring_set_base(&f->vring, UINT16_MAX + 1),
				 -EINVAL);
		assert_int_equal(vring_set_base(&f->vring, 5), 0);
		assert_int_equal(vring_base(&f->vring), 5);
		return;
	}
	assert_int_equal(vring_set_base(&f->vring, 5 | 7 << 16 | wraps), 0);
	assert_int_equal(vring_base(&f->vring), 5 | 7 << 16 | wraps);
	ring_map(f);
	assert_int_equal(vring_base(&f->vring), wraps);
}

static void a_size_that_the_format_cannot_have(void **state)
{
	struct ring *f = *state;

	f->vring.size = 13;
	f->vring.features &= ~(1ULL << VIRTIO_F_RING_PACKED);
	assert_int_equal(vring_map(&f->vring, &f->shared, &f->err), -EINVAL);
	assert_false(f->vring.mapped);
}

/* --- The position of a queue --- */

/* Positions that front ends may set, most of them wrong. */
#define NR_LIES 5

static uint32_t lie(const struct ring *f, unsigned int i)
{
	const uint32_t lies[NR_LIES] = {
		0,
		/* The driver's index. */
		f->driver.avail,
		f->driver.next | (uint32_t)f->driver.next << 16 |
			(f->driver.avail_wrap ? 1U << 15 | 1U << 31 : 0),
		/* The index of an earlier driver. */
		11 | 11 << 16,
		UINT32_MAX,
	};

	return ring_packed(f) ? lies[i] : lies[i] & UINT16_MAX;
}

/* Daemons that do nothing, each with another base; the last one stays. */
static void daemons_come_and_go(struct ring *f)
{
	for (unsigned int i = 0; i < NR_LIES; i++) {
		ring_next_daemon(f, lie(f, i));
		assert_int_equal(vring_base(&f->vring),
				 driver_base(&f->driver));
	}
}

/*
 * Waiting requests are answered in order, with a new daemon after each answer.
 */
static void assert_each_is_answered_once(struct ring *f,
					 const struct driver_chain *chains,
					 unsigned int nr)
{
	daemons_come_and_go(f);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(f->request.chain.id, chains[i].id);
		assert_int_equal(f->request.read_size, 24);
		ring_push(f, 10);
		ring_assert_back(f, &chains[i], 10);
		daemons_come_and_go(f);
	}
	assert_int_equal(ring_pop(f), 0);
}

static void the_position_is_found_in_the_queue(void **state)
{
	struct ring *f = *state;
	struct driver_chain chains[RING_SIZE];
	unsigned int most = ring_indirect(f) ? RING_SIZE : RING_SIZE / 2;

	daemons_come_and_go(f);
	for (unsigned int round = 0; round < 4 * RING_SIZE; round++) {
		unsigned int nr = round % (most + 1);

		for (unsigned int i = 0; i < nr; i++)
			chains[i] = ring_add_request(f);
		assert_each_is_answered_once(f, chains, nr);
		ring_go_on_for(f, round % 5);
	}
}

/* A request in up to five buffers, and a response in up to two. */
static struct driver_chain add_pieces(struct ring *f, unsigned int *seed)
{
	struct driver_buffer buffers[7];
	uint32_t left = 24;
	uint16_t nr = 0;

	while (left) {
		uint32_t size = nr == 4 ? left : 1 + rand_r(seed) % left;

		buffers[nr++] = (struct driver_buffer){
			.gpa = RING_GPA + RING_BUFFERS + 24 - left,
			.size = size,
		};
		left -= size;
	}
	left = 10;
	while (left) {
		uint32_t size = rand_r(seed) % 2 ? left : 1 + left / 2;

		buffers[nr++] = (struct driver_buffer){
			.gpa = RING_GPA + RING_BUFFERS + 110 - left,
			.size = size,
			.write = true,
		};
		left -= size;
		if (left && nr == 6) {
			buffers[nr - 1].size += left;
			break;
		}
	}
	return driver_add(&f->driver, buffers, nr);
}

static void the_position_is_found_with_chains_of_any_length(void **state)
{
	struct ring *f = *state;
	struct driver_chain chains[2];
	unsigned int seed = 1;

	for (unsigned int round = 0; round < 40 * RING_SIZE; round++) {
		unsigned int nr = round % 3;

		for (unsigned int i = 0; i < nr; i++)
			chains[i] = add_pieces(f, &seed);
		assert_each_is_answered_once(f, chains, nr);
	}
}

/* Unusual sizes, down to a ring that one request fills. */
static void the_position_is_found_in_small_queues(void **state)
{
	static const uint16_t sizes[] = {2, 3, 4, 5, 8, 13};
	struct ring *f = *state;
	struct driver_chain chains[2];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (!vring_valid_size(sizes[i], ring_packed(f)))
			continue;
		ring_start(f, sizes[i]);
		for (unsigned int round = 0; round < 60; round++) {
			unsigned int nr = round % (sizes[i] < 4 ? 2 : 3);

			for (unsigned int n = 0; n < nr; n++)
				chains[n] = ring_add_request(f);
			assert_each_is_answered_once(f, chains, nr);
		}
	}
}

/* A driver that sometimes has no memory for a table. */
static void tables_and_descriptors_mixed(void **state)
{
	struct ring *f = *state;
	unsigned int seed = 1;

	if (!ring_indirect(f))
		return;
	for (unsigned int round = 0; round < 20 * RING_SIZE; round++) {
		struct driver_chain chain;

		f->driver.features = f->features;
		if (rand_r(&seed) % 2)
			f->driver.features &=
				~(1ULL << VIRTIO_RING_F_INDIRECT_DESC);
		chain = ring_add_request(f);
		assert_each_is_answered_once(f, &chain, 1);
	}
}

/* A driver writes the first descriptor of a chain last. */
static void an_incomplete_chain_is_not_available(void **state)
{
	struct ring *f = *state;

	if (!ring_packed(f) || ring_indirect(f))
		return;
	for (unsigned int round = 0; round < 4 * RING_SIZE; round++) {
		struct driver_entry head =
			driver_slot(&f->driver, f->driver.next);
		uint16_t before = *head.flags, after;
		struct driver_chain chain = ring_add_request(f);

		after = *head.flags;
		*head.flags = before;
		daemons_come_and_go(f);
		assert_int_equal(ring_pop(f), 0);
		*head.flags = after;
		assert_each_is_answered_once(f, &chain, 1);
		ring_go_on_for(f, round % 3);
	}
}

/* The largest queue: each index and counter reaches its maximum. */
static void the_largest_queue_wraps(void **state)
{
	struct ring *f = *state;
	struct driver_chain chain;

	if (ring_indirect(f))
		return;
	ring_start_large(f);
	for (unsigned int i = 0; i < 2 * VRING_MAX_SIZE + 5; i++) {
		chain = ring_add_request(f);
		assert_int_equal(ring_pop(f), 1);
		if (i % 4096 == 4095) {
			ring_next_daemon(f, 0);
			assert_int_equal(ring_pop(f), 1);
		}
		ring_push(f, 10);
		ring_assert_back(f, &chain, 10);
	}
	ring_next_daemon(f, 0);
	assert_int_equal(vring_base(&f->vring), driver_base(&f->driver));
}

/* With any contents of the ring, the position is in the queue. */
static void any_ring_has_a_position(void **state)
{
	struct ring *f = *state;
	unsigned int seed = 1;

	if (!ring_packed(f))
		return;
	for (unsigned int round = 0; round < 5000; round++) {
		for (size_t i = 0; i < RING_SIZE * 16; i++)
			f->memory[RING_DESC + i] =
				rand_r(&seed) % 4 ? rand_r(&seed) >> 8 : 0;
		ring_next_daemon(f, lie(f, round % NR_LIES));
		assert_true(f->vring.last_avail < RING_SIZE);
		assert_true(f->vring.used_index < RING_SIZE);
		ring_pop(f);
	}
}

static void packed_rings_must_be_in_memory(void **state)
{
	static const struct {
		uint64_t desc;
		uint64_t driver;
		uint64_t device;
		int error;
	} places[] = {
		{RING_UVA + RING_MEMORY - 16 * RING_SIZE, RING_UVA,
		 RING_UVA + 4, 0},
		{RING_UVA + RING_MEMORY - 16 * RING_SIZE + 16, RING_UVA,
		 RING_UVA + 4, -EFAULT},
		{RING_UVA, RING_UVA + RING_MEMORY - 4, RING_UVA + 0x1000, 0},
		{RING_UVA, RING_UVA + RING_MEMORY, RING_UVA + 0x1000, -EFAULT},
		{RING_UVA, RING_UVA + 0x1000, RING_UVA + RING_MEMORY, -EFAULT},
		{RING_UVA, RING_UVA + 0x1000, RING_GPA, -EFAULT},
		{RING_UVA + 8, RING_UVA + 0x1000, RING_UVA + 0x2000, -EINVAL},
		{RING_UVA, RING_UVA + 0x1002, RING_UVA + 0x2000, -EINVAL},
		{RING_UVA, RING_UVA + 0x1000, RING_UVA + 0x2002, -EINVAL},
		{UINT64_MAX - 15, RING_UVA, RING_UVA, -EFAULT},
	};
	struct ring *f = *state;

	if (!ring_packed(f))
		return;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		f->vring.desc_uva = places[i].desc;
		f->vring.avail_uva = places[i].driver;
		f->vring.used_uva = places[i].device;
		assert_int_equal(vring_map(&f->vring, &f->shared, &f->err),
				 places[i].error);
		/* By the front end's addresses, not those of the mapping. */
		if (places[i].error == -EINVAL)
			assert_string_equal(f->err.text, "a misaligned ring");
	}
}

static const struct format_case cases[] = {
	FORMAT_CASE(empty_queue_has_nothing),
	FORMAT_CASE(request_and_response),
	FORMAT_CASE(a_response_may_be_empty),
	FORMAT_CASE(framing_is_the_drivers_choice),
	FORMAT_CASE(more_than_needed_is_ignored),
	FORMAT_CASE(empty_buffers_are_skipped),
	FORMAT_CASE(everything_wraps),
	FORMAT_CASE(a_full_queue_is_taken),
	FORMAT_CASE(a_taken_chain_can_be_returned),
	FORMAT_CASE(a_chain_is_walked_again),
	FORMAT_CASE(a_chain_that_changes_while_in_use),
	FORMAT_CASE(buffer_over_adjacent_regions),
	FORMAT_CASE(unplugged_memory_is_not_touched),
	FORMAT_CASE(interrupts_are_the_drivers_choice),
	FORMAT_CASE(interrupts_at_the_event_index),
	FORMAT_CASE(kicks_are_requested),
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
	FORMAT_CASE(flags_of_a_table_are_ignored),
	FORMAT_CASE(a_table_after_descriptors),
	FORMAT_CASE(index_outside_the_table),
	FORMAT_CASE(descriptors_of_another_round_are_not_available),
	FORMAT_CASE(any_id_is_returned),
	FORMAT_CASE(a_packed_chain_that_changes),
	FORMAT_CASE(any_event_suppression),
	FORMAT_CASE(a_base_is_returned),
	FORMAT_CASE(a_size_that_the_format_cannot_have),
	FORMAT_CASE(the_position_is_found_in_the_queue),
	FORMAT_CASE(the_position_is_found_with_chains_of_any_length),
	FORMAT_CASE(the_position_is_found_in_small_queues),
	FORMAT_CASE(tables_and_descriptors_mixed),
	FORMAT_CASE(an_incomplete_chain_is_not_available),
	FORMAT_CASE(the_largest_queue_wraps),
	FORMAT_CASE(any_ring_has_a_position),
	FORMAT_CASE(packed_rings_must_be_in_memory),
};

int main(void)
{
	return formats_run(cases, sizeof(cases) / sizeof(cases[0]), ring_set_up,
			   ring_tear_down);
}
