// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl resize: set the requested size. With --wait, wait until the guest has
 * reached it, and show the progress: a bar on a terminal, otherwise a line for
 * each event.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd_status.h"
#include "command_line.h"
#include "common/json_member.h"
#include "common/size.h"
#include "common/standard_fds.h"
#include "screen.h"

/* Time without progress after which the reason is shown. */
#define STALL_MS (3 * MSEC_PER_SEC)

/* Maximum and minimum width of the bar, in characters. */
#define BAR_WIDTH 24
#define BAR_LEAST 4

/* Characters around the bar. */
#define BAR_FRAME 3

/* Buffer size for the text beside the bar; a longer text is cut. */
#define LINE_TEXT_MAX 512

/**
 * struct progress - progress of a resize
 * @size: the requested size
 * @start: plugged size at the first event
 * @known: an event has arrived
 * @last: the last event
 * @plugged: plugged size at the last event
 * @since_ms: time since when @plugged has not changed
 * @told: the reason for the present stall was shown
 * @bar: show a bar on @screen
 * @screen: the terminal
 * @json: print events as JSON
 */
struct progress {
	uint64_t size;
	uint64_t start;
	bool known;
	json_object *last;
	uint64_t plugged;
	int64_t since_ms;
	bool told;
	bool bar;
	struct screen screen;
	bool json;
};

/* The reason why the guest has not reached the requested size. */
static const char *stall_reason(json_object *event, uint64_t size)
{
	const char *failure = answer_text(event, "last_failure");

	if (!event)
		return "vmemd reports nothing";
	if (!answer_bool(event, "connected"))
		return "no VMM is connected to vmemd";
	if (!answer_bool(event, "ready"))
		return "the guest has no virtio_mem driver that is ready";
	if (answer_bool(event, "state_lost"))
		return "vmemd's state was lost: the guest must unplug all, or "
		       "be reset";
	if (*failure)
		return failure;
	if (answer_size(event, "plugged_size") > size)
		return "the guest cannot give back memory that is in use";
	if (answer_bool(event, "given_back"))
		return "the guest gives back at once what it plugs, as if it "
		       "lacks memory for page structures: 1/64 of the size";
	return "the guest does not plug more";
}

/* The part of @width that is done. */
static unsigned int filled(const struct progress *progress, unsigned int width)
{
	uint64_t from = progress->start, to = progress->size;
	uint64_t at = progress->plugged, all, done;

	all = from < to ? to - from : from - to;
	/* The guest may also move away from the requested size. */
	if (from < to)
		done = at > from ? at - from : 0;
	else
		done = at < from ? from - at : 0;
	if (done > all)
		done = all;
	return all ? (unsigned int)((double)done / (double)all * width) : width;
}

/* The width of the bar is the rest of the line, after the text. */
static void print_bar(struct progress *progress)
{
	char plugged[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];
	char words[LINE_TEXT_MAX];
	char line[LINE_TEXT_MAX + 2 * BAR_WIDTH + BAR_FRAME + 1];
	const char *reason =
		progress->told ? stall_reason(progress->last, progress->size)
			       : NULL;
	unsigned int columns = progress->screen.columns, width;
	int length;

	length = snprintf(words, sizeof(words), "%s of %s%s%s",
			  size_format(progress->plugged, plugged),
			  size_format(progress->size, size), reason ? ": " : "",
			  reason ? reason : "");
	width = columns > (unsigned int)length + BAR_FRAME
			? columns - (unsigned int)length - BAR_FRAME - 1
			: 0;
	if (width > BAR_WIDTH)
		width = BAR_WIDTH;
	if (width < BAR_LEAST) {
		screen_line(&progress->screen, words);
		return;
	}
	snprintf(line, sizeof(line), "[%.*s%.*s] %s",
		 (int)filled(progress, width), "########################",
		 (int)(width - filled(progress, width)),
		 "........................", words);
	screen_line(&progress->screen, line);
}

static void complain_of_stall(const struct progress *progress)
{
	char plugged[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];

	ctl_complain("stalled at %s of %s: %s",
		     size_format(progress->plugged, plugged),
		     size_format(progress->size, size),
		     stall_reason(progress->last, progress->size));
}

/* Show the reason if there was no progress for STALL_MS. */
static void note_stall(struct progress *progress)
{
	if (progress->told || ctl_now_ms() - progress->since_ms < STALL_MS)
		return;
	progress->told = true;
	if (progress->bar)
		print_bar(progress);
	else
		complain_of_stall(progress);
	standard_output_flush();
}

/*
 * Return: 1: the size is reached; 0: not yet; a negative errno after printing
 * an error.
 */
