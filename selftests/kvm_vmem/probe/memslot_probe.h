/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interface between memslot_probe.ko and the tests.
 *
 * Each descriptor of /dev/memslot-probe watches one VM for one thread. It
 * records the actions of KVM on that VM in that thread, and reads the state
 * that KVM keeps of the VM's memslots.
 */
#ifndef MEMSLOT_PROBE_H
#define MEMSLOT_PROBE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* x86: address spaces of a VM, and sets of memslots in each. */
#define PROBE_NR_AS   2
#define PROBE_NR_SETS 2

/* Events that a descriptor buffers. Further events are only counted. */
#define PROBE_MAX_EVENTS 16384

/* Actions of KVM that are recorded. The first group are the memslot hooks. */
enum probe_kind {
	PROBE_PREPARE,
	PROBE_COMMIT,
	PROBE_FLUSH_SHADOW,
	PROBE_RECLAIMED,
	PROBE_UPDATED, /* @a: the generation */
	PROBE_FREE,
	PROBE_LAST_HOOK = PROBE_FREE,
	PROBE_REQUEST, /* to all vCPUs; @a: request, @b: it switches PML */
	PROBE_FLUSH, /* of the TLBs */
	PROBE_FLUSH_MEMSLOT,
	PROBE_KICK, /* @a: the vCPU's index */
	PROBE_MMU_PAGES, /* @a: the requested limit */
	PROBE_WRITE_PROTECT, /* @a: the level */
	PROBE_CLEAR_DIRTY,
	PROBE_SPLIT, /* @a: the level */
	PROBE_RECOVER, /* of huge pages */
	PROBE_TRACKER, /* a page tracker is called; @a: gfn, @b: pages */
	PROBE_GRACE, /* a grace period of kvm->srcu */
	PROBE_UNMAP, /* of guest pages; @a: gfn, @b: pages */
	PROBE_NR_KINDS,
};

/* Values and order of KVM's enum kvm_mr_change. */
enum probe_change {
	PROBE_CREATE,
	PROBE_DELETE,
	PROBE_MOVE,
	PROBE_FLAGS_ONLY,
};

#define PROBE_NO_SLOT 0xffffffffU

/**
 * struct probe_event - one recorded action of KVM
 * @kind: enum probe_kind
 * @slot: memslot number as in the uapi, or PROBE_NO_SLOT
 * @change: enum probe_change, for PREPARE and COMMIT
 * @old_flags: for PREPARE and COMMIT; 0 without an old memslot
 * @new_flags: for PREPARE and COMMIT; 0 without a new memslot
 * @dirty_logging: COMMIT: number of memslots with dirty logging at the hook
 * @pages: COMMIT: pages of all memslots at the hook
 * @a: see enum probe_kind
 * @b: see enum probe_kind
 */
struct probe_event {
	__u32 kind;
	__u32 slot;
	__u32 change;
	__u32 old_flags;
	__u32 new_flags;
	__s32 dirty_logging;
	__u64 pages;
	__u64 a;
	__u64 b;
};

/**
 * struct probe_read - read and clear the recorded events
 * @events: in: address of an array of struct probe_event
 * @capacity: in: length of that array
 * @nr: out: number of recorded events, may exceed @capacity
 * @lost: out: number of events that did not fit in the buffer
 */
struct probe_read {
	__u64 events;
	__u32 capacity;
	__u32 nr;
	__u32 lost;
	__u32 pad;
};

/**
 * struct probe_fail - make one prepare hook of KVM fail once
 * @change: fail a hook for this enum probe_change
 * @skip: number of such hooks that succeed first
 * @error: errno to fail with; 0 cancels an earlier request
 */
struct probe_fail {
	__u32 change;
	__u32 skip;
	__u32 error;
	__u32 pad;
};

/**
 * struct probe_look - look up a gfn as KVM does, which fills the set's cache
 */
struct probe_look {
	__u64 gfn;
	__u32 as;
	__u32 pad;
};

/**
 * struct probe_vm - state that KVM keeps of a VM
 * @nr_memslot_pages: pages of all memslots
 * @max_mmu_pages: limit of shadow pages
 * @used_mmu_pages: shadow pages
 * @dirty_logging: memslots with dirty logging
 * @nr_as: address spaces
 * @generation: generation of each address space's active set
 */
struct probe_vm {
	__u64 nr_memslot_pages;
	__u64 max_mmu_pages;
	__u64 used_mmu_pages;
	__s32 dirty_logging;
	__u32 nr_as;
	__u64 generation[PROBE_NR_AS];
};

