// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One virtio-mem device of the daemon: the vhost-user back end, the device
 * model, and the region that the device manages.
 *
 *	guest -> vhost/queue -> virtio_mem -> consumer -> backing/kernel -> KVM
 *	VMM   -> vhost/messages                  |
 *	                                         +-> consumers (control/)
 * or
 *	guest -> vhost/queue -> virtio_mem -> backing/vmm -> VMM
 *	VMM   -> vhost/messages               (vhost/backend_channel)
 *
 * A request passes from left to right by function calls, and its answer passes
 * back by callbacks. start_chain() connects the parts. Consumers are the filter
 * of a backing, see backing.h. A VMM that maps memory for the device informs
 * its other devices itself, so there are no consumers in this case.
 *
 * A device is opened before the daemon drops its privileges, because it needs
 * netlink sockets. It gets its region at the start or later, by "attach".
 * Before that it accepts no front end.
 *
 * Devices only share the event loop. Each has its own netlink sockets, so that
 * answers cannot be mixed up, and a change that is slow in KVM delays no other
 * device.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timer.h"
#include "common/clocks.h"
#include "common/min_max.h"
#include "common/save_file.h"
#include "common/size.h"
#include "device/restore.h"
#include "device/vmem_device.h"

/* Memory block of Linux on x86-64 with up to 64 GiB of memory at boot. */
#define LINUX_SECTION_SIZE (128ULL << 20)

/* Delay before discarding memory is tried again after a failure. */
#define WORK_AGAIN_USEC (10 * 1000000ULL)

uint64_t vmem_device_plugged_size(const struct vmem_device *device)
{
	return virtio_mem_plugged_size(&device->dev);
}

static void want_work(void *arg)
{
	struct vmem_device *device = arg;

	turn_take(&device->work);
}

/* --- The memory --- */

/**
 * vmem_device_resident() - get the resident memory, and check it for excess
 * @device: the device
 * @size: set to the result of memory_resident()
 *
 * Return: 0, or an errno.
 */
int vmem_device_resident(struct vmem_device *device, uint64_t *size)
{
	struct virtio_mem *dev = &device->dev;
	int ret;

	ret = memory_resident(dev->backing->memory, size);
	if (ret)
		return ret;
	if (excess_look(&device->excess, *size,
			vmem_device_plugged_size(device),
			virtio_mem_owed_size(dev), virtio_mem_sweeping(dev)))
		virtio_mem_sweep(dev);
	return 0;
}

static int on_excess(sd_event_source *source,
		     uint64_t usec __attribute__((unused)), void *arg)
{
	struct vmem_device *device = arg;
	uint64_t size;

	vmem_device_resident(device, &size);
	return timer_start(source, EXCESS_CHECK_USEC);
}

/* Warn the operator of memory that will be slow, or may cause SIGBUS. */
static void warn_of_memory(const struct vmem_device *device)
{
	const struct memory *memory = &device->region.memory;
	const struct vmem_nl_region *state = &device->region.state;
	char can[SIZE_TEXT_MAX], could[SIZE_TEXT_MAX];
	uint64_t wanted = memory_map_wanted(memory);
	uint64_t mapped = memory_map_size(memory, state->gpa, state->hva,
					  state->slot_size);

	if (mapped < wanted)
		log_warning_of(
			device->label,
			"KVM maps the memory in pages of %s at most, not of "
			"%s, which makes the guest slower: %s",
			size_format(mapped, can), size_format(wanted, could),
			state->slot_size < wanted
				? "memslots are smaller"
				: "guest address and host address differ "
				  "modulo that");
	if (memory->kind == MEMORY_HUGETLB && !device->options->prealloc)
		log_warning_of(
			device->label,
			"hugetlb memory without --prealloc: if the host has "
			"no free pages when the guest first touches what "
			"it has plugged, the VMM gets a SIGBUS, unless it "
			"has reserved them");
}

/*
 * Linux adds memory in whole, aligned memory blocks. It never plugs the parts
 * of the region before the first and after the last of them, so that a resize
 * to the whole region cannot complete.
 */
static void warn_of_sections(struct vmem_device *device, uint64_t gpa,
			     uint64_t size)
{
	uint64_t first = gpa + (LINUX_SECTION_SIZE - 1), last = gpa + size;
	char lost[SIZE_TEXT_MAX], section[SIZE_TEXT_MAX];
	uint64_t usable;

	first -= first % LINUX_SECTION_SIZE;
	last -= last % LINUX_SECTION_SIZE;
	usable = max(last, first) - first;
	if (usable < size)
		log_limited(&device->limit, LOG_LEVEL_WARNING, device->label,
			    "a Linux guest cannot use %s of the region: it "
			    "adds memory in aligned blocks of %s",
			    size_format_exact(size - usable, lost),
			    size_format(LINUX_SECTION_SIZE, section));
}

