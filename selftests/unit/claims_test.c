// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file of consumers: what one vmemd writes, the next one reads.
 * consumer_test.c tests what vmemd does with it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "device/claims.h"
#include "unit.h"

/* A PID namespace; its number does not matter. */
#define NAMESPACE 77

static const struct claims_region region = {
	.region_id = 3,
	.gpa = GIB,
	.size = 4 * GIB,
};

struct fixture {
	struct claims claims;
	int fd;
};

static int open_file(struct fixture *f, const struct claims_region *of)
{
	struct error err;

	return claims_open(&f->claims, f->fd, of, NAMESPACE, &err);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(f->fd >= 0);
	assert_int_equal(open_file(f, &region), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	claims_close(&f->claims);
	close(f->fd);
	free(f);
	return 0;
}

/* The next vmemd opens the file. */
static void restart(struct fixture *f)
{
	claims_close(&f->claims);
	assert_int_equal(open_file(f, &region), 0);
}

static int add(struct fixture *f, const char *name, pid_t pid, uint64_t id)
{
	const struct peer peer = {
		.uid = 1000, .pid = pid, .pidfd = -1, .id = id};

	return claims_add(&f->claims, name, &peer, 0);
}

static void assert_was(const struct fixture *f, int index, const char *name,
		       uint64_t uid, uint64_t pid, uint64_t id)
{
	const struct claim *was = &f->claims.was[index];

	assert_int_equal(was->used, 1);
	assert_string_equal(was->name, name);
	assert_int_equal(was->uid, uid);
	assert_int_equal(was->pid, pid);
	assert_int_equal(was->process_id, id);
	assert_int_equal(was->pid_namespace, NAMESPACE);
}

static void a_claim_is_read_as_it_was_written(void **state)
{
	static const struct peer peer = {
		.uid = 1001, .pid = 13, .pidfd = -1, .id = 14};
	struct fixture *f = *state;

	assert_int_equal(add(f, "vfio0", 11, 12), 0);
	assert_int_equal(add(f, "vfio1", 0, 0), 1);
	claims_set_mappings(&f->claims, 0, 5);
	claims_set_subscribed(&f->claims, 1);
	restart(f);
	assert_was(f, 0, "vfio0", 1000, 11, 12);
	assert_int_equal(f->claims.was[0].subscribed, 0);
	assert_int_equal(f->claims.mappings[0], 5);
	assert_was(f, 1, "vfio1", 1000, 0, 0);
	assert_int_equal(f->claims.was[1].subscribed, 1);
	assert_int_equal(f->claims.mappings[1], 0);
	assert_int_equal(f->claims.was[2].used, 0);
	/* The process is known later. */
	claims_set_mappings(&f->claims, 1, 6);
	claims_set_peer(&f->claims, 1, &peer);
	restart(f);
	assert_was(f, 1, "vfio1", 1001, 13, 14);
	assert_int_equal(f->claims.was[1].subscribed, 1);
	assert_int_equal(f->claims.mappings[1], 6);
	/* The next claim in its place inherits nothing. */
	claims_remove(&f->claims, 1);
	restart(f);
	assert_int_equal(f->claims.was[1].used, 0);
	assert_int_equal(add(f, "vfio1", 13, 14), 1);
	restart(f);
	assert_was(f, 1, "vfio1", 1000, 13, 14);
	assert_int_equal(f->claims.was[1].subscribed, 0);
	assert_int_equal(f->claims.mappings[1], 0);
}

static void a_full_file_takes_no_claim(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (int i = 0; i < CLAIMS_MAX; i++) {
		snprintf(name, sizeof(name), "vfio%d", i);
		assert_int_equal(add(f, name, 100 + i, 0), i);
	}
	assert_int_equal(add(f, "more", 99, 0), CLAIMS_NONE);
	claims_remove(&f->claims, CLAIMS_MAX - 1);
	assert_int_equal(add(f, "more", 99, 0), CLAIMS_MAX - 1);
	restart(f);
	assert_was(f, 0, "vfio0", 1000, 100, 0);
	assert_was(f, CLAIMS_MAX - 1, "more", 1000, 99, 0);
}

static void without_a_file_there_are_no_claims(void **state)
{
	static const struct peer peer = {.pidfd = -1};
	struct claims none = {0};

	(void)state;
	assert_int_equal(claims_add(&none, "vfio0", &peer, 0), CLAIMS_NONE);
	claims_set_peer(&none, CLAIMS_NONE, &peer);
	claims_set_mappings(&none, CLAIMS_NONE, 1);
	claims_set_subscribed(&none, CLAIMS_NONE);
	claims_remove(&none, CLAIMS_NONE);
	claims_close(&none);
}

static void claims_of_another_region_are_dropped(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 3; i++) {
		struct claims_region other = region;

		if (i == 0)
			other.region_id++;
		else if (i == 1)
			other.gpa += GIB;
		else
			other.size += GIB;
		assert_int_equal(add(f, "vfio0", 11, 12), 0);
		restart(f);
		assert_was(f, 0, "vfio0", 1000, 11, 12);
		claims_close(&f->claims);
		assert_int_equal(open_file(f, &other), 0);
		assert_int_equal(f->claims.was[0].used, 0);
		restart(f);
		assert_int_equal(f->claims.was[0].used, 0);
	}
}

