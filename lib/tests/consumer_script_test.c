// SPDX-License-Identifier: MIT
/* Consumers of a vmemd that violates the protocol, or is of another version. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "kvmvmem.h"
#include "record.h"
#include "script.h"
#include "unit.h"

/* A bound on hangs. */
#define HANG_MS 60000

#define ANSWER                                                             \
	"{\"id\":1,\"result\":{\"gpa\":4294967296,\"size\":62914560,"      \
	"\"block_size\":2097152,\"slot_size\":8388608,\"first_slot\":100," \
	"\"answer_ms\":10000}}\n"
#define POPULATE(seq, gpa, size)                               \
	"{\"event\":\"populate\",\"seq\":" seq ",\"gpa\":" gpa \
	",\"size\":" size "}\n"
#define DISCARD(seq, gpa, size)                               \
	"{\"event\":\"discard\",\"seq\":" seq ",\"gpa\":" gpa \
	",\"size\":" size "}\n"
#define SUBSCRIBED "{\"event\":\"subscribed\"}\n"

/**
 * struct fixture - a scripted vmemd, and a consumer
 */
struct fixture {
	struct script script;
	struct record record;
	struct kvmvmem_consumer *consumer;
	struct kvmvmem_error error;
};

/* Return: as kvmvmem_consumer_new(). */
static int start(struct fixture *f, const struct script_part *parts, size_t nr)
{
	struct kvmvmem_consumer_config config = {
		.size = sizeof(config),
		.unit = KVMVMEM_EACH_BLOCK,
		.device = "node0",
		.name = "test",
		.memslots = 509,
		.used = 3,
		.mappings = 65535,
		.map = record_map,
		.unmap = record_unmap,
		.arg = &f->record,
	};

	record_init(&f->record, config.unit);
	script_start(&f->script, parts, nr);
	config.control_path = f->script.path;
	f->consumer = NULL;
	return kvmvmem_consumer_new(&f->consumer, &config, &f->error);
}

static void stop(struct fixture *f)
{
	kvmvmem_consumer_free(f->consumer);
	script_stop(&f->script);
}

/* Return: the first error of dispatch, 0 if the consumer subscribes. */
static int run(struct fixture *f)
{
	struct pollfd ready = {kvmvmem_consumer_fd(f->consumer), POLLIN, 0};
	int ret = 0;

	while (!ret &&
	       kvmvmem_consumer_state(f->consumer) != KVMVMEM_SUBSCRIBED) {
		assert_int_equal(poll(&ready, 1, HANG_MS), 1);
		ret = kvmvmem_consumer_dispatch(f->consumer, &f->error);
	}
	return ret;
}

static void a_consumer_follows_the_protocol(void **state)
{
	const struct script_part part = {
		.says = ANSWER POPULATE("7", "4294967296", "4194304")
			SUBSCRIBED};
	struct fixture f;
	char heard[1024];

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	/*
	 * The event came with the answer, and is handled by the first dispatch.
	 */
	assert_int_equal(record_mask(&f.record), 0);
	assert_int_equal(run(&f), 0);
	assert_int_equal(record_mask(&f.record), 3);
	kvmvmem_consumer_free(f.consumer);
	f.consumer = NULL;
	assert_string_equal(
		script_heard(&f.script, heard, sizeof(heard)),
		"{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		"\"device\":\"node0\",\"name\":\"test\",\"memslots\":509,"
		"\"used\":3,\"mappings\":65535}}\n"
		"{\"id\":2,\"method\":\"done\",\"params\":{\"seq\":7,"
		"\"ok\":true}}\n"
		"{\"id\":3,\"method\":\"unsubscribe\",\"params\":{"
		"\"device\":\"node0\",\"name\":\"test\"}}\n");
	assert_int_equal(record_mask(&f.record), 0);
	stop(&f);
}

/* The script ends with the connection. */
static void expect_end(const struct fixture *f, pid_t copy)
{
	struct pollfd end = {f->script.heard_fd, 0, 0};

	assert_int_equal(poll(&end, 1, HANG_MS), 1);
	assert_true(end.revents & POLLHUP);
	child_end(copy);
}

/* A process that forks leaves its child a copy of the connection. */
static void vmemd_sees_an_error_beside_a_copy(void **state)
{
	const struct script_part part = {.says = ANSWER "{\n"};
	struct fixture f;
	pid_t copy;

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	copy = child_start();
	assert_int_equal(run(&f), -EBADMSG);
	expect_end(&f, copy);
	stop(&f);
}

