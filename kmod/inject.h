/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault injection from the sender of a request into the worker that carries it
 * out, for kernels with CONFIG_FAULT_INJECTION.
 *
 * /proc/TID/fail-nth makes the n-th allocation of one task fail. A worker carries
 * out the requests for a region, so the count moves with the request. The sender
 * gives up its count when it queues the work (vmem_inject_take()). The worker has
 * the count while it works for that sender (vmem_inject_begin()), and returns the
 * rest before the sender is answered (vmem_inject_end()). A test therefore counts
 * the allocations of sender and worker as those of one task. Only the task itself
 * and its /proc file write the count of a task, and the sender does not while it
 * has none.
 *
 * Without CONFIG_FAULT_INJECTION the functions are empty.
 */
#ifndef KVM_VMEM_INJECT_H
#define KVM_VMEM_INJECT_H

#include <linux/sched.h>
#include <linux/sched/task.h>

/**
 * struct vmem_inject - a fail-nth count that moves with a request
 * @task: the sender, with a reference; NULL if it has no count
 * @nth: the count
 */
struct vmem_inject {
#ifdef CONFIG_FAULT_INJECTION
	struct task_struct *task;
	unsigned int nth;
#endif
};

#ifdef CONFIG_FAULT_INJECTION
static inline void vmem_inject_take(struct vmem_inject *inject)
{
	inject->nth = READ_ONCE(current->fail_nth);
	inject->task = inject->nth ? get_task_struct(current) : NULL;
	WRITE_ONCE(current->fail_nth, 0);
}

static inline void vmem_inject_begin(const struct vmem_inject *inject)
{
	if (inject->task)
		WRITE_ONCE(current->fail_nth, inject->nth);
}

static inline void vmem_inject_end(struct vmem_inject *inject)
{
	unsigned int left = READ_ONCE(current->fail_nth);

	if (!inject->task)
		return;
	WRITE_ONCE(current->fail_nth, 0);
	WRITE_ONCE(inject->task->fail_nth, left);
	put_task_struct(inject->task);
	inject->task = NULL;
}
#else
static inline void vmem_inject_take(struct vmem_inject *inject) {}
static inline void vmem_inject_begin(const struct vmem_inject *inject) {}
static inline void vmem_inject_end(struct vmem_inject *inject) {}
#endif

#endif /* KVM_VMEM_INJECT_H */
