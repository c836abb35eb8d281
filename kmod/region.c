// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: the block state of virtio-mem devices, and their memslots.
 *
 * A region keeps a bit for each block, a count of plugged blocks for each
 * memslot it may have, and the invariant that exactly the memslots with a
 * count exist in KVM, in each address space of its mask. A request changes the
 * bits and the memslots together or neither: the batch goes first, and what
 * follows it cannot fail.
 *
 * Memslots are looked up in KVM by id each time. The VMM can change them without
 * the module's knowledge. A request fails with ESTALE if a memslot is not as the
 * region made it. It checks all memslots that contain its blocks, including those
 * that it does not change.
 *
 * Works. A change waits for KVM: for slots_lock, and for grace periods. A vCPU
 * delays a grace period until one of its page faults is resolved, and userspace may
 * resolve it (userfaultfd). Others must not wait for that, in particular netlink,
 * whose handlers run under a lock of all of generic netlink. All changes of a region
 * are therefore made by works on the queue of its VM, see queue.c: requests in the
 * order in which they arrive, the end of the VM, and the end of the region. Works
 * of one queue do not run in parallel. They take region->lock only to update the
 * state that readers see. Readers access KVM's memslots inside kvm->srcu, like
 * vCPUs. They take no lock of KVM and never wait for a change, so they see the
 * current memslots, even in the middle of a change. They cannot distinguish then
 * whether the change or the VMM has removed a memslot. So no memslot is reported as
 * stale while region->changing is set.
 *
 * Work proportional to the number of blocks or slots is never done under
 * region->lock, which netlink's handlers take, nor by a handler before it has data
 * to send. The works that change sums maintain them. Metadata is the sum, by
 * geometry, of all kinds that KVM can have; one memslot shows which of them KVM has
 * now. The bitmaps and counts are written without the lock. A reader detects a
 * concurrent change by vmem_region_dump_seq().
 *
 * Memory. Allocations of a work are charged to the VMM's memory cgroup, as the
 * memslots belong to the VMM. The memory of a queued request is not charged, but
 * bounded for each VM: charging can take long, and would happen under netlink's
 * lock. A work takes slots_lock first, see batch.c, so the works of all regions of
 * a VM use the memory of one batch at a time.
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
#include <linux/bitmap.h>
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
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/srcu.h>
#include <linux/task_work.h>
#include <linux/xarray.h>

#include "batch.h"
#include "compat.h"
#include "gfp.h"
#include "queue.h"
#include "region.h"

/* A region that is published: netlink may find it. */
#define REGION_PUBLISHED XA_MARK_1

/*
 * Requests of a region that may wait to be carried out. A device has one under
 * way; what is more comes from operators.
 */
#define MAX_QUEUED 64

/*
 * Blocks of which a count is kept, so that a reader who looks for the next run
 * passes over what is all plugged or all unplugged. Of the most blocks that
 * there can be, it looks at 16384 counts and at 2 KiB of bits.
 */
#define CHUNK_SHIFT 14
#define CHUNK_BLOCKS BIT(CHUNK_SHIFT)

/*
 * Slots that the end of a region removes one by one, where there is no memory to
 * remove all at once, before it lets others have KVM's lock and the VM: as many as
 * there are grace periods to wait for.
 */
#define DROP_SLOTS 64

static DEFINE_XARRAY_ALLOC1(regions);
static u32 next_region_id;
static atomic_t nr_regions = ATOMIC_INIT(0);
static const struct vmem_region_ops *region_ops __ro_after_init;

/* Blocks of a request in one slot. */
struct slot_blocks {
	u32 slot;
	u32 blocks;
};

static u64 slot_bytes(const struct vmem_region *region, u32 slot)
{
	u64 offset = slot * region->slot_size;

	return min(region->slot_size, region->size - offset);
}

/* The memslot of a slot in one address space, as KVM has it or is to. */
static void describe_slot(const struct vmem_region *region, u32 slot, int as_id,
			  struct kvm_userspace_memory_region *mem)
{
	u64 offset = slot * region->slot_size;

	*mem = (struct kvm_userspace_memory_region) {
		.slot = as_id << 16 | (region->first_slot + slot),
		.flags = region->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = region->gpa + offset,
		.memory_size = slot_bytes(region, slot),
		.userspace_addr = region->hva + offset,
	};
}

/* What KVM would hold for a slot in one address space, with every kind. */
static void slot_full_metadata(const struct vmem_region *region, u32 slot,
			       struct vmem_metadata *full)
{
	vmem_memslot_full_metadata(gpa_to_gfn(region->gpa +
					      slot * region->slot_size),
				   slot_bytes(region, slot) >> PAGE_SHIFT, full);
}

