// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program vmemd with a real region and a driver, under faults: the VMM is
 * killed, the VMM is stopped, the kernel runs out of memory.
 *
 * The test's own driver (driver.h) plugs and unplugs one block with each
 * request, as fast as it receives answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "driver.h"
#include "kernel.h"
#include "metadata.h"
#include "module.h"
#include "process.h"
#include "random.h"
#include "region.h"
#include "tap.h"

#define TEXT_MAX 8192

/*
 * A region whose memslots have noticeable metadata, also on 6.1: 64 KiB each.
 */
#define FAULT_GPA	GIB(8)
#define FAULT_SIZE	GIB(1)
#define FAULT_BLOCK	MIB(2)
#define FAULT_SLOT	MIB(128)
#define FAULT_NR_BLOCKS (FAULT_SIZE / FAULT_BLOCK)

/* Number of kills, and the maximum life of the VMM. */
#define KILLS	    15
#define LIFE_MAX_US 200000

/* Several times more messages than an unread socket holds. */
#define STOPPED_RESIZES 3000
/* The events of one in this many are read. */
#define STOPPED_READ 51

/*
 * Memory that the kernel itself may keep: stacks of new workers. One VM's
 * metadata leaked each time would be more.
 */
#define NOISE	   KIB(192)
#define SLAB_NOISE MIB(2)

/**
 * struct rig - a VMM with a region, and its vmemd
 * @dir: a temporary folder
 * @control_path: vmemd's control socket in it
 * @r: the region
 * @d: the driver, and the daemon that serves it
 * @vmemd_pid: of the daemon, if another process has started it
 */
struct rig {
	char dir[32];
	char control_path[64];
	struct region r;
	struct driver d;
	pid_t vmemd_pid;
};

static void rig_prepare(struct rig *rig)
{
	/* Skip before anything is created. */
	vmemd_program();
	memset(rig, 0, sizeof(*rig));
	strcpy(rig->dir, "/tmp/vmemd-XXXXXX");
	ASSERT_TRUE(mkdtemp(rig->dir));
	snprintf(rig->control_path, sizeof(rig->control_path), "%s/control",
		 rig->dir);
}

/* Create a region with another geometry than most tests have. */
static void rig_make_region(struct rig *rig, uint64_t gpa, uint64_t size,
			    uint64_t block, uint64_t slot)
{
	struct region *r = &rig->r;

	region_prepare(r);
	backing_destroy(&r->mem);
	backing_create(&r->mem, size);
	r->args.guest_phys_addr = gpa;
	r->args.region_size = size;
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.block_size = block;
	r->args.slot_size = slot;
	region_create(r);
}

static void rig_start_vmemd(struct rig *rig)
{
	static char *const args[] = {(char *)"--log-level", (char *)"err",
				     NULL};

	driver_spawn(&rig->d, args, rig->control_path, rig->r.fd,
		     rig->r.mem.fd);
}

static void rig_remove(struct rig *rig)
{
	unlink(rig->control_path);
	EXPECT_EQ(rmdir(rig->dir), 0);
}

static int control_connect(const struct rig *rig)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_GE(fd, 0);
	strcpy(addr.sun_path, rig->control_path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* Receive the next line. Return: false at the end of the connection. */
static bool control_line(int fd, char text[TEXT_MAX])
{
	size_t have = 0;

	for (;;) {
		ssize_t got = recv(fd, text + have, 1, 0);

		if (got <= 0)
			return false;
		if (text[have] == '\n')
			break;
		have++;
		ASSERT_LE(have, TEXT_MAX - 1);
	}
	text[have] = '\0';
	return true;
}

/* Send a request and receive the answer. Return: false if vmemd is gone. */
static bool control_ask(int fd, const char *request, char text[TEXT_MAX])
{
	return send(fd, request, strlen(request), MSG_NOSIGNAL) ==
		       (ssize_t)strlen(request) &&
	       control_line(fd, text);
}

static bool control_resize(int fd, uint64_t size)
{
	char request[96], text[TEXT_MAX];

	snprintf(
		request, sizeof(request),
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":%llu}}\n",
		(unsigned long long)size);
	if (!control_ask(fd, request, text))
		return false;
	if (!strstr(text, "\"result\""))
		tap_fail(__FILE__, __LINE__, "%s", text);
	return true;
}

/* The value of a member in a line of JSON. */
static uint64_t number_in(const char *text, const char *name)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(text, key);
	if (!at)
		tap_fail(__FILE__, __LINE__, "no %s in: %s", name, text);
	ASSERT_TRUE(at);
	return strtoull(at + strlen(key), NULL, 10);
}

