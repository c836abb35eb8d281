// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A consumer with a real device behind QEMU's emulated IOMMU. The device can
 * access exactly the plugged blocks, and never memory of another owner,
 * whichever of vmemd, consumer and guest is late, dies, or comes first.
 *
 * The program is built twice: vmemd_vfio_test uses a container of VFIO type 1,
 * vmemd_iommufd_test uses iommufd.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_mem.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consumer_client.h"
#include "process.h"
#include "served_region.h"
#include "tap.h"
#include "vfio_edu.h"
#include "vmm/vhost_table.h"

#define GPA	  GIB(4)
#define BLOCK	  MIB(2)
#define PER_SLOT  4
#define NR_BLOCKS 128
#define SLOT_SIZE (PER_SLOT * BLOCK)

#define REGION_SIZE ((uint64_t)NR_BLOCKS * BLOCK)

/* Pages of the test itself that the device accesses, below the region. */
#define OWN_IOVA MIB(1)

#ifndef IOMMUFD
#define IOMMUFD 0
#endif

/* Maximum size of an event, see vmemd(8). */
#define EVENT_MAX MIB(128)

/* Pinning is slow in an emulated machine, and some cases wait for a timeout. */
#define CASE_TIMEOUT_S 240

/**
 * struct mapper - a consumer that maps blocks for a device
 * @f: the region with vmemd and driver
 * @c: the consumer's connection
 * @edu: the device
 * @own: a page of the test that the device accesses
 * @has: blocks that are mapped
 */
struct mapper {
	struct served_region f;
	struct consumer_client c;
	struct vfio_edu edu;
	uint8_t *own;
	bool has[NR_BLOCKS];
};

static uint64_t gpa_of(unsigned int block)
{
	return GPA + (uint64_t)block * BLOCK;
}

static uint8_t *hva_of(struct mapper *m, unsigned int block)
{
	return (uint8_t *)m->f.r.mem.hva + (uint64_t)block * BLOCK;
}

static void set_up(struct mapper *m)
{
	memset(m, 0, sizeof(*m));
	vfio_edu_open(&m->edu, IOMMUFD);
	ASSERT_EQ(posix_memalign((void **)&m->own, EDU_BUFFER_SIZE,
				 EDU_BUFFER_SIZE),
		  0);
	ASSERT_OK(vfio_map(&m->edu.vfio, OWN_IOVA, m->own, EDU_BUFFER_SIZE));
	served_region_start(&m->f, GPA, REGION_SIZE, BLOCK, SLOT_SIZE);
}

static void subscribe(struct mapper *m)
{
	consumer_subscribe(&m->c, m->f.path, "vfio0", 0, NULL, 0);
}

/* Carry out an event: skip blocks that are mapped, or unmapped, already. */
static void map(struct mapper *m, const struct consumer_event *event)
{
	unsigned int first = (unsigned int)((event->gpa - GPA) / BLOCK);
	unsigned int end = first + (unsigned int)(event->size / BLOCK);
	bool on = !strcmp(event->name, "populate");

	EXPECT_TRUE(on || !strcmp(event->name, "discard"));
	for (unsigned int i = first; i < end; i++) {
		if (m->has[i] == on)
			continue;
		if (on)
			EXPECT_OK(vfio_map(&m->edu.vfio, gpa_of(i),
					   hva_of(m, i), BLOCK));
		else
			EXPECT_OK(vfio_unmap(&m->edu.vfio, gpa_of(i), BLOCK));
		m->has[i] = on;
	}
}

static void serve(struct mapper *m)
{
	struct consumer_event event;

	consumer_next(&m->c, &event);
	map(m, &event);
	consumer_done(&m->c, event.seq, true, "");
}

/* Handle events until the consumer is up to date. */
static void catch_up(struct mapper *m)
{
	struct consumer_event event;

	for (;;) {
		consumer_next(&m->c, &event);
		if (!strcmp(event.name, "subscribed"))
			return;
		map(m, &event);
		consumer_done(&m->c, event.seq, true, "");
	}
}

static void put(struct mapper *m, bool plug, unsigned int block, uint16_t nr)
{
	driver_put(&m->f.d, plug ? VIRTIO_MEM_REQ_PLUG : VIRTIO_MEM_REQ_UNPLUG,
		   gpa_of(block), nr);
}

/* A complete request, with all its events. */
static void request(struct mapper *m, bool plug, unsigned int block,
		    uint16_t nr)
{
	put(m, plug, block, nr);
	for (uint64_t told = 0; told < nr * BLOCK; told += EVENT_MAX)
		serve(m);
	EXPECT_EQ(driver_wait(&m->f.d), VIRTIO_MEM_RESP_ACK);
}

