// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first nested guest of a VM, while a batch creates and deletes memslots.
 *
 * With the TDP MMU, KVM allocates no rmaps before a VM's first shadow root,
 * which its first nested guest (L2) needs. Then it allocates them for every
 * memslot that it can see. A memslot prepared before that and visible only
 * after it would have no rmaps, and KVM would dereference a NULL pointer when
 * L2 uses it or when its dirty logging is enabled.
 *
 * One test starts L2 between the two grace periods of a batch. The first grace
 * period cannot end while a vCPU is inside KVM. So one vCPU is kept there: it
 * waits for a page that userfaultfd withholds. The batch has got this far once
 * KVM refuses an address in a memslot that the batch deletes for one of its
 * MSRs. The other test starts L2 during a series of batches.
 *
 * Each round has a VM of its own. The created memslots belong to a region and
 * were deleted by an earlier batch, so that the module can report their
 * metadata.
 */
#include "vmem_util.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "common/vmem_nl.h"
#include <asm/kvm_para.h>

/* Needs types of the library's other headers. */
#include "svm_util.h"

#define NR_ROUNDS  16
#define PAGE	   4096ULL
#define SLOT_PAGES 4
#define SLOT_SIZE  (SLOT_PAGES * PAGE)
#define NR_SLOTS   64
#define NR_DECOYS  64

/*
 * Memslots that the batch creates, memslots that it deletes, and the withheld
 * page.
 */
#define SLOTS_GPA  (4ULL << 30)
#define DECOYS_GPA (5ULL << 30)
#define STALL_GPA  (6ULL << 30)

/* Slot 0 belongs to the library. */
#define FIRST_SLOT  100
#define FIRST_DECOY 300
#define STALL_SLOT  500

#define L2_STACK_WORDS 128

/*
 * Nested page tables are identity mappings with large pages. They cover the
 * first gigabyte, which contains the library's memory, and the gigabyte of the
 * memslots.
 */
#define NPT_ENTRIES  512
#define NPT_TABLE    0x7ULL /* present, writable, user */
#define NPT_LARGE    (NPT_TABLE | 0x80ULL)
#define NPT_PD_RANGE (1ULL << 30)
#define NPT_PD_PAGE  (2ULL << 20)

/* Contents of L2's pages before and after its accesses. */
#define BEFORE(page) (0xb000000000000000ULL + (page))
#define AFTER(page)  (0xa000000000000000ULL + (page))

/* Stages at which the guest stops. */
enum {
	STAGE_READY = 1,
	STAGE_NESTED,
	STAGE_USED,
	STAGE_WRITTEN,
};

/**
 * struct control - shared between guest and host
 * @go: L1 may start its first L2
 * @nested: L1 has started it
 * @npt: root of L2's nested page tables; 0 if KVM does not use nested paging
 * @found: number of pages in which L2 found the expected contents
 */
struct control {
	uint64_t go;
	uint64_t nested;
	uint64_t npt;
	uint64_t found;
};

static struct control guest_control __attribute__((aligned(4096)));

/**
 * struct round - one VM
 * @dev: /dev/kvm-vmem
 * @nl: netlink handle
 * @vm: the VM
 * @l1: vCPU that starts L2
 * @staller: vCPU that waits for the withheld page
 * @prober: vCPU that never runs
 * @control: the guest's control page
 * @region: descriptor of the region
 * @memory: memory of the region's memslots
 * @decoys: memory of the memslots to delete
 * @stall: the withheld page
 * @uffd: userfaultfd of @stall
 * @batch: entries
 * @done: the batch has been applied
 */
struct round {
	int dev;
	struct vmem_nl *nl;
	struct kvm_vm *vm;
	struct kvm_vcpu *l1;
	struct kvm_vcpu *staller;
	struct kvm_vcpu *prober;
	struct control *control;
	int region;
	uint8_t *memory;
	uint8_t *decoys;
	uint8_t *stall;
	int uffd;
	struct vmem_batch batch;
	bool done;
};

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Return to L1, which continues or starts L2 again. */
static void leave_l2(void)
{
	asm volatile("vmmcall");
	__builtin_unreachable();
}

static void l2_nothing(void)
{
	leave_l2();
}

static void l2_use(void)
{
	uint64_t page, found = 0;

	for (page = 0; page < NR_SLOTS * SLOT_PAGES; page++) {
		uint64_t *word = (uint64_t *)(SLOTS_GPA + page * PAGE);

		if (load(word) == BEFORE(page))
			found++;
		store(word, AFTER(page));
	}
	guest_control.found = found;
	leave_l2();
}

/* Write one page of each memslot, at different offsets. */
static void l2_write(void)
{
	uint64_t slot;

	for (slot = 0; slot < NR_SLOTS; slot++)
		store((uint64_t *)(SLOTS_GPA + slot * SLOT_SIZE +
				   slot % SLOT_PAGES * PAGE),
		      slot);
	leave_l2();
}

