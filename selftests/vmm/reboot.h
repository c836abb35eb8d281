/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest resets its machine: all of it is put back to how it was made, in
 * the same process, with the same VM and the same region.
 *
 * It is done by a thread of its own, as the device's reset waits for vmemd,
 * which may be waiting for the main loop. Who is reset first, and why:
 *
 * 1. the vCPUs stop: nothing changes any more what is reset next,
 * 2. the virtio devices: vmemd lets go of the rings before their memory goes,
 * 3. vmemd is told of the system reset and unplugs all, where it can be told;
 *    else the driver of the next system does, when it finds memory plugged,
 * 4. console and interrupt controllers,
 * 5. boot memory is emptied and loaded again, and the vCPUs get the state that
 *    they began with.
 *
 * The region's memory is not for the VMM to touch: vmemd gives back what is
 * unplugged.
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
 * struct reboot - what a reset is about; the caller of
 *	reboot_open() sets those up to @nr_vcpus
 * @options: what is loaded
 * @vm_fd: the VM
 * @memory: its memory
 * @irqchip: its interrupt controllers
 * @serial: its console
 * @devices: its @nr_devices virtio-mem devices
 * @control: vmemd's control socket, NULL if there is none
 * @vcpus: @nr_vcpus of them, none running yet
 * @vmemd: for calls of @thread: calls on one object must not overlap
 * @states: what they begin with
 * @done_fd: eventfd, signalled when it is done, or has failed
 * @result: how it went, once it is
 * @thread: that does it, if @running
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
 * reboot_open() - note what the vCPUs begin with
 * @reboot: with all filled in that is said there
 * @kvm_fd: /dev/kvm
 *
 * Return: 0 or a negative errno, with a message.
 */
int reboot_open(struct reboot *reboot, int kvm_fd);

/**
 * reboot_start() - begin a reset
 * @reboot: opened; its done_fd tells of the end
 *
 * Return: 0 or a negative errno, with a message.
 */
int reboot_start(struct reboot *reboot);

/**
 * reboot_finish() - after the end of a reset
 * @reboot: its done_fd has been signalled
 *
 * Return: 0, and the vCPUs may be started; or a negative errno, with a message.
 */
int reboot_finish(struct reboot *reboot);

/** reboot_close() - wait for a reset that goes on, free all */
void reboot_close(struct reboot *reboot);

#endif /* REBOOT_H */
