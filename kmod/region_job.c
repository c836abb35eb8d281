// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: the changes of a region wait for their turn.
 *
 * A change waits for KVM: for slots_lock, and for grace periods. A vCPU delays a
 * grace period until one of its page faults is resolved, and userspace may resolve
 * it (userfaultfd). Others must not wait for that, in particular netlink, whose
 * handlers run under a lock of all of generic netlink. All changes of a region are
 * therefore made by works on the queue of its VM, see queue.c: jobs in the order in
 * which they arrive, the end of the VM, and the end of the region. Works of one
 * queue do not run in parallel.
 *
 * A region takes jobs until it or its VM ends. Those that wait by then are run
 * without waiting for credit: after the end of the VM they only report it, and
 * after the end of the region they are carried out as long as there is credit.
 *
 * Memory. What a job holds while it waits is not charged, but bounded for each VM:
 * charging can take long, and would happen under netlink's lock. The rest is
 * allocated when the job runs, and charged.
 */
#include <linux/mutex.h>

#include "inject.h"
#include "queue.h"
#include "region.h"
#include "region_job.h"

/*
 * Requests of a region that may wait to be carried out. A device has one under
 * way; what is more comes from operators.
 */
#define MAX_QUEUED 64

/* Why does a region take no more requests? */
const char *vmem_region_why_ended(struct vmem_region *region)
{
	return vmem_region_alive(region) ? "the region has ended" :
					   "the VM is gone";
}

/*
 * Why is a request not carried out? NULL if it is: the VM has not ended, and either
 * the region has not, or there is credit for what was asked before its end.
 */
const char *vmem_region_refuses(struct vmem_region *region)
{
	if (vmem_region_alive(region) &&
	    (!READ_ONCE(region->ended) ||
	     vmem_queue_has_credit(region->queue)))
		return NULL;
	return vmem_region_why_ended(region);
}

static int enter_lane(struct vmem_region *region, struct vmem_work *work)
{
	int r;

	mutex_lock(&region->lock);
	if (region->ended || !vmem_region_alive(region))
		r = -ENODEV;
	else if (region->nr_queued >= MAX_QUEUED)
		r = -EBUSY;
	else
		r = vmem_queue_add(region->queue, &region->lane, work);
	if (!r)
		region->nr_queued++;
	mutex_unlock(&region->lock);
	return r;
}

static void leave_lane(struct vmem_region *region, const struct vmem_work *work)
{
	mutex_lock(&region->lock);
	region->nr_queued--;
	mutex_unlock(&region->lock);
	vmem_queue_release(region->queue, &region->lane, work->size);
}

static void run_job(struct vmem_work *work)
{
	struct vmem_region_job *job =
		container_of(work, struct vmem_region_job, work);
	int r;

	vmem_inject_begin(&job->inject);
	r = job->run(job);
	vmem_inject_end(&job->inject);
	/* A sender that has its answer may queue another. */
	leave_lane(job->region, work);
	job->done(job, r);
}

/*
 * vmem_region_queue() - have a job change its region, after those before it
 * @job: with its region, functions and size; the caller's as before on error
 * @reason: out, on error: a sentence for the sender
 *
 * Return: 0; -ENODEV if the region or its VM has ended; -EBUSY if too many wait.
 */
int vmem_region_queue(struct vmem_region_job *job, const char **reason)
{
	int r;

	job->work.run = run_job;
	vmem_inject_take(&job->inject);
	r = enter_lane(job->region, &job->work);
	if (!r)
		return 0;
	vmem_inject_begin(&job->inject);
	vmem_inject_end(&job->inject);
	*reason = r == -EBUSY ? "too many requests wait" :
				vmem_region_why_ended(job->region);
	return r;
}