static u32 nr_address_spaces(const struct vmem_region *region)
{
	return hweight_long(region->as_mask);
}

/* For a batch over so many slots. @spare: as vmem_batch_alloc() has it. */
static struct vmem_change *alloc_changes(const struct vmem_region *region,
					 u32 nr_slots, bool spare)
{
	return vmem_batch_alloc(array_size(nr_slots, nr_address_spaces(region)),
				sizeof(struct vmem_change), spare);
}

/* Add the memslots of one slot to a batch of @nr entries; new number. */
static u32 add_changes(const struct vmem_region *region, u32 slot,
		       enum vmem_change_kind kind, struct vmem_change *changes,
		       u32 nr)
{
	int as_id;

	for_each_set_bit(as_id, &region->as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		changes[nr].kind = kind;
		describe_slot(region, slot, as_id, &changes[nr].mem);
		nr++;
	}
	return nr;
}

/* Readers must not judge the memslots meanwhile. Under region->lock. */
static void mark_changing(struct vmem_region *region, bool changing)
{
	lockdep_assert_held(&region->lock);
	region->changing = changing;
}

static void set_changing(struct vmem_region *region, bool changing)
{
	mutex_lock(&region->lock);
	mark_changing(region, changing);
	mutex_unlock(&region->lock);
}

/*
 * Is the mm some process's own? An exiting process hands it over to another that
 * shares it, before it closes its files.
 */
static bool has_owner(const struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	return rcu_access_pointer(mm->owner);
#else
	return true;
#endif
}

/* NULL where there are no memory cgroups, or they are disabled. */
static struct mem_cgroup *get_memcg(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	if (memcg)
		css_get(&memcg->css);
#endif
	return memcg;
}

/*
 * Who pays for a change: the cgroup of the VMM as it is now. An mm whose last
 * thread has exited, and that something else still holds, has no owner, and is
 * charged to nobody: then it is the cgroup in which the region was made.
 */
static struct mem_cgroup *get_payer(const struct vmem_region *region)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(region->kvm->mm);

	/* Asked for after that: an owner that has gone does not come back. */
	if (has_owner(region->kvm->mm))
		return memcg;
	mem_cgroup_put(memcg);
	return get_memcg(region->memcg);
}

/*
 * A work changes memslots between begin_batch() and end_batch(), and charges
 * the VMM for all that it allocates meanwhile.
 *
 * Return: 0; -ENODEV: the VMM has ended while the lock was waited for. What
 * follows then would answer for a VM that is gone, and allocate while the end of
 * an OOM victim waits for vm_lock.
 */
static int begin_batch(struct vmem_region *region)
{
	int r = vmem_batch_lock(region->kvm);

	if (r)
		return r;
	if (!vmem_region_alive(region)) {
		vmem_batch_unlock(region->kvm);
		return -ENODEV;
	}
	region->payer = get_payer(region);
	set_active_memcg(region->payer);
	return 0;
}

static void end_batch(struct vmem_region *region)
{
	set_active_memcg(NULL);
	mem_cgroup_put(region->payer);
	region->payer = NULL;
	vmem_batch_unlock(region->kvm);
}

/* A batch of the region's, between begin and end. */
static int apply(struct vmem_region *region, const struct vmem_change *changes,
		 u32 nr, u32 *bad_index)
{
	struct vmem_batch_result result;
	int r;

	r = vmem_batch_apply(region->kvm, changes, nr,
			     region->zap_ranges ? KVM_VMEM_BATCH_ZAP_RANGES : 0,
			     &region->gone, &result);
	*bad_index = result.bad_index;
	if (!r && result.zapped) {
		mutex_lock(&region->lock);
		if (result.zapped & KVM_VMEM_ZAPPED_BY_KVM)
			region->zaps_by_kvm++;
		else
			region->range_zaps++;
		mutex_unlock(&region->lock);
	}
	return r;
}

/* One batch over all populated slots, between begin and end. */
static int change_populated(struct vmem_region *region,
			    enum vmem_change_kind kind)
{
	struct vmem_change *changes;
	u32 slot, bad_index, nr = 0;
	int r;

	if (!region->populated_slots)
		return 0;
	changes = alloc_changes(region, region->populated_slots,
				kind != VMEM_CHANGE_FLAGS);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		if (region->slot_plugged[slot])
			nr = add_changes(region, slot, kind, changes, nr);
	r = apply(region, changes, nr, &bad_index);
	kvfree(changes);
	return r;
}

