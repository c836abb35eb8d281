// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A sequence of random batches and calls of KVM, valid or invalid. After each,
 * the result is compared with a model: the errno, the entry reported as bad,
 * and KVM's memslots. The test examines the memslots through KVM only: vCPU
 * accesses in both address spaces, dirty logs, the ids in use, and KVM's count
 * of pages.
 *
 * usage: model_test [--seed N] [--steps N]
 *
 * All randomness comes from the seed, which is printed, and from the model's
 * state, so the same seed and steps make the same sequence. The defaults of the
 * options are taken from KVM_VMEM_MODEL_SEED and KVM_VMEM_MODEL_STEPS.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "memslot_model.h"
#include "options.h"
#include "random.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define SEED_ENV  "KVM_VMEM_MODEL_SEED"
#define STEPS_ENV "KVM_VMEM_MODEL_STEPS"

/* For a short run; long runs make 100,000 steps and more. */
#define DEFAULT_STEPS 2000U

/* Far more than a step takes on any machine: a limit against hangs. */
#define SECONDS_PER_STEP 2U

/* Steps until a new VM, and until the next check of all memslots. */
#define STEPS_PER_VM   256U
#define STEPS_PER_LOOK 64U

/*
 * A sequence may become this many times longer than requested, to reach all
 * counts.
 */
#define MOST_TIMES 4U

/* Checks after each step. */
#define PROBES_PER_STEP 4U
#define LOGS_PER_STEP	2U
#define IDS_PER_STEP	2U
#define NAMED_PER_STEP	4U

/* Ids at both ends of KVM's range. 0 is free once the boot memory has moved. */
static const uint16_t ids[] = {
	0,     1,     2,     3,	    4,	   5,	  6,	 7,	8,     9,
	32755, 32756, 32757, 32758, 32759, 32760, 32761, 32762, 32763,
};

static const uint16_t bad_ids[] = {32764, 32765, 32766, 0x8000, 0xffff};

/* Location of most memslots, so dense that they conflict. */
#define ARENA_GPA	GIB(1)
#define ARENA_PAGES	48U
#define ARENA_MAX_PAGES 8U

/* Just after the boot memory, and across its end. */
#define LOW_GPA	  (VM_BOOT_SIZE - 2 * GUEST_PAGE)
#define LOW_PAGES 8U

/* Memslots large enough to change KVM's limit of MMU pages. */
#define LARGE_GPA   GIB(4)
#define LARGE_UNIT  MIB(2)
#define LARGE_UNITS 24U
#define LARGE_MAX   8U

/* The end of the guest addresses that KVM accepts, and beyond. */
#define TOP_PAGES 8U

/* An address that never has memory. */
#define NOWHERE_GPA GIB(3)

/* Many memslots of one page each, with ids from CROWD_ID. */
#define CROWD_GPA GIB(8)
#define CROWD_ID  1000U
#define CROWD_MAX 512U
/*
 * A check of all memslots includes this fraction of them, other ones each time.
 */
#define CROWD_SHARE 8U

/*
 * Backing of all memslots. They begin at any page of it, so some pages belong
 * to two memslots. The slack allows a large memslot that begins at the last
 * page, and is a few pages longer than usual.
 */
#define MEM_SIZE  (LARGE_MAX * LARGE_UNIT)
#define MEM_SLACK (64 * GUEST_PAGE)

/* An address in the kernel's half, and one that no paging mode has. */
#define KERNEL_HVA	  0xffff888000000000ULL
#define NON_CANONICAL_HVA (1ULL << 63)
/* For VALIDATE_ONLY of the largest memslot. */
#define HUGE_GPA TIB(16)
#define HUGE_HVA TIB(1)

/* An address that is not mapped in this process. */
#define UNMAPPED ((void *)GUEST_PAGE)

/* Bytes of a vCPU's dirty ring: 4096 entries, more than any step fills. */
#define RING_SIZE KIB(64)

/* Newer than the oldest kernel headers that this builds with. */
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif

/*
 * KVM's default limit of MMU pages: a 50th of the guest's pages, at least 64.
 */
#define PAGES_PER_MMU_PAGE 50U
#define MIN_MMU_PAGES	   64U

/* How the VM keeps its dirty log. */
enum log_kind {
	LOG_PLAIN,
	LOG_MANUAL, /* cleared by KVM_CLEAR_DIRTY_LOG */
	LOG_INITIALLY_SET, /* manual, and all pages are dirty at first */
	LOG_RING,
	NR_LOG_KINDS,
};

/* Counts of operations, to detect a run that tests too little. */
enum count {
	COUNT_BATCHES,
	COUNT_CREATES,
	COUNT_DELETES,
	COUNT_FLIPS,
	COUNT_REFUSED_EINVAL,
	COUNT_REFUSED_EEXIST,
	COUNT_REFUSED_OTHER,
	COUNT_VALIDATED,
	COUNT_CALLS,
	COUNT_MOVES,
	COUNT_CALLS_REFUSED,
	COUNT_PROBES_MEMORY,
	COUNT_PROBES_MMIO,
	COUNT_PROBES_READONLY,
	COUNT_LOGS,
	COUNT_DIRTY_PAGES,
	NR_COUNTS,
};

static const char *const count_names[] = {
	"batches applied",
	"creates",
	"deletes",
	"flips",
	"batches refused EINVAL",
	"EEXIST",
	"otherwise",
	"batches validated",
	"KVM calls applied",
	"moves",
	"refused",
	"probes of memory",
	"of no memory",
	"of read-only memory",
	"dirty logs read",
	"dirty pages seen",
};

/**
 * struct sequence - parameters of a case
 * @seed: seed of all cases
 * @steps: number of steps of this case
 */
struct sequence {
	uint64_t seed;
	uint32_t steps;
};

static struct sequence sequence;

