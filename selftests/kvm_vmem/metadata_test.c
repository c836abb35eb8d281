// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The module's report of KVM's metadata, compared with a formula derived from
 * KVM's sources and with the kernel's own counters.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"
#include "metadata.h"
#include "nested.h"
#include "region.h"
#include "tap.h"

/* Other allocations of the kernel in the meantime, mostly thread stacks. */
#define NOISE MIB(1)

/*
 * One plugged GiB must cost at most this fraction of the whole region's
 * metadata. Its proportional share is less, but each array of a memslot
 * occupies full pages.
 */
#define MIN_SAVING 10

static void add_cost(struct vmem_nl_metadata *sum,
		     const struct vmem_nl_metadata *m, unsigned int times)
{
	sum->memslot += m->memslot * times;
	sum->rmap += m->rmap * times;
	sum->lpage_info += m->lpage_info * times;
	sum->gfn_track += m->gfn_track * times;
	sum->dirty_bitmap += m->dirty_bitmap * times;
	sum->total += m->total * times;
}

static void expect_cost(const struct vmem_nl_metadata *is,
			const struct vmem_nl_metadata *want)
{
	EXPECT_EQ(is->memslot, want->memslot);
	EXPECT_EQ(is->rmap, want->rmap);
	EXPECT_EQ(is->lpage_info, want->lpage_info);
	EXPECT_EQ(is->gfn_track, want->gfn_track);
	EXPECT_EQ(is->dirty_bitmap, want->dirty_bitmap);
	EXPECT_EQ(is->total, want->total);
}

/**
 * struct geometry - a region whose metadata is checked
 * @name: describes it
 * @gpa: its guest address
 * @size: its size
 * @block: its block size
 * @slot: its slot size
 * @address_spaces: its mask of address spaces
 * @dirty_log: dirty logging is on
 */
struct geometry {
	const char *name;
	uint64_t gpa;
	uint64_t size;
	uint64_t block;
	uint64_t slot;
	uint32_t address_spaces;
	bool dirty_log;
};

#define LARGE	  (1ULL << 30)
#define LARGE_GPA (4 * LARGE)

static const struct geometry geometries[] = {
	{"128 MiB memslots", LARGE_GPA, LARGE, LARGE / 512, LARGE / 8,
	 AS_MASK_NORMAL, false},
	{"128 MiB memslots in both address spaces, logging", LARGE_GPA, LARGE,
	 LARGE / 512, LARGE / 8, AS_MASK_BOTH, true},
	{"2 MiB memslots", LARGE_GPA, LARGE / 8, LARGE / 512, LARGE / 512,
	 AS_MASK_SMM, false},
	{"one memslot over a 1 GiB boundary", LARGE_GPA - LARGE / 2, LARGE,
	 LARGE / 512, LARGE, AS_MASK_NORMAL, true},
	{"64 KiB memslots over 2 MiB boundaries", LARGE_GPA - 3 * 0x8000,
	 0x8000 * 101, 0x8000, 0x8000 * 2, AS_MASK_BOTH, true},
	{"memslots of one page", LARGE_GPA, 0x1000 * 100, 0x1000, 0x1000,
	 AS_MASK_NORMAL, false},
};

struct slot_sum {
	struct vmem_nl_metadata sum;
	const struct geometry *g;
	unsigned int nr_as;
};

static int check_slot_cost(const struct vmem_nl_slot *slot, void *arg)
{
	struct slot_sum *s = arg;
	struct vmem_nl_metadata one =
		metadata_cost(slot->gpa, slot->size, s->g->dirty_log, false);
	struct vmem_nl_metadata want = {0};

	add_cost(&want, &one, s->nr_as);
	tap_context("slot %u", slot->id);
	expect_cost(&slot->metadata, &want);
	add_cost(&s->sum, &slot->metadata, 1);
	return 0;
}

static void region_of(struct region *r, const struct geometry *g)
{
	region_prepare(r);
	backing_create(&r->mem, g->size);
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.guest_phys_addr = g->gpa;
	r->args.region_size = g->size;
	r->args.block_size = g->block;
	r->args.slot_size = g->slot;
	r->args.address_spaces = g->address_spaces;
	region_create(r);
}

