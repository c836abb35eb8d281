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
 * Memslots are found in KVM by id each time and never remembered. The VMM can
 * change them behind our back; a request that meets one which is not as it was
 * made gets ESTALE. A request looks at all memslots its blocks lie in, also at
 * those it leaves alone.
 *
 * Works. A change waits for KVM: for slots_lock, which others may hold, and for
 * grace periods, which a vCPU delays for as long as a page it faulted on takes
 * to come, and userspace decides that (userfaultfd). Nobody else should wait
 * with it, least of all netlink, whose handlers run under a lock of all of
 * generic netlink. So all that changes a region is done by works on an ordered
 * workqueue of its own: requests in the order they came in, the end of the VM,
 * the end of the region. They need no lock against each other, and take
 * region->lock just to update what readers see. Readers look at KVM's memslots
 * as vCPUs do, inside kvm->srcu, which takes no lock of KVM's and no wait: they
 * see the memslots as they are, also amid a change. They would not tell then a
 * memslot that the change has taken away from one that the VMM has, so nothing
 * is called stale as long as region->changing.
 *
 * Life. The file descriptor holds the reference that makes a region exist; a
 * netlink message holds another for as long as it takes, a dump too. A region
 * holds a reference to its VM, until it ends or the VMM's mm does, whichever is
 * first, and one to the vendor module (kvm-amd or kvm-intel), which the former
 * does not imply on every kernel. The mm's end comes as an mmu notifier
 * release. It only leaves word and queues a work: were the reference to the VM
 * the last, KVM would wait for the very notifier calls that it is dropped from,
 * and so would everybody who unregisters a notifier while a release waits for
 * something.
 *
 * The end. Whoever drops the last reference to the file may be a stranger: the
 * worker of all delayed fput()s, or who happens to collect the garbage of unix
 * sockets. So vmem_region_end() only hides the region from netlink and queues
 * end_work; just the VMM waits, which is to find its memslots gone, and whose
 * KVM it is. end_work removes the memslots, then lets others have their range
 * and ids, then drops the VM. What is left is free_work's, on a workqueue of
 * the module, because a workqueue cannot be destroyed from a work of its own.
 * From vmem_region_end() to the end of free_work the region holds the module;
 * that free_work has returned when the module's code goes is up to
 * vmem_region_exit().
 *
 * Locks, outermost first:
 *
 *   regions_lock	mutex. That regions of a VM do not overlap: from the
 *			check until others would see the new one, and removal.
 *   region->lock	mutex. State of one region, for readers.
 *   kvm->srcu		read side. KVM's memslots, for readers. Nobody who waits
 *			for its readers holds one of the above.
 *   KVM's locks	see memslot.c.
 */
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/srcu.h>
#include <linux/xarray.h>

#include "batch.h"
#include "compat.h"
#include "netlink.h"
#include "region.h"

/* A region that is published: netlink may find it. */
#define REGION_PUBLISHED XA_MARK_1

/*
 * Requests of a region that may wait to be carried out. A device has one under
 * way; what is more comes from operators.
 */
#define MAX_QUEUED 64

static DEFINE_MUTEX(regions_lock);
static DEFINE_XARRAY_ALLOC1(regions);
static u32 next_region_id;
static atomic_t nr_regions = ATOMIC_INIT(0);

/* Where regions are freed. */
static struct workqueue_struct *free_wq;

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

static u32 nr_address_spaces(const struct vmem_region *region)
{
	return hweight_long(region->as_mask);
}

static struct vmem_change *alloc_changes(const struct vmem_region *region,
					 u32 nr_slots)
{
	return kvmalloc_array(array_size(nr_slots, nr_address_spaces(region)),
			      sizeof(struct vmem_change), GFP_KERNEL);
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

/* Readers must not judge the memslots while a work changes them. */
static void set_changing(struct vmem_region *region, bool changing)
{
	mutex_lock(&region->lock);
	region->changing = changing;
	mutex_unlock(&region->lock);
}

/* A region's batch, charged to the VMM. From a work. */
static int apply_changes(struct vmem_region *region,
			 const struct vmem_change *changes, u32 nr,
			 u32 *bad_index)
{
	struct mem_cgroup *memcg, *old_memcg;
	int r;

	memcg = get_mem_cgroup_from_mm(region->kvm->mm);
	old_memcg = set_active_memcg(memcg);
	r = vmem_batch_apply(region->kvm, changes, nr, false, bad_index);
	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);
	return r;
}