/* A request without the consumer, which has no connection, is busy. */
static void expect_busy(struct mapper *m, bool plug, unsigned int block)
{
	put(m, plug, block, 1);
	EXPECT_EQ(driver_wait(&m->f.d), VIRTIO_MEM_RESP_BUSY);
}

static uint64_t resident_blocks(const struct mapper *m)
{
	struct stat st;

	ASSERT_EQ(fstat(m->f.r.mem.fd, &st), 0);
	/* Number of blocks with any memory. */
	return ((uint64_t)st.st_blocks * 512 + BLOCK - 1) / BLOCK;
}

/* Does the device access the same memory as the guest, in both directions? */
static bool reaches(struct mapper *m, unsigned int block)
{
	/* The end of the block. */
	uint64_t offset = BLOCK - EDU_BUFFER_SIZE;
	uint8_t *at = hva_of(m, block) + offset;
	static uint8_t value;

	value = (uint8_t)(value + 1) ? (uint8_t)(value + 1) : 1;
	memset(m->own, value, EDU_BUFFER_SIZE);
	memset(at, 0, EDU_BUFFER_SIZE);
	vfio_edu_read(&m->edu, OWN_IOVA);
	vfio_edu_write(&m->edu, gpa_of(block) + offset);
	if (memcmp(m->own, at, EDU_BUFFER_SIZE) != 0)
		return false;
	memset(at, ~value, EDU_BUFFER_SIZE);
	vfio_edu_read(&m->edu, gpa_of(block) + offset);
	vfio_edu_write(&m->edu, OWN_IOVA);
	return memcmp(m->own, at, EDU_BUFFER_SIZE) == 0;
}

/* The device reaches the file's memory in all mapped blocks. */
static void expect_reach(struct mapper *m, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (m->has[i] && !reaches(m, i))
			tap_fail(
				__FILE__, __LINE__,
				"block %u: the device has other memory than the guest",
				i);
}

static void it_reaches_what_is_plugged(const void *arg)
{
	struct mapper m;
	uint8_t *unplugged;

	(void)arg;
	set_up(&m);
	subscribe(&m);
	catch_up(&m);
	request(&m, true, 0, 4);
	expect_reach(&m, 4);
	request(&m, false, 1, 2);
	expect_reach(&m, 4);
	EXPECT_EQ(resident_blocks(&m), 2);
	/* The IOMMU refuses the access, which allocates no memory. */
	memset(m.own, 0xee, EDU_BUFFER_SIZE);
	vfio_edu_read(&m.edu, OWN_IOVA);
	vfio_edu_write(&m.edu, gpa_of(1));
	EXPECT_EQ(resident_blocks(&m), 2);
	unplugged = hva_of(&m, 1);
	for (unsigned int i = 0; i < EDU_BUFFER_SIZE; i++)
		ASSERT_EQ(unplugged[i], 0);
	served_region_stop(&m.f);
}

/* If a block were replugged now, the device would access its old memory. */
static void expect_nothing_changes(struct mapper *m)
{
	expect_busy(m, false, 1);
	expect_busy(m, true, 8);
	EXPECT_EQ(resident_blocks(m), 4);
	expect_reach(m, 4);
}

static void expect_all_is_well(struct mapper *m)
{
	catch_up(m);
	expect_reach(m, 4);
	request(m, false, 1, 1);
	EXPECT_EQ(resident_blocks(m), 3);
	request(m, true, 1, 1);
	expect_reach(m, 4);
}

static void one_that_was_late_comes_back(const void *arg)
{
	struct consumer_event event;
	struct mapper m;

	(void)arg;
	set_up(&m);
	subscribe(&m);
	catch_up(&m);
	request(&m, true, 0, 4);
	put(&m, false, 1, 1);
	consumer_next(&m.c, &event);
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_BUSY);
	consumer_next(&m.c, &event);
	EXPECT_EQ(strcmp(event.name, "closed"), 0);
	control_close(&m.c);
	expect_nothing_changes(&m);
	subscribe(&m);
	expect_all_is_well(&m);
	served_region_stop(&m.f);
}

static void one_whose_connection_ended_comes_back(const void *arg)
{
	struct mapper m;

	(void)arg;
	set_up(&m);
	subscribe(&m);
	catch_up(&m);
	request(&m, true, 0, 4);
	control_close(&m.c);
	expect_nothing_changes(&m);
	subscribe(&m);
	expect_all_is_well(&m);
	served_region_stop(&m.f);
}