/**
 * struct test - state of a running case
 * @kind: kind of dirty log
 * @rng: state of the random number generator
 * @step: current step, from 0
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @vcpu: its vCPU
 * @shown: guest addresses that the vCPU's windows map, by address space
 * @ring: its dirty ring, with LOG_RING
 * @ring_next: first entry not yet harvested
 * @mem: backing of the memslots
 * @gpa_limit: KVM refuses memslots that reach beyond this guest address
 * @guest_limit: first address that the guest cannot access
 * @model: the memslots that the VM should have
 * @batch: entries of this step
 * @what: describes the operation of this step
 * @counts: see enum count
 */
struct test {
	enum log_kind kind;
	uint64_t rng;
	uint32_t step;
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	uint64_t shown[MODEL_NR_AS];
	struct kvm_dirty_gfn *ring;
	uint32_t ring_next;
	struct backing mem;
	uint64_t gpa_limit;
	uint64_t guest_limit;
	struct memslot_model *model;
	struct batch batch;
	const char *what;
	uint64_t counts[NR_COUNTS];
};

static uint32_t below(struct test *t, uint32_t limit)
{
	return random_below(&t->rng, limit);
}

static bool one_in(struct test *t, uint32_t n)
{
	return !below(t, n);
}

/* Print a host address in a form that is the same in each run. */
static const char *show_hva(const struct test *t, uint64_t hva, char *buf,
			    size_t len)
{
	const uint64_t mem = (uintptr_t)t->mem.hva;
	const uint64_t boot = (uintptr_t)t->vm.boot_hva;

	if (hva >= mem && hva - mem <= t->mem.size)
		snprintf(buf, len, "mem+%#" PRIx64, hva - mem);
	else if (hva >= boot && hva - boot <= VM_BOOT_SIZE)
		snprintf(buf, len, "boot+%#" PRIx64, hva - boot);
	else
		snprintf(buf, len, "%#" PRIx64, hva);
	return buf;
}

static void show_mem(const struct test *t, const char *what, uint32_t i,
		     const struct kvm_userspace_memory_region *mem)
{
	char hva[32];

	tap_note("  %s %u: slot %#x, flags %#x, gpa %#llx, size %#llx, hva %s",
		 what, i, mem->slot, mem->flags,
		 (unsigned long long)mem->guest_phys_addr,
		 (unsigned long long)mem->memory_size,
		 show_hva(t, mem->userspace_addr, hva, sizeof(hva)));
}

/* Report the mismatch, the state, and how to reproduce it, and fail. */
static void __attribute__((noreturn, format(printf, 2, 3)))
mismatch(struct test *t, const char *fmt, ...)
{
	char text[160];
	va_list ap;
	uint32_t i;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tap_fail(__FILE__, __LINE__, "step %u, %s: %s", t->step, t->what, text);
	tap_note("to see it again: --seed %" PRIu64 " --steps %u",
		 sequence.seed, sequence.steps * NR_LOG_KINDS);
	for (i = 0; i < t->batch.nr; i++)
		show_mem(t, "entry", i, &t->batch.entries[i]);
	tap_note("memslots by the model:");
	for (i = 0; i < t->model->nr; i++)
		show_mem(t, "memslot", i, &t->model->slots[i]->mem);
	tap_abort();
}

static bool is_boot(const struct test *t, const struct memslot *s)
{
	return s && s->mem.userspace_addr == (uintptr_t)t->vm.boot_hva;
}

/* Guest accesses. */

/* The vCPU has accessed an address; KVM may have mapped its page writable. */
static void touched(struct test *t, unsigned int as, uint64_t gpa, bool write)
{
	struct memslot *s = model_at(t->model, as, gpa);

	if (s)
		memslot_touch(s, (gpa - s->mem.guest_phys_addr) / GUEST_PAGE,
			      write);
}

/*
 * With shadow paging, KVM may read the guest's whole page table at any time,
 * and map the pages in its windows without an access.
 */
static void touch_windows(struct test *t)
{
	unsigned int as, window;

	for (window = AS_NORMAL; window <= AS_SMM; window++)
		for (as = AS_NORMAL; as <= AS_SMM; as++)
			touched(t, as, t->shown[window], false);
}

static void expect_no_memory(struct test *t, uint64_t gpa)
{
	uint64_t value;

	t->counts[COUNT_PROBES_MMIO]++;
	if (guest_read(&t->vcpu, gpa, &value) != GUEST_MMIO)
		mismatch(t,
			 "as %u, gpa %#" PRIx64 ": memory, %#" PRIx64
			 ", where none is expected",
			 t->vcpu.as, gpa, value);
	if (guest_write(&t->vcpu, gpa, ~gpa) != GUEST_MMIO)
		mismatch(t, "as %u, gpa %#" PRIx64 ": can be written",
			 t->vcpu.as, gpa);
}

static void expect_memory(struct test *t, const struct memslot *s, uint64_t gpa)
{
	volatile uint64_t *host =
		(void *)(uintptr_t)(s->mem.userspace_addr + gpa -
				    s->mem.guest_phys_addr);
	const bool readonly = s->mem.flags & KVM_MEM_READONLY;
	/* Not random: a value that depends on step and address. */
	const uint64_t from_host = ((uint64_t)t->step << 32 | 1) ^ gpa << 8;
	const uint64_t from_guest = ~from_host;
	enum guest_access wrote;
	uint64_t value;

	t->counts[readonly ? COUNT_PROBES_READONLY : COUNT_PROBES_MEMORY]++;
	*host = from_host;
	if (guest_read(&t->vcpu, gpa, &value) != GUEST_MEMORY)
		mismatch(t, "as %u, gpa %#" PRIx64 ": no memory, not slot %#x",
			 t->vcpu.as, gpa, s->mem.slot);
	if (value != from_host)
		mismatch(t,
			 "as %u, gpa %#" PRIx64
			 ": other memory than slot %#x's",
			 t->vcpu.as, gpa, s->mem.slot);
	wrote = guest_write(&t->vcpu, gpa, from_guest);
	if (wrote != (readonly ? GUEST_MMIO : GUEST_MEMORY))
		mismatch(t, "as %u, gpa %#" PRIx64 ": a write %s, slot %#x",
			 t->vcpu.as, gpa,
			 readonly ? "is not refused" : "finds no memory",
			 s->mem.slot);
	if (*host != (readonly ? from_host : from_guest))
		mismatch(t,
			 "as %u, gpa %#" PRIx64 ": a write went elsewhere "
			 "than slot %#x",
			 t->vcpu.as, gpa, s->mem.slot);
	touched(t, t->vcpu.as, gpa, !readonly);
	touch_windows(t);
}