/*
 * A device frees the memory of blocks at their offset in the region, so two
 * devices with the same file would free each other's memory.
 */
static int check_memory(const struct vmem_device *device, int memory_fd,
			struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(memory_fd, &st) < 0) {
		ret = -errno;
		return error_set(err, ret, "memory descriptor: %s",
				 strerror(-ret));
	}
	if (!guest_access_has_file(device->vu.access, st.st_dev, st.st_ino))
		return 0;
	return error_set(err, -EBUSY,
			 "memory descriptor: the memory of another device");
}

static void note_change(void *arg)
{
	struct vmem_device *device = arg;

	device->ops->changed(device, device->arg);
}

/* --- The device model --- */

static void config_changed(void *arg)
{
	struct vmem_device *device = arg;

	vhost_channel_config_changed(&device->vu);
}

static int on_work(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vmem_device *device = arg;
	int ret;

	ret = virtio_mem_work(&device->dev);
	if (ret > 0) {
		want_work(device);
	} else if (ret < 0) {
		timer_start(device->work_again_source, WORK_AGAIN_USEC);
	}
	return 0;
}

static int on_work_again(sd_event_source *source,
			 uint64_t usec __attribute__((unused)), void *arg)
{
	return on_work(source, arg);
}

static bool answered(void *arg, const struct virtio_mem_resp *resp)
{
	struct vmem_device *device = arg;

	return vhost_user_answered(&device->vu, resp);
}

/* --- The region --- */

static int on_region(sd_event_source *source __attribute__((unused)),
		     int fd __attribute__((unused)), uint32_t revents,
		     void *arg)
{
	struct vmem_device *device = arg;
	bool others;
	int ret;

	ret = kernel_read_changes(&device->region, &others);
	if (ret == -ENODEV || revents & EPOLLHUP) {
		device->ops->gone(device, device->arg);
		return 0;
	}
	if (ret) {
		log_err_of(device->label, "reading the region: %s",
			   strerror(-ret));
		return sd_event_exit(device->event, ret);
	}
	if (others)
		kernel_recheck(&device->region);
	return 0;
}

/* Another process has changed the region. */
static void on_news(void *arg)
{
	struct vmem_device *device = arg;
	uint64_t size = device->region.state.requested_size;

	log_debug_of(device->label, "another process has changed the region");
	if (size != device->dev.requested_size)
		consumers_note_requested(&device->consumers, size);
	virtio_mem_set_requested(&device->dev, size);
	consumers_changed(&device->consumers);
	virtio_mem_backing_changed(&device->dev);
}

/* Check a requested size. */
static int check_requested(const struct vmem_device *device, uint64_t size,
			   struct error *err)
{
	const struct backing *backing = device->dev.backing;
	char pretty[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];

	if (size > backing->size)
		return error_set(err, -ERANGE,
				 "%s is more than the region has (%s)",
				 size_format_exact(size, pretty),
				 size_format_exact(backing->size, limit));
	if (size % backing->block_size) {
		return error_set(err, -EINVAL,
				 "%" PRIu64
				 " bytes is not a multiple of the block "
				 "size (%s)",
				 size, size_format(backing->block_size, limit));
	}
	return consumers_check_mappings(&device->consumers, size, err);
}

/* The requested size, or the one that will replace it if that is larger. */
uint64_t vmem_device_promised_size(const struct vmem_device *device)
{
	return max(device->resizing_to, device->dev.requested_size);
}

/**
 * vmem_device_set_requested() - set the requested size, persistently
 * @device: the device
 * @size: bytes
 * @err: set on error
 *
 * The guest is notified once the kernel has stored the size.
 *
 * Return: 0; -EINPROGRESS: ops->size_set() will be called; an errno.
 */
int vmem_device_set_requested(struct vmem_device *device, uint64_t size,
			      struct error *err)
{
	struct backing *backing = device->dev.backing;
	int ret;

	ret = check_requested(device, size, err);
	if (ret)
		return ret;
	ret = backing->ops->set_requested(backing, size, err);
	if (!ret)
		virtio_mem_set_requested(&device->dev, size);
	/* A request that is replaced may already be on its way to the kernel. */
	if (ret == -EINPROGRESS && size > device->resizing_to)
		device->resizing_to = size;
	return ret;
}

