// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/kvm-vmem and its ioctls, which linux/kvm_vmem.h describes.
 *
 * A table has the size of each call's structure. The structure is copied in
 * once, by the rules of copy_struct_from_user(), so callers may be older or
 * newer than the module. Handlers see kernel memory only, and return as much as
 * the caller has room for. The type and number of a command identify the call.
 * Its size bits do not, as they differ between versions of the header.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/nospec.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>

#include "batch.h"
#include "compat.h"
#include "device.h"
#include "gfp.h"
#include "memslot.h"
#include "region.h"
#include "region_fd.h"
#include "series.h"
#include "symbols.h"
#include "uapi/linux/kvm_vmem.h"
#include "uapi/linux/kvm_vmem_netlink.h"

/* Size of the first version of the structure. */
#define MEMSLOT_MIN_SIZE offsetofend(struct kvm_vmem_memslot, dirty_bitmap)

/*
 * End of guest_memfd in struct kvm_userspace_memory_region2, which older
 * kernels do not define. The fields are only used with KVM_MEM_GUEST_MEMFD,
 * which the batch refuses. Without it KVM ignores them, and VMMs leave -1
 * there.
 */
#define ENTRY_MEMFD_END (sizeof(struct kvm_userspace_memory_region) +	\
			 sizeof(__u64) + sizeof(__u32))

/**
 * struct ucall - an ioctl in progress
 * @user: the caller's structure
 * @user_size: size of the caller's structure
 * @size: size of the kernel's structure
 * @args: the kernel's structure
 */
struct ucall {
	void __user *user;
	u32 user_size;
	u32 size;
	void *args;
};

static int respond(const struct ucall *call)
{
	if (copy_to_user(call->user, call->args,
			 min(call->user_size, call->size)))
		return -EFAULT;
	return 0;
}

/*
 * Get the file of a VM. It keeps the VM and the vendor module (kvm-amd or
 * kvm-intel). On some kernels a reference to struct kvm does not keep the
 * vendor module.
 */
static struct file *get_any_vm(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (!kvm_hook(file_is_kvm)(file)) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
}

/* Get the file of a VM to change: its mm must be current's. */
static struct file *get_vm(int fd)
{
	struct file *file = get_any_vm(fd);
	struct kvm *kvm;

	if (IS_ERR(file))
		return file;
	kvm = file->private_data;
	if (kvm->mm != current->mm || kvm->vm_dead) {
		fput(file);
		return ERR_PTR(-EIO);
	}
	return file;
}

/*
 * May the caller read all regions, by the rules of netlink? No audit record,
 * because the query did not specifically request the number of regions.
 */
static bool may_count_regions(void)
{
	return net_eq(current->nsproxy->net_ns, &init_net) &&
	       ns_capable_noaudit(&init_user_ns, CAP_NET_ADMIN);
}

static int ioctl_query(struct ucall *call)
{
	struct kvm_vmem_query *query = call->args;

	if (query->flags)
		return -EINVAL;
	*query = (struct kvm_vmem_query) {
		.size = call->size,
		.api_version = KVM_VMEM_API_VERSION,
		.address_spaces = KVM_MAX_NR_ADDRESS_SPACES,
		.max_memslots = KVM_USER_MEM_SLOTS,
		.max_batch = KVM_VMEM_MAX_BATCH,
		.max_ranges = KVM_VMEM_MAX_RANGES,
		.regions = may_count_regions() ? vmem_region_count() : 0,
		.max_blocks = KVM_VMEM_MAX_BLOCKS,
		.min_block_size = PAGE_SIZE,
		.features = KVM_VMEM_FEATURE_ENTRY_SIZE |
			    KVM_VMEM_FEATURE_ZAP_RANGES,
	};
	if (vmem_series_reviewed())
		query->features |= KVM_VMEM_FEATURE_REVIEWED;
	return respond(call);
}

static int copy_entry(const void __user *user, u32 size,
		      struct kvm_userspace_memory_region *mem)
{
	int r;

	if (copy_from_user(mem, user, sizeof(*mem)))
		return -EFAULT;
	if (size <= ENTRY_MEMFD_END)
		return 0;
	r = check_zeroed_user(user + ENTRY_MEMFD_END, size - ENTRY_MEMFD_END);
	if (r < 0)
		return r;
	return r ? 0 : -E2BIG;
}

