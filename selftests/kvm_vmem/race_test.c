// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Batches concurrent with other uses of a VM: KVM's own memslot calls, dirty
 * logging, changes of the memory behind the memslots, running vCPUs, plugs of a
 * region. (race_end_test.c tests the end of VMs and VMMs.)
 *
 * Each side is a thread that counts its operations. A case runs until all sides
 * have made their minimum, however long this takes. A side that has reached its
 * minimum yields, so that a single CPU mostly runs those that have not. The
 * order of operations does not matter, but nothing may be lost: no write of the
 * guest, no dirty page, no memslot, no memory.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "process.h"
#include "random.h"
#include "region.h"
#include "tap.h"
#include "thread.h"

/* Emulated machines are slow, and may have other load. */
#define TIMEOUT_S 600

/* Kernel memory that others allocate and free in the meantime. */
#define NOISE MIB(3)

/* Minimum number of operations of each side. */
#define MIN_BATCHES  250U
#define MIN_CALLS    100U
#define MIN_LOGS     200U
#define MIN_EVENTS   120U
#define MIN_ACCESSES 1000U
#define MIN_REQUESTS 150U
/* Ranges checked after each batch. */
#define LOOKS 4U

/*
 * The guest's memory: ranges that batches exchange, each with two backings and
 * an id for each backing; a memslot that stays; memory that changes behind KVM;
 * and memslots of KVM's own calls.
 */
#define NR_RANGES   8U
#define RANGE_PAGES 4U
#define RANGE_SIZE  (RANGE_PAGES * GUEST_PAGE)
#define RANGE_GPA   GIB(1)
#define NR_BACKINGS 2U
#define RANGE_ID    100U

#define KEPT_PAGES 64U
#define KEPT_SIZE  (KEPT_PAGES * GUEST_PAGE)
#define KEPT_GPA   GIB(2)
#define KEPT_ID	   10U

#define SHARED_GPA  GIB(3)
#define SHARED_ID   11U
#define PRIVATE_GPA (GIB(3) + MIB(1))
#define PRIVATE_ID  12U
#define SPARE_PAGES 4U
#define SPARE_SIZE  (SPARE_PAGES * GUEST_PAGE)

#define CALL_GPA  GIB(4)
#define CALL_ID	  300U
#define NR_CALLED 4U

/* Offsets in the backing. */
#define RANGES_OFFSET 0U
#define KEPT_OFFSET   (NR_RANGES * NR_BACKINGS * RANGE_SIZE)
#define SHARED_OFFSET (KEPT_OFFSET + KEPT_SIZE)
#define MEM_SIZE      (SHARED_OFFSET + SPARE_SIZE)

/* Bytes of each vCPU's dirty ring: 4096 entries. */
#define RING_SIZE    KIB(64)
#define RING_ENTRIES ((uint32_t)(RING_SIZE / sizeof(struct kvm_dirty_gfn)))
/* Accesses of a vCPU between two harvests, limited so that no ring fills. */
#define ACCESSES_PER_HARVEST 1000U

/* State of a range: ABSENT, or one of its backings. */
#define ABSENT NR_BACKINGS

enum log_kind {
	LOG_PLAIN,
	LOG_MANUAL,
	LOG_RING,
};

/* The sides, one thread each. */
enum side {
	SIDE_BATCHES, /* the thread of the case */
	SIDE_CALLS,
	SIDE_LOGS,
	SIDE_EVENTS,
	SIDE_WRITER,
	SIDE_ROAMER,
	NR_SIDES,
};

static const uint64_t minimum[NR_SIDES] = {
	[SIDE_BATCHES] = MIN_BATCHES, [SIDE_CALLS] = MIN_CALLS,
	[SIDE_LOGS] = MIN_LOGS,	      [SIDE_EVENTS] = MIN_EVENTS,
	[SIDE_WRITER] = MIN_ACCESSES, [SIDE_ROAMER] = MIN_ACCESSES,
};

/* vCPUs: one for each side that accesses guest memory. */
enum vcpu_of {
	VCPU_CHECKER,
	VCPU_WRITER,
	VCPU_ROAMER,
	VCPU_EVENTS,
	NR_VCPUS,
};