static void on_size_set(void *arg, int result, const char *text)
{
	struct vmem_device *device = arg;

	if (result)
		log_limited(&device->limit, LOG_LEVEL_WARNING, device->label,
			    "the requested size cannot be set: %s", text);
	device->resizing_to = 0;
	/* Also on an error: an earlier request may have changed the size. */
	virtio_mem_set_requested(&device->dev,
				 device->region.state.requested_size);
	device->ops->size_set(device, result, text, device->arg);
}

/**
 * vmem_device_system_reset() - unplug all blocks for a reset of the system
 * @device: the device
 * @force: also if a driver is ready
 * @err: set on error
 *
 * On a reset of the system, the VMM first resets the device and then calls
 * this. A driver that is ready belongs to a running system, which uses the
 * memory.
 *
 * Return: 0; -EINPROGRESS: ops->system_reset() will be called; -EBUSY: a driver
 * is ready, or the host failed; -EALREADY: a reset is in progress.
 */
int vmem_device_system_reset(struct vmem_device *device, bool force,
			     struct error *err)
{
	int ret;

	if (!force && vhost_user_driver_ready(&device->vu))
		return error_set(
			err, -EBUSY,
			"the guest's driver is in use: reset the device first");
	ret = virtio_mem_system_reset(&device->dev);
	if (ret == -EBUSY)
		error_set(err, ret, "%s", device->dev.backing->error.text);
	else if (ret == -EALREADY)
		error_set(err, ret, "a reset of the system is in progress");
	return ret;
}

static void on_system_reset(void *arg, int result)
{
	struct vmem_device *device = arg;

	device->ops->system_reset(device, result,
				  result ? device->dev.backing->error.text : "",
				  device->arg);
	/* Requests of the new system's driver may be waiting in the ring. */
	vhost_user_go_on(&device->vu);
}

/**
 * vmem_device_set_dirty_log() - switch dirty logging of the region on or off
 * @device: the device
 * @on: whether to log
 * @err: set on error
 *
 * Return: -EINPROGRESS: ops->log_set() will be called; an errno.
 */
int vmem_device_set_dirty_log(struct vmem_device *device, bool on,
			      struct error *err)
{
	return kernel_set_dirty_log(&device->region, on, err);
}

static void on_log_set(void *arg, int result, const char *text)
{
	struct vmem_device *device = arg;

	if (result)
		log_limited(&device->limit, LOG_LEVEL_WARNING, device->label,
			    "dirty logging cannot be set: %s", text);
	device->ops->log_set(device, result, text, device->arg);
}

/* Suspend or resume plugging and unplugging. */
void vmem_device_hold(struct vmem_device *device, bool on)
{
	if (on == device->dev.held)
		return;
	/* 0 means not held, or an unknown time. */
	if (!on || clock_realtime_s(&device->held_since))
		device->held_since = 0;
	log_limited(&device->limit, LOG_LEVEL_INFO, device->label,
		    on ? "held: nothing is plugged or unplugged"
		       : "held no longer");
	virtio_mem_hold(&device->dev, on);
}

/*
 * Restore the saved state, if there is one.
 *
 * Return: 0: restored; 1: the region was left as it is; an errno.
 */
static int restore(struct vmem_device *device, struct error *err)
{
	const struct save_state *saved = &device->saved;
	struct kernel_backing *region = &device->region;
	char plugged[SIZE_TEXT_MAX];
	int ret;

	if (!saved->block_size)
		return 1;
	ret = restore_check(saved, region, &device->dev, err);
	if (!ret)
		ret = restore_region(region, saved, err);
	if (ret > 0)
		log_info_of(device->label,
			    "the region was served before: %s is not restored",
			    device->options->restore_path);
	if (ret)
		return ret;
	/* The saved state has the size of the usable region. */
	region->used_before = false;
	log_info_of(device->label, "restored: %s in %" PRIu64 " runs",
		    size_format(save_plugged_size(saved), plugged),
		    saved->nr_runs);
	return 0;
}

/* Connect the device model, consumers and an attached backing. */
static int start_chain(struct vmem_device *device, struct backing *backing,
		       uint64_t requested_size, bool used_before)
{
	const struct vmem_nl_region *state = &device->region.state;

	virtio_mem_start(&device->dev, backing, requested_size, used_before);
	if (backing != &device->region.backing)
		return 0;
	device->consumers.label = device->label;
	return consumers_start(&device->consumers, device->event, backing,
			       state->slot_size, state->first_slot);
}

