// SPDX-License-Identifier: MIT
/*
 * Views before the daemon's own consumers: which memory is accessible when.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "real_consumers.h"
#include "record.h"
#include "unit.h"

/* A bound on what hangs. */
#define HANG_MS 60000

#define SIZE (RECORD_BLOCKS * RECORD_BLOCK)

/**
 * struct fixture - a daemon, and a view of its region
 * @memory_fd: memory of the region, each block begins with its number
 */
struct fixture {
	struct real_consumers real;
	struct kvmvmem_view_config config;
	struct kvmvmem_view *view;
	struct kvmvmem_error error;
	int memory_fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	real_consumers_init(&f->real);
	f->memory_fd = memfd_create("view", MFD_CLOEXEC);
	assert_true(f->memory_fd >= 0);
	assert_int_equal(ftruncate(f->memory_fd, SIZE), 0);
	for (uint8_t i = 0; i < RECORD_BLOCKS; i++)
		assert_int_equal(pwrite(f->memory_fd, &i, 1, i * RECORD_BLOCK),
				 1);
	f->config = (struct kvmvmem_view_config){
		.size = sizeof(f->config),
		.memory_fd = f->memory_fd,
		.region_size = SIZE,
		.control_path = f->real.path,
		.name = "view",
	};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	kvmvmem_view_free(f->view);
	real_consumers_free(&f->real);
	close(f->memory_fd);
	free(f);
	return 0;
}

static void dispatch(struct fixture *f)
{
	struct kvmvmem_consumer *consumer = kvmvmem_view_consumer(f->view);

	if (kvmvmem_consumer_dispatch(consumer, &f->error))
		fail_msg("%s", f->error.text);
}

static void dispatch_until(struct fixture *f, int state)
{
	struct kvmvmem_consumer *consumer = kvmvmem_view_consumer(f->view);
	struct pollfd ready = {kvmvmem_consumer_fd(consumer), POLLIN, 0};

	while (kvmvmem_consumer_state(consumer) != state) {
		assert_int_equal(poll(&ready, 1, HANG_MS), 1);
		dispatch(f);
	}
}

