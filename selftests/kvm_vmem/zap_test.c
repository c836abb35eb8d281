// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A batch drops all mappings of the memslots that it deletes, and no others.
 * The number of TLB flushes does not grow with the number of deletes. Tested in
 * a VM whose VMM has disabled KVM's quirk that a delete drops all mappings, and
 * in VMs where the batch or the region requests it.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "nested.h"
#include "probe.h"
#include "region.h"
#include "tap.h"
#include "tracing.h"
#include "vcpu.h"

#define BASE_GPA GIB(4)
#define FIRST_ID 8U

/* Memslots that a batch deletes, and memslots that stay. */
#define MANY	  1024U
#define KEPT	  64U
#define SLOT_SIZE (16 * GUEST_PAGE)

/*
 * A batch does not flush for each memslot, but once more each time it yields
 * the CPU. Emulated CPUs are slow.
 */
#define DELETES_PER_FLUSH 4U

/* A memslot that is unmapped in many chunks, the last of them partial. */
#define LARGE_SIZE MIB(514)

/* Memslots with 2 MiB pages, and the number of pages of each. */
#define NR_HUGE	   16U
#define HUGE_PAGE  MIB(2)
#define HUGE_PAGES 2U
#define HUGE_SLOT  (HUGE_PAGES * HUGE_PAGE)

/**
 * struct mode - the reason why mappings of other memslots stay
 * @vm: flags of the VM
 * @batch: flags of its batches
 */
struct mode {
	unsigned int vm;
	uint32_t batch;
};

/* KVM keeps them without a request. */
static const struct mode by_itself = {.vm = VM_ZAP_SLOTS};
/* The batch requests it. */
static const struct mode asked = {.batch = KVM_VMEM_BATCH_ZAP_RANGES};
/* They do not stay. */
static const struct mode not_asked;

struct fixture {
	const struct mode *mode;
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch batch;
};

/*
 * Expected report of a batch that deletes, if no guest page tables are
 * shadowed.
 */
static uint32_t zapped(const struct fixture *f)
{
	return f->mode != &not_asked && kvm_tdp_mmu() ? KVM_VMEM_ZAPPED_RANGES
						      : KVM_VMEM_ZAPPED_BY_KVM;
}

/* Do the mappings of other memslots stay? */
static bool others_stay(const struct fixture *f)
{
	return f->mode->vm & VM_ZAP_SLOTS ||
	       zapped(f) == KVM_VMEM_ZAPPED_RANGES;
}

static void fixture_init(struct fixture *f, const void *mode, uint64_t size)
{
	f->mode = mode;
	f->dev = kvm_vmem_open();
	vm_create(&f->vm, f->mode->vm);
	vcpu_create(&f->vcpu, &f->vm);
	backing_create(&f->mem, size);
	batch_init(&f->batch);
}

static void fixture_destroy(struct fixture *f)
{
	batch_free(&f->batch);
	backing_destroy(&f->mem);
	vcpu_destroy(&f->vcpu);
	vm_destroy(&f->vm);
	close(f->dev);
}

static void apply(struct fixture *f)
{
	ASSERT_OK(batch_call(f->dev, f->vm.fd, &f->batch, f->mode->batch));
	batch_reset(&f->batch);
}

/* Offset of memslot @i, both in guest addresses and in the backing. */
static uint64_t offset_of(unsigned int i)
{
	return i * SLOT_SIZE;
}

/* Create memslots. The guest reads a page of each, which maps it. */
static void create_and_map(struct fixture *f, unsigned int nr)
{
	uint64_t value;
	unsigned int i;

	for (i = 0; i < nr; i++)
		batch_set(&f->batch, FIRST_ID + i, 0, BASE_GPA + offset_of(i),
			  SLOT_SIZE, f->mem.hva + offset_of(i));
	apply(f);
	for (i = 0; i < nr; i++)
		ASSERT_EQ(guest_read(&f->vcpu, BASE_GPA + offset_of(i), &value),
			  GUEST_MEMORY);
}

/*
 * The guest reads KEPT memslots from @first on: at least @wanted faults, or
 * none.
 */
