// SPDX-License-Identifier: GPL-2.0-or-later
/* Which regions KVM_VMEM_CREATE_REGION creates, and which it refuses. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "process.h"
#include "region.h"
#include "tap.h"

/* KVM's user memslots per address space on x86. */
#define NR_IDS 32764U

/**
 * struct field - one field, changed in otherwise valid arguments
 * @name: describes the value
 * @offset: of the field in struct kvm_vmem_create_region
 * @size: of the field
 * @value: value to set
 * @err: expected errno, 0 for success
 */
struct field {
	const char *name;
	size_t offset;
	size_t size;
	uint64_t value;
	int err;
};

#define FIELD(_name, _field, _value, _err)                                    \
	{                                                                     \
		.name = _name,                                                \
		.offset = offsetof(struct kvm_vmem_create_region, _field),    \
		.size = sizeof(((struct kvm_vmem_create_region *)0)->_field), \
		.value = _value, .err = _err                                  \
	}

static const struct field fields[] = {
	FIELD("flags", flags, KVM_VMEM_REGION_ZAP_RANGES << 1, EINVAL),
	FIELD("the last flag", flags, 1U << 31, EINVAL),
	FIELD("no address space", address_spaces, 0, EINVAL),
	FIELD("no such address space", address_spaces, 1U << 2, EINVAL),
	FIELD("one address space too many", address_spaces, 7, EINVAL),
	FIELD("the last address space bit", address_spaces, 1U << 31, EINVAL),
	FIELD("both address spaces", address_spaces, 3, 0),
	FIELD("first slot beyond KVM's", first_slot, NR_IDS, ENOSPC),
	FIELD("slots that end beyond KVM's", first_slot,
	      NR_IDS - REGION_NR_SLOTS + 1, ENOSPC),
	FIELD("slots that end at KVM's last", first_slot,
	      NR_IDS - REGION_NR_SLOTS, 0),
	FIELD("first slot with address space bits", first_slot,
	      SLOT(AS_SMM, 40), ENOSPC),
	FIELD("first slot near 2^32", first_slot, UINT32_MAX, ENOSPC),
	FIELD("gpa not of a block", guest_phys_addr, REGION_GPA + GUEST_PAGE,
	      EINVAL),
	FIELD("gpa of a block, not of a slot", guest_phys_addr,
	      REGION_GPA + 2 * REGION_BLOCK, 0),
	FIELD("gpa that wraps", guest_phys_addr, -REGION_BLOCK, EINVAL),
	FIELD("gpa beyond any CPU's reach", guest_phys_addr, 1ULL << 52,
	      EINVAL),
	FIELD("end beyond any CPU's reach", guest_phys_addr,
	      (1ULL << 52) - REGION_BLOCK, EINVAL),
	FIELD("size 0", region_size, 0, EINVAL),
	FIELD("size not of blocks", region_size, REGION_BLOCK + GUEST_PAGE,
	      EINVAL),
	FIELD("one block", region_size, REGION_BLOCK, 0),
	FIELD("size that wraps", region_size, -REGION_BLOCK, EINVAL),
	FIELD("hva not of a page", userspace_addr, 0x800, EINVAL),
	FIELD("hva of the kernel", userspace_addr, 0xffff888000000000ULL,
	      EINVAL),
	FIELD("hva that wraps", userspace_addr, -GUEST_PAGE, EINVAL),
	FIELD("block size 0", block_size, 0, EINVAL),
	FIELD("block size not a power of two", block_size, 3 * GUEST_PAGE,
	      EINVAL),
	FIELD("block size below a page", block_size, GUEST_PAGE / 2, EINVAL),
	FIELD("block size 1", block_size, 1, EINVAL),
	FIELD("block of a page", block_size, GUEST_PAGE, 0),
	FIELD("block larger than the region", block_size, GIB(1), EINVAL),
	FIELD("the largest power of two", block_size, 1ULL << 63, EINVAL),
	FIELD("slot size 0", slot_size, 0, EINVAL),
	FIELD("slot size not of blocks", slot_size, REGION_BLOCK + GUEST_PAGE,
	      EINVAL),
	FIELD("slot size below a block", slot_size, GUEST_PAGE, EINVAL),
	FIELD("slot of one block", slot_size, REGION_BLOCK, 0),
	FIELD("slot larger than the region", slot_size, TIB(1), 0),
	FIELD("the largest slot", slot_size, -REGION_BLOCK, 0),
};

static void set_field(struct kvm_vmem_create_region *args,
		      const struct field *f)
{
	/* Little-endian, as x86 is. */
	memcpy((uint8_t *)args + f->offset, &f->value, f->size);
}

