// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How a region handles the kernel's answers: late answers, refusals, lost
 * answers, and answers in another order. The module is the fuzzers' model,
 * which answers on command; kernel_backing_test.c uses the real module.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing/kernel.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_module.h"
#include "model.h"
#include "unit.h"

#define BLOCK FUZZ_MODULE_BLOCK
#define GPA   FUZZ_MODULE_GPA

/* The module's errors, by the numbers of the model. */
#define NO_MEMORY 1

/**
 * struct result - results of a kind of request
 * @nr: number of results reported
 * @last: the last result
 */
struct result {
	unsigned int nr;
	int last;
};

struct fixture {
	sd_event *event;
	struct kernel_nl nl;
	struct kernel_backing region;
	struct result done;
	struct result size;
	struct result log;
};

static void note(struct result *result, int ret)
{
	result->nr++;
	result->last = ret;
}

static void on_done(void *arg, int ret)
{
	struct fixture *f = arg;

	note(&f->done, ret);
}

static void on_size_set(void *arg, int ret, const char *text)
{
	struct fixture *f = arg;

	assert_int_equal(!*text, !ret);
	note(&f->size, ret);
}

static void on_log_set(void *arg, int ret, const char *text)
{
	struct fixture *f = arg;

	assert_int_equal(!*text, !ret);
	note(&f->log, ret);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	model_attach(&f->region, &f->event, &f->nl);
	f->region.backing.done = on_done;
	f->region.backing.arg = f;
	f->region.size_set = on_size_set;
	f->region.log_set = on_log_set;
	f->region.arg = f;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	model_detach(&f->region, f->event, &f->nl);
	free(f);
	return 0;
}

static void run(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static int plug(struct fixture *f, uint64_t first, uint64_t nr)
{
	struct backing *backing = &f->region.backing;

	return backing_plug(backing, GPA + first * BLOCK, nr * BLOCK);
}

static int unplug(struct fixture *f, uint64_t first, uint64_t nr)
{
	struct backing *backing = &f->region.backing;

	return backing_unplug(backing, GPA + first * BLOCK, nr * BLOCK);
}

static void finish(struct fixture *f)
{
	assert_true(fuzz_module_finish());
	run(f);
}

static void assert_told(const struct result *result, unsigned int nr, int ret)
{
	assert_int_equal(result->nr, nr);
	if (nr)
		assert_int_equal(result->last, ret);
}

static void an_immediate_answer_is_the_result(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 2), 0);
	assert_int_equal(f->region.backing.plugged.set, 2);
	assert_int_equal(unplug(f, 1, 1), 0);
	assert_int_equal(f->region.backing.plugged.set, 1);
	run(f);
	assert_told(&f->done, 0, 0);
}

static void a_late_answer_is_reported(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;

	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	run(f);
	assert_told(&f->done, 0, 0);
	assert_int_equal(backing->plugged.set, 0);
	finish(f);
	assert_told(&f->done, 1, 0);
	assert_int_equal(backing->plugged.set, 2);
	assert_false(f->region.blocks.out);
	assert_int_equal(unplug(f, 1, 1), -EINPROGRESS);
	finish(f);
	assert_told(&f->done, 2, 0);
	assert_int_equal(backing->plugged.set, 1);
	assert_int_equal(backing->owed.set, 1);
	/* Other requests get no result. */
	assert_told(&f->size, 0, 0);
	assert_told(&f->log, 0, 0);
	assert_false(f->region.recheck);
}

/* Allocating memory takes time, and counts like discarding it. */
static void allocated_memory_counts_as_work(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;
	struct work work = {};
	uint64_t resident;

	backing_count(backing, &work);
	assert_int_equal(plug(f, 0, 1), 0);
	work_begin_turn(&work);
	f->region.prealloc = true;
	assert_int_equal(plug(f, 1, FUZZ_MODULE_NR_BLOCKS - 1), -EINPROGRESS);
	run(f);
	assert_told(&f->done, 1, 0);
	assert_int_equal(backing->plugged.set, FUZZ_MODULE_NR_BLOCKS);
	assert_int_equal(memory_resident(&f->region.memory, &resident), 0);
	assert_int_equal(resident, FUZZ_MODULE_SIZE - BLOCK);
	assert_in_range(work.steps, resident / WORK_STEP_BYTES,
			2 * resident / WORK_STEP_BYTES);
}