/* The guest's driver reconnects before the consumer does. */
static void the_guest_is_first_after_a_restart(const void *arg)
{
	struct mapper m;

	(void)arg;
	set_up(&m);
	subscribe(&m);
	catch_up(&m);
	request(&m, true, 0, 4);
	for (int late = 0; late < 2; late++) {
		driver_lose(&m.f.d);
		control_close(&m.c);
		/* No process serves the device, which still works. */
		expect_reach(&m, 4);
		served_region_respawn(&m.f);
		driver_start(&m.f.d);
		if (late)
			expect_nothing_changes(&m);
		else
			put(&m, true, 8, 1);
		subscribe(&m);
		if (late) {
			expect_all_is_well(&m);
			continue;
		}
		/* A consumer within the time limit is waited for. */
		catch_up(&m);
		serve(&m);
		EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
		request(&m, false, 8, 1);
	}
	served_region_stop(&m.f);
}

static void much_is_told_in_parts(const void *arg)
{
	struct consumer_event event;
	unsigned int nr = 0;
	struct mapper m;

	(void)arg;
	set_up(&m);
	put(&m, true, 0, NR_BLOCKS);
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
	subscribe(&m);
	for (;; nr++) {
		consumer_next(&m.c, &event);
		if (strcmp(event.name, "subscribed") == 0)
			break;
		EXPECT_TRUE(event.size <= EVENT_MAX);
		map(&m, &event);
		consumer_done(&m.c, event.seq, true, "");
	}
	EXPECT_EQ(nr, REGION_SIZE / EVENT_MAX);
	expect_reach(&m, 1);
	request(&m, false, 0, NR_BLOCKS);
	EXPECT_EQ(resident_blocks(&m), 0);
	served_region_stop(&m.f);
}

/*
 * Blocks still mapped by the consumer after an undone plug are discarded when
 * it unmaps.
 */
static void what_is_mapped_too_late_is_given_back(const void *arg)
{
	struct consumer_event event;
	struct mapper m;

	(void)arg;
	set_up(&m);
	subscribe(&m);
	catch_up(&m);
	put(&m, true, 0, 8);
	consumer_next(&m.c, &event);
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_BUSY);
	map(&m, &event);
	EXPECT_EQ(resident_blocks(&m), 8);
	control_close(&m.c);
	expect_busy(&m, true, 0);
	subscribe(&m);
	catch_up(&m);
	for (unsigned int i = 0; i < 8; i++)
		EXPECT_TRUE(!m.has[i]);
	/* vmemd discards them later, perhaps after its answer. */
	while (resident_blocks(&m))
		;
	request(&m, true, 0, 8);
	expect_reach(&m, 8);
	served_region_stop(&m.f);
}

/*
 * Descriptors are closed in the order of their numbers: the connection last, or
 * first, after or before the container that pins memory.
 */
static void nothing_is_pinned_when_its_process_has_ended(const void *arg)
{
	static const uint16_t part = 32;
	struct mapper m;
	uint64_t before;
	int pair[2];
	pid_t pid;

	/*
	 * A child cannot skip, and the parent must not wait for a failed child.
	 */
	vfio_edu_need();
	for (int socket_first = 0; socket_first < 2; socket_first++) {
		memset(&m, 0, sizeof(m));
		served_region_start(&m.f, GPA, REGION_SIZE, BLOCK, SLOT_SIZE);
		process_pair(pair);
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			struct consumer_event event;

			if (socket_first)
				subscribe(&m);
			vfio_edu_open(&m.edu, IOMMUFD);
			if (!socket_first)
				subscribe(&m);
			catch_up(&m);
			send_byte(pair[1]);
			for (unsigned int i = 0; i < NR_BLOCKS / part; i++)
				serve(&m);
			consumer_next(&m.c, &event);
			send_byte(pair[1]);
			pause();
			_exit(0);
		}
		close(pair[1]);
		receive_byte(pair[0]);
		before = vfio_pinned_pages();
		for (unsigned int i = 0; i < NR_BLOCKS; i += part) {
			put(&m, true, i, part);
			EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
		}
		EXPECT_TRUE(vfio_pinned_pages() - before >=
			    REGION_SIZE / EDU_BUFFER_SIZE);
		put(&m, false, 0, NR_BLOCKS);
		receive_byte(pair[0]);
		ASSERT_EQ(kill(pid, SIGKILL), 0);
		EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
		EXPECT_EQ(vfio_pinned_pages(), before);
		ASSERT_EQ(waitpid(pid, NULL, 0), pid);
		served_region_stop(&m.f);
	}
	(void)arg;
}

