// SPDX-License-Identifier: GPL-2.0-or-later
#include "memslot_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "vm.h"

#define PAGE_BITS      12
#define BITS_PER_WORD  64U
#define FIRST_CAPACITY 64U

/*
 * End of the user addresses that the model uses. No address between here and
 * the kernel's half is used: kernels differ on those.
 */
#define USER_END ((1ULL << 47) - GUEST_PAGE)

/** model_new() - Return: a model without memslots. */
struct memslot_model *model_new(uint64_t gpa_limit, bool log_initially_set)
{
	struct memslot_model *m = calloc(1, sizeof(*m));

	ASSERT_TRUE(m);
	m->gpa_limit = gpa_limit;
	m->log_initially_set = log_initially_set;
	return m;
}

static void drop_log(struct memslot *s)
{
	free(s->must);
	free(s->may);
	s->must = NULL;
	s->may = NULL;
}

/** model_free() - Free the model and its memslots. */
void model_free(struct memslot_model *m)
{
	uint32_t i;

	for (i = 0; i < m->nr; i++) {
		drop_log(m->slots[i]);
		free(m->slots[i]);
	}
	free(m->slots);
	free(m);
}

/** model_find() - Return: the memslot with number @slot, or NULL. */
struct memslot *model_find(const struct memslot_model *m, uint32_t slot)
{
	const uint32_t as = slot >> 16, id = slot & 0xffff;

	if (as >= MODEL_NR_AS || id >= MODEL_NR_IDS)
		return NULL;
	return m->by_id[as][id];
}

/** model_at() - Return: the memslot that contains @gpa, or NULL. */
struct memslot *model_at(const struct memslot_model *m, unsigned int as,
			 uint64_t gpa)
{
	uint32_t i;

	for (i = 0; i < m->nr; i++) {
		const struct kvm_userspace_memory_region *mem =
			&m->slots[i]->mem;

		if (mem->slot >> 16 == as && gpa >= mem->guest_phys_addr &&
		    gpa - mem->guest_phys_addr < mem->memory_size)
			return m->slots[i];
	}
	return NULL;
}

uint64_t memslot_pages(const struct memslot *s)
{
	return s->mem.memory_size >> PAGE_BITS;
}

/** memslot_log_words() - Return: 64-bit words of its dirty bitmap. */
uint64_t memslot_log_words(const struct memslot *s)
{
	return (memslot_pages(s) + BITS_PER_WORD - 1) / BITS_PER_WORD;
}

/* Checks that do not depend on the existing memslots. */
static bool fields_are_good(const struct kvm_userspace_memory_region *mem)
{
	const uint32_t good_flags = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;

	return (mem->slot & 0xffff) < MODEL_NR_IDS &&
	       mem->slot >> 16 < MODEL_NR_AS && !(mem->flags & ~good_flags) &&
	       mem->guest_phys_addr % GUEST_PAGE == 0 &&
	       mem->memory_size % GUEST_PAGE == 0 &&
	       mem->userspace_addr % GUEST_PAGE == 0 &&
	       mem->memory_size >> PAGE_BITS <= MODEL_MAX_PAGES &&
	       mem->userspace_addr <= USER_END - mem->memory_size &&
	       mem->guest_phys_addr <= UINT64_MAX - mem->memory_size;
}

/** model_change() - Return: the kind of change that a valid entry makes. */
enum memslot_change model_change(const struct memslot_model *m,
				 const struct kvm_userspace_memory_region *mem)
{
	const struct memslot *s = model_find(m, mem->slot);

	if (!mem->memory_size)
		return CHANGE_DELETE;
	if (!s)
		return CHANGE_CREATE;
	if (mem->guest_phys_addr != s->mem.guest_phys_addr)
		return CHANGE_MOVE;
	return mem->flags == s->mem.flags ? CHANGE_NONE : CHANGE_FLIP;
}

/* Check an entry by itself and against the memslot of its id, as KVM does. */
static int judge_id(const struct memslot_model *m,
		    const struct kvm_userspace_memory_region *mem)
{
	const struct memslot *s = model_find(m, mem->slot);

	if (!fields_are_good(mem))
		return -EINVAL;
	if (!mem->memory_size)
		return s ? 0 : -EINVAL;
	if (s && (s->mem.memory_size != mem->memory_size ||
		  s->mem.userspace_addr != mem->userspace_addr ||
		  (s->mem.flags ^ mem->flags) & KVM_MEM_READONLY))
		return -EINVAL;
	return 0;
}

static bool overlap(const struct kvm_userspace_memory_region *a,
		    const struct kvm_userspace_memory_region *b)
{
	return a->slot >> 16 == b->slot >> 16 &&
	       a->guest_phys_addr < b->guest_phys_addr + b->memory_size &&
	       b->guest_phys_addr < a->guest_phys_addr + a->memory_size;
}

/*
 * Does the range overlap no memslot, except deleted ones and that of its own
 * id?
 */
static int judge_range(const struct memslot_model *m,
		       const struct kvm_userspace_memory_region *mem)
{
	uint32_t i;

	for (i = 0; i < m->nr; i++)
		if (!m->slots[i]->going && m->slots[i]->mem.slot != mem->slot &&
		    overlap(&m->slots[i]->mem, mem))
			return -EEXIST;
	return 0;
}

static int judge_limit(const struct memslot_model *m,
		       const struct kvm_userspace_memory_region *mem)
{
	return mem->guest_phys_addr + mem->memory_size > m->gpa_limit ? -EINVAL
								      : 0;
}