static void an_answer_may_have_no_receiver(void **state)
{
	struct fixture *f = *state;

	f->region.backing.done = NULL;
	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	finish(f);
	assert_int_equal(f->region.backing.plugged.set, 2);
}

static void a_late_refusal_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;

	fuzz_module_set(FUZZ_MODULE_LATER | NO_MEMORY);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	finish(f);
	assert_told(&f->done, 1, -ENOMEM);
	assert_non_null(strstr(backing->error.text, "plug: "));
	assert_non_null(strstr(backing->error.text, "(ENOMEM)"));
	assert_int_equal(backing->plugged.set, 0);
	assert_int_equal(backing->owed.set, 0);
	assert_told(&f->size, 0, 0);
}

static void the_answer_to_a_size_is_not_taken_for_a_plugs(void **state)
{
	struct fixture *f = *state;
	struct error err;

	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(kernel_set_requested(&f->region, 4 * BLOCK, &err),
			 -EINPROGRESS);
	run(f);
	assert_told(&f->size, 0, 0);
	finish(f);
	assert_told(&f->size, 1, 0);
	assert_told(&f->done, 0, 0);
	assert_int_equal(f->region.state.requested_size, 4 * BLOCK);
	/* Both requests are pending. */
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	assert_int_equal(kernel_set_requested(&f->region, 2 * BLOCK, &err),
			 -EINPROGRESS);
	finish(f);
	assert_told(&f->size, 2, 0);
	assert_told(&f->done, 1, 0);
	assert_int_equal(f->region.backing.plugged.set, 2);
	assert_int_equal(f->region.state.requested_size, 2 * BLOCK);
	/* A request that is refused. */
	fuzz_module_set(FUZZ_MODULE_LATER | NO_MEMORY);
	assert_int_equal(kernel_set_requested(&f->region, BLOCK, &err),
			 -EINPROGRESS);
	finish(f);
	assert_told(&f->size, 3, -ENOMEM);
	assert_told(&f->done, 1, 0);
	assert_int_equal(f->region.state.requested_size, 2 * BLOCK);
}

static void the_last_of_several_sizes_counts(void **state)
{
	struct fixture *f = *state;
	struct error err;

	fuzz_module_set(FUZZ_MODULE_LATER);
	for (uint64_t nr = 1; nr <= 3; nr++)
		assert_int_equal(
			kernel_set_requested(&f->region, nr * BLOCK, &err),
			-EINPROGRESS);
	assert_int_equal(kernel_set_dirty_log(&f->region, true, &err),
			 -EINPROGRESS);
	/* The answer to the first request, which a later one has replaced. */
	finish(f);
	assert_told(&f->size, 0, 0);
	assert_told(&f->log, 0, 0);
	/* The two kinds of requests alternate. */
	finish(f);
	assert_told(&f->size, 0, 0);
	assert_told(&f->log, 1, 0);
	assert_true(f->region.state.dirty_log);
	finish(f);
	assert_told(&f->size, 1, 0);
	assert_told(&f->log, 1, 0);
	assert_int_equal(f->region.state.requested_size, 3 * BLOCK);
	assert_false(fuzz_module_finish());
}

static void a_lost_answer_is_requested_again(void **state)
{
	struct fixture *f = *state;

	fuzz_module_set(FUZZ_MODULE_LATER | FUZZ_MODULE_LOSE);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	finish(f);
	assert_told(&f->done, 0, 0);
	assert_true(fuzz_module_plugged(0));
	assert_int_equal(f->region.blocks.asked, 2);
	/* The request was carried out once, and the answer arrives now. */
	finish(f);
	assert_told(&f->done, 1, 0);
	assert_int_equal(f->region.backing.plugged.set, 2);
	assert_int_equal(fuzz_module_state()->plugged_size, 2 * BLOCK);
	assert_int_equal(plug(f, 2, 1), -EINPROGRESS);
	assert_int_equal(f->region.blocks.asked, 1);
	finish(f);
	assert_told(&f->done, 2, 0);
}

