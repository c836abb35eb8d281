// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which memory cgroup the module's memory is charged to. Memory whose size the
 * VMM determines is charged to the VMM. A caller that waits for a lock holds no
 * memory, since the VMM can hold the lock for as long as it likes, and the
 * caller can be killed. A VMM at its limit can delete memslots; the memory that
 * this needs beyond the limit is returned.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libmnl/libmnl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "cgroup.h"
#include "clock.h"
#include "kernel.h"
#include "process.h"
#include "region.h"
#include "request.h"
#include "tap.h"
#include "thread.h"
#include "tracing.h"
#include "userfault.h"

/* Memory that others on the machine allocate and free in the meantime. */
#define NOISE MIB(1)

#define WAITERS	    100U
#define CGROUP_SIZE MIB(64)

/*
 * The memslot that the vCPU faults on, and the one whose change holds the lock
 * until the fault is resolved.
 */
#define HELD_SLOT 100U
/* An unused id. */
#define NO_SLOT	  102U
#define HELD_GPA  GIB(6)
#define LOCK_SLOT 101U
#define LOCK_GPA  GIB(7)

/* Time limit for a wait that is short unless the test fails. */
#define PATIENCE_S 30U
#define TICK_US	   10000U

/**
 * struct holder - a VM whose slots_lock is held
 * @vm: the VM
 * @vcpu: waits for @page, so that no grace period ends
 * @mem: memory for memslots
 * @dev: /dev/kvm-vmem
 * @uffd: userfaultfd that handles @page
 * @page: a missing page of a memslot
 * @reader: runs @vcpu
 * @locker: holds slots_lock and waits for a grace period
 * @locker_id: its thread id, once it runs
 * @released: @locker has its grace period
 */
struct holder {
	struct vm vm;
	struct vcpu vcpu;
	struct backing mem;
	int dev;
	int uffd;
	void *page;
	pthread_t reader;
	pthread_t locker;
	uint64_t locker_id;
	bool released;
};

static void *read_held_page(void *arg)
{
	struct holder *h = arg;
	uint64_t value;

	guest_read(&h->vcpu, HELD_GPA, &value);
	return NULL;
}

static void *hold_lock(void *arg)
{
	struct holder *h = arg;

	__atomic_store_n(&h->locker_id, gettid(), __ATOMIC_RELEASE);
	vm_set_region(&h->vm, SLOT(AS_NORMAL, LOCK_SLOT), 0, LOCK_GPA,
		      GUEST_PAGE, h->mem.hva);
	flag_set(&h->released);
	return NULL;
}

/* Number of threads of a process in uninterruptible sleep. */
static unsigned int threads_in_kernel(const char *process)
{
	struct dirent *entry;
	unsigned int nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", process);
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		nr += entry->d_name[0] != '.' &&
		      process_thread_state(process, entry->d_name) == 'D';
	closedir(dir);
	return nr;
}

/* Wait until this many threads of a process are in uninterruptible sleep. */
static void await_in_kernel(const char *process, unsigned int nr)
{
	while (threads_in_kernel(process) < nr)
		usleep(TICK_US);
}

/* Create a VM. */
static void holder_init(struct holder *h)
{
	*h = (struct holder){.dev = kvm_vmem_open()};
	vm_create(&h->vm, 0);
	vcpu_create(&h->vcpu, &h->vm);
	backing_create(&h->mem, MIB(2));
}

/* Hold the lock of the VM. */
static void holder_hold(struct holder *h)
{
	struct uffd_msg msg;
	char locker[24];

	h->page = userfault_page(&h->uffd);
	ASSERT_OK(vm_set_region(&h->vm, SLOT(AS_NORMAL, HELD_SLOT), 0, HELD_GPA,
				GUEST_PAGE, h->page));
	thread_start(&h->reader, read_held_page, h);
	ASSERT_EQ(read(h->uffd, &msg, sizeof(msg)), sizeof(msg));
	thread_start(&h->locker, hold_lock, h);
	while (!counter_read(&h->locker_id))
		usleep(TICK_US);
	snprintf(locker, sizeof(locker), "%" PRIu64, h->locker_id);
	while (process_thread_state("self", locker) != 'D')
		usleep(TICK_US);
}

