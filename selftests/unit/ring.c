// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring.h"

static const struct driver_layout layout = {
	.desc = RING_DESC,
	.avail = RING_AVAIL,
	.used = RING_USED,
	.tables = RING_TABLES,
};

static uint64_t accessible(const void *arg, uint64_t gpa, uint64_t size)
{
	const struct ring *f = arg;

	if (gpa >= f->forbidden)
		return 0;
	return size < f->forbidden - gpa ? size : f->forbidden - gpa;
}

void ring_map(struct ring *f)
{
	assert_int_equal(vring_map(&f->vring, &f->shared, &f->err), 0);
}

static void set_up_vring(struct ring *f, uint16_t size)
{
	vring_reset(&f->vring);
	f->vring.features = f->features;
	f->vring.size = size;
	f->vring.desc_uva = RING_UVA + f->layout.desc;
	f->vring.avail_uva = RING_UVA + f->layout.avail;
	f->vring.used_uva = RING_UVA + f->layout.used;
}

/* The driver sets up its queue. */
void ring_start(struct ring *f, uint16_t size)
{
	memset(f->memory, 0, RING_MEMORY);
	driver_init(&f->driver, f->memory, RING_GPA, &f->layout, f->features,
		    size);
	set_up_vring(f, size);
	ring_map(f);
}

/* The same with VRING_MAX_SIZE, which has memory of its own. */
void ring_start_large(struct ring *f)
{
	assert_int_equal(guest_memory_remove(&f->shared, RING_GPA, RING_UVA,
					     RING_MEMORY),
			 0);
	assert_int_equal(ftruncate(f->fd, RING_LARGE_MEMORY), 0);
	munmap(f->memory, RING_MEMORY);
	f->memory = mmap(NULL, RING_LARGE_MEMORY, PROT_READ | PROT_WRITE,
			 MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	assert_int_equal(guest_memory_add(&f->shared, RING_GPA, RING_UVA,
					  RING_LARGE_MEMORY, 0, f->fd, &f->err),
			 0);
	f->layout = (struct driver_layout){
		.desc = RING_LARGE,
		.avail = RING_LARGE + 16 * VRING_MAX_SIZE,
		.used = RING_LARGE + 20 * VRING_MAX_SIZE,
		.tables = RING_TABLES,
	};
	ring_start(f, VRING_MAX_SIZE);
}

/* Another daemon continues with the queue, and knows only @base. */
void ring_next_daemon(struct ring *f, uint32_t base)
{
	set_up_vring(f, f->driver.size);
	assert_int_equal(vring_set_base(&f->vring, base), 0);
	ring_map(f);
}

/* The test's initial state: the format. */
int ring_set_up(void **state)
{
	struct ring *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->features = *(const uint64_t *)*state;
	f->layout = layout;
	f->forbidden = UINT64_MAX;
	f->fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, RING_MEMORY), 0);
	f->memory = mmap(NULL, RING_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED,
			 f->fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	f->shared.accessible = accessible;
	f->shared.arg = f;
	assert_int_equal(guest_memory_add(&f->shared, RING_GPA, RING_UVA,
					  RING_MEMORY, 0, f->fd, &f->err),
			 0);
	ring_start(f, RING_SIZE);
	*state = f;
	return 0;
}

int ring_tear_down(void **state)
{
	struct ring *f = *state;

	guest_memory_clear(&f->shared);
	munmap(f->memory, RING_MEMORY);
	close(f->fd);
	free(f);
	return 0;
}

bool ring_has(const struct ring *f, unsigned int bit)
{
	return f->features & 1ULL << bit;
}

bool ring_packed(const struct ring *f)
{
	return ring_has(f, VIRTIO_F_RING_PACKED);
}

bool ring_indirect(const struct ring *f)
{
	return ring_has(f, VIRTIO_RING_F_INDIRECT_DESC);
}

int ring_pop(struct ring *f)
{
	return vring_pop(&f->vring, &f->shared, &f->request, &f->err);
}

void ring_push(struct ring *f, size_t written)
{
	vring_push(&f->vring, &f->request.chain, written);
}

/* A request of 24 bytes and room for a response of 10. */
struct driver_chain ring_add_request(struct ring *f)
{
	const struct driver_buffer buffers[] = {
		{.gpa = RING_GPA + RING_BUFFERS, .size = 24},
		{.gpa = RING_GPA + RING_BUFFERS + 100,
		 .size = 10,
		 .write = true},
	};

	return driver_add(&f->driver, buffers, 2);
}

/* Assert that the driver gets the chain back. */
void ring_assert_back(struct ring *f, const struct driver_chain *chain,
		      uint32_t written)
{
	uint32_t size;
	uint16_t id;

	assert_true(driver_take(&f->driver, chain->nr, &id, &size));
	assert_int_equal(id, chain->id);
	assert_int_equal(size, written);
}

/* Serve requests, so that the ring has the contents of a used ring. */
void ring_go_on_for(struct ring *f, unsigned int rounds)
{
	while (rounds--) {
		struct driver_chain chain = ring_add_request(f);

		assert_int_equal(ring_pop(f), 1);
		ring_push(f, 10);
		ring_assert_back(f, &chain, 10);
	}
}