static int judge_entries(struct memslot_model *m,
			 const struct kvm_userspace_memory_region *entries,
			 uint32_t nr, uint32_t *bad_index)
{
	uint32_t i, j;
	int r;

	/* Each entry by itself, and against the existing memslots. */
	for (i = 0; i < nr; i++) {
		const struct kvm_userspace_memory_region *mem = &entries[i];

		*bad_index = i;
		if (mem->flags & KVM_MEM_GUEST_MEMFD)
			return -EOPNOTSUPP;
		r = judge_id(m, mem);
		if (r)
			return r;
		for (j = 0; j < i; j++)
			if (entries[j].slot == mem->slot)
				return -EINVAL;
		if (model_change(m, mem) == CHANGE_MOVE)
			return -EINVAL;
		if (model_change(m, mem) == CHANGE_DELETE)
			model_find(m, mem->slot)->going = true;
	}
	/*
	 * Creates, against the memslots that remain and those created before.
	 */
	for (i = 0; i < nr; i++) {
		const struct kvm_userspace_memory_region *mem = &entries[i];

		if (model_change(m, mem) != CHANGE_CREATE)
			continue;
		*bad_index = i;
		r = judge_range(m, mem);
		for (j = 0; !r && j < i; j++)
			if (model_change(m, &entries[j]) == CHANGE_CREATE &&
			    overlap(&entries[j], mem))
				r = -EEXIST;
		if (!r)
			r = judge_limit(m, mem);
		if (r)
			return r;
	}
	return 0;
}

/**
 * model_judge_batch() - predict the result of KVM_VMEM_MEMSLOT_BATCH
 * @m: the model, which is not changed
 * @entries: the batch
 * @nr: number of @entries
 * @bad_index: out, on error: index of the entry that is refused
 *
 * Return: 0 or -errno.
 */
int model_judge_batch(struct memslot_model *m,
		      const struct kvm_userspace_memory_region *entries,
		      uint32_t nr, uint32_t *bad_index)
{
	int r = judge_entries(m, entries, nr, bad_index);
	uint32_t i;

	for (i = 0; i < m->nr; i++)
		m->slots[i]->going = false;
	return r;
}

/**
 * model_judge_call() - predict the result of KVM_SET_USER_MEMORY_REGION
 * @m: the model, which is not changed
 * @mem: the argument of the call
 *
 * Return: 0 or -errno.
 */
int model_judge_call(struct memslot_model *m,
		     const struct kvm_userspace_memory_region *mem)
{
	enum memslot_change change;
	int r = judge_id(m, mem);

	if (r)
		return r;
	change = model_change(m, mem);
	if (change != CHANGE_CREATE && change != CHANGE_MOVE)
		return 0;
	r = judge_range(m, mem);
	return r ? r : judge_limit(m, mem);
}

static void begin_log(const struct memslot_model *m, struct memslot *s)
{
	uint64_t page;

	s->must = calloc(memslot_log_words(s), sizeof(*s->must));
	s->may = calloc(memslot_log_words(s), sizeof(*s->may));
	ASSERT_TRUE(s->must && s->may);
	if (m->log_initially_set)
		for (page = 0; page < memslot_pages(s); page++)
			memslot_touch(s, page, true);
}

static void set_flags(const struct memslot_model *m, struct memslot *s,
		      uint32_t flags)
{
	s->mem.flags = flags;
	if (!(flags & KVM_MEM_LOG_DIRTY_PAGES))
		drop_log(s);
	else if (!s->must)
		begin_log(m, s);
}

static void create(struct memslot_model *m,
		   const struct kvm_userspace_memory_region *mem)
{
	struct memslot *s = calloc(1, sizeof(*s));

	if (m->nr == m->capacity) {
		m->capacity = m->capacity ? 2 * m->capacity : FIRST_CAPACITY;
		m->slots = reallocarray(m->slots, m->capacity,
					sizeof(struct memslot *));
	}
	ASSERT_TRUE(s && m->slots);
	s->mem = *mem;
	s->index = m->nr;
	m->slots[m->nr++] = s;
	m->by_id[mem->slot >> 16][mem->slot & 0xffff] = s;
	m->pages += memslot_pages(s);
	set_flags(m, s, mem->flags);
}

static void delete (struct memslot_model *m, struct memslot *s)
{
	m->pages -= memslot_pages(s);
	m->by_id[s->mem.slot >> 16][s->mem.slot & 0xffff] = NULL;
	m->slots[s->index] = m->slots[--m->nr];
	m->slots[s->index]->index = s->index;
	drop_log(s);
	free(s);
}

/** model_apply() - Apply a valid batch, or a valid call's single entry. */
void model_apply(struct memslot_model *m,
		 const struct kvm_userspace_memory_region *entries, uint32_t nr)
{
	struct memslot *s;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		s = model_find(m, entries[i].slot);
		switch (model_change(m, &entries[i])) {
		case CHANGE_NONE:
			break;
		case CHANGE_CREATE:
			create(m, &entries[i]);
			break;
		case CHANGE_DELETE:
			delete (m, s);
			break;
		case CHANGE_MOVE:
			s->mem.guest_phys_addr = entries[i].guest_phys_addr;
			set_flags(m, s, entries[i].flags);
			break;
		case CHANGE_FLIP:
			set_flags(m, s, entries[i].flags);
			break;
		}
	}
}

/** memslot_touch() - The guest has read or written a page. */
void memslot_touch(struct memslot *s, uint64_t page, bool write)
{
	const uint64_t bit = 1ULL << page % BITS_PER_WORD;

	if (!s->must)
		return;
	s->may[page / BITS_PER_WORD] |= bit;
	if (write)
		s->must[page / BITS_PER_WORD] |= bit;
}