/* The next slots from @slot on, with little memory. */
static int drop_some(struct vmem_region *region, u32 *slot)
{
	struct vmem_change changes[KVM_MAX_NR_ADDRESS_SPACES];
	u32 bad_index, nr, dropped = 0;
	int r;

	r = begin_batch(region);
	if (r)
		return r;
	for (; *slot < region->nr_slots && dropped < DROP_SLOTS; ++*slot) {
		if (!region->slot_plugged[*slot])
			continue;
		nr = add_changes(region, *slot, VMEM_CHANGE_DROP, changes, 0);
		r = apply(region, changes, nr, &bad_index);
		if (r)
			break;
		dropped++;
	}
	end_batch(region);
	return r;
}

/*
 * The end of a region: its memslots go, those that are still as it made them.
 * Under region->vm_lock, which is dropped meanwhile where that takes long.
 */
static int drop_memslots(struct vmem_region *region)
{
	u32 slot = 0;
	int r;

	lockdep_assert_held(&region->vm_lock);
	r = begin_batch(region);
	if (r)
		return r;
	r = change_populated(region, VMEM_CHANGE_DROP);
	end_batch(region);
	if (r != -ENOMEM)
		return r;
	do {
		r = drop_some(region, &slot);
		mutex_unlock(&region->vm_lock);
		cond_resched();
		mutex_lock(&region->vm_lock);
		if (!region->kvm)
			return -ENODEV;
	} while (!r && slot < region->nr_slots);
	return r;
}

static void tell_readers(struct vmem_region *region)
{
	atomic64_inc(&region->changes);
	wake_up_poll(&region->wait, EPOLLIN | EPOLLRDNORM);
}

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
		region_ops->changed(region);
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

bool vmem_region_alive(struct vmem_region *region)
{
	return !READ_ONCE(region->gone);
}

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
		set_changing(region, true);
		r = drop_memslots(region);
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
		region_ops->ended(region);
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

