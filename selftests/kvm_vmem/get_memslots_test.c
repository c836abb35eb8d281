// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_VMEM_GET_MEMSLOTS reports KVM's memslots to any process with the VM's
 * descriptor, consistently while memslots change, with the metadata sizes that
 * follow from KVM's sources.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "metadata.h"
#include "process.h"
#include "tap.h"
#include "thread.h"
#include "vm.h"

#define SLOT_SIZE MIB(2)
#define STRIDE	  MIB(4)
#define BASE_GPA  GIB(1)
#define FIRST_ID  10U

/* Memslots in the longer lists. */
#define MANY 1000U

/* Space for all memslots of a test and for one more page of them. */
#define ROOM (2 * MANY + 16)

/* Ids from here on are KVM's own. query_test compares the number with KVM's. */
#define USER_MEMSLOTS (KVM_VMEM_MAX_BATCH / 2)

/* Lists that are read while memslots change. */
#define MIN_LISTS 400U

/**
 * struct list - memslots as reported, read in pages
 * @memslots: the memslots
 * @nr: number of @memslots
 * @pages: number of calls
 * @torn: the generation changed between two calls
 */
struct list {
	struct kvm_vmem_memslot memslots[ROOM];
	uint32_t nr;
	uint32_t pages;
	bool torn;
};

static int get_memslots(int dev, struct kvm_vmem_get_memslots *args)
{
	return ioctl(dev, KVM_VMEM_GET_MEMSLOTS, args) ? -errno : 0;
}

/* Read the user memslots of an address space, @page in each call. */
static void list_slots(int dev, int vm_fd, unsigned int as, uint32_t page,
		       struct list *list)
{
	struct kvm_vmem_get_memslots args = {
		.size = sizeof(args),
		.vm_fd = vm_fd,
		.address_space = as,
		.memslot_size = sizeof(struct kvm_vmem_memslot),
	};
	uint64_t generation = 0;
	uint32_t i, n;

	list->nr = list->pages = 0;
	list->torn = false;
	do {
		struct kvm_vmem_memslot *to = &list->memslots[list->nr];

		ASSERT_LE(list->nr + page, ROOM);
		args.nr = page;
		args.memslots = (uintptr_t)to;
		ASSERT_OK(get_memslots(dev, &args));
		ASSERT_LE(args.nr, page);
		if (list->pages++ && args.generation != generation)
			list->torn = true;
		generation = args.generation;
		for (i = n = 0; i < args.nr; i++)
			if ((uint16_t)to[i].slot < USER_MEMSLOTS)
				to[n++] = to[i];
		list->nr += n;
	} while (args.nr == page);
}

static void expect_memslot(const struct kvm_vmem_memslot *is, uint32_t slot,
			   uint32_t flags, uint64_t gpa, uint64_t size)
{
	const struct vmem_nl_metadata want = metadata_cost(
		gpa, size, flags & KVM_MEM_LOG_DIRTY_PAGES, false);

	EXPECT_EQ(is->slot, slot);
	EXPECT_EQ(is->flags, flags);
	EXPECT_EQ(is->guest_phys_addr, gpa);
	EXPECT_EQ(is->memory_size, size);
	EXPECT_EQ(is->memslot, want.memslot);
	EXPECT_EQ(is->rmap, want.rmap);
	EXPECT_EQ(is->lpage_info, want.lpage_info);
	EXPECT_EQ(is->gfn_track, want.gfn_track);
	EXPECT_EQ(is->dirty_bitmap, want.dirty_bitmap);
}

/* Memory for memslots. It is freed at the end of the case. */
static void *some_memory(uint64_t size)
{
	struct backing mem;

	backing_create(&mem, size);
	return mem.hva;
}

/* A VM with memslots 1 and 2, STRIDE apart. */
static void two_memslots(struct vm *vm)
{
	void *mem = some_memory(SLOT_SIZE);

	vm_create(vm, VM_BARE);
	ASSERT_OK(vm_set_region(vm, 1, 0, BASE_GPA, SLOT_SIZE, mem));
	ASSERT_OK(vm_set_region(vm, 2, 0, BASE_GPA + STRIDE, SLOT_SIZE, mem));
}

