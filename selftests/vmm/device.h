/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio-mem device: its region, its memory, its connection to vmemd and the
 * virtio-mmio registers in front of that. This is where the three calls are that
 * main.c describes.
 *
 * A VM has several of them by one vmemd, which has as many devices. They share
 * nothing here: each has a connection, memslot ids and an interrupt of its own,
 * and comes back to its backend by itself.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "probe.h"
#include "reconnect.h"
#include "vhost_user.h"
#include "virtio_mmio.h"

struct device_options;
struct kvmvmem_vmemd;
struct memory;
struct memory_range;
struct options;

/* Slots of the main loop's poll array that a device has. */
enum device_poll {
	DEVICE_POLL_VMEMD,
	DEVICE_POLL_BACKEND,
	DEVICE_POLL_CHANNEL,
	DEVICE_POLL_BACK,
	DEVICE_NR_POLL,
};

/**
 * struct device - a virtio-mem device
 * @options: of the command line
 * @config: its own options, @options' as well; the region is placed in there
 * @index: which device it is
 * @range: its memory
 * @region_fd: the region, -1 if there is none
 * @first_slot: id of its first memslot
 * @vmemd: the daemon that serves the device, which it may have to start
 * @vmemd_runs: a daemon that was started here has not ended
 * @vu: the connection
 * @connected: there is a backend, as far as is known
 * @has_virtio: @virtio is open
 * @virtio: the registers
 * @reconnect: the way back to a vmemd of others
 * @probe: looks for its memslots, if that was asked for
 */
struct device {
	const struct options *options;
	struct device_options *config;
	unsigned int index;
	const struct memory_range *range;
	int region_fd;
	uint32_t first_slot;
	struct kvmvmem_vmemd *vmemd;
	bool vmemd_runs;
	struct vhost_user vu;
	bool connected;
	bool has_virtio;
	struct virtio_mmio virtio;
	struct reconnect reconnect;
	struct probe probe;
};

void device_init(struct device *device);

/**
 * device_place() - give the device its place in the VM
 * @device: with @options, @config and @index set
 * @vm_fd: the VM
 * @memory: its memory, which gets the region's
 * @phys_bits: width of the guest's physical addresses
 * @min_gpa: the region begins there or above
 * @first_slot: id of the first memslot that is free
 * @used: memslots of the VM that vmemd has not planned
 *
 * All devices have theirs before one is connected: each backend has to know the
 * memory of all.
 *
 * Return: 0 or a negative errno, with a message.
 */
int device_place(struct device *device, int vm_fd, struct memory *memory,
		 unsigned int phys_bits, uint64_t min_gpa, uint32_t first_slot,
		 uint32_t used);

/**
 * device_connect() - make the region, hand it to vmemd, open the registers
 * @device: placed
 * @vm_fd: the VM
 * @memory: its memory, all of it
 *
 * Return: 0 or a negative errno, with a message.
 */
int device_connect(struct device *device, int vm_fd,
		   const struct memory *memory);

/** device_mmio_gpa() - where its registers are, VIRTIO_MMIO_SIZE of them */
uint64_t device_mmio_gpa(const struct device *device);

void device_prepare_poll(const struct device *device,
			 struct pollfd fds[DEVICE_NR_POLL]);
void device_handle_poll(struct device *device,
			const struct pollfd fds[DEVICE_NR_POLL]);

/**
 * device_give_up() - nobody shall wait for the backend any more
 * @device: the device; vCPUs and other threads may be waiting for an answer
 *
 * Waits for nobody: all devices are given up before one is joined.
 */
void device_give_up(struct device *device);

/** device_join() - wait for the threads of a device that was given up */
void device_join(struct device *device);

/** device_destroy() - with no vCPU running, after device_join() */
void device_destroy(struct device *device);

#endif /* DEVICE_H */
