// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a memslot batch refuses: the errno, the index of the bad entry, and that
 * the batch then has no effect. KVM is the reference for single entries: each
 * is also passed to KVM_SET_USER_MEMORY_REGION on a VM of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_vmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define SLOT_SIZE (4 * GUEST_PAGE)
#define MEM_SIZE  MIB(2)

/* The memslots that exist before each entry, and one unused id. */
#define PLAIN_ID  1U
#define PLAIN_GPA MIB(16)
#define RO_ID	  2U
#define RO_GPA	  MIB(17)
#define LOG_ID	  3U
#define LOG_GPA	  MIB(18)
#define FREE_ID	  10U
#define FREE_GPA  MIB(24)

/* Two valid entries that precede the tested entry. */
#define GOOD_ID	 20U
#define GOOD_GPA MIB(32)
#define NR_GOOD	 2U

/* KVM's user memslots per address space on x86, checked below. */
#define NR_IDS 32764U

/* KVM_MEM_MAX_NR_PAGES: maximum number of pages of a memslot. */
#define MAX_PAGES ((1ULL << 31) - 1)

/* Newer than the oldest kernel headers that this builds with. */
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif

/**
 * struct bench - fixture of most cases
 * @dev: /dev/kvm-vmem
 * @vm: a VM with PLAIN_ID, RO_ID and LOG_ID in it
 * @vcpu: its vCPU
 * @mem: backing: SLOT_SIZE for each id, in order
 * @batch: an empty batch
 */
struct bench {
	int dev;
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	struct batch batch;
};

static uint8_t *hva_of(const struct bench *t, unsigned int id)
{
	return t->mem.hva + id * SLOT_SIZE;
}

static void bench_init(struct bench *t)
{
	t->dev = kvm_vmem_open();
	vm_create(&t->vm, VM_SMM);
	vcpu_create(&t->vcpu, &t->vm);
	backing_create(&t->mem, MEM_SIZE);
	batch_init(&t->batch);
	ASSERT_OK(vm_set_region(&t->vm, PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE,
				hva_of(t, PLAIN_ID)));
	ASSERT_OK(vm_set_region(&t->vm, RO_ID, KVM_MEM_READONLY, RO_GPA,
				SLOT_SIZE, hva_of(t, RO_ID)));
	ASSERT_OK(vm_set_region(&t->vm, LOG_ID, KVM_MEM_LOG_DIRTY_PAGES,
				LOG_GPA, SLOT_SIZE, hva_of(t, LOG_ID)));
}

static void add_good(struct bench *t, unsigned int n)
{
	batch_set(&t->batch, GOOD_ID + n, 0, GOOD_GPA + n * 2 * SLOT_SIZE,
		  SLOT_SIZE, hva_of(t, GOOD_ID + n));
}

/* The VM is as bench_init() left it. */
static void expect_untouched(struct bench *t)
{
	uint64_t value, bits;
	unsigned int i;

	EXPECT_GUEST_MEMORY(&t->vcpu, PLAIN_GPA, hva_of(t, PLAIN_ID));
	EXPECT_GUEST_MMIO(&t->vcpu, PLAIN_GPA + SLOT_SIZE);
	EXPECT_ERR(vm_dirty_log(&t->vm, PLAIN_ID, &bits), ENOENT);
	EXPECT_EQ(guest_read(&t->vcpu, RO_GPA, &value), GUEST_MEMORY);
	EXPECT_EQ(guest_write(&t->vcpu, RO_GPA, 0), GUEST_MMIO);
	EXPECT_GUEST_MEMORY(&t->vcpu, LOG_GPA, hva_of(t, LOG_ID));
	EXPECT_OK(vm_dirty_log(&t->vm, LOG_ID, &bits));
	EXPECT_TRUE(!vm_slot_exists(&t->vm, FREE_ID));
	EXPECT_GUEST_MMIO(&t->vcpu, FREE_GPA);
	for (i = 0; i < NR_GOOD; i++) {
		EXPECT_TRUE(!vm_slot_exists(&t->vm, GOOD_ID + i));
		EXPECT_GUEST_MMIO(&t->vcpu, GOOD_GPA + i * 2 * SLOT_SIZE);
	}
}

/**
 * struct entry - one entry and the results that it must have
 * @name: describes the entry
 * @slot: see struct kvm_userspace_memory_region
 * @flags: see struct kvm_userspace_memory_region
 * @gpa: guest_phys_addr
 * @size: memory_size
 * @mem_id: userspace_addr is @hva plus the address of this id's backing, or
 * @hva alone if this is ABSOLUTE
 * @hva: see @mem_id
 * @stock: errno of KVM_SET_USER_MEMORY_REGION
 * @batch: errno of a batch with this entry
 */
struct entry {
	const char *name;
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	unsigned int mem_id;
	uint64_t hva;
	int stock;
	int batch;
};

#define ABSOLUTE 0xffffU

/* An address in the kernel's half, and one that no paging mode has. */
#define KERNEL_HVA	  0xffff888000000000ULL
#define NON_CANONICAL_HVA (1ULL << 63)
/* An address with space for the largest memslot. It need not be mapped. */
#define ROOMY_HVA TIB(1)

