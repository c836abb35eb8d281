// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The end of the VMM, of the VM, of the region and of the module, in any order,
 * and while requests are under way. Nothing may be left behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "cgroup.h"
#include "kernel.h"
#include "module.h"
#include "process.h"
#include "region.h"
#include "tap.h"

/*
 * A limit against hangs, also for events that follow the end of the VMM's
 * process.
 */
#define TIMEOUT_MS 30000

/* Kernel memory that others allocate and free in the meantime. */
#define NOISE MIB(3)

static short poll_for(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	ASSERT_GE(poll(&pfd, 1, TIMEOUT_MS), 0);
	return pfd.revents;
}

static int read_changes(int fd)
{
	uint64_t changes;
	ssize_t n = read(fd, &changes, sizeof(changes));

	return n < 0 ? -errno : (int)n;
}

/* A holder of the descriptor is notified that the VM is gone. */
static void expect_dead(struct vmem_nl *nl, int fd)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(fd);
	struct vmem_nl_region s;
	struct vmem_nl_range range;

	EXPECT_EQ(poll_for(fd, 0), POLLHUP);
	ASSERT_OK(vmem_nl_region_get(nl, name, &s, NULL));
	EXPECT_EQ(s.alive, false);
	EXPECT_EQ(s.metadata.total, 0);
	range = (struct vmem_nl_range){.gpa = s.gpa, .size = s.block_size};
	EXPECT_ERR(vmem_nl_plug(nl, name, 0, &range, 1, NULL, NULL), ENODEV);
	EXPECT_ERR(vmem_nl_unplug(nl, name, 0, &range, 1, NULL, NULL), ENODEV);
	EXPECT_ERR(vmem_nl_unplug_all(nl, name, 0, NULL, NULL), ENODEV);
	EXPECT_ERR(vmem_nl_region_set(nl, name, VMEM_NL_SET_REQUESTED_SIZE, 0,
				      false, NULL, NULL),
		   ENODEV);
}

/* A read returns the last change, then end of file. */
static void expect_end_of_file(int fd)
{
	int r = read_changes(fd);

	if (r == sizeof(uint64_t))
		r = read_changes(fd);
	EXPECT_EQ(r, 0);
	EXPECT_EQ(read_changes(fd), 0);
}

/*
 * Large memslots, so that their metadata is visible in the kernel's counters.
 */
#define VMM_BLOCK MIB(128)
#define VMM_SLOTS 64U

static void vmm_init(struct region *r)
{
	region_prepare(r);
	backing_create(&r->mem, VMM_SLOTS * VMM_BLOCK);
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.guest_phys_addr = GIB(8);
	r->args.region_size = VMM_SLOTS * VMM_BLOCK;
	r->args.block_size = VMM_BLOCK;
	r->args.slot_size = VMM_BLOCK;
	r->args.address_spaces = AS_MASK_BOTH;
	region_create(r);
}

/**
 * struct vmm - a VMM in a process of its own
 * @pid: its process
 * @region: the region's descriptor, received from it
 * @socket: connection to it
 */
struct vmm {
	pid_t pid;
	int region;
	int socket;
};

static void vmm_start(struct vmm *vmm)
{
	int pair[2];

	process_pair(pair);
	vmm->pid = fork();
	ASSERT_GE(vmm->pid, 0);
	if (!vmm->pid) {
		struct region r;

		close(pair[0]);
		vmm_init(&r);
		send_fd(pair[1], r.fd);
		/* Ends with the test if it is not killed. */
		recv(pair[1], &(char){0}, 1, 0);
		_exit(0);
	}
	close(pair[1]);
	vmm->socket = pair[0];
	vmm->region = receive_fd(pair[0]);
}

/* Kills a process when @at plugs have been made, which @reached signals. */
struct killer {
	pid_t pid;
	unsigned int at;
	sem_t reached;
};

static void *killer_run(void *arg)
{
	struct killer *k = arg;

	while (sem_wait(&k->reached))
		EXPECT_EQ(errno, EINTR);
	kill(k->pid, SIGKILL);
	return NULL;
}

