// SPDX-License-Identifier: GPL-2.0-or-later
/* Timers that run once, each time they are started. */
#include <time.h>

#include "base/timer.h"

/**
 * timer_add() - add a timer to the event loop; it is off
 * @event: the event loop
 * @source: set on success
 * @handler: called when the timer expires
 * @arg: for @handler
 *
 * Return: 0; an errno of sd-event's.
 */
int timer_add(sd_event *event, sd_event_source **source,
	      sd_event_time_handler_t handler, void *arg)
{
	sd_event_source *timer;
	int ret;

	ret = sd_event_add_time_relative(event, &timer, CLOCK_MONOTONIC, 0, 0,
					 handler, arg);
	if (ret < 0)
		return ret;
	ret = sd_event_source_set_enabled(timer, SD_EVENT_OFF);
	if (ret < 0) {
		sd_event_source_disable_unref(timer);
		return ret;
	}
	*source = timer;
	return 0;
}

/**
 * timer_start() - call the handler once
 * @source: the timer; if it runs, it is started again
 * @usec: time until the call
 *
 * Return: 0; an errno of sd-event's.
 */
int timer_start(sd_event_source *source, uint64_t usec)
{
	int ret;

	ret = sd_event_source_set_time_relative(source, usec);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return ret < 0 ? ret : 0;
}
