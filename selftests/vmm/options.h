/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "region.h"

/* APIC ids of 8 bits, and no more guest than a test needs. */
#define MAX_VCPUS 16

/* Most --vmemd-arg options. */
#define VMEMD_MAX_ARGS 32

/* Longest name of a device; vmemd has the same limit. */
#define DEVICE_NAME_MAX 31

/**
 * struct device_options - what it asks for of a virtio-mem device
 * @name: the device's name in vmemd, or NULL
 * @region: its region
 * @plan: vmemd is asked for the slot size of @region
 * @vhost_user: vhost-user socket of a running vmemd, or NULL
 * @probe: socket that tells which memslots exist, or NULL
 */
struct device_options {
	const char *name;
	struct region_config region;
	bool plan;
	const char *vhost_user;
	const char *probe;
};

/**
 * struct options - what the command line asks for
 * @kernel: bzImage
 * @initrd: initramfs, or NULL
 * @cmdline: kernel command line
 * @memory: bytes of boot memory
 * @nr_vcpus: virtual CPUs
 * @reboot: reset the machine when the guest asks for it, and go on
 * @features_hidden: virtio feature bits that the driver is not to see
 * @smm: give the guest an SMM address space
 * @devices: virtio-mem devices, @nr_devices of them
 * @vmemd: program to start, or NULL
 * @vmemd_args: options for it, NULL-terminated
 * @control_listen: control socket for it to serve, or NULL
 * @control: control socket of a running vmemd, or NULL
 * @serial: other end of the console
 * @console_log: copy of the console's output, or NULL
 */
struct options {
	const char *kernel;
	const char *initrd;
	const char *cmdline;
	uint64_t memory;
	unsigned int nr_vcpus;
	bool reboot;
	uint64_t features_hidden;
	bool smm;
	struct device_options devices[MAX_DEVICES];
	unsigned int nr_devices;
	const char *vmemd;
	char *vmemd_args[VMEMD_MAX_ARGS + 1];
	const char *control_listen;
	const char *control;
	const char *serial;
	const char *console_log;
};

/**
 * options_parse() - read the command line
 * @options: filled in
 * @argc: of main()
 * @argv: of main()
 *
 * Return: 0, 1 if --help was asked for and answered, a negative errno, with a
 * message, if it is no good.
 */
int options_parse(struct options *options, int argc, char **argv);

#endif /* OPTIONS_H */
