// SPDX-License-Identifier: MIT
/*
 * The library's consumers with the daemon's own code at the other end: the
 * order of mappings, a failure in the middle of an event, and the end of either
 * side.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "random.h"
#include "real_consumers.h"
#include "record.h"
#include "unit.h"

/* A bound on hangs. */
#define HANG_MS 60000

/* Number of random changes and kills of the daemon. */
#define ROUNDS 400

/*
 * Number of dispatches in which all events end. One request leaves at most one
 * reply, which may arrive in several parts.
 */
#define DISPATCHES_MAX 16

/**
 * struct fixture - a daemon and its consumer
 * @random: state of the random numbers
 */
struct fixture {
	struct real_consumers real;
	struct record record;
	struct kvmvmem_consumer_config config;
	struct kvmvmem_consumer *consumer;
	struct kvmvmem_error error;
	uint64_t random;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	real_consumers_init(&f->real);
	record_init(&f->record, KVMVMEM_EACH_BLOCK);
	f->config = (struct kvmvmem_consumer_config){
		.size = sizeof(f->config),
		.control_path = f->real.path,
		.name = "test",
		.map = record_map,
		.unmap = record_unmap,
		.arg = &f->record,
	};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	kvmvmem_consumer_free(f->consumer);
	real_consumers_free(&f->real);
	free(f);
	return 0;
}

/* Wait for an event and dispatch once. Return: as dispatch. */
static int dispatch(struct fixture *f)
{
	struct pollfd ready = {kvmvmem_consumer_fd(f->consumer), POLLIN, 0};

	assert_int_equal(poll(&ready, 1, HANG_MS), 1);
	return kvmvmem_consumer_dispatch(f->consumer, &f->error);
}

static void dispatch_until(struct fixture *f, int state)
{
	while (kvmvmem_consumer_state(f->consumer) != state)
		if (dispatch(f))
			fail_msg("%s", f->error.text);
}

static int dispatch_until_error(struct fixture *f)
{
	int ret;

	do
		ret = dispatch(f);
	while (!ret);
	assert_int_equal(kvmvmem_consumer_state(f->consumer), KVMVMEM_CLOSED);
	/* Further calls are harmless. */
	assert_int_equal(kvmvmem_consumer_dispatch(f->consumer, NULL), 0);
	return ret;
}

static void start(struct fixture *f, uint32_t unit, uint32_t plugged)
{
	f->record.unit = unit;
	f->config.unit = unit;
	real_consumers_start(&f->real, plugged, true);
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error), 0);
	assert_int_equal(kvmvmem_consumer_state(f->consumer),
			 KVMVMEM_POPULATING);
	assert_int_equal(record_mask(&f->record), 0);
}

/*
 * Make a request of the guest, and dispatch until it is answered. Return: the
 * answer.
 */
static int request(struct fixture *f, const char *method, unsigned int first,
		   unsigned int nr)
{
	struct pollfd ready[2] = {
		{kvmvmem_consumer_fd(f->consumer), POLLIN, 0},
		{f->real.fd, POLLIN, 0},
	};

	real_consumers_ask(&f->real, method, first, nr);
	for (;;) {
		assert_true(poll(ready, 2, HANG_MS) > 0);
		if (ready[0].revents)
			assert_int_equal(kvmvmem_consumer_dispatch(f->consumer,
								   &f->error),
					 0);
		if (ready[1].revents)
			return real_consumers_answer(&f->real, HANG_MS);
	}
}

/* The blocks that are mapped if @plugged blocks are plugged. */
static uint32_t mask_of(uint32_t unit, uint32_t plugged)
{
	uint32_t slot = (1U << RECORD_PER_SLOT) - 1, mask = 0;

	if (unit != KVMVMEM_MEMSLOT_RUNS)
		return plugged;
	for (int i = 0; i < RECORD_BLOCKS; i += RECORD_PER_SLOT)
		if (plugged >> i & slot)
			mask |= slot << i;
	return mask & ((1U << RECORD_BLOCKS) - 1);
}