static const struct entry entries[] = {
	/* Accepted by both. */
	{"create", FREE_ID, 0, FREE_GPA, SLOT_SIZE, FREE_ID, 0, 0, 0},
	{"create with the highest id", NR_IDS - 1, 0, FREE_GPA, SLOT_SIZE,
	 FREE_ID, 0, 0, 0},
	{"create with the highest SMM id", SLOT(AS_SMM, NR_IDS - 1), 0,
	 FREE_GPA, SLOT_SIZE, FREE_ID, 0, 0, 0},
	{"create where the other address space has memory",
	 SLOT(AS_SMM, FREE_ID), 0, PLAIN_GPA, SLOT_SIZE, FREE_ID, 0, 0, 0},
	{"create of one page", FREE_ID, 0, FREE_GPA, GUEST_PAGE, FREE_ID, 0, 0,
	 0},
	{"create right before a memslot", FREE_ID, 0, PLAIN_GPA - SLOT_SIZE,
	 SLOT_SIZE, FREE_ID, 0, 0, 0},
	{"create right behind a memslot", FREE_ID, 0, PLAIN_GPA + SLOT_SIZE,
	 SLOT_SIZE, FREE_ID, 0, 0, 0},
	{"create with backing that another memslot has", FREE_ID, 0, FREE_GPA,
	 SLOT_SIZE, PLAIN_ID, 0, 0, 0},
	{"create read-only with logging", FREE_ID,
	 KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, FREE_GPA, SLOT_SIZE,
	 FREE_ID, 0, 0, 0},
	{"same again", PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE, PLAIN_ID, 0, 0, 0},
	{"logging on", PLAIN_ID, KVM_MEM_LOG_DIRTY_PAGES, PLAIN_GPA, SLOT_SIZE,
	 PLAIN_ID, 0, 0, 0},
	{"logging off", LOG_ID, 0, LOG_GPA, SLOT_SIZE, LOG_ID, 0, 0, 0},
	{"logging on for a read-only memslot", RO_ID,
	 KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, RO_GPA, SLOT_SIZE, RO_ID,
	 0, 0, 0},
	{"delete", PLAIN_ID, 0, 0, 0, ABSOLUTE, 0, 0, 0},
	{"delete with a good flag", PLAIN_ID, KVM_MEM_READONLY, 0, 0, ABSOLUTE,
	 0, 0, 0},

	/* Refused by both. */
	{"gpa not of a page", FREE_ID, 0, FREE_GPA + 1, SLOT_SIZE, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"size not of pages", FREE_ID, 0, FREE_GPA, SLOT_SIZE - 1, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"size below a page", FREE_ID, 0, FREE_GPA, 1, FREE_ID, 0, EINVAL,
	 EINVAL},
	{"hva not of a page", FREE_ID, 0, FREE_GPA, SLOT_SIZE, FREE_ID, 0x800,
	 EINVAL, EINVAL},
	{"hva of the kernel", FREE_ID, 0, FREE_GPA, SLOT_SIZE, ABSOLUTE,
	 KERNEL_HVA, EINVAL, EINVAL},
	{"hva that is not canonical", FREE_ID, 0, FREE_GPA, SLOT_SIZE, ABSOLUTE,
	 NON_CANONICAL_HVA, EINVAL, EINVAL},
	{"hva that ends beyond userspace", FREE_ID, 0, FREE_GPA, SLOT_SIZE,
	 ABSOLUTE, NON_CANONICAL_HVA - 2 * GUEST_PAGE, EINVAL, EINVAL},
	{"gpa that wraps", FREE_ID, 0, -SLOT_SIZE + GUEST_PAGE, SLOT_SIZE,
	 FREE_ID, 0, EINVAL, EINVAL},
	{"gpa beyond any CPU's reach", FREE_ID, 0, 1ULL << 52, SLOT_SIZE,
	 FREE_ID, 0, EINVAL, EINVAL},
	{"end beyond any CPU's reach", FREE_ID, 0, (1ULL << 52) - GUEST_PAGE,
	 SLOT_SIZE, FREE_ID, 0, EINVAL, EINVAL},
	{"a page more than a memslot may have", FREE_ID, 0, TIB(1),
	 (MAX_PAGES + 1) * GUEST_PAGE, ABSOLUTE, ROOMY_HVA, EINVAL, EINVAL},
	{"size of half the 64-bit space", FREE_ID, 0, 0, 1ULL << 63, ABSOLUTE,
	 0, EINVAL, EINVAL},
	{"id beyond the last", NR_IDS, 0, FREE_GPA, SLOT_SIZE, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"id of KVM's own memslots", 0xffff, 0, FREE_GPA, SLOT_SIZE, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"no such address space", SLOT(2, FREE_ID), 0, FREE_GPA, SLOT_SIZE,
	 FREE_ID, 0, EINVAL, EINVAL},
	{"the last address space number", SLOT(0xffff, FREE_ID), 0, FREE_GPA,
	 SLOT_SIZE, FREE_ID, 0, EINVAL, EINVAL},
	{"unknown flag", FREE_ID, 1U << 3, FREE_GPA, SLOT_SIZE, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"KVM's internal flag", FREE_ID, 1U << 16, FREE_GPA, SLOT_SIZE, FREE_ID,
	 0, EINVAL, EINVAL},
	{"the last flag", FREE_ID, 1U << 31, FREE_GPA, SLOT_SIZE, FREE_ID, 0,
	 EINVAL, EINVAL},
	{"delete of an id that is not used", FREE_ID, 0, 0, 0, ABSOLUTE, 0,
	 EINVAL, EINVAL},
	{"delete of an id that only the other address space uses",
	 SLOT(AS_SMM, PLAIN_ID), 0, 0, 0, ABSOLUTE, 0, EINVAL, EINVAL},
	{"delete with an unknown flag", PLAIN_ID, 1U << 3, 0, 0, ABSOLUTE, 0,
	 EINVAL, EINVAL},
	{"delete with a gpa not of a page", PLAIN_ID, 0, 1, 0, ABSOLUTE, 0,
	 EINVAL, EINVAL},
	{"delete with an hva not of a page", PLAIN_ID, 0, 0, 0, ABSOLUTE, 1,
	 EINVAL, EINVAL},
	{"READONLY on", PLAIN_ID, KVM_MEM_READONLY, PLAIN_GPA, SLOT_SIZE,
	 PLAIN_ID, 0, EINVAL, EINVAL},
	{"READONLY off", RO_ID, 0, RO_GPA, SLOT_SIZE, RO_ID, 0, EINVAL, EINVAL},
	{"other hva for a used id", PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE, FREE_ID,
	 0, EINVAL, EINVAL},
	{"other size for a used id", PLAIN_ID, 0, PLAIN_GPA, 2 * SLOT_SIZE,
	 PLAIN_ID, 0, EINVAL, EINVAL},
	{"overlap: the same range", FREE_ID, 0, PLAIN_GPA, SLOT_SIZE, FREE_ID,
	 0, EEXIST, EEXIST},
	{"overlap: the first page", FREE_ID, 0,
	 PLAIN_GPA - SLOT_SIZE + GUEST_PAGE, SLOT_SIZE, FREE_ID, 0, EEXIST,
	 EEXIST},
	{"overlap: the last page", FREE_ID, 0,
	 PLAIN_GPA + SLOT_SIZE - GUEST_PAGE, SLOT_SIZE, FREE_ID, 0, EEXIST,
	 EEXIST},
	{"overlap: inside", FREE_ID, 0, PLAIN_GPA + GUEST_PAGE, GUEST_PAGE,
	 FREE_ID, 0, EEXIST, EEXIST},
	{"overlap: around", FREE_ID, 0, PLAIN_GPA - SLOT_SIZE, 3 * SLOT_SIZE,
	 FREE_ID, 0, EEXIST, EEXIST},
	{"overlap in the SMM address space", SLOT(AS_SMM, FREE_ID), 0, 0,
	 SLOT_SIZE, FREE_ID, 0, EEXIST, EEXIST},

	/* Not supported by a batch, or refused with a more specific errno. */
	{"MOVE", PLAIN_ID, 0, FREE_GPA, SLOT_SIZE, PLAIN_ID, 0, 0, EINVAL},
	{"MOVE by a page, over itself", PLAIN_ID, 0, PLAIN_GPA + GUEST_PAGE,
	 SLOT_SIZE, PLAIN_ID, 0, 0, EINVAL},
	{"MOVE with logging on", PLAIN_ID, KVM_MEM_LOG_DIRTY_PAGES, FREE_GPA,
	 SLOT_SIZE, PLAIN_ID, 0, 0, EINVAL},
	{"MOVE onto another memslot", PLAIN_ID, 0, RO_GPA, SLOT_SIZE, PLAIN_ID,
	 0, EEXIST, EINVAL},
	{"guest_memfd", FREE_ID, KVM_MEM_GUEST_MEMFD, FREE_GPA, SLOT_SIZE,
	 FREE_ID, 0, EINVAL, EOPNOTSUPP},
};

