// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the virtio-mem section of the specification (virtio 1.3, 5.15) says of
 * memory, of vmemd, the program, with a real region: by a driver of our own
 * that sends requests, and a vCPU that reads and writes where it is told to.
 * selftests/unit/spec_test.c has all that can be seen without memory, and
 * doc/virtio-mem-spec.md the statements.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "consumer_client.h"
#include "driver.h"
#include "region.h"
#include "tap.h"

#define SYSTEM_RESET "{\"id\":1,\"method\":\"system-reset\"}\n"
#define FORCED_RESET                             \
	"{\"id\":2,\"method\":\"system-reset\"," \
	"\"params\":{\"force\":true}}\n"

#define NAME(r) VMEM_NL_BY_FD((r)->fd)

/**
 * struct rig - a VMM with a region, and a driver with its vmemd
 * @dir: a folder of our own
 * @control_path: vmemd's control socket, in there
 * @r: the region
 * @d: the driver, and the daemon
 */
struct rig {
	char dir[32];
	char control_path[64];
	struct region r;
	struct driver d;
};

/* All of the region is asked for, so that any block may be plugged. */
static void rig_start(struct rig *rig)
{
	static char *const args[] = {(char *)"--log-level", (char *)"err",
				     NULL};
	struct region *r = &rig->r;

	/* Nothing is made where it cannot be used. */
	vmemd_program();
	memset(rig, 0, sizeof(*rig));
	strcpy(rig->dir, "/tmp/vmemd-XXXXXX");
	ASSERT_TRUE(mkdtemp(rig->dir));
	snprintf(rig->control_path, sizeof(rig->control_path), "%s/control",
		 rig->dir);
	region_init(r, AS_MASK_NORMAL);
	ASSERT_OK(vmem_nl_region_set(r->nl, NAME(r), VMEM_NL_SET_REQUESTED_SIZE,
				     r->args.region_size, false, NULL, NULL));
	driver_spawn(&rig->d, args, rig->control_path, r->fd, r->mem.fd);
	driver_start(&rig->d);
}

static void rig_stop(struct rig *rig)
{
	driver_stop(&rig->d);
	EXPECT_EQ(rmdir(rig->dir), 0);
}

/* By the driver; the model follows. */
static void change(struct rig *rig, uint16_t type, unsigned int first,
		   unsigned int nr)
{
	ASSERT_EQ(driver_request(&rig->d, type,
				 region_block_gpa(&rig->r, first),
				 (uint16_t)nr),
		  VIRTIO_MEM_RESP_ACK);
	region_model_set(&rig->r, first, nr, type == VIRTIO_MEM_REQ_PLUG);
}

static void plug(struct rig *rig, unsigned int first, unsigned int nr)
{
	change(rig, VIRTIO_MEM_REQ_PLUG, first, nr);
}

static void unplug(struct rig *rig, unsigned int first, unsigned int nr)
{
	change(rig, VIRTIO_MEM_REQ_UNPLUG, first, nr);
}

static void unplug_all(struct rig *rig)
{
	ASSERT_EQ(driver_request(&rig->d, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0),
		  VIRTIO_MEM_RESP_ACK);
	region_model_set(&rig->r, 0, rig->r.nr_blocks, false);
}

/* What is written into a word of a block: another one in each. */
static uint64_t pattern(uint64_t gpa)
{
	return ~gpa * 0x9e3779b97f4a7c15;
}

/* The guest fills each plugged block. */
static void fill(struct rig *rig)
{
	const struct region *r = &rig->r;

	for (unsigned int i = 0; i < r->nr_blocks; i++) {
		uint64_t *hva = (uint64_t *)region_block_hva(r, i);
		uint64_t gpa = region_block_gpa(r, i);

		if (!r->plugged[i])
			continue;
		for (uint64_t at = 0; at < r->args.block_size; at += 8)
			hva[at / 8] = pattern(gpa + at);
		/* By itself, in each page. */
		for (uint64_t at = 0; at < r->args.block_size; at += GUEST_PAGE)
			ASSERT_EQ(guest_write(&rig->r.vcpu, gpa + at,
					      pattern(gpa + at)),
				  GUEST_MEMORY);
	}
}

