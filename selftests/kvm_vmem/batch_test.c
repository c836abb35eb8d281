// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Effects of a memslot batch, as seen by the guest and by KVM's own calls.
 * batch_refuse_test.c tests what a batch refuses.
 */
#include <errno.h>
#include <linux/kvm_vmem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "batch.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define BASE_GPA  MIB(16)
#define SLOT_SIZE (4 * GUEST_PAGE)
/* Memslots are separated by holes, in which the guest must find no memory. */
#define STRIDE	  (2 * SLOT_SIZE)
#define NR_SLOTS  16U
#define FIRST_ID  1U
#define SLOT_BITS (SLOT_SIZE / GUEST_PAGE)

/* A full batch creates 65,528 memslots, each with its own metadata. */
#define FULL_BATCH_TIMEOUT_S 600

/**
 * struct bench - fixture of most cases
 * @dev: /dev/kvm-vmem
 * @vm: a VM
 * @vcpu: its vCPU
 * @mem: backing for 2 * NR_SLOTS memslots
 * @batch: an empty batch
 */
struct bench {
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch batch;
};

static void bench_init(struct bench *t, unsigned int vm_flags)
{
	t->dev = kvm_vmem_open();
	vm_create(&t->vm, vm_flags);
	vcpu_create(&t->vcpu, &t->vm);
	backing_create(&t->mem, 2 * NR_SLOTS * SLOT_SIZE);
	batch_init(&t->batch);
}

/* VM flags of a case that runs in two modes, passed as its argument. */
static unsigned int mode_of(const void *arg)
{
	return arg ? *(const unsigned int *)arg : 0;
}

static uint64_t gpa_of(unsigned int i)
{
	return BASE_GPA + i * STRIDE;
}

static uint8_t *hva_of(const struct bench *t, unsigned int i)
{
	return t->mem.hva + i * SLOT_SIZE;
}

static void add_slot(struct bench *t, unsigned int as, unsigned int i,
		     uint32_t flags)
{
	batch_set(&t->batch, SLOT(as, FIRST_ID + i), flags, gpa_of(i),
		  SLOT_SIZE, hva_of(t, i));
}

/* Apply the batch and clear it. */
static void apply(struct bench *t)
{
	ASSERT_OK(batch_apply(t->dev, &t->vm, &t->batch));
	batch_reset(&t->batch);
}

static void create_slots(struct bench *t, unsigned int as, uint32_t flags)
{
	unsigned int i;

	for (i = 0; i < NR_SLOTS; i++)
		add_slot(t, as, i, flags);
	apply(t);
}

/* The guest finds all of slot @i at its place, and no memory beside it. */
static void expect_slot(struct bench *t, unsigned int i)
{
	uint64_t last = SLOT_SIZE - sizeof(uint64_t);

	tap_context("slot %u", i);
	EXPECT_GUEST_MMIO(&t->vcpu, gpa_of(i) - sizeof(uint64_t));
	EXPECT_GUEST_MEMORY(&t->vcpu, gpa_of(i), hva_of(t, i));
	EXPECT_GUEST_MEMORY(&t->vcpu, gpa_of(i) + last, hva_of(t, i) + last);
	EXPECT_GUEST_MMIO(&t->vcpu, gpa_of(i) + SLOT_SIZE);
	tap_context("%s", "");
}

static void expect_hole(struct bench *t, unsigned int i)
{
	tap_context("slot %u", i);
	EXPECT_GUEST_MMIO(&t->vcpu, gpa_of(i));
	EXPECT_GUEST_MMIO(&t->vcpu, gpa_of(i) + SLOT_SIZE - sizeof(uint64_t));
	tap_context("%s", "");
}

static void creates(const void *arg)
{
	struct bench t;
	unsigned int i;

	(void)arg;
	bench_init(&t, 0);
	for (i = 0; i < NR_SLOTS; i++)
		expect_hole(&t, i);
	create_slots(&t, AS_NORMAL, 0);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
}

static void deletes(const void *arg)
{
	struct bench t;
	unsigned int i;

	bench_init(&t, mode_of(arg));
	create_slots(&t, AS_NORMAL, 0);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
	for (i = 0; i < NR_SLOTS; i += 2)
		batch_delete(&t.batch, FIRST_ID + i);
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		EXPECT_EQ(vm_slot_exists(&t.vm, FIRST_ID + i), i % 2);
		if (i % 2)
			expect_slot(&t, i);
		else
			expect_hole(&t, i);
	}
}

