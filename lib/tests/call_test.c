// SPDX-License-Identifier: MIT
/*
 * Requests to a vmemd that answers properly, wrongly, late, never, or with
 * members of another version.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvmvmem.h"
#include "line.h"
#include "script.h"
#include "unit.h"

/* The time limit of calls without an answer. */
#define SHORT_MS 200
/* The time limit of other calls, long enough for a busy machine. */
#define LONG_MS 60000

/**
 * struct fixture - a scripted vmemd and its client
 */
struct fixture {
	struct script script;
	struct kvmvmem_vmemd *vmemd;
	struct kvmvmem_error error;
};

static void start(struct fixture *f, const struct script_part *part,
		  uint32_t timeout_ms)
{
	script_start(&f->script, part, 1);
	assert_int_equal(
		kvmvmem_vmemd_new(&f->vmemd, f->script.path, &f->error), 0);
	kvmvmem_vmemd_set_timeout(f->vmemd, timeout_ms);
	strcpy(f->error.text, "untouched");
}

static void stop(struct fixture *f)
{
	kvmvmem_vmemd_free(f->vmemd);
	script_stop(&f->script);
}

/* Return: the result of "hold" if vmemd sends @says. */
static int hold(const char *says, size_t size, struct kvmvmem_error *error)
{
	const struct script_part part = {.says = says, .size = size};
	struct fixture f;
	int ret;

	start(&f, &part, LONG_MS);
	ret = kvmvmem_vmemd_hold(f.vmemd, NULL, true, &f.error);
	*error = f.error;
	stop(&f);
	return ret;
}

static void a_result_is_success(void **state)
{
	struct kvmvmem_error error;
	char heard[256];
	struct fixture f;
	const struct script_part part = {.says = "{\"id\":1,\"result\":{}}\n"};

	(void)state;
	start(&f, &part, LONG_MS);
	assert_int_equal(kvmvmem_vmemd_hold(f.vmemd, "node0", true, &f.error),
			 0);
	assert_string_equal(f.error.text, "untouched");
	assert_string_equal(script_heard(&f.script, heard, sizeof(heard)),
			    "{\"id\":1,\"method\":\"hold\",\"params\":{"
			    "\"device\":\"node0\",\"on\":true}}\n");
	stop(&f);
	/* The result may be null, and other lines may precede it. */
	assert_int_equal(hold("{\"id\":1,\"result\":null}\n", 0, &error), 0);
	assert_int_equal(hold("{\"event\":\"state\",\"x\":[1]}\n"
			      "{\"id\":7,\"error\":{\"code\":\"EIO\"}}\n"
			      "{\"id\":\"1\",\"result\":{}}\n"
			      "{}\n"
			      "{\"result\":{},\"id\":1}\n",
			      0, &error),
			 0);
}

static void a_refusal_is_its_errno_and_text(void **state)
{
	struct kvmvmem_error error;

	(void)state;
	assert_int_equal(hold("{\"id\":1,\"error\":{\"code\":\"EBUSY\","
			      "\"message\":\"the driver is in use\"}}\n",
			      0, &error),
			 -EBUSY);
	assert_string_equal(error.text, "the driver is in use (EBUSY)");
	/* A client refused before its request was read gets no id. */
	assert_int_equal(hold("{\"id\":null,\"error\":{\"code\":\"EUSERS\","
			      "\"message\":\"too many clients\"}}\n",
			      0, &error),
			 -EUSERS);
	/* An errno name of a later vmemd, or none, and no message. */
	assert_int_equal(
		hold("{\"id\":1,\"error\":{\"code\":\"ENEW\"}}\n", 0, &error),
		-EREMOTEIO);
	assert_string_equal(error.text, "vmemd gives no reason (ENEW)");
	assert_int_equal(hold("{\"id\":1,\"error\":null}\n", 0, &error),
			 -EREMOTEIO);
	/* Control characters are replaced. */
	assert_int_equal(hold("{\"id\":1,\"error\":{\"code\":\"E\\u001b\","
			      "\"message\":\"\\u001b[2J\xc2\x9b\"}}\n",
			      0, &error),
			 -EREMOTEIO);
	assert_string_equal(error.text, "?[2J?? (E?)");
}