static void holder_start(struct holder *h)
{
	holder_init(h);
	holder_hold(h);
}

static void holder_release(struct holder *h)
{
	struct uffdio_zeropage zero = {
		.range = {.start = (uintptr_t)h->page, .len = GUEST_PAGE},
	};

	ASSERT_EQ(ioctl(h->uffd, UFFDIO_ZEROPAGE, &zero), 0);
	pthread_join(h->reader, NULL);
	pthread_join(h->locker, NULL);
}

/**
 * struct waiters - threads that make a call at the same time
 * @h: their VM
 * @entries: entries of a batch of maximum size; NULL for KVM's own call
 * @go: the threads may call
 */
struct waiters {
	struct holder *h;
	struct kvm_userspace_memory_region *entries;
	bool go;
};

static void *call_and_wait(void *arg)
{
	struct waiters *w = arg;
	struct batch b = {.entries = w->entries, .nr = KVM_VMEM_MAX_BATCH};

	while (!flag_is_set(&w->go))
		usleep(TICK_US);
	/*
	 * Either the id to delete is unused, or memslot 0 is in the batch more
	 * than once.
	 */
	if (w->entries)
		EXPECT_ERR(batch_call(w->h->dev, w->h->vm.fd, &b, 0), EINVAL);
	else
		EXPECT_ERR(vm_set_region(&w->h->vm, SLOT(AS_NORMAL, NO_SLOT), 0,
					 0, 0, NULL),
			   EINVAL);
	return NULL;
}

/* Used memory of the machine that is not charged to the cgroup. */
static uint64_t uncharged(void)
{
	return meminfo("MemTotal") - meminfo("MemAvailable") - cgroup_current();
}

/*
 * Let WAITERS threads wait for a VM's lock.
 *
 * Return: growth of the uncharged memory in bytes. Noise is temporary, so the
 * growth is measured until it is below @bound, or for PATIENCE_S.
 */
static uint64_t growth(struct kvm_userspace_memory_region *entries,
		       uint64_t bound)
{
	struct waiters w = {.entries = entries};
	pthread_t threads[WAITERS];
	uint64_t before, grown = 0;
	struct holder h;
	unsigned int i, waiting;

	holder_start(&h);
	w.h = &h;
	for (i = 0; i < WAITERS; i++)
		thread_start(&threads[i], call_and_wait, &w);
	waiting = threads_in_kernel("self");
	before = uncharged();
	flag_set(&w.go);
	await_in_kernel("self", waiting + WAITERS);
	for (i = 0; i < PATIENCE_S * 10; i++) {
		grown = uncharged() > before ? uncharged() - before : 0;
		if (grown < bound)
			break;
		usleep(100000);
	}
	EXPECT_TRUE(!flag_is_set(&h.released));
	holder_release(&h);
	for (i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	return grown;
}

/*
 * A kernel with debugging options allocates memory for each waiting thread.
 * KVM's own call is the reference: it allocates nothing before it has the lock.
 */
static void waiters_hold_no_memory(const void *arg)
{
	struct kvm_userspace_memory_region *entries;
	uint64_t kvm, batch;

	(void)arg;
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	cgroup_limit(CGROUP_SIZE);
	entries = calloc(KVM_VMEM_MAX_BATCH, sizeof(*entries));
	ASSERT_TRUE(entries);
	memset(entries, 0, KVM_VMEM_MAX_BATCH * sizeof(*entries));
	kvm = growth(NULL, NOISE);
	batch = growth(entries, kvm + NOISE);
	tap_note("%u threads wait: uncharged are %" PRIu64
		 " KiB in KVM's call, %" PRIu64 " KiB with %u entries each",
		 WAITERS, kvm >> 10, batch >> 10, KVM_VMEM_MAX_BATCH);
	EXPECT_LT(batch, kvm + NOISE);
	cgroup_leave();
}

/* Requests of a region that may wait in addition to one, see kmod/region_job.c. */
#define WAITING 63U

static void describe_region(const struct holder *h, struct region *r)
{
	*r = (struct region){
		.dev = h->dev,
		.vm = h->vm,
		.nl = netlink_open(),
		.args =
			{
				.size = sizeof(r->args),
				.vm_fd = h->vm.fd,
				.address_spaces = AS_MASK_NORMAL,
				.first_slot = 200,
				.guest_phys_addr = GIB(8),
				.region_size = MIB(2),
				.userspace_addr = (uintptr_t)h->mem.hva,
				.block_size = GUEST_PAGE,
				.slot_size = GUEST_PAGE,
			},
	};
}

/*
 * The memory of waiting requests is not charged. A handler that charged it
 * would hold netlink's lock while a sender above memory.high is made to sleep.
 */
static void requests_charge_nobody(const void *arg)
{
	struct mnl_socket *socket = request_socket(MNL_SOCKET_AUTOPID);
	uint64_t before, charged;
	struct holder h;
	struct region r;
	unsigned int i;
	int on = 1;

	(void)arg;
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	/*
	 * Errors without a copy of the request, so that all fit in the socket.
	 */
	ASSERT_EQ(
		mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, sizeof(on)),
		0);
	holder_init(&h);
	describe_region(&h, &r);
	region_create(&r);
	holder_hold(&h);
	/* The buffer for a request is charged to this process. */
	request_long_plug(socket, &r, 0);
	before = cgroup_current();
	for (i = 0; i < WAITING; i++)
		request_long_plug(socket, &r, i + 1);
	charged = cgroup_current() - before;
	tap_note("%u requests of %u ranges: %" PRIi64 " KiB charged", WAITING,
		 KVM_VMEM_MAX_RANGES, (int64_t)charged / 1024);
	EXPECT_LT((int64_t)charged, (int64_t)NOISE);
	holder_release(&h);
	for (i = 0; i <= WAITING; i++)
		EXPECT_EQ(request_error(socket, NULL), -EINVAL);
	mnl_socket_close(socket);
	cgroup_leave();
}

