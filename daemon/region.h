/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region of kvm_vmem.ko as the backing of a device; see region.c. */
#ifndef REGION_H
#define REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "backing.h"
#include "vmem_nl.h"

/**
 * struct region - the kernel's region of one device
 * @backing: what the device sees; @backing.plugged mirrors the kernel's state
 * @nl: netlink handle, not owned
 * @fd: the region's descriptor, the authority over it
 * @memory_fd: its memory; offset 0 is the region's start
 * @state: as the kernel told it last; @state.plugged_size and
 *	@state.populated_slots are kept up to date by answers
 * @changes: the kernel's change count as it must be if nobody but us has
 *	changed the region
 * @repeat_id: id of the last request before the daemon was started, until the
 *	first request after that; 0: none
 * @used_before: a driver may have seen the region's device already
 */
struct region {
	struct backing backing;
	struct vmem_nl *nl;
	int fd;
	int memory_fd;
	struct vmem_nl_region state;
	uint64_t changes;
	uint64_t repeat_id;
	bool used_before;
};

int region_attach(struct region *region, struct vmem_nl *nl, int fd,
		  int memory_fd, struct vmem_nl_error *err);
void region_detach(struct region *region);

int region_set_requested(struct region *region, uint64_t size,
			 struct vmem_nl_error *err);
int region_refresh(struct region *region, bool *blocks_changed,
		   struct vmem_nl_error *err);
int region_read_changes(struct region *region, bool *others);

#endif /* REGION_H */
