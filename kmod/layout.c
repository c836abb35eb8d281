// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checks that the structures of the running KVM have the layout of the headers
 * that the module was built with.
 *
 * Modversions do not cover the internals of struct kvm and its memslots, as no
 * exported symbol uses them, and a kernel may be built without modversions. The
 * kernel's type information (BTF) describes the structures as kvm.ko was
 * compiled. The size of each structure that the module touches must agree, and
 * the offset and size of each member.
 *
 * If the kernel has no BTF for KVM, there is nothing to compare with. The
 * module logs that and loads, since it was then built for exactly this kernel.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/btf.h>
#include <linux/kvm_host.h>
#include <linux/printk.h>
#include <linux/stringify.h>

#include "compat.h"
#include "layout.h"
#include "symbols.h"

/**
 * struct layout - one member of a structure, or a whole structure
 * @type: name of the structure
 * @member: name of the member, NULL for the structure itself
 * @offset: bytes from the start of the structure
 * @size: bytes; for an array its total size
 */
struct layout {
	const char *type;
	const char *member;
	u32 offset;
	u32 size;
};

#define STRUCT(s) { #s, NULL, 0, sizeof(struct s) }
#define MEMBER(s, m) \
	{ __stringify(s), __stringify(m), offsetof(struct s, m), \
	  sizeof_field(struct s, m) }

/* Structures and members that memslot.c, batch*.c, zap.c and compat.h use. */
static const struct layout layouts[] = {
	STRUCT(kvm),
	MEMBER(kvm, mmu_lock),
	MEMBER(kvm, slots_lock),
	MEMBER(kvm, slots_arch_lock),
	MEMBER(kvm, mm),
	MEMBER(kvm, nr_memslot_pages),
	MEMBER(kvm, __memslots),
	MEMBER(kvm, memslots),
	MEMBER(kvm, mn_invalidate_lock),
	MEMBER(kvm, mn_active_invalidate_count),
	MEMBER(kvm, mn_memslots_update_rcuwait),
	MEMBER(kvm, mmu_notifier),
	MEMBER(kvm, srcu),
	MEMBER(kvm, manual_dirty_log_protect),
	MEMBER(kvm, dirty_ring_size),
	MEMBER(kvm, VMEM_DIRTY_RING_MEMBER),
	MEMBER(kvm, VMEM_DIRTY_COUNT_MEMBER),
	MEMBER(kvm, vm_dead),
	MEMBER(kvm, devices),
	MEMBER(kvm, arch),
	MEMBER(kvm, stat),
	STRUCT(kvm_arch),
	MEMBER(kvm_arch, shadow_root_allocated),
	MEMBER(kvm_arch, mmu_valid_gen),
	MEMBER(kvm_arch, active_mmu_pages),
	MEMBER(kvm_arch, disabled_quirks),
	MEMBER(kvm_arch, VMEM_VM_TYPE_MEMBER),
	MEMBER(kvm_arch, VMEM_ASSIGNED_MEMBER),
	MEMBER(VMEM_SHADOW_PAGES_STRUCT, VMEM_SHADOW_PAGES_MEMBER),
	MEMBER(kvm_arch, VMEM_TRACKERS_MEMBER),
	MEMBER(kvm_arch, VMEM_TRACKING_MEMBER),
	MEMBER(kvm_arch, VMEM_PRIVATE_MEM_MEMBER),
	MEMBER(kvm_arch, VMEM_PROTECTED_MEMBER),
	STRUCT(kvm_memslots),
	MEMBER(kvm_memslots, generation),
	MEMBER(kvm_memslots, last_used_slot),
	MEMBER(kvm_memslots, hva_tree),
	MEMBER(kvm_memslots, gfn_tree),
	MEMBER(kvm_memslots, id_hash),
	MEMBER(kvm_memslots, node_idx),
	STRUCT(kvm_memory_slot),
	MEMBER(kvm_memory_slot, id_node),
	MEMBER(kvm_memory_slot, hva_node),
	MEMBER(kvm_memory_slot, gfn_node),
	MEMBER(kvm_memory_slot, base_gfn),
	MEMBER(kvm_memory_slot, npages),
	MEMBER(kvm_memory_slot, dirty_bitmap),
	MEMBER(kvm_memory_slot, arch),
	MEMBER(kvm_memory_slot, userspace_addr),
	MEMBER(kvm_memory_slot, flags),
	MEMBER(kvm_memory_slot, id),
	MEMBER(kvm_memory_slot, as_id),
	STRUCT(kvm_arch_memory_slot),
	MEMBER(kvm_arch_memory_slot, rmap),
	MEMBER(kvm_arch_memory_slot, lpage_info),
	MEMBER(kvm_arch_memory_slot, VMEM_GFN_TRACK_MEMBER),
	STRUCT(kvm_gfn_range),
	MEMBER(kvm_gfn_range, slot),
	MEMBER(kvm_gfn_range, start),
	MEMBER(kvm_gfn_range, end),
	MEMBER(kvm_gfn_range, may_block),
	STRUCT(kvm_device),
	MEMBER(kvm_device, ops),
	MEMBER(kvm_device, vm_node),
	MEMBER(kvm_device_ops, name),
	STRUCT(kvm_rmap_head),
	STRUCT(kvm_lpage_info),
};

