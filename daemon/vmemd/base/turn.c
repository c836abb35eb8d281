// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Continuing later, after all other event sources that are ready.
 *
 * Among sources that are ready and have the same priority, sd-event dispatches
 * the one first that has been ready for longest. A deferred source counts as
 * ready since it was created, no matter how often it was disabled and enabled.
 * One that enables itself again is always the first, and no other source is
 * served until it has no more work. So each turn is a new source, which is the
 * last in the queue.
 */
#include <stddef.h>

#include "base/turn.h"

/**
 * turn_init() - initialise a turn
 * @turn: set on success
 * @event: the event loop; not owned
 * @handler: called once for each turn_take()
 * @arg: for @handler
 *
 * Return: 0; an errno of sd-event's.
 */
int turn_init(struct turn *turn, sd_event *event, sd_event_handler_t handler,
	      void *arg)
{
	int ret;

	turn->event = event;
	turn->handler = handler;
	turn->arg = arg;
	turn->source = NULL;
	/* turn_take() falls back on this source. */
	ret = sd_event_add_defer(event, &turn->source, handler, arg);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(turn->source, SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/* Schedule @handler after all other ready sources, unless it is scheduled. */
void turn_take(struct turn *turn)
{
	sd_event_source *source = NULL;

	if (!turn->source || sd_event_source_get_enabled(turn->source, NULL))
		return;
	/* Without memory, use the old source: unfair, but it works. */
	if (sd_event_add_defer(turn->event, &source, turn->handler, turn->arg) <
	    0) {
		sd_event_source_set_enabled(turn->source, SD_EVENT_ONESHOT);
		return;
	}
	sd_event_source_disable_unref(turn->source);
	turn->source = source;
}

/* Cancel a scheduled call. */
void turn_drop(struct turn *turn)
{
	if (turn->source)
		sd_event_source_set_enabled(turn->source, SD_EVENT_OFF);
}

/* Release a turn; it may be zeroed instead of initialised. */
void turn_end(struct turn *turn)
{
	turn->source = sd_event_source_disable_unref(turn->source);
}
