// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fault injection: each allocation of an operation fails in turn. The operation
 * then either fails and changes nothing, or succeeds without that allocation.
 * It must succeed when repeated.
 *
 * A worker changes the region. The module passes the sender's fail-nth count on
 * to it (fail_nth.h). The module's tracepoint reports how far a failed batch
 * got; each phase must have failed at least once. Leaked metadata shows in
 * VmallocUsed. Leaked slab objects do not stand out there from the other
 * objects of a running VM; to find these, scripts/test runs this program once
 * under kmemleak.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "batch.h"
#include "fail_nth.h"
#include "kernel.h"
#include "nested.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "userfault.h"

#define TRACEFS	  "/sys/kernel/tracing"
#define INSTANCE  TRACEFS "/instances/fail_nth_test"
#define EVENT	  INSTANCE "/events/kvm_vmem/batch/enable"
#define EVENT_LEN 4096

/* Twice a sweep of dozens of failures in an emulated machine with KASAN. */
#define SWEEP_TIMEOUT_S 600

/* More allocations than any operation makes: a limit for a sweep. */
#define MAX_POINTS 2000U

/*
 * Vmalloc'ed memory that the kernel itself may keep: stacks of new workers.
 * Metadata leaked by every failure would be more.
 */
#define NOISE KIB(128)

/* The progress of an operation when an allocation failed. */
enum phase {
	PHASE_BEFORE, /* before the batch or after it */
	PHASE_ALLOCATE, /* the batch, once judged, allocates */
	PHASE_PREPARE, /* KVM allocates metadata for new memslots */
	PHASE_ROLLBACK, /* deleted memslots were INVALID, and are restored */
	NR_PHASES,
};

/**
 * struct injector - makes allocations fail, and reports the phase
 * @nth: fault injection of this task
 * @trace_fd: the module's tracepoint
 */
struct injector {
	struct fail_nth nth;
	int trace_fd;
};

/**
 * struct sweep - an operation and its allocations
 * @injector: makes them fail
 * @run: the operation; 0 or -errno
 * @undo: reverses it
 * @check: checks all state, before or after the operation
 * @arg: argument of the functions
 * @refused: number of failures that made the operation fail, by phase
 * @survived: number of failures without effect on the result
 */
struct sweep {
	struct injector injector;
	int (*run)(void *arg);
	void (*undo)(void *arg);
	void (*check)(void *arg, bool done);
	void *arg;
	unsigned int refused[NR_PHASES];
	unsigned int survived;
};