static struct vmem_change *copy_entries(struct kvm_vmem_memslot_batch *batch)
{
	const void __user *user = u64_to_user_ptr(batch->regions);
	struct vmem_change *changes;
	u32 i;
	int r;

	/* With the spare: the batch may turn out to have only deletes. */
	changes = vmem_batch_alloc(batch->nr, sizeof(*changes), true);
	if (!changes)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < batch->nr; i++, user += batch->entry_size) {
		changes[i].kind = VMEM_CHANGE_SET;
		r = copy_entry(user, batch->entry_size, &changes[i].mem);
		if (r) {
			if (r == -E2BIG)
				batch->bad_index = i;
			kvfree(changes);
			return ERR_PTR(r);
		}
		cond_resched();
	}
	return changes;
}

static int apply_batch(struct kvm_vmem_memslot_batch *batch)
{
	struct vmem_batch_result result;
	struct vmem_change *changes;
	struct file *vm_file;
	struct kvm *kvm;
	int r;

	/* A batch may use every memslot id. */
	BUILD_BUG_ON(KVM_VMEM_MAX_BATCH < VMEM_BATCH_MAX);

	if (batch->flags & ~(KVM_VMEM_BATCH_VALIDATE_ONLY |
			     KVM_VMEM_BATCH_ZAP_RANGES) || batch->reserved)
		return -EINVAL;
	if (batch->entry_size < sizeof(struct kvm_userspace_memory_region) ||
	    batch->entry_size > PAGE_SIZE ||
	    !IS_ALIGNED(batch->entry_size, sizeof(u64)))
		return -EINVAL;
	if (batch->nr > KVM_VMEM_MAX_BATCH)
		return -EMSGSIZE;
	vm_file = get_vm(batch->vm_fd);
	if (IS_ERR(vm_file))
		return PTR_ERR(vm_file);
	kvm = vm_file->private_data;

	r = vmem_batch_lock(kvm);
	if (r)
		goto out_put;
	changes = copy_entries(batch);
	if (IS_ERR(changes)) {
		r = PTR_ERR(changes);
		goto out_unlock;
	}
	r = vmem_batch_apply(kvm, changes, batch->nr, batch->flags, NULL,
			     &result);
	batch->bad_index = result.bad_index;
	batch->zapped = r ? 0 : result.zapped;
	kvfree(changes);
out_unlock:
	vmem_batch_unlock(kvm);
out_put:
	fput(vm_file);
	return r;
}

static int ioctl_batch(struct ucall *call)
{
	struct kvm_vmem_memslot_batch *batch = call->args;
	int r;

	/* Fail before any change if the structure is not writable. */
	batch->bad_index = KVM_VMEM_NO_INDEX;
	batch->zapped = 0;
	r = respond(call);
	if (r)
		return r;
	r = apply_batch(batch);
	if (!r) {
		/* Ignore errors: the batch cannot be undone. */
		if (batch->zapped)
			respond(call);
		return 0;
	}
	if (batch->bad_index != KVM_VMEM_NO_INDEX && respond(call))
		return -EFAULT;
	return r;
}

static int ioctl_create_region(struct ucall *call)
{
	struct kvm_vmem_create_region *args = call->args;
	struct vmem_region *region;
	struct file *vm_file, *file;
	int fd, r;

	vm_file = get_vm(args->vm_fd);
	if (IS_ERR(vm_file))
		return PTR_ERR(vm_file);
	r = vmem_region_create(vm_file, args, &region);
	fput(vm_file);
	if (r)
		return r;

	args->region_id = region->id;
	r = respond(call);
	if (r)
		goto out_destroy;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		r = fd;
		goto out_destroy;
	}
	file = vmem_region_file(region);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		r = PTR_ERR(file);
		goto out_destroy;
	}
	/* Publish before another thread can close the fd and end the region. */
	vmem_region_publish(region);
	fd_install(fd, file);
	return fd;

out_destroy:
	vmem_region_end(region);
	return r;
}

