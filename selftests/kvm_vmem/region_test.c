// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Effects of plug and unplug requests on a region and on KVM's memslots. Most
 * cases keep a model. After each step they compare it with the guest's view,
 * with the ids that KVM has, and with the module's dumps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "region.h"
#include "tap.h"

#define NAME(r) VMEM_NL_BY_FD((r)->fd)

static void begins_empty(const void *arg)
{
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	EXPECT_AS_MODEL(&r);
	ASSERT_OK(vmem_nl_region_get(r.nl, NAME(&r), &s, NULL));
	EXPECT_EQ(s.id, r.args.region_id);
	EXPECT_EQ(s.gpa, r.args.guest_phys_addr);
	EXPECT_EQ(s.size, r.args.region_size);
	EXPECT_EQ(s.hva, r.args.userspace_addr);
	EXPECT_EQ(s.block_size, r.args.block_size);
	EXPECT_EQ(s.slot_size, r.args.slot_size);
	EXPECT_EQ(s.first_slot, r.args.first_slot);
	EXPECT_EQ(s.nr_slots, REGION_NR_SLOTS);
	EXPECT_EQ(s.address_spaces, AS_MASK_BOTH);
	EXPECT_EQ(s.requested_size, 0);
	EXPECT_EQ(s.plugged_size, 0);
	EXPECT_EQ(s.populated_slots, 0);
	EXPECT_EQ(s.dirty_log, 0);
	EXPECT_EQ(s.pid, getpid());
	EXPECT_EQ(s.alive, 1);
	EXPECT_EQ(s.request_id, 0);
	EXPECT_EQ(s.changes, 0);
	EXPECT_TRUE(s.has_metadata);
	EXPECT_EQ(s.metadata.total, 0);
}

static void plugs_block_by_block(const void *arg)
{
	struct region r;
	unsigned int i;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	for (i = 0; i < r.nr_blocks; i++) {
		EXPECT_OK(region_plug(&r, i, 1));
		EXPECT_AS_MODEL(&r);
	}
	for (i = 0; i < r.nr_blocks; i++) {
		EXPECT_OK(region_unplug(&r, i, 1));
		EXPECT_AS_MODEL(&r);
	}
}

static void slot_lives_with_its_blocks(const void *arg)
{
	/*
	 * Blocks of slot 1, in the order in which they are plugged and
	 * unplugged.
	 */
	static const unsigned int in[] = {6, 4, 7, 5}, out[] = {7, 4, 5, 6};
	struct region r;
	unsigned int i;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	for (i = 0; i < ARRAY_SIZE(in); i++) {
		EXPECT_OK(region_plug(&r, in[i], 1));
		EXPECT_AS_MODEL(&r);
	}
	for (i = 0; i < ARRAY_SIZE(out); i++) {
		EXPECT_OK(region_unplug(&r, out[i], 1));
		EXPECT_AS_MODEL(&r);
	}
	EXPECT_EQ(region_nr_populated(&r), 0);
}

static void ranges_span_slots(const void *arg)
{
	const unsigned int per_slot = REGION_BLOCKS_PER_SLOT;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	/* From the middle of slot 0 to the middle of slot 3. */
	EXPECT_OK(region_plug(&r, 2, 3 * per_slot - 1));
	EXPECT_AS_MODEL(&r);
	/* Exactly slots 1 and 2. */
	EXPECT_OK(region_unplug(&r, per_slot, 2 * per_slot));
	EXPECT_AS_MODEL(&r);
	/* The last block of one slot and the first of the next. */
	EXPECT_OK(region_plug(&r, 2 * per_slot - 1, 2));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 2 * per_slot - 1, 2));
	EXPECT_AS_MODEL(&r);
	/* The rest, including the short slot, then all blocks at once. */
	EXPECT_OK(region_plug(&r, 3 * per_slot + 1,
			      r.nr_blocks - 3 * per_slot - 1));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_OK(region_plug(&r, 0, r.nr_blocks));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 0, r.nr_blocks));
	EXPECT_AS_MODEL(&r);
}