/* One batch over all populated slots. */
static int change_populated(struct vmem_region *region,
			    enum vmem_change_kind kind)
{
	struct vmem_change *changes;
	u32 slot, bad_index, nr = 0;
	int r;

	if (!region->populated_slots)
		return 0;
	changes = alloc_changes(region, region->populated_slots);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		if (region->slot_plugged[slot])
			nr = add_changes(region, slot, kind, changes, nr);
	r = apply_changes(region, changes, nr, &bad_index);
	kvfree(changes);
	return r;
}

/* The end of a region: its memslots go, those that are still as it made them. */
static int drop_memslots(struct vmem_region *region)
{
	struct vmem_change changes[KVM_MAX_NR_ADDRESS_SPACES];
	u32 slot, bad_index, nr;
	int r;

	r = change_populated(region, VMEM_CHANGE_DROP);
	if (r != -ENOMEM)
		return r;
	/* Slowly, but with little memory. */
	for (slot = 0; slot < region->nr_slots; slot++) {
		if (!region->slot_plugged[slot])
			continue;
		nr = add_changes(region, slot, VMEM_CHANGE_DROP, changes, 0);
		r = apply_changes(region, changes, nr, &bad_index);
		if (r)
			return r;
	}
	return 0;
}

static void tell_readers(struct vmem_region *region)
{
	atomic64_inc(&region->changes);
	wake_up_poll(&region->wait, EPOLLIN | EPOLLRDNORM);
}

/* Under region->lock. */
static void note_change(struct vmem_region *region)
{
	tell_readers(region);
	vmem_netlink_notify(region, KVM_VMEM_CMD_REGION_CHANGE_NTF);
}

static void drop_vm(struct vmem_region *region)
{
	struct kvm *kvm = region->kvm;

	mutex_lock(&region->lock);
	WRITE_ONCE(region->kvm, NULL);
	mutex_unlock(&region->lock);
	kvm_put_kvm(kvm);
	module_put(region->vm_module);
}

