// SPDX-License-Identifier: GPL-2.0-or-later
#include "module_check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/kvm_vmem.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "region.h"
#include "tracing.h"
#include "twins.h"

/* A bound on hangs; all checks together take seconds. */
#define CHECK_TIMEOUT_S 60

/* Words of the dirty bitmap of a memslot. */
#define BITMAP_WORDS (TWINS_PAGES / 64)

static void set_both(struct twins *t, unsigned int slot, uint32_t flags)
{
	for (unsigned int as = AS_NORMAL; as < t->address_spaces; as++)
		twins_set(t, as, slot, 0, flags);
}

static void delete_both(struct twins *t, unsigned int slot)
{
	for (unsigned int as = AS_NORMAL; as < t->address_spaces; as++)
		twins_delete(t, as, slot);
}

/* --- The kernel --- */

/* Report how KVM maps memory on this host. */
static void note_modes(void)
{
	static const struct {
		const char *module, *parameter;
	} modes[] = {
		{"kvm", "tdp_mmu"},
		{"kvm_amd", "npt"},
		{"kvm_intel", "ept"},
		{"kvm_intel", "pml"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/module/%s", modes[i].module);
		if (!access(path, F_OK))
			tap_note("%s.%s=%c", modes[i].module,
				 modes[i].parameter,
				 module_parameter(modes[i].module,
						  modes[i].parameter)
					 ? 'Y'
					 : 'N');
	}
}

static void kernel_is_reviewed(const void *arg)
{
	struct kvm_vmem_query query = {.size = sizeof(query)};
	struct utsname name;
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	ASSERT_EQ(uname(&name), 0);
	tap_note("kernel %s", name.release);
	note_modes();
	ASSERT_EQ(ioctl(dev, KVM_VMEM_QUERY, &query), 0);
	EXPECT_EQ(query.api_version, KVM_VMEM_API_VERSION);
	vm_create(&vm, VM_BARE);
	EXPECT_EQ(query.max_memslots,
		  vm_check_extension(&vm, KVM_CAP_NR_MEMSLOTS));
	EXPECT_EQ(query.address_spaces,
		  vm_check_extension(&vm, KVM_CAP_MULTI_ADDRESS_SPACE));
	if (!(query.features & KVM_VMEM_FEATURE_REVIEWED))
		tap_skip(
			"loaded by unreviewed_kernel=1: nobody has compared the module with this kernel's KVM");
}

/* --- Memslots --- */

static void expect_guest(struct twins *t, bool (*is_there)(unsigned int slot))
{
	for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++) {
		tap_context("memslot %u", slot);
		if (is_there(slot))
			twins_expect_memory(t, slot, 0);
		else
			twins_expect_none(t, slot);
	}
	tap_context("%s", "");
}

static bool all(unsigned int slot)
{
	(void)slot;
	return true;
}

static bool none(unsigned int slot)
{
	(void)slot;
	return false;
}

static bool odd(unsigned int slot)
{
	return slot % 2;
}