static bool ranges_meet(u64 first_a, u64 nr_a, u64 first_b, u64 nr_b)
{
	return first_a < first_b + nr_b && first_b < first_a + nr_a;
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
		if (ranges_meet(args->guest_phys_addr, args->region_size,
				other->gpa, other->size) ||
		    ranges_meet(args->first_slot, nr_slots,
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

/*
 * Is a memslot in the way? KVM's answer to creating all of the region's,
 * without creating them. Under slots_lock.
 */
static int check_memslots(const struct vmem_region *region)
{
	struct vmem_batch_result result;
	struct vmem_change *changes;
	u32 slot, nr = 0;
	int r;

	changes = alloc_changes(region, region->nr_slots, false);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		nr = add_changes(region, slot, VMEM_CHANGE_CREATE, changes, nr);
	r = vmem_batch_apply(region->kvm, changes, nr, KVM_VMEM_BATCH_VALIDATE_ONLY,
			     NULL, &result);
	kvfree(changes);
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
	r = check_memslots(region);
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
	region_ops->published(region);
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
	region_ops = ops;
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

/* Why does a region take no more requests? */
static const char *why_ended(struct vmem_region *region)
{
	return vmem_region_alive(region) ? "the region has ended" :
					   "the VM is gone";
}

/*
 * Why is a request not to be carried out? NULL if it is: the VM has not ended; nor
 * has the region, or there is credit for what was asked before.
 */
static const char *refuses(struct vmem_region *region)
{
	if (vmem_region_alive(region) &&
	    (!READ_ONCE(region->ended) ||
	     vmem_queue_has_credit(region->queue)))
		return NULL;
	return why_ended(region);
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
				why_ended(job->region);
	return r;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct vmem_range *ra = a, *rb = b;

	return ra->first < rb->first ? -1 : ra->first > rb->first;
}

static int fault(struct vmem_fault *f, int range, const char *reason, int err)
{
	f->range = range;
	f->reason = reason;
	return err;
}

/*
 * vmem_region_alloc_ranges() - room for the ranges of a request, for its job
 * @f: out, on error: the reason, for the sender
 *
 * Charged to the cgroup in which the region was made. At its limit an unplug has
 * the spare for them, too.
 *
 * Return: 0; -ENODEV if the request will not be carried out; -ENOMEM.
 */
int vmem_region_alloc_ranges(struct vmem_region *region,
			     struct vmem_request *req, struct vmem_fault *f)
{
	struct mem_cgroup *old;

	*f = (struct vmem_fault) { .range = -1, .reason = refuses(region) };
	if (f->reason)
		return -ENODEV;
	old = set_active_memcg(region->memcg);
	req->ranges = vmem_batch_alloc(req->nr, sizeof(*req->ranges),
				       req->type == VMEM_REQUEST_UNPLUG);
	set_active_memcg(old);
	return req->ranges ? 0 : -ENOMEM;
}

/*
 * Which of two ranges that overlap comes later in the request: its index there.
 * One that only begins where either does overlaps as well.
 */
static int later_of(const struct vmem_request *req, const struct vmem_range *a,
		    const struct vmem_range *b)
{
	int i = req->nr;

	while (--i > 0)
		if (req->ranges[i].first == a->first ||
		    req->ranges[i].first == b->first)
			break;
	return i;
}

/*
 * The ranges of a request, ascending and inside the region, all their blocks
 * plugged or all not.
 */
static int check_ranges(const struct vmem_region *region,
			const struct vmem_request *req,
			const struct vmem_range *sorted, struct vmem_fault *f)
{
	bool plug = req->type == VMEM_REQUEST_PLUG;
	u32 i;

	/* First, so that what follows looks at each block once at most. */
	for (i = 1; i < req->nr; i++)
		if (sorted[i - 1].first + sorted[i - 1].nr > sorted[i].first)
			return fault(f, later_of(req, &sorted[i - 1], &sorted[i]),
				     "ranges overlap", -EINVAL);
	for (i = 0; i < req->nr; i++) {
		const struct vmem_range *range = &req->ranges[i];
		u64 end = range->first + range->nr;

		if (plug && find_next_bit(region->plugged, end, range->first) < end)
			return fault(f, i, "a block is plugged already", -EEXIST);
		if (!plug && find_next_zero_bit(region->plugged, end,
						range->first) < end)
			return fault(f, i, "a block is not plugged", -ENXIO);
		cond_resched();
	}
	return 0;
}

/* Spread sorted ranges over slots, each slot once; how many slots. */
static u32 spread_ranges(const struct vmem_region *region,
			 const struct vmem_range *sorted, u32 nr,
			 struct slot_blocks *slots)
{
	u32 i, nr_slots = 0;

	for (i = 0; i < nr; i++) {
		u64 block = sorted[i].first;
		u64 end = block + sorted[i].nr;

		while (block < end) {
			u32 slot = div64_u64(block, region->blocks_per_slot);
			u64 slot_end = (slot + 1) * region->blocks_per_slot;
			u32 blocks = min(end, slot_end) - block;

			if (!nr_slots || slots[nr_slots - 1].slot != slot)
				slots[nr_slots++] = (struct slot_blocks) {
					.slot = slot,
				};
			slots[nr_slots - 1].blocks += blocks;
			block += blocks;
		}
	}
	return nr_slots;
}

/* How many slots sorted ranges may touch, at most. */
static u32 count_slots(const struct vmem_region *region,
		       const struct vmem_range *sorted, u32 nr)
{
	u64 total = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		u64 last = sorted[i].first + sorted[i].nr - 1;

		total += div64_u64(last, region->blocks_per_slot) -
			 div64_u64(sorted[i].first, region->blocks_per_slot) + 1;
	}
	return min_t(u64, total, region->nr_slots);
}

/* What a plug or unplug means for a slot's memslots. */
static enum vmem_change_kind slot_change(const struct vmem_region *region,
					 enum vmem_request_type type,
					 const struct slot_blocks *s)
{
	u32 plugged = region->slot_plugged[s->slot];

	if (type == VMEM_REQUEST_PLUG && !plugged)
		return VMEM_CHANGE_CREATE;
	if (type == VMEM_REQUEST_UNPLUG && plugged == s->blocks)
		return VMEM_CHANGE_DELETE;
	return VMEM_CHANGE_EXPECT;
}

/* Readers without the lock may see a part of what is written in between. */
static void begin_update(struct vmem_region *region)
{
	WRITE_ONCE(region->updates, region->updates + 1);
	/* The count before what it announces; see vmem_region_dump_seq(). */
	smp_wmb();
}

static void end_update(struct vmem_region *region)
{
	/* What was announced before the count. */
	smp_wmb();
	WRITE_ONCE(region->updates, region->updates + 1);
}

/* Set or clear the bits of a range, and keep the counts of its chunks. */
static void mark_range(struct vmem_region *region,
		       const struct vmem_range *range, bool plugged)
{
	u64 block = range->first, end = range->first + range->nr;

	while (block < end) {
		u64 chunk = block >> CHUNK_SHIFT;
		u32 nr = min(end, (chunk + 1) << CHUNK_SHIFT) - block;

		if (plugged) {
			bitmap_set(region->plugged, block, nr);
			region->chunk_plugged[chunk] += nr;
		} else {
			bitmap_clear(region->plugged, block, nr);
			region->chunk_plugged[chunk] -= nr;
		}
		block += nr;
		cond_resched();
	}
}

/* What readers see of all blocks and slots together. Under region->lock. */
static void set_counts(struct vmem_region *region, u64 blocks, u32 populated,
		       const struct vmem_metadata *full)
{
	lockdep_assert_held(&region->lock);
	region->plugged_blocks = blocks;
	region->populated_slots = populated;
	region->full_metadata = *full;
}

static void plug_blocks(struct vmem_region *region,
			const struct vmem_range *ranges, u32 nr,
			const struct slot_blocks *slots, u32 nr_slots)
{
	struct vmem_metadata full = region->full_metadata, one;
	u32 i, populated = region->populated_slots;
	u64 blocks = region->plugged_blocks;

	begin_update(region);
	for (i = 0; i < nr; i++) {
		mark_range(region, &ranges[i], true);
		blocks += ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		u32 slot = slots[i].slot;

		if (!region->slot_plugged[slot]) {
			populated++;
			set_bit(slot, region->populated);
			slot_full_metadata(region, slot, &one);
			vmem_metadata_add(&full, &one, 1);
		}
		region->slot_plugged[slot] += slots[i].blocks;
	}
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, blocks, populated, &full);
	mutex_unlock(&region->lock);
}

static void unplug_blocks(struct vmem_region *region,
			  const struct vmem_range *ranges, u32 nr,
			  const struct slot_blocks *slots, u32 nr_slots)
{
	struct vmem_metadata full = region->full_metadata, one;
	u32 i, populated = region->populated_slots;
	u64 blocks = region->plugged_blocks;

	begin_update(region);
	for (i = 0; i < nr; i++) {
		mark_range(region, &ranges[i], false);
		blocks -= ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		u32 slot = slots[i].slot;

		region->slot_plugged[slot] -= slots[i].blocks;
		if (!region->slot_plugged[slot]) {
			populated--;
			clear_bit(slot, region->populated);
			slot_full_metadata(region, slot, &one);
			vmem_metadata_sub(&full, &one);
		}
	}
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, blocks, populated, &full);
	mutex_unlock(&region->lock);
}

/* Which range of a request has blocks in a slot? */
static int range_in_slot(const struct vmem_region *region,
			 const struct vmem_request *req, u32 slot)
{
	u64 first = slot * region->blocks_per_slot;
	u32 i;

	for (i = 0; i < req->nr; i++)
		if (ranges_meet(req->ranges[i].first, req->ranges[i].nr, first,
				region->blocks_per_slot))
			return i;
	return -1;
}

/* Between begin and end of a batch. */
static int change_blocks(struct vmem_region *region,
			 const struct vmem_request *req, struct vmem_fault *f)
{
	bool spare = req->type == VMEM_REQUEST_UNPLUG;
	struct vmem_range *sorted = NULL;
	struct slot_blocks *slots = NULL;
	struct vmem_change *changes = NULL;
	u32 i, nr_slots, bad_index, nr = 0;
	int r = -ENOMEM;

	sorted = vmem_batch_alloc(req->nr, sizeof(*sorted), spare);
	if (!sorted)
		goto out;
	memcpy(sorted, req->ranges, array_size(req->nr, sizeof(*sorted)));
	sort(sorted, req->nr, sizeof(*sorted), compare_ranges, NULL);
	r = check_ranges(region, req, sorted, f);
	if (r)
		goto out;

	r = -ENOMEM;
	nr_slots = count_slots(region, sorted, req->nr);
	slots = vmem_batch_alloc(nr_slots, sizeof(*slots), spare);
	changes = alloc_changes(region, nr_slots, spare);
	if (!slots || !changes)
		goto out;
	nr_slots = spread_ranges(region, sorted, req->nr, slots);
	for (i = 0; i < nr_slots; i++)
		nr = add_changes(region, slots[i].slot,
				 slot_change(region, req->type, &slots[i]),
				 changes, nr);
	r = apply(region, changes, nr, &bad_index);
	if (r) {
		if (bad_index < nr) {
			i = bad_index / nr_address_spaces(region);
			f->range = range_in_slot(region, req, slots[i].slot);
		}
		goto out;
	}

	if (req->type == VMEM_REQUEST_PLUG)
		plug_blocks(region, sorted, req->nr, slots, nr_slots);
	else
		unplug_blocks(region, sorted, req->nr, slots, nr_slots);
out:
	kvfree(changes);
	kvfree(slots);
	kvfree(sorted);
	return r;
}

/* Between begin and end of a batch. */
static int unplug_all(struct vmem_region *region)
{
	static const struct vmem_metadata none;
	int r = change_populated(region, VMEM_CHANGE_DELETE);

	if (r)
		return r;
	begin_update(region);
	bitmap_zero(region->plugged, region->nr_blocks);
	memset(region->chunk_plugged, 0,
	       DIV_ROUND_UP(region->nr_blocks, CHUNK_BLOCKS) *
	       sizeof(*region->chunk_plugged));
	memset(region->slot_plugged, 0,
	       region->nr_slots * sizeof(*region->slot_plugged));
	bitmap_zero(region->populated, region->nr_slots);
	end_update(region);

	mutex_lock(&region->lock);
	set_counts(region, 0, 0, &none);
	mutex_unlock(&region->lock);
	return 0;
}

/*
 * The mark of a request, by which a repeated one is recognised. The ranges are
 * not kept: they take memory that a VMM at the limit of its cgroup may not have.
 * The key is secret, so that a guest, who chooses the ranges that vmemd sends,
 * cannot make two requests look the same.
 */
static struct vmem_request_mark mark_of(const struct vmem_region *region,
					const struct vmem_request *req)
{
	return (struct vmem_request_mark) {
		.type = req->type,
		.id = req->id,
		.nr = req->nr,
		.hash = siphash(req->ranges,
				array_size(req->nr, sizeof(*req->ranges)),
				&region->mark_key),
	};
}

static bool same_request(const struct vmem_request_mark *a,
			 const struct vmem_request_mark *b)
{
	return a->type == b->type && a->nr == b->nr && a->hash == b->hash;
}

static const char *explain(struct vmem_region *region, int err)
{
	switch (err) {
	case -ENODEV:
		return why_ended(region);
	case -ESTALE:
		return "a memslot of the region was changed by someone else";
	case -EEXIST:
		return "a memslot made by someone else is in the way";
	case -ENOMEM:
		return "not enough memory for the memslots' metadata";
	default:
		return NULL;
	}
}

/*
 * May a request be carried out? Not if the VM has ended; nor if the region has and
 * the request, which did not wait for credit for that, goes without. If it may,
 * the VM is there until vm_lock is dropped: the end of the mm marks the region as
 * gone before it drops the VM; and the end of the region, which drops the VM too,
 * is the last work of its lane.
 */
static int check_request(struct vmem_region *region, struct vmem_fault *f)
{
	lockdep_assert_held(&region->vm_lock);
	f->reason = refuses(region);
	if (f->reason || WARN_ON_ONCE(!region->kvm))
		return -ENODEV;
	return 0;
}

/* Under region->vm_lock. */
static int do_request(struct vmem_region *region,
		      const struct vmem_request *req,
		      struct vmem_answer *answer, struct vmem_fault *f)
{
	struct vmem_request_mark *last = &region->last_request;
	const struct vmem_request_mark mark = mark_of(region, req);
	int r;

	r = check_request(region, f);
	if (r)
		return r;
	if (req->id && req->id == last->id) {
		if (!same_request(&mark, last))
			return fault(f, -1, "another request had this request id",
				     -EINVAL);
		*answer = region->last_answer;
		return 0;
	}

	r = begin_batch(region);
	if (r)
		goto out;
	set_changing(region, true);
	r = req->type == VMEM_REQUEST_UNPLUG_ALL ? unplug_all(region) :
						   change_blocks(region, req, f);
	set_changing(region, false);
	end_batch(region);
	if (r)
		goto out;

	mutex_lock(&region->lock);
	answer->plugged_size = region->plugged_blocks * region->block_size;
	answer->populated_slots = region->populated_slots;
	if (req->id) {
		*last = mark;
		region->last_answer = *answer;
	}
	tell_readers(region);
	mutex_unlock(&region->lock);
	region_ops->changed(region);
out:
	if (r && !f->reason)
		f->reason = explain(region, r);
	return r;
}

/*
 * vmem_region_request() - plug or unplug blocks, from a work of the region
 * @region: the region
 * @req: what to do, its ranges checked to lie in the region
 * @answer: out: the state after it
 * @f: out, on error: the reason, for the sender
 *
 * Return: 0, or an error of block-plug and block-unplug in kvm_vmem.yaml.
 */
int vmem_region_request(struct vmem_region *region,
			const struct vmem_request *req,
			struct vmem_answer *answer, struct vmem_fault *f)
{
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	mutex_lock(&region->vm_lock);
	r = do_request(region, req, answer, f);
	mutex_unlock(&region->vm_lock);
	return r;
}

static int set_dirty_log(struct vmem_region *region, bool on)
{
	bool was_on = region->dirty_log;
	int r;

	r = begin_batch(region);
	if (r)
		return r;
	mutex_lock(&region->lock);
	region->dirty_log = on;
	mark_changing(region, true);
	mutex_unlock(&region->lock);
	/* Also where nothing changes here: the VMM may have flipped some. */
	r = change_populated(region, VMEM_CHANGE_FLAGS);
	mutex_lock(&region->lock);
	mark_changing(region, false);
	if (r)
		region->dirty_log = was_on;
	mutex_unlock(&region->lock);
	end_batch(region);
	return r;
}

/* Under region->vm_lock. */
static int do_set(struct vmem_region *region, const u64 *requested_size,
		  const bool *dirty_log, struct vmem_fault *f)
{
	int r;

	lockdep_assert_held(&region->vm_lock);
	if (requested_size) {
		if (!IS_ALIGNED(*requested_size, region->block_size))
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "not a multiple of the block size",
				     -EINVAL);
		if (*requested_size > region->size)
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "larger than the region", -ERANGE);
	}
	r = check_request(region, f);
	if (r)
		return r;
	if (dirty_log) {
		r = set_dirty_log(region, *dirty_log);
		if (r)
			return fault(f, VMEM_SET_DIRTY_LOG,
				     explain(region, r), r);
	}

	mutex_lock(&region->lock);
	if (requested_size)
		region->requested_size = *requested_size;
	tell_readers(region);
	mutex_unlock(&region->lock);
	region_ops->changed(region);
	return 0;
}

