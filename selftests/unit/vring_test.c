// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Split virtqueues and guest memory, with a driver that violates every rule.
 * vring_formats_test.c tests what both formats have in common.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "ring.h"

#define SIZE	RING_SIZE
#define MEMORY	RING_MEMORY
#define GPA	RING_GPA
#define UVA	RING_UVA
#define AVAIL	RING_AVAIL
#define USED	RING_USED
#define BUFFERS RING_BUFFERS

static int new_memfd(size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static int set_up(void **state)
{
	static uint64_t split;

	*state = &split;
	return ring_set_up(state);
}

static struct vring_desc *desc_of(const struct ring *f)
{
	return (struct vring_desc *)(f->memory + RING_DESC);
}

static struct vring_avail *avail_of(const struct ring *f)
{
	return (struct vring_avail *)(f->memory + RING_AVAIL);
}

static struct vring_used *used_of(const struct ring *f)
{
	return (struct vring_used *)(f->memory + RING_USED);
}

static void set_desc(struct ring *f, unsigned int index, uint64_t gpa,
		     uint32_t size, uint16_t flags, uint16_t next)
{
	desc_of(f)[index] = (struct vring_desc){
		.addr = htole64(gpa),
		.len = htole32(size),
		.flags = htole16(flags),
		.next = htole16(next),
	};
}

static void make_available(struct ring *f, uint16_t head)
{
	uint16_t index = le16toh(avail_of(f)->idx);

	avail_of(f)->ring[index % SIZE] = htole16(head);
	avail_of(f)->idx = htole16(index + 1);
}

/* The chain at 0 must be refused, and break the queue. */
static void assert_broken(struct ring *f, int error, const char *reason)
{
	make_available(f, 0);
	assert_int_equal(ring_pop(f), error);
	assert_string_equal(f->err.text, reason);
	assert_true(f->vring.broken);
	f->vring.broken = false;
	/* Prepare for the next chain. */
	f->vring.last_avail = le16toh(avail_of(f)->idx);
}

#define OUTSIDE "a descriptor outside the guest's memory"

/* --- Good chains --- */

static void empty_queue_has_nothing(void **state)
{
	struct ring *f = *state;

	assert_int_equal(ring_pop(f), 0);
	assert_false(f->vring.broken);
}

static void request_and_response(void **state)
{
	struct ring *f = *state;

	memset(f->memory + BUFFERS, 7, 24);
	set_desc(f, 0, GPA + BUFFERS, 24, VRING_DESC_F_NEXT, 5);
	set_desc(f, 5, GPA + BUFFERS + 100, 10, VRING_DESC_F_WRITE, 0);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_memory_equal(f->request.read, f->memory + BUFFERS, 24);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_memory_equal(f->memory + BUFFERS + 100, "0123456789", 10);
	assert_int_equal(used_of(f)->idx, 0);
	vring_push(&f->vring, &f->request.chain, 10);
	assert_int_equal(le16toh(used_of(f)->idx), 1);
	assert_int_equal(le32toh(used_of(f)->ring[0].id), 0);
	assert_int_equal(le32toh(used_of(f)->ring[0].len), 10);
	assert_int_equal(ring_pop(f), 0);
}

static void framing_is_the_drivers_choice(void **state)
{
	struct ring *f = *state;

	/* 12 descriptors of two bytes, then 4 with 10 bytes in all. */
	for (unsigned int i = 0; i < 24; i++)
		f->memory[BUFFERS + 64 * (i / 2) + i % 2] = i;
	for (unsigned int i = 0; i < 12; i++)
		set_desc(f, i, GPA + BUFFERS + 64ULL * i, 2, VRING_DESC_F_NEXT,
			 i + 1);
	for (unsigned int i = 12; i < 16; i++)
		set_desc(f, i, GPA + BUFFERS + 64ULL * i, i == 12 ? 1 : 3,
			 VRING_DESC_F_WRITE | (i < 15 ? VRING_DESC_F_NEXT : 0),
			 i + 1);
	make_available(f, 0);
	/* A chain of the whole queue is no loop. */
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(f->request.read[i], i);
	assert_int_equal(f->request.write_size, 10);
	assert_int_equal(f->request.nr_write, 4);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 10);
	assert_int_equal(f->memory[BUFFERS + 12 * 64], '0');
	assert_memory_equal(f->memory + BUFFERS + 13 * 64, "123", 3);
	assert_memory_equal(f->memory + BUFFERS + 15 * 64, "789", 3);
}

