// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queues: the works of all regions of a VM run one at a time, and use at most a
 * share of one CPU.
 *
 * A worker changes regions, see region_job.c. It is a kernel thread whose CPU time
 * no cgroup accounts for. This file is therefore the only bound on the CPU time
 * that the holder of a region's descriptor can use. All regions of a VM share
 * one queue. It runs the works of a region (its lane) in order, and alternates
 * between regions.
 *
 * Share. A queue has credit: the CPU time that its works may use. A VM begins
 * with the maximum, CREDIT_MAX_NS, which is more than a device needs while its
 * guest grows or shrinks. The CPU time of each work is subtracted, and a
 * SHARE-th of the time that passes is added. Without credit no work begins. The
 * queue's timer expires when there is credit again, and no lock or memory of
 * KVM is held until then. A work that has begun is not interrupted, so the
 * credit may fall below 0 by the time of one work. Work that KVM causes
 * elsewhere, such as the callbacks of a grace period, is proportional to the
 * number of works and is not counted.
 *
 * Some works do not wait for credit. A lane is hurried when its region or its
 * VM ends, since a process waits for the end and memory is freed by it. Its
 * works still use credit, which leaves less to other regions of the VM. The
 * cost is bounded: without credit, no request in a hurried lane is carried out,
 * and no new region is made.
 *
 * Life. A queue is found by VM and mm, so that a region that is made anew finds
 * the queue of the one before. When its last user has gone, a queue lingers
 * until its credit is full: until then a new queue would have more credit than
 * this one. By that time KVM may have reused the memory of struct kvm for
 * another VM of the process, which then begins with the credit of the queue.
 * Another process has another mm; the queue holds a reference to its mm so that
 * the address is not reused. A queue lingers for at least LINGER_MIN, so that
 * regions that are refused do not create a workqueue each.
 *
 * The share belongs to a VM. A process with several VMs has one share for each,
 * as with all other work that KVM does outside of cgroups.
 *
 * Workers. Each queue has a workqueue of its own. A workqueue limits the number
 * of works that run at once, and a work can be blocked for as long as a vCPU's
 * page fault takes: on a shared workqueue, a few VMs could block all others.
 * These workqueues have no rescuer, which would be one thread for each VM that
 * no cgroup accounts for. It would not help either: a work may drop the last
 * reference to a VM, and KVM then waits for works of its own on workqueues
 * without a rescuer. The VM of a process that the OOM killer ends is dropped by
 * a task work, which needs no worker, see region.c.
 *
 * Locks, outermost first:
 *
 *   queues_lock	spinlock. Which queues there are, and their users.
 *   queue->lock	spinlock. Lanes and credit of one queue.
 *
 * queue->members_lock is region.c's.
 */
#include <linux/hashtable.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "gfp.h"
#include "queue.h"
#include "symbols.h"
#include "trace.h"

/* More than a change of all memslots of a region needs. */
#define CREDIT_MAX_NS ((s64)NSEC_PER_SEC)
/* After a work of 1 ms the queue waits 4 ms, which is one tick at 250 Hz. */
#define SHARE 4

/* So that a VMM that creates regions repeatedly finds its queue. */
#define LINGER_MIN HZ

/*
 * Maximum number of bytes that the waiting works of a VM hold, which is
 * allocated outside of any cgroup. A lane may hold as much as it leaves to
 * others, so a single lane has half of it. That is sufficient for the maximum
 * number of requests of a region with their maximum length and the overhead of
 * the kernel (64 of 33 KiB).
 */
#define MAX_HELD (5U << 20)

struct workqueue_struct *vmem_free_wq;

static DEFINE_SPINLOCK(queues_lock);
/* 512 buckets: on a host with thousands of VMs each has a few queues. */
static DEFINE_HASHTABLE(queues, 9);
static bool exiting;

/* Add the credit for the elapsed time. Under queue->lock. */
static void update_credit(struct vmem_queue *queue)
{
	u64 now = ktime_get_ns();

	queue->credit += (s64)div_u64(now - queue->credit_time, SHARE);
	queue->credit = min(queue->credit, CREDIT_MAX_NS);
	queue->credit_time = now;
}

/* Jiffies until the credit is above @credit. Under queue->lock. */
static unsigned long time_to(struct vmem_queue *queue, s64 credit)
{
	update_credit(queue);
	if (queue->credit > credit)
		return 0;
	return nsecs_to_jiffies((credit - queue->credit) * SHARE) + 1;
}

/* Schedule run_work for the waiting works. Under queue->lock. */
static void arm(struct vmem_queue *queue)
{
	if (!list_empty(&queue->hurried))
		mod_delayed_work(queue->wq, &queue->run_work, 0);
	else if (!list_empty(&queue->waiting))
		mod_delayed_work(queue->wq, &queue->run_work,
				 time_to(queue, 0));
}

