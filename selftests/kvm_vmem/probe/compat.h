/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Differences between the kernel versions that the probe is built for. */
#ifndef PROBE_COMPAT_H
#define PROBE_COMPAT_H

#include <linux/kvm_host.h>
#include <linux/memcontrol.h>
#include <linux/version.h>
#include <asm/kvm_page_track.h>

/*
 * Types of functions that are found by name and called through a static call.
 */
struct mem_cgroup *probe_memcg_type(void *addr);
unsigned long probe_lookup_type(const char *name);

void probe_return(void);

/* In 6.1, KVM's commit hook maintains the count itself, and only with PML. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define dirty_logging_count(kvm) ((kvm)->arch.cpu_dirty_logging_count)
#else
#define dirty_logging_count(kvm) \
	atomic_read(&(kvm)->nr_memslots_dirty_logging)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define gfn_track_of(slot) ((slot)->arch.gfn_track[KVM_PAGE_TRACK_WRITE])
#else
#define gfn_track_of(slot) ((slot)->arch.gfn_write_track)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
static inline u32 nr_as_of(struct kvm *kvm)
{
	return KVM_ADDRESS_SPACE_NUM;
}
#else
#define nr_as_of(kvm) kvm_arch_nr_memslot_as_ids(kvm)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define used_mmu_pages(kvm) ((kvm)->arch.n_used_mmu_pages)
#else
#define used_mmu_pages(kvm) ((kvm)->stat.mmu_shadow_pages)
#endif

/* Size of the CPU's dirty log. Until 6.15 all VMs share one variable. */
static inline int *probe_cpu_dirty_log_size(struct kvm *kvm, unsigned long ops)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
	return &((struct kvm_x86_ops *)ops)->cpu_dirty_log_size;
#else
	return &kvm->arch.cpu_dirty_log_size;
#endif
}

/* Called for each deleted memslot in a VM with a page tracker. */
void probe_tracked(struct kvm_page_track_notifier_node *node, gfn_t gfn,
		   u64 pages);

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static void probe_track_slot(struct kvm *kvm, struct kvm_memory_slot *slot,
			     struct kvm_page_track_notifier_node *node)
{
	probe_tracked(node, slot->base_gfn, slot->npages);
}

/* KVM calls this callback without a NULL check. */
static void probe_track_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *new,
			      int bytes,
			      struct kvm_page_track_notifier_node *node)
{
}

static int probe_register_tracker(struct kvm *kvm,
				  struct kvm_page_track_notifier_node *node)
{
	node->track_write = probe_track_write;
	node->track_flush_slot = probe_track_slot;
	kvm_page_track_register_notifier(kvm, node);
	return 0;
}
#elif defined(CONFIG_KVM_EXTERNAL_WRITE_TRACKING)
static void probe_track_region(gfn_t gfn, unsigned long pages,
			       struct kvm_page_track_notifier_node *node)
{
	probe_tracked(node, gfn, pages);
}

static void probe_track_write(gpa_t gpa, const u8 *new, int bytes,
			      struct kvm_page_track_notifier_node *node)
{
}

static int probe_register_tracker(struct kvm *kvm,
				  struct kvm_page_track_notifier_node *node)
{
	node->track_write = probe_track_write;
	node->track_remove_region = probe_track_region;
	return kvm_page_track_register_notifier(kvm, node);
}
#else
#define PROBE_NO_TRACKERS

static int probe_register_tracker(struct kvm *kvm,
				  struct kvm_page_track_notifier_node *node)
{
	return -EOPNOTSUPP;
}
#endif

static void probe_unregister_tracker(struct kvm *kvm,
				     struct kvm_page_track_notifier_node *node)
{
#ifndef PROBE_NO_TRACKERS
	kvm_page_track_unregister_notifier(kvm, node);
#endif
}

/* Up to 6.12 KVM counts the devices assigned to a VM and acts on the count. */
static int probe_start_assignment(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	kvm_arch_start_assignment(kvm);
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

static void probe_end_assignment(struct kvm *kvm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	kvm_arch_end_assignment(kvm);
#endif
}

#endif /* PROBE_COMPAT_H */
