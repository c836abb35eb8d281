/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All differences between the kernels that this module is built for. The other
 * files are written for the newest kernel; here older kernels get its names.
 */
#ifndef KVM_VMEM_COMPAT_H
#define KVM_VMEM_COMPAT_H

#include <linux/kvm_host.h>
#include <linux/version.h>
#include <net/genetlink.h>

#include "uapi/linux/kvm_vmem_netlink.h"

/*
 * 6.7 has guest_memfd (KVM_MEM_GUEST_MEMFD). Older kernels do not define the
 * bit. It is defined here so that a program gets the same errno on all kernels.
 */
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static inline bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return false;
}
#endif

/* 6.8 made the number of address spaces a property of the VM. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define KVM_MAX_NR_ADDRESS_SPACES KVM_ADDRESS_SPACE_NUM

static inline int kvm_arch_nr_memslot_as_ids(struct kvm *kvm)
{
	return KVM_ADDRESS_SPACE_NUM;
}
#endif

/*
 * 6.4 can keep a dirty bitmap in addition to the ring. kvm_use_dirty_bitmap()
 * is not exported.
 */
static inline bool vmem_uses_dirty_bitmap(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	return !kvm->dirty_ring_size;
#else
	return !kvm->dirty_ring_size || kvm->dirty_ring_with_bitmap;
#endif
}

/* 6.3 counts the memslots that log dirty pages; under slots_lock. */
static inline void vmem_count_dirty_logging(struct kvm *kvm, int change)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	atomic_set(&kvm->nr_memslots_dirty_logging,
		   atomic_read(&kvm->nr_memslots_dirty_logging) + change);
#endif
}

/*
 * Number of shadow pages of the VM. 7.0 has only the statistic. The number
 * changes under mmu_lock; without mmu_lock the result may be outdated.
 */
static inline u64 vmem_shadow_pages(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	return READ_ONCE(kvm->arch.n_used_mmu_pages);
#else
	return READ_ONCE(kvm->stat.mmu_shadow_pages);
#endif
}

/* Minimum of KVM's limit of shadow pages; 7.3 has it in a private header. */
#ifndef KVM_MIN_ALLOC_MMU_PAGES
#define KVM_MIN_ALLOC_MMU_PAGES 64UL
#endif

/* 6.2 declares it in a header. Before, it is static, but not inlined. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct btf;
s32 bpf_find_btf_id(const char *name, u32 kind, struct btf **btf_p);
#endif

/* 6.5 keeps one array of write-tracking counters instead of one per mode. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define VMEM_GFN_TRACK_MEMBER gfn_track
#else
#define VMEM_GFN_TRACK_MEMBER gfn_write_track
#endif

static inline const void *vmem_gfn_track(const struct kvm_memory_slot *slot)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return READ_ONCE(slot->arch.gfn_track[KVM_PAGE_TRACK_WRITE]);
#else
	return READ_ONCE(slot->arch.gfn_write_track);
#endif
}

/* 6.11 lets a kind of VM be without read-only memslots. */
#ifndef kvm_arch_has_readonly_mem
#define kvm_arch_has_readonly_mem(kvm) true
#endif

/*
 * Must KVM's flush hook be called for each deleted memslot, although one call
 * drops all mappings? Up to 6.4, kvm_arch_flush_shadow_memslot() notifies every
 * page tracker, KVM's own and others (KVMGT). From 6.5 on, the commit of a
 * delete notifies the others.
 */
static inline bool vmem_flush_tells_others(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return !hlist_is_singular_node(&kvm->arch.mmu_sp_tracker.node,
				       &kvm->arch.track_notifier_head.track_notifier_list);
#else
	return false;
#endif
}

/*
 * Does KVM drop the mappings of a deleted memslot only, and keep those of the
 * others? From 6.12 on, unless the VM is of the default type and has the quirk
 * that all mappings go. A VMM can switch the quirk off, and never on again.
 */
static inline bool vmem_delete_keeps_others(struct kvm *kvm)
{
#ifdef KVM_X86_QUIRK_SLOT_ZAP_ALL
	return kvm->arch.vm_type != KVM_X86_DEFAULT_VM ||
	       READ_ONCE(kvm->arch.disabled_quirks) & KVM_X86_QUIRK_SLOT_ZAP_ALL;
#else
	return false;
#endif
}

/*
 * May the VM have an assigned device, as far as KVM knows? Up to 6.12 KVM
 * counts such devices, and interrupts that bypass the host. 7.2 counts only the
 * latter. From 6.13 on, the KVM device by which a VMM registers VFIO groups is
 * therefore considered. The list of KVM devices is an RCU list from 6.12 on.
 */
