// SPDX-License-Identifier: GPL-2.0-or-later
#include "metadata.h"

#include <string.h>

#include "kernel.h"
#include "tap.h"
#include "vm.h"

/* struct kvm_memory_slot has 264 to 280 bytes; kmalloc() rounds up to 512. */
#define MEMSLOT_BYTES 512U

/* Number of pages of @page bytes that a memslot touches. */
static uint64_t pages_touched(uint64_t gpa, uint64_t size, uint64_t page)
{
	return (gpa + size - 1) / page - gpa / page + 1;
}

/**
 * metadata_uses_rmaps() - Does each memslot have rmaps, even without nested
 * guests?
 *
 * KVM finds the mappings of a page by the TDP MMU or by rmaps.
 */
bool metadata_uses_rmaps(void)
{
	return !kvm_tdp_mmu();
}

/*
 * 6.1 always allocates write tracking (for KVMGT); later kernels only for
 * shadow paging.
 */
static bool uses_gfn_track(void)
{
	return !kvm_nested_paging() || !kernel_is_at_least(6, 12);
}

/**
 * metadata_arrays() - The arrays of a memslot.
 * @gpa: its guest-physical address
 * @size: its size in bytes
 * @dirty_log: the memslot logs dirty pages
 * @nested: the VM has had a nested guest
 */
void metadata_arrays(struct metadata_arrays *arrays, uint64_t gpa,
		     uint64_t size, bool dirty_log, bool nested)
{
	const uint64_t npages = size / GUEST_PAGE;
	const uint64_t nr_2m = pages_touched(gpa, size, MIB(2));
	const uint64_t nr_1g = pages_touched(gpa, size, GIB(1));

	memset(arrays, 0, sizeof(*arrays));
	arrays->lpage_info[0] = nr_2m * 4;
	arrays->lpage_info[1] = nr_1g * 4;
	if (nested || metadata_uses_rmaps()) {
		arrays->rmap[0] = npages * 8;
		arrays->rmap[1] = nr_2m * 8;
		arrays->rmap[2] = nr_1g * 8;
	}
	if (nested || uses_gfn_track())
		arrays->gfn_track = npages * 2;
	if (dirty_log)
		arrays->dirty_bitmap = (npages + 63) / 64 * 8 * 2;
}

static uint64_t vmalloc_bytes(uint64_t bytes)
{
	return (bytes + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
}

/**
 * metadata_cost() - The memory that a memslot costs.
 *
 * The sum of metadata_arrays(), each of which is vmalloc'ed, and the memslot
 * itself.
 */
struct vmem_nl_metadata metadata_cost(uint64_t gpa, uint64_t size,
				      bool dirty_log, bool nested)
{
	struct vmem_nl_metadata m = {.memslot = MEMSLOT_BYTES};
	struct metadata_arrays arrays;
	size_t i;

	metadata_arrays(&arrays, gpa, size, dirty_log, nested);
	for (i = 0; i < ARRAY_SIZE(arrays.rmap); i++)
		m.rmap += vmalloc_bytes(arrays.rmap[i]);
	for (i = 0; i < ARRAY_SIZE(arrays.lpage_info); i++)
		m.lpage_info += vmalloc_bytes(arrays.lpage_info[i]);
	m.gfn_track = vmalloc_bytes(arrays.gfn_track);
	m.dirty_bitmap = vmalloc_bytes(arrays.dirty_bitmap);
	m.total = m.memslot + m.rmap + m.lpage_info + m.gfn_track +
		  m.dirty_bitmap;
	return m;
}