/**
 * struct arena - a VM and the state of all sides
 * @kind: kind of dirty log
 * @dev: /dev/kvm-vmem
 * @vm: the VM
 * @vcpus: its vCPUs
 * @rings: their dirty rings, with LOG_RING
 * @ring_next: first entry of each ring not yet harvested
 * @mem: memory of the ranges, the kept memslot and the shared one
 * @private: memory of the private one
 * @copy: copy of the kept memory, updated according to the dirty log
 * @batch: batch of the case's own thread
 * @rng: random state of the case's own thread
 * @state: state of each range in each address space: ABSENT or its backing
 * @logs: whether the range's memslot has dirty logging
 * @harvests: number of complete reads of the dirty log
 * @done: number of operations of each side
 * @stop: all sides have reached their minimum
 */
struct arena {
	enum log_kind kind;
	int dev;
	struct vm vm;
	struct vcpu vcpus[NR_VCPUS];
	struct kvm_dirty_gfn *rings[NR_VCPUS];
	uint32_t ring_next[NR_VCPUS];
	struct backing mem;
	uint8_t *private;
	uint8_t *copy;
	struct batch batch;
	uint64_t rng;
	unsigned int state[2][NR_RANGES];
	bool logs[2][NR_RANGES];
	uint64_t harvests;
	uint64_t done[NR_SIDES];
	bool stop;
};

static void has_done_one(struct arena *a, enum side side)
{
	counter_add(&a->done[side]);
	if (counter_read(&a->done[side]) >= minimum[side])
		sched_yield();
}

static uint8_t *range_hva(const struct arena *a, unsigned int i,
			  unsigned int backing)
{
	return a->mem.hva + RANGES_OFFSET +
	       (i * NR_BACKINGS + backing) * RANGE_SIZE;
}

static uint64_t range_gpa(unsigned int i)
{
	return RANGE_GPA + i * 2 * RANGE_SIZE;
}

static uint32_t range_slot(unsigned int as, unsigned int i,
			   unsigned int backing)
{
	return SLOT(as, RANGE_ID + i * NR_BACKINGS + backing);
}

/* The first word of each backing identifies it. The guest does not write it. */
static uint64_t range_tag(unsigned int i, unsigned int backing)
{
	return 0x7467000000000000ULL | i << 8 | backing;
}

static uint64_t *kept_word(const struct arena *a, unsigned int page)
{
	return (uint64_t *)(a->mem.hva + KEPT_OFFSET + page * GUEST_PAGE);
}

/* Batches. */

/* Add the change of one range from its state to a random one. */
static void add_change(struct arena *a, unsigned int as, unsigned int i)
{
	const unsigned int old = a->state[as][i];
	const unsigned int new = random_below(&a->rng, NR_BACKINGS + 1);
	const bool logs = random_below(&a->rng, 2);

	if (old != ABSENT && old != new)
		batch_delete(&a->batch, range_slot(as, i, old));
	if (new != ABSENT)
		batch_set(&a->batch, range_slot(as, i, new),
			  logs ? KVM_MEM_LOG_DIRTY_PAGES : 0, range_gpa(i),
			  RANGE_SIZE, range_hva(a, i, new));
	a->state[as][i] = new;
	a->logs[as][i] = logs && new != ABSENT;
}

/* A batch of valid changes, except for its last entry, which is refused. */
static void refused_batch(struct arena *a)
{
	unsigned int state[2][NR_RANGES];
	bool logs[2][NR_RANGES];
	unsigned int i;

	memcpy(state, a->state, sizeof(state));
	memcpy(logs, a->logs, sizeof(logs));
	for (i = 0; i < NR_RANGES; i++)
		add_change(a, i % 2, i);
	batch_set(&a->batch, RANGE_ID - 1, 0, KEPT_GPA, GUEST_PAGE, a->mem.hva);
	EXPECT_ERR(batch_apply(a->dev, &a->vm, &a->batch), EEXIST);
	EXPECT_EQ(a->batch.bad_index, a->batch.nr - 1);
	batch_reset(&a->batch);
	memcpy(a->state, state, sizeof(state));
	memcpy(a->logs, logs, sizeof(logs));
}

