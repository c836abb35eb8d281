// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memslot batches in a VM whose dirty log is a ring for each vCPU. There,
 * memslots have no dirty bitmap. The ring contains memslot ids, which a batch
 * may reuse before the VMM has read them.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "batch.h"
#include "kernel.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define BASE_GPA   MIB(16)
#define SLOT_PAGES 4U
#define SLOT_SIZE  (SLOT_PAGES * GUEST_PAGE)
#define NR_SLOTS   8U
#define FIRST_ID   1U

/* A memslot with large metadata. Its backing is never accessed. */
#define HUGE_GPA  GIB(4)
#define HUGE_SIZE GIB(64)

/**
 * struct bench - fixture of all cases
 * @dev: /dev/kvm-vmem
 * @vm: a VM with dirty rings and both address spaces
 * @vcpu: its vCPU
 * @mem: backing for NR_SLOTS memslots
 * @batch: an empty batch
 * @ring: the vCPU's dirty ring
 */
struct bench {
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch batch;
	struct dirty_ring ring;
};

static void bench_init(struct bench *t)
{
	t->dev = kvm_vmem_open();
	vm_create(&t->vm, VM_SMM | VM_DIRTY_RING);
	vcpu_create(&t->vcpu, &t->vm);
	backing_create(&t->mem, NR_SLOTS * SLOT_SIZE);
	batch_init(&t->batch);
	dirty_ring_map(&t->ring, &t->vcpu);
}

static void add_slot(struct bench *t, unsigned int as, unsigned int i,
		     uint32_t flags)
{
	batch_set(&t->batch, SLOT(as, FIRST_ID + i), flags,
		  BASE_GPA + i * SLOT_SIZE, SLOT_SIZE,
		  t->mem.hva + i * SLOT_SIZE);
}

static void apply(struct bench *t)
{
	ASSERT_OK(batch_apply(t->dev, &t->vm, &t->batch));
	batch_reset(&t->batch);
}

static void create_slots(struct bench *t, uint32_t flags)
{
	unsigned int i;

	for (i = 0; i < NR_SLOTS; i++)
		add_slot(t, AS_NORMAL, i, flags);
	apply(t);
}

static void guest_touches(struct bench *t, unsigned int i, unsigned int page)
{
	EXPECT_EQ(guest_write(&t->vcpu,
			      BASE_GPA + i * SLOT_SIZE + page * GUEST_PAGE, i),
		  GUEST_MEMORY);
}

/* The ring's entry for a page of a memslot. */
static uint64_t logged(unsigned int as, unsigned int i, unsigned int page)
{
	return (uint64_t)SLOT(as, FIRST_ID + i) << 32 | page;
}

static void created_slots_log(const void *arg)
{
	struct bench t;
	unsigned int i;
	uint64_t bits;

	(void)arg;
	bench_init(&t);
	create_slots(&t, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < NR_SLOTS; i++) {
		const unsigned int page = i % SLOT_PAGES;

		tap_context("slot %u", i);
		EXPECT_EQ(dirty_ring_harvest(&t.ring), DIRTY_RING_EMPTY);
		guest_touches(&t, i, page);
		guest_touches(&t, i, page);
		EXPECT_EQ(dirty_ring_harvest(&t.ring),
			  logged(AS_NORMAL, i, page));
		EXPECT_EQ(dirty_ring_harvest(&t.ring), DIRTY_RING_EMPTY);
		EXPECT_EQ(dirty_ring_reset(&t.vm), 1);
		guest_touches(&t, i, page);
		EXPECT_EQ(dirty_ring_harvest(&t.ring),
			  logged(AS_NORMAL, i, page));
		/* There is no bitmap in addition to the ring. */
		EXPECT_ERR(vm_dirty_log(&t.vm, FIRST_ID + i, &bits), ENXIO);
		EXPECT_EQ(dirty_ring_reset(&t.vm), 1);
	}
}

static void flips_log_on_and_off(const void *arg)
{
	struct bench t;
	unsigned int i;

	(void)arg;
	bench_init(&t);
	create_slots(&t, 0);
	/*
	 * The pages are mapped writable before; the flip must write-protect
	 * them.
	 */
	for (i = 0; i < NR_SLOTS; i++)
		guest_touches(&t, i, 2);
	EXPECT_EQ(dirty_ring_harvest(&t.ring), DIRTY_RING_EMPTY);

	for (i = 0; i < NR_SLOTS; i += 2)
		add_slot(&t, AS_NORMAL, i, KVM_MEM_LOG_DIRTY_PAGES);
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u, logging on", i);
		guest_touches(&t, i, 2);
		EXPECT_EQ(dirty_ring_harvest(&t.ring),
			  i % 2 ? DIRTY_RING_EMPTY : logged(AS_NORMAL, i, 2));
	}
	EXPECT_EQ(dirty_ring_reset(&t.vm), NR_SLOTS / 2);

	for (i = 0; i < NR_SLOTS; i++)
		add_slot(&t, AS_NORMAL, i, i % 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u, logging flipped", i);
		guest_touches(&t, i, 2);
		EXPECT_EQ(dirty_ring_harvest(&t.ring),
			  i % 2 ? logged(AS_NORMAL, i, 2) : DIRTY_RING_EMPTY);
	}
}