static void a_name_can_be_printed(void **state)
{
	static const char *const good[] = {"a", "!", "~", "vfio-0.1/x"};
	static const char *const bad[] = {
		"", " ", "a b", "a\n", "\x7f", "a\xc3\xa4", "\x1b[m",
	};
	char name[CONSUMER_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(claims_is_name(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(claims_is_name(bad[i]));
	memset(name, 'x', sizeof(name));
	name[CONSUMER_NAME_MAX] = '\0';
	assert_false(claims_is_name(name));
	name[CONSUMER_NAME_MAX - 1] = '\0';
	assert_true(claims_is_name(name));
}

/* The PID of a process that has ended, and which nobody has waited for. */
static pid_t ended(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return child;
}

static void the_process_of_a_claim_is_found(void **state)
{
	struct fixture *f = *state;
	struct claim claim = {
		.used = 1,
		.uid = 1000,
		.pid = (uint64_t)getpid(),
		.pid_namespace = NAMESPACE,
	};
	struct peer peer;

	assert_int_equal(claims_peer(&f->claims, &claim, &peer), 0);
	assert_int_equal(peer.uid, 1000);
	assert_int_equal(peer.pid, getpid());
	assert_true(peer.pidfd >= 0);
	peer_close(&peer);
	/* A PID of another namespace, or of an unknown one, says nothing. */
	claim.pid_namespace = NAMESPACE + 1;
	assert_int_equal(claims_peer(&f->claims, &claim, &peer), 0);
	assert_int_equal(peer.uid, 1000);
	assert_int_equal(peer.pid, 0);
	assert_int_equal(peer.pidfd, -1);
	claim.pid_namespace = 0;
	f->claims.pid_namespace = 0;
	assert_int_equal(claims_peer(&f->claims, &claim, &peer), 0);
	assert_int_equal(peer.pid, 0);
	assert_int_equal(peer.pidfd, -1);
	claim.pid_namespace = NAMESPACE;
	f->claims.pid_namespace = NAMESPACE;
	claim.pid = (uint64_t)ended();
	assert_int_equal(claims_peer(&f->claims, &claim, &peer), -ESRCH);
}

/* In a process that is stepped through. */
static void write_stepwise(struct fixture *f)
{
	static const struct peer peer = {
		.uid = 1001, .pid = 13, .pidfd = -1, .id = 14};

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
		_exit(1);
	claims_set_mappings(&f->claims, 0, 6);
	claims_set_peer(&f->claims, 0, &peer);
	_exit(claims_add(&f->claims, "vfio1", &peer, 9) != 1);
}

/* vmemd may be killed at any instruction; each claim has its limit all the time. */
static void a_limit_is_never_lost(void **state)
{
	struct fixture *f = *state;
	static const struct peer unknown = {.uid = 1000, .pidfd = -1};
	bool changed = false;
	unsigned int steps = 0;
	struct fixture next = *f;
	int status;
	pid_t pid;

	assert_int_equal(claims_add(&f->claims, "vfio0", &unknown, 5), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		write_stepwise(f);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	for (; WIFSTOPPED(status); steps++) {
		assert_int_equal(open_file(&next, &region), 0);
		changed |= next.claims.mappings[0] == 6;
		if (!next.claims.was[0].used ||
		    next.claims.mappings[0] != (changed ? 6 : 5))
			fail_msg("no limit after %u steps", steps);
		if (next.claims.was[1].used && next.claims.mappings[1] != 9)
			fail_msg("no limit of the second after %u steps",
				 steps);
		claims_close(&next.claims);
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(changed);
	restart(f);
	assert_was(f, 0, "vfio0", 1001, 13, 14);
	assert_was(f, 1, "vfio1", 1001, 13, 14);
	assert_int_equal(f->claims.mappings[1], 9);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_claim_is_read_as_it_was_written),
		T(a_limit_is_never_lost),
		T(a_full_file_takes_no_claim),
		T(without_a_file_there_are_no_claims),
		T(claims_of_another_region_are_dropped),
		T(a_name_can_be_printed),
		T(the_process_of_a_claim_is_found),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
