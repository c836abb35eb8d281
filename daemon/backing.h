/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What carries out a virtio-mem device's changes.
 *
 * The device model (virtio_mem.c) decides what a request means; a backing
 * makes it so: it puts memory at guest addresses and takes it away, and gives
 * the memory behind back to the host. The rule is the kernel's region
 * (region.c). A backing that has a VMM change its own memslots fits as well.
 *
 * A backing keeps @plugged true: it is what the device answers STATE requests
 * from, without asking anybody.
 */
#ifndef BACKING_H
#define BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "blocks.h"

struct backing;

/* Why the last operation failed, for people. */
#define BACKING_REASON_MAX 192

/**
 * struct backing_ops - operations of a backing
 * @plug: make the range accessible to the guest. The memory reads zero.
 * @unplug: make the range inaccessible, as far as slots allow
 * @unplug_all: all of it, as one step
 * @discard: give the memory of an unplugged range back to the host
 * @repeated: is this the change that was carried out last before the daemon
 *	was started? Then the guest asks again, because the answer was lost
 *	with the daemon before, and gets it now. At most the first change after
 *	a start can be.
 *
 * Ranges are whole blocks inside the region: the device has checked. All but
 * @repeated return 0 or a negative errno with @reason set, having changed
 * nothing (@discard: maybe some). -EAGAIN: @plugged was not true and has been
 * brought up to date; judge the request again.
 */
struct backing_ops {
	int (*plug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug_all)(struct backing *backing);
	int (*discard)(struct backing *backing, uint64_t gpa, uint64_t size);
	bool (*repeated)(struct backing *backing, bool plug, uint64_t gpa,
			 uint64_t size);
};

struct backing {
	const struct backing_ops *ops;
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
	struct blocks plugged;
	char reason[BACKING_REASON_MAX];
};

#endif /* BACKING_H */
