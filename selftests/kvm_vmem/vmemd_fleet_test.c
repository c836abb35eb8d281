// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two hundred VMs on one host, each with its own vmemd. All start, are resized
 * at the same time, and stop. Fairness is checked by counts, not by times: when
 * half of them have their requested size, each of the others has made some
 * progress.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_mem.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "consumer_client.h"
#include "driver.h"
#include "process.h"
#include "tap.h"

#define NR_DAEMONS 200

#define GPA	    GIB(4)
#define BLOCK	    MIB(2)
#define SLOT_SIZE   MIB(128)
#define REGION_SIZE GIB(4)

/* Each is requested to have this size, in one request per memslot. */
#define NR_REQUESTS 8
#define SIZE	    (NR_REQUESTS * SLOT_SIZE)

/* A VM here has 12 descriptors; with some reserve. */
#define FDS_EACH 16

/* A limit against a vmemd that hangs. */
#define EVENT_MS 60000

/* 200 starts under emulation, on a busy machine. */
#define TIMEOUT_S 600

/**
 * struct member - a VM, and its vmemd
 * @r: its region
 * @d: its driver, and vmemd
 * @path: path of vmemd's control socket
 * @control: connection to that socket
 * @target: blocks that the device requests
 * @plugged: plugged blocks
 * @nr_done: requests answered since the resize
 */
struct member {
	struct region r;
	struct driver d;
	char path[64];
	struct consumer_client control;
	uint64_t target;
	uint64_t plugged;
	unsigned int nr_done;
};

/**
 * struct fleet - all members
 * @members: the members
 * @dir: folder of their sockets
 * @epoll: reports their answers and configuration changes
 * @nr_there: members that have reached their requested size
 * @least: fewest answers of a member when half had reached it
 */
struct fleet {
	struct member *members;
	char dir[32];
	int epoll;
	unsigned int nr_there;
	unsigned int least;
};

/* The data of an epoll event: the member, and the kind of event. */
#define COOKIE(member, channel) ((uint64_t)(member) << 1 | (channel))

static void allow_descriptors(void)
{
	struct rlimit limit = {NR_DAEMONS * FDS_EACH, NR_DAEMONS * FDS_EACH};

	if (setrlimit(RLIMIT_NOFILE, &limit))
		tap_skip("%u descriptors: %s", NR_DAEMONS * FDS_EACH,
			 strerror(errno));
}

static void watch(const struct fleet *fleet, int fd, uint64_t cookie)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = cookie};

	ASSERT_EQ(epoll_ctl(fleet->epoll, EPOLL_CTL_ADD, fd, &event), 0);
}

static void start(struct fleet *fleet)
{
	char *const args[] = {(char *)"--log-level", (char *)"warning", NULL};

	fleet->members = calloc(NR_DAEMONS, sizeof(*fleet->members));
	ASSERT_TRUE(fleet->members);
	strcpy(fleet->dir, "/tmp/fleet-XXXXXX");
	ASSERT_TRUE(mkdtemp(fleet->dir));
	fleet->epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_GE(fleet->epoll, 0);
	for (unsigned int i = 0; i < NR_DAEMONS; i++) {
		struct member *m = &fleet->members[i];

		snprintf(m->path, sizeof(m->path), "%s/%u", fleet->dir, i);
		driver_region(&m->r, GPA, REGION_SIZE, BLOCK, SLOT_SIZE);
		driver_spawn(&m->d, args, m->path, m->r.fd, m->r.mem.fd);
		driver_start(&m->d);
		control_connect(&m->control, m->path);
		watch(fleet, m->d.call, COOKIE(i, 0));
		watch(fleet, m->d.vu.channel_fd, COOKIE(i, 1));
	}
}

/* Send the member's next request towards its target, if any. */
static void go_on(struct member *m)
{
	const uint16_t nr = SLOT_SIZE / BLOCK;

	if (m->d.put != m->d.seen || m->plugged == m->target)
		return;
	if (m->plugged < m->target)
		driver_put(&m->d, VIRTIO_MEM_REQ_PLUG, GPA + m->plugged * BLOCK,
			   nr);
	else
		driver_put(&m->d, VIRTIO_MEM_REQ_UNPLUG,
			   GPA + (m->plugged - nr) * BLOCK, nr);
}