/*
 * A call that waits for slots_lock, in a process that shares the VMM's memory.
 */
struct call {
	struct holder *h;
	int (*run)(struct holder *h);
};

static int call_batch(struct holder *h)
{
	struct kvm_userspace_memory_region entry = {.slot = HELD_SLOT};
	struct batch b = {.entries = &entry, .nr = 1};

	return batch_call(h->dev, h->vm.fd, &b, 0);
}

static int call_create_region(struct holder *h)
{
	struct region r;

	describe_region(h, &r);
	return region_call_create(h->dev, &r.args);
}

static int run_call(void *arg)
{
	const struct call *call = arg;

	call->run(call->h);
	_exit(0);
}

static void expect_killable(struct holder *h, int (*run)(struct holder *h))
{
	static char stack[KIB(64)] __attribute__((aligned(16)));
	struct call call = {.h = h, .run = run};
	char process[16];
	unsigned int i;
	int status = 0;
	pid_t pid;

	pid = clone(run_call, stack + sizeof(stack),
		    CLONE_VM | CLONE_FILES | SIGCHLD, &call);
	ASSERT_GT(pid, 0);
	snprintf(process, sizeof(process), "%d", pid);
	await_in_kernel(process, 1);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	for (i = 0; i < PATIENCE_S * 1000000 / TICK_US; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
		usleep(TICK_US);
	}
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_TRUE(!flag_is_set(&h->released));
}

static void waiters_can_be_killed(const void *arg)
{
	struct holder h;

	(void)arg;
	holder_start(&h);
	expect_killable(&h, call_batch);
	expect_killable(&h, call_create_region);
	holder_release(&h);
}

/* Enter a memory cgroup, exempt from the OOM killer. Skips without one. */
static void enter_cgroup_spared(void)
{
	kernel_write("/proc/self/oom_score_adj", "-1000");
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
}

/* Guest addresses of memslots of one page, by id. */
#define PAGE_GPA(id) (GIB(16) + (uint64_t)(id)*GUEST_PAGE)

