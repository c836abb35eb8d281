// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Side effects of batches compared with those of KVM's own calls: two VMs
 * undergo the same changes. side_effects.c describes the comparison and its
 * rules.
 *
 * The side effects are those of the following functions of KVM, as read in 6.1,
 * 6.12, 7.2 and 7.3. Review a new kernel against this list.
 *
 *  virt/kvm/kvm_main.c
 *   kvm_set_memory_region()	memslot fields, charges
 *   kvm_set_memslot()		INVALID copies, order of all that follows
 *   kvm_replace_memslot()	id_hash, hva_tree, gfn_tree, last_used_slot
 *   kvm_swap_active_memslots()	generation, grace period, memslots_updated
 *   kvm_prepare_memory_region() dirty bitmap and its initial contents, charges
 *   kvm_commit_memory_region()	nr_memslot_pages, nr_memslots_dirty_logging
 *				before the hook, bitmap freed after it
 *   kvm_invalidate_memslot()	flush_shadow_memslot, guest_memory_reclaimed
 *  arch/x86/kvm/x86.c
 *   kvm_arch_prepare_memory_region() rmap, lpage_info, gfn_track, charges
 *   kvm_arch_memslots_updated() kicks; MMIO entries dropped on generation wrap
 *   kvm_arch_commit_memory_region() page trackers (from 6.5), limit of MMU pages
 *   kvm_mmu_slot_apply_flags()	write protection, dirty bits, split and recovered
 *				huge pages, flushes
 *   kvm_mmu_update_cpu_dirty_logging() requests that switch PML; the count that
 *				decides about them (6.1 has a separate one)
 *   kvm_arch_free_memslot()	the arrays
 *  arch/x86/kvm/mmu
 *   kvm_arch_flush_shadow_memslot(), kvm_mmu_zap_all_fast() requests to drop
 *				roots, flushes
 *   kvm_page_track_flush_slot() page trackers (until 6.4)
 *   kvm_mmu_change_mmu_pages()	the limit, and pages reclaimed for it
 *
 * Not covered here: a change waits for MMU notifiers (race_test).
 *
 * usage: side_effects_test [--seed N] [--steps N]
 *
 * Some cases make random steps and print the seed. The defaults of the options
 * are taken from KVM_VMEM_EFFECTS_SEED and KVM_VMEM_EFFECTS_STEPS.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "batch.h"
#include "cgroup.h"
#include "kernel.h"
#include "options.h"
#include "probe.h"
#include "random.h"
#include "side_effects.h"
#include "tap.h"

#define SEED_ENV  "KVM_VMEM_EFFECTS_SEED"
#define STEPS_ENV "KVM_VMEM_EFFECTS_STEPS"

/* Steps of each random case. */
#define DEFAULT_STEPS 24U

/* Far more than a step takes on any machine: a limit against hangs. */
#define SECONDS_PER_STEP 5U

/* The flag that flips change. */
#define LOG KVM_MEM_LOG_DIRTY_PAGES

static struct options options = {
	.seed_env = SEED_ENV,
	.steps_env = STEPS_ENV,
	.steps = DEFAULT_STEPS,
};

/*
 * Add to the step: create memslots at places [first, end) of an address space.
 */
static void create_range(struct pair *p, unsigned int as, unsigned int first,
			 unsigned int end, uint32_t flags)
{
	unsigned int i;

	for (i = first; i < end; i++)
		pair_create(p, as, i, false, flags);
}

static void delete_range(struct pair *p, unsigned int as, unsigned int first,
			 unsigned int end)
{
	unsigned int i;

	for (i = first; i < end; i++)
		pair_delete(p, as, i, false);
}

