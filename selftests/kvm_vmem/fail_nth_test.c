// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every allocation of an operation made to fail in turn: the operation is
 * refused and leaves everything as it was, or does without what it did not get;
 * and it works when done once more.
 *
 * A change of a region is made by a worker; the module lets the sender's count
 * (fail_nth.h) follow it there. How far a batch had come when it failed is told by the module's tracepoint;
 * each phase must have been seen to fail. Metadata that is lost shows in VmallocUsed. What
 * comes from slabs does not show in them, among all that a living VM takes from
 * there; that is for kmemleak, under which scripts/test runs this once.
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

/* Twice a sweep of dozens of failures, in an emulated machine with KASAN. */
#define SWEEP_TIMEOUT_S 600

/* More allocations than any operation here makes: a bound for a sweep. */
#define MAX_POINTS 2000U

/*
 * What the kernel itself may keep in vmalloc'ed memory: stacks of workers that
 * come to life. Metadata lost in every failure would be more.
 */
#define NOISE KIB(128)

/* How far an operation had come when an allocation failed. */
enum phase {
	PHASE_BEFORE, /* there was no batch yet, or none any more */
	PHASE_ALLOCATE, /* the batch was judged and took what it needs */
	PHASE_PREPARE, /* KVM made metadata for new memslots */
	PHASE_ROLLBACK, /* deleted memslots were INVALID, and came back */
	NR_PHASES,
};

/**
 * struct injector - makes allocations fail, and tells how far we were
 * @nth: of this task
 * @trace_fd: the module's tracepoint
 */
struct injector {
	struct fail_nth nth;
	int trace_fd;
};

/**
 * struct sweep - one operation and its allocations
 * @injector: what makes them fail
 * @run: the operation; 0 or -errno
 * @undo: takes back what it did
 * @check: compare everything with how it is before, or after, the operation
 * @arg: for them
 * @refused: failures after which it was refused, by phase
 * @survived: failures that it did without
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

/* How far did the last batch come that was begun since we last asked? */
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

/* The operation as it is without faults, and back. */
static void run_whole(const struct sweep *s)
{
	ASSERT_OK(s->run(s->arg));
	s->check(s->arg, true);
	s->undo(s->arg);
}

/* Let the n-th allocation fail. Return: there was one. */
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

/* How many failures there were, and when. */
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

/* Sweep an operation, and tell of it. */
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

/* The VM of a case goes with what held it, which nothing lost may prolong. */
static void expect_no_vm_left(int dev)
{
	EXPECT_EQ(region_count(dev), 0);
	EXPECT_EQ(kvm_vm_count(), 0);
}

/*
 * The mixed batch, in both address spaces: memslots by number, each at an
 * address of its own but "new", which replaces "old" over half its range and
 * reaches beyond.
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

/* Of 2 MiB, so that KVM has metadata of each kind for them. */
#define MIXED_SIZE     MIB(2)
#define MIXED_GPA      GIB(1)
#define MIXED_FIRST_ID 1U

/* What a memslot is at one time. */
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
	/* The one that comes overlaps the one that goes. */
	if (slot == SLOT_NEW)
		return MIXED_GPA + SLOT_OLD * 2 * MIXED_SIZE + MIXED_SIZE / 2;
	return MIXED_GPA + slot * 2 * MIXED_SIZE;
}

static uint8_t *mixed_hva(const struct mixed_bench *t, unsigned int slot)
{
	return t->mem.hva + slot * MIXED_SIZE;
}

/* The entries that take memslots from one state to another. */
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

/* One memslot: KVM's id, what the guest finds, and that it logs that. */
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
	/* The arrays of a batch are asked for again, in another way. */
	EXPECT_EQ(s.refused[PHASE_BEFORE], 0);
	EXPECT_GT(s.survived, 0);
	EXPECT_GT(s.refused[PHASE_ALLOCATE], 0);
	EXPECT_GT(s.refused[PHASE_PREPARE], 0);
	backing_destroy(&t.mem);
	mixed_end(&t);
}

/*
 * A batch during which a vCPU enters its first nested guest. KVM then gives
 * every memslot that can be seen what it had done without, under the same lock
 * that the batch dropped for its grace period. So the batch prepares its
 * creates once more, with the deleted memslots INVALID, and if that fails it
 * must bring those back.
 *
 * The grace period is made to last: a vCPU waits inside KVM for a page that
 * does not come before the nested guest has run.
 */
#define TRAP_SLOT 100U
#define TRAP_GPA  GIB(3)

/**
 * struct lazy_bench - the mixed batch, a vCPU that waits, one with a guest
 * @t: the VM, the first vCPU and the batch
 * @nester: the vCPU that enters a nested guest
 * @uffd: gives the page that the first vCPU waits for
 * @page: the page
 * @batch_thread: the number of the thread with the batch
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
 * Is the batch in its grace period? Its stack is looked at only while it sleeps:
 * KASAN may report the kernel's reader of the stack of a thread that runs.
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

/* Once the batch waits, the nested guest; then the page it waits for. */
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

/* In a VM of its own, as it is only the first nested guest that matters. */
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
		tap_skip("KVM runs no nested guests here");
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
	/* Also those memslots that came later have all there is to have. */
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
			"only with nested paging does KVM do without at first");
	injector_init(&s.injector);
	for (nth = 1; lazy_point(&s, nth); nth++)
		ASSERT_LE(nth, MAX_POINTS);
	tap_context("%s", "");
	tell(&s, "batch amid which a nested guest starts");
	EXPECT_GT(s.refused[PHASE_PREPARE], 0);
	EXPECT_GT(s.refused[PHASE_ROLLBACK], 0);
	injector_end(&s.injector);
}

/* Two slots of four blocks plugged, and one block of the third. */
#define PLUGGED_BEFORE 9U
/* The rest of the third, all of two more, one block of the next. */
#define CHANGED_FIRST PLUGGED_BEFORE
#define CHANGED_NR    12U

/**
 * struct region_op - a change of a region
 * @name: what is done
 * @run: does it, or says why not
 * @undo: takes it back
 * @plugged_before: how many blocks are plugged at first
 */
struct region_op {
	const char *name;
	int (*run)(struct region *r);
	int (*undo)(struct region *r);
	unsigned int plugged_before;
};

/**
 * struct region_bench - a region and who listens to it
 * @op: what is done to it
 * @r: the region
 * @events: netlink handle in the group
 */
struct region_bench {
	const struct region_op *op;
	struct region r;
	struct vmem_nl *events;
};

/*
 * Who listens was told of at least one change, or that something is missing:
 * a notification is what the module does without when memory is short.
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
 * KVM's ids, the guest at one block of each slot, the module's dumps; and the
 * dirty log, on or off for all memslots alike.
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
	/* It can be used. */
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

/* Whatever fails, the memslots go: the module can do with little memory. */
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
		{.name = "a mixed batch amid which a nested guest starts",
		 .run = lazy_metadata},
		{.name = "region create", .run = region_creation},
		{.name = "region end", .run = region_end_sweep},
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
