// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cost of memslot changes for a guest, as a table: plug, dirty log on, dirty
 * log off and unplug of N memslots, with KVM's own calls and with batches.
 *
 * Counts come from a VM whose vCPU runs only when the bench asks it to, so that
 * each count has one cause:
 *
 *   grace	grace periods that the caller waits for
 *   zap-alls	times that KVM drops all mappings of the VM
 *   flushes	TLB flushes that are sent to the VM's vCPUs
 *   refaults	page faults of the guest on memory that the step leaves alone,
 *		for KEPT pages that were mapped before. Faults on the vCPU's own
 *		pages (code, page tables) are included
 *
 * A second table compares range zaps with zap-alls where most of what is mapped
 * goes, which is where zap-alls are best: deleting all memslots but KEPT, with
 * one page or all pages of each mapped, and reading the memslots that stay
 * again.
 *
 * Times need two CPUs. They come from a VM with a second vCPU, which always runs: the duration of
 * the step, the longest pause of that vCPU, and the part of the step during
 * which it did not run. They are medians of several rounds. On an emulated
 * machine, only the ratios within one run are meaningful.
 */
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "clock.h"
#include "kernel.h"
#include "samples.h"
#include "spinner.h"
#include "tap.h"
#include "tracing.h"
#include "vcpu.h"

#define BENCH_GPA GIB(4)
/* Id of the first measured memslot. The boot memslot has a lower id. */
#define FIRST_ID  1U
#define SLOT_SIZE MIB(2)

/* Memslots that stay, each with one page mapped. */
#define KEPT 64U

/* Rounds of a timed step. One round before is not measured. */
#define ROUNDS 5U

/* Memslots of which all pages are mapped, 512 of each. Faulting in is slow. */
#define FULL	    32U
#define FULL_MANY   128U
#define FULL_ROUNDS 3U

/* Rounds of its loop to measure an undisturbed vCPU's pace. */
#define PACE_ROUNDS 1000U

enum step {
	STEP_PLUG,
	STEP_LOG_ON,
	STEP_LOG_OFF,
	STEP_UNPLUG,
	NR_STEPS,
};

static const char *const step_names[NR_STEPS] = {
	"plug",
	"dirty log on",
	"dirty log off",
	"unplug",
};

/**
 * struct way - a way of changing memslots
 * @name: name in the table
 * @vm: flags of the VM
 * @batch: changes are made by batches, not by KVM's calls
 * @flags: flags of the batches
 * @all_dirty: the VM has KVM_DIRTY_LOG_INITIALLY_SET
 */
struct way {
	const char *name;
	unsigned int vm;
	bool batch;
	uint32_t flags;
	bool all_dirty;
};

static const struct way ways[] = {
	{.name = "KVM's calls"},
	{.name = "a batch", .batch = true},
	{
		.name = "a batch, range zap and INITIALLY_SET",
		.batch = true,
		.flags = KVM_VMEM_BATCH_ZAP_RANGES,
		.all_dirty = true,
	},
	{.name = "KVM's calls, quirk off", .vm = VM_ZAP_SLOTS},
	{.name = "a batch, quirk off", .vm = VM_ZAP_SLOTS, .batch = true},
};

/* Where most goes: with a zap-all, and with range zaps. */
static const struct way most_ways[] = {
	{.name = "zap-all", .batch = true},
	{
		.name = "range zap",
		.batch = true,
		.flags = KVM_VMEM_BATCH_ZAP_RANGES,
	},
};

/**
 * struct bench - a VM, and the memslots that a way changes in it
 * @way: the way of changing memslots
 * @nr: number of memslots that are changed; KEPT more follow and stay
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @vcpu: a vCPU that reads pages on request
 * @spinner: a vCPU that always runs, if @running
 * @running: @spinner runs
 * @mem: memory of all memslots
 * @batch: entries of a step
 */
struct bench {
	const struct way *way;
	uint32_t nr;
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct spinner spinner;
	bool running;
	struct backing mem;
	struct batch batch;
};

/**
 * struct counts - counts of one step
 * @grace_periods: grace periods that the caller waits for
 * @zaps: times that KVM drops all mappings of the VM
 * @flushes: TLB flushes of the VM's vCPUs
 * @refaults: page faults on memory that the step does not change
 */
struct counts {
	uint64_t grace_periods;
	uint64_t zaps;
	uint64_t flushes;
	uint64_t refaults;
};

/**
 * struct times - times of one step, a sample for each round
 * @ns: duration of the step
 * @pause_ns: longest pause of the running vCPU
 * @lost_ns: additional time of its loop's rounds due to the step
 */
struct times {
	struct samples ns;
	struct samples pause_ns;
	struct samples lost_ns;
};

static uint64_t slot_offset(uint32_t i)
{
	return i * SLOT_SIZE;
}

/* Does this machine's KVM support the way? */
static bool way_is_possible(const struct way *way)
{
	bool possible;
	struct vm vm;

	vm_create(&vm, VM_BARE);
	possible = !(way->vm & VM_ZAP_SLOTS) || vm_can_zap_slots(&vm);
	vm_destroy(&vm);
	return possible;
}

