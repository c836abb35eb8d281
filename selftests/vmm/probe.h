/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the existing memslots of a region by guest accesses.
 *
 * A vCPU that the guest's Linux does not know reads the first byte of each slot
 * of the region. With a memslot, KVM completes the access; without one, it
 * exits for MMIO. The result does not depend on the module's or vmemd's
 * reports, so tests can check those reports against it.
 *
 * A client of the socket gets one line per existing slot, with its guest
 * address, and then the end of the file. Each device has its own probe and
 * thread.
 */
#ifndef PROBE_H
#define PROBE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "region.h"
#include "vcpu.h"

struct memory;

struct probe {
	struct vcpu vcpu;
	struct region_config region;
	uint64_t nr_slots;
	bool *absent;
	int listen_fd;
	const char *path;
	pthread_t thread;
	bool started;
};

void probe_init(struct probe *probe);

/**
 * probe_open() - create the vCPU and the socket
 * @probe: the probe
 * @path: path of the socket
 * @kvm_fd: /dev/kvm
 * @vm_fd: the VM
 * @cpuid: from vcpu_get_cpuid()
 * @index: a vCPU number that the guest's tables do not have
 * @memory: the VM's memory
 * @region: the region, placed
 *
 * Return: 0 or a negative errno, with a message.
 */
int probe_open(struct probe *probe, const char *path, int kvm_fd, int vm_fd,
	       const struct kvm_cpuid2 *cpuid, unsigned int index,
	       const struct memory *memory, const struct region_config *region);

/**
 * probe_start() - start serving
 * @probe: the probe
 *
 * Return: 0 or a negative errno, with a message.
 */
int probe_start(struct probe *probe);
void probe_close(struct probe *probe);

#endif /* PROBE_H */
