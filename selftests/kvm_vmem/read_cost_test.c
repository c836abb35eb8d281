// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reading a region's state has the same cost with one memslot and with 32,000.
 * Netlink's handlers run under a lock of all of generic netlink, and each
 * reader of a region takes the region's lock.
 *
 * Costs are counted, not timed: calls of the module's functions, and of kernel
 * functions that loops over bits, memslots and lists call.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch.h"
#include "region.h"
#include "tap.h"
#include "tracing.h"

#define TRACEFS	 "/sys/kernel/tracing/"
#define INSTANCE TRACEFS "instances/kvm_vmem_cost/"

/*
 * The module's functions, and functions that its loops call. A kernel may lack
 * some of them.
 */
static const char *const counted[] = {
	":mod:kvm_vmem",
	"__cond_resched",
	"_find_next_bit",
	"find_next_bit",
	"_find_first_bit",
	"_find_next_zero_bit",
	"rb_first",
	"rb_next",
	"__srcu_read_lock",
	"mutex_lock",
	"kmalloc_size_roundup",
};

/* Interrupts may add calls, so the cost is the minimum of several tries. */
#define TRIES 20

#define COST_SLOTS 32000U
#define COST_SIZE  (COST_SLOTS * GUEST_PAGE)

/* Emulated machines take long to create 32,000 memslots. */
#define TIMEOUT_S 1800

static void must_write(const char *path, const char *text)
{
	if (!tracing_try_write(path, text, O_TRUNC)) {
		tap_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
		tap_abort();
	}
}

static void calls_open(void)
{
	char pid[16];
	size_t i;

	if (access(TRACEFS "available_filter_functions", R_OK))
		tap_skip("no function tracer: %s", strerror(errno));
	rmdir(INSTANCE);
	ASSERT_EQ(mkdir(INSTANCE, S_IRWXU), 0);
	snprintf(pid, sizeof(pid), "%d\n", gettid());
	must_write(INSTANCE "set_ftrace_pid", pid);
	must_write(INSTANCE "set_ftrace_filter", counted[0]);
	for (i = 1; i < ARRAY_SIZE(counted); i++)
		tracing_try_write(INSTANCE "set_ftrace_filter", counted[i],
				  O_APPEND);
	must_write(INSTANCE "tracing_on", "0");
	must_write(INSTANCE "current_tracer", "function");
}

static void calls_close(void)
{
	must_write(INSTANCE "current_tracer", "nop");
	EXPECT_EQ(rmdir(INSTANCE), 0);
}

/* Number of entries that one CPU's buffer has received, including lost ones. */
static uint64_t calls_on(unsigned int cpu)
{
	uint64_t n, sum = 0;
	char path[96], line[96];
	FILE *f;

	snprintf(path, sizeof(path), INSTANCE "per_cpu/cpu%u/stats", cpu);
	f = fopen(path, "re");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "entries: %" SCNu64, &n) == 1 ||
		    sscanf(line, "overrun: %" SCNu64, &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

static uint64_t calls_in_all(void)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t sum = 0;

	for (cpu = 0; cpu < nr; cpu++)
		sum += calls_on((unsigned int)cpu);
	return sum;
}

static void get_by_fd(struct region *r)
{
	struct vmem_nl_region state;

	ASSERT_OK(
		vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), &state, NULL));
}

static void get_by_id(struct region *r)
{
	struct vmem_nl_region state;

	ASSERT_OK(vmem_nl_region_get(r->nl, VMEM_NL_BY_ID(r->args.region_id),
				     &state, NULL));
}

static int take_region(const struct vmem_nl_region *region, void *arg)
{
	(void)region;
	(void)arg;
	return 0;
}

static void get_all(struct region *r)
{
	ASSERT_OK(vmem_nl_region_dump(r->nl, take_region, NULL, NULL));
}

static void read_fdinfo(struct region *r)
{
	char path[64], text[4096];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", r->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_GT(read(fd, text, sizeof(text)), 0);
	close(fd);
}

static void poll_fd(struct region *r)
{
	struct pollfd pfd = {.fd = r->fd, .events = POLLIN};

	ASSERT_GE(poll(&pfd, 1, 0), 0);
}

/* Refused before it is queued: only the handler's part of a change. */
static void change_refused(struct region *r)
{
	const struct vmem_nl_range outside = {.gpa = 0, .size = GUEST_PAGE};

	ASSERT_TRUE(vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->fd), 0, &outside, 1,
				 NULL, NULL) == -ERANGE);
}

static const struct {
	const char *name;
	void (*run)(struct region *r);
} reads[] = {
	{"region-get by descriptor", get_by_fd},
	{"region-get by id", get_by_id},
	{"dump of all regions", get_all},
	{"fdinfo", read_fdinfo},
	{"poll", poll_fd},
	{"handler of a change", change_refused},
};

static uint64_t cost_of(size_t i, struct region *r)
{
	uint64_t least = UINT64_MAX, calls;
	unsigned int n;

	for (n = 0; n < TRIES; n++) {
		must_write(INSTANCE "trace", "");
		must_write(INSTANCE "tracing_on", "1");
		reads[i].run(r);
		must_write(INSTANCE "tracing_on", "0");
		calls = calls_in_all();
		if (calls < least)
			least = calls;
	}
	return least;
}

static void make_region(struct region *r)
{
	memset(r, 0, sizeof(*r));
	r->dev = kvm_vmem_open();
	r->nl = netlink_open();
	vm_create(&r->vm, VM_BARE);
	backing_create(&r->mem, COST_SIZE);
	r->args = (struct kvm_vmem_create_region){
		.size = sizeof(r->args),
		.vm_fd = r->vm.fd,
		.address_spaces = AS_MASK_NORMAL,
		.first_slot = 1,
		.guest_phys_addr = GIB(4),
		.region_size = COST_SIZE,
		.userspace_addr = (uintptr_t)r->mem.hva,
		.block_size = GUEST_PAGE,
		.slot_size = GUEST_PAGE,
	};
	r->fd = region_call_create(r->dev, &r->args);
	ASSERT_GE(r->fd, 0);
}

static void same_with_any_number(const void *arg)
{
	const struct vmem_nl_range one = {.gpa = GIB(4), .size = GUEST_PAGE};
	const struct vmem_nl_range others = {.gpa = GIB(4) + GUEST_PAGE,
					     .size = COST_SIZE - GUEST_PAGE};
	uint64_t with_one[ARRAY_SIZE(reads)], with_all;
	struct vmem_nl_name name;
	struct region r;
	size_t i;

	(void)arg;
	make_region(&r);
	name = VMEM_NL_BY_FD(r.fd);
	calls_open();
	ASSERT_OK(vmem_nl_plug(r.nl, name, 0, &one, 1, NULL, NULL));
	for (i = 0; i < ARRAY_SIZE(reads); i++)
		with_one[i] = cost_of(i, &r);
	ASSERT_OK(vmem_nl_plug(r.nl, name, 0, &others, 1, NULL, NULL));
	for (i = 0; i < ARRAY_SIZE(reads); i++) {
		with_all = cost_of(i, &r);
		tap_note("%s: %llu calls with 1 memslot, %llu with %u",
			 reads[i].name, (unsigned long long)with_one[i],
			 (unsigned long long)with_all, COST_SLOTS);
		tap_context("%s", reads[i].name);
		EXPECT_GT(with_one[i], 0);
		EXPECT_EQ(with_all, with_one[i]);
	}
	tap_context("%s", "");
	calls_close();
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "reads cost the same with 1 and 32,000 memslots",
		 .run = same_with_any_number,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