static void more_than_needed_is_ignored(void **state)
{
	struct ring *f = *state;

	set_desc(f, 0, GPA + BUFFERS, 4096, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + BUFFERS, 4096, VRING_DESC_F_WRITE, 0);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, VRING_READ_MAX);
	assert_int_equal(f->request.write_size, VRING_WRITE_MAX);
}

static void empty_descriptors_are_skipped(void **state)
{
	struct ring *f = *state;

	/* An empty buffer at any address is valid. */
	set_desc(f, 0, 0, 0, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + BUFFERS, 24, VRING_DESC_F_NEXT, 2);
	set_desc(f, 2, 0, 0, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 3);
	set_desc(f, 3, GPA + BUFFERS, 10, VRING_DESC_F_WRITE, 0);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 24);
	assert_int_equal(f->request.write_size, 10);
}

static void short_buffers_are_reported_with_their_size(void **state)
{
	struct ring *f = *state;

	set_desc(f, 0, GPA + BUFFERS, 23, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + BUFFERS, 9, VRING_DESC_F_WRITE, 0);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
	assert_int_equal(f->request.read_size, 23);
	assert_int_equal(f->request.write_size, 9);
	assert_int_equal(vring_write(&f->request, "0123456789", 10), 9);
}

static void indices_wrap(void **state)
{
	struct ring *f = *state;

	avail_of(f)->idx = htole16(65530);
	used_of(f)->idx = htole16(65530);
	vring_stop(&f->vring);
	ring_map(f);
	set_desc(f, 3, GPA + BUFFERS, 10, VRING_DESC_F_WRITE, 0);
	for (unsigned int i = 0; i < 70000; i++) {
		make_available(f, 3);
		assert_int_equal(ring_pop(f), 1);
		vring_push(&f->vring, &f->request.chain, 10);
		assert_int_equal(ring_pop(f), 0);
	}
	assert_int_equal(f->vring.last_avail, (uint16_t)(65530 + 70000));
	assert_int_equal(le16toh(used_of(f)->idx), (uint16_t)(65530 + 70000));
}

static void a_full_queue_is_taken(void **state)
{
	struct ring *f = *state;

	for (unsigned int i = 0; i < SIZE; i++) {
		set_desc(f, i, GPA + BUFFERS, 10, VRING_DESC_F_WRITE, 0);
		make_available(f, i);
	}
	for (unsigned int i = 0; i < SIZE; i++) {
		assert_int_equal(ring_pop(f), 1);
		assert_int_equal(f->request.chain.id, i);
	}
	assert_int_equal(ring_pop(f), 0);
}

static void buffer_over_adjacent_regions(void **state)
{
	struct ring *f = *state;
	int fd = new_memfd(MEMORY);

	/*
	 * Adjacent to the first region in the guest, elsewhere in the front
	 * end.
	 */
	assert_int_equal(guest_memory_add(&f->shared, GPA + MEMORY, UVA / 2,
					  MEMORY, 0, fd, &f->err),
			 0);
	assert_int_equal(pwrite(fd, "world", 5, 0), 5);
	memcpy(f->memory + MEMORY - 5, "hello", 5);
	set_desc(f, 0, GPA + MEMORY - 5, 10, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + MEMORY - 5, 10, VRING_DESC_F_WRITE, 0);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
	assert_memory_equal(f->request.read, "helloworld", 10);
	assert_int_equal(f->request.nr_write, 2);
	/* Not beyond the second region. */
	set_desc(f, 0, GPA + 2 * MEMORY - 5, 10, 0, 0);
	assert_broken(f, -EFAULT, OUTSIDE);
	close(fd);
}