static void many_ranges_in_one_request(const void *arg)
{
	/* Neither sorted nor merged: neighbours, a gap, the last block. */
	static const struct {
		unsigned int first, nr;
	} parts[] = {{25, 1}, {8, 3}, {0, 1}, {11, 2}, {1, 1}, {17, 1}};
	struct vmem_nl_range ranges[ARRAY_SIZE(parts)];
	struct vmem_nl_answer answer;
	struct region r;
	unsigned int i;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		ranges[i] = region_range(&r, parts[i].first, parts[i].nr);
		region_model_set(&r, parts[i].first, parts[i].nr, true);
	}
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 0, ranges, ARRAY_SIZE(parts),
			       &answer, NULL));
	EXPECT_EQ(answer.region_id, r.args.region_id);
	EXPECT_EQ(answer.plugged_size, 9 * REGION_BLOCK);
	EXPECT_EQ(answer.populated_slots, region_nr_populated(&r));
	EXPECT_AS_MODEL(&r);

	/* All but the first two ranges. */
	for (i = 2; i < ARRAY_SIZE(parts); i++)
		region_model_set(&r, parts[i].first, parts[i].nr, false);
	EXPECT_OK(vmem_nl_unplug(r.nl, NAME(&r), 0, ranges + 2,
				 ARRAY_SIZE(parts) - 2, &answer, NULL));
	EXPECT_EQ(answer.plugged_size, 4 * REGION_BLOCK);
	EXPECT_EQ(answer.populated_slots, 2);
	EXPECT_AS_MODEL(&r);
}

static void address_space_masks(const void *arg)
{
	const uint32_t *mask = arg;
	struct region r;

	region_init(&r, *mask);
	EXPECT_OK(region_plug(&r, 3, 7));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 4, 4));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_AS_MODEL(&r);
}

static void one_block_per_slot(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.block_size = GUEST_PAGE;
	r.args.slot_size = GUEST_PAGE;
	r.args.region_size = REGION_MAX_BLOCKS * GUEST_PAGE;
	r.args.guest_phys_addr = GIB(5) - 3 * GUEST_PAGE;
	region_create(&r);
	EXPECT_OK(region_plug(&r, 0, 1));
	EXPECT_OK(region_plug(&r, 2, 5));
	EXPECT_OK(region_plug(&r, REGION_MAX_BLOCKS - 1, 1));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 3, 2));
	EXPECT_AS_MODEL(&r);
}

static void slot_larger_than_region(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.slot_size = TIB(1);
	region_create(&r);
	EXPECT_EQ(r.nr_slots, 1);
	EXPECT_OK(region_plug(&r, 5, 1));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 5, 1));
	EXPECT_AS_MODEL(&r);
}

static void slot_not_a_power_of_two(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.slot_size = 3 * REGION_BLOCK;
	region_create(&r);
	EXPECT_EQ(r.nr_slots, 9);
	EXPECT_OK(region_plug(&r, 2, 2));
	EXPECT_OK(region_plug(&r, 25, 1));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 3, 1));
	EXPECT_AS_MODEL(&r);
}

static void already_plugged_or_not(const void *arg)
{
	struct vmem_nl_range ranges[2];
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 4, 4));
	EXPECT_ERR(region_plug(&r, 4, 4), EEXIST);
	EXPECT_ERR(region_plug(&r, 7, 1), EEXIST);
	/*
	 * Partly plugged or unplugged: the request has no effect on any slot.
	 */
	EXPECT_ERR(region_plug(&r, 0, 5), EEXIST);
	EXPECT_ERR(region_plug(&r, 7, 10), EEXIST);
	EXPECT_ERR(region_unplug(&r, 0, 1), ENXIO);
	EXPECT_ERR(region_unplug(&r, 3, 2), ENXIO);
	EXPECT_ERR(region_unplug(&r, 4, 5), ENXIO);
	EXPECT_AS_MODEL(&r);

	/* The second range is bad, the first one valid. */
	ranges[0] = region_range(&r, 12, 2);
	ranges[1] = region_range(&r, 5, 1);
	EXPECT_ERR(vmem_nl_plug(r.nl, NAME(&r), 0, ranges, 2, NULL, NULL),
		   EEXIST);
	ranges[0] = region_range(&r, 4, 4);
	ranges[1] = region_range(&r, 12, 1);
	EXPECT_ERR(vmem_nl_unplug(r.nl, NAME(&r), 0, ranges, 2, NULL, NULL),
		   ENXIO);
	EXPECT_AS_MODEL(&r);
}