/* The VM is going away. */
static void gone_work(struct work_struct *work)
{
	struct vmem_region *region =
		container_of(work, struct vmem_region, gone_work);

	/* The region may have ended before. */
	if (!region->kvm)
		return;
	drop_vm(region);
	mutex_lock(&region->lock);
	vmem_netlink_notify(region, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	mutex_unlock(&region->lock);
}

static void release_mm(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct vmem_region *region = container_of(mn, struct vmem_region, mn);

	WRITE_ONCE(region->gone, true);
	atomic64_inc(&region->changes);
	wake_up_poll(&region->wait, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
	queue_work(region->wq, &region->gone_work);
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
	mutex_lock(&regions_lock);
	xa_erase(&regions, region->id);
	mutex_unlock(&regions_lock);
}

/*
 * The region is going away. Its memslots go, where the VM still is. Those that
 * somebody changed are not the region's any more and stay; so do all if there
 * is no memory to remove them.
 */
static void end_work(struct work_struct *work)
{
	struct vmem_region *region =
		container_of(work, struct vmem_region, end_work);
	int r;

	vmem_inject_begin(&region->inject);
	if (region->kvm) {
		set_changing(region, true);
		r = drop_memslots(region);
		if (r)
			pr_warn_ratelimited("kvm_vmem: region %u left memslots behind: %pe\n",
					    region->id, ERR_PTR(r));
	}
	erase_region(region);
	if (region->kvm)
		drop_vm(region);
	vmem_inject_end(&region->inject);
	if (region->published) {
		mutex_lock(&region->lock);
		vmem_netlink_notify(region, KVM_VMEM_CMD_REGION_DEL_NTF);
		mutex_unlock(&region->lock);
	}
	/* Who does not count it any more has been told all there is to tell. */
	atomic_dec(&nr_regions);
	complete_all(&region->end_done);

	/* Calls release_mm() unless the mm's end has, and waits for either. */
	mmu_notifier_unregister(&region->mn, region->mn.mm);
	queue_work(free_wq, &region->free_work);
}

/* Nothing queues a work of the region any more, and nobody finds it. */
static void free_work(struct work_struct *work)
{
	struct vmem_region *region =
		container_of(work, struct vmem_region, free_work);

	/* Waits for those that are there, for end_work to return not least. */
	destroy_workqueue(region->wq);
	/* Not left to the last reference: a job of netlink's may drop that. */
	region->wq = NULL;
	vmem_region_put(region);
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

	if (args->flags)
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
		return -E2BIG;
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

/* Is another region of the VM in the way? Under regions_lock. */
static bool meets_region(const struct vmem_region *region)
{
	struct vmem_region *other;
	unsigned long id;

	xa_for_each(&regions, id, other) {
		if (READ_ONCE(other->kvm) != region->kvm ||
		    !(other->as_mask & region->as_mask))
			continue;
		if (ranges_meet(region->gpa, region->size, other->gpa,
				other->size) ||
		    ranges_meet(region->first_slot, region->nr_slots,
				other->first_slot, other->nr_slots))
			return true;
	}
	return false;
}

/*
 * Is a memslot in the way? KVM's answer to creating all of the region's,
 * without creating them.
 */
static int check_memslots(const struct vmem_region *region)
{
	struct vmem_change *changes;
	u32 slot, bad_index, nr = 0;
	int r;

	changes = alloc_changes(region, region->nr_slots);
	if (!changes)
		return -ENOMEM;
	for (slot = 0; slot < region->nr_slots; slot++)
		nr = add_changes(region, slot, VMEM_CHANGE_CREATE, changes, nr);
	r = vmem_batch_apply(region->kvm, changes, nr, true, &bad_index);
	kvfree(changes);
	return r;
}

static void free_region(struct vmem_region *region)
{
	if (region->wq)
		destroy_workqueue(region->wq);
	kvfree(region->last_request.ranges);
	kvfree(region->slot_plugged);
	kvfree(region->plugged);
	put_pid(region->pid);
	kfree(region);
}

static struct vmem_region *
alloc_region(const struct kvm_vmem_create_region *args)
{
	struct vmem_region *region;

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return NULL;
	refcount_set(&region->refs, 1);
	mutex_init(&region->lock);
	init_waitqueue_head(&region->wait);
	INIT_WORK(&region->gone_work, gone_work);
	INIT_WORK(&region->end_work, end_work);
	INIT_WORK(&region->free_work, free_work);
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
	region->pid = get_task_pid(current, PIDTYPE_TGID);
	region->plugged = kvcalloc(BITS_TO_LONGS(region->nr_blocks),
				   sizeof(unsigned long), GFP_KERNEL_ACCOUNT);
	region->slot_plugged = kvcalloc(region->nr_slots,
					sizeof(*region->slot_plugged),
					GFP_KERNEL_ACCOUNT);
	region->wq = alloc_ordered_workqueue("kvm-vmem-%d", 0, current->tgid);
	if (!region->plugged || !region->slot_plugged || !region->wq) {
		free_region(region);
		return NULL;
	}
	return region;
}

/*
 * vmem_region_create() - make a region that nobody sees yet
 * @vm_file: its VM, whose mm is current's
 * @args: what the user asked for
 * @result: out: the region
 *
 * vmem_region_publish() or vmem_region_end() must follow.
 *
 * Return: 0; an error as KVM_VMEM_CREATE_REGION tells.
 */
int vmem_region_create(struct file *vm_file,
		       const struct kvm_vmem_create_region *args,
		       struct vmem_region **result)
{
	struct kvm *kvm = vm_file->private_data;
	struct vmem_region *region;
	int r;

	r = check_args(args, kvm_arch_nr_memslot_as_ids(kvm));
	if (r)
		return r;
	region = alloc_region(args);
	if (!region)
		return -ENOMEM;
	kvm_get_kvm(kvm);
	region->kvm = kvm;
	/* The file holds it, so there is one to take. */
	region->vm_module = vm_file->f_op->owner;
	__module_get(region->vm_module);

	mutex_lock(&regions_lock);
	if (meets_region(region))
		r = -EEXIST;
	else
		r = xa_alloc_cyclic(&regions, &region->id, region,
				    XA_LIMIT(1, INT_MAX), &next_region_id,
				    GFP_KERNEL_ACCOUNT);
	mutex_unlock(&regions_lock);
	if (r < 0)
		goto out_drop_vm;

	r = check_memslots(region);
	if (r)
		goto out_erase;
	/* The mm cannot end while current runs in it. */
	r = mmu_notifier_register(&region->mn, current->mm);
	if (r)
		goto out_erase;
	atomic_inc(&nr_regions);
	*result = region;
	return 0;

out_erase:
	erase_region(region);
out_drop_vm:
	drop_vm(region);
	free_region(region);
	return r;
}

/*
 * vmem_region_publish() - let netlink find a region, and tell of it
 */
void vmem_region_publish(struct vmem_region *region)
{
	region->published = true;
	xa_set_mark(&regions, region->id, REGION_PUBLISHED);
	mutex_lock(&region->lock);
	vmem_netlink_notify(region, KVM_VMEM_CMD_REGION_NEW_NTF);
	mutex_unlock(&region->lock);
}

/*
 * vmem_region_end() - end a region that has no file descriptor (any more)
 *
 * What was asked of it before is carried out first. Waits for that and for the
 * memslots to be gone if the VMM calls.
 */
void vmem_region_end(struct vmem_region *region)
{
	bool by_vmm = current->mm == region->mn.mm;

	xa_clear_mark(&regions, region->id, REGION_PUBLISHED);
	mutex_lock(&region->lock);
	region->ended = true;
	mutex_unlock(&region->lock);

	/* There is one to take: the caller comes from a file of the module. */
	__module_get(THIS_MODULE);
	if (by_vmm) {
		vmem_region_get(region);
		vmem_inject_take(&region->inject);
	}
	queue_work(region->wq, &region->end_work);
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

void vmem_region_put(struct vmem_region *region)
{
	if (refcount_dec_and_test(&region->refs))
		free_region(region);
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

int vmem_region_init(void)
{
	free_wq = alloc_workqueue("kvm-vmem-free", WQ_UNBOUND, 0);
	return free_wq ? 0 : -ENOMEM;
}

/*
 * vmem_region_exit() - wait for what the last regions have left to do
 *
 * No region holds the module any more, but a free_work that has just let go of
 * it may not have returned.
 */
void vmem_region_exit(void)
{
	destroy_workqueue(free_wq);
}

u32 vmem_region_count(void)
{
	return atomic_read(&nr_regions);
}

/*
 * vmem_region_queue() - have a work change a region, after those before it
 * @work: calls vmem_region_unqueued() when it is done
 *
 * Return: 0; -ENODEV if the region has ended; -EBUSY if too many wait.
 */
int vmem_region_queue(struct vmem_region *region, struct work_struct *work)
{
	int r = 0;

	mutex_lock(&region->lock);
	if (region->ended) {
		r = -ENODEV;
	} else if (region->nr_queued >= MAX_QUEUED) {
		r = -EBUSY;
	} else {
		region->nr_queued++;
		queue_work(region->wq, work);
	}
	mutex_unlock(&region->lock);
	return r;
}

void vmem_region_unqueued(struct vmem_region *region)
{
	mutex_lock(&region->lock);
	region->nr_queued--;
	mutex_unlock(&region->lock);
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
			return fault(f, -1, "ranges overlap", -EINVAL);
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

static void plug_blocks(struct vmem_region *region,
			const struct vmem_range *ranges, u32 nr,
			const struct slot_blocks *slots, u32 nr_slots)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		bitmap_set(region->plugged, ranges[i].first, ranges[i].nr);
		region->plugged_blocks += ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		if (!region->slot_plugged[slots[i].slot])
			region->populated_slots++;
		region->slot_plugged[slots[i].slot] += slots[i].blocks;
	}
}

static void unplug_blocks(struct vmem_region *region,
			  const struct vmem_range *ranges, u32 nr,
			  const struct slot_blocks *slots, u32 nr_slots)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		bitmap_clear(region->plugged, ranges[i].first, ranges[i].nr);
		region->plugged_blocks -= ranges[i].nr;
	}
	for (i = 0; i < nr_slots; i++) {
		region->slot_plugged[slots[i].slot] -= slots[i].blocks;
		if (!region->slot_plugged[slots[i].slot])
			region->populated_slots--;
	}
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

static int change_blocks(struct vmem_region *region,
			 const struct vmem_request *req, struct vmem_fault *f)
{
	struct vmem_range *sorted = NULL;
	struct slot_blocks *slots = NULL;
	struct vmem_change *changes = NULL;
	u32 i, nr_slots, bad_index, nr = 0;
	int r = -ENOMEM;

	sorted = kvmalloc_array(req->nr, sizeof(*sorted), GFP_KERNEL);
	if (!sorted)
		goto out;
	memcpy(sorted, req->ranges, array_size(req->nr, sizeof(*sorted)));
	sort(sorted, req->nr, sizeof(*sorted), compare_ranges, NULL);
	r = check_ranges(region, req, sorted, f);
	if (r)
		goto out;

	r = -ENOMEM;
	nr_slots = count_slots(region, sorted, req->nr);
	slots = kvmalloc_array(nr_slots, sizeof(*slots), GFP_KERNEL);
	changes = alloc_changes(region, nr_slots);
	if (!slots || !changes)
		goto out;
	nr_slots = spread_ranges(region, sorted, req->nr, slots);
	for (i = 0; i < nr_slots; i++)
		nr = add_changes(region, slots[i].slot,
				 slot_change(region, req->type, &slots[i]),
				 changes, nr);
	r = apply_changes(region, changes, nr, &bad_index);
	if (r) {
		if (bad_index < nr) {
			i = bad_index / nr_address_spaces(region);
			f->range = range_in_slot(region, req, slots[i].slot);
		}
		goto out;
	}

	mutex_lock(&region->lock);
	if (req->type == VMEM_REQUEST_PLUG)
		plug_blocks(region, sorted, req->nr, slots, nr_slots);
	else
		unplug_blocks(region, sorted, req->nr, slots, nr_slots);
	mutex_unlock(&region->lock);
out:
	kvfree(changes);
	kvfree(slots);
	kvfree(sorted);
	return r;
}

static int unplug_all(struct vmem_region *region)
{
	int r = change_populated(region, VMEM_CHANGE_DELETE);

	if (r)
		return r;
	mutex_lock(&region->lock);
	bitmap_zero(region->plugged, region->nr_blocks);
	memset(region->slot_plugged, 0,
	       region->nr_slots * sizeof(*region->slot_plugged));
	region->plugged_blocks = 0;
	region->populated_slots = 0;
	mutex_unlock(&region->lock);
	return 0;
}

static bool same_request(const struct vmem_request *a,
			 const struct vmem_request *b)
{
	return a->type == b->type && a->nr == b->nr &&
	       !memcmp(a->ranges, b->ranges,
		       array_size(a->nr, sizeof(*a->ranges)));
}

static const char *explain(int err)
{
	switch (err) {
	case -ENODEV:
		return "the VM is gone";
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
 * vmem_region_request() - plug or unplug blocks, from a work of the region
 * @region: the region
 * @req: what to do, its ranges checked to lie in the region; on success its
 *	ranges may be taken over, and @req->ranges is then NULL
 * @answer: out: the state after it
 * @f: out, on error: what to tell the sender
 *
 * Return: 0; an error as block-plug and block-unplug in kvm_vmem.yaml tell.
 */
int vmem_region_request(struct vmem_region *region, struct vmem_request *req,
			struct vmem_answer *answer, struct vmem_fault *f)
{
	struct vmem_request *last = &region->last_request;
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	if (!region->kvm || !vmem_region_alive(region)) {
		r = -ENODEV;
		goto out;
	}
	if (req->id && req->id == last->id) {
		if (!same_request(req, last))
			return fault(f, -1, "another request had this request id",
				     -EINVAL);
		*answer = region->last_answer;
		return 0;
	}

	set_changing(region, true);
	r = req->type == VMEM_REQUEST_UNPLUG_ALL ? unplug_all(region) :
						   change_blocks(region, req, f);
	set_changing(region, false);
	if (r)
		goto out;

	mutex_lock(&region->lock);
	answer->plugged_size = region->plugged_blocks * region->block_size;
	answer->populated_slots = region->populated_slots;
	if (req->id) {
		kvfree(last->ranges);
		*last = *req;
		req->ranges = NULL;
		region->last_answer = *answer;
	}
	note_change(region);
	mutex_unlock(&region->lock);
out:
	if (r && !f->reason)
		f->reason = explain(r);
	return r;
}

static int set_dirty_log(struct vmem_region *region, bool on)
{
	bool was_on = region->dirty_log;
	int r;

	mutex_lock(&region->lock);
	region->dirty_log = on;
	region->changing = true;
	mutex_unlock(&region->lock);
	/* Also where nothing changes here: the VMM may have flipped some. */
	r = change_populated(region, VMEM_CHANGE_FLAGS);
	mutex_lock(&region->lock);
	region->changing = false;
	if (r)
		region->dirty_log = was_on;
	mutex_unlock(&region->lock);
	return r;
}

/*
 * vmem_region_set() - change the requested size, dirty logging, or both, from
 *	a work of the region
 * @requested_size: bytes, or NULL
 * @dirty_log: on or off for all populated slots and those to come, or NULL
 * @f: out, on error: what to tell the sender
 *
 * Return: 0; an error as region-set in kvm_vmem.yaml tells, nothing changed.
 */
int vmem_region_set(struct vmem_region *region, const u64 *requested_size,
		    const bool *dirty_log, struct vmem_fault *f)
{
	int r;

	*f = (struct vmem_fault) { .range = -1 };
	if (requested_size) {
		if (!IS_ALIGNED(*requested_size, region->block_size))
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "not a multiple of the block size",
				     -EINVAL);
		if (*requested_size > region->size)
			return fault(f, VMEM_SET_REQUESTED_SIZE,
				     "larger than the region", -ERANGE);
	}
	if (!region->kvm || !vmem_region_alive(region))
		return fault(f, -1, explain(-ENODEV), -ENODEV);
	if (dirty_log) {
		r = set_dirty_log(region, *dirty_log);
		if (r)
			return fault(f, VMEM_SET_DIRTY_LOG, explain(r), r);
	}

	mutex_lock(&region->lock);
	if (requested_size)
		region->requested_size = *requested_size;
	note_change(region);
	mutex_unlock(&region->lock);
	return 0;
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
		memslot = vmem_memslot_find(region->kvm, as_id,
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
 * Under region->lock. Memslots that are not the region's any more do not count,
 * nor do those that are being created or deleted.
 */
void vmem_region_metadata(struct vmem_region *region,
			  struct vmem_metadata *sum)
{
	u32 slot;
	int idx;

	*sum = (struct vmem_metadata) {};
	/* What is left then is about to go, and nobody's any more. */
	if (!region->kvm || !vmem_region_alive(region))
		return;
	idx = srcu_read_lock(&region->kvm->srcu);
	for (slot = 0; slot < region->nr_slots; slot++) {
		if (region->slot_plugged[slot])
			add_slot_metadata(region, slot, sum);
		cond_resched();
	}
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
	bool known = true;
	int as_id, idx;

	*sum = (struct vmem_metadata) {};
	if (!region->kvm || !vmem_region_alive(region))
		return false;
	idx = srcu_read_lock(&region->kvm->srcu);
	for_each_set_bit(as_id, &region->as_mask, KVM_MAX_NR_ADDRESS_SPACES)
		known &= vmem_memslot_foresee_metadata(region->kvm,
						       gpa_to_gfn(region->gpa),
						       region->size >> PAGE_SHIFT,
						       region->dirty_log, sum);
	srcu_read_unlock(&region->kvm->srcu, idx);
	return known;
}

/*
 * vmem_region_next_run() - the next run of plugged blocks
 * @block: in: where to begin; out: the block after the run
 */
bool vmem_region_next_run(struct vmem_region *region, u64 *block,
			  struct vmem_range *run)
{
	u64 first = region->nr_blocks, end = 0;

	mutex_lock(&region->lock);
	if (*block < region->nr_blocks) {
		first = find_next_bit(region->plugged, region->nr_blocks, *block);
		end = find_next_zero_bit(region->plugged, region->nr_blocks,
					 first);
	}
	mutex_unlock(&region->lock);
	if (first >= region->nr_blocks)
		return false;
	run->first = first;
	run->nr = end - first;
	*block = end;
	return true;
}

/* What KVM has for a populated slot. Under region->lock. */
static void look_at_slot(struct vmem_region *region, u32 index,
			 struct vmem_region_slot *slot)
{
	bool as_described;
	int idx;

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
	bool found = false;
	u32 i;

	mutex_lock(&region->lock);
	for (i = *index; i < region->nr_slots && !found; i++) {
		if (!region->slot_plugged[i])
			continue;
		found = true;
		*slot = (struct vmem_region_slot) {
			.id = region->first_slot + i,
			.gpa = region->gpa + i * region->slot_size,
			.hva = region->hva + i * region->slot_size,
			.size = slot_bytes(region, i),
			.plugged_size = region->slot_plugged[i] *
					region->block_size,
		};
		look_at_slot(region, i, slot);
	}
	mutex_unlock(&region->lock);
	*index = i;
	return found;
}
