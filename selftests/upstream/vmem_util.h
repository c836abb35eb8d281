/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memslot batches for tests written with the library of the kernel's KVM
 * selftests. A failing call ends the test, like the library's own calls.
 */
#ifndef SELFTESTS_UPSTREAM_VMEM_UTIL_H
#define SELFTESTS_UPSTREAM_VMEM_UTIL_H

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include <linux/kvm_vmem.h>

/* More entries than any batch here needs. */
#define VMEM_BATCH_ENTRIES 512

/**
 * struct vmem_batch - entries to apply
 * @flags: flags of the batch, KVM_VMEM_BATCH_*
 * @zapped: how the last batch dropped mappings, KVM_VMEM_ZAPPED_*
 * @nr: number of @entries
 * @entries: the entries
 */
struct vmem_batch {
	uint32_t flags;
	uint32_t zapped;
	uint32_t nr;
	struct kvm_userspace_memory_region entries[VMEM_BATCH_ENTRIES];
};

int vmem_open(void);
bool vmem_has_tdp_mmu(void);
void vmem_batch_add(struct vmem_batch *batch, uint32_t slot, uint32_t flags,
		    uint64_t gpa, uint64_t size, const void *hva);
void vmem_batch_delete(struct vmem_batch *batch, uint32_t slot);
void vmem_batch_apply(int dev, struct kvm_vm *vm, struct vmem_batch *batch);
void *vmem_alloc(size_t size);

#endif /* SELFTESTS_UPSTREAM_VMEM_UTIL_H */
