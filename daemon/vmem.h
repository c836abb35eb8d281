/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon: what belongs together and how it starts and ends; see vmem.c. */
#ifndef VMEM_H
#define VMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "control.h"
#include "notify.h"
#include "options.h"
#include "region.h"
#include "vhost_user.h"
#include "virtio_mem.h"
#include "vmem_nl.h"

/**
 * struct vmem - the daemon
 * @options: command line
 * @event: the loop
 * @nl: netlink handles
 * @notify: service manager
 * @isolated: the start is over
 * @attached: there is a region, and with it a device
 * @vhost_user_fd: to be served as soon as there is a device, -1 once it is
 * @region_source: changes of the region
 * @publish_source: a timer, on while a change is to be told
 * @work_source: on while the device has work
 * @work_again_source: a timer, for work that has failed
 * @slots: what the kernel said when the first page of "slots" was asked for,
 *	until the last page was; @nr_slots of them
 * @resize_token: of the "resize" that waits for the kernel, 0 if there is none
 */
struct vmem {
	struct options options;
	sd_event *event;
	struct region_nl nl;
	struct notify notify;
	bool isolated;
	bool attached;
	struct region region;
	struct virtio_mem dev;
	struct vhost_user vu;
	struct control control;
	int vhost_user_fd;
	sd_event_source *region_source;
	sd_event_source *publish_source;
	sd_event_source *work_source;
	sd_event_source *work_again_source;
	struct vmem_nl_slot *slots;
	size_t nr_slots;
	uint64_t resize_token;
};

int vmem_new(struct vmem **vmemp, const struct options *options,
	     struct passed_fds *fds);
int vmem_run(struct vmem *vmem);
void vmem_free(struct vmem *vmem);

/* For the control methods. */
int vmem_attach(struct vmem *vmem, int region_fd, int memory_fd, char *text,
		size_t text_size);
int vmem_set_requested(struct vmem *vmem, uint64_t size, char *text,
		       size_t text_size);
uint64_t vmem_plugged_size(const struct vmem *vmem);

#endif /* VMEM_H */