static void add_pages(struct batch *b, const struct backing *mem,
		      unsigned int first, unsigned int nr)
{
	unsigned int id;

	batch_reset(b);
	for (id = first; id < first + nr; id++)
		batch_set(b, SLOT(AS_NORMAL, id), 0, PAGE_GPA(id), GUEST_PAGE,
			  mem->hva);
}

/* More stack than the calls below need. */
#define STACK_SIZE KIB(256)

/*
 * Fault in all memory that this process may access later. In a cgroup without a
 * killable process, a fault without memory is retried for ever.
 */
static void __attribute__((noinline)) fault_all_in(void)
{
	volatile uint8_t stack[STACK_SIZE] __attribute__((unused));

	for (unsigned int i = 0; i < STACK_SIZE; i += GUEST_PAGE)
		stack[i] = 1;
	ASSERT_OK(mlockall(MCL_CURRENT));
}

/* Create memslots from an id on until memory runs out. Return: their number. */
static unsigned int fill_up(const struct vm *vm, const struct backing *mem,
			    unsigned int first)
{
	unsigned int id = first;

	while (!vm_set_region(vm, SLOT(AS_NORMAL, id), 0, PAGE_GPA(id),
			      GUEST_PAGE, mem->hva))
		id++;
	return id - first;
}

/* Each CPU may have some memory that is charged already. */
static void stay_on_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)sched_getcpu(), &set);
	ASSERT_OK(sched_setaffinity(0, sizeof(set), &set));
}

/*
 * Use up the cgroup's memory with memslots from an id on. Afterwards even
 * reading a file in /proc would need more.
 */
static unsigned int fill_cgroup(const struct vm *vm, const struct backing *mem,
				unsigned int first, uint64_t *limit)
{
	stay_on_cpu();
	fault_all_in();
	*limit = cgroup_current();
	cgroup_limit(*limit);
	return fill_up(vm, mem, first);
}

/*
 * More than there are free INVALID copies at the limit, plus all of the spare.
 */
#define MANY	   4096U
#define MANY_FIRST 1000U
#define NEXT_FIRST (MANY_FIRST + MANY)
#define FILL_FIRST (NEXT_FIRST + MANY)

/*
 * Create a VM with @nr memslots from MANY_FIRST on.
 * @create: the batch that created them
 * @delete: a batch that deletes them
 *
 * Return: the module's device.
 */
static int create_memslots(struct vm *vm, struct backing *mem, unsigned int nr,
			   struct batch *create, struct batch *delete)
{
	int dev = kvm_vmem_open();
	unsigned int id;

	vm_create(vm, 0);
	backing_create(mem, GUEST_PAGE);
	memset(mem->hva, 0, GUEST_PAGE);
	batch_init(create);
	batch_init(delete);
	add_pages(create, mem, MANY_FIRST, nr);
	for (id = MANY_FIRST; id < MANY_FIRST + nr; id++)
		batch_delete(delete, SLOT(AS_NORMAL, id));
	ASSERT_OK(batch_apply(dev, vm, create));
	return dev;
}

static void a_full_cgroup_can_delete(const void *arg)
{
	struct batch create, delete;
	unsigned int id, filled;
	struct backing mem;
	uint64_t limit;
	struct vm vm;
	int dev;

	(void)arg;
	enter_cgroup_spared();
	dev = create_memslots(&vm, &mem, MANY, &create, &delete);
	add_pages(&create, &mem, NEXT_FIRST, MANY);
	filled = fill_cgroup(&vm, &mem, FILL_FIRST, &limit);

	EXPECT_ERR(batch_apply(dev, &vm, &create), ENOMEM);
	EXPECT_TRUE(!vm_slot_exists(&vm, SLOT(AS_NORMAL, NEXT_FIRST)));
	/* The last entry is refused, so nothing is deleted. */
	delete.entries[MANY - 1].slot = SLOT(AS_NORMAL, NEXT_FIRST);
	EXPECT_ERR(batch_apply(dev, &vm, &delete), EINVAL);
	EXPECT_EQ(delete.bad_index, MANY - 1);
	EXPECT_TRUE(vm_slot_exists(&vm, SLOT(AS_NORMAL, MANY_FIRST)));
	delete.entries[MANY - 1].slot = SLOT(AS_NORMAL, NEXT_FIRST - 1);
	EXPECT_OK(batch_apply(dev, &vm, &delete));
	EXPECT_LE(cgroup_current(), limit);

	cgroup_limit(CGROUP_NO_LIMIT);
	tap_note("at its limit after %u more memslots", filled);
	for (id = MANY_FIRST; id < NEXT_FIRST; id++)
		if (vm_slot_exists(&vm, SLOT(AS_NORMAL, id)))
			break;
	EXPECT_EQ(id, NEXT_FIRST);
	EXPECT_OK(batch_apply(dev, &vm, &create));
	cgroup_leave();
}

