// SPDX-License-Identifier: GPL-2.0-or-later
/* Notifications of the netlink family. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"
#include "region.h"
#include "tap.h"

/* A limit against hangs: events are sent within the call that causes them. */
#define TIMEOUT_MS 20000

static struct vmem_nl *subscribe(void)
{
	struct vmem_nl *nl = netlink_open();

	ASSERT_OK(vmem_nl_subscribe(nl, NULL));
	return nl;
}

/*
 * Subscribe before any region exists, so that all events are of later regions.
 */
static struct vmem_nl *subscribe_first(void)
{
	region_await_none();
	return subscribe();
}

static struct vmem_nl_region expect_event(struct vmem_nl *nl, uint8_t cmd)
{
	struct vmem_nl_event event;

	ASSERT_OK(vmem_nl_next_event(nl, TIMEOUT_MS, &event, NULL));
	EXPECT_EQ(event.cmd, cmd);
	EXPECT_EQ(event.region.has_metadata, false);
	return event.region;
}

static void expect_silence(struct vmem_nl *nl)
{
	struct vmem_nl_event event;

	EXPECT_ERR(vmem_nl_next_event(nl, 0, &event, NULL), ETIMEDOUT);
}

static void life_of_a_region(const void *arg)
{
	const uint8_t change = KVM_VMEM_CMD_REGION_CHANGE_NTF;
	struct vmem_nl *events = subscribe_first();
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	s = expect_event(events, KVM_VMEM_CMD_REGION_NEW_NTF);
	EXPECT_EQ(s.id, r.args.region_id);
	EXPECT_EQ(s.gpa, r.args.guest_phys_addr);
	EXPECT_EQ(s.size, r.args.region_size);
	EXPECT_EQ(s.pid, getpid());
	EXPECT_EQ(s.changes, 0);

	ASSERT_OK(region_plug(&r, 0, 5));
	ASSERT_OK(region_unplug(&r, 0, 4));
	ASSERT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_REQUESTED_SIZE, REGION_BLOCK,
				     false, NULL, NULL));
	ASSERT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_DIRTY_LOG, 0, true, NULL,
				     NULL));
	ASSERT_OK(region_unplug_all(&r));
	close(r.fd);

	s = expect_event(events, change);
	EXPECT_EQ(s.changes, 1);
	EXPECT_EQ(s.plugged_size, 5 * REGION_BLOCK);
	EXPECT_EQ(s.populated_slots, 2);
	s = expect_event(events, change);
	EXPECT_EQ(s.changes, 2);
	EXPECT_EQ(s.plugged_size, REGION_BLOCK);
	s = expect_event(events, change);
	EXPECT_EQ(s.changes, 3);
	EXPECT_EQ(s.requested_size, REGION_BLOCK);
	s = expect_event(events, change);
	EXPECT_EQ(s.changes, 4);
	EXPECT_EQ(s.dirty_log, true);
	s = expect_event(events, change);
	EXPECT_EQ(s.changes, 5);
	EXPECT_EQ(s.plugged_size, 0);
	s = expect_event(events, KVM_VMEM_CMD_REGION_DEL_NTF);
	EXPECT_EQ(s.id, r.args.region_id);
	expect_silence(events);
}

static void nothing_changed(const void *arg)
{
	struct vmem_nl_range range;
	struct vmem_nl_region s;
	struct vmem_nl *events;
	struct region r;

	(void)arg;
	region_await_none();
	region_init(&r, AS_MASK_NORMAL);
	range = region_range(&r, 1, 2);
	events = subscribe();
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 3, &range, 1, NULL,
			       NULL));
	expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	/* A refused request, a repeated one, and a query. */
	EXPECT_ERR(region_plug(&r, 0, 2), EEXIST);
	EXPECT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 3, &range, 1, NULL,
			       NULL));
	EXPECT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &s, NULL));
	expect_silence(events);
	/* A region that is not created causes no event. */
	EXPECT_ERR(region_call_create(r.dev, &r.args), EEXIST);
	expect_silence(events);
}

