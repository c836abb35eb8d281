// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl resize: ask the guest for a size, and wait for it with a bar, or with
 * a line for each event where nobody looks at a terminal.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "size.h"
#include "vmemctl_daemon.h"

/* Without progress for so long, a reason is looked for. */
#define STALL_MS (3 * MSEC_PER_SEC)

/* Characters of the bar itself; with the rest it fits a line of 80. */
#define BAR_WIDTH 24

/**
 * struct progress - of a resize
 * @size: what was asked for
 * @start: what was plugged when it was, if @known
 * @last: the last state that was told
 * @plugged: what is plugged, and since when
 * @told: the reason for the present stall was printed
 * @bar: show a bar
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
	bool json;
};

/* Why has the guest not done what it was asked for? */
static const char *stall_reason(json_object *event, uint64_t size)
{
	const char *failure = get_text(event, "last_failure");

	if (!event)
		return "vmemd tells nothing";
	if (!get_bool(event, "connected"))
		return "no VMM is connected to vmemd";
	if (!get_bool(event, "ready"))
		return "the guest has no virtio_mem driver that is ready";
	if (*failure)
		return failure;
	if (get_size(event, "plugged_size") > size)
		return "the guest cannot give back memory that is in use";
	if (get_bool(event, "given_back"))
		return "the guest gives back at once what it plugs, as when it "
		       "has no room to manage more: that takes 1/64 of it";
	return "the guest does not plug more";
}

static void print_bar(const struct progress *progress, const char *reason)
{
	char plugged[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];
	uint64_t from = progress->start, to = progress->size;
	uint64_t at = progress->plugged, all, done;
	unsigned int filled;

	all = from < to ? to - from : from - to;
	/* A guest may as well go the other way. */
	if (from < to)
		done = at > from ? at - from : 0;
	else
		done = at < from ? from - at : 0;
	if (done > all)
		done = all;
	filled = all ? (unsigned int)((double)done / (double)all * BAR_WIDTH)
		     : BAR_WIDTH;
	printf("\r[");
	for (unsigned int i = 0; i < BAR_WIDTH; i++)
		putchar(i < filled ? '#' : '.');
	/* What was there before may have been longer. */
	printf("] %s of %s%s%s\033[K", size_format(at, plugged),
	       size_format(to, size), reason ? ": " : "", reason ? reason : "");
	fflush(stdout);
}

static void complain_of_stall(const struct progress *progress)
{
	char plugged[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];

	complain("stalled at %s of %s: %s",
		 size_format(progress->plugged, plugged),
		 size_format(progress->size, size),
		 stall_reason(progress->last, progress->size));
}

/* Nothing was told for a while. */
static void note_stall(struct progress *progress)
{
	if (progress->told || now_ms() - progress->since_ms < STALL_MS)
		return;
	progress->told = true;
	if (progress->bar)
		print_bar(progress,
			  stall_reason(progress->last, progress->size));
	else
		complain_of_stall(progress);
}

/* Return: 1 reached, 0 not yet, or an errno with a message printed. */
static int note_event(struct progress *progress, json_object *event)
{
	uint64_t plugged = get_size(event, "plugged_size");
	uint64_t requested = get_size(event, "requested_size");
	char wanted[SIZE_TEXT_MAX];

	json_object_put(progress->last);
	progress->last = event;
	if (!progress->known || plugged != progress->plugged) {
		progress->since_ms = now_ms();
		progress->told = false;
	}
	if (!progress->known)
		progress->start = plugged;
	progress->known = true;
	progress->plugged = plugged;
	if (progress->bar)
		print_bar(progress,
			  progress->told ? stall_reason(event, progress->size)
					 : NULL);
	else if (progress->json)
		print_json(event);
	else
		print_event(event);
	if (requested != progress->size) {
		if (progress->bar)
			putchar('\n');
		complain("the guest was asked for %s meanwhile",
			 size_format(requested, wanted));
		progress->bar = false;
		return -ECANCELED;
	}
	return plugged == progress->size;
}

static int wait_for(struct daemon *daemon, const struct ctl_options *options)
{
	int64_t deadline = now_ms() + options->timeout_ms, next;
	struct progress progress = {
		.size = options->size,
		.json = options->json,
		.bar = !options->json && isatty(STDOUT_FILENO),
		.since_ms = now_ms(),
	};
	json_object *event;
	int ret;

	/* The first event after "watch" is the state as it is. */
	ret = daemon_call(daemon, "watch", NULL, &event);
	if (ret)
		return ret;
	json_object_put(event);
	do {
		next = progress.told ? deadline : progress.since_ms + STALL_MS;
		if (next > deadline)
			next = deadline;
		ret = daemon_read(daemon, next, &event);
		if (ret == -ETIMEDOUT && next < deadline) {
			note_stall(&progress);
			ret = 0;
			continue;
		}
		if (ret)
			break;
		if (strcmp(get_text(event, "event"), "state")) {
			json_object_put(event);
			continue;
		}
		ret = note_event(&progress, event);
	} while (!ret);
	if (progress.bar)
		putchar('\n');
	if (ret == -ETIMEDOUT)
		complain_of_stall(&progress);
	json_object_put(progress.last);
	return ret < 0 ? ret : 0;
}

int ctl_resize(const struct ctl_options *options)
{
	json_object *params;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret) {
		params = json_object_new_object();
		json_object_object_add(params, "size",
				       json_object_new_uint64(options->size));
		ret = daemon_tell(&daemon, "resize", params,
				  options->json && !options->wait);
	}
	if (!ret && options->wait)
		ret = wait_for(&daemon, options);
	daemon_close(&daemon);
	return ret;
}
