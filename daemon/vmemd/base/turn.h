/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going on later, when all others had their turn; see turn.c. */
#ifndef TURN_H
#define TURN_H

#include <systemd/sd-event.h>

/**
 * struct turn - something that is done in parts
 * @event: the loop, not owned
 * @handler: does the next part, with @arg
 * @source: on while there is more to do
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
