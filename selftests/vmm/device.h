/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio-mem device: its region, its memory, its connection to vmemd and the
 * virtio-mmio registers. The three calls that main.c describes are here.
 *
 * A VM may have several devices, which one vmemd serves. They share nothing
 * here: each has its own connection, memslot ids and interrupt, and reconnects
 * to its backend independently.
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
struct kvmvmem_view;
struct kvmvmem_vmemd;
struct memory;
struct memory_range;
struct options;

/* A device's slots of the main loop's poll array. */
enum device_poll {
	DEVICE_POLL_VMEMD,
	DEVICE_POLL_BACKEND,
	DEVICE_POLL_CHANNEL,
	DEVICE_POLL_BACK,
	DEVICE_POLL_VIEW,
	DEVICE_POLL_VIEW_AGAIN,
	DEVICE_NR_POLL,
};

/**
 * struct device - a virtio-mem device
 * @options: the command line
 * @config: the device's own options, part of @options; includes the region's
 *	place
 * @index: number of the device
 * @range: its memory
 * @region_fd: the region, -1 if it has none
 * @first_slot: id of its first memslot
 * @vmemd: the daemon that serves the device, which may have to be started
 * @vmemd_runs: a daemon that was started here has not ended
 * @view: the memory as the VMM accesses it itself; NULL: vmemd has no control socket
 * @view_timer: timerfd, for the next attempt to resume a closed view
 * @view_refusal: result of the last attempt, which is reported once
 * @vu: the connection
 * @connected: the backend is connected, as far as is known
 * @has_virtio: @virtio is open
 * @virtio: the registers
 * @refusal: result of the last attempt to reach a vmemd of others again, which
 *	is reported once
 * @reconnect: reconnects to a vmemd that was not started here
 * @probe: finds the existing memslots, if requested
 */
struct device {
	const struct options *options;
	struct device_options *config;
	unsigned int index;
	struct memory_range *range;
	int region_fd;
	uint32_t first_slot;
	struct kvmvmem_vmemd *vmemd;
	bool vmemd_runs;
	struct kvmvmem_view *view;
	int view_timer;
	int view_refusal;
	struct vhost_user vu;
	bool connected;
	bool has_virtio;
	struct virtio_mmio virtio;
	int refusal;
	struct reconnect reconnect;
	struct probe probe;
};

void device_init(struct device *device);

/**
 * device_place() - choose the device's place in the VM
 * @device: with @options, @config and @index set
 * @vm_fd: the VM
 * @memory: its memory, to which the region's is added
 * @phys_bits: width of the guest's physical addresses
 * @min_gpa: lowest address for the region
 * @first_slot: id of the first free memslot
 * @used: memslots of the VM that vmemd has not planned
 *
 * All devices are placed before one is connected, because each backend needs
 * the memory of all.
 *
 * Return: 0 or a negative errno, with a message.
 */
int device_place(struct device *device, int vm_fd, struct memory *memory,
		 unsigned int phys_bits, uint64_t min_gpa, uint32_t first_slot,
		 uint32_t used);

/**
 * device_connect() - create the region, pass it to vmemd, open the registers
 * @device: placed
 * @vm_fd: the VM
 * @memory: all of its memory
 *
 * Return: 0 or a negative errno, with a message.
 */
int device_connect(struct device *device, int vm_fd,
		   const struct memory *memory);

/** device_mmio_gpa() - address of its registers, VIRTIO_MMIO_SIZE bytes */
uint64_t device_mmio_gpa(const struct device *device);

void device_prepare_poll(const struct device *device,
			 struct pollfd fds[DEVICE_NR_POLL]);
void device_handle_poll(struct device *device,
			const struct pollfd fds[DEVICE_NR_POLL]);

/**
 * device_prepare_view() - as device_prepare_poll(), for the view only
 *
 * Another thread may wait for vmemd, and vmemd for the view, when the main loop
 * has ended.
 */
void device_prepare_view(const struct device *device,
			 struct pollfd fds[DEVICE_NR_POLL]);

/**
 * device_give_up() - end all waits for answers of the backend by vhost-user
 * @device: the device; vCPUs and other threads may be waiting for an answer
 *
 * Does not block: all devices are given up before one is joined. A call on the
 * control socket ends by itself after VMEMD_ANSWER_MS.
 */
void device_give_up(struct device *device);

/** device_join() - wait for the threads of a device that was given up */
void device_join(struct device *device);

/**
 * device_destroy() - free the device, after device_join() and with no vCPU
 * running
 */
void device_destroy(struct device *device);

#endif /* DEVICE_H */
