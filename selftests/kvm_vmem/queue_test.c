// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's workers run changes that holders of a region's descriptor request.
 * Their CPU time is limited to a share of one CPU, and a VM that has used its
 * share delays no other. The module's tracepoint kvm_vmem:work reports the CPU
 * time of each work, which is compared with the clock, so the machine's speed
 * does not matter.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "kernel.h"
#include "module.h"
#include "process.h"
#include "region.h"
#include "request.h"
#include "tap.h"
#include "thread.h"
#include "tracing.h"

/* Values in kmod/queue.c. */
#define CREDIT_NS 1000000000LL
#define SHARE	  4

/*
 * CPU time of a flood, so long that the share matters and not only the credit.
 */
#define FLOOD_NS (3 * CREDIT_NS)

/*
 * Memslots that are created and deleted at once, so that one work takes long.
 */
#define NR_SLOTS 4096U
/*
 * Minimum debt after a work, as a fraction of the work's CPU time, so that the
 * debt takes some time to pay off. A work cannot begin without credit, so no
 * debt is larger than the work. The time of a work depends on the machine.
 */
#define DEBT_PART 2

/*
 * Other load may let the debt be paid off first, so several attempts are made.
 */
#define MAX_ROUNDS 50

/* Emulated machines are slow, and this test slows them down. */
#define TIMEOUT_S 600

/**
 * struct flood - a VM whose region is plugged and unplugged repeatedly
 * @r: the VM and the region
 * @works: reader of the module's tracepoint
 * @ran: number of works
 * @taken: sum of the works' CPU time
 * @last: the last work
 * @plugged: the region is plugged
 */
struct flood {
	struct region r;
	FILE *works;
	unsigned int ran;
	uint64_t taken;
	struct tracing_work last;
	bool plugged;
};

static void make_args(struct region *r)
{
	region_prepare(r);
	backing_destroy(&r->mem);
	backing_create(&r->mem, NR_SLOTS * GUEST_PAGE);
	r->args.first_slot = REGION_FIRST_SLOT;
	r->args.guest_phys_addr = GIB(8);
	r->args.region_size = NR_SLOTS * GUEST_PAGE;
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.block_size = GUEST_PAGE;
	r->args.slot_size = GUEST_PAGE;
}

static void flood_init(struct flood *f)
{
	memset(f, 0, sizeof(*f));
	f->works = tracing_open_events("work");
	make_args(&f->r);
	region_create(&f->r);
}

static void flood_destroy(struct flood *f)
{
	tracing_close_events(f->works);
}

/* Count the works that have run. */
static void count_works(struct flood *f)
{
	struct tracing_work work;

	while (tracing_next_work(f->works, &work)) {
		f->ran++;
		f->taken += work.ran_ns;
		f->last = work;
	}
}

/*
 * Wait until the next work is reported, which happens after its answer. Its CPU
 * time may be 0: the clock of a CPU that has lost ticks can stand still.
 */
static void await_work(struct flood *f)
{
	unsigned int before = f->ran;

	for (;;) {
		count_works(f);
		if (f->ran != before)
			return;
		sched_yield();
	}
}

static void change_all(struct flood *f)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(f->r.fd);
	struct vmem_nl_range all = {.gpa = f->r.args.guest_phys_addr,
				    .size = f->r.args.region_size};

	ASSERT_OK(f->plugged ? vmem_nl_unplug_all(f->r.nl, name, 0, NULL, NULL)
			     : vmem_nl_plug(f->r.nl, name, 0, &all, 1, NULL,
					    NULL));
	f->plugged = !f->plugged;
}

/* Make changes until a work leaves enough debt. */
static void run_into_debt(struct flood *f)
{
	do {
		change_all(f);
		await_work(f);
	} while (f->last.credit_ns >= 0 ||
		 f->last.credit_ns > -(int64_t)f->last.ran_ns / DEBT_PART);
}

