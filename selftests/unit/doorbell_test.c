// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile eventfds: signalling them never blocks. Each case runs with the
 * kernel's asynchronous I/O and with the fallback.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "unit.h"
#include "vhost/doorbell.h"

/* The maximum count of an eventfd: a write would block. */
#define FULL (UINT64_MAX - 1)

/* More than the number of pending results. */
#define MANY 10000

static void open_bell(struct doorbell *bell, void **state)
{
	doorbell_init(bell);
	if (*(const bool *)*state)
		assert_int_equal(doorbell_open(bell), 0);
}

static void each_ring_counts(void **state)
{
	struct doorbell bell;
	uint64_t count;
	int fd;

	open_bell(&bell, state);
	fd = eventfd(0, EFD_CLOEXEC);
	assert_true(fd >= 0);
	for (int i = 0; i < MANY; i++)
		doorbell_ring(&bell, fd);
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, MANY);
	/* No eventfd. */
	doorbell_ring(&bell, -1);
	close(fd);
	doorbell_close(&bell);
}

/* A wait would never end; the test's time limit catches it. */
static void a_full_blocking_eventfd_does_not_block(void **state)
{
	struct doorbell bell;
	uint64_t count = FULL;
	int fd;

	open_bell(&bell, state);
	fd = eventfd(0, EFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &count, sizeof(count)), sizeof(count));
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	for (int i = 0; i < 3; i++)
		doorbell_ring(&bell, fd);
	/* The eventfd stays readable, so its reader is awake. */
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	assert_true(count >= FULL);
	close(fd);
	doorbell_close(&bell);
}

static void other_files_are_ignored(void **state)
{
	struct doorbell bell;
	int pair[2];
	char byte;

	(void)state;
	doorbell_init(&bell);
	assert_int_equal(doorbell_open(&bell), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	doorbell_ring(&bell, pair[0]);
	assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(pair[0]);
	close(pair[1]);
	doorbell_close(&bell);
}

static void the_context_is_opened_once(void **state)
{
	struct doorbell bell;
	aio_context_t context;

	(void)state;
	doorbell_init(&bell);
	doorbell_close(&bell);
	assert_int_equal(doorbell_open(&bell), 0);
	context = bell.context;
	assert_int_equal(doorbell_open(&bell), 0);
	assert_int_equal(bell.context, context);
	doorbell_close(&bell);
	assert_int_equal(bell.context, 0);
}

int main(void)
{
	static bool with = true, without = false;
	const struct CMUnitTest tests[] = {
		{"each_ring_counts", each_ring_counts, NULL, NULL, &with},
		{"each_ring_counts, without AIO", each_ring_counts, NULL, NULL,
		 &without},
		{"a_full_blocking_eventfd_does_not_block",
		 a_full_blocking_eventfd_does_not_block, NULL, NULL, &with},
		{"a_full_blocking_eventfd_does_not_block, without AIO",
		 a_full_blocking_eventfd_does_not_block, NULL, NULL, &without},
		cmocka_unit_test(other_files_are_ignored),
		cmocka_unit_test(the_context_is_opened_once),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