static void unplugs_all(const void *arg)
{
	struct vmem_nl_answer answer;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	/* Unplugging nothing is no error. */
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_AS_MODEL(&r);
	ASSERT_OK(region_plug(&r, 1, 1));
	ASSERT_OK(region_plug(&r, 6, 9));
	ASSERT_OK(region_plug(&r, 24, 2));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(vmem_nl_unplug_all(r.nl, NAME(&r), 5, &answer, NULL));
	EXPECT_EQ(answer.request_id, 5);
	EXPECT_EQ(answer.plugged_size, 0);
	EXPECT_EQ(answer.populated_slots, 0);
	memset(r.plugged, 0, sizeof(r.plugged));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_plug(&r, 6, 9));
	EXPECT_AS_MODEL(&r);
}

static void repeats_answers(const void *arg)
{
	struct vmem_nl_answer first, again;
	struct vmem_nl_range range, other;
	struct vmem_nl_region s;
	struct region r;
	uint64_t changes;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	range = region_range(&r, 2, 4);
	other = region_range(&r, 2, 3);
	ASSERT_OK(vmem_nl_plug(r.nl, NAME(&r), 7, &range, 1, &first, NULL));
	region_model_set(&r, 2, 4, true);
	ASSERT_OK(vmem_nl_region_get(r.nl, NAME(&r), &s, NULL));
	EXPECT_EQ(s.request_id, 7);
	changes = s.changes;

	/* A request without an id is not remembered, but changes the state. */
	EXPECT_OK(region_plug(&r, 20, 1));
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 7, &range, 1, &again, NULL));
	EXPECT_EQ(again.request_id, 7);
	EXPECT_EQ(again.plugged_size, first.plugged_size);
	EXPECT_EQ(again.populated_slots, first.populated_slots);
	EXPECT_AS_MODEL(&r);
	ASSERT_OK(vmem_nl_region_get(r.nl, NAME(&r), &s, NULL));
	EXPECT_EQ(s.changes, changes + 1);

	/* Another request with the same id. */
	EXPECT_ERR(vmem_nl_plug(r.nl, NAME(&r), 7, &other, 1, NULL, NULL),
		   EINVAL);
	EXPECT_ERR(vmem_nl_unplug(r.nl, NAME(&r), 7, &range, 1, NULL, NULL),
		   EINVAL);
	EXPECT_ERR(vmem_nl_unplug_all(r.nl, NAME(&r), 7, NULL, NULL), EINVAL);
	EXPECT_AS_MODEL(&r);

	/* A failed request is not remembered. */
	EXPECT_ERR(vmem_nl_plug(r.nl, NAME(&r), 8, &range, 1, NULL, NULL),
		   EEXIST);
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 7, &range, 1, &again, NULL));
	EXPECT_OK(vmem_nl_unplug(r.nl, NAME(&r), 8, &range, 1, &first, NULL));
	region_model_set(&r, 2, 4, false);
	EXPECT_OK(vmem_nl_unplug(r.nl, NAME(&r), 8, &range, 1, &again, NULL));
	EXPECT_EQ(again.plugged_size, first.plugged_size);
	EXPECT_EQ(again.populated_slots, first.populated_slots);

	/* Only the last request is remembered. */
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 7, &range, 1, &again, NULL));
	region_model_set(&r, 2, 4, true);
	EXPECT_AS_MODEL(&r);

	EXPECT_OK(vmem_nl_unplug_all(r.nl, NAME(&r), UINT64_MAX, NULL, NULL));
	memset(r.plugged, 0, sizeof(r.plugged));
	EXPECT_OK(region_plug(&r, 0, 1));
	EXPECT_OK(vmem_nl_unplug_all(r.nl, NAME(&r), UINT64_MAX, &again, NULL));
	EXPECT_EQ(again.plugged_size, 0);
	EXPECT_AS_MODEL(&r);
}