static void a_flood_has_a_share(const void *arg)
{
	uint64_t start = now_ns(), passed;
	struct flood f;

	(void)arg;
	flood_init(&f);
	while (f.taken < FLOOD_NS) {
		change_all(&f);
		count_works(&f);
	}
	/* The last work may exceed the credit. */
	passed = now_ns() - start;
	tap_note("%llu ms of a CPU in %llu ms",
		 (unsigned long long)f.taken / 1000000,
		 (unsigned long long)passed / 1000000);
	EXPECT_LE(f.taken - f.last.ran_ns, CREDIT_NS + passed / SHARE);
	flood_destroy(&f);
}

/* Another VM of the same process has a queue of its own. */
static void another_vm_has_its_own(const void *arg)
{
	struct region other;
	struct flood f;

	(void)arg;
	flood_init(&f);
	region_init(&other, AS_MASK_NORMAL);
	run_into_debt(&f);
	ASSERT_OK(region_plug(&other, 0, 4));
	await_work(&f);
	/* Its first work had the full credit. */
	EXPECT_GE(f.last.credit_ns + (int64_t)f.last.ran_ns, CREDIT_NS);
	EXPECT_AS_MODEL(&other);
	flood_destroy(&f);
}

/* Did the last work begin without credit? */
static bool began_in_debt(const struct flood *f)
{
	return f->last.credit_ns + (int64_t)f->last.ran_ns < 0;
}

static void prepare_sibling(struct region *r, const struct region *of)
{
	*r = *of;
	r->args.first_slot += NR_SLOTS;
	r->args.guest_phys_addr += GIB(1);
	r->args.region_size = 16 * GUEST_PAGE;
}

/*
 * Closing a region without memslots after another region of the VM used up the
 * share.
 */
static void close_does_not_wait(const void *arg)
{
	struct region sibling;
	struct flood f;
	int round;

	(void)arg;
	flood_init(&f);
	for (round = 0; round < MAX_ROUNDS; round++) {
		prepare_sibling(&sibling, &f.r);
		region_create(&sibling);
		run_into_debt(&f);
		close(sibling.fd);
		await_work(&f);
		if (began_in_debt(&f))
			break;
	}
	EXPECT_LT(round, MAX_ROUNDS);
	flood_destroy(&f);
}

/* Closing a region that has used up the share, and whose requests wait. */
static void close_ends_what_waits(const void *arg)
{
	struct mnl_socket *socket = request_socket(MNL_SOCKET_AUTOPID);
	unsigned int cancelled = 0, i;
	struct flood f;
	int round, r;
	bool blames;

	(void)arg;
	request_explain(socket);
	flood_init(&f);
	for (round = 0; round < MAX_ROUNDS && !cancelled; round++) {
		run_into_debt(&f);
		for (i = 0; i < 8; i++)
			request_set(socket, &f.r, i, i);
		close(f.r.fd);
		/*
		 * Each request is answered, whether it was carried out or not.
		 * The error does not point at the requested size.
		 */
		for (i = 0; i < 8; i++) {
			r = request_error(socket, &blames);
			if (r)
				EXPECT_EQ(r, -ENODEV);
			EXPECT_TRUE(!blames);
			cancelled += r == -ENODEV;
		}
		EXPECT_TRUE(!vm_slot_exists(&f.r.vm, REGION_FIRST_SLOT));
		f.plugged = false;
		region_create(&f.r);
	}
	EXPECT_GT(cancelled, 0);
	mnl_socket_close(socket);
	flood_destroy(&f);
}

/* A new region does not renew the credit of a VM. */
static void credit_stays(const void *arg)
{
	uint64_t start, passed;
	struct flood f;
	int64_t debt;

	(void)arg;
	flood_init(&f);
	run_into_debt(&f);
	/*
	 * Read the time first, so that at least the measured time has passed.
	 */
	start = now_ns();
	close(f.r.fd);
	await_work(&f);
	debt = f.last.credit_ns;
	region_create(&f.r);
	passed = now_ns() - start;
	tap_note("credit %lld us, a new region after %llu us",
		 (long long)debt / 1000, (unsigned long long)passed / 1000);
	/* The creation of a region waits for credit. */
	if (debt < 0)
		EXPECT_GE(passed, (uint64_t)-debt * SHARE);
	f.plugged = false;
	change_all(&f);
	passed = now_ns() - start;
	await_work(&f);
	EXPECT_LE(f.last.credit_ns + (int64_t)f.last.ran_ns,
		  debt + (int64_t)(passed / SHARE));
	flood_destroy(&f);
}

