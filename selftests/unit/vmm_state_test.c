// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state file of memory that front ends map: it is consistent after the
 * daemon dies.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backing/vmm_state.h"
#include "unit.h"

#define BLOCK  (2 * MIB)
#define NR     100001ULL
#define REGION (NR * BLOCK)
#define SLOT   (128 * MIB)

/*
 * Number of kills, at random moments, of a process that changes blocks all the
 * time.
 */
#define KILLS 100

static int make_file(void)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void open_state(struct vmm_state *state, int fd)
{
	struct error err = {0};

	if (vmm_state_open(state, fd, REGION, BLOCK, SLOT, &err))
		fail_msg("%s", err.text);
}

static uint64_t count(const struct vmm_state *state)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < NR; i++)
		nr += vmm_state_plugged(state, i);
	return nr;
}

/* No holder of the file can truncate it. */
static void a_state_keeps_its_size(void **unused __attribute__((unused)))
{
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vmm_state state;

	assert_true(fd >= 0);
	open_state(&state, fd);
	assert_true(ftruncate(fd, 0) < 0);
	vmm_state_close(&state);
	close(fd);
}

static void a_new_file_becomes_a_state(void **unused __attribute__((unused)))
{
	struct vmm_state state;
	int fd = make_file();

	open_state(&state, fd);
	assert_false(state.found);
	assert_int_equal(state.header->gpa, 0);
	assert_int_equal(vmm_state_last(&state)->nr, 0);
	assert_int_equal(count(&state), 0);
	vmm_state_close(&state);
	open_state(&state, fd);
	assert_true(state.found);
	vmm_state_close(&state);
	close(fd);
}

static void blocks_and_numbers_are_found_again(void **unused
					       __attribute__((unused)))
{
	struct vmm_state state;
	int fd = make_file();

	open_state(&state, fd);
	vmm_state_set(&state.header->gpa, 15ULL << 40);
	vmm_state_commit(&state, 3, 200, true);
	vmm_state_commit(&state, 64, 64, false);
	vmm_state_commit(&state, NR - 1, 1, true);
	vmm_state_close(&state);
	open_state(&state, fd);
	assert_int_equal(state.header->gpa, 15ULL << 40);
	for (uint64_t i = 0; i < NR; i++)
		assert_int_equal(vmm_state_plugged(&state, i),
				 (i >= 3 && i < 64) || (i >= 128 && i < 203) ||
					 i == NR - 1);
	assert_int_equal(vmm_state_next(&state, 0, NR), 3);
	assert_int_equal(vmm_state_next(&state, 4, NR), 4);
	assert_int_equal(vmm_state_next(&state, 64, NR), 128);
	assert_int_equal(vmm_state_next(&state, 203, NR), NR - 1);
	assert_int_equal(vmm_state_next(&state, 203, NR - 1), NR - 1);
	assert_int_equal(vmm_state_next(&state, NR, NR), NR);
	assert_int_equal(vmm_state_last(&state)->first, NR - 1);
	assert_int_equal(vmm_state_last(&state)->nr, 1);
	assert_int_equal(vmm_state_last(&state)->plug, true);
	vmm_state_close(&state);
	close(fd);
}

static void an_interrupted_change_is_completed(void **unused
					       __attribute__((unused)))
{
	struct vmm_state state;
	int fd = make_file();

	open_state(&state, fd);
	vmm_state_commit(&state, 0, 1000, true);
	/* As if killed after it changed some bits. */
	state.map[5] = 0;
	state.map[6] = 0xff;
	vmm_state_close(&state);
	open_state(&state, fd);
	assert_int_equal(count(&state), 1000);
	vmm_state_close(&state);
	close(fd);
}

static void a_change_that_was_not_committed_is_ignored(void **unused
						       __attribute__((unused)))
{
	struct vmm_state state;
	int fd = make_file();

	open_state(&state, fd);
	vmm_state_commit(&state, 0, 10, true);
	/* As if killed before the record became current. */
	state.header->records[!(state.header->current & 1)] =
		(struct vmm_record){50, 50, true};
	vmm_state_close(&state);
	open_state(&state, fd);
	assert_int_equal(count(&state), 10);
	assert_int_equal(vmm_state_last(&state)->nr, 10);
	vmm_state_close(&state);
	close(fd);
}

