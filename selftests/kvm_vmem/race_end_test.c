// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The end of the VM or of the VMM during batches and plugs. (race_unload_test.c
 * tests the end of the module.) There must be no crash, no hang, and no leak.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

/**
 * struct batcher - a thread that makes batches until one fails
 * @dev: /dev/kvm-vmem
 * @vm_fd: the VM
 * @id: first id of its memslots
 * @mem: backing of all of them
 * @batches: number of batches
 * @result: the error that ended it
 */
struct batcher {
	int dev;
	int vm_fd;
	uint32_t id;
	uint8_t *mem;
	uint64_t *batches;
	int result;
};

#define BATCHER_SLOTS 16U

static void *batcher_run(void *arg)
{
	struct batcher *b = arg;
	struct batch batch;
	unsigned int n, i;

	batch_init(&batch);
	for (n = 0; !b->result; n++) {
		batch_reset(&batch);
		for (i = 0; i < BATCHER_SLOTS; i++) {
			const uint32_t slot = SLOT(i % 2, b->id + i);

			if (n % 2)
				batch_delete(&batch, slot);
			else
				batch_set(&batch, slot, KVM_MEM_LOG_DIRTY_PAGES,
					  GIB(8) + (b->id + i) * MIB(128),
					  MIB(128), b->mem);
		}
		b->result = batch_call(b->dev, b->vm_fd, &batch, 0);
		counter_add(b->batches);
	}
	batch_free(&batch);
	return NULL;
}

/* A batch under way then holds the last reference to the VM. */
static void vm_closed_amid_batches(const void *arg)
{
	const unsigned int rounds = 40;
	struct batcher batchers[2];
	pthread_t threads[ARRAY_SIZE(batchers)];
	uint64_t batches, total = 0, vmalloc;
	unsigned int round, i;
	struct backing mem;
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	backing_create(&mem, MIB(128));
	await_no_vm();
	vmalloc = meminfo("VmallocUsed");
	for (round = 0; round < rounds; round++) {
		tap_context("round %u", round);
		vm_create(&vm, VM_BARE);
		batches = 0;
		for (i = 0; i < ARRAY_SIZE(batchers); i++) {
			batchers[i] = (struct batcher){
				.dev = dev,
				.vm_fd = vm.fd,
				.id = 1 + i * BATCHER_SLOTS,
				.mem = mem.hva,
				.batches = &batches,
			};
			thread_start(&threads[i], batcher_run, &batchers[i]);
		}
		while (counter_read(&batches) < 1 + round % 10)
			sched_yield();
		close(vm.fd);
		for (i = 0; i < ARRAY_SIZE(batchers); i++) {
			pthread_join(threads[i], NULL);
			EXPECT_ERR(batchers[i].result, EBADF);
		}
		EXPECT_EQ(kvm_vm_count(), 0);
		close(vm.kvm_fd);
		total += batches;
	}
	tap_context("%s", "");
	tap_note("%llu batches", (unsigned long long)total);
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
}

/**
 * struct progress - progress of a VMM that will be killed, in shared memory
 * @batches: number of batches
 * @plugs: number of its own requests
 * @reads: number of accesses of its vCPU
 */
struct progress {
	uint64_t batches;
	uint64_t plugs;
	uint64_t reads;
};

/*
 * Plug and unplug random blocks until the VM is gone, concurrently with others.
 */
static int plug_until_gone(int fd, uint64_t rng, uint64_t *counter)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(fd);
	struct vmem_nl *nl = netlink_open();
	int r;

	do {
		const struct vmem_nl_range range = {
			.gpa = REGION_GPA +
			       random_below(&rng, REGION_NR_BLOCKS) *
				       REGION_BLOCK,
			.size = REGION_BLOCK,
		};

		r = random_below(&rng, 2)
			    ? vmem_nl_plug(nl, name, 0, &range, 1, NULL, NULL)
			    : vmem_nl_unplug(nl, name, 0, &range, 1, NULL,
					     NULL);
		counter_add(counter);
	} while (!r || r == -EEXIST || r == -ENXIO);
	vmem_nl_close(nl);
	return r;
}