/* VM_ZAP_SLOTS and the default drop the mappings that they should. */
static void zaps_as_the_vm_wants(const void *arg)
{
	struct bench t;
	unsigned int i;
	uint64_t mapped;

	bench_init(&t, mode_of(arg));
	create_slots(&t, AS_NORMAL, 0);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
	/* With shadow paging only the last accessed page is mapped. */
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(0), hva_of(&t, 0));
	mapped = vm_stat(&t.vm, "pages_4k");
	EXPECT_GT(mapped, 0U);
	for (i = 0; i < NR_SLOTS; i++)
		batch_delete(&t.batch, FIRST_ID + i);
	apply(&t);
	EXPECT_LT(vm_stat(&t.vm, "pages_4k"), mapped);
	/* The boot memory is still mapped. */
	if (arg)
		EXPECT_GT(vm_stat(&t.vm, "pages_4k"), 0U);
	else
		EXPECT_EQ(vm_stat(&t.vm, "pages_4k"), 0U);
}

static void deletes_by_size_alone(const void *arg)
{
	struct bench t;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, 0);
	/*
	 * As in KVM, size 0 deletes the id, whatever its address fields
	 * contain.
	 */
	batch_set(&t.batch, FIRST_ID, 0, gpa_of(1), 0, hva_of(&t, 1));
	apply(&t);
	expect_hole(&t, 0);
	expect_slot(&t, 1);
}

static void reuses_ids(const void *arg)
{
	struct bench t;
	unsigned int round, i;

	bench_init(&t, mode_of(arg));
	for (round = 0; round < 8; round++) {
		create_slots(&t, AS_NORMAL, 0);
		expect_slot(&t, round);
		for (i = 0; i < NR_SLOTS; i++)
			batch_delete(&t.batch, FIRST_ID + i);
		apply(&t);
		expect_hole(&t, round);
	}
}

static void sees_through_cached_mmio(const void *arg)
{
	struct bench t;
	unsigned int round;

	bench_init(&t, mode_of(arg));
	for (round = 0; round < 20; round++) {
		/*
		 * Twice: KVM caches the first access and answers the second
		 * from the cache.
		 */
		EXPECT_GUEST_MMIO(&t.vcpu, gpa_of(0));
		EXPECT_GUEST_MMIO(&t.vcpu, gpa_of(0));
		add_slot(&t, AS_NORMAL, 0, 0);
		apply(&t);
		EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(0), hva_of(&t, 0));
		batch_delete(&t.batch, FIRST_ID);
		apply(&t);
	}
	EXPECT_GUEST_MMIO(&t.vcpu, gpa_of(0));
}

static void readonly(const void *arg)
{
	struct bench t;
	uint64_t value;

	(void)arg;
	bench_init(&t, 0);
	add_slot(&t, AS_NORMAL, 0, KVM_MEM_READONLY);
	add_slot(&t, AS_NORMAL, 1, 0);
	apply(&t);
	memset(hva_of(&t, 0), 0x3c, SLOT_SIZE);
	EXPECT_EQ(guest_read(&t.vcpu, gpa_of(0), &value), GUEST_MEMORY);
	EXPECT_EQ(value, 0x3c3c3c3c3c3c3c3cULL);
	EXPECT_EQ(guest_write(&t.vcpu, gpa_of(0), 0), GUEST_MMIO);
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(1), hva_of(&t, 1));
}

static void far_addresses(const void *arg)
{
	static const uint64_t gpas[] = {GIB(4), GIB(512), TIB(1), TIB(2)};
	unsigned int i, nr = ARRAY_SIZE(gpas);
	struct bench t;

	(void)arg;
	bench_init(&t, 0);
	/* Some CPUs have only 39 or 40 bits of guest address. */
	while (nr > 1 && vm_max_gpa(&t.vm) < gpas[nr - 1] + SLOT_SIZE)
		nr--;
	for (i = 0; i < nr; i++)
		batch_set(&t.batch, FIRST_ID + i, 0, gpas[i], SLOT_SIZE,
			  hva_of(&t, i));
	apply(&t);
	for (i = 0; i < nr; i++) {
		EXPECT_GUEST_MMIO(&t.vcpu, gpas[i] - sizeof(uint64_t));
		EXPECT_GUEST_MEMORY(&t.vcpu, gpas[i], hva_of(&t, i));
		EXPECT_GUEST_MMIO(&t.vcpu, gpas[i] + SLOT_SIZE);
	}
}