/* Take the next work; NULL: no work may run now. */
static struct vmem_work *take_work(struct vmem_queue *queue)
{
	struct vmem_work *work = NULL;
	struct vmem_lane *lane;

	spin_lock(&queue->lock);
	lane = list_first_entry_or_null(&queue->hurried, struct vmem_lane,
					node);
	if (!lane && !time_to(queue, 0))
		lane = list_first_entry_or_null(&queue->waiting,
						struct vmem_lane, node);
	if (lane) {
		work = list_first_entry(&lane->works, struct vmem_work, node);
		list_del_init(&work->node);
		if (list_empty(&lane->works))
			list_del_init(&lane->node);
		else
			list_move_tail(&lane->node, lane->hurried ?
						    &queue->hurried :
						    &queue->waiting);
		queue->running = true;
	} else {
		arm(queue);
	}
	spin_unlock(&queue->lock);
	return work;
}

static void run_work(struct work_struct *w)
{
	struct vmem_queue *queue = container_of(to_delayed_work(w),
						struct vmem_queue, run_work);
	struct vmem_work *work = take_work(queue);
	u64 ran;

	if (!work)
		return;
	ran = kernel_hook(task_sched_runtime)(current);
	/* This may free the lane, but not the queue. */
	work->run(work);
	ran = kernel_hook(task_sched_runtime)(current) - ran;

	spin_lock(&queue->lock);
	update_credit(queue);
	queue->credit -= ran;
	queue->running = false;
	trace_work(queue->tgid, ran, queue->credit);
	arm(queue);
	spin_unlock(&queue->lock);
}

static void free_queue(struct vmem_queue *queue)
{
	cancel_delayed_work_sync(&queue->run_work);
	destroy_workqueue(queue->wq);
	mmdrop(queue->mm);
	kfree(queue);
}

/* Time for which a queue without users stays. Under queues_lock. */
static unsigned long time_to_linger(struct vmem_queue *queue)
{
	unsigned long delay;

	if (exiting)
		return 0;
	spin_lock(&queue->lock);
	delay = time_to(queue, CREDIT_MAX_NS - 1);
	/* The last work is not subtracted from the credit yet. */
	if (queue->running && !delay)
		delay = 1;
	spin_unlock(&queue->lock);
	return delay;
}

static void linger_work(struct work_struct *work)
{
	struct vmem_queue *queue = container_of(to_delayed_work(work),
						struct vmem_queue, linger_work);
	unsigned long delay;

	spin_lock(&queues_lock);
	if (queue->users) {
		spin_unlock(&queues_lock);
		return;
	}
	delay = time_to_linger(queue);
	if (delay) {
		mod_delayed_work(vmem_free_wq, &queue->linger_work, delay);
		spin_unlock(&queues_lock);
		return;
	}
	hash_del(&queue->node);
	/* It cannot be queued from here on, but it may have been before. */
	cancel_delayed_work(&queue->linger_work);
	spin_unlock(&queues_lock);
	free_queue(queue);
}

static struct vmem_queue *alloc_queue(struct kvm *kvm)
{
	struct vmem_queue *queue = kzalloc(sizeof(*queue), VMEM_GFP);

	if (!queue)
		return NULL;
	queue->tgid = current->tgid;
	queue->wq = alloc_ordered_workqueue("kvm-vmem-%d", 0, queue->tgid);
	if (!queue->wq) {
		kfree(queue);
		return NULL;
	}
	queue->kvm = kvm;
	queue->mm = current->mm;
	mmgrab(queue->mm);
	queue->users = 1;
	INIT_DELAYED_WORK(&queue->linger_work, linger_work);
	INIT_DELAYED_WORK(&queue->run_work, run_work);
	spin_lock_init(&queue->lock);
	queue->credit = CREDIT_MAX_NS;
	queue->credit_time = ktime_get_ns();
	INIT_LIST_HEAD(&queue->waiting);
	INIT_LIST_HEAD(&queue->hurried);
	mutex_init(&queue->members_lock);
	INIT_LIST_HEAD(&queue->members);
	return queue;
}

/* Find the queue of a VM of current's mm, and add a user. Under queues_lock. */
static struct vmem_queue *find_queue(const struct kvm *kvm)
{
	struct vmem_queue *queue;

	hash_for_each_possible(queues, queue, node, (unsigned long)kvm) {
		if (queue->kvm == kvm && queue->mm == current->mm) {
			queue->users++;
			return queue;
		}
	}
	return NULL;
}

/**
 * vmem_queue_get - get the queue of a VM, which is created if needed
 * @kvm: the VM, whose mm is current's
 *
 * Return: the queue, which vmem_queue_put() releases; NULL: out of memory.
 */
