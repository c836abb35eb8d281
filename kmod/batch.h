/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_BATCH_H
#define KVM_VMEM_BATCH_H

#include <linux/kvm_host.h>

/**
 * enum vmem_change_kind - how an entry of a batch is meant
 *
 * "As described": the memslot has the guest address, size and host address of
 * the entry, and is neither read-only nor otherwise unlike what the module
 * makes. Dirty logging does not count, the VMM may have changed that.
 */
enum vmem_change_kind {
	/* As KVM_SET_USER_MEMORY_REGION takes it. */
	VMEM_CHANGE_SET,
	/* The memslot is to be created: EEXIST if its id is in use. */
	VMEM_CHANGE_CREATE,
	/* Delete: ESTALE unless the memslot is as described. */
	VMEM_CHANGE_DELETE,
	/* Delete the memslot if it is as described, else leave it alone. */
	VMEM_CHANGE_DROP,
	/* Set or clear dirty logging: ESTALE unless as described. */
	VMEM_CHANGE_FLAGS,
	/* Change nothing: ESTALE unless the memslot is as described. */
	VMEM_CHANGE_EXPECT,
};

/*
 * struct vmem_change - one entry of a batch
 * @mem: slot, addresses, size and flags; memory_size is the memslot's in every
 *	kind, and 0 for a delete by VMEM_CHANGE_SET
 */
struct vmem_change {
	struct kvm_userspace_memory_region mem;
	enum vmem_change_kind kind;
};

/**
 * struct vmem_batch_result - what came of a batch
 * @bad_index: on error: first entry that was refused, or KVM_VMEM_NO_INDEX
 * @zapped: KVM_VMEM_ZAPPED_*
 */
struct vmem_batch_result {
	u32 bad_index;
	u32 zapped;
};

/*
 * struct vmem_batch_stats - what a batch did, for its tracepoint
 *
 * Nanoseconds of each step, see batch.c; grace_ns is the swaps, including the
 * wait for mmu notifier invalidations to end. zaps counts calls of KVM's hook
 * that drops mappings, unmaps the memslots whose own mappings were dropped
 * without it (zap.c), grace_periods the swaps, those of a batch that is undone
 * included.
 */
struct vmem_batch_stats {
	u32 creates;
	u32 deletes;
	u32 flips;
	u32 grace_periods;
	u32 zaps;
	u32 unmaps;
	u64 judge_ns;
	u64 prepare_ns;
	u64 grace_ns;
	u64 zap_ns;
	u64 commit_ns;
};

/* Most entries: every memslot id of every address space. */
#define VMEM_BATCH_MAX (KVM_USER_MEM_SLOTS * KVM_MAX_NR_ADDRESS_SPACES)

int vmem_batch_lock(struct kvm *kvm);
void vmem_batch_unlock(struct kvm *kvm);
void *vmem_batch_alloc(size_t nr, size_t size, bool spare);
int vmem_batch_apply(struct kvm *kvm, const struct vmem_change *changes, u32 nr,
		     u32 flags, const bool *gone,
		     struct vmem_batch_result *result);

#endif /* KVM_VMEM_BATCH_H */