/*
 * At the limit a batch is carried out in parts, as far as INVALID copies go. Its
 * event has the sums over all of them.
 */
static void parts_are_reported_together(const void *arg)
{
	struct tracing_batch told = {0};
	struct batch create, delete;
	struct backing mem;
	uint64_t limit, start, ns;
	struct vm vm;
	int dev;

	(void)arg;
	enter_cgroup_spared();
	dev = create_memslots(&vm, &mem, MANY, &create, &delete);
	tracing_open();
	fill_cgroup(&vm, &mem, FILL_FIRST, &limit);
	start = now_ns();
	EXPECT_OK(batch_apply(dev, &vm, &delete));
	ns = now_ns() - start;
	cgroup_limit(CGROUP_NO_LIMIT);

	EXPECT_EQ(tracing_take_batches(&told, 1), 1);
	EXPECT_EQ(told.deletes, MANY);
	EXPECT_GT(told.zaps, 1);
	EXPECT_EQ(told.grace_periods, 2 * told.zaps);
	EXPECT_GT(told.grace_ns, 0);
	EXPECT_GT(told.zap_ns, 0);
	EXPECT_GT(told.commit_ns, 0);
	EXPECT_LE(told.judge_ns + told.prepare_ns + told.grace_ns +
			  told.zap_ns + told.commit_ns,
		  ns);
	tracing_close();
	cgroup_leave();
}

#define TRACEFS	    "/sys/kernel/tracing/"
#define ALLOCATIONS TRACEFS "instances/kvm_vmem_charge/"

static void allocations_write(const char *name, const char *text)
{
	if (!tracing_try_write(name, text, O_TRUNC)) {
		tap_fail(__FILE__, __LINE__, "%s: %s", name, strerror(errno));
		tap_abort();
	}
}

/* Begin to trace this thread's allocations. At the limit this would fail. */
static void allocations_open(void)
{
	char filter[64];

	if (access(TRACEFS "instances", W_OK))
		tap_skip("%s: %s", TRACEFS "instances", strerror(errno));
	rmdir(ALLOCATIONS);
	ASSERT_EQ(mkdir(ALLOCATIONS, S_IRWXU), 0);
	snprintf(filter, sizeof(filter), "common_pid == %d\n", gettid());
	allocations_write(ALLOCATIONS "events/kmem/kmalloc/filter", filter);
	allocations_write(ALLOCATIONS "events/kmem/kmalloc/enable", "1\n");
}

/* How an allocation is attempted, see kmod/gfp.h. */
enum attempt {
	ATTEMPT_OTHER,
	ATTEMPT_QUICK,
	ATTEMPT_HARD,
	ATTEMPT_SPARE,
};

static enum attempt parse_attempt(const char *line, uint64_t *size)
{
	const char *bytes = strstr(line, " bytes_req=");

	if (!bytes || !strstr(line, "GFP_KERNEL_ACCOUNT") ||
	    sscanf(bytes, " bytes_req=%" SCNu64, size) != 1)
		return ATTEMPT_OTHER;
	if (strstr(line, "__GFP_HIGH|"))
		return ATTEMPT_SPARE;
	if (strstr(line, "__GFP_NORETRY"))
		return ATTEMPT_QUICK;
	return strstr(line, "__GFP_RETRY_MAYFAIL") ? ATTEMPT_HARD
						   : ATTEMPT_OTHER;
}

