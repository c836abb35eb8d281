// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl status, slots, blocks, consumers and watch: what a vmemd says, as tables for
 * people, or with --json as it said it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "size.h"
#include "vmemctl_daemon.h"

static void print_size(const char *label, uint64_t size)
{
	char text[SIZE_TEXT_MAX];

	printf("%-18s %12s\n", label, size_format(size, text));
}

/* Requests that were not acknowledged, and how many were. */
static void print_requests(json_object *requests)
{
	json_object_object_foreach(requests, name, answers)
	{
		printf("%-18s %8" PRIu64 " ack %6" PRIu64 " nack %6" PRIu64
		       " busy %6" PRIu64 " error\n",
		       name, get_size(answers, "ack"),
		       get_size(answers, "nack"), get_size(answers, "busy"),
		       get_size(answers, "error"));
	}
}

static const char *driver_text(json_object *driver)
{
	if (!get_bool(driver, "connected"))
		return "no VMM connected";
	if (get_bool(driver, "broken"))
		return "broke its queue";
	return get_bool(driver, "ready") ? "ready" : "not ready";
}

static void print_metadata(json_object *metadata)
{
	if (!metadata) {
		printf("%-18s %12s\n", "metadata", "not known");
		return;
	}
	print_size("metadata", get_size(metadata, "total"));
	print_size("  memslot", get_size(metadata, "memslot"));
	print_size("  rmap", get_size(metadata, "rmap"));
	print_size("  lpage_info", get_size(metadata, "lpage_info"));
	print_size("  gfn_track", get_size(metadata, "gfn_track"));
	print_size("  dirty_bitmap", get_size(metadata, "dirty_bitmap"));
}

/* Less than as one memslot; more, where all is plugged. */
static void print_saved(json_object *status)
{
	json_object *metadata = get_object(status, "metadata");
	json_object *whole = get_object(status, "whole_metadata");
	char text[SAVED_TEXT_MAX];

	if (metadata && whole)
		printf("%-18s %12s\n", "  saved",
		       saved_format(get_size(whole, "total"),
				    get_size(metadata, "total"), text));
}

/* Why the memslots are as they are, and what they cost when all is plugged. */
static void print_budget(json_object *budget)
{
	char all[SIZE_TEXT_MAX], nested[SIZE_TEXT_MAX];

	if (!budget)
		return;
	printf("%-18s   %s\n", "  chosen", get_text(budget, "reason"));
	printf("%-18s %12s, nested guests %s\n", "  when all plugged",
	       size_format(get_size(budget, "metadata"), all),
	       size_format(get_size(budget, "metadata_nested"), nested));
}

/* Of which kind, how KVM maps it, and how much there is. */
static void print_memory(json_object *status)
{
	uint64_t mapped = get_size(status, "map_size");
	uint64_t excess = get_size(status, "excess_size");
	char page[SIZE_TEXT_MAX], map[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];

	printf("%-18s   %s, pages of %s, mapped by %s at most%s%s\n", "memory",
	       get_text(status, "memory"),
	       size_format(get_size(status, "page_size"), page),
	       size_format(mapped, map),
	       mapped < get_size(status, "map_size_wanted")
		       ? ": addresses or memslots do not fit"
		       : "",
	       get_bool(status, "prealloc") ? ", allocated before" : "");
	print_size("  resident", get_size(status, "resident_size"));
	if (excess)
		print_size("  beyond plugged", excess);
	if (get_size(status, "punches"))
		printf("%-18s %12s, %" PRIu64 " times more than the cap\n",
		       "  taken back",
		       size_format(get_size(status, "punched_size"), size),
		       get_size(status, "punches"));
}

static void print_migration(json_object *status)
{
	time_t since = (time_t)get_size(status, "held_since");
	char text[32] = "";
	struct tm tm;

	if (get_bool(status, "dirty_log"))
		printf("%-18s %12s\n", "dirty logging", "on");
	if (!get_bool(status, "held"))
		return;
	if (localtime_r(&since, &tm))
		strftime(text, sizeof(text), "%F %T", &tm);
	printf("%-18s %12s since %s: nothing is plugged or unplugged\n", "held",
	       "", text);
}

static void print_device(json_object *status)
{
	const char *failure = get_text(status, "last_failure");
	const char *device = get_text(status, "device");

	if (*device)
		printf("%-18s %8s %s\n", "device", "", device);
	if (get_object(status, "gpa"))
		printf("%-18s   0x%" PRIx64 "\n", "guest address",
		       get_size(status, "gpa"));
	else
		printf("%-18s   %s\n", "guest address", "not told yet");
	print_size("region", get_size(status, "region_size"));
	print_size("block", get_size(status, "block_size"));
	print_size("slot", get_size(status, "slot_size"));
	print_size("usable", get_size(status, "usable_region_size"));
	print_size("requested", get_size(status, "requested_size"));
	print_size("plugged", get_size(status, "plugged_size"));
	print_memory(status);
	printf("%-18s %8" PRIu64 " of %" PRIu64 "%s\n", "populated slots",
	       get_size(status, "populated_slots"),
	       get_size(status, "nr_slots"),
	       get_size(status, "address_spaces") & 2
		       ? ", in two address spaces"
		       : "");
	print_budget(get_object(status, "budget"));
	print_metadata(get_object(status, "metadata"));
	print_saved(status);
	print_migration(status);
	printf("%-18s %8s %s\n", "driver", "",
	       driver_text(get_object(status, "driver")));
	printf("%-18s %8" PRIu64 "\n", "VMM process",
	       get_size(status, "vmm_pid"));
	print_requests(get_object(status, "requests"));
	if (*failure)
		printf("%-18s %s\n", "last failure", failure);
	if (get_bool(status, "given_back"))
		printf("%-18s %s\n", "guest",
		       "gives back at once what it plugs");
}