static void expect_refaults(struct fixture *f, unsigned int first,
			    uint64_t wanted)
{
	uint64_t value, faults = vm_stat(&f->vm, "pf_fixed");
	unsigned int i;

	for (i = first; i < first + KEPT; i++)
		ASSERT_EQ(guest_read(&f->vcpu, BASE_GPA + offset_of(i), &value),
			  GUEST_MEMORY);
	faults = vm_stat(&f->vm, "pf_fixed") - faults;
	tap_note("%llu of %u pages that stay are faulted in again",
		 (unsigned long long)faults, KEPT);
	if (wanted)
		EXPECT_GE(faults, wanted);
	else
		EXPECT_EQ(faults, 0);
}

/*
 * Create @nr and KEPT more memslots, and delete the former. As many mappings go
 * as these had, so the guest does not fault on any other memslot.
 */
static void drops_mappings_of_deleted_only(const void *mode, unsigned int nr)
{
	struct fixture f;
	uint64_t mapped;
	unsigned int i;

	if (!kvm_nested_paging())
		tap_skip(
			"with shadow paging only the last accessed page is mapped");
	fixture_init(&f, mode, offset_of(nr + KEPT));
	create_and_map(&f, nr + KEPT);
	EXPECT_EQ(f.batch.zapped, 0);
	mapped = vm_stat(&f.vm, "pages_4k");
	ASSERT_GE(mapped, nr + KEPT);
	for (i = 0; i < nr; i++)
		batch_delete(&f.batch, FIRST_ID + i);
	apply(&f);
	EXPECT_EQ(f.batch.zapped, zapped(&f));
	EXPECT_EQ(vm_stat(&f.vm, "pages_4k"),
		  others_stay(&f) ? mapped - nr : 0);
	expect_refaults(&f, nr, others_stay(&f) ? 0 : KEPT);
	/* Some of the deleted memslots, and all that stay. */
	for (i = nr > KEPT ? nr - KEPT : 0; i < nr + KEPT; i++) {
		tap_context("memslot %u", i);
		if (i < nr)
			EXPECT_GUEST_MMIO(&f.vcpu, BASE_GPA + offset_of(i));
		else
			EXPECT_GUEST_MEMORY(&f.vcpu, BASE_GPA + offset_of(i),
					    f.mem.hva + offset_of(i));
	}
	fixture_destroy(&f);
}

static void drops_mappings_of_one(const void *mode)
{
	drops_mappings_of_deleted_only(mode, 1);
}

static void drops_mappings_of_many(const void *mode)
{
	drops_mappings_of_deleted_only(mode, MANY);
}

static void flushes_for_all_of_them(const void *mode)
{
	struct fixture f;
	uint64_t flushes;
	unsigned int i;

	if (!kvm_tdp_mmu())
		tap_skip(
			"without the TDP MMU KVM's hook drops mappings, and flushes");
	fixture_init(&f, mode, offset_of(MANY));
	create_and_map(&f, MANY);
	for (i = 0; i < MANY; i++)
		batch_delete(&f.batch, FIRST_ID + i);
	flushes = vm_stat(&f.vm, "remote_tlb_flush_requests");
	apply(&f);
	flushes = vm_stat(&f.vm, "remote_tlb_flush_requests") - flushes;
	tap_note("%llu flushes for %u deletes", (unsigned long long)flushes,
		 MANY);
	EXPECT_GE(flushes, 1U);
	EXPECT_LT(flushes, MANY / DELETES_PER_FLUSH);
	fixture_destroy(&f);
}

/* The pages on both sides of each boundary at which a memslot may be split. */
static unsigned int border_pages(uint64_t *offsets)
{
	unsigned int nr = 0;
	uint64_t at;

	for (at = 0; at < LARGE_SIZE; at += MIB(2)) {
		offsets[nr++] = at;
		offsets[nr++] = at + MIB(2) - GUEST_PAGE;
	}
	return nr;
}