static void judge_as_kvm_does(const void *arg)
{
	const struct entry *e = arg;
	struct bench stock, t;
	uint64_t hva[2];

	bench_init(&stock);
	bench_init(&t);
	ASSERT_EQ(vm_check_extension(&t.vm, KVM_CAP_NR_MEMSLOTS), NR_IDS);
	hva[0] = hva[1] = e->hva;
	if (e->mem_id != ABSOLUTE) {
		hva[0] += (uintptr_t)hva_of(&stock, e->mem_id);
		hva[1] += (uintptr_t)hva_of(&t, e->mem_id);
	}
	EXPECT_ERR(vm_set_region(&stock.vm, e->slot, e->flags, e->gpa, e->size,
				 (void *)hva[0]),
		   e->stock);

	add_good(&t, 0);
	add_good(&t, 1);
	batch_set(&t.batch, e->slot, e->flags, e->gpa, e->size, (void *)hva[1]);
	EXPECT_ERR(batch_call(t.dev, t.vm.fd, &t.batch,
			      KVM_VMEM_BATCH_VALIDATE_ONLY),
		   e->batch);
	if (e->batch)
		EXPECT_EQ(t.batch.bad_index, NR_GOOD);
	expect_untouched(&t);

	EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), e->batch);
	if (e->batch) {
		EXPECT_EQ(t.batch.bad_index, NR_GOOD);
		expect_untouched(&t);
	} else {
		EXPECT_TRUE(vm_slot_exists(&t.vm, GOOD_ID));
	}
}