/* It finds what it has written, and nothing else has been written to. */
static void expect_filled(struct rig *rig)
{
	const struct region *r = &rig->r;
	uint64_t value;

	for (unsigned int i = 0; i < r->nr_blocks; i++) {
		const uint64_t *hva = (const uint64_t *)region_block_hva(r, i);
		uint64_t gpa = region_block_gpa(r, i);

		if (!r->plugged[i])
			continue;
		tap_context("block %u", i);
		for (uint64_t at = 0; at < r->args.block_size;
		     at += GUEST_PAGE) {
			ASSERT_EQ(guest_read(&rig->r.vcpu, gpa + at, &value),
				  GUEST_MEMORY);
			ASSERT_EQ(value, pattern(gpa + at));
		}
		for (uint64_t at = 0; at < r->args.block_size; at += 8)
			ASSERT_EQ(hva[at / 8], pattern(gpa + at));
	}
	tap_context("%s", "");
}

/* Bytes of the region's memory that the host holds. */
static uint64_t held(const struct rig *rig)
{
	struct stat st;

	ASSERT_EQ(fstat(rig->r.mem.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static uint16_t state_of(struct rig *rig, unsigned int first, unsigned int nr)
{
	ASSERT_EQ(driver_request(&rig->d, VIRTIO_MEM_REQ_STATE,
				 region_block_gpa(&rig->r, first),
				 (uint16_t)nr),
		  VIRTIO_MEM_RESP_ACK);
	return rig->d.state;
}

static void plugged_is_read_and_written(const void *arg)
{
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	EXPECT_AS_MODEL(&rig.r);
	plug(&rig, 0, 1);
	EXPECT_AS_MODEL(&rig.r);
	plug(&rig, 3, 10);
	EXPECT_AS_MODEL(&rig.r);
	fill(&rig);
	expect_filled(&rig);
	rig_stop(&rig);
}

static void unplugged_is_inaccessible(const void *arg)
{
	struct region *r;
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	r = &rig.r;
	plug(&rig, 0, r->nr_blocks);
	fill(&rig);
	/* But for a block of its slot, which keeps all of the slot there. */
	unplug(&rig, 1, 3);
	EXPECT_AS_MODEL(r);
	unplug(&rig, 0, 1);
	EXPECT_AS_MODEL(r);
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_GUEST_MMIO(&r->vcpu, region_block_gpa(r, i));
	expect_filled(&rig);
	unplug_all(&rig);
	EXPECT_AS_MODEL(r);
	for (unsigned int i = 0; i < r->nr_blocks; i++)
		EXPECT_GUEST_MMIO(&r->vcpu, region_block_gpa(r, i));
	rig_stop(&rig);
}

/* Not what was there before, and what is unplugged is the host's again. */
static void plugged_again_reads_zero(const void *arg)
{
	struct region *r;
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	r = &rig.r;
	plug(&rig, 0, 8);
	fill(&rig);
	EXPECT_EQ(held(&rig), 8 * r->args.block_size);
	unplug(&rig, 1, 2);
	unplug(&rig, 4, 4);
	EXPECT_EQ(held(&rig), 2 * r->args.block_size);
	plug(&rig, 1, 1);
	plug(&rig, 4, 4);
	for (unsigned int i = 0; i < 8; i++) {
		if (i == 0 || i == 2 || i == 3)
			continue;
		tap_context("block %u", i);
		for (uint64_t at = 0; at < r->args.block_size; at += 8)
			ASSERT_EQ(*(uint64_t *)(region_block_hva(r, i) + at),
				  0);
	}
	tap_context("%s", "");
	rig_stop(&rig);
}

static void plugged_is_not_modified(const void *arg)
{
	struct region *r;
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	r = &rig.r;
	for (unsigned int i = 0; i < r->nr_blocks; i += 2)
		plug(&rig, i, 1);
	fill(&rig);
	/* Neighbours come and go, in the same slots and in others. */
	for (unsigned int i = 1; i < r->nr_blocks; i += 2)
		plug(&rig, i, 1);
	for (unsigned int i = 1; i < r->nr_blocks; i += 2)
		unplug(&rig, i, 1);
	/* Requests that are refused. */
	ASSERT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_PLUG,
				 region_block_gpa(r, 0), 4),
		  VIRTIO_MEM_RESP_ERROR);
	ASSERT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_UNPLUG,
				 region_block_gpa(r, 0), 4),
		  VIRTIO_MEM_RESP_ERROR);
	ASSERT_EQ(state_of(&rig, 0, 4), VIRTIO_MEM_STATE_MIXED);
	EXPECT_AS_MODEL(r);
	expect_filled(&rig);
	rig_stop(&rig);
}