/**
 * struct attempts - results of the allocations of one call
 * @spare: number of allocations from the spare
 * @hard: number of hard attempts
 * @first_hard: the first allocation from the spare followed a hard attempt of
 * the same size, which followed a quick one
 */
struct attempts {
	unsigned int spare;
	unsigned int hard;
	bool first_hard;
};

static void read_attempts(struct attempts *a)
{
	enum attempt last[2] = {ATTEMPT_OTHER, ATTEMPT_OTHER}, now;
	uint64_t size = 0, last_size = 0;
	char line[512];
	FILE *f;

	*a = (struct attempts){.first_hard = true};
	f = fopen(ALLOCATIONS "trace", "re");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		now = parse_attempt(line, &size);
		if (now == ATTEMPT_OTHER)
			continue;
		if (size != last_size)
			last[0] = last[1] = ATTEMPT_OTHER;
		if (now == ATTEMPT_SPARE && !a->spare++)
			a->first_hard = last[0] == ATTEMPT_QUICK &&
					last[1] == ATTEMPT_HARD;
		a->hard += now == ATTEMPT_HARD;
		last[0] = last[1];
		last[1] = now;
		last_size = size;
	}
	fclose(f);
	allocations_write(ALLOCATIONS "events/kmem/kmalloc/enable", "0\n");
	ASSERT_EQ(rmdir(ALLOCATIONS), 0);
}

/*
 * Memslots that are deleted at the limit. Each needs a copy of its structure.
 */
#define DELETES 64U

/*
 * At the limit an allocation is attempted quickly, then hard, and only then
 * from the spare, which may be the machine's emergency reserve. After the spare
 * has been used for one copy of a memslot, there are no hard attempts for other
 * copies.
 */
static void the_spare_comes_last(const void *arg)
{
	struct attempts attempts;
	struct batch create, delete;
	struct backing mem;
	uint64_t limit;
	struct vm vm;
	int dev;

	(void)arg;
	enter_cgroup_spared();
	dev = create_memslots(&vm, &mem, DELETES, &create, &delete);
	allocations_open();
	fill_cgroup(&vm, &mem, FILL_FIRST, &limit);

	EXPECT_OK(batch_apply(dev, &vm, &delete));
	cgroup_limit(CGROUP_NO_LIMIT);
	read_attempts(&attempts);
	tap_note("%u of the spare, %u hard attempts", attempts.spare,
		 attempts.hard);
	EXPECT_GT(attempts.spare, 1);
	EXPECT_TRUE(attempts.first_hard);
	EXPECT_LT(attempts.hard, attempts.spare);
	cgroup_leave();
}

/* Memory for each range of a request that a region would keep. */
#define KEPT_RANGE (2 * sizeof(uint64_t))

/**
 * struct observer - a process outside the cgroup, which can open files
 * @look: asks it to enforce the limit again, until the charged memory is below
 * @expected
 * @lift: asks it to remove the limit
 * @looked: it has read the charged memory
 * @lifted: it has removed the limit
 * @limit: limit of the cgroup
 * @expected: bound of the charged memory
 * @current: charged memory that it has read
 */
struct observer {
	bool look;
	bool lift;
	bool looked;
	bool lifted;
	uint64_t limit;
	uint64_t expected;
	uint64_t current;
};

static void await_flag(const bool *flag)
{
	while (!flag_is_set(flag))
		usleep(TICK_US);
}

static void __attribute__((noreturn)) observe(struct observer *o)
{
	unsigned int i;

	/* Otherwise it would wait for ever if the case fails. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cgroup_step_out();
	await_flag(&o->look);
	/*
	 * Writing the limit again enforces it: the CPUs' charge stocks are
	 * drained. CPUs do so when they can, and free memory after a grace
	 * period.
	 */
	for (i = 0; i < PATIENCE_S * 1000000 / TICK_US; i++) {
		cgroup_limit(o->limit);
		o->current = cgroup_current();
		if (o->current < o->expected)
			break;
		usleep(TICK_US);
	}
	flag_set(&o->looked);
	await_flag(&o->lift);
	cgroup_limit(CGROUP_NO_LIMIT);
	flag_set(&o->lifted);
	_exit(0);
}