static void requested_size(const void *arg)
{
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_OK(vmem_nl_region_set(r.nl, NAME(&r), VMEM_NL_SET_REQUESTED_SIZE,
				     3 * REGION_BLOCK, false, &s, NULL));
	EXPECT_EQ(s.requested_size, 3 * REGION_BLOCK);
	EXPECT_OK(vmem_nl_region_set(r.nl, NAME(&r), VMEM_NL_SET_REQUESTED_SIZE,
				     r.args.region_size, false, &s, NULL));
	EXPECT_EQ(s.requested_size, r.args.region_size);
	/* The requested size does not limit the plugged size. */
	EXPECT_OK(region_plug(&r, 0, 4));
	EXPECT_OK(vmem_nl_region_set(r.nl, NAME(&r), VMEM_NL_SET_REQUESTED_SIZE,
				     0, false, &s, NULL));
	EXPECT_AS_MODEL(&r);

	EXPECT_ERR(vmem_nl_region_set(
			   r.nl, NAME(&r), VMEM_NL_SET_REQUESTED_SIZE,
			   REGION_BLOCK + GUEST_PAGE, false, NULL, NULL),
		   EINVAL);
	EXPECT_ERR(vmem_nl_region_set(r.nl, NAME(&r),
				      VMEM_NL_SET_REQUESTED_SIZE,
				      r.args.region_size + REGION_BLOCK, false,
				      NULL, NULL),
		   ERANGE);
	ASSERT_OK(vmem_nl_region_get(r.nl, NAME(&r), &s, NULL));
	EXPECT_EQ(s.requested_size, 0);
}

#define SLOT_PAGES (REGION_BLOCKS_PER_SLOT * REGION_BLOCK / GUEST_PAGE)
_Static_assert(SLOT_PAGES == 64, "a slot's dirty bitmap is one word");

static int slot_dirty_log(const struct region *r, unsigned int as,
			  unsigned int slot, uint64_t *bits)
{
	*bits = 0;
	return vm_dirty_log(&r->vm, SLOT(as, r->args.first_slot + slot), bits);
}

static int set_dirty_log(struct region *r, bool on)
{
	struct vmem_nl_region s;
	int ret = vmem_nl_region_set(r->nl, NAME(r), VMEM_NL_SET_DIRTY_LOG, 0,
				     on, &s, NULL);

	if (!ret)
		EXPECT_EQ(s.dirty_log, on);
	return ret;
}

static void dirty_log(const void *arg)
{
	struct region r;
	uint64_t bits;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	ASSERT_OK(region_plug(&r, 0, 6));
	/* The pages are mapped writable before logging begins. */
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(set_dirty_log(&r, true));
	EXPECT_OK(slot_dirty_log(&r, AS_NORMAL, 0, &bits));
	EXPECT_EQ(bits, 0);
	EXPECT_EQ(guest_write(&r.vcpu, region_block_gpa(&r, 1), 1),
		  GUEST_MEMORY);
	EXPECT_OK(slot_dirty_log(&r, AS_NORMAL, 0, &bits));
	EXPECT_EQ(bits, 1ULL << (REGION_BLOCK / GUEST_PAGE));
	EXPECT_OK(slot_dirty_log(&r, AS_SMM, 1, &bits));
	EXPECT_EQ(bits, 0);
	EXPECT_ERR(slot_dirty_log(&r, AS_NORMAL, 2, &bits), ENOENT);

	/* A slot that becomes populated logs, too. */
	EXPECT_OK(region_plug(&r, 8, 1));
	EXPECT_OK(slot_dirty_log(&r, AS_NORMAL, 2, &bits));
	EXPECT_EQ(guest_write(&r.vcpu, region_block_gpa(&r, 8), 1),
		  GUEST_MEMORY);
	EXPECT_OK(slot_dirty_log(&r, AS_NORMAL, 2, &bits));
	EXPECT_EQ(bits, 1);
	/* A slot that stays populated keeps its dirty bits. */
	EXPECT_EQ(guest_write(&r.vcpu, region_block_gpa(&r, 0), 1),
		  GUEST_MEMORY);
	EXPECT_OK(region_unplug(&r, 1, 1));
	EXPECT_OK(set_dirty_log(&r, true));
	EXPECT_OK(slot_dirty_log(&r, AS_NORMAL, 0, &bits));
	EXPECT_EQ(bits, 1);
	EXPECT_AS_MODEL(&r);

	EXPECT_OK(set_dirty_log(&r, false));
	EXPECT_ERR(slot_dirty_log(&r, AS_NORMAL, 0, &bits), ENOENT);
	EXPECT_ERR(slot_dirty_log(&r, AS_SMM, 2, &bits), ENOENT);
	EXPECT_OK(region_plug(&r, 12, 1));
	EXPECT_ERR(slot_dirty_log(&r, AS_NORMAL, 3, &bits), ENOENT);
	EXPECT_AS_MODEL(&r);
}