static void injector_init(struct injector *inj)
{
	fail_nth_init(&inj->nth, getpid());
	if (mkdir(INSTANCE, 0700))
		ASSERT_EQ(errno, EEXIST);
	kernel_write(EVENT, "1");
	inj->trace_fd =
		open(INSTANCE "/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_GE(inj->trace_fd, 0);
}

static void injector_end(struct injector *inj)
{
	fail_nth_end(&inj->nth);
	close(inj->trace_fd);
	kernel_write(EVENT, "0");
	EXPECT_EQ(rmdir(INSTANCE), 0);
}

/* The number after "@name=" in a line of the tracepoint. */
static unsigned long long field(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	ASSERT_TRUE(at);
	return strtoull(at + strlen(name), NULL, 10);
}

/* The phase that the last batch since the previous call has reached. */
static enum phase read_phase(const struct injector *inj)
{
	char text[EVENT_LEN + 1];
	enum phase phase = PHASE_BEFORE;
	const char *line;
	ssize_t n;

	while ((n = read(inj->trace_fd, text, EVENT_LEN)) > 0) {
		text[n] = '\0';
		line = strstr(text, "creates=");
		if (!line)
			continue;
		if (field(line, "grace_periods="))
			phase = PHASE_ROLLBACK;
		else if (field(line, "prepare_ns="))
			phase = PHASE_PREPARE;
		else
			phase = PHASE_ALLOCATE;
	}
	ASSERT_EQ(errno, EAGAIN);
	return phase;
}

/* Run the operation without faults, and undo it. */
static void run_whole(const struct sweep *s)
{
	ASSERT_OK(s->run(s->arg));
	s->check(s->arg, true);
	s->undo(s->arg);
}

/* Let the n-th allocation fail. Return: whether there was one. */
static bool run_point(struct sweep *s, unsigned int nth)
{
	unsigned int left;
	enum phase phase;
	int r;

	tap_context("allocation %u", nth);
	read_phase(&s->injector);
	fail_nth_arm(&s->injector.nth, nth);
	r = s->run(s->arg);
	left = fail_nth_disarm(&s->injector.nth);
	phase = read_phase(&s->injector);
	if (r) {
		EXPECT_ERR(r, ENOMEM);
		EXPECT_EQ(left, 0);
		s->refused[phase]++;
		s->check(s->arg, false);
		ASSERT_OK(s->run(s->arg));
		s->undo(s->arg);
		return true;
	}
	s->check(s->arg, true);
	s->undo(s->arg);
	if (left)
		return false;
	s->survived++;
	return true;
}

/* Report the number of failures by phase. */
static void tell(const struct sweep *s, const char *name)
{
	const unsigned int *refused = s->refused;
	unsigned int i, sum = 0;

	for (i = 0; i < NR_PHASES; i++)
		sum += refused[i];
	tap_note(
		"%s: %u failures: %u before the batch, %u in its allocations, %u in KVM's, %u rolled back, %u done without",
		name, sum + s->survived, refused[PHASE_BEFORE],
		refused[PHASE_ALLOCATE], refused[PHASE_PREPARE],
		refused[PHASE_ROLLBACK], s->survived);
	EXPECT_GT(sum + s->survived, 0);
}

/* Sweep an operation, and report the result. */
static void sweep(struct sweep *s, const char *name)
{
	uint64_t before, after;
	unsigned int nth;

	injector_init(&s->injector);
	s->check(s->arg, false);
	run_whole(s);
	before = meminfo("VmallocUsed");
	for (nth = 1; run_point(s, nth); nth++)
		ASSERT_LE(nth, MAX_POINTS);
	tap_context("%s", "");
	run_whole(s);
	tell(s, name);
	after = meminfo("VmallocUsed");
	tap_note("%s: VmallocUsed %+lld KiB", name,
		 (long long)(after - before) / 1024);
	EXPECT_LE(after, before + NOISE);
	injector_end(&s->injector);
}

/* No leaked reference keeps the VM of the case alive. */
static void expect_no_vm_left(int dev)
{
	EXPECT_EQ(region_count(dev), 0);
	EXPECT_EQ(kvm_vm_count(), 0);
}

/*
 * The mixed batch, in both address spaces: memslots by number. Each has an
 * address of its own, except "new", which overlaps the second half of "old" and
 * the range after it.
 */
enum mixed_slot {
	SLOT_KEPT,
	SLOT_DELETED,
	SLOT_LOG_ON,
	SLOT_LOG_OFF,
	SLOT_OLD,
	SLOT_NEW,
	SLOT_CREATED,
	SLOT_CREATED_LOGGING,
	NR_MIXED,
};

/* 2 MiB each, so that KVM allocates each kind of metadata for them. */
#define MIXED_SIZE     MIB(2)
#define MIXED_GPA      GIB(1)
#define MIXED_FIRST_ID 1U

/* State of a memslot at one time. */
enum mixed_state {
	ABSENT,
	PRESENT,
	LOGGING,
};

static const struct {
	enum mixed_state before, after;
} mixed[NR_MIXED] = {
	[SLOT_KEPT] = {PRESENT, PRESENT},
	[SLOT_DELETED] = {LOGGING, ABSENT},
	[SLOT_LOG_ON] = {PRESENT, LOGGING},
	[SLOT_LOG_OFF] = {LOGGING, PRESENT},
	[SLOT_OLD] = {PRESENT, ABSENT},
	[SLOT_NEW] = {ABSENT, PRESENT},
	[SLOT_CREATED] = {ABSENT, PRESENT},
	[SLOT_CREATED_LOGGING] = {ABSENT, LOGGING},
};

struct mixed_bench {
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch forth;
	struct batch back;
};

static uint64_t mixed_gpa(unsigned int slot)
{
	/* The new memslot overlaps the deleted one. */
	if (slot == SLOT_NEW)
		return MIXED_GPA + SLOT_OLD * 2 * MIXED_SIZE + MIXED_SIZE / 2;
	return MIXED_GPA + slot * 2 * MIXED_SIZE;
}

static uint8_t *mixed_hva(const struct mixed_bench *t, unsigned int slot)
{
	return t->mem.hva + slot * MIXED_SIZE;
}

/* Add the entries that change memslots from one state to the other. */
static void mixed_add(struct mixed_bench *t, struct batch *b, bool forth)
{
	unsigned int as, slot;

	for (as = AS_NORMAL; as <= AS_SMM; as++)
		for (slot = 0; slot < NR_MIXED; slot++) {
			const uint32_t id = SLOT(as, MIXED_FIRST_ID + slot);
			const enum mixed_state to =
				forth ? mixed[slot].after : mixed[slot].before;

			if (mixed[slot].before == mixed[slot].after)
				continue;
			if (to == ABSENT)
				batch_delete(b, id);
			else
				batch_set(b, id,
					  to == LOGGING
						  ? KVM_MEM_LOG_DIRTY_PAGES
						  : 0,
					  mixed_gpa(slot), MIXED_SIZE,
					  mixed_hva(t, slot));
		}
}

static void mixed_init(struct mixed_bench *t)
{
	unsigned int as, slot;

	t->dev = kvm_vmem_open();
	expect_no_vm_left(t->dev);
	vm_create(&t->vm, VM_SMM);
	vcpu_create(&t->vcpu, &t->vm);
	backing_create(&t->mem, NR_MIXED * MIXED_SIZE);
	batch_init(&t->forth);
	batch_init(&t->back);
	mixed_add(t, &t->forth, true);
	mixed_add(t, &t->back, false);
	for (as = AS_NORMAL; as <= AS_SMM; as++)
		for (slot = 0; slot < NR_MIXED; slot++) {
			const enum mixed_state is = mixed[slot].before;

			if (is == ABSENT)
				continue;
			ASSERT_OK(vm_set_region(
				&t->vm, SLOT(as, MIXED_FIRST_ID + slot),
				is == LOGGING ? KVM_MEM_LOG_DIRTY_PAGES : 0,
				mixed_gpa(slot), MIXED_SIZE,
				mixed_hva(t, slot)));
		}
}

static void mixed_end(struct mixed_bench *t)
{
	batch_free(&t->forth);
	batch_free(&t->back);
	vcpu_destroy(&t->vcpu);
	vm_destroy(&t->vm);
	expect_no_vm_left(t->dev);
}

static int mixed_run(void *arg)
{
	struct mixed_bench *t = arg;

	return batch_apply(t->dev, &t->vm, &t->forth);
}

static void mixed_undo(void *arg)
{
	struct mixed_bench *t = arg;

	ASSERT_OK(batch_apply(t->dev, &t->vm, &t->back));
}

/* Check a memslot: KVM's id, the guest's access, and dirty logging. */
static void mixed_check_slot(struct mixed_bench *t, unsigned int as,
			     unsigned int slot, enum mixed_state is)
{
	static uint64_t bits[MIXED_SIZE / GUEST_PAGE / 64];
	const uint32_t id = SLOT(as, MIXED_FIRST_ID + slot);
	/* In the half that "old" and "new" do not share. */
	const uint64_t offset = slot == SLOT_NEW ? MIXED_SIZE - GUEST_PAGE : 0;
	const uint64_t gpa = mixed_gpa(slot) + offset;

	EXPECT_EQ(vm_slot_exists(&t->vm, id), is != ABSENT);
	if (is == LOGGING)
		EXPECT_OK(vm_dirty_log(&t->vm, id, bits));
	if (is == ABSENT)
		EXPECT_GUEST_MMIO(&t->vcpu, gpa);
	else
		EXPECT_GUEST_MEMORY(&t->vcpu, gpa, mixed_hva(t, slot) + offset);
	EXPECT_ERR(vm_dirty_log(&t->vm, id, bits), is == LOGGING ? 0 : ENOENT);
	if (is == LOGGING)
		EXPECT_EQ(bits[offset / GUEST_PAGE / 64] &
				  1ULL << offset / GUEST_PAGE % 64,
			  1ULL << offset / GUEST_PAGE % 64);
}

static void mixed_check(void *arg, bool done)
{
	struct mixed_bench *t = arg;
	unsigned int as, slot;

	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		vcpu_set_smm(&t->vcpu, as == AS_SMM);
		for (slot = 0; slot < NR_MIXED; slot++)
			mixed_check_slot(t, as, slot,
					 done ? mixed[slot].after
					      : mixed[slot].before);
	}
	vcpu_set_smm(&t->vcpu, false);
}

