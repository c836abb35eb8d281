// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The requirements of the specification's virtio-mem section (virtio 1.3, 5.15)
 * on memory, tested with the program vmemd and a real region: the test's own
 * driver sends requests, and a vCPU reads and writes.
 * selftests/unit/spec_test.c covers what can be tested without memory.
 * doc/virtio-mem-spec.md lists the requirements.
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
 * @dir: a temporary folder
 * @control_path: vmemd's control socket in it
 * @r: the region
 * @d: the driver, and the daemon
 */
struct rig {
	char dir[32];
	char control_path[64];
	struct region r;
	struct driver d;
};

/* The requested size is the region's size, so that any block may be plugged. */
static void rig_start(struct rig *rig)
{
	static char *const args[] = {(char *)"--log-level", (char *)"err",
				     NULL};
	struct region *r = &rig->r;

	/* Skip before anything is created. */
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

/* The driver sends a request; the model is updated. */
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

/* Contents of a word of a block, which differ between words. */
static uint64_t pattern(uint64_t gpa)
{
	return ~gpa * 0x9e3779b97f4a7c15;
}

/* Fill each plugged block. */
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
		/* In each page, the guest itself writes. */
		for (uint64_t at = 0; at < r->args.block_size; at += GUEST_PAGE)
			ASSERT_EQ(guest_write(&rig->r.vcpu, gpa + at,
					      pattern(gpa + at)),
				  GUEST_MEMORY);
	}
}

/* The guest finds the written contents in all plugged blocks. */
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

/* Bytes of the region's memory that the host has allocated. */
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
	/* The last block of a slot keeps the whole slot accessible. */
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

/*
 * A replugged block reads as zero, and unplugged memory is returned to the
 * host.
 */
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
	/* Plug and unplug neighbours, in the same slots and in others. */
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

/* Nothing here may access unplugged memory, which would allocate it. */
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

/* A reset by the driver, which also does this for suspend and resume. */
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

/* Send a line to the control socket. @text receives the answer. */
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

/* The VMM requests it, after a reset of the device. */
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
	/* Refused while a driver uses the device, unless it is forced. */
	ask(&rig, SYSTEM_RESET, text);
	expect_said(text, "EBUSY");
	expect_kept(&rig);
	driver_reset(&rig.d);
	ask(&rig, SYSTEM_RESET, text);
	expect_said(text, "\"plugged_size\":0,");
	region_model_set(r, 0, r->nr_blocks, false);
	EXPECT_AS_MODEL(r);
	EXPECT_EQ(held(&rig), 0);
	/* The driver of the rebooted system. */
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
		{.name = "replugged memory reads zero, and the host had it in between",
		 .run = plugged_again_reads_zero},
		{.name = "plugged memory is not modified",
		 .run = plugged_is_not_modified},
		{.name = "a device reset keeps blocks and memory",
		 .run = a_device_reset_keeps_all},
		{.name = "a system reset unplugs all, and returns it to the host",
		 .run = a_system_reset_unplugs_all},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
