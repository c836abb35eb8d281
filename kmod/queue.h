/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_QUEUE_H
#define KVM_VMEM_QUEUE_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

struct kvm;
struct mm_struct;

/**
 * struct vmem_work - a work for a region
 * @node: node in its lane, from vmem_queue_add() until the work runs
 * @size: bytes that the work holds while it waits, see vmem_queue_add()
 * @run: the function; it may free the work and the lane
 */
struct vmem_work {
	struct list_head node;
	u32 size;
	void (*run)(struct vmem_work *work);
};

/**
 * struct vmem_lane - the works of one region, which run in order
 * @works: waiting works
 * @node: node in one of the lists of lanes of the queue, while a work waits
 * @hurried: works of the lane do not wait for credit
 * @held: bytes that the works hold
 */
struct vmem_lane {
	struct list_head works;
	struct list_head node;
	bool hurried;
	u32 held;
};

/*
 * struct vmem_queue - the works of all regions of a VM
 */
struct vmem_queue {
	/* The VM (no reference) and its mm (a reference). Under queues_lock. */
	const struct kvm *kvm;
	struct mm_struct *mm;
	/* The process that created the queue; others may share its mm. */
	pid_t tgid;
	unsigned int users;
	struct hlist_node node;
	struct delayed_work linger_work;

	/* Runs one work, then queues itself for the next. */
	struct workqueue_struct *wq;
	struct delayed_work run_work;

	/* Protects the following members, see queue.c. */
	spinlock_t lock;
	/* CPU time that works may use, in nanoseconds, at @credit_time. */
	s64 credit;
	u64 credit_time;
	/* A work has begun and is not subtracted from the credit yet. */
	bool running;
	/* Bytes that waiting works hold. */
	u32 held;
	/* Lanes that wait for credit, and lanes that do not, in order. */
	struct list_head waiting;
	struct list_head hurried;

	/* The regions of the VM, for region.c. */
	struct mutex members_lock;
	struct list_head members;
};

/* The workqueue on which regions and queues are freed. */
extern struct workqueue_struct *vmem_free_wq;

int vmem_queue_init(void);
void vmem_queue_exit(void);

struct vmem_queue *vmem_queue_get(struct kvm *kvm);
void vmem_queue_put(struct vmem_queue *queue);
int vmem_queue_await_credit(struct vmem_queue *queue);
bool vmem_queue_has_credit(struct vmem_queue *queue);

void vmem_lane_init(struct vmem_lane *lane);
int vmem_queue_add(struct vmem_queue *queue, struct vmem_lane *lane,
		   struct vmem_work *work);
void vmem_queue_release(struct vmem_queue *queue, struct vmem_lane *lane,
			u32 size);
void vmem_queue_hurry(struct vmem_queue *queue, struct vmem_lane *lane);

#endif /* KVM_VMEM_QUEUE_H */