/* Copy @nr memslots to an array whose elements have @size bytes. */
static int copy_memslots(u64 addr, u32 size,
			 const struct kvm_vmem_memslot *memslots, u32 nr)
{
	u32 known = min_t(u32, size, sizeof(*memslots));
	u32 i;

	for (i = 0; i < nr; i++, addr += size) {
		if (copy_to_user(u64_to_user_ptr(addr), &memslots[i], known) ||
		    clear_user(u64_to_user_ptr(addr + known), size - known))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

static int ioctl_get_memslots(struct ucall *call)
{
	struct kvm_vmem_get_memslots *args = call->args;
	struct kvm_vmem_memslot *memslots, *last;
	struct file *vm_file;
	u32 as_id;
	int r;

	if (args->flags || !args->nr ||
	    args->address_space >= KVM_MAX_NR_ADDRESS_SPACES)
		return -EINVAL;
	if (args->memslot_size < MEMSLOT_MIN_SIZE ||
	    args->memslot_size > PAGE_SIZE ||
	    !IS_ALIGNED(args->memslot_size, sizeof(u64)))
		return -EINVAL;
	if (args->nr > KVM_VMEM_MAX_LIST)
		return -EMSGSIZE;
	as_id = array_index_nospec(args->address_space,
				   KVM_MAX_NR_ADDRESS_SPACES);
	vm_file = get_any_vm(args->vm_fd);
	if (IS_ERR(vm_file))
		return PTR_ERR(vm_file);

	/* The array is not held while waiting for a lock of KVM. */
	memslots = kvmalloc_array(args->nr, sizeof(*memslots),
				  VMEM_GFP);
	if (!memslots) {
		r = -ENOMEM;
		goto out_put;
	}
	args->nr = vmem_memslot_list(vm_file->private_data, as_id,
				     gpa_to_gfn(args->next_gpa), memslots,
				     args->nr, &args->generation);
	if (args->nr) {
		last = &memslots[args->nr - 1];
		args->next_gpa = last->guest_phys_addr + last->memory_size;
	}
	r = copy_memslots(args->memslots, args->memslot_size, memslots,
			  args->nr);
	if (!r)
		r = respond(call);
	kvfree(memslots);
out_put:
	fput(vm_file);
	return r;
}

/**
 * struct ioctl_op - a call
 * @cmd: ioctl command
 * @size: size of its structure
 * @min_size: size of the first version of its structure
 * @execute: handler
 */
struct ioctl_op {
	unsigned int cmd;
	u32 size;
	u32 min_size;
	int (*execute)(struct ucall *call);
};

#define IOCTL_OP(_cmd, _struct, _last, _execute)			\
	[_IOC_NR(_cmd)] = {						\
		.cmd = _cmd,						\
		.size = sizeof(struct _struct),				\
		.min_size = offsetofend(struct _struct, _last),		\
		.execute = _execute,					\
	}

static const struct ioctl_op ioctl_ops[] = {
	IOCTL_OP(KVM_VMEM_QUERY, kvm_vmem_query, min_block_size, ioctl_query),
	IOCTL_OP(KVM_VMEM_MEMSLOT_BATCH, kvm_vmem_memslot_batch, entry_size,
		 ioctl_batch),
	IOCTL_OP(KVM_VMEM_CREATE_REGION, kvm_vmem_create_region, slot_size,
		 ioctl_create_region),
	IOCTL_OP(KVM_VMEM_GET_MEMSLOTS, kvm_vmem_get_memslots, generation,
		 ioctl_get_memslots),
};

/* The structure of any call. */
union ioctl_args {
	struct kvm_vmem_query query;
	struct kvm_vmem_memslot_batch batch;
	struct kvm_vmem_create_region create_region;
	struct kvm_vmem_get_memslots get_memslots;
};

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	union ioctl_args args = {};
	struct ucall call = {
		.user = (void __user *)arg,
		.args = &args,
	};
	const struct ioctl_op *op;
	int r;

	if (_IOC_TYPE(cmd) != KVM_VMEM_IOC ||
	    _IOC_NR(cmd) >= ARRAY_SIZE(ioctl_ops))
		return -ENOTTY;
	op = &ioctl_ops[array_index_nospec(_IOC_NR(cmd), ARRAY_SIZE(ioctl_ops))];

	if (get_user(call.user_size, (u32 __user *)arg))
		return -EFAULT;
	if (call.user_size < op->min_size)
		return -EINVAL;
	/* Bound the time to check that the rest is zero. */
	if (call.user_size > PAGE_SIZE)
		return -E2BIG;
	call.size = op->size;
	r = copy_struct_from_user(&args, op->size, call.user, call.user_size);
	if (r)
		return r;
	return op->execute(&call);
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kvm-vmem",
	.fops = &device_fops,
	.mode = 0660,
};

int vmem_device_init(void)
{
	return misc_register(&device);
}

void vmem_device_exit(void)
{
	misc_deregister(&device);
}