static void agrees_with_formula(const void *arg)
{
	const struct geometry *g = arg;
	struct slot_sum s = {.g = g};
	struct vmem_nl_range all = {.gpa = g->gpa, .size = g->size};
	struct vmem_nl_metadata whole, wholes = {0};
	struct vmem_nl_region state;
	struct vmem_nl_name name;
	struct region r;

	region_of(&r, g);
	name = VMEM_NL_BY_FD(r.fd);
	s.nr_as = g->address_spaces == AS_MASK_BOTH ? 2 : 1;
	ASSERT_OK(vmem_nl_region_set(r.nl, name, VMEM_NL_SET_DIRTY_LOG, 0,
				     g->dirty_log, NULL, NULL));
	ASSERT_OK(vmem_nl_plug(r.nl, name, 0, &all, 1, NULL, NULL));
	EXPECT_OK(vmem_nl_slot_dump(r.nl, name, check_slot_cost, &s, NULL));
	tap_context("region");
	ASSERT_OK(vmem_nl_region_get(r.nl, name, &state, NULL));
	EXPECT_GT(state.metadata.total, 0);
	expect_cost(&state.metadata, &s.sum);
	tap_context("region as one memslot");
	whole = metadata_cost(g->gpa, g->size, g->dirty_log, false);
	add_cost(&wholes, &whole, s.nr_as);
	EXPECT_TRUE(state.has_whole_metadata);
	expect_cost(&state.whole_metadata, &wholes);

	/*
	 * The metadata goes with the slots, and the bitmaps when logging ends.
	 */
	ASSERT_OK(vmem_nl_region_set(r.nl, name, VMEM_NL_SET_DIRTY_LOG, 0,
				     false, &state, NULL));
	EXPECT_EQ(state.metadata.dirty_bitmap, 0);
	ASSERT_OK(vmem_nl_unplug_all(r.nl, name, 0, NULL, NULL));
	ASSERT_OK(vmem_nl_region_get(r.nl, name, &state, NULL));
	EXPECT_EQ(state.metadata.total, 0);
}

static void agrees_with_meminfo(const void *arg)
{
	/* Far larger than the noise: 64 memslots of 128 MiB. */
	static const struct geometry g = {.gpa = 8 * LARGE,
					  .size = 8 * LARGE,
					  .block = LARGE / 512,
					  .slot = LARGE / 8,
					  .address_spaces = AS_MASK_BOTH,
					  .dirty_log = true};
	struct vmem_nl_range all = {.gpa = g.gpa, .size = g.size};
	uint64_t before, with, after, account;
	struct vmem_nl_region state;
	struct region r;

	(void)arg;
	region_of(&r, &g);
	ASSERT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_DIRTY_LOG, 0, true, NULL,
				     NULL));
	before = meminfo("VmallocUsed");
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &all, 1, NULL,
			       NULL));
	with = meminfo("VmallocUsed");
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &state, NULL));
	ASSERT_OK(vmem_nl_unplug_all(r.nl, VMEM_NL_BY_FD(r.fd), 0, NULL, NULL));
	after = meminfo("VmallocUsed");
	/* The memslots' structures come from the slab allocator. */
	account = state.metadata.total - state.metadata.memslot;
	tap_note("account %llu KiB, VmallocUsed %+lld KiB, then %+lld KiB",
		 (unsigned long long)account >> 10,
		 (long long)(with - before) / 1024,
		 (long long)(after - with) / 1024);
	EXPECT_LE(account, with - before + NOISE);
	EXPECT_LE(with - before, account + NOISE);
	EXPECT_LE(after, before + NOISE);
}

/*
 * VmallocUsed also contains vmalloc's own array of pages, with a pointer for
 * each page of an allocation: 2.5 MiB for the rmaps of 512 GiB. The array comes
 * from vmalloc if it is larger than a page. It is not KVM's metadata.
 */
static uint64_t vmalloc_arrays(uint64_t size)
{
	return size / GUEST_PAGE * sizeof(void *);
}