static void tells_what_there_is(const void *arg)
{
	static struct list list;
	const uint64_t large = GIB(3) + MIB(2);
	struct vm vm;
	void *mem;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	mem = some_memory(large);
	list_slots(dev, vm.fd, AS_NORMAL, 8, &list);
	EXPECT_EQ(list.nr, 0);

	/* The order of ids differs from the order of addresses. */
	ASSERT_OK(
		vm_set_region(&vm, SLOT(AS_NORMAL, 7), 0, GIB(8), large, mem));
	ASSERT_OK(vm_set_region(&vm, SLOT(AS_NORMAL, 9),
				KVM_MEM_LOG_DIRTY_PAGES, GIB(4) - GUEST_PAGE,
				MIB(2), mem));
	ASSERT_OK(vm_set_region(&vm, SLOT(AS_NORMAL, 8), KVM_MEM_READONLY, 0,
				GUEST_PAGE, mem));
	ASSERT_OK(vm_set_region(&vm, SLOT(AS_SMM, 7), 0, GIB(16), SLOT_SIZE,
				mem));
	list_slots(dev, vm.fd, AS_NORMAL, 8, &list);
	ASSERT_EQ(list.nr, 3);
	expect_memslot(&list.memslots[0], SLOT(AS_NORMAL, 8), KVM_MEM_READONLY,
		       0, GUEST_PAGE);
	expect_memslot(&list.memslots[1], SLOT(AS_NORMAL, 9),
		       KVM_MEM_LOG_DIRTY_PAGES, GIB(4) - GUEST_PAGE, MIB(2));
	expect_memslot(&list.memslots[2], SLOT(AS_NORMAL, 7), 0, GIB(8), large);
	list_slots(dev, vm.fd, AS_SMM, 8, &list);
	ASSERT_EQ(list.nr, 1);
	expect_memslot(&list.memslots[0], SLOT(AS_SMM, 7), 0, GIB(16),
		       SLOT_SIZE);

	ASSERT_OK(vm_delete_slot(&vm, SLOT(AS_NORMAL, 9)));
	list_slots(dev, vm.fd, AS_NORMAL, 8, &list);
	ASSERT_EQ(list.nr, 2);
	EXPECT_EQ(list.memslots[0].slot, 8);
	EXPECT_EQ(list.memslots[1].slot, 7);
}

/*
 * Create every other one of @nr memslots, beginning with the first or the
 * second.
 */
static void add_many(struct batch *b, unsigned int as, uint32_t nr, bool odd,
		     const void *mem)
{
	for (uint32_t i = odd; i < nr; i += 2)
		batch_set(b, SLOT(as, FIRST_ID + i), 0, BASE_GPA + i * STRIDE,
			  SLOT_SIZE, mem);
}

static void pages_make_a_whole(const void *arg)
{
	static const uint32_t pages[] = {1, 7, 250, MANY, MANY + 8};
	static struct list list;
	struct batch batch;
	struct vm vm;
	uint32_t i, p;
	void *mem;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	mem = some_memory(SLOT_SIZE);
	batch_init(&batch);
	add_many(&batch, AS_SMM, MANY, true, mem);
	add_many(&batch, AS_SMM, MANY, false, mem);
	ASSERT_OK(batch_apply(dev, &vm, &batch));
	for (p = 0; p < ARRAY_SIZE(pages); p++) {
		list_slots(dev, vm.fd, AS_SMM, pages[p], &list);
		tap_context("pages of %u", pages[p]);
		EXPECT_EQ(list.pages, MANY / pages[p] + 1);
		EXPECT_TRUE(!list.torn);
		ASSERT_EQ(list.nr, MANY);
		for (i = 0; i < MANY; i++)
			expect_memslot(&list.memslots[i],
				       SLOT(AS_SMM, FIRST_ID + i), 0,
				       BASE_GPA + i * STRIDE, SLOT_SIZE);
	}
}

static void begins_where_it_is_told(const void *arg)
{
	struct kvm_vmem_memslot memslot;
	struct kvm_vmem_get_memslots args = {
		.size = sizeof(args),
		.nr = 1,
		.memslot_size = sizeof(memslot),
		.memslots = (uintptr_t)&memslot,
	};
	/* Start address, and the memslot found there or above: -1 for none. */
	static const struct {
		uint64_t from;
		int slot;
	} wants[] = {
		{0, 1},
		{BASE_GPA, 1},
		{BASE_GPA + SLOT_SIZE - 1, 1},
		{BASE_GPA + SLOT_SIZE, 2},
		{BASE_GPA + STRIDE, 2},
		{BASE_GPA + STRIDE + SLOT_SIZE, -1},
		{~0ULL, -1},
	};
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	two_memslots(&vm);
	args.vm_fd = vm.fd;
	for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
		tap_context("from %#llx", (unsigned long long)wants[i].from);
		args.nr = 1;
		args.next_gpa = wants[i].from;
		memset(&memslot, 0xff, sizeof(memslot));
		EXPECT_OK(get_memslots(dev, &args));
		EXPECT_EQ(args.nr, wants[i].slot >= 0);
		EXPECT_EQ((int32_t)memslot.slot, wants[i].slot);
		EXPECT_EQ(args.next_gpa,
			  wants[i].slot < 0
				  ? wants[i].from
				  : memslot.guest_phys_addr + SLOT_SIZE);
	}
}

