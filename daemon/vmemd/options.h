/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vmemd. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "device/budget.h"

/*
 * Devices of one VM. One for each NUMA node of the guest is common, and large
 * machines have 16.
 */
#define VMEM_MAX_DEVICES 16

/*
 * Longest name of a device. With what it is a name for, it is to be the name of
 * a descriptor, which may have 255 bytes, and fit a line.
 */
#define DEVICE_NAME_MAX 31

/**
 * struct device_options - of one device
 * @name: as the command line has it, not copied; NULL if it has none
 * @given: there were options of it
 * @budget: how its region is to be cut into memslots
 * @vhost_user_path: listen here for front ends; NULL if not given
 * @requested_size: initial requested size in bytes, where @has_requested_size
 * @node: ACPI proximity domain, where @has_node
 * @prealloc: allocate memory before blocks are plugged
 * @unplugged_cap: bytes that unplugged blocks may have, where
 *	@has_unplugged_cap
 * @packed: offer packed virtqueues
 * @restore_path: file of the state to begin with; NULL if not given
 * @vmm: the front end maps memory that vmemd makes; else it is the kernel's region
 * @region_size, @block_size, @slot_size: of that memory in bytes; 0 if not given
 * @gpa: where it is in the guest, 0 if that is not known yet
 */
struct device_options {
	const char *name;
	bool given;
	struct budget_policy budget;
	const char *vhost_user_path;
	uint64_t requested_size;
	bool has_requested_size;
	uint16_t node;
	bool has_node;
	bool prealloc;
	uint64_t unplugged_cap;
	bool has_unplugged_cap;
	bool packed;
	const char *restore_path;
	bool vmm;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t gpa;
};

/**
 * struct options - command line
 * @devices: @nr_devices of them, at least one; only the first may be without a
 *	name
 * @control_path: listen here for vmemctl; NULL if not given
 * @log_level: least important messages that are shown
 */
struct options {
	struct device_options devices[VMEM_MAX_DEVICES];
	unsigned int nr_devices;
	const char *control_path;
	enum log_level log_level;
};

int options_parse(struct options *options, int argc, char **argv);

#endif /* OPTIONS_H */
