/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon: what it is made of, its start and end; see daemon.c. */
#ifndef VMEM_H
#define VMEM_H

#include <stdbool.h>
#include <stddef.h>

#include <systemd/sd-event.h>

#include "backing/room.h"
#include "common/error.h"
#include "control/socket.h"
#include "device/vmem_device.h"
#include "notify.h"
#include "options.h"
#include "passed_fds.h"
#include "vhost/guest_access.h"

/**
 * struct vmem - the daemon
 * @options: command line
 * @event: the loop
 * @notify: service manager
 * @access: what may be touched of the guest's memory, for all devices
 * @room: what memory --prealloc may take; only if a device wants it
 * @isolated: the start is over
 * @devices: @nr_devices of them, as the command line names them
 * @publish_source: a timer, on while a change is to be told
 */
struct vmem {
	struct options options;
	sd_event *event;
	struct notify notify;
	struct guest_access access;
	struct room room;
	bool isolated;
	struct control control;
	struct vmem_device devices[VMEM_MAX_DEVICES];
	unsigned int nr_devices;
	sd_event_source *publish_source;
};

int daemon_new(struct vmem **vmemp, const struct options *options,
	       struct passed_fds *fds);
int daemon_run(struct vmem *vmem);
void daemon_free(struct vmem *vmem);

/* For the control methods. */
struct vmem_device *daemon_device_of_region(struct vmem *vmem,
					    struct vmem_nl *nl, int region_fd);
int daemon_attach(struct vmem *vmem, struct vmem_device *device, int region_fd,
		  int memory_fd, struct error *err);

#endif /* VMEM_H */