static void an_older_vmemd_does_not_know_the_method(void **state)
{
	struct kvmvmem_error error;

	(void)state;
	assert_int_equal(hold("{\"id\":1,\"error\":{\"code\":\"EOPNOTSUPP\","
			      "\"message\":\"no method \\\"hold\\\"\"}}\n",
			      0, &error),
			 -EOPNOTSUPP);
	assert_string_equal(error.text, "no method \"hold\" (EOPNOTSUPP)");
}

static void an_invalid_answer_is_refused(void **state)
{
	static const struct {
		const char *says;
		size_t size;
	} lines[] = {
		{"\n", 0},
		{"SSH-2.0-OpenSSH\n", 0},
		{"[]\n", 0},
		{.says = "{\"id\":1,\"result\":{}\n", 0},
		{.says = "{\"id\":1,\"result\":{}}{}\n", 0},
		{.says = "{\"id\":1}\n", 0},
		{.says = "{\"id\":null,\"result\":{}}\n", 0},
		{.says = "{\"id\":1,\"result\":\"\0\"}\n", 22},
		{"\0\n", 2},
		{"\xff\xfe\n", 0},
	};
	struct kvmvmem_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(hold(lines[i].says, lines[i].size, &error),
				 -EBADMSG);
}

static void a_line_has_a_maximum_length(void **state)
{
	static char line[2 * KVMVMEM_LINE_MAX];
	struct kvmvmem_error error;
	int length;

	(void)state;
	/* The maximum length, and one byte more. */
	for (int more = 0; more < 2; more++) {
		length = snprintf(line, sizeof(line),
				  "{\"id\":1,\"result\":{\"x\":\"%*s\"}}\n",
				  KVMVMEM_LINE_MAX - 27 + more, "");
		assert_int_equal(length, KVMVMEM_LINE_MAX + more);
		assert_int_equal(hold(line, 0, &error), more ? -EBADMSG : 0);
	}
}

static void a_closed_connection_is_not_awaited(void **state)
{
	static const struct script_part parts[] = {
		{.ends = true},
		{.says = "{\"id\":1,", .ends = true},
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		start(&f, &parts[i], LONG_MS);
		assert_int_equal(
			kvmvmem_vmemd_hold(f.vmemd, NULL, true, &f.error),
			-EPIPE);
		stop(&f);
	}
}

static void a_missing_answer_times_out(void **state)
{
	static const struct script_part parts[] = {
		{.says = NULL},
		{.says = "{\"id\":1,"},
		/* Lines that are no answer do not extend the deadline. */
		{.says = "{\"event\":\"state\"}\n", .again = true},
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		start(&f, &parts[i], SHORT_MS);
		assert_int_equal(
			kvmvmem_vmemd_hold(f.vmemd, NULL, true, &f.error),
			-ETIMEDOUT);
		assert_string_equal(f.error.text, "vmemd does not answer");
		stop(&f);
	}
}

static void a_missing_daemon_is_reported(void **state)
{
	char dir[] = "/tmp/call-XXXXXX", path[200];
	struct kvmvmem_error error;
	struct kvmvmem_vmemd *vmemd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/none", dir);
	assert_int_equal(kvmvmem_vmemd_new(&vmemd, path, &error), 0);
	assert_int_equal(kvmvmem_vmemd_resize(vmemd, NULL, 0, &error), -ENOENT);
	assert_non_null(strstr(error.text, "no vmemd listens there"));
	/* The error argument is optional. */
	assert_int_equal(kvmvmem_vmemd_resize(vmemd, NULL, 0, NULL), -ENOENT);
	kvmvmem_vmemd_free(vmemd);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(kvmvmem_vmemd_new(&vmemd, path, &error), 0);
	assert_int_equal(kvmvmem_vmemd_resize(vmemd, NULL, 0, &error),
			 -ENAMETOOLONG);
	kvmvmem_vmemd_free(vmemd);
	assert_int_equal(kvmvmem_vmemd_new(&vmemd, NULL, &error), 0);
	assert_int_equal(kvmvmem_vmemd_resize(vmemd, NULL, 0, &error),
			 -ENOTCONN);
	kvmvmem_vmemd_free(vmemd);
	kvmvmem_vmemd_free(NULL);
	assert_int_equal(rmdir(dir), 0);
}