static void several_listeners(const void *arg)
{
	struct vmem_nl *events[3];
	struct region r;
	unsigned int i;

	(void)arg;
	region_await_none();
	region_init(&r, AS_MASK_NORMAL);
	for (i = 0; i < ARRAY_SIZE(events); i++)
		events[i] = subscribe();
	ASSERT_OK(region_plug(&r, 0, 1));
	vmem_nl_close(events[0]);
	ASSERT_OK(region_plug(&r, 1, 1));
	for (i = 1; i < ARRAY_SIZE(events); i++) {
		expect_event(events[i], KVM_VMEM_CMD_REGION_CHANGE_NTF);
		expect_event(events[i], KVM_VMEM_CMD_REGION_CHANGE_NTF);
		expect_silence(events[i]);
	}
}

static void vmm_ends(const void *arg)
{
	struct vmem_nl *events = subscribe_first();
	struct vmem_nl_region s;
	int pair[2], fd;
	uint32_t id;
	pid_t pid;

	(void)arg;
	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct region r;

		region_init(&r, AS_MASK_NORMAL);
		ASSERT_OK(region_plug(&r, 0, 1));
		send_fd(pair[1], r.fd);
		pause();
		_exit(1);
	}
	fd = receive_fd(pair[0]);
	id = expect_event(events, KVM_VMEM_CMD_REGION_NEW_NTF).id;
	s = expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	EXPECT_EQ(s.alive, true);
	EXPECT_EQ(s.pid, pid);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	s = expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	EXPECT_EQ(s.id, id);
	EXPECT_EQ(s.alive, false);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	close(fd);
	s = expect_event(events, KVM_VMEM_CMD_REGION_DEL_NTF);
	EXPECT_EQ(s.id, id);
}

static void joining_takes_the_capability(const void *arg)
{
	struct vmem_nl *before = netlink_open();
	struct vmem_nl *events = subscribe_first();
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	expect_event(events, KVM_VMEM_CMD_REGION_NEW_NTF);
	become_nobody(NOBODY);
	/* Neither with an old socket nor with a new one. */
	EXPECT_ERR(vmem_nl_subscribe(before, NULL), EPERM);
	EXPECT_ERR(vmem_nl_subscribe(netlink_open(), NULL), EPERM);
	EXPECT_OK(region_plug(&r, 0, 1));
	/* A socket that has joined before stays in the group. */
	expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
}

static void other_network_namespace(const void *arg)
{
	struct vmem_nl *events = subscribe_first(), *there;
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	expect_event(events, KVM_VMEM_CMD_REGION_NEW_NTF);
	if (unshare(CLONE_NEWNET))
		tap_skip("no network namespaces: %s", strerror(errno));
	/* By descriptor, the family serves any namespace. */
	there = netlink_open();
	vmem_nl_close(r.nl);
	r.nl = there;
	EXPECT_OK(region_plug(&r, 2, 7));
	EXPECT_AS_MODEL(&r);
	/* Events are only sent to the initial namespace. */
	there = netlink_open();
	ASSERT_OK(vmem_nl_subscribe(there, NULL));
	EXPECT_OK(region_unplug(&r, 2, 1));
	s = expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	EXPECT_EQ(s.plugged_size, 7 * REGION_BLOCK);
	s = expect_event(events, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	EXPECT_EQ(s.plugged_size, 6 * REGION_BLOCK);
	expect_silence(there);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "each change of a region is notified, in order",
		 .run = life_of_a_region},
		{.name = "requests without effect are not notified",
		 .run = nothing_changed},
		{.name = "all listeners receive events",
		 .run = several_listeners},
		{.name = "the end of the VMM is notified", .run = vmm_ends},
		{.name = "joining the group needs CAP_NET_ADMIN",
		 .run = joining_takes_the_capability},
		{.name = "other network namespaces: requests yes, events no",
		 .run = other_network_namespace},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
