/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_MEMSLOT_H
#define KVM_VMEM_MEMSLOT_H

#include <linux/kvm_host.h>

#include "uapi/linux/kvm_vmem.h"

/*
 * struct vmem_metadata - bytes that KVM has allocated for memslots, by kind
 */
struct vmem_metadata {
	u64 memslot;
	u64 rmap;
	u64 lpage_info;
	u64 gfn_track;
	u64 dirty_bitmap;
};

static inline u64 vmem_metadata_total(const struct vmem_metadata *m)
{
	return m->memslot + m->rmap + m->lpage_info + m->gfn_track +
	       m->dirty_bitmap;
}

/* Add @times times the bytes of @m to @sum. */
static inline void vmem_metadata_add(struct vmem_metadata *sum,
				     const struct vmem_metadata *m, u64 times)
{
	sum->memslot += m->memslot * times;
	sum->rmap += m->rmap * times;
	sum->lpage_info += m->lpage_info * times;
	sum->gfn_track += m->gfn_track * times;
	sum->dirty_bitmap += m->dirty_bitmap * times;
}

static inline void vmem_metadata_sub(struct vmem_metadata *sum,
				     const struct vmem_metadata *m)
{
	sum->memslot -= m->memslot;
	sum->rmap -= m->rmap;
	sum->lpage_info -= m->lpage_info;
	sum->gfn_track -= m->gfn_track;
	sum->dirty_bitmap -= m->dirty_bitmap;
}

/* @id is the memslot id within address space @as_id. */
struct kvm_memory_slot *vmem_memslot_find(struct kvm *kvm, int as_id, int id);
struct kvm_memory_slot *vmem_memslot_find_at(struct kvm *kvm, int as_id,
					     gfn_t gfn, int id);
struct kvm_memory_slot **vmem_memslot_index(struct kvm *kvm, int as_id);
bool vmem_memslot_is(const struct kvm_memory_slot *slot,
		     const struct kvm_userspace_memory_region *mem);

bool vmem_memslot_is_plain(const struct kvm_memory_slot *slot,
			   const struct kvm_userspace_memory_region *mem);

struct kvm_memory_slot *vmem_memslot_alloc(gfp_t gfp);
void vmem_memslot_copy_to(struct kvm_memory_slot *slot,
			  const struct kvm_memory_slot *src);
struct kvm_memory_slot *vmem_memslot_copy(const struct kvm_memory_slot *src,
					  gfp_t gfp);
int vmem_memslot_alloc_dirty_bitmap(struct kvm *kvm,
				    struct kvm_memory_slot *slot);
void vmem_memslot_free_dirty_bitmap(struct kvm_memory_slot *slot);
int vmem_memslot_probe_gfn(struct kvm *kvm, gfn_t gfn);

void vmem_memslot_replace(struct kvm *kvm, struct kvm_memory_slot *old,
			  struct kvm_memory_slot *new);
void vmem_memslot_swap(struct kvm *kvm, unsigned long as_mask);
void vmem_memslot_commit(struct kvm *kvm, struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new, enum kvm_mr_change change,
			 bool last);

void vmem_memslot_add_metadata(const struct kvm_memory_slot *slot,
			       struct vmem_metadata *sum);
void vmem_memslot_full_metadata(gfn_t base_gfn, u64 npages,
				struct vmem_metadata *full);
bool vmem_memslot_present_metadata(struct kvm *kvm, bool dirty_log,
				   struct vmem_metadata *m);
u32 vmem_memslot_list(struct kvm *kvm, int as_id, gfn_t gfn,
		      struct kvm_vmem_memslot *list, u32 nr, u64 *generation);

#endif /* KVM_VMEM_MEMSLOT_H */
