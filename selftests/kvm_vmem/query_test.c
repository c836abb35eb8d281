// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_VMEM_QUERY reports the limits of KVM and the number of regions. */
#include <errno.h>
#include <linux/kvm_vmem.h>
#include <linux/kvm_vmem_netlink.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "batch.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "vm.h"

static int query(int dev, void *arg)
{
	return ioctl(dev, KVM_VMEM_QUERY, arg) ? -errno : 0;
}

static void limits(const void *arg)
{
	struct kvm_vmem_query q = {.size = sizeof(q)};
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	ASSERT_OK(query(dev, &q));
	EXPECT_EQ(q.api_version, KVM_VMEM_API_VERSION);
	EXPECT_EQ(q.max_memslots, vm_check_extension(&vm, KVM_CAP_NR_MEMSLOTS));
	EXPECT_EQ(q.address_spaces,
		  vm_check_extension(&vm, KVM_CAP_MULTI_ADDRESS_SPACE));
	EXPECT_EQ(q.max_batch, KVM_VMEM_MAX_BATCH);
	EXPECT_GE(q.max_batch, q.max_memslots * q.address_spaces);
	EXPECT_EQ(q.max_ranges, KVM_VMEM_MAX_RANGES);
	EXPECT_EQ(q.max_blocks, KVM_VMEM_MAX_BLOCKS);
	EXPECT_EQ(q.min_block_size, sysconf(_SC_PAGESIZE));
	/* Tests run only on reviewed kernels. */
	EXPECT_EQ(q.features, KVM_VMEM_FEATURE_ENTRY_SIZE |
				      KVM_VMEM_FEATURE_REVIEWED |
				      KVM_VMEM_FEATURE_ZAP_RANGES);
}

/* The argument of a program built before the field features existed. */
static void first_version(const void *arg)
{
	struct kvm_vmem_query q = {.features = ~0ULL};
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	q.size = offsetof(struct kvm_vmem_query, features);
	EXPECT_OK(query(dev, &q));
	EXPECT_EQ(q.api_version, KVM_VMEM_API_VERSION);
	EXPECT_EQ(q.features, ~0ULL);
	q.size = offsetof(struct kvm_vmem_query, features) - 1;
	EXPECT_ERR(query(dev, &q), EINVAL);
}

static void counts_regions(const void *arg)
{
	struct region a, b;
	uint32_t before;
	int dev;

	(void)arg;
	region_await_none();
	dev = kvm_vmem_open();
	before = region_count(dev);
	region_init(&a, AS_MASK_NORMAL);
	EXPECT_EQ(region_count(dev), before + 1);
	region_init(&b, AS_MASK_BOTH);
	EXPECT_EQ(region_count(dev), before + 2);
	/* A region without memslots still counts. */
	EXPECT_OK(region_plug(&a, 0, 1));
	EXPECT_OK(region_unplug_all(&a));
	EXPECT_EQ(region_count(dev), before + 2);
	close(a.fd);
	EXPECT_EQ(region_count(dev), before + 1);
	close(b.fd);
	EXPECT_EQ(region_count(dev), before);
}

/*
 * The count covers the host; only a process that may dump all regions gets it.
 */
static void counts_for_the_host_only(const void *arg)
{
	struct region r;
	pid_t pid;
	int dev;

	(void)arg;
	region_await_none();
	dev = kvm_vmem_open();
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_EQ(region_count(dev), 1);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		become_nobody(NOBODY);
		EXPECT_EQ(region_count(dev), 0);
		_exit(0);
	}
	expect_exit(pid);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ASSERT_EQ(unshare(CLONE_NEWNET), 0);
		EXPECT_EQ(region_count(dev), 0);
		_exit(0);
	}
	expect_exit(pid);
}

static void refusals(const void *arg)
{
	struct kvm_vmem_query q = {.size = sizeof(q), .flags = 1};
	uint32_t none = 0;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	EXPECT_ERR(query(dev, &q), EINVAL);
	q.flags = 1U << 31;
	EXPECT_ERR(query(dev, &q), EINVAL);
	EXPECT_ERR(query(dev, &none), EINVAL);
	EXPECT_ERR(query(dev, NULL), EFAULT);
}

static void sizes(const void *arg)
{
	struct {
		struct kvm_vmem_query q;
		uint64_t tail[8];
	} larger;
	uint64_t *last = &larger.tail[ARRAY_SIZE(larger.tail) - 1];
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	memset(&larger, 0, sizeof(larger));
	larger.q.size = sizeof(larger);
	*last = 1;
	EXPECT_ERR(query(dev, &larger), E2BIG);
	EXPECT_EQ(larger.q.api_version, 0);
	*last = 0;
	EXPECT_OK(query(dev, &larger));
	EXPECT_EQ(larger.q.api_version, KVM_VMEM_API_VERSION);

	/* Fields beyond the caller's size are not written. */
	memset(&larger, 0, sizeof(larger));
	larger.q.size = sizeof(larger.q);
	*last = 1;
	larger.tail[0] = ~0ULL;
	EXPECT_OK(query(dev, &larger));
	EXPECT_EQ(larger.tail[0], ~0ULL);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "the limits are KVM's", .run = limits},
		{.name = "regions are counted", .run = counts_regions},
		{.name = "only a process that may dump all regions gets the count",
		 .run = counts_for_the_host_only},
		{.name = "flags and sizes out of range are refused",
		 .run = refusals},
		{.name = "larger arguments are understood", .run = sizes},
		{.name = "a program of the first version is understood",
		 .run = first_version},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