struct vmem_queue *vmem_queue_get(struct kvm *kvm)
{
	struct vmem_queue *queue, *new;

	spin_lock(&queues_lock);
	queue = find_queue(kvm);
	spin_unlock(&queues_lock);
	if (queue)
		return queue;

	new = alloc_queue(kvm);
	if (!new)
		return NULL;
	spin_lock(&queues_lock);
	queue = find_queue(kvm);
	if (!queue)
		hash_add(queues, &new->node, (unsigned long)kvm);
	spin_unlock(&queues_lock);
	if (!queue)
		return new;
	free_queue(new);
	return queue;
}

/* vmem_queue_put() - release a queue; no work of the caller waits in it */
void vmem_queue_put(struct vmem_queue *queue)
{
	unsigned long delay;

	spin_lock(&queues_lock);
	if (!--queue->users) {
		delay = time_to_linger(queue);
		if (!exiting)
			delay = max_t(unsigned long, delay, LINGER_MIN);
		mod_delayed_work(vmem_free_wq, &queue->linger_work, delay);
	}
	spin_unlock(&queues_lock);
}

bool vmem_queue_has_credit(struct vmem_queue *queue)
{
	bool has;

	spin_lock(&queue->lock);
	has = !time_to(queue, 0);
	spin_unlock(&queue->lock);
	return has;
}

/**
 * vmem_queue_await_credit - wait until the queue has credit
 * @queue: the queue
 *
 * Return: 0; -EINTR if the caller is killed.
 */
int vmem_queue_await_credit(struct vmem_queue *queue)
{
	unsigned long delay;

	for (;;) {
		spin_lock(&queue->lock);
		delay = time_to(queue, 0);
		spin_unlock(&queue->lock);
		if (!delay)
			return 0;
		/* Freezable: the wait may exceed the freezer's timeout. */
		__set_current_state(TASK_KILLABLE | TASK_FREEZABLE);
		schedule_timeout(delay);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
}

void vmem_lane_init(struct vmem_lane *lane)
{
	INIT_LIST_HEAD(&lane->works);
	INIT_LIST_HEAD(&lane->node);
	lane->hurried = false;
	lane->held = 0;
}

/**
 * vmem_queue_add - queue a work after the works of its lane
 * @queue: the queue
 * @lane: the lane of the region
 * @work: the work; if it has a size, vmem_queue_release() must follow
 *
 * A work without a size is always accepted.
 *
 * Return: 0; -EBUSY: the waiting works would hold too many bytes.
 */
int vmem_queue_add(struct vmem_queue *queue, struct vmem_lane *lane,
		   struct vmem_work *work)
{
	int r = 0;

	spin_lock(&queue->lock);
	if (work->size &&
	    lane->held + work->size > MAX_HELD - queue->held) {
		r = -EBUSY;
	} else {
		queue->held += work->size;
		lane->held += work->size;
		list_add_tail(&work->node, &lane->works);
		if (list_empty(&lane->node))
			list_add_tail(&lane->node, lane->hurried ?
						   &queue->hurried :
						   &queue->waiting);
		arm(queue);
	}
	spin_unlock(&queue->lock);
	return r;
}

/* vmem_queue_release() - account that a work no longer holds its bytes */
void vmem_queue_release(struct vmem_queue *queue, struct vmem_lane *lane,
			u32 size)
{
	spin_lock(&queue->lock);
	queue->held -= size;
	lane->held -= size;
	spin_unlock(&queue->lock);
}

/* vmem_queue_hurry() - let the works of a lane run without credit */
void vmem_queue_hurry(struct vmem_queue *queue, struct vmem_lane *lane)
{
	spin_lock(&queue->lock);
	lane->hurried = true;
	if (!list_empty(&lane->node)) {
		list_move_tail(&lane->node, &queue->hurried);
		arm(queue);
	}
	spin_unlock(&queue->lock);
}

int vmem_queue_init(void)
{
	vmem_free_wq = alloc_workqueue("kvm-vmem-free", WQ_UNBOUND, 0);
	return vmem_free_wq ? 0 : -ENOMEM;
}

/*
 * vmem_queue_exit() - free all queues and wait for all works
 *
 * No region holds a reference to the module any more, but a work that has just
 * put its reference may not have returned. free_queue() waits for the works of
 * a queue. Lingering queues are freed now, on vmem_free_wq, where regions are
 * freed as well.
 */
void vmem_queue_exit(void)
{
	struct vmem_queue *queue;
	int bkt;

	spin_lock(&queues_lock);
	exiting = true;
	hash_for_each(queues, bkt, queue, node)
		mod_delayed_work(vmem_free_wq, &queue->linger_work, 0);
	spin_unlock(&queues_lock);
	destroy_workqueue(vmem_free_wq);
}