/* Check the page at @gpa in the vCPU's current address space. */
static void probe(struct test *t, uint64_t gpa)
{
	const struct memslot *s;

	gpa &= -GUEST_PAGE;
	/* Beyond the guest's addresses, or memory that the vCPU runs in. */
	if (gpa >= t->guest_limit || gpa < VM_BOOT_SIZE)
		return;
	/* The first or the last word of the page, alternating. */
	if ((gpa / GUEST_PAGE + t->step) % 2)
		gpa += GUEST_PAGE - sizeof(uint64_t);
	t->shown[t->vcpu.as] = gpa;
	s = model_at(t->model, t->vcpu.as, gpa);
	if (s)
		expect_memory(t, s, gpa);
	else
		expect_no_memory(t, gpa);
}

/*
 * Dirty logs.
 */

static uint64_t count_bits(const uint64_t *words, uint64_t nr)
{
	uint64_t i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += (uint64_t)__builtin_popcountll(words[i]);
	return sum;
}

/* Compare a log with the model. The pages that it reports are clean then. */
static void compare_log(struct test *t, struct memslot *s, const uint64_t *log)
{
	const uint64_t words = memslot_log_words(s);
	uint64_t i;

	for (i = 0; i < words; i++) {
		if (s->must[i] & ~log[i])
			mismatch(t,
				 "slot %#x: writes not in the log, "
				 "word %" PRIu64 ": %#" PRIx64 " of %#" PRIx64,
				 s->mem.slot, i, log[i], s->must[i]);
		if (log[i] & ~s->may[i])
			mismatch(
				t,
				"slot %#x: the log has a page that was not accessed,"
				" word %" PRIu64 ": %#" PRIx64 " of %#" PRIx64,
				s->mem.slot, i, log[i], s->may[i]);
	}
	t->counts[COUNT_DIRTY_PAGES] += count_bits(log, words);
}

static void log_is_clean(struct test *t, struct memslot *s)
{
	memset(s->must, 0, memslot_log_words(s) * sizeof(*s->must));
	memset(s->may, 0, memslot_log_words(s) * sizeof(*s->may));
	touch_windows(t);
}

static void clear_log(struct test *t, struct memslot *s)
{
	struct kvm_clear_dirty_log clear = {
		.slot = s->mem.slot,
		.num_pages = (uint32_t)memslot_pages(s),
	};
	const uint64_t words = memslot_log_words(s);
	uint64_t *all = malloc(words * sizeof(*all));

	ASSERT_TRUE(all);
	memset(all, 0xff, words * sizeof(*all));
	clear.dirty_bitmap = all;
	if (ioctl(t->vm.fd, KVM_CLEAR_DIRTY_LOG, &clear))
		mismatch(t, "slot %#x: its log cannot be cleared: %s",
			 s->mem.slot, strerrorname_np(errno));
	free(all);
	log_is_clean(t, s);
}

/* KVM_GET_DIRTY_LOG of an id, used or not. */
static void look_at_log(struct test *t, uint32_t slot)
{
	struct memslot *s = model_find(t->model, slot);
	const bool logs = s && s->mem.flags & KVM_MEM_LOG_DIRTY_PAGES;
	const uint64_t words = logs ? memslot_log_words(s) : 0;
	char got_str[TAP_STRERROR_LEN], want_str[TAP_STRERROR_LEN];
	/* Large enough for the log of a memslot that should not exist. */
	uint64_t *log = calloc(1, 2 * MEM_SIZE / GUEST_PAGE / 8);
	int want = logs ? 0 : -ENOENT;
	int r;

	ASSERT_TRUE(log);
	if (t->kind == LOG_RING)
		want = -ENXIO;
	r = vm_dirty_log(&t->vm, slot, log);
	if (r != want)
		mismatch(t, "KVM_GET_DIRTY_LOG of slot %#x: %s, expected %s",
			 slot, tap_strerror(r, got_str, sizeof(got_str)),
			 tap_strerror(want, want_str, sizeof(want_str)));
	if (!r) {
		t->counts[COUNT_LOGS]++;
		compare_log(t, s, log);
		if (t->kind == LOG_PLAIN)
			log_is_clean(t, s);
		else if (words && one_in(t, 2))
			clear_log(t, s);
	}
	free(log);
}

/* A ring entry must be of an accessed page, which is not due any more. */
static void harvest_entry(struct test *t, const struct kvm_dirty_gfn *e)
{
	const uint64_t bit = 1ULL << e->offset % 64;
	struct memslot *s = model_find(t->model, e->slot);

	if (!s || !s->must || e->offset >= memslot_pages(s) ||
	    !(s->may[e->offset / 64] & bit))
		mismatch(
			t,
			"the ring has page %llu of slot %#x, which was not accessed",
			(unsigned long long)e->offset, e->slot);
	s->must[e->offset / 64] &= ~bit;
	t->counts[COUNT_DIRTY_PAGES]++;
}

static void harvest_ring(struct test *t)
{
	const uint32_t entries = RING_SIZE / sizeof(struct kvm_dirty_gfn);
	uint32_t i, nr = 0;

	for (;; nr++, t->ring_next++) {
		struct kvm_dirty_gfn *e = &t->ring[t->ring_next % entries];

		if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) &
		      KVM_DIRTY_GFN_F_DIRTY))
			break;
		harvest_entry(t, e);
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET,
				 __ATOMIC_RELEASE);
	}
	if (ioctl(t->vm.fd, KVM_RESET_DIRTY_RINGS, 0) != (int)nr)
		mismatch(t, "not all %u entries of the ring were reset", nr);
	t->counts[COUNT_LOGS]++;
	for (i = 0; i < t->model->nr; i++) {
		struct memslot *s = t->model->slots[i];

		if (!s->must)
			continue;
		if (count_bits(s->must, memslot_log_words(s)))
			mismatch(t, "slot %#x: writes not in the ring",
				 s->mem.slot);
		memset(s->may, 0, memslot_log_words(s) * sizeof(*s->may));
	}
	touch_windows(t);
}

