/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One virtio-mem device of the daemon, with all that it needs; see vmem_device.c. */
#ifndef VMEM_DEVICE_H
#define VMEM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "backing/kernel.h"
#include "backing/vmm.h"
#include "base/turn.h"
#include "common/error.h"
#include "common/save.h"
#include "common/vmem_nl.h"
#include "device/budget.h"
#include "device/consumer.h"
#include "device/excess.h"
#include "device/virtio_mem.h"
#include "options.h"
#include "vhost/guest_access.h"
#include "vhost/vhost_user.h"

struct vmem_device;

/**
 * struct vmem_device_ops - what a device tells the daemon
 * @changed: something that status shows has changed
 * @size_set: the kernel has answered vmem_device_set_requested(): 0, or an
 *	errno with text
 * @system_reset: vmem_device_system_reset(), that was not done at once, has
 *	ended: 0, or an errno with text
 * @log_set: likewise to vmem_device_set_dirty_log()
 * @gone: the VM is no more
 */
struct vmem_device_ops {
	void (*changed)(struct vmem_device *device, void *arg);
	void (*size_set)(struct vmem_device *device, int result,
			 const char *text, void *arg);
	void (*system_reset)(struct vmem_device *device, int result,
			     const char *text, void *arg);
	void (*log_set)(struct vmem_device *device, int result,
			const char *text, void *arg);
	void (*gone)(struct vmem_device *device, void *arg);
};

/**
 * struct vmem_device - one virtio-mem device
 * @index: its number among the daemon's
 * @name: what it is called: by the command line, else by its number
 * @named: the command line has names, so that it is to be named to people
 * @label: for messages, see base/log.h: @name if it is to be named, else ""
 * @untold: something has changed that is still to be told
 * @options: command line; not owned
 * @event: the loop; not owned
 * @room: what memory there is to allocate from; not owned, NULL if nobody looks
 * @ops: the daemon's, with @arg
 * @nl: netlink handles
 * @budget: how its region is to be cut, or is; all 0 if nobody knows
 * @attached: there is a region, and with it a device
 * @vmm: the front end maps memory: @shmem carries out changes, else @region
 * @region, @shmem: what carries out changes
 * @consumers: who else maps its memory, between that and @dev
 * @consumers_fd: file of their claims, -1: none yet
 * @consumers_new: it was made here, and nobody keeps it yet
 * @pid_namespace: of peer_namespace()
 * @dev: what the guest sees
 * @saved: what to restore, until that is done; nothing if @saved.block_size is 0
 * @excess: memory beyond what is plugged
 * @excess_source: a timer that looks for it, where it has a cap
 * @vu: the way to the guest
 * @vhost_user_fd: to be served as soon as there is a region, -1 once it is
 * @region_source: changes of the region
 * @work: the device has work
 * @work_again_source: a timer, for work that has failed
 * @limit: for messages that others can cause
 * @slots: what the kernel said when the first page of "slots" was asked for,
 *	until the last page was; @nr_slots of them
 * @held_since: when it was held, in seconds since 1970; 0 if that is not known
 * @hold_token: of the "hold" that waits for the request that is carried out
 * @log_token: of the "dirty-log" that waits for the kernel, to be @log_on
 * @resize_token: of the "resize" that waits for the kernel, 0 if there is none
 * @reset_token: of the "system-reset" that waits, likewise
 */
struct vmem_device {
	unsigned int index;
	char name[DEVICE_NAME_MAX + 1];
	bool named;
	char label[DEVICE_NAME_MAX + sizeof(": ")];
	bool untold;
	const struct device_options *options;
	sd_event *event;
	const struct room *room;
	const struct vmem_device_ops *ops;
	void *arg;
	struct region_nl nl;
	struct budget budget;
	bool attached;
	bool vmm;
	struct region region;
	struct shmem shmem;
	struct consumers consumers;
	int consumers_fd;
	bool consumers_new;
	uint64_t pid_namespace;
	struct virtio_mem dev;
	struct save_state saved;
	struct excess excess;
	sd_event_source *excess_source;
	struct vhost_user vu;
	int vhost_user_fd;
	sd_event_source *region_source;
	struct turn work;
	sd_event_source *work_again_source;
	struct log_limit limit;
	struct vmem_nl_slot *slots;
	size_t nr_slots;
	uint64_t held_since;
	uint64_t hold_token;
	uint64_t log_token;
	bool log_on;
	uint64_t resize_token;
	uint64_t reset_token;
};

void vmem_device_init(struct vmem_device *device, unsigned int index,
		      bool named, const struct device_options *options,
		      struct guest_access *access,
		      const struct vmem_device_ops *ops, void *arg);
int vmem_device_open(struct vmem_device *device, sd_event *event,
		     int vhost_user_fd, int consumers_fd);
void vmem_device_close(struct vmem_device *device);

int vmem_device_attach(struct vmem_device *device, int region_fd, int memory_fd,
		       struct error *err);
int vmem_device_attach_shmem(struct vmem_device *device, int memory_fd,
			     int state_fd, struct error *err);
int vmem_device_place(struct vmem_device *device, uint64_t gpa,
		      struct error *err);
struct region *vmem_device_region(struct vmem_device *device);
uint64_t vmem_device_populated_slots(const struct vmem_device *device);
int vmem_device_set_requested(struct vmem_device *device, uint64_t size,
			      struct error *err);
int vmem_device_system_reset(struct vmem_device *device, bool force,
			     struct error *err);
int vmem_device_set_dirty_log(struct vmem_device *device, bool on,
			      struct error *err);
void vmem_device_hold(struct vmem_device *device, bool on);
uint64_t vmem_device_plugged_size(const struct vmem_device *device);
int vmem_device_resident(struct vmem_device *device, uint64_t *size);

#endif /* VMEM_DEVICE_H */