/* Nothing here touches what is unplugged: it would be held from then on. */
static void expect_kept(struct rig *rig)
{
	struct region *r = &rig->r;

	for (unsigned int i = 0; i < r->nr_blocks; i++)
		EXPECT_EQ(state_of(rig, i, 1),
			  r->plugged[i] ? VIRTIO_MEM_STATE_PLUGGED
					: VIRTIO_MEM_STATE_UNPLUGGED);
	EXPECT_DUMPS_AS_MODEL(r);
	expect_filled(rig);
}

/* By the driver, which is what it does to suspend and wake, too. */
static void a_device_reset_keeps_all(const void *arg)
{
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	plug(&rig, 2, 7);
	plug(&rig, 20, 1);
	fill(&rig);
	for (unsigned int i = 0; i < 3; i++) {
		driver_reset(&rig.d);
		EXPECT_AS_MODEL(&rig.r);
		driver_start(&rig.d);
		expect_kept(&rig);
	}
	unplug(&rig, 2, 3);
	expect_kept(&rig);
	EXPECT_AS_MODEL(&rig.r);
	rig_stop(&rig);
}

/* A line to the control socket. @text gets the answer. */
static void ask(const struct rig *rig, const char *line,
		char text[CONSUMER_LINE_MAX])
{
	struct consumer_client client;

	control_connect(&client, rig->control_path);
	control_ask(&client, line, text, CONSUMER_LINE_MAX);
	control_close(&client);
}

static void expect_said(const char *text, const char *part)
{
	if (!strstr(text, part))
		tap_fail(__FILE__, __LINE__, "no %s in: %s", part, text);
}

/* As the VMM tells of it, once the device was reset. */
static void a_system_reset_unplugs_all(const void *arg)
{
	char text[CONSUMER_LINE_MAX];
	struct region *r;
	struct rig rig;

	(void)arg;
	rig_start(&rig);
	r = &rig.r;
	plug(&rig, 2, 7);
	plug(&rig, 20, 1);
	fill(&rig);
	/* Not under a driver that is in use, if it is not meant. */
	ask(&rig, SYSTEM_RESET, text);
	expect_said(text, "EBUSY");
	expect_kept(&rig);
	driver_reset(&rig.d);
	ask(&rig, SYSTEM_RESET, text);
	expect_said(text, "\"plugged_size\":0,");
	region_model_set(r, 0, r->nr_blocks, false);
	EXPECT_AS_MODEL(r);
	EXPECT_EQ(held(&rig), 0);
	/* The new system's driver. */
	driver_start(&rig.d);
	EXPECT_EQ(state_of(&rig, 0, r->nr_blocks), VIRTIO_MEM_STATE_UNPLUGGED);
	plug(&rig, 0, r->nr_blocks);
	for (uint64_t at = 0; at < r->args.region_size; at += 8)
		ASSERT_EQ(*(uint64_t *)(r->mem.hva + at), 0);
	fill(&rig);
	ask(&rig, FORCED_RESET, text);
	expect_said(text, "\"plugged_size\":0,");
	region_model_set(r, 0, r->nr_blocks, false);
	EXPECT_AS_MODEL(r);
	EXPECT_EQ(held(&rig), 0);
	rig_stop(&rig);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "plugged memory is read and written",
		 .run = plugged_is_read_and_written},
		{.name = "unplugged memory is inaccessible",
		 .run = unplugged_is_inaccessible},
		{.name = "plugged again it reads zero, and the host had it",
		 .run = plugged_again_reads_zero},
		{.name = "plugged memory is not modified",
		 .run = plugged_is_not_modified},
		{.name = "a device reset keeps blocks and memory",
		 .run = a_device_reset_keeps_all},
		{.name = "a system reset unplugs all, and the host has it",
		 .run = a_system_reset_unplugs_all},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
