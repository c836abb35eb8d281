// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fault injection: each allocation of the kernel for a guest's request fails in
 * turn, with the program vmemd between guest and kernel. The guest either
 * receives BUSY, and neither the kernel's nor vmemd's state has changed. Or the
 * request is carried out nevertheless: vmemd repeats it if an answer was lost.
 * In both cases the next requests are carried out.
 *
 * The allocations are those of vmemd's own system calls and those of the batch:
 * the worker that makes the change inherits the fail-nth count of vmemd's task.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "fail_nth.h"
#include "region.h"
#include "tap.h"

#define FAIL_GPA  GIB(8)
#define FAIL_SIZE GIB(4)
#define BLOCK	  MIB(2)
#define SLOT_SIZE MIB(128)

/*
 * The range that is plugged and unplugged: several memslots, one of them
 * partly.
 */
#define RANGE_GPA    (FAIL_GPA + MIB(512))
#define RANGE_BLOCKS (3 * SLOT_SIZE / BLOCK + 5)
#define RANGE_SLOTS  4

/* A sweep of dozens of failures in an emulated machine with KASAN. */
#define SWEEP_TIMEOUT_S 900

/* More allocations than any request makes: a limit for a sweep. */
#define MAX_POINTS 1000U

/**
 * struct rig - a driver, its vmemd, and the region
 * @r: the region
 * @d: the driver and its vmemd
 * @fail: makes vmemd's allocations fail
 */
struct rig {
	struct region r;
	struct driver d;
	struct fail_nth fail;
};

/**
 * struct change - a request, and the one that reverses it
 * @type: VIRTIO_MEM_REQ_* for the range
 * @undo: VIRTIO_MEM_REQ_* that reverses it
 * @plugged: the range is plugged afterwards
 */
struct change {
	uint16_t type;
	uint16_t undo;
	bool plugged;
};

static uint16_t request(struct rig *rig, uint16_t type)
{
	return driver_request(&rig->d, type, RANGE_GPA, RANGE_BLOCKS);
}

/* The kernel, KVM and vmemd agree whether the range is plugged. */
static void check(struct rig *rig, bool plugged)
{
	struct vmem_nl_region state;
	unsigned int i, present = 0;
	struct error err;

	ASSERT_OK(vmem_nl_region_get(rig->r.nl, VMEM_NL_BY_FD(rig->r.fd),
				     &state, &err));
	EXPECT_EQ(state.plugged_size,
		  plugged ? (uint64_t)RANGE_BLOCKS * BLOCK : 0);
	EXPECT_EQ(state.populated_slots, plugged ? RANGE_SLOTS : 0);
	for (i = 0; i < FAIL_SIZE / SLOT_SIZE; i++)
		present +=
			vm_slot_exists(&rig->r.vm, rig->r.args.first_slot + i);
	EXPECT_EQ(present, plugged ? RANGE_SLOTS : 0);
	ASSERT_EQ(request(rig, VIRTIO_MEM_REQ_STATE), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(rig->d.state, plugged ? VIRTIO_MEM_STATE_PLUGGED
					: VIRTIO_MEM_STATE_UNPLUGGED);
}

static void sweep(const void *arg)
{
	const struct change *change = arg;
	const bool plugged_before = !change->plugged;
	char *const args[] = {(char *)"--log-level", (char *)"err",
			      (char *)"--requested-size", (char *)"4G", NULL};
	unsigned int nth, left, busy = 0, done = 0;
	static struct rig rig;
	uint16_t answer;

	driver_region(&rig.r, FAIL_GPA, FAIL_SIZE, BLOCK, SLOT_SIZE);
	rig.r.nl = netlink_open();
	driver_spawn(&rig.d, args, NULL, rig.r.fd, rig.r.mem.fd);
	driver_start(&rig.d);
	fail_nth_init(&rig.fail, rig.d.pid);
	if (plugged_before)
		ASSERT_EQ(request(&rig, VIRTIO_MEM_REQ_PLUG),
			  VIRTIO_MEM_RESP_ACK);

	for (nth = 1;; nth++) {
		ASSERT_LE(nth, MAX_POINTS);
		tap_context("allocation %u", nth);
		check(&rig, plugged_before);
		fail_nth_arm(&rig.fail, nth);
		answer = request(&rig, change->type);
		left = fail_nth_disarm(&rig.fail);
		if (answer == VIRTIO_MEM_RESP_BUSY) {
			busy++;
			EXPECT_EQ(left, 0);
			check(&rig, plugged_before);
			answer = request(&rig, change->type);
		} else if (!left) {
			done++;
		}
		ASSERT_EQ(answer, VIRTIO_MEM_RESP_ACK);
		check(&rig, change->plugged);
		ASSERT_EQ(request(&rig, change->undo), VIRTIO_MEM_RESP_ACK);
		if (left)
			break;
	}
	tap_context("%s", "");
	tap_note("%u failures: %u answered busy, %u done without", busy + done,
		 busy, done);
	/* At least a lost answer is requested again. */
	EXPECT_GT(busy, 0);
	EXPECT_GT(done, 0);
	fail_nth_end(&rig.fail);
	driver_stop(&rig.d);
}

int main(void)
{
	static const struct change plug = {VIRTIO_MEM_REQ_PLUG,
					   VIRTIO_MEM_REQ_UNPLUG, true};
	static const struct change unplug = {VIRTIO_MEM_REQ_UNPLUG,
					     VIRTIO_MEM_REQ_PLUG, false};
	static const struct change unplug_all = {VIRTIO_MEM_REQ_UNPLUG_ALL,
						 VIRTIO_MEM_REQ_PLUG, false};
	static const struct tap_case cases[] = {
		{.name = "plug, with each allocation failing once",
		 .run = sweep,
		 .arg = &plug,
		 .timeout_s = SWEEP_TIMEOUT_S},
		{.name = "unplug, with each allocation failing once",
		 .run = sweep,
		 .arg = &unplug,
		 .timeout_s = SWEEP_TIMEOUT_S},
		{.name = "unplug all, with each allocation failing once",
		 .run = sweep,
		 .arg = &unplug_all,
		 .timeout_s = SWEEP_TIMEOUT_S},
	};
	const char *why = fail_nth_unavailable();

	if (why)
		return tap_skip_all("%s", why);
	return tap_run(cases, ARRAY_SIZE(cases));
}