/* Plug and unplug blocks until the VM is gone. */
static void plug_until_death(struct vmem_nl *nl, int fd, struct killer *killer)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(fd);
	unsigned int n;
	int r = 0;

	for (n = 0; !r; n++) {
		const struct vmem_nl_range range = {
			.gpa = GIB(8) + n * 7 % VMM_SLOTS * VMM_BLOCK,
			.size = VMM_BLOCK,
		};

		/*
		 * Plug all blocks, then unplug all, one at a time, and so on.
		 */
		if (n == killer->at)
			sem_post(&killer->reached);
		r = n / VMM_SLOTS % 2
			    ? vmem_nl_unplug(nl, name, 0, &range, 1, NULL, NULL)
			    : vmem_nl_plug(nl, name, 0, &range, 1, NULL, NULL);
	}
	EXPECT_ERR(r, ENODEV);
}

static void vmm_killed_amid_plugs(const void *arg)
{
	const unsigned int rounds = 20, step = 9;
	unsigned int round;
	struct vmem_nl *nl;
	uint64_t before;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	nl = netlink_open();
	await_no_vm();
	before = meminfo("VmallocUsed");
	for (round = 0; round < rounds; round++) {
		struct killer killer = {.at = round * step};
		pthread_t thread;
		struct vmm vmm;

		tap_context("round %u", round);
		vmm_start(&vmm);
		killer.pid = vmm.pid;
		ASSERT_EQ(sem_init(&killer.reached, 0, 0), 0);
		ASSERT_EQ(pthread_create(&thread, NULL, killer_run, &killer),
			  0);
		plug_until_death(nl, vmm.region, &killer);
		pthread_join(thread, NULL);
		sem_destroy(&killer.reached);
		ASSERT_EQ(waitpid(vmm.pid, NULL, 0), vmm.pid);
		expect_dead(nl, vmm.region);
		expect_end_of_file(vmm.region);
		EXPECT_EQ(region_count(dev), 1);
		close(vmm.region);
		await_no_vm();
		close(vmm.socket);
	}
	tap_context("%s", "");
	EXPECT_LE(meminfo("VmallocUsed"), before + NOISE);
}

/*
 * Wait for the event that the region has dropped its VM, which frees its
 * metadata.
 */
static void await_vm_dropped(struct vmem_nl *events)
{
	struct vmem_nl_event event;

	do {
		ASSERT_OK(vmem_nl_next_event(events, TIMEOUT_MS, &event, NULL));
	} while (event.region.alive);
}

static void metadata_goes_with_the_vmm(const void *arg)
{
	const struct vmem_nl_range all = {.gpa = GIB(8),
					  .size = VMM_SLOTS * VMM_BLOCK};
	struct vmem_nl *nl, *events;
	uint64_t before, with;
	struct vmm vmm;

	(void)arg;
	nl = netlink_open();
	events = netlink_open();
	ASSERT_OK(vmem_nl_subscribe(events, NULL));
	before = meminfo("VmallocUsed");
	vmm_start(&vmm);
	ASSERT_OK(vmem_nl_plug(nl, VMEM_NL_BY_FD(vmm.region), 0, &all, 1, NULL,
			       NULL));
	with = meminfo("VmallocUsed");
	EXPECT_GT(with, before);
	ASSERT_EQ(kill(vmm.pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(vmm.pid, NULL, 0), vmm.pid);
	/*
	 * The descriptor is still open. Its POLLHUP follows the end of the VMM.
	 */
	EXPECT_EQ(poll_for(vmm.region, 0), POLLHUP);
	await_vm_dropped(events);
	EXPECT_LE(meminfo("VmallocUsed"), before + NOISE);
	expect_dead(nl, vmm.region);
}

struct blocked_reader {
	int fd;
	int result;
};

static void *blocked_reader_run(void *arg)
{
	struct blocked_reader *b = arg;

	/* The event of the end may be read first. */
	do
		b->result = read_changes(b->fd);
	while (b->result > 0);
	return NULL;
}

static void death_wakes_readers(const void *arg)
{
	struct blocked_reader reader;
	pthread_t thread;
	struct vmm vmm;

	(void)arg;
	vmm_start(&vmm);
	reader.fd = vmm.region;
	ASSERT_EQ(pthread_create(&thread, NULL, blocked_reader_run, &reader),
		  0);
	ASSERT_EQ(kill(vmm.pid, SIGKILL), 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(reader.result, 0);
	EXPECT_EQ(poll_for(vmm.region, POLLIN) & POLLHUP, POLLHUP);
}

static void vm_closed_region_stays(const void *arg)
{
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	await_no_vm();
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, 5));
	close(r.vm.fd);
	/* The vCPU's descriptor also holds the VM. */
	EXPECT_OK(region_plug(&r, 20, 1));
	EXPECT_GUEST_MEMORY(&r.vcpu, region_block_gpa(&r, 20),
			    region_block_hva(&r, 20));
	vcpu_destroy(&r.vcpu);
	/*
	 * Now only the region holds the VM, which lives as long as the VMM's
	 * memory.
	 */
	EXPECT_EQ(kvm_vm_count(), 1);
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &s, NULL));
	EXPECT_EQ(s.alive, true);
	EXPECT_OK(region_unplug(&r, 0, 5));
	EXPECT_DUMPS_AS_MODEL(&r);
	close(r.fd);
	EXPECT_EQ(region_count(r.dev), 0);
	EXPECT_EQ(kvm_vm_count(), 0);
}