/* Return: the result of "plan" if vmemd sends @says. */
static int plan(const char *says, struct kvmvmem_plan *plan)
{
	const struct script_part part = {.says = says};
	struct fixture f;
	int ret;

	start(&f, &part, LONG_MS);
	plan->size = sizeof(*plan);
	plan->region_size = 1 * GIB;
	plan->block_size = 2 * MIB;
	plan->kvm_limit = 509;
	ret = kvmvmem_vmemd_plan(f.vmemd, NULL, plan, &f.error);
	stop(&f);
	return ret;
}

static void a_plan_may_be_of_any_version(void **state)
{
	struct kvmvmem_plan p = {0};

	(void)state;
	/*
	 * The usual answer, one with members of a later version, and the
	 * minimum.
	 */
	assert_int_equal(plan("{\"id\":1,\"result\":{\"slot_size\":134217728,"
			      "\"nr_slots\":8,\"reason\":\"as it is\","
			      "\"metadata\":5,\"metadata_nested\":6,"
			      "\"later\":{\"slot_size\":1}}}\n",
			      &p),
			 0);
	assert_int_equal(p.slot_size, 128 * MIB);
	assert_int_equal(p.nr_slots, 8);
	assert_int_equal(p.metadata, 5);
	assert_int_equal(p.metadata_nested, 6);
	assert_string_equal(p.reason, "as it is");
	assert_int_equal(
		plan("{\"id\":1,\"result\":{\"slot_size\":268435457}}\n", &p),
		0);
	assert_int_equal(p.nr_slots, 4);
	assert_int_equal(p.metadata, 0);
	assert_string_equal(p.reason, "");
	assert_int_equal(plan("{\"id\":1,\"result\":{}}\n", &p), -EBADMSG);
	assert_int_equal(plan("{\"id\":1,\"result\":{\"slot_size\":0}}\n", &p),
			 -EBADMSG);
	assert_int_equal(
		plan("{\"id\":1,\"result\":{\"slot_size\":\"1\"}}\n", &p),
		-EBADMSG);
}

/* A program built with another version of the header. */
static void a_structure_may_be_of_any_version(void **state)
{
	struct {
		struct kvmvmem_plan plan;
		uint64_t later;
	} newer = {.plan = {.size = sizeof(newer), .region_size = GIB}};
	const struct script_part part = {
		.says = "{\"id\":1,\"result\":{\"slot_size\":134217728}}\n"};
	struct fixture f;
	char heard[1024];

	(void)state;
	start(&f, &part, LONG_MS);
	newer.later = 1;
	assert_int_equal(
		kvmvmem_vmemd_plan(f.vmemd, NULL, &newer.plan, &f.error),
		-E2BIG);
	newer.later = 0;
	/* The first version ended with the reason. */
	newer.plan.size = offsetof(struct kvmvmem_plan, mappings) - 1;
	assert_int_equal(
		kvmvmem_vmemd_plan(f.vmemd, NULL, &newer.plan, &f.error),
		-EINVAL);
	newer.plan.size = sizeof(newer);
	newer.plan.mappings = 65535;
	assert_int_equal(
		kvmvmem_vmemd_plan(f.vmemd, NULL, &newer.plan, &f.error), 0);
	assert_non_null(strstr(script_heard(&f.script, heard, sizeof(heard)),
			       "\"mappings\":65535"));
	assert_int_equal(newer.plan.size, sizeof(newer));
	assert_int_equal(newer.plan.nr_slots, 8);
	assert_int_equal(newer.later, 0);
	stop(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_result_is_success),
		cmocka_unit_test(a_refusal_is_its_errno_and_text),
		cmocka_unit_test(an_older_vmemd_does_not_know_the_method),
		cmocka_unit_test(an_invalid_answer_is_refused),
		cmocka_unit_test(a_line_has_a_maximum_length),
		cmocka_unit_test(a_closed_connection_is_not_awaited),
		cmocka_unit_test(a_missing_answer_times_out),
		cmocka_unit_test(a_missing_daemon_is_reported),
		cmocka_unit_test(a_plan_may_be_of_any_version),
		cmocka_unit_test(a_structure_may_be_of_any_version),
	};

	return unit_run(tests, NULL, NULL);
}