static uint64_t control_status(int fd, const char *name)
{
	char text[TEXT_MAX];

	ASSERT_TRUE(
		control_ask(fd, "{\"id\":2,\"method\":\"status\"}\n", text));
	return number_in(text, name);
}

/* Wait for at least one change of the configuration space. */
static void await_config_change(struct driver *d)
{
	struct pollfd channel = {d->vu.channel_fd, POLLIN, 0};
	bool changed;

	ASSERT_GT(poll(&channel, 1, -1), 0);
	while (poll(&channel, 1, 0) > 0)
		ASSERT_OK(vhost_user_handle_channel(&d->vu, &changed));
}

/* Plug or unplug a block towards @wanted. Return: number of plugged blocks. */
static unsigned int follow(struct rig *rig, unsigned int plugged,
			   unsigned int wanted)
{
	if (plugged < wanted)
		return driver_request(&rig->d, VIRTIO_MEM_REQ_PLUG,
				      region_block_gpa(&rig->r, plugged),
				      1) == VIRTIO_MEM_RESP_ACK
			       ? plugged + 1
			       : plugged;
	ASSERT_EQ(driver_request(&rig->d, VIRTIO_MEM_REQ_UNPLUG,
				 region_block_gpa(&rig->r, plugged - 1), 1),
		  VIRTIO_MEM_RESP_ACK);
	return plugged - 1;
}

/* Runs in its own process: the VMM and its driver, until it is killed. */
static void be_vmm(struct rig *rig, int socket)
{
	struct virtio_mem_config config;
	unsigned int wanted, plugged = 0;

	rig_make_region(rig, FAULT_GPA, FAULT_SIZE, FAULT_BLOCK, FAULT_SLOT);
	rig_start_vmemd(rig);
	ASSERT_EQ(write(socket, &rig->d.pid, sizeof(pid_t)), sizeof(pid_t));
	driver_start(&rig->d);
	send_byte(socket);
	for (;;) {
		driver_config(&rig->d, &config);
		wanted = (unsigned int)(config.requested_size / FAULT_BLOCK);
		if (plugged == wanted)
			await_config_change(&rig->d);
		else
			plugged = follow(rig, plugged, wanted);
	}
}

/* Return: the VMM's process. This process reaps vmemd afterwards. */
static pid_t start_vmm(struct rig *rig)
{
	int pair[2];
	pid_t vmm;

	ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	process_pair(pair);
	vmm = fork();
	ASSERT_GE(vmm, 0);
	if (!vmm)
		be_vmm(rig, pair[1]);
	close(pair[1]);
	ASSERT_EQ(read(pair[0], &rig->vmemd_pid, sizeof(pid_t)), sizeof(pid_t));
	receive_byte(pair[0]);
	close(pair[0]);
	return vmm;
}

/* Kill the VMM; then vmemd exits with success. */
static void kill_vmm(const struct rig *rig, pid_t vmm)
{
	int status;

	ASSERT_EQ(kill(vmm, SIGKILL), 0);
	ASSERT_EQ(waitpid(vmm, &status, 0), vmm);
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(waitpid(rig->vmemd_pid, &status, 0), rig->vmemd_pid);
	EXPECT_EQ(status, 0);
}

/* Request random sizes for @life_us. */
static void resize_for(int control, uint64_t life_us, uint64_t *seed)
{
	struct timespec nap = {.tv_nsec = 5000000};
	uint64_t lived_us = 0;

	while (lived_us < life_us) {
		if (life_us - lived_us < 5000)
			nap.tv_nsec = (long)(life_us - lived_us) * 1000;
		ASSERT_TRUE(control_resize(
			control,
			random_below(seed, FAULT_NR_BLOCKS + 1) * FAULT_BLOCK));
		/*
		 * Not a wait for anything: it makes the moment of the kill
		 * random.
		 */
		nanosleep(&nap, NULL);
		lived_us += 5000;
	}
}