static void mixed_batch(const void *arg)
{
	struct mixed_bench t;
	struct sweep s = {
		.run = mixed_run,
		.undo = mixed_undo,
		.check = mixed_check,
		.arg = &t,
	};

	(void)arg;
	mixed_init(&t);
	sweep(&s, "mixed batch");
	/* A batch falls back to another allocator for its arrays. */
	EXPECT_EQ(s.refused[PHASE_BEFORE], 0);
	EXPECT_GT(s.survived, 0);
	EXPECT_GT(s.refused[PHASE_ALLOCATE], 0);
	EXPECT_GT(s.refused[PHASE_PREPARE], 0);
	backing_destroy(&t.mem);
	mixed_end(&t);
}

/*
 * A batch during which a vCPU enters its first nested guest. KVM then adds
 * missing metadata to all visible memslots, under the lock that the batch
 * released for its grace period. The batch must therefore prepare its creates
 * again while the deleted memslots are INVALID. If this fails, it must restore
 * them.
 *
 * The grace period lasts long enough: a vCPU waits inside KVM for a page that
 * is withheld until the nested guest has run.
 */
#define TRAP_SLOT 100U
#define TRAP_GPA  GIB(3)

/**
 * struct lazy_bench - the mixed batch, a vCPU that waits, and one with a nested
 * guest
 * @t: the VM, the waiting vCPU and the batch
 * @nester: the vCPU that enters a nested guest
 * @uffd: userfaultfd that handles the page
 * @page: the page that the first vCPU waits for
 * @batch_thread: id of the thread with the batch
 * @batch_done: the batch has ended
 * @nested: the nested guest ran during the batch
 */