struct stale_slots {
	unsigned int seen, stale;
	uint32_t stale_id;
};

static int count_stale(const struct vmem_nl_slot *slot, void *arg)
{
	struct stale_slots *s = arg;

	s->seen++;
	s->stale += slot->stale;
	if (slot->stale)
		s->stale_id = slot->id;
	return 0;
}

static void expect_one_stale(struct region *r, unsigned int slot)
{
	struct stale_slots s = {0};

	EXPECT_OK(vmem_nl_slot_dump(r->nl, NAME(r), count_stale, &s, NULL));
	EXPECT_EQ(s.seen, region_nr_populated(r));
	EXPECT_EQ(s.stale, 1);
	EXPECT_EQ(s.stale_id, r->args.first_slot + slot);
}

static void deleted_behind_its_back(const void *arg)
{
	struct region r;
	uint32_t slot;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	slot = SLOT(AS_NORMAL, r.args.first_slot + 1);
	ASSERT_OK(region_plug(&r, 0, 10));
	ASSERT_OK(vm_delete_slot(&r.vm, slot));
	expect_one_stale(&r, 1);
	/* A memslot like it, but with another id, is not the region's. */
	ASSERT_OK(vm_set_region(&r.vm, 1, 0, region_block_gpa(&r, 4),
				r.args.slot_size, region_block_hva(&r, 4)));
	expect_one_stale(&r, 1);
	ASSERT_OK(vm_delete_slot(&r.vm, 1));

	/* Requests fail if they touch that slot, and only then. */
	EXPECT_ERR(region_unplug(&r, 5, 1), ESTALE);
	EXPECT_ERR(region_unplug(&r, 4, 4), ESTALE);
	EXPECT_ERR(region_unplug(&r, 0, 10), ESTALE);
	EXPECT_ERR(region_unplug_all(&r), ESTALE);
	EXPECT_ERR(set_dirty_log(&r, true), ESTALE);
	/* The answer names the setting that cannot be applied. */
	EXPECT_EQ(vmem_nl_failure(r.nl)->has_offset, true);
	EXPECT_TRUE(vm_slot_exists(&r.vm, slot - 1));
	EXPECT_TRUE(vm_slot_exists(&r.vm, slot + 1));
	EXPECT_TRUE(vm_slot_exists(&r.vm, SLOT(AS_SMM, slot)));
	EXPECT_OK(region_unplug(&r, 8, 2));
	EXPECT_OK(region_plug(&r, 12, 1));
	expect_one_stale(&r, 1);

	/* When the VMM restores it, the memslot belongs to the region again. */
	ASSERT_OK(vm_set_region(&r.vm, slot, 0, region_block_gpa(&r, 4),
				r.args.slot_size, region_block_hva(&r, 4)));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_unplug(&r, 5, 1));
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_AS_MODEL(&r);
}

static void replaced_behind_its_back(const void *arg)
{
	struct region r;
	uint32_t slot;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	slot = SLOT(AS_NORMAL, r.args.first_slot + 1);
	ASSERT_OK(region_plug(&r, 4, 1));
	ASSERT_OK(vm_delete_slot(&r.vm, slot));
	/* Same id and address, other memory. */
	ASSERT_OK(vm_set_region(&r.vm, slot, 0, region_block_gpa(&r, 4),
				r.args.slot_size, r.mem.hva));
	expect_one_stale(&r, 1);
	EXPECT_ERR(region_unplug(&r, 4, 1), ESTALE);
	EXPECT_ERR(region_plug(&r, 5, 1), ESTALE);
	/* The region does not delete it, not even when it ends. */
	EXPECT_EQ(close(r.fd), 0);
	EXPECT_TRUE(vm_slot_exists(&r.vm, slot));
	EXPECT_GUEST_MEMORY(&r.vcpu, region_block_gpa(&r, 4), r.mem.hva);
}

