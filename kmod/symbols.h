/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_SYMBOLS_H
#define KVM_VMEM_SYMBOLS_H

#include <linux/btf.h>
#include <linux/kvm_host.h>
#include <linux/sched/cputime.h>
#include <linux/static_call.h>

#include "compat.h"

/*
 * The functions of kvm.ko that this module needs and that KVM does not export,
 * or may not export in the future. Call one with kvm_hook(name)(arguments).
 */
#define DECLARE_HOOK(func) DECLARE_STATIC_CALL(vmem_##func, func)

DECLARE_HOOK(kvm_arch_prepare_memory_region);
DECLARE_HOOK(kvm_arch_commit_memory_region);
DECLARE_HOOK(kvm_arch_flush_shadow_memslot);
DECLARE_HOOK(kvm_arch_free_memslot);
DECLARE_HOOK(kvm_arch_memslots_updated);
DECLARE_HOOK(kvm_arch_guest_memory_reclaimed);
DECLARE_HOOK(kvm_unmap_gfn_range);
DECLARE_HOOK(kvm_flush_remote_tlbs);
DECLARE_HOOK(file_is_kvm);

/* Functions of vmlinux, to check the layout of KVM's structures. */
DECLARE_HOOK(bpf_find_btf_id);
DECLARE_HOOK(btf_name_by_offset);
DECLARE_HOOK(btf_put);

/* CPU time of a task until now; exported functions are a tick behind. */
DECLARE_HOOK(task_sched_runtime);

#define kernel_hook(func) static_call(vmem_##func)
#define kvm_hook(func) static_call(vmem_##func)

int vmem_symbols_init(void);

#endif /* KVM_VMEM_SYMBOLS_H */
