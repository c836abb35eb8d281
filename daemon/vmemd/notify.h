/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notifications to the service manager; see notify.c. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <systemd/sd-event.h>

/* Size of a message, including the NUL. */
#define NOTIFY_TEXT_MAX 256

/* Minimum interval between two status messages. */
#define NOTIFY_STATUS_USEC 1000000ULL

/**
 * struct notify - connection to the service manager
 * @fd: connected datagram socket; -1: no service manager
 * @status: current status message
 * @sent: last status message that was sent
 * @status_source: timer, enabled for NOTIFY_STATUS_USEC after a status message
 * @watchdog_usec: timeout of the manager's watchdog
 * @watchdog_source: timer for watchdog messages
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
void notify_forget(const struct notify *notify, const char *name);

#endif /* NOTIFY_H */