/* Allocations that belong to a memslot. */
enum probe_array {
	PROBE_STRUCT,
	PROBE_BITMAP,
	PROBE_RMAP_4K,
	PROBE_RMAP_2M,
	PROBE_RMAP_1G,
	PROBE_LPAGE_2M,
	PROBE_LPAGE_1G,
	PROBE_GFN_TRACK,
	PROBE_NR_ARRAYS,
};

/**
 * struct probe_memory - one allocation
 * @bytes: its size, 0: not allocated
 * @cgroup: inode of the memory cgroup that is charged for it, 0: none
 * @hash: hash of the contents; 0 if they contain pointers
 */
struct probe_memory {
	__u64 bytes;
	__u64 cgroup;
	__u32 hash;
	__u32 pad;
};

/**
 * struct probe_slot - a memslot in a set, and its position there
 * @slot: number as in the uapi
 * @flags: including KVM's internal flags
 * @base_gfn: first gfn
 * @npages: number of pages
 * @hva: host address of the first page
 * @hva_start: first host address of its interval in the tree of host addresses
 * @hva_last: last host address of that interval
 * @hva_rank: its position in that tree, in order
 * @hash_bucket: its bucket in the hash of ids
 * @hash_rank: its position in that bucket's chain
 * @other: the other set contains the same struct kvm_memory_slot
 * @memory: its allocations
 */
struct probe_slot {
	__u32 slot;
	__u32 flags;
	__u64 base_gfn;
	__u64 npages;
	__u64 hva;
	__u64 hva_start;
	__u64 hva_last;
	__u32 hva_rank;
	__u32 hash_bucket;
	__u32 hash_rank;
	__u32 other;
	struct probe_memory memory[PROBE_NR_ARRAYS];
};

/* Inconsistencies that a set may have. */
#define PROBE_BAD_GFN_TREE  (1U << 0) /* order, colours, links */
#define PROBE_BAD_HVA_TREE  (1U << 1) /* the same, subtree ends, leftmost */
#define PROBE_BAD_HASH	    (1U << 2) /* chains, links */
#define PROBE_BAD_COUNT	    (1U << 3) /* trees and hash differ in size */
#define PROBE_BAD_LAST_USED (1U << 4) /* cache holds another memslot */
#define PROBE_BAD_INDEX	    (1U << 5) /* node_idx is not the set's index */

/**
 * struct probe_set - the memslots of a set, in the order of its tree of gfns
 * @slots: in: address of an array of struct probe_slot
 * @capacity: in: length of that array
 * @as: in: the address space
 * @inactive: in: 0: the active set, 1: the other one
 * @nr: out: number of memslots
 * @bad: out: PROBE_BAD_*
 * @last_used: out: the memslot in the set's cache, or PROBE_NO_SLOT
 * @generation: out: the set's generation
 */
struct probe_set {
	__u64 slots;
	__u32 capacity;
	__u32 as;
	__u32 inactive;
	__u32 nr;
	__u32 bad;
	__u32 last_used;
	__u64 generation;
};

/* Watch the VM of a descriptor for the calling thread. Once per descriptor. */
#define PROBE_WATCH _IOW('v', 0xc0, int)
#define PROBE_READ  _IOWR('v', 0xc1, struct probe_read)
#define PROBE_FAIL  _IOW('v', 0xc2, struct probe_fail)
#define PROBE_LOOK  _IOW('v', 0xc3, struct probe_look)
#define PROBE_VM    _IOR('v', 0xc4, struct probe_vm)
#define PROBE_SET   _IOWR('v', 0xc5, struct probe_set)
/* Make KVM assume that the CPU logs dirty pages. Not with running vCPUs. */
#define PROBE_PML _IO('v', 0xc6)
/* Register a page tracker. EOPNOTSUPP if the kernel has none. */
#define PROBE_TRACK _IO('v', 0xc7)
/*
 * Make KVM assume that a device is assigned. EOPNOTSUPP if this KVM does not
 * use the count of assigned devices.
 */
#define PROBE_ASSIGN _IO('v', 0xc8)
/*
 * Let an invalidation of the VM's memory be in progress, as during a call of
 * KVM's MMU notifier, until PROBE_INVALIDATED or until the descriptor is closed.
 */
#define PROBE_INVALIDATE  _IO('v', 0xc9)
#define PROBE_INVALIDATED _IO('v', 0xca)
/*
 * Keep the mm of the caller until the descriptor is closed. Then a kernel thread
 * lets go of it, and close() returns after that.
 */
#define PROBE_KEEP_MM _IO('v', 0xcc)
/* Return: 1 if a change of memslots waits for invalidations to end, or 0. */
#define PROBE_IS_AWAITED _IO('v', 0xcb)

#endif /* MEMSLOT_PROBE_H */