static void note_half(struct fleet *fleet)
{
	fleet->least = UINT32_MAX;
	for (unsigned int i = 0; i < NR_DAEMONS; i++)
		if (fleet->members[i].nr_done < fleet->least)
			fleet->least = fleet->members[i].nr_done;
}

static void on_call(struct fleet *fleet, struct member *m)
{
	const uint16_t nr = SLOT_SIZE / BLOCK;
	uint64_t count;
	uint16_t answer;

	if (read(m->d.call, &count, sizeof(count)) < 0)
		ASSERT_EQ(errno, EAGAIN);
	while (driver_take(&m->d, &answer)) {
		ASSERT_EQ(answer, VIRTIO_MEM_RESP_ACK);
		m->plugged += m->plugged < m->target ? nr : -(uint64_t)nr;
		m->nr_done++;
		if (m->plugged != m->target)
			continue;
		if (++fleet->nr_there == NR_DAEMONS / 2)
			note_half(fleet);
	}
	go_on(m);
}

static void on_channel(struct member *m)
{
	struct virtio_mem_config config;
	bool changed;

	ASSERT_OK(vhost_user_handle_channel(&m->d.vu, &changed));
	driver_config(&m->d, &config);
	m->target = config.requested_size / BLOCK;
	go_on(m);
}

/* Resize all members at once, and serve them until all are done. */
static void resize(struct fleet *fleet, uint64_t size)
{
	unsigned int total = 0;
	char line[128];

	snprintf(line, sizeof(line),
		 "{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":%" PRIu64
		 "}}\n",
		 size);
	fleet->nr_there = 0;
	for (unsigned int i = 0; i < NR_DAEMONS; i++)
		fleet->members[i].nr_done = 0;
	for (unsigned int i = 0; i < NR_DAEMONS; i++)
		control_write(&fleet->members[i].control, line);
	while (fleet->nr_there < NR_DAEMONS) {
		struct epoll_event events[NR_DAEMONS];
		int nr = epoll_wait(fleet->epoll, events, NR_DAEMONS, EVENT_MS);

		ASSERT_GT(nr, 0);
		for (int i = 0; i < nr; i++) {
			uint64_t cookie = events[i].data.u64;
			struct member *m = &fleet->members[cookie >> 1];

			if (cookie & 1)
				on_channel(m);
			else
				on_call(fleet, m);
		}
	}
	for (unsigned int i = 0; i < NR_DAEMONS; i++) {
		EXPECT_EQ(fleet->members[i].plugged * BLOCK, size);
		total += fleet->members[i].nr_done;
	}
	tap_note("%u requests of %u; when half were done, each had at least %u",
		 total, NR_DAEMONS, fleet->least);
	/* Half of the answers that each would have if all were equal. */
	EXPECT_GE(fleet->least, total / NR_DAEMONS / 4);
}

static void stop(struct fleet *fleet)
{
	for (unsigned int i = 0; i < NR_DAEMONS; i++) {
		struct member *m = &fleet->members[i];

		control_close(&m->control);
		driver_stop(&m->d);
		close(m->r.fd);
		vm_destroy(&m->r.vm);
		backing_destroy(&m->r.mem);
		close(m->r.dev);
	}
	close(fleet->epoll);
	/* The daemons have removed their sockets. */
	EXPECT_EQ(rmdir(fleet->dir), 0);
	free(fleet->members);
}

static void all_are_served(const void *arg)
{
	struct fleet fleet = {0};

	(void)arg;
	vmemd_program();
	allow_descriptors();
	start(&fleet);
	resize(&fleet, SIZE);
	resize(&fleet, 0);
	stop(&fleet);
	region_await_none();
	await_no_vm();
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "200 daemons start, serve a resize of all at once, and stop",
		 .run = all_are_served,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