/* A consumer with mappings that remain does not unsubscribe. */
static void vmemd_sees_the_end_beside_a_copy(void **state)
{
	const struct script_part part = {
		.says = ANSWER POPULATE("7", "4294967296", "4194304")
			SUBSCRIBED};
	struct fixture f;
	pid_t copy;

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	assert_int_equal(run(&f), 0);
	copy = child_start();
	f.record.unmap_fails = 0;
	kvmvmem_consumer_free(f.consumer);
	f.consumer = NULL;
	expect_end(&f, copy);
	stop(&f);
}

/* The next vmemd has read from its file that there is such a consumer. */
static void the_end_is_reported_to_the_next_vmemd(void **state)
{
	const struct script_part part = {
		.says = ANSWER POPULATE("7", "4294967296", "4194304")
			SUBSCRIBED};
	const struct script_part next_part = {
		.says = "{\"id\":3,\"result\":{}}\n"};
	struct script next;
	struct fixture f;
	struct pollfd ready;
	char heard[1024];

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	assert_int_equal(run(&f), 0);
	script_start(&next, &next_part, 1);
	assert_int_equal(rename(next.path, f.script.path), 0);
	kill(f.script.pid, SIGKILL);
	/* The connection has ended, and the consumer is not dispatched. */
	ready = (struct pollfd){kvmvmem_consumer_fd(f.consumer), POLLIN, 0};
	assert_int_equal(poll(&ready, 1, HANG_MS), 1);
	kvmvmem_consumer_free(f.consumer);
	f.consumer = NULL;
	kill(next.pid, SIGKILL);
	assert_non_null(strstr(script_heard(&next, heard, sizeof(heard)),
			       "\"method\":\"unsubscribe\""));
	script_stop(&next);
	stop(&f);
}

/* A later vmemd adds members and sends them in another order. */
static void a_later_version_is_understood(void **state)
{
	const struct script_part part = {
		.says = "{\"later\":1,\"result\":{\"first_slot\":100,\"later\":[{}],"
			"\"slot_size\":8388608,\"block_size\":2097152,"
			"\"size\":62914560,\"gpa\":4294967296},\"id\":1}\n"
			"{\"later\":1,\"size\":2097152,\"gpa\":4294967296,\"seq\":1,"
			"\"event\":\"populate\"}\n" SUBSCRIBED};
	struct fixture f;

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	assert_int_equal(run(&f), 0);
	assert_int_equal(record_mask(&f.record), 1);
	stop(&f);
}

static void nothing_is_mapped_before_there_is_a_region(void **state)
{
	const struct script_part part = {
		.says = POPULATE("1", "4294967296", "2097152") ANSWER};
	struct fixture f;

	(void)state;
	assert_int_equal(start(&f, &part, 1), -EBADMSG);
	stop(&f);
}

static void repeated_events_change_nothing(void **state)
{
	const struct script_part part = {
		.says = ANSWER
		"{\"event\":\"later\",\"gpa\":1}\n"
		"{\"id\":2,\"error\":{\"code\":\"ENOENT\"}}\n" POPULATE(
			"1", "4294967296",
			"2097152") POPULATE("2", "4294967296", "4194304")
			DISCARD("3", "4299161600", "4194304") SUBSCRIBED};
	struct fixture f;

	(void)state;
	assert_int_equal(start(&f, &part, 1), 0);
	assert_int_equal(run(&f), 0);
	assert_int_equal(record_mask(&f.record), 3);
	assert_int_equal(f.record.maps, 2);
	assert_int_equal(f.record.unmaps, 0);
	stop(&f);
}

