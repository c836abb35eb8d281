// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM ends with its process: once the VMM has been reaped, no reference of a
 * region keeps the VM. Each case runs many VMMs; "--steps 1000" runs more.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "kernel.h"
#include "options.h"
#include "probe.h"
#include "process.h"
#include "random.h"
#include "region.h"
#include "tap.h"
#include "thread.h"

/* Rounds of each case, and the time limit of a case with --steps rounds. */
#define DEFAULT_STEPS 25
#define TIMEOUT_S     3600

/* Enough memslots to make a change of all of them slow. */
#define END_SLOTS 512U
#define END_SIZE  (END_SLOTS * GUEST_PAGE)

/* Maximum number of requests before a VMM ends. */
#define MAX_REQUESTS 6

/* argv[1] of the program that exec() runs. */
#define AFTER_EXEC "--after-exec"

/* The VMM closes its descriptor of the region: only the daemon has one. */
#define END_HANDED_OVER (1U << 0)
/* The daemon changes the region at the same time. */
#define END_CHANGES (1U << 1)
/* The daemon punches holes into the memory, and the VMM refills them. */
#define END_PUNCHES (1U << 2)
/* The VMM has closed its VM, so only the region keeps it. */
#define END_VM_CLOSED (1U << 3)
/* The VMM exits; otherwise it is killed. */
#define END_EXITS (1U << 4)
/* The VMM executes another program. */
#define END_EXECS (1U << 5)
/* Another process reads /proc/PID/smaps, which uses the VMM's mm. */
#define END_WATCHED (1U << 6)

static uint64_t steps = DEFAULT_STEPS;
static uint64_t seed;

static const char *vendor_module(void)
{
	return module_users("kvm_amd") >= 0 ? "kvm_amd" : "kvm_intel";
}

/**
 * struct vmm - a VMM in a process of its own, as seen by its daemon
 * @pid: its process
 * @socket: connection to it
 * @region: the region's descriptor
 * @memory: the region's memfd
 */
struct vmm {
	pid_t pid;
	int socket;
	int region;
	int memory;
};

static void *filler_run(void *arg)
{
	struct backing *mem = arg;

	for (;;)
		memset(mem->hva, 1, mem->size);
	return NULL;
}

static void make_region(struct region *r)
{
	memset(r, 0, sizeof(*r));
	r->dev = kvm_vmem_open();
	vm_create(&r->vm, VM_BARE);
	backing_create(&r->mem, END_SIZE);
	r->args = (struct kvm_vmem_create_region){
		.size = sizeof(r->args),
		.vm_fd = r->vm.fd,
		.address_spaces = AS_MASK_BOTH,
		.first_slot = 1,
		.guest_phys_addr = GIB(4),
		.region_size = END_SIZE,
		.userspace_addr = (uintptr_t)r->mem.hva,
		.block_size = GUEST_PAGE,
		.slot_size = GUEST_PAGE,
	};
	r->fd = region_call_create(r->dev, &r->args);
	ASSERT_OK(r->fd < 0 ? r->fd : 0);
}

static void __attribute__((noreturn)) vmm_main(int socket, unsigned int flags)
{
	pthread_t filler;
	struct region r;

	make_region(&r);
	send_fd(socket, r.fd);
	send_fd(socket, r.mem.fd);
	if (flags & END_HANDED_OVER)
		close(r.fd);
	if (flags & END_VM_CLOSED)
		close(r.vm.fd);
	if (flags & END_PUNCHES)
		thread_start(&filler, filler_run, &r.mem);
	/* Until the daemon sends a byte, or the VMM is killed. */
	receive_byte(socket);
	if (flags & END_EXECS)
		execl("/proc/self/exe", "vm_end_test", AFTER_EXEC, NULL);
	_exit(flags & END_EXECS ? 1 : 0);
}

