// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl status: the state of the devices of a vmemd, as text. With --json,
 * the object has the same form for any number of devices, and a member that
 * vmemd does not report is null.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd_status.h"
#include "command_line.h"
#include "common/json_member.h"
#include "common/size.h"
#include "daemon_call.h"

/* Version of the module, in sysfs. */
#define MODULE_VERSION_PATH "/sys/module/kvm_vmem/version"

/* Buffer size for a version. */
#define VERSION_MAX 64

/* Members of each device; null if vmemd does not report them. */
static const char *const members[] = {
	"device",
	"attached",
	"backing",
	"region_id",
	"gpa",
	"region_size",
	"block_size",
	"slot_size",
	"usable_region_size",
	"requested_size",
	"plugged_size",
	"nr_slots",
	"first_slot",
	"populated_slots",
	"address_spaces",
	"dirty_log",
	"budget",
	"metadata",
	"whole_metadata",
	"zap_ranges",
	"range_zaps",
	"zaps_by_kvm",
	"memory",
	"page_size",
	"resident_size",
	"excess_size",
	"unplugged_cap",
	"punches",
	"punched_size",
	"map_size",
	"map_size_wanted",
	"prealloc",
	"vmm_pid",
	"node",
	"driver",
	"requests",
	"last_failure",
	"held",
	"held_since",
	"given_back",
	"undiscarded_size",
	"asked_early",
	"state_lost",
};

/* --- The status as an object --- */

/* The version of the loaded module; NULL: not loaded. */
static json_object *module_version(void)
{
	FILE *f = fopen(MODULE_VERSION_PATH, "re");
	char version[VERSION_MAX];
	json_object *object = NULL;

	if (!f)
		return NULL;
	if (fgets(version, sizeof(version), f)) {
		version[strcspn(version, "\n")] = '\0';
		object = json_object_new_string(version);
	}
	fclose(f);
	return object;
}

/* Add a device with all members; takes over the reference to @device. */
static void add_device(json_object *devices, json_object *device, bool attached)
{
	json_object *value;

	if (!json_object_object_get_ex(device, "attached", &value))
		json_add_bool(device, "attached", attached);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (!json_object_object_get_ex(device, members[i], &value))
			json_object_object_add(device, members[i], NULL);
	json_object_array_add(devices, device);
}

/**
 * status_new() - make the status object of a vmemd
 * @result: answer to "status"; the function takes over the reference
 *
 * Return: an object with "version", "module_version" and the array "devices",
 * whose elements have all members.
 */
json_object *status_new(json_object *result)
{
	json_object *status = json_object_new_object();
	json_object *devices = json_object_new_array();
	json_object *several = answer_array(result, "devices");
	json_object *version = NULL;

	if (json_object_object_get_ex(result, "version", &version))
		json_object_get(version);
	json_object_object_add(status, "version", version);
	json_object_object_add(status, "module_version", module_version());
	json_object_object_add(status, "devices", devices);
	if (!several) {
		/* With a single device the result is that device. */
		json_object_object_del(result, "version");
		add_device(devices, result, true);
		return status;
	}
	for (size_t i = 0; i < answer_array_length(several); i++) {
		json_object *device = json_object_array_get_idx(several, i);

		if (json_object_is_type(device, json_type_object))
			add_device(devices, json_object_get(device), true);
	}
	json_object_put(result);
	return status;
}

/**
 * status_ask() - get the status of a vmemd
 * @daemon: the connection
 * @status: out: as from status_new(), owned by the caller
 *
 * Return: as daemon_call().
 */
int status_ask(struct daemon *daemon, json_object **status)
{
	json_object *result;
	int ret;

	ret = daemon_call(daemon, "status", NULL, &result);
	if (ret)
		return ret;
	if (answer_array_length(answer_array(result, "devices")) >
	    DAEMON_DEVICES_MAX) {
		json_object_put(result);
		return daemon_not_vmemd(daemon);
	}
	*status = status_new(result);
	return 0;
}

/* --- The status as text --- */