static int create_and_exit(void *arg)
{
	struct region r;

	prepare_sibling(&r, arg);
	region_call_create(r.dev, &r.args);
	_exit(0);
}

/* The id of a region that is created now. */
static uint32_t next_region_id(const struct flood *f)
{
	struct region r;

	prepare_sibling(&r, &f->r);
	region_create(&r);
	close(r.fd);
	return r.args.region_id;
}

/*
 * A process that waits for credit to create a region can be killed. Its wait
 * ends early: no region is created, so no id is used.
 */
static void create_can_be_killed(const void *arg)
{
	static char stack[KIB(64)] __attribute__((aligned(16)));
	struct flood f;
	int round, status = 0;
	char process[16], state;
	uint32_t id, next;
	pid_t pid;

	(void)arg;
	flood_init(&f);
	id = next_region_id(&f);
	for (round = 0; round < MAX_ROUNDS; round++) {
		run_into_debt(&f);
		/*
		 * The process has descriptors of its own: its exit closes a
		 * region.
		 */
		pid = clone(create_and_exit, stack + sizeof(stack),
			    CLONE_VM | SIGCHLD, &f.r);
		ASSERT_GT(pid, 0);
		snprintf(process, sizeof(process), "%d", pid);
		/*
		 * Wait until it sleeps for credit, or has exited without
		 * waiting.
		 */
		while ((state = process_thread_state(process, process)) !=
			       'D' &&
		       state != 'Z')
			sched_yield();
		kill(pid, SIGKILL);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		next = next_region_id(&f);
		if (WIFSIGNALED(status) && next == id + 1)
			break;
		id = next;
	}
	EXPECT_LT(round, MAX_ROUNDS);
	flood_destroy(&f);
}

/* Processes with a queue each, and the mms that others may end up with. */
#define NR_PROCESSES 64
#define NOISE	     KIB(16)

/* A queue holds the mm of its process, so that its address is not reused. */
static void queues_go(const void *arg)
{
	uint64_t before = slab_cache_bytes("mm_struct");
	struct region r;
	pid_t pid;
	int i;

	(void)arg;
	for (i = 0; i < NR_PROCESSES; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			region_init(&r, AS_MASK_NORMAL);
			_exit(0);
		}
		expect_exit(pid);
	}
	while (slab_cache_bytes("mm_struct") > before + NOISE)
		sched_yield();
}

/* A queue whose credit is not full outlives its VM for a while. */
static void module_goes_with_queues(const void *arg)
{
	struct flood f;
	int round;

	(void)arg;
	module_need_reload();
	for (round = 0; round < 3; round++) {
		flood_init(&f);
		run_into_debt(&f);
		flood_destroy(&f);
		close(f.r.fd);
		close(f.r.dev);
		vmem_nl_close(f.r.nl);
		vcpu_destroy(&f.r.vcpu);
		vm_destroy(&f.r.vm);
		/* The work that ended the region may not have returned yet. */
		module_unload_soon();
		module_load();
	}
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a flood of changes is limited to a share of a CPU",
		 .run = a_flood_has_a_share,
		 .timeout_s = TIMEOUT_S},
		{.name = "another VM of the process is not delayed by it",
		 .run = another_vm_has_its_own,
		 .timeout_s = TIMEOUT_S},
		{.name = "closing another region of the VM is not delayed by it",
		 .run = close_does_not_wait,
		 .timeout_s = TIMEOUT_S},
		{.name = "closing a region answers its waiting requests",
		 .run = close_ends_what_waits,
		 .timeout_s = TIMEOUT_S},
		{.name = "a new region does not renew the VM's credit",
		 .run = credit_stays,
		 .timeout_s = TIMEOUT_S},
		{.name = "a process that waits to create a region can be killed",
		 .run = create_can_be_killed,
		 .timeout_s = TIMEOUT_S},
		{.name = "a queue goes some time after its process",
		 .run = queues_go,
		 .timeout_s = TIMEOUT_S},
		{.name = "the module can be unloaded while a queue lingers",
		 .run = module_goes_with_queues,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
