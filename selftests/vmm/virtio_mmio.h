/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device over MMIO (virtio 1.2, 4.2) with a vhost-user backend.
 *
 * The data path bypasses this process: a kick is an ioeventfd that KVM signals
 * and the backend waits for; a call is an irqfd that the backend signals and
 * KVM turns into an interrupt. The interrupt is edge triggered, so neither side
 * needs an acknowledgment. Ioeventfds are created with the device, before any
 * vCPU runs: on KVM of 7.x, the next change of memslots takes longer.
 *
 * Since calls bypass this process, InterruptStatus is computed when the driver
 * reads it: "used buffer" is set if a used ring has moved since the driver last
 * acknowledged it. A packed ring does not contain the device's position, but
 * the backend's inflight memory does. Packed rings are therefore offered only
 * with a backend that has such memory, and with one queue.
 *
 * A vCPU that reads the configuration space while the backend is lost waits for
 * it, since the values read last may be outdated.
 *
 * The configuration space is read from the backend at each access instead of
 * being cached: a virtio device may change fields without a notification
 * (virtio-mem's plugged_size for example). ConfigGeneration changes if two
 * reads differ, so a driver that reads a 64-bit field in two halves detects a
 * change between them.
 *
 * vCPU threads call virtio_mmio_access(), under the device's lock. The main
 * loop calls virtio_mmio_config_changed(), which takes no lock: the lock's
 * holder may be waiting for a backend that waits for the main loop.
 */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "inflight.h"
#include "vhost_user.h"

#define VIRTIO_MMIO_MAX_QUEUES 8
#define VIRTIO_MMIO_QUEUE_SIZE 128

struct memory;

struct virtio_mmio_queue {
	uint32_t size;
	uint64_t desc_gpa;
	uint64_t avail_gpa;
	uint64_t used_gpa;
	bool ready;
	bool started;
	/* Of a started split queue: its used index. */
	const uint16_t *used_index;
	/* The used index, or position, last shown to the driver. */
	uint16_t shown_index;
	uint16_t acked_index;
	int kick_fd;
	int call_fd;
};

struct virtio_mmio {
	pthread_mutex_t lock;
	uint64_t gpa;
	uint32_t gsi;
	const struct memory *memory;
	struct vhost_user *vu;
	uint32_t device_id;
	uint32_t nr_queues;
	struct virtio_mmio_queue queues[VIRTIO_MMIO_MAX_QUEUES];
	/*
	 * Features that may be offered to the driver, if the backend has them.
	 */
	uint64_t features_mask;
	struct inflight inflight;
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint32_t queue_sel;
	uint64_t driver_features;
	uint8_t status;
	uint32_t generation;
	uint8_t config[VHOST_USER_CONFIG_MAX];
	bool config_pending;
	int config_fd;
	/* A lost backend will be replaced, see virtio_mmio_exchange(). */
	bool comes_back;
	pthread_cond_t back;
};

/**
 * virtio_mmio_open() - create the device
 * @dev: the device
 * @vm_fd: the VM
 * @gpa: address of its registers, VIRTIO_MMIO_SIZE bytes
 * @gsi: its interrupt
 * @memory: the VM's memory
 * @vu: a negotiated backend
 * @device_id: virtio device id
 * @nr_queues: virtqueues, up to VIRTIO_MMIO_MAX_QUEUES
 * @features_mask: features that may be offered to the driver
 *
 * Return: 0 or a negative errno, with a message.
 */
int virtio_mmio_open(struct virtio_mmio *dev, int vm_fd, uint64_t gpa,
		     uint32_t gsi, const struct memory *memory,
		     struct vhost_user *vu, uint32_t device_id,
		     uint32_t nr_queues, uint64_t features_mask);
void virtio_mmio_close(struct virtio_mmio *dev);

/**
 * virtio_mmio_access() - the guest's access to the registers
 * @dev: the device
 * @offset: below VIRTIO_MMIO_SIZE
 * @is_write: direction
 * @data: the value written, or the place for the value read
 * @size: bytes: 1, 2, 4 or 8
 */
void virtio_mmio_access(struct virtio_mmio *dev, uint64_t offset, bool is_write,
			void *data, unsigned int size);

/**
 * virtio_mmio_reset() - reset the device, as a driver's reset does
 * @dev: the device, of a machine that is reset; no vCPU runs
 */
void virtio_mmio_reset(struct virtio_mmio *dev);

/**
 * virtio_mmio_exchange() - replace a lost backend
 * @dev: the device
 * @vu: a negotiated connection, moved to the place of the old one
 * @moved_fd: eventfd, signalled when it was moved; only then the backend gets
 *	the driver's setup, so that its channel is served meanwhile
 */
void virtio_mmio_exchange(struct virtio_mmio *dev, const struct vhost_user *vu,
			  int moved_fd);

/**
 * virtio_mmio_give_up() - the lost backend will not be replaced
 * @dev: the device
 *
 * Ends all waits for the backend.
 */
void virtio_mmio_give_up(struct virtio_mmio *dev);

/**
 * virtio_mmio_config_changed() - interrupt the driver
 * @dev: the device
 *
 * The driver reads the configuration space, or the status after a backend was
 * given up.
 */
void virtio_mmio_config_changed(struct virtio_mmio *dev);

#endif /* VIRTIO_MMIO_H */