static void memslot_in_the_way(const void *arg)
{
	struct vmem_nl_range block;
	struct error err = {0};
	struct region r;
	uint32_t slot;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	slot = SLOT(AS_SMM, r.args.first_slot + 2);
	/* The id is used elsewhere, in one address space only. */
	ASSERT_OK(vm_set_region(&r.vm, slot, 0, GIB(8), GUEST_PAGE, r.mem.hva));
	EXPECT_ERR(region_plug(&r, 4, 8), EEXIST);
	EXPECT_OK(region_plug(&r, 4, 4));
	ASSERT_OK(vm_delete_slot(&r.vm, slot));
	/* The range is used by another id. */
	slot = SLOT(AS_NORMAL, 1);
	ASSERT_OK(vm_set_region(&r.vm, slot, 0, region_block_gpa(&r, 11),
				GUEST_PAGE, r.mem.hva));
	EXPECT_ERR(region_plug(&r, 8, 1), EEXIST);
	/* Blocks that are plugged already are EEXIST, too. */
	block = region_range(&r, 8, 1);
	EXPECT_ERR(vmem_nl_plug(r.nl, NAME(&r), 0, &block, 1, NULL, &err),
		   EEXIST);
	EXPECT_TRUE(strstr(err.text, "in the way"));
	EXPECT_ERR(region_plug(&r, 0, 1), 0);
	ASSERT_OK(vm_delete_slot(&r.vm, slot));
	EXPECT_AS_MODEL(&r);
	EXPECT_OK(region_plug(&r, 8, 4));
	EXPECT_AS_MODEL(&r);
}

static void last_close_removes_memslots(const void *arg)
{
	uint32_t before;
	struct region r;
	int copy;

	(void)arg;
	region_await_none();
	region_prepare(&r);
	before = region_count(r.dev);
	r.args.address_spaces = AS_MASK_BOTH;
	region_create(&r);
	EXPECT_EQ(region_count(r.dev), before + 1);
	ASSERT_OK(region_plug(&r, 0, 11));
	copy = dup(r.fd);
	ASSERT_GE(copy, 0);
	EXPECT_EQ(close(r.fd), 0);
	r.fd = copy;
	EXPECT_AS_MODEL(&r);
	EXPECT_EQ(close(r.fd), 0);
	memset(r.plugged, 0, sizeof(r.plugged));
	EXPECT_GUEST_AS_MODEL(&r);
	EXPECT_EQ(region_count(r.dev), before);

	/* No trace of the region remains. */
	region_create(&r);
	EXPECT_OK(region_plug(&r, 0, 11));
	EXPECT_AS_MODEL(&r);
}

/*
 * Enough steps to reach most states of slots. The model is compared every few
 * steps.
 */
#define RANDOM_STEPS	400
#define RANDOM_CHECK	20
#define RANDOM_SEED_ENV "KVM_VMEM_SEED"

static void random_requests(const void *arg)
{
	const char *seed_env = getenv(RANDOM_SEED_ENV);
	unsigned int seed, step;
	struct region r;

	(void)arg;
	seed = seed_env ? (unsigned int)strtoul(seed_env, NULL, 0)
			: (unsigned int)getpid();
	tap_note("%s=%u", RANDOM_SEED_ENV, seed);
	srandom(seed);
	region_init(&r, AS_MASK_BOTH);
	for (step = 0; step < RANDOM_STEPS; step++) {
		unsigned int first = (unsigned int)random() % r.nr_blocks;
		unsigned int nr =
			1 + (unsigned int)random() % (r.nr_blocks - first);
		unsigned int i, plugged = 0;
		bool plug = random() % 2;

		/*
		 * Prefer short ranges; long ones mostly end with everything
		 * plugged or unplugged.
		 */
		if (random() % 4)
			nr = 1 + nr % 4;
		if (nr > r.nr_blocks - first)
			nr = r.nr_blocks - first;
		for (i = first; i < first + nr; i++)
			plugged += r.plugged[i];
		tap_context("step %u", step);
		if (plug)
			EXPECT_ERR(region_plug(&r, first, nr),
				   plugged ? EEXIST : 0);
		else
			EXPECT_ERR(region_unplug(&r, first, nr),
				   plugged < nr ? ENXIO : 0);
		if (step % RANDOM_CHECK == RANDOM_CHECK - 1)
			EXPECT_AS_MODEL(&r);
	}
}

