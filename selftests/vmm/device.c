// SPDX-License-Identifier: GPL-2.0-or-later
#include "device.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "kvmvmem.h"
#include "layout.h"
#include "memory.h"
#include "options.h"
#include "region.h"
#include "util.h"

/*
 * Everything that a front end needs to know of virtio-mem (virtio 1.2, 5.15).
 */
enum {
	VIRTIO_MEM_ID = 24,
	VIRTIO_MEM_QUEUES = 1,
	VIRTIO_MEM_CONFIG_SIZE = 56,
};

/* Seconds between attempts to resume a closed view. */
#define VIEW_AGAIN_S 1

/* Same values as in the ACPI tables. */
static const struct {
	uint64_t gpa;
	uint32_t gsi;
} places[MAX_DEVICES] = {
	{VIRTIO_MMIO0_GPA, VIRTIO_MMIO0_GSI},
	{VIRTIO_MMIO1_GPA, VIRTIO_MMIO1_GSI},
};

void device_init(struct device *device)
{
	memset(device, 0, sizeof(*device));
	device->region_fd = -1;
	device->view_timer = -1;
	vhost_user_init(&device->vu);
	reconnect_init(&device->reconnect);
	probe_init(&device->probe);
}

uint64_t device_mmio_gpa(const struct device *device)
{
	return places[device->index].gpa;
}

/*
 * Create the object for the command line's daemon, without a call of the
 * daemon.
 */
static int open_vmemd(struct device *device)
{
	const struct options *options = device->options;
	struct kvmvmem_error reason;
	int ret;

	ret = kvmvmem_vmemd_new(&device->vmemd, options_control(options),
				&reason);
	if (ret)
		error("%s", reason.text);
	else
		kvmvmem_vmemd_set_timeout(device->vmemd, VMEMD_ANSWER_MS);
	return ret;
}

/* Ask a running vmemd for the size of the memslots. */
static int plan(struct device *device, int vm_fd, uint32_t used)
{
	struct region_config *region = &device->config->region;
	int limit = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	struct kvmvmem_plan plan = {
		.size = sizeof(plan),
		.region_size = region->size,
		.block_size = region->block_size,
		.gpa = region->gpa,
		.used = used,
		.kvm_limit = (unsigned int)limit,
	};
	struct kvmvmem_error reason;
	int ret;

	ret = kvmvmem_vmemd_plan(device->vmemd, device->config->name, &plan,
				 &reason);
	if (ret)
		error("no plan from %s: %s", device->options->control,
		      reason.text);
	else
		region->slot_size = plan.slot_size;
	return ret;
}

int device_place(struct device *device, int vm_fd, struct memory *memory,
		 unsigned int phys_bits, uint64_t min_gpa, uint32_t first_slot,
		 uint32_t used)
{
	struct device_options *config = device->config;
	struct region_config *region = &config->region;
	int ret;

	ret = open_vmemd(device);
	if (!ret && config->plan)
		ret = plan(device, vm_fd, used);
	if (!ret)
		ret = region_place(region, phys_bits, min_gpa);
	if (!ret)
		ret = memory_add_region(memory, region->gpa, region->size,
					region->page_size, &device->range);
	if (ret)
		return ret;
	device->first_slot = first_slot;
	return 0;
}

/* Pass the region to a running vmemd. Return: a socket, or a negative errno. */
static int attach(const struct device *device, struct kvmvmem_error *reason)
{
	int ret;

	ret = kvmvmem_vmemd_attach(device->vmemd, device->config->name,
				   device->region_fd, device->range->fd,
				   reason);
	if (ret)
		return ret;
	ret = vhost_user_connect(device->config->vhost_user);
	if (ret < 0)
		snprintf(reason->text, sizeof(reason->text), "%s: %s",
			 device->config->vhost_user, strerror(-ret));
	return ret;
}

/*
 * Connect again to a vmemd that was not started here and may be running again.
 */
static int connect_again(void *opaque)
{
	struct device *device = opaque;
	struct kvmvmem_error reason;
	int ret = attach(device, &reason);

	/* A vmemd that is not there yet is expected, one that refuses is not. */
	if (ret < 0 && ret != -ENOENT && ret != -ECONNREFUSED &&
	    ret != -EPIPE && ret != device->refusal)
		error("vmemd is back, but: %s", reason.text);
	device->refusal = ret;
	return ret;
}

