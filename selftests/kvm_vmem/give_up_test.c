// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cancelled changes: a large batch whose caller is killed, or whose VM's
 * process ends, is aborted. A change for an mm without a process is charged
 * nevertheless.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "cgroup.h"
#include "kernel.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "thread.h"
#include "tracing.h"
#include "userfault.h"

/* Memslots of one page, so many that their creation takes long. */
#define NR_SLOTS    16384U
#define FIRST_SLOT  100U
#define SLOTS_GPA   GIB(16)
#define REGION_SIZE (NR_SLOTS * GUEST_PAGE)

/*
 * Growth of KVM's memory by which a batch is under way, but far from complete.
 */
#define UNDER_WAY MIB(1)

/* Other load may let the batch finish first, so several attempts are made. */
#define MAX_ROUNDS 20
#define TIMEOUT_S  600

static void __attribute__((noreturn)) apply_batch(int socket)
{
	struct backing mem;
	struct batch b;
	unsigned int i;
	struct vm vm;
	int dev;

	dev = kvm_vmem_open();
	vm_create(&vm, VM_BARE);
	backing_create(&mem, GUEST_PAGE);
	batch_init(&b);
	for (i = 0; i < NR_SLOTS; i++)
		batch_set(&b, SLOT(AS_NORMAL, FIRST_SLOT + i), 0,
			  SLOTS_GPA + (uint64_t)i * GUEST_PAGE, GUEST_PAGE,
			  mem.hva);
	send_byte(socket);
	receive_byte(socket);
	batch_apply(dev, &vm, &b);
	_exit(0);
}

/*
 * A VMM whose region another process changes, perhaps with the last descriptor.
 */
static void __attribute__((noreturn)) have_region(int socket)
{
	struct region r;

	memset(&r, 0, sizeof(r));
	r.dev = kvm_vmem_open();
	vm_create(&r.vm, VM_BARE);
	backing_create(&r.mem, REGION_SIZE);
	r.args = (struct kvm_vmem_create_region){
		.size = sizeof(r.args),
		.vm_fd = r.vm.fd,
		.address_spaces = AS_MASK_NORMAL,
		.first_slot = FIRST_SLOT,
		.guest_phys_addr = SLOTS_GPA,
		.region_size = REGION_SIZE,
		.userspace_addr = (uintptr_t)r.mem.hva,
		.block_size = GUEST_PAGE,
		.slot_size = GUEST_PAGE,
	};
	region_create(&r);
	send_fd(socket, r.fd);
	receive_byte(socket);
	close(r.fd);
	send_byte(socket);
	receive_byte(socket);
	_exit(0);
}

/*
 * Kill a process during a batch, when KVM has allocated UNDER_WAY beyond
 * @before.
 */