/* A region of 1 TiB at 1 TiB, or half of the CPU's guest addresses. */
static void far_and_large(const void *arg)
{
	const uint64_t block = MIB(2), slot = MIB(128);
	const uint64_t word = sizeof(uint64_t);
	struct vmem_nl_range range;
	uint64_t end, size = TIB(1);
	unsigned int last;
	struct region r;

	(void)arg;
	region_prepare(&r);
	if (vm_max_gpa(&r.vm) < 2 * size)
		size = vm_max_gpa(&r.vm) / 2;
	last = (unsigned int)(size / block) - 1;
	backing_create(&r.mem, size);
	r.args.guest_phys_addr = size;
	r.args.region_size = size;
	r.args.userspace_addr = (uintptr_t)r.mem.hva;
	r.args.block_size = block;
	r.args.slot_size = slot;
	region_create(&r);
	EXPECT_EQ(r.nr_slots, size / slot);

	/* The first gigabyte, and the last block. */
	range = region_range(&r, 0, (unsigned int)(GIB(1) / block));
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 1, &range, 1, NULL, NULL));
	range = region_range(&r, last, 1);
	EXPECT_OK(vmem_nl_plug(r.nl, NAME(&r), 2, &range, 1, NULL, NULL));
	end = size + GIB(1);
	EXPECT_GUEST_MMIO(&r.vcpu, size - word);
	EXPECT_GUEST_MEMORY(&r.vcpu, size, r.mem.hva);
	EXPECT_GUEST_MEMORY(&r.vcpu, end - word, r.mem.hva + GIB(1) - word);
	EXPECT_GUEST_MMIO(&r.vcpu, end);
	EXPECT_GUEST_MMIO(&r.vcpu, 2 * size - slot - word);
	EXPECT_GUEST_MEMORY(&r.vcpu, 2 * size - slot, r.mem.hva + size - slot);
	EXPECT_GUEST_MEMORY(&r.vcpu, 2 * size - word, r.mem.hva + size - word);
	/* Beyond the CPU's guest addresses there is not even MMIO. */
	if (2 * size < vm_max_gpa(&r.vm))
		EXPECT_GUEST_MMIO(&r.vcpu, 2 * size);
	EXPECT_OK(vmem_nl_unplug_all(r.nl, NAME(&r), 3, NULL, NULL));
	EXPECT_GUEST_MMIO(&r.vcpu, size);
	EXPECT_GUEST_MMIO(&r.vcpu, 2 * size - word);
}

int main(void)
{
	static const uint32_t normal = AS_MASK_NORMAL, smm = AS_MASK_SMM,
			      both = AS_MASK_BOTH;
	static const struct tap_case cases[] = {
		{.name = "a new region has nothing plugged and no memslot",
		 .run = begins_empty},
		{.name = "each block is plugged and unplugged, with its memslot",
		 .run = plugs_block_by_block},
		{.name = "a memslot exists from its first plugged block to its last",
		 .run = slot_lives_with_its_blocks},
		{.name = "ranges may span slots", .run = ranges_span_slots},
		{.name = "a request accepts many ranges in any order",
		 .run = many_ranges_in_one_request},
		{.name = "memslots are made in the normal address space",
		 .run = address_space_masks,
		 .arg = &normal},
		{.name = "memslots are made in the SMM address space",
		 .run = address_space_masks,
		 .arg = &smm},
		{.name = "memslots are made in both address spaces",
		 .run = address_space_masks,
		 .arg = &both},
		{.name = "a slot may be one page", .run = one_block_per_slot},
		{.name = "a slot may be larger than the region",
		 .run = slot_larger_than_region},
		{.name = "a slot may be any multiple of the block",
		 .run = slot_not_a_power_of_two},
		{.name = "plugged twice is EEXIST, unplugged twice ENXIO",
		 .run = already_plugged_or_not},
		{.name = "unplug-all unplugs all blocks", .run = unplugs_all},
		{.name = "a repeated request id gets the same answer",
		 .run = repeats_answers},
		{.name = "the requested size is stored and checked",
		 .run = requested_size},
		{.name = "dirty logging is switched on and off, also for new slots",
		 .run = dirty_log},
		{.name = "a memslot deleted by the VMM is stale, others work",
		 .run = deleted_behind_its_back},
		{.name = "a memslot replaced by the VMM is left alone",
		 .run = replaced_behind_its_back},
		{.name = "another memslot in the way is EEXIST",
		 .run = memslot_in_the_way},
		{.name = "the last close removes the memslots",
		 .run = last_close_removes_memslots},
		{.name = "random requests match the model",
		 .run = random_requests},
		{.name = "a large region at a far address",
		 .run = far_and_large},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
