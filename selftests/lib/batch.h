/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memslot batches of /dev/kvm-vmem: collect entries, apply them. */
#ifndef SELFTESTS_BATCH_H
#define SELFTESTS_BATCH_H

#include <linux/kvm.h>
#include <linux/kvm_vmem.h>

#include "vm.h"

/**
 * struct batch - entries to apply
 * @entries: the entries, in order
 * @nr: number of entries
 * @capacity: entries that @entries has room for
 * @bad_index: what the last failed call reported
 * @zapped: what the last call zapped, KVM_VMEM_ZAPPED_*
 */
struct batch {
	struct kvm_userspace_memory_region *entries;
	uint32_t nr;
	uint32_t capacity;
	uint32_t bad_index;
	uint32_t zapped;
};

/* Value of @bad_index if the module has not written it. */
#define BATCH_INDEX_UNTOUCHED 0xdeadbeefU

int kvm_vmem_open(void);

void batch_init(struct batch *b);
void batch_free(struct batch *b);
void batch_reset(struct batch *b);
void batch_set(struct batch *b, uint32_t slot, uint32_t flags, uint64_t gpa,
	       uint64_t size, const void *hva);
void batch_delete(struct batch *b, uint32_t slot);

int batch_call(int dev_fd, int vm_fd, struct batch *b, uint32_t flags);
int batch_apply(int dev_fd, const struct vm *vm, struct batch *b);

#endif /* SELFTESTS_BATCH_H */