static void a_vmm_that_dies_leaves_nothing(const void *arg)
{
	uint64_t seed = 20251125, vmalloc, slab;
	unsigned int i, plugged = 0;
	char text[TEXT_MAX];
	struct rig rig;
	int control;
	pid_t vmm;

	(void)arg;
	module_need_reload();
	await_no_vm();
	vmalloc = meminfo("VmallocUsed");
	slab = slab_bytes();
	for (i = 0; i < KILLS; i++) {
		tap_context("kill %u", i);
		rig_prepare(&rig);
		vmm = start_vmm(&rig);
		control = control_connect(&rig);
		ASSERT_GE(control, 0);
		resize_for(control, random_below(&seed, LIFE_MAX_US), &seed);
		plugged += control_status(control, "plugged_size") != 0;
		kill_vmm(&rig, vmm);
		/* vmemd's exit closes both sockets. */
		while (control_line(control, text))
			;
		close(control);
		EXPECT_ERR(control_connect(&rig), ECONNREFUSED);
		rig_remove(&rig);
		await_no_vm();
		ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
		EXPECT_EQ(errno, ECHILD);
	}
	tap_context("%s", "");
	/* Otherwise the kills have tested too little. */
	EXPECT_GT(plugged, KILLS / 3);
	module_unload_soon();
	tap_note(
		"%u kills, %u of them with memory plugged: VmallocUsed %+lld KiB, slab %+lld KiB",
		KILLS, plugged,
		((long long)meminfo("VmallocUsed") - (long long)vmalloc) / 1024,
		((long long)slab_bytes() - (long long)slab) / 1024);
	EXPECT_LE(meminfo("VmallocUsed"), vmalloc + NOISE);
	EXPECT_LE(slab_bytes(), slab + SLAB_NOISE);
	module_load();
}

/* Read events until @name is between @least and @most. */
static void watch_until(int watch, const char *name, uint64_t least,
			uint64_t most)
{
	char text[TEXT_MAX];
	uint64_t size;

	do {
		ASSERT_TRUE(control_line(watch, text));
		/* A slow reader receives this event, then the newest state. */
		if (strstr(text, "\"event\":\"lost\""))
			ASSERT_TRUE(control_line(watch, text));
		size = number_in(text, name);
	} while (size < least || size > most);
}

static void a_vmm_that_stands_still_is_waited_for(const void *arg)
{
	const uint64_t half = FAULT_SIZE / 2;
	char text[TEXT_MAX];
	int control, watch, status;
	uint64_t plugged;
	struct rig rig;
	unsigned int i;
	pid_t vmm;

	(void)arg;
	rig_prepare(&rig);
	vmm = start_vmm(&rig);
	control = control_connect(&rig);
	watch = control_connect(&rig);
	ASSERT_GE(control, 0);
	ASSERT_GE(watch, 0);
	ASSERT_TRUE(
		control_ask(watch, "{\"id\":3,\"method\":\"watch\"}\n", text));
	ASSERT_TRUE(control_resize(control, half));
	watch_until(watch, "plugged_size", half / 4, half);
	ASSERT_EQ(kill(vmm, SIGSTOP), 0);
	ASSERT_EQ(waitpid(vmm, &status, WUNTRACED), vmm);
	ASSERT_TRUE(WIFSTOPPED(status));
	/* At most one request is still under way. */
	plugged = control_status(control, "plugged_size");
	/* Each resize is sent to the VMM, which reads nothing. */
	for (i = 0; i < STOPPED_RESIZES; i++) {
		const uint64_t size = i % 2 ? half : FAULT_SIZE;

		ASSERT_TRUE(control_resize(control, size));
		/* Read some events, or this connection would fill up, too. */
		if (i % STOPPED_READ == 0)
			watch_until(watch, "requested_size", size, size);
	}
	EXPECT_EQ(control_status(control, "requested_size"), half);
	EXPECT_LE(control_status(control, "plugged_size"),
		  plugged + FAULT_BLOCK);
	EXPECT_LE(plugged, half);
	ASSERT_TRUE(control_resize(control, FAULT_SIZE));
	ASSERT_EQ(kill(vmm, SIGCONT), 0);
	watch_until(watch, "plugged_size", FAULT_SIZE, FAULT_SIZE);
	/* The VMM still receives configuration changes. */
	ASSERT_TRUE(control_resize(control, FAULT_BLOCK));
	watch_until(watch, "plugged_size", FAULT_BLOCK, FAULT_BLOCK);
	kill_vmm(&rig, vmm);
	close(control);
	close(watch);
	rig_remove(&rig);
}