static void vmm_start(struct vmm *vmm, unsigned int flags)
{
	int pair[2];

	process_pair(pair);
	vmm->pid = fork();
	ASSERT_GE(vmm->pid, 0);
	if (!vmm->pid) {
		close(pair[0]);
		vmm_main(pair[1], flags);
	}
	close(pair[1]);
	vmm->socket = pair[0];
	vmm->region = receive_fd(pair[0]);
	vmm->memory = receive_fd(pair[0]);
}

/**
 * struct daemon - a thread that changes the region until its VM is gone
 * @vmm: the VMM
 * @requests: number of requests sent
 * @gone: the VM is gone
 * @ended: the VMM has been reaped
 */
struct daemon {
	const struct vmm *vmm;
	uint64_t requests;
	bool gone;
	bool ended;
};

static void *daemon_changes(void *arg)
{
	static const struct vmem_nl_range all = {.gpa = GIB(4),
						 .size = END_SIZE};
	struct daemon *d = arg;
	const struct vmem_nl_name name = VMEM_NL_BY_FD(d->vmm->region);
	struct vmem_nl *nl = netlink_open();
	int r;

	do {
		counter_add(&d->requests);
		r = d->requests % 2
			    ? vmem_nl_plug(nl, name, 0, &all, 1, NULL, NULL)
			    : vmem_nl_unplug_all(nl, name, 0, NULL, NULL);
	} while (!r);
	EXPECT_ERR(r, ENODEV);
	vmem_nl_close(nl);
	__atomic_store_n(&d->gone, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *daemon_punches(void *arg)
{
	struct daemon *d = arg;

	while (!__atomic_load_n(&d->gone, __ATOMIC_ACQUIRE))
		fallocate(d->vmm->memory,
			  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  (off_t)END_SIZE);
	return NULL;
}

static void *watcher_run(void *arg)
{
	struct daemon *d = arg;
	char path[64], text[4096];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/smaps", d->vmm->pid);
	while (!__atomic_load_n(&d->ended, __ATOMIC_ACQUIRE)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (fd >= 0 && read(fd, text, sizeof(text)) > 0)
			;
		close(fd);
	}
	return NULL;
}

/*
 * Does the only VM still exist, according to the vendor module's users or
 * debugfs?
 */
static bool vm_is_there(int users_without)
{
	return module_users(vendor_module()) != users_without || kvm_vm_count();
}

/* One VMM from start to end. Return: whether its VM outlived it. */
static bool outlives(unsigned int flags, int users, uint64_t requests)
{
	pthread_t changes, punches, watcher;
	struct daemon daemon = {0};
	struct vmm vmm;
	int status;
	bool there;

	vmm_start(&vmm, flags);
	daemon.vmm = &vmm;
	if (flags & END_CHANGES)
		thread_start(&changes, daemon_changes, &daemon);
	if (flags & END_PUNCHES)
		thread_start(&punches, daemon_punches, &daemon);
	if (flags & END_WATCHED)
		thread_start(&watcher, watcher_run, &daemon);
	while (flags & END_CHANGES &&
	       counter_read(&daemon.requests) < 1 + requests)
		sched_yield();
	if (flags & (END_EXITS | END_EXECS))
		send_byte(vmm.socket);
	else
		ASSERT_EQ(kill(vmm.pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(vmm.pid, &status, 0), vmm.pid);
	there = vm_is_there(users);
	__atomic_store_n(&daemon.ended, true, __ATOMIC_RELEASE);

	if (flags & (END_EXITS | END_EXECS))
		EXPECT_EQ(status, 0);
	if (flags & END_CHANGES)
		pthread_join(changes, NULL);
	if (flags & END_PUNCHES)
		pthread_join(punches, NULL);
	if (flags & END_WATCHED)
		pthread_join(watcher, NULL);
	close(vmm.region);
	close(vmm.memory);
	close(vmm.socket);
	region_await_none();
	while (there && vm_is_there(users))
		sched_yield();
	return there;
}

static void __attribute__((noreturn)) kept_main(int socket)
{
	struct region r;
	int probe;

	make_region(&r);
	probe = probe_watch(&r.vm);
	probe_keep_mm(probe);
	send_fd(socket, r.fd);
	send_fd(socket, probe);
	/* Its close by the exit would end the VM. */
	close(r.fd);
	_exit(0);
}

static void *await_end(void *arg)
{
	EXPECT_EQ(poll(arg, 1, -1), 1);
	return NULL;
}

/*
 * A kernel thread never returns to user mode, where the module's task work would
 * drop the VM.
 */
static void ends_by_kernel_thread(const void *arg)
{
	struct pollfd end = {.events = POLLIN};
	int socket, region, probe;
	pthread_t poller;
	pid_t pid;

	(void)arg;
	pid = process_start(kept_main, &socket);
	region = receive_fd(socket);
	probe = receive_fd(socket);
	expect_exit(pid);
	EXPECT_EQ(kvm_vm_count(), 1);
	end.fd = region;
	thread_start(&poller, await_end, &end);
	close(probe);
	pthread_join(poller, NULL);
	EXPECT_TRUE(end.revents & POLLHUP);
	/* The region is left. */
	while (kvm_vm_count())
		sched_yield();
	close(region);
	region_await_none();
}

static void ends(const void *arg)
{
	const unsigned int *flags = arg;
	uint64_t step, nr = 0, rng = seed;
	int users;

	await_no_vm();
	users = module_users(vendor_module());
	for (step = 0; step < steps; step++) {
		tap_context("step %llu of seed %#llx", (unsigned long long)step,
			    (unsigned long long)seed);
		nr += outlives(*flags, users, random_below(&rng, MAX_REQUESTS));
	}
	tap_context("%s", "");
	tap_note("%llu of %llu VMs outlived their process",
		 (unsigned long long)nr, (unsigned long long)steps);
	EXPECT_EQ(nr, 0);
}

int main(int argc, char **argv)
{
	struct options options = {
		.seed_env = "VM_END_SEED",
		.steps_env = "VM_END_STEPS",
		.steps = DEFAULT_STEPS,
	};
	static const struct {
		const char *name;
		unsigned int flags;
	} endings[] = {
		{"the VMM exits", END_EXITS},
		{"the VMM is killed", 0},
		{"the VMM exits, a daemon has the descriptor",
		 END_EXITS | END_HANDED_OVER},
		{"the VMM is killed during changes", END_CHANGES},
		{"the VMM is killed during changes, a daemon has the descriptor",
		 END_CHANGES | END_HANDED_OVER},
		{"the VMM exits during changes, after it has closed its VM",
		 END_CHANGES | END_EXITS | END_HANDED_OVER | END_VM_CLOSED},
		{"the VMM is killed during changes and hole punching",
		 END_CHANGES | END_PUNCHES | END_HANDED_OVER},
		{"the VMM is killed during changes and a read of its smaps",
		 END_CHANGES | END_WATCHED},
		{"the VMM executes another program during changes",
		 END_CHANGES | END_EXECS | END_HANDED_OVER},
	};
	static struct tap_case cases[ARRAY_SIZE(endings) + 1];
	size_t i;
	int status;

	/* The new program: exec() must have closed the VM. */
	if (argc == 2 && !strcmp(argv[1], AFTER_EXEC))
		return kvm_vm_count() != 0;
	if (!options_parse(&options, argc, argv))
		return 2;
	steps = options.steps;
	seed = options.seed;
	for (i = 0; i < ARRAY_SIZE(endings); i++)
		cases[i] = (struct tap_case){.name = endings[i].name,
					     .run = ends,
					     .arg = &endings[i].flags,
					     .timeout_s = TIMEOUT_S};
	cases[i] = (struct tap_case){
		.name = "a kernel thread lets go of the VMM's memory last",
		.run = ends_by_kernel_thread,
	};
	probe_module_load();
	status = tap_run(cases, ARRAY_SIZE(cases));
	probe_module_unload();
	return status;
}