/* Load the recorded consumers, and record consumers from now on. */
static int keep_consumers(struct vmem_device *device, struct error *err)
{
	const struct vmem_nl_region *state = &device->region.state;
	const struct claims_region region = {
		.region_id = state->id,
		.gpa = state->gpa,
		.size = state->size,
	};

	if (device->consumers_fd < 0) {
		device->consumers_fd = vmm_make_file("vmemd-consumers");
		device->consumers_new = true;
	}
	if (device->consumers_fd < 0)
		return error_set(err, device->consumers_fd,
				 "a file for consumers: %s",
				 strerror(-device->consumers_fd));
	return consumers_keep(&device->consumers, device->consumers_fd, &region,
			      device->pid_namespace, err);
}

static void stop_chain(struct vmem_device *device)
{
	virtio_mem_stop(&device->dev);
	consumers_stop(&device->consumers);
}

/* Serve the vhost-user socket, now that the device is attached. */
static int serve_vhost_user(struct vmem_device *device)
{
	int listening = 0;
	socklen_t size = sizeof(listening);
	int fd = device->vhost_user_fd;
	int ret;

	device->vhost_user_fd = -1;
	if (fd < 0)
		return 0;
	/* A descriptor that is no socket leaves the value at 0. */
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
	ret = listening ? vhost_user_listen(&device->vu, fd)
			: vhost_user_adopt(&device->vu, fd);
	if (ret)
		log_err_of(device->label, "vhost-user socket: %s",
			   strerror(-ret));
	return ret;
}

/**
 * vmem_device_attach() - attach a region in the kernel to the device
 * @device: the device
 * @region_fd: descriptor of the region; taken over, also on error
 * @memory_fd: memory file of the region; taken over, also on error
 * @err: set on error
 *
 * Return: 0, or an errno.
 */
int vmem_device_attach(struct vmem_device *device, int region_fd, int memory_fd,
		       struct error *err)
{
	const struct device_options *options = device->options;
	struct kernel_backing *region = &device->region;
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	bool restored;
	int ret;

	ret = check_memory(device, memory_fd, err);
	if (!ret)
		ret = kernel_attach(region, device->event, &device->nl,
				    region_fd, memory_fd, err);
	if (ret) {
		close(region_fd);
		close(memory_fd);
		return ret;
	}
	ret = budget_check(&options->budget, region->state.slot_size,
			   region->state.block_size, region->state.nr_slots,
			   err);
	if (ret) {
		kernel_detach(region);
		return ret;
	}
	budget_note(&device->budget, region->state.gpa, region->state.size,
		    region->state.slot_size, region->state.nr_slots);
	region->label = device->label;
	region->prealloc = options->prealloc;
	region->memory.room = device->room;
	ret = restore(device, err);
	if (ret < 0) {
		kernel_detach(region);
		return ret;
	}
	restored = !ret;
	ret = start_chain(device, &region->backing,
			  region->state.requested_size, region->used_before);
	if (ret) {
		error_set(err, ret, "the event loop: %s", strerror(-ret));
		goto stop_chain;
	}
	ret = keep_consumers(device, err);
	if (ret)
		goto stop_chain;
	if (restored)
		virtio_mem_keep_usable(&device->dev,
				       device->saved.usable_region_size);
	region->news = on_news;
	region->size_set = on_size_set;
	region->log_set = on_log_set;
	region->arg = device;
	if (options->has_requested_size && !restored && !region->used_before &&
	    !region->state.requested_size) {
		ret = vmem_device_set_requested(device, options->requested_size,
						err);
		if (ret && ret != -EINPROGRESS)
			goto stop_chain;
	}
	ret = sd_event_add_io(device->event, &device->region_source, region_fd,
			      EPOLLIN, on_region, device);
	if (ret < 0) {
		error_set(err, ret, "the region cannot be polled: %s",
			  strerror(-ret));
		goto stop_chain;
	}
	device->attached = true;
	if (device->excess.has_cap)
		sd_event_source_set_enabled(device->excess_source,
					    SD_EVENT_ONESHOT);
	ret = serve_vhost_user(device);
	if (ret) {
		error_set(err, ret, "the vhost-user socket is unusable");
		goto forget;
	}
	log_info_of(device->label, "region %u: %s at 0x%" PRIx64 ", %s plugged",
		    region->state.id, size_format(region->backing.size, size),
		    region->backing.gpa,
		    size_format(vmem_device_plugged_size(device), plugged));
	save_state_free(&device->saved);
	warn_of_memory(device);
	warn_of_sections(device, region->backing.gpa, region->backing.size);
	/* A migration that held an earlier vmemd may be in progress. */
	if (region->state.dirty_log) {
		log_info_of(device->label,
			    "dirty pages are logged: held as for a migration");
		vmem_device_hold(device, true);
	}
	note_change(device);
	return 0;

forget:
	device->attached = false;
	sd_event_source_set_enabled(device->excess_source, SD_EVENT_OFF);
	device->region_source =
		sd_event_source_disable_unref(device->region_source);
stop_chain:
	stop_chain(device);
	kernel_detach(region);
	return ret;
}

