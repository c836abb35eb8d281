// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Eventfds that their owner makes as bad as he can: whoever signals them is not
 * kept. Each with the kernel's asynchronous I/O, and in the way without.
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

/* An eventfd takes no more, and who writes one waits. */
#define FULL (UINT64_MAX - 1)

/* More than there is room for results of. */
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
	/* Nobody. */
	doorbell_ring(&bell, -1);
	close(fd);
	doorbell_close(&bell);
}

/* If it waited, it would for ever: the test is given up then. */
static void a_full_one_that_blocks_is_not_waited_for(void **state)
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
	/* And is readable, as before: whoever waits is awake. */
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	assert_true(count >= FULL);
	close(fd);
	doorbell_close(&bell);
}

static void what_is_no_eventfd_is_let_be(void **state)
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

static void it_is_opened_once(void **state)
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
		{"a_full_one_that_blocks_is_not_waited_for",
		 a_full_one_that_blocks_is_not_waited_for, NULL, NULL, &with},
		{"a_full_one_that_blocks_is_not_waited_for, without AIO",
		 a_full_one_that_blocks_is_not_waited_for, NULL, NULL,
		 &without},
		cmocka_unit_test(what_is_no_eventfd_is_let_be),
		cmocka_unit_test(it_is_opened_once),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
