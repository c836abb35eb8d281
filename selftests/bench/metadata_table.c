// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's metadata for a virtio-mem region of 1 TiB: as one memslot, and as
 * memslots of several sizes of which only those with plugged memory exist. On a
 * CPU with less than 2 TiB of guest addresses, the region has half of them: KVM
 * refuses memslots beyond.
 *
 * Each figure is determined in four ways: from a formula derived from KVM's
 * sources; from the module; from the growth of the kernel's allocators, for
 * vmalloc memory and the slab cache of memslots; and from the memory cgroup's
 * charges. Small figures are measured with several VMs at once, so that they
 * exceed other activity of the kernel.
 *
 * Writes one JSON object per line. scripts/measure-metadata makes its table
 * from them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "cgroup.h"
#include "clock.h"
#include "common/vm_memslots.h"
#include "kernel.h"
#include "metadata.h"
#include "nested.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define REGION_SIZE TIB(1)
#define TABLE_ID    1U

/* The slab cache of struct kvm_memory_slot. */
#define MEMSLOT_CACHE "kmalloc-cg-512"

/* A measurement covers at least this much memory, by up to MAX_COPIES VMs. */
#define STANDS_OUT MIB(96)
#define MAX_COPIES 64U
/* Smaller ones are the median of this many measurements. */
#define ROUNDS 3U

/* Percentage of the machine's free memory that may be used. */
#define MOST_PERCENT 80

/*
 * Statistics of a memory cgroup lag: the kernel sums the CPUs' counters every
 * two seconds. Reads are so far apart that an emulated machine can sleep in
 * between.
 */
#define CGROUP_WAIT_NS 10000000000ULL
#define CGROUP_LOOK_NS 50000000L
#define CGROUP_WITHIN  200 /* 1 / tolerated difference */

/**
 * struct layout - a region, and its populated part
 * @populated: bytes with plugged memory, from the region's start
 * @slot_size: bytes of a memslot; the region's size for a single memslot
 * @smm: memslots exist in both address spaces
 * @dirty_log: memslots have dirty logging
 */
struct layout {
	uint64_t populated;
	uint64_t slot_size;
	bool smm;
	bool dirty_log;
};

/**
 * struct account - bytes of metadata, by source
 * @module: reported by the module
 * @boot: reported by the module for memslots that only serve the vCPU
 * @kernel: vmalloc memory in use, and slab memory of memslots
 * @memcg: charged to the memory cgroup
 */
struct account {
	uint64_t module;
	uint64_t boot;
	uint64_t kernel;
	uint64_t memcg;
};

/**
 * struct table - state of this run
 * @dev: /dev/kvm-vmem
 * @address_spaces: number of address spaces of a VM
 * @region: the region's size, and its guest address
 * @mem: address space of that size, never accessed
 * @memcg: there is a memory cgroup
 * @vms: copies of the VM
 * @vcpus: a vCPU of each VM
 * @copies: number of copies
 * @nested: cost of a nested guest in a VM with boot memslots only
 */
struct table {
	int dev;
	unsigned int address_spaces;
	uint64_t region;
	struct backing mem;
	bool memcg;
	struct vm vms[MAX_COPIES];
	struct vcpu vcpus[MAX_COPIES];
	unsigned int copies;
	struct account nested;
};

static uint64_t nr_slots(const struct layout *l)
{
	return (l->populated + l->slot_size - 1) / l->slot_size;
}

/* The cost for one VM according to the formula. */
static struct vmem_nl_metadata predict(const struct table *t,
				       const struct layout *l, bool nested)
{
	const uint64_t nr = nr_slots(l) * (l->smm ? 2 : 1);
	struct vmem_nl_metadata m =
		metadata_cost(t->region, l->slot_size, l->dirty_log, nested);

	m.memslot *= nr;
	m.rmap *= nr;
	m.lpage_info *= nr;
	m.gfn_track *= nr;
	m.dirty_bitmap *= nr;
	m.total *= nr;
	return m;
}

/* Add the module's report of a VM's memslots. */
static void ask_module(const struct table *t, unsigned int i,
		       struct account *account)
{
	for (unsigned int as = 0; as < t->address_spaces; as++) {
		struct vm_metadata boot = {0}, module = {0};
		struct vm_memslots list;

		ASSERT_OK(vm_memslots_read(t->dev, t->vms[i].fd, as, &list));
		for (size_t j = 0; j < list.nr; j++)
			vm_metadata_add(list.memslots[j].guest_phys_addr <
							t->region
						? &boot
						: &module,
					&list.memslots[j]);
		vm_memslots_free(&list);
		account->boot += vm_metadata_total(&boot);
		account->module += vm_metadata_total(&module);
	}
}

