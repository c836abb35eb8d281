// SPDX-License-Identifier: GPL-2.0-or-later
#include "metadata.h"

#include <string.h>

#include "kernel.h"
#include "vm.h"

/* Pages of a size that a memslot touches. */
static uint64_t pages_touched(uint64_t gpa, uint64_t size, uint64_t page)
{
	return (gpa + size - 1) / page - gpa / page + 1;
}

static bool uses_tdp(void)
{
	return module_parameter("kvm_amd", "npt") ||
	       module_parameter("kvm_intel", "ept");
}

/**
 * metadata_uses_rmaps() - Does each memslot have rmaps, nested guest or not?
 *
 * KVM knows what maps each page by the TDP MMU, or by rmaps.
 */
bool metadata_uses_rmaps(void)
{
	return !uses_tdp() || !module_parameter("kvm", "tdp_mmu");
}

/* Write tracking: 6.1 always (for KVMGT), newer only for shadow paging. */
static bool uses_gfn_track(void)
{
	return !uses_tdp() || !kernel_is_at_least(6, 12);
}

/**
 * metadata_arrays() - The arrays of a memslot, without a nested guest.
 * @gpa: its address
 * @size: bytes of it
 * @dirty_log: it logs dirty pages
 */
void metadata_arrays(struct metadata_arrays *arrays, uint64_t gpa,
		     uint64_t size, bool dirty_log)
{
	const uint64_t npages = size / GUEST_PAGE;
	const uint64_t nr_2m = pages_touched(gpa, size, MIB(2));
	const uint64_t nr_1g = pages_touched(gpa, size, GIB(1));

	memset(arrays, 0, sizeof(*arrays));
	arrays->lpage_info[0] = nr_2m * 4;
	arrays->lpage_info[1] = nr_1g * 4;
	if (metadata_uses_rmaps()) {
		arrays->rmap[0] = npages * 8;
		arrays->rmap[1] = nr_2m * 8;
		arrays->rmap[2] = nr_1g * 8;
	}
	if (uses_gfn_track())
		arrays->gfn_track = npages * 2;
	if (dirty_log)
		arrays->dirty_bitmap = (npages + 63) / 64 * 8 * 2;
}