/* The steps that every kind of VM undergoes. */
static void fixed_steps(struct pair *p)
{
	tap_context("creates");
	create_range(p, AS_NORMAL, 0, 6, 0);
	pair_apply(p);
	pair_look(p, AS_NORMAL, 2);

	tap_context("creates in both address spaces, some log");
	create_range(p, AS_NORMAL, 6, 8, LOG);
	create_range(p, AS_SMM, 0, 5, LOG);
	create_range(p, AS_SMM, 5, 7, 0);
	pair_apply(p);
	pair_look(p, AS_SMM, 6);

	tap_context("flips off, of all that log");
	create_range(p, AS_NORMAL, 6, 8, 0);
	create_range(p, AS_SMM, 0, 5, 0);
	pair_apply(p);
	pair_look(p, AS_NORMAL, 5);

	tap_context("flips on, with none logging before");
	create_range(p, AS_NORMAL, 0, 4, LOG);
	pair_apply(p);

	tap_context("flips on and off");
	create_range(p, AS_SMM, 0, 3, LOG);
	create_range(p, AS_NORMAL, 0, 4, 0);
	create_range(p, AS_NORMAL, 4, 5, LOG);
	pair_apply(p);
	pair_look(p, AS_SMM, 1);

	tap_context("deletes of memslots with and without logging");
	delete_range(p, AS_SMM, 1, 6);
	delete_range(p, AS_NORMAL, 2, 4);
	pair_apply(p);

	tap_context("everything in one step");
	pair_look(p, AS_NORMAL, 4);
	delete_range(p, AS_NORMAL, 4, 6);
	pair_create(p, AS_NORMAL, 4, true, LOG);
	create_range(p, AS_NORMAL, 0, 2, LOG);
	delete_range(p, AS_SMM, 0, 1);
	create_range(p, AS_SMM, 8, 12, LOG);
	create_range(p, AS_NORMAL, 10, 14, 0);
	pair_delete(p, AS_NORMAL, 6, false);
	pair_apply(p);

	tap_context("deletes of all");
	pair_look(p, AS_NORMAL, 0);
	delete_range(p, AS_NORMAL, 0, 2);
	pair_delete(p, AS_NORMAL, 4, true);
	delete_range(p, AS_NORMAL, 7, 8);
	delete_range(p, AS_NORMAL, 10, 14);
	delete_range(p, AS_SMM, 6, 7);
	delete_range(p, AS_SMM, 8, 12);
	pair_apply(p);
	tap_context("%s", "");
}

static void fixed(const void *arg)
{
	struct pair p;

	pair_init(&p, arg);
	fixed_steps(&p);
	/* Again, in sets that have had memslots. */
	fixed_steps(&p);
	pair_end(&p);
}

/* A VMM begins to migrate a VM, with PML. */
static void pml_is_switched_once(const void *arg)
{
	struct pair p;

	pair_init(&p, arg);
	create_range(&p, AS_NORMAL, 0, 6, 0);
	create_range(&p, AS_SMM, 0, 6, 0);
	pair_apply(&p);

	create_range(&p, AS_NORMAL, 0, 6, LOG);
	create_range(&p, AS_SMM, 0, 6, LOG);
	pair_apply(&p);
	tap_note("on: %u requests by KVM, %u by a batch",
		 side_pml_requests(&p.kvm), side_pml_requests(&p.batch));
	EXPECT_EQ(side_pml_requests(&p.kvm), 1);
	EXPECT_EQ(side_pml_requests(&p.batch), 1);

	create_range(&p, AS_NORMAL, 0, 6, 0);
	create_range(&p, AS_SMM, 0, 6, 0);
	pair_apply(&p);
	tap_note("off: %u requests by KVM, %u by a batch",
		 side_pml_requests(&p.kvm), side_pml_requests(&p.batch));
	EXPECT_EQ(side_pml_requests(&p.kvm), 1);
	EXPECT_EQ(side_pml_requests(&p.batch), 1);
	pair_end(&p);
}

/* The guests write between steps, and the dirty logs are fetched. */
static void logs_are_the_same(const void *arg)
{
	struct pair p;
	unsigned int i, round;

	pair_init(&p, arg);
	create_range(&p, AS_NORMAL, 0, 8, 0);
	create_range(&p, AS_SMM, 0, 4, LOG);
	pair_apply(&p);
	for (round = 0; round < 3; round++) {
		tap_context("round %u", round);
		for (i = 0; i < 8; i++)
			pair_write(&p, AS_NORMAL, i, i + round);
		for (i = 0; i < 4; i++)
			pair_write(&p, AS_SMM, i, i + 2 * round);
		pair_compare_logs(&p);

		/*
		 * The pages are mapped writable before; the flip must
		 * write-protect them.
		 */
		create_range(&p, AS_NORMAL, 0, 8, round % 2 ? 0 : LOG);
		pair_delete(&p, AS_SMM, round, false);
		pair_apply(&p);
		for (i = 0; i < 8; i++)
			pair_write(&p, AS_NORMAL, i, i + round);
		pair_compare_logs(&p);
		/* Fetching the logs has write-protected the pages again. */
		for (i = 0; i < 8; i++)
			pair_write(&p, AS_NORMAL, i, i + round);
		pair_compare_logs(&p);
		pair_compare_state(&p);
	}
	pair_end(&p);
}