static void memslots_are_kvms(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	twins_create(&t, VM_SMM);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		set_both(&t, slot, slot % 3 ? 0 : KVM_MEM_LOG_DIRTY_PAGES);
	twins_apply(&t);
	twins_expect_same_memslots(&t);
	expect_guest(&t, all);

	/* Enable dirty logging, change nothing, and delete. */
	for (slot = 0; slot < TWINS_SLOTS; slot++) {
		if (!odd(slot))
			delete_both(&t, slot);
		else
			set_both(&t, slot,
				 slot % 5 ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	}
	twins_apply(&t);
	twins_expect_same_memslots(&t);
	expect_guest(&t, odd);

	/* Delete the remaining memslots, create the deleted ones. */
	for (slot = 0; slot < TWINS_SLOTS; slot++) {
		if (odd(slot))
			delete_both(&t, slot);
		else
			set_both(&t, slot, 0);
	}
	twins_apply(&t);
	twins_expect_same_memslots(&t);
	for (slot = 0; slot < TWINS_SLOTS; slot += 2)
		delete_both(&t, slot);
	twins_apply(&t);
	twins_expect_same_memslots(&t);
	expect_guest(&t, none);
	twins_destroy(&t);
}

static void address_spaces_are_apart(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	twins_create(&t, VM_SMM);
	if (t.address_spaces == 1)
		tap_skip("this KVM is built without SMM");
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		twins_set(&t, slot % 2 ? AS_SMM : AS_NORMAL, slot, 0, 0);
	twins_apply(&t);
	twins_expect_same_memslots(&t);
	for (slot = 0; slot < TWINS_SLOTS; slot++) {
		if (odd(slot))
			twins_expect_none(&t, slot);
		else
			twins_expect_memory(&t, slot, 0);
	}
	vcpu_set_smm(&t.batched.vcpu, true);
	vcpu_set_smm(&t.single.vcpu, true);
	expect_guest(&t, odd);
	twins_destroy(&t);
}

static void memory_goes_and_comes(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	twins_create(&t, 0);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		twins_set(&t, AS_NORMAL, slot, 0, 0);
	twins_apply(&t);
	expect_guest(&t, all);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		twins_delete(&t, AS_NORMAL, slot);
	twins_apply(&t);
	expect_guest(&t, none);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		twins_set(&t, AS_NORMAL, slot, 1, 0);
	twins_apply(&t);
	for (slot = 0; slot < TWINS_SLOTS; slot++) {
		tap_context("memslot %u made anew", slot);
		twins_expect_memory(&t, slot, 1);
	}
	twins_destroy(&t);
}

static void refused_batches_change_nothing(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	twins_create(&t, VM_SMM);
	for (slot = 0; slot < TWINS_SLOTS / 2; slot++)
		set_both(&t, slot, 0);
	twins_apply(&t);
	/* All entries are valid except the last one, whose range is in use. */
	for (slot = 0; slot < TWINS_SLOTS / 4; slot++)
		delete_both(&t, slot);
	for (; slot < TWINS_SLOTS / 2; slot++)
		set_both(&t, slot, KVM_MEM_LOG_DIRTY_PAGES);
	batch_set(&t.batch, TWINS_FIRST_ID + TWINS_SLOTS, 0,
		  twins_gpa(TWINS_SLOTS / 4), TWINS_SLOT_SIZE,
		  twins_hva(&t.batched, 1, 0));
	EXPECT_ERR(batch_apply(t.dev, &t.batched.vm, &t.batch), EEXIST);
	EXPECT_EQ(t.batch.bad_index, t.batch.nr - 1);
	twins_expect_same_memslots(&t);
	for (slot = 0; slot < TWINS_SLOTS / 2; slot++)
		twins_expect_memory(&t, slot, 0);
	twins_destroy(&t);
}

/* --- Dirty pages --- */

/* The i-th of the three pages that both guests write in a memslot. */
static unsigned int page_of(unsigned int slot, unsigned int i)
{
	return (slot * 7 + i * 61) % TWINS_PAGES;
}

static void both_write(struct twins *t, unsigned int slot, unsigned int page)
{
	const uint64_t gpa = twins_gpa(slot) + page * GUEST_PAGE;

	EXPECT_EQ(guest_write(&t->batched.vcpu, gpa, ~gpa), GUEST_MEMORY);
	EXPECT_EQ(guest_write(&t->single.vcpu, gpa, ~gpa), GUEST_MEMORY);
}

static void expect_logs(struct twins *t, unsigned int slot)
{
	uint64_t is[BITMAP_WORDS] = {0}, want[BITMAP_WORDS] = {0};
	uint64_t written[BITMAP_WORDS] = {0};

	for (unsigned int i = 0; i < 3; i++)
		written[page_of(slot, i) / 64] |= 1ULL << page_of(slot, i) % 64;
	EXPECT_OK(vm_dirty_log(&t->batched.vm, TWINS_FIRST_ID + slot, is));
	EXPECT_OK(vm_dirty_log(&t->single.vm, TWINS_FIRST_ID + slot, want));
	for (size_t i = 0; i < BITMAP_WORDS; i++) {
		EXPECT_EQ(is[i], want[i]);
		EXPECT_EQ(is[i] & written[i], written[i]);
	}
}

/* Both guests write, and both logs show it; @rounds times. */
static void expect_writes_logged(struct twins *t, unsigned int rounds)
{
	for (unsigned int round = 0; round < rounds; round++) {
		for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++)
			for (unsigned int i = 0; i < 3; i++)
				both_write(t, slot, page_of(slot, i));
		twins_leave_guest(t);
		for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++) {
			tap_context("round %u, memslot %u", round, slot);
			expect_logs(t, slot);
		}
	}
	tap_context("%s", "");
}

