/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest resets its machine: everything is restored to its initial state, in
 * the same process, with the same VM and the same region.
 *
 * A separate thread does it, since the device's reset waits for vmemd, which
 * may be waiting for the main loop. The order:
 *
 * 1. The vCPUs stop, so that nothing changes the state that is reset next.
 * 2. The virtio devices: vmemd stops using the rings before their memory is
 *    cleared.
 * 3. vmemd unplugs everything if it has a control socket. Otherwise the driver
 *    of the next system does, when it finds plugged memory.
 * 4. Console and interrupt controllers.
 * 5. Boot memory is cleared and loaded again, and the vCPUs get their initial
 *    state.
 *
 * The VMM does not touch the region's memory: vmemd discards unplugged memory.
 */
#ifndef REBOOT_H
#define REBOOT_H

#include <pthread.h>
#include <stdbool.h>

#include "irqchip.h"
#include "options.h"
#include "vcpu_state.h"

struct device;
struct kvmvmem_vmemd;
struct memory;
struct serial;
struct vcpu;

/**
 * struct reboot - a reset; the caller sets all members up to @nr_vcpus
 * @options: what to load
 * @vm_fd: the VM
 * @memory: its memory
 * @irqchip: its interrupt controllers
 * @serial: its console
 * @devices: its virtio-mem devices, @nr_devices of them
 * @control: vmemd's control socket, or NULL
 * @vcpus: the vCPUs, @nr_vcpus of them; none has run yet
 * @vmemd: for calls of @thread only: calls on one object must not overlap
 * @states: the vCPUs' initial states
 * @done_fd: eventfd, signalled when the reset is complete or has failed
 * @result: its result then
 * @thread: thread that does it, if @running
 */
struct reboot {
	const struct options *options;
	int vm_fd;
	const struct memory *memory;
	const struct irqchip *irqchip;
	struct serial *serial;
	struct device *devices;
	unsigned int nr_devices;
	const char *control;
	struct vcpu *vcpus;
	unsigned int nr_vcpus;
	struct kvmvmem_vmemd *vmemd;
	struct vcpu_state states[MAX_VCPUS];
	int done_fd;
	int result;
	pthread_t thread;
	bool running;
};

void reboot_init(struct reboot *reboot);

/**
 * reboot_open() - save the vCPUs' initial states
 * @reboot: with the caller's members set
 * @kvm_fd: /dev/kvm
 *
 * Return: 0 or a negative errno, with a message.
 */
int reboot_open(struct reboot *reboot, int kvm_fd);

/**
 * reboot_start() - begin a reset
 * @reboot: opened; its done_fd is signalled at the end
 *
 * Return: 0 or a negative errno, with a message.
 */
int reboot_start(struct reboot *reboot);

/**
 * reboot_finish() - end a reset
 * @reboot: its done_fd has been signalled
 *
 * Return: 0 if the vCPUs may be started, or a negative errno, with a message.
 */
int reboot_finish(struct reboot *reboot);

/** reboot_close() - wait for a running reset, and free everything */
void reboot_close(struct reboot *reboot);

#endif /* REBOOT_H */