/* Start a vmemd with the region. Return: a socket, or a negative errno. */
static int spawn(struct device *device, struct kvmvmem_error *reason)
{
	const struct options *options = device->options;
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && options->vmemd_args[i]; i++)
		ret = kvmvmem_vmemd_add_option(device->vmemd,
					       options->vmemd_args[i], reason);
	if (!ret)
		ret = kvmvmem_vmemd_add_device(device->vmemd, NULL,
					       device->region_fd,
					       device->range->fd, reason);
	if (!ret)
		ret = kvmvmem_vmemd_spawn(device->vmemd, options->vmemd,
					  reason);
	if (ret)
		return ret;
	device->vmemd_runs = true;
	return kvmvmem_vmemd_front_end(device->vmemd, NULL, reason);
}

/* Pass the region to vmemd. Return: a socket, or a negative errno. */
static int find_vmemd(struct device *device)
{
	struct kvmvmem_error reason;
	int fd;

	fd = device->options->vmemd ? spawn(device, &reason)
				    : attach(device, &reason);
	if (fd < 0)
		error("no vmemd: %s", reason.text);
	return fd;
}

/*
 * Memory without a plugged block must not be accessible to emulated devices. The
 * view follows vmemd from the main loop.
 */
static int open_view(struct device *device)
{
	const struct kvmvmem_view_config config = {
		.size = sizeof(config),
		.memory_fd = device->range->fd,
		.region_size = device->range->size,
		.control_path = options_control(device->options),
		.device = device->config->name,
		.name = "vmem-vmm",
	};
	struct kvmvmem_error reason;
	int ret;

	if (!config.control_path)
		return 0;
	device->view_timer =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (device->view_timer < 0) {
		ret = -errno;
		error_errno(errno, "cannot make a timer");
		return ret;
	}
	ret = kvmvmem_view_new(&device->view, &config, &reason);
	if (ret)
		error("%s", reason.text);
	else
		device->range->view = kvmvmem_view_address(device->view);
	return ret;
}

/* The three calls, then the device that uses them. */
int device_connect(struct device *device, int vm_fd,
		   const struct memory *memory)
{
	int fd, ret;

	device->region_fd =
		region_create(&device->config->region, vm_fd,
			      device->range->hva, device->first_slot);
	if (device->region_fd < 0)
		return device->region_fd;
	fd = find_vmemd(device);
	if (fd < 0)
		return fd;
	ret = open_view(device);
	if (ret) {
		close(fd);
		return ret;
	}
	ret = vhost_user_open(&device->vu, fd, VIRTIO_MEM_CONFIG_SIZE);
	if (ret)
		return ret;
	ret = vhost_user_set_memory(&device->vu, memory);
	if (ret) {
		error_errno(-ret, "cannot share memory with the backend");
		return ret;
	}
	device->connected = true;
	device->has_virtio = true;
	ret = virtio_mmio_open(&device->virtio, vm_fd, device_mmio_gpa(device),
			       places[device->index].gsi, memory, &device->vu,
			       VIRTIO_MEM_ID, VIRTIO_MEM_QUEUES,
			       ~device->options->features_hidden);
	if (ret || device->options->vmemd)
		return ret;
	device->virtio.comes_back = true;
	device->reconnect.dev = &device->virtio;
	device->reconnect.memory = memory;
	device->reconnect.connect = connect_again;
	device->reconnect.opaque = device;
	return reconnect_open(&device->reconnect);
}

void device_prepare_view(const struct device *device,
			 struct pollfd fds[DEVICE_NR_POLL])
{
	for (unsigned int i = 0; i < DEVICE_NR_POLL; i++)
		fds[i] = (struct pollfd){.fd = -1};
	fds[DEVICE_POLL_VIEW] = (struct pollfd){
		device->view ? kvmvmem_consumer_fd(
				       kvmvmem_view_consumer(device->view))
			     : -1,
		POLLIN, 0};
	fds[DEVICE_POLL_VIEW_AGAIN] =
		(struct pollfd){device->view_timer, POLLIN, 0};
}

void device_prepare_poll(const struct device *device,
			 struct pollfd fds[DEVICE_NR_POLL])
{
	device_prepare_view(device, fds);
	fds[DEVICE_POLL_VMEMD] = (struct pollfd){
		device->vmemd_runs ? kvmvmem_vmemd_pidfd(device->vmemd) : -1,
		POLLIN, 0};
	fds[DEVICE_POLL_BACKEND] = (struct pollfd){
		device->connected ? device->vu.fd : -1, POLLRDHUP, 0};
	/*
	 * Another thread reconnects, and signals when the connection is ready.
	 */
	fds[DEVICE_POLL_CHANNEL] = (struct pollfd){
		device->connected ? device->vu.channel_fd : -1, POLLIN, 0};
	fds[DEVICE_POLL_BACK] =
		(struct pollfd){device->reconnect.back_fd, POLLIN, 0};
}

