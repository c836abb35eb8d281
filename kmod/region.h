/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_H
#define KVM_VMEM_REGION_H

#include <linux/completion.h>
#include <linux/kvm_host.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/siphash.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "inject.h"
#include "memslot.h"
#include "queue.h"
#include "uapi/linux/kvm_vmem.h"

struct file;
struct mem_cgroup;
struct pid;

/**
 * struct vmem_range - blocks of a region
 * @first: number of the first, from the start of the region
 * @nr: how many, not 0
 */
struct vmem_range {
	u64 first;
	u64 nr;
};

enum vmem_request_type {
	VMEM_REQUEST_PLUG,
	VMEM_REQUEST_UNPLUG,
	VMEM_REQUEST_UNPLUG_ALL,
};

/**
 * struct vmem_request_mark - what a request is known again by
 * @type: of the request
 * @id: of the request, 0 for none
 * @nr: how many ranges
 * @hash: of the ranges
 */
struct vmem_request_mark {
	enum vmem_request_type type;
	u64 id;
	u32 nr;
	u64 hash;
};

/*
 * struct vmem_answer - what a request led to
 */
struct vmem_answer {
	u64 plugged_size;
	u32 populated_slots;
};

/*
 * struct vmem_region - the guest-physical range of a virtio-mem device
 *
 * The first part never changes once others see the region. What is below @lock
 * changes under it and only from works on @lane, except where said; so a work may
 * read without it.
 */
struct vmem_region {
	refcount_t refs;
	u32 id;
	gpa_t gpa;
	u64 size;
	u64 hva;
	u64 block_size;
	u64 slot_size;
	u64 nr_blocks;
	u64 blocks_per_slot;
	u32 first_slot;
	u32 nr_slots;
	unsigned long as_mask;
	/* Mappings of other memslots are to stay as its own are deleted. */
	bool zap_ranges;
	struct pid *pid;
	struct mmu_notifier mn;
	/* Its end is to be reported, as its beginning was. */
	bool published;

	/* Of the VM, and the region's place there. */
	struct vmem_queue *queue;
	struct list_head member;
	/* All that changes the region is done here, in turn. */
	struct vmem_lane lane;
	struct vmem_work gone_work;
	/* Instead of @gone_work, where a task can run it. */
	struct callback_head gone_task_work;
	struct vmem_work end_work;
	/* On vmem_free_wq, after the last reference was dropped. */
	struct work_struct dealloc_work;
	struct completion end_done;
	/* Of whoever ends the region, for @end_work. */
	struct vmem_inject inject;

	/* Held while @kvm is used by a work, or is being dropped. */
	struct mutex vm_lock;
	/* Never held while waiting for KVM. */
	struct mutex lock;
	/* Works that senders have queued; no more of them once @ended. */
	u32 nr_queued;
	bool ended;
	/* The cgroup in which the region was made. */
	struct mem_cgroup *memcg;
	/* The cgroup that a work charges while it changes memslots; the work's. */
	struct mem_cgroup *payer;
	/* NULL once the VM is gone; keeps @vm_module. */
	struct kvm *kvm;
	struct module *vm_module;
	u64 plugged_blocks;
	u32 populated_slots;
	/*
	 * Of the populated slots, in one address space: what KVM would hold if
	 * it held every kind.
	 */
	struct vmem_metadata full_metadata;
	u64 requested_size;
	bool dirty_log;
	/* Batches that deleted memslots, by what was dropped of mappings. */
	u64 range_zaps;
	u64 zaps_by_kvm;
	/* A work is changing memslots. */
	bool changing;
	/* The last request carried out, and its answer. */
	siphash_key_t mark_key;
	struct vmem_request_mark last_request;
	struct vmem_answer last_answer;

	/*
	 * What grows with blocks and slots: written by works without @lock, in
	 * between two increments of @updates; so a reader is told if it may
	 * have seen a part of a change.
	 */
	u32 updates;
	unsigned long *plugged;
	/* Plugged blocks of each chunk of CHUNK_BLOCKS. */
	u16 *chunk_plugged;
	/* Plugged blocks of each slot: it is populated if not 0. */
	u32 *slot_plugged;
	/* A bit for each populated slot. */
	unsigned long *populated;

	/* Without the lock: the mm has ended, and so has the VM for us. */
	bool gone;
	/* Set when the reference to the VM has been put. */
	bool vm_dropped;
	/*
	 * Number of changes; that number at the last read(); who waits for a change
	 * or for the end.
	 */
	atomic64_t changes;
	atomic64_t changes_read;
	wait_queue_head_t wait;
};

/**
 * struct vmem_region_ops - how a region reports what becomes of it
 * @published: others can find the region
 * @changed: its state has changed
 * @ended: it is gone
 *
 * Called under region->vm_lock, so that reports have the order of the changes; not
 * under region->lock, for which readers would wait with it.
 */
struct vmem_region_ops {
	void (*published)(struct vmem_region *region);
	void (*changed)(struct vmem_region *region);
	void (*ended)(struct vmem_region *region);
};

void vmem_region_init(const struct vmem_region_ops *ops);
void vmem_region_exit(void);

int vmem_region_create(struct file *vm_file,
		       const struct kvm_vmem_create_region *args,
		       struct vmem_region **region);
void vmem_region_publish(struct vmem_region *region);
void vmem_region_flush(struct vmem_region *region);
void vmem_region_end(struct vmem_region *region);

struct vmem_region *vmem_region_get_by_id(u32 id);
struct vmem_region *vmem_region_get_next(unsigned long *id);
struct vmem_region *vmem_region_get(struct vmem_region *region);
void vmem_region_put(struct vmem_region *region);
u32 vmem_region_count(void);

/* Has the VM not ended? */
static inline bool vmem_region_alive(struct vmem_region *region)
{
	return !READ_ONCE(region->gone);
}

#endif /* KVM_VMEM_REGION_H */
