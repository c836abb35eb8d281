// SPDX-License-Identifier: GPL-2.0-or-later
/* The daemon as a whole: devices of both kinds side by side. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "backing/vmm.h"
#include "control/methods.h"
#include "daemon.h"
#include "manager.h"
#include "passed_fds.h"
#include "unit.h"

/*
 * The front end maps the first device's memory, so that device has no netlink
 * handle. The second device gets a region.
 */
static void a_region_and_memory_of_a_front_end_coexist(void **state)
{
	struct vmem *vmem = calloc(1, sizeof(*vmem));
	struct error err;
	struct error error = {0};
	int fds[2];

	(void)state;
	assert_non_null(vmem);
	vmem->nr_devices = 2;
	vmem->devices[0].vmm = true;
	vmem->devices[0].attached = true;
	/* Without the module there is no family, and the refusal differs. */
	if (!kernel_nl_open(&vmem->devices[1].nl, &err)) {
		assert_int_equal(pipe(fds), 0);
		assert_true(daemon_attach(vmem, &vmem->devices[1], fds[0],
					  fds[1], &error) < 0);
		kernel_nl_close(&vmem->devices[1].nl);
	}
	/* Attaching to the device whose memory the front end maps. */
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(
		daemon_attach(vmem, &vmem->devices[0], fds[0], fds[1], &error),
		-EOPNOTSUPP);
	assert_non_null(strstr(error.text, "--backing vmm"));
	/* The descriptors were consumed. */
	assert_true(close(fds[0]) < 0);
	assert_true(close(fds[1]) < 0);
	free(vmem);
}

/*
 * Call a method of the control socket.
 *
 * @device: JSON value of the parameter "device"; NULL: omit it
 */
static int call_method(struct vmem *vmem, struct control_call *call,
		       const char *name, const char *device)
{
	const struct control_method *method = methods_ops.methods;
	int ret;

	while (method->name && strcmp(method->name, name))
		method++;
	assert_non_null(method->name);
	call->params = json_object_new_object();
	call->subject = UINT_MAX;
	call->error.text[0] = '\0';
	if (device)
		json_object_object_add(call->params, "device",
				       json_tokener_parse(device));
	ret = method->handle(call, vmem);
	json_object_put(call->params);
	json_object_put(call->result);
	call->result = NULL;
	return ret;
}

/* @nr: number of devices; the second is called "far" */
static struct vmem *new_vmem(unsigned int nr)
{
	struct vmem *vmem = calloc(1, sizeof(*vmem));

	assert_non_null(vmem);
	vmem->nr_devices = nr;
	for (unsigned int i = 0; i < nr; i++) {
		vmem->devices[i].index = i;
		snprintf(vmem->devices[i].name, sizeof(vmem->devices[i].name),
			 "%s", i ? "far" : "near");
	}
	return vmem;
}

