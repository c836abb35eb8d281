/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One virtio-mem device of the daemon and all its parts; see vmem_device.c. */
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
 * struct vmem_device_ops - calls from a device to the daemon
 * @changed: something that status shows has changed
 * @size_set: vmem_device_set_requested() has ended: 0, or an errno with text
 * @system_reset: vmem_device_system_reset() has ended: 0, or an errno with text
 * @log_set: vmem_device_set_dirty_log() has ended: 0, or an errno with text
 * @gone: the VM has been destroyed
 *
 * @size_set, @system_reset and @log_set are called if the function returned
 * -EINPROGRESS.
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
 * @index: number of the device in this daemon
 * @name: name from the command line, or else @index as text
 * @named: the command line names devices, so messages include @name
 * @label: prefix of messages, see base/log.h: @name if @named, else ""
 * @untold: a change has not been reported to subscribers yet
 * @options: command line; not owned
 * @event: the event loop; not owned
 * @room: free memory of the host, see backing/room.h; not owned; NULL: not
 *	checked
 * @ops: callbacks of the daemon
 * @arg: for @ops
 * @nl: netlink sockets
 * @budget: memslots that were planned for the region, or that it has; all 0 if
 *	unknown
 * @attached: the device has a region, or memory that the front end maps
 * @vmm: the front end maps the memory, and @vmm_backing is the backing;
 *	otherwise @region is
 * @region: backing in the kernel
 * @vmm_backing: backing in the front end
 * @consumers: filter between @region and @dev
 * @consumers_fd: claims file of @consumers; -1: none yet
 * @consumers_new: this vmemd made the file, and no other process holds it yet
 * @pid_namespace: result of peer_namespace()
 * @dev: the device model
 * @saved: state to restore, until it is restored; block_size 0: none
 * @excess: memory in use beyond the plugged size
 * @excess_source: timer that checks @excess, if it has a cap
 * @vu: the vhost-user back end
 * @vhost_user_fd: socket to serve once the device is attached; -1 after that
 * @region_source: event source for changes of the region
 * @work: schedules virtio_mem_work()
 * @work_again_source: timer that retries failed work
 * @limit: rate limit for messages that a client can cause
 * @slots: memslots reported by the kernel, from the first page of a "slots"
 *	request until its last page
 * @nr_slots: number of @slots
 * @held_since: time of the hold, in seconds since 1970; 0: unknown
 * @hold_token: client whose "hold" waits for the request in progress; 0: none
 * @save_token: clients whose "save" waits for the request in progress; 0: none
 * @log_token: client whose "dirty-log" waits for the kernel; 0: none
 * @log_on: value that this "dirty-log" sets
 * @resizing_to: requested size that waits for the kernel; 0: none
 * @resize_token: client whose "resize" waits for the kernel; 0: none
 * @reset_token: client whose "system-reset" is in progress; 0: none
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
	struct kernel_nl nl;
	struct budget budget;
	bool attached;
	bool vmm;
	struct kernel_backing region;
	struct vmm_backing vmm_backing;
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
	uint64_t save_token;
	uint64_t log_token;
	bool log_on;
	uint64_t resizing_to;
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
int vmem_device_attach_vmm(struct vmem_device *device, int memory_fd,
			   int state_fd, struct error *err);
int vmem_device_place(struct vmem_device *device, uint64_t gpa,
		      struct error *err);
struct kernel_backing *vmem_device_region(struct vmem_device *device);
uint64_t vmem_device_populated_slots(const struct vmem_device *device);
uint64_t vmem_device_promised_size(const struct vmem_device *device);
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
