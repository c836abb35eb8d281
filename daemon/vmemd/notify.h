/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Word to the service manager; see notify.c. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <systemd/sd-event.h>

/* Longest message. */
#define NOTIFY_TEXT_MAX 256

/* The status is sent no more often than this, however often it changes. */
#define NOTIFY_STATUS_USEC 1000000ULL

/**
 * struct notify - the way to the service manager
 * @fd: connected datagram socket, -1 if nobody wants to know
 * @status: as it is
 * @sent: as the manager knows it
 * @status_source: a timer, on for NOTIFY_STATUS_USEC after the status was sent
 * @watchdog_usec: how often the manager is to be told that the loop turns
 * @watchdog_source: a timer for that
 */
struct notify {
	int fd;
	char status[NOTIFY_TEXT_MAX];
	char sent[NOTIFY_TEXT_MAX];
	sd_event_source *status_source;
	uint64_t watchdog_usec;
	sd_event_source *watchdog_source;
};

int notify_open(struct notify *notify, sd_event *event);
void notify_close(struct notify *notify);
void notify_send(const struct notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void notify_status(struct notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void notify_ready(const struct notify *notify);
void notify_store(const struct notify *notify, const char *name, int fd);

#endif /* NOTIFY_H */
