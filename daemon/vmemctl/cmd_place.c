// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl place: set the guest address of the memory that a front end maps
 * (vmemd --backing vmm).
 *
 * The memory is in a BAR of the device, and the firmware of the guest chooses
 * the address of the BAR. vhost-user has no message for this address. QEMU's
 * monitor reports it (query-pci) as soon as it is assigned, so this command
 * polls the monitor. Normally the address is set long before the operating
 * system of the guest is loaded and its driver reads the device. If the driver
 * was faster, it has found a device without memory and has given up. vmemd
 * reports this, the command resets the machine, and after the reset the driver
 * finds the address. The result is the same in either order.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <json-c/json_visit.h>

#include "command_line.h"
#include "common/json_member.h"
#include "common/size.h"
#include "daemon_call.h"

/* Interval between two queries of the monitor. */
#define ASK_AGAIN_US 50000

/* PCI ids of QEMU's vhost-user-test-device-pci with virtio device id 24. */
#define PCI_VENDOR 0x1af4
#define PCI_DEVICE (0x1040 + 24)

/**
 * struct search - a search for a BAR
 * @id: QEMU's id of the device, NULL: the only one
 * @size: size of the BAR
 * @devices: number of matching devices
 * @gpa: guest address of the BAR, 0 if it has none yet
 */
struct search {
	const char *id;
	uint64_t size;
	unsigned int devices;
	uint64_t gpa;
};

/*
 * Run a command of QEMU's monitor.
 *
 * @result: NULL, or out: the result, whose reference the caller puts
 */
static int monitor_call(struct daemon *monitor, const char *command,
			int64_t deadline, json_object **result)
{
	char line[64];
	int length =
		snprintf(line, sizeof(line), "{\"execute\":\"%s\"}\n", command);

	if (send(monitor->fd, line, (size_t)length, MSG_NOSIGNAL) != length) {
		ctl_complain("%s: %s", monitor->path, strerror(errno));
		return -EIO;
	}
	for (;;) {
		json_object *reply, *value;
		int ret;

		ret = daemon_read(monitor, deadline, &reply);
		if (ret == -ETIMEDOUT)
			ctl_complain("%s: no answer from QEMU", monitor->path);
		if (ret)
			return ret == -ETIMEDOUT ? -ETIME : ret;
		if (json_object_object_get_ex(reply, "return", &value)) {
			if (result)
				*result = json_object_get(value);
			json_object_put(reply);
			return 0;
		}
		value = answer_object(reply, "error");
		if (value) {
			ctl_complain("%s: %s: %s", monitor->path, command,
				     answer_text(value, "desc"));
			json_object_put(reply);
			return -EIO;
		}
		/* Ignore the greeting and events. */
		json_object_put(reply);
	}
}

static void look_at_device(struct search *search, json_object *device)
{
	json_object *id = answer_object(device, "id");
	json_object *regions = answer_array(device, "regions");

	if (answer_size(id, "vendor") != PCI_VENDOR ||
	    answer_size(id, "device") != PCI_DEVICE ||
	    (search->id &&
	     strcmp(answer_text(device, "qdev_id"), search->id) != 0))
		return;
	search->devices++;
	for (size_t i = 0; i < answer_array_length(regions); i++) {
		json_object *region = json_object_array_get_idx(regions, i);

		/* An unassigned BAR has address -1, which is not a size. */
		if (answer_size(region, "size") == search->size &&
		    answer_size(region, "address"))
			search->gpa = answer_size(region, "address");
	}
}

/* Devices behind bridges are nested. Only devices have regions. */
static int look_at(json_object *object, int flags,
		   json_object *parent __attribute__((unused)),
		   const char *name __attribute__((unused)),
		   size_t *index __attribute__((unused)), void *arg)
{
	if (flags != JSON_C_VISIT_SECOND &&
	    json_object_is_type(object, json_type_object) &&
	    answer_array(object, "regions"))
		look_at_device(arg, object);
	return JSON_C_VISIT_RETURN_CONTINUE;
}

