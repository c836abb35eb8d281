// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that runs while batches change memslots around its own.
 *
 * Its memory is a row of ranges of three kinds, alternating, so that neighbours
 * share page tables and the large pages that KVM might create for them:
 *
 *   staying	one memslot throughout. Each vCPU increments a word of its own in
 *		each page, and checks that it contains the last value written.
 *   replaced	each batch deletes the memslot and creates another in its place,
 *		with the next backing. There is memory at all times.
 *   churned	as replaced, but without memory after every fourth batch.
 *
 * The pages of a backing are stamped with the number of the batch that will map
 * them. The host publishes the number of the batch that has started and of the
 * one that is complete. A value that a vCPU reads from a replaced range must be
 * between the complete batch before the read and the started batch after it.
 * The vCPU writes there as well: once a batch is complete, the previous backing
 * must not be written any more.
 *
 * Churned ranges are checked on the host's request, after a batch and before
 * the next: memory must be that of this batch, and accesses without memory must
 * exit. No other access may exit.
 *
 * A check follows every third batch, so each range is checked in each phase.
 * Two of five batches request range zaps, so that each range changes in each
 * phase with and without them.
 *
 * The number of batches bounds the test. Each vCPU makes at least a round
 * between any two checks.
 */
#include "vmem_util.h"

#include <pthread.h>
#include <sched.h>

#define NR_VCPUS    2
#define NR_BATCHES  200
#define LOOK_EVERY  3
#define NR_RANGES   48
#define RANGE_PAGES 4
#define PAGE	    4096ULL
#define RANGE_SIZE  (RANGE_PAGES * PAGE)
#define GUEST_BASE  (4ULL << 30)
#define GUEST_SIZE  (NR_RANGES * RANGE_SIZE)

/* A backing is stamped again only after three batches. */
#define NR_BACKINGS 4

/* Slot 0 belongs to the library. */
#define FIRST_STAYING_SLOT 100
#define FIRST_OTHER_SLOT   200

/* The guest reads this value where there is no memory. */
#define NO_MEMORY(gpa) (0xdead000000000000ULL ^ (gpa))

enum range_kind {
	RANGE_STAYING,
	RANGE_REPLACED,
	RANGE_CHURNED,
	NR_KINDS,
};

/* Words of each page. */
enum {
	WORD_STAMP,
	WORD_COUNT, /* one for each vCPU */
};

/**
 * struct fault - wrong values that the guest has read
 * @count: number of wrong values
 * @gpa: address of the first
 * @got: value of the first
 * @low: lowest valid value
 * @high: highest valid value
 */
struct fault {
	uint64_t count;
	uint64_t gpa;
	uint64_t got;
	uint64_t low;
	uint64_t high;
};

/**
 * struct vcpu_state - reported by one vCPU
 * @rounds: number of rounds
 * @looking: batch of the check in progress, 0: none
 * @looked: batch of the last check
 * @lost: faults in staying ranges
 * @stale: faults in replaced ranges
 * @wrong: faults in churned ranges
 */
struct vcpu_state {
	uint64_t rounds;
	uint64_t looking;
	uint64_t looked;
	struct fault lost;
	struct fault stale;
	struct fault wrong;
};

/**
 * struct control - shared between guest and host
 * @started: last batch that has started
 * @done: last batch that is complete
 * @look: batch after which to check churned ranges
 * @stop: ask the guest to end
 * @vcpus: state of each vCPU
 */
struct control {
	uint64_t started;
	uint64_t done;
	uint64_t look;
	uint64_t stop;
	struct vcpu_state vcpus[NR_VCPUS];
};

/* The guest's copy is in guest memory; the host uses a pointer to it. */
static struct control guest_control __attribute__((aligned(4096)));
_Static_assert(sizeof(guest_control) <= PAGE, "mapped as one page");

/**
 * struct runner - thread of a vCPU
 * @vcpu: the vCPU
 * @state: its state
 * @exits: expected MMIO exits for reads
 * @exit_writes: expected MMIO exits for writes
 * @spurious: other MMIO exits
 * @spurious_gpa: address of the last of these
 */
struct runner {
	struct kvm_vcpu *vcpu;
	struct vcpu_state *state;
	uint64_t exits;
	uint64_t exit_writes;
	uint64_t spurious;
	uint64_t spurious_gpa;
};

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static enum range_kind kind_of(unsigned int range)
{
	return range % NR_KINDS;
}

/* Does a churned range have memory after a batch? */
static bool churned_present(unsigned int range, uint64_t batch)
{
	return (range / NR_KINDS + batch) % 4 != 0;
}

