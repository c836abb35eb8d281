/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vmemd, and what was handed to it. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

/*
 * Devices of one VM. One for each NUMA node of the guest is common, and large
 * machines have 16.
 */
#define VMEM_MAX_DEVICES 16

/**
 * struct device_options - of one device
 * @vhost_user_path: listen here for front ends; NULL if not given
 * @requested_size: initial requested size in bytes, where @has_requested_size
 * @node: ACPI proximity domain, where @has_node
 * @prealloc: allocate memory before blocks are plugged
 * @unplugged_cap: bytes that unplugged blocks may have, where
 *	@has_unplugged_cap
 */
struct device_options {
	const char *vhost_user_path;
	uint64_t requested_size;
	bool has_requested_size;
	uint16_t node;
	bool has_node;
	bool prealloc;
	uint64_t unplugged_cap;
	bool has_unplugged_cap;
};

/**
 * struct options - command line
 * @devices: @nr_devices of them, at least one
 * @control_path: listen here for vmemctl; NULL if not given
 * @log_level: least important messages that are shown
 */
struct options {
	struct device_options devices[VMEM_MAX_DEVICES];
	unsigned int nr_devices;
	const char *control_path;
	enum log_level log_level;
};

/* Descriptors of one device, handed over by name; -1 where there is none. */
struct device_fds {
	int region;
	int memory;
	int vhost_user;
};

/* All of them. */
struct passed_fds {
	struct device_fds devices[VMEM_MAX_DEVICES];
	int control;
};

int options_parse(struct options *options, int argc, char **argv);
int passed_fds_take(struct passed_fds *fds);
void passed_fds_close(struct passed_fds *fds);

#endif /* OPTIONS_H */