static void next_batch(struct arena *a)
{
	unsigned int as, i;

	if (!random_below(&a->rng, 8)) {
		refused_batch(a);
		return;
	}
	for (as = AS_NORMAL; as <= AS_SMM; as++)
		for (i = 0; i < NR_RANGES; i++)
			if (random_below(&a->rng, 2))
				add_change(a, as, i);
	ASSERT_OK(batch_apply(a->dev, &a->vm, &a->batch));
	batch_reset(&a->batch);
}

/*
 * Check a range after the batches, before KVM's own deletes drop all mappings,
 * which would hide stale ones. The check also maps the range.
 */
static void look_at_range(struct arena *a)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_CHECKER];
	const unsigned int i = random_below(&a->rng, NR_RANGES);
	const uint64_t gpa =
		range_gpa(i) + random_below(&a->rng, RANGE_PAGES) * GUEST_PAGE;
	const unsigned int state = a->state[vcpu->as][i];
	uint64_t value = 0;

	tap_context("address space %u, range %u", vcpu->as, i);
	if (state == ABSENT) {
		EXPECT_GUEST_MMIO(vcpu, gpa);
	} else {
		EXPECT_EQ(guest_read(vcpu, gpa, &value), GUEST_MEMORY);
		EXPECT_EQ(value, range_tag(i, state));
	}
	tap_context("%s", "");
}

/* KVM's own calls, with ids and addresses of their own. */

static void *calls_run(void *arg)
{
	struct arena *a = arg;
	const uint64_t size = GUEST_PAGE;
	unsigned int n;

	for (n = 0; !flag_is_set(&a->stop); n++) {
		const uint32_t slot =
			SLOT(n / NR_CALLED % 2, CALL_ID + n % NR_CALLED);
		const uint64_t gpa = CALL_GPA + n % NR_CALLED * 4 * size;

		EXPECT_OK(
			vm_set_region(&a->vm, slot, 0, gpa, size, a->mem.hva));
		EXPECT_OK(vm_set_region(&a->vm, slot, KVM_MEM_LOG_DIRTY_PAGES,
					gpa, size, a->mem.hva));
		EXPECT_OK(vm_set_region(&a->vm, slot, 0, gpa + 2 * size, size,
					a->mem.hva));
		/* The boot memory, in both address spaces. */
		EXPECT_ERR(vm_set_region(&a->vm, slot, 0, 0, size, a->mem.hva),
			   EEXIST);
		EXPECT_OK(vm_delete_slot(&a->vm, slot));
		has_done_one(a, SIDE_CALLS);
	}
	/* Create memslots for the final check. */
	for (n = 0; n < NR_CALLED; n++)
		EXPECT_OK(vm_set_region(&a->vm, CALL_ID + n, 0,
					CALL_GPA + n * 4 * size, size,
					a->mem.hva));
	return NULL;
}

/*
 * Dirty logging. A page in the log is copied after logging has been re-enabled
 * for it. In the end the copy is complete, or the log has missed a write.
 */

static void copy_page(struct arena *a, uint64_t page)
{
	uint64_t *to = (uint64_t *)(a->copy + page * GUEST_PAGE);

	*to = counter_read(kept_word(a, (unsigned int)page));
}

static void clear_dirty(struct arena *a, uint32_t slot, uint32_t pages,
			uint64_t *bits, bool may_be_gone)
{
	struct kvm_clear_dirty_log clear = {.slot = slot, .num_pages = pages};

	clear.dirty_bitmap = bits;
	if (ioctl(a->vm.fd, KVM_CLEAR_DIRTY_LOG, &clear))
		EXPECT_TRUE(may_be_gone && errno == ENOENT);
}

static void harvest_bitmap(struct arena *a)
{
	uint64_t bits = 0;
	unsigned int page;

	EXPECT_OK(vm_dirty_log(&a->vm, KEPT_ID, &bits));
	if (a->kind == LOG_MANUAL)
		clear_dirty(a, KEPT_ID, KEPT_PAGES, &bits, false);
	for (page = 0; page < KEPT_PAGES; page++)
		if (bits >> page & 1)
			copy_page(a, page);
}