/*
 * Sum of both address spaces' generations. A refused batch does not raise it.
 */
static uint64_t generations(const struct bench *t)
{
	uint64_t sum = 0;

	for (uint32_t as = AS_NORMAL; as <= AS_SMM; as++) {
		struct kvm_vmem_memslot memslot;
		struct kvm_vmem_get_memslots args = {
			.size = sizeof(args),
			.vm_fd = t->vm.fd,
			.address_space = as,
			.nr = 1,
			.memslot_size = sizeof(memslot),
			.memslots = (uintptr_t)&memslot,
		};

		ASSERT_EQ(ioctl(t->dev, KVM_VMEM_GET_MEMSLOTS, &args), 0);
		sum += args.generation;
	}
	return sum;
}

static void expect_refused(struct bench *t, int err, uint32_t bad_index)
{
	const uint64_t before = generations(t);

	EXPECT_ERR(batch_call(t->dev, t->vm.fd, &t->batch,
			      KVM_VMEM_BATCH_VALIDATE_ONLY),
		   err);
	EXPECT_EQ(t->batch.bad_index, bad_index);
	EXPECT_ERR(batch_apply(t->dev, &t->vm, &t->batch), err);
	EXPECT_EQ(t->batch.bad_index, bad_index);
	EXPECT_EQ(generations(t), before);
	expect_untouched(t);
	batch_reset(&t->batch);
}

static void duplicate_ids(const void *arg)
{
	struct bench t;

	(void)arg;
	bench_init(&t);
	tap_context("create and create");
	add_good(&t, 0);
	add_good(&t, 1);
	batch_set(&t.batch, GOOD_ID, 0, FREE_GPA, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EINVAL, 2);

	tap_context("delete and delete");
	batch_delete(&t.batch, PLAIN_ID);
	add_good(&t, 0);
	batch_delete(&t.batch, PLAIN_ID);
	expect_refused(&t, EINVAL, 2);

	tap_context("delete and create of the same id");
	batch_delete(&t.batch, PLAIN_ID);
	batch_set(&t.batch, PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EINVAL, 1);

	tap_context("nothing to change, twice");
	batch_set(&t.batch, PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE,
		  hva_of(&t, PLAIN_ID));
	batch_set(&t.batch, PLAIN_ID, 0, PLAIN_GPA, SLOT_SIZE,
		  hva_of(&t, PLAIN_ID));
	expect_refused(&t, EINVAL, 1);

	/*
	 * An id of the other address space with the same number is another id.
	 */
	tap_context("%s", "");
	add_good(&t, 0);
	batch_set(&t.batch, SLOT(AS_SMM, GOOD_ID), 0, GOOD_GPA, SLOT_SIZE,
		  hva_of(&t, GOOD_ID));
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
}

static void overlap_inside_batch(const void *arg)
{
	struct bench t;

	(void)arg;
	bench_init(&t);
	tap_context("the same range");
	add_good(&t, 0);
	batch_set(&t.batch, FREE_ID, 0, GOOD_GPA, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EEXIST, 1);

	tap_context("by one page");
	batch_set(&t.batch, FREE_ID, 0, GOOD_GPA + SLOT_SIZE - GUEST_PAGE,
		  SLOT_SIZE, hva_of(&t, FREE_ID));
	add_good(&t, 1);
	add_good(&t, 0);
	expect_refused(&t, EEXIST, 2);

	tap_context("over what is deleted, and over what is not");
	batch_delete(&t.batch, PLAIN_ID);
	batch_set(&t.batch, FREE_ID, 0, PLAIN_GPA, RO_GPA - PLAIN_GPA + 0x1000,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EEXIST, 1);

	tap_context("over what only the other address space deletes");
	batch_delete(&t.batch, PLAIN_ID);
	batch_set(&t.batch, SLOT(AS_SMM, FREE_ID), 0, 0, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EEXIST, 1);

	/* Without the overlap the same entries are valid. */
	tap_context("%s", "");
	batch_set(&t.batch, FREE_ID, 0, GOOD_GPA + SLOT_SIZE, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	add_good(&t, 0);
	add_good(&t, 1);
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
}

static void blames_first(const void *arg)
{
	struct bench t;
	unsigned int i;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	for (i = 0; i < 3; i++) {
		batch_delete(&t.batch, FREE_ID + i);
		if (!i)
			add_good(&t, 1);
	}
	expect_refused(&t, EINVAL, 1);

	batch_set(&t.batch, FREE_ID, 0, PLAIN_GPA, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	batch_set(&t.batch, FREE_ID + 1, 0, RO_GPA, SLOT_SIZE,
		  hva_of(&t, FREE_ID));
	expect_refused(&t, EEXIST, 0);
}

static void too_many(const void *arg)
{
	struct bench t;
	unsigned int i;

	(void)arg;
	bench_init(&t);
	/*
	 * All have the same id, so a limit that is not checked first is
	 * noticed.
	 */
	for (i = 0; i < KVM_VMEM_MAX_BATCH + 1; i++)
		batch_set(&t.batch, PLAIN_ID, KVM_MEM_LOG_DIRTY_PAGES,
			  PLAIN_GPA, SLOT_SIZE, hva_of(&t, PLAIN_ID));
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), EMSGSIZE);
	EXPECT_EQ(t.batch.bad_index, KVM_VMEM_NO_INDEX);
	t.batch.nr = UINT32_MAX;
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), EMSGSIZE);
	EXPECT_EQ(t.batch.bad_index, KVM_VMEM_NO_INDEX);
	t.batch.nr = KVM_VMEM_MAX_BATCH;
	expect_refused(&t, EINVAL, 1);
}