static void take_account(const struct table *t, struct account *account)
{
	memset(account, 0, sizeof(*account));
	for (unsigned int i = 0; i < t->copies; i++)
		ask_module(t, i, account);
	account->kernel =
		slab_cache_bytes(MEMSLOT_CACHE) + meminfo("VmallocUsed");
	if (t->memcg)
		account->memcg = cgroup_stat("vmalloc") +
				 cgroup_stat("slab_unreclaimable");
}

/* The growth since @before for one VM, without its boot memslots. */
static void subtract(const struct table *t, struct account *account,
		     const struct account *before)
{
	const uint64_t boot = account->boot - before->boot;

	ASSERT_TRUE(t->copies);
	account->module = (account->module - before->module) / t->copies;
	account->kernel = (account->kernel - before->kernel - boot) / t->copies;
	account->memcg = (account->memcg - before->memcg - boot) / t->copies;
}

static bool close_to(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) <= b / CGROUP_WITHIN;
}

/*
 * Read the growth since @before, once the statistics are complete.
 * @own: other memory that is part of it, for one VM; or NULL
 */
static void take_change(const struct table *t, const struct account *before,
			const struct account *own, struct account *account)
{
	const struct timespec look = {.tv_nsec = CGROUP_LOOK_NS};
	const uint64_t start = now_ns();

	for (;;) {
		take_account(t, account);
		subtract(t, account, before);
		if (own) {
			account->kernel -= own->kernel;
			account->memcg -= own->memcg;
		}
		if (!t->memcg || close_to(account->memcg, account->module) ||
		    now_ns() - start >= CGROUP_WAIT_NS)
			return;
		nanosleep(&look, NULL);
	}
}

static void print_row(const struct table *t, const struct layout *l,
		      bool nested, const struct account *account)
{
	const struct vmem_nl_metadata m = predict(t, l, nested);

	printf("{\"record\":\"row\",\"populated\":%" PRIu64
	       ",\"slot_size\":%" PRIu64 ",\"memslots\":%" PRIu64
	       ",\"smm\":%s,\"dirty_log\":%s,\"nested\":%s,\"copies\":%u"
	       ",\"predicted\":%" PRIu64 ",\"module\":%" PRIu64
	       ",\"kernel\":%" PRIu64,
	       l->populated, l->slot_size, nr_slots(l) * (l->smm ? 2 : 1),
	       l->smm ? "true" : "false", l->dirty_log ? "true" : "false",
	       nested ? "true" : "false", t->copies, m.total, account->module,
	       account->kernel);
	if (t->memcg)
		printf(",\"memcg\":%" PRIu64, account->memcg);
	printf(",\"kinds\":{\"memslot\":%" PRIu64 ",\"rmap\":%" PRIu64
	       ",\"lpage_info\":%" PRIu64 ",\"gfn_track\":%" PRIu64
	       ",\"dirty_bitmap\":%" PRIu64 "}}\n",
	       m.memslot, m.rmap, m.lpage_info, m.gfn_track, m.dirty_bitmap);
	fflush(stdout);
}

static void print_left_out(const struct layout *l, const char *reason)
{
	printf("{\"record\":\"left_out\",\"populated\":%" PRIu64
	       ",\"slot_size\":%" PRIu64
	       ",\"smm\":%s,\"dirty_log\":%s,\"reason\":\"%s\"}\n",
	       l->populated, l->slot_size, l->smm ? "true" : "false",
	       l->dirty_log ? "true" : "false", reason);
	fflush(stdout);
}

static void create_memslots(struct table *t, unsigned int i,
			    const struct layout *l)
{
	const uint32_t flags = l->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	struct batch batch;

	batch_init(&batch);
	for (unsigned int as = AS_NORMAL; as <= (l->smm ? AS_SMM : AS_NORMAL);
	     as++)
		for (uint32_t n = 0; n < nr_slots(l); n++)
			batch_set(&batch, SLOT(as, TABLE_ID + n), flags,
				  t->region + n * l->slot_size, l->slot_size,
				  t->mem.hva + n * l->slot_size);
	ASSERT_OK(batch_apply(t->dev, &t->vms[i], &batch));
	batch_free(&batch);
}

/* Create the VMs. Return: whether they can run nested guests. */
static bool create_vms(struct table *t)
{
	bool nested = true;

	for (unsigned int i = 0; i < t->copies; i++) {
		vm_create(&t->vms[i], t->address_spaces > 1 ? VM_SMM : 0);
		nested &= nested_vcpu_create(&t->vcpus[i], &t->vms[i]);
	}
	return nested;
}

static void destroy_vms(struct table *t)
{
	for (unsigned int i = 0; i < t->copies; i++) {
		vcpu_destroy(&t->vcpus[i]);
		vm_destroy(&t->vms[i]);
	}
}

/* Number of VMs so that the figure exceeds other activity. */
static unsigned int nr_copies(uint64_t bytes)
{
	unsigned int copies = 1;

	while (copies < MAX_COPIES && bytes * copies < STANDS_OUT)
		copies++;
	return copies;
}

