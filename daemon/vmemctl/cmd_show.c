// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl slots, blocks, consumers and watch: answers of vmemd as tables, or
 * unchanged with --json.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd_status.h"
#include "command_line.h"
#include "common/size.h"
#include "common/standard_fds.h"
#include "daemon_call.h"

static void print_slots(json_object *result)
{
	json_object *slots = answer_array(result, "slots");
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	char text[SIZE_TEXT_MAX];

	printf("%5s  %-18s %12s %12s %12s\n", "id", "guest address", "size",
	       "plugged", "metadata");
	for (size_t i = 0; i < answer_array_length(slots); i++) {
		json_object *slot = json_object_array_get_idx(slots, i);
		json_object *metadata = answer_object(slot, "metadata");

		strcpy(text, "not known");
		if (metadata)
			size_format(answer_size(metadata, "total"), text);
		/* With --backing vmm only the VMM knows the ids. */
		if (answer_has_size(slot, "id"))
			printf("%5" PRIu64, answer_size(slot, "id"));
		else
			printf("%5s", "-");
		printf("  0x%-16" PRIx64 " %12s %12s %12s%s\n",
		       answer_size(slot, "gpa"),
		       size_format(answer_size(slot, "size"), size),
		       size_format(answer_size(slot, "plugged_size"), plugged),
		       text, answer_bool(slot, "stale") ? "  stale" : "");
	}
}

static void print_blocks(json_object *result)
{
	json_object *runs = answer_array(result, "runs");
	uint64_t block_size = answer_size(result, "block_size");
	char size[SIZE_TEXT_MAX];

	printf("%-18s %12s %8s\n", "guest address", "size", "blocks");
	for (size_t i = 0; i < answer_array_length(runs); i++) {
		json_object *run = json_object_array_get_idx(runs, i);

		printf("0x%-16" PRIx64 " %12s %8" PRIu64 "\n",
		       answer_size(run, "gpa"),
		       size_format(answer_size(run, "size"), size),
		       block_size ? answer_size(run, "size") / block_size : 0);
	}
}

static const char *consumer_state(json_object *consumer)
{
	if (answer_bool(consumer, "away"))
		return "away, and may still map memory";
	if (!answer_bool(consumer, "subscribed"))
		return "populating";
	return answer_bool(consumer, "waiting") ? "has not answered yet"
						: "ready";
}

/* Room for a limit of 64 bits. */
#define LIMIT_TEXT_MAX 24

/* A limit that is not there is none. Return: @text. */
static const char *limit_text(json_object *consumer, const char *name,
			      char text[LIMIT_TEXT_MAX])
{
	uint64_t limit = answer_size(consumer, name);

	strcpy(text, "any");
	if (limit)
		snprintf(text, LIMIT_TEXT_MAX, "%" PRIu64, limit);
	return text;
}

static void print_consumers(json_object *result)
{
	json_object *consumers = answer_array(result, "consumers");
	char size[SIZE_TEXT_MAX], slots[LIMIT_TEXT_MAX];
	char mappings[LIMIT_TEXT_MAX];

	printf("%-24s %8s %8s %12s %8s %8s  %s\n", "name", "memslots",
	       "mappings", "mapped", "answers", "refusals", "state");
	for (size_t i = 0; i < answer_array_length(consumers); i++) {
		json_object *consumer = json_object_array_get_idx(consumers, i);

		printf("%-24s %8s %8s %12s %8" PRIu64 " %8" PRIu64 "  %s\n",
		       answer_text(consumer, "name"),
		       limit_text(consumer, "memslots", slots),
		       limit_text(consumer, "mappings", mappings),
		       size_format(answer_size(consumer, "populated_size"),
				   size),
		       answer_size(consumer, "answers"),
		       answer_size(consumer, "refusals"),
		       consumer_state(consumer));
	}
}

/* Print an event as one line of text. */
void show_print_event(json_object *event)
{
	char plugged[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	const char *failure = answer_text(event, "last_failure");
	const char *name = answer_text(event, "event");
	const char *device = answer_text(event, "device");

	if (*device)
		printf("%s: ", device);
	if (!strcmp(name, "lost")) {
		printf("%" PRIu64 " events lost\n",
		       answer_size(event, "count"));
	} else if (!strcmp(name, "state")) {
		printf("plugged %s of %s requested, %" PRIu64
		       " slots, %s%s%s\n",
		       size_format(answer_size(event, "plugged_size"), plugged),
		       size_format(answer_size(event, "requested_size"),
				   requested),
		       answer_size(event, "populated_slots"),
		       status_driver_text(event),
		       *failure ? ", last failure: " : "", failure);
	} else {
		puts(name);
	}
}

/* --- Commands --- */

/*
 * Call a method and print the result.
 *
 * @list: name of the array that vmemd returns in pages, NULL: none
 */
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
			ctl_print_json(result);
		else
			print(result);
		if (list && answer_has_size(result, "next")) {
			ctl_complain(
				"%s: the list is longer: only the first %zu "
				"are shown",
				options->control[0],
				answer_array_length(
					answer_array(result, list)));
			ret = -E2BIG;
		}
		json_object_put(result);
	}
	daemon_close(&daemon);
	return ret;
}

static int ctl_slots(const struct ctl_options *options)
{
	return show(options, "slots", "slots", print_slots);
}

static int ctl_blocks(const struct ctl_options *options)
{
	return show(options, "blocks", "runs", print_blocks);
}

static int ctl_consumers(const struct ctl_options *options)
{
	return show(options, "consumers", NULL, print_consumers);
}

static int ctl_watch(const struct ctl_options *options)
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
			ctl_print_json(object);
		else
			show_print_event(object);
		/* End if the reader of the output has gone. */
		ret = standard_output_flush();
	}
	daemon_close(&daemon);
	return ret;
}

const struct ctl_command show_commands[] = {
	{.name = "slots",
	 .scope = CTL_ONE_VMEMD,
	 .help = "memslots of the region that exist in KVM",
	 .run = ctl_slots},
	{.name = "blocks",
	 .scope = CTL_ONE_VMEMD,
	 .help = "plugged blocks, as runs",
	 .run = ctl_blocks},
	{.name = "consumers",
	 .scope = CTL_ONE_VMEMD,
	 .help = "consumers, which map the memory besides the guest",
	 .run = ctl_consumers},
	{.name = "watch",
	 .scope = CTL_ONE_VMEMD,
	 .help = "print a line whenever something changes, until stopped",
	 .run = ctl_watch},
	{},
};