struct lazy_bench {
	struct mixed_bench t;
	struct vcpu nester;
	int uffd;
	uint8_t *page;
	char batch_thread[16];
	bool batch_done;
	bool nested;
};

static void run_nested_guest(struct lazy_bench *l)
{
	nested_guest_run(&l->nester);
	l->nested = true;
}

static void make_trap(struct lazy_bench *l)
{
	l->page = userfault_page(&l->uffd);
	ASSERT_OK(vm_set_region(&l->t.vm, TRAP_SLOT, 0, TRAP_GPA, GUEST_PAGE,
				l->page));
}

static void *fall_into_trap(void *arg)
{
	struct lazy_bench *l = arg;
	uint64_t value;

	EXPECT_EQ(guest_read(&l->t.vcpu, TRAP_GPA, &value), GUEST_MEMORY);
	return NULL;
}

/*
 * Is the batch in its grace period? The stack is only read while the thread
 * sleeps: KASAN may report the kernel's reader of a running thread's stack.
 */
static bool batch_waits(const struct lazy_bench *l)
{
	char path[64], line[256];
	bool waits = false;
	FILE *f;

	if (process_thread_state("self", l->batch_thread) != 'D')
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%s/stack",
		 l->batch_thread);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		waits |= strstr(line, "synchronize_srcu") != NULL;
	fclose(f);
	return waits;
}

/* When the batch waits, run the nested guest; then provide the page. */
static void *nest_meanwhile(void *arg)
{
	struct lazy_bench *l = arg;
	struct uffdio_zeropage zero = {
		.range = {.start = (uintptr_t)l->page, .len = GUEST_PAGE},
	};
	bool waits = false;

	while (!waits && !__atomic_load_n(&l->batch_done, __ATOMIC_ACQUIRE))
		waits = batch_waits(l);
	if (waits)
		run_nested_guest(l);
	ASSERT_EQ(ioctl(l->uffd, UFFDIO_ZEROPAGE, &zero), 0);
	return NULL;
}