/* Poll QEMU until the BAR has an address. */
static int find_bar(struct daemon *monitor, struct search *search,
		    int64_t deadline)
{
	for (;;) {
		json_object *buses = NULL;
		int ret;

		ret = monitor_call(monitor, "query-pci", deadline, &buses);
		if (ret)
			return ret;
		search->devices = 0;
		json_c_visit(buses, 0, look_at, search);
		json_object_put(buses);
		if (search->devices != 1) {
			ctl_complain("%s: %u matching devices%s", monitor->path,
				     search->devices,
				     search->devices ? "; name it by --id"
						     : "");
			return -ENODEV;
		}
		if (search->gpa)
			return 0;
		if (ctl_now_ms() >= deadline) {
			ctl_complain("%s: the firmware has not given the "
				     "device an address",
				     monitor->path);
			return -ETIME;
		}
		usleep(ASK_AGAIN_US);
	}
}

/* The size of a BAR is a power of two. */
static uint64_t bar_size(uint64_t region_size)
{
	uint64_t size = 1;

	while (size < region_size && size <= UINT64_MAX / 2)
		size <<= 1;
	return size;
}

static int tell(struct daemon *daemon, const struct ctl_options *options,
		uint64_t gpa, bool *early)
{
	json_object *params = json_object_new_object(), *result;
	int ret;

	json_add_size(params, "gpa", gpa);
	/* The time that QEMU took does not count. */
	daemon_begin(daemon);
	ret = daemon_call(daemon, "place", params, &result);
	if (ret)
		return ret;
	*early = answer_bool(result, "asked_early");
	if (options->json)
		ctl_print_json(result);
	else
		printf("the region is at 0x%" PRIx64 "%s\n", gpa,
		       *early ? "; the guest's driver has read the device before"
			      : "");
	json_object_put(result);
	return 0;
}

/* Get the address from QEMU's monitor, which is connected, and set it. */
static int place_by_monitor(struct daemon *daemon, struct daemon *monitor,
			    const struct ctl_options *options)
{
	struct search search = {.id = options->qmp_device};
	int64_t deadline = ctl_now_ms() + options->timeout_ms;
	json_object *status;
	bool early;
	int ret;

	ret = daemon_call(daemon, "status", NULL, &status);
	if (ret)
		return ret;
	search.size = bar_size(answer_size(status, "region_size"));
	json_object_put(status);
	ret = monitor_call(monitor, "qmp_capabilities", deadline, NULL);
	if (!ret)
		ret = find_bar(monitor, &search, deadline);
	if (!ret)
		ret = tell(daemon, options, search.gpa, &early);
	if (!ret && early)
		ret = monitor_call(monitor, "system_reset", deadline, NULL);
	return ret;
}

static int ctl_place(const struct ctl_options *options)
{
	struct daemon daemon, monitor;
	bool early;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (ret)
		return ret;
	if (options->qmp) {
		ret = daemon_open(&monitor, options->qmp, options);
		if (!ret) {
			ret = place_by_monitor(&daemon, &monitor, options);
			daemon_close(&monitor);
		}
	} else {
		ret = tell(&daemon, options, options->address, &early);
	}
	daemon_close(&daemon);
	return ret;
}

static int check_place(const struct ctl_options *options)
{
	if (!options->address == !options->qmp) {
		ctl_complain("place takes --address or --qmp");
		return -EINVAL;
	}
	return 0;
}

static int parse_address(struct ctl_options *options,
			 const struct ctl_option *option, const char *text)
{
	char *end;

	errno = 0;
	options->address = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || *end || errno || !options->address) {
		ctl_complain("--%s %s: not a guest address", option->name,
			     text);
		return -EINVAL;
	}
	return 0;
}

static const struct ctl_option place_options[] = {
	{.name = "address",
	 .value = "GPA",
	 .parse = parse_address,
	 .help = "address of the device's shared memory region"},
	{.name = "qmp",
	 .value = "PATH",
	 .complete = "file",
	 .parse = ctl_parse_text,
	 .offset = offsetof(struct ctl_options, qmp),
	 .help = "get the address from QEMU's monitor; reset the machine\n"
		 "if the driver has read the device before"},
	{.name = "id",
	 .value = "ID",
	 .parse = ctl_parse_text,
	 .offset = offsetof(struct ctl_options, qmp_device),
	 .help = "with --qmp: QEMU's id of the device, if there are several"},
	{},
};

const struct ctl_command place_commands[] = {
	{.name = "place",
	 .scope = CTL_ONE_VMEMD,
	 .help = "set the guest address of memory that the VMM maps, before the\n"
		 "guest's driver reads the device",
	 .options = place_options,
	 .check = check_place,
	 .run = ctl_place},
	{},
};