/* Size of a type, resolving typedefs, qualifiers and arrays; 0: no size. */
static u32 type_size(const struct btf *btf, u32 id)
{
	const struct btf_type *type = btf_type_by_id(btf, id);
	u32 nr = 1;

	while (type) {
		switch (BTF_INFO_KIND(type->info)) {
		case BTF_KIND_PTR:
			return nr * sizeof(void *);
		case BTF_KIND_ARRAY:
			nr *= btf_array(type)->nelems;
			type = btf_type_by_id(btf, btf_array(type)->type);
			break;
		case BTF_KIND_TYPEDEF:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_CONST:
		case BTF_KIND_RESTRICT:
		case BTF_KIND_TYPE_TAG:
			type = btf_type_by_id(btf, type->type);
			break;
		default:
			return nr * type->size;
		}
	}
	return 0;
}

static int mismatch(const struct layout *l, const char *what, u32 here,
		    u32 kernel)
{
	pr_err("struct %s%s%s: %s %u as built, %u in this kernel's BTF; build the module for this kernel\n",
	       l->type, l->member ? "." : "", l->member ?: "", what, here,
	       kernel);
	return -ENOEXEC;
}

static int check_member(const struct layout *l, const struct btf *btf,
			const struct btf_type *type)
{
	const struct btf_member *member;
	u32 i;

	for_each_member(i, type, member) {
		u32 offset = __btf_member_bit_offset(type, member) / BITS_PER_BYTE;
		u32 size;

		if (strcmp(kernel_hook(btf_name_by_offset)(btf, member->name_off),
			   l->member))
			continue;
		if (offset != l->offset)
			return mismatch(l, "offset", l->offset, offset);
		size = type_size(btf, member->type);
		if (size != l->size)
			return mismatch(l, "size", l->size, size);
		return 0;
	}
	pr_err("struct %s has no %s in this kernel's BTF\n", l->type, l->member);
	return -ENOEXEC;
}

static int check(const struct layout *l)
{
	const struct btf_type *type;
	struct btf *btf;
	s32 id;
	int r;

	id = kernel_hook(bpf_find_btf_id)(l->type, BTF_KIND_STRUCT, &btf);
	if (id < 0)
		return id;
	type = btf_type_by_id(btf, id);
	if (l->member)
		r = check_member(l, btf, type);
	else if (type->size != l->size)
		r = mismatch(l, "size", l->size, type->size);
	else
		r = 0;
	kernel_hook(btf_put)(btf);
	return r;
}

/**
 * vmem_layout_check - compare the compiled layouts with the running kernel
 *
 * Return: 0 if all layouts agree or the kernel has no BTF; -ENOEXEC after
 * logging the difference.
 */
int vmem_layout_check(void)
{
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		r = check(&layouts[i]);
		if (r == -ENOEXEC)
			return r;
		if (r) {
			pr_notice("no BTF for struct %s (%pe): its layout is not checked\n",
				  layouts[i].type, ERR_PTR(r));
			return 0;
		}
	}
	return 0;
}
