/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_BATCH_H
#define KVM_VMEM_BATCH_H

#include <linux/kvm_host.h>

/**
 * enum vmem_change_kind - kind of an entry of a batch
 *
 * A memslot is "as described" if it has the guest address, size and host
 * address of the entry, and no flag except that for dirty logging, which the
 * VMM may have changed.
 */
enum vmem_change_kind {
	/* As for KVM_SET_USER_MEMORY_REGION. */
	VMEM_CHANGE_SET,
	/* Create the memslot: EEXIST if its id is in use. */
	VMEM_CHANGE_CREATE,
	/* Delete the memslot: ESTALE unless it is as described. */
	VMEM_CHANGE_DELETE,
	/* Delete the memslot if it is as described, else do not change it. */
	VMEM_CHANGE_DROP,
	/* Set or clear dirty logging: ESTALE unless it is as described. */
	VMEM_CHANGE_FLAGS,
	/* Change nothing: ESTALE unless the memslot is as described. */
	VMEM_CHANGE_EXPECT,
};

/*
 * struct vmem_change - one entry of a batch
 * @mem: slot, addresses, size and flags; memory_size is that of the memslot,
 *	but 0 for a delete by VMEM_CHANGE_SET
 * @kind: kind of the entry
 */
struct vmem_change {
	struct kvm_userspace_memory_region mem;
	enum vmem_change_kind kind;
};

/**
 * struct vmem_batch_result - result of a batch
 * @bad_index: on error: index of the first entry that was refused, or
 *	KVM_VMEM_NO_INDEX
 * @zapped: KVM_VMEM_ZAPPED_*
 */
struct vmem_batch_result {
	u32 bad_index;
	u32 zapped;
};

/*
 * struct vmem_batch_stats - statistics of a batch, for its tracepoint
 *
 * @creates, @deletes and @flips count memslots. @grace_periods counts swaps of
 *	memslot sets, including those that undo a batch. @zaps counts calls of
 *	KVM's hook that drops mappings, and @unmaps the memslots whose own
 *	mappings were dropped instead (zap.c). The other members are nanoseconds
 *	of each step, see batch.c; @grace_ns is the time of the swaps, including
 *	the wait for mmu notifier invalidations to end.
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

/* Maximum number of entries: every memslot id of every address space. */
#define VMEM_BATCH_MAX (KVM_USER_MEM_SLOTS * KVM_MAX_NR_ADDRESS_SPACES)

int vmem_batch_lock(struct kvm *kvm);
void vmem_batch_unlock(struct kvm *kvm);
void *vmem_batch_alloc(size_t nr, size_t size, bool spare);
int vmem_batch_apply(struct kvm *kvm, const struct vmem_change *changes, u32 nr,
		     u32 flags, const bool *gone,
		     struct vmem_batch_result *result);

#endif /* KVM_VMEM_BATCH_H */