/* Other information that KVM gives about its memslots. */

static void expect_id(struct test *t, uint32_t slot)
{
	const struct memslot *s = model_find(t->model, slot);
	struct kvm_userspace_memory_region same;

	if (vm_slot_exists(&t->vm, slot) != !!s)
		mismatch(t, "KVM %s slot %#x", s ? "lacks" : "has", slot);
	look_at_log(t, slot);
	if (!s)
		return;
	/* KVM refuses this call if the host address or the size differ. */
	same = s->mem;
	if (ioctl(t->vm.fd, KVM_SET_USER_MEMORY_REGION, &same))
		mismatch(t, "slot %#x has another host address or size", slot);
}

/* KVM's count of pages determines its limit of MMU pages. */
static void expect_page_count(struct test *t)
{
	int got = ioctl(t->vm.fd, KVM_GET_NR_MMU_PAGES, 0);
	int want = (int)(t->model->pages / PAGES_PER_MMU_PAGE);

	/* Kernels after 6.1 do not report the limit. */
	if (got < 0)
		return;
	if (want < (int)MIN_MMU_PAGES)
		want = MIN_MMU_PAGES;
	if (got != want)
		mismatch(t, "KVM allows %d MMU pages, expected %d", got, want);
}

/*
 * KVM caches for each vCPU the last page found without memory, until the
 * memslots change. KVM of 6.12 (unlike 6.1 and 7.3) compares the generation of
 * the normal address space even in SMM. It then uses an entry of the other
 * address space, or one from before a change of SMM's memslots alone. Let it
 * cache a page that never has memory in either address space.
 */
static void remember_nowhere(struct test *t)
{
	uint64_t value;

	if (guest_read(&t->vcpu, NOWHERE_GPA, &value) != GUEST_MMIO)
		mismatch(t, "memory where there never is any");
	t->shown[t->vcpu.as] = NOWHERE_GPA;
}

static void set_as(struct test *t, unsigned int as)
{
	if (t->vcpu.as == as)
		return;
	remember_nowhere(t);
	vcpu_set_smm(&t->vcpu, as == AS_SMM);
}

/* Does this check of all memslots include a memslot? */
static bool is_due(const struct test *t, uint32_t i)
{
	const uint32_t id = t->model->slots[i]->mem.slot & 0xffff;

	return id < CROWD_ID || id >= CROWD_ID + CROWD_MAX ||
	       (t->step / STEPS_PER_LOOK + id) % CROWD_SHARE == 0;
}

/* Check all memslots, in both address spaces. */
static void look_at_all(struct test *t)
{
	unsigned int as, i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		expect_id(t, SLOT(AS_NORMAL, ids[i]));
		expect_id(t, SLOT(AS_SMM, ids[i]));
	}
	for (i = 0; i < t->model->nr; i++)
		if (is_due(t, i))
			expect_id(t, t->model->slots[i]->mem.slot);
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		set_as(t, as);
		for (i = 0; i < ARENA_PAGES + ARENA_MAX_PAGES; i++)
			probe(t, ARENA_GPA + i * GUEST_PAGE);
		for (i = 0; i < LOW_PAGES + ARENA_MAX_PAGES; i++)
			probe(t, LOW_GPA + i * GUEST_PAGE);
		for (i = 0; i < TOP_PAGES; i++)
			probe(t, t->gpa_limit - i * GUEST_PAGE - 1);
		for (i = 0; i < LARGE_UNITS + LARGE_MAX; i++) {
			probe(t, LARGE_GPA + i * LARGE_UNIT);
			probe(t, LARGE_GPA + i * LARGE_UNIT - 1);
		}
		for (i = 0; i < t->model->nr; i++) {
			const struct kvm_userspace_memory_region *mem =
				&t->model->slots[i]->mem;

			if (mem->slot >> 16 == as && is_due(t, i)) {
				probe(t, mem->guest_phys_addr);
				probe(t, mem->guest_phys_addr +
						 mem->memory_size - 1);
			}
		}
		if (t->kind == LOG_RING)
			harvest_ring(t);
	}
	expect_page_count(t);
}

/*
 * Access the first page of each memslot that the batch names, before and after
 * it: KVM's mapping from before must not survive the change.
 */
static void probe_named(struct test *t)
{
	uint32_t i;

	for (i = 0; i < t->batch.nr && i < NAMED_PER_STEP; i++) {
		const uint32_t slot = t->batch.entries[i].slot;
		const struct memslot *s = model_find(t->model, slot);

		if (!s || slot >> 16 != t->vcpu.as)
			continue;
		probe(t, s->mem.guest_phys_addr);
		look_at_log(t, slot);
	}
	if (t->kind == LOG_RING)
		harvest_ring(t);
}

/* Accesses before memslots change. */
static void look_before(struct test *t)
{
	probe_named(t);
	if (t->vcpu.as == AS_SMM)
		remember_nowhere(t);
}

/* Check some memslots, mainly those of this step. */
static void look_at_some(struct test *t)
{
	uint32_t i;

	probe_named(t);
	if (one_in(t, 2))
		set_as(t, t->vcpu.as ^ 1);
	for (i = 0; i < PROBES_PER_STEP; i++) {
		const struct kvm_userspace_memory_region *mem;
		uint64_t gpa = ARENA_GPA + below(t, ARENA_PAGES) * GUEST_PAGE;

		if (t->batch.nr && i) {
			mem = &t->batch.entries[below(t, t->batch.nr)];
			gpa = mem->guest_phys_addr;
			/* The first page, the last, or the one after. */
			if (i == 2)
				gpa += mem->memory_size - 1;
			else if (i == 3)
				gpa += mem->memory_size;
		}
		probe(t, gpa);
	}
	for (i = 0; i < LOGS_PER_STEP && t->model->nr; i++)
		look_at_log(t,
			    t->model->slots[below(t, t->model->nr)]->mem.slot);
	for (i = 0; i < IDS_PER_STEP; i++)
		expect_id(t, SLOT(below(t, 2), ids[below(t, ARRAY_SIZE(ids))]));
	if (t->kind == LOG_RING)
		harvest_ring(t);
	expect_page_count(t);
}

