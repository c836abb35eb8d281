/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model of a VM's memslots: which change KVM accepts and what it does. It
 * implements the rules of KVM and of linux/kvm_vmem.h a second time, in the
 * simplest way, for comparison.
 */
#ifndef KVM_VMEM_MEMSLOT_MODEL_H
#define KVM_VMEM_MEMSLOT_MODEL_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/* x86: address spaces, and user memslots in each. */
#define MODEL_NR_AS  2U
#define MODEL_NR_IDS 32764U

/* KVM_MEM_MAX_NR_PAGES: maximum number of pages of a memslot. */
#define MODEL_MAX_PAGES ((1ULL << 31) - 1)

/* Newer than the oldest kernel headers that this builds with. */
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif

/**
 * struct memslot - a memslot that KVM should have
 * @mem: as passed to KVM
 * @must: bitmap of the pages that the log must show; NULL without dirty logging
 * @may: bitmap of the pages that the log may show, a superset of @must: KVM may
 * map a page that was only read as writable, and then counts it as written
 * @going: deleted by the batch that is judged
 * @index: position in the model's list
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
 * @gpa_limit: KVM refuses memslots that reach beyond this guest address
 * @log_initially_set: all pages of a memslot are dirty when logging begins
 * @slots: the memslots, unordered
 * @nr: number of @slots
 * @capacity: allocated length of @slots
 * @pages: pages of all memslots
 * @by_id: the memslots by address space and id
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

/* The kinds of change that an entry makes to a memslot. */
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
