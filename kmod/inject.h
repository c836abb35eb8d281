/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault injection across a hand-over, for kernels with CONFIG_FAULT_INJECTION.
 *
 * /proc/TID/fail-nth makes the n-th allocation of one task fail. What a task
 * asks of a region is carried out by a worker, so the count follows it there:
 * the sender gives it up as it queues the work (vmem_inject_take()), the worker
 * has it for as long as it works for that sender (vmem_inject_begin()) and
 * gives back what is left (vmem_inject_end()) before the sender is answered.
 * So whoever counts sees one allocation after the other, as if it were all one
 * task. Only the task itself and its /proc file write the count of a task,
 * and the sender, having none meanwhile, does not.
 *
 * Elsewhere this compiles to nothing.
 */
#ifndef KVM_VMEM_INJECT_H
#define KVM_VMEM_INJECT_H

#include <linux/sched.h>
#include <linux/sched/task.h>

/**
 * struct vmem_inject - a count on its way
 * @task: whose it is, with a reference; NULL if it had none
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