static void judges_field(const void *arg)
{
	const struct field *f = arg;
	struct region r;
	uint32_t before;
	int fd;

	region_await_none();
	region_prepare(&r);
	before = region_count(r.dev);
	set_field(&r.args, f);
	fd = region_call_create(r.dev, &r.args);
	EXPECT_ERR(fd, f->err);
	EXPECT_EQ(region_count(r.dev), before + !f->err);
	if (fd >= 0)
		close(fd);
	EXPECT_EQ(region_count(r.dev), before);
}

static void too_many_blocks(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.guest_phys_addr = TIB(4);
	r.args.block_size = GUEST_PAGE;
	r.args.slot_size = GIB(1);
	r.args.userspace_addr = TIB(1);
	r.args.region_size = (KVM_VMEM_MAX_BLOCKS + 1) * GUEST_PAGE;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EFBIG);
	/* Larger blocks are fewer. */
	r.args.block_size = 2 * GUEST_PAGE;
	r.args.region_size += GUEST_PAGE;
	if (r.args.guest_phys_addr + r.args.region_size <= vm_max_gpa(&r.vm))
		EXPECT_OK(region_call_create(r.dev, &r.args));
}

static void too_many_slots(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.first_slot = 1;
	r.args.userspace_addr = TIB(1);
	r.args.block_size = GUEST_PAGE;
	r.args.slot_size = GUEST_PAGE;
	r.args.region_size = NR_IDS * GUEST_PAGE;
	EXPECT_ERR(region_call_create(r.dev, &r.args), ENOSPC);
	r.args.region_size -= GUEST_PAGE;
	EXPECT_OK(region_call_create(r.dev, &r.args));
}

static void not_a_vm(const void *arg)
{
	struct region r;
	int file;

	(void)arg;
	region_await_none();
	region_prepare(&r);
	file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(file, 0);
	r.args.vm_fd = -1;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EBADF);
	r.args.vm_fd = file;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	r.args.vm_fd = r.vm.kvm_fd;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	r.args.vm_fd = r.vcpu.fd;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	r.args.vm_fd = r.dev;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	close(file);
	r.args.vm_fd = file;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EBADF);
	EXPECT_EQ(region_count(r.dev), 0);
}

static void other_process(const void *arg)
{
	struct region r;
	int status;
	pid_t pid;

	(void)arg;
	region_await_none();
	region_prepare(&r);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		EXPECT_ERR(region_call_create(r.dev, &r.args), EIO);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(region_count(r.dev), 0);
	EXPECT_OK(region_call_create(r.dev, &r.args));
}

static void argument_sizes(const void *arg)
{
	struct {
		struct kvm_vmem_create_region args;
		uint8_t tail[64];
	} larger = {0};
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.size = 0;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	r.args.size = sizeof(r.args) - sizeof(r.args.slot_size);
	EXPECT_ERR(region_call_create(r.dev, &r.args), EINVAL);
	r.args.size = sizeof(larger);
	larger.args = r.args;
	larger.tail[sizeof(larger.tail) - 1] = 1;
	EXPECT_ERR(region_call_create(r.dev, &larger.args), E2BIG);
	larger.tail[sizeof(larger.tail) - 1] = 0;
	EXPECT_OK(region_call_create(r.dev, &larger.args));
	EXPECT_GT(larger.args.region_id, 0);
	EXPECT_EQ(ioctl(r.dev, KVM_VMEM_CREATE_REGION, NULL), -1);
	EXPECT_EQ(errno, EFAULT);
}

static void close_on_exec(const void *arg)
{
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_EQ(fcntl(r.fd, F_GETFD), FD_CLOEXEC);
}

static void out_of_descriptors(const void *arg)
{
	struct region r;
	struct rlimit limit;

	(void)arg;
	region_await_none();
	region_prepare(&r);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	/* The limit leaves no free descriptor. */
	limit.rlim_cur = (rlim_t)dup(0);
	close((int)limit.rlim_cur);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_ERR(region_call_create(r.dev, &r.args), EMFILE);
	EXPECT_EQ(region_count(r.dev), 0);
	/* The failed call left nothing behind. */
	limit.rlim_cur++;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_OK(region_call_create(r.dev, &r.args));
}