/* The region in the kernel; NULL if the front end maps the memory. */
struct kernel_backing *vmem_device_region(struct vmem_device *device)
{
	return device->vmm ? NULL : &device->region;
}

/* Number of memslots that exist, as far as known. */
uint64_t vmem_device_populated_slots(const struct vmem_device *device)
{
	const struct backing *backing = device->dev.backing;

	return backing ? backing->ops->populated_slots(backing) : 0;
}

/**
 * vmem_device_place() - set the guest address of the region
 * @device: the device
 * @gpa: guest address
 * @err: set on error
 *
 * Return: 0; an errno of vmm_place(); -EOPNOTSUPP: the region is in the kernel,
 * which knows its address.
 */
int vmem_device_place(struct vmem_device *device, uint64_t gpa,
		      struct error *err)
{
	struct backing *backing = device->dev.backing;
	int ret;

	if (!backing->ops->place) {
		return error_set(
			err, -EOPNOTSUPP,
			"the kernel knows where the region is; only with "
			"--backing vmm vmemd has to be told");
	}
	ret = backing->ops->place(backing, gpa, err);
	if (!ret) {
		log_limited(&device->limit, LOG_LEVEL_INFO, device->label,
			    "the region is at 0x%" PRIx64 " in the guest", gpa);
		warn_of_sections(device, gpa, backing->size);
		config_changed(device);
		note_change(device);
	}
	return ret;
}

/**
 * vmem_device_attach_vmm() - attach memory that the front end maps
 * @device: the device
 * @memory_fd: the memory file; taken over, also on error
 * @state_fd: the state file; taken over, also on error
 * @err: set on error
 *
 * Return: 0, or an errno.
 */
int vmem_device_attach_vmm(struct vmem_device *device, int memory_fd,
			   int state_fd, struct error *err)
{
	const struct device_options *options = device->options;
	struct vmm_backing *vmm = &device->vmm_backing;
	struct backing *backing = &vmm->backing;
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	int ret;

	ret = check_memory(device, memory_fd, err);
	if (ret) {
		close(memory_fd);
		close(state_fd);
		return ret;
	}
	ret = vmm_attach(vmm, device->event, &device->vu, memory_fd, state_fd,
			 options->region_size, options->block_size,
			 options->slot_size, err);
	if (ret)
		return ret;
	ret = start_chain(device, backing, vmm->state.was.requested_size,
			  vmm->state.was.used);
	if (!ret && options->has_requested_size && !vmm->state.found)
		ret = vmem_device_set_requested(device, options->requested_size,
						err);
	if (!ret && options->gpa && !backing->placed)
		ret = vmm_place(vmm, options->gpa, err);
	if (ret)
		goto stop_chain;
	device->attached = true;
	if (device->excess.has_cap)
		sd_event_source_set_enabled(device->excess_source,
					    SD_EVENT_ONESHOT);
	ret = serve_vhost_user(device);
	if (ret) {
		error_set(err, ret, "the vhost-user socket is unusable");
		goto forget;
	}
	log_info_of(device->label, "memory of %s in %u slots, %s plugged",
		    size_format(backing->size, size), vmm->nr_slots,
		    size_format(vmem_device_plugged_size(device), plugged));
	if (backing->placed)
		warn_of_sections(device, backing->gpa, backing->size);
	note_change(device);
	return 0;

forget:
	device->attached = false;
	sd_event_source_set_enabled(device->excess_source, SD_EVENT_OFF);
stop_chain:
	stop_chain(device);
	vmm_detach(vmm);
	return ret;
}

/* --- Start and end --- */

/**
 * vmem_device_init() - initialise a device
 * @device: the device
 * @index: number of the device in this daemon
 * @named: messages include the name of the device
 * @options: command line; not owned
 * @access: guest memory that the daemon may access; not owned
 * @ops: callbacks; not owned
 * @arg: for @ops
 */
