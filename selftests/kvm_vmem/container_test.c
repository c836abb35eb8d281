// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which information about other processes' regions is visible: none from a
 * container, whatever its capabilities, and addresses of the VMM only with
 * CAP_SYS_PTRACE.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "process.h"
#include "region.h"
#include "tap.h"

/* A limit against hangs: the event is sent before the change is answered. */
#define TIMEOUT_MS 20000

/* Blocks that are plugged, so that there are slots. */
#define PLUGGED_NR 5U

#define CAP(name) (1ULL << CAP_##name)

/**
 * struct place - namespaces and capabilities of a process
 * @unshare: flags of its own namespaces
 * @caps: capabilities of an unprivileged user; 0 for root with all
 * @sees: it may read regions by id, and dump all
 * @sees_hva: it may see addresses of the VMM
 */
struct place {
	int unshare;
	uint64_t caps;
	bool sees;
	bool sees_hva;
};

/* A kernel may be built without some namespaces. */
static void need_namespaces(int flags)
{
	static const struct {
		int flag;
		const char *path;
	} kinds[] = {
		{CLONE_NEWIPC, "/proc/self/ns/ipc"},
		{CLONE_NEWNET, "/proc/self/ns/net"},
		{CLONE_NEWNS, "/proc/self/ns/mnt"},
		{CLONE_NEWPID, "/proc/self/ns/pid"},
		{CLONE_NEWUSER, "/proc/self/ns/user"},
		{CLONE_NEWUTS, "/proc/self/ns/uts"},
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (flags & kinds[i].flag && access(kinds[i].path, F_OK))
			tap_skip("%s: %s", kinds[i].path, strerror(errno));
	}
}

static void enter(const struct place *place)
{
	pid_t pid;

	if (place->unshare)
		ASSERT_EQ(unshare(place->unshare), 0);
	if (place->caps)
		become_nobody_with(place->caps);
	if (!(place->unshare & CLONE_NEWPID))
		return;
	/*
	 * The process itself is not in its new pid namespace; its children are.
	 */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid) {
		expect_exit(pid);
		_exit(0);
	}
}

/**
 * struct sight - what a dump contained
 * @nr: number of elements
 * @with_hva: number of elements with an address of the VMM
 */
struct sight {
	unsigned int nr;
	unsigned int with_hva;
};

static int see_region(const struct vmem_nl_region *region, void *arg)
{
	struct sight *sight = arg;

	sight->nr++;
	sight->with_hva += region->hva != 0;
	return 0;
}

static int see_run(const struct vmem_nl_range *run, void *arg)
{
	(void)run;
	((struct sight *)arg)->nr++;
	return 0;
}

static int see_slot(const struct vmem_nl_slot *slot, void *arg)
{
	struct sight *sight = arg;

	sight->nr++;
	sight->with_hva += slot->hva != 0;
	return 0;
}

static void expect_sight(const struct sight *sight, const struct place *place,
			 unsigned int nr)
{
	EXPECT_EQ(sight->nr, place->sees ? nr : 0);
	EXPECT_EQ(sight->with_hva, place->sees_hva ? sight->nr : 0);
}

static void look_by_id(struct vmem_nl *nl, const struct place *place,
		       uint32_t id, unsigned int nr_slots)
{
	const struct vmem_nl_name by_id = VMEM_NL_BY_ID(id);
	const int err = place->sees ? 0 : EPERM;
	struct sight regions = {0}, slots = {0}, runs = {0};
	struct vmem_nl_region state = {0};

	EXPECT_ERR(vmem_nl_region_get(nl, by_id, &state, NULL), err);
	EXPECT_EQ(state.id, place->sees ? id : 0);
	EXPECT_EQ(state.hva != 0, place->sees_hva);
	EXPECT_ERR(vmem_nl_block_dump(nl, by_id, see_run, &runs, NULL), err);
	EXPECT_EQ(runs.nr, place->sees ? 1 : 0);
	EXPECT_ERR(vmem_nl_slot_dump(nl, by_id, see_slot, &slots, NULL), err);
	expect_sight(&slots, place, nr_slots);
	EXPECT_ERR(vmem_nl_region_dump(nl, see_region, &regions, NULL), err);
	expect_sight(&regions, place, 1);
}

/* By descriptor, everything is visible from everywhere. */
static void look_by_fd(struct vmem_nl *nl, int fd, unsigned int nr_slots)
{
	static const struct place holder = {.sees = true, .sees_hva = true};
	const struct vmem_nl_name by_fd = VMEM_NL_BY_FD(fd);
	struct vmem_nl_region state;
	struct sight slots = {0};

	ASSERT_OK(vmem_nl_region_get(nl, by_fd, &state, NULL));
	EXPECT_NE(state.hva, 0);
	EXPECT_OK(vmem_nl_slot_dump(nl, by_fd, see_slot, &slots, NULL));
	expect_sight(&slots, &holder, nr_slots);
}