/*
 * vmem_region_set() - change the requested size, dirty logging, or both, from
 *	a work of the region
 * @requested_size: bytes, or NULL
 * @dirty_log: on or off for all populated slots and those to come, or NULL
 * @f: out, on error: the reason, for the sender
 *
 * Return: 0, or an error of region-set in kvm_vmem.yaml, with nothing changed.
 */
int vmem_region_set(struct vmem_region *region, const u64 *requested_size,
		    const bool *dirty_log, struct vmem_fault *f)
{
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	mutex_lock(&region->vm_lock);
	r = do_set(region, requested_size, dirty_log, f);
	mutex_unlock(&region->vm_lock);
	return r;
}

/*
 * Add up one slot over its address spaces, inside kvm->srcu. False if KVM has
 * other memslots.
 */
static bool add_slot_metadata(struct vmem_region *region, u32 slot,
			      struct vmem_metadata *sum)
{
	struct kvm_userspace_memory_region mem;
	bool as_described = true;
	int as_id;

	for_each_set_bit(as_id, &region->as_mask, KVM_MAX_NR_ADDRESS_SPACES) {
		struct kvm_memory_slot *memslot;

		describe_slot(region, slot, as_id, &mem);
		memslot = vmem_memslot_find_at(region->kvm, as_id,
					       gpa_to_gfn(mem.guest_phys_addr),
					       region->first_slot + slot);
		if (vmem_memslot_is_plain(memslot, &mem))
			vmem_memslot_add_metadata(memslot, sum);
		else
			as_described = false;
	}
	return as_described;
}