static bool present(unsigned int range, uint64_t batch)
{
	return kind_of(range) != RANGE_CHURNED || churned_present(range, batch);
}

/* Does a batch request range zaps? Five is coprime to all other periods. */
static bool zaps_ranges(uint64_t batch)
{
	return batch % 5 < 2;
}

/* Virtual addresses are the same in the host and in the guest. */
static uint64_t page_address(unsigned int range, unsigned int page)
{
	return GUEST_BASE + range * RANGE_SIZE + page * PAGE;
}

static void add_fault(struct fault *fault, uint64_t gpa, uint64_t got,
		      uint64_t low, uint64_t high)
{
	if (!fault->count++) {
		fault->gpa = gpa;
		fault->got = got;
		fault->low = low;
		fault->high = high;
	}
}

static void guest_count(struct vcpu_state *state, unsigned int index,
			uint64_t address)
{
	uint64_t *word = (uint64_t *)address + WORD_COUNT + index;
	uint64_t got = load(word);

	if (got != state->rounds)
		add_fault(&state->lost, address, got, state->rounds,
			  state->rounds);
	store(word, state->rounds + 1);
}

static void guest_read_replaced(struct vcpu_state *state, unsigned int index,
				uint64_t address)
{
	uint64_t *words = (uint64_t *)address;
	uint64_t low = load(&guest_control.done);
	uint64_t got = load(&words[WORD_STAMP]);
	uint64_t high = load(&guest_control.started);

	if (got < low || got > high)
		add_fault(&state->stale, address, got, low, high);
	store(&words[WORD_COUNT + index], state->rounds + 1);
}

static void guest_look_at(struct vcpu_state *state, unsigned int range,
			  unsigned int page)
{
	uint64_t address = page_address(range, page);
	uint64_t *words = (uint64_t *)address;
	uint64_t want = churned_present(range, state->looking)
				? state->looking
				: NO_MEMORY(address);
	uint64_t got = load(&words[WORD_STAMP]);

	if (got != want)
		add_fault(&state->wrong, address, got, want, want);
	/* Write the same stamp, which changes nothing for the other vCPU. */
	store(&words[WORD_STAMP], want);
}

static void guest_look(struct vcpu_state *state, uint64_t batch)
{
	unsigned int range, page;

	store(&state->looking, batch);
	for (range = 0; range < NR_RANGES; range++)
		for (page = 0; page < RANGE_PAGES; page++)
			if (kind_of(range) == RANGE_CHURNED)
				guest_look_at(state, range, page);
	store(&state->looking, 0);
	store(&state->looked, batch);
}

static void guest_round(struct vcpu_state *state, unsigned int index)
{
	unsigned int range, page;

	for (range = 0; range < NR_RANGES; range++) {
		for (page = 0; page < RANGE_PAGES; page++) {
			uint64_t address = page_address(range, page);

			if (kind_of(range) == RANGE_STAYING)
				guest_count(state, index, address);
			else if (kind_of(range) == RANGE_REPLACED)
				guest_read_replaced(state, index, address);
		}
	}
	store(&state->rounds, state->rounds + 1);
}

static void guest_code(uint64_t index)
{
	struct vcpu_state *state = &guest_control.vcpus[index];

	while (!load(&guest_control.stop)) {
		uint64_t look = load(&guest_control.look);

		guest_round(state, index);
		if (look != state->looked)
			guest_look(state, look);
	}
	GUEST_DONE();
}

/* Complete an MMIO exit, and count it as expected or not. */
static void answer_mmio(struct runner *runner)
{
	struct kvm_run *run = runner->vcpu->run;
	uint64_t gpa = run->mmio.phys_addr;
	uint64_t range = (gpa - GUEST_BASE) / RANGE_SIZE;
	uint64_t look = load(&runner->state->looking);
	uint64_t value = NO_MEMORY(gpa);

	if (!look || gpa < GUEST_BASE || range >= NR_RANGES ||
	    present(range, look) || run->mmio.len != sizeof(value)) {
		runner->spurious++;
		runner->spurious_gpa = gpa;
	} else if (run->mmio.is_write) {
		runner->exit_writes++;
	} else {
		runner->exits++;
	}
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &value, sizeof(value));
}

static void *run_vcpu(void *arg)
{
	struct runner *runner = arg;
	struct ucall uc;

	for (;;) {
		vcpu_run(runner->vcpu);
		if (runner->vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			answer_mmio(runner);
			continue;
		}
		TEST_ASSERT(get_ucall(runner->vcpu, &uc) == UCALL_DONE,
			    "the guest ended with exit reason %u",
			    runner->vcpu->run->exit_reason);
		return NULL;
	}
}

