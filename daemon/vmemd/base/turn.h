/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Continuing later, after all other ready event sources; see turn.c. */
#ifndef TURN_H
#define TURN_H

#include <systemd/sd-event.h>

/**
 * struct turn - an operation that is executed in parts
 * @event: the event loop; not owned
 * @handler: executes the next part
 * @arg: for @handler
 * @source: event source, enabled while another part is scheduled
 */
struct turn {
	sd_event *event;
	sd_event_handler_t handler;
	void *arg;
	sd_event_source *source;
};

int turn_init(struct turn *turn, sd_event *event, sd_event_handler_t handler,
	      void *arg);
void turn_take(struct turn *turn);
void turn_drop(struct turn *turn);
void turn_end(struct turn *turn);

#endif /* TURN_H */
