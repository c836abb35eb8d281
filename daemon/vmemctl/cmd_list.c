// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl list: the VMs of this host by name, with the state that their vmemds
 * report. A vmemd that systemd has not started yet is not called, because a
 * connection would start it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_status.h"
#include "command_line.h"
#include "common/printable.h"
#include "screen.h"
#include "table.h"
#include "vms.h"

/* Time limit for the answers of one vmemd. */
#define LIST_TIMEOUT_MS (2 * MSEC_PER_SEC)

/*
 * Time limit for all vmemds that were found by their command lines. Any user
 * can start many processes that look like vmemd and do not answer.
 */
#define LIST_STRANGERS_MS (4 * MSEC_PER_SEC)

static const struct table_column columns[] = {
	{.head = "vm", .width = 8, .text = true},
	{.head = "state", .width = 11, .rank = 1, .text = true},
	{.head = "requested", .width = 10, .rank = 3},
	{.head = "plugged", .width = 10},
	{.head = "region", .width = 10, .rank = 4},
	{.head = "devices", .width = 7, .rank = 6},
	{.head = "vmemd", .width = 8, .rank = 5},
	{.head = " control socket", .width = 32, .rank = 7, .text = true},
};

#define NR_COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* Maximum width of the column of names. */
#define NAME_WIDTH_MAX 32

/* Buffer size for the path of a socket and a blank. */
#define CONTROL_TEXT_MAX 4098

/* Return: the sum over all devices; NULL if a device lacks the value. */
static json_object *sum(json_object *devices, const char *name)
{
	uint64_t total = 0;

	for (size_t i = 0; i < answer_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		if (!answer_has_size(device, name))
			return NULL;
		total += answer_size(device, name);
	}
	return devices ? json_object_new_uint64(total) : NULL;
}

/* The state of all devices as one text. */
static const char *state_of(json_object *devices)
{
	for (size_t i = 0; i < answer_array_length(devices); i++)
		if (!answer_bool(json_object_array_get_idx(devices, i),
				 "attached"))
			return "no region";
	for (size_t i = 0; i < answer_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		if (!answer_bool(answer_object(device, "driver"), "connected"))
			return "no VMM";
		if (!answer_bool(answer_object(device, "driver"), "ready"))
			return "no driver";
	}
	return "ready";
}

static const char *state_of_error(const struct daemon *daemon, int ret)
{
	if (!strcmp(daemon->refusal, "ENODEV"))
		return "no region";
	if (!strcmp(daemon->refusal, "EPERM") || ret == -EACCES)
		return "not allowed";
	if (ret == -ETIME)
		return "no answer";
	return ret == -EREMOTEIO ? "refused" : "not there";
}

static json_object *new_text(const char *text)
{
	return text && *text ? json_object_new_string(text) : NULL;
}

/*
 * Get the status of a vmemd.
 *
 * Return: as status_ask(); -ESRCH: a process other than @vm->pid listens on the
 * socket, and no request was sent.
 */
static int ask(struct daemon *daemon, const struct vm_place *vm,
	       const struct ctl_options *options, json_object **status)
{
	int ret;

	ret = daemon_open(daemon, vm->path, options);
	if (ret)
		return ret;
	if (vm->pid && !daemon_is_of(daemon, vm->pid))
		return -ESRCH;
	return status_ask(daemon, status);
}

/*
 * Describe a VM as a JSON object.
 *
 * @strangers: deadline for VMs that were found by command line, in the time of
 *	ctl_now_ms()
 *
 * Return: the object; NULL if the process is not the vmemd of a VM.
 */