static void an_invalid_region_is_refused(void **state)
{
	static const struct {
		const char *gpa;
		const char *size;
		const char *block;
		const char *slot;
		const char *first;
	} layouts[] = {
		{"4294967296", "62914560", "0", "8388608", "1"},
		{"4294967296", "62914560", "3145728", "8388608", "1"},
		{"4294967296", "0", "2097152", "8388608", "1"},
		{"4294967296", "62914561", "2097152", "8388608", "1"},
		{"4294967297", "62914560", "2097152", "8388608", "1"},
		{"4294967296", "62914560", "2097152", "0", "1"},
		{"4294967296", "62914560", "2097152", "3145728", "1"},
		{"4294967296", "62914560", "2097152", "8388608", "4294967295"},
		{"4294967296", "62914560", "2097152", "8388608", "-1"},
		{"4294967296", "\"62914560\"", "2097152", "8388608", "1"},
		{"18446744073707454464", "62914560", "2097152", "8388608", "1"},
		/* One block more than the maximum; the whole address space. */
		{"0", "1099511631872", "4096", "8388608", "1"},
		{"0", "18446744073709547520", "4096", "8388608", "1"},
	};
	char line[512];
	struct script_part part = {.says = line};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		snprintf(line, sizeof(line),
			 "{\"id\":1,\"result\":{\"gpa\":%s,\"size\":%s,"
			 "\"block_size\":%s,\"slot_size\":%s,"
			 "\"first_slot\":%s}}\n",
			 layouts[i].gpa, layouts[i].size, layouts[i].block,
			 layouts[i].slot, layouts[i].first);
		if (start(&f, &part, 1) != -EBADMSG)
			fail_msg("taken: %s", line);
		stop(&f);
	}
}

static void events_beyond_the_region_map_nothing(void **state)
{
	static const char *const events[] = {
		POPULATE("1", "4294967296", "0"),
		POPULATE("1", "4294967296", "4096"),
		POPULATE("1", "4294971392", "2097152"),
		POPULATE("1", "4292870144", "2097152"),
		POPULATE("1", "4357881856", "2097152"),
		POPULATE("1", "4294967296", "65011712"),
		POPULATE("1", "4355784704", "18446744073707454464"),
		DISCARD("1", "4297064448", "18446744073709551615"),
		POPULATE("-1", "4294967296", "2097152"),
		POPULATE("\"1\"", "4294967296", "2097152"),
		"{\"event\":\"populate\",\"seq\":1}\n",
		"{\"event\":\"discard\"}\n",
		"{\"event\":\"populate\"\n",
		"\n",
		"x\n",
	};
	char line[512];
	struct script_part part = {.says = line};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		snprintf(line, sizeof(line), "%s%s", ANSWER, events[i]);
		assert_int_equal(start(&f, &part, 1), 0);
		if (run(&f) != -EBADMSG)
			fail_msg("taken: %s", line);
		assert_int_equal(kvmvmem_consumer_state(f.consumer),
				 KVMVMEM_CLOSED);
		assert_int_equal(f.record.maps, 0);
		stop(&f);
	}
}