static void expect_bad_fd(struct bench *t, const char *what, int fd, int err)
{
	tap_context("%s", what);
	add_good(t, 0);
	EXPECT_ERR(batch_call(t->dev, fd, &t->batch, 0), err);
	EXPECT_EQ(t->batch.bad_index, KVM_VMEM_NO_INDEX);
	batch_reset(&t->batch);
	/* Even an empty batch is refused for a descriptor that is no VM. */
	EXPECT_ERR(batch_call(t->dev, fd, &t->batch, 0), err);
}

static void not_a_vm(const void *arg)
{
	struct bench t;
	int file, closed;

	(void)arg;
	bench_init(&t);
	file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(file, 0);
	closed = dup(file);
	ASSERT_GE(closed, 0);
	close(closed);

	expect_bad_fd(&t, "closed", closed, EBADF);
	expect_bad_fd(&t, "-1", -1, EBADF);
	expect_bad_fd(&t, "INT_MIN", INT32_MIN, EBADF);
	expect_bad_fd(&t, "a file", file, EINVAL);
	expect_bad_fd(&t, "/dev/kvm", t.vm.kvm_fd, EINVAL);
	expect_bad_fd(&t, "a vCPU", t.vcpu.fd, EINVAL);
	expect_bad_fd(&t, "/dev/kvm-vmem", t.dev, EINVAL);
	tap_context("%s", "");
	expect_untouched(&t);
}

static void other_process(const void *arg)
{
	struct bench t;
	int status;
	pid_t pid;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* KVM itself also fails with EIO. */
		EXPECT_ERR(vm_delete_slot(&t.vm, PLAIN_ID), EIO);
		EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), EIO);
		EXPECT_EQ(t.batch.bad_index, KVM_VMEM_NO_INDEX);
		EXPECT_ERR(batch_call(t.dev, t.vm.fd, &t.batch,
				      KVM_VMEM_BATCH_VALIDATE_ONLY),
			   EIO);
		batch_reset(&t.batch);
		EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), EIO);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	expect_untouched(&t);
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
}

static void entries_out_of_reach(const void *arg)
{
	const unsigned int per_page =
		GUEST_PAGE / sizeof(struct kvm_userspace_memory_region);
	struct batch bad = {.nr = 1};
	struct bench t;
	uint8_t *pages;
	unsigned int i;

	(void)arg;
	bench_init(&t);
	pages = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((void *)pages, MAP_FAILED);
	ASSERT_EQ(munmap(pages + GUEST_PAGE, GUEST_PAGE), 0);

	tap_context("NULL");
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &bad), EFAULT);
	EXPECT_EQ(bad.bad_index, KVM_VMEM_NO_INDEX);

	tap_context("not mapped");
	bad.entries = (void *)(pages + GUEST_PAGE);
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &bad), EFAULT);
	EXPECT_EQ(bad.bad_index, KVM_VMEM_NO_INDEX);

	tap_context("of the kernel");
	bad.entries = (void *)KERNEL_HVA;
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &bad), EFAULT);

	tap_context("wraps");
	bad.entries = (void *)-sizeof(uint64_t);
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &bad), EFAULT);

	tap_context("good ones, then no more pages");
	bad.entries = (void *)pages;
	for (i = 0; i < per_page; i++)
		bad.entries[i] = (struct kvm_userspace_memory_region){
			.slot = GOOD_ID + i,
			.guest_phys_addr = GOOD_GPA + i * 2 * SLOT_SIZE,
			.memory_size = SLOT_SIZE,
			.userspace_addr = (uintptr_t)hva_of(&t, GOOD_ID),
		};
	bad.nr = per_page + 1;
	EXPECT_ERR(batch_apply(t.dev, &t.vm, &bad), EFAULT);
	EXPECT_EQ(bad.bad_index, KVM_VMEM_NO_INDEX);
	expect_untouched(&t);

	tap_context("the argument itself");
	EXPECT_EQ(ioctl(t.dev, KVM_VMEM_MEMSLOT_BATCH, pages + GUEST_PAGE), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(ioctl(t.dev, KVM_VMEM_MEMSLOT_BATCH, NULL), -1);
	EXPECT_EQ(errno, EFAULT);
}

/* The argument of a newer program, with unknown fields at its end. */
struct larger_arg {
	struct kvm_vmem_memslot_batch arg;
	uint8_t tail[64];
};

