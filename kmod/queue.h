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
 * struct vmem_work - something to do for a region
 * @node: in its lane, from vmem_queue_add() until it runs
 * @size: bytes that it holds while it waits, see vmem_queue_add()
 * @run: does it; may free the work and the lane
 */
struct vmem_work {
	struct list_head node;
	u32 size;
	void (*run)(struct vmem_work *work);
};

/**
 * struct vmem_lane - the works of one region, which keep their order
 * @works: those that wait
 * @node: in one of the queue's lists of lanes while any waits
 * @hurried: they do not wait for credit
 * @held: bytes that they hold
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
	/* Whose it is, under queues_lock; the mm has a reference, the VM none. */
	const struct kvm *kvm;
	struct mm_struct *mm;
	/* The process that made it; another may share the mm and outlive it. */
	pid_t tgid;
	unsigned int users;
	struct hlist_node node;
	struct delayed_work linger_work;

	/* Runs one work and queues itself for the next. */
	struct workqueue_struct *wq;
	struct delayed_work run_work;

	/* For what follows; see queue.c. */
	spinlock_t lock;
	/* CPU time that works may take, in nanoseconds, as it was then. */
	s64 credit;
	u64 credit_time;
	/* A work has begun that is not taken off the credit yet. */
	bool running;
	/* Bytes that waiting works hold. */
	u32 held;
	/* Lanes that wait for credit, and those that do not; next one first. */
	struct list_head waiting;
	struct list_head hurried;

	/* The VM's regions, for region.c. */
	struct mutex members_lock;
	struct list_head members;
};

/* Where regions and queues are freed. */
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