static void run_l2(struct svm_test_data *svm, void *code)
{
	uint64_t stack[L2_STACK_WORDS];

	generic_svm_setup(svm, code, &stack[L2_STACK_WORDS]);
	if (guest_control.npt) {
		svm->vmcb->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		svm->vmcb->control.nested_cr3 = guest_control.npt;
	}
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_ASSERT(svm->vmcb->control.exit_code == SVM_EXIT_VMMCALL);
}

static void l1_code(struct svm_test_data *svm)
{
	uint64_t decoy;

	for (decoy = 0; decoy < NR_DECOYS; decoy++)
		load((uint64_t *)(DECOYS_GPA + decoy * PAGE));
	GUEST_SYNC(STAGE_READY);
	while (!load(&guest_control.go))
		;
	run_l2(svm, l2_nothing);
	store(&guest_control.nested, 1);
	GUEST_SYNC(STAGE_NESTED);
	run_l2(svm, l2_use);
	GUEST_SYNC(STAGE_USED);
	run_l2(svm, l2_write);
	GUEST_SYNC(STAGE_WRITTEN);
}

static void staller_code(void)
{
	load((uint64_t *)STALL_GPA);
	GUEST_DONE();
}

static void run_until(struct kvm_vcpu *vcpu, uint64_t stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT(uc.args[1] == stage, "stage %lu instead of %lu",
			    (unsigned long)uc.args[1], (unsigned long)stage);
		break;
	case UCALL_ABORT:
		TEST_FAIL("%s at %s:%lu", (const char *)uc.args[0],
			  (const char *)uc.args[1], (unsigned long)uc.args[2]);
	default:
		TEST_FAIL("exit reason %u", vcpu->run->exit_reason);
	}
}

static void *run_staller(void *arg)
{
	struct round *r = arg;
	struct ucall uc;

	vcpu_run(r->staller);
	TEST_ASSERT(get_ucall(r->staller, &uc) == UCALL_DONE, "exit reason %u",
		    r->staller->run->exit_reason);
	return NULL;
}

static void *run_l1(void *arg)
{
	struct round *r = arg;

	run_until(r->l1, STAGE_NESTED);
	return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), struct round *r)
{
	TEST_ASSERT(!pthread_create(thread, NULL, run, r), "pthread_create");
}