static json_object *describe(const struct vm_place *vm,
			     const struct ctl_options *given, int64_t strangers)
{
	json_object *object, *status = NULL, *devices = NULL;
	struct ctl_options options = *given;
	const char *state = "not started";
	struct daemon daemon = {.fd = -1};
	int64_t left = strangers - ctl_now_ms();
	int ret = -ETIME;

	options.quiet = true;
	options.device = NULL;
	if (!options.has_timeout)
		options.timeout_ms = LIST_TIMEOUT_MS;
	options.has_timeout = true;
	if (vm->pid && options.timeout_ms > left)
		options.timeout_ms = left;
	if (!vm->idle) {
		if (!vm->pid || left > 0)
			ret = ask(&daemon, vm, &options, &status);
		if (!ret)
			devices = answer_array(status, "devices");
		state = ret ? state_of_error(&daemon, ret) : state_of(devices);
	}
	if (ret == -ESRCH) {
		daemon_close(&daemon);
		return NULL;
	}
	object = json_object_new_object();
	json_object_object_add(object, "name", new_text(vm->name));
	json_object_object_add(object, "control", new_text(vm->path));
	json_object_object_add(object, "state", new_text(state));
	json_object_object_add(object, "version",
			       new_text(answer_text(status, "version")));
	json_object_object_add(
		object, "nr_devices",
		devices ? json_object_new_uint64(answer_array_length(devices))
			: NULL);
	json_object_object_add(object, "region_size",
			       sum(devices, "region_size"));
	json_object_object_add(object, "requested_size",
			       sum(devices, "requested_size"));
	json_object_object_add(object, "plugged_size",
			       sum(devices, "plugged_size"));
	json_object_put(status);
	daemon_close(&daemon);
	return object;
}

static const char *size_cell(json_object *vm, const char *name,
			     char text[SIZE_TEXT_MAX])
{
	strcpy(text, "-");
	if (answer_has_size(vm, name))
		size_format(answer_size(vm, name), text);
	return text;
}

static void print_vm(const struct table *table, json_object *vm)
{
	char requested[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	char region[SIZE_TEXT_MAX], devices[SIZE_TEXT_MAX] = "-";
	const char *name = answer_text(vm, "name");
	const char *version = answer_text(vm, "version");
	char control[CONTROL_TEXT_MAX];

	if (answer_has_size(vm, "nr_devices"))
		snprintf(devices, sizeof(devices), "%" PRIu64,
			 answer_size(vm, "nr_devices"));
	snprintf(control, sizeof(control), " %s", answer_text(vm, "control"));
	table_row(table, (const char *[NR_COLUMNS]){
				 *name ? name : control + 1,
				 answer_text(vm, "state"),
				 size_cell(vm, "requested_size", requested),
				 size_cell(vm, "plugged_size", plugged),
				 size_cell(vm, "region_size", region),
				 devices,
				 *version ? version : "-",
				 control,
			 });
}

/* Width of the column of names: the longest name, up to a third of a line. */
static unsigned int name_width(json_object *vms, unsigned int room)
{
	unsigned int most =
		room && room / 3 < NAME_WIDTH_MAX ? room / 3 : NAME_WIDTH_MAX;
	size_t width = columns[0].width;

	for (size_t i = 0; i < answer_array_length(vms); i++) {
		size_t length = printable_width(
			answer_text(json_object_array_get_idx(vms, i), "name"));

		if (length > width)
			width = length;
	}
	return width < most ? (unsigned int)width : most;
}

static void print_vms(json_object *vms)
{
	struct table_column sized[NR_COLUMNS];
	struct screen screen = {.columns = 0};
	struct table table;

	if (isatty(STDOUT_FILENO)) {
		screen_open(&screen);
		screen_close(&screen);
	}
	memcpy(sized, columns, sizeof(sized));
	sized[0].width = name_width(vms, screen.columns);
	table_init(&table, sized, NR_COLUMNS, screen.columns);
	table_head(&table);
	for (size_t i = 0; i < answer_array_length(vms); i++)
		print_vm(&table, json_object_array_get_idx(vms, i));
}

static int ctl_list(const struct ctl_options *options)
{
	json_object *list, *array;
	int64_t strangers;
	struct vms vms;
	int ret;

	ret = vms_find(&vms);
	if (ret)
		goto out;
	list = json_object_new_object();
	array = json_object_new_array();
	json_object_object_add(list, "vms", array);
	strangers = ctl_now_ms() + LIST_STRANGERS_MS;
	for (size_t i = 0; i < vms.nr; i++) {
		json_object *vm = describe(&vms.vms[i], options, strangers);

		if (vm)
			json_object_array_add(array, vm);
	}
	if (options->json)
		ctl_print_json(list);
	else
		print_vms(array);
	json_object_put(list);
	/* The list may be incomplete. */
	if (vms.hidden)
		ret = -EACCES;
out:
	vms_free(&vms);
	return ret;
}

const struct ctl_command list_commands[] = {
	{.name = "list",
	 .scope = CTL_VMEMDS,
	 .help = "the VMs of this host by name, with their sizes",
	 .run = ctl_list},
	{},
};