/* After the delete, the guest reads no page that it could read before. */
static void leaves_nothing_of_a_large_memslot(const void *mode)
{
	uint64_t offsets[2 * LARGE_SIZE / MIB(2)], value;
	unsigned int nr = border_pages(offsets), round, i;
	struct fixture f;
	uint8_t *hva;

	fixture_init(&f, mode, 2 * LARGE_SIZE);
	for (i = 0; i < nr; i++) {
		*(uint64_t *)(f.mem.hva + offsets[i]) = i;
		*(uint64_t *)(f.mem.hva + LARGE_SIZE + offsets[i]) = ~i;
	}
	for (round = 0; round < 4; round++) {
		hva = f.mem.hva + round % 2 * LARGE_SIZE;
		batch_set(&f.batch, FIRST_ID, 0, BASE_GPA, LARGE_SIZE, hva);
		apply(&f);
		for (i = 0; i < nr; i++) {
			tap_context("round %u, offset %#llx", round,
				    (unsigned long long)offsets[i]);
			ASSERT_EQ(guest_read(&f.vcpu, BASE_GPA + offsets[i],
					     &value),
				  GUEST_MEMORY);
			EXPECT_EQ(value, *(uint64_t *)(hva + offsets[i]));
		}
		batch_delete(&f.batch, FIRST_ID);
		apply(&f);
	}
	fixture_destroy(&f);
}

/* Anonymous memory with 2 MiB pages if the host has enough of them. */
static uint8_t *huge_memory(uint64_t size)
{
	uint8_t *area = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *hva;

	ASSERT_TRUE(area != MAP_FAILED);
	hva = area + (-(uintptr_t)area & (HUGE_PAGE - 1));
	if (madvise(hva, size, MADV_HUGEPAGE))
		tap_skip("MADV_HUGEPAGE: %s", strerror(errno));
	for (uint64_t at = 0; at < size; at += HUGE_PAGE)
		*(uint64_t *)(hva + at) = at;
	return hva;
}

static uint64_t huge_page_gpa(unsigned int page)
{
	return BASE_GPA + page * HUGE_PAGE;
}

/*
 * The guest reads the huge pages of every other memslot. Return: its faults.
 */
static uint64_t read_huge(struct fixture *f, const uint8_t *hva,
			  unsigned int first)
{
	uint64_t value, faults = vm_stat(&f->vm, "pf_fixed");
	unsigned int i, page;

	for (i = first; i < NR_HUGE; i += 2)
		for (page = i * HUGE_PAGES; page < (i + 1) * HUGE_PAGES;
		     page++) {
			tap_context("memslot %u, page %u", i, page);
			ASSERT_EQ(guest_read(&f->vcpu, huge_page_gpa(page),
					     &value),
				  GUEST_MEMORY);
			EXPECT_EQ(value, *(uint64_t *)(hva + page * HUGE_PAGE));
		}
	return vm_stat(&f->vm, "pf_fixed") - faults;
}

/*
 * Delete every other memslot, and create it again with other memory. The
 * memslots in between stay, with their mappings.
 */
static void drops_huge_mappings(const void *mode)
{
	const uint64_t size = NR_HUGE * HUGE_SLOT;
	const unsigned int half = NR_HUGE / 2 * HUGE_PAGES;
	uint8_t *first, *other;
	struct fixture f;
	unsigned int i;

	if (!kvm_nested_paging())
		tap_skip("shadow paging maps only the page read last");
	fixture_init(&f, mode, GUEST_PAGE);
	first = huge_memory(size);
	other = huge_memory(size);
	for (i = 0; i < size / HUGE_PAGE; i++)
		*(uint64_t *)(other + i * HUGE_PAGE) = ~(uint64_t)i;
	for (i = 0; i < NR_HUGE; i++)
		batch_set(&f.batch, FIRST_ID + i, 0, BASE_GPA + i * HUGE_SLOT,
			  HUGE_SLOT, first + i * HUGE_SLOT);
	apply(&f);
	read_huge(&f, first, 0);
	read_huge(&f, first, 1);
	if (vm_stat(&f.vm, "pages_2m") < 2 * half)
		tap_skip("the host has no %u pages of 2 MiB", 2 * half);

	for (i = 1; i < NR_HUGE; i += 2)
		batch_delete(&f.batch, FIRST_ID + i);
	apply(&f);
	EXPECT_EQ(f.batch.zapped, zapped(&f));
	EXPECT_EQ(vm_stat(&f.vm, "pages_2m"), others_stay(&f) ? half : 0);
	if (others_stay(&f))
		EXPECT_EQ(read_huge(&f, first, 0), 0);
	else
		EXPECT_GE(read_huge(&f, first, 0), half);
	for (i = 1; i < NR_HUGE; i += 2)
		EXPECT_GUEST_MMIO(&f.vcpu, huge_page_gpa(i * HUGE_PAGES));

	for (i = 1; i < NR_HUGE; i += 2)
		batch_set(&f.batch, FIRST_ID + i, 0, BASE_GPA + i * HUGE_SLOT,
			  HUGE_SLOT, other + i * HUGE_SLOT);
	apply(&f);
	read_huge(&f, other, 1);
	fixture_destroy(&f);
	munmap(first, size);
	munmap(other, size);
}

