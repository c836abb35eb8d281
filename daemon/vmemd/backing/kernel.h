/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region of kvm_vmem.ko as the backing of a device; see kernel.c. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "backing/backing.h"
#include "backing/memory.h"
#include "base/log.h"
#include "base/turn.h"
#include "common/vmem_nl.h"

/**
 * struct kernel_nl - netlink sockets of a region
 * @read: for reading, which the kernel answers at once
 * @blocks: for changes of blocks, which KVM may delay
 * @size: for settings, which the kernel applies after pending changes of blocks
 */
struct kernel_nl {
	struct vmem_nl *read;
	struct vmem_nl *blocks;
	struct vmem_nl *size;
};

/**
 * struct kernel_request - a request to the kernel for a change
 * @region: the region
 * @nl: socket of the request
 * @answer_source: event source for the answer
 * @again_source: timer that sends the request again
 * @change: the change
 * @out: the request has not been answered yet
 * @asked: number of times the request was sent
 * @repeat: the request asks the kernel to repeat its last answer
 * @wait_usec: time to wait before the request is sent again
 */
struct kernel_request {
	struct kernel_backing *region;
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
 * struct kernel_backing - a region in the kernel, as the backing of a device
 * @label: prefix of messages, see base/log.h; set by the device, not owned
 * @limit: rate limit for messages that other processes can cause
 * @backing: the backing; @backing.plugged mirrors the kernel's state
 * @nl: netlink socket for reading, not owned
 * @fd: descriptor of the region, which gives the right to change it
 * @memory: memory of the region
 * @state: last state reported by the kernel; answers update
 *	@state.plugged_size and @state.populated_slots
 * @changes: the kernel's change count, if only this process has changed the
 *	region
 * @seen: the change count that was read while a change of this process was in
 *	progress; 0: none was read
 * @may_repeat: the guest may have missed the answer to the last request,
 *	because an earlier daemon or a connection ended
 * @fresh: turn of the event loop in which the kernel answered a change and
 *	confirmed the plugged size; 0: none
 * @used_before: a driver may have used the region's device already
 * @prealloc: memory is allocated before blocks are plugged; set by the device
 * @allocating: range that memory is being allocated for; size 0: none
 * @allocated: bytes of @allocating that are allocated
 * @allocate: schedules the next part of the allocation
 * @blocks: request that changes blocks, one at a time
 * @size: request that changes a setting, one at a time
 * @wanted: settings (VMEM_NL_SET_*) that wait until @size is answered
 * @wanted_size: value of the waiting requested size
 * @wanted_log: value of the waiting dirty logging
 * @recheck: the region may have changed; verify as soon as possible
 * @recheck_source: timer for another try after verifying failed
 * @news: another process has changed the region; @backing and @state are up to
 *	date
 * @size_set: kernel_set_requested() has ended: 0, or an errno with text
 * @log_set: kernel_set_dirty_log() has ended: 0, or an errno with text
 * @arg: for the three callbacks
 */
struct kernel_backing {
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
	struct kernel_request blocks;
	struct kernel_request size;
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

int kernel_nl_open(struct kernel_nl *nl, struct error *err);
void kernel_nl_close(struct kernel_nl *nl);

int kernel_attach(struct kernel_backing *region, sd_event *event,
		  const struct kernel_nl *nl, int fd, int memory_fd,
		  struct error *err);
void kernel_detach(struct kernel_backing *region);

int kernel_set_requested(struct kernel_backing *region, uint64_t size,
			 struct error *err);
int kernel_set_dirty_log(struct kernel_backing *region, bool on,
			 struct error *err);
void kernel_recheck(struct kernel_backing *region);
int kernel_reload(struct kernel_backing *region, struct error *err);
int kernel_read_changes(struct kernel_backing *region, bool *others);

#endif /* KERNEL_H */
