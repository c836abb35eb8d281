// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cost of a vmemd for a host that runs many: its memory, and its CPU use
 * without requests. The region has 1 TiB, and a driver is connected.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "tap.h"

#define BLOCK	  MIB(2)
#define SLOT_SIZE MIB(128)

/* Host memory per VM, including pages of shared libraries. */
#define RSS_MAX KIB(3072)

/* The absence of activity is measured, which takes time. */
#define IDLE_S 10

/* Requests before the measurement, so that buffers and caches are allocated. */
#define NR_SLOTS_USED 64

static void prepare(struct region *r, struct driver *d)
{
	char *const args[] = {(char *)"--log-level", (char *)"warning",
			      (char *)"--requested-size", (char *)"1T", NULL};

	vmemd_program();
	driver_region(r, GIB(4), TIB(1), BLOCK, SLOT_SIZE);
	driver_spawn(d, args, NULL, r->fd, r->mem.fd);
	driver_start(d);
}

/* Plug and unplug, so that memory that is allocated on use is present. */
static void use(struct driver *d)
{
	for (unsigned int i = 0; i < NR_SLOTS_USED; i++)
		ASSERT_EQ(driver_request(d, VIRTIO_MEM_REQ_PLUG,
					 GIB(4) + i * SLOT_SIZE,
					 SLOT_SIZE / BLOCK),
			  VIRTIO_MEM_RESP_ACK);
	for (unsigned int i = 0; i < NR_SLOTS_USED; i += 2)
		ASSERT_EQ(driver_request(d, VIRTIO_MEM_REQ_UNPLUG,
					 GIB(4) + i * SLOT_SIZE,
					 SLOT_SIZE / BLOCK),
			  VIRTIO_MEM_RESP_ACK);
}

/* A number from a line of one of vmemd's files in /proc. */
static uint64_t proc_value(const struct driver *d, const char *file,
			   const char *format)
{
	char path[64], line[256];
	uint64_t value = 0;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)d->pid, file);
	f = fopen(path, "re");
	ASSERT_TRUE(f);
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, format, &value) == 1;
	fclose(f);
	ASSERT_TRUE(found);
	return value;
}

static void its_memory_is_small(const void *arg)
{
	struct region r;
	struct driver d;
	uint64_t rss;

	(void)arg;
	if (access("/proc/self/smaps_rollup", R_OK))
		tap_skip("the kernel has no CONFIG_PROC_PAGE_MONITOR");
	prepare(&r, &d);
	/* From the page table; the counters in "status" can lag. */
	tap_note("after start: %" PRIu64 " KiB",
		 proc_value(&d, "smaps_rollup", "Rss: %" SCNu64));
	use(&d);
	rss = KIB(proc_value(&d, "smaps_rollup", "Rss: %" SCNu64));
	tap_note("resident: %" PRIu64 " KiB, of that anonymous %" PRIu64
		 "; its share by Pss %" PRIu64,
		 rss >> 10,
		 proc_value(&d, "smaps_rollup", "Anonymous: %" SCNu64),
		 proc_value(&d, "smaps_rollup", "Pss: %" SCNu64));
	EXPECT_LT(rss, RSS_MAX);
	driver_stop(&d);
}

/*
 * How often vmemd has run: voluntary and involuntary switches, and time slices.
 */
struct runs {
	uint64_t voluntary;
	uint64_t involuntary;
	uint64_t slices;
};

static struct runs count_runs(const struct driver *d)
{
	return (struct runs){
		proc_value(d, "status", "voluntary_ctxt_switches: %" SCNu64),
		proc_value(d, "status", "nonvoluntary_ctxt_switches: %" SCNu64),
		proc_value(d, "schedstat", "%*u %*u %" SCNu64),
	};
}

static void it_does_not_wake_when_idle(const void *arg)
{
	struct timespec idle = {.tv_sec = IDLE_S};
	struct runs before, after;
	struct region r;
	struct driver d;

	(void)arg;
	prepare(&r, &d);
	use(&d);
	/*
	 * Wait for work left by its last answers, which a timer starts after 10
	 * ms.
	 */
	do {
		struct timespec settle = {.tv_sec = 1};

		before = count_runs(&d);
		nanosleep(&settle, NULL);
		after = count_runs(&d);
	} while (after.voluntary != before.voluntary ||
		 after.involuntary != before.involuntary);
	nanosleep(&idle, NULL);
	after = count_runs(&d);
	EXPECT_EQ(after.voluntary - before.voluntary, 0);
	EXPECT_EQ(after.involuntary - before.involuntary, 0);
	EXPECT_EQ(after.slices - before.slices, 0);
	/* It is still alive. */
	EXPECT_EQ(driver_request(&d, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0),
		  VIRTIO_MEM_RESP_ACK);
	driver_stop(&d);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "vmemd of a region of 1 TiB uses less than 3 MiB",
		 .run = its_memory_is_small},
		{.name = "without requests vmemd does not wake up",
		 .run = it_does_not_wake_when_idle},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
