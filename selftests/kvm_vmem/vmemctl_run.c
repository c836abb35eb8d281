// SPDX-License-Identifier: GPL-2.0-or-later
#include "vmemctl_run.h"

#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#define NUMBER_MAX 16

/* Output of the last run, stdout and stderr. */
char output[OUTPUT_MAX];

int run_vmemctl(const char *const *args)
{
	const char *argv[12] = {"vmemctl"};
	posix_spawn_file_actions_t actions;
	size_t have = 0;
	ssize_t got;
	int out[2], status;
	pid_t pid;

	for (size_t i = 0; args[i]; i++)
		argv[1 + i] = args[i];
	ASSERT_EQ(pipe(out), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
	posix_spawn_file_actions_addclose(&actions, out[0]);
	status = posix_spawnp(&pid, argv[0], &actions, NULL,
			      (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (status)
		tap_skip("vmemctl: %s", strerror(status));
	close(out[1]);
	while ((got = read(out[0], output + have, OUTPUT_MAX - 1 - have)) > 0)
		have += (size_t)got;
	output[have] = '\0';
	close(out[0]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/*
 * number() - Format a number as an argument. The buffer is reused by the next
 * call.
 */
const char *number(long value)
{
	static char text[NUMBER_MAX];

	snprintf(text, sizeof(text), "%ld", value);
	return text;
}

/*
 * printed() - The list of this name in the printed object; valid until the case
 * ends.
 */
json_object *printed(const char *name)
{
	json_object *object = json_tokener_parse(output), *list;

	if (!json_object_object_get_ex(object, name, &list)) {
		tap_note("%s", output);
		ASSERT_TRUE(!"the output is an object with that list");
	}
	return list;
}

/*
 * printed_device() - The only device in the printed status; the caller puts it.
 */
json_object *printed_device(void)
{
	json_object *object = json_tokener_parse(output), *devices, *device;

	ASSERT_TRUE(json_object_object_get_ex(object, "devices", &devices));
	ASSERT_EQ(json_object_array_length(devices), 1);
	device = json_object_get(json_object_array_get_idx(devices, 0));
	json_object_put(object);
	return device;
}

json_object *member(json_object *object, const char *name)
{
	json_object *value = NULL;

	if (!json_object_object_get_ex(object, name, &value))
		tap_fail(__FILE__, __LINE__, "no member %s", name);
	return value;
}

uint64_t get(json_object *object, const char *name)
{
	return json_object_get_uint64(member(object, name));
}