static void harvest_rings(struct arena *a)
{
	uint64_t bits = 0;
	unsigned int i, page;

	for (i = 0; i < NR_VCPUS; i++) {
		for (;; a->ring_next[i]++) {
			struct kvm_dirty_gfn *e =
				&a->rings[i][a->ring_next[i] % RING_ENTRIES];

			if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) &
			      KVM_DIRTY_GFN_F_DIRTY))
				break;
			if (e->slot == KEPT_ID)
				bits |= 1ULL << e->offset;
			__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET,
					 __ATOMIC_RELEASE);
		}
	}
	EXPECT_OK(ioctl(a->vm.fd, KVM_RESET_DIRTY_RINGS, 0));
	for (page = 0; page < KEPT_PAGES; page++)
		if (bits >> page & 1)
			copy_page(a, page);
}

static void harvest(struct arena *a)
{
	if (a->kind == LOG_RING)
		harvest_rings(a);
	else
		harvest_bitmap(a);
	counter_add(&a->harvests);
}

/* The log of a memslot that batches create and delete: it exists or not. */
static void look_at_changing_log(struct arena *a, unsigned int n)
{
	const uint32_t slot = range_slot(n % 2, n / 2 % NR_RANGES,
					 n / 2 / NR_RANGES % NR_BACKINGS);
	uint64_t bits = 0;
	int r = vm_dirty_log(&a->vm, slot, &bits);

	if (a->kind == LOG_RING)
		EXPECT_ERR(r, ENXIO);
	else
		EXPECT_TRUE(!r || r == -ENOENT);
	EXPECT_EQ(bits >> RANGE_PAGES, 0);
	if (!r && a->kind == LOG_MANUAL)
		clear_dirty(a, slot, RANGE_PAGES, &bits, true);
}

static void *logs_run(void *arg)
{
	struct arena *a = arg;
	unsigned int n;

	for (n = 0; !flag_is_set(&a->stop); n++) {
		harvest(a);
		look_at_changing_log(a, n);
		has_done_one(a, SIDE_LOGS);
	}
	return NULL;
}

/* vCPUs. */

/* Wait for the dirty log if the vCPU's ring might become full. */
static void await_harvest(struct arena *a, uint64_t accesses)
{
	const uint64_t before = counter_read(&a->harvests);

	if (accesses % ACCESSES_PER_HARVEST)
		return;
	/* The second harvest from now begins after this call. */
	while (counter_read(&a->harvests) < before + 2 &&
	       !flag_is_set(&a->stop))
		sched_yield();
}

/* Increments a word of each page of the kept memory. */
static void *writer_run(void *arg)
{
	struct arena *a = arg;
	struct vcpu *vcpu = &a->vcpus[VCPU_WRITER];
	uint64_t written[KEPT_PAGES] = {0}, value, rng = 1, n;

	for (n = 1; !flag_is_set(&a->stop); n++) {
		const unsigned int page = random_below(&rng, KEPT_PAGES);
		const uint64_t gpa = KEPT_GPA + page * GUEST_PAGE;

		ASSERT_EQ(guest_read(vcpu, gpa, &value), GUEST_MEMORY);
		ASSERT_EQ(value, written[page]);
		ASSERT_EQ(guest_write(vcpu, gpa, ++written[page]),
			  GUEST_MEMORY);
		has_done_one(a, SIDE_WRITER);
		await_harvest(a, n);
	}
	for (n = 0; n < KEPT_PAGES; n++)
		EXPECT_EQ(*kept_word(a, (unsigned int)n), written[n]);
	return NULL;
}

/*
 * Reads and writes where batches change memory: it finds the right backing, or
 * none.
 */
static void *roamer_run(void *arg)
{
	struct arena *a = arg;
	struct vcpu *vcpu = &a->vcpus[VCPU_ROAMER];
	uint64_t value, rng = 2, n;

	for (n = 1; !flag_is_set(&a->stop); n++) {
		const unsigned int i = random_below(&rng, NR_RANGES);
		const uint64_t gpa =
			range_gpa(i) +
			random_below(&rng, RANGE_PAGES) * GUEST_PAGE;

		if (n % 32 == 0)
			vcpu_set_smm(vcpu, vcpu->as == AS_NORMAL);
		if (guest_read(vcpu, gpa, &value) == GUEST_MEMORY)
			EXPECT_TRUE(value == range_tag(i, 0) ||
				    value == range_tag(i, 1));
		guest_write(vcpu, gpa + GUEST_PAGE / 2, n);
		has_done_one(a, SIDE_ROAMER);
		await_harvest(a, n);
	}
	return NULL;
}

