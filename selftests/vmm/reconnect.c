// SPDX-License-Identifier: GPL-2.0-or-later
#include "reconnect.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util.h"

/* Interval between attempts to connect. */
#define LOOK_MS 50

void reconnect_init(struct reconnect *reconnect)
{
	memset(reconnect, 0, sizeof(*reconnect));
	reconnect->back_fd = -1;
	reconnect->stop_fd = -1;
}

int reconnect_open(struct reconnect *reconnect)
{
	reconnect->back_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	reconnect->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (reconnect->back_fd >= 0 && reconnect->stop_fd >= 0)
		return 0;
	error_errno(errno, "cannot prepare to reconnect");
	return -errno;
}

/* Negotiate with a backend. Return: false if none answers. */
static bool come_back(struct reconnect *reconnect, struct vhost_user *vu)
{
	const struct vhost_user *old = reconnect->dev->vu;
	int fd = reconnect->connect(reconnect->opaque);

	if (fd < 0)
		return false;
	vhost_user_init(vu);
	if (!vhost_user_open(vu, fd, old->config_size) &&
	    !vhost_user_set_memory(vu, reconnect->memory))
		return true;
	vhost_user_close(vu);
	return false;
}

static void *run(void *opaque)
{
	struct reconnect *reconnect = opaque;
	struct pollfd stop = {reconnect->stop_fd, POLLIN, 0};
	struct vhost_user vu;

	while (poll(&stop, 1, LOOK_MS) <= 0) {
		if (!come_back(reconnect, &vu))
			continue;
		virtio_mmio_exchange(reconnect->dev, &vu, reconnect->back_fd);
		break;
	}
	return NULL;
}

/*
 * The previous thread has ended or is about to: the connection that it waits
 * for is lost.
 */
static void join(struct reconnect *reconnect)
{
	if (reconnect->running)
		pthread_join(reconnect->thread, NULL);
	reconnect->running = false;
}

int reconnect_start(struct reconnect *reconnect)
{
	int ret;

	join(reconnect);
	ret = pthread_create(&reconnect->thread, NULL, run, reconnect);
	if (ret) {
		error_errno(ret, "cannot start a thread to reconnect");
		return -ret;
	}
	reconnect->running = true;
	return 0;
}

void reconnect_finish(struct reconnect *reconnect)
{
	eventfd_t count;

	/* The thread may still be setting up the backend. */
	eventfd_read(reconnect->back_fd, &count);
}

void reconnect_close(struct reconnect *reconnect)
{
	if (reconnect->stop_fd >= 0)
		eventfd_write(reconnect->stop_fd, 1);
	join(reconnect);
	if (reconnect->back_fd >= 0)
		close(reconnect->back_fd);
	if (reconnect->stop_fd >= 0)
		close(reconnect->stop_fd);
	reconnect_init(reconnect);
}
