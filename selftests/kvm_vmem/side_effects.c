// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is compared, and the rules where a batch may differ.
 *
 * Let a step consist of C changes, D of them deletes. K is a sequence of KVM's
 * own calls, one for each change; B is one batch.
 *
 * Commit hooks. B's are K's, in K's order, each with the same change, flags,
 * number of memslots with dirty logging, and number of pages. B may leave out a
 * create or a delete without dirty logging, if it is not the last create or
 * delete, if no page tracker is registered, and if K's hook only sets the limit
 * of MMU pages. The actions inside a hook are the same: requests, write
 * protection, dirty bits, huge pages, flushes, limits.
 *
 * Other hooks. Prepare: the same creates and flips; K also prepares deletes,
 * which does nothing. Free: the same memslots in the same order. Flush_shadow:
 * in K for each delete. In B, once if the first call drops all mappings; never
 * if B unmaps each deleted memslot completely after its first grace period; for
 * each delete otherwise. Guest_memory_reclaimed: D times in K, once in B.
 *
 * Requests, flushes and kicks outside commit hooks: the same kinds; B has at
 * most as many as K. All vCPUs are kicked for each memslots_updated.
 *
 * Page trackers: the same calls in the same order.
 *
 * Generations. Each set of memslots that becomes active has a new generation,
 * which is higher by the number of address spaces. In K this happens C + D
 * times; in B once for each address space with a change and once for each with
 * a delete. Memslots_updated reports the generations in order.
 *
 * Grace periods. In K one for each swap of sets; in B one, and a second if the
 * batch deletes.
 *
 * State afterwards. The same in both: number of pages, number of memslots with
 * dirty logging, limit and number of MMU pages; all fields of all memslots in
 * both sets of each address space; the contents of their arrays, and the cgroup
 * charged for each; the order by gfn; the order by host address, among equal
 * ones too; the chain in the hash and the position in it. Trees may have other
 * shapes, but must be valid; each set's cache holds nothing or a memslot of the
 * set.
 *
 * A batch that is refused before it has swapped sets changes none of this. A
 * batch that is undone later adds two generations to each address space in
 * which it would have deleted, and may leave equal host addresses in another
 * order. It has also dropped mappings, as KVM does when a delete is undone.
 * Until both VMs drop all their mappings, B may therefore have fewer MMU pages
 * than K, and flush less.
 */
#include "side_effects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

#include "cgroup.h"
#include "kernel.h"
#include "tap.h"

#define MEM_SIZE (PAIR_NR_HVAS * PAIR_SLOT_SIZE)

/* Memslots of a set: all places, the boot memory, and KVM's private ones. */
#define MAX_SLOTS 512U

#define BITMAP_WORDS (PAIR_SLOT_PAGES / 64 + 1)

#define CHECK(cond, ...)                                           \
	do {                                                       \
		if (!(cond))                                       \
			tap_fail(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

static void set_log(const struct side *s, enum pair_log log)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};

	if (log != PAIR_LOG_MANUAL && log != PAIR_LOG_INITIALLY_SET)
		return;
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	if (log == PAIR_LOG_INITIALLY_SET)
		cap.args[0] |= KVM_DIRTY_LOG_INITIALLY_SET;
	ASSERT_EQ(ioctl(s->vm.fd, KVM_ENABLE_CAP, &cap), 0);
}

static void side_init(struct side *s, const struct pair_options *options)
{
	unsigned int flags = options->vcpu ? VM_SMM : VM_BARE;

	if (options->log == PAIR_LOG_RING)
		flags |= VM_DIRTY_RING;
	if (options->zap_slots)
		flags |= VM_ZAP_SLOTS;
	vm_create(&s->vm, flags);
	set_log(s, options->log);
	if (options->vcpu)
		vcpu_create(&s->vcpu, &s->vm);
	if (options->vcpu && options->log == PAIR_LOG_RING)
		dirty_ring_map(&s->ring, &s->vcpu);
	s->probe = probe_watch(&s->vm);
	if (options->pml)
		probe_pretend_pml(s->probe);
	if (options->tracker && probe_track(s->probe))
		tap_skip("this kernel has no page trackers");
	probe_log_init(&s->log);
	probe_dump_init(&s->dump, MAX_SLOTS);
}

