// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Notifications to the service manager: the messages of sd_notify(3), over a socket
 * that is opened and connected once, at the start. sd_notify() itself opens one
 * for each message, and so does the watchdog of sd-event; the filter of system
 * calls would have to allow sockets to be opened and connected, to any path
 * that a service may connect to.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "common/fd.h"
#include "notify.h"

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	socklen_t size;
	int fd, ret;

	/* A path, or @ and an abstract name. */
	if ((*path != '/' && *path != '@') || !path[1])
		return -EAFNOSUPPORT;
	if (length >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, length);
	if (*path == '@')
		addr.sun_path[0] = '\0';
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (*path == '/')
		size++;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, size) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* Twice in the time that the manager grants. */
static int on_watchdog(sd_event_source *source,
		       uint64_t usec __attribute__((unused)), void *arg)
{
	const struct notify *notify = arg;

	notify_send(notify, "WATCHDOG=1");
	sd_event_source_set_time_relative(source, notify->watchdog_usec / 2);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_status(sd_event_source *source, uint64_t usec, void *arg);

static int add_sources(struct notify *notify, sd_event *event)
{
	int ret;

	ret = sd_event_add_time_relative(event, &notify->status_source,
					 CLOCK_MONOTONIC, 0, 0, on_status,
					 notify);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(notify->status_source,
						  SD_EVENT_OFF);
	if (ret >= 0)
		ret = sd_watchdog_enabled(0, &notify->watchdog_usec);
	if (ret > 0)
		ret = sd_event_add_time_relative(
			event, &notify->watchdog_source, CLOCK_MONOTONIC, 0, 0,
			on_watchdog, notify);
	return ret;
}

/**
 * notify_open() - find out who wants to know what, from the environment
 *
 * Return: 0, also if nobody does; an errno.
 */
int notify_open(struct notify *notify, sd_event *event)
{
	const char *path = getenv("NOTIFY_SOCKET");
	int ret;

	*notify = (struct notify){.fd = -1};
	if (!path)
		return 0;
	ret = connect_to(path);
	if (ret < 0)
		return ret;
	notify->fd = ret;
	ret = add_sources(notify, event);
	if (ret < 0)
		notify_close(notify);
	return ret < 0 ? ret : 0;
}

void notify_close(struct notify *notify)
{
	notify->watchdog_source =
		sd_event_source_disable_unref(notify->watchdog_source);
	notify->status_source =
		sd_event_source_disable_unref(notify->status_source);
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

/* Return: whether the manager has it. */
static bool send_text(const struct notify *notify, const char *text, int flags)
{
	if (notify->fd < 0)
		return false;
	if (send(notify->fd, text, strlen(text), MSG_NOSIGNAL | flags) >= 0)
		return true;
	log_debug("service manager: %s", strerror(errno));
	return false;
}

/* Send the status if the manager does not know it, and then not for a while. */
static void send_status(struct notify *notify)
{
	if (notify->fd < 0 || !strcmp(notify->status, notify->sent))
		return;
	if (send_text(notify, notify->status, MSG_DONTWAIT))
		strcpy(notify->sent, notify->status);
	sd_event_source_set_time_relative(notify->status_source,
					  NOTIFY_STATUS_USEC);
	sd_event_source_set_enabled(notify->status_source, SD_EVENT_ONESHOT);
}

static int on_status(sd_event_source *source __attribute__((unused)),
		     uint64_t usec __attribute__((unused)), void *arg)
{
	send_status(arg);
	return 0;
}

/**
 * notify_status() - the status is this now
 * @format: as of printf(3), with the text after "STATUS="
 *
 * It is sent when it has changed, at most once in NOTIFY_STATUS_USEC. What it is
 * last is always sent.
 */
void notify_status(struct notify *notify, const char *format, ...)
{
	int length =
		snprintf(notify->status, sizeof(notify->status), "STATUS=");
	int enabled = SD_EVENT_OFF;
	va_list ap;

	va_start(ap, format);
	vsnprintf(notify->status + length, sizeof(notify->status) - length,
		  format, ap);
	va_end(ap);
	sd_event_source_get_enabled(notify->status_source, &enabled);
	if (enabled == SD_EVENT_OFF)
		send_status(notify);
}

/* What the manager has no room for is lost: it is news, and there is more. */
void notify_send(const struct notify *notify, const char *format, ...)
{
	char text[NOTIFY_TEXT_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	send_text(notify, text, MSG_DONTWAIT);
}

/**
 * notify_store() - leave a descriptor with the manager
 * @name: by which it comes back if this process ends and is started again; the
 *	manager is not to take one out by itself that says it has hung up
 * @fd: stays ours
 */
void notify_store(const struct notify *notify, const char *name, int fd)
{
	char text[NOTIFY_TEXT_MAX];
	struct iovec iov = {.iov_base = text};

	if (notify->fd < 0)
		return;
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	iov.iov_len = strlen(text);
	if (fd_send(notify->fd, &iov, 1, fd, 0) < 0)
		log_warning("service manager: \"%s\" is not stored: %s", name,
			    strerror(errno));
}

/* This is said once, and waited for. */
void notify_ready(const struct notify *notify)
{
	send_text(notify, "READY=1", 0);
}