/* Choose the next operation. */

static void add(struct test *t, const struct kvm_userspace_memory_region *mem)
{
	batch_set(&t->batch, mem->slot, mem->flags, mem->guest_phys_addr,
		  mem->memory_size, (void *)(uintptr_t)mem->userspace_addr);
}

static bool has_id(const struct test *t, uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < t->batch.nr; i++)
		if (t->batch.entries[i].slot == slot)
			return true;
	return false;
}

/* Find an id that is neither used nor in the batch. */
static bool free_id(struct test *t, unsigned int as, uint32_t *slot)
{
	unsigned int try;

	for (try = 0; try < 8; try++) {
		*slot = SLOT(as, ids[below(t, ARRAY_SIZE(ids))]);
		if (!model_find(t->model, *slot) && !has_id(t, *slot))
			return true;
	}
	return false;
}

static uint32_t random_flags(struct test *t)
{
	return (below(t, 5) < 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
	       (one_in(t, 7) ? KVM_MEM_READONLY : 0);
}

static uint64_t random_hva(struct test *t)
{
	return (uintptr_t)t->mem.hva +
	       below(t, MEM_SIZE / GUEST_PAGE) * GUEST_PAGE;
}

static void random_range(struct test *t,
			 struct kvm_userspace_memory_region *mem)
{
	uint64_t pages = 1 + below(t, ARENA_MAX_PAGES), at;

	switch (below(t, 10)) {
	case 0:
		at = LOW_GPA / GUEST_PAGE + below(t, LOW_PAGES);
		break;
	case 1:
		at = t->gpa_limit / GUEST_PAGE - 1 - below(t, TOP_PAGES);
		pages = 1 + below(t, 3);
		break;
	case 2:
		pages = (1 + below(t, LARGE_MAX)) * (LARGE_UNIT / GUEST_PAGE);
		at = (LARGE_GPA + below(t, LARGE_UNITS) * LARGE_UNIT) /
		     GUEST_PAGE;
		break;
	default:
		at = ARENA_GPA / GUEST_PAGE + below(t, ARENA_PAGES);
		break;
	}
	mem->guest_phys_addr = at * GUEST_PAGE;
	mem->memory_size = pages * GUEST_PAGE;
	mem->userspace_addr = random_hva(t);
}

/* Delete a memslot, and create one or two others in its place. */
static void add_replacement(struct test *t, const struct memslot *old)
{
	struct kvm_userspace_memory_region mem = old->mem;
	const unsigned int as = old->mem.slot >> 16;
	const uint64_t pages = memslot_pages(old);
	uint64_t first = 1 + below(t, (uint32_t)pages);

	batch_delete(&t->batch, old->mem.slot);
	if (!free_id(t, as, &mem.slot))
		return;
	mem.flags = random_flags(t);
	mem.memory_size = first * GUEST_PAGE;
	mem.userspace_addr = random_hva(t);
	add(t, &mem);
	if (first == pages || !free_id(t, as, &mem.slot))
		return;
	mem.guest_phys_addr += mem.memory_size;
	mem.memory_size = (pages - first) * GUEST_PAGE;
	mem.userspace_addr = random_hva(t);
	mem.flags = random_flags(t);
	add(t, &mem);
}

/* Move the boot memory to another id, although the vCPU runs in it. */
static void add_boot_move(struct test *t, unsigned int as)
{
	const struct memslot *boot = model_at(t->model, as, 0);
	struct kvm_userspace_memory_region mem = boot->mem;

	if (has_id(t, boot->mem.slot) || !free_id(t, as, &mem.slot))
		return;
	batch_delete(&t->batch, boot->mem.slot);
	add(t, &mem);
}

/* Add a change that may be valid in the current state. */
static void add_change(struct test *t)
{
	const unsigned int as = below(t, 2);
	struct kvm_userspace_memory_region mem = {
		.slot = SLOT(as, ids[below(t, ARRAY_SIZE(ids))]),
	};
	const struct memslot *s = model_find(t->model, mem.slot);

	if (one_in(t, 24)) {
		add_boot_move(t, as);
		return;
	}
	if (has_id(t, mem.slot) || is_boot(t, s))
		return;
	if (!s) {
		random_range(t, &mem);
		mem.flags = random_flags(t);
		add(t, &mem);
		return;
	}
	switch (below(t, 8)) {
	case 0:
	case 1:
		/* A delete ignores valid addresses. */
		mem.guest_phys_addr = below(t, 4) * GUEST_PAGE;
		add(t, &mem);
		break;
	case 2:
	case 3:
	case 4:
		mem = s->mem;
		mem.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
		add(t, &mem);
		break;
	case 5:
		add(t, &s->mem);
		break;
	default:
		add_replacement(t, s);
		break;
	}
}

/* Delete or create many ids of the crowd in one batch. */
static void add_crowd(struct test *t)
{
	const uint32_t nr = 1 + below(t, CROWD_MAX);
	uint32_t i;

	for (i = 0; i < nr; i++) {
		struct kvm_userspace_memory_region mem = {
			.slot = SLOT(i % 2, CROWD_ID + i),
		};

		if (!model_find(t->model, mem.slot)) {
			mem.flags = i % 5 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;
			mem.guest_phys_addr = CROWD_GPA + i * GUEST_PAGE;
			mem.memory_size = GUEST_PAGE;
			mem.userspace_addr = random_hva(t);
		}
		add(t, &mem);
	}
}

/* Change an entry, which mostly makes it invalid. */
static void corrupt(struct test *t, struct kvm_userspace_memory_region *mem)
{
	const struct memslot *s;

	switch (below(t, 20)) {
	case 0:
		mem->slot = SLOT(mem->slot >> 16,
				 bad_ids[below(t, ARRAY_SIZE(bad_ids))]);
		break;
	case 1:
		mem->slot = SLOT(one_in(t, 2) ? 2 : 0xffff, mem->slot & 0xffff);
		break;
	case 2:
		mem->slot = SLOT(below(t, 2), ids[below(t, ARRAY_SIZE(ids))]);
		break;
	case 3:
		mem->slot = t->batch.entries[below(t, t->batch.nr)].slot;
		break;
	case 4:
		mem->flags |= 1U << (3 + below(t, 29));
		break;
	case 5:
		mem->flags ^= KVM_MEM_READONLY;
		break;
	case 6:
		mem->flags |= KVM_MEM_GUEST_MEMFD;
		break;
	case 7:
		mem->guest_phys_addr += 1 + below(t, GUEST_PAGE - 1);
		break;
	case 8:
		mem->memory_size += 1 + below(t, GUEST_PAGE - 1);
		break;
	case 9:
		mem->userspace_addr += 1 + below(t, GUEST_PAGE - 1);
		break;
	case 10:
		mem->userspace_addr =
			one_in(t, 2) ? KERNEL_HVA : NON_CANONICAL_HVA;
		break;
	case 11:
		mem->guest_phys_addr += GUEST_PAGE;
		break;
	case 12:
		mem->memory_size += GUEST_PAGE;
		break;
	case 13:
		mem->userspace_addr = random_hva(t);
		break;
	case 14:
		mem->guest_phys_addr = -GUEST_PAGE;
		mem->memory_size = 2 * GUEST_PAGE;
		break;
	case 15:
		mem->memory_size = one_in(t, 2)
					   ? 1ULL << 63
					   : (MODEL_MAX_PAGES + 1) * GUEST_PAGE;
		break;
	case 16:
		mem->guest_phys_addr = t->gpa_limit - mem->memory_size +
				       below(t, 2) * GUEST_PAGE;
		break;
	case 17:
		/* Onto another memslot's address. */
		s = t->model->slots[below(t, t->model->nr)];
		mem->guest_phys_addr = s->mem.guest_phys_addr;
		break;
	case 18:
		mem->memory_size = 0;
		break;
	default:
		mem->guest_phys_addr = below(t, 32) * GUEST_PAGE;
		break;
	}
}

/* Is this the boot memory, at its address? */
static bool is_boot_mem(const struct test *t,
			const struct kvm_userspace_memory_region *mem)
{
	return !mem->flags && !mem->guest_phys_addr &&
	       mem->memory_size == VM_BOOT_SIZE &&
	       mem->userspace_addr == (uintptr_t)t->vm.boot_hva;
}

static bool creates_boot(const struct test *t, unsigned int as)
{
	uint32_t i;

	for (i = 0; i < t->batch.nr; i++)
		if (t->batch.entries[i].slot >> 16 == as &&
		    is_boot_mem(t, &t->batch.entries[i]))
			return true;
	return false;
}

/*
 * Valid entries must keep the boot memory at its address, without dirty
 * logging, and not map it elsewhere: the vCPU needs it.
 */
static bool keeps_boot(struct test *t)
{
	const uint64_t boot = (uintptr_t)t->vm.boot_hva;
	uint32_t i;

	for (i = 0; i < t->batch.nr; i++) {
		const struct kvm_userspace_memory_region *mem =
			&t->batch.entries[i];
		const bool was = is_boot(t, model_find(t->model, mem->slot));

		switch (model_change(t->model, mem)) {
		case CHANGE_NONE:
			break;
		case CHANGE_CREATE:
			if (mem->userspace_addr >= boot &&
			    mem->userspace_addr < boot + VM_BOOT_SIZE &&
			    !is_boot_mem(t, mem))
				return false;
			break;
		case CHANGE_DELETE:
			if (was && !creates_boot(t, mem->slot >> 16))
				return false;
			break;
		case CHANGE_FLIP:
		case CHANGE_MOVE:
			if (was)
				return false;
			break;
		}
	}
	return true;
}

static void shuffle(struct test *t)
{
	struct kvm_userspace_memory_region *e = t->batch.entries, other;
	uint32_t i, j;

	for (i = t->batch.nr; i > 1; i--) {
		j = below(t, i);
		other = e[j];
		e[j] = e[i - 1];
		e[i - 1] = other;
	}
}

/* Choose entries: all valid, mostly valid, or random. */
static void compose(struct test *t)
{
	const uint32_t changes = one_in(t, 8) ? below(t, 24) : below(t, 6);
	const bool choosy = !one_in(t, 4);
	uint32_t i, bad;

	batch_reset(&t->batch);
	if (one_in(t, 80))
		add_crowd(t);
	for (i = 0; i < changes; i++) {
		const uint32_t before = t->batch.nr;

		add_change(t);
		if (choosy && model_judge_batch(t->model, t->batch.entries,
						t->batch.nr, &bad))
			t->batch.nr = before;
	}
	shuffle(t);
	for (i = 0; t->batch.nr && i < 3 && one_in(t, 3); i++)
		corrupt(t, &t->batch.entries[below(t, t->batch.nr)]);
}

/* Carry out operations. */

static void expect_result(struct test *t, int got, int want, uint32_t want_bad)
{
	char got_str[TAP_STRERROR_LEN], want_str[TAP_STRERROR_LEN];

	if (got != want)
		mismatch(t, "%s, expected %s (entry %d is bad)",
			 tap_strerror(got, got_str, sizeof(got_str)),
			 tap_strerror(want, want_str, sizeof(want_str)),
			 (int)want_bad);
	if (want && t->batch.bad_index != want_bad)
		mismatch(t, "%s reports entry %d, expected %d",
			 tap_strerror(got, got_str, sizeof(got_str)),
			 (int)t->batch.bad_index, (int)want_bad);
}

static void count_changes(struct test *t)
{
	uint32_t i;

	for (i = 0; i < t->batch.nr; i++) {
		switch (model_change(t->model, &t->batch.entries[i])) {
		case CHANGE_CREATE:
			t->counts[COUNT_CREATES]++;
			break;
		case CHANGE_DELETE:
			t->counts[COUNT_DELETES]++;
			break;
		case CHANGE_FLIP:
			t->counts[COUNT_FLIPS]++;
			break;
		case CHANGE_MOVE:
			t->counts[COUNT_MOVES]++;
			break;
		case CHANGE_NONE:
			break;
		}
	}
}

static void count_refusal(struct test *t, int r)
{
	if (r == -EINVAL)
		t->counts[COUNT_REFUSED_EINVAL]++;
	else if (r == -EEXIST)
		t->counts[COUNT_REFUSED_EEXIST]++;
	else
		t->counts[COUNT_REFUSED_OTHER]++;
}

/* The batch as a whole is invalid; no entry is reported. */
static void do_bad_call(struct test *t)
{
	struct kvm_userspace_memory_region *entries = t->batch.entries;
	const uint32_t nr = t->batch.nr;
	uint32_t flags = 0;
	int want, r;

	switch (below(t, 3)) {
	case 0:
		t->what = "batch with an unknown flag";
		flags = 1U << (2 + below(t, 30));
		want = -EINVAL;
		break;
	case 1:
		t->what = "batch of too many";
		t->batch.nr = KVM_VMEM_MAX_BATCH + 1 + below(t, 2);
		want = -EMSGSIZE;
		break;
	default:
		t->what = "batch at an address without memory";
		t->batch.entries = UNMAPPED;
		want = nr ? -EFAULT : 0;
		break;
	}
	r = batch_call(t->dev, t->vm.fd, &t->batch, flags);
	t->batch.entries = entries;
	t->batch.nr = nr;
	expect_result(t, r, want, KVM_VMEM_NO_INDEX);
	t->counts[COUNT_REFUSED_OTHER]++;
}

static void do_batch(struct test *t)
{
	const bool validate_only = one_in(t, 6);
	uint32_t bad = KVM_VMEM_NO_INDEX;
	int want, r;

	compose(t);
	if (one_in(t, 50)) {
		do_bad_call(t);
		return;
	}
	t->what = "batch";
	if (validate_only) {
		t->what = "batch, VALIDATE_ONLY";
		/* No host has memory for this memslot's metadata. */
		if (t->batch.nr && one_in(t, 8)) {
			struct kvm_userspace_memory_region *mem =
				&t->batch.entries[below(t, t->batch.nr)];

			mem->guest_phys_addr = HUGE_GPA;
			mem->memory_size = MODEL_MAX_PAGES * GUEST_PAGE;
			mem->userspace_addr = HUGE_HVA;
		}
	}
	want = model_judge_batch(t->model, t->batch.entries, t->batch.nr, &bad);
	if (!want && !validate_only && !keeps_boot(t)) {
		batch_reset(&t->batch);
		return;
	}
	look_before(t);
	r = batch_call(t->dev, t->vm.fd, &t->batch,
		       validate_only ? KVM_VMEM_BATCH_VALIDATE_ONLY : 0);
	expect_result(t, r, want, bad);
	if (want) {
		count_refusal(t, want);
	} else if (validate_only) {
		t->counts[COUNT_VALIDATED]++;
	} else {
		t->counts[COUNT_BATCHES]++;
		count_changes(t);
		model_apply(t->model, t->batch.entries, t->batch.nr);
		touch_windows(t);
	}
}

/* Make KVM's own call with a random entry. */
static void do_call(struct test *t)
{
	char got_str[TAP_STRERROR_LEN], want_str[TAP_STRERROR_LEN];
	struct kvm_userspace_memory_region mem;
	const struct memslot *s;
	int want, r;

	t->what = "KVM_SET_USER_MEMORY_REGION";
	do
		compose(t);
	while (!t->batch.nr);
	mem = t->batch.entries[below(t, t->batch.nr)];
	s = model_find(t->model, mem.slot);
	/* Often a MOVE, which batches do not support. */
	if (s && mem.memory_size && one_in(t, 2))
		mem.guest_phys_addr =
			ARENA_GPA + below(t, ARENA_PAGES) * GUEST_PAGE;
	batch_reset(&t->batch);
	add(t, &mem);

	want = model_judge_call(t->model, &mem);
	if (!want && !keeps_boot(t)) {
		batch_reset(&t->batch);
		return;
	}
	look_before(t);
	r = ioctl(t->vm.fd, KVM_SET_USER_MEMORY_REGION, &mem) ? -errno : 0;
	if (r != want)
		mismatch(t, "%s, expected %s",
			 tap_strerror(r, got_str, sizeof(got_str)),
			 tap_strerror(want, want_str, sizeof(want_str)));
	if (want) {
		t->counts[COUNT_CALLS_REFUSED]++;
		return;
	}
	t->counts[COUNT_CALLS]++;
	count_changes(t);
	model_apply(t->model, &mem, 1);
	touch_windows(t);
}

/*
 * VMs.
 */

static void enable_cap(struct test *t, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {arg}};

	ASSERT_EQ(ioctl(t->vm.fd, KVM_ENABLE_CAP, &enable), 0);
}