static void kill_amid_batch(pid_t pid, uint64_t before)
{
	siginfo_t info = {.si_pid = 0};

	while (meminfo_quick("VmallocUsed") < before + UNDER_WAY &&
	       !info.si_pid)
		ASSERT_EQ(waitid(P_PID, (id_t)pid, &info,
				 WEXITED | WNOHANG | WNOWAIT),
			  0);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

/* The result of the batch with all memslots. */
static int result_of_all(FILE *events)
{
	struct tracing_batch batch;

	do
		while (!tracing_next_batch(events, &batch))
			;
	while (batch.creates + batch.deletes < NR_SLOTS / 2 && !batch.result);
	return batch.result;
}

static void caller_is_killed(const void *arg)
{
	int round, socket, result = 0;
	uint64_t before;
	FILE *events;
	pid_t pid;

	(void)arg;
	events = tracing_open_events("batch");
	for (round = 0; round < MAX_ROUNDS && !result; round++) {
		pid = process_start(apply_batch, &socket);
		receive_byte(socket);
		before = meminfo("VmallocUsed");
		send_byte(socket);
		kill_amid_batch(pid, before);
		close(socket);
		result = result_of_all(events);
	}
	tap_note("given up in round %d", round);
	EXPECT_EQ(result, -EINTR);
	tracing_close_events(events);
}

/* Plugs all of a region, over the given netlink handle. */
struct plug {
	struct vmem_nl *nl;
	int fd;
	int result;
};

static void *plug_all(void *arg)
{
	static const struct vmem_nl_range all = {.gpa = SLOTS_GPA,
						 .size = REGION_SIZE};
	struct plug *p = arg;

	p->result = vmem_nl_plug(p->nl, VMEM_NL_BY_FD(p->fd), 0, &all, 1, NULL,
				 NULL);
	return NULL;
}

static void vmm_is_killed(const void *arg)
{
	struct plug plug = {.nl = netlink_open()};
	int round, socket, result = 0;
	pthread_t thread;
	uint64_t before;
	FILE *events;
	pid_t pid;

	(void)arg;
	events = tracing_open_events("batch");
	for (round = 0; round < MAX_ROUNDS && !result; round++) {
		pid = process_start(have_region, &socket);
		plug.fd = receive_fd(socket);
		/* Creating the region has made a batch without changes. */
		EXPECT_EQ(result_of_all(events), 0);
		before = meminfo("VmallocUsed");
		thread_start(&thread, plug_all, &plug);
		kill_amid_batch(pid, before);
		pthread_join(thread, NULL);
		close(socket);
		close(plug.fd);
		result = result_of_all(events);
		EXPECT_EQ(plug.result, result);
	}
	tap_note("given up in round %d", round);
	EXPECT_EQ(result, -ENODEV);
	tracing_close_events(events);
}

/**
 * struct held - a page of a VMM that another process reads
 * @pid: the VMM
 * @page: the page, which is missing
 */
struct held {
	pid_t pid;
	void *page;
};

/* Shared with the VMM of the next case, and read by its reader. */
static struct held *held;

static void __attribute__((noreturn)) have_region_and_page(int socket)
{
	int uffd;

	held->pid = getpid();
	held->page = userfault_page(&uffd);
	send_fd(socket, uffd);
	have_region(socket);
}

static void *read_page(void *arg)
{
	struct iovec local = {arg, 1}, remote = {held->page, 1};

	EXPECT_EQ(process_vm_readv(held->pid, &local, 1, &remote, 1, 0), 1);
	return NULL;
}

/*
 * A VMM has passed on its only descriptor of the region and ended, while
 * another process still reads its memory. A plug is then charged to the cgroup
 * in which the region was created.
 */
static void ownerless_memory_is_charged(const void *arg)
{
	struct plug plug = {.nl = netlink_open()};
	struct uffdio_zeropage zero = {.range = {.len = GUEST_PAGE}};
	uint64_t before, vmalloc, charged;
	struct uffd_msg msg;
	pthread_t reader;
	int socket, uffd;
	char byte;
	pid_t pid;

	(void)arg;
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	held = mmap(NULL, sizeof(*held), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(held != MAP_FAILED);
	pid = process_start(have_region_and_page, &socket);
	uffd = receive_fd(socket);
	plug.fd = receive_fd(socket);
	send_byte(socket);
	receive_byte(socket);
	thread_start(&reader, read_page, &byte);
	ASSERT_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	send_byte(socket);
	expect_exit(pid);

	before = cgroup_current();
	vmalloc = meminfo("VmallocUsed");
	plug_all(&plug);
	ASSERT_OK(plug.result);
	vmalloc = meminfo("VmallocUsed") - vmalloc;
	charged = cgroup_current() - before;
	tap_note("%llu KiB in VmallocUsed, %lld KiB charged",
		 (unsigned long long)vmalloc >> 10, (long long)charged / 1024);
	EXPECT_GT(vmalloc, UNDER_WAY);
	EXPECT_GE(charged + UNDER_WAY, vmalloc);

	zero.range.start = (uintptr_t)held->page;
	ASSERT_EQ(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
	pthread_join(reader, NULL);
	close(plug.fd);
	cgroup_leave();
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a batch whose caller is killed is aborted",
		 .run = caller_is_killed,
		 .timeout_s = TIMEOUT_S},
		{.name = "a change is aborted when its VM's process ends",
		 .run = vmm_is_killed,
		 .timeout_s = TIMEOUT_S},
		{.name = "a change for a process that has ended is charged",
		 .run = ownerless_memory_is_charged,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