/* A VMM that creates a VM, sends its descriptor, and ends on request. */
static void __attribute__((noreturn)) vmm_main(int socket)
{
	struct vm vm;

	vm_create(&vm, VM_BARE);
	ASSERT_OK(vm_set_region(&vm, 3, 0, BASE_GPA, SLOT_SIZE,
				some_memory(SLOT_SIZE)));
	send_fd(socket, vm.fd);
	receive_byte(socket);
	_exit(0);
}

static void tells_of_others_vms(const void *arg)
{
	static struct list list;
	struct batch batch;
	int pair[2], dev, fd;
	pid_t pid;

	(void)arg;
	dev = kvm_vmem_open();
	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		vmm_main(pair[1]);
	fd = receive_fd(pair[0]);
	list_slots(dev, fd, AS_NORMAL, 8, &list);
	ASSERT_EQ(list.nr, 1);
	expect_memslot(&list.memslots[0], 3, 0, BASE_GPA, SLOT_SIZE);

	/* Changes are refused. */
	batch_init(&batch);
	batch_delete(&batch, 3);
	EXPECT_ERR(batch_call(dev, fd, &batch, 0), EIO);

	/* The VM exists as long as its descriptor, with or without the VMM. */
	send_byte(pair[0]);
	expect_exit(pid);
	list_slots(dev, fd, AS_NORMAL, 8, &list);
	ASSERT_EQ(list.nr, 1);
	expect_memslot(&list.memslots[0], 3, 0, BASE_GPA, SLOT_SIZE);
}

static void refusals(const void *arg)
{
	struct kvm_vmem_memslot memslots[2];
	const struct kvm_vmem_get_memslots good = {
		.size = sizeof(good),
		.nr = 2,
		.memslot_size = sizeof(memslots[0]),
		.memslots = (uintptr_t)memslots,
	};
	struct kvm_vmem_get_memslots args;
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, 0);

#define EXPECT_REFUSED(error, ...)                           \
	do {                                                 \
		args = good;                                 \
		args.vm_fd = vm.fd;                          \
		__VA_ARGS__;                                 \
		EXPECT_ERR(get_memslots(dev, &args), error); \
	} while (0)

	EXPECT_REFUSED(0, (void)0);
	EXPECT_REFUSED(EBADF, args.vm_fd = -1);
	EXPECT_REFUSED(EINVAL, args.vm_fd = vm.kvm_fd);
	EXPECT_REFUSED(EINVAL, args.vm_fd = dev);
	EXPECT_REFUSED(EINVAL, args.size = sizeof(args) - 1);
	EXPECT_REFUSED(EINVAL, args.flags = 1);
	EXPECT_REFUSED(EINVAL, args.address_space = AS_SMM + 1);
	EXPECT_REFUSED(EINVAL, args.address_space = ~0U);
	EXPECT_REFUSED(EINVAL, args.nr = 0);
	EXPECT_REFUSED(EMSGSIZE, args.nr = KVM_VMEM_MAX_LIST + 1);
	EXPECT_REFUSED(EMSGSIZE, args.nr = ~0U);
	EXPECT_REFUSED(EINVAL, args.memslot_size = 0);
	EXPECT_REFUSED(EINVAL, args.memslot_size -= 8);
	EXPECT_REFUSED(EINVAL, args.memslot_size += 4);
	EXPECT_REFUSED(EINVAL, args.memslot_size = ~7U);
	EXPECT_REFUSED(EFAULT, args.memslots = 0);
	EXPECT_REFUSED(EFAULT, args.memslots = ~7ULL);
	/* An unmapped buffer is no error if nothing is to be written. */
	EXPECT_REFUSED(0, args.memslots = 0; args.next_gpa = ~0ULL);
	EXPECT_REFUSED(0, args.nr = KVM_VMEM_MAX_LIST);
#undef EXPECT_REFUSED
}