static inline bool vmem_has_assigned_device(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	return atomic_read(&kvm->arch.assigned_device_count);
#else
	struct kvm_device *device;
	bool found = false;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
	if (READ_ONCE(kvm->arch.nr_possible_bypass_irqs))
		return true;
#endif
	rcu_read_lock();
	list_for_each_entry_rcu(device, &kvm->devices, vm_node) {
		if (!strcmp(device->ops->name, "kvm-vfio")) {
			found = true;
			break;
		}
	}
	rcu_read_unlock();
	return found;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define VMEM_ASSIGNED_MEMBER assigned_device_count
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
#define VMEM_ASSIGNED_MEMBER nr_possible_bypass_irqs
#else
#define VMEM_ASSIGNED_MEMBER mmu_valid_gen
#endif

#ifdef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define VMEM_VM_TYPE_MEMBER vm_type
#else
#define VMEM_VM_TYPE_MEMBER mmu_valid_gen
#endif

/* From 6.14 on a range has a filter: private memory, shared memory, or both. */
static inline void vmem_range_is_all_memory(struct kvm_gfn_range *range)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
	range->attr_filter = KVM_FILTER_PRIVATE | KVM_FILTER_SHARED;
#endif
}

/*
 * The kinds of metadata that KVM allocates late and has begun to allocate. KVM
 * sets these flags under slots_arch_lock, when all memslots in the active sets
 * have the metadata, and never clears them. It does not hold slots_lock.
 */
#define VMEM_LAZY_RMAP BIT(0)
#define VMEM_LAZY_GFN_TRACK BIT(1)

static inline unsigned int vmem_lazy_metadata(struct kvm *kvm)
{
	unsigned int lazy = 0;

	/* A first shadow root. Pairs with the release in KVM. */
	if (smp_load_acquire(&kvm->arch.shadow_root_allocated))
		lazy |= VMEM_LAZY_RMAP;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0) && \
	defined(CONFIG_KVM_EXTERNAL_WRITE_TRACKING)
	/* A first page tracker. Pairs with the release in KVM. */
	if (smp_load_acquire(&kvm->arch.external_write_tracking_enabled))
		lazy |= VMEM_LAZY_GFN_TRACK;
#endif
	return lazy;
}

/*
 * Does the commit of a delete notify page trackers other than KVM's own? From
 * 6.5 on, if there are any.
 */
static inline bool vmem_commit_tells_trackers(struct kvm *kvm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0) && \
	defined(CONFIG_KVM_EXTERNAL_WRITE_TRACKING)
	return !hlist_empty(&kvm->arch.track_notifier_head.track_notifier_list);
#else
	return false;
#endif
}

/*
 * Set the message of an extended acknowledgment. The message need not be a
 * literal, but it must never be freed: only kernels with NL_SET_ERR_MSG_FMT()
 * copy it.
 */
static inline void vmem_set_extack(struct netlink_ext_ack *extack,
				   const struct nlattr *attr,
				   const char *message)
{
	/* Before 6.6 the start of a dump has no extack. */
	if (!extack)
		return;
	extack->bad_attr = attr;
	if (!message)
		return;
#ifdef NL_SET_ERR_MSG_FMT
	NL_SET_ERR_MSG_FMT(extack, "%s", message);
#else
	extack->_msg = message;
#endif
}

/*
 * Members that the functions above read and that not every kernel has, for
 * layout.c. A kernel without such a member gets one that is checked anyway.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define VMEM_TRACKERS_MEMBER track_notifier_head
#define VMEM_TRACKING_MEMBER mmu_sp_tracker
#elif defined(CONFIG_KVM_EXTERNAL_WRITE_TRACKING)
#define VMEM_TRACKERS_MEMBER track_notifier_head
#define VMEM_TRACKING_MEMBER external_write_tracking_enabled
#else
#define VMEM_TRACKERS_MEMBER mmu_valid_gen
#define VMEM_TRACKING_MEMBER mmu_valid_gen
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define VMEM_DIRTY_COUNT_MEMBER nr_memslot_pages
#else
#define VMEM_DIRTY_COUNT_MEMBER nr_memslots_dirty_logging
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define VMEM_SHADOW_PAGES_STRUCT kvm_arch
#define VMEM_SHADOW_PAGES_MEMBER n_used_mmu_pages
#else
#define VMEM_SHADOW_PAGES_STRUCT kvm_vm_stat
#define VMEM_SHADOW_PAGES_MEMBER mmu_shadow_pages
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define VMEM_DIRTY_RING_MEMBER dirty_ring_size
#else
#define VMEM_DIRTY_RING_MEMBER dirty_ring_with_bitmap
#endif

/* In 6.12 kvm_arch_has_private_mem(), kvm_arch_has_readonly_mem() read these. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define VMEM_PRIVATE_MEM_MEMBER mmu_valid_gen
#define VMEM_PROTECTED_MEMBER mmu_valid_gen
#else
#define VMEM_PRIVATE_MEM_MEMBER has_private_mem
#define VMEM_PROTECTED_MEMBER has_protected_state
#endif

/* 6.6 has the attributes of a dump request in a struct genl_info. */
static inline struct nlattr **vmem_dump_attrs(struct netlink_callback *cb)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return genl_dumpit_info(cb)->attrs;
#else
	return genl_info_dump(cb)->attrs;