static void side_end(struct side *s, const struct pair_options *options)
{
	probe_dump_free(&s->dump);
	probe_log_free(&s->log);
	close(s->probe);
	dirty_ring_unmap(&s->ring);
	if (options->vcpu)
		vcpu_destroy(&s->vcpu);
	vm_destroy(&s->vm);
}

/** pair_init() - Create both VMs, in a memory cgroup if the host has any. */
void pair_init(struct pair *p, const struct pair_options *options)
{
	memset(p, 0, sizeof(*p));
	p->options = *options;
	p->dev = kvm_vmem_open();
	p->charged = cgroup_enter();
	backing_create(&p->mem, MEM_SIZE);
	batch_init(&p->step);
	side_init(&p->kvm, options);
	side_init(&p->batch, options);
}

void pair_end(struct pair *p)
{
	side_end(&p->batch, &p->options);
	side_end(&p->kvm, &p->options);
	batch_free(&p->step);
	backing_destroy(&p->mem);
	if (p->charged)
		cgroup_leave();
	close(p->dev);
}

/** pair_gpa() - Return: the guest address of a place. */
uint64_t pair_gpa(unsigned int i)
{
	/* Places are not aligned to huge pages and do not touch each other. */
	return PAIR_GPA + i * 2 * PAIR_SLOT_SIZE;
}

static uint32_t number(unsigned int as, unsigned int i, bool twin)
{
	return SLOT(as, PAIR_FIRST_ID + i + (twin ? PAIR_TWIN : 0));
}

/** pair_create() - Add to the step: create a memslot at a place. */
void pair_create(struct pair *p, unsigned int as, unsigned int i, bool twin,
		 uint32_t flags)
{
	batch_set(&p->step, number(as, i, twin), flags, pair_gpa(i),
		  PAIR_SLOT_SIZE,
		  p->mem.hva + (i * 5 % PAIR_NR_HVAS) * PAIR_SLOT_SIZE);
}

/** pair_flip() - Add to the step: change the flags of a memslot. */
void pair_flip(struct pair *p, unsigned int as, unsigned int i, bool twin,
	       uint32_t flags)
{
	pair_create(p, as, i, twin, flags);
}

/** pair_delete() - Add to the step: delete a memslot. */
void pair_delete(struct pair *p, unsigned int as, unsigned int i, bool twin)
{
	batch_delete(&p->step, number(as, i, twin));
}

static bool is_commit(const struct probe_event *e)
{
	return e->kind == PROBE_COMMIT;
}

static bool is_hook(const struct probe_event *e)
{
	return e->kind <= PROBE_LAST_HOOK;
}

/* Does this event end the events of the commit hook before it? */
static bool ends_commit(const struct probe_event *e)
{
	return is_hook(e) || e->kind == PROBE_GRACE;
}

static uint32_t next_of(const struct probe_log *log, uint32_t i,
			bool (*is)(const struct probe_event *))
{
	while (i < log->nr && !is(&log->events[i]))
		i++;
	return i;
}