static void set_all(struct twins *t, uint32_t flags)
{
	for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++)
		twins_set(t, AS_NORMAL, slot, 0, flags);
	twins_apply(t);
}

static void dirty_log_has_all_writes(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	/*
	 * Memory is mapped and writable before logging begins. All memslots
	 * change at once, and again after logging was disabled.
	 */
	twins_create(&t, 0);
	set_all(&t, 0);
	expect_guest(&t, all);
	for (int times = 0; times < 2; times++) {
		set_all(&t, KVM_MEM_LOG_DIRTY_PAGES);
		twins_expect_same_memslots(&t);
		expect_writes_logged(&t, 2);
		set_all(&t, 0);
		twins_expect_same_memslots(&t);
	}
	/* Memslots that are created with logging. */
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		twins_delete(&t, AS_NORMAL, slot);
	twins_apply(&t);
	set_all(&t, KVM_MEM_LOG_DIRTY_PAGES);
	expect_writes_logged(&t, 2);
	twins_destroy(&t);
}

static struct kvm_dirty_gfn *map_ring(const struct twin *twin)
{
	void *ring =
		mmap(NULL, VM_DIRTY_RING_ENTRIES * sizeof(struct kvm_dirty_gfn),
		     PROT_READ | PROT_WRITE, MAP_SHARED, twin->vcpu.fd,
		     KVM_DIRTY_LOG_PAGE_OFFSET * GUEST_PAGE);

	ASSERT_NE(ring, MAP_FAILED);
	return ring;
}

/* Is a page of a memslot in the ring? */
static bool ring_has(const struct kvm_dirty_gfn *ring, uint32_t slot,
		     uint64_t page)
{
	for (unsigned int i = 0; i < VM_DIRTY_RING_ENTRIES; i++) {
		if (!(__atomic_load_n(&ring[i].flags, __ATOMIC_ACQUIRE) &
		      KVM_DIRTY_GFN_F_DIRTY))
			return false;
		if (ring[i].slot == slot && ring[i].offset == page)
			return true;
	}
	return false;
}

static void dirty_ring_has_all_writes(const void *arg)
{
	struct kvm_dirty_gfn *is, *want;
	struct twins t;
	struct vm vm;
	int entries;

	(void)arg;
	vm_create(&vm, VM_BARE);
	entries = vm_check_extension(&vm, KVM_CAP_DIRTY_LOG_RING);
	vm_destroy(&vm);
	if (entries < (int)(VM_DIRTY_RING_ENTRIES * sizeof(*is)))
		tap_skip("this KVM has no dirty rings");
	twins_create(&t, VM_DIRTY_RING);
	set_all(&t, 0);
	expect_guest(&t, all);
	is = map_ring(&t.batched);
	want = map_ring(&t.single);
	set_all(&t, KVM_MEM_LOG_DIRTY_PAGES);
	twins_expect_same_memslots(&t);
	for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++)
		both_write(&t, slot, page_of(slot, 0));
	twins_leave_guest(&t);
	for (unsigned int slot = 0; slot < TWINS_SLOTS; slot++) {
		tap_context("memslot %u", slot);
		EXPECT_TRUE(ring_has(want, TWINS_FIRST_ID + slot,
				     page_of(slot, 0)));
		EXPECT_TRUE(
			ring_has(is, TWINS_FIRST_ID + slot, page_of(slot, 0)));
	}
	twins_destroy(&t);
}

/* --- Costs --- */

/*
 * Apply the batch, and expect these numbers of grace periods and of zaps of the
 * whole VM.
 */