static void memslots_in_the_way(const void *arg)
{
	struct region r;
	const uint32_t elsewhere = SLOT(AS_NORMAL, 1);

	(void)arg;
	region_prepare(&r);

	tap_context("range");
	ASSERT_OK(vm_set_region(&r.vm, elsewhere, 0,
				REGION_GPA + r.args.region_size - GUEST_PAGE,
				2 * GUEST_PAGE, r.mem.hva));
	EXPECT_ERR(region_call_create(r.dev, &r.args), EEXIST);
	ASSERT_OK(vm_delete_slot(&r.vm, elsewhere));

	tap_context("first id");
	ASSERT_OK(vm_set_region(&r.vm, REGION_FIRST_SLOT, 0, GIB(1), GUEST_PAGE,
				r.mem.hva));
	EXPECT_ERR(region_call_create(r.dev, &r.args), EEXIST);
	ASSERT_OK(vm_delete_slot(&r.vm, REGION_FIRST_SLOT));

	tap_context("last id");
	ASSERT_OK(vm_set_region(&r.vm, REGION_FIRST_SLOT + REGION_NR_SLOTS - 1,
				0, GIB(1), GUEST_PAGE, r.mem.hva));
	EXPECT_ERR(region_call_create(r.dev, &r.args), EEXIST);
	ASSERT_OK(
		vm_delete_slot(&r.vm, REGION_FIRST_SLOT + REGION_NR_SLOTS - 1));

	/*
	 * The nearest possible: adjacent ids and pages, and the same id and
	 * address in the other address space.
	 */
	tap_context("beside");
	ASSERT_OK(vm_set_region(&r.vm, REGION_FIRST_SLOT - 1, 0,
				REGION_GPA - GUEST_PAGE, GUEST_PAGE,
				r.mem.hva));
	ASSERT_OK(vm_set_region(&r.vm, REGION_FIRST_SLOT + REGION_NR_SLOTS, 0,
				REGION_GPA + r.args.region_size, GUEST_PAGE,
				r.mem.hva));
	ASSERT_OK(vm_set_region(&r.vm, SLOT(AS_SMM, REGION_FIRST_SLOT), 0,
				REGION_GPA, GUEST_PAGE, r.mem.hva));
	EXPECT_OK(region_call_create(r.dev, &r.args));
	r.args.address_spaces = AS_MASK_SMM;
	EXPECT_ERR(region_call_create(r.dev, &r.args), EEXIST);
}

static void regions_in_the_way(const void *arg)
{
	const uint64_t size = REGION_NR_BLOCKS * REGION_BLOCK;
	struct kvm_vmem_create_region args;
	struct region r;

	(void)arg;
	/*
	 * No block of the first region is plugged; it conflicts nevertheless.
	 */
	region_init(&r, AS_MASK_NORMAL);

	tap_context("range");
	args = r.args;
	args.first_slot = REGION_FIRST_SLOT + REGION_NR_SLOTS;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);
	args.guest_phys_addr = REGION_GPA + size - REGION_BLOCK;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);
	args.guest_phys_addr = REGION_GPA - size + REGION_BLOCK;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);

	tap_context("ids");
	args = r.args;
	args.guest_phys_addr = REGION_GPA + size;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);
	args.first_slot = REGION_FIRST_SLOT + REGION_NR_SLOTS - 1;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);
	args.first_slot = REGION_FIRST_SLOT - REGION_NR_SLOTS + 1;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);
	args.address_spaces = AS_MASK_BOTH;
	EXPECT_ERR(region_call_create(r.dev, &args), EEXIST);

	tap_context("beside");
	args = r.args;
	args.guest_phys_addr = REGION_GPA + size;
	args.first_slot = REGION_FIRST_SLOT + REGION_NR_SLOTS;
	EXPECT_OK(region_call_create(r.dev, &args));

	tap_context("the same in the other address space");
	args = r.args;
	args.address_spaces = AS_MASK_SMM;
	EXPECT_OK(region_call_create(r.dev, &args));
	EXPECT_NE(args.region_id, r.args.region_id);
}

static void regions_of_other_vms(const void *arg)
{
	struct region a, b;

	(void)arg;
	region_init(&a, AS_MASK_BOTH);
	region_init(&b, AS_MASK_BOTH);
	EXPECT_NE(a.args.region_id, b.args.region_id);
	EXPECT_OK(region_plug(&a, 0, 5));
	EXPECT_OK(region_plug(&b, 3, 9));
	EXPECT_AS_MODEL(&a);
	EXPECT_AS_MODEL(&b);
	EXPECT_EQ(close(a.fd), 0);
	EXPECT_AS_MODEL(&b);
}

