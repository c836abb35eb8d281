// SPDX-License-Identifier: MIT
/*
 * Consumers of the library before the daemon's own consumers: what is mapped when,
 * what becomes of a refusal in the middle, and of the end of either side.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "random.h"
#include "real_consumers.h"
#include "record.h"
#include "unit.h"

/* A bound on what hangs. */
#define HANG_MS 60000

/* Random changes, and kills of the daemon among them. */
#define ROUNDS 400

/**
 * struct fixture - a daemon and a consumer of its
 * @random: state of random numbers
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

/* Dispatch once, when there is something. Return: as of dispatch. */
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
	/* Harmless from here on. */
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

/* Make a request and dispatch until it is answered. Return: the answer. */
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

/* Blocks that are mapped for what is plugged. */
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

static void what_is_plugged_is_mapped_before_the_guest_knows(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 0xf0f);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 0xf0f);
	assert_int_equal(f->record.maps, 8);
	assert_int_equal(kvmvmem_consumer_mapped_size(f->consumer),
			 8 * RECORD_BLOCK);
	/* The guest waits for as long as it takes. */
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

static void runs_are_one_call_each(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_BLOCK_RUNS, 0xff);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(f->record.maps, 1);
	assert_int_equal(request(f, "unplug", 2, 3), 0);
	assert_int_equal(f->record.unmaps, 1);
	assert_int_equal(record_mask(&f->record), 0xe3);
	/* An event may span what is not there: only what is is unmapped. */
	assert_int_equal(request(f, "unplug-all", 0, 0), 0);
	assert_int_equal(f->record.unmaps, 3);
}

static void memslots_come_first_and_go_last(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_MEMSLOT_RUNS, 1 << 5);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 0xf0);
	assert_int_equal(request(f, "plug", 6, 1), 0);
	assert_int_equal(f->record.maps, 1);
	/* One more memslot, two more, the last of which is short. */
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
		/* There is one call in two of the units. */
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

/* The device has neither what was asked for nor what it had. */
static void what_cannot_be_undone_closes(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_EACH_BLOCK, 1);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	f->record.map_fails = 2;
	f->record.unmap_fails = 1;
	real_consumers_ask(&f->real, "plug", 1, 4);
	assert_int_equal(dispatch_until_error(f), -EIO);
	assert_non_null(strstr(f->error.text, "cannot undo"));
	/* The guest has not got it, nor has it half of it. */
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	assert_int_equal(real_consumers_plugged(&f->real), 1);
	/* While anything is mapped that should not be, it stays closed. */
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
	/* The guest keeps it until all is in order again. */
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), -EBUSY);
	f->record.map_fails = -1;
	f->record.unmap_fails = -1;
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	assert_int_equal(record_mask(&f->record), 15);
	assert_int_equal(request(f, "unplug", 0, 4), 0);
	assert_int_equal(record_mask(&f->record), 0);
}

/* The first plug of a consumer that has nothing else to be known by. */
static void what_is_mapped_half_is_claimed(void **state)
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
	/* No other memory may take the place of what is mapped. */
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

/* What was there before cannot be refused. */
static void one_that_is_closed_knows_why_and_may_come_again(void **state)
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
	/* Without need it changes nothing. */
	assert_int_equal(kvmvmem_consumer_resume(f->consumer, &f->error), 0);
	assert_int_equal(f->record.unmaps, 1);
}

static void what_is_mapped_outlives_vmemd(void **state)
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
		/* One has gone meanwhile, two have come. */
		real_consumers_start(&f->real, 0x1f00ff & ~(1 << 3), true);
		dispatch_until(f, KVMVMEM_SUBSCRIBED);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0x1f00ff & ~(1 << 3)));
		/* What was there all the time was not touched. */
		assert_int_equal(f->record.maps, unit ? 1 : 5);
		assert_int_equal(request(f, "plug", 3, 1), 0);
		assert_int_equal(record_mask(&f->record),
				 mask_of(unit, 0x1f00ff));
		kvmvmem_consumer_free(f->consumer);
		f->consumer = NULL;
		real_consumers_kill(&f->real);
	}
}

/*
 * A "no" to a populate event says that nothing of the event is mapped. What was
 * mapped before the connection was lost, and is part of the event, still is: a
 * vmemd that believes the "no" may discard it.
 */
static void what_was_kept_stays_claimed_after_a_refusal(void **state)
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
		/* The memory stays as long as it may be mapped. */
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

/* Killed again before it has told all; then one that has no region yet. */
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
	/* It has asked and was told that there is none, more than once. */
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

static void what_has_gone_and_cannot_be_unmapped_closes(void **state)
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

static void its_end_unmaps_all(void **state)
{
	struct fixture *f = *state;

	start(f, KVMVMEM_BLOCK_RUNS, 0xff0ff);
	dispatch_until(f, KVMVMEM_SUBSCRIBED);
	kvmvmem_consumer_free(f->consumer);
	f->consumer = NULL;
	assert_int_equal(record_mask(&f->record), 0);
	/* It is waited for no longer. */
	real_consumers_ask(&f->real, "plug", 8, 1);
	assert_int_equal(real_consumers_answer(&f->real, HANG_MS), 0);
	kvmvmem_consumer_free(NULL);
}

/* Also if it has no connection any more. */
static void its_end_is_said_by_another_connection(void **state)
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

static void one_that_could_not_take_part_is_refused(void **state)
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
	f->config.size--;
	assert_int_equal(
		kvmvmem_consumer_new(&f->consumer, &f->config, &f->error),
		-EINVAL);
	f->config.size++;
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

/* Blocks that come and go while vmemd is away. */
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
 * One failure at a time, which can be undone, so that it is never closed. It may
 * be in the undoing of another's, then it is: failures is 1.
 */
static void whatever_happens_what_is_plugged_is_mapped(void **state)
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
		T(what_is_plugged_is_mapped_before_the_guest_knows),
		T(runs_are_one_call_each),
		T(memslots_come_first_and_go_last),
		T(a_refusal_in_the_middle_changes_nothing),
		T(what_cannot_be_undone_closes),
		T(what_is_mapped_half_is_claimed),
		T(one_that_is_closed_knows_why_and_may_come_again),
		T(what_is_mapped_outlives_vmemd),
		T(what_was_kept_stays_claimed_after_a_refusal),
		T(vmemd_may_end_at_any_time),
		T(what_has_gone_and_cannot_be_unmapped_closes),
		T(its_end_unmaps_all),
		T(its_end_is_said_by_another_connection),
		T(one_that_could_not_take_part_is_refused),
		T(whatever_happens_what_is_plugged_is_mapped),
	};

	return unit_run(tests, NULL, NULL);
}