static void sees(const void *arg)
{
	const struct place *place = arg;
	struct vmem_nl_event event = {0};
	struct vmem_nl *nl, *events;
	uint32_t nr_slots, id;
	struct region r;
	int pair[2];
	pid_t pid;
	int ret;

	need_namespaces(place->unshare);
	region_await_none();
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, PLUGGED_NR));
	nr_slots = region_nr_populated(&r);
	id = r.args.region_id;
	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid) {
		/* Otherwise the wait for a failed child would never end. */
		close(pair[1]);
		receive_byte(pair[0]);
		ASSERT_OK(region_plug(&r, PLUGGED_NR, 1));
		send_byte(pair[0]);
		expect_exit(pid);
		return;
	}
	enter(place);
	nl = netlink_open();
	look_by_id(nl, place, id, nr_slots);
	look_by_fd(nl, r.fd, nr_slots);

	/* Some namespaces may join the group, but only some receive events. */
	events = netlink_open();
	ret = vmem_nl_subscribe(events, NULL);
	EXPECT_TRUE(ret == 0 || (!place->sees && ret == -EPERM));
	send_byte(pair[1]);
	receive_byte(pair[1]);
	if (!ret)
		EXPECT_ERR(vmem_nl_next_event(events,
					      place->sees ? TIMEOUT_MS : 0,
					      &event, NULL),
			   place->sees ? 0 : ETIMEDOUT);
	EXPECT_EQ(event.region.id, !ret && place->sees ? id : 0);
	EXPECT_EQ(event.region.hva, 0);
	_exit(0);
}

#define MAX_PID_NS "/proc/sys/user/max_pid_namespaces"

/* Rounds that each create a pid namespace; only one may exist at a time. */
#define PID_NS_ROUNDS 8

/* Time limit for a wait that is short unless the test fails. */
#define PATIENCE_S 30U
#define TICK_US	   10000U

/* Create a pid namespace once the previous one is gone. */
static void enter_pid_ns(void)
{
	unsigned int i;

	for (i = 0; i < PATIENCE_S * 1000000 / TICK_US; i++) {
		if (!unshare(CLONE_NEWPID))
			return;
		ASSERT_EQ(errno, ENOSPC);
		usleep(TICK_US);
	}
	tap_fail(__FILE__, __LINE__, "a process namespace has stayed");
	tap_abort();
}

/* The module drops its reference to the pid namespace of a change's sender. */
static void sender_lets_go(const void *arg)
{
	int round;
	struct region r;
	pid_t pid, one;

	(void)arg;
	need_namespaces(CLONE_NEWUSER | CLONE_NEWPID);
	region_init(&r, AS_MASK_NORMAL);
	/* A limit of this user namespace, which ends with it. */
	ASSERT_EQ(unshare(CLONE_NEWUSER), 0);
	kernel_write(MAX_PID_NS, "1");
	for (round = 0; round < PID_NS_ROUNDS; round++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (pid) {
			expect_exit(pid);
			continue;
		}
		enter_pid_ns();
		one = fork();
		ASSERT_GE(one, 0);
		if (one) {
			expect_exit(one);
			_exit(0);
		}
		r.nl = netlink_open();
		ASSERT_OK(round % 2 ? region_unplug(&r, 0, 1)
				    : region_plug(&r, 0, 1));
		_exit(0);
	}
}

int main(void)
{
	/*
	 * Namespaces of container engines, apart from user and network
	 * namespaces.
	 */
	enum {
		OWN = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
	};
	static const struct {
		const char *name;
		struct place place;
	} places[] = {
		{"root of the host: everything",
		 {.sees = true, .sees_hva = true}},
		{"CAP_NET_ADMIN alone: no address of the VMM",
		 {.caps = CAP(NET_ADMIN), .sees = true}},
		{"CAP_NET_ADMIN and CAP_SYS_PTRACE: everything",
		 {.caps = CAP(NET_ADMIN) | CAP(SYS_PTRACE),
		  .sees = true,
		  .sees_hva = true}},
		{"CAP_SYS_PTRACE alone: nothing", {.caps = CAP(SYS_PTRACE)}},
		{"a container with CAP_NET_ADMIN: nothing",
		 {.unshare = OWN | CLONE_NEWNET, .caps = CAP(NET_ADMIN)}},
		{"a container with all capabilities: nothing",
		 {.unshare = OWN | CLONE_NEWNET}},
		{"a container with user and network namespace: nothing",
		 {.unshare = OWN | CLONE_NEWNET | CLONE_NEWUSER}},
		{"a container with a user namespace, on the host's network: nothing",
		 {.unshare = OWN | CLONE_NEWUSER}},
		{"a container with all capabilities on the host's network: everything",
		 {.unshare = OWN, .sees = true, .sees_hva = true}},
	};
	static struct tap_case cases[ARRAY_SIZE(places) + 1];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(places); i++)
		cases[i] = (struct tap_case){.name = places[i].name,
					     .run = sees,
					     .arg = &places[i].place};
	cases[i] = (struct tap_case){
		.name = "a change does not hold its sender's pid namespace",
		.run = sender_lets_go};
	return tap_run(cases, ARRAY_SIZE(cases));
}