static int note_event(struct progress *progress, json_object *event)
{
	uint64_t plugged = answer_size(event, "plugged_size");
	uint64_t requested = answer_size(event, "requested_size");
	char wanted[SIZE_TEXT_MAX];

	json_object_put(progress->last);
	progress->last = event;
	if (!progress->known || plugged != progress->plugged) {
		progress->since_ms = ctl_now_ms();
		progress->told = false;
	}
	if (!progress->known)
		progress->start = plugged;
	progress->known = true;
	progress->plugged = plugged;
	if (progress->bar)
		print_bar(progress);
	else if (progress->json)
		ctl_print_json(event);
	else
		show_print_event(event);
	if (requested != progress->size) {
		if (progress->bar)
			putchar('\n');
		ctl_complain("another request has set the size to %s",
			     size_format(requested, wanted));
		progress->bar = false;
		return -ECANCELED;
	}
	return plugged == progress->size;
}

/* Process the next event, or a stall. Return: as note_event(). */
static int next_event(struct progress *progress, struct daemon *daemon,
		      int64_t deadline)
{
	int64_t next =
		progress->told ? deadline : progress->since_ms + STALL_MS;
	json_object *event;
	int ret;

	if (next > deadline)
		next = deadline;
	ret = daemon_read(daemon, next, &event);
	if (ret == -EINTR) {
		screen_resized(&progress->screen);
		print_bar(progress);
		standard_output_flush();
		return 0;
	}
	if (ret == -ETIMEDOUT && next < deadline) {
		note_stall(progress);
		return 0;
	}
	if (ret)
		return ret;
	if (strcmp(answer_text(event, "event"), "state") != 0) {
		json_object_put(event);
		return 0;
	}
	ret = note_event(progress, event);
	/* An output error does not end the wait; main() reports it. */
	standard_output_flush();
	return ret;
}

static int wait_for(struct daemon *daemon, const struct ctl_options *options,
		    uint64_t size)
{
	int64_t deadline = ctl_now_ms() + options->timeout_ms;
	struct progress progress = {
		.size = size,
		.json = options->json,
		.bar = !options->json && isatty(STDOUT_FILENO),
		.screen.resize_fd = -1,
		.since_ms = ctl_now_ms(),
	};
	json_object *event;
	int ret;

	/* The first event after "watch" is the current state. */
	ret = daemon_call(daemon, "watch", NULL, &event);
	if (ret)
		return ret;
	json_object_put(event);
	if (progress.bar) {
		screen_open(&progress.screen);
		daemon->wake_fd = progress.screen.resize_fd;
	}
	do
		ret = next_event(&progress, daemon, deadline);
	while (!ret);
	if (progress.bar)
		putchar('\n');
	if (ret == -ETIMEDOUT)
		complain_of_stall(&progress);
	daemon->wake_fd = -1;
	screen_close(&progress.screen);
	json_object_put(progress.last);
	return ret < 0 ? ret : 0;
}

/* Compute the size from the amount and the current state of the device. */
static int resolve_size(struct daemon *daemon,
			const struct ctl_options *options, uint64_t *size)
{
	const struct size_amount *amount = &options->amount;
	char requested[SIZE_TEXT_MAX];
	json_object *status, *devices, *device;
	int ret;

	*size = amount->value;
	if (!size_depends(amount))
		return 0;
	ret = status_ask(daemon, &status);
	if (ret)
		return ret;
	devices = answer_array(status, "devices");
	device = answer_array_length(devices)
			 ? json_object_array_get_idx(devices, 0)
			 : NULL;
	if (answer_array_length(devices) != 1) {
		ctl_complain("resize needs one device: name it by --device");
		ret = -EINVAL;
	} else if (!answer_has_size(device, "requested_size") ||
		   !answer_has_size(device, "region_size")) {
		ret = daemon_not_vmemd(daemon);
	} else if (size_resolve(amount, answer_size(device, "requested_size"),
				answer_size(device, "region_size"),
				answer_size(device, "block_size"), size)) {
		ctl_complain(
			"resize %s: negative, or larger than the region; %s "
			"are requested now",
			options->argument + strspn(options->argument, " "),
			size_format_exact(answer_size(device, "requested_size"),
					  requested));
		ret = -ERANGE;
	}
	json_object_put(status);
	return ret;
}

static int ctl_resize(const struct ctl_options *options)
{
	json_object *params;
	struct daemon daemon;
	uint64_t size;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret)
		ret = resolve_size(&daemon, options, &size);
	if (!ret) {
		params = json_object_new_object();
		json_add_size(params, "size", size);
		ret = daemon_tell(&daemon, "resize", params,
				  options->json && !options->wait);
	}
	if (!ret && options->wait)
		ret = wait_for(&daemon, options, size);
	daemon_close(&daemon);
	return ret;
}

static const struct ctl_option resize_options[] = {
	{.name = "wait",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, wait),
	 .help = "wait until the guest has reached SIZE; show progress\n"
		 "and the reason for a stall"},
	/* Help for the common option. */
	{.name = "timeout",
	 .value = "S",
	 .help = "with --wait: give up after S seconds; default: 60.\n"
		 "The requested size stays set"},
	{},
};

const struct ctl_command resize_commands[] = {
	{.name = "resize",
	 .argument = CTL_SIZE,
	 .scope = CTL_ONE_VMEMD,
	 .help = "request the guest to plug SIZE of the region",
	 .options = resize_options,
	 .run = ctl_resize},
	{},
};