/* Endless lines, and an endless line. */
static void a_flood_is_bounded(void **state)
{
	static char line[20000];
	const struct script_part parts[] = {
		{.says = line, .again = true},
		{.says = ANSWER},
		{.says = "{\"id\":9,\"result\":{}}\n", .again = true},
	};
	struct fixture f;

	(void)state;
	memset(line, ' ', sizeof(line) - 1);
	assert_int_equal(start(&f, parts, 1), -EBADMSG);
	stop(&f);
	/* Irrelevant lines are handled in bounded portions. */
	assert_int_equal(start(&f, parts + 1, 1), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(
			kvmvmem_consumer_dispatch(f.consumer, &f.error), 0);
	stop(&f);
}

static void another_region_is_not_mapped(void **state)
{
	const struct script_part parts[] = {
		{.says = ANSWER POPULATE("1", "4294967296", "2097152")
			 SUBSCRIBED,
		 .hears = 1,
		 .ends = true},
		{.says = "{\"id\":1,\"result\":{\"gpa\":8589934592,"
			 "\"size\":62914560,\"block_size\":2097152,"
			 "\"slot_size\":8388608,\"first_slot\":100}}\n"},
	};
	struct pollfd ready = {.events = POLLIN};
	struct fixture f;
	int ret = 0;

	(void)state;
	assert_int_equal(start(&f, parts, 2), 0);
	ready.fd = kvmvmem_consumer_fd(f.consumer);
	while (!ret) {
		assert_int_equal(poll(&ready, 1, HANG_MS), 1);
		ret = kvmvmem_consumer_dispatch(f.consumer, &f.error);
	}
	assert_int_equal(ret, -ESTALE);
	assert_int_equal(record_mask(&f.record), 1);
	stop(&f);
	assert_int_equal(record_mask(&f.record), 0);
}

/* A vmemd that is short of descriptors is asked again. */
static void a_vmemd_that_is_short_is_asked_again(void **state)
{
	const struct script_part parts[] = {
		{.says = ANSWER POPULATE("1", "4294967296", "2097152")
			 SUBSCRIBED,
		 .hears = 1,
		 .ends = true},
		{.says = "{\"id\":1,\"error\":{\"code\":\"EMFILE\"}}\n",
		 .ends = true},
		{.says = ANSWER POPULATE("1", "4294967296", "4194304")
			 SUBSCRIBED},
	};
	struct pollfd ready = {.events = POLLIN};
	struct fixture f;

	(void)state;
	assert_int_equal(start(&f, parts, 3), 0);
	ready.fd = kvmvmem_consumer_fd(f.consumer);
	while (record_mask(&f.record) != 3) {
		assert_int_equal(poll(&ready, 1, HANG_MS), 1);
		assert_int_equal(
			kvmvmem_consumer_dispatch(f.consumer, &f.error), 0);
	}
	assert_int_equal(f.record.unmaps, 0);
	stop(&f);
}

/* No further data arrives that would wake up the consumer. */
static void events_received_with_the_answer_are_handled(void **state)
{
	const struct script_part parts[] = {
		{.says = ANSWER SUBSCRIBED, .ends = true},
		{.says = ANSWER POPULATE("1", "4294967296", "2097152")
			 SUBSCRIBED},
	};
	struct pollfd ready = {.events = POLLIN};
	struct fixture f;

	(void)state;
	assert_int_equal(start(&f, parts, 2), 0);
	ready.fd = kvmvmem_consumer_fd(f.consumer);
	while (record_mask(&f.record) != 1 ||
	       kvmvmem_consumer_state(f.consumer) != KVMVMEM_SUBSCRIBED) {
		assert_int_equal(poll(&ready, 1, HANG_MS), 1);
		assert_int_equal(
			kvmvmem_consumer_dispatch(f.consumer, &f.error), 0);
	}
	stop(&f);
}

/* Counts what is mapped. @arg: the count */
static int count_map(void *arg, const struct kvmvmem_range *range)
{
	uint64_t *mapped = arg;

	*mapped += range->size;
	return 0;
}

static int count_unmap(void *arg, const struct kvmvmem_range *range)
{
	uint64_t *mapped = arg;

	*mapped -= range->size;
	return 0;
}

/*
 * 32 GiB in blocks of 4 KiB, each mapped and unmapped by a call of its own. A
 * pass over the rest of the region for each block would take many minutes.
 */
static void eight_million_blocks_are_unmapped(void **state)
{
	const struct script_part part = {
		.says = "{\"id\":1,\"result\":{\"gpa\":4294967296,"
			"\"size\":34359738368,\"block_size\":4096,"
			"\"slot_size\":8388608,\"first_slot\":100,"
			"\"answer_ms\":10000}}\n" POPULATE(
				"1", "4294967296", "34359738368") SUBSCRIBED};
	uint64_t mapped = 0;
	struct kvmvmem_consumer_config config = {
		.size = sizeof(config),
		.unit = KVMVMEM_EACH_BLOCK,
		.name = "test",
		.map = count_map,
		.unmap = count_unmap,
		.arg = &mapped,
	};
	struct fixture f;

	(void)state;
	script_start(&f.script, &part, 1);
	config.control_path = f.script.path;
	assert_int_equal(kvmvmem_consumer_new(&f.consumer, &config, &f.error),
			 0);
	assert_int_equal(run(&f), 0);
	assert_int_equal(mapped, 34359738368);
	stop(&f);
	assert_int_equal(mapped, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_consumer_follows_the_protocol),
		cmocka_unit_test(vmemd_sees_an_error_beside_a_copy),
		cmocka_unit_test(vmemd_sees_the_end_beside_a_copy),
		cmocka_unit_test(the_end_is_reported_to_the_next_vmemd),
		cmocka_unit_test(a_later_version_is_understood),
		cmocka_unit_test(nothing_is_mapped_before_there_is_a_region),
		cmocka_unit_test(repeated_events_change_nothing),
		cmocka_unit_test(an_invalid_region_is_refused),
		cmocka_unit_test(events_beyond_the_region_map_nothing),
		cmocka_unit_test(a_flood_is_bounded),
		cmocka_unit_test(another_region_is_not_mapped),
		cmocka_unit_test(a_vmemd_that_is_short_is_asked_again),
		cmocka_unit_test(events_received_with_the_answer_are_handled),
		cmocka_unit_test(eight_million_blocks_are_unmapped),
	};

	return unit_run(tests, NULL, NULL);
}
