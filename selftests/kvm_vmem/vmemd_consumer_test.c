// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers of a device's memory, with the program vmemd and a real region: the
 * order of their events and of KVM's memslot changes, and the fate of a
 * driver's request that a consumer refuses. One consumer is a vhost device of
 * the kernel.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_mem.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consumer_client.h"
#include "process.h"
#include "served_region.h"
#include "tap.h"
#include "vmm/vhost_table.h"

#define FIRST_SLOT  (VM_BOOT_SLOT + 1)
#define GPA	    GIB(4)
#define BLOCK	    KIB(64)
#define PER_SLOT    2
#define NR_SLOTS    128
#define SLOT_SIZE   (PER_SLOT * BLOCK)
#define NR_BLOCKS   (NR_SLOTS * PER_SLOT)
#define REGION_SIZE (NR_SLOTS * SLOT_SIZE)

/* Longer than the time that vmemd gives a consumer to answer. */
#define SILENT_TIMEOUT_S 120

static void set_up(struct served_region *f)
{
	served_region_start(f, GPA, REGION_SIZE, BLOCK, SLOT_SIZE);
}

static void subscribe_as(const struct served_region *f,
			 struct consumer_client *c, const char *name)
{
	struct consumer_event event;

	consumer_subscribe(c, f->path, name, 0, NULL, 0);
	consumer_next(c, &event);
	EXPECT_EQ(strcmp(event.name, "subscribed"), 0);
}

static void subscribe(const struct served_region *f, struct consumer_client *c)
{
	subscribe_as(f, c, "test");
}

static void put(struct served_region *f, bool plug, unsigned int block,
		uint16_t nr)
{
	driver_put(&f->d, plug ? VIRTIO_MEM_REQ_PLUG : VIRTIO_MEM_REQ_UNPLUG,
		   GPA + block * BLOCK, nr);
}

static void expect_event(struct consumer_client *c, const char *name,
			 unsigned int block, unsigned int nr,
			 struct consumer_event *event)
{
	consumer_next(c, event);
	EXPECT_EQ(strcmp(event->name, name), 0);
	EXPECT_EQ(event->gpa, GPA + block * BLOCK);
	EXPECT_EQ(event->size, nr * BLOCK);
}

static unsigned int nr_memslots(const struct served_region *f)
{
	unsigned int nr = 0;

	for (uint32_t i = 0; i < NR_SLOTS; i++)
		nr += vm_slot_exists(&f->r.vm, SLOT(AS_NORMAL, FIRST_SLOT + i));
	return nr;
}

static void expect_no_answer(struct served_region *f)
{
	uint16_t answer;

	EXPECT_TRUE(!driver_take(&f->d, &answer));
}

static void expect_status(const struct served_region *f, const char *part)
{
	struct consumer_client control;
	char text[CONSUMER_LINE_MAX];

	control_connect(&control, f->path);
	control_ask(&control, CONTROL_STATUS, text, sizeof(text));
	if (!strstr(text, part))
		tap_fail(__FILE__, __LINE__, "no %s in: %s", part, text);
	control_close(&control);
}