/* In a VM of its own, since only the first nested guest has this effect. */
static bool lazy_point(struct sweep *s, unsigned int nth)
{
	struct lazy_bench l = {0};
	pthread_t trapped, meanwhile;
	struct uffd_msg msg;
	unsigned int left;
	enum phase phase;
	int r;

	tap_context("allocation %u", nth);
	mixed_init(&l.t);
	if (!nested_vcpu_create(&l.nester, &l.t.vm))
		tap_skip("KVM cannot run nested guests here");
	make_trap(&l);
	mixed_check(&l.t, false);
	snprintf(l.batch_thread, sizeof(l.batch_thread), "%d", gettid());
	ASSERT_EQ(pthread_create(&trapped, NULL, fall_into_trap, &l), 0);
	ASSERT_EQ(read(l.uffd, &msg, sizeof(msg)), sizeof(msg));
	ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	ASSERT_EQ(pthread_create(&meanwhile, NULL, nest_meanwhile, &l), 0);

	read_phase(&s->injector);
	fail_nth_arm(&s->injector.nth, nth);
	r = mixed_run(&l.t);
	left = fail_nth_disarm(&s->injector.nth);
	phase = read_phase(&s->injector);
	__atomic_store_n(&l.batch_done, true, __ATOMIC_RELEASE);
	ASSERT_EQ(pthread_join(meanwhile, NULL), 0);
	ASSERT_EQ(pthread_join(trapped, NULL), 0);

	EXPECT_EQ(l.nested, phase == PHASE_ROLLBACK || !r);
	mixed_check(&l.t, !r);
	if (r) {
		EXPECT_ERR(r, ENOMEM);
		EXPECT_EQ(left, 0);
		s->refused[phase]++;
		ASSERT_OK(mixed_run(&l.t));
		mixed_check(&l.t, true);
	} else if (!left) {
		s->survived++;
	}
	/* Memslots created since then have all metadata, too. */
	if (!l.nested)
		run_nested_guest(&l);
	mixed_undo(&l.t);
	mixed_check(&l.t, false);
	vcpu_destroy(&l.nester);
	backing_destroy(&l.t.mem);
	munmap(l.page, GUEST_PAGE);
	close(l.uffd);
	mixed_end(&l.t);
	return r || !left;
}

static void lazy_metadata(const void *arg)
{
	struct sweep s = {0};
	unsigned int nth;

	(void)arg;
	if (!kvm_nested_paging())
		tap_skip(
			"without nested paging memslots have all metadata from the start");
	injector_init(&s.injector);
	for (nth = 1; lazy_point(&s, nth); nth++)
		ASSERT_LE(nth, MAX_POINTS);
	tap_context("%s", "");
	tell(&s, "batch during which a nested guest starts");
	EXPECT_GT(s.refused[PHASE_PREPARE], 0);
	EXPECT_GT(s.refused[PHASE_ROLLBACK], 0);
	injector_end(&s.injector);
}

/* Two slots of four blocks, and one block of the third. */
#define PLUGGED_BEFORE 9U
/* The rest of the third slot, two more slots, and one block of the next. */
#define CHANGED_FIRST PLUGGED_BEFORE
#define CHANGED_NR    12U

/**
 * struct region_op - a change of a region
 * @name: of the change
 * @run: makes it; 0 or -errno
 * @undo: reverses it
 * @plugged_before: number of plugged blocks before
 */
struct region_op {
	const char *name;
	int (*run)(struct region *r);
	int (*undo)(struct region *r);
	unsigned int plugged_before;
};

/**
 * struct region_bench - a region and a listener
 * @op: the change
 * @r: the region
 * @events: netlink handle that has joined the group
 */
struct region_bench {
	const struct region_op *op;
	struct region r;
	struct vmem_nl *events;
};

/*
 * The listener has received at least one event, or a report of lost events:
 * without memory the module omits a notification.
 */