/*
 * Changes of the VMM's mappings. KVM must know each of them when the system
 * call returns.
 */

static void write_and_read(struct vcpu *vcpu, uint64_t gpa, uint64_t value)
{
	uint64_t found = 0;

	EXPECT_EQ(guest_write(vcpu, gpa, value), GUEST_MEMORY);
	EXPECT_EQ(guest_read(vcpu, gpa, &found), GUEST_MEMORY);
	EXPECT_EQ(found, value);
}

/* Unmap pages of the memfd, and map them again: the contents stay. */
static void remap_shared(struct arena *a, uint64_t value)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_EVENTS];
	uint8_t *hva = a->mem.hva + SHARED_OFFSET;
	uint64_t found = 0;

	write_and_read(vcpu, SHARED_GPA, value);
	ASSERT_EQ(munmap(hva, SPARE_SIZE), 0);
	ASSERT_EQ(mmap(hva, SPARE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, a->mem.fd,
		       SHARED_OFFSET),
		  (void *)hva);
	EXPECT_EQ(guest_read(vcpu, SHARED_GPA, &found), GUEST_MEMORY);
	EXPECT_EQ(found, value);
}

/* The same for memory in use, in one step. */
static void remap_in_use(struct arena *a, uint64_t offset, uint64_t size)
{
	ASSERT_EQ(mmap(a->mem.hva + offset, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, a->mem.fd, (off_t)offset),
		  (void *)(a->mem.hva + offset));
}

/* Drop private pages: they read as zero afterwards. */
static void drop_private(struct arena *a, uint64_t value)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_EVENTS];
	uint64_t found = 1;

	write_and_read(vcpu, PRIVATE_GPA, value);
	ASSERT_EQ(madvise(a->private, SPARE_SIZE, MADV_DONTNEED), 0);
	EXPECT_EQ(guest_read(vcpu, PRIVATE_GPA, &found), GUEST_MEMORY);
	EXPECT_EQ(found, 0);
}

/*
 * Share pages with a child until written: the guest must not write the child's.
 */
static void fork_private(struct arena *a, uint64_t value)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_EVENTS];
	int pair[2];
	pid_t child;

	write_and_read(vcpu, PRIVATE_GPA, value);
	process_pair(pair);
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		char byte;

		if (recv(pair[1], &byte, 1, 0) != 1)
			_exit(2);
		_exit(*(volatile uint64_t *)a->private != value);
	}
	write_and_read(vcpu, PRIVATE_GPA, ~value);
	EXPECT_EQ(*(volatile uint64_t *)a->private, ~value);
	send_byte(pair[0]);
	expect_exit(child);
	close(pair[0]);
	close(pair[1]);
}

static void protect_shared(struct arena *a, uint64_t value)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_EVENTS];
	uint8_t *hva = a->mem.hva + SHARED_OFFSET;
	uint64_t found = 0;

	write_and_read(vcpu, SHARED_GPA, value);
	ASSERT_EQ(mprotect(hva, SPARE_SIZE, PROT_READ), 0);
	EXPECT_EQ(guest_read(vcpu, SHARED_GPA, &found), GUEST_MEMORY);
	EXPECT_EQ(found, value);
	ASSERT_EQ(mprotect(hva, SPARE_SIZE, PROT_READ | PROT_WRITE), 0);
	write_and_read(vcpu, SHARED_GPA, ~value);
}

static void *events_run(void *arg)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct arena *a = arg;
	uint8_t *kept = a->mem.hva + KEPT_OFFSET;
	unsigned int n;

	for (n = 1; !flag_is_set(&a->stop); n++) {
		switch (n % 8) {
		case 0:
			remap_shared(a, n);
			break;
		case 1:
			drop_private(a, n);
			break;
		case 2:
			protect_shared(a, n);
			break;
		case 3:
			fork_private(a, n);
			break;
		case 4:
			ASSERT_EQ(madvise(kept, KEPT_SIZE, MADV_DONTNEED), 0);
			break;
		case 5:
			remap_in_use(a, KEPT_OFFSET, KEPT_SIZE);
			break;
		case 6:
			remap_in_use(a, RANGES_OFFSET, KEPT_OFFSET);
			break;
		default:
			ASSERT_EQ(mprotect(kept, KEPT_SIZE, rw | PROT_EXEC), 0);
			ASSERT_EQ(mprotect(kept, KEPT_SIZE, rw), 0);
			break;
		}
		has_done_one(a, SIDE_EVENTS);
	}
	return NULL;
}