/* Print a size, or "not known". */
static void print_size(const char *label, json_object *object, const char *name)
{
	char text[SIZE_TEXT_MAX] = "not known";

	if (answer_has_size(object, name))
		size_format(answer_size(object, name), text);
	printf("%-18s %12s\n", label, text);
}

/* Print the numbers of answers to one kind of request. */
static void print_request(const char *name, json_object *answers,
			  void *arg __attribute__((unused)))
{
	printf("%-18s %8" PRIu64 " ack %6" PRIu64 " nack %6" PRIu64
	       " busy %6" PRIu64 " error\n",
	       name, answer_size(answers, "ack"), answer_size(answers, "nack"),
	       answer_size(answers, "busy"), answer_size(answers, "error"));
}

/* Describe the object "driver" of a status, or an event. */
const char *status_driver_text(json_object *driver)
{
	if (!answer_bool(driver, "connected"))
		return "no VMM connected";
	if (answer_bool(driver, "broken"))
		return "broke its queue";
	return answer_bool(driver, "ready") ? "ready" : "not ready";
}

static void print_metadata(json_object *metadata)
{
	if (!metadata) {
		printf("%-18s %12s\n", "metadata", "not known");
		return;
	}
	print_size("metadata", metadata, "total");
	print_size("  memslot", metadata, "memslot");
	print_size("  rmap", metadata, "rmap");
	print_size("  lpage_info", metadata, "lpage_info");
	print_size("  gfn_track", metadata, "gfn_track");
	print_size("  dirty_bitmap", metadata, "dirty_bitmap");
}

/* Print the difference to one memslot; negative if almost all is plugged. */
static void print_saved(json_object *status)
{
	json_object *metadata = answer_object(status, "metadata");
	json_object *whole = answer_object(status, "whole_metadata");
	char text[SAVED_TEXT_MAX];

	if (metadata && whole)
		printf("%-18s %12s\n", "  saved",
		       ctl_format_saved(answer_size(whole, "total"),
					answer_size(metadata, "total"), text));
}

/* Print the reason for the memslot size, and the metadata if all is plugged. */
static void print_budget(json_object *budget)
{
	char all[SIZE_TEXT_MAX], nested[SIZE_TEXT_MAX];

	if (!budget)
		return;
	printf("%-18s   %s\n", "  chosen", answer_text(budget, "reason"));
	printf("%-18s %12s, nested guests %s\n", "  when all plugged",
	       size_format(answer_size(budget, "metadata"), all),
	       size_format(answer_size(budget, "metadata_nested"), nested));
}

/* Print the kind of memory, its mapping in KVM, and its resident size. */
static void print_memory(json_object *status)
{
	uint64_t mapped = answer_size(status, "map_size");
	char page[SIZE_TEXT_MAX], map[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];

	printf("%-18s   %s, pages of %s", "memory",
	       answer_text(status, "memory"),
	       size_format(answer_size(status, "page_size"), page));
	/* With --backing vmm the mapping is not known. */
	if (mapped)
		printf(", mapped by %s at most%s", size_format(mapped, map),
		       mapped < answer_size(status, "map_size_wanted")
			       ? ": addresses or memslots do not fit"
			       : "");
	puts(answer_bool(status, "prealloc") ? ", allocated before" : "");
	print_size("  resident", status, "resident_size");
	if (answer_size(status, "excess_size"))
		print_size("  beyond plugged", status, "excess_size");
	if (answer_size(status, "punches"))
		printf("%-18s %12s, %" PRIu64 " times above the cap\n",
		       "  taken back",
		       size_format(answer_size(status, "punched_size"), size),
		       answer_size(status, "punches"));
}

/*
 * Print the number of batches that deleted memslots: those that dropped only
 * the mappings of these memslots, and those in which KVM dropped all mappings.
 */
static void print_zaps(json_object *status)
{
	if (!answer_has_size(status, "range_zaps"))
		return;
	printf("%-18s %12" PRIu64 " of deleted memslots only%s, %" PRIu64
	       " of all memory\n",
	       "batches with zaps", answer_size(status, "range_zaps"),
	       answer_bool(status, "zap_ranges") ? "" : " (not asked for)",
	       answer_size(status, "zaps_by_kvm"));
}