static void map_ring(struct test *t)
{
	t->ring = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       t->vcpu.fd, KVM_DIRTY_LOG_PAGE_OFFSET * GUEST_PAGE);
	ASSERT_NE((void *)t->ring, MAP_FAILED);
	t->ring_next = 0;
}

/* Find the first guest address at which KVM refuses a memslot. */
static uint64_t find_gpa_limit(const struct vm *vm, const struct backing *mem)
{
	uint64_t good = 1ULL << 32, bad = 1ULL << 53;

	while (bad - good > GUEST_PAGE) {
		const uint64_t gpa = (good + (bad - good) / 2) & -GUEST_PAGE;

		if (vm_set_region(vm, 1, 0, gpa, GUEST_PAGE, mem->hva)) {
			bad = gpa;
		} else {
			good = gpa;
			ASSERT_OK(vm_delete_slot(vm, 1));
		}
	}
	return bad;
}

static void vm_begin(struct test *t)
{
	const bool zap_by_slot = one_in(t, 2);
	unsigned int as;

	vm_create(&t->vm, VM_SMM);
	if (zap_by_slot && vm_check_extension(&t->vm, KVM_CAP_DISABLE_QUIRKS2) &
				   KVM_X86_QUIRK_SLOT_ZAP_ALL)
		enable_cap(t, KVM_CAP_DISABLE_QUIRKS2,
			   KVM_X86_QUIRK_SLOT_ZAP_ALL);
	if (t->kind == LOG_MANUAL)
		enable_cap(t, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			   KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	else if (t->kind == LOG_INITIALLY_SET)
		enable_cap(t, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			   KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				   KVM_DIRTY_LOG_INITIALLY_SET);
	else if (t->kind == LOG_RING)
		enable_cap(t, KVM_CAP_DIRTY_LOG_RING, RING_SIZE);
	vcpu_create(&t->vcpu, &t->vm);
	memset(t->shown, 0xff, sizeof(t->shown));
	if (t->kind == LOG_RING)
		map_ring(t);

	t->model = model_new(t->gpa_limit, t->kind == LOG_INITIALLY_SET);
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		const struct kvm_userspace_memory_region boot = {
			.slot = SLOT(as, VM_BOOT_SLOT),
			.memory_size = VM_BOOT_SIZE,
			.userspace_addr = (uintptr_t)t->vm.boot_hva,
		};

		model_apply(t->model, &boot, 1);
	}
}

