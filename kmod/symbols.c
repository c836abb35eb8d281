// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding the functions of KVM, and a few of the kernel, that are not exported.
 *
 * kallsyms_lookup_name() finds every symbol of kvm.ko. It is not exported
 * either, but a kprobe on it yields its address. With IBT a function begins
 * with ENDBR and the kprobe is placed after it, so the offset that
 * sprint_symbol() reports is subtracted.
 *
 * All functions are called through static calls, which patch a direct call into
 * the text. Function pointers would fail: the kernel seals the ENDBR of
 * functions whose address is never taken, and an indirect call to such a
 * function faults on hardware with IBT. A static call has the type of the
 * function that it is named after, so the compiler checks each call against the
 * prototype in the headers that the module is built with.
 *
 * The module imports kvm_get_kvm() and kvm_put_kvm() in the usual way. modprobe
 * therefore loads kvm.ko first, and kvm.ko cannot be unloaded: addresses stay
 * valid.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/string.h>

#include "symbols.h"

DEFINE_STATIC_CALL_NULL(vmem_kallsyms_lookup_name, kallsyms_lookup_name);

#define DEFINE_HOOK(func) DEFINE_STATIC_CALL_NULL(vmem_##func, func)

DEFINE_HOOK(kvm_arch_prepare_memory_region);
DEFINE_HOOK(kvm_arch_commit_memory_region);
DEFINE_HOOK(kvm_arch_flush_shadow_memslot);
DEFINE_HOOK(kvm_arch_free_memslot);
DEFINE_HOOK(kvm_arch_memslots_updated);
DEFINE_HOOK(kvm_arch_guest_memory_reclaimed);
DEFINE_HOOK(kvm_unmap_gfn_range);
DEFINE_HOOK(kvm_flush_remote_tlbs);
DEFINE_HOOK(file_is_kvm);
DEFINE_HOOK(bpf_find_btf_id);
DEFINE_HOOK(btf_name_by_offset);
DEFINE_HOOK(btf_put);
DEFINE_HOOK(task_sched_runtime);

static int find_kallsyms_lookup_name(unsigned long *addr)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	char name[KSYM_SYMBOL_LEN];
	unsigned long offset = 0;
	char *plus;
	int r;

	r = register_kprobe(&kp);
	if (r) {
		pr_err("cannot place a kprobe on %s: %pe\n", kp.symbol_name,
		       ERR_PTR(r));
		return r;
	}
	*addr = (unsigned long)kp.addr;
	unregister_kprobe(&kp);

	/* "kallsyms_lookup_name+0x4/0x120" */
	sprint_symbol(name, *addr);
	plus = strchr(name, '+');
	if (!plus || sscanf(plus, "+0x%lx/", &offset) != 1) {
		pr_err("cannot determine the offset of %s\n", name);
		return -ENOENT;
	}
	*addr -= offset;
	return 0;
}

static unsigned long find(const char *name)
{
	unsigned long addr = static_call(vmem_kallsyms_lookup_name)(name);

	if (!addr)
		pr_err("this kernel has no %s\n", name);
	return addr;
}

#define FIND_HOOK(prefix, func)						\
({									\
	unsigned long _addr = find(prefix #func);			\
									\
	if (_addr)							\
		static_call_update(vmem_##func, (typeof(func) *)_addr);	\
	_addr ? 0 : -ENOENT;						\
})

/**
 * vmem_symbols_init - find all functions
 *
 * Return: 0; -ENOENT after logging the function that this kernel lacks.
 */
int vmem_symbols_init(void)
{
	unsigned long addr;
	int r;

	r = find_kallsyms_lookup_name(&addr);
	if (r)
		return r;
	static_call_update(vmem_kallsyms_lookup_name,
			   (typeof(kallsyms_lookup_name) *)addr);

	return FIND_HOOK("kvm:", kvm_arch_prepare_memory_region) ?:
	       FIND_HOOK("kvm:", kvm_arch_commit_memory_region) ?:
	       FIND_HOOK("kvm:", kvm_arch_flush_shadow_memslot) ?:
	       FIND_HOOK("kvm:", kvm_arch_free_memslot) ?:
	       FIND_HOOK("kvm:", kvm_arch_memslots_updated) ?:
	       FIND_HOOK("kvm:", kvm_arch_guest_memory_reclaimed) ?:
	       FIND_HOOK("kvm:", kvm_unmap_gfn_range) ?:
	       FIND_HOOK("kvm:", kvm_flush_remote_tlbs) ?:
	       FIND_HOOK("kvm:", file_is_kvm) ?:
	       FIND_HOOK("", bpf_find_btf_id) ?:
	       FIND_HOOK("", btf_name_by_offset) ?:
	       FIND_HOOK("", btf_put) ?:
	       FIND_HOOK("", task_sched_runtime);
}