static void expect_cost(struct twins *t, const char *what,
			uint64_t grace_periods, uint64_t zaps)
{
	uint64_t got_grace, got_zaps;

	tap_context("%s", what);
	tracing_count_start();
	EXPECT_OK(batch_apply(t->dev, &t->batched.vm, &t->batch));
	got_grace = tracing_count(TRACING_GRACE_PERIODS);
	got_zaps = tracing_count(TRACING_ZAPS);
	tracing_count_stop();
	tap_note("%s of %u memslots: %llu grace periods, %llu zaps", what,
		 t->batch.nr, (unsigned long long)got_grace,
		 (unsigned long long)got_zaps);
	EXPECT_EQ(got_grace, grace_periods);
	EXPECT_EQ(got_zaps, zaps);
	batch_reset(&t->batch);
}

static void batches_cost_what_one_change_does(const void *arg)
{
	struct twins t;
	unsigned int slot;

	(void)arg;
	twins_create(&t, VM_SMM);
	tracing_open();
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		set_both(&t, slot, 0);
	expect_cost(&t, "creates", 1, 0);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		set_both(&t, slot, KVM_MEM_LOG_DIRTY_PAGES);
	expect_cost(&t, "changes of dirty logging", 1, 0);
	for (slot = 0; slot < TWINS_SLOTS; slot++)
		delete_both(&t, slot);
	expect_cost(&t, "deletes", 2, 1);
	tracing_close();
	twins_destroy(&t);
}

/* --- Regions --- */

static void regions_have_what_is_plugged(const void *arg)
{
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_plug(&r, 2, 9));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 4, 5));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_AS_MODEL(&r);
}

const struct tap_case module_checks[] = {
	{.name = "the module was reviewed for this kernel",
	 .run = kernel_is_reviewed,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "memslots and their metadata are as with KVM's own calls",
	 .run = memslots_are_kvms,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "both address spaces have their own memslots",
	 .run = address_spaces_are_apart,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "deleted memory is gone, recreated memory is new",
	 .run = memory_goes_and_comes,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "a refused batch changes nothing",
	 .run = refused_batches_change_nothing,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "the dirty log has every write",
	 .run = dirty_log_has_all_writes,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "the dirty ring has every write",
	 .run = dirty_ring_has_all_writes,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "a batch costs what one change does",
	 .run = batches_cost_what_one_change_does,
	 .timeout_s = CHECK_TIMEOUT_S},
	{.name = "a region has memory where blocks are plugged",
	 .run = regions_have_what_is_plugged,
	 .timeout_s = CHECK_TIMEOUT_S},
};

const size_t nr_module_checks = ARRAY_SIZE(module_checks);

static int check_device(const char *path, char reason[MODULE_CHECK_REASON_MAX])
{
	int fd = open(path, O_RDWR | O_CLOEXEC), error = errno;

	if (fd >= 0)
		return fd;
	snprintf(reason, MODULE_CHECK_REASON_MAX, "%s: %s", path,
		 strerror(error));
	return -error;
}

/**
 * module_check_possible() - Can the checks run here?
 * @reason: why not
 *
 * Return: 0, or -errno if KVM or the module is absent, not accessible, or of
 * another version.
 */
int module_check_possible(char reason[MODULE_CHECK_REASON_MAX])
{
	struct kvm_vmem_query query = {.size = sizeof(query)};
	int fd, r = 0;

	fd = check_device("/dev/kvm", reason);
	if (fd < 0)
		return fd;
	close(fd);
	fd = check_device("/dev/kvm-vmem", reason);
	if (fd < 0)
		return fd;
	if (ioctl(fd, KVM_VMEM_QUERY, &query)) {
		r = -errno;
		snprintf(reason, MODULE_CHECK_REASON_MAX,
			 "the module does not say what it is: %s",
			 strerror(-r));
	} else if (query.api_version != KVM_VMEM_API_VERSION) {
		r = -EPROTO;
		snprintf(
			reason, MODULE_CHECK_REASON_MAX,
			"the module has version %u of the interface, vmemctl has %d",
			query.api_version, KVM_VMEM_API_VERSION);
	}
	close(fd);
	return r;
}