static void set_all_dirty(const struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			 KVM_DIRTY_LOG_INITIALLY_SET},
	};

	ASSERT_EQ(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), 0);
}

/* Change one memslot of a step. */
static void change(struct bench *b, enum step step, uint32_t i)
{
	uint32_t flags = step == STEP_LOG_ON ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	uint64_t size = step == STEP_UNPLUG ? 0 : SLOT_SIZE;
	uint64_t gpa = BENCH_GPA + slot_offset(i);
	uint8_t *hva = b->mem.hva + slot_offset(i);

	if (b->way->batch)
		batch_set(&b->batch, FIRST_ID + i, flags, gpa, size, hva);
	else
		ASSERT_OK(vm_set_region(&b->vm, FIRST_ID + i, flags, gpa, size,
					hva));
}

static void run_step(struct bench *b, enum step step)
{
	for (uint32_t i = 0; i < b->nr; i++)
		change(b, step, i);
	if (!b->way->batch)
		return;
	ASSERT_OK(batch_call(b->dev, b->vm.fd, &b->batch, b->way->flags));
	batch_reset(&b->batch);
}

/* The guest reads the first pages of each memslot in a range. */
static void touch_pages(struct bench *b, uint32_t first, uint32_t nr,
			uint32_t nr_pages)
{
	uint64_t value, gpa;

	for (uint32_t i = first; i < first + nr; i++)
		for (uint32_t page = 0; page < nr_pages; page++) {
			gpa = BENCH_GPA + slot_offset(i) + page * GUEST_PAGE;
			ASSERT_EQ(guest_read(&b->vcpu, gpa, &value),
				  GUEST_MEMORY);
		}
}

static void touch(struct bench *b, uint32_t first, uint32_t nr)
{
	touch_pages(b, first, nr, 1);
}

static void bench_init(struct bench *b, const struct way *way, uint32_t nr,
		       bool running)
{
	cpu_set_t cpus;

	memset(b, 0, sizeof(*b));
	b->way = way;
	b->nr = nr;
	b->running = running;
	b->dev = kvm_vmem_open();
	vm_create(&b->vm, way->vm);
	if (way->all_dirty)
		set_all_dirty(&b->vm);
	vcpu_create(&b->vcpu, &b->vm);
	backing_create(&b->mem, slot_offset(nr + KEPT));
	batch_init(&b->batch);
	for (uint32_t i = nr; i < nr + KEPT; i++)
		ASSERT_OK(vm_set_region(&b->vm, FIRST_ID + i, 0,
					BENCH_GPA + slot_offset(i), SLOT_SIZE,
					b->mem.hva + slot_offset(i)));
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	if (running)
		spinner_start(&b->spinner, &b->vm, 1);
}

static void bench_destroy(struct bench *b)
{
	if (b->running)
		spinner_stop(&b->spinner);
	batch_free(&b->batch);
	backing_destroy(&b->mem);
	vcpu_destroy(&b->vcpu);
	vm_destroy(&b->vm);
	close(b->dev);
}

static struct counts count_step(struct bench *b, enum step step)
{
	uint64_t flushes, faults;
	struct counts c;

	/* Map the memslots that stay, and those that the step changes. */
	touch(b, b->nr, KEPT);
	if (step != STEP_PLUG)
		touch(b, 0, b->nr);
	flushes = vm_stat(&b->vm, "remote_tlb_flush_requests");
	tracing_count_start();
	run_step(b, step);
	c.grace_periods = tracing_count(TRACING_GRACE_PERIODS);
	c.zaps = tracing_count(TRACING_ZAPS);
	tracing_count_stop();
	c.flushes = vm_stat(&b->vm, "remote_tlb_flush_requests") - flushes;
	faults = vm_stat(&b->vm, "pf_fixed");
	touch(b, b->nr, KEPT);
	c.refaults = vm_stat(&b->vm, "pf_fixed") - faults;
	return c;
}

static void time_step(struct bench *b, enum step step, struct times *t)
{
	uint64_t start, ns, rounds, pace_ns, pace_rounds, undisturbed_ns;

	if (step != STEP_PLUG)
		touch(b, 0, b->nr);
	/* The pace of the undisturbed vCPU. */
	rounds = spinner_rounds(&b->spinner);
	start = now_ns();
	do
		pace_rounds = spinner_rounds(&b->spinner) - rounds;
	while (pace_rounds < PACE_ROUNDS);
	pace_ns = now_ns() - start;

	spinner_take_longest_ns(&b->spinner);
	rounds = spinner_rounds(&b->spinner);
	start = now_ns();
	run_step(b, step);
	ns = now_ns() - start;
	rounds = spinner_rounds(&b->spinner) - rounds;
	if (!t)
		return;
	samples_add(&t->ns, ns);
	/* A pause that began during the step may end after it. */
	samples_add(&t->pause_ns, spinner_take_longest_ns(&b->spinner));
	undisturbed_ns = (uint64_t)((double)rounds * (double)pace_ns /
				    (double)pace_rounds);
	samples_add(&t->lost_ns, ns > undisturbed_ns ? ns - undisturbed_ns : 0);
}

