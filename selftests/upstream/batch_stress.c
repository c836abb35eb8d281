// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An endless series of batches as a load for other tests: creates, deletes and
 * flips of dirty logging in a VM of its own, until standard input ends. The
 * VM's memslots are checked through KVM's own interface and through its guest.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define NR_SLOTS    64U
#define SLOT_SIZE   KIB(64)
#define SLOT_STRIDE KIB(128)
#define FIRST_SLOT  10U
#define STRESS_GPA  GIB(1)

/*
 * A check costs more than a batch. This is not a multiple of the number of
 * states, so that each slot is checked in all states in turn: a mapping that
 * outlives its slot is only noticed if the guest accessed the slot before.
 */
#define CHECK_EVERY 17U

/*
 * Every second batch requests range zaps. CHECK_EVERY is odd, so checks follow
 * batches of both kinds.
 */
#define ZAP_RANGES_EVERY 2U

/* The end of input ends the test; the emulated machine has a shorter limit. */
#define STRESS_TIMEOUT_S 86400

enum slot_state {
	SLOT_ABSENT,
	SLOT_PLAIN,
	SLOT_LOGGING,
};

/*
 * The states of a slot in order: created with logging, logging off and on,
 * deleted.
 */
static const enum slot_state states[] = {
	SLOT_ABSENT,
	SLOT_LOGGING,
	SLOT_PLAIN,
	SLOT_LOGGING,
};

/**
 * struct stress - a VM and its expected memslots
 * @dev: /dev/kvm-vmem
 * @tdp_mmu: KVM uses the TDP MMU
 * @vm: the VM
 * @vcpu: its vCPU
 * @mem: memory of all slots
 * @batch: entries
 * @state: expected state of each slot
 */
struct stress {
	int dev;
	bool tdp_mmu;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch batch;
	enum slot_state state[NR_SLOTS];
};

/* No data is ever written to standard input: it becomes readable at its end. */
static bool told_to_end(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&in, 1, 0) != 0;
}

static uint64_t slot_gpa(unsigned int slot)
{
	return STRESS_GPA + slot * SLOT_STRIDE;
}

static uint8_t *slot_hva(const struct stress *s, unsigned int slot)
{
	return s->mem.hva + slot * SLOT_SIZE;
}

/*
 * Neighbours are in different states, so each batch has all kinds of changes.
 */
static void next(struct stress *s, uint64_t number)
{
	bool zap_ranges;
	unsigned int i;

	batch_reset(&s->batch);
	for (i = 0; i < NR_SLOTS; i++) {
		enum slot_state want =
			states[(i + number) % ARRAY_SIZE(states)];

		if (want == SLOT_ABSENT)
			batch_delete(&s->batch, FIRST_SLOT + i);
		else
			batch_set(&s->batch, FIRST_SLOT + i,
				  want == SLOT_LOGGING ? KVM_MEM_LOG_DIRTY_PAGES
						       : 0,
				  slot_gpa(i), SLOT_SIZE, slot_hva(s, i));
		s->state[i] = want;
	}
	zap_ranges = number % ZAP_RANGES_EVERY == 0;
	ASSERT_OK(batch_call(s->dev, s->vm.fd, &s->batch,
			     zap_ranges ? KVM_VMEM_BATCH_ZAP_RANGES : 0));
	/* Without the TDP MMU the flag is ignored. */
	EXPECT_EQ(s->batch.zapped, zap_ranges && s->tdp_mmu
					   ? KVM_VMEM_ZAPPED_RANGES
					   : KVM_VMEM_ZAPPED_BY_KVM);
}

static void check(struct stress *s)
{
	uint64_t bitmap[1];
	unsigned int i;

	for (i = 0; i < NR_SLOTS; i++) {
		if (s->state[i] == SLOT_ABSENT)
			EXPECT_GUEST_MMIO(&s->vcpu, slot_gpa(i));
		else
			EXPECT_GUEST_MEMORY(&s->vcpu, slot_gpa(i),
					    slot_hva(s, i));
		EXPECT_EQ(vm_dirty_log(&s->vm, FIRST_SLOT + i, bitmap),
			  s->state[i] == SLOT_LOGGING ? 0 : -ENOENT);
	}
}

static void stress(const void *arg)
{
	struct stress s = {0};
	uint64_t number = 0, checks = 0;
	unsigned int i;

	(void)arg;
	s.dev = kvm_vmem_open();
	s.tdp_mmu = kvm_tdp_mmu();
	vm_create(&s.vm, 0);
	vcpu_create(&s.vcpu, &s.vm);
	backing_create(&s.mem, NR_SLOTS * SLOT_SIZE);
	batch_init(&s.batch);
	/* All slots exist, so that the first batch has something to delete. */
	for (i = 0; i < NR_SLOTS; i++)
		batch_set(&s.batch, FIRST_SLOT + i, KVM_MEM_LOG_DIRTY_PAGES,
			  slot_gpa(i), SLOT_SIZE, slot_hva(&s, i));
	ASSERT_OK(batch_apply(s.dev, &s.vm, &s.batch));
	tap_note("begun");

	while (!told_to_end()) {
		next(&s, ++number);
		if (number % CHECK_EVERY == 0) {
			check(&s);
			checks++;
		}
	}
	check(&s);
	EXPECT_GT(number, 0);
	tap_note("%llu batches of %u entries, checked %llu times",
		 (unsigned long long)number, NR_SLOTS,
		 (unsigned long long)checks + 1);
	batch_free(&s.batch);
	vcpu_destroy(&s.vcpu);
	vm_destroy(&s.vm);
	backing_destroy(&s.mem);
	close(s.dev);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "memslots match the batches",
		 .run = stress,
		 .timeout_s = STRESS_TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