/* The case. */

static void enable_cap(struct arena *a, uint32_t cap, uint64_t value)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {value}};

	if (vm_check_extension(&a->vm, cap) <= 0)
		tap_skip("KVM lacks capability %u", cap);
	ASSERT_EQ(ioctl(a->vm.fd, KVM_ENABLE_CAP, &enable), 0);
}

static void arena_init(struct arena *a, enum log_kind kind)
{
	unsigned int i;

	memset(a, 0, sizeof(*a));
	a->kind = kind;
	a->dev = kvm_vmem_open();
	vm_create(&a->vm, VM_SMM);
	if (kind == LOG_MANUAL)
		enable_cap(a, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			   KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	else if (kind == LOG_RING)
		enable_cap(a, KVM_CAP_DIRTY_LOG_RING, RING_SIZE);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_create(&a->vcpus[i], &a->vm);
		if (kind != LOG_RING)
			continue;
		a->rings[i] = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE,
				   MAP_SHARED, a->vcpus[i].fd,
				   KVM_DIRTY_LOG_PAGE_OFFSET * GUEST_PAGE);
		ASSERT_NE((void *)a->rings[i], MAP_FAILED);
	}
	backing_create(&a->mem, MEM_SIZE);
	a->private = mmap(NULL, SPARE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((void *)a->private, MAP_FAILED);
	a->copy = calloc(1, KEPT_SIZE);
	ASSERT_TRUE(a->copy);

	batch_init(&a->batch);
	batch_set(&a->batch, KEPT_ID, KVM_MEM_LOG_DIRTY_PAGES, KEPT_GPA,
		  KEPT_SIZE, a->mem.hva + KEPT_OFFSET);
	batch_set(&a->batch, SHARED_ID, 0, SHARED_GPA, SPARE_SIZE,
		  a->mem.hva + SHARED_OFFSET);
	batch_set(&a->batch, PRIVATE_ID, 0, PRIVATE_GPA, SPARE_SIZE,
		  a->private);
	ASSERT_OK(batch_apply(a->dev, &a->vm, &a->batch));
	batch_reset(&a->batch);

	for (i = 0; i < NR_RANGES * NR_BACKINGS * RANGE_PAGES; i++)
		*(uint64_t *)(a->mem.hva + i * GUEST_PAGE) =
			range_tag(i / RANGE_PAGES / NR_BACKINGS,
				  i / RANGE_PAGES % NR_BACKINGS);
	for (i = 0; i < NR_RANGES; i++)
		a->state[AS_NORMAL][i] = a->state[AS_SMM][i] = ABSENT;
}

static void arena_destroy(struct arena *a)
{
	unsigned int i;

	for (i = 0; i < NR_VCPUS; i++) {
		if (a->rings[i])
			munmap(a->rings[i], RING_SIZE);
		vcpu_destroy(&a->vcpus[i]);
	}
	vm_destroy(&a->vm);
	backing_destroy(&a->mem);
	munmap(a->private, SPARE_SIZE);
	free(a->copy);
	batch_free(&a->batch);
	close(a->dev);
}

static void expect_range(struct arena *a, unsigned int as, unsigned int i)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_CHECKER];
	const unsigned int state = a->state[as][i];
	unsigned int backing, page;
	uint64_t bits = 0;

	tap_context("address space %u, range %u", as, i);
	for (page = 0; page < RANGE_PAGES; page++) {
		const uint64_t offset = page * GUEST_PAGE;
		const uint64_t gpa = range_gpa(i) + offset;

		if (state == ABSENT)
			EXPECT_GUEST_MMIO(vcpu, gpa);
		else
			EXPECT_GUEST_MEMORY(vcpu, gpa,
					    range_hva(a, i, state) + offset);
	}
	for (backing = 0; backing < NR_BACKINGS; backing++) {
		const uint32_t slot = range_slot(as, i, backing);
		const int r = vm_dirty_log(&a->vm, slot, &bits);

		EXPECT_EQ(vm_slot_exists(&a->vm, slot), state == backing);
		if (a->kind != LOG_RING)
			EXPECT_EQ(!r, state == backing && a->logs[as][i]);
	}
}

