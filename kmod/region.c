// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: the block state of virtio-mem devices, and their memslots.
 *
 * A region keeps a bit for each block, a count of plugged blocks for each
 * memslot it may have, and the invariant that exactly the memslots with a
 * count exist in KVM, in each address space of its mask.
 *
 * This file has the life of a region, and its locks. The others:
 *
 * region_job.c		the order of its changes, and until when they may be requested
 * region_change.c	the changes: plug, unplug, requested size, dirty logging
 * region_memslots.c	its memslots in KVM
 * region_dump.c	what readers see
 * region_fd.c		its file descriptor
 *
 * Life. The file descriptor holds the reference that makes a region exist; a
 * netlink message holds another for as long as it takes, a dump too. A region
 * holds a reference to its VM, until it ends or the VMM's mm does, whichever is
 * first, and one to the vendor module (kvm-amd or kvm-intel), which the former
 * does not imply on every kernel.
 *
 * The end of the VM. A VM must not outlive its process: once the VMM has been
 * reaped, the region's reference is gone, and no work of the region can hold the
 * last one. The mm's end comes as an mmu notifier release, in the task that
 * let go of the mm last, mostly the last thread of the VMM as it exits. The
 * release itself must not wait and must not drop the VM: if that were the last
 * reference, KVM would wait for the very notifier calls that it is dropped
 * from, and until the release returns, every task on the host that unregisters
 * a notifier waits with it. So the release sets a flag and adds a task work. An
 * exiting task runs its task works when it has closed its files, before its
 * parent can reap it; KVM's own release of the VM's file runs there too. The
 * task work takes vm_lock, which a work of the region holds for as long as it
 * uses the VM, and drops the VM. It needs no memory and no worker, so it ends
 * the VM of an OOM victim whose memory is gone by then.
 *
 * The wait for vm_lock is short. No thread of the VMM is left that could hold
 * slots_lock or kvm->srcu, and a queued work that has not begun finds the mm gone
 * and does nothing.
 *
 * Something else may use the mm for longer than the VMM: an asynchronous page
 * fault of KVM's, a reader of /proc. As a rule the VMM has a descriptor of the
 * region, too, and closes it as it exits, with the same effect. If the VMM has
 * passed on its only descriptor, the VM lives as long as the mm. If the last user
 * of the mm is then a kernel thread, a work of the region drops the VM, and no task
 * waits. A process that shares the mm (CLONE_VM) counts as the VMM: the VM is its
 * own as well, and stays.
 *
 * The end. The last reference to the file may be dropped by an unrelated task: by
 * the worker of delayed fput()s, or by the garbage collection of unix sockets.
 * vmem_region_end() therefore only hides the region from netlink and queues
 * end_work. Only the VMM waits for it, since it owns the VM and expects its memslots
 * to be gone. end_work removes the memslots, then releases their range and ids to
 * others, then drops the VM. Only gone_work follows it. Neither waits for credit,
 * and the requests before them do not either; without credit they are not carried
 * out. From vmem_region_end() to the end of end_work the region holds a reference
 * to the module. vmem_queue_exit() ensures that end_work has returned before the
 * module's code is freed.
 *
 * Locks, outermost first:
 *
 *   region->vm_lock	mutex. Keeps the VM from ending: held by works that use it,
 *			and by the task that drops it. Events are sent in the
 *			order in which it is taken.
 *   slots_lock	KVM's mutex, of the VM: held by a work throughout a change.
 *			See memslot.c for this and KVM's other locks.
 *   members_lock	mutex, of the VM's queue: its regions, which do not overlap.
 *   region->lock	mutex. State of one region, for readers.
 *   kvm->srcu		read side. KVM's memslots, for readers. No task waits for
 *			its grace period with region->lock held.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/xarray.h>

#include "batch.h"
#include "compat.h"
#include "gfp.h"
#include "queue.h"
#include "region.h"
#include "region_internal.h"
#include "region_memslots.h"

/* A region that is published: netlink may find it. */
#define REGION_PUBLISHED XA_MARK_1

static DEFINE_XARRAY_ALLOC1(regions);
static u32 next_region_id;
static atomic_t nr_regions = ATOMIC_INIT(0);

const struct vmem_region_ops *vmem_region_ops __ro_after_init;

/* Drop the VM reference, which may end the VM. Under region->vm_lock. */
static void drop_vm(struct vmem_region *region)
{
	struct kvm *kvm = region->kvm;

	lockdep_assert_held(&region->vm_lock);
	mutex_lock(&region->lock);
	WRITE_ONCE(region->kvm, NULL);
	mutex_unlock(&region->lock);
	kvm_put_kvm(kvm);
	module_put(region->vm_module);
	/* From here on the end of the mm has nothing to wait for. */
	smp_store_release(&region->vm_dropped, true);
}

