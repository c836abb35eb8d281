/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region of kvm_vmem.ko as the backing of a device; see kernel.c. */
#ifndef REGION_H
#define REGION_H

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "backing/backing.h"
#include "backing/memory.h"
#include "base/log.h"
#include "base/turn.h"
#include "common/vmem_nl.h"

/**
 * struct region_nl - netlink handles of a region
 * @read: for what is answered soon
 * @blocks: for changes of blocks, which are answered when KVM lets them be made
 * @size: for the requested size, which waits for those
 */
struct region_nl {
	struct vmem_nl *read;
	struct vmem_nl *blocks;
	struct vmem_nl *size;
};

/**
 * struct region_request - a change that the kernel was asked for
 * @out: it was, and has not answered
 * @asked: how often it was asked for this one
 * @repeat: it was asked to repeat its last answer
 * @wait_usec: how long to wait for the answer before it is asked again
 */
struct region_request {
	struct region *region;
	struct vmem_nl *nl;
	sd_event_source *answer_source;
	sd_event_source *again_source;
	struct vmem_nl_change change;
	bool out;
	unsigned int asked;
	bool repeat;
	uint64_t wait_usec;
};

/**
 * struct region - the kernel's region of one device
 * @label: for messages, see base/log.h; set by the user, not owned
 * @limit: for messages that others can cause
 * @backing: what the device sees; @backing.plugged mirrors the kernel's state
 * @nl: netlink handle for reading, not owned
 * @fd: the region's descriptor, the authority over it
 * @memory: its memory
 * @state: as the kernel told it last; @state.plugged_size and
 *	@state.populated_slots are kept up to date by answers
 * @changes: the kernel's change count as it must be if nobody but us has
 *	changed the region
 * @seen: the count as it was read while a change of ours was on its way, 0 if
 *	it was not
 * @may_repeat: the guest may not have got the answer to the last request: that
 *	of the daemon before us, or of a connection that has ended
 * @fresh: the turn of the event loop in which the kernel has answered a change
 *	of ours, and said that it sees what is plugged as we do; 0: none
 * @used_before: a driver may have seen the region's device already
 * @prealloc: memory is allocated before blocks are plugged; set by the user
 * @allocating: what it is allocated for, size 0 if for nothing
 * @allocated: bytes of that which are there
 * @allocate: while there is more to allocate
 * @blocks, @size: requests, one of each at a time; @size is for settings
 * @wanted: settings (VMEM_NL_SET_*) whose value waits until @size is answered
 * @wanted_size, @wanted_log: those values
 * @recheck: others may have changed something; verify as soon as possible
 * @recheck_source: a timer for when that has failed
 * @news: others have changed something, and it is in @backing and @state
 * @size_set: the result of kernel_set_requested(): 0, or an errno with text
 * @log_set: the answer to kernel_set_dirty_log(), likewise
 * @arg: for all three
 */
struct region {
	const char *label;
	struct log_limit limit;
	struct backing backing;
	struct vmem_nl *nl;
	int fd;
	struct memory memory;
	struct vmem_nl_region state;
	uint64_t changes;
	uint64_t seen;
	bool may_repeat;
	uint64_t fresh;
	bool used_before;
	bool prealloc;
	struct vmem_nl_range allocating;
	uint64_t allocated;
	struct turn allocate;
	struct region_request blocks;
	struct region_request size;
	unsigned int wanted;
	uint64_t wanted_size;
	bool wanted_log;
	bool recheck;
	sd_event_source *recheck_source;
	void (*news)(void *arg);
	void (*size_set)(void *arg, int result, const char *text);
	void (*log_set)(void *arg, int result, const char *text);
	void *arg;
};

int kernel_nl_open(struct region_nl *nl, struct vmem_nl_error *err);
void kernel_nl_close(struct region_nl *nl);

int kernel_attach(struct region *region, sd_event *event,
		  const struct region_nl *nl, int fd, int memory_fd,
		  struct vmem_nl_error *err);
void kernel_detach(struct region *region);

int kernel_set_requested(struct region *region, uint64_t size,
			 struct vmem_nl_error *err);
int kernel_set_dirty_log(struct region *region, bool on,
			 struct vmem_nl_error *err);
void kernel_recheck(struct region *region);
int kernel_reload(struct region *region, struct vmem_nl_error *err);
int kernel_read_changes(struct region *region, bool *others);

#endif /* REGION_H */