static struct observer *observer_start(void)
{
	struct observer *o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	ASSERT_TRUE(o != MAP_FAILED);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		observe(o);
	return o;
}

/* Each of them remembers its last request. */
#define NR_REGIONS 32U
/* Maximum number of plugs of which a grace period may free the memory. */
#define LATE_MAX 4U
/* A memslot with as many blocks as two requests have ranges. */
#define SLOT_BLOCKS (2 * KVM_VMEM_MAX_RANGES)
#define SLOT_SIZE   (SLOT_BLOCKS * GUEST_PAGE)

/* Create a region of two memslots, and plug all of the first. */
static void make_region(const struct holder *h, unsigned int i,
			struct vmem_nl *nl, struct region *r)
{
	const uint64_t offset = 2ULL * i * SLOT_SIZE;
	const struct vmem_nl_range all = {.gpa = GIB(8) + offset,
					  .size = SLOT_SIZE};

	describe_region(h, r);
	vmem_nl_close(r->nl);
	r->nl = nl;
	r->args.first_slot += 2 * i;
	r->args.guest_phys_addr = all.gpa;
	r->args.userspace_addr += offset;
	r->args.region_size = 2 * SLOT_SIZE;
	r->args.slot_size = SLOT_SIZE;
	region_create(r);
	ASSERT_OK(
		vmem_nl_plug(nl, VMEM_NL_BY_FD(r->fd), 1, &all, 1, NULL, NULL));
}

/* Unplug @nr of every other block of the first memslot, which stays. */
static int unplug_others(const struct region *r, unsigned int nr)
{
	static struct vmem_nl_range ranges[KVM_VMEM_MAX_RANGES];
	struct vmem_nl_answer answer = {0};
	unsigned int i;
	int ret;

	for (i = 0; i < nr; i++)
		ranges[i] = (struct vmem_nl_range){
			.gpa = r->args.guest_phys_addr + 2ULL * i * GUEST_PAGE,
			.size = GUEST_PAGE,
		};
	ret = vmem_nl_unplug(r->nl, VMEM_NL_BY_FD(r->fd), 2, ranges, nr,
			     &answer, NULL);
	if (!ret)
		EXPECT_EQ(answer.plugged_size, SLOT_SIZE / 2);
	return ret;
}

/* Plug a block of the second memslot. */
static int plug_second(const struct region *r)
{
	const struct vmem_nl_range range = {
		.gpa = r->args.guest_phys_addr + SLOT_SIZE, .size = GUEST_PAGE};

	return vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->fd), 3, &range, 1, NULL,
			    NULL);
}

/*
 * At the limit, requests with an id and the maximum number of ranges can unplug
 * blocks, but not plug any. The memory of the spare that they use is returned,
 * although the regions remember the requests.
 */
static void a_full_cgroup_can_unplug(const void *arg)
{
	static struct region r[NR_REGIONS];
	const uint64_t kept = NR_REGIONS * KVM_VMEM_MAX_RANGES * KEPT_RANGE;
	struct vmem_nl *nl = netlink_open();
	unsigned int i, next = FILL_FIRST;
	struct observer *observer;
	struct holder h;
	int ret;

	(void)arg;
	enter_cgroup_spared();
	observer = observer_start();
	holder_init(&h);
	backing_destroy(&h.mem);
	backing_create(&h.mem, 2ULL * NR_REGIONS * SLOT_SIZE);
	memset(h.mem.hva, 0, GUEST_PAGE);
	for (i = 0; i < NR_REGIONS; i++)
		make_region(&h, i, nl, &r[i]);
	/* Allocate this process' memory for a long message now. */
	ASSERT_OK(unplug_others(&r[0], KVM_VMEM_MAX_RANGES));
	next += fill_cgroup(&h.vm, &h.mem, next, &observer->limit);
	observer->expected = observer->limit + kept / 2;

	for (i = 1; i < NR_REGIONS; i++)
		EXPECT_OK(unplug_others(&r[i], KVM_VMEM_MAX_RANGES));
	flag_set(&observer->look);
	await_flag(&observer->looked);
	tap_note(
		"%" PRIi64
		" KiB beyond the limit; to remember the requests would take %" PRIu64,
		(int64_t)(observer->current - observer->limit) / 1024,
		kept / 1024);
	EXPECT_LT(observer->current, observer->expected);
	for (i = 1; i < NR_REGIONS; i++) {
		EXPECT_OK(unplug_others(&r[i], KVM_VMEM_MAX_RANGES));
		EXPECT_ERR(unplug_others(&r[i], KVM_VMEM_MAX_RANGES - 1),
			   EINVAL);
	}

	/*
	 * There may be memory for a range, but there is none for a memslot. A
	 * grace period that ends amid this can free some: then the next region
	 * attempts it. From the spare there would be enough for all regions.
	 */
	i = 0;
	do {
		ASSERT_LE(++i, LATE_MAX);
		next += fill_up(&h.vm, &h.mem, next);
		ret = plug_second(&r[i]);
	} while (!ret);
	EXPECT_EQ(ret, -ENOMEM);
	EXPECT_TRUE(!vmem_nl_failure(nl)->has_offset);
	flag_set(&observer->lift);
	await_flag(&observer->lifted);
	EXPECT_OK(plug_second(&r[i]));
	cgroup_leave();
}

