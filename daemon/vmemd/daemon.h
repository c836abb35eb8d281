/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon: its parts, start and end; see daemon.c. */
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
 * @event: the event loop
 * @notify: connection to the service manager
 * @access: guest memory that may be accessed, for all devices
 * @room: free memory of the host; only opened if a device has --prealloc
 * @isolated: the start is complete and privileges are dropped
 * @control: the control socket
 * @devices: devices in the order of the command line
 * @nr_devices: number of @devices
 * @publish_source: timer, enabled while a change has to be published
 * @save_source: deferred answer to clients whose "save" waits
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
	sd_event_source *save_source;
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