/*
 * The VMM has ended, so the VM reference goes. A change that is under way is
 * waited for, and so is end_work, which may be dropping the last reference at
 * this moment.
 */
static void mm_is_gone(struct vmem_region *region)
{
	mutex_lock(&region->vm_lock);
	/* The region may have ended before. */
	if (region->kvm) {
		drop_vm(region);
		vmem_region_ops->changed(region);
	}
	mutex_unlock(&region->vm_lock);
	vmem_region_put(region);
}

static void gone_work(struct vmem_work *work)
{
	mm_is_gone(container_of(work, struct vmem_region, gone_work));
	/* vmem_queue_exit() waits for the return. */
	module_put(THIS_MODULE);
}

/* In the task that let go of the mm last, before it can be reaped. */
static void gone_task_work(struct callback_head *work)
{
	mm_is_gone(container_of(work, struct vmem_region, gone_task_work));
	/* vmem_region_exit() waits for the return. */
	module_put(THIS_MODULE);
}

static void set_gone(struct vmem_region *region)
{
	if (xchg(&region->gone, true))
		return;
	/* What waits gets its answer. */
	vmem_queue_hurry(region->queue, &region->lane);
	atomic64_inc(&region->changes);
	wake_up_poll(&region->wait, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
}

static void release_mm(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct vmem_region *region = container_of(mn, struct vmem_region, mn);

	set_gone(region);
	/* Pairs with drop_vm(). */
	if (smp_load_acquire(&region->vm_dropped))
		return;

	vmem_region_get(region);
	/* There is one to take: the region is registered. */
	__module_get(THIS_MODULE);
	/* A kernel thread never returns to user mode, where task works run. */
	if (current->flags & PF_KTHREAD ||
	    task_work_add(current, &region->gone_task_work, TWA_RESUME))
		vmem_queue_add(region->queue, &region->lane,
			       &region->gone_work);
}

/*
 * Does a process other than current, which exits, live in the mm? A kernel thread
 * of the process's own, as KVM has, may be its owner for a moment more.
 */
static bool is_shared(const struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	struct task_struct *owner;
	bool shared;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	shared = owner && !same_thread_group(owner, current);
	rcu_read_unlock();
	return shared;
#else
	/* That is not known: the VM ends with the mm. */
	return true;
#endif
}

/*
 * vmem_region_flush() - a process closes a descriptor of the region
 *
 * If that is the VMM as it exits, the VM ends now. Something else may use its mm
 * for longer, as a reader of /proc/PID/smaps does, and would be the one to
 * release it.
 */
void vmem_region_flush(struct vmem_region *region)
{
	if (!(current->flags & PF_EXITING) ||
	    atomic_read(&current->signal->live) ||
	    task_tgid(current) != region->pid || is_shared(region->mn.mm))
		return;
	set_gone(region);
	vmem_region_get(region);
	mm_is_gone(region);
}

static const struct mmu_notifier_ops region_mmu_notifier_ops = {
	.release = release_mm,
};

/* No other region of the VM may have its range and ids until this. */
static void erase_region(struct vmem_region *region)
{
	xa_erase(&regions, region->id);
	mutex_lock(&region->queue->members_lock);
	list_del(&region->member);
	mutex_unlock(&region->queue->members_lock);
}

/*
 * The region is going away. Its memslots go, where the VM still is. Those that
 * somebody changed are not the region's any more and stay; so do all if there
 * is no memory to remove them.
 */
static void end_work(struct vmem_work *work)
{
	struct vmem_region *region =
		container_of(work, struct vmem_region, end_work);
	int r;

	vmem_inject_begin(&region->inject);
	mutex_lock(&region->vm_lock);
	if (region->kvm && vmem_region_alive(region)) {
		vmem_region_set_changing(region, true);
		r = vmem_region_drop_memslots(region);
		/* A VM that ends takes its memslots along. */
		if (r && r != -ENODEV)
			pr_warn_ratelimited("kvm_vmem: region %u left memslots behind: %pe\n",
					    region->id, ERR_PTR(r));
	}
	erase_region(region);
	if (region->kvm)
		drop_vm(region);
	vmem_inject_end(&region->inject);
	if (region->published)
		vmem_region_ops->ended(region);
	mutex_unlock(&region->vm_lock);
	/* A reader that does not count it any more has seen all its changes. */
	atomic_dec(&nr_regions);
	complete_all(&region->end_done);

	/* Calls release_mm() unless the mm's end has, and waits for either. */
	mmu_notifier_unregister(&region->mn, region->mn.mm);
	vmem_region_put(region);
	/* vmem_queue_exit() waits for the return. */
	module_put(THIS_MODULE);
}

/* Number of slots of a region; its last one may be short. */
static u64 count_slots_of(u64 region_size, u64 slot_size)
{
	return div64_u64(region_size - 1, slot_size) + 1;
}

static int check_args(const struct kvm_vmem_create_region *args, int nr_as)
{
	u64 end, nr_blocks, nr_slots;

	if (args->flags & ~KVM_VMEM_REGION_ZAP_RANGES)
		return -EINVAL;
	if (!args->address_spaces || args->address_spaces >> nr_as)
		return -EINVAL;
	if (!is_power_of_2(args->block_size) || args->block_size < PAGE_SIZE)
		return -EINVAL;
	if (!args->slot_size || !IS_ALIGNED(args->slot_size, args->block_size))
		return -EINVAL;
	if (!args->region_size ||
	    !IS_ALIGNED(args->region_size, args->block_size) ||
	    !IS_ALIGNED(args->guest_phys_addr, args->block_size))
		return -EINVAL;
	/* KVM's own limit, on the size of a memslot. */
	if (min(args->slot_size, args->region_size) >> PAGE_SHIFT >
	    KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;
	if (check_add_overflow(args->guest_phys_addr, args->region_size, &end))
		return -EINVAL;
	if (!PAGE_ALIGNED(args->userspace_addr) ||
	    args->userspace_addr != untagged_addr(args->userspace_addr) ||
	    !access_ok((void __user *)(unsigned long)args->userspace_addr,
		       args->region_size))
		return -EINVAL;

	nr_blocks = args->region_size >> ilog2(args->block_size);
	if (nr_blocks > KVM_VMEM_MAX_BLOCKS)
		return -EFBIG;
	nr_slots = count_slots_of(args->region_size, args->slot_size);
	if (args->first_slot >= KVM_USER_MEM_SLOTS ||
	    nr_slots > KVM_USER_MEM_SLOTS - args->first_slot)
		return -ENOSPC;
	return 0;
}

/* Is another region of the VM in the way of one to be? Under members_lock. */
static bool meets_region(const struct vmem_queue *queue, const struct kvm *kvm,
			 const struct kvm_vmem_create_region *args)
{
	u64 nr_slots = count_slots_of(args->region_size, args->slot_size);
	struct vmem_region *other;

	list_for_each_entry(other, &queue->members, member) {
		/* It may be of a VM that was where this is. */
		if (READ_ONCE(other->kvm) != kvm ||
		    !(other->as_mask & args->address_spaces))
			continue;
		if (vmem_ranges_meet(args->guest_phys_addr, args->region_size,
				     other->gpa, other->size) ||
		    vmem_ranges_meet(args->first_slot, nr_slots,
				     other->first_slot, other->nr_slots))
			return true;
	}
	return false;
}

/*
 * Wait for credit, so that new regions bring none, and for slots_lock. Nothing is
 * allocated meanwhile. A region that meets another fails at once.
 */
static int await_turn(struct vmem_queue *queue, struct kvm *kvm,
		      const struct kvm_vmem_create_region *args)
{
	bool meets;

	mutex_lock(&queue->members_lock);
	meets = meets_region(queue, kvm, args);
	mutex_unlock(&queue->members_lock);
	if (meets)
		return -EEXIST;
	return vmem_queue_await_credit(queue) ?: vmem_batch_lock(kvm);
}

/* Have a region keep others off, and give it its number. */
static int add_region(struct vmem_region *region,
		      const struct kvm_vmem_create_region *args)
{
	int r = 0;

	mutex_lock(&region->queue->members_lock);
	if (meets_region(region->queue, region->kvm, args))
		r = -EEXIST;
	else
		list_add_tail(&region->member, &region->queue->members);
	mutex_unlock(&region->queue->members_lock);
	if (r)
		return r;
	r = xa_alloc_cyclic(&regions, &region->id, region,
			    XA_LIMIT(1, INT_MAX), &next_region_id,
			    VMEM_GFP);
	if (r >= 0)
		return 0;
	mutex_lock(&region->queue->members_lock);
	list_del(&region->member);
	mutex_unlock(&region->queue->members_lock);
	return r;
}

static void free_region(struct vmem_region *region)
{
	if (region->queue)
		vmem_queue_put(region->queue);
	kvfree(region->populated);
	kvfree(region->slot_plugged);
	kvfree(region->chunk_plugged);
	kvfree(region->plugged);
	put_pid(region->pid);
	mem_cgroup_put(region->memcg);
	kfree(region);
}

static void dealloc_work(struct work_struct *work)
{
	free_region(container_of(work, struct vmem_region, dealloc_work));
}

/* Takes the caller's use of the queue if made. */
static struct vmem_region *
alloc_region(const struct kvm_vmem_create_region *args,
	     struct vmem_queue *queue)
{
	struct vmem_region *region;

	region = kzalloc(sizeof(*region), VMEM_GFP);
	if (!region)
		return NULL;
	region->queue = queue;
	vmem_lane_init(&region->lane);
	refcount_set(&region->refs, 1);
	get_random_bytes(&region->mark_key, sizeof(region->mark_key));
	mutex_init(&region->vm_lock);
	mutex_init(&region->lock);
	init_waitqueue_head(&region->wait);
	region->gone_work.run = gone_work;
	init_task_work(&region->gone_task_work, gone_task_work);
	region->end_work.run = end_work;
	INIT_WORK(&region->dealloc_work, dealloc_work);
	init_completion(&region->end_done);
	region->mn.ops = &region_mmu_notifier_ops;
	region->gpa = args->guest_phys_addr;
	region->size = args->region_size;
	region->hva = args->userspace_addr;
	region->block_size = args->block_size;
	region->slot_size = args->slot_size;
	region->nr_blocks = args->region_size >> ilog2(args->block_size);
	region->blocks_per_slot = args->slot_size >> ilog2(args->block_size);
	region->first_slot = args->first_slot;
	region->nr_slots = count_slots_of(args->region_size, args->slot_size);
	region->as_mask = args->address_spaces;
	region->zap_ranges = args->flags & KVM_VMEM_REGION_ZAP_RANGES;
	region->pid = get_task_pid(current, PIDTYPE_TGID);
	region->memcg = get_mem_cgroup_from_mm(current->mm);
	region->plugged = kvcalloc(BITS_TO_LONGS(region->nr_blocks),
				   sizeof(unsigned long), VMEM_GFP);
	region->chunk_plugged = kvcalloc(DIV_ROUND_UP(region->nr_blocks,
						      CHUNK_BLOCKS),
					 sizeof(*region->chunk_plugged),
					 VMEM_GFP);
	region->slot_plugged = kvcalloc(region->nr_slots,
					sizeof(*region->slot_plugged),
					VMEM_GFP);
	region->populated = kvcalloc(BITS_TO_LONGS(region->nr_slots),
				     sizeof(unsigned long), VMEM_GFP);
	if (!region->plugged || !region->chunk_plugged ||
	    !region->slot_plugged || !region->populated) {
		/* The caller keeps that. */
		region->queue = NULL;
		free_region(region);
		return NULL;
	}
	return region;
}

/*
 * Learn of the end of current's mm. To register takes all locks of the mm, which
 * the kernel gives up with EINTR if any signal is pending, and a VMM with a fast
 * timer always has one. So signals wait until it is done, but those that end or
 * stop the process. Where one of these comes, or work of io_uring's that
 * interrupts likewise, the call begins anew afterwards: nothing is left of it by
 * then.
 */
static int register_notifier(struct vmem_region *region)
{
	sigset_t block, old;
	int r;

	siginitsetinv(&block, sigmask(SIGKILL) | sigmask(SIGSTOP));
	do {
		sigprocmask(SIG_BLOCK, &block, &old);
		r = mmu_notifier_register(&region->mn, current->mm);
		sigprocmask(SIG_SETMASK, &old, NULL);
		/* The call begins anew only if what interrupted is there. */
	} while (r == -EINTR && !signal_pending(current));
	return r == -EINTR ? -ERESTARTNOINTR : r;
}

/*
 * vmem_region_create() - make a region that is not visible yet
 * @vm_file: its VM, whose mm is current's
 * @args: what the user asked for
 * @result: out: the region
 *
 * vmem_region_publish() or vmem_region_end() must follow.
 *
 * Return: 0, or an error of KVM_VMEM_CREATE_REGION.
 */
int vmem_region_create(struct file *vm_file,
		       const struct kvm_vmem_create_region *args,
		       struct vmem_region **result)
{
	struct kvm *kvm = vm_file->private_data;
	struct vmem_region *region;
	struct vmem_queue *queue;
	int r;

	r = check_args(args, kvm_arch_nr_memslot_as_ids(kvm));
	if (r)
		return r;
	queue = vmem_queue_get(kvm);
	if (!queue)
		return -ENOMEM;
	r = await_turn(queue, kvm, args);
	if (r) {
		vmem_queue_put(queue);
		return r;
	}
	region = alloc_region(args, queue);
	if (!region) {
		vmem_batch_unlock(kvm);
		vmem_queue_put(queue);
		return -ENOMEM;
	}
	kvm_get_kvm(kvm);
	region->kvm = kvm;
	/* The file holds it, so there is one to take. */
	region->vm_module = vm_file->f_op->owner;
	__module_get(region->vm_module);

	r = add_region(region, args);
	if (r) {
		vmem_batch_unlock(kvm);
		goto out_drop_vm;
	}
	r = vmem_region_check_memslots(region);
	vmem_batch_unlock(kvm);
	if (r)
		goto out_erase;
	/* The mm cannot end while current runs in it. */
	r = register_notifier(region);
	if (r)
		goto out_erase;
	atomic_inc(&nr_regions);
	*result = region;
	return 0;

out_erase:
	erase_region(region);
out_drop_vm:
	mutex_lock(&region->vm_lock);
	drop_vm(region);
	mutex_unlock(&region->vm_lock);
	free_region(region);
	return r;
}

/*
 * vmem_region_publish() - let others find a region
 */
void vmem_region_publish(struct vmem_region *region)
{
	region->published = true;
	xa_set_mark(&regions, region->id, REGION_PUBLISHED);
	mutex_lock(&region->vm_lock);
	vmem_region_ops->published(region);
	mutex_unlock(&region->vm_lock);
}

/*
 * vmem_region_end() - end a region that has no file descriptor (any more)
 *
 * What was asked of it before is carried out first, if there is credit for it.
 * Waits for that and for the memslots to be gone if the VMM calls.
 */
void vmem_region_end(struct vmem_region *region)
{
	bool by_vmm = current->mm == region->mn.mm;

	xa_clear_mark(&regions, region->id, REGION_PUBLISHED);
	mutex_lock(&region->lock);
	WRITE_ONCE(region->ended, true);
	mutex_unlock(&region->lock);
	vmem_queue_hurry(region->queue, &region->lane);

	/* There is one to take: the caller comes from a file of the module. */
	__module_get(THIS_MODULE);
	if (by_vmm) {
		vmem_region_get(region);
		vmem_inject_take(&region->inject);
	}
	vmem_queue_add(region->queue, &region->lane, &region->end_work);
	if (by_vmm) {
		/* One that is killed need not see it. */
		wait_for_completion_killable(&region->end_done);
		vmem_region_put(region);
	}
}

struct vmem_region *vmem_region_get(struct vmem_region *region)
{
	refcount_inc(&region->refs);
	return region;
}

/*
 * vmem_region_put() - drop a reference
 *
 * What the last one frees grows with the region, and netlink's handlers are
 * among those who drop it: so that is done elsewhere.
 */
void vmem_region_put(struct vmem_region *region)
{
	if (refcount_dec_and_test(&region->refs))
		queue_work(vmem_free_wq, &region->dealloc_work);
}

/**
 * vmem_region_get_next - the published region with the lowest id from @id on
 * @id: in: where to begin; out: its id
 *
 * Return: the region with a reference, NULL if there is none.
 */
struct vmem_region *vmem_region_get_next(unsigned long *id)
{
	struct vmem_region *region;

	/* The lock keeps the mark, and that the first reference. */
	xa_lock(&regions);
	region = xa_find(&regions, id, ULONG_MAX, REGION_PUBLISHED);
	if (region)
		vmem_region_get(region);
	xa_unlock(&regions);
	return region;
}

struct vmem_region *vmem_region_get_by_id(u32 id)
{
	unsigned long index = id;
	struct vmem_region *region = vmem_region_get_next(&index);

	if (region && region->id != id) {
		vmem_region_put(region);
		region = NULL;
	}
	return region;
}

/*
 * vmem_region_init() - have somebody report regions, before there is one
 */
void vmem_region_init(const struct vmem_region_ops *ops)
{
	vmem_region_ops = ops;
}

/*
 * vmem_region_exit() - wait for task works
 *
 * No region holds the module any more, but a gone_task_work that has just put its
 * reference may not have returned. It runs in whichever task, does not sleep
 * after the put, and returns to code of the kernel: that is what this grace
 * period is for. For works see vmem_queue_exit().
 */
void vmem_region_exit(void)
{
	synchronize_rcu_tasks();
}

u32 vmem_region_count(void)
{
	return atomic_read(&nr_regions);
}