static void interrupt_is_the_drivers_choice(void **state)
{
	struct ring *f = *state;

	assert_true(vring_wants_interrupt(&f->vring));
	avail_of(f)->flags = htole16(VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(vring_wants_interrupt(&f->vring));
}

/* --- Bad chains --- */

static void loops_break_the_queue(void **state)
{
	struct ring *f = *state;

	set_desc(f, 0, GPA + BUFFERS, 1, VRING_DESC_F_NEXT, 0);
	assert_broken(f, -ELOOP, "a loop of descriptors");
	set_desc(f, 0, GPA + BUFFERS, 1, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + BUFFERS, 1, VRING_DESC_F_NEXT, 0);
	assert_broken(f, -ELOOP, "a loop of descriptors");
	for (unsigned int i = 0; i < SIZE; i++)
		set_desc(f, i, GPA + BUFFERS, 0, VRING_DESC_F_NEXT,
			 (i + 1) % SIZE);
	assert_broken(f, -ELOOP, "a loop of descriptors");
}

static void index_outside_breaks_the_queue(void **state)
{
	static const uint16_t bad[] = {SIZE, SIZE + 1, 0x7fff, UINT16_MAX};
	struct ring *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set_desc(f, 0, GPA + BUFFERS, 1, VRING_DESC_F_NEXT, bad[i]);
		assert_broken(f, -EINVAL,
			      "a descriptor index outside the queue");
		make_available(f, bad[i]);
		assert_int_equal(ring_pop(f), -EINVAL);
		f->vring.broken = false;
		f->vring.last_avail = le16toh(avail_of(f)->idx);
	}
	/* Without the flag, "next" is ignored. */
	set_desc(f, 0, GPA + BUFFERS, 1, 0, UINT16_MAX);
	make_available(f, 0);
	assert_int_equal(ring_pop(f), 1);
}

static void readable_after_writable_breaks_the_queue(void **state)
{
	struct ring *f = *state;

	set_desc(f, 0, GPA + BUFFERS, 10,
		 VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA + BUFFERS, 24, 0, 0);
	assert_broken(f, -EINVAL, "a readable descriptor after a writable one");
}

static void indirect_breaks_the_queue(void **state)
{
	struct ring *f = *state;

	set_desc(f, 0, GPA + BUFFERS, 16, VRING_DESC_F_INDIRECT, 0);
	assert_broken(f, -EINVAL, "an indirect descriptor, not negotiated");
}

static void outside_memory_breaks_the_queue(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t size;
	} bad[] = {
		{0, 1},
		{GPA - 1, 1},
		{GPA - 1, 2},
		{GPA + MEMORY, 1},
		{GPA + MEMORY - 1, 2},
		{GPA, MEMORY + 1},
		{GPA, UINT32_MAX - 4096},
		/* A front-end address is no guest address. */
		{UVA, 1},
		{UINT64_MAX - 100, 50},
	};
	struct ring *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set_desc(f, 0, bad[i].gpa, bad[i].size, 0, 0);
		assert_broken(f, -EFAULT, OUTSIDE);
		set_desc(f, 0, bad[i].gpa, bad[i].size, VRING_DESC_F_WRITE, 0);
		assert_broken(f, -EFAULT, OUTSIDE);
		/* Not even if the buffer would not be read. */
		set_desc(f, 0, GPA + BUFFERS, 4096, VRING_DESC_F_NEXT, 1);
		set_desc(f, 1, bad[i].gpa, bad[i].size, 0, 0);
		assert_broken(f, -EFAULT, OUTSIDE);
	}
}

static void huge_chains_break_the_queue(void **state)
{
	struct ring *f = *state;
	const char *reason = "a descriptor chain of 4 GiB or more";

	set_desc(f, 0, UINT64_MAX, 1, 0, 0);
	assert_broken(f, -EFAULT, OUTSIDE);
	set_desc(f, 0, UINT64_MAX, UINT32_MAX, 0, 0);
	assert_broken(f, -EFAULT, OUTSIDE);
	set_desc(f, 0, GPA, MEMORY, VRING_DESC_F_NEXT, 1);
	set_desc(f, 1, GPA, UINT32_MAX, 0, 0);
	assert_broken(f, -EINVAL, reason);
}

static void too_many_available_break_the_queue(void **state)
{
	struct ring *f = *state;

	avail_of(f)->idx = htole16(SIZE + 1);
	assert_int_equal(ring_pop(f), -EINVAL);
	assert_true(f->vring.broken);
	/* A decreased index counts as far ahead. */
	f->vring.last_avail = 5;
	avail_of(f)->idx = htole16(4);
	assert_int_equal(ring_pop(f), -EINVAL);
}

/* --- Rings and regions --- */