static void costs_what_is_plugged(const void *arg)
{
	struct geometry g = {.gpa = 1024 * LARGE,
			     .size = 1024 * LARGE,
			     .block = LARGE / 512,
			     .slot = LARGE / 8,
			     .address_spaces = AS_MASK_NORMAL};
	struct vmem_nl_range one_gib = {.size = LARGE};
	struct vmem_nl_metadata whole, slot, plugged = {0};
	struct vmem_nl_region state;
	uint64_t before, with;
	struct region r;

	(void)arg;
	region_prepare(&r);
	/* At 1 TiB, or at half of the CPU's guest addresses. */
	if (vm_max_gpa(&r.vm) < g.gpa + g.size)
		g.gpa = g.size = vm_max_gpa(&r.vm) / 2;
	one_gib.gpa = g.gpa;
	whole = metadata_cost(g.gpa, g.size, false, false);
	slot = metadata_cost(g.gpa, g.slot, false, false);
	add_cost(&plugged, &slot, LARGE / g.slot);
	vcpu_destroy(&r.vcpu);
	region_of(&r, &g);
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &one_gib, 1, NULL,
			       NULL));
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &state, NULL));
	tap_note("1 GiB of %llu GiB plugged: %llu KiB; one memslot: %llu KiB",
		 (unsigned long long)g.size >> 30,
		 (unsigned long long)state.metadata.total >> 10,
		 (unsigned long long)whole.total >> 10);
	if (!metadata_uses_rmaps())
		EXPECT_LE(state.metadata.total, MIB(1));
	expect_cost(&state.metadata, &plugged);
	EXPECT_LE(state.metadata.total * MIN_SAVING, whole.total);
	EXPECT_EQ(state.whole_metadata.total, whole.total);

	/* The same range as one memslot, created by KVM's own call. */
	ASSERT_OK(vmem_nl_unplug_all(r.nl, VMEM_NL_BY_FD(r.fd), 0, NULL, NULL));
	close(r.fd);
	if (whole.total > meminfo("MemAvailable") / 2) {
		tap_note("not enough memory for this memslot");
		return;
	}
	before = meminfo("VmallocUsed");
	ASSERT_OK(vm_set_region(&r.vm, 1, 0, g.gpa, g.size, r.mem.hva));
	with = meminfo("VmallocUsed");
	EXPECT_LE(whole.total, with - before + NOISE);
	EXPECT_LE(with - before,
		  whole.total + vmalloc_arrays(whole.total) + NOISE);
}

/* A region, and a vCPU in its VM that can run a nested guest. */
struct nester {
	struct region r;
	struct vcpu vcpu;
};

static void nester_init(struct nester *n)
{
	if (!kvm_nested_paging())
		tap_skip(
			"without nested paging every memslot has all metadata");
	region_init(&n->r, AS_MASK_NORMAL);
	if (!nested_vcpu_create(&n->vcpu, &n->r.vm))
		tap_skip("KVM cannot run nested guests here");
}

static void get_state(const struct region *r, struct vmem_nl_region *state)
{
	ASSERT_OK(vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), state, NULL));
}

/*
 * Reported for a region without plugged blocks, according to the VM's memslots.
 */
static void whole_follows_the_vm(const void *arg)
{
	struct vmem_nl_metadata plain, nested;
	struct vmem_nl_region state;
	struct nester n;

	(void)arg;
	nester_init(&n);
	plain = metadata_cost(n.r.args.guest_phys_addr, n.r.args.region_size,
			      false, false);
	nested = metadata_cost(n.r.args.guest_phys_addr, n.r.args.region_size,
			       false, true);
	get_state(&n.r, &state);
	EXPECT_EQ(state.metadata.total, 0);
	tap_context("before a nested guest");
	expect_cost(&state.whole_metadata, &plain);
	nested_guest_run(&n.vcpu);
	get_state(&n.r, &state);
	tap_context("after it");
	expect_cost(&state.whole_metadata, &nested);
}

/* Without memslots, the VM's kinds of metadata are unknown. */
static void whole_is_not_made_up(const void *arg)
{
	struct vmem_nl_region state;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(vm_delete_slot(&r.vm, SLOT(AS_NORMAL, VM_BOOT_SLOT)));
	ASSERT_OK(vm_delete_slot(&r.vm, SLOT(AS_SMM, VM_BOOT_SLOT)));
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &state, NULL));
	EXPECT_TRUE(state.has_metadata);
	EXPECT_TRUE(!state.has_whole_metadata);
}

static int count_stale(const struct vmem_nl_slot *slot, void *arg)
{
	unsigned int *stale = arg;

	*stale += slot->stale;
	EXPECT_EQ(slot->metadata.total == 0, slot->stale);
	return 0;
}

/*
 * The sum covers the memslots that the region has created. Only a slot dump
 * checks each memslot.
 */