static void expect_told(struct vmem_nl *events)
{
	struct vmem_nl_event event;
	unsigned int nr = 0;
	int r;

	while ((r = vmem_nl_next_event(events, 0, &event, NULL)) == 0 ||
	       r == -ENOBUFS)
		nr++;
	EXPECT_ERR(r, ETIMEDOUT);
	EXPECT_GT(nr, 0);
}

static int plug_some(struct region *r)
{
	return region_plug(r, CHANGED_FIRST, CHANGED_NR);
}

static int unplug_some(struct region *r)
{
	return region_unplug(r, CHANGED_FIRST, CHANGED_NR);
}

static int replug_all(struct region *r)
{
	return region_plug(r, 0, PLUGGED_BEFORE);
}

static int set_dirty_log(struct region *r, bool on)
{
	return vmem_nl_region_set(r->nl, VMEM_NL_BY_FD(r->fd),
				  VMEM_NL_SET_DIRTY_LOG, 0, on, NULL, NULL);
}

static int log_on(struct region *r)
{
	return set_dirty_log(r, true);
}

static int log_off(struct region *r)
{
	return set_dirty_log(r, false);
}

static const struct region_op region_ops[] = {
	{"plug", plug_some, unplug_some, PLUGGED_BEFORE},
	{"unplug", unplug_some, plug_some, CHANGED_FIRST + CHANGED_NR},
	{"unplug-all", region_unplug_all, replug_all, PLUGGED_BEFORE},
	{"dirty log on", log_on, log_off, PLUGGED_BEFORE},
	{"dirty log off", log_off, log_on, PLUGGED_BEFORE},
};

static int region_op_run(void *arg)
{
	struct region_bench *t = arg;

	return t->op->run(&t->r);
}

static void region_op_undo(void *arg)
{
	struct region_bench *t = arg;

	ASSERT_OK(t->op->undo(&t->r));
}

/*
 * Check KVM's ids, the guest's view of a block of each slot, the module's
 * dumps, and dirty logging, which is the same for all memslots.
 */
static void check_region(struct region *r, bool logging)
{
	static uint64_t
		bits[REGION_BLOCKS_PER_SLOT * REGION_BLOCK / GUEST_PAGE / 64];
	struct vmem_nl_region state;
	unsigned int as, slot;

	EXPECT_DUMPS_AS_MODEL(r);
	ASSERT_OK(
		vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), &state, NULL));
	EXPECT_EQ(state.dirty_log, logging);
	EXPECT_EQ(state.metadata.dirty_bitmap != 0,
		  logging && state.populated_slots);
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		vcpu_set_smm(&r->vcpu, as == AS_SMM);
		for (slot = 0; slot < r->nr_slots; slot++) {
			const uint32_t id = SLOT(as, REGION_FIRST_SLOT + slot);
			const unsigned int block = slot * r->blocks_per_slot;
			const bool is = region_slot_populated(r, slot);

			EXPECT_EQ(vm_slot_exists(&r->vm, id), is);
			EXPECT_ERR(vm_dirty_log(&r->vm, id, bits),
				   is && logging ? 0 : ENOENT);
			if (is)
				EXPECT_GUEST_MEMORY(&r->vcpu,
						    region_block_gpa(r, block),
						    region_block_hva(r, block));
			else
				EXPECT_GUEST_MMIO(&r->vcpu,
						  region_block_gpa(r, block));
		}
	}
	vcpu_set_smm(&r->vcpu, false);
}

static void region_op_check(void *arg, bool done)
{
	struct region_bench *t = arg;

	if (done)
		expect_told(t->events);
	check_region(&t->r, (t->op->run == log_on && done) ||
				    (t->op->run == log_off && !done));
}

static void region_end(struct region *r)
{
	vcpu_destroy(&r->vcpu);
	vm_destroy(&r->vm);
	vmem_nl_close(r->nl);
	expect_no_vm_left(r->dev);
}

