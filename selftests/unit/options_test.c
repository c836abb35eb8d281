// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command line of vmemd, and the assignment of passed descriptors to
 * devices.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "options.h"
#include "passed_fds.h"
#include "unit.h"

/* The first passed descriptor of the socket activation protocol. */
#define FIRST_FD 3

#define MAX_ARGS (2 * VMEM_MAX_DEVICES + 4)

static int parse(struct options *options, const char *const *args)
{
	char *argv[MAX_ARGS + 2] = {(char *)"vmemd"};
	int argc = 1;

	for (; args[argc - 1]; argc++)
		argv[argc] = (char *)args[argc - 1];
	/* Reset getopt(3). */
	optind = 0;
	return options_parse(options, argc, argv);
}

#define PARSE(options, ...) \
	parse(options, (const char *const[]){__VA_ARGS__, NULL})

static void without_a_device_there_is_one(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--node", "3", "--requested-size",
			       "1G", "--vhost-user", "v"),
			 0);
	assert_int_equal(options.nr_devices, 1);
	assert_null(options.devices[0].name);
	assert_int_equal(options.devices[0].node, 3);
	assert_int_equal(options.devices[0].requested_size, GIB);
	assert_string_equal(options.devices[0].vhost_user_path, "v");
	assert_int_equal(PARSE(&options, "--log-level", "err"), 0);
	assert_int_equal(options.nr_devices, 1);
}

static void options_belong_to_the_device_before_them(void **state)
{
	struct options options;

	(void)state;
	/* Options of the daemon may stand anywhere. */
	assert_int_equal(PARSE(&options, "--node", "0", "--device", "b",
			       "--node", "1", "--control", "c", "--device", "c",
			       "--vhost-user", "v"),
			 0);
	assert_int_equal(options.nr_devices, 3);
	assert_null(options.devices[0].name);
	assert_int_equal(options.devices[0].node, 0);
	assert_string_equal(options.devices[1].name, "b");
	assert_int_equal(options.devices[1].node, 1);
	assert_null(options.devices[1].vhost_user_path);
	assert_string_equal(options.devices[2].name, "c");
	assert_false(options.devices[2].has_node);
	assert_string_equal(options.devices[2].vhost_user_path, "v");
	assert_string_equal(options.control_path, "c");
}

static void the_first_may_have_a_name(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--control", "c", "--device", "a",
			       "--device", "b", "--node", "1"),
			 0);
	assert_int_equal(options.nr_devices, 2);
	assert_string_equal(options.devices[0].name, "a");
	assert_false(options.devices[0].has_node);
	assert_string_equal(options.devices[1].name, "b");
	assert_int_equal(options.devices[1].node, 1);
}

static void other_values_are_refused(void **state)
{
	static const struct {
		const char *option;
		const char *value;
	} bad[] = {
		{"--log-level", "loud"},
		{"--log-level", ""},
		{"--requested-size", "x"},
		{"--requested-size", "-1"},
		{"--unplugged-cap", "x"},
		{"--unplugged-cap", ""},
		{"--node", "65536"},
		{"--node", "-1"},
		{"--backing", ""},
		{"--device", "a:b"},
		/* An empty name of a socket would let all users connect. */
		{"--vhost-user", ""},
		{"--control", ""},
		{"--restore", ""},
		{"--no-such-option", "1"},
	};
	struct options options;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		print_message("# %s '%s'\n", bad[i].option, bad[i].value);
		assert_int_equal(PARSE(&options, bad[i].option, bad[i].value),
				 -EINVAL);
	}
}

static void memslots_are_a_number_or_auto(void **state)
{
	static const char *const bad[] = {"0", "65536", "-1", "", "x", "3x"};
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--memslots", "65535", "--device", "b",
			       "--memslots", "auto", "--isolate"),
			 0);
	assert_int_equal(options.devices[0].budget.most, 65535);
	assert_false(options.devices[0].budget.isolate);
	assert_int_equal(options.devices[1].budget.most, 0);
	assert_true(options.devices[1].budget.isolate);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(PARSE(&options, "--memslots", bad[i]),
				 -EINVAL);
}

static void vmm_memory_has_its_own_options(void **state)
{
	static const char *const bad[][2] = {
		{"--memslots", "8"},	  {"--restore", "f"},
		{"--region-size", "3M"},  {"--block-size", "1M"},
		{"--block-size", "3M"},	  {"--slot-size", "1M"},
		{"--gpa", "0x100000001"}, {"--region-size", "512T"},
	};
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--backing", "vmm", "--region-size",
			       "1T", "--memslots", "auto"),
			 0);
	assert_true(options.devices[0].vmm);
	assert_int_equal(options.devices[0].region_size, UINT64_C(1) << 40);
	assert_int_equal(options.devices[0].block_size, 2 << 20);
	assert_int_equal(PARSE(&options, "--backing", "vmm"), -EINVAL);
	assert_int_equal(PARSE(&options, "--backing", "guest"), -EINVAL);
	assert_int_equal(PARSE(&options, "--region-size", "1T"), -EINVAL);
	assert_int_equal(PARSE(&options, "--backing", "vmm", "--region-size",
			       "1T", "--isolate"),
			 -EINVAL);
	assert_int_equal(PARSE(&options, "--backing", "vmm", "--region-size",
			       "1T", "--prealloc"),
			 -EINVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(PARSE(&options, "--backing", "vmm",
				       "--region-size", "1T", bad[i][0],
				       bad[i][1]),
				 -EINVAL);
}

