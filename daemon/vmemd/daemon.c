// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon: devices, see device/vmem_device.c, and a control socket.
 *
 * One thread runs one event loop, which dispatches requests of the guest,
 * messages of the front end, and lines of operators. Long operations do not
 * block it: the kernel changes memslots in the background, and its answer is an
 * event; memory is discarded in parts.
 *
 * Start: descriptors and sockets, then the regions, then isolation.c, then the
 * loop. A region that comes later, by "attach", is taken over from inside the
 * loop.
 *
 * note_change() records a change. All changes of the next PUBLISH_DELAY_USEC
 * are published together: to watchers, to clients that wait for a resize, and
 * to the service manager.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/timer.h"
#include "common/size.h"
#include "control/methods.h"
#include "daemon.h"
#include "footprint.h"
#include "isolation.h"

/* Backlog of the vhost-user and control sockets. */
#define LISTEN_BACKLOG 16

/*
 * Changes within this time are published together. It is short for a person,
 * and long enough to merge the requests of a guest that plugs many blocks.
 */
#define PUBLISH_DELAY_USEC 10000

/* --- Publishing changes --- */

/* Answer the control call that waits for the device, if any. */
static void answer(struct vmem *vmem, const struct vmem_device *device,
		   uint64_t *token, int result, const char *text,
		   json_object *(*describe)(const struct vmem_device *device))
{
	uint64_t asked = *token;

	*token = 0;
	if (asked)
		control_answer(&vmem->control, asked, result,
			       result ? NULL : describe(device), text);
}

/* Answer a "hold" once no request of the guest is in progress. */
static void answer_hold(struct vmem *vmem, struct vmem_device *device)
{
	if (!virtio_mem_busy(&device->dev))
		answer(vmem, device, &device->hold_token, 0, "",
		       methods_migration);
}

static int on_save(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vmem *vmem = arg;

	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		methods_answer_save(vmem, &vmem->devices[i]);
	return 0;
}

/*
 * A request has perhaps ended: answer "save" before the next one begins, but
 * not in the middle of this one. A deferred source is the first in its turn.
 */
static void answer_save(const struct vmem *vmem,
			const struct vmem_device *device)
{
	if (device->save_token && vmem->save_source)
		sd_event_source_set_enabled(vmem->save_source,
					    SD_EVENT_ONESHOT);
}

static void note_change(struct vmem_device *device, void *arg)
{
	struct vmem *vmem = arg;
	int enabled;

	device->untold = true;
	answer_hold(vmem, device);
	answer_save(vmem, device);
	if (!vmem->publish_source ||
	    sd_event_source_get_enabled(vmem->publish_source, &enabled) < 0 ||
	    enabled != SD_EVENT_OFF)
		return;
	timer_start(vmem->publish_source, PUBLISH_DELAY_USEC);
}

/* Report the sum of all devices as the service's status. */
static void tell_manager(struct vmem *vmem)
{
	char plugged_text[SIZE_TEXT_MAX], requested_text[SIZE_TEXT_MAX];
	uint64_t plugged = 0, requested = 0;
	unsigned int connected = 0;

	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		const struct vmem_device *device = &vmem->devices[i];

		if (!device->attached)
			return;
		plugged += vmem_device_plugged_size(device);
		requested += device->dev.requested_size;
		connected += vhost_user_connected(&device->vu);
	}
	size_format(plugged, plugged_text);
	size_format(requested, requested_text);
	if (vmem->nr_devices == 1)
		notify_status(&vmem->notify,
			      "%s plugged, %s requested, front end %s",
			      plugged_text, requested_text,
			      connected ? "connected" : "absent");
	else
		notify_status(&vmem->notify,
			      "%s plugged, %s requested, %u of %u front "
			      "ends connected",
			      plugged_text, requested_text, connected,
			      vmem->nr_devices);
}