static bool same_event(const struct probe_event *a, const struct probe_event *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static void print_event(const char *who, const struct probe_event *e)
{
	tap_note(
		"%s: %s slot %#x change %u flags %#x -> %#x, %d log, %llu pages, %#llx %#llx",
		who, probe_kind_name(e->kind), e->slot, e->change, e->old_flags,
		e->new_flags, e->dirty_logging, (unsigned long long)e->pages,
		(unsigned long long)e->a, (unsigned long long)e->b);
}

/* Compare the events within two commit hooks. */
static void compare_inside(const struct probe_log *k, uint32_t i,
			   const struct probe_log *b, uint32_t j)
{
	while (1) {
		const bool k_ends = ++i >= k->nr || ends_commit(&k->events[i]);
		const bool b_ends = ++j >= b->nr || ends_commit(&b->events[j]);

		if (k_ends && b_ends)
			return;
		if (k_ends || b_ends ||
		    !same_event(&k->events[i], &b->events[j])) {
			tap_fail(__FILE__, __LINE__,
				 "a commit hook does not do the same");
			if (!k_ends)
				print_event("KVM", &k->events[i]);
			if (!b_ends)
				print_event("batch", &b->events[j]);
			return;
		}
	}
}

static bool is_flip(const struct probe_event *e)
{
	return e->change == PROBE_FLAGS_ONLY;
}

/* Index of the last commit of a create or delete, or the number of events. */
static uint32_t last_sized_commit(const struct probe_log *log)
{
	uint32_t i, last = log->nr;

	for (i = 0; i < log->nr; i++)
		if (is_commit(&log->events[i]) && !is_flip(&log->events[i]))
			last = i;
	return last;
}

/* May a batch leave out this commit hook of KVM's? */
static bool may_leave_out(const struct pair *p, uint32_t i)
{
	const struct probe_log *k = &p->kvm.log;
	const struct probe_event *e = &k->events[i];

	if (is_flip(e) || i == last_sized_commit(k) ||
	    (e->old_flags | e->new_flags) & KVM_MEM_LOG_DIRTY_PAGES)
		return false;
	for (i++; i < k->nr && !ends_commit(&k->events[i]); i++)
		if (k->events[i].kind != PROBE_MMU_PAGES)
			return false;
	return true;
}

static void compare_commits(const struct pair *p)
{
	const struct probe_log *k = &p->kvm.log, *b = &p->batch.log;
	uint32_t i = next_of(k, 0, is_commit);
	uint32_t j = next_of(b, 0, is_commit);

	for (; i < k->nr; i = next_of(k, i + 1, is_commit)) {
		const struct probe_event *e = &k->events[i];

		if (j < b->nr && e->slot == b->events[j].slot &&
		    e->change == b->events[j].change) {
			if (!same_event(e, &b->events[j])) {
				tap_fail(
					__FILE__, __LINE__,
					"a commit hook finds other counts or flags");
				print_event("KVM", e);
				print_event("batch", &b->events[j]);
			}
			compare_inside(k, i, b, j);
			j = next_of(b, j + 1, is_commit);
		} else if (!may_leave_out(p, i)) {
			tap_fail(__FILE__, __LINE__,
				 "the batch leaves out a commit hook");
			print_event("KVM", e);
		}
	}
	CHECK(j >= b->nr, "the batch has a commit hook that KVM lacks");
}

/* Collect the events of a kind, and of a change if that is not negative. */
static uint32_t collect(const struct probe_log *log, uint32_t kind, int change,
			const struct probe_event **out)
{
	uint32_t i, n = 0;

	for (i = 0; i < log->nr; i++)
		if (log->events[i].kind == kind &&
		    (change < 0 || log->events[i].change == (uint32_t)change))
			out[n++] = &log->events[i];
	return n;
}

/*
 * Check that the events of a kind are for the same memslots, in the same order.
 */
static void compare_sequence(const struct pair *p, uint32_t kind, int change)
{
	static const struct probe_event *k[PROBE_MAX_EVENTS],
		*b[PROBE_MAX_EVENTS];
	uint32_t nr_k = collect(&p->kvm.log, kind, change, k);
	uint32_t nr_b = collect(&p->batch.log, kind, change, b);
	uint32_t i;

	CHECK(nr_k == nr_b, "%s, change %d: %u times by KVM, %u by the batch",
	      probe_kind_name(kind), change, nr_k, nr_b);
	for (i = 0; i < nr_k && i < nr_b; i++) {
		if (k[i]->slot == b[i]->slot && k[i]->a == b[i]->a &&
		    k[i]->b == b[i]->b && k[i]->old_flags == b[i]->old_flags &&
		    k[i]->new_flags == b[i]->new_flags)
			continue;
		tap_fail(__FILE__, __LINE__, "%s %u differs",
			 probe_kind_name(kind), i);
		print_event("KVM", k[i]);
		print_event("batch", b[i]);
		return;
	}
}

static uint32_t count(const struct probe_log *log, uint32_t kind)
{
	uint32_t i, n = 0;

	for (i = 0; i < log->nr; i++)
		n += log->events[i].kind == kind;
	return n;
}

/* Events outside commit hooks, counted by kind, and requests by number. */
#define MAX_REQUESTS 64U

struct outside {
	uint32_t requests[MAX_REQUESTS];
	uint32_t kinds[PROBE_NR_KINDS];
};

static void count_outside(const struct probe_log *log, struct outside *out)
{
	bool inside = false;
	uint32_t i;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < log->nr; i++) {
		const struct probe_event *e = &log->events[i];

		if (ends_commit(e))
			inside = is_commit(e);
		if (inside)
			continue;
		out->kinds[e->kind]++;
		if (e->kind == PROBE_REQUEST && e->a < MAX_REQUESTS)
			out->requests[e->a]++;
	}
}