/* Fetch the dirty bitmap of slot @i, which fits in one word. */
static int dirty_pages(const struct bench *t, unsigned int i, uint64_t *bits)
{
	*bits = 0;
	return vm_dirty_log(&t->vm, FIRST_ID + i, bits);
}

static void guest_touches_page(struct bench *t, unsigned int i,
			       unsigned int page)
{
	EXPECT_EQ(guest_write(&t->vcpu, gpa_of(i) + page * GUEST_PAGE, i),
		  GUEST_MEMORY);
}

static void created_slots_log(const void *arg)
{
	struct bench t;
	unsigned int i;
	uint64_t bits;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u", i);
		EXPECT_OK(dirty_pages(&t, i, &bits));
		EXPECT_EQ(bits, 0);
		guest_touches_page(&t, i, i % SLOT_BITS);
		EXPECT_OK(dirty_pages(&t, i, &bits));
		EXPECT_EQ(bits, 1U << i % SLOT_BITS);
		EXPECT_OK(dirty_pages(&t, i, &bits));
		EXPECT_EQ(bits, 0);
	}
}

static void flips_log_on_and_off(const void *arg)
{
	struct bench t;
	unsigned int i, page;
	uint64_t bits;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, 0);
	/*
	 * The pages are mapped writable before; the flip must write-protect
	 * them.
	 */
	for (i = 0; i < NR_SLOTS; i++)
		for (page = 0; page < SLOT_BITS; page++)
			guest_touches_page(&t, i, page);

	for (i = 0; i < NR_SLOTS; i += 2)
		add_slot(&t, AS_NORMAL, i, KVM_MEM_LOG_DIRTY_PAGES);
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u, logging on", i);
		guest_touches_page(&t, i, 3);
		EXPECT_ERR(dirty_pages(&t, i, &bits), i % 2 ? ENOENT : 0);
		EXPECT_EQ(bits, i % 2 ? 0 : 1 << 3);
		expect_slot(&t, i);
	}

	for (i = 0; i < NR_SLOTS; i++)
		add_slot(&t, AS_NORMAL, i, i % 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u, logging flipped", i);
		guest_touches_page(&t, i, 1);
		EXPECT_ERR(dirty_pages(&t, i, &bits), i % 2 ? 0 : ENOENT);
		EXPECT_EQ(bits, i % 2 ? 1 << 1 : 0);
		expect_slot(&t, i);
	}
}

static void flip_keeps_dirty_bits_of_others(const void *arg)
{
	struct bench t;
	uint64_t bits;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, KVM_MEM_LOG_DIRTY_PAGES);
	guest_touches_page(&t, 0, 2);
	guest_touches_page(&t, 1, 1);

	/*
	 * Slot 0 is an entry without change, slot 1 no entry, slot 2 is
	 * flipped.
	 */
	add_slot(&t, AS_NORMAL, 0, KVM_MEM_LOG_DIRTY_PAGES);
	add_slot(&t, AS_NORMAL, 2, 0);
	batch_delete(&t.batch, FIRST_ID + 3);
	apply(&t);
	EXPECT_OK(dirty_pages(&t, 0, &bits));
	EXPECT_EQ(bits, 1 << 2);
	EXPECT_OK(dirty_pages(&t, 1, &bits));
	EXPECT_EQ(bits, 1 << 1);
	EXPECT_ERR(dirty_pages(&t, 2, &bits), ENOENT);
}

static void log_initially_set(const void *arg)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			 KVM_DIRTY_LOG_INITIALLY_SET},
	};
	struct bench t;
	uint64_t bits;

	(void)arg;
	bench_init(&t, 0);
	if (ioctl(t.vm.fd, KVM_ENABLE_CAP, &cap))
		tap_skip("no KVM_DIRTY_LOG_INITIALLY_SET: %s", strerror(errno));
	add_slot(&t, AS_NORMAL, 0, KVM_MEM_LOG_DIRTY_PAGES);
	add_slot(&t, AS_NORMAL, 1, 0);
	apply(&t);
	EXPECT_OK(dirty_pages(&t, 0, &bits));
	EXPECT_EQ(bits, (1 << SLOT_BITS) - 1);
	add_slot(&t, AS_NORMAL, 1, KVM_MEM_LOG_DIRTY_PAGES);
	apply(&t);
	EXPECT_OK(dirty_pages(&t, 1, &bits));
	EXPECT_EQ(bits, (1 << SLOT_BITS) - 1);
}