static int on_publish(sd_event_source *source __attribute__((unused)),
		      uint64_t usec __attribute__((unused)), void *arg)
{
	struct vmem *vmem = arg;
	uint64_t resident;

	tell_manager(vmem);
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		struct vmem_device *device = &vmem->devices[i];

		if (!device->untold)
			continue;
		device->untold = false;
		if (device->attached)
			vmem_device_resident(device, &resident);
		control_publish(&vmem->control, i);
	}
	return 0;
}

/* --- Devices --- */

static void on_log_set(struct vmem_device *device, int result, const char *text,
		       void *arg)
{
	answer(arg, device, &device->log_token, result, text,
	       methods_migration);
}

static void on_size_set(struct vmem_device *device, int result,
			const char *text, void *arg)
{
	answer(arg, device, &device->resize_token, result, text, methods_sizes);
}

static void on_system_reset(struct vmem_device *device, int result,
			    const char *text, void *arg)
{
	answer(arg, device, &device->reset_token, result, text, methods_sizes);
}

static void on_gone(struct vmem_device *device __attribute__((unused)),
		    void *arg)
{
	struct vmem *vmem = arg;

	log_info("the VM is gone");
	sd_event_exit(vmem->event, 0);
}

static const struct vmem_device_ops device_ops = {
	.changed = note_change,
	.size_set = on_size_set,
	.system_reset = on_system_reset,
	.log_set = on_log_set,
	.gone = on_gone,
};

/* Are all devices attached? */
static bool complete(const struct vmem *vmem)
{
	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		if (!vmem->devices[i].attached)
			return false;
	return true;
}

/**
 * daemon_device_of_region() - find the device of a region
 * @vmem: the daemon
 * @nl: netlink socket of any device
 * @region_fd: descriptor of the region
 *
 * Return: the device, or NULL.
 */
struct vmem_device *daemon_device_of_region(struct vmem *vmem,
					    struct vmem_nl *nl, int region_fd)
{
	struct vmem_nl_region state;

	if (vmem_nl_region_get(nl, VMEM_NL_BY_FD(region_fd), &state, NULL))
		return NULL;
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		struct vmem_device *device = &vmem->devices[i];
		const struct kernel_backing *region =
			vmem_device_region(device);

		if (device->attached && region && region->state.id == state.id)
			return device;
	}
	return NULL;
}

/**
 * daemon_attach() - attach a region to a device
 * @vmem: the daemon
 * @device: the device
 * @region_fd: descriptor of the region; taken over, also on error
 * @memory_fd: memory file of the region; taken over, also on error
 * @err: set on error
 *
 * A new claims file is stored with the service manager. Readiness is reported
 * with the last device.
 *
 * Return: 0; -EBUSY: another device has the region; -EOPNOTSUPP: the front end
 * maps the device's memory; an errno of vmem_device_attach().
 */
int daemon_attach(struct vmem *vmem, struct vmem_device *device, int region_fd,
		  int memory_fd, struct error *err)
{
	const struct vmem_device *other;
	char name[PASSED_FD_NAME_MAX];
	int ret;

	/* Only devices with a region in the kernel have netlink sockets. */
	if (!device->nl.read) {
		ret = error_set(
			err, -EOPNOTSUPP,
			"with --backing vmm vmemd makes the memory itself");
		goto close_fds;
	}
	other = daemon_device_of_region(vmem, device->nl.read, region_fd);
	if (other) {
		ret = error_set(err, -EBUSY, "the region is that of device %s",
				other->name);
		goto close_fds;
	}
	ret = vmem_device_attach(device, region_fd, memory_fd, err);
	if (!ret && device->consumers_new)
		notify_store(&vmem->notify,
			     passed_fd_name(device->options, "consumers", name),
			     device->consumers_fd);
	if (!ret)
		device->consumers_new = false;
	if (!ret && vmem->isolated && complete(vmem))
		notify_ready(&vmem->notify);
	return ret;

close_fds:
	close(region_fd);
	close(memory_fd);
	return ret;
}

/* --- Start and end --- */