static void plugged_blocks_are_mapped_before_the_answer(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 0xf0f);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 0xf0f);
	assert_int_equal(f->record.maps, 8);
	assert_int_equal(kvmvmem_consumer_mapped_size(f->consumer),
			 8 * RECORD_BLOCK);
	/* The guest's request waits for the consumer. */
	real_consumers_ask(&f->real, "plug", 4, 2);
	while (record_mask(&f->record) != 0xf3f) {
		assert_int_equal(real_consumers_answer(&f->real, 0),
				 REAL_WAITS);
		assert_int_equal(dispatch(f), 0);
	}
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), 0);
	real_consumers_ask(&f->real, "unplug", 1, 2);
	while (record_mask(&f->record) != 0xf39)
		assert_int_equal(dispatch(f), 0);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), 0);
	assert_int_equal(request(f, "unplug-all", 0, 0), 0);
	assert_int_equal(record_mask(&f->record), 0);
	assert_int_equal(kvmvmem_consumer_mapped_size(f->consumer), 0);
}

static void each_run_is_one_call(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_BLOCK_RUNS, 0xff);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(f->record.maps, 1);
	assert_int_equal(request(f, "unplug", 2, 3), 0);
	assert_int_equal(f->record.unmaps, 1);
	assert_int_equal(record_mask(&f->record), 0xe3);
	/*
	 * An event may include unmapped blocks; only mapped blocks are
	 * unmapped.
	 */
	assert_int_equal(request(f, "unplug-all", 0, 0), 0);
	assert_int_equal(f->record.unmaps, 3);
}

static void a_memslot_is_mapped_from_its_first_block_to_its_last(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_MEMSLOT_RUNS, 1 << 5);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 0xf0);
	assert_int_equal(request(f, "plug", 6, 1), 0);
	assert_int_equal(f->record.maps, 1);
	/* One more memslot; then two more, of which the last is shorter. */
	assert_int_equal(request(f, "plug", 7, 2), 0);
	assert_int_equal(record_mask(&f->record), 0xff0);
	assert_int_equal(request(f, "plug", 23, 6), 0);
	assert_int_equal(record_mask(&f->record), 0x3ff00ff0);
	assert_int_equal(f->record.maps, 3);
	assert_int_equal(request(f, "unplug", 5, 3), 0);
	assert_int_equal(record_mask(&f->record), 0x3ff00f00);
	assert_int_equal(request(f, "unplug", 24, 4), 0);
	assert_int_equal(record_mask(&f->record), 0x30f00f00);
	assert_int_equal(request(f, "unplug", 8, 1), 0);
	assert_int_equal(record_mask(&f->record), 0x30f00000);
}

static void a_refusal_in_the_middle_changes_nothing(void **state)
{
	struct fixture *f = *state;

	for (uint32_t unit = 0; unit <= KVMVMEM_MEMSLOT_RUNS; unit++) {
		start(f, unit, 1 << 4);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		/* Two of the units make only one call. */
		f->record.map_fails = unit ? 0 : 2;
		assert_int_equal(request(f, "plug", 5, 10), -EBUSY);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 1 << 4));
		assert_int_equal(real_consumers_plugged(&f->real), 1 << 4);
		f->record.map_fails = -1;
		assert_int_equal(request(f, "plug", 5, 10), 0);
		f->record.unmap_fails = unit ? 0 : 3;
		assert_int_equal(request(f, "unplug", 4, 11), -EBUSY);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0x7ff0));
		assert_int_equal(real_consumers_plugged(&f->real), 0x7ff0);
		f->record.unmap_fails = -1;
		assert_int_equal(request(f, "unplug", 4, 11), 0);
		assert_int_equal(record_mask(&f->record), 0);
		kvmvmem_consumer_free(f->consumer);
		f->consumer = NULL;
		real_consumers_kill(&f->real);
	}
}

/* The device has neither the old nor the new state. */
static void a_failed_rollback_closes(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 1);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	f->record.map_fails = 2;
	f->record.unmap_fails = 1;
	real_consumers_ask(&f->real, "plug", 1, 4);
	assert_int_equal(dispatch_until_error(f), -EIO);
	assert_non_null(strstr(f->error.text, "cannot undo"));
	/* The guest's request fails, and nothing was plugged. */
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	assert_int_equal(real_consumers_plugged(&f->real), 1);
	/* The consumer stays closed until all wrong mappings are removed. */
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), -EIO);
	assert_int_not_equal(record_mask(&f->record), 0);
	f->record.map_fails = -1;
	f->record.unmap_fails = -1;
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	assert_int_equal(record_mask(&f->record), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 1);
	assert_int_equal(request(f, "plug", 1, 3), 0);

	f->record.unmap_fails = 2;
	f->record.map_fails = 1;
	real_consumers_ask(&f->real, "unplug", 0, 4);
	assert_int_equal(dispatch_until_error(f), -EIO);
	/* The blocks stay plugged until the consumer is consistent. */
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	f->record.map_fails = -1;
	f->record.unmap_fails = -1;
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 15);
	assert_int_equal(request(f, "unplug", 0, 4), 0);
	assert_int_equal(record_mask(&f->record), 0);
}