static void region_change(const void *arg)
{
	struct region_bench t = {.op = arg};
	struct sweep s = {
		.run = region_op_run,
		.undo = region_op_undo,
		.check = region_op_check,
		.arg = &t,
	};

	region_init(&t.r, AS_MASK_BOTH);
	t.events = netlink_open();
	ASSERT_OK(vmem_nl_subscribe(t.events, NULL));
	ASSERT_OK(region_plug(&t.r, 0, t.op->plugged_before));
	if (t.op->run == log_off)
		ASSERT_OK(log_on(&t.r));
	sweep(&s, t.op->name);
	EXPECT_GT(s.survived, 0);
	EXPECT_AS_MODEL(&t.r);
	close(t.r.fd);
	vmem_nl_close(t.events);
	region_end(&t.r);
}

static int create_run(void *arg)
{
	struct region *r = arg;

	r->fd = region_call_create(r->dev, &r->args);
	return r->fd < 0 ? r->fd : 0;
}

static void create_undo(void *arg)
{
	struct region *r = arg;

	EXPECT_EQ(close(r->fd), 0);
	EXPECT_EQ(region_count(r->dev), 0);
}

static void create_check(void *arg, bool done)
{
	struct region *r = arg;
	unsigned int slot;

	EXPECT_EQ(region_count(r->dev), done);
	for (slot = 0; slot < r->nr_slots; slot++)
		EXPECT_EQ(vm_slot_exists(&r->vm, REGION_FIRST_SLOT + slot),
			  false);
	/* The region works. */
	if (done) {
		memset(r->plugged, 0, sizeof(r->plugged));
		ASSERT_OK(region_plug(r, 0, 1));
		EXPECT_DUMPS_AS_MODEL(r);
	}
}

static void region_creation(const void *arg)
{
	struct region r;
	struct sweep s = {
		.run = create_run,
		.undo = create_undo,
		.check = create_check,
		.arg = &r,
	};

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	close(r.fd);
	sweep(&s, "region create");
	EXPECT_GT(s.refused[PHASE_BEFORE], 0);
	region_end(&r);
}

static int close_run(void *arg)
{
	struct region *r = arg;

	return close(r->fd) ? -errno : 0;
}

static void close_undo(void *arg)
{
	struct region *r = arg;

	region_create(r);
	ASSERT_OK(region_plug(r, 0, r->nr_blocks));
}

/*
 * The memslots are removed after any failure: the module needs little memory
 * for it.
 */
static void close_check(void *arg, bool done)
{
	struct region *r = arg;

	if (done)
		memset(r->plugged, 0, sizeof(r->plugged));
	EXPECT_EQ(region_count(r->dev), !done);
	EXPECT_GUEST_AS_MODEL(r);
}

static void region_end_sweep(const void *arg)
{
	struct region r;
	struct sweep s = {
		.run = close_run,
		.undo = close_undo,
		.check = close_check,
		.arg = &r,
	};
	unsigned int nth;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	ASSERT_OK(region_plug(&r, 0, r.nr_blocks));
	injector_init(&s.injector);
	s.check(s.arg, false);
	for (nth = 1; run_point(&s, nth); nth++)
		ASSERT_LE(nth, MAX_POINTS);
	tap_context("%s", "");
	tell(&s, "region end");
	injector_end(&s.injector);
	close(r.fd);
	region_end(&r);
}

int main(void)
{
	static const struct tap_case others[] = {
		{.name = "a mixed batch", .run = mixed_batch},
		{.name = "a mixed batch during which a nested guest starts",
		 .run = lazy_metadata},
		{.name = "creation of a region", .run = region_creation},
		{.name = "end of a region", .run = region_end_sweep},
	};
	static struct tap_case
		cases[ARRAY_SIZE(region_ops) + ARRAY_SIZE(others)];
	const char *why = fail_nth_unavailable();
	size_t i, n = 0;

	if (why)
		return tap_skip_all("%s", why);
	for (i = 0; i < ARRAY_SIZE(others); i++)
		cases[n++] = others[i];
	for (i = 0; i < ARRAY_SIZE(region_ops); i++)
		cases[n++] = (struct tap_case){.name = region_ops[i].name,
					       .run = region_change,
					       .arg = &region_ops[i]};
	for (i = 0; i < n; i++)
		cases[i].timeout_s = SWEEP_TIMEOUT_S;
	return tap_run(cases, n);
}