/* All blocks are changed at once; a partial change is never visible. */
static void a_kill_at_any_moment_leaves_all_or_nothing(void **unused
						       __attribute__((unused)))
{
	struct vmm_state state;
	unsigned int seen[2] = {};
	int fd = make_file();
	/* Xorshift; the seed must not be 0. */
	uint64_t random = 88172645463325252ULL;

	for (int i = 0; i < KILLS; i++) {
		struct timespec moment = {};
		uint64_t plugged;
		int ready[2];
		char byte;
		pid_t pid;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		moment.tv_nsec = (long)(random % 2000000);
		assert_int_equal(pipe(ready), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			open_state(&state, fd);
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			for (bool plug = true;; plug = !plug)
				vmm_state_commit(&state, 0, NR, plug);
		}
		assert_int_equal(read(ready[0], &byte, 1), 1);
		nanosleep(&moment, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(ready[0]);
		close(ready[1]);
		open_state(&state, fd);
		plugged = count(&state);
		assert_true(plugged == 0 || plugged == NR);
		assert_int_equal(!!plugged, vmm_state_last(&state)->plug);
		seen[!!plugged]++;
		vmm_state_close(&state);
	}
	assert_int_equal(seen[0] + seen[1], KILLS);
	close(fd);
}

/* One value of the file is invalid. */
static void expect_damaged(size_t offset, uint64_t value)
{
	struct vmm_state state;
	struct error err = {0};
	int fd = make_file();

	open_state(&state, fd);
	vmm_state_commit(&state, 3, 200, true);
	memcpy((char *)state.header + offset, &value, sizeof(value));
	vmm_state_close(&state);
	assert_int_equal(vmm_state_open(&state, fd, REGION, BLOCK, SLOT, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "damaged"));
	close(fd);
}

static void a_damaged_file_is_refused(void **unused __attribute__((unused)))
{
#define AT(field) offsetof(struct vmm_header, field)
	expect_damaged(AT(gpa), BLOCK / 2);
	expect_damaged(AT(gpa), UINT64_MAX - REGION + 1);
	expect_damaged(AT(gpa), -BLOCK);
	expect_damaged(AT(requested_size), REGION + BLOCK);
	expect_damaged(AT(requested_size), BLOCK + 1);
	expect_damaged(AT(requested_size), UINT64_MAX);
	expect_damaged(AT(used), 2);
	expect_damaged(AT(current), 2);
	expect_damaged(AT(records[0].first), NR + 1);
	expect_damaged(AT(records[1].nr), NR);
	expect_damaged(AT(records[0].nr), NR + 1);
	expect_damaged(AT(records[1].plug), 2);
#undef AT
}

static void a_file_of_another_region_is_refused(void **unused
						__attribute__((unused)))
{
	struct vmm_state state;
	struct error err;
	int fd = make_file();

	open_state(&state, fd);
	vmm_state_close(&state);
	assert_int_equal(
		vmm_state_open(&state, fd, REGION, BLOCK, 2 * SLOT, &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "slot size"));
	assert_int_equal(
		vmm_state_open(&state, fd, 2 * REGION, BLOCK, SLOT, &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "empty or of"));
	/* The same length, but another region size. */
	assert_int_equal(
		vmm_state_open(&state, fd, REGION + BLOCK, BLOCK, SLOT, &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "region size"));
	close(fd);
}

/* Another holder of the file, which writes invalid records all the time. */
struct writer {
	struct vmm_state *state;
	atomic_uint rounds;
	atomic_bool stop;
};

/* Rounds of the writer during which blocks are changed. */
#define ROUNDS 100000

static void *write_records(void *arg)
{
	struct writer *writer = arg;
	volatile struct vmm_record *records = writer->state->header->records;

	while (!atomic_load(&writer->stop)) {
		for (int i = 0; i < 2; i++) {
			__atomic_store_n(&records[i].nr, 1ULL << 40,
					 __ATOMIC_RELAXED);
			__atomic_store_n(&records[i].first, 1ULL << 40,
					 __ATOMIC_RELAXED);
		}
		atomic_fetch_add(&writer->rounds, 1);
	}
	return NULL;
}

/* It can spoil the state, but does not make vmemd write elsewhere. */
static void records_that_change_meanwhile(void **unused __attribute__((unused)))
{
	struct vmm_state state;
	struct writer writer = {.state = &state};
	int fd = make_file();
	pthread_t thread;

	open_state(&state, fd);
	assert_int_equal(pthread_create(&thread, NULL, write_records, &writer),
			 0);
	while (atomic_load(&writer.rounds) < ROUNDS) {
		vmm_state_commit(&state, 3, 1, true);
		vmm_state_commit(&state, 5, 1, true);
	}
	atomic_store(&writer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* The writer may have spoilt each commit, or have run first. */
	vmm_state_commit(&state, 3, 1, true);
	vmm_state_commit(&state, 5, 1, true);
	assert_int_equal(count(&state), 2);
	vmm_state_close(&state);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_state_keeps_its_size),
		cmocka_unit_test(a_new_file_becomes_a_state),
		cmocka_unit_test(blocks_and_numbers_are_found_again),
		cmocka_unit_test(an_interrupted_change_is_completed),
		cmocka_unit_test(a_change_that_was_not_committed_is_ignored),
		cmocka_unit_test(a_kill_at_any_moment_leaves_all_or_nothing),
		cmocka_unit_test(records_that_change_meanwhile),
		cmocka_unit_test(a_damaged_file_is_refused),
		cmocka_unit_test(a_file_of_another_region_is_refused),
	};

	return unit_run(tests, NULL, NULL);
}