/* May the batch have @b such events if KVM has @k? */
static bool may_differ(const struct pair *p, uint32_t k, uint32_t b)
{
	return b <= k && (p->zapped || b || !k);
}

static void compare_outside(const struct pair *p)
{
	static const uint32_t kinds[] = {
		PROBE_REQUEST,	   PROBE_FLUSH,	    PROBE_FLUSH_MEMSLOT,
		PROBE_KICK,	   PROBE_MMU_PAGES, PROBE_WRITE_PROTECT,
		PROBE_CLEAR_DIRTY, PROBE_SPLIT,	    PROBE_RECOVER,
	};
	struct outside k, b;
	uint32_t i;

	count_outside(&p->kvm.log, &k);
	count_outside(&p->batch.log, &b);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		const uint32_t n = kinds[i];

		CHECK(may_differ(p, k.kinds[n], b.kinds[n]),
		      "%s outside commit hooks: %u times by KVM, %u by the batch",
		      probe_kind_name(n), k.kinds[n], b.kinds[n]);
	}
	for (i = 0; i < MAX_REQUESTS; i++)
		CHECK(may_differ(p, k.requests[i], b.requests[i]),
		      "request %u outside commit hooks: %u by KVM, %u by the batch",
		      i, k.requests[i], b.requests[i]);
}

/* The address spaces in which KVM's own calls changed and deleted memslots. */
struct changes {
	unsigned int changed, deleted;
	uint32_t nr, nr_deletes;
};

static struct changes changes_of(const struct probe_log *log)
{
	struct changes c = {0};
	uint32_t i;

	for (i = 0; i < log->nr; i++) {
		const struct probe_event *e = &log->events[i];

		if (!is_commit(e))
			continue;
		c.nr++;
		c.changed |= 1U << (e->slot >> 16);
		if (e->change != PROBE_DELETE)
			continue;
		c.nr_deletes++;
		c.deleted |= 1U << (e->slot >> 16);
	}
	return c;
}

/*
 * Check that each generation rose by @times steps, and the calls that report
 * it.
 */
static void check_generations(const struct side *s, const char *who,
			      const uint32_t *times)
{
	uint64_t generation[PROBE_NR_AS];
	uint32_t as, i, seen = 0, all = 0;

	for (as = 0; as < s->before.nr_as; as++) {
		generation[as] = s->before.generation[as];
		CHECK(s->after.generation[as] ==
			      generation[as] + times[as] * s->before.nr_as,
		      "%s: generation of address space %u: %#llx -> %#llx, not %u steps of %u",
		      who, as, (unsigned long long)generation[as],
		      (unsigned long long)s->after.generation[as], times[as],
		      s->before.nr_as);
		all += times[as];
	}
	for (i = 0; i < s->log.nr; i++) {
		const struct probe_event *e = &s->log.events[i];

		if (e->kind != PROBE_UPDATED)
			continue;
		seen++;
		for (as = 0; as < s->before.nr_as; as++)
			if (e->a == generation[as] + s->before.nr_as)
				break;
		if (as == s->before.nr_as) {
			tap_fail(
				__FILE__, __LINE__,
				"%s: memslots_updated reports generation %#llx",
				who, (unsigned long long)e->a);
			continue;
		}
		generation[as] = e->a;
	}
	CHECK(seen == all, "%s: memslots_updated %u times, not %u", who, seen,
	      all);
	CHECK(count(&s->log, PROBE_KICK) == seen * s->vm.nr_vcpus,
	      "%s: %u kicks of %u vCPUs for %u generations", who,
	      count(&s->log, PROBE_KICK), s->vm.nr_vcpus, seen);
}