/* The first plug: the consumer has no other mappings. */
static void a_partial_mapping_is_kept_plugged(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	f->record.map_fails = 2;
	f->record.unmap_fails = 1;
	real_consumers_ask(&f->real, "plug", 1, 4);
	assert_int_equal(dispatch_until_error(f), -EIO);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	assert_int_not_equal(record_mask(&f->record), 0);
	/* Mapped memory must not be replaced. */
	real_consumers_ask(&f->real, "plug", 1, 4);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	assert_int_equal(real_consumers_plugged(&f->real), 0);
	f->record.map_fails = -1;
	f->record.unmap_fails = -1;
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	assert_int_equal(record_mask(&f->record), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(request(f, "plug", 1, 4), 0);
	assert_int_equal(record_mask(&f->record), 30);
}

/* Blocks plugged before the subscription cannot be refused. */
static void a_closed_consumer_gets_the_reason_and_may_resume(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 7);
	f->record.map_fails = 1;
	assert_int_equal(dispatch_until_error(f), -ECONNABORTED);
	assert_string_equal(f->error.text,
			    "vmemd has closed the consumer: it refuses what "
			    "cannot be refused: No space left on device");
	assert_int_equal(record_mask(&f->record), 0);
	f->record.map_fails = -1;
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 7);
	/* If the consumer is subscribed, the call has no effect. */
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	assert_int_equal(f->record.unmaps, 1);
}

static void mappings_outlive_vmemd(void **state)
{
	struct fixture *f = *state;

	for (uint32_t unit = 0; unit <= KVMVMEM_MEMSLOT_RUNS; unit++) {
		record_init(&f->record, unit);
		start(f, unit, 0xf0ff);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		real_consumers_kill(&f->real);
		dispatch_until(f, KVMVMEM_CONNECTING);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0xf0ff));
		f->record.maps = 0;
		/* One block was unplugged meanwhile, two runs were plugged. */
		real_consumers_start(&f->real, 0x1f00ff & ~(1 << 3), true);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0x1f00ff & ~(1 << 3)));
		/* Unchanged blocks stay mapped. */
		assert_int_equal(f->record.maps, unit ? 1 : 5);
		assert_int_equal(request(f, "plug", 3, 1), 0);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0x1f00ff));
		kvmvmem_consumer_free(f->consumer);
		f->consumer = NULL;
		real_consumers_kill(&f->real);
	}
}

/* A process that forks leaves its child copies of all descriptors. */
static void a_copy_of_the_connection_changes_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned int dispatches = 0;
	struct pollfd ready;
	pid_t copy;

	start(f, KVMVMEM_EACH_BLOCK, 1);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	copy = child_start();
	real_consumers_kill(&f->real);
	dispatch_until(f, KVMVMEM_CONNECTING);
	real_consumers_start(&f->real, 1, true);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(request(f, "plug", 1, 1), 0);
	/*
	 * The reply to the consumer's own request may follow the guest's
	 * answer. The old connection would be an event after each dispatch.
	 */
	ready = (struct pollfd){kvmvmem_consumer_fd(f->consumer), POLLIN, 0};
	while (poll(&ready, 1, 0) > 0 && dispatches++ < DISPATCHES_MAX)
		assert_int_equal(
			kvmvmem_consumer_dispatch(f->consumer, &f->error), 0);
	assert_true(dispatches <= DISPATCHES_MAX);
	child_end(copy);
}

/*
 * A refused populate means that nothing of the event is mapped. But a part of
 * the event that was mapped before the connection was lost still is. vmemd must
 * not discard it.
 */