static void it_is_told_before_the_guest(const void *arg)
{
	struct consumer_event event;
	struct consumer_client c;
	struct served_region f;

	(void)arg;
	set_up(&f);
	subscribe(&f, &c);
	put(&f, true, 1, 4);
	expect_event(&c, "populate", 1, 4, &event);
	EXPECT_EQ(event.nr_slots, 3);
	EXPECT_EQ(event.slot, FIRST_SLOT);
	/* The memslots exist; the request is not answered yet. */
	EXPECT_EQ(nr_memslots(&f), 3);
	expect_no_answer(&f);
	consumer_done(&c, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);

	put(&f, false, 2, 2);
	expect_event(&c, "discard", 2, 2, &event);
	EXPECT_EQ(event.nr_slots, 1);
	EXPECT_EQ(event.slot, FIRST_SLOT + 1);
	/* The memslot still exists. */
	EXPECT_EQ(nr_memslots(&f), 3);
	expect_no_answer(&f);
	consumer_done(&c, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(nr_memslots(&f), 2);

	/* A later consumer receives events of what is plugged. */
	consumer_unsubscribe(&c);
	consumer_subscribe(&c, f.path, "late", NR_SLOTS, NULL, 0);
	expect_event(&c, "populate", 1, 1, &event);
	consumer_done(&c, event.seq, true, "");
	expect_event(&c, "populate", 4, 1, &event);
	consumer_done(&c, event.seq, true, "");
	consumer_next(&c, &event);
	EXPECT_EQ(strcmp(event.name, "subscribed"), 0);
	driver_put(&f.d, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	expect_event(&c, "discard", 1, 4, &event);
	EXPECT_EQ(nr_memslots(&f), 2);
	consumer_done(&c, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(nr_memslots(&f), 0);
	served_region_stop(&f);
}

static void what_it_refuses_has_not_been(const void *arg)
{
	struct consumer_event event, other;
	struct consumer_client a, b;
	struct served_region f;

	(void)arg;
	set_up(&f);
	subscribe_as(&f, &a, "other");
	subscribe(&f, &b);
	put(&f, true, 0, 6);
	expect_event(&a, "populate", 0, 6, &event);
	expect_event(&b, "populate", 0, 6, &other);
	consumer_done(&a, event.seq, true, "");
	consumer_done(&b, other.seq, false, "the table is full");
	/*
	 * The consumer that has accepted discards before the memslots are
	 * deleted.
	 */
	expect_event(&a, "discard", 0, 6, &event);
	EXPECT_EQ(nr_memslots(&f), 3);
	consumer_done(&a, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(nr_memslots(&f), 0);
	expect_status(&f,
		      "consumer test refuses to populate: the table is full");
	expect_status(&f, "\"plugged_size\":0");

	put(&f, true, 0, 6);
	expect_event(&a, "populate", 0, 6, &event);
	consumer_done(&a, event.seq, true, "");
	expect_event(&b, "populate", 0, 6, &event);
	consumer_done(&b, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);

	put(&f, false, 0, 6);
	expect_event(&a, "discard", 0, 6, &event);
	consumer_done(&a, event.seq, true, "");
	expect_event(&b, "discard", 0, 6, &other);
	consumer_done(&b, other.seq, false, "it is pinned");
	expect_event(&a, "populate", 0, 6, &event);
	expect_no_answer(&f);
	consumer_done(&a, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(nr_memslots(&f), 3);
	expect_status(&f, "consumer test refuses to discard: it is pinned");
	served_region_stop(&f);
}

static void one_that_dies_is_not_waited_for(const void *arg)
{
	struct served_region f;
	int pair[2];
	pid_t pid;

	(void)arg;
	set_up(&f);
	process_pair(pair);
	for (int i = 0; i < 2; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			struct consumer_event event;
			struct consumer_client c;

			consumer_subscribe(&c, f.path, "mortal", 0, NULL, 0);
			/* The second time, blocks are plugged already. */
			for (int j = 0; j < i; j++) {
				consumer_next(&c, &event);
				consumer_done(&c, event.seq, true, "");
			}
			consumer_next(&c, &event);
			send_byte(pair[1]);
			consumer_next(&c, &event);
			send_byte(pair[1]);
			pause();
			_exit(0);
		}
		receive_byte(pair[0]);
		put(&f, !i, 0, 2);
		receive_byte(pair[0]);
		expect_no_answer(&f);
		ASSERT_EQ(kill(pid, SIGKILL), 0);
		ASSERT_EQ(waitpid(pid, NULL, 0), pid);
		EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
		EXPECT_EQ(nr_memslots(&f), !i);
	}
	served_region_stop(&f);
}

static void one_that_does_not_answer_is_closed(const void *arg)
{
	struct consumer_event event;
	struct consumer_client c;
	struct served_region f;

	(void)arg;
	set_up(&f);
	subscribe(&f, &c);
	put(&f, true, 0, 1);
	expect_event(&c, "populate", 0, 1, &event);
	/* Others are served in the meantime. */
	expect_status(&f, "\"plugged_size\"");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(nr_memslots(&f), 0);
	consumer_next(&c, &event);
	EXPECT_EQ(strcmp(event.name, "closed"), 0);
	EXPECT_TRUE(strstr(event.reason, "not answered in time"));
	control_close(&c);
	/* It may have mapped the block, until it answers a discard. */
	put(&f, true, 0, 1);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_BUSY);
	expect_status(&f, "consumer test may still map the memory");
	consumer_subscribe(&c, f.path, "test", 0, NULL, 0);
	expect_event(&c, "discard", 0, 1, &event);
	consumer_done(&c, event.seq, true, "");
	consumer_next(&c, &event);
	EXPECT_EQ(strcmp(event.name, "subscribed"), 0);
	put(&f, true, 0, 1);
	expect_event(&c, "populate", 0, 1, &event);
	consumer_done(&c, event.seq, true, "");
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	served_region_stop(&f);
}

/*
 * The kernel has plugged, and consumers may have been notified, but not the
 * guest.
 */
static void vmemd_is_killed_while_it_is_told(const void *arg)
{
	struct consumer_event event;
	struct consumer_client c;
	struct served_region f;

	(void)arg;
	set_up(&f);
	subscribe(&f, &c);
	put(&f, true, 0, 2);
	expect_event(&c, "populate", 0, 2, &event);
	driver_lose(&f.d);
	control_close(&c);
	EXPECT_EQ(nr_memslots(&f), 1);
	served_region_respawn(&f);
	/*
	 * The guest repeats the request, and waits for the previous consumer.
	 */
	driver_start(&f.d);
	expect_status(&f, "\"plugged_size\":131072");
	expect_no_answer(&f);
	consumer_subscribe(&c, f.path, "test", 0, NULL, 0);
	expect_event(&c, "discard", 2, NR_BLOCKS - 2, &event);
	consumer_done(&c, event.seq, true, "");
	expect_event(&c, "populate", 0, 2, &event);
	expect_no_answer(&f);
	consumer_done(&c, event.seq, true, "");
	consumer_next(&c, &event);
	EXPECT_EQ(strcmp(event.name, "subscribed"), 0);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(nr_memslots(&f), 1);
	served_region_stop(&f);
}

static void what_others_change_is_told(const void *arg)
{
	struct vmem_nl_range range = {GPA + 3 * BLOCK, 2 * BLOCK};
	struct vmem_nl *nl = netlink_open();
	struct vmem_nl_answer answer;
	struct consumer_event event;
	struct consumer_client c;
	struct error err;
	struct served_region f;

	(void)arg;
	set_up(&f);
	subscribe(&f, &c);
	ASSERT_OK(vmem_nl_plug(nl, VMEM_NL_BY_FD(f.r.fd), 1, &range, 1, &answer,
			       &err));
	expect_event(&c, "populate", 3, 2, &event);
	EXPECT_EQ(event.nr_slots, 2);
	consumer_done(&c, event.seq, true, "");
	ASSERT_OK(vmem_nl_unplug(nl, VMEM_NL_BY_FD(f.r.fd), 2, &range, 1,
				 &answer, &err));
	expect_event(&c, "discard", 3, 2, &event);
	/* The blocks are unplugged already: a refusal has no effect. */
	consumer_done(&c, event.seq, false, "no");
	consumer_next(&c, &event);
	EXPECT_EQ(strcmp(event.name, "closed"), 0);
	vmem_nl_close(nl);
	served_region_stop(&f);
}

/* --- A vhost device of the kernel --- */

/* The testbed has the module, but has not loaded it. */
static void load_vhost_net(void)
{
	char *const argv[] = {(char *)"modprobe", (char *)"vhost_net", NULL};
	pid_t pid;

	if (!posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

static uint32_t max_mem_regions(void)
{
	uint32_t max = 0;
	FILE *f;

	load_vhost_net();
	f = fopen("/sys/module/vhost/parameters/max_mem_regions", "re");
	if (!f)
		tap_skip("no module vhost");
	ASSERT_EQ(fscanf(f, "%" SCNu32, &max), 1);
	fclose(f);
	return max;
}

/* Carry out the next event, and answer with the device's result. */
static void serve(struct consumer_client *c, struct vhost_table *table,
		  struct consumer_event *event)
{
	int ret = 0;

	consumer_next(c, event);
	if (event->nr_slots && !strcmp(event->name, "populate"))
		ret = vhost_table_populate(table, event->slots_gpa,
					   event->slots_size);
	else if (event->nr_slots)
		ret = vhost_table_discard(table, event->slots_gpa,
					  event->slots_size);
	consumer_done(c, event->seq, !ret, strerror(-ret));
}

static void a_vhost_device_has_what_is_plugged(const void *arg)
{
	uint32_t max = max_mem_regions();
	struct vhost_table table = {.gpa = GPA, .slot_size = SLOT_SIZE};
	char text[CONSUMER_LINE_MAX], expected[128];
	struct consumer_event event;
	struct consumer_client c;
	struct served_region f;
	int ret;

	(void)arg;
	if (max >= NR_SLOTS)
		tap_skip("vhost takes %" PRIu32 " memslots", max);
	set_up(&f);
	table.hva = (uintptr_t)f.r.mem.hva;
	ret = vhost_table_open(&table, "/dev/vhost-net");
	if (ret)
		tap_skip("/dev/vhost-net: %s", strerror(-ret));
	/* A consumer that reports a limit too low for the region is refused. */
	consumer_subscribe(&c, f.path, "vhost-net0", max, text, sizeof(text));
	snprintf(expected, sizeof(expected),
		 "vhost-net0 can have %" PRIu32
		 " memslots, 0 are used and %d reserved",
		 max, NR_SLOTS);
	if (!strstr(text, expected))
		tap_fail(__FILE__, __LINE__, "not refused: %s", text);
	control_close(&c);

	/*
	 * A consumer without a reported limit refuses when it reaches its
	 * limit.
	 */
	subscribe(&f, &c);
	put(&f, true, 0, (uint16_t)((max - 1) * PER_SLOT));
	serve(&c, &table, &event);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(table.memory->nregions, max - 1);
	put(&f, true, (max - 1) * PER_SLOT, 2 * PER_SLOT);
	serve(&c, &table, &event);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(nr_memslots(&f), max - 1);
	snprintf(expected, sizeof(expected),
		 "consumer test refuses to populate: %s", strerror(E2BIG));
	expect_status(&f, expected);
	/* One memslot less is accepted. */
	put(&f, true, (max - 1) * PER_SLOT, PER_SLOT);
	serve(&c, &table, &event);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(table.memory->nregions, max);
	put(&f, false, PER_SLOT, 4 * PER_SLOT);
	serve(&c, &table, &event);
	EXPECT_EQ(driver_wait(&f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(table.memory->nregions, max - 4);
	EXPECT_EQ(nr_memslots(&f), max - 4);
	vhost_table_close(&table);
	served_region_stop(&f);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a consumer populates before the guest, and discards before memslots are deleted",
		 .run = it_is_told_before_the_guest},
		{.name = "a request that a consumer refuses is busy and undone",
		 .run = what_it_refuses_has_not_been},
		{.name = "a consumer that dies in between delays nothing",
		 .run = one_that_dies_is_not_waited_for},
		{.name = "a consumer that does not answer is closed, and the request busy",
		 .run = one_that_does_not_answer_is_closed,
		 .timeout_s = SILENT_TIMEOUT_S},
		{.name = "vmemd killed during consumer events answers after restart",
		 .run = vmemd_is_killed_while_it_is_told},
		{.name = "consumers receive events of changes by others",
		 .run = what_others_change_is_told},
		{.name = "a vhost device of the kernel has the memslots that exist, within its limit",
		 .run = a_vhost_device_has_what_is_plugged},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
