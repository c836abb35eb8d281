// SPDX-License-Identifier: GPL-2.0-or-later
#include "passthrough.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"
#include "kvmvmem.h"
#include "memory.h"
#include "options.h"
#include "util.h"

void passthrough_init(struct passthrough *passthrough)
{
	memset(passthrough, 0, sizeof(*passthrough));
	passthrough->kvm_fd = -1;
	passthrough->vfio =
		(struct vfio){.iommu = -1, .group = -1, .device = -1};
}

/* KVM has to know about devices whose DMA may bypass the CPU's caches. */
static int report_to_kvm(struct passthrough *passthrough, int vm_fd)
{
	struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
	int32_t group = passthrough->vfio.group;
	const struct kvm_device_attr add = {
		.group = KVM_DEV_VFIO_GROUP,
		.attr = KVM_DEV_VFIO_GROUP_ADD,
		.addr = (uintptr_t)&group,
	};

	if (ioctl(vm_fd, KVM_CREATE_DEVICE, &create))
		return -errno;
	passthrough->kvm_fd = (int)create.fd;
	return ioctl(passthrough->kvm_fd, KVM_SET_DEVICE_ATTR, &add) ? -errno
								     : 0;
}

/* The guest accesses the registers themselves, without exits to the VMM. */
static int show_bar(struct passthrough *passthrough, int vm_fd)
{
	struct kvm_userspace_memory_region memslot = {
		.slot = BAR_SLOT,
		.guest_phys_addr = BAR_GPA,
	};
	int ret;

	ret = vfio_map_bar(&passthrough->vfio, &passthrough->bar,
			   &passthrough->bar_size);
	if (ret)
		return ret;
	if (passthrough->bar_size > BAR_MAX_SIZE)
		return -E2BIG;
	memslot.memory_size = passthrough->bar_size;
	memslot.userspace_addr = (uintptr_t)passthrough->bar;
	return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &memslot) ? -errno : 0;
}

int passthrough_open(struct passthrough *passthrough, const char *address,
		     int vm_fd, const struct memory *memory)
{
	const struct memory_range *boot = &memory->boot;
	const struct vfio *vfio = &passthrough->vfio;
	int ret;

	ret = vfio_open(&passthrough->vfio, address, false);
	if (!ret)
		ret = report_to_kvm(passthrough, vm_fd);
	if (!ret)
		ret = vfio_map(vfio, boot->gpa, boot->hva, boot->size);
	if (!ret)
		ret = vfio_enable_dma(vfio, true);
	if (!ret)
		ret = show_bar(passthrough, vm_fd);
	if (ret)
		error_errno(-ret, "--vfio %s", address);
	return ret;
}

static int map(void *arg, const struct kvmvmem_range *range)
{
	const struct passthrough_region *region = arg;

	return vfio_map(region->vfio, range->gpa,
			(char *)region->range->hva + range->offset,
			range->size);
}

static int unmap(void *arg, const struct kvmvmem_range *range)
{
	const struct passthrough_region *region = arg;

	return vfio_unmap(region->vfio, range->gpa, range->size);
}

/* The guest may use the device when it can access all that is plugged. */
static int catch_up(struct kvmvmem_consumer *consumer,
		    struct kvmvmem_error *reason)
{
	struct pollfd ready = {kvmvmem_consumer_fd(consumer), POLLIN, 0};
	int ret = 0;

	while (!ret && kvmvmem_consumer_state(consumer) != KVMVMEM_SUBSCRIBED) {
		poll(&ready, 1, -1);
		ret = kvmvmem_consumer_dispatch(consumer, reason);
	}
	return ret;
}

int passthrough_follow(struct passthrough *passthrough, const char *control,
		       const struct device *devices, unsigned int nr_devices)
{
	struct kvmvmem_consumer_config config = {
		.size = sizeof(config),
		.unit = KVMVMEM_EACH_BLOCK,
		.control_path = control,
		.name = "vmem-vmm-vfio",
		.map = map,
		.unmap = unmap,
	};
	struct kvmvmem_error reason;
	unsigned int i;
	int ret = 0;

	/* The regions share the mappings that the container has. */
	config.mappings = vfio_mappings_left(&passthrough->vfio) /
			  (nr_devices ? nr_devices : 1);
	for (i = 0; i < nr_devices && !ret; i++) {
		struct passthrough_region *region = &passthrough->regions[i];

		region->vfio = &passthrough->vfio;
		region->range = devices[i].range;
		config.arg = region;
		config.device = devices[i].config->name;
		ret = kvmvmem_consumer_new(&region->consumer, &config, &reason);
		if (ret)
			break;
		passthrough->nr_regions++;
		ret = catch_up(region->consumer, &reason);
	}
	if (ret)
		error("--vfio: %s", reason.text);
	return ret;
}

/* Unmap everything that is plugged, and end the subscriptions. */
static void end_consumers(struct passthrough *passthrough)
{
	while (passthrough->nr_regions)
		kvmvmem_consumer_free(
			passthrough->regions[--passthrough->nr_regions]
				.consumer);
}

void passthrough_prepare_poll(const struct passthrough *passthrough,
			      struct pollfd fds[MAX_DEVICES])
{
	for (unsigned int i = 0; i < MAX_DEVICES; i++) {
		bool is_used = i < passthrough->nr_regions;

		fds[i] = (struct pollfd){
			is_used ? kvmvmem_consumer_fd(
					  passthrough->regions[i].consumer)
				: -1,
			POLLIN, 0};
	}
}

void passthrough_handle_poll(struct passthrough *passthrough,
			     const struct pollfd fds[MAX_DEVICES])
{
	struct kvmvmem_error reason;
	int ret = 0;

	for (unsigned int i = 0; i < passthrough->nr_regions && !ret; i++)
		if (fds[i].revents)
			ret = kvmvmem_consumer_dispatch(
				passthrough->regions[i].consumer, &reason);
	if (!ret)
		return;
	/*
	 * What the device may access differs from what vmemd takes for mapped.
	 * The guest goes on without the device.
	 */
	error("the device of --vfio is stopped: %s", reason.text);
	ret = vfio_enable_dma(&passthrough->vfio, false);
	if (ret)
		error_errno(-ret, "its DMA cannot be disabled");
	end_consumers(passthrough);
}

void passthrough_close(struct passthrough *passthrough)
{
	end_consumers(passthrough);
	if (passthrough->kvm_fd >= 0)
		close(passthrough->kvm_fd);
	if (passthrough->bar)
		munmap(passthrough->bar, passthrough->bar_size);
	vfio_close(&passthrough->vfio);
	passthrough_init(passthrough);
}
