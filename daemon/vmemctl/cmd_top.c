// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl top: the regions of all VMs of this host, their metadata and what
 * they save, updated periodically. The module reports all regions; no vmemd is
 * called.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command_line.h"
#include "common/clocks.h"
#include "common/json_member.h"
#include "common/size.h"
#include "common/standard_fds.h"
#include "common/vmem_nl.h"
#include "host_vm.h"
#include "screen.h"
#include "table.h"

/* Rows of the screen that show no region: headings, the sum, the cursor. */
#define ROWS_BESIDES 4

static const struct table_column columns[] = {
	{.head = "region", .width = 6},
	{.head = "process", .width = 8, .rank = 3},
	{.head = " command", .width = 16, .rank = 4, .text = true},
	{.head = "size", .width = 10, .rank = 5},
	{.head = "requested", .width = 10, .rank = 2},
	{.head = "plugged", .width = 10},
	{.head = "populated", .width = 13, .rank = 6},
	{.head = "metadata", .width = 10},
	{.head = "saved", .width = 10, .rank = 1},
};

/* The column that has "in all" in the row of the sum. */
#define COMMAND_COLUMN 2

#define NR_COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* Buffer size for a cell of "populated", and for a command with a blank. */
#define CELL_MAX 48

/* Buffer size for the time of day. */
#define TIME_TEXT_MAX 32

/**
 * struct regions - the regions of the host
 * @regions: the regions, sorted by id
 * @nr: number of regions
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

/* The metadata of a VM that is ending is not known. */
static bool has_saved(const struct vmem_nl_region *region)
{
	return region->has_metadata && region->has_whole_metadata;
}

static json_object *region_to_json(const struct vmem_nl_region *region)
{
	json_object *object = json_object_new_object();
	char command[COMMAND_MAX];

	json_add_size(object, "region_id", region->id);
	json_object_object_add(object, "pid",
			       json_object_new_int64(region->pid));
	host_vm_command((pid_t)region->pid, command);
	json_add_text(object, "command", command);
	json_add_size(object, "region_size", region->size);
	json_add_size(object, "requested_size", region->requested_size);
	json_add_size(object, "plugged_size", region->plugged_size);
	json_add_size(object, "populated_slots", region->populated_slots);
	json_add_size(object, "nr_slots", region->nr_slots);
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
	ctl_print_json(object);
	json_object_put(object);
}