static struct larger_arg arg_of(const struct bench *t)
{
	return (struct larger_arg){
		.arg = {
			.size = sizeof(struct kvm_vmem_memslot_batch),
			.vm_fd = t->vm.fd,
			.nr = t->batch.nr,
			.regions = (uintptr_t)t->batch.entries,
			.bad_index = BATCH_INDEX_UNTOUCHED,
			.entry_size = sizeof(*t->batch.entries),
		}};
}

static int call_arg(const struct bench *t, struct larger_arg *arg)
{
	return ioctl(t->dev, KVM_VMEM_MEMSLOT_BATCH, arg) ? -errno : 0;
}

static void argument_sizes(const void *arg)
{
	struct larger_arg a;
	struct bench t;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);

	tap_context("size 0");
	a = arg_of(&t);
	a.arg.size = 0;
	EXPECT_ERR(call_arg(&t, &a), EINVAL);

	tap_context("larger, with something in it");
	a = arg_of(&t);
	a.arg.size = sizeof(a);
	a.tail[sizeof(a.tail) - 1] = 1;
	EXPECT_ERR(call_arg(&t, &a), E2BIG);
	a.tail[sizeof(a.tail) - 1] = 0;
	a.tail[0] = 1;
	EXPECT_ERR(call_arg(&t, &a), E2BIG);
	expect_untouched(&t);

	tap_context("larger, zero");
	memset(a.tail, 0, sizeof(a.tail));
	EXPECT_OK(call_arg(&t, &a));
	EXPECT_GUEST_MEMORY(&t.vcpu, GOOD_GPA, hva_of(&t, GOOD_ID));

	/*
	 * The first version ends with entry_size. No argument may be smaller.
	 */
	tap_context("smaller");
	a = arg_of(&t);
	a.arg.size = offsetof(struct kvm_vmem_memslot_batch, entry_size);
	EXPECT_ERR(call_arg(&t, &a), EINVAL);

	/* Nothing is written beyond the end of the first version. */
	tap_context("the first version's");
	a = arg_of(&t);
	a.arg.size = offsetof(struct kvm_vmem_memslot_batch, zapped);
	a.arg.nr = 1;
	a.arg.zapped = BATCH_INDEX_UNTOUCHED;
	t.batch.entries[0].memory_size = 0;
	EXPECT_OK(call_arg(&t, &a));
	EXPECT_EQ(a.arg.zapped, BATCH_INDEX_UNTOUCHED);
	EXPECT_GUEST_MMIO(&t.vcpu, GOOD_GPA);

	tap_context("a reserved field");
	a = arg_of(&t);
	a.arg.nr = 0;
	a.arg.reserved = 1;
	EXPECT_ERR(call_arg(&t, &a), EINVAL);
}

static void unknown_flags(const void *arg)
{
	struct bench t;
	unsigned int bit;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	for (bit = 0; bit < 32; bit++) {
		if (1U << bit == KVM_VMEM_BATCH_VALIDATE_ONLY ||
		    1U << bit == KVM_VMEM_BATCH_ZAP_RANGES)
			continue;
		tap_context("flag %u", bit);
		EXPECT_ERR(batch_call(t.dev, t.vm.fd, &t.batch, 1U << bit),
			   EINVAL);
	}
	expect_untouched(&t);
}

/*
 * The following batches have entries like struct kvm_userspace_memory_region2.
 */
struct long_entry {
	struct kvm_userspace_memory_region region;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd;
	uint32_t pad1;
	uint64_t pad2[14];
};

static void long_entries(const struct bench *t, struct larger_arg *a,
			 struct long_entry *longs)
{
	*a = arg_of(t);
	a->arg.regions = (uintptr_t)longs;
	a->arg.entry_size = sizeof(*longs);
	for (uint32_t i = 0; i < t->batch.nr; i++)
		longs[i].region = t->batch.entries[i];
}

static void bad_entry_sizes(const void *arg)
{
	static const uint32_t sizes[] = {
		0, 8, 24, 31, 33, 36, GUEST_PAGE + 8, UINT32_MAX};
	struct larger_arg a;
	struct bench t;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		tap_context("%u bytes", sizes[i]);
		a = arg_of(&t);
		a.arg.entry_size = sizes[i];
		EXPECT_ERR(call_arg(&t, &a), EINVAL);
		EXPECT_EQ(a.arg.bad_index, KVM_VMEM_NO_INDEX);
	}
	expect_untouched(&t);
}

static void longer_entries(const void *arg)
{
	struct long_entry longs[NR_GOOD] = {0};
	uint8_t *byte = (uint8_t *)&longs[1];
	const size_t known =
		offsetof(struct long_entry, guest_memfd) + sizeof(uint32_t);
	struct larger_arg a;
	struct bench t;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	add_good(&t, 1);
	long_entries(&t, &a, longs);
	for (size_t at = known; at < sizeof(longs[1]); at++) {
		tap_context("byte %zu", at);
		byte[at] = 1;
		EXPECT_ERR(call_arg(&t, &a), E2BIG);
		EXPECT_EQ(a.arg.bad_index, 1);
		byte[at] = 0;
	}
	expect_untouched(&t);
	tap_context("all 0");
	EXPECT_OK(call_arg(&t, &a));
	EXPECT_GUEST_MEMORY(&t.vcpu, GOOD_GPA, hva_of(&t, GOOD_ID));
	EXPECT_GUEST_MEMORY(&t.vcpu, GOOD_GPA + 2 * SLOT_SIZE,
			    hva_of(&t, GOOD_ID + 1));
}