static void compare_generations(const struct pair *p)
{
	const struct probe_log *k = &p->kvm.log, *b = &p->batch.log;
	const struct changes c = changes_of(k);
	uint32_t of_kvm[PROBE_NR_AS] = {0}, of_batch[PROBE_NR_AS] = {0};
	uint32_t i, as;

	for (i = 0; i < k->nr; i++)
		if (is_commit(&k->events[i]))
			of_kvm[k->events[i].slot >> 16] +=
				k->events[i].change == PROBE_DELETE ? 2 : 1;
	for (as = 0; as < PROBE_NR_AS; as++)
		of_batch[as] = (c.changed >> as & 1) + (c.deleted >> as & 1);
	check_generations(&p->kvm, "KVM", of_kvm);
	check_generations(&p->batch, "batch", of_batch);

	CHECK(count(k, PROBE_GRACE) == c.nr + c.nr_deletes,
	      "%u grace periods by KVM for %u changes, %u of them deletes",
	      count(k, PROBE_GRACE), c.nr, c.nr_deletes);
	CHECK(count(b, PROBE_GRACE) == MIN(c.nr, 1) + MIN(c.nr_deletes, 1),
	      "%u grace periods by a batch in address spaces %#x, deletes in %#x",
	      count(b, PROBE_GRACE), c.changed, c.deleted);
}

/* Pages of a memslot that the batch unmaps between its two grace periods. */
static uint64_t unmapped_pages(const struct probe_log *b, uint32_t slot)
{
	uint64_t pages = 0;
	uint32_t i, grace = 0;

	for (i = 0; i < b->nr; i++) {
		if (b->events[i].kind == PROBE_GRACE)
			grace++;
		if (b->events[i].kind == PROBE_UNMAP &&
		    b->events[i].slot == slot && grace == 1)
			pages += b->events[i].b;
	}
	return pages;
}

/*
 * A batch that calls no flush_shadow hook unmaps each memslot that it deletes.
 */
static void check_unmapped(const struct pair *p)
{
	const struct probe_log *k = &p->kvm.log, *b = &p->batch.log;
	uint64_t pages;
	uint32_t i;

	for (i = 0; i < k->nr; i++) {
		if (k->events[i].kind != PROBE_FLUSH_SHADOW)
			continue;
		pages = unmapped_pages(b, k->events[i].slot);
		CHECK(pages == PAIR_SLOT_PAGES,
		      "the batch unmaps %llu pages of slot %#x",
		      (unsigned long long)pages, k->events[i].slot);
	}
}

static void compare_zaps(const struct pair *p)
{
	const struct probe_log *k = &p->kvm.log, *b = &p->batch.log;
	const struct changes c = changes_of(k);
	uint32_t i, j = 0, zaps = count(b, PROBE_FLUSH_SHADOW);
	/* Until 6.4 this hook calls the page trackers. */
	const bool all = p->options.zap_slots ||
			 (p->options.tracker && !kernel_is_at_least(6, 5));
	const bool unmaps = p->options.zap_slots && !zaps;

	CHECK(count(k, PROBE_FLUSH_SHADOW) == c.nr_deletes &&
		      count(k, PROBE_RECLAIMED) == c.nr_deletes,
	      "KVM drops the mappings of %u deletes %u times", c.nr_deletes,
	      count(k, PROBE_FLUSH_SHADOW));
	if (unmaps)
		check_unmapped(p);
	else
		CHECK(zaps == (all ? c.nr_deletes : MIN(c.nr_deletes, 1)),
		      "the batch drops mappings %u times, of %u deletes", zaps,
		      c.nr_deletes);
	CHECK(count(b, PROBE_RECLAIMED) == MIN(c.nr_deletes, 1),
	      "guest_memory_reclaimed %u times by the batch",
	      count(b, PROBE_RECLAIMED));
	/* The batch's calls are a subsequence of KVM's. */
	for (i = 0; i < b->nr; i++) {
		if (b->events[i].kind != PROBE_FLUSH_SHADOW)
			continue;
		while (j < k->nr && (k->events[j].kind != PROBE_FLUSH_SHADOW ||
				     k->events[j].slot != b->events[i].slot))
			j++;
		CHECK(j < k->nr, "flush_shadow_memslot of slot %#x",
		      b->events[i].slot);
	}
}