/*
 * vmem_region_metadata() - what KVM holds for all populated slots
 *
 * Under region->lock, at the same cost for one slot and for all. It is the sum
 * over the memslots that the region has made, each as it was made. One that the
 * VMM has deleted or changed behind the region's back still counts, and counts
 * as made: only looking at it would tell, which vmem_region_next_slot() does.
 */
void vmem_region_metadata(struct vmem_region *region,
			  struct vmem_metadata *sum)
{
	int idx;

	lockdep_assert_held(&region->lock);
	*sum = (struct vmem_metadata) {};
	/* What is left then is about to go, and nobody's any more. */
	if (!region->kvm || !vmem_region_alive(region))
		return;
	vmem_metadata_add(sum, &region->full_metadata,
			  nr_address_spaces(region));
	idx = srcu_read_lock(&region->kvm->srcu);
	vmem_memslot_present_metadata(region->kvm, region->dirty_log, sum);
	srcu_read_unlock(&region->kvm->srcu, idx);
}

/*
 * vmem_region_whole_metadata() - what KVM would hold if the region were one
 *	memslot in each of its address spaces
 *
 * Under region->lock.
 *
 * Return: false if that is not known.
 */
bool vmem_region_whole_metadata(struct vmem_region *region,
				struct vmem_metadata *sum)
{
	struct vmem_metadata whole;
	bool known;
	int idx;