static void stall_begin(struct round *r)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {
		.range = {.start = (uintptr_t)r->stall, .len = PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	r->uffd = (int)syscall(__NR_userfaultfd, O_CLOEXEC);
	TEST_ASSERT(r->uffd >= 0, "userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!ioctl(r->uffd, UFFDIO_API, &api), "UFFDIO_API: %s",
		    strerror(errno));
	TEST_ASSERT(!ioctl(r->uffd, UFFDIO_REGISTER, &reg),
		    "UFFDIO_REGISTER: %s", strerror(errno));
}

static void stall_wait(const struct round *r)
{
	struct uffd_msg msg;

	TEST_ASSERT(read(r->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
			    msg.event == UFFD_EVENT_PAGEFAULT,
		    "no page fault");
}

static void stall_end(const struct round *r)
{
	struct uffdio_zeropage zero = {
		.range = {.start = (uintptr_t)r->stall, .len = PAGE},
	};

	TEST_ASSERT(!ioctl(r->uffd, UFFDIO_ZEROPAGE, &zero),
		    "UFFDIO_ZEROPAGE: %s", strerror(errno));
}

/* Is a deleted memslot still valid? KVM checks it when this MSR is written. */
static bool decoy_valid(const struct round *r)
{
	return _vcpu_set_msr(r->prober, MSR_KVM_PV_EOI_EN,
			     DECOYS_GPA | KVM_MSR_ENABLED) == 1;
}

static void add_slots(struct round *r, uint32_t flags)
{
	unsigned int i;

	for (i = 0; i < NR_SLOTS; i++)
		vmem_batch_add(&r->batch, FIRST_SLOT + i, flags,
			       SLOTS_GPA + i * SLOT_SIZE, SLOT_SIZE,
			       r->memory + i * SLOT_SIZE);
}

static void add_decoys(struct round *r)
{
	unsigned int i;

	for (i = 0; i < NR_DECOYS; i++)
		vmem_batch_add(&r->batch, FIRST_DECOY + i, 0,
			       DECOYS_GPA + i * PAGE, PAGE,
			       r->decoys + i * PAGE);
}

static void delete_from(struct round *r, uint32_t first, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		vmem_batch_delete(&r->batch, first + i);
}

/* The batch during which L2 starts, and its reverse. */
static void create_slots(struct round *r)
{
	delete_from(r, FIRST_DECOY, NR_DECOYS);
	add_slots(r, 0);
	vmem_batch_apply(r->dev, r->vm, &r->batch);
}

static void delete_slots(struct round *r)
{
	delete_from(r, FIRST_SLOT, NR_SLOTS);
	add_decoys(r);
	vmem_batch_apply(r->dev, r->vm, &r->batch);
}

static void *run_batch(void *arg)
{
	struct round *r = arg;

	create_slots(r);
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Allocate a page of the guest for a table; @gpa is set to its guest address.
 */
static uint64_t *alloc_table(struct kvm_vm *vm, uint64_t *gpa)
{
	vm_vaddr_t gva = vm_vaddr_alloc_page(vm);
	uint64_t *table = addr_gva2hva(vm, gva);

	memset(table, 0, PAGE);
	*gpa = addr_gva2gpa(vm, gva);
	return table;
}

static void map_gigabyte(struct kvm_vm *vm, uint64_t *pdpt, uint64_t gpa)
{
	uint64_t table_gpa, i;
	uint64_t *pd = alloc_table(vm, &table_gpa);

	pdpt[gpa / NPT_PD_RANGE] = table_gpa | NPT_TABLE;
	for (i = 0; i < NPT_ENTRIES; i++)
		pd[i] = (gpa + i * NPT_PD_PAGE) | NPT_LARGE;
}

/*
 * Without nested paging in L1, L2 would run on KVM's page table for L1, without
 * a shadow root. If KVM itself does not use nested paging, all memslots have
 * rmaps anyway.
 */
static void make_npt(struct round *r)
{
	uint64_t *pml4, *pdpt, gpa;

	if (!get_kvm_amd_param_bool("npt"))
		return;
	pml4 = alloc_table(r->vm, &r->control->npt);
	pdpt = alloc_table(r->vm, &gpa);
	pml4[0] = gpa | NPT_TABLE;
	map_gigabyte(r->vm, pdpt, 0);
	map_gigabyte(r->vm, pdpt, SLOTS_GPA);
}

/* Create the region with all of its memslots, then delete the memslots. */
static void make_region(struct round *r)
{
	struct kvm_vmem_create_region args = {
		.size = sizeof(args),
		.vm_fd = r->vm->fd,
		.address_spaces = 1,
		.first_slot = FIRST_SLOT,
		.guest_phys_addr = SLOTS_GPA,
		.region_size = NR_SLOTS * SLOT_SIZE,
		.userspace_addr = (uintptr_t)r->memory,
		.block_size = SLOT_SIZE,
		.slot_size = SLOT_SIZE,
	};
	struct vmem_nl_range all = {SLOTS_GPA, NR_SLOTS * SLOT_SIZE};
	struct error err;

	r->region = ioctl(r->dev, KVM_VMEM_CREATE_REGION, &args);
	TEST_ASSERT(r->region >= 0, "KVM_VMEM_CREATE_REGION: %s",
		    strerror(errno));
	TEST_ASSERT(!vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->region), 0, &all, 1,
				  NULL, &err),
		    "plug: %s", err.text);
	delete_from(r, FIRST_SLOT, NR_SLOTS);
	vmem_batch_apply(r->dev, r->vm, &r->batch);
}

static void round_begin(struct round *r)
{
	vm_vaddr_t svm;
	uint64_t i;

	r->vm = vm_create(3);
	r->l1 = vm_vcpu_add(r->vm, 0, l1_code);
	r->staller = vm_vcpu_add(r->vm, 1, staller_code);
	r->prober = vm_vcpu_add(r->vm, 2, staller_code);
	vcpu_alloc_svm(r->vm, &svm);
	vcpu_args_set(r->l1, 1, svm);
	r->control = addr_gva2hva(r->vm, (vm_vaddr_t)&guest_control);
	r->done = false;
	make_npt(r);

	r->memory = vmem_alloc(NR_SLOTS * SLOT_SIZE);
	r->decoys = vmem_alloc(NR_DECOYS * PAGE);
	r->stall = vmem_alloc(PAGE);
	for (i = 0; i < NR_SLOTS * SLOT_PAGES; i++)
		*(uint64_t *)(r->memory + i * PAGE) = BEFORE(i);
	virt_map(r->vm, SLOTS_GPA, SLOTS_GPA, NR_SLOTS * SLOT_PAGES);
	virt_map(r->vm, DECOYS_GPA, DECOYS_GPA, NR_DECOYS);
	virt_map(r->vm, STALL_GPA, STALL_GPA, 1);

	make_region(r);
	vmem_batch_add(&r->batch, STALL_SLOT, 0, STALL_GPA, PAGE, r->stall);
	add_decoys(r);
	vmem_batch_apply(r->dev, r->vm, &r->batch);
	TEST_ASSERT(decoy_valid(r), "an existing memslot is refused");
	run_until(r->l1, STAGE_READY);
}

/* Rmaps for 4 KiB pages, and at least one for each larger size. */
static int check_rmap(const struct vmem_nl_slot *slot, void *arg)
{
	uint64_t least = (slot->size / PAGE + 2) * sizeof(uint64_t);
	unsigned int *nr = arg;

	TEST_ASSERT(slot->metadata.rmap >= least && !slot->stale,
		    "memslot %u has %lu bytes of rmaps, needs %lu", slot->id,
		    (unsigned long)slot->metadata.rmap, (unsigned long)least);
	(*nr)++;
	return 0;
}

static void check_metadata(const struct round *r)
{
	struct error err;
	unsigned int nr = 0;

	TEST_ASSERT(!vmem_nl_slot_dump(r->nl, VMEM_NL_BY_FD(r->region),
				       check_rmap, &nr, &err),
		    "slot dump: %s", err.text);
	TEST_ASSERT(nr == NR_SLOTS, "%u memslots instead of %u", nr, NR_SLOTS);
}

/* Exactly the pages of l2_write() are dirty. */
static void check_dirty_log(const struct round *r)
{
	unsigned int slot;

	for (slot = 0; slot < NR_SLOTS; slot++) {
		uint64_t bitmap = 0;

		kvm_vm_get_dirty_log(r->vm, FIRST_SLOT + slot, &bitmap);
		TEST_ASSERT(bitmap == 1ULL << slot % SLOT_PAGES,
			    "memslot %u has dirty pages %#lx", slot,
			    (unsigned long)bitmap);
	}
}

/* L2 uses the created memslots, before and during dirty logging. */
static void check_created(struct round *r)
{
	uint64_t page;

	check_metadata(r);
	run_until(r->l1, STAGE_USED);
	TEST_ASSERT(r->control->found == NR_SLOTS * SLOT_PAGES,
		    "L2 found %lu pages", (unsigned long)r->control->found);
	for (page = 0; page < NR_SLOTS * SLOT_PAGES; page++)
		TEST_ASSERT(*(uint64_t *)(r->memory + page * PAGE) ==
				    AFTER(page),
			    "L2's write to page %lu", (unsigned long)page);

	add_slots(r, KVM_MEM_LOG_DIRTY_PAGES);
	vmem_batch_apply(r->dev, r->vm, &r->batch);
	run_until(r->l1, STAGE_WRITTEN);
	check_dirty_log(r);
}

static void round_end(struct round *r)
{
	close(r->region);
	kvm_vm_free(r->vm);
	munmap(r->memory, NR_SLOTS * SLOT_SIZE);
	munmap(r->decoys, NR_DECOYS * PAGE);
	munmap(r->stall, PAGE);
}

static void between_grace_periods(struct round *r)
{
	pthread_t batch, staller;

	round_begin(r);
	stall_begin(r);
	start(&staller, run_staller, r);
	stall_wait(r);
	start(&batch, run_batch, r);
	while (decoy_valid(r))
		sched_yield();
	store(&r->control->go, 1);
	run_until(r->l1, STAGE_NESTED);
	TEST_ASSERT(!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE),
		    "the batch did not wait for the vCPU that is inside KVM");
	stall_end(r);
	pthread_join(staller, NULL);
	pthread_join(batch, NULL);
	check_created(r);
	close(r->uffd);
	round_end(r);
}

