// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile VMMs and operators, with the program vmemd and a real region: vmemd
 * continues to serve all others. It also serves a VMM with almost no
 * privileges.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "consumer_client.h"
#include "process.h"
#include "served_region.h"
#include "tap.h"
#include "thread.h"

#define GPA	    GIB(4)
#define BLOCK	    KIB(64)
#define SLOT_SIZE   (2 * BLOCK)
#define REGION_SIZE (128 * SLOT_SIZE)

/* The maximum value of an eventfd. A further write blocks. */
#define FULL (UINT64_MAX - 1)

/* Rounds of each attack. */
#define ROUNDS 50

/* More answers than vmemd has space for results. */
#define KICKS 150

/* Maximum number of checks for an answer, each with a request to vmemd. */
#define LOOKS_MAX 10000

/* A group that nothing else uses. */
#define KVM_GROUP 4711

/**
 * struct fixture - a served region, and an operator
 * @s: region, vmemd and driver
 * @operator: connection to vmemd's control socket
 */
struct fixture {
	struct served_region s;
	struct consumer_client operator;
};

static void set_up(struct fixture *f)
{
	served_region_start(&f->s, GPA, REGION_SIZE, BLOCK, SLOT_SIZE);
	control_connect(&f->operator, f->s.path);
}

static void tear_down(struct fixture *f)
{
	control_close(&f->operator);
	served_region_stop(&f->s);
}

static void ask_status(struct fixture *f)
{
	control_ask(&f->operator, CONTROL_STATUS, NULL, 0);
}

static void make_it_block(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	ASSERT_GE(flags, 0);
	ASSERT_EQ(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

/* Read an eventfd without blocking, whatever its flags. */
static void take_count(int fd)
{
	uint64_t count;
	const struct iovec iov = {&count, sizeof(count)};

	if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) < 0)
		ASSERT_EQ(errno, EAGAIN);
}

/* Without the call descriptor, which is no use here. */
static uint16_t wait_for_answer(struct fixture *f)
{
	uint16_t answer = 0;
	int looks = 0;

	while (!driver_take(&f->s.d, &answer)) {
		ask_status(f);
		ASSERT_LE(looks++, LOOKS_MAX);
	}
	return answer;
}

static void a_full_call_descriptor_does_not_stop_it(const void *arg)
{
	const uint64_t full = FULL;
	struct fixture f;

	(void)arg;
	set_up(&f);
	for (int i = 0; i < ROUNDS; i++) {
		tap_context("round %d", i);
		take_count(f.s.d.call);
		make_it_block(f.s.d.call);
		ASSERT_EQ(write(f.s.d.call, &full, sizeof(full)), sizeof(full));
		driver_put(&f.s.d,
			   i % 2 ? VIRTIO_MEM_REQ_UNPLUG : VIRTIO_MEM_REQ_PLUG,
			   GPA, 4);
		EXPECT_EQ(wait_for_answer(&f), VIRTIO_MEM_RESP_ACK);
		ask_status(&f);
	}
	tear_down(&f);
}

static void a_kick_that_is_taken_back_does_not_stop_it(const void *arg)
{
	const uint64_t one = 1;
	struct fixture f;

	(void)arg;
	set_up(&f);
	for (int i = 0; i < KICKS; i++) {
		tap_context("round %d", i);
		make_it_block(f.s.d.kick);
		driver_put(&f.s.d, VIRTIO_MEM_REQ_STATE, GPA, 1);
		take_count(f.s.d.kick);
		ask_status(&f);
		/*
		 * vmemd may have missed the first kick, whose count was taken
		 * back.
		 */
		ASSERT_EQ(write(f.s.d.kick, &one, sizeof(one)), sizeof(one));
		EXPECT_EQ(wait_for_answer(&f), VIRTIO_MEM_RESP_ACK);
		ask_status(&f);
	}
	tear_down(&f);
}

/**
 * struct flood - an operator that sends requests without end
 * @fixture: the vmemd that it sends to
 * @reads: it reads the answers
 * @answers: number of reads with data
 * @end: ask it to end
 */
struct flood {
	const struct fixture *fixture;
	bool reads;
	uint64_t answers;
	bool end;
};