/*
 * The guest continues without its backend, with its current memory. It cannot
 * be resized unless the backend is started again.
 */
static void backend_lost(struct device *device, const char *what)
{
	const char *name = device->config->name;

	error("%s%s%s; the guest keeps the memory it has", name ? name : "",
	      name ? ": " : "", what);
	vhost_user_shutdown(&device->vu);
	if (!device->virtio.comes_back)
		virtio_mmio_config_changed(&device->virtio);
}

/* The connection is closed, and everything was read from it. */
static void backend_closed(struct device *device)
{
	device->connected = false;
	backend_lost(device, "the backend has closed");
	if (!device->virtio.comes_back)
		return;
	/*
	 * The channel's last messages are obsolete; the new connection has
	 * another channel.
	 */
	if (device->vu.channel_fd >= 0)
		close(device->vu.channel_fd);
	device->vu.channel_fd = -1;
	if (reconnect_start(&device->reconnect))
		virtio_mmio_give_up(&device->virtio);
}

static void handle_channel(struct device *device)
{
	bool changed;
	int ret;

	ret = vhost_user_handle_channel(&device->vu, &changed);
	if (changed)
		virtio_mmio_config_changed(&device->virtio);
	if (!ret)
		return;
	close(device->vu.channel_fd);
	device->vu.channel_fd = -1;
	if (ret != -EPIPE)
		backend_lost(device, "the backend channel is out of order");
}

/*
 * The view begins again with nothing accessible. A guest with a ring in the
 * region may end its VMM by that. vmemd may just be restarting, so try again
 * until it accepts the view.
 */
static void resume_view(struct device *device)
{
	const struct itimerspec again = {.it_value.tv_sec = VIEW_AGAIN_S};
	struct kvmvmem_error reason;
	int ret;

	ret = kvmvmem_consumer_resume(kvmvmem_view_consumer(device->view),
				      &reason);
	if (ret && ret != device->view_refusal)
		error("the view of the memory is not back: %s", reason.text);
	device->view_refusal = ret;
	if (ret)
		timerfd_settime(device->view_timer, 0, &again, NULL);
}

static void follow_view(struct device *device)
{
	struct kvmvmem_error reason;

	if (!kvmvmem_consumer_dispatch(kvmvmem_view_consumer(device->view),
				       &reason))
		return;
	error("the view of the memory: %s", reason.text);
	resume_view(device);
}

static void view_again(struct device *device)
{
	uint64_t count;

	if (read(device->view_timer, &count, sizeof(count)) == sizeof(count))
		resume_view(device);
}

void device_handle_poll(struct device *device,
			const struct pollfd fds[DEVICE_NR_POLL])
{
	if (fds[DEVICE_POLL_VIEW].revents)
		follow_view(device);
	if (fds[DEVICE_POLL_VIEW_AGAIN].revents)
		view_again(device);
	if (fds[DEVICE_POLL_CHANNEL].revents)
		handle_channel(device);
	if (fds[DEVICE_POLL_VMEMD].revents) {
		error("vmemd has ended");
		device->vmemd_runs = false;
	}
	if (fds[DEVICE_POLL_BACKEND].revents)
		backend_closed(device);
	if (fds[DEVICE_POLL_BACK].revents) {
		error("the backend is back");
		reconnect_finish(&device->reconnect);
		device->connected = true;
	}
}

void device_give_up(struct device *device)
{
	vhost_user_shutdown(&device->vu);
	if (device->has_virtio)
		virtio_mmio_give_up(&device->virtio);
}

void device_join(struct device *device)
{
	reconnect_close(&device->reconnect);
	/* The thread may have made a new connection. */
	vhost_user_shutdown(&device->vu);
}

void device_destroy(struct device *device)
{
	probe_close(&device->probe);
	if (device->has_virtio)
		virtio_mmio_close(&device->virtio);
	vhost_user_close(&device->vu);
	kvmvmem_view_free(device->view);
	if (device->view_timer >= 0)
		close(device->view_timer);
	kvmvmem_vmemd_free(device->vmemd);
	if (device->region_fd >= 0)
		close(device->region_fd);
	device_init(device);
}