static void ring_sizes(void **state)
{
	(void)state;
	assert_true(vring_valid_size(1, false));
	assert_true(vring_valid_size(128, false));
	assert_true(vring_valid_size(32768, false));
	assert_true(vring_valid_size(32767, true));
	assert_true(vring_valid_size(32768, true));
	assert_false(vring_valid_size(32769, true));
	assert_false(vring_valid_size(0, false));
	assert_false(vring_valid_size(3, false));
	assert_false(vring_valid_size(65536, false));
	assert_false(vring_valid_size(65536 + 16, false));
	assert_false(vring_valid_size(0x80000000, false));
}

static int map_at(struct ring *f, uint64_t desc, uint64_t avail, uint64_t used)
{
	f->vring.desc_uva = desc;
	f->vring.avail_uva = avail;
	f->vring.used_uva = used;
	return vring_map(&f->vring, &f->shared, &f->err);
}

static void rings_must_be_in_memory(void **state)
{
	const uint64_t desc_size = 16ULL * SIZE, avail_size = 6 + 2ULL * SIZE;
	const uint64_t used_size = 6 + 8ULL * SIZE, end = UVA + MEMORY;
	struct ring *f = *state;

	assert_int_equal(map_at(f, UVA, UVA + AVAIL, UVA + USED), 0);
	assert_int_equal(map_at(f, end - desc_size, UVA, UVA + USED), 0);
	assert_int_equal(map_at(f, end - desc_size + 16, UVA, UVA + USED),
			 -EFAULT);
	assert_false(f->vring.mapped);
	assert_int_equal(map_at(f, UVA, end - avail_size, UVA + USED), 0);
	assert_int_equal(map_at(f, UVA, end - avail_size + 2, UVA + USED),
			 -EFAULT);
	assert_int_equal(map_at(f, UVA, UVA + AVAIL, (end - used_size) & ~3ULL),
			 0);
	assert_int_equal(map_at(f, UVA, UVA + AVAIL, end - used_size + 4 - 2),
			 -EFAULT);
	assert_int_equal(map_at(f, 0, UVA + AVAIL, UVA + USED), -EFAULT);
	assert_int_equal(map_at(f, UINT64_MAX - 15, UVA + AVAIL, UVA + USED),
			 -EFAULT);
	/* A guest address is no front-end address. */
	assert_int_equal(map_at(f, GPA, UVA + AVAIL, UVA + USED), -EFAULT);
}

static void rings_must_be_aligned(void **state)
{
	struct ring *f = *state;

	assert_int_equal(map_at(f, UVA + 8, UVA + AVAIL, UVA + USED), -EINVAL);
	assert_string_equal(f->err.text, "a misaligned ring");
	assert_int_equal(map_at(f, UVA, UVA + AVAIL + 1, UVA + USED), -EINVAL);
	assert_string_equal(f->err.text, "a misaligned ring");
	assert_int_equal(map_at(f, UVA, UVA + AVAIL, UVA + USED + 2), -EINVAL);
	assert_string_equal(f->err.text, "a misaligned ring");
	assert_int_equal(map_at(f, UVA, UVA + AVAIL + 2, UVA + USED + 4), 0);
}

static int add(struct ring *f, uint64_t gpa, uint64_t uva, uint64_t size,
	       uint64_t offset)
{
	return guest_memory_add(&f->shared, gpa, uva, size, offset, f->fd,
				&f->err);
}