/* This process is the VMM. Exempt it from the OOM killer. */
static void be_spared(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "-1000", 5), 5);
	close(fd);
}

/* A slot size whose metadata is far larger than the tests' other memory. */
static uint64_t costly_slot_size(uint64_t gpa, uint64_t *cost)
{
	uint64_t size = GIB(64);

	while ((*cost = metadata_cost(gpa, size, false, false).total) < MIB(8))
		size *= 2;
	return size;
}

static void expect_nothing_plugged(struct region *r)
{
	struct vmem_nl_region state;
	unsigned int slot;

	ASSERT_OK(
		vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), &state, NULL));
	EXPECT_EQ(state.plugged_size, 0);
	EXPECT_EQ(state.populated_slots, 0);
	for (slot = 0; slot < r->nr_slots; slot++)
		EXPECT_TRUE(!vm_slot_exists(&r->vm, r->args.first_slot + slot));
}

static void without_memory_the_guest_is_told_busy(const void *arg)
{
	const uint64_t gpa = GIB(1024);
	uint64_t slot, cost, before;
	struct vm vm;
	struct rig rig;
	char text[TEXT_MAX];
	int control;

	(void)arg;
	slot = costly_slot_size(gpa, &cost);
	vm_create(&vm, 0);
	vm_need_gpa(&vm, gpa + 2 * slot);
	vm_destroy(&vm);
	rig_prepare(&rig);
	rig_make_region(&rig, gpa, 2 * slot, GIB(1), slot);
	/* vmemd is outside the cgroup, so its own allocations succeed. */
	rig_start_vmemd(&rig);
	control = control_connect(&rig);
	ASSERT_GE(control, 0);
	driver_start(&rig.d);
	ASSERT_TRUE(control_resize(control, 2 * slot));
	be_spared();
	if (!cgroup_enter())
		tap_skip("no memory cgroup");
	/* Memory for one memslot, while the request has blocks of two. */
	cgroup_limit(cgroup_current() + cost + cost / 2);
	before = meminfo("VmallocUsed");
	EXPECT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_PLUG,
				 gpa + slot - GIB(1), 2),
		  VIRTIO_MEM_RESP_BUSY);
	expect_nothing_plugged(&rig.r);
	EXPECT_LE(meminfo("VmallocUsed"), before + NOISE);
	ASSERT_TRUE(control_ask(control, "{\"id\":4,\"method\":\"status\"}\n",
				text));
	if (!strstr(text, "not enough memory for the memslots' metadata"))
		tap_fail(__FILE__, __LINE__, "no reason in: %s", text);
	/* Requests for which there is memory succeed. */
	EXPECT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_PLUG, gpa, 1),
		  VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_UNPLUG, gpa, 1),
		  VIRTIO_MEM_RESP_ACK);
	expect_nothing_plugged(&rig.r);
	cgroup_limit(CGROUP_NO_LIMIT);
	EXPECT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_PLUG,
				 gpa + slot - GIB(1), 2),
		  VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(control_status(control, "plugged_size"), GIB(2));
	EXPECT_TRUE(vm_slot_exists(&rig.r.vm, rig.r.args.first_slot));
	EXPECT_TRUE(vm_slot_exists(&rig.r.vm, rig.r.args.first_slot + 1));
	EXPECT_EQ(driver_request(&rig.d, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0),
		  VIRTIO_MEM_RESP_ACK);
	expect_nothing_plugged(&rig.r);
	cgroup_leave();
	close(control);
	driver_stop(&rig.d);
	rig_remove(&rig);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a VMM killed under load: vmemd exits, nothing is left behind",
		 .run = a_vmm_that_dies_leaves_nothing,
		 .timeout_s = 300},
		{.name = "a stopped VMM: vmemd answers, and continues",
		 .run = a_vmm_that_stands_still_is_waited_for,
		 .timeout_s = 300},
		{.name = "no memory for metadata: busy, nothing partly plugged",
		 .run = without_memory_the_guest_is_told_busy,
		 .timeout_s = 120},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