#endif
}

/*
 * 6.8 can exclude listeners from a multicast. Before, a listener outside of the
 * initial network namespace receives it if it has subscribed to the multicasts
 * of all namespaces, which needs CAP_NET_BROADCAST in the initial user
 * namespace.
 */
static inline void vmem_genl_multicast(struct genl_family *family,
				       struct sk_buff *skb, unsigned int group,
				       int (*leave_out)(struct sock *listener,
							struct sk_buff *skb,
							void *data))
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	genlmsg_multicast(family, skb, 0, group, GFP_KERNEL);
#else
	genlmsg_multicast_netns_filtered(family, &init_net, skb, 0, group,
					 GFP_KERNEL, leave_out, NULL);
#endif
}

/*
 * From 6.2 on, a netlink family has split operations for "do" and "dump", and
 * the generated genl.c uses these. On an older kernel genl.c uses the
 * structures below instead, and vmem_genl_register() converts them.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct vmem_split_ops {
	int (*start)(struct netlink_callback *cb);
	int (*doit)(struct sk_buff *skb, struct genl_info *info);
	int (*dumpit)(struct sk_buff *skb, struct netlink_callback *cb);
	int (*done)(struct netlink_callback *cb);
	const struct nla_policy *policy;
	unsigned int maxattr;
	u8 cmd;
	u8 flags;
};

struct vmem_split_family {
	const char *name;
	unsigned int version;
	bool netnsok;
	bool parallel_ops;
	struct module *module;
	const struct vmem_split_ops *split_ops;
	unsigned int n_split_ops;
	const struct genl_multicast_group *mcgrps;
	unsigned int n_mcgrps;
};

/* The family in the form of this kernel; netlink.c defines the instance. */
struct vmem_old_family {
	struct genl_family family;
	struct genl_ops ops[KVM_VMEM_CMD_MAX];
};

extern struct vmem_old_family vmem_old_family;

#define VMEM_DEFINE_OLD_FAMILY() struct vmem_old_family vmem_old_family
#define vmem_genl_family (&vmem_old_family.family)

static inline int vmem_register_old(const struct vmem_split_family *split)
{
	struct genl_family *family = &vmem_old_family.family;
	struct genl_ops *op = NULL;
	unsigned int i;

	*family = (struct genl_family) {
		.version = split->version,
		.netnsok = split->netnsok,
		.parallel_ops = split->parallel_ops,
		.module = split->module,
		.ops = vmem_old_family.ops,
		.mcgrps = split->mcgrps,
		.n_mcgrps = split->n_mcgrps,
	};
	strscpy(family->name, split->name, sizeof(family->name));

	/* Both halves of an operation are adjacent and have the same policy. */
	for (i = 0; i < split->n_split_ops; i++) {
		const struct vmem_split_ops *half = &split->split_ops[i];

		if (!op || op->cmd != half->cmd) {
			op = &vmem_old_family.ops[family->n_ops++];
			*op = (struct genl_ops) {
				.cmd = half->cmd,
				.policy = half->policy,
				.maxattr = half->maxattr,
			};
		}
		if (half->doit)
			op->doit = half->doit;
		if (half->dumpit) {
			op->start = half->start;
			op->dumpit = half->dumpit;
			op->done = half->done;
		}
	}
	return genl_register_family(family);
}

#define vmem_genl_register() vmem_register_old(&kvm_vmem_nl_family)

/* The names that genl.h and genl.c use. */
#define genl_split_ops vmem_split_ops
#define genl_family vmem_split_family
#else
#define VMEM_DEFINE_OLD_FAMILY() static_assert(true)
#define vmem_genl_family (&kvm_vmem_nl_family)
#define vmem_genl_register() genl_register_family(&kvm_vmem_nl_family)
#endif

#endif /* KVM_VMEM_COMPAT_H */