static void mixes_all_kinds(const void *arg)
{
	struct bench t;
	uint64_t bits;

	bench_init(&t, mode_of(arg));
	create_slots(&t, AS_NORMAL, 0);

	batch_delete(&t.batch, FIRST_ID + 0);
	add_slot(&t, AS_NORMAL, 1, KVM_MEM_LOG_DIRTY_PAGES);
	add_slot(&t, AS_NORMAL, 2, 0);
	/*
	 * One new memslot in a free range, one in the range of a deleted
	 * memslot.
	 */
	batch_set(&t.batch, FIRST_ID + NR_SLOTS, 0, gpa_of(NR_SLOTS), SLOT_SIZE,
		  hva_of(&t, NR_SLOTS));
	batch_set(&t.batch, FIRST_ID + NR_SLOTS + 1, KVM_MEM_LOG_DIRTY_PAGES,
		  gpa_of(3), SLOT_SIZE, hva_of(&t, NR_SLOTS + 1));
	batch_delete(&t.batch, FIRST_ID + 3);
	apply(&t);

	expect_hole(&t, 0);
	expect_slot(&t, 1);
	EXPECT_OK(dirty_pages(&t, 1, &bits));
	expect_slot(&t, 2);
	EXPECT_ERR(dirty_pages(&t, 2, &bits), ENOENT);
	expect_slot(&t, NR_SLOTS);
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(3), hva_of(&t, NR_SLOTS + 1));
	EXPECT_OK(dirty_pages(&t, NR_SLOTS + 1, &bits));
	EXPECT_EQ(bits, 1);
	EXPECT_TRUE(!vm_slot_exists(&t.vm, FIRST_ID + 3));
	expect_slot(&t, 4);
}

static void exchanges_backings(const void *arg)
{
	struct bench t;
	unsigned int i;

	bench_init(&t, mode_of(arg));
	create_slots(&t, AS_NORMAL, 0);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
	/* Each range gets another id and the backing of its neighbour. */
	for (i = 0; i < NR_SLOTS; i++) {
		batch_set(&t.batch, FIRST_ID + NR_SLOTS + i, 0, gpa_of(i),
			  SLOT_SIZE, hva_of(&t, i ^ 1));
		batch_delete(&t.batch, FIRST_ID + i);
	}
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++)
		EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(i), hva_of(&t, i ^ 1));
}

static void splits_and_joins(const void *arg)
{
	const uint64_t size = NR_SLOTS * SLOT_SIZE;
	struct bench t;
	unsigned int i;

	bench_init(&t, mode_of(arg));
	/* A single memslot... */
	batch_set(&t.batch, FIRST_ID, 0, BASE_GPA, size, t.mem.hva);
	apply(&t);
	EXPECT_GUEST_MEMORY(&t.vcpu, BASE_GPA + size - 8, hva_of(&t, 16) - 8);

	/* ... becomes many, in reverse order and without every third... */
	batch_delete(&t.batch, FIRST_ID);
	for (i = NR_SLOTS; i-- > 0;)
		if (i % 3)
			batch_set(&t.batch, FIRST_ID + 1 + i, 0,
				  BASE_GPA + i * SLOT_SIZE, SLOT_SIZE,
				  hva_of(&t, i));
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++) {
		if (i % 3)
			EXPECT_GUEST_MEMORY(&t.vcpu, BASE_GPA + i * SLOT_SIZE,
					    hva_of(&t, i));
		else
			EXPECT_GUEST_MMIO(&t.vcpu, BASE_GPA + i * SLOT_SIZE);
	}

	/*
	 * ... and a single one again, whose ends lie within deleted memslots.
	 */
	for (i = 0; i < NR_SLOTS; i++)
		if (i % 3)
			batch_delete(&t.batch, FIRST_ID + 1 + i);
	batch_set(&t.batch, FIRST_ID, 0, BASE_GPA + SLOT_SIZE + GUEST_PAGE,
		  size - 3 * SLOT_SIZE, hva_of(&t, NR_SLOTS));
	apply(&t);
	EXPECT_GUEST_MMIO(&t.vcpu, BASE_GPA + SLOT_SIZE);
	EXPECT_GUEST_MEMORY(&t.vcpu, BASE_GPA + SLOT_SIZE + GUEST_PAGE,
			    hva_of(&t, NR_SLOTS));
	EXPECT_GUEST_MMIO(&t.vcpu,
			  BASE_GPA + size - 2 * SLOT_SIZE + GUEST_PAGE);
}