/* More memslots than a batch may use the spare for. */
#define END_SLOTS (KVM_VMEM_SPARE_BATCH + 100U)

/*
 * At the limit there is no memory for one batch that removes all memslots of a
 * region that ends, so they go in small steps. All of them do.
 */
static void a_full_cgroup_can_end_a_region(const void *arg)
{
	const struct vmem_nl_range all = {.gpa = GIB(8),
					  .size = END_SLOTS * GUEST_PAGE};
	struct tracing_batch told;
	FILE *events;
	struct holder h;
	struct region r;
	unsigned int id;
	uint64_t limit;

	(void)arg;
	enter_cgroup_spared();
	holder_init(&h);
	backing_destroy(&h.mem);
	backing_create(&h.mem, all.size);
	memset(h.mem.hva, 0, GUEST_PAGE);
	describe_region(&h, &r);
	r.args.region_size = all.size;
	region_create(&r);
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 1, &all, 1, NULL,
			       NULL));
	events = tracing_open_events("batch");
	fill_cgroup(&h.vm, &h.mem, FILL_FIRST, &limit);
	close(r.fd);
	cgroup_limit(CGROUP_NO_LIMIT);
	/* There was no room for a batch with all of them. */
	EXPECT_GT(tracing_take_batches(&told, 1), 1);
	tracing_close_events(events);

	for (id = 0; id < END_SLOTS; id++)
		if (vm_slot_exists(&h.vm,
				   SLOT(AS_NORMAL, r.args.first_slot + id)))
			break;
	EXPECT_EQ(id, END_SLOTS);
	/* Its place is free, and so is the VM's lock. */
	region_create(&r);
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 2, &all, 1, NULL,
			       NULL));
	cgroup_leave();
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a caller that waits for a VM's lock holds no memory",
		 .run = waiters_hold_no_memory,
		 .timeout_s = 180},
		{.name = "a caller that waits for a VM's lock can be killed",
		 .run = waiters_can_be_killed,
		 .timeout_s = 180},
		{.name = "a VMM at the limit of its cgroup can delete memslots",
		 .run = a_full_cgroup_can_delete,
		 .timeout_s = 180},
		{.name = "waiting requests are not charged",
		 .run = requests_charge_nobody,
		 .timeout_s = 180},
		{.name = "a VMM at the limit uses the spare last",
		 .run = the_spare_comes_last,
		 .timeout_s = 180},
		{.name = "a VMM at the limit can unplug, and the spare is returned",
		 .run = a_full_cgroup_can_unplug,
		 .timeout_s = 180},
		{.name = "a batch in parts reports the sums of all parts",
		 .run = parts_are_reported_together,
		 .timeout_s = 180},
		{.name = "the memslots of a region that ends at the limit all go",
		 .run = a_full_cgroup_can_end_a_region,
		 .timeout_s = 180},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