/**
 * struct test - the host's state
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @control: the guest's control page
 * @staying: memory of the staying ranges, at their offset in the row
 * @backings: memory of the other ranges
 * @left: the counters in each backing when it was replaced
 * @late_writes: number of counters that changed after that
 * @tdp_mmu: KVM uses the TDP MMU; without it no range zaps are possible
 * @range_zaps: number of batches with range zaps only
 * @wrong_zaps: number of batches whose zaps are not as requested
 * @batch: entries
 */
struct test {
	int dev;
	struct kvm_vm *vm;
	struct control *control;
	uint8_t *staying;
	uint8_t *backings[NR_BACKINGS];
	uint64_t left[NR_BACKINGS][NR_RANGES][RANGE_PAGES][NR_VCPUS];
	uint64_t late_writes;
	bool tdp_mmu;
	unsigned int range_zaps;
	unsigned int wrong_zaps;
	struct vmem_batch batch;
};

static uint64_t *page_words(uint8_t *memory, unsigned int range,
			    unsigned int page)
{
	return (uint64_t *)(memory + range * RANGE_SIZE + page * PAGE);
}

static uint32_t slot_of(unsigned int range, uint64_t batch)
{
	if (kind_of(range) == RANGE_STAYING)
		return FIRST_STAYING_SLOT + range;
	/* An id occurs once in a batch, so the new memslot has another id. */
	return FIRST_OTHER_SLOT + 2 * range + batch % 2;
}

/* Prepare a backing, which no memslot uses, for a batch. */
static void stamp(struct test *t, uint64_t batch)
{
	unsigned int b = batch % NR_BACKINGS, range, page, i;

	for (range = 0; range < NR_RANGES; range++) {
		for (page = 0; page < RANGE_PAGES; page++) {
			uint64_t *words =
				page_words(t->backings[b], range, page);

			for (i = 0; i < NR_VCPUS; i++)
				if (load(&words[WORD_COUNT + i]) !=
				    t->left[b][range][page][i])
					t->late_writes++;
			store(&words[WORD_STAMP], batch);
		}
	}
}

/* Store the counters of a backing that has been replaced. */
static void note_left(struct test *t, uint64_t batch)
{
	unsigned int b = batch % NR_BACKINGS, range, page, i;

	for (range = 0; range < NR_RANGES; range++)
		for (page = 0; page < RANGE_PAGES; page++)
			for (i = 0; i < NR_VCPUS; i++)
				t->left[b][range][page][i] =
					load(page_words(t->backings[b], range,
							page) +
					     WORD_COUNT + i);
}

static void set_range(struct test *t, unsigned int range, uint64_t batch)
{
	uint8_t *memory = kind_of(range) == RANGE_STAYING
				  ? t->staying
				  : t->backings[batch % NR_BACKINGS];

	vmem_batch_add(&t->batch, slot_of(range, batch), 0,
		       page_address(range, 0), RANGE_SIZE,
		       memory + range * RANGE_SIZE);
}

/* Creates and deletes are mixed, in the order of the ranges. */
static void change_layout(struct test *t, uint64_t batch)
{
	bool ranges = zaps_ranges(batch);
	unsigned int range;

	stamp(t, batch);
	for (range = 0; range < NR_RANGES; range++) {
		if (kind_of(range) == RANGE_STAYING)
			continue;
		if (present(range, batch))
			set_range(t, range, batch);
		if (present(range, batch - 1))
			vmem_batch_delete(&t->batch, slot_of(range, batch - 1));
	}
	t->batch.flags = ranges ? KVM_VMEM_BATCH_ZAP_RANGES : 0;
	store(&t->control->started, batch);
	vmem_batch_apply(t->dev, t->vm, &t->batch);
	store(&t->control->done, batch);
	t->range_zaps += t->batch.zapped == KVM_VMEM_ZAPPED_RANGES;
	t->wrong_zaps += t->batch.zapped != (ranges && t->tdp_mmu
						     ? KVM_VMEM_ZAPPED_RANGES
						     : KVM_VMEM_ZAPPED_BY_KVM);
	note_left(t, batch - 1);
}

static void look(struct test *t, uint64_t batch)
{
	unsigned int i;

	store(&t->control->look, batch);
	for (i = 0; i < NR_VCPUS; i++)
		while (load(&t->control->vcpus[i].looked) != batch)
			sched_yield();
}

static void set_up(struct test *t)
{
	unsigned int range, b;

	t->staying = vmem_alloc(GUEST_SIZE);
	for (b = 0; b < NR_BACKINGS; b++)
		t->backings[b] = vmem_alloc(GUEST_SIZE);
	for (range = 0; range < NR_RANGES; range++)
		if (present(range, 0))
			set_range(t, range, 0);
	vmem_batch_apply(t->dev, t->vm, &t->batch);
	virt_map(t->vm, GUEST_BASE, GUEST_BASE, NR_RANGES * RANGE_PAGES);
}