static void compare_events(const struct pair *p)
{
	compare_commits(p);
	compare_sequence(p, PROBE_PREPARE, PROBE_CREATE);
	compare_sequence(p, PROBE_PREPARE, PROBE_FLAGS_ONLY);
	compare_sequence(p, PROBE_FREE, -1);
	compare_sequence(p, PROBE_TRACKER, -1);
	compare_outside(p);
	compare_zaps(p);
	compare_generations(p);
}

static void compare_vms(const struct pair *p)
{
	const struct probe_vm *k = &p->kvm.after, *b = &p->batch.after;

	EXPECT_EQ(b->nr_memslot_pages, k->nr_memslot_pages);
	EXPECT_EQ(b->dirty_logging, k->dirty_logging);
	EXPECT_EQ(b->max_mmu_pages, k->max_mmu_pages);
	if (p->zapped)
		EXPECT_LE(b->used_mmu_pages, k->used_mmu_pages);
	else
		EXPECT_EQ(b->used_mmu_pages, k->used_mmu_pages);
}

/*
 * Remove the boot memslot, whose host address differs between the VMs, and
 * correct the ranks of the others in the tree of host addresses and in the
 * hash.
 */
static void drop_boot_slot(struct probe_dump *d)
{
	struct probe_slot boot;
	uint32_t i, at = d->set.nr;

	for (i = 0; i < d->set.nr; i++)
		if ((uint16_t)d->slots[i].slot == VM_BOOT_SLOT)
			at = i;
	if (at == d->set.nr)
		return;
	boot = d->slots[at];
	d->set.nr--;
	memmove(&d->slots[at], &d->slots[at + 1],
		(d->set.nr - at) * sizeof(boot));
	for (i = 0; i < d->set.nr; i++) {
		if (d->slots[i].hva_rank > boot.hva_rank)
			d->slots[i].hva_rank--;
		if (d->slots[i].hash_bucket == boot.hash_bucket &&
		    d->slots[i].hash_rank > boot.hash_rank)
			d->slots[i].hash_rank--;
	}
}

static void compare_memory(const struct pair *p, const struct probe_slot *k,
			   const struct probe_slot *b)
{
	uint32_t i;

	for (i = 0; i < PROBE_NR_ARRAYS; i++) {
		const struct probe_memory *m = &k->memory[i],
					  *n = &b->memory[i];

		CHECK(m->bytes == n->bytes && m->hash == n->hash,
		      "slot %#x, array %u: %llu bytes, hash %#x by KVM, %llu, %#x by the batch",
		      k->slot, i, (unsigned long long)m->bytes, m->hash,
		      (unsigned long long)n->bytes, n->hash);
		CHECK(m->cgroup == n->cgroup &&
			      (!p->charged || !m->bytes || m->cgroup),
		      "slot %#x, array %u: charged to cgroup %llu by KVM, %llu by the batch",
		      k->slot, i, (unsigned long long)m->cgroup,
		      (unsigned long long)n->cgroup);
	}
}

static void compare_slots(const struct pair *p, const struct probe_slot *k,
			  const struct probe_slot *b)
{
	EXPECT_EQ(b->slot, k->slot);
	EXPECT_EQ(b->flags, k->flags);
	EXPECT_EQ(b->base_gfn, k->base_gfn);
	EXPECT_EQ(b->npages, k->npages);
	EXPECT_EQ(b->hva, k->hva);
	EXPECT_EQ(b->hva_start, k->hva_start);
	EXPECT_EQ(b->hva_last, k->hva_last);
	EXPECT_EQ(b->other, k->other);
	EXPECT_EQ(b->hash_bucket, k->hash_bucket);
	if (!p->undone) {
		EXPECT_EQ(b->hva_rank, k->hva_rank);
		EXPECT_EQ(b->hash_rank, k->hash_rank);
	}
	compare_memory(p, k, b);
}

