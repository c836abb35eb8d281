// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "vmemctl top" reports the metadata that all regions of the host have and
 * save.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch.h"
#include "metadata.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "vmemctl_run.h"

#define SIZE	  GIB(8)
#define SLOT_SIZE MIB(128)

/* A region of 64 memslots, one of them populated. */
static void large_region(struct region *r)
{
	struct vmem_nl_range range;

	region_prepare(r);
	backing_create(&r->mem, SIZE);
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.guest_phys_addr = GIB(4);
	r->args.region_size = SIZE;
	r->args.block_size = MIB(2);
	r->args.slot_size = SLOT_SIZE;
	region_create(r);
	range = region_range(r, 0, 3);
	ASSERT_OK(vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->fd), 0, &range, 1, NULL,
			       NULL));
	ASSERT_OK(vmem_nl_region_set(r->nl, VMEM_NL_BY_FD(r->fd),
				     VMEM_NL_SET_REQUESTED_SIZE, GIB(1), false,
				     NULL, NULL));
}

static void of_all_regions(const void *arg)
{
	struct vmem_nl_metadata one, whole;
	struct region large, small;
	json_object *regions, *first, *second;

	(void)arg;
	region_await_none();
	EXPECT_EQ(RUN("--json", "top"), 0);
	EXPECT_EQ(json_object_array_length(printed("regions")), 0);
	large_region(&large);
	region_init(&small, AS_MASK_BOTH);
	one = metadata_cost(GIB(4), SLOT_SIZE, false, false);
	whole = metadata_cost(GIB(4), SIZE, false, false);

	EXPECT_EQ(RUN("--json", "top"), 0);
	regions = printed("regions");
	ASSERT_EQ(json_object_array_length(regions), 2);
	first = json_object_array_get_idx(regions, 0);
	second = json_object_array_get_idx(regions, 1);
	EXPECT_EQ(get(first, "region_id"), large.args.region_id);
	EXPECT_EQ(get(first, "pid"), getpid());
	EXPECT_EQ(get(first, "region_size"), SIZE);
	EXPECT_EQ(get(first, "requested_size"), GIB(1));
	EXPECT_EQ(get(first, "plugged_size"), MIB(6));
	EXPECT_EQ(get(first, "populated_slots"), 1);
	EXPECT_EQ(get(first, "nr_slots"), 64);
	EXPECT_EQ(get(first, "metadata"), one.total);
	EXPECT_EQ(get(first, "saved"), whole.total - one.total);
	whole = metadata_cost(small.args.guest_phys_addr,
			      small.args.region_size, false, false);
	EXPECT_EQ(get(second, "region_id"), small.args.region_id);
	EXPECT_EQ(get(second, "metadata"), 0);
	EXPECT_EQ(get(second, "saved"), 2 * whole.total);

	/*
	 * All blocks in small memslots cost more metadata than one large
	 * memslot.
	 */
	ASSERT_OK(region_plug(&small, 0, small.nr_blocks));
	EXPECT_EQ(RUN("--json", "top"), 0);
	second = json_object_array_get_idx(printed("regions"), 1);
	EXPECT_GT(0, json_object_get_int64(member(second, "saved")));

	EXPECT_EQ(RUN("top"), 0);
	EXPECT_TRUE(strstr(output, " vmemctl_top_tes "));
	EXPECT_TRUE(strstr(output, " 1/64 "));
	EXPECT_TRUE(strstr(output, "\n     2           in all "));
	EXPECT_TRUE(!strchr(output, '\033'));
}

/* One line for each of three samples, all at different times. */
static void looks_as_often_as_told(const void *arg)
{
	unsigned int lines = 0;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_EQ(RUN("--json", "top", "--interval", "0.01", "--count", "3"),
		  0);
	for (const char *c = output; *c; c++)
		lines += *c == '\n';
	EXPECT_EQ(lines, 3);
}

static void takes_the_right_to(const void *arg)
{
	struct stat device;
	pid_t child;

	(void)arg;
	close(kvm_vmem_open());
	ASSERT_EQ(stat("/dev/kvm-vmem", &device), 0);
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		become_nobody(device.st_gid);
		EXPECT_EQ(RUN("top"), 1);
		EXPECT_TRUE(strstr(output, "needs CAP_NET_ADMIN"));
		_exit(0);
	}
	expect_exit(child);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "all regions, with metadata held and saved",
		 .run = of_all_regions},
		{.name = "as often as requested",
		 .run = looks_as_often_as_told},
		{.name = "it needs CAP_NET_ADMIN", .run = takes_the_right_to},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