static void report(const char *name, const struct fault *fault,
		   unsigned int vcpu)
{
	if (fault->count)
		ksft_print_msg(
			"vCPU %u: %s: %lu times, first at %#lx: %#lx instead of %#lx to %#lx\n",
			vcpu, name, (unsigned long)fault->count,
			(unsigned long)fault->gpa, (unsigned long)fault->got,
			(unsigned long)fault->low, (unsigned long)fault->high);
}

/* Each page that stayed must contain the last count of each vCPU. */
static bool counts_kept(const struct test *t)
{
	unsigned int range, page, i;
	bool kept = true;

	for (range = 0; range < NR_RANGES; range++)
		for (page = 0; page < RANGE_PAGES; page++)
			for (i = 0; i < NR_VCPUS; i++)
				if (kind_of(range) == RANGE_STAYING &&
				    page_words(t->staying, range,
					       page)[WORD_COUNT + i] !=
					    t->control->vcpus[i].rounds)
					kept = false;
	return kept;
}

/* Number of reads of a vCPU that must exit during checks; as many writes. */
static uint64_t exits_due(void)
{
	unsigned int range;
	uint64_t batch, due = 0;

	for (batch = LOOK_EVERY; batch <= NR_BATCHES; batch += LOOK_EVERY)
		for (range = 0; range < NR_RANGES; range++)
			if (!present(range, batch))
				due += RANGE_PAGES;
	return due;
}

int main(void)
{
	static struct test t;
	struct runner runners[NR_VCPUS] = {0};
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	bool lost = false, stale = false, wrong = false, spurious = false;
	bool exits = true;
	unsigned int i;
	uint64_t batch;

	setvbuf(stdout, NULL, _IOLBF, 0);
	t.dev = vmem_open();
	t.tdp_mmu = vmem_has_tdp_mmu();
	ksft_print_header();
	ksft_set_plan(6);

	t.vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	t.control = addr_gva2hva(t.vm, (vm_vaddr_t)&guest_control);
	set_up(&t);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 1, (uint64_t)i);
		runners[i].vcpu = vcpus[i];
		runners[i].state = &t.control->vcpus[i];
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_vcpu,
					    &runners[i]),
			    "pthread_create");
	}
	for (batch = 1; batch <= NR_BATCHES; batch++) {
		change_layout(&t, batch);
		if (batch % LOOK_EVERY == 0)
			look(&t, batch);
	}
	store(&t.control->stop, 1);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);
	/* Check for writes to the backings after they were replaced. */
	for (batch = NR_BATCHES + 1; batch < NR_BATCHES + NR_BACKINGS; batch++)
		stamp(&t, batch);

	for (i = 0; i < NR_VCPUS; i++) {
		const struct vcpu_state *state = runners[i].state;

		ksft_print_msg(
			"vCPU %u: %lu rounds during %u batches, %lu reads and %lu writes exited, %lu spuriously (last %#lx)\n",
			i, (unsigned long)state->rounds, NR_BATCHES,
			(unsigned long)runners[i].exits,
			(unsigned long)runners[i].exit_writes,
			(unsigned long)runners[i].spurious,
			(unsigned long)runners[i].spurious_gpa);
		report("lost", &state->lost, i);
		report("stale", &state->stale, i);
		report("wrong", &state->wrong, i);
		lost |= state->lost.count != 0;
		stale |= state->stale.count != 0;
		wrong |= state->wrong.count != 0;
		spurious |= runners[i].spurious != 0;
		exits &= runners[i].exits == exits_due() &&
			 runners[i].exit_writes == exits_due();
	}
	ksft_print_msg("%lu writes to a backing after it was replaced\n",
		       (unsigned long)t.late_writes);
	ksft_test_result(!lost && counts_kept(&t),
			 "no write to a memslot that stays is lost\n");
	ksft_test_result(!stale, "a replaced memslot shows its new backing\n");
	ksft_test_result(!t.late_writes,
			 "nothing is written to a backing that was replaced\n");
	ksft_test_result(
		!wrong && exits,
		"created memslots are accessible, accesses to deleted ones exit\n");
	ksft_test_result(!spurious, "no other access exits\n");
	ksft_print_msg("%u of %u batches with range zaps\n", t.range_zaps,
		       NR_BATCHES);
	ksft_test_result(!t.wrong_zaps, "range zaps are as requested\n");
	kvm_vm_free(t.vm);
	ksft_finished();
}
