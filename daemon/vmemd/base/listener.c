// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A listening socket in the event loop.
 *
 * If a connection cannot be accepted for lack of descriptors or memory, it
 * stays queued and the socket stays readable. The event loop would then call
 * the handler without a pause, so the socket is ignored for a while.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/listener.h"
#include "base/timer.h"
#include "common/fd.h"

/* Time for which the socket is ignored. */
#define AGAIN_USEC 1000000ULL

void listener_init(struct listener *listener, const char *name,
		   void (*accepted)(void *arg, int fd), void *arg)
{
	memset(listener, 0, sizeof(*listener));
	listener->name = name;
	listener->fd = -1;
	listener->accepted = accepted;
	listener->arg = arg;
}

static int on_connect(sd_event_source *source, int fd,
		      uint32_t revents __attribute__((unused)), void *arg)
{
	struct listener *listener = arg;
	int connection;

	connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (connection >= 0) {
		listener->accepted(listener->arg, connection);
		return 0;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return 0;
	log_limited(&listener->limit, LOG_LEVEL_ERR, listener->label,
		    "%s: accept: %s", listener->name, strerror(errno));
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	timer_start(listener->again_source, AGAIN_USEC);
	return 0;
}

static int on_again(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct listener *listener = arg;

	listener_enable(listener, listener->on);
	return 0;
}

/**
 * listener_start() - accept connections
 * @listener: initialised by listener_init()
 * @event: the event loop
 * @fd: listening stream socket; taken over, also on error
 *
 * Return: 0; an errno of fcntl(2) or sd-event's.
 */
int listener_start(struct listener *listener, sd_event *event, int fd)
{
	int ret;

	listener->fd = fd;
	listener->on = true;
	ret = fd_set_nonblock(fd);
	if (ret)
		return ret;
	ret = timer_add(event, &listener->again_source, on_again, listener);
	if (ret >= 0)
		ret = sd_event_add_io(event, &listener->source, fd, EPOLLIN,
				      on_connect, listener);
	return ret < 0 ? ret : 0;
}

/* While the listener is off, connections wait in the socket's backlog. */
void listener_enable(struct listener *listener, bool on)
{
	listener->on = on;
	if (!listener->source)
		return;
	sd_event_source_set_enabled(listener->source,
				    on ? SD_EVENT_ON : SD_EVENT_OFF);
	sd_event_source_set_enabled(listener->again_source, SD_EVENT_OFF);
}

void listener_stop(struct listener *listener)
{
	listener->source = sd_event_source_disable_unref(listener->source);
	listener->again_source =
		sd_event_source_disable_unref(listener->again_source);
	fd_close(&listener->fd);
}