static void bad_regions_are_refused(void **state)
{
	const uint64_t far = 1ULL << 40;
	struct ring *f = *state;

	assert_int_equal(add(f, far, far, 0, 0), -EINVAL);
	/* Ranges that wrap around, or whose end is no number. */
	assert_int_equal(add(f, UINT64_MAX, far, 2, 0), -EINVAL);
	assert_int_equal(add(f, far, UINT64_MAX, 2, 0), -EINVAL);
	assert_int_equal(add(f, far, far, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(add(f, UINT64_MAX - 4095, far, 4096, 0), -EINVAL);
	assert_int_equal(add(f, UINT64_MAX - 4096, far, 4096, 0), 0);
	/* Beyond the file. */
	assert_int_equal(add(f, far, far * 2, MEMORY + 1, 0), -EINVAL);
	assert_int_equal(add(f, far, far * 2, MEMORY, 1), -EINVAL);
	assert_int_equal(add(f, far, far * 2, 1, MEMORY), -EINVAL);
	assert_int_equal(add(f, far, far * 2, 4096, UINT64_MAX - 4095),
			 -EINVAL);
	/* An overlap of one byte, in the guest or in the front end. */
	assert_int_equal(add(f, GPA + MEMORY - 1, far * 2, 4096, 0), -EEXIST);
	assert_int_equal(add(f, GPA - 4095, far * 2, 4096, 0), -EEXIST);
	assert_int_equal(add(f, far, UVA + MEMORY - 1, 4096, 0), -EEXIST);
	assert_int_equal(add(f, GPA, UVA, MEMORY, 0), -EEXIST);
	assert_int_equal(add(f, GPA - MEMORY, far * 2, MEMORY, 0), 0);
	assert_int_equal(f->shared.nr, 3);
}

static void only_files_are_memory(void **state)
{
	struct ring *f = *state;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(
		guest_memory_add(&f->shared, 0, 0, 4096, 0, fds[0], &f->err),
		-EINVAL);
	assert_int_equal(
		guest_memory_add(&f->shared, 0, 0, 4096, 0, -1, &f->err),
		-EBADF);
	close(fds[0]);
	close(fds[1]);
}

static void offsets_need_no_alignment(void **state)
{
	struct ring *f = *state;
	uint64_t left;
	uint8_t *at;

	memcpy(f->memory + 5000, "offset", 6);
	assert_int_equal(add(f, 0x5000, 0x5000, 8192, 4999), 0);
	at = guest_memory_at_gpa(&f->shared, 0x5001, UINT64_MAX, &left);
	assert_non_null(at);
	assert_int_equal(left, 8191);
	assert_memory_equal(at, "offset", 6);
	assert_null(guest_memory_at_gpa(&f->shared, 0x4fff, UINT64_MAX, &left));
	assert_null(guest_memory_at_gpa(&f->shared, 0x7000, UINT64_MAX, &left));
	assert_non_null(guest_memory_at_uva(&f->shared, 0x5000, 8192));
	assert_null(guest_memory_at_uva(&f->shared, 0x5000, 8193));
	assert_null(guest_memory_at_uva(&f->shared, 0x5001, 8192));
	assert_null(guest_memory_at_uva(&f->shared, 0x5001, UINT64_MAX));
}

static void regions_come_and_go(void **state)
{
	struct ring *f = *state;
	uint64_t left;

	for (uint64_t i = 1; i < GUEST_MEMORY_MAX_REGIONS; i++)
		assert_int_equal(add(f, i << 40, i << 41, 4096, 0), 0);
	assert_int_equal(add(f, 1ULL << 60, 1ULL << 60, 4096, 0), -ENOSPC);
	/* All of gpa, address and size must be those of a region. */
	assert_int_equal(
		guest_memory_remove(&f->shared, 3ULL << 40, 3ULL << 41, 8192),
		-ENOENT);
	assert_int_equal(
		guest_memory_remove(&f->shared, 3ULL << 40, 4ULL << 41, 4096),
		-ENOENT);
	assert_int_equal(
		guest_memory_remove(&f->shared, 4ULL << 40, 3ULL << 41, 4096),
		-ENOENT);
	assert_int_equal(
		guest_memory_remove(&f->shared, 3ULL << 40, 3ULL << 41, 4096),
		0);
	assert_null(
		guest_memory_at_gpa(&f->shared, 3ULL << 40, UINT64_MAX, &left));
	assert_non_null(guest_memory_at_gpa(&f->shared, 508ULL << 40,
					    UINT64_MAX, &left));
	assert_int_equal(add(f, 1ULL << 60, 1ULL << 60, 4096, 0), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, ring_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(empty_queue_has_nothing),
		T(request_and_response),
		T(framing_is_the_drivers_choice),
		T(more_than_needed_is_ignored),
		T(empty_descriptors_are_skipped),
		T(short_buffers_are_reported_with_their_size),
		T(indices_wrap),
		T(a_full_queue_is_taken),
		T(buffer_over_adjacent_regions),
		T(interrupt_is_the_drivers_choice),
		T(loops_break_the_queue),
		T(index_outside_breaks_the_queue),
		T(readable_after_writable_breaks_the_queue),
		T(indirect_breaks_the_queue),
		T(outside_memory_breaks_the_queue),
		T(huge_chains_break_the_queue),
		T(too_many_available_break_the_queue),
		T(ring_sizes),
		T(rings_must_be_in_memory),
		T(rings_must_be_aligned),
		T(bad_regions_are_refused),
		T(only_files_are_memory),
		T(offsets_need_no_alignment),
		T(regions_come_and_go),
	};

	return unit_run(tests, NULL, NULL);
}