static void start(struct fixture *f, uint32_t plugged)
{
	real_consumers_start(&f->real, plugged, true);
	assert_int_equal(kvmvmem_view_new(&f->view, &f->config, &f->error), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
}

/* Make a request and dispatch until it is answered. Return: the answer. */
static int request(struct fixture *f, const char *method, unsigned int first,
		   unsigned int nr)
{
	struct pollfd ready[2] = {
		{kvmvmem_consumer_fd(kvmvmem_view_consumer(f->view)), POLLIN,
		 0},
		{f->real.fd, POLLIN, 0},
	};

	real_consumers_ask(&f->real, method, first, nr);
	for (;;) {
		assert_true(poll(ready, 2, HANG_MS) > 0);
		if (ready[0].revents)
			dispatch(f);
		if (ready[1].revents)
			return real_consumers_answer(&f->real, HANG_MS);
	}
}

/*
 * Which blocks are accessible, a bit for each: the kernel reads them for this
 * process, so that an access that is refused is an error and no signal.
 */
static uint32_t accessible(const struct fixture *f)
{
	const uint8_t *hva = kvmvmem_view_address(f->view);
	uint32_t mask = 0;
	uint8_t value;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (uint8_t i = 0; i < RECORD_BLOCKS; i++) {
		if (write(fds[1], hva + i * RECORD_BLOCK, 1) != 1) {
			assert_int_equal(errno, EFAULT);
			continue;
		}
		assert_int_equal(read(fds[0], &value, 1), 1);
		assert_int_equal(value, i);
		mask |= 1U << i;
	}
	close(fds[0]);
	close(fds[1]);
	return mask;
}

/* Blocks of memslots that have a block of @plugged. */
static uint32_t memslots_of(uint32_t plugged)
{
	const uint32_t slot = (1U << RECORD_PER_SLOT) - 1;
	uint32_t mask = 0;

	for (unsigned int i = 0; i < RECORD_BLOCKS; i += RECORD_PER_SLOT)
		if (plugged >> i & slot)
			mask |= slot << i;
	return mask & ((1U << RECORD_BLOCKS) - 1);
}

static void only_populated_memslots_are_accessible(void **state)
{
	struct fixture *f = *state;

	start(f, 1);
	assert_int_equal(accessible(f), memslots_of(1));
	assert_int_equal(request(f, "plug", RECORD_PER_SLOT, 2), 0);
	assert_int_equal(accessible(f), memslots_of(1 | 3 << RECORD_PER_SLOT));
	assert_int_equal(request(f, "unplug", RECORD_PER_SLOT, 1), 0);
	assert_int_equal(accessible(f), memslots_of(1 | 2 << RECORD_PER_SLOT));
	assert_int_equal(request(f, "unplug", RECORD_PER_SLOT + 1, 1), 0);
	assert_int_equal(accessible(f), memslots_of(1));
	assert_int_equal(request(f, "unplug-all", 0, 0), 0);
	assert_int_equal(accessible(f), 0);
}

static void memory_is_writable_and_shared(void **state)
{
	struct fixture *f = *state;
	const uint8_t value = 0xa5;
	uint8_t *hva, seen;

	start(f, 1);
	hva = kvmvmem_view_address(f->view);
	hva[1] = value;
	assert_int_equal(pread(f->memory_fd, &seen, 1, 1), 1);
	assert_int_equal(seen, value);
}

static void a_second_daemon_finds_the_view_as_it_is(void **state)
{
	struct fixture *f = *state;

	start(f, 1);
	real_consumers_kill(&f->real);
	/* Until then it may still read what vmemd has sent. */
	dispatch_until(f, KVMVMEM_CONNECTING);
	assert_int_equal(accessible(f), memslots_of(1));
	real_consumers_start(&f->real, 1U << RECORD_PER_SLOT, true);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(accessible(f), memslots_of(1U << RECORD_PER_SLOT));
}

/* The view is too small: the guest is answered BUSY, and nothing changes. */
static void a_region_larger_than_the_view_is_refused(void **state)
{
	struct fixture *f = *state;

	f->config.region_size = RECORD_PER_SLOT * RECORD_BLOCK;
	start(f, 1);
	assert_int_equal(request(f, "plug", RECORD_PER_SLOT, 1), -EBUSY);
	assert_int_equal(real_consumers_plugged(&f->real), 1);
}

static void what_cannot_be_mapped_is_refused(void **state)
{
	struct fixture *f = *state;
	struct kvmvmem_view_config *config = &f->config;

	config->region_size = 0;
	assert_int_equal(kvmvmem_view_new(&f->view, config, &f->error),
			 -EINVAL);
	config->region_size = SIZE;
	config->offset = 1;
	assert_int_equal(kvmvmem_view_new(&f->view, config, &f->error),
			 -EINVAL);
	config->offset = 0;
	config->memory_fd = -1;
	assert_int_equal(kvmvmem_view_new(&f->view, config, &f->error), -EBADF);
	assert_string_equal(f->error.text, "view: mmap: Bad file descriptor");
	config->memory_fd = f->memory_fd;
	config->size = sizeof(config->size);
	assert_int_equal(kvmvmem_view_new(&f->view, config, &f->error),
			 -EINVAL);
	config->size = sizeof(*config);
	/* There is no daemon. */
	assert_int_equal(kvmvmem_view_new(&f->view, config, &f->error),
			 -ENOENT);
	assert_null(f->view);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
		CASE(only_populated_memslots_are_accessible),
		CASE(memory_is_writable_and_shared),
		CASE(a_second_daemon_finds_the_view_as_it_is),
		CASE(a_region_larger_than_the_view_is_refused),
		CASE(what_cannot_be_mapped_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