static void tells_address_spaces_apart(const void *arg)
{
	struct bench t;

	(void)arg;
	bench_init(&t);
	add_slot(&t, AS_NORMAL, 0, KVM_MEM_LOG_DIRTY_PAGES);
	add_slot(&t, AS_SMM, 0, KVM_MEM_LOG_DIRTY_PAGES);
	apply(&t);
	vcpu_set_smm(&t.vcpu, true);
	guest_touches(&t, 0, 1);
	EXPECT_EQ(dirty_ring_harvest(&t.ring), logged(AS_SMM, 0, 1));
	vcpu_set_smm(&t.vcpu, false);
	guest_touches(&t, 0, 3);
	EXPECT_EQ(dirty_ring_harvest(&t.ring), logged(AS_NORMAL, 0, 3));
	EXPECT_EQ(dirty_ring_harvest(&t.ring), DIRTY_RING_EMPTY);
}

/*
 * KVM looks up the memslots of ring entries at the reset, long after the
 * writes.
 */
static void entries_outlive_memslots(const void *arg)
{
	struct bench t;
	unsigned int i;

	(void)arg;
	bench_init(&t);
	create_slots(&t, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < NR_SLOTS; i++)
		guest_touches(&t, i, SLOT_PAGES - 1);

	/*
	 * The first id becomes a smaller memslot, the last stays, the others
	 * are unused.
	 */
	for (i = 0; i < NR_SLOTS - 1; i++)
		batch_delete(&t.batch, FIRST_ID + i);
	apply(&t);
	batch_set(&t.batch, FIRST_ID, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA,
		  GUEST_PAGE, t.mem.hva);
	apply(&t);

	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u", i);
		EXPECT_EQ(dirty_ring_harvest(&t.ring),
			  logged(AS_NORMAL, i, SLOT_PAGES - 1));
	}
	tap_context("%s", "");
	EXPECT_EQ(dirty_ring_reset(&t.vm), NR_SLOTS);
	guest_touches(&t, 0, 0);
	EXPECT_EQ(dirty_ring_harvest(&t.ring), logged(AS_NORMAL, 0, 0));
	guest_touches(&t, NR_SLOTS - 1, SLOT_PAGES - 1);
	EXPECT_EQ(dirty_ring_harvest(&t.ring),
		  logged(AS_NORMAL, NR_SLOTS - 1, SLOT_PAGES - 1));
	EXPECT_EQ(dirty_ring_harvest(&t.ring), DIRTY_RING_EMPTY);
}

/*
 * Bytes that KVM allocates for a memslot of HUGE_SIZE, with none of it
 * accessed.
 */
static uint64_t metadata_of(struct bench *t, uint32_t flags)
{
	uint64_t before = meminfo("VmallocUsed"), used;

	batch_set(&t->batch, FIRST_ID, flags, HUGE_GPA, HUGE_SIZE, t->mem.hva);
	apply(t);
	used = meminfo("VmallocUsed") - before;
	batch_delete(&t->batch, FIRST_ID);
	apply(t);
	return used;
}

static void allocates_no_bitmap(const void *arg)
{
	const uint64_t bitmap = 2 * HUGE_SIZE / GUEST_PAGE / 8;
	struct bench t;
	uint64_t without;

	(void)arg;
	bench_init(&t);
	without = metadata_of(&t, 0);
	/* Others allocate too, but less than this margin. */
	EXPECT_LT(metadata_of(&t, KVM_MEM_LOG_DIRTY_PAGES),
		  without + bitmap / 2);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "memslots created with logging log into the ring",
		 .run = created_slots_log},
		{.name = "a batch flips dirty logging on and off",
		 .run = flips_log_on_and_off},
		{.name = "ring entries contain the address space",
		 .run = tells_address_spaces_apart},
		{.name = "a memslot that logs has no dirty bitmap",
		 .run = allocates_no_bitmap},
		{.name = "ring entries of deleted memslots are ignored",
		 .run = entries_outlive_memslots},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