/* One, or one after the other. */
static void print_status(json_object *status)
{
	json_object *devices = get_object(status, "devices");

	if (!devices) {
		print_device(status);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		if (i)
			putchar('\n');
		if (get_bool(device, "attached"))
			print_device(device);
		else
			printf("%-18s %8s %s\n%-18s %8s no region yet\n",
			       "device", "", get_text(device, "device"),
			       "region", "");
	}
}

static void print_slots(json_object *result)
{
	json_object *slots = get_object(result, "slots");
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	char text[SIZE_TEXT_MAX];

	printf("%5s  %-18s %12s %12s %12s\n", "id", "guest address", "size",
	       "plugged", "metadata");
	for (size_t i = 0; i < json_object_array_length(slots); i++) {
		json_object *slot = json_object_array_get_idx(slots, i);
		json_object *metadata = get_object(slot, "metadata");

		strcpy(text, "not known");
		if (metadata)
			size_format(get_size(metadata, "total"), text);
		/* The VMM's memslots have ids that only it knows. */
		if (get_object(slot, "id"))
			printf("%5" PRIu64, get_size(slot, "id"));
		else
			printf("%5s", "-");
		printf("  0x%-16" PRIx64 " %12s %12s %12s%s\n",
		       get_size(slot, "gpa"),
		       size_format(get_size(slot, "size"), size),
		       size_format(get_size(slot, "plugged_size"), plugged),
		       text, get_bool(slot, "stale") ? "  stale" : "");
	}
}

static void print_blocks(json_object *result)
{
	json_object *runs = get_object(result, "runs");
	uint64_t block_size = get_size(result, "block_size");
	char size[SIZE_TEXT_MAX];

	printf("%-18s %12s %8s\n", "guest address", "size", "blocks");
	for (size_t i = 0; i < json_object_array_length(runs); i++) {
		json_object *run = json_object_array_get_idx(runs, i);

		printf("0x%-16" PRIx64 " %12s %8" PRIu64 "\n",
		       get_size(run, "gpa"),
		       size_format(get_size(run, "size"), size),
		       block_size ? get_size(run, "size") / block_size : 0);
	}
}

static const char *consumer_state(json_object *consumer)
{
	if (!get_bool(consumer, "subscribed"))
		return "being told what is there";
	return get_bool(consumer, "waiting") ? "has not answered yet" : "ready";
}

static void print_consumers(json_object *result)
{
	json_object *consumers = get_object(result, "consumers");
	char size[SIZE_TEXT_MAX], limit[24];

	printf("%-24s %8s %12s %8s %8s  %s\n", "name", "memslots", "mapped",
	       "answers", "refusals", "state");
	for (size_t i = 0; i < json_object_array_length(consumers); i++) {
		json_object *consumer = json_object_array_get_idx(consumers, i);

		strcpy(limit, "any");
		if (get_size(consumer, "memslots"))
			snprintf(limit, sizeof(limit), "%" PRIu64,
				 get_size(consumer, "memslots"));
		printf("%-24s %8s %12s %8" PRIu64 " %8" PRIu64 "  %s\n",
		       get_text(consumer, "name"), limit,
		       size_format(get_size(consumer, "populated_size"), size),
		       get_size(consumer, "answers"),
		       get_size(consumer, "refusals"),
		       consumer_state(consumer));
	}
}

/* An event as a line. */
void print_event(json_object *event)
{
	char plugged[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	const char *failure = get_text(event, "last_failure");
	const char *name = get_text(event, "event");
	const char *device = get_text(event, "device");

	if (*device)
		printf("%s: ", device);
	if (!strcmp(name, "lost")) {
		printf("%" PRIu64 " events lost\n", get_size(event, "count"));
	} else if (!strcmp(name, "state")) {
		printf("plugged %s of %s requested, %" PRIu64
		       " slots, %s%s%s\n",
		       size_format(get_size(event, "plugged_size"), plugged),
		       size_format(get_size(event, "requested_size"),
				   requested),
		       get_size(event, "populated_slots"), driver_text(event),
		       *failure ? ", last failure: " : "", failure);
	} else {
		puts(name);
	}
	fflush(stdout);
}

/* --- Commands --- */

/* @list: the name of what comes in pages */
static int show(const struct ctl_options *options, const char *method,
		const char *list, void (*print)(json_object *result))
{
	json_object *result;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret)
		ret = list ? daemon_call_pages(&daemon, method, list, &result)
			   : daemon_call(&daemon, method, NULL, &result);
	if (!ret) {
		if (options->json)
			print_json(result);
		else
			print(result);
		json_object_put(result);
	}
	daemon_close(&daemon);
	return ret;
}

int ctl_status(const struct ctl_options *options)
{
	return show(options, "status", NULL, print_status);
}

int ctl_slots(const struct ctl_options *options)
{
	return show(options, "slots", "slots", print_slots);
}

int ctl_blocks(const struct ctl_options *options)
{
	return show(options, "blocks", "runs", print_blocks);
}

int ctl_consumers(const struct ctl_options *options)
{
	return show(options, "consumers", NULL, print_consumers);
}

int ctl_watch(const struct ctl_options *options)
{
	json_object *object;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret)
		ret = daemon_call(&daemon, "watch", NULL, &object);
	while (!ret) {
		json_object_put(object);
		ret = daemon_read(&daemon, -1, &object);
		if (ret)
			break;
		if (options->json)
			print_json(object);
		else
			print_event(object);
	}
	daemon_close(&daemon);
	return ret;
}