static void both_address_spaces(const void *arg)
{
	struct bench t;
	unsigned int i;

	bench_init(&t, VM_SMM | mode_of(arg));
	for (i = 0; i < NR_SLOTS; i++) {
		add_slot(&t, AS_NORMAL, i, 0);
		/*
		 * Same ids and addresses with other backing, for every second
		 * slot.
		 */
		if (i % 2)
			batch_set(&t.batch, SLOT(AS_SMM, FIRST_ID + i), 0,
				  gpa_of(i), SLOT_SIZE,
				  hva_of(&t, NR_SLOTS + i));
	}
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
	vcpu_set_smm(&t.vcpu, true);
	for (i = 0; i < NR_SLOTS; i++) {
		if (i % 2)
			EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(i),
					    hva_of(&t, NR_SLOTS + i));
		else
			expect_hole(&t, i);
	}

	/* Create in one address space, delete in the other. */
	for (i = 0; i < NR_SLOTS; i++) {
		batch_delete(&t.batch, SLOT(AS_NORMAL, FIRST_ID + i));
		if (i % 2 == 0)
			add_slot(&t, AS_SMM, i, 0);
	}
	apply(&t);
	for (i = 0; i < NR_SLOTS; i += 2)
		expect_slot(&t, i);
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(1), hva_of(&t, NR_SLOTS + 1));
	vcpu_set_smm(&t.vcpu, false);
	for (i = 0; i < NR_SLOTS; i++)
		expect_hole(&t, i);
}

static void smm_dirty_log(const void *arg)
{
	const uint32_t slot = SLOT(AS_SMM, FIRST_ID);
	struct bench t;
	uint64_t bits = 0;

	(void)arg;
	bench_init(&t, VM_SMM);
	add_slot(&t, AS_NORMAL, 0, KVM_MEM_LOG_DIRTY_PAGES);
	add_slot(&t, AS_SMM, 0, KVM_MEM_LOG_DIRTY_PAGES);
	apply(&t);
	vcpu_set_smm(&t.vcpu, true);
	guest_touches_page(&t, 0, 2);
	EXPECT_OK(vm_dirty_log(&t.vm, slot, &bits));
	EXPECT_EQ(bits, 1 << 2);
	EXPECT_OK(dirty_pages(&t, 0, &bits));
	EXPECT_EQ(bits, 0);
	add_slot(&t, AS_SMM, 0, 0);
	apply(&t);
	EXPECT_ERR(vm_dirty_log(&t.vm, slot, &bits), ENOENT);
	EXPECT_OK(dirty_pages(&t, 0, &bits));
}

static void empty(const void *arg)
{
	struct bench t;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, 0);
	EXPECT_EQ(t.batch.nr, 0);
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
	batch_free(&t.batch);
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
	expect_slot(&t, 0);
}

static void changes_nothing(const void *arg)
{
	struct bench t;
	uint64_t bits;
	unsigned int i;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, KVM_MEM_LOG_DIRTY_PAGES);
	guest_touches_page(&t, 5, 1);
	create_slots(&t, AS_NORMAL, KVM_MEM_LOG_DIRTY_PAGES);
	EXPECT_OK(dirty_pages(&t, 5, &bits));
	EXPECT_EQ(bits, 1 << 1);
	for (i = 0; i < NR_SLOTS; i++)
		expect_slot(&t, i);
}