/*
 * Delete a memslot in one address space only, then another memslot in the other
 * address space only. Each stays mapped in the address space where it still
 * exists, and so do its neighbours.
 */
static void drops_mappings_of_its_address_space(const void *mode)
{
	struct vcpu smm, *vcpus[2];
	uint64_t value, mapped, faults;
	unsigned int as, i, other;
	struct fixture f;

	if (!kvm_nested_paging())
		tap_skip("shadow paging maps only the page read last");
	f.mode = mode;
	f.dev = kvm_vmem_open();
	vm_create(&f.vm, f.mode->vm | VM_SMM);
	vcpu_create(&f.vcpu, &f.vm);
	vcpu_create(&smm, &f.vm);
	vcpu_set_smm(&smm, true);
	vcpus[AS_NORMAL] = &f.vcpu;
	vcpus[AS_SMM] = &smm;
	backing_create(&f.mem, offset_of(KEPT));
	batch_init(&f.batch);
	for (as = 0; as < ARRAY_SIZE(vcpus); as++)
		for (i = 0; i < KEPT; i++)
			batch_set(&f.batch, SLOT(as, FIRST_ID + i), 0,
				  BASE_GPA + offset_of(i), SLOT_SIZE,
				  f.mem.hva + offset_of(i));
	apply(&f);
	for (as = 0; as < ARRAY_SIZE(vcpus); as++)
		for (i = 0; i < KEPT; i++)
			ASSERT_EQ(guest_read(vcpus[as], BASE_GPA + offset_of(i),
					     &value),
				  GUEST_MEMORY);

	/* Memslot 0 in the normal address space, memslot 1 in SMM's. */
	for (as = 0; as < ARRAY_SIZE(vcpus); as++) {
		tap_context("address space %u", as);
		other = !as;
		mapped = vm_stat(&f.vm, "pages_4k");
		batch_delete(&f.batch, SLOT(as, FIRST_ID + as));
		apply(&f);
		EXPECT_EQ(f.batch.zapped, zapped(&f));
		EXPECT_EQ(vm_stat(&f.vm, "pages_4k"),
			  others_stay(&f) ? mapped - 1 : 0);
		faults = vm_stat(&f.vm, "pf_fixed");
		for (i = 2; i < KEPT; i++)
			ASSERT_EQ(guest_read(vcpus[as], BASE_GPA + offset_of(i),
					     &value),
				  GUEST_MEMORY);
		for (i = as; i < KEPT; i++)
			if (i == as || i > 1)
				ASSERT_EQ(guest_read(vcpus[other],
						     BASE_GPA + offset_of(i),
						     &value),
					  GUEST_MEMORY);
		faults = vm_stat(&f.vm, "pf_fixed") - faults;
		if (others_stay(&f))
			EXPECT_EQ(faults, 0);
		else
			EXPECT_GE(faults, KEPT);
		EXPECT_GUEST_MMIO(vcpus[as], BASE_GPA + offset_of(as));
	}
	vcpu_destroy(&smm);
	fixture_destroy(&f);
}

/* Delete a memslot. Return: the batch's trace event. */
static struct tracing_batch delete_traced(struct fixture *f, unsigned int i)
{
	struct tracing_batch told = {0};

	batch_delete(&f->batch, FIRST_ID + i);
	tracing_count_start();
	apply(f);
	EXPECT_EQ(tracing_take_batches(&told, 1), 1);
	tracing_count_stop();
	EXPECT_EQ(told.deletes, 1);
	return told;
}

/*
 * While page tables of a nested guest are shadowed, the batch must leave
 * the mappings to KVM's hook: shadow pages of a deleted memslot must not
 * outlive it.
 */