static void expect_layout(struct arena *a)
{
	struct vcpu *vcpu = &a->vcpus[VCPU_CHECKER];
	unsigned int as, i;

	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		vcpu_set_smm(vcpu, as == AS_SMM);
		for (i = 0; i < NR_RANGES; i++)
			expect_range(a, as, i);
		tap_context("address space %u, call", as);
		for (i = 0; i < NR_CALLED; i++) {
			const uint64_t gpa = CALL_GPA + i * 4 * GUEST_PAGE;

			if (as == AS_NORMAL)
				EXPECT_GUEST_MEMORY(vcpu, gpa, a->mem.hva);
			else
				EXPECT_GUEST_MMIO(vcpu, gpa);
			EXPECT_GUEST_MMIO(vcpu, gpa + 2 * GUEST_PAGE);
		}
	}
	tap_context("%s", "");
	vcpu_set_smm(vcpu, false);
	EXPECT_GUEST_MEMORY(vcpu, SHARED_GPA, a->mem.hva + SHARED_OFFSET);
	EXPECT_GUEST_MEMORY(vcpu, PRIVATE_GPA, a->private);
}

static bool all_have_done(const struct arena *a)
{
	unsigned int side;

	for (side = 0; side < NR_SIDES; side++)
		if (counter_read(&a->done[side]) < minimum[side])
			return false;
	return true;
}

static void race(enum log_kind kind)
{
	void *(*const run[NR_SIDES])(void *) = {
		[SIDE_CALLS] = calls_run,   [SIDE_LOGS] = logs_run,
		[SIDE_EVENTS] = events_run, [SIDE_WRITER] = writer_run,
		[SIDE_ROAMER] = roamer_run,
	};
	pthread_t threads[NR_SIDES];
	struct arena a;
	unsigned int i;

	arena_init(&a, kind);
	for (i = SIDE_BATCHES + 1; i < NR_SIDES; i++)
		thread_start(&threads[i], run[i], &a);
	while (!all_have_done(&a)) {
		next_batch(&a);
		for (i = 0; i < LOOKS; i++)
			look_at_range(&a);
		if (!random_below(&a.rng, 8))
			vcpu_set_smm(&a.vcpus[VCPU_CHECKER],
				     a.vcpus[VCPU_CHECKER].as == AS_NORMAL);
		has_done_one(&a, SIDE_BATCHES);
	}
	flag_set(&a.stop);
	for (i = SIDE_BATCHES + 1; i < NR_SIDES; i++)
		pthread_join(threads[i], NULL);

	harvest(&a);
	for (i = 0; i < KEPT_PAGES; i++)
		EXPECT_EQ(*(uint64_t *)(a.copy + i * GUEST_PAGE),
			  *kept_word(&a, i));
	expect_layout(&a);
	tap_note(
		"%llu batches, %llu calls, %llu harvests, %llu events, %llu writes, %llu accesses where memory changes",
		(unsigned long long)a.done[SIDE_BATCHES],
		(unsigned long long)a.done[SIDE_CALLS],
		(unsigned long long)a.done[SIDE_LOGS],
		(unsigned long long)a.done[SIDE_EVENTS],
		(unsigned long long)a.done[SIDE_WRITER],
		(unsigned long long)a.done[SIDE_ROAMER]);
	arena_destroy(&a);
}

static void beside_everything(const void *arg)
{
	const enum log_kind *kind = arg;
	uint64_t vmalloc, slab;

	await_no_vm();
	vmalloc = meminfo("VmallocUsed");
	slab = slab_bytes();
	race(*kind);
	EXPECT_EQ(kvm_vm_count(), 0);
	/* Each batch allocates several times 16 KiB of metadata. */
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
	EXPECT_LE(slab_bytes(), slab + NOISE);
}

/* A region of the same VM. */

/**
 * struct plugging - a region that is plugged while batches change its VM
 * @r: the region; its netlink handle and model belong to the thread
 * @requests: number of requests answered
 * @reads: number of vCPU reads
 * @stop: ask the thread to end
 */
struct plugging {
	struct region r;
	uint64_t requests;
	uint64_t reads;
	bool stop;
};