/* Delete all but the boot memory. */
static void vm_end(struct test *t)
{
	uint32_t i;

	t->what = "deletion of all";
	batch_reset(&t->batch);
	for (i = 0; i < t->model->nr; i++)
		if (!is_boot(t, t->model->slots[i]))
			batch_delete(&t->batch, t->model->slots[i]->mem.slot);
	expect_result(t, batch_apply(t->dev, &t->vm, &t->batch), 0, 0);
	model_apply(t->model, t->batch.entries, t->batch.nr);
	look_at_all(t);

	model_free(t->model);
	if (t->kind == LOG_RING)
		munmap(t->ring, RING_SIZE);
	vcpu_destroy(&t->vcpu);
	vm_destroy(&t->vm);
}

static void report(const struct test *t)
{
	char line[512];
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < NR_COUNTS; i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len,
					"%s%" PRIu64 " %s", i ? ", " : "",
					t->counts[i], count_names[i]);
	tap_note("seed %" PRIu64 ", %u steps: %s", sequence.seed, t->step,
		 line);
	for (i = 0; sequence.steps >= STEPS_PER_VM && i < NR_COUNTS; i++)
		if (!t->counts[i])
			tap_fail(__FILE__, __LINE__, "0 %s", count_names[i]);
}

/*
 * Continue? A sequence that has not reached all counts continues until it has,
 * unless it is too short for this.
 */