	lockdep_assert_held(&region->lock);
	*sum = (struct vmem_metadata) {};
	if (!region->kvm || !vmem_region_alive(region))
		return false;
	vmem_memslot_full_metadata(gpa_to_gfn(region->gpa),
				   region->size >> PAGE_SHIFT, &whole);
	vmem_metadata_add(sum, &whole, nr_address_spaces(region));
	idx = srcu_read_lock(&region->kvm->srcu);
	known = vmem_memslot_present_metadata(region->kvm, region->dirty_log,
					      sum);
	srcu_read_unlock(&region->kvm->srcu, idx);
	return known;
}

/*
 * vmem_region_dump_seq() - number by which a dump detects a change
 * @last: what was returned before, 0 at first
 *
 * Asked for before and after each look. Not 0, and never the same twice while a
 * change is being written.
 */
u32 vmem_region_dump_seq(struct vmem_region *region, u32 last)
{
	u32 updates, seq;

	/* The look that was before, then the count; see begin_update(). */
	smp_rmb();
	updates = READ_ONCE(region->updates);
	seq = ((u32)atomic64_read(&region->changes) + updates) | BIT(31);
	if (updates & 1 && seq == last)
		seq ^= BIT(30);
	/* The count, then the look that follows; see end_update(). */
	smp_rmb();
	return seq;
}