static void compare_sets(struct pair *p, unsigned int as, bool inactive)
{
	struct probe_dump *k = &p->kvm.dump, *b = &p->batch.dump;
	uint32_t i;

	probe_dump_read(p->kvm.probe, as, inactive, k);
	probe_dump_read(p->batch.probe, as, inactive, b);
	CHECK(!k->set.bad && !b->set.bad,
	      "address space %u, %s set: bad in %#x by KVM, %#x by the batch",
	      as, inactive ? "inactive" : "active", k->set.bad, b->set.bad);
	drop_boot_slot(k);
	drop_boot_slot(b);
	CHECK(k->set.nr == b->set.nr, "address space %u: %u slots, not %u", as,
	      b->set.nr, k->set.nr);
	for (i = 0; i < k->set.nr && i < b->set.nr; i++)
		compare_slots(p, &k->slots[i], &b->slots[i]);
}

/** pair_compare_state() - Compare the state that KVM keeps of both VMs. */
void pair_compare_state(struct pair *p)
{
	unsigned int as;

	probe_read_vm(p->kvm.probe, &p->kvm.after);
	probe_read_vm(p->batch.probe, &p->batch.after);
	compare_vms(p);
	for (as = 0; as < p->kvm.after.nr_as; as++) {
		compare_sets(p, as, false);
		compare_sets(p, as, true);
	}
}

static void begin(struct side *s)
{
	probe_log_read(s->probe, &s->log);
	probe_read_vm(s->probe, &s->before);
}

static void end(struct side *s)
{
	probe_log_read(s->probe, &s->log);
	probe_read_vm(s->probe, &s->after);
}

/** pair_apply() - Make the step in both VMs, and compare. */
void pair_apply(struct pair *p)
{
	uint32_t i;

	begin(&p->kvm);
	for (i = 0; i < p->step.nr; i++)
		ASSERT_EQ(ioctl(p->kvm.vm.fd, KVM_SET_USER_MEMORY_REGION,
				&p->step.entries[i]),
			  0);
	end(&p->kvm);

	begin(&p->batch);
	ASSERT_OK(batch_apply(p->dev, &p->batch.vm, &p->step));
	end(&p->batch);
	batch_reset(&p->step);

	compare_events(p);
	if (!p->options.zap_slots && changes_of(&p->kvm.log).nr_deletes)
		p->zapped = false;
	pair_compare_state(p);
}

/* A batch refuses the step, and changes nothing but the generations. */
static void refuse(struct pair *p, int error, const uint32_t *generations)
{
	begin(&p->batch);
	EXPECT_ERR(batch_apply(p->dev, &p->batch.vm, &p->step), error);
	end(&p->batch);
	batch_reset(&p->step);

	EXPECT_EQ(count(&p->batch.log, PROBE_COMMIT), 0);
	check_generations(&p->batch, "batch", generations);
	pair_compare_state(p);
}

/**
 * pair_refuse() - A batch of the step fails before it has any effect.
 * @p: the pair
 * @error: the expected error
 */
void pair_refuse(struct pair *p, int error)
{
	static const uint32_t generations[PROBE_NR_AS];

	refuse(p, error, generations);
	EXPECT_EQ(count(&p->batch.log, PROBE_GRACE), 0);
	EXPECT_EQ(count(&p->batch.log, PROBE_FLUSH_SHADOW), 0);
}

/**
 * pair_fail() - The batch of the step runs out of memory in a prepare hook.
 * @p: the pair
 * @change: the kind of change whose hook fails
 * @skip: number of such hooks that succeed before
 * @undone: the batch has deleted memslots by then, which it must undo
 */
