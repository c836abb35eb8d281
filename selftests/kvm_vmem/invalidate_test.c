// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Changes of memslots during an invalidation of the VM's memory by KVM's MMU
 * notifier. KVM must see the same memslots at both ends of an invalidation, so a
 * change waits for the end. An mm that ends may leave an invalidation without
 * an end.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "probe.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "thread.h"

/*
 * A change that waits looks again and again whether the mm has ended. It goes
 * to sleep so often only if it keeps waiting.
 */
#define SLEEPS_OF_WAIT 20

/**
 * struct change - a change of memslots in a thread of its own
 * @dev: /dev/kvm-vmem
 * @vm: the VM of a batch
 * @batch: the batch
 * @region: descriptor of the region to plug
 * @thread: the id of the thread
 * @result: the result
 * @ended: the change has ended
 */
struct change {
	int dev;
	struct vm vm;
	struct batch batch;
	int region;
	int thread;
	int result;
	bool ended;
};

static void *apply_batch(void *arg)
{
	struct change *c = arg;

	__atomic_store_n(&c->thread, (int)syscall(SYS_gettid),
			 __ATOMIC_RELEASE);
	c->result = batch_apply(c->dev, &c->vm, &c->batch);
	flag_set(&c->ended);
	return NULL;
}

static void *plug_region(void *arg)
{
	static const struct vmem_nl_range all = {
		.gpa = REGION_GPA,
		.size = REGION_NR_BLOCKS * REGION_BLOCK,
	};
	struct change *c = arg;
	struct vmem_nl *nl = netlink_open();

	c->result = vmem_nl_plug(nl, VMEM_NL_BY_FD(c->region), 0, &all, 1, NULL,
				 NULL);
	vmem_nl_close(nl);
	flag_set(&c->ended);
	return NULL;
}

/* Wait until the change waits for the invalidation, or has ended. */
static void await_change(int probe, struct change *c)
{
	while (!probe_is_awaited(probe) && !flag_is_set(&c->ended))
		sched_yield();
	EXPECT_TRUE(!flag_is_set(&c->ended));
}

/* Return: how often a thread has gone to sleep. */
static unsigned long sleeps_of(int thread)
{
	unsigned long nr = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", thread);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) &&
	       sscanf(line, "voluntary_ctxt_switches: %lu", &nr) != 1)
		;
	if (f)
		fclose(f);
	return nr;
}

static void change_waits(const void *arg)
{
	struct change c = {.dev = kvm_vmem_open()};
	struct backing mem;
	unsigned long before;
	pthread_t thread;
	int probe;

	(void)arg;
	vm_create(&c.vm, VM_BARE);
	backing_create(&mem, GUEST_PAGE);
	batch_init(&c.batch);
	batch_set(&c.batch, SLOT(AS_NORMAL, 1), 0, GIB(1), GUEST_PAGE, mem.hva);
	probe = probe_watch(&c.vm);
	probe_invalidate(probe);
	thread_start(&thread, apply_batch, &c);
	await_change(probe, &c);
	before = sleeps_of(c.thread);
	while (!flag_is_set(&c.ended) &&
	       sleeps_of(c.thread) < before + SLEEPS_OF_WAIT)
		sched_yield();
	EXPECT_TRUE(!flag_is_set(&c.ended));
	probe_invalidated(probe);
	pthread_join(thread, NULL);
	EXPECT_OK(c.result);
}

static void __attribute__((noreturn)) vmm_main(int socket)
{
	struct region r;

	region_init(&r, AS_MASK_BOTH);
	send_fd(socket, probe_watch(&r.vm));
	send_fd(socket, r.fd);
	/* Until the VMM is killed. */
	receive_byte(socket);
	_exit(1);
}

static void change_outlives_mm(const void *arg)
{
	struct change c = {0};
	pthread_t thread;
	int probe, socket;
	pid_t pid;

	(void)arg;
	pid = process_start(vmm_main, &socket);
	probe = receive_fd(socket);
	c.region = receive_fd(socket);
	probe_invalidate(probe);
	thread_start(&thread, plug_region, &c);
	await_change(probe, &c);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	/* Nothing ends the invalidation. */
	pthread_join(thread, NULL);
	EXPECT_OK(c.result);
	close(probe);
	close(c.region);
	await_no_vm();
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a change of memslots waits for an invalidation",
		 .run = change_waits},
		{.name = "a change does not wait for an invalidation of an mm "
			 "that has ended",
		 .run = change_outlives_mm},
	};
	int status;

	probe_module_load();
	status = tap_run(cases, ARRAY_SIZE(cases));
	probe_module_unload();
	return status;
}
