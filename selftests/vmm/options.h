/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "region.h"

/* APIC ids have 8 bits; no test needs more. */
#define MAX_VCPUS 16

/*
 * A vmemd that does not answer a call in this time hangs. The end of the VMM waits
 * for calls in progress, so the time is shorter than the library's default.
 */
#define VMEMD_ANSWER_MS 10000

/* Maximum number of --vmemd-arg options. */
#define VMEMD_MAX_ARGS 32

/* Maximum length of a device's name; vmemd has the same limit. */
#define DEVICE_NAME_MAX 31

/**
 * struct device_options - options of a virtio-mem device
 * @name: the device's name in vmemd, or NULL
 * @region: its region
 * @plan: vmemd plans the slot size of @region
 * @vhost_user: vhost-user socket of a running vmemd, or NULL
 * @probe: socket that reports the existing memslots, or NULL
 */
struct device_options {
	const char *name;
	struct region_config region;
	bool plan;
	const char *vhost_user;
	const char *probe;
};

/**
 * struct options - the command line
 * @kernel: bzImage
 * @initrd: initramfs, or NULL
 * @cmdline: kernel command line
 * @memory: bytes of boot memory
 * @nr_vcpus: number of vCPUs
 * @reboot: reset the machine at the guest's request, and continue
 * @features_hidden: virtio feature bits that are hidden from the driver
 * @smm: give the guest an SMM address space
 * @devices: virtio-mem devices, @nr_devices of them
 * @vmemd: program to start, or NULL
 * @vmemd_args: its options, NULL-terminated
 * @control_listen: control socket that it serves, or NULL
 * @control: control socket of a running vmemd, or NULL
 * @vfio: PCI address of a device that the guest gets, or NULL
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
	const char *vfio;
	const char *serial;
	const char *console_log;
};

/** options_control() - control socket of the vmemd, or NULL */
static inline const char *options_control(const struct options *options)
{
	return options->vmemd ? options->control_listen : options->control;
}

/**
 * options_parse() - parse the command line
 * @options: filled in
 * @argc: of main()
 * @argv: of main()
 *
 * Return: 0, 1 if --help was printed, or a negative errno, with a message.
 */
int options_parse(struct options *options, int argc, char **argv);

#endif /* OPTIONS_H */