/*
 * Listen at a path. A stale socket of an earlier daemon is replaced.
 */
static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		log_err("%s: the path is too long for a socket", path);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		goto failed;
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		/* EAGAIN means that a listener exists, with a full backlog. */
		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
		    errno != ECONNREFUSED) {
			errno = EADDRINUSE;
			goto failed;
		}
		unlink(path);
	}
	/* Accessible for this user only; an operator may change the mode. */
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	if (ret < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		goto failed;
	return fd;

failed:
	ret = -errno;
	log_err("%s: %s", path, strerror(-ret));
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * Use a passed socket, or listen at a path.
 * @option: name of the option for the path
 * @name: name of the passed descriptor
 */
static int open_socket(int *fd, const char *path, const char *option,
		       const char *name)
{
	if (*fd >= 0 && path) {
		log_err("--%s, and a descriptor \"%s\" as well", option, name);
		return -EINVAL;
	}
	if (*fd >= 0) {
		if (sd_is_socket(*fd, AF_UNIX, SOCK_STREAM, -1) > 0)
			return 0;
		log_err("\"%s\" descriptor: not a UNIX stream socket", name);
		return -EINVAL;
	}
	if (!path)
		return 0;
	*fd = listen_at(path);
	return *fd < 0 ? *fd : 0;
}

/* Open a device: check its descriptors and options, open its sockets. */
static int open_device(struct vmem *vmem, struct vmem_device *device,
		       struct device_fds *fds, bool may_attach)
{
	char name[PASSED_FD_NAME_MAX];
	int fd, consumers_fd, ret;

	passed_fd_name(device->options, "vhost-user", name);
	ret = open_socket(&fds->vhost_user, device->options->vhost_user_path,
			  "vhost-user", name);
	if (ret)
		return ret;
	if (fds->vhost_user < 0) {
		log_err("no --vhost-user, and no descriptor \"%s\"", name);
		return -EINVAL;
	}
	if (device->options->vmm && fds->region >= 0) {
		log_err("a \"region\" descriptor, and --backing vmm");
		return -EINVAL;
	}
	if (!device->options->vmm && fds->state >= 0) {
		log_err("a \"state\" descriptor, which is for --backing vmm");
		return -EINVAL;
	}
	if (!device->options->vmm && fds->region < 0 && !may_attach) {
		log_err("no \"%s\" descriptor, and no --control to attach one",
			passed_fd_name(device->options, "region", name));
		return -EINVAL;
	}
	fd = fds->vhost_user;
	consumers_fd = fds->consumers;
	fds->vhost_user = -1;
	fds->consumers = -1;
	return vmem_device_open(device, vmem->event, fd, consumers_fd);
}

static int open_control(struct vmem *vmem, struct passed_fds *fds)
{
	int ret;

	ret = open_socket(&fds->control, vmem->options.control_path, "control",
			  "control");
	if (ret || fds->control < 0)
		return ret;
	if (sd_is_socket_unix(fds->control, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_err("\"control\" descriptor: not listening");
		return -EINVAL;
	}
	ret = control_listen(&vmem->control, fds->control);
	fds->control = -1;
	if (ret)
		log_err("control socket: %s", strerror(-ret));
	return ret;
}

static int add_sources(struct vmem *vmem)
{
	sigset_t signals;
	int ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	/* Without a handler, these signals end the event loop. */
	ret = sd_event_add_signal(vmem->event, NULL, SIGTERM, NULL, NULL);
	if (ret >= 0)
		ret = sd_event_add_signal(vmem->event, NULL, SIGINT, NULL,
					  NULL);
	if (ret >= 0)
		ret = timer_add(vmem->event, &vmem->publish_source, on_publish,
				vmem);
	if (ret >= 0)
		ret = sd_event_source_set_time_accuracy(vmem->publish_source,
							PUBLISH_DELAY_USEC);
	if (ret >= 0)
		ret = sd_event_add_defer(vmem->event, &vmem->save_source,
					 on_save, vmem);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(vmem->save_source,
						  SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/*
 * Attach memory that the front end maps: passed files, or new ones, which are
 * stored with the service manager. The memory is stored before the state, so
 * that a kill in between leaves empty memory without a state, which is as good
 * as a new file.
 */
static int attach_vmm(struct vmem *vmem, struct vmem_device *device,
		      struct device_fds *fds)
{
	bool new_memory = fds->memory < 0, new_state = fds->state < 0;
	int memory_fd =
		new_memory ? vmm_make_file("vmemd-memory") : fds->memory;
	int state_fd = new_state ? vmm_make_file("vmemd-state") : fds->state;
	struct error err;
	char name[PASSED_FD_NAME_MAX];
	int ret;

	fds->memory = -1;
	fds->state = -1;
	if (memory_fd < 0 || state_fd < 0) {
		log_err_of(device->label, "memory: %s",
			   strerror(memory_fd < 0 ? -memory_fd : -state_fd));
		if (memory_fd >= 0)
			close(memory_fd);
		if (state_fd >= 0)
			close(state_fd);
		return memory_fd < 0 ? memory_fd : state_fd;
	}
	ret = vmem_device_attach_vmm(device, memory_fd, state_fd, &err);
	if (ret) {
		log_err_of(device->label, "%s", err.text);
		return ret;
	}
	if (new_memory)
		notify_store(&vmem->notify,
			     passed_fd_name(device->options, "memory", name),
			     memory_fd);
	if (new_state)
		notify_store(&vmem->notify,
			     passed_fd_name(device->options, "state", name),
			     state_fd);
	return 0;
}

/*
 * An earlier vmemd was killed before it stored the region of this memory. The
 * service manager must not pass it again beside that of the next "attach".
 */
static void drop_memory(struct vmem *vmem, const struct vmem_device *device,
			int memory_fd)
{
	char name[PASSED_FD_NAME_MAX];

	log_warning_of(device->label,
		       "a \"memory\" descriptor without its region is closed");
	close(memory_fd);
	notify_forget(&vmem->notify,
		      passed_fd_name(device->options, "memory", name));
}

/*
 * Attach the descriptors that were passed for a device.
 *
 * Return: 0; 1: the VM is gone already, which is not an error; an errno with a
 * message printed.
 */
static int attach_passed(struct vmem *vmem, struct vmem_device *device,
			 struct device_fds *fds)
{
	int region_fd = fds->region, memory_fd = fds->memory;
	struct error err;
	int ret;

	if (device->options->vmm)
		return attach_vmm(vmem, device, fds);
	fds->region = -1;
	fds->memory = -1;
	if (region_fd < 0 && memory_fd >= 0)
		drop_memory(vmem, device, memory_fd);
	if (region_fd < 0)
		return 0;
	ret = daemon_attach(vmem, device, region_fd, memory_fd, &err);
	if (ret == -ENODEV)
		return 1;
	if (ret)
		log_err_of(device->label, "%s", err.text);
	return ret;
}

/* Open the files with the limits that --prealloc checks. */
static void open_room(struct vmem *vmem)
{
	struct error err;
	bool wanted = false;

	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		wanted |= vmem->options.devices[i].prealloc;
	if (!wanted)
		return;
	if (room_open(&vmem->room, &err))
		log_warning(
			"--prealloc: %s; reaching them gets a process killed",
			err.text);
	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		vmem->devices[i].room = &vmem->room;
}

/* Start, including isolation. Descriptors that are taken over are set to -1. */
static int start(struct vmem *vmem, struct passed_fds *fds)
{
	bool may_attach = fds->control >= 0 || vmem->options.control_path;
	bool gone = false;
	int ret;

	ret = sd_event_new(&vmem->event);
	if (ret >= 0)
		ret = add_sources(vmem);
	if (ret < 0) {
		log_err("event loop: %s", strerror(-ret));
		return ret;
	}
	/* Notifications are optional: continue without them. */
	ret = notify_open(&vmem->notify, vmem->event);
	if (ret)
		log_warning("NOTIFY_SOCKET: %s", strerror(-ret));
	open_room(vmem);
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		ret = open_device(vmem, &vmem->devices[i], &fds->devices[i],
				  may_attach);
		if (ret)
			return ret;
	}
	vmem->control.event = vmem->event;
	ret = open_control(vmem, fds);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < vmem->nr_devices && !gone; i++) {
		ret = attach_passed(vmem, &vmem->devices[i], &fds->devices[i]);
		if (ret < 0)
			return ret;
		gone = ret;
	}
	if (gone)
		log_info("the VM is gone");
	else if (!complete(vmem))
		notify_status(&vmem->notify, "waiting for a region");
	ret = isolation_enter(vmem->control.listener.fd >= 0);
	if (ret)
		return ret;
	room_start(&vmem->room);
	vmem->isolated = true;
	footprint_trim();
	if (complete(vmem) || gone)
		notify_ready(&vmem->notify);
	return gone ? sd_event_exit(vmem->event, 0) : 0;
}

/**
 * daemon_new() - start the daemon, without running its event loop
 * @vmemp: set on success
 * @options: command line; strings are not copied
 * @fds: taken over, also on error
 *
 * Return: 0, or a negative errno with a message printed.
 */
int daemon_new(struct vmem **vmemp, const struct options *options,
	       struct passed_fds *fds)
{
	bool named = options->devices[0].name || options->nr_devices > 1;
	struct vmem *vmem;
	int ret;

	vmem = calloc(1, sizeof(*vmem));
	if (!vmem) {
		log_err("out of memory");
		passed_fds_close(fds);
		return -ENOMEM;
	}
	vmem->options = *options;
	vmem->notify.fd = -1;
	vmem->room.meminfo = -1;
	vmem->room.membership = -1;
	vmem->nr_devices = options->nr_devices;
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		vmem_device_init(&vmem->devices[i], i, named,
				 &vmem->options.devices[i], &vmem->access,
				 &device_ops, vmem);
	}
	control_init(&vmem->control, NULL, &methods_ops, vmem);

	ret = start(vmem, fds);
	passed_fds_close(fds);
	if (ret) {
		daemon_free(vmem);
		return ret;
	}
	*vmemp = vmem;
	return 0;
}

/* Dispatch one event source, and measure the time. */
static int take_turn(struct vmem *vmem)
{
	uint64_t began;
	int ret;

	ret = sd_event_prepare(vmem->event);
	if (!ret)
		ret = sd_event_wait(vmem->event, UINT64_MAX);
	if (ret <= 0)
		return ret;
	began = latency_now_ns();
	work_begin_turn(&vmem->access.work);
	ret = sd_event_dispatch(vmem->event);
	work_end_turn(&vmem->access.work, latency_now_ns() - began);
	return ret;
}

/* Serve until a signal arrives or the VM is gone. Return: 0, or an errno. */
int daemon_run(struct vmem *vmem)
{
	int ret = 0;

	while (ret >= 0 && sd_event_get_state(vmem->event) != SD_EVENT_FINISHED)
		ret = take_turn(vmem);
	if (ret >= 0)
		sd_event_get_exit_code(vmem->event, &ret);
	if (ret < 0)
		log_err("event loop: %s", strerror(-ret));
	notify_send(&vmem->notify, "STOPPING=1");
	return ret;
}

void daemon_free(struct vmem *vmem)
{
	/* Devices send last lines to consumers on the control socket. */
	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		vmem_device_close(&vmem->devices[i]);
	control_stop(&vmem->control);
	vmem->publish_source =
		sd_event_source_disable_unref(vmem->publish_source);
	vmem->save_source = sd_event_source_disable_unref(vmem->save_source);
	notify_close(&vmem->notify);
	room_close(&vmem->room);
	guest_access_stop(&vmem->access);
	sd_event_unref(vmem->event);
	free(vmem);
}
