/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI device that the guest uses, and that accesses its memory.
 *
 * The device may access boot memory and, of each region, the plugged blocks. For the
 * latter, this is a consumer of each virtio-mem device: libkvmvmem calls map() before
 * the guest may use a block, and unmap() before the block is unplugged. So the device
 * can access what the guest can, at the same addresses.
 *
 * The guest has the registers of the device at BAR_GPA. It gets neither configuration
 * space nor interrupts, and so no driver: a program in the guest uses the registers.
 */
#ifndef PASSTHROUGH_H
#define PASSTHROUGH_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "vfio.h"

struct device;
struct kvmvmem_consumer;
struct memory;
struct memory_range;

/**
 * struct passthrough_region - what the device may access of a region
 * @vfio: the device
 * @range: the memory of the region
 * @consumer: calls map() and unmap()
 */
struct passthrough_region {
	const struct vfio *vfio;
	const struct memory_range *range;
	struct kvmvmem_consumer *consumer;
};

/**
 * struct passthrough - the device
 * @vfio: descriptors
 * @kvm_fd: KVM's record of the device; -1: none
 * @bar: mapping of the registers, or NULL
 * @bar_size: bytes of @bar
 * @regions: its regions, @nr_regions of them
 */
struct passthrough {
	struct vfio vfio;
	int kvm_fd;
	void *bar;
	size_t bar_size;
	struct passthrough_region regions[MAX_DEVICES];
	unsigned int nr_regions;
};

void passthrough_init(struct passthrough *passthrough);

/**
 * passthrough_open() - give the device to the guest
 * @passthrough: initialised
 * @address: address on the host's PCI bus
 * @vm_fd: the VM, with no vCPU running
 * @memory: its memory; the device may access boot memory
 *
 * Return: 0 or a negative errno, with a message.
 */
int passthrough_open(struct passthrough *passthrough, const char *address,
		     int vm_fd, const struct memory *memory);

/**
 * passthrough_follow() - let the device access what is plugged
 * @passthrough: open
 * @control: control socket of vmemd
 * @devices: all virtio-mem devices, connected
 * @nr_devices: number of them
 *
 * Return: 0 or a negative errno, with a message.
 */
int passthrough_follow(struct passthrough *passthrough, const char *control,
		       const struct device *devices, unsigned int nr_devices);

void passthrough_prepare_poll(const struct passthrough *passthrough,
			      struct pollfd fds[MAX_DEVICES]);
void passthrough_handle_poll(struct passthrough *passthrough,
			     const struct pollfd fds[MAX_DEVICES]);

/** passthrough_close() - end it, while vmemd runs and with no vCPU running */
void passthrough_close(struct passthrough *passthrough);

#endif /* PASSTHROUGH_H */
