// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that runs while memslots around its own come and go in batches.
 *
 * Its memory is a row of ranges of three kinds, in turns, so that neighbours
 * share the page tables and the large pages that KVM might make of them:
 *
 *   staying	one memslot from the beginning to the end. Each vCPU counts up
 *		a word of its own in each page, and finds there what it wrote.
 *   replaced	each batch deletes the memslot and creates another in its place,
 *		of the backing that is next. There is memory at all times.
 *   churned	as replaced, but without memory after every fourth batch.
 *
 * A backing's pages are stamped with the number of the batch that is about to
 * show them. The host says which batch it has started and which is done; what a
 * vCPU reads from a replaced range must lie between what it was told was done
 * before and what it is told has started after. It writes there as well: once a
 * batch is done, nothing more may arrive in the backing that has gone.
 *
 * Churned ranges are looked at when the host says so, after a batch and before
 * the next: what is there must be that batch's, and what is not must exit. No
 * other access may exit.
 *
 * Looks come every third batch, so that each range is seen in each phase.
 *
 * All is bounded by the number of batches; each vCPU has its rounds between
 * any two looks.
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

/* A backing is stamped anew only when three batches have passed. */
#define NR_BACKINGS 4

/* Slot 0 is the library's. */
#define FIRST_STAYING_SLOT 100
#define FIRST_OTHER_SLOT   200

/* What the guest reads where there is no memory. */
#define NO_MEMORY(gpa) (0xdead000000000000ULL ^ (gpa))

enum range_kind {
	RANGE_STAYING,
	RANGE_REPLACED,
	RANGE_CHURNED,
	NR_KINDS,
};

/* The words of each page. */
enum {
	WORD_STAMP,
	WORD_COUNT, /* one for each vCPU */
};

/**
 * struct fault - what the guest found wrong
 * @count: how often
 * @gpa: where, the first time
 * @got: what it read
 * @low: the least that was right
 * @high: the most that was right
 */
struct fault {
	uint64_t count;
	uint64_t gpa;
	uint64_t got;
	uint64_t low;
	uint64_t high;
};

/**
 * struct vcpu_state - what one vCPU tells
 * @rounds: rounds done
 * @looking: batch of the look that goes on, 0: none
 * @looked: batch of the last look
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
 * struct control - what guest and host share
 * @started: batch that was begun last
 * @done: batch that was done last
 * @look: batch after which to look at churned ranges
 * @stop: the guest is to end
 * @vcpus: state of each
 */
struct control {
	uint64_t started;
	uint64_t done;
	uint64_t look;
	uint64_t stop;
	struct vcpu_state vcpus[NR_VCPUS];
};

/* The guest's copy is in its own memory: the host goes by a pointer there. */
static struct control guest_control __attribute__((aligned(4096)));
_Static_assert(sizeof(guest_control) <= PAGE, "mapped as one page");

/**
 * struct runner - a vCPU's thread
 * @vcpu: the vCPU
 * @state: its state
 * @exits: MMIO exits that had to be, reads
 * @exit_writes: the same, writes
 * @spurious: other MMIO exits
 * @spurious_gpa: where the last was
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

/* Is there memory in a churned range after a batch? */
static bool churned_present(unsigned int range, uint64_t batch)
{
	return (range / NR_KINDS + batch) % 4 != 0;
}

static bool present(unsigned int range, uint64_t batch)
{
	return kind_of(range) != RANGE_CHURNED || churned_present(range, batch);
}

/* Both the host's and, as they are equal, the guest's virtual addresses. */
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
	/* The stamp again, which changes nothing for the other vCPU. */
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

/* Answer an exit for memory that is not there; was it to be? */
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
 * struct test - the host's side
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @control: the guest's control page
 * @staying: memory of the staying ranges, at their offset in the row
 * @backings: memory of the others
 * @left: what the counters in each backing were when it had gone
 * @late_writes: how many of them changed after that
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
	/* A batch takes each id once, so the one that comes has another. */
	return FIRST_OTHER_SLOT + 2 * range + batch % 2;
}

/* No memslot shows this backing: make it the next batch's. */
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

/* Remember what is in a backing that has gone. */
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

/* Creates and deletes mixed, as the ranges come. */
static void change_layout(struct test *t, uint64_t batch)
{
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
	store(&t->control->started, batch);
	vmem_batch_apply(t->dev, t->vm, &t->batch);
	store(&t->control->done, batch);
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

/* The last count of each vCPU must be in each page that stayed. */
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

/* How many of one vCPU's reads must have exited in looks; as many writes. */
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
	ksft_print_header();
	ksft_set_plan(5);

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
	/* What arrived in the backings since they went. */
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
	ksft_print_msg("%lu writes to a backing after it had gone\n",
		       (unsigned long)t.late_writes);
	ksft_test_result(!lost && counts_kept(&t),
			 "no write to a memslot that stays is lost\n");
	ksft_test_result(!stale,
			 "a memslot that is replaced shows its new backing\n");
	ksft_test_result(!t.late_writes,
			 "nothing is written to the backing that has gone\n");
	ksft_test_result(!wrong && exits,
			 "what a batch made is there, what it deleted exits\n");
	ksft_test_result(!spurious, "no other access exits\n");
	kvm_vm_free(t.vm);
	ksft_finished();
}