static void a_call_applies_to_the_device_it_names(void **state)
{
	static const struct {
		unsigned int devices;
		const char *device;
		int ret;
		unsigned int subject;
		const char *message;
	} calls[] = {
		{2, "\"near\"", 0, 0, ""},
		{2, "\"far\"", 0, 1, ""},
		{2, "\"0\"", 0, 0, ""},
		{2, "1", 0, 1, ""},
		{2, "\"2\"", -ENOENT, UINT_MAX,
		 "no device \"2\"; there are: near, far"},
		{2, "\"fa\"", -ENOENT, UINT_MAX,
		 "no device \"fa\"; there are: near, far"},
		{2, "null", -ENOENT, UINT_MAX,
		 "no device \"null\"; there are: near, far"},
		{2, NULL, -EINVAL, UINT_MAX,
		 "\"device\" is needed, one of: near, far"},
		{1, NULL, 0, 0, ""},
		{1, "\"near\"", 0, 0, ""},
		{1, "\"far\"", -ENOENT, UINT_MAX,
		 "no device \"far\"; there are: near"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct vmem *vmem = new_vmem(calls[i].devices);
		struct control_call call = {};

		assert_int_equal(
			call_method(vmem, &call, "latencies", calls[i].device),
			calls[i].ret);
		assert_int_equal(call.subject, calls[i].subject);
		assert_string_equal(call.error.text, calls[i].message);
		free(vmem);
	}
	/* Without any parameters. */
	for (unsigned int nr = 1; nr <= 2; nr++) {
		struct vmem *vmem = new_vmem(nr);
		struct control_call call = {};

		assert_int_equal(methods_ops.watch(&call, vmem), 0);
		assert_int_equal(call.subject,
				 nr == 1 ? 0 : CONTROL_ALL_SUBJECTS);
		free(vmem);
	}
}

/* A device without a region has a name only. */
static void a_status_lists_all_devices(void **state)
{
	struct vmem *vmem = new_vmem(2);
	const struct control_method *method = methods_ops.methods;
	struct control_call call = {};
	json_object *devices, *value;

	(void)state;
	while (strcmp(method->name, "status"))
		method++;
	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		vmem->devices[i].named = true;
	assert_int_equal(method->handle(&call, vmem), 0);
	assert_true(json_object_object_get_ex(call.result, "version", &value));
	assert_true(
		json_object_object_get_ex(call.result, "devices", &devices));
	assert_string_equal(
		json_object_to_json_string_ext(devices, JSON_C_TO_STRING_PLAIN),
		"[{\"device\":\"near\",\"attached\":false},"
		"{\"device\":\"far\",\"attached\":false}]");
	json_object_put(call.result);
	free(vmem);
}

static void attach_takes_two_descriptors(void **state)
{
	struct vmem *vmem = new_vmem(2);
	struct control_call call = {};
	int fds[3] = {};

	(void)state;
	call.fds = fds;
	for (call.nr_fds = 0; call.nr_fds <= 3; call.nr_fds++) {
		if (call.nr_fds == 2)
			continue;
		assert_int_equal(call_method(vmem, &call, "attach", "0"),
				 -EINVAL);
		assert_non_null(strstr(call.error.text, "two descriptors"));
	}
	call.nr_fds = 2;
	assert_int_equal(call_method(vmem, &call, "attach", NULL), -EINVAL);
	assert_non_null(strstr(call.error.text, "\"device\" is needed"));
	vmem->devices[1].vmm = true;
	assert_int_equal(call_method(vmem, &call, "attach", "1"), -EOPNOTSUPP);
	assert_non_null(strstr(call.error.text, "--backing vmm"));
	/* The caller keeps the descriptors. */
	assert_int_equal(fds[0], 0);
	assert_int_equal(fds[1], 0);
	free(vmem);
}

/*
 * Pass descriptors of these names, which colons separate, as a service manager
 * does. Uses a separate process, because of the fixed descriptor numbers and the
 * environment.
 */
static int take(const char *names, const struct options *options)
{
	unsigned int nr = 1;
	struct passed_fds fds;
	char pid[32], number[32];
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		int fd = vmm_make_file("test");

		for (const char *at = names; (at = strchr(at, ':')); at++)
			nr++;
		for (unsigned int i = 0; i < nr; i++)
			if (fd < 0 || dup2(fd, SD_LISTEN_FDS_START + i) < 0)
				_exit(ENOTRECOVERABLE);
		snprintf(pid, sizeof(pid), "%d", getpid());
		snprintf(number, sizeof(number), "%u", nr);
		if (setenv("LISTEN_PID", pid, 1) ||
		    setenv("LISTEN_FDS", number, 1) ||
		    setenv("LISTEN_FDNAMES", names, 1))
			_exit(ENOTRECOVERABLE);
		_exit(-passed_fds_take(&fds, options));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

/*
 * Memory is stored first: the daemon may be killed before it stores the state or
 * the region.
 */
static void memory_may_be_passed_alone(void **state)
{
	struct options options = {.nr_devices = 1};

	(void)state;
	assert_int_equal(take("memory", &options), 0);
	assert_int_equal(take("region", &options), -EINVAL);
	options.devices[0].vmm = true;
	assert_int_equal(take("memory", &options), 0);
	assert_int_equal(take("state", &options), -EINVAL);
}

/*
 * Without --backing vmm, which may be a mistake, the two files of a VM whose
 * front end maps the memory are not lost.
 */
static void a_state_is_refused_without_its_backing(void **state)
{
	struct options options = {.nr_devices = 1};

	(void)state;
	assert_int_equal(take("memory:state", &options), -EINVAL);
	options.devices[0].vmm = true;
	assert_int_equal(take("memory:state", &options), 0);
}

#define KEPT_SIZE  (256ULL << 20)
#define KEPT_BLOCK (2ULL << 20)

/* A daemon with memory but without a state. Return: as daemon_new(). */
static int start_without_state(int memory_fd, const char *manager)
{
	struct options options = {
		.nr_devices = 1,
		.devices[0] =
			{
				.vmm = true,
				.region_size = KEPT_SIZE,
				.block_size = KEPT_BLOCK,
				.slot_size = KEPT_SIZE,
			},
	};
	struct passed_fds fds;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct vmem *vmem;
	int fd;

	passed_fds_init(&fds);
	/* Any address. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)) < 0 ||
	    listen(fd, 1) < 0 || setenv("NOTIFY_SOCKET", manager, 1))
		return -ENOTRECOVERABLE;
	fds.devices[0].vhost_user = fd;
	fds.devices[0].memory = memory_fd;
	return daemon_new(&vmem, &options, &fds);
}

/* If the memory was not used, a state is created and stored. */
static void memory_without_contents_gets_a_state(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int memory_fd = vmm_make_file("test");
	int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(addr.sun_family);
	char path[sizeof(addr.sun_path) + 1] = "", names[256];

	(void)state;
	assert_int_equal(ftruncate(memory_fd, KEPT_SIZE), 0);
	/* A free abstract address. */
	assert_int_equal(bind(manager, (struct sockaddr *)&addr, size), 0);
	size = sizeof(addr);
	assert_int_equal(getsockname(manager, (struct sockaddr *)&addr, &size),
			 0);
	path[0] = '@';
	memcpy(path + 1, addr.sun_path + 1,
	       size - offsetof(struct sockaddr_un, sun_path) - 1);
	for (int contents = 0; contents <= 1; contents++) {
		int status;
		pid_t child;

		if (contents)
			assert_int_equal(pwrite(memory_fd, "used", 4, 0), 4);
		child = fork();
		assert_true(child >= 0);
		/* The daemon isolates its process. */
		if (!child)
			_exit(-start_without_state(dup(memory_fd), path));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), contents ? EINVAL : 0);
		manager_names(manager, names, sizeof(names));
		assert_string_equal(names, contents ? "" : "state\n");
	}
	close(memory_fd);
	close(manager);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_and_memory_of_a_front_end_coexist),
		cmocka_unit_test(a_call_applies_to_the_device_it_names),
		cmocka_unit_test(a_status_lists_all_devices),
		cmocka_unit_test(attach_takes_two_descriptors),
		cmocka_unit_test(memory_may_be_passed_alone),
		cmocka_unit_test(a_state_is_refused_without_its_backing),
		cmocka_unit_test(memory_without_contents_gets_a_state),
	};

	return unit_run(tests, NULL, NULL);
}