static void region_closed_vm_stays(const void *arg)
{
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	ASSERT_OK(region_plug(&r, 0, r.nr_blocks));
	EXPECT_AS_MODEL(&r);
	close(r.fd);
	memset(r.plugged, 0, sizeof(r.plugged));
	EXPECT_GUEST_AS_MODEL(&r);
	close(r.vm.fd);
	EXPECT_GUEST_MMIO(&r.vcpu, region_block_gpa(&r, 0));
}

/*
 * Requests that take long to parse, so that often one has found the region and
 * is waiting when the descriptor is closed: each thread has a slot, and each of
 * its blocks is a range.
 */
#define NR_PLUGGERS	   3U
#define BLOCKS_PER_PLUGGER KVM_VMEM_MAX_RANGES

/**
 * struct plugger - a thread that plugs and unplugs until a request fails
 * @nl: its own netlink handle
 * @fd: the region
 * @ranges: its blocks
 * @count: requests made
 * @result: the error that ended it
 */
struct plugger {
	struct vmem_nl *nl;
	int fd;
	struct vmem_nl_range ranges[BLOCKS_PER_PLUGGER];
	unsigned int count;
	int result;
};

static void *plugger_run(void *arg)
{
	struct plugger *p = arg;
	const struct vmem_nl_name name = VMEM_NL_BY_FD(p->fd);
	unsigned int n;

	for (n = 0; !p->result; n++) {
		p->result =
			n % 2 ? vmem_nl_unplug(p->nl, name, 0, p->ranges,
					       BLOCKS_PER_PLUGGER, NULL, NULL)
			      : vmem_nl_plug(p->nl, name, 0, p->ranges,
					     BLOCKS_PER_PLUGGER, NULL, NULL);
		__atomic_store_n(&p->count, n + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void close_amid_requests(struct region *r, struct plugger *pluggers,
				unsigned int requests)
{
	pthread_t threads[NR_PLUGGERS];
	unsigned int i, block;

	region_create(r);
	for (i = 0; i < NR_PLUGGERS; i++) {
		struct plugger *p = &pluggers[i];

		p->nl = netlink_open();
		p->fd = r->fd;
		p->count = 0;
		p->result = 0;
		for (block = 0; block < BLOCKS_PER_PLUGGER; block++)
			p->ranges[block] = region_range(
				r, i * BLOCKS_PER_PLUGGER + block, 1);
		ASSERT_EQ(pthread_create(&threads[i], NULL, plugger_run, p), 0);
	}
	while (__atomic_load_n(&pluggers[0].count, __ATOMIC_ACQUIRE) < requests)
		sched_yield();
	close(r->fd);
	for (i = 0; i < NR_PLUGGERS; i++) {
		pthread_join(threads[i], NULL);
		vmem_nl_close(pluggers[i].nl);
		/*
		 * The last request found a region that has ended, or no region.
		 */
		EXPECT_TRUE(pluggers[i].result == -EBADF ||
			    pluggers[i].result == -ENODEV);
	}
}

static void closed_amid_requests(const void *arg)
{
	static struct plugger pluggers[NR_PLUGGERS];
	const unsigned int rounds = 60;
	unsigned int round, slot;
	struct region r;

	(void)arg;
	region_await_none();
	region_prepare(&r);
	r.args.block_size = GUEST_PAGE;
	r.args.slot_size = BLOCKS_PER_PLUGGER * GUEST_PAGE;
	r.args.region_size = NR_PLUGGERS * r.args.slot_size;
	backing_create(&r.mem, r.args.region_size);
	r.args.userspace_addr = (uintptr_t)r.mem.hva;
	for (round = 0; round < rounds; round++) {
		tap_context("round %u", round);
		close_amid_requests(&r, pluggers, round % 10);
		for (slot = 0; slot < NR_PLUGGERS; slot++)
			EXPECT_EQ(
				vm_slot_exists(&r.vm, REGION_FIRST_SLOT + slot),
				false);
		/* Otherwise this failure would make all later rounds fail. */
		for (slot = 0; slot < NR_PLUGGERS; slot++)
			vm_delete_slot(&r.vm, REGION_FIRST_SLOT + slot);
	}
	EXPECT_EQ(region_count(r.dev), 0);
}

static void fork_of_the_vmm(const void *arg)
{
	struct vmem_nl *nl;
	struct region r;
	int pair[2], dev;
	pid_t vmm, child;

	(void)arg;
	region_await_none();
	dev = kvm_vmem_open();
	process_pair(pair);
	vmm = fork();
	ASSERT_GE(vmm, 0);
	if (!vmm) {
		region_init(&r, AS_MASK_NORMAL);
		ASSERT_OK(region_plug(&r, 0, 3));
		/* The end of a child is not the end of the VMM. */
		child = fork();
		ASSERT_GE(child, 0);
		if (!child)
			_exit(0);
		expect_exit(child);
		EXPECT_AS_MODEL(&r);

		/* This child inherits all descriptors and outlives the VMM. */
		child = fork();
		ASSERT_GE(child, 0);
		if (child) {
			send_fd(pair[1], r.fd);
			receive_byte(pair[1]);
			_exit(0);
		}
		nl = netlink_open();
		expect_dead(nl, r.fd);
		send_byte(pair[1]);
		receive_byte(pair[1]);
		_exit(0);
	}
	r.fd = receive_fd(pair[0]);
	nl = netlink_open();
	ASSERT_OK(vmem_nl_region_get(nl, VMEM_NL_BY_FD(r.fd),
				     &(struct vmem_nl_region){0}, NULL));
	send_byte(pair[0]);
	expect_exit(vmm);
	receive_byte(pair[0]);
	expect_dead(nl, r.fd);
	/* The child's copies keep the region, although its VM is gone. */
	close(r.fd);
	EXPECT_EQ(region_count(dev), 1);
	send_byte(pair[0]);
	close(pair[1]);
	/*
	 * Wait for the child's end, when the last copy of the other socket is
	 * closed.
	 */
	EXPECT_EQ(recv(pair[0], &(char){0}, 1, 0), 0);
}

/* The region to create, and the socket to send its descriptor to. */
struct sender {
	struct region *r;
	int socket;
};

static int make_region_and_send(void *arg)
{
	struct sender *s = arg;

	region_create(s->r);
	send_fd(s->socket, s->r->fd);
	_exit(0);
}

/*
 * A process that shares the VMM's memory but not its descriptors creates a
 * region and exits, which closes its descriptor. The VM still exists.
 */
static void sibling_of_the_vmm(const void *arg)
{
	static char stack[KIB(64)] __attribute__((aligned(16)));
	struct vmem_nl_region state;
	static struct region r;
	int pair[2];
	pid_t pid;

	(void)arg;
	/*
	 * The kernel tracks processes that share memory for memory cgroups
	 * only.
	 */
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	cgroup_leave();
	process_pair(pair);
	region_prepare(&r);
	pid = clone(make_region_and_send, stack + sizeof(stack),
		    CLONE_VM | SIGCHLD, &(struct sender){&r, pair[1]});
	ASSERT_GT(pid, 0);
	r.fd = receive_fd(pair[0]);
	expect_exit(pid);
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &state, NULL));
	EXPECT_TRUE(state.alive);
	EXPECT_OK(region_plug(&r, 0, 5));
	EXPECT_AS_MODEL(&r);
}

static void exec_of_the_vmm(const void *arg)
{
	const bool *keep_fd = arg;
	struct vmem_nl *nl;
	struct region r;
	int pair[2], fd, dev, copy;
	pid_t vmm;

	region_await_none();
	dev = kvm_vmem_open();
	process_pair(pair);
	vmm = fork();
	ASSERT_GE(vmm, 0);
	if (!vmm) {
		region_init(&r, AS_MASK_NORMAL);
		ASSERT_OK(region_plug(&r, 0, 3));
		send_fd(pair[1], r.fd);
		receive_byte(pair[1]);
		if (*keep_fd) {
			/*
			 * Keep a copy of the VM, too. Neither prevents its end.
			 */
			ASSERT_GE(dup(r.fd), 0);
			ASSERT_GE(dup(r.vm.fd), 0);
		}
		copy = dup(pair[1]);
		ASSERT_GE(copy, 0);
		/*
		 * The socket stays open as standard input, from which the
		 * program reads.
		 */
		dup2(copy, STDIN_FILENO);
		execl("/proc/self/exe", "lifetime_test", "--wait", NULL);
		_exit(1);
	}
	close(pair[1]);
	fd = receive_fd(pair[0]);
	nl = netlink_open();
	send_byte(pair[0]);
	expect_dead(nl, fd);
	close(fd);
	if (*keep_fd)
		EXPECT_EQ(region_count(dev), 1);
	/* exec() closes descriptors after it has released the memory. */
	while (!*keep_fd && region_count(dev))
		sched_yield();
	send_byte(pair[0]);
	expect_exit(vmm);
	region_await_none();
}

static void lives_leak_nothing(const void *arg)
{
	const unsigned int warm_up = 20, rounds = 150;
	uint64_t vmalloc = 0, slab = 0, slab_after;
	struct vmem_nl_range all, half;
	struct region r;
	unsigned int i;

	(void)arg;
	region_prepare(&r);
	backing_create(&r.mem, REGION_MAX_BLOCKS * REGION_BLOCK);
	r.args.userspace_addr = (uintptr_t)r.mem.hva;
	r.args.region_size = REGION_MAX_BLOCKS * REGION_BLOCK;
	r.args.slot_size = REGION_BLOCK;
	r.args.address_spaces = AS_MASK_BOTH;
	for (i = 0; i < warm_up + rounds; i++) {
		struct vmem_nl_name name;

		if (i == warm_up) {
			vmalloc = meminfo("VmallocUsed");
			slab = slab_bytes();
		}
		region_create(&r);
		name = VMEM_NL_BY_FD(r.fd);
		all = region_range(&r, 0, r.nr_blocks);
		half = region_range(&r, 0, r.nr_blocks / 2);
		ASSERT_OK(vmem_nl_plug(r.nl, name, 1, &half, 1, NULL, NULL));
		/* Refused after half of it has been checked. */
		EXPECT_ERR(vmem_nl_plug(r.nl, name, 2, &all, 1, NULL, NULL),
			   EEXIST);
		ASSERT_OK(vmem_nl_region_set(r.nl, name, VMEM_NL_SET_DIRTY_LOG,
					     0, i % 2, NULL, NULL));
		if (i % 4 == 0)
			ASSERT_OK(
				vmem_nl_unplug_all(r.nl, name, 3, NULL, NULL));
		close(r.fd);
	}
	slab_after = slab_bytes();
	/*
	 * Losing a single memslot's structure in each round would exceed this.
	 */
	tap_note("VmallocUsed %+lld KiB, SUnreclaim %+lld KiB",
		 (long long)(meminfo("VmallocUsed") - vmalloc) / 1024,
		 (long long)(slab_after - slab) / 1024);
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
	EXPECT_LE(slab_after, slab + NOISE);
}

/*
 * The VMM closes the region, and waits for its end. The bitmap of the blocks
 * has 8 MiB, which only vmalloc() has, and is freed later.
 */
static void closed_regions_are_freed(const void *arg)
{
	const unsigned int rounds = 20;
	uint64_t before;
	struct region r;
	unsigned int i;

	(void)arg;
	region_prepare(&r);
	r.args.region_size = GIB(256);
	r.args.block_size = GUEST_PAGE;
	r.args.slot_size = MIB(128);
	r.args.userspace_addr = (uintptr_t)mmap(
		NULL, GIB(256), PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	before = meminfo("VmallocUsed");
	for (i = 0; i < rounds; i++) {
		r.fd = region_call_create(r.dev, &r.args);
		ASSERT_OK(r.fd < 0 ? r.fd : 0);
		EXPECT_GE(meminfo("VmallocUsed"), before + MIB(8) - NOISE);
		close(r.fd);
	}
	while (meminfo("VmallocUsed") > before + NOISE)
		sched_yield();
}

static void refused_batches_leak_nothing(const void *arg)
{
	const unsigned int warm_up = 20, rounds = 150, nr = 128;
	uint64_t vmalloc = 0, slab = 0;
	struct backing mem;
	struct batch batch;
	unsigned int i;
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, 0);
	backing_create(&mem, GUEST_PAGE);
	batch_init(&batch);
	for (i = 0; i < nr; i++)
		batch_set(&batch, SLOT(i % 2, 1 + i), KVM_MEM_LOG_DIRTY_PAGES,
			  GIB(1) + i * GUEST_PAGE, GUEST_PAGE, mem.hva);
	batch_set(&batch, 1 + nr, 0, 1ULL << 52, GUEST_PAGE, mem.hva);
	for (i = 0; i < warm_up + rounds; i++) {
		if (i == warm_up) {
			vmalloc = meminfo("VmallocUsed");
			slab = slab_bytes();
		}
		EXPECT_ERR(batch_apply(dev, &vm, &batch), EINVAL);
	}
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
	EXPECT_LE(slab_bytes(), slab + NOISE);
}

static void unload_needs_all_closed(const void *arg)
{
	struct vmem_nl *events;
	struct batch batch;
	struct region r;

	(void)arg;
	module_need_reload();

	region_init(&r, AS_MASK_NORMAL);
	batch_init(&batch);
	batch_set(&batch, 1, 0, GIB(1), GUEST_PAGE, r.mem.hva);
	ASSERT_OK(batch_apply(r.dev, &r.vm, &batch));
	EXPECT_ERR(module_unload(), EAGAIN);
	close(r.dev);
	/*
	 * The region alone keeps the module, whether blocks are plugged or not.
	 */
	EXPECT_ERR(module_unload(), EAGAIN);
	ASSERT_OK(region_plug(&r, 0, 5));
	EXPECT_ERR(module_unload(), EAGAIN);
	EXPECT_AS_MODEL(&r);
	close(r.fd);
	/* Netlink sockets and listeners do not keep it. */
	events = netlink_open();
	ASSERT_OK(vmem_nl_subscribe(events, NULL));
	module_unload_soon();
	EXPECT_ERR(vmem_nl_region_get(r.nl, VMEM_NL_BY_ID(1),
				      &(struct vmem_nl_region){0}, NULL),
		   ENOENT);

	/* KVM keeps the memslots of the batch. */
	EXPECT_GUEST_MEMORY(&r.vcpu, GIB(1), r.mem.hva);
	EXPECT_GUEST_MMIO(&r.vcpu, REGION_GPA);
	EXPECT_OK(vm_delete_slot(&r.vm, 1));
	EXPECT_GUEST_MMIO(&r.vcpu, GIB(1));

	module_load();
	r.dev = kvm_vmem_open();
	vmem_nl_close(r.nl);
	r.nl = netlink_open();
	memset(r.plugged, 0, sizeof(r.plugged));
	region_create(&r);
	EXPECT_OK(region_plug(&r, 1, 7));
	EXPECT_AS_MODEL(&r);
}

/* KVM's vendor module, if it is not built in. */
static const char *vendor_module(void)
{
	if (module_users("kvm_amd") >= 0)
		return "kvm_amd";
	if (module_users("kvm_intel") >= 0)
		return "kvm_intel";
	tap_skip("neither kvm_amd nor kvm_intel is a module");
}

static void vendor_module_stays(const void *arg)
{
	const char *vendor = vendor_module();
	struct region r;

	(void)arg;
	if (geteuid())
		tap_skip("needs root");
	await_no_vm();
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, 5));
	vcpu_destroy(&r.vcpu);
	vm_destroy(&r.vm);
	/* Only the region holds the VM, whose code is in the vendor module. */
	EXPECT_EQ(kvm_vm_count(), 1);
	EXPECT_GT(module_users(vendor), 0);
	ASSERT_TRUE(syscall(SYS_delete_module, vendor, O_NONBLOCK) &&
		    errno == EAGAIN);
	EXPECT_OK(region_unplug(&r, 0, 5));
	EXPECT_OK(region_plug(&r, 3, 9));
	EXPECT_DUMPS_AS_MODEL(&r);
	close(r.fd);
	EXPECT_EQ(kvm_vm_count(), 0);
	EXPECT_EQ(module_users(vendor), 0);
}