static void bad_names_are_refused(void **state)
{
	static const char *const bad[] = {
		"",	    "1",
		"0a",	    "-a",
		"a:b",	    "a b",
		"a/b",	    "a\"b",
		"\xc3\xa4", "a234567890123456789012345678901x"};
	struct options options;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(PARSE(&options, "--device", bad[i]), -EINVAL);
	assert_int_equal(
		PARSE(&options, "--device", "a23456789012345678901234567890x"),
		0);
	assert_int_equal(PARSE(&options, "--device", "a", "--device", "b",
			       "--device", "a"),
			 -EINVAL);
}

static void there_may_be_16_devices(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f",
					    "g", "h", "i", "j", "k", "l",
					    "m", "n", "o", "p", "q"};
	const char *args[MAX_ARGS + 1] = {0};
	struct options options;

	(void)state;
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++) {
		args[2 * i] = "--device";
		args[2 * i + 1] = names[i];
	}
	assert_int_equal(parse(&options, args), 0);
	assert_int_equal(options.nr_devices, VMEM_MAX_DEVICES);
	args[2 * VMEM_MAX_DEVICES] = "--device";
	args[2 * VMEM_MAX_DEVICES + 1] = names[VMEM_MAX_DEVICES];
	assert_int_equal(parse(&options, args), -EINVAL);
}

/*
 * In a child with one descriptor per name: the result of passed_fds_take(), and
 * whether the last descriptor is at @offset_of_last.
 */
static int take(const struct options *options, const char *names,
		size_t offset_of_last)
{
	struct passed_fds fds;
	char text[16];
	int nr = 1, status;
	pid_t child;

	for (const char *at = names; *at; at++)
		nr += *at == ':';
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		int ret;

		for (int fd = FIRST_FD; fd < FIRST_FD + nr; fd++)
			if (dup2(STDERR_FILENO, fd) < 0)
				_exit(100);
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		snprintf(text, sizeof(text), "%d", nr);
		setenv("LISTEN_FDS", text, 1);
		setenv("LISTEN_FDNAMES", names, 1);
		ret = passed_fds_take(&fds, options);
		if (ret)
			_exit(-ret);
		memcpy(&ret, (char *)&fds + offset_of_last, sizeof(ret));
		_exit(ret == FIRST_FD + nr - 1 ? 0 : 101);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define PLACE(member) offsetof(struct passed_fds, member)

static void descriptors_belong_to_the_device_they_name(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--node", "0", "--device", "b"), 0);
	assert_int_equal(
		take(&options, "region:memory", PLACE(devices[0].memory)), 0);
	assert_int_equal(
		take(&options, "region-b:memory-b", PLACE(devices[1].memory)),
		0);
	assert_int_equal(take(&options, "memory-b:region:memory:region-b",
			      PLACE(devices[1].region)),
			 0);
	assert_int_equal(take(&options, "vhost-user:control:vhost-user-b",
			      PLACE(devices[1].vhost_user)),
			 0);
	assert_int_equal(
		take(&options, "vhost-user", PLACE(devices[0].vhost_user)), 0);
	/* Unused descriptors are closed. */
	assert_int_equal(take(&options, "control:region-c", PLACE(control)),
			 101);
	assert_int_equal(take(&options, "region-c:control", PLACE(control)), 0);
	/* Incomplete pairs, and two descriptors of one kind. */
	assert_int_equal(take(&options, "region:memory-b", PLACE(control)),
			 EINVAL);
	assert_int_equal(
		take(&options, "region-b:region-b:memory-b", PLACE(control)),
		EINVAL);
}

static void names_of_the_first_device_are_optional(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--device", "a", "--device", "b"), 0);
	assert_int_equal(
		take(&options, "region:memory-a", PLACE(devices[0].memory)), 0);
	assert_int_equal(take(&options, "vhost-user-a:vhost-user",
			      PLACE(devices[0].vhost_user)),
			 EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_device_there_is_one),
		cmocka_unit_test(options_belong_to_the_device_before_them),
		cmocka_unit_test(the_first_may_have_a_name),
		cmocka_unit_test(other_values_are_refused),
		cmocka_unit_test(memslots_are_a_number_or_auto),
		cmocka_unit_test(vmm_memory_has_its_own_options),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(there_may_be_16_devices),
		cmocka_unit_test(descriptors_belong_to_the_device_they_name),
		cmocka_unit_test(names_of_the_first_device_are_optional),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