static void *flood(void *arg)
{
	static const char line[] = CONTROL_STATUS;
	struct flood *flood = arg;
	struct consumer_client c;
	char text[CONSUMER_LINE_MAX];

	control_connect(&c, flood->fixture->s.path);
	while (!flag_is_set(&flood->end)) {
		/*
		 * Partial lines are invalid requests, which also serve the
		 * purpose.
		 */
		if (send(c.fd, line, strlen(line),
			 MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			ASSERT_EQ(errno, EAGAIN);
		if (flood->reads &&
		    recv(c.fd, text, sizeof(text), MSG_DONTWAIT) > 0)
			counter_add(&flood->answers);
	}
	control_close(&c);
	return NULL;
}

static void a_flood_of_requests_is_not_all_it_serves(const void *arg)
{
	struct fixture f;
	struct flood floods[] = {{&f, true, 0, false}, {&f, false, 0, false}};
	pthread_t threads[ARRAY_SIZE(floods)];

	(void)arg;
	set_up(&f);
	for (size_t i = 0; i < ARRAY_SIZE(floods); i++)
		thread_start(&threads[i], flood, &floods[i]);
	for (int i = 0; i < ROUNDS; i++) {
		tap_context("round %d", i);
		EXPECT_EQ(driver_request(&f.s.d,
					 i % 2 ? VIRTIO_MEM_REQ_UNPLUG
					       : VIRTIO_MEM_REQ_PLUG,
					 GPA, 4),
			  VIRTIO_MEM_RESP_ACK);
		ask_status(&f);
	}
	/* The flooding operator that reads is served, too. */
	while (!counter_read(&floods[0].answers))
		ask_status(&f);
	for (size_t i = 0; i < ARRAY_SIZE(floods); i++) {
		flag_set(&floods[i].end);
		ASSERT_EQ(pthread_join(threads[i], NULL), 0);
	}
	tear_down(&f);
}

/* Runs in the child, which has dropped its privileges. */
static void plug_and_unplug(void)
{
	struct fixture f;

	set_up(&f);
	EXPECT_EQ(driver_request(&f.s.d, VIRTIO_MEM_REQ_PLUG, GPA, 8),
		  VIRTIO_MEM_RESP_ACK);
	for (uint32_t i = 0; i < 8; i++)
		EXPECT_EQ(vm_slot_exists(&f.s.r.vm,
					 SLOT(AS_NORMAL, VM_BOOT_SLOT + 1 + i)),
			  i < 4);
	EXPECT_EQ(driver_request(&f.s.d, VIRTIO_MEM_REQ_UNPLUG, GPA, 6),
		  VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(driver_request(&f.s.d, VIRTIO_MEM_REQ_STATE, GPA, 8),
		  VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(f.s.d.state, VIRTIO_MEM_STATE_MIXED);
	ask_status(&f);
	tear_down(&f);
}

static void all_of_it_works_in_group_kvm(const void *arg)
{
	static const char *const devices[] = {"/dev/kvm", "/dev/kvm-vmem"};
	struct stat before[ARRAY_SIZE(devices)];
	pid_t pid;

	(void)arg;
	if (geteuid())
		tap_skip("needs root, to drop its privileges");
	vmemd_program();
	/* The permissions that udev would set; this machine has no udev. */
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		ASSERT_EQ(stat(devices[i], &before[i]), 0);
		ASSERT_EQ(chown(devices[i], 0, KVM_GROUP), 0);
		ASSERT_EQ(chmod(devices[i], 0660), 0);
	}
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		become_nobody(KVM_GROUP);
		/*
		 * If a device could not be opened, the case would be skipped.
		 */
		for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
			ASSERT_EQ(access(devices[i], R_OK | W_OK), 0);
		plug_and_unplug();
		_exit(0);
	}
	expect_exit(pid);
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		ASSERT_EQ(chown(devices[i], before[i].st_uid, before[i].st_gid),
			  0);
		ASSERT_EQ(chmod(devices[i], before[i].st_mode & 07777), 0);
	}
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a full call descriptor that blocks",
		 .run = a_full_call_descriptor_does_not_stop_it},
		{.name = "a kick that is taken back, on a blocking descriptor",
		 .run = a_kick_that_is_taken_back_does_not_stop_it},
		{.name = "operators who flood it: others are served",
		 .run = a_flood_of_requests_is_not_all_it_serves},
		{.name = "an unprivileged VMM and its vmemd, in group kvm",
		 .run = all_of_it_works_in_group_kvm},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