static void validates_only(const void *arg)
{
	struct bench t;
	unsigned int i;
	uint64_t bits;

	(void)arg;
	bench_init(&t, VM_SMM);
	for (i = 0; i < NR_SLOTS / 2; i++)
		add_slot(&t, AS_NORMAL, i, 0);
	apply(&t);

	for (i = 0; i < NR_SLOTS; i++) {
		if (i < NR_SLOTS / 4)
			batch_delete(&t.batch, FIRST_ID + i);
		else
			add_slot(&t, AS_NORMAL, i, KVM_MEM_LOG_DIRTY_PAGES);
		add_slot(&t, AS_SMM, i, 0);
	}
	EXPECT_OK(batch_call(t.dev, t.vm.fd, &t.batch,
			     KVM_VMEM_BATCH_VALIDATE_ONLY));
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u", i);
		EXPECT_EQ(vm_slot_exists(&t.vm, FIRST_ID + i),
			  i < NR_SLOTS / 2);
		EXPECT_TRUE(!vm_slot_exists(&t.vm, SLOT(AS_SMM, FIRST_ID + i)));
		EXPECT_ERR(dirty_pages(&t, i, &bits), ENOENT);
		if (i < NR_SLOTS / 2)
			expect_slot(&t, i);
		else
			expect_hole(&t, i);
	}

	/* The batch that VALIDATE_ONLY accepted succeeds. */
	apply(&t);
	for (i = 0; i < NR_SLOTS; i++)
		if (i < NR_SLOTS / 4)
			expect_hole(&t, i);
		else
			expect_slot(&t, i);
}

static void stock_calls_on_batch_slots(const void *arg)
{
	struct bench t;
	uint64_t bits;

	(void)arg;
	bench_init(&t, 0);
	create_slots(&t, AS_NORMAL, 0);
	guest_touches_page(&t, 0, 0);

	EXPECT_OK(vm_set_region(&t.vm, FIRST_ID, KVM_MEM_LOG_DIRTY_PAGES,
				gpa_of(0), SLOT_SIZE, hva_of(&t, 0)));
	guest_touches_page(&t, 0, 1);
	EXPECT_OK(dirty_pages(&t, 0, &bits));
	EXPECT_EQ(bits, 1 << 1);
	/* MOVE into the hole after it. */
	EXPECT_OK(vm_set_region(&t.vm, FIRST_ID + 1, 0, gpa_of(1) + SLOT_SIZE,
				SLOT_SIZE, hva_of(&t, 1)));
	expect_hole(&t, 1);
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(1) + SLOT_SIZE, hva_of(&t, 1));
	EXPECT_OK(vm_delete_slot(&t.vm, FIRST_ID + 2));
	expect_hole(&t, 2);
	EXPECT_OK(vm_set_region(&t.vm, FIRST_ID + 2, 0, gpa_of(2), SLOT_SIZE,
				hva_of(&t, NR_SLOTS)));
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(2), hva_of(&t, NR_SLOTS));
	EXPECT_ERR(vm_set_region(&t.vm, FIRST_ID + NR_SLOTS, 0, gpa_of(3),
				 SLOT_SIZE, hva_of(&t, 3)),
		   EEXIST);
	expect_slot(&t, 4);
}

static void batch_on_stock_slots(const void *arg)
{
	struct bench t;
	unsigned int i;
	uint64_t bits;

	bench_init(&t, mode_of(arg));
	for (i = 0; i < 4; i++)
		ASSERT_OK(vm_set_region(&t.vm, FIRST_ID + i,
					i == 3 ? KVM_MEM_LOG_DIRTY_PAGES : 0,
					gpa_of(i), SLOT_SIZE, hva_of(&t, i)));
	for (i = 0; i < 4; i++)
		expect_slot(&t, i);
	while (!dirty_pages(&t, 3, &bits) && bits)
		;

	batch_delete(&t.batch, FIRST_ID + 0);
	add_slot(&t, AS_NORMAL, 1, KVM_MEM_LOG_DIRTY_PAGES);
	batch_delete(&t.batch, FIRST_ID + 2);
	batch_set(&t.batch, FIRST_ID + 4, 0, gpa_of(2), SLOT_SIZE,
		  hva_of(&t, 4));
	apply(&t);
	expect_hole(&t, 0);
	guest_touches_page(&t, 1, 3);
	EXPECT_OK(dirty_pages(&t, 1, &bits));
	EXPECT_EQ(bits, 1 << 3);
	EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(2), hva_of(&t, 4));
	guest_touches_page(&t, 3, 1);
	EXPECT_OK(dirty_pages(&t, 3, &bits));
	EXPECT_EQ(bits, 1 << 1);
}