static void slot_gone_is_stale(const void *arg)
{
	struct vmem_nl_region before, after;
	unsigned int stale = 0;
	struct vmem_nl_name name;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	name = VMEM_NL_BY_FD(r.fd);
	ASSERT_OK(region_plug(&r, 0, 12));
	ASSERT_OK(vmem_nl_region_get(r.nl, name, &before, NULL));
	ASSERT_OK(vm_delete_slot(&r.vm, REGION_FIRST_SLOT + 1));
	ASSERT_OK(vmem_nl_region_get(r.nl, name, &after, NULL));
	expect_cost(&after.metadata, &before.metadata);
	ASSERT_OK(vmem_nl_slot_dump(r.nl, name, count_stale, &stale, NULL));
	EXPECT_EQ(stale, 1);

	/* The other slots can still be plugged and unplugged. */
	ASSERT_OK(region_unplug(&r, 0, 4));
	ASSERT_OK(region_unplug(&r, 8, 4));
	ASSERT_OK(vmem_nl_region_get(r.nl, name, &after, NULL));
	EXPECT_EQ(after.metadata.total * 3, before.metadata.total);
}

/* Each slot of the region has the same cost at any time. */
static void sum_is_kept(const void *arg)
{
	const struct geometry *g = arg;
	struct vmem_nl_region state;
	struct vmem_nl_range range;
	struct slot_sum s;
	struct region r;
	unsigned int n;

	region_of(&r, g);
	ASSERT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_DIRTY_LOG, 0, g->dirty_log,
				     NULL, NULL));
	for (n = 0; n < 64; n++) {
		/*
		 * Three of 101 blocks at a time, across slots; all of them
		 * twice.
		 */
		range = (struct vmem_nl_range){
			.gpa = g->gpa + n % 32 * 3 * g->block,
			.size = 3 * g->block,
		};
		if (n < 32 || n % 2)
			ASSERT_OK(
				n < 32 ? vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd),
						      0, &range, 1, NULL, NULL)
				       : vmem_nl_unplug(r.nl,
							VMEM_NL_BY_FD(r.fd), 0,
							&range, 1, NULL, NULL));
		s = (struct slot_sum){.g = g, .nr_as = 2};
		tap_context("step %u", n);
		ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &state,
					     NULL));
		EXPECT_OK(vmem_nl_slot_dump(r.nl, VMEM_NL_BY_FD(r.fd),
					    check_slot_cost, &s, NULL));
		expect_cost(&state.metadata, &s.sum);
	}
}

static void expect_two_slots(const struct region *r,
			     const struct vmem_nl_region *state, bool nested)
{
	struct vmem_nl_metadata one, want = {0};

	one = metadata_cost(region_block_gpa(r, 0), r->args.slot_size, false,
			    nested);
	add_cost(&want, &one, 1);
	one = metadata_cost(region_block_gpa(r, 4), r->args.slot_size, false,
			    nested);
	add_cost(&want, &one, 1);
	expect_cost(&state->metadata, &want);
}

/*
 * When a nested guest starts, KVM adds missing metadata to existing memslots.
 * In 6.1 without the TDP MMU, memslots have all metadata from the start.
 */
static void sum_follows_the_vm(const void *arg)
{
	struct vmem_nl_region state;
	struct nester n;

	(void)arg;
	nester_init(&n);
	ASSERT_OK(region_plug(&n.r, 0, 8));
	get_state(&n.r, &state);
	tap_context("before a nested guest");
	expect_two_slots(&n.r, &state, false);
	nested_guest_run(&n.vcpu);
	get_state(&n.r, &state);
	tap_context("after it");
	expect_two_slots(&n.r, &state, true);
}

int main(void)
{
	static const struct tap_case others[] = {
		{.name = "the reported metadata and VmallocUsed agree",
		 .run = agrees_with_meminfo},
		{.name = "a large region costs metadata for its plugged blocks only",
		 .run = costs_what_is_plugged},
		{.name = "the cost as one memslot depends on the VM's metadata kinds",
		 .run = whole_follows_the_vm},
		{.name = "the cost as one memslot is not reported without a memslot",
		 .run = whole_is_not_made_up},
		{.name = "a memslot deleted by the VMM is stale, and still counted",
		 .run = slot_gone_is_stale},
		{.name = "the sum is correct while slots are plugged and unplugged",
		 .run = sum_is_kept,
		 .arg = &geometries[4]},
		{.name = "the sum includes metadata that a nested guest adds",
		 .run = sum_follows_the_vm},
	};
	static struct tap_case
		cases[ARRAY_SIZE(geometries) + ARRAY_SIZE(others)];
	size_t i, n = 0;

	for (i = 0; i < ARRAY_SIZE(geometries); i++)
		cases[n++] = (struct tap_case){.name = geometries[i].name,
					       .run = agrees_with_formula,
					       .arg = &geometries[i]};
	for (i = 0; i < ARRAY_SIZE(others); i++)
		cases[n++] = others[i];
	return tap_run(cases, n);
}