/*
 * Shadow page tables and their lookup structures also begin with the first
 * nested guest, but are no metadata of memslots.
 */
static void measure_nested(struct table *t)
{
	struct account before;

	t->copies = MAX_COPIES;
	if (create_vms(t)) {
		take_account(t, &before);
		for (unsigned int i = 0; i < t->copies; i++)
			nested_guest_run(&t->vcpus[i]);
		take_change(t, &before, NULL, &t->nested);
	}
	destroy_vms(t);
}

/* Measure in new VMs. Return: false after a report, if this is impossible. */
static bool take_cost(struct table *t, const struct layout *l, bool nested,
		      struct account *cost)
{
	const bool can_nest = create_vms(t);
	struct account before;

	if (nested && !can_nest) {
		print_left_out(l, "KVM cannot run nested guests here");
		destroy_vms(t);
		return false;
	}
	take_account(t, &before);
	for (unsigned int i = 0; i < t->copies; i++)
		create_memslots(t, i, l);
	for (unsigned int i = 0; nested && i < t->copies; i++)
		nested_guest_run(&t->vcpus[i]);
	take_change(t, &before, nested ? &t->nested : NULL, cost);
	destroy_vms(t);
	return true;
}

static int by_kernel(const void *a, const void *b)
{
	const struct account *left = a, *right = b;

	return (left->kernel > right->kernel) - (left->kernel < right->kernel);
}

static void measure(struct table *t, const struct layout *l, bool nested)
{
	const uint64_t bytes = predict(t, l, nested).total;
	struct account costs[ROUNDS];
	unsigned int rounds;

	t->copies = nr_copies(bytes);
	if (bytes * t->copies > meminfo("MemAvailable") / 100 * MOST_PERCENT) {
		print_left_out(l, "this machine has too little memory");
		return;
	}
	rounds = bytes * t->copies < STANDS_OUT ? ROUNDS : 1;
	for (unsigned int i = 0; i < rounds; i++)
		if (!take_cost(t, l, nested, &costs[i]))
			return;
	qsort(costs, rounds, sizeof(costs[0]), by_kernel);
	print_row(t, l, nested, &costs[rounds / 2]);
}

/* Before and after a nested guest, in separate VMs. */
static void measure_both(struct table *t, const struct layout *l)
{
	measure(t, l, false);
	measure(t, l, true);
}

/* 1 TiB, or half of the CPU's guest addresses. */
static uint64_t region_size(void)
{
	uint64_t max_gpa;
	struct vm vm;

	vm_create(&vm, 0);
	max_gpa = vm_max_gpa(&vm);
	vm_destroy(&vm);
	return max_gpa < 2 * REGION_SIZE ? max_gpa / 2 : REGION_SIZE;
}

static void print_machine(const struct table *t)
{
	struct utsname name;

	ASSERT_EQ(uname(&name), 0);
	printf("{\"record\":\"machine\",\"kernel\":\"%s\",\"memory\":%" PRIu64
	       ",\"region\":%" PRIu64
	       ",\"tdp_mmu\":%s,\"npt\":%s,\"ept\":%s}\n",
	       name.release, meminfo("MemTotal"), t->region,
	       module_parameter("kvm", "tdp_mmu") ? "true" : "false",
	       module_parameter("kvm_amd", "npt") ? "true" : "false",
	       module_parameter("kvm_intel", "ept") ? "true" : "false");
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {MIB(128), GIB(1), GIB(4)};
	static const uint64_t populated[] = {GIB(1), GIB(16), GIB(256)};
	static struct table t;
	size_t quick = 0;

	if (argc == 2 && !strcmp(argv[1], "-q"))
		quick = 1;
	else if (argc != 1) {
		fprintf(stderr,
			"usage: metadata_table [-q]\n"
			"-q: only 1 GiB populated, without dirty logging\n");
		return 2;
	}
	t.dev = vm_memslots_open(&t.address_spaces);
	ASSERT_GE(t.dev, 0);
	t.memcg = cgroup_enter();
	t.region = region_size();
	backing_create(&t.mem, t.region);
	print_machine(&t);
	measure_nested(&t);
	for (int smm = 0; smm < (int)t.address_spaces; smm++)
		for (int log = 0; log < (quick ? 1 : 2); log++) {
			struct layout l = {
				.populated = t.region,
				.slot_size = t.region,
				.smm = smm,
				.dirty_log = log,
			};

			measure_both(&t, &l);
			for (size_t i = 0;
			     i < (quick ? 1 : ARRAY_SIZE(populated)); i++)
				for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
					l.populated = populated[i];
					l.slot_size = sizes[s];
					measure_both(&t, &l);
				}
		}
	if (t.memcg)
		cgroup_leave();
	printf("{\"record\":\"end\"}\n");
	return 0;
}