/**
 * struct victim - a VMM, in its own process
 * @r: its VM and region
 * @progress: its progress
 */
struct victim {
	struct region r;
	struct progress *progress;
};

static void *victim_plugs(void *arg)
{
	struct victim *v = arg;

	plug_until_gone(v->r.fd, 5, &v->progress->plugs);
	return NULL;
}

static void *victim_reads(void *arg)
{
	struct victim *v = arg;
	uint64_t rng = 6, value;

	for (;;) {
		guest_read(&v->r.vcpu,
			   REGION_GPA + random_below(&rng, REGION_NR_BLOCKS) *
						REGION_BLOCK,
			   &value);
		counter_add(&v->progress->reads);
	}
	return NULL;
}

static void __attribute__((noreturn))
victim_main(int socket, struct progress *progress)
{
	struct victim v = {.progress = progress};
	pthread_t plugger, reader;
	struct batcher batcher;
	struct backing mem;

	region_init(&v.r, AS_MASK_BOTH);
	backing_create(&mem, MIB(128));
	batcher = (struct batcher){
		.dev = v.r.dev,
		.vm_fd = v.r.vm.fd,
		.id = 100,
		.mem = mem.hva,
		.batches = &progress->batches,
	};
	thread_start(&plugger, victim_plugs, &v);
	thread_start(&reader, victim_reads, &v);
	send_fd(socket, v.r.fd);
	batcher_run(&batcher);
	/* The batches must not end before the VMM is killed. */
	_exit(1);
}

/**
 * struct killer - kills a VMM after some progress
 * @pid: the VMM
 * @progress: its progress
 * @at: number of batches or requests after which it is killed
 */
struct killer {
	pid_t pid;
	const struct progress *progress;
	uint64_t at;
};

static void *killer_run(void *arg)
{
	const struct killer *k = arg;

	while (counter_read(&k->progress->batches) < k->at ||
	       counter_read(&k->progress->plugs) < k->at ||
	       counter_read(&k->progress->reads) < k->at)
		sched_yield();
	ASSERT_EQ(kill(k->pid, SIGKILL), 0);
	return NULL;
}

static void kill_once(struct progress *progress, uint64_t at, uint64_t *plugs)
{
	struct killer killer = {.progress = progress, .at = at};
	int pair[2], fd, status;
	pthread_t thread;

	memset(progress, 0, sizeof(*progress));
	process_pair(pair);
	killer.pid = fork();
	ASSERT_GE(killer.pid, 0);
	if (!killer.pid)
		victim_main(pair[1], progress);
	fd = receive_fd(pair[0]);
	thread_start(&thread, killer_run, &killer);
	EXPECT_ERR(plug_until_gone(fd, at, plugs), ENODEV);
	pthread_join(thread, NULL);
	ASSERT_EQ(waitpid(killer.pid, &status, 0), killer.pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

static void vmm_killed_amid_batches(const void *arg)
{
	const unsigned int rounds = 20;
	uint64_t vmalloc, slab, batches = 0, plugs = 0, plugs_here = 0;
	struct progress *progress;
	unsigned int round;

	(void)arg;
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((void *)progress, MAP_FAILED);
	await_no_vm();
	vmalloc = meminfo("VmallocUsed");
	slab = slab_bytes();
	for (round = 0; round < rounds; round++) {
		tap_context("round %u", round);
		kill_once(progress, 1 + round, &plugs_here);
		await_no_vm();
		batches += progress->batches;
		plugs += progress->plugs;
	}
	tap_context("%s", "");
	tap_note("%llu batches, %llu plugs by the VMM, %llu by another",
		 (unsigned long long)batches, (unsigned long long)plugs,
		 (unsigned long long)plugs_here);
	EXPECT_GT(plugs_here, rounds);
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
	EXPECT_LE(slab_bytes(), slab + NOISE);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "the VM may be closed during batches, 40 times",
		 .run = vm_closed_amid_batches,
		 .timeout_s = TIMEOUT_S},
		{.name = "the VMM may be killed during batches and plugs, 20 times",
		 .run = vmm_killed_amid_batches,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