static void refused_leaves_no_trace(const void *arg)
{
	struct pair p;

	pair_init(&p, arg);
	create_range(&p, AS_NORMAL, 0, 4, LOG);
	create_range(&p, AS_SMM, 0, 2, 0);
	pair_apply(&p);
	pair_look(&p, AS_NORMAL, 1);

	tap_context("a create over an existing memslot");
	pair_delete(&p, AS_NORMAL, 0, false);
	create_range(&p, AS_SMM, 0, 2, LOG);
	pair_create(&p, AS_NORMAL, 1, true, 0);
	pair_refuse(&p, EEXIST);

	tap_context("a delete of an unused id");
	pair_delete(&p, AS_NORMAL, 0, false);
	create_range(&p, AS_NORMAL, 4, 6, LOG);
	pair_delete(&p, AS_NORMAL, 9, false);
	pair_refuse(&p, EINVAL);

	tap_context("no memory for the third create");
	delete_range(&p, AS_NORMAL, 0, 2);
	create_range(&p, AS_NORMAL, 4, 8, LOG);
	create_range(&p, AS_SMM, 0, 2, LOG);
	pair_fail(&p, PROBE_CREATE, 2, false);

	tap_context("no memory for a flip, after deletes");
	delete_range(&p, AS_NORMAL, 0, 2);
	create_range(&p, AS_NORMAL, 4, 8, LOG);
	create_range(&p, AS_SMM, 0, 2, LOG);
	pair_fail(&p, PROBE_FLAGS_ONLY, 1, true);

	tap_context("no memory for a flip, without deletes");
	create_range(&p, AS_NORMAL, 4, 8, LOG);
	create_range(&p, AS_SMM, 0, 2, LOG);
	pair_fail(&p, PROBE_FLAGS_ONLY, 1, false);

	tap_context("the step without a failure");
	delete_range(&p, AS_NORMAL, 0, 2);
	create_range(&p, AS_NORMAL, 4, 8, LOG);
	create_range(&p, AS_SMM, 0, 2, LOG);
	pair_apply(&p);
	pair_end(&p);
}

/* What KVM and the cgroup's counters keep for other reasons. */
#define NOISE MIB(2)