/* Return: number of batches until L2 had started. */
static unsigned int amid_batches(struct round *r)
{
	unsigned int nr = 0;
	pthread_t l1;

	round_begin(r);
	start(&l1, run_l1, r);
	store(&r->control->go, 1);
	for (;;) {
		create_slots(r);
		nr++;
		if (load(&r->control->nested))
			break;
		delete_slots(r);
		nr++;
	}
	pthread_join(l1, NULL);
	check_created(r);
	round_end(r);
	return nr;
}

int main(void)
{
	static struct round r;
	struct error err;
	unsigned int i, batches = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	r.dev = vmem_open();
	TEST_ASSERT(!vmem_nl_open(&r.nl, &err), "netlink: %s", err.text);
	ksft_print_header();
	ksft_set_plan(2);

	for (i = 0; i < NR_ROUNDS; i++)
		between_grace_periods(&r);
	ksft_test_result_pass(
		"an L2 that starts between the grace periods of a batch uses what it creates\n");

	for (i = 0; i < NR_ROUNDS; i++)
		batches += amid_batches(&r);
	ksft_print_msg("%u batches in %u rounds\n", batches, NR_ROUNDS);
	ksft_test_result_pass(
		"an L2 that starts during batches uses what they create\n");

	vmem_nl_close(r.nl);
	ksft_finished();
}