static void entries_with_memfd(const void *arg)
{
	struct long_entry longs[NR_GOOD] = {0};
	struct larger_arg a;
	struct bench t;

	(void)arg;
	bench_init(&t);
	add_good(&t, 0);
	add_good(&t, 1);
	long_entries(&t, &a, longs);
	longs[1].guest_memfd = UINT32_MAX;
	longs[1].guest_memfd_offset = GUEST_PAGE;
	longs[1].region.flags = KVM_MEM_GUEST_MEMFD;
	EXPECT_ERR(call_arg(&t, &a), EOPNOTSUPP);
	EXPECT_EQ(a.arg.bad_index, 1);
	expect_untouched(&t);
	longs[1].region.flags = 0;
	EXPECT_OK(call_arg(&t, &a));
	EXPECT_GUEST_MEMORY(&t.vcpu, GOOD_GPA + 2 * SLOT_SIZE,
			    hva_of(&t, GOOD_ID + 1));
}

static void unknown_ioctl(const void *arg)
{
	struct bench t;
	unsigned int nr;

	(void)arg;
	bench_init(&t);
	for (nr = _IOC_NR(KVM_VMEM_GET_MEMSLOTS) + 1; nr <= 0x7f; nr++) {
		EXPECT_EQ(ioctl(t.dev, _IO(KVM_VMEM_IOC, nr), 0), -1);
		EXPECT_EQ(errno, ENOTTY);
	}
	/* KVM's command numbers are not accepted. */
	EXPECT_EQ(ioctl(t.dev, KVM_CREATE_VM, 0), -1);
	EXPECT_EQ(errno, ENOTTY);
}

/*
 * All or nothing: a large batch of all kinds of changes with one bad entry. The
 * initial layout: even slots in both address spaces, every fourth with dirty
 * logging.
 */
#define NR_SLOTS    96U
#define ROLLBACK_ID 100U
#define SLOT_GPA(i) (GIB(1) + (i)*2 * SLOT_SIZE)

enum bad_kind {
	BAD_OVERLAP, /* detected when the layout is judged */
	BAD_REACH, /* refused by KVM's x86 code when it prepares it */
	BAD_MEMORY, /* metadata beyond this machine's memory */
};

struct rollback {
	const char *name;
	enum bad_kind kind;
	int err;
};

static uint32_t flags_of(unsigned int i)
{
	return i % 4 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;
}

static void add_rollback_slot(struct bench *t, unsigned int as, unsigned int i,
			      uint32_t flags, unsigned int page)
{
	batch_set(&t->batch, SLOT(as, ROLLBACK_ID + i), flags, SLOT_GPA(i),
		  SLOT_SIZE, t->mem.hva + page * GUEST_PAGE);
}

static void expect_rollback_layout(struct bench *t)
{
	unsigned int as, i;
	uint64_t bits;

	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		vcpu_set_smm(&t->vcpu, as == AS_SMM);
		for (i = 0; i < NR_SLOTS; i++) {
			const uint32_t slot = SLOT(as, ROLLBACK_ID + i);

			tap_context("address space %u, slot %u", as, i);
			EXPECT_EQ(vm_slot_exists(&t->vm, slot), i % 2 == 0);
			EXPECT_ERR(vm_dirty_log(&t->vm, slot, &bits),
				   flags_of(i) ? 0 : ENOENT);
			if (i % 2)
				EXPECT_GUEST_MMIO(&t->vcpu, SLOT_GPA(i));
			else
				EXPECT_GUEST_MEMORY(&t->vcpu, SLOT_GPA(i),
						    t->mem.hva +
							    i * GUEST_PAGE);
		}
	}
	tap_context("%s", "");
	vcpu_set_smm(&t->vcpu, false);
}

/*
 * Of the even slots, delete a third, flip a third, keep the rest; create the
 * odd.
 */
static void add_rollback_changes(struct bench *t, unsigned int as,
				 unsigned int i)
{
	const uint32_t slot = SLOT(as, ROLLBACK_ID + i);

	if (i % 2)
		add_rollback_slot(t, as, i, flags_of(i + 1), i);
	else if (i % 3 == 0)
		batch_delete(&t->batch, slot);
	else if (i % 3 == 1)
		add_rollback_slot(t, as, i,
				  flags_of(i) ^ KVM_MEM_LOG_DIRTY_PAGES, i);
}

static void add_bad(struct bench *t, enum bad_kind kind)
{
	switch (kind) {
	case BAD_OVERLAP:
		batch_set(&t->batch, FREE_ID, 0, PLAIN_GPA, SLOT_SIZE,
			  hva_of(t, FREE_ID));
		break;
	case BAD_REACH:
		batch_set(&t->batch, FREE_ID, 0, 1ULL << 52, SLOT_SIZE,
			  hva_of(t, FREE_ID));
		break;
	case BAD_MEMORY:
		batch_set(&t->batch, FREE_ID, 0, TIB(1), MAX_PAGES * GUEST_PAGE,
			  (void *)ROOMY_HVA);
		break;
	}
}