/* A request is sent again after longer and longer times, up to a limit. */
static void an_answer_is_awaited_longer_each_time(void **state)
{
	struct fixture *f = *state;
	struct kernel_request *blocks = &f->region.blocks;
	uint64_t usec;

	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	usec = blocks->wait_usec;
	assert_true(usec);
	for (unsigned int asked = 2; asked < 6; asked++) {
		assert_int_equal(
			sd_event_source_set_time(blocks->again_source, 0), 0);
		run(f);
		assert_int_equal(blocks->asked, asked);
		assert_int_equal(blocks->wait_usec, usec * 2);
		usec *= 2;
	}
	for (int i = 0; i < 64; i++) {
		usec = blocks->wait_usec;
		assert_int_equal(
			sd_event_source_set_time(blocks->again_source, 0), 0);
		run(f);
		assert_true(blocks->wait_usec >= usec);
	}
	assert_int_equal(blocks->wait_usec, usec);
	/* The answer to any of them ends the request. */
	finish(f);
	assert_told(&f->done, 1, 0);
}

/* Others have plugged the blocks that the guest requests. */
static void a_change_by_others_is_checked_again(void **state)
{
	struct fixture *f = *state;

	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	fuzz_module_others(1, 4, true);
	finish(f);
	assert_told(&f->done, 1, -EAGAIN);
	assert_int_equal(f->region.backing.plugged.set, 4);
	/* Others have changed nothing: the refusal has another reason. */
	fuzz_module_set(FUZZ_MODULE_LATER | 7);
	assert_int_equal(plug(f, 8, 1), -EINPROGRESS);
	finish(f);
	assert_told(&f->done, 2, -EBUSY);
}

static void an_earlier_change_is_repeated_once(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;

	assert_int_equal(plug(f, 0, 2), 0);
	/* The guest has the answer already. */
	assert_int_equal(backing_repeat(backing, true, GPA, 2 * BLOCK),
			 -EINVAL);
	backing_answer_lost(backing);
	fuzz_module_set(FUZZ_MODULE_LATER);
	assert_int_equal(backing_repeat(backing, true, GPA, 2 * BLOCK),
			 -EINPROGRESS);
	finish(f);
	assert_told(&f->done, 1, 0);
	assert_int_equal(backing->plugged.set, 2);
	assert_int_equal(backing_repeat(backing, true, GPA, 2 * BLOCK),
			 -EINVAL);
}

/* A dump with runs that are not blocks of the region changes nothing. */
static void runs_outside_the_region_are_refused(void **state)
{
	static const struct vmem_nl_range bad[] = {
		{GPA - BLOCK, BLOCK},
		{GPA + FUZZ_MODULE_SIZE, BLOCK},
		{GPA + FUZZ_MODULE_SIZE - BLOCK, 2 * BLOCK},
		{GPA + BLOCK, UINT64_MAX - BLOCK + 1},
		{GPA, 0},
		{GPA + BLOCK / 2, BLOCK},
		{GPA, BLOCK / 2},
	};
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fuzz_module_show(&bad[i]);
		assert_int_equal(kernel_reload(&f->region, &err), -EBADMSG);
		assert_int_equal(backing->plugged.set, 0);
	}
	fuzz_module_show(NULL);
	fuzz_module_others(FUZZ_MODULE_NR_BLOCKS - 2, 2, true);
	assert_int_equal(kernel_reload(&f->region, &err), 0);
	assert_int_equal(backing->plugged.set, 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_immediate_answer_is_the_result),
		CASE(a_late_answer_is_reported),
		CASE(allocated_memory_counts_as_work),
		CASE(an_answer_may_have_no_receiver),
		CASE(a_late_refusal_changes_nothing),
		CASE(the_answer_to_a_size_is_not_taken_for_a_plugs),
		CASE(the_last_of_several_sizes_counts),
		CASE(a_lost_answer_is_requested_again),
		CASE(an_answer_is_awaited_longer_each_time),
		CASE(a_change_by_others_is_checked_again),
		CASE(an_earlier_change_is_repeated_once),
		CASE(runs_outside_the_region_are_refused),
	};

	return unit_run(tests, NULL, NULL);
}
