/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What memslots a VM has, what a change to them earns and does: KVM's rules and
 * those of linux/kvm_vmem.h once more, in the plainest way, to compare with.
 */
#ifndef KVM_VMEM_MEMSLOT_MODEL_H
#define KVM_VMEM_MEMSLOT_MODEL_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/* x86: address spaces, and user memslots in each. */
#define MODEL_NR_AS  2U
#define MODEL_NR_IDS 32764U

/* KVM_MEM_MAX_NR_PAGES: most pages of one memslot. */
#define MODEL_MAX_PAGES ((1ULL << 31) - 1)

/* Newer than the headers of the oldest kernel this builds with. */
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif

/**
 * struct memslot - a memslot that KVM ought to have
 * @mem: as given to KVM
 * @must: pages that the log must show, a bit each; NULL if it does not log
 * @may: pages that it may show, those of @must among them: KVM may map a page
 *	that was only read as writable, and then counts it as written
 * @going: deleted by the batch that is judged
 * @index: where in the list
 */
struct memslot {
	struct kvm_userspace_memory_region mem;
	uint64_t *must;
	uint64_t *may;
	bool going;
	uint32_t index;
};

/**
 * struct memslot_model - the memslots of a VM
 * @gpa_limit: KVM takes no memslot that reaches beyond
 * @log_initially_set: all of a memslot is dirty when logging begins
 * @slots: nr of them, in no order
 * @nr: how many
 * @capacity: how many fit
 * @pages: pages of all
 * @by_id: them by address space and id
 */
struct memslot_model {
	uint64_t gpa_limit;
	bool log_initially_set;
	struct memslot **slots;
	uint32_t nr;
	uint32_t capacity;
	uint64_t pages;
	struct memslot *by_id[MODEL_NR_AS][MODEL_NR_IDS];
};

/* What a change to a memslot comes down to. */
enum memslot_change {
	CHANGE_NONE,
	CHANGE_CREATE,
	CHANGE_DELETE,
	CHANGE_FLIP,
	CHANGE_MOVE,
};

struct memslot_model *model_new(uint64_t gpa_limit, bool log_initially_set);
void model_free(struct memslot_model *m);

struct memslot *model_find(const struct memslot_model *m, uint32_t slot);
struct memslot *model_at(const struct memslot_model *m, unsigned int as,
			 uint64_t gpa);
uint64_t memslot_pages(const struct memslot *s);
uint64_t memslot_log_words(const struct memslot *s);

enum memslot_change model_change(const struct memslot_model *m,
				 const struct kvm_userspace_memory_region *mem);
int model_judge_batch(struct memslot_model *m,
		      const struct kvm_userspace_memory_region *entries,
		      uint32_t nr, uint32_t *bad_index);
int model_judge_call(struct memslot_model *m,
		     const struct kvm_userspace_memory_region *mem);
void model_apply(struct memslot_model *m,
		 const struct kvm_userspace_memory_region *entries,
		 uint32_t nr);

void memslot_touch(struct memslot *s, uint64_t page, bool write);

#endif /* KVM_VMEM_MEMSLOT_MODEL_H */
