/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timers that run once, each time they are started; see timer.c. */
#ifndef TIMER_H
#define TIMER_H

#include <stdint.h>

#include <systemd/sd-event.h>

int timer_add(sd_event *event, sd_event_source **source,
	      sd_event_time_handler_t handler, void *arg);
int timer_start(sd_event_source *source, uint64_t usec);

#endif /* TIMER_H */