/* The next block from @block on that is plugged, or is not; else nr_blocks. */
static u64 next_block(const struct vmem_region *region, u64 block, bool plugged)
{
	while (block < region->nr_blocks) {
		u64 chunk = block >> CHUNK_SHIFT;
		u64 end = min(region->nr_blocks, (chunk + 1) << CHUNK_SHIFT);
		u64 size = end - (chunk << CHUNK_SHIFT);
		u32 nr = READ_ONCE(region->chunk_plugged[chunk]);

		if (nr != (plugged ? 0 : size)) {
			block = plugged ?
				find_next_bit(region->plugged, end, block) :
				find_next_zero_bit(region->plugged, end, block);
			if (block < end)
				return block;
		}
		block = end;
	}
	return region->nr_blocks;
}

/*
 * vmem_region_next_run() - the next run of plugged blocks
 * @block: in: where to begin; out: the block after the run
 */
bool vmem_region_next_run(struct vmem_region *region, u64 *block,
			  struct vmem_range *run)
{
	u64 first = next_block(region, *block, true);

	if (first >= region->nr_blocks)
		return false;
	run->first = first;
	/* At least the block that was there: a change may be under way. */
	*block = next_block(region, first + 1, false);
	run->nr = *block - first;
	return true;
}

/* What KVM has for a populated slot. Under region->lock. */
static void look_at_slot(struct vmem_region *region, u32 index,
			 struct vmem_region_slot *slot)
{
	bool as_described;
	int idx;

	lockdep_assert_held(&region->lock);
	if (!region->kvm || !vmem_region_alive(region)) {
		slot->stale = true;
		return;
	}
	idx = srcu_read_lock(&region->kvm->srcu);
	as_described = add_slot_metadata(region, index, &slot->metadata);
	srcu_read_unlock(&region->kvm->srcu, idx);
	slot->has_metadata = true;
	slot->stale = !as_described && !region->changing;
}

/*
 * vmem_region_next_slot() - the next populated slot
 * @index: in: slot of the region to begin at; out: the one after it
 *
 * Return: false if there is none.
 */
bool vmem_region_next_slot(struct vmem_region *region, u32 *index,
			   struct vmem_region_slot *slot)
{
	u32 i, blocks;

	do {
		i = find_next_bit(region->populated, region->nr_slots, *index);
		if (i >= region->nr_slots)
			return false;
		*index = i + 1;
		blocks = READ_ONCE(region->slot_plugged[i]);
		/* None: it is being written. */
	} while (!blocks);
	*slot = (struct vmem_region_slot) {
		.id = region->first_slot + i,
		.gpa = region->gpa + i * region->slot_size,
		.hva = region->hva + i * region->slot_size,
		.size = slot_bytes(region, i),
		.plugged_size = blocks * region->block_size,
	};
	mutex_lock(&region->lock);
	look_at_slot(region, i, slot);
	mutex_unlock(&region->lock);
	return true;
}