static void mappings_stay_claimed_after_a_refusal(void **state)
{
	struct fixture *f = *state;

	for (uint32_t unit = 0; unit <= KVMVMEM_MEMSLOT_RUNS; unit++) {
		record_init(&f->record, unit);
		start(f, unit, 0xf);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		real_consumers_kill(&f->real);
		dispatch_until(f, KVMVMEM_CONNECTING);
		f->record.map_fails = 0;
		real_consumers_start(&f->real, 0x1f, true);
		assert_int_equal(dispatch_until_error(f), -EIO);
		assert_int_equal(record_mask(&f->record), mask_of(unit, 0xf));
		/* The memory stays plugged while it may be mapped. */
		real_consumers_ask(&f->real, "unplug", 0, 1);
		assert_int_equal(real_consumers_answer(&f->real, HANG_MS),
				 -EBUSY);
		f->record.map_fails = -1;
		assert_int_equal(
			kvmvmem_consumer_resume(f->consumer, &f->error), 0);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		assert_int_equal(record_mask(&f->record), mask_of(unit, 0x1f));
		assert_int_equal(request(f, "unplug", 0, 5), 0);
		assert_int_equal(record_mask(&f->record), 0);
		kvmvmem_consumer_free(f->consumer);
		f->consumer = NULL;
		real_consumers_kill(&f->real);
	}
}

/*
 * vmemd is killed again before it has sent everything; then it has no region
 * yet.
 */
static void vmemd_may_end_at_any_time(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 0x5555);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	for (int events = 0; events < 10; events++) {
		real_consumers_kill(&f->real);
		dispatch_until(f, KVMVMEM_CONNECTING);
		real_consumers_start(&f->real, 0x5555, true);
		for (int i = 0; i < events; i++)
			assert_int_equal(dispatch(f), 0);
	}
	assert_int_equal(f->record.maps, 8);
	assert_int_equal(f->record.unmaps, 0);
	real_consumers_kill(&f->real);
	real_consumers_start(&f->real, 0, false);
	/* The consumer asks repeatedly, and is told that there is no region. */
	for (int i = 0; i < 8; i++)
		assert_int_equal(dispatch(f), 0);
	assert_int_equal(record_mask(&f->record), 0x5555);
	real_consumers_kill(&f->real);
	real_consumers_start(&f->real, 0x5554, true);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 0x5554);
	assert_int_equal(f->record.maps, 8);
	assert_int_equal(f->record.unmaps, 1);
}

static void a_failed_unmap_of_a_missing_block_closes(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 3);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	real_consumers_kill(&f->real);
	dispatch_until(f, KVMVMEM_CONNECTING);
	f->record.unmap_fails = 0;
	real_consumers_start(&f->real, 1, true);
	assert_int_equal(dispatch_until_error(f), -EIO);
	assert_non_null(strstr(f->error.text, "cannot be unmapped"));
}

static void the_end_of_a_consumer_unmaps_all(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_BLOCK_RUNS, 0xff0ff);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	assert_int_equal(record_mask(&f->record), 0);
	/* Requests do not wait for the consumer any more. */
	real_consumers_ask(&f->real, "plug", 8, 1);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), 0);
	kvmvmem_consumer_free(NULL);
}

/* A consumer without a connection unsubscribes by a new one. */
static void a_closed_consumer_unsubscribes_by_a_new_connection(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_BLOCK_RUNS, 0xff);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	f->record.unmap_fails = 0;
	real_consumers_ask(&f->real, "unplug-all", 0, 0);
	assert_int_equal(dispatch_until_error(f), -ECONNABORTED);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	f->record.unmap_fails = -1;
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	real_consumers_ask(&f->real, "unplug", 0, 8);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), 0);
}