static void leaves_shadow_pages_to_kvm(const void *mode)
{
	struct tracing_batch told;
	struct fixture f;
	bool nests;

	if (!kvm_nested_paging())
		tap_skip("with shadow paging all page tables are shadowed");
	f.mode = mode;
	f.dev = kvm_vmem_open();
	vm_create(&f.vm, f.mode->vm);
	nests = nested_vcpu_create(&f.vcpu, &f.vm);
	backing_create(&f.mem, offset_of(2));
	batch_init(&f.batch);
	create_and_map(&f, 2);
	tracing_open();

	told = delete_traced(&f, 0);
	EXPECT_EQ(told.unmaps, kvm_tdp_mmu());
	EXPECT_EQ(told.zaps, !kvm_tdp_mmu());
	if (nests) {
		nested_guest_run(&f.vcpu);
		told = delete_traced(&f, 1);
		EXPECT_EQ(told.unmaps, 0);
		EXPECT_EQ(told.zaps, 1);
		EXPECT_EQ(f.batch.zapped, KVM_VMEM_ZAPPED_BY_KVM);
	}
	EXPECT_GUEST_MMIO(&f.vcpu, BASE_GPA);
	tracing_close();
	fixture_destroy(&f);
}

/*
 * Assign a device to the VM, as KVM sees it. Return: a descriptor, to be
 * closed.
 */
static int assign(const struct fixture *f)
{
	struct kvm_create_device device = {.type = KVM_DEV_TYPE_VFIO};
	int fd = probe_watch(&f->vm), r;

	r = probe_assign(fd);
	if (r != -EOPNOTSUPP) {
		ASSERT_OK(r);
		return fd;
	}
	close(fd);
	if (ioctl(f->vm.fd, KVM_CREATE_DEVICE, &device))
		tap_skip("KVM_DEV_TYPE_VFIO: %s", strerror(errno));
	return (int)device.fd;
}

/* Delete a memslot. Return: the batch's report about mappings. */
static uint32_t delete_one(struct fixture *f, unsigned int i)
{
	batch_delete(&f->batch, FIRST_ID + i);
	apply(f);
	return f->batch.zapped;
}

/*
 * The batch's request is ignored as long as the VM has an assigned device.
 * KVM's own behaviour without the quirk does not depend on a device.
 */
static void devices_are_left_to_kvm(const void *mode)
{
	struct fixture f;
	int device;

	if (!kvm_nested_paging())
		tap_skip("with shadow paging all page tables are shadowed");
	probe_module_load();
	fixture_init(&f, mode, offset_of(KEPT + 3));
	create_and_map(&f, KEPT + 3);
	EXPECT_EQ(delete_one(&f, 0), zapped(&f));
	device = assign(&f);
	EXPECT_EQ(delete_one(&f, 1),
		  mode == &by_itself ? zapped(&f) : KVM_VMEM_ZAPPED_BY_KVM);
	expect_refaults(&f, 3, mode == &by_itself ? 0 : KEPT);
	close(device);
	EXPECT_EQ(delete_one(&f, 2), zapped(&f));
	expect_refaults(&f, 3, others_stay(&f) ? 0 : KEPT);
	fixture_destroy(&f);
	probe_module_unload();
}

/*
 * Before 6.5 KVM's hook notifies page trackers, so it is called for each
 * delete.
 */
static void trackers_are_told(const void *mode)
{
	struct fixture f;
	uint32_t by_kvm;
	uint64_t value;
	int fd, r;

	if (!kvm_nested_paging())
		tap_skip("with shadow paging all page tables are shadowed");
	probe_module_load();
	fixture_init(&f, mode, offset_of(2));
	create_and_map(&f, 2);
	fd = probe_watch(&f.vm);
	r = probe_track(fd);
	if (r == -EOPNOTSUPP)
		tap_skip("this KVM has no external page trackers");
	ASSERT_OK(r);
	by_kvm = kernel_is_at_least(6, 5) ? zapped(&f) : KVM_VMEM_ZAPPED_BY_KVM;
	EXPECT_EQ(delete_one(&f, 0), by_kvm);
	close(fd);
	/* The guest's read creates page tables again. */
	ASSERT_EQ(guest_read(&f.vcpu, BASE_GPA + offset_of(1), &value),
		  GUEST_MEMORY);
	EXPECT_EQ(delete_one(&f, 1), zapped(&f));
	fixture_destroy(&f);
	probe_module_unload();
}

/* The region's state as netlink reports it. */
static struct vmem_nl_region state_of(struct region *r)
{
	struct vmem_nl_region state;

	ASSERT_OK(
		vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), &state, NULL));
	return state;
}