/* --- A vhost device of the kernel beside it --- */

/* Memslots that the vhost device is given; the region has more. */
#define VHOST_SLOTS 4

struct vhost_mapper {
	struct consumer_client c;
	struct vhost_table table;
};

/* Carry out the next event. Return: whether the consumer has accepted it. */
static bool serve_vhost(struct vhost_mapper *v)
{
	struct consumer_event event;
	bool populate;
	int ret = 0;

	consumer_next(&v->c, &event);
	populate = !strcmp(event.name, "populate");
	if (populate &&
	    v->table.memory->nregions + event.nr_slots > VHOST_SLOTS)
		ret = -E2BIG;
	else if (event.nr_slots)
		ret = (populate ? vhost_table_populate : vhost_table_discard)(
			&v->table, event.slots_gpa, event.slots_size);
	consumer_done(&v->c, event.seq, !ret, strerror(-ret));
	return !ret;
}

static void subscribe_vhost(struct mapper *m, struct vhost_mapper *v)
{
	char *const argv[] = {(char *)"modprobe", (char *)"vhost_net", NULL};
	struct consumer_event event;
	pid_t pid;
	int ret;

	if (!posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
	v->table = (struct vhost_table){
		.gpa = GPA,
		.hva = (uintptr_t)m->f.r.mem.hva,
		.slot_size = SLOT_SIZE,
	};
	ret = vhost_table_open(&v->table, "/dev/vhost-net");
	if (ret)
		tap_skip("/dev/vhost-net: %s", strerror(-ret));
	consumer_subscribe(&v->c, m->f.path, "vhost0", 0, NULL, 0);
	consumer_next(&v->c, &event);
	ASSERT_EQ(strcmp(event.name, "subscribed"), 0);
}

static void it_works_beside_a_vhost_device(const void *arg)
{
	struct vhost_mapper v;
	struct mapper m;
	uint64_t before;

	(void)arg;
	set_up(&m);
	subscribe_vhost(&m, &v);
	subscribe(&m);
	catch_up(&m);
	put(&m, true, 0, PER_SLOT + 1);
	serve(&m);
	EXPECT_TRUE(serve_vhost(&v));
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
	expect_reach(&m, PER_SLOT + 1);
	EXPECT_EQ(v.table.memory->nregions, 2);

	/* One refuses: the other has to give back what it has mapped. */
	before = vfio_pinned_pages();
	put(&m, true, 2 * PER_SLOT, VHOST_SLOTS * PER_SLOT);
	serve(&m);
	EXPECT_TRUE(vfio_pinned_pages() > before);
	EXPECT_TRUE(!serve_vhost(&v));
	serve(&m);
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(vfio_pinned_pages(), before);
	EXPECT_EQ(v.table.memory->nregions, 2);
	while (resident_blocks(&m) != PER_SLOT + 1)
		;
	expect_reach(&m, PER_SLOT + 1);

	put(&m, false, 0, PER_SLOT);
	serve(&m);
	EXPECT_TRUE(serve_vhost(&v));
	EXPECT_EQ(driver_wait(&m.f.d), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(v.table.memory->nregions, 1);
	EXPECT_EQ(resident_blocks(&m), 1);
	expect_reach(&m, PER_SLOT + 1);
	vhost_table_close(&v.table);
	served_region_stop(&m.f);
}

#define CASE(text, function)                                               \
	{                                                                  \
		.name = text, .run = function, .timeout_s = CASE_TIMEOUT_S \
	}

int main(void)
{
	static const struct tap_case cases[] = {
		CASE("a device reaches exactly the plugged blocks",
		     it_reaches_what_is_plugged),
		CASE("a consumer that was closed for a late answer reconnects",
		     one_that_was_late_comes_back),
		CASE("a consumer whose connection ended reconnects",
		     one_whose_connection_ended_comes_back),
		CASE("the guest reconnects first after a restart of vmemd",
		     the_guest_is_first_after_a_restart),
		CASE("plugged blocks are reported in parts",
		     much_is_told_in_parts),
		CASE("memory of a late mapping is returned",
		     what_is_mapped_too_late_is_given_back),
		CASE("no memory stays pinned when a consumer's process has ended",
		     nothing_is_pinned_when_its_process_has_ended),
		CASE("a vhost device and a device that does DMA follow the same requests",
		     it_works_beside_a_vhost_device),
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