static void module_reload_often(const void *arg)
{
	const unsigned int rounds = 10;
	struct region r;
	unsigned int i;

	(void)arg;
	module_need_reload();
	for (i = 0; i < rounds; i++) {
		region_init(&r, AS_MASK_BOTH);
		ASSERT_OK(region_plug(&r, 0, 9));
		EXPECT_GUEST_MEMORY(&r.vcpu, REGION_GPA, r.mem.hva);
		vmem_nl_close(r.nl);
		close(r.fd);
		close(r.dev);
		vcpu_destroy(&r.vcpu);
		vm_destroy(&r.vm);
		module_unload_soon();
		module_load();
	}
}

/*
 * The program after the exec in exec_of_the_vmm(): waits for a byte on stdin.
 */
static int wait_to_end(void)
{
	receive_byte(STDIN_FILENO);
	return 0;
}

int main(int argc, char **argv)
{
	static const bool keep = true, drop = false;
	static const struct tap_case cases[] = {
		{.name = "the VMM may be killed during plugs, 20 times",
		 .run = vmm_killed_amid_plugs,
		 .timeout_s = 120},
		{.name = "metadata is freed with the VMM, not with the descriptor",
		 .run = metadata_goes_with_the_vmm},
		{.name = "the VMM's end wakes a blocked read",
		 .run = death_wakes_readers},
		{.name = "the VM's descriptors may close before the region's",
		 .run = vm_closed_region_stays},
		{.name = "the region's descriptor may close before the VM's",
		 .run = region_closed_vm_stays},
		{.name = "a region closed during requests leaves no memslot",
		 .run = closed_amid_requests,
		 .timeout_s = 300},
		{.name = "children of the VMM neither end nor keep its VM",
		 .run = fork_of_the_vmm},
		{.name = "a process that shares the VMM's memory does not end its VM",
		 .run = sibling_of_the_vmm},
		{.name = "exec of the VMM ends its region",
		 .run = exec_of_the_vmm,
		 .arg = &drop},
		{.name = "exec that keeps descriptors ends the VM, too",
		 .run = exec_of_the_vmm,
		 .arg = &keep},
		{.name = "regions leak nothing", .run = lives_leak_nothing},
		{.name = "a region that the VMM closes is freed",
		 .run = closed_regions_are_freed},
		{.name = "refused batches leak nothing",
		 .run = refused_batches_leak_nothing},
		{.name = "the module cannot be unloaded while a region exists",
		 .run = unload_needs_all_closed},
		{.name = "a region alone holds KVM's vendor module",
		 .run = vendor_module_stays},
		{.name = "the module can be loaded and unloaded repeatedly",
		 .run = module_reload_often},
	};

	if (argc == 2 && !strcmp(argv[1], "--wait"))
		return wait_to_end();
	return tap_run(cases, ARRAY_SIZE(cases));
}