/* Replaces the boot memslot, which contains the code that the vCPU runs. */
static void replaces_memory_the_vcpu_runs_in(const void *arg)
{
	struct bench t;
	unsigned int round;

	bench_init(&t, mode_of(arg));
	add_slot(&t, AS_NORMAL, 0, 0);
	apply(&t);
	for (round = 0; round < 8; round++) {
		uint32_t old = round % 2 ? FIRST_ID + 1 : VM_BOOT_SLOT;
		uint32_t new = round % 2 ? VM_BOOT_SLOT : FIRST_ID + 1;

		batch_set(&t.batch, new, 0, 0, VM_BOOT_SIZE, t.vm.boot_hva);
		batch_delete(&t.batch, old);
		apply(&t);
		expect_slot(&t, 0);
	}
}

/**
 * struct reader - a thread whose vCPU reads and writes a memslot that stays
 * @vcpu: its vCPU
 * @gpa: address that it accesses
 * @accesses: number of accesses
 * @mmio: accesses that found no memory
 * @lost: reads that did not return the value written before
 * @stop: ask the thread to end
 */
struct reader {
	struct vcpu vcpu;
	uint64_t gpa;
	uint64_t accesses;
	uint64_t mmio;
	uint64_t lost;
	bool stop;
};

static void *reader_run(void *arg)
{
	struct reader *r = arg;
	uint64_t n = 0, value;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		n++;
		if (guest_write(&r->vcpu, r->gpa, n) != GUEST_MEMORY)
			r->mmio++;
		if (guest_read(&r->vcpu, r->gpa, &value) != GUEST_MEMORY)
			r->mmio++;
		else if (value != n)
			r->lost++;
		__atomic_store_n(&r->accesses, 2 * n, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void kept_slot_stays_under_running_vcpu(const void *arg)
{
	/*
	 * At least this many batches, and until the reader has made this many
	 * accesses.
	 */
	const unsigned int min_rounds = 50, min_accesses = 500;
	struct reader r = {.gpa = gpa_of(NR_SLOTS)};
	pthread_t thread;
	struct bench t;
	unsigned int round, i;

	bench_init(&t, mode_of(arg));
	vcpu_create(&r.vcpu, &t.vm);
	add_slot(&t, AS_NORMAL, NR_SLOTS, 0);
	apply(&t);
	ASSERT_EQ(pthread_create(&thread, NULL, reader_run, &r), 0);
	for (round = 0;
	     round < min_rounds ||
	     __atomic_load_n(&r.accesses, __ATOMIC_ACQUIRE) < min_accesses;
	     round++) {
		create_slots(&t, AS_NORMAL, 0);
		EXPECT_GUEST_MEMORY(&t.vcpu, gpa_of(0), hva_of(&t, 0));
		for (i = 0; i < NR_SLOTS; i++)
			batch_delete(&t.batch, FIRST_ID + i);
		apply(&t);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(r.mmio, 0);
	EXPECT_EQ(r.lost, 0);
}

static void full_batch(const void *arg)
{
	struct batch create, delete;
	unsigned int as, id;
	struct backing mem;
	struct vm vm;
	int dev, max;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	backing_create(&mem, GUEST_PAGE);
	batch_init(&create);
	batch_init(&delete);
	max = vm_check_extension(&vm, KVM_CAP_NR_MEMSLOTS);
	ASSERT_EQ(vm_check_extension(&vm, KVM_CAP_MULTI_ADDRESS_SPACE), 2);
	ASSERT_EQ(2 * max, KVM_VMEM_MAX_BATCH);

	/*
	 * Dirty logging on the last memslot of each address space shows that it
	 * exists.
	 */
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		for (id = 0; id < (unsigned int)max; id++) {
			batch_set(&create, SLOT(as, id),
				  id == (unsigned int)max - 1
					  ? KVM_MEM_LOG_DIRTY_PAGES
					  : 0,
				  BASE_GPA + id * GUEST_PAGE, GUEST_PAGE,
				  mem.hva);
			batch_delete(&delete, SLOT(as, id));
		}
	}
	ASSERT_OK(batch_apply(dev, &vm, &create));
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		uint64_t bits;

		EXPECT_OK(vm_dirty_log(&vm, SLOT(as, max - 1), &bits));
		/*
		 * All exist: changing the size of an existing memslot is
		 * EINVAL.
		 */
		for (id = 0; id < (unsigned int)max; id += 1009)
			EXPECT_ERR(vm_set_region(&vm, SLOT(as, id), 0,
						 BASE_GPA + id * GUEST_PAGE,
						 2 * GUEST_PAGE, mem.hva),
				   EINVAL);
	}
	ASSERT_OK(batch_apply(dev, &vm, &delete));
	for (as = AS_NORMAL; as <= AS_SMM; as++)
		for (id = 0; id < (unsigned int)max; id += 1009)
			EXPECT_ERR(vm_delete_slot(&vm, SLOT(as, id)), EINVAL);
}

int main(void)
{
	static const unsigned int zap_slots = VM_ZAP_SLOTS;
	static const struct tap_case cases[] = {
		{.name = "a batch creates memslots that the guest sees",
		 .run = creates},
		{.name = "a batch deletes memslots, others stay",
		 .run = deletes},
		{.name = "size 0 deletes, whatever the address",
		 .run = deletes_by_size_alone},
		{.name = "ids can be used again", .run = reuses_ids},
		{.name = "cached MMIO is dropped when memory appears, and returns",
		 .run = sees_through_cached_mmio},
		{.name = "a batch creates read-only memslots", .run = readonly},
		{.name = "a batch creates memslots far above 4 GiB",
		 .run = far_addresses},
		{.name = "memslots created with logging log guest writes",
		 .run = created_slots_log},
		{.name = "a batch flips dirty logging on and off",
		 .run = flips_log_on_and_off},
		{.name = "a flip loses no dirty bit of other memslots",
		 .run = flip_keeps_dirty_bits_of_others},
		{.name = "logging begins with all pages dirty if the VM asks for it",
		 .run = log_initially_set},
		{.name = "creates, deletes and flips mix",
		 .run = mixes_all_kinds},
		{.name = "ranges change backing in one batch",
		 .run = exchanges_backings},
		{.name = "a memslot is split into many and joined again",
		 .run = splits_and_joins},
		{.name = "a batch spans both address spaces",
		 .run = both_address_spaces},
		{.name = "dirty logging works in the SMM address space",
		 .run = smm_dirty_log},
		{.name = "an empty batch is accepted", .run = empty},
		{.name = "entries that change nothing are accepted",
		 .run = changes_nothing},
		{.name = "VALIDATE_ONLY changes nothing",
		 .run = validates_only},
		{.name = "KVM's own calls work on memslots made by a batch",
		 .run = stock_calls_on_batch_slots},
		{.name = "batches work on memslots made by KVM's own call",
		 .run = batch_on_stock_slots},
		{.name = "the memory that a vCPU executes is replaced",
		 .run = replaces_memory_the_vcpu_runs_in},
		{.name = "a running vCPU never misses a memslot that stays",
		 .run = kept_slot_stays_under_running_vcpu},
		{.name = "a batch fills and empties all memslots of a VM",
		 .run = full_batch,
		 .timeout_s = FULL_BATCH_TIMEOUT_S},
		{.name = "a delete drops all mappings",
		 .run = zaps_as_the_vm_wants},
		{.name = "slot by slot: a delete drops only its own mappings",
		 .run = zaps_as_the_vm_wants,
		 .arg = &zap_slots},
		{.name = "slot by slot: a batch deletes memslots, others stay",
		 .run = deletes,
		 .arg = &zap_slots},
		{.name = "slot by slot: ids can be used again",
		 .run = reuses_ids,
		 .arg = &zap_slots},
		{.name = "slot by slot: cached MMIO is dropped when memory appears, and returns",
		 .run = sees_through_cached_mmio,
		 .arg = &zap_slots},
		{.name = "slot by slot: creates, deletes and flips mix",
		 .run = mixes_all_kinds,
		 .arg = &zap_slots},
		{.name = "slot by slot: ranges change backing in one batch",
		 .run = exchanges_backings,
		 .arg = &zap_slots},
		{.name = "slot by slot: a memslot is split into many and joined again",
		 .run = splits_and_joins,
		 .arg = &zap_slots},
		{.name = "slot by slot: a batch spans both address spaces",
		 .run = both_address_spaces,
		 .arg = &zap_slots},
		{.name = "slot by slot: batches work on memslots made by KVM's own call",
		 .run = batch_on_stock_slots,
		 .arg = &zap_slots},
		{.name = "slot by slot: the memory that a vCPU executes is replaced",
		 .run = replaces_memory_the_vcpu_runs_in,
		 .arg = &zap_slots},
		{.name = "slot by slot: a running vCPU never misses a memslot that stays",
		 .run = kept_slot_stays_under_running_vcpu,
		 .arg = &zap_slots},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