void vmem_device_init(struct vmem_device *device, unsigned int index,
		      bool named, const struct device_options *options,
		      struct guest_access *access,
		      const struct vmem_device_ops *ops, void *arg)
{
	*device = (struct vmem_device){
		.index = index,
		.named = named,
		.options = options,
		.vmm = options->vmm,
		.ops = ops,
		.arg = arg,
		.vhost_user_fd = -1,
		.consumers_fd = -1,
		.excess =
			{
				.label = device->label,
				.has_cap = options->has_unplugged_cap,
				.cap = options->unplugged_cap,
			},
		.dev =
			{
				.label = device->label,
				.has_node = options->has_node,
				.node_id = options->node,
				.config_changed = config_changed,
				.changed = note_change,
				.work = want_work,
				.answered = answered,
				.system_reset = on_system_reset,
				.arg = device,
			},
	};
	if (options->name)
		snprintf(device->name, sizeof(device->name), "%s",
			 options->name);
	else
		snprintf(device->name, sizeof(device->name), "%u", index);
	if (named)
		snprintf(device->label, sizeof(device->label),
			 "%s: ", device->name);
	/* @access has room for the maximum number of devices. */
	guest_access_add(access, &device->dev);
	device->dev.work_done = &access->work;
	vhost_user_init(&device->vu, NULL, &device->dev, access);
	vhost_user_set_label(&device->vu, device->label);
	device->vu.offer_packed = options->packed;
	device->vu.changed = note_change;
	device->vu.arg = device;
}

static int add_sources(struct vmem_device *device)
{
	int ret;

	ret = turn_init(&device->work, device->event, on_work, device);
	if (ret >= 0)
		ret = timer_add(device->event, &device->work_again_source,
				on_work_again, device);
	if (ret >= 0)
		ret = timer_add(device->event, &device->excess_source,
				on_excess, device);
	if (ret >= 0)
		ret = sd_event_source_set_time_relative(device->excess_source,
							EXCESS_CHECK_USEC);
	if (ret < 0)
		log_err_of(device->label, "event loop: %s", strerror(-ret));
	return ret < 0 ? ret : 0;
}

/**
 * vmem_device_open() - acquire all resources that need privileges
 * @device: initialised by vmem_device_init()
 * @event: the event loop; not owned
 * @vhost_user_fd: socket for the front end; taken over, also on error
 * @consumers_fd: claims file of the consumers; taken over, also on error; -1:
 *	none yet
 *
 * Return: 0, or a negative errno with a message printed.
 */
int vmem_device_open(struct vmem_device *device, sd_event *event,
		     int vhost_user_fd, int consumers_fd)
{
	const char *path = device->options->restore_path;
	struct error err;
	int ret;

	device->event = event;
	device->vu.event = event;
	device->vhost_user_fd = vhost_user_fd;
	device->consumers_fd = consumers_fd;
	/* /proc is out of reach later. */
	device->pid_namespace = peer_namespace();
	vhost_user_prepare(&device->vu);
	ret = add_sources(device);
	if (ret)
		return ret;
	if (device->vmm)
		return 0;
	ret = kernel_nl_open(&device->nl, &err);
	if (ret) {
		log_err_of(device->label, "%s", err.text);
		return ret;
	}
	if (!path)
		return 0;
	ret = save_file_read(path, &device->saved, &err);
	if (ret)
		log_err_of(device->label, "--restore %s: %s", path, err.text);
	return ret;
}

/* Close the device. Blocks stay plugged, in the kernel or the state file. */
void vmem_device_close(struct vmem_device *device)
{
	struct backing *backing;

	vhost_user_stop(&device->vu);
	if (device->vhost_user_fd >= 0)
		close(device->vhost_user_fd);
	if (device->consumers_fd >= 0)
		close(device->consumers_fd);
	device->region_source =
		sd_event_source_disable_unref(device->region_source);
	if (device->attached) {
		/* The control socket is still served and checks @attached. */
		device->attached = false;
		backing = device->dev.backing;
		stop_chain(device);
		backing->ops->detach(backing);
	}
	turn_end(&device->work);
	device->work_again_source =
		sd_event_source_disable_unref(device->work_again_source);
	device->excess_source =
		sd_event_source_disable_unref(device->excess_source);
	free(device->slots);
	save_state_free(&device->saved);
	kernel_nl_close(&device->nl);
}