static double ms(const struct samples *s)
{
	return (double)samples_median(s) / 1e6;
}

static void print_row(enum step step, const struct way *way, uint32_t nr,
		      const struct counts *c, const struct times *t)
{
	printf("| %s | %s | %u | %" PRIu64 " | %" PRIu64 " | %" PRIu64
	       " | %" PRIu64,
	       step_names[step], way->name, nr, c->grace_periods, c->zaps,
	       c->flushes, c->refaults);
	if (t->ns.nr)
		printf(" | %.1f | %.1f | %.1f |\n", ms(&t->ns),
		       ms(&t->pause_ns), ms(&t->lost_ns));
	else
		printf(" | - | - | - |\n");
}

static void time_steps(struct bench *b, const struct way *way, uint32_t nr,
		       struct times times[NR_STEPS])
{
	bench_init(b, way, nr, true);
	for (unsigned int round = 0; round <= ROUNDS; round++)
		for (int step = 0; step < NR_STEPS; step++)
			time_step(b, step, round ? &times[step] : NULL);
	bench_destroy(b);
}

static bool two_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

static void measure(uint32_t nr)
{
	/* Too large for the stack. */
	static struct times times[ARRAY_SIZE(ways)][NR_STEPS];
	static struct counts counts[ARRAY_SIZE(ways)][NR_STEPS];
	static struct bench b;

	memset(times, 0, sizeof(times));
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		if (!way_is_possible(&ways[w]))
			continue;
		bench_init(&b, &ways[w], nr, false);
		for (int step = 0; step < NR_STEPS; step++)
			counts[w][step] = count_step(&b, step);
		bench_destroy(&b);
		if (two_cpus())
			time_steps(&b, &ways[w], nr, times[w]);
	}
	for (int step = 0; step < NR_STEPS; step++)
		for (size_t w = 0; w < ARRAY_SIZE(ways); w++)
			if (way_is_possible(&ways[w]))
				print_row(step, &ways[w], nr, &counts[w][step],
					  &times[w][step]);
	fflush(stdout);
}

/* Delete nearly all that is mapped. Prints a row for each way. */
static void measure_most(uint32_t nr, uint32_t nr_pages)
{
	static struct samples delete_ns, read_ns;
	static struct bench b;
	uint64_t start;

	for (size_t w = 0; w < ARRAY_SIZE(most_ways); w++) {
		delete_ns.nr = read_ns.nr = 0;
		bench_init(&b, &most_ways[w], nr, false);
		for (unsigned int round = 0; round <= FULL_ROUNDS; round++) {
			run_step(&b, STEP_PLUG);
			touch_pages(&b, 0, nr, nr_pages);
			touch(&b, nr, KEPT);
			start = now_ns();
			run_step(&b, STEP_UNPLUG);
			if (round)
				samples_add(&delete_ns, now_ns() - start);
			start = now_ns();
			touch(&b, nr, KEPT);
			if (round)
				samples_add(&read_ns, now_ns() - start);
		}
		bench_destroy(&b);
		printf("| %u | %u | %s | %.2f | %.2f |\n", nr, nr * nr_pages,
		       most_ways[w].name, ms(&delete_ns), ms(&read_ns));
	}
	fflush(stdout);
}

static void measure_all_most(uint32_t max)
{
	const struct {
		uint32_t nr;
		uint32_t nr_pages;
	} cases[] = {
		{1, SLOT_SIZE / GUEST_PAGE},
		{FULL, 1},
		{FULL, SLOT_SIZE / GUEST_PAGE},
		{FULL_MANY, SLOT_SIZE / GUEST_PAGE},
		{1024, 1},
	};

	printf("\n| memslots deleted | mapped pages | by | ms | ms to read %u pages that stay |\n"
	       "|---|---|---|---|---|\n",
	       KEPT);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (cases[i].nr <= max)
			measure_most(cases[i].nr, cases[i].nr_pages);
}

int main(int argc, char **argv)
{
	uint32_t counts[] = {1, 64, 1024};
	uint64_t max = counts[ARRAY_SIZE(counts) - 1];
	int opt;

	while ((opt = getopt(argc, argv, "n:")) != -1) {
		max = optarg ? strtoull(optarg, NULL, 0) : 0;
		if (opt == '?' || !max) {
			fprintf(stderr, "usage: guest_bench [-n MAX_SLOTS]\n");
			return 2;
		}
	}
	if (!two_cpus())
		printf("one CPU: no times of a running VM\n");
	tracing_open();
	tracing_watch_batches(false);
	printf("| step | by | memslots | grace periods | zap-alls | flushes | "
	       "refaults outside | ms | longest pause, ms | lost, ms |\n"
	       "|---|---|---|---|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		if (counts[i] <= max)
			measure(counts[i]);
	measure_all_most((uint32_t)max);
	tracing_close();
	return 0;
}
