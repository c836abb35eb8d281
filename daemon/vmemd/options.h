/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vmemd. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "device/budget.h"

/*
 * Maximum number of devices per VM. One per NUMA node of the guest is common,
 * and large machines have 16 nodes.
 */
#define VMEM_MAX_DEVICES 16

/*
 * Maximum length of a device's name. The name becomes part of descriptor names,
 * which have up to 255 bytes, and of lines of output.
 */
#define DEVICE_NAME_MAX 31

/**
 * struct device_options - options of one device
 * @name: name on the command line, not copied; NULL: none
 * @given: the command line has options for this device
 * @budget: settings for the region's memslots
 * @vhost_user_path: path of the vhost-user socket; NULL: not given
 * @requested_size: initial requested size in bytes, if @has_requested_size
 * @has_requested_size: --requested-size is given
 * @node: ACPI proximity domain, if @has_node
 * @has_node: --node is given
 * @prealloc: allocate memory before blocks are plugged
 * @unplugged_cap: bytes that unplugged blocks may use, if @has_unplugged_cap
 * @has_unplugged_cap: --unplugged-cap is given
 * @packed: offer packed virtqueues
 * @restore_path: file with the state to restore; NULL: not given
 * @vmm: vmemd creates the memory, and the front end maps it; false: the region
 *	is in the kernel
 * @region_size: bytes in this memory, if @vmm
 * @block_size: bytes per block, if @vmm
 * @slot_size: bytes in the first slot, if @vmm
 * @gpa: guest address of this memory; 0: not known yet
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
 * @devices: the devices; only the first may be without a name
 * @nr_devices: number of @devices, at least one
 * @control_path: path of the control socket; NULL: not given
 * @log_level: least severe level that is logged
 */
struct options {
	struct device_options devices[VMEM_MAX_DEVICES];
	unsigned int nr_devices;
	const char *control_path;
	enum log_level log_level;
};

int options_parse(struct options *options, int argc, char **argv);

#endif /* OPTIONS_H */