void pair_fail(struct pair *p, enum probe_change change, uint32_t skip,
	       bool undone)
{
	uint32_t generations[PROBE_NR_AS] = {0};
	uint32_t i;

	for (i = 0; undone && i < p->step.nr; i++)
		if (!p->step.entries[i].memory_size)
			generations[p->step.entries[i].slot >> 16] = 2;
	if (undone)
		p->undone = p->zapped = true;
	probe_fail(p->batch.probe, change, skip, ENOMEM);
	refuse(p, ENOMEM, generations);
	EXPECT_EQ(count(&p->batch.log, PROBE_GRACE), undone ? 2 : 0);
	probe_fail(p->batch.probe, change, 0, 0);
}

/** pair_write() - The guests write to a page of a place. */
void pair_write(struct pair *p, unsigned int as, unsigned int i,
		unsigned int page)
{
	const uint64_t gpa = pair_gpa(i) + page * GUEST_PAGE;

	if (p->kvm.vcpu.as != as) {
		vcpu_set_smm(&p->kvm.vcpu, as == AS_SMM);
		vcpu_set_smm(&p->batch.vcpu, as == AS_SMM);
	}
	EXPECT_EQ(guest_write(&p->batch.vcpu, gpa, gpa),
		  guest_write(&p->kvm.vcpu, gpa, gpa));
}

/** pair_look() - KVM looks up a place, in both VMs. */
void pair_look(struct pair *p, unsigned int as, unsigned int i)
{
	probe_look(p->kvm.probe, as, pair_gpa(i));
	probe_look(p->batch.probe, as, pair_gpa(i));
}

static void compare_rings(struct pair *p)
{
	uint64_t k, b;

	do {
		k = dirty_ring_harvest(&p->kvm.ring);
		b = dirty_ring_harvest(&p->batch.ring);
		EXPECT_EQ(b, k);
	} while (k != DIRTY_RING_EMPTY && b != DIRTY_RING_EMPTY);
	EXPECT_EQ(dirty_ring_reset(&p->batch.vm), dirty_ring_reset(&p->kvm.vm));
}

static void clear_log(const struct side *s, uint32_t slot,
		      const uint64_t *bitmap)
{
	struct kvm_clear_dirty_log clear = {
		.slot = slot,
		.num_pages = PAIR_SLOT_PAGES,
		.dirty_bitmap = (void *)(uintptr_t)bitmap,
	};

	EXPECT_EQ(ioctl(s->vm.fd, KVM_CLEAR_DIRTY_LOG, &clear), 0);
}

static void compare_bitmaps(struct pair *p, uint32_t slot)
{
	uint64_t k[BITMAP_WORDS] = {0}, b[BITMAP_WORDS] = {0};
	const int r = vm_dirty_log(&p->kvm.vm, slot, k);

	EXPECT_EQ(vm_dirty_log(&p->batch.vm, slot, b), r);
	CHECK(!memcmp(k, b, sizeof(k)),
	      "slot %#x: dirty pages %#llx by KVM, %#llx by the batch", slot,
	      (unsigned long long)k[0], (unsigned long long)b[0]);
	if (r || p->options.log == PAIR_LOG_PLAIN)
		return;
	clear_log(&p->kvm, slot, k);
	clear_log(&p->batch, slot, k);
}

/** pair_compare_logs() - Fetch and compare the dirty logs of all memslots. */
void pair_compare_logs(struct pair *p)
{
	unsigned int as, i;

	if (p->options.log == PAIR_LOG_RING) {
		compare_rings(p);
		return;
	}
	for (as = 0; as < p->kvm.before.nr_as; as++) {
		for (i = 0; i < PAIR_NR_SLOTS; i++) {
			compare_bitmaps(p, number(as, i, false));
			compare_bitmaps(p, number(as, i, true));
		}
	}
}

/** side_pml_requests() - Return: requests of the last step that switch PML. */
uint32_t side_pml_requests(const struct side *side)
{
	uint32_t i, n = 0;

	for (i = 0; i < side->log.nr; i++)
		n += side->log.events[i].kind == PROBE_REQUEST &&
		     side->log.events[i].b;
	return n;
}