static void all_or_nothing(const void *arg)
{
	const struct rollback *r = arg;
	unsigned int as, i, position;
	struct bench t;

	bench_init(&t);
	if (r->kind == BAD_MEMORY) {
		int got = vm_set_region(&t.vm, FREE_ID, 0, TIB(1),
					MAX_PAGES * GUEST_PAGE,
					(void *)ROOMY_HVA);

		if (got != -ENOMEM)
			tap_skip(
				"this machine has enough memory for the metadata of %llu pages",
				MAX_PAGES);
	}
	for (as = AS_NORMAL; as <= AS_SMM; as++)
		for (i = 0; i < NR_SLOTS; i += 2)
			add_rollback_slot(&t, as, i, flags_of(i), i);
	ASSERT_OK(batch_apply(t.dev, &t.vm, &t.batch));
	expect_rollback_layout(&t);

	for (position = 0; position < 3; position++) {
		uint32_t bad = 0;

		batch_reset(&t.batch);
		for (as = AS_NORMAL; as <= AS_SMM; as++) {
			for (i = 0; i < NR_SLOTS; i++) {
				if (as * NR_SLOTS + i == position * NR_SLOTS) {
					bad = t.batch.nr;
					add_bad(&t, r->kind);
				}
				add_rollback_changes(&t, as, i);
			}
		}
		if (position == 2) {
			bad = t.batch.nr;
			add_bad(&t, r->kind);
		}
		ASSERT_GT(t.batch.nr, NR_SLOTS);
		EXPECT_ERR(batch_apply(t.dev, &t.vm, &t.batch), r->err);
		EXPECT_EQ(t.batch.bad_index,
			  r->err == ENOMEM ? KVM_VMEM_NO_INDEX : bad);
		expect_rollback_layout(&t);
	}

	/* Without the bad entry, which is the last, the batch is valid. */
	t.batch.nr--;
	EXPECT_OK(batch_apply(t.dev, &t.vm, &t.batch));
	for (i = 0; i < NR_SLOTS; i++) {
		tap_context("slot %u in the end", i);
		if (i % 2 || i % 3)
			EXPECT_GUEST_MEMORY(&t.vcpu, SLOT_GPA(i),
					    t.mem.hva + i * GUEST_PAGE);
		else
			EXPECT_GUEST_MMIO(&t.vcpu, SLOT_GPA(i));
	}
}

static const struct rollback rollbacks[] = {
	{"all or nothing: an overlap first, in the middle or last", BAD_OVERLAP,
	 EEXIST},
	{"all or nothing: a memslot beyond the CPU's address width", BAD_REACH,
	 EINVAL},
	{"all or nothing: metadata runs out of memory", BAD_MEMORY, ENOMEM},
};

static const struct tap_case whole_batch_cases[] = {
	{.name = "a repeated id is EINVAL, at the second entry",
	 .run = duplicate_ids},
	{.name = "overlap is judged on the final layout",
	 .run = overlap_inside_batch},
	{.name = "of several bad entries the first is reported",
	 .run = blames_first},
	{.name = "more than KVM_VMEM_MAX_BATCH entries are EMSGSIZE",
	 .run = too_many},
	{.name = "a descriptor that is no VM is EBADF or EINVAL",
	 .run = not_a_vm},
	{.name = "another process' VM is EIO, as in KVM", .run = other_process},
	{.name = "entries that cannot be read are EFAULT",
	 .run = entries_out_of_reach},
	{.name = "smaller and larger arguments are accepted",
	 .run = argument_sizes},
	{.name = "unknown flags and reserved fields are EINVAL",
	 .run = unknown_flags},
	{.name = "an invalid entry size is EINVAL", .run = bad_entry_sizes},
	{.name = "entries may be longer if their unknown bytes are 0",
	 .run = longer_entries},
	{.name = "guest_memfd of a long entry is only used with its flag",
	 .run = entries_with_memfd},
	{.name = "an unknown ioctl is ENOTTY", .run = unknown_ioctl},
};

#define MAX_NAME 128

int main(void)
{
	static struct tap_case cases[ARRAY_SIZE(entries) +
				     ARRAY_SIZE(whole_batch_cases) +
				     ARRAY_SIZE(rollbacks)];
	static char names[ARRAY_SIZE(entries)][MAX_NAME];
	char err[TAP_STRERROR_LEN];
	size_t i, n = 0;

	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		const struct entry *e = &entries[i];
		const char *verdict = tap_strerror(-e->batch, err, sizeof(err));

		snprintf(names[i], MAX_NAME, "%s entry: %s: %s",
			 e->stock == e->batch ? "as KVM," : "unlike KVM,",
			 e->name, e->batch ? verdict + 1 : "taken");
		cases[n++] = (struct tap_case){
			.name = names[i], .run = judge_as_kvm_does, .arg = e};
	}
	for (i = 0; i < ARRAY_SIZE(whole_batch_cases); i++)
		cases[n++] = whole_batch_cases[i];
	for (i = 0; i < ARRAY_SIZE(rollbacks); i++)
		cases[n++] = (struct tap_case){.name = rollbacks[i].name,
					       .run = all_or_nothing,
					       .arg = &rollbacks[i]};
	return tap_run(cases, n);
}