static void larger_memslots_end_in_zeroes(const void *arg)
{
	struct {
		struct kvm_vmem_memslot known;
		uint64_t unknown[3];
	} memslots[3];
	struct kvm_vmem_get_memslots args = {
		.size = sizeof(args),
		.nr = ARRAY_SIZE(memslots),
		.memslot_size = sizeof(memslots[0]),
		.memslots = (uintptr_t)memslots,
	};
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	two_memslots(&vm);
	memset(memslots, 0xff, sizeof(memslots));
	args.vm_fd = vm.fd;
	ASSERT_OK(get_memslots(dev, &args));
	ASSERT_EQ(args.nr, 2);
	for (uint32_t i = 0; i < 2; i++) {
		expect_memslot(&memslots[i].known, 1 + i, 0,
			       BASE_GPA + i * STRIDE, SLOT_SIZE);
		for (size_t j = 0; j < ARRAY_SIZE(memslots[i].unknown); j++)
			EXPECT_EQ(memslots[i].unknown[j], 0);
	}
	EXPECT_EQ(memslots[2].known.slot, ~0U);
	EXPECT_EQ(memslots[2].unknown[0], ~0ULL);
}

/**
 * struct exchange - a thread that repeatedly replaces one half of the memslots
 * by the other
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @mem: backing of all memslots
 * @done: number of exchanges
 * @stop: ask the thread to end
 */
struct exchange {
	int dev;
	struct vm vm;
	void *mem;
	uint64_t done;
	bool stop;
};

/* Memslots of the exchange, both halves. */
#define EXCHANGED 64U

static void *exchange_run(void *arg)
{
	struct exchange *e = arg;
	struct batch batch;

	batch_init(&batch);
	for (bool odd = true; !flag_is_set(&e->stop); odd = !odd) {
		batch_reset(&batch);
		for (uint32_t i = !odd; i < EXCHANGED; i += 2)
			batch_delete(&batch, FIRST_ID + i);
		add_many(&batch, AS_NORMAL, EXCHANGED, odd, e->mem);
		ASSERT_OK(batch_apply(e->dev, &e->vm, &batch));
		counter_add(&e->done);
	}
	batch_free(&batch);
	return NULL;
}

/*
 * While a batch replaces one half of the memslots by the other, a list contains
 * only memslots of one half, never of both, unless the generations of its pages
 * differ.
 */
static void whole_while_memslots_change(const void *arg)
{
	static struct list list;
	uint64_t lists = 0, torn = 0;
	unsigned int seen[2] = {0};
	struct exchange e = {0};
	struct batch batch;
	pthread_t thread;

	(void)arg;
	e.dev = kvm_vmem_open();
	vm_create(&e.vm, VM_BARE);
	e.mem = some_memory(SLOT_SIZE);
	batch_init(&batch);
	add_many(&batch, AS_NORMAL, EXCHANGED, false, e.mem);
	ASSERT_OK(batch_apply(e.dev, &e.vm, &batch));
	thread_start(&thread, exchange_run, &e);
	while (lists < MIN_LISTS || !seen[0] || !seen[1] || !torn) {
		list_slots(e.dev, e.vm.fd, AS_NORMAL, 1 + lists % 40, &list);
		lists++;
		if (list.torn) {
			torn++;
			continue;
		}
		ASSERT_EQ(list.nr, EXCHANGED / 2);
		const uint32_t odd = (list.memslots[0].slot - FIRST_ID) % 2;

		seen[odd]++;
		for (uint32_t i = 0; i < list.nr; i++)
			expect_memslot(
				&list.memslots[i], FIRST_ID + 2 * i + odd, 0,
				BASE_GPA + (2 * i + odd) * STRIDE, SLOT_SIZE);
	}
	flag_set(&e.stop);
	pthread_join(thread, NULL);
	tap_note("%llu lists, %llu torn, beside %llu batches",
		 (unsigned long long)lists, (unsigned long long)torn,
		 (unsigned long long)e.done);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "memslots of both address spaces, by address",
		 .run = tells_what_there_is},
		{.name = "pages of any size make the whole list",
		 .run = pages_make_a_whole},
		{.name = "a list begins at the given address",
		 .run = begins_where_it_is_told},
		{.name = "memslots of another process' VM, also after that process has ended",
		 .run = tells_of_others_vms},
		{.name = "arguments out of range are refused", .run = refusals},
		{.name = "memslots of a newer program end in zeroes",
		 .run = larger_memslots_end_in_zeroes},
		{.name = "a list is whole while batches exchange memslots",
		 .run = whole_while_memslots_change},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
