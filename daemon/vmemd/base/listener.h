/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A listening socket in the event loop; see listener.c. */
#ifndef LISTENER_H
#define LISTENER_H

#include <stdbool.h>

#include <systemd/sd-event.h>

#include "base/log.h"

/**
 * struct listener - a listening socket
 * @name: kind of connections, for messages
 * @label: prefix of messages, see log.h; not owned
 * @fd: the socket; -1: none
 * @source: event source of the socket
 * @again_source: timer that enables @source after a failure
 * @accepted: takes over a new connection, which is non-blocking
 * @arg: for @accepted
 * @on: connections are accepted
 * @limit: rate limit for messages that clients can cause
 */
struct listener {
	const char *name;
	const char *label;
	int fd;
	sd_event_source *source;
	sd_event_source *again_source;
	void (*accepted)(void *arg, int fd);
	void *arg;
	bool on;
	struct log_limit limit;
};

void listener_init(struct listener *listener, const char *name,
		   void (*accepted)(void *arg, int fd), void *arg);
int listener_start(struct listener *listener, sd_event *event, int fd);
void listener_enable(struct listener *listener, bool on);
void listener_stop(struct listener *listener);

#endif /* LISTENER_H */