/* Print a line of numbers, for a region or for the sum. */
static void print_line(const struct table *table, const char *id,
		       const char *pid, const char *command,
		       const struct vmem_nl_region *r, uint64_t populated,
		       uint64_t slots, const char *saved)
{
	char size[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	char plugged[SIZE_TEXT_MAX], metadata[SIZE_TEXT_MAX] = "-";
	char slots_cell[CELL_MAX], command_cell[CELL_MAX];

	if (r->has_metadata)
		size_format(r->metadata.total, metadata);
	snprintf(slots_cell, sizeof(slots_cell), "%" PRIu64 "/%-6" PRIu64,
		 populated, slots);
	snprintf(command_cell, sizeof(command_cell), " %s", command);
	table_row(table, (const char *[NR_COLUMNS]){
				 id,
				 pid,
				 command_cell,
				 size_format(r->size, size),
				 size_format(r->requested_size, requested),
				 size_format(r->plugged_size, plugged),
				 slots_cell,
				 metadata,
				 saved,
			 });
}

static void print_region(const struct table *table,
			 const struct vmem_nl_region *region)
{
	char less[SAVED_TEXT_MAX] = "-", id[16], pid[16];
	char command[COMMAND_MAX];

	host_vm_command((pid_t)region->pid, command);
	if (has_saved(region))
		ctl_format_saved(region->whole_metadata.total,
				 region->metadata.total, less);
	snprintf(id, sizeof(id), "%" PRIu32, region->id);
	snprintf(pid, sizeof(pid), "%" PRIu32, region->pid);
	print_line(table, id, pid, command, region, region->populated_slots,
		   region->nr_slots, less);
}

static void print_sum(const struct table *table, const struct regions *all)
{
	struct vmem_nl_region sum = {.has_metadata = true};
	uint64_t populated = 0, slots = 0;
	uint64_t whole = 0, held = 0;
	char less[SAVED_TEXT_MAX], number[24];

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
	snprintf(number, sizeof(number), "%zu", all->nr);
	/* Mark the sum if the column that says "in all" is not shown. */
	if (!(table->shown & (1U << COMMAND_COLUMN)))
		strcpy(number, "all");
	print_line(table, number, "", "in all", &sum, populated, slots,
		   ctl_format_saved(whole, held, less));
}

static void print_clock(const struct regions *all, size_t shown,
			unsigned int columns_there)
{
	char text[TIME_TEXT_MAX] = "--:--:--";
	char line[TIME_TEXT_MAX + 64];
	uint64_t seconds = 0;
	struct tm tm;
	time_t now;

	if (!clock_realtime_s(&seconds)) {
		now = (time_t)seconds;
		if (localtime_r(&now, &tm))
			strftime(text, sizeof(text), "%H:%M:%S", &tm);
	}
	snprintf(line, sizeof(line), "%s  %zu regions%s", text, all->nr,
		 shown < all->nr ? ", more than fit" : "");
	/* Move to the upper left corner and clear the screen. */
	printf("\033[H\033[J%.*s\n", (int)columns_there - 1, line);
}

/* Print the regions that fit on the screen; all if @screen is NULL. */
static void print_all(const struct regions *all, struct screen *screen)
{
	size_t shown = all->nr;
	struct table table;

	if (screen) {
		size_t room = screen->rows > ROWS_BESIDES
				      ? screen->rows - ROWS_BESIDES
				      : 0;

		if (shown > room)
			shown = room;
		print_clock(all, shown, screen->columns);
	}
	table_init(&table, columns, NR_COLUMNS,
		   screen ? screen->columns - 1 : 0);
	table_head(&table);
	for (size_t i = 0; i < shown; i++)
		print_region(&table, &all->regions[i]);
	print_sum(&table, all);
}

static int complain_of_module(int ret, const struct error *err)
{
	if (ret == -EPERM)
		ctl_complain(
			"top: reading all regions needs CAP_NET_ADMIN, which "
			"root has on the host, outside of containers");
	else
		ctl_complain("%s", err->text);
	return ret;
}

static int look(struct vmem_nl *nl, struct regions *all)
{
	struct error err;
	int ret;

	free_regions(all);
	ret = vmem_nl_region_dump(nl, keep, all, &err);
	if (ret)
		return complain_of_module(ret, &err);
	if (all->nr)
		qsort(all->regions, all->nr, sizeof(*all->regions), by_id);
	return 0;
}

/*
 * Wait until the next update. Draw the regions again if the size of the
 * terminal changes.
 *
 * Return: false if the reader of the output has gone.
 */
static bool pause_ms(int64_t ms, const struct regions *all,
		     struct screen *screen)
{
	int64_t until = ctl_now_ms() + ms, left = ms;
	struct pollfd pfds[] = {
		{.fd = STDOUT_FILENO},
		{.fd = screen ? screen->resize_fd : -1, .events = POLLIN},
	};

	for (; left > 0; left = until - ctl_now_ms()) {
		if (poll(pfds, 2, (int)left) <= 0)
			continue;
		if (!pfds[1].revents)
			return false;
		screen_resized(screen);
		print_all(all, screen);
		if (standard_output_flush())
			return false;
	}
	return true;
}

static int ctl_top(const struct ctl_options *options)
{
	bool on_screen =
		isatty(STDOUT_FILENO) && !options->json && options->count != 1;
	struct screen terminal = {.resize_fd = -1};
	struct screen *screen = on_screen ? &terminal : NULL;
	/* Without a terminal, the default is a single update. */
	int count = options->count || on_screen || options->interval_ms
			    ? options->count
			    : 1;
	int64_t interval =
		options->interval_ms ? options->interval_ms : 2 * MSEC_PER_SEC;
	struct regions all = {0};
	struct error err;
	struct vmem_nl *nl;
	int ret;

	ret = vmem_nl_open(&nl, &err);
	if (ret)
		return complain_of_module(ret, &err);
	if (screen)
		screen_open(screen);
	for (int i = 0; !count || i < count; i++) {
		if (i && !pause_ms(interval, &all, screen))
			break;
		ret = look(nl, &all);
		if (ret)
			break;
		if (options->json)
			print_all_json(&all);
		else
			print_all(&all, screen);
		if (standard_output_flush())
			break;
	}
	screen_close(&terminal);
	free_regions(&all);
	vmem_nl_close(nl);
	return ret;
}

static const struct ctl_option top_options[] = {
	{.name = "interval",
	 .value = "S",
	 .parse = ctl_parse_seconds,
	 .offset = offsetof(struct ctl_options, interval_ms),
	 .help = "update every S seconds; default: 2"},
	{.name = "count",
	 .value = "N",
	 .parse = ctl_parse_number,
	 .offset = offsetof(struct ctl_options, count),
	 .least = 1,
	 .help = "stop after N updates"},
	{},
};

const struct ctl_command top_commands[] = {
	{.name = "top",
	 .help = "the regions of all VMs of this host and what they save, updated\n"
		 "periodically on a terminal; without vmemd",
	 .options = top_options,
	 .run = ctl_top},
	{},
};