static void print_migration(json_object *status)
{
	time_t since = (time_t)answer_size(status, "held_since");
	char text[32] = "an unknown time";
	struct tm tm;

	if (answer_bool(status, "dirty_log"))
		printf("%-18s %12s\n", "dirty logging", "on");
	if (!answer_bool(status, "held"))
		return;
	if (since && localtime_r(&since, &tm))
		strftime(text, sizeof(text), "%F %T", &tm);
	printf("%-18s %12s since %s: nothing is plugged or unplugged\n", "held",
	       "", text);
}

static void print_device(json_object *status)
{
	const char *failure = answer_text(status, "last_failure");
	const char *device = answer_text(status, "device");

	if (*device)
		printf("%-18s %8s %s\n", "device", "", device);
	if (answer_has_size(status, "gpa"))
		printf("%-18s   0x%" PRIx64 "\n", "guest address",
		       answer_size(status, "gpa"));
	else
		printf("%-18s   %s\n", "guest address", "not set yet");
	print_size("region", status, "region_size");
	print_size("block", status, "block_size");
	print_size("slot", status, "slot_size");
	print_size("usable", status, "usable_region_size");
	print_size("requested", status, "requested_size");
	print_size("plugged", status, "plugged_size");
	print_memory(status);
	printf("%-18s %8" PRIu64 " of %" PRIu64 "%s\n", "populated slots",
	       answer_size(status, "populated_slots"),
	       answer_size(status, "nr_slots"),
	       answer_size(status, "address_spaces") & 2
		       ? ", in two address spaces"
		       : "");
	print_budget(answer_object(status, "budget"));
	print_metadata(answer_object(status, "metadata"));
	print_saved(status);
	print_zaps(status);
	print_migration(status);
	printf("%-18s %8s %s\n", "driver", "",
	       status_driver_text(answer_object(status, "driver")));
	if (answer_size(status, "vmm_pid"))
		printf("%-18s %8" PRIu64 "\n", "VMM process",
		       answer_size(status, "vmm_pid"));
	else
		printf("%-18s %12s\n", "VMM process", "not known");
	answer_each_member(answer_object(status, "requests"), print_request,
			   NULL);
	if (*failure)
		printf("%-18s %s\n", "last failure", failure);
	if (answer_bool(status, "state_lost"))
		printf("%-18s %s\n", "state lost",
		       "the plugged size is an upper bound; nothing is plugged "
		       "or unplugged until the guest unplugs all or is reset");
	if (answer_bool(status, "given_back"))
		printf("%-18s %s\n", "guest",
		       "gives back at once what it plugs");
}

/* Print the versions, then each device. */
static void print_status(json_object *status)
{
	json_object *devices = answer_array(status, "devices");
	const char *version = answer_text(status, "version");
	const char *module = answer_text(status, "module_version");

	printf("%-18s %12s\n", "vmemd", *version ? version : "not known");
	printf("%-18s %12s\n", "kvm_vmem", *module ? module : "not loaded");
	for (size_t i = 0; i < answer_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		if (answer_array_length(devices) > 1)
			putchar('\n');
		if (answer_bool(device, "attached"))
			print_device(device);
		else
			printf("%-18s %8s %s\n%-18s %8s no region yet\n",
			       "device", "", answer_text(device, "device"),
			       "region", "");
	}
}

static int ctl_status(const struct ctl_options *options)
{
	json_object *status;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret)
		ret = status_ask(&daemon, &status);
	if (!ret) {
		if (options->json)
			ctl_print_json(status);
		else
			print_status(status);
		json_object_put(status);
	}
	daemon_close(&daemon);
	return ret;
}

const struct ctl_command status_commands[] = {
	{.name = "status",
	 .scope = CTL_ONE_VMEMD,
	 .help = "sizes, memslots and their metadata",
	 .run = ctl_status},
	{},
};
