// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl top: the regions of all VMs of this host, what they hold and what they
 * save, looked at again and again. It asks the module, which knows them all, and
 * no vmemd.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "host_vm.h"
#include "size.h"
#include "vmem_nl.h"
#include "vmemctl.h"

/* Rows of a terminal that are not for regions: heads, the sum, the cursor. */
#define ROWS_BESIDES 4

/* Room for the time of day. */
#define TIME_TEXT_MAX 32

/**
 * struct regions - of the host
 * @regions: @nr of them, by their ids
 */
struct regions {
	struct vmem_nl_region *regions;
	size_t nr;
};

static int keep(const struct vmem_nl_region *region, void *arg)
{
	struct regions *all = arg;
	struct vmem_nl_region *grown;

	grown = reallocarray(all->regions, all->nr + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	all->regions = grown;
	all->regions[all->nr++] = *region;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct vmem_nl_region *left = a, *right = b;

	return (left->id > right->id) - (left->id < right->id);
}

static void free_regions(struct regions *all)
{
	free(all->regions);
	*all = (struct regions){0};
}

/* Not known of a VM that is just ending. */
static bool has_saved(const struct vmem_nl_region *region)
{
	return region->has_metadata && region->has_whole_metadata;
}

static json_object *region_to_json(const struct vmem_nl_region *region)
{
	json_object *object = json_object_new_object();
	char command[COMMAND_MAX];

	json_object_object_add(object, "region_id",
			       json_object_new_int64(region->id));
	json_object_object_add(object, "pid",
			       json_object_new_int64(region->pid));
	process_command((pid_t)region->pid, command);
	json_object_object_add(object, "command",
			       json_object_new_string(command));
	json_object_object_add(object, "region_size",
			       json_object_new_uint64(region->size));
	json_object_object_add(object, "requested_size",
			       json_object_new_uint64(region->requested_size));
	json_object_object_add(object, "plugged_size",
			       json_object_new_uint64(region->plugged_size));
	json_object_object_add(object, "populated_slots",
			       json_object_new_int64(region->populated_slots));
	json_object_object_add(object, "nr_slots",
			       json_object_new_int64(region->nr_slots));
	json_object_object_add(
		object, "metadata",
		region->has_metadata
			? json_object_new_uint64(region->metadata.total)
			: NULL);
	json_object_object_add(
		object, "saved",
		has_saved(region)
			? json_object_new_int64(
				  (int64_t)(region->whole_metadata.total -
					    region->metadata.total))
			: NULL);
	return object;
}

static void print_all_json(const struct regions *all)
{
	json_object *object = json_object_new_object();
	json_object *array = json_object_new_array();

	for (size_t i = 0; i < all->nr; i++)
		json_object_array_add(array, region_to_json(&all->regions[i]));
	json_object_object_add(object, "regions", array);
	print_json(object);
	json_object_put(object);
}

static void print_region(const struct vmem_nl_region *region)
{
	char size[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	char plugged[SIZE_TEXT_MAX], metadata[SIZE_TEXT_MAX] = "-";
	char less[SAVED_TEXT_MAX] = "-";
	char command[COMMAND_MAX];

	process_command((pid_t)region->pid, command);
	if (region->has_metadata)
		size_format(region->metadata.total, metadata);
	if (has_saved(region))
		saved_format(region->whole_metadata.total,
			     region->metadata.total, less);
	printf("%6" PRIu32 " %8" PRIu32 "  %-15.15s %10s %10s %10s %6" PRIu32
	       "/%-6" PRIu32 " %10s %10s\n",
	       region->id, region->pid, command,
	       size_format(region->size, size),
	       size_format(region->requested_size, requested),
	       size_format(region->plugged_size, plugged),
	       region->populated_slots, region->nr_slots, metadata, less);
}

static void print_sum(const struct regions *all)
{
	char size[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	char plugged[SIZE_TEXT_MAX], metadata[SIZE_TEXT_MAX];
	char less[SAVED_TEXT_MAX];
	struct vmem_nl_region sum = {0};
	uint64_t populated = 0, slots = 0;
	uint64_t whole = 0, held = 0;

	for (size_t i = 0; i < all->nr; i++) {
		const struct vmem_nl_region *r = &all->regions[i];

		sum.size += r->size;
		sum.requested_size += r->requested_size;
		sum.plugged_size += r->plugged_size;
		sum.metadata.total += r->metadata.total;
		populated += r->populated_slots;
		slots += r->nr_slots;
		if (has_saved(r)) {
			whole += r->whole_metadata.total;
			held += r->metadata.total;
		}
	}
	printf("%6zu %8s  %-15s %10s %10s %10s %6" PRIu64 "/%-6" PRIu64
	       " %10s %10s\n",
	       all->nr, "", "in all", size_format(sum.size, size),
	       size_format(sum.requested_size, requested),
	       size_format(sum.plugged_size, plugged), populated, slots,
	       size_format(sum.metadata.total, metadata),
	       saved_format(whole, held, less));
}

/* Those that a screen has room for, if there is one. */
static void print_all(const struct regions *all, bool screen)
{
	struct winsize window;
	size_t shown = all->nr;
	char text[TIME_TEXT_MAX];
	time_t now = time(NULL);
	struct tm tm;

	if (screen && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) &&
	    window.ws_row > ROWS_BESIDES &&
	    shown > (size_t)window.ws_row - ROWS_BESIDES)
		shown = window.ws_row - ROWS_BESIDES;
	if (screen) {
		localtime_r(&now, &tm);
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
		/* From the upper left corner, over what was there. */
		printf("\033[H\033[J%s  %zu regions%s\n", text, all->nr,
		       shown < all->nr ? ", more than fit" : "");
	}
	printf("%6s %8s  %-15s %10s %10s %10s %13s %10s %10s\n", "region",
	       "process", "command", "size", "requested", "plugged",
	       "populated", "metadata", "saved");
	for (size_t i = 0; i < shown; i++)
		print_region(&all->regions[i]);
	print_sum(all);
}

static int complain_of_module(int ret, const struct vmem_nl_error *err)
{
	if (ret == -EPERM)
		complain("top: looking at all regions takes CAP_NET_ADMIN, as "
			 "root has it");
	else
		complain("%s", err->text);
	return ret;
}

static int look(struct vmem_nl *nl, struct regions *all)
{
	struct vmem_nl_error err;
	int ret;

	free_regions(all);
	ret = vmem_nl_region_dump(nl, keep, all, &err);
	if (ret)
		return complain_of_module(ret, &err);
	if (all->nr)
		qsort(all->regions, all->nr, sizeof(*all->regions), by_id);
	return 0;
}

/* Until the next look. Return: false if nobody reads us any more. */
static bool pause_ms(int64_t ms)
{
	struct pollfd out = {.fd = STDOUT_FILENO};

	return poll(&out, 1, (int)ms) <= 0;
}

int ctl_top(const struct ctl_options *options)
{
	bool screen =
		isatty(STDOUT_FILENO) && !options->json && options->count != 1;
	/* Who is no terminal wants one look, if it does not say otherwise. */
	int count = options->count || screen || options->interval_ms
			    ? options->count
			    : 1;
	int64_t interval =
		options->interval_ms ? options->interval_ms : 2 * MSEC_PER_SEC;
	struct regions all = {0};
	struct vmem_nl_error err;
	struct vmem_nl *nl;
	int ret;

	ret = vmem_nl_open(&nl, &err);
	if (ret)
		return complain_of_module(ret, &err);
	for (int i = 0; !count || i < count; i++) {
		if (i && !pause_ms(interval))
			break;
		ret = look(nl, &all);
		if (ret)
			break;
		if (options->json)
			print_all_json(&all);
		else
			print_all(&all, screen);
		if (fflush(stdout))
			break;
	}
	free_regions(&all);
	vmem_nl_close(nl);
	return ret;
}