static void *plugging_run(void *arg)
{
	struct plugging *p = arg;
	struct region *r = &p->r;
	const struct vmem_nl_name name = VMEM_NL_BY_FD(r->fd);
	uint64_t rng = 3;

	while (!flag_is_set(&p->stop)) {
		const unsigned int first = random_below(&rng, r->nr_blocks);
		const bool plugged = r->plugged[first];
		unsigned int nr = 1;

		while (first + nr < r->nr_blocks && nr < 6 &&
		       r->plugged[first + nr] == plugged)
			nr++;
		EXPECT_OK(plugged ? region_unplug(r, first, nr)
				  : region_plug(r, first, nr));
		if (nr == 1)
			EXPECT_OK(vmem_nl_region_set(
				r->nl, name, VMEM_NL_SET_DIRTY_LOG, 0,
				random_below(&rng, 2), NULL, NULL));
		if (!random_below(&rng, 16))
			EXPECT_OK(region_unplug_all(r));
		counter_add(&p->requests);
	}
	return NULL;
}

static void *reading_run(void *arg)
{
	struct plugging *p = arg;
	uint64_t rng = 4, value;

	while (!flag_is_set(&p->stop)) {
		const unsigned int block = random_below(&rng, p->r.nr_blocks);

		/*
		 * Populated or not, only the region's memory is there, which is
		 * all zero.
		 */
		if (guest_read(&p->r.vcpu, region_block_gpa(&p->r, block),
			       &value) == GUEST_MEMORY)
			EXPECT_EQ(value, 0);
		counter_add(&p->reads);
	}
	return NULL;
}

static void beside_plugs(const void *arg)
{
	const unsigned int nr = 6;
	pthread_t plugger, reader;
	struct plugging p = {0};
	uint64_t batches, events;
	struct batch batch;
	struct backing mem;
	unsigned int i;

	(void)arg;
	region_init(&p.r, AS_MASK_BOTH);
	backing_create(&mem, nr * GUEST_PAGE);
	batch_init(&batch);
	thread_start(&plugger, plugging_run, &p);
	thread_start(&reader, reading_run, &p);
	for (batches = events = 0; batches < MIN_BATCHES ||
				   counter_read(&p.requests) < MIN_REQUESTS ||
				   counter_read(&p.reads) < MIN_ACCESSES;
	     batches++) {
		batch_reset(&batch);
		for (i = 0; i < nr; i++) {
			const uint32_t slot = SLOT(i % 2, 1 + i);

			if (batches % 2)
				batch_delete(&batch, slot);
			else
				batch_set(&batch, slot, 0,
					  GIB(1) + i * GUEST_PAGE, GUEST_PAGE,
					  mem.hva + i * GUEST_PAGE);
		}
		ASSERT_OK(batch_apply(p.r.dev, &p.r.vm, &batch));
		ASSERT_EQ(madvise(p.r.mem.hva, p.r.mem.size, MADV_DONTNEED), 0);
		events++;
	}
	flag_set(&p.stop);
	pthread_join(plugger, NULL);
	pthread_join(reader, NULL);
	tap_note("%llu batches, %llu plugs, %llu reads",
		 (unsigned long long)batches, (unsigned long long)p.requests,
		 (unsigned long long)p.reads);
	EXPECT_AS_MODEL(&p.r);
	vcpu_set_smm(&p.r.vcpu, false);
	for (i = 0; i < nr; i++)
		EXPECT_EQ(vm_slot_exists(&p.r.vm, SLOT(i % 2, 1 + i)),
			  batches % 2);
}

int main(void)
{
	static const enum log_kind plain = LOG_PLAIN, manual = LOG_MANUAL,
				   ring = LOG_RING;
	static const struct tap_case cases[] = {
		{.name = "batches concurrent with calls, logs, vCPUs and mapping changes",
		 .run = beside_everything,
		 .arg = &plain,
		 .timeout_s = TIMEOUT_S},
		{.name = "the same with manual clearing of dirty logs",
		 .run = beside_everything,
		 .arg = &manual,
		 .timeout_s = TIMEOUT_S},
		{.name = "the same with dirty rings",
		 .run = beside_everything,
		 .arg = &ring,
		 .timeout_s = TIMEOUT_S},
		{.name = "batches concurrent with plugs of a region of the VM",
		 .run = beside_plugs,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
