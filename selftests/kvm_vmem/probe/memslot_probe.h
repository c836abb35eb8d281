/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What memslot_probe.ko and a test say to each other.
 *
 * Each descriptor of /dev/memslot-probe watches one VM: it records what the
 * thread that began to watch makes KVM do there, and shows what KVM keeps of
 * the VM's memslots.
 */
#ifndef MEMSLOT_PROBE_H
#define MEMSLOT_PROBE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Address spaces of a VM, and sets of memslots of each. */
#define PROBE_NR_AS   2
#define PROBE_NR_SETS 2

/* Events that a descriptor holds until they are read; the rest is counted. */
#define PROBE_MAX_EVENTS 16384

/* What KVM was made to do. The first group are its hooks for memslots. */
enum probe_kind {
	PROBE_PREPARE,
	PROBE_COMMIT,
	PROBE_FLUSH_SHADOW,
	PROBE_RECLAIMED,
	PROBE_UPDATED, /* @a: the generation */
	PROBE_FREE,
	PROBE_LAST_HOOK = PROBE_FREE,
	PROBE_REQUEST, /* to all vCPUs; @a: which, @b: it switches PML */
	PROBE_FLUSH, /* of the TLBs */
	PROBE_FLUSH_MEMSLOT,
	PROBE_KICK, /* @a: the vCPU's number */
	PROBE_MMU_PAGES, /* @a: the limit asked for */
	PROBE_WRITE_PROTECT, /* @a: the level */
	PROBE_CLEAR_DIRTY,
	PROBE_SPLIT, /* @a: the level */
	PROBE_RECOVER, /* huge pages */
	PROBE_TRACKER, /* a page tracker is called; @a: gfn, @b: pages */
	PROBE_GRACE, /* a grace period of kvm->srcu */
	PROBE_UNMAP, /* of guest addresses; @a: gfn, @b: pages */
	PROBE_NR_KINDS,
};

/* KVM's enum kvm_mr_change, in its order. */
enum probe_change {
	PROBE_CREATE,
	PROBE_DELETE,
	PROBE_MOVE,
	PROBE_FLAGS_ONLY,
};

#define PROBE_NO_SLOT 0xffffffffU

/**
 * struct probe_event - one thing that KVM was made to do
 * @kind: enum probe_kind
 * @slot: memslot, as the uapi numbers it, or PROBE_NO_SLOT
 * @change: enum probe_change, for PREPARE and COMMIT
 * @old_flags, @new_flags: for PREPARE and COMMIT, 0 without such a memslot
 * @dirty_logging: COMMIT: count of memslots that log, as the hook finds it
 * @pages: COMMIT: pages of all memslots, as the hook finds it
 * @a, @b: see the kinds
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
 * struct probe_read - take the events
 * @events: in: where to
 * @capacity: in: how many fit
 * @nr: out: how many there were
 * @lost: out: events that were not held
 */
struct probe_read {
	__u64 events;
	__u32 capacity;
	__u32 nr;
	__u32 lost;
	__u32 pad;
};

/**
 * struct probe_fail - make one of KVM's prepare hooks fail, once
 * @change: of this enum probe_change
 * @skip: so many of them succeed before
 * @error: errno; 0: none fails after all
 */
struct probe_fail {
	__u32 change;
	__u32 skip;
	__u32 error;
	__u32 pad;
};

/**
 * struct probe_look - look a gfn up as KVM does, which fills the set's cache
 */
struct probe_look {
	__u64 gfn;
	__u32 as;
	__u32 pad;
};

/**
 * struct probe_vm - what KVM keeps of a VM
 * @nr_memslot_pages: pages of all memslots
 * @max_mmu_pages: limit of shadow pages
 * @used_mmu_pages: shadow pages
 * @dirty_logging: memslots that log
 * @nr_as: address spaces
 * @generation: of each active set
 */
struct probe_vm {
	__u64 nr_memslot_pages;
	__u64 max_mmu_pages;
	__u64 used_mmu_pages;
	__s32 dirty_logging;
	__u32 nr_as;
	__u64 generation[PROBE_NR_AS];
};

/* Memory that belongs to a memslot. */
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
 * @bytes: its size, 0: there is none
 * @cgroup: the inode of the memory cgroup it is charged to, 0: to none
 * @hash: of its contents; 0 of those with pointers
 */
struct probe_memory {
	__u64 bytes;
	__u64 cgroup;
	__u32 hash;
	__u32 pad;
};

/**
 * struct probe_slot - a memslot in a set, and its place there
 * @slot: as the uapi numbers it
 * @flags: with KVM's own
 * @base_gfn, @npages, @hva: what they are in the memslot
 * @hva_start, @hva_last: its interval in the tree of host addresses
 * @hva_rank: its place in that tree, from the left
 * @hash_bucket: where in the hash of ids it is
 * @hash_rank: and after how many in that chain
 * @other: the other set has the same memslot: the very one
 * @memory: its memory
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

/* What may be wrong with a set. */
#define PROBE_BAD_GFN_TREE  (1U << 0) /* order, colours, links */
#define PROBE_BAD_HVA_TREE  (1U << 1) /* that, the ends below, the leftmost */
#define PROBE_BAD_HASH	    (1U << 2) /* chains, links */
#define PROBE_BAD_COUNT	    (1U << 3) /* they do not hold the same memslots */
#define PROBE_BAD_LAST_USED (1U << 4) /* the cache shows what is not there */
#define PROBE_BAD_INDEX	    (1U << 5) /* node_idx is not the set's number */

/**
 * struct probe_set - the memslots of a set, in the order of its tree of gfns
 * @slots: in: where to
 * @capacity: in: how many fit
 * @as: in: the address space
 * @inactive: in: 0: the active set, 1: the other
 * @nr: out: how many there are
 * @bad: out: PROBE_BAD_*
 * @last_used: out: the memslot in the cache of the set, or PROBE_NO_SLOT
 * @generation: out
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

/* Watch the VM of a descriptor, as this thread uses it. Once. */
#define PROBE_WATCH _IOW('v', 0xc0, int)
#define PROBE_READ  _IOWR('v', 0xc1, struct probe_read)
#define PROBE_FAIL  _IOW('v', 0xc2, struct probe_fail)
#define PROBE_LOOK  _IOW('v', 0xc3, struct probe_look)
#define PROBE_VM    _IOR('v', 0xc4, struct probe_vm)
#define PROBE_SET   _IOWR('v', 0xc5, struct probe_set)
/* Let KVM believe that the CPU logs dirty pages. Not with vCPUs that run. */
#define PROBE_PML _IO('v', 0xc6)
/* Register a page tracker. EOPNOTSUPP if the kernel has none. */
#define PROBE_TRACK _IO('v', 0xc7)
/*
 * Let KVM believe that a device is assigned. EOPNOTSUPP where its count of them
 * does not matter.
 */
#define PROBE_ASSIGN _IO('v', 0xc8)

#endif /* MEMSLOT_PROBE_H */