static bool another_step(const struct test *t)
{
	unsigned int i;

	if (t->step < sequence.steps)
		return true;
	if (sequence.steps < STEPS_PER_VM ||
	    t->step >= MOST_TIMES * sequence.steps)
		return false;
	for (i = 0; i < NR_COUNTS; i++)
		if (!t->counts[i])
			return true;
	return false;
}

static void follows_model(const void *arg)
{
	const enum log_kind *kind = arg;
	struct test t = {.kind = *kind};
	struct vm vm;

	tap_note("seed %" PRIu64 ", %u steps", sequence.seed, sequence.steps);
	t.rng = sequence.seed ^ (uint64_t)*kind << 56;
	t.dev = kvm_vmem_open();
	backing_create(&t.mem, 2 * MEM_SIZE + MEM_SLACK);
	batch_init(&t.batch);
	vm_create(&vm, 0);
	if (*kind == LOG_RING &&
	    vm_check_extension(&vm, KVM_CAP_DIRTY_LOG_RING) <= 0)
		tap_skip("no KVM_CAP_DIRTY_LOG_RING");
	t.gpa_limit = find_gpa_limit(&vm, &t.mem);
	t.guest_limit = vm_max_gpa(&vm);
	vm_destroy(&vm);

	for (t.step = 0; another_step(&t); t.step++) {
		if (t.step % STEPS_PER_VM == 0)
			vm_begin(&t);
		if (one_in(&t, 4))
			do_call(&t);
		else
			do_batch(&t);
		if (t.step % STEPS_PER_LOOK == STEPS_PER_LOOK - 1)
			look_at_all(&t);
		else
			look_at_some(&t);
		if ((t.step + 1) % STEPS_PER_VM == 0)
			vm_end(&t);
	}
	if (t.step % STEPS_PER_VM)
		vm_end(&t);
	report(&t);
}

int main(int argc, char **argv)
{
	static const enum log_kind kinds[] = {LOG_PLAIN, LOG_MANUAL,
					      LOG_INITIALLY_SET, LOG_RING};
	static struct tap_case cases[] = {
		{.name = "random changes match the model",
		 .run = follows_model,
		 .arg = &kinds[LOG_PLAIN]},
		{.name = "random changes with manual clearing of dirty logs",
		 .run = follows_model,
		 .arg = &kinds[LOG_MANUAL]},
		{.name = "random changes with initially dirty logs",
		 .run = follows_model,
		 .arg = &kinds[LOG_INITIALLY_SET]},
		{.name = "random changes with dirty rings",
		 .run = follows_model,
		 .arg = &kinds[LOG_RING]},
	};
	struct options options = {.seed_env = SEED_ENV,
				  .steps_env = STEPS_ENV,
				  .steps = DEFAULT_STEPS};
	size_t i;

	if (!options_parse(&options, argc, argv) || !options.steps ||
	    options.steps > UINT32_MAX / SECONDS_PER_STEP / MOST_TIMES / 2) {
		fprintf(stderr, "usage: model_test [--seed N] [--steps N]\n");
		return EXIT_FAILURE;
	}
	sequence.seed = options.seed;
	sequence.steps =
		(uint32_t)((options.steps + NR_LOG_KINDS - 1) / NR_LOG_KINDS);
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		cases[i].timeout_s =
			TAP_DEFAULT_TIMEOUT_S +
			MOST_TIMES * sequence.steps * SECONDS_PER_STEP;
	return tap_run(cases, ARRAY_SIZE(cases));
}
