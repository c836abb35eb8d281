// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Notifications to the service manager: the messages of sd_notify(3), over a
 * socket that is connected once, at the start. sd_notify() and the watchdog of
 * sd-event would open a socket for each message. The system call filter would
 * then have to allow socket(2) and connect(2), to any path.
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
#include "base/timer.h"
#include "common/fd.h"
#include "notify.h"

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	socklen_t size;
	int fd, ret;

	/* A path, or "@" and an abstract name. */
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

/* Send a watchdog message twice per timeout. */
static int on_watchdog(sd_event_source *source,
		       uint64_t usec __attribute__((unused)), void *arg)
{
	const struct notify *notify = arg;

	notify_send(notify, "WATCHDOG=1");
	return timer_start(source, notify->watchdog_usec / 2);
}

static int on_status(sd_event_source *source, uint64_t usec, void *arg);

static int add_sources(struct notify *notify, sd_event *event)
{
	int ret;

	ret = timer_add(event, &notify->status_source, on_status, notify);
	if (ret >= 0)
		ret = sd_watchdog_enabled(0, &notify->watchdog_usec);
	if (ret > 0)
		ret = sd_event_add_time_relative(
			event, &notify->watchdog_source, CLOCK_MONOTONIC, 0, 0,
			on_watchdog, notify);
	return ret;
}

/**
 * notify_open() - connect to the service manager named by the environment
 * @notify: to be closed by notify_close()
 * @event: the event loop
 *
 * Return: 0, also without a service manager; an errno.
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
	fd_close(&notify->fd);
}

/* Return: whether the message was sent. */
static bool send_text(const struct notify *notify, const char *text, int flags)
{
	if (notify->fd < 0)
		return false;
	if (send(notify->fd, text, strlen(text), MSG_NOSIGNAL | flags) >= 0)
		return true;
	log_debug("service manager: %s", strerror(errno));
	return false;
}

/* Send the status if it has changed, and start the minimum interval. */
static void send_status(struct notify *notify)
{
	if (notify->fd < 0 || !strcmp(notify->status, notify->sent))
		return;
	if (send_text(notify, notify->status, MSG_DONTWAIT))
		strcpy(notify->sent, notify->status);
	timer_start(notify->status_source, NOTIFY_STATUS_USEC);
}

static int on_status(sd_event_source *source __attribute__((unused)),
		     uint64_t usec __attribute__((unused)), void *arg)
{
	send_status(arg);
	return 0;
}

/**
 * notify_status() - set the status
 * @notify: the service manager
 * @format: format of printf(3) for the text after "STATUS="
 *
 * A changed status is sent, at most once per NOTIFY_STATUS_USEC. The last
 * status is always sent.
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

/* Send a message; it is dropped if the socket's buffer is full. */
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
 * notify_store() - store a descriptor with the service manager
 * @notify: the service manager
 * @name: name by which the descriptor is passed to a restarted vmemd
 * @fd: the descriptor; stays the caller's
 *
 * FDPOLL=0 keeps the manager from dropping a descriptor that polls as hung up.
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

/*
 * Let the manager drop the descriptors of this name. If the message were lost, the
 * manager would pass two of this name to a later vmemd. So this waits for buffer
 * space, like notify_store().
 */
void notify_forget(const struct notify *notify, const char *name)
{
	char text[NOTIFY_TEXT_MAX];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	send_text(notify, text, 0);
}

/* Report readiness. It is reported once, so this waits for buffer space. */
void notify_ready(const struct notify *notify)
{
	send_text(notify, "READY=1", 0);
}