/* The guest reads blocks of the region: at least @wanted faults, or none. */
static void expect_block_faults(struct region *r, unsigned int first,
				unsigned int nr, uint64_t wanted)
{
	uint64_t value, faults = vm_stat(&r->vm, "pf_fixed");
	unsigned int i;

	for (i = first; i < first + nr; i++)
		ASSERT_EQ(guest_read(&r->vcpu, region_block_gpa(r, i), &value),
			  GUEST_MEMORY);
	faults = vm_stat(&r->vm, "pf_fixed") - faults;
	if (wanted)
		EXPECT_GE(faults, wanted);
	else
		EXPECT_EQ(faults, 0);
}

/*
 * A region with the flag unplugs blocks without faults in the rest of the
 * guest.
 */
static void regions_keep_the_rest(const void *mode)
{
	const bool asks = mode == &asked, keeps = asks && kvm_tdp_mmu();
	const unsigned int half = 3 * REGION_BLOCKS_PER_SLOT;
	struct vmem_nl_region state;
	struct region r;

	if (!kvm_nested_paging())
		tap_skip("with shadow paging all page tables are shadowed");
	region_prepare(&r);
	r.args.flags = asks ? KVM_VMEM_REGION_ZAP_RANGES : 0;
	region_create(&r);
	ASSERT_OK(region_plug(&r, 0, REGION_NR_BLOCKS));
	expect_block_faults(&r, 0, REGION_NR_BLOCKS, REGION_NR_BLOCKS);
	expect_block_faults(&r, 0, REGION_NR_BLOCKS, 0);
	state = state_of(&r);
	EXPECT_EQ(state.zap_ranges, asks);
	EXPECT_EQ(state.range_zaps + state.zaps_by_kvm, 0);

	ASSERT_OK(region_unplug(&r, 0, half));
	expect_block_faults(&r, half, REGION_NR_BLOCKS - half,
			    keeps ? 0 : REGION_NR_BLOCKS - half);
	state = state_of(&r);
	EXPECT_EQ(state.range_zaps, keeps);
	EXPECT_EQ(state.zaps_by_kvm, !keeps);
	EXPECT_AS_MODEL(&r);

	/* No memslot is deleted. */
	ASSERT_OK(region_unplug(&r, half, 1));
	expect_block_faults(&r, half + 1, 1, 0);
	ASSERT_OK(region_unplug_all(&r));
	state = state_of(&r);
	EXPECT_EQ(state.range_zaps, keeps ? 2 : 0);
	EXPECT_EQ(state.zaps_by_kvm, keeps ? 0 : 2);
	EXPECT_AS_MODEL(&r);
}

/* Emulated machines are slow where KVM has no TDP MMU. */
#define TIMEOUT_S 300

#define CASE(text, fn, mode)                             \
	{                                                \
		.name = text, .run = fn, .arg = &(mode), \
		.timeout_s = TIMEOUT_S                   \
	}

#define CASES(text, fn)                           \
	CASE(text " (quirk off)", fn, by_itself), \
		CASE(text " (asked for)", fn, asked)

int main(void)
{
	static const struct tap_case cases[] = {
		CASES("a delete drops only the mappings of its memslot",
		      drops_mappings_of_one),
		CASES("a batch drops only the mappings of the memslots it deletes",
		      drops_mappings_of_many),
		CASE("a batch without the flag drops mappings as KVM does",
		     drops_mappings_of_one, not_asked),
		CASES("flushes do not grow with the deletes of a batch",
		      flushes_for_all_of_them),
		CASES("a large memslot is unmapped completely",
		      leaves_nothing_of_a_large_memslot),
		CASES("mappings of 2 MiB are dropped with their memslot, and no others",
		      drops_huge_mappings),
		CASES("mappings of the other address space stay",
		      drops_mappings_of_its_address_space),
		CASES("with shadow pages of a nested guest KVM's hook drops mappings",
		      leaves_shadow_pages_to_kvm),
		CASES("with an assigned device KVM's hook drops mappings",
		      devices_are_left_to_kvm),
		CASES("page trackers are notified", trackers_are_told),
		CASE("a region with the flag keeps the rest of the guest mapped",
		     regions_keep_the_rest, asked),
		CASE("a region without the flag drops mappings as KVM does",
		     regions_keep_the_rest, not_asked),
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