static void a_consumer_with_too_few_memslots_is_refused(void **state)
{
	struct fixture *f = *state;

	real_consumers_start(&f->real, 0, true);
	f->config.memslots = 10;
	f->config.used = 2;
	f->config.reserved = 1;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-ENOSPC);
	assert_string_equal(f->error.text,
			    "test can have 10 memslots, 2 are used and 9 "
			    "reserved (ENOSPC)");
	f->config.memslots = 11;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error), 0);
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	f->config.name = "a b";
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-EINVAL);
	f->config.name = NULL;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-EINVAL);
	f->config.name = "test";
	f->config.unit = KVMVMEM_MEMSLOT_RUNS + 1;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-EINVAL);
	f->config.unit = 0;
	/* The first version of the structure ended with @arg. */
	f->config.size = offsetof(struct kvmvmem_consumer_config, mappings);
	f->config.mappings = 1;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error), 0);
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	f->config.size--;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-EINVAL);
	f->config.size = sizeof(f->config);
	real_consumers_kill(&f->real);
	real_consumers_start(&f->real, 3, true);
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-ENOSPC);
	assert_string_equal(f->error.text,
			    "test can have 1 mappings, 4 MiB in blocks of "
			    "2 MiB may need 2; blocks of 4 MiB would fit "
			    "(ENOSPC)");
	f->config.mappings = 2;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error), 0);
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	real_consumers_kill(&f->real);
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-ENOENT);
	real_consumers_start(&f->real, 0, false);
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-ENODEV);
	assert_string_equal(f->error.text, "no region yet (ENODEV)");
}

static void random_request(struct fixture *f, uint32_t *plugged)
{
	unsigned int first = random_below(&f->random, RECORD_BLOCKS), nr = 0;
	bool plug = !(*plugged >> first & 1);
	uint32_t range = 0;
	int ret;

	while (first + nr < RECORD_BLOCKS && nr < 12 &&
	       !(*plugged >> (first + nr) & 1) == plug)
		range |= 1U << (first + nr++);
	if (random_below(&f->random, 3) == 0) {
		f->record.map_fails = (int)random_below(&f->random, 4);
		f->record.unmap_fails = (int)random_below(&f->random, 4);
		f->record.failures = 1;
	}
	ret = request(f, plug ? "plug" : "unplug", first, nr);
	assert_true(!ret || ret == -EBUSY);
	if (!ret)
		*plugged ^= range;
	f->record.map_fails = -1;
	f->record.unmap_fails = -1;
}

/* Change blocks while vmemd is not running. */
static void random_restart(struct fixture *f, uint32_t *plugged)
{
	real_consumers_kill(&f->real);
	dispatch_until(f, KVMVMEM_CONNECTING);
	*plugged ^= random_below(&f->random, 1U << RECORD_BLOCKS) &
		    random_below(&f->random, 1U << RECORD_BLOCKS);
	real_consumers_start(&f->real, *plugged, true);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
}

/*
 * At most one failure at a time, which can be undone, so that the consumer
 * never closes.
 */
static void random_failures_keep_plugged_blocks_mapped(void **state)
{
	struct fixture *f = *state;

	f->random = 1;
	for (uint32_t unit = 0; unit <= KVMVMEM_MEMSLOT_RUNS; unit++) {
		uint32_t plugged = 0;

		record_init(&f->record, unit);
		start(f, unit, plugged);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		for (int i = 0; i < ROUNDS; i++) {
			if (random_below(&f->random, 20))
				random_request(f, &plugged);
			else
				random_restart(f, &plugged);
			assert_int_equal(record_mask(&f->record),
					 mask_of(unit, plugged));
			assert_int_equal(real_consumers_plugged(&f->real),
					 plugged);
		}
		kvmvmem_consumer_free(f->consumer);
		f->consumer = NULL;
		assert_int_equal(record_mask(&f->record), 0);
		real_consumers_kill(&f->real);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(plugged_blocks_are_mapped_before_the_answer),
		T(each_run_is_one_call),
		T(a_memslot_is_mapped_from_its_first_block_to_its_last),
		T(a_refusal_in_the_middle_changes_nothing),
		T(a_failed_rollback_closes),
		T(a_partial_mapping_is_kept_plugged),
		T(a_closed_consumer_gets_the_reason_and_may_resume),
		T(mappings_outlive_vmemd),
		T(a_copy_of_the_connection_changes_nothing),
		T(mappings_stay_claimed_after_a_refusal),
		T(vmemd_may_end_at_any_time),
		T(a_failed_unmap_of_a_missing_block_closes),
		T(the_end_of_a_consumer_unmaps_all),
		T(a_closed_consumer_unsubscribes_by_a_new_connection),
		T(a_consumer_with_too_few_memslots_is_refused),
		T(random_failures_keep_plugged_blocks_mapped),
	};

	return unit_run(tests, NULL, NULL);
}