/* KVM refuses the second create. The metadata of the first is large. */
static void refused_creates_are_freed(const void *arg)
{
	const uint64_t size = kvm_tdp_mmu() ? GIB(128) : GIB(4);
	const unsigned int rounds = 20;
	struct batch batch;
	uint64_t before;
	int dev, probe;
	unsigned int i;
	struct vm vm;
	void *hva;

	(void)arg;
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	vm_need_gpa(&vm, 2 * size + GUEST_PAGE);
	probe = probe_watch(&vm);
	hva = mmap(NULL, size, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_TRUE(hva != MAP_FAILED);
	batch_init(&batch);
	batch_set(&batch, 1, 0, size, size, hva);
	batch_set(&batch, 2, 0, 2 * size, GUEST_PAGE, hva);
	before = cgroup_current();
	for (i = 0; i < rounds; i++) {
		probe_fail(probe, PROBE_CREATE, 1, ENOMEM);
		EXPECT_ERR(batch_apply(dev, &vm, &batch), ENOMEM);
	}
	tap_note("%lld KiB charged",
		 (long long)(cgroup_current() - before) / 1024);
	EXPECT_LE(cgroup_current(), before + NOISE);
	cgroup_leave();
}

/* Places so far apart that each needs its own shadow pages. */
#define SPREAD_NR     48U
#define SPREAD_GPA    GIB(8)
#define SPREAD_ID     2000U
#define LARGE_GPA     GIB(4)
#define LARGE_ID      3000U
#define LARGE_SIZE    GIB(1)
#define MIN_MMU_PAGES 64U

static void spread_gpa(struct pair *p, uint32_t slot, uint64_t gpa,
		       uint64_t size)
{
	batch_set(&p->step, slot, 0, gpa, size, p->mem.hva);
}

/*
 * A step reduces the limit of shadow pages and raises it again. In between, KVM
 * frees the shadow pages above the lower limit; a batch must do so, too.
 */
static void limit_takes_shadow_pages(const void *arg)
{
	struct pair p;
	unsigned int i;

	pair_init(&p, arg);
	spread_gpa(&p, LARGE_ID, LARGE_GPA, LARGE_SIZE);
	for (i = 0; i < SPREAD_NR; i++)
		spread_gpa(&p, SPREAD_ID + i, SPREAD_GPA + i * GIB(1),
			   GUEST_PAGE);
	pair_apply(&p);
	for (i = 0; i < SPREAD_NR; i++) {
		const uint64_t gpa = SPREAD_GPA + i * GIB(1);

		EXPECT_EQ(guest_write(&p.kvm.vcpu, gpa, i), GUEST_MEMORY);
		EXPECT_EQ(guest_write(&p.batch.vcpu, gpa, i), GUEST_MEMORY);
	}
	pair_compare_state(&p);
	if (p.kvm.after.used_mmu_pages <= MIN_MMU_PAGES)
		tap_skip("this MMU uses only %" PRIu64 " shadow pages",
			 (uint64_t)p.kvm.after.used_mmu_pages);

	batch_delete(&p.step, LARGE_ID);
	spread_gpa(&p, LARGE_ID + 1, LARGE_GPA, LARGE_SIZE);
	pair_apply(&p);
	tap_note("%" PRIu64 " shadow pages are left",
		 (uint64_t)p.kvm.after.used_mmu_pages);
	EXPECT_LE(p.kvm.after.used_mmu_pages, MIN_MMU_PAGES);
	pair_end(&p);
}

/* State of a place in the random sequence. */
struct place {
	bool there, twin;
	uint32_t flags;
};

struct sequence {
	uint64_t random;
	struct place places[2][PAIR_NR_SLOTS];
	uint32_t changes, creates, deletes, flips;
};

static void random_change(struct pair *p, struct sequence *s, unsigned int as,
			  unsigned int i)
{
	struct place *at = &s->places[as][i];
	const uint32_t flags = random_below(&s->random, 2) ? LOG : 0;
	const bool twin = random_below(&s->random, 2);

	s->changes++;
	if (!at->there) {
		s->creates++;
		pair_create(p, as, i, twin, flags);
		*at = (struct place){true, twin, flags};
		return;
	}
	switch (random_below(&s->random, 3)) {
	case 0:
		s->deletes++;
		pair_delete(p, as, i, at->twin);
		at->there = false;
		break;
	case 1:
		/* Another memslot replaces it. */
		s->deletes++;
		s->creates++;
		pair_delete(p, as, i, at->twin);
		pair_create(p, as, i, !at->twin, flags);
		*at = (struct place){true, !at->twin, flags};
		break;
	default:
		/* Possibly an entry without change. */
		s->flips += flags != at->flags;
		pair_flip(p, as, i, at->twin, flags);
		at->flags = flags;
		break;
	}
}

/*
 * Choose places of both address spaces, in random order, each with a
 * probability.
 */
static void random_step(struct pair *p, struct sequence *s)
{
	const uint32_t chance = 1 + random_below(&s->random, 8);
	unsigned int order[2 * PAIR_NR_SLOTS], i;

	s->changes = s->creates = s->deletes = s->flips = 0;
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		const uint32_t j = random_below(&s->random, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (i = 0; i < ARRAY_SIZE(order); i++)
		if (random_below(&s->random, 10) < chance)
			random_change(p, s, order[i] % 2, order[i] / 2);
}

static void random_writes(struct pair *p, struct sequence *s)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		pair_write(p, random_below(&s->random, 2),
			   random_below(&s->random, PAIR_NR_SLOTS),
			   random_below(&s->random, PAIR_SLOT_PAGES));
	pair_compare_logs(p);
}

/* Let the prepared step fail in one of several ways, and clear it. */
static bool random_refusal(struct pair *p, struct sequence *s)
{
	switch (random_below(&s->random, 4)) {
	case 0:
		batch_delete(&p->step, SLOT(AS_NORMAL, LARGE_ID));
		pair_refuse(p, EINVAL);
		return true;
	case 1:
		if (!s->creates)
			return false;
		pair_fail(p, PROBE_CREATE, random_below(&s->random, s->creates),
			  false);
		return true;
	case 2:
		if (!s->flips)
			return false;
		pair_fail(p, PROBE_FLAGS_ONLY,
			  random_below(&s->random, s->flips), s->deletes);
		return true;
	default:
		return false;
	}
}

static void random_steps(const void *arg)
{
	const struct pair_options *of = arg;
	struct sequence s = {.random = options.seed}, before;
	struct pair p;
	uint64_t i;

	tap_note("--seed %" PRIu64 " --steps %" PRIu64, options.seed,
		 options.steps);
	pair_init(&p, of);
	for (i = 0; i < options.steps; i++) {
		tap_context("step %" PRIu64, i);
		pair_look(&p, random_below(&s.random, 2),
			  random_below(&s.random, PAIR_NR_SLOTS));
		before = s;
		random_step(&p, &s);
		if (!random_below(&s.random, 4) && random_refusal(&p, &s)) {
			before.random = s.random;
			s = before;
			continue;
		}
		if (!s.changes)
			continue;
		tap_context("step %" PRIu64
			    ", %u creates, %u deletes, %u flips",
			    i, s.creates, s.deletes, s.flips);
		pair_apply(&p);
		if (of->vcpu)
			random_writes(&p, &s);
	}
	pair_end(&p);
}

int main(int argc, char **argv)
{
	static const struct pair_options
		plain = {0},
		pml = {.pml = true}, tracker = {.tracker = true},
		set = {.log = PAIR_LOG_INITIALLY_SET},
		pml_set = {.log = PAIR_LOG_INITIALLY_SET, .pml = true},
		zap = {.zap_slots = true}, ring = {.log = PAIR_LOG_RING},
		run = {.vcpu = true},
		run_manual = {.vcpu = true, .log = PAIR_LOG_MANUAL},
		run_set = {.vcpu = true, .log = PAIR_LOG_INITIALLY_SET},
		run_ring = {.vcpu = true, .log = PAIR_LOG_RING},
		run_zap = {.vcpu = true, .zap_slots = true};
	static struct tap_case cases[] = {
		{.name = "a VM", .run = fixed, .arg = &plain},
		{.name = "PML", .run = fixed, .arg = &pml},
		{.name = "PML is switched once for a batch",
		 .run = pml_is_switched_once,
		 .arg = &pml},
		{.name = "PML, with all pages dirty at first",
		 .run = fixed,
		 .arg = &pml_set},
		{.name = "all pages dirty at first", .run = fixed, .arg = &set},
		{.name = "a page tracker", .run = fixed, .arg = &tracker},
		{.name = "a dirty ring", .run = fixed, .arg = &ring},
		{.name = "only deleted memslots are zapped",
		 .run = fixed,
		 .arg = &zap},
		{.name = "a vCPU", .run = fixed, .arg = &run},
		{.name = "refused and undone batches",
		 .run = refused_leaves_no_trace,
		 .arg = &plain},
		{.name = "refused and undone batches, with PML",
		 .run = refused_leaves_no_trace,
		 .arg = &pml},
		{.name = "creates that KVM refuses are freed",
		 .run = refused_creates_are_freed},
		{.name = "a lower limit in between frees shadow pages",
		 .run = limit_takes_shadow_pages,
		 .arg = &run_zap},
		{.name = "the dirty log",
		 .run = logs_are_the_same,
		 .arg = &run},
		{.name = "the dirty log, cleared by KVM_CLEAR_DIRTY_LOG",
		 .run = logs_are_the_same,
		 .arg = &run_manual},
		{.name = "the dirty log, with all pages dirty at first",
		 .run = logs_are_the_same,
		 .arg = &run_set},
		{.name = "the dirty log in a ring",
		 .run = logs_are_the_same,
		 .arg = &run_ring},
		{.name = "the dirty log, only deleted memslots are zapped",
		 .run = logs_are_the_same,
		 .arg = &run_zap},
		{.name = "random steps", .run = random_steps, .arg = &plain},
		{.name = "random steps with PML",
		 .run = random_steps,
		 .arg = &pml},
		{.name = "random steps with a page tracker",
		 .run = random_steps,
		 .arg = &tracker},
		{.name = "random steps with a writing vCPU",
		 .run = random_steps,
		 .arg = &run},
	};
	unsigned int i;
	int status;

	if (!options_parse(&options, argc, argv) || !options.steps ||
	    options.steps > UINT32_MAX / SECONDS_PER_STEP) {
		fprintf(stderr, "usage: %s [--seed N] [--steps N]\n", argv[0]);
		return 2;
	}
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		if (cases[i].run == random_steps)
			cases[i].timeout_s =
				TAP_DEFAULT_TIMEOUT_S +
				(unsigned int)options.steps * SECONDS_PER_STEP;
	probe_module_load();
	status = tap_run(cases, ARRAY_SIZE(cases));
	probe_module_unload();
	return status;
}