static void ids_are_not_used_again(const void *arg)
{
	struct region r;
	uint32_t last = 0;
	int i;

	(void)arg;
	region_prepare(&r);
	for (i = 0; i < 20; i++) {
		int fd = region_call_create(r.dev, &r.args);

		ASSERT_OK(fd);
		EXPECT_GT(r.args.region_id, last);
		last = r.args.region_id;
		close(fd);
	}
}

/* Creations while a timer interrupts many of them. */
#define CREATIONS 200U
#define TIMER_US  300

static volatile sig_atomic_t nr_ticks;

static void count_tick(int signal)
{
	(void)signal;
	nr_ticks++;
}

/* @flags: for sigaction(); without SA_RESTART a call may fail with EINTR. */
static void start_timer(int flags)
{
	const struct itimerval timer = {
		.it_interval = {.tv_usec = TIMER_US},
		.it_value = {.tv_usec = TIMER_US},
	};
	struct sigaction action = {.sa_handler = count_tick, .sa_flags = flags};

	ASSERT_EQ(sigaction(SIGALRM, &action, NULL), 0);
	ASSERT_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void stop_timer(void)
{
	const struct itimerval timer = {.it_value = {0}};

	ASSERT_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

/* The call succeeds in either case; the handler runs after it. */
static void create_under_timer(const void *arg)
{
	const int *flags = arg;
	unsigned int i, failed = 0;
	struct region r;
	int last = 0;

	region_prepare(&r);
	start_timer(*flags);
	for (i = 0; i < CREATIONS; i++) {
		int fd = region_call_create(r.dev, &r.args);

		if (fd < 0) {
			failed++;
			last = fd;
			continue;
		}
		close(fd);
	}
	/* No signal is lost: wait for one more. */
	for (i = nr_ticks; (unsigned int)nr_ticks == i;)
		;
	stop_timer();
	tap_note("%u of %u creations failed with %d under %d signals", failed,
		 CREATIONS, last, (int)nr_ticks);
	EXPECT_EQ(failed, 0);
	EXPECT_GT(nr_ticks, 0);
}

static void kill_amid_creations(const void *arg)
{
	int status, fds[2];
	pid_t pid;

	(void)arg;
	process_pair(fds);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct region r;

		region_prepare(&r);
		start_timer(SA_RESTART);
		send_byte(fds[1]);
		for (;;)
			close(region_call_create(r.dev, &r.args));
	}
	receive_byte(fds[0]);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	region_await_none();
}

static const int restarting = SA_RESTART, interrupting;

static const struct tap_case whole_cases[] = {
	{.name = "more than KVM_VMEM_MAX_BLOCKS blocks are EFBIG",
	 .run = too_many_blocks},
	{.name = "more slots than KVM has ids are ENOSPC",
	 .run = too_many_slots},
	{.name = "a descriptor that is no VM is EBADF or EINVAL",
	 .run = not_a_vm},
	{.name = "another process' VM is EIO", .run = other_process},
	{.name = "smaller and larger arguments are accepted",
	 .run = argument_sizes},
	{.name = "the descriptor is close-on-exec", .run = close_on_exec},
	{.name = "without free descriptors EMFILE, and nothing is left behind",
	 .run = out_of_descriptors},
	{.name = "conflicting memslots are EEXIST", .run = memslots_in_the_way},
	{.name = "conflicting regions are EEXIST", .run = regions_in_the_way},
	{.name = "regions of other VMs do not conflict",
	 .run = regions_of_other_vms},
	{.name = "region ids are not reused", .run = ids_are_not_used_again},
	{.name = "signals with SA_RESTART do not make it fail",
	 .run = create_under_timer,
	 .arg = &restarting},
	{.name = "signals without SA_RESTART do not make it fail",
	 .run = create_under_timer,
	 .arg = &interrupting},
	{.name = "a VMM killed while it creates regions ends",
	 .run = kill_amid_creations},
};

#define MAX_NAME 128

int main(void)
{
	static struct tap_case
		cases[ARRAY_SIZE(fields) + ARRAY_SIZE(whole_cases)];
	static char names[ARRAY_SIZE(fields)][MAX_NAME];
	char err[TAP_STRERROR_LEN];
	size_t i, n = 0;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];
		const char *verdict =
			tap_strerror(-f->err, err, sizeof(err)) + 1;

		snprintf(names[i], MAX_NAME, "%s: %s", f->name,
			 f->err ? verdict : "taken");
		cases[n++] = (struct tap_case){
			.name = names[i], .run = judges_field, .arg = f};
	}
	for (i = 0; i < ARRAY_SIZE(whole_cases); i++)
		cases[n++] = whole_cases[i];
	return tap_run(cases, n);
}
