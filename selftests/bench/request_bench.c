// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Overhead of vmemd on a change of blocks: requests of a driver through the
 * queue and the program vmemd, compared with the same changes over netlink. The
 * region has 1 TiB, in blocks of 2 MiB and memslots of 128 MiB.
 *
 * A round plugs a range of memory, request by request, and unplugs it. Rounds
 * of both ways alternate, on two regions of the same geometry. The times of all
 * rounds are printed. The netlink way discards unplugged memory like vmemd,
 * since this is part of the change.
 *
 * A driver may send its next request after the answer to the previous one, as
 * Linux does; then each request costs two switches between the processes. Or it
 * fills the queue, and only vmemd's work for a request matters. Both are
 * measured.
 *
 * The third way is that of a driver whose VMM has a view of the memory
 * (kvmvmem_view_new()): each request waits until a thread of this process has
 * changed the protection of the view.
 *
 * One line of JSON per measurement: {"requests":..,"blocks":..,"queued":..,
 * "vhost_user_ns":[..],"netlink_ns":[..],"view_ns":[..]}. The last line is
 * {"view_mappings":..}: mappings of the view, and of the process in which KVM has
 * another mapping, when every second memslot is populated.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "driver.h"
#include "kvmvmem.h"
#include "samples.h"
#include "tap.h"

#define GPA	  GIB(4)
#define BLOCK	  MIB(2)
#define SLOT_SIZE MIB(128)

/* Default number of rounds of each way. */
#define ROUNDS 15

/**
 * struct way - a region, and a way to change it
 * @r: the region
 * @d: its driver
 * @request_id: id of the last change over netlink
 * @samples: times of the rounds
 */
struct way {
	struct region r;
	struct driver d;
	uint64_t request_id;
	struct samples samples;
};

/**
 * struct viewer - a view, and the thread that dispatches it
 * @view: the view
 * @thread: the thread
 * @stop_fd: ends the thread
 * @path: control socket of vmemd
 */
struct viewer {
	struct kvmvmem_view *view;
	pthread_t thread;
	int stop_fd;
	char path[64];
};

enum {
	WAY_DRIVER,
	WAY_NETLINK,
	WAY_VIEW,
	NR_WAYS,
};

/**
 * struct load - work of a round
 * @nr: number of plug requests, and of unplug requests
 * @nr_blocks: number of blocks of each
 * @queued: maximum number of requests that a driver has outstanding
 */
struct load {
	unsigned int nr;
	uint16_t nr_blocks;
	unsigned int queued;
};

static uint64_t gpa_of(const struct load *load, unsigned int request)
{
	return GPA + (uint64_t)request * load->nr_blocks * BLOCK;
}

static void by_netlink(struct way *way, bool plug, const struct load *load)
{
	struct vmem_nl_answer answer;
	struct vmem_nl_range range;
	struct error err;

	for (unsigned int i = 0; i < load->nr; i++) {
		range = (struct vmem_nl_range){gpa_of(load, i),
					       load->nr_blocks * BLOCK};
		ASSERT_OK((plug ? vmem_nl_plug : vmem_nl_unplug)(
			way->r.nl, VMEM_NL_BY_FD(way->r.fd), ++way->request_id,
			&range, 1, &answer, &err));
		if (!plug)
			ASSERT_EQ(fallocate(way->r.mem.fd,
					    FALLOC_FL_PUNCH_HOLE |
						    FALLOC_FL_KEEP_SIZE,
					    (off_t)(range.gpa - GPA),
					    (off_t)range.size),
				  0);
	}
}

static void by_driver(struct way *way, bool plug, const struct load *load)
{
	uint16_t type = plug ? VIRTIO_MEM_REQ_PLUG : VIRTIO_MEM_REQ_UNPLUG;
	unsigned int put = 0, answered = 0;
	uint16_t answer;

	while (answered < load->nr) {
		/* Fill the queue, then wait until it is empty. */
		for (; put < load->nr && put - answered < load->queued; put++)
			driver_add(&way->d, type, gpa_of(load, put),
				   load->nr_blocks);
		driver_kick(&way->d);
		while (answered < put) {
			answer = driver_wait(&way->d);
			ASSERT_EQ(answer, VIRTIO_MEM_RESP_ACK);
			answered++;
		}
	}
}

static void run_round(struct way *way,
		      void (*change)(struct way *way, bool plug,
				     const struct load *load),
		      const struct load *load)
{
	uint64_t began = now_ns();

	change(way, true, load);
	change(way, false, load);
	samples_add(&way->samples, now_ns() - began);
}

static void dispatch(struct kvmvmem_view *view)
{
	struct kvmvmem_error error;

	if (kvmvmem_consumer_dispatch(kvmvmem_view_consumer(view), &error))
		tap_fail(__FILE__, __LINE__, "the view: %s", error.text);
}

static void *dispatch_view(void *arg)
{
	const struct viewer *viewer = arg;
	struct pollfd fds[2] = {
		{kvmvmem_consumer_fd(kvmvmem_view_consumer(viewer->view)),
		 POLLIN, 0},
		{viewer->stop_fd, POLLIN, 0},
	};

	while (!fds[1].revents) {
		poll(fds, 2, -1);
		if (fds[0].revents)
			dispatch(viewer->view);
	}
	return NULL;
}

static void viewer_start(struct viewer *viewer, const struct region *r)
{
	const struct kvmvmem_view_config config = {
		.size = sizeof(config),
		.memory_fd = r->mem.fd,
		.region_size = r->args.region_size,
		.control_path = viewer->path,
		.name = "view",
	};
	struct kvmvmem_error error;

	if (kvmvmem_view_new(&viewer->view, &config, &error)) {
		tap_fail(__FILE__, __LINE__, "the view: %s", error.text);
		exit(1);
	}
	while (kvmvmem_consumer_state(kvmvmem_view_consumer(viewer->view)) !=
	       KVMVMEM_SUBSCRIBED)
		dispatch(viewer->view);
	viewer->stop_fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_GE(viewer->stop_fd, 0);
	ASSERT_EQ(pthread_create(&viewer->thread, NULL, dispatch_view, viewer),
		  0);
}

static void viewer_stop(struct viewer *viewer)
{
	eventfd_write(viewer->stop_fd, 1);
	pthread_join(viewer->thread, NULL);
	kvmvmem_view_free(viewer->view);
	close(viewer->stop_fd);
}

/* Number of mappings of this process in the range of the view. */
static unsigned int count_mappings(const struct viewer *viewer, uint64_t size)
{
	uintptr_t first = (uintptr_t)kvmvmem_view_address(viewer->view);
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned int nr = 0;
	uintptr_t start;
	char line[512];

	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		nr += sscanf(line, "%" SCNxPTR, &start) == 1 &&
		      start >= first && start - first < size;
	fclose(f);
	return nr;
}

/* As many mappings as there can be: every second memslot is populated. */
static void measure_mappings(struct way *way, const struct viewer *viewer)
{
	const uint64_t size = way->r.args.region_size;

	for (uint64_t at = 0; at < size; at += 2 * SLOT_SIZE) {
		driver_add(&way->d, VIRTIO_MEM_REQ_PLUG, GPA + at, 1);
		driver_kick(&way->d);
		ASSERT_EQ(driver_wait(&way->d), VIRTIO_MEM_RESP_ACK);
	}
	printf("{\"view_mappings\":%u,\"memslots\":%llu}\n",
	       count_mappings(viewer, size),
	       (unsigned long long)(size / SLOT_SIZE / 2));
}

/*
 * The driver and vmemd share a CPU, so neither way has the advantage of a
 * second one. Waking another CPU also takes long under emulation.
 */
static void share_a_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
}

static void print_samples(const char *name, const struct samples *s)
{
	printf(",\"%s\":[", name);
	for (unsigned int i = 0; i < s->nr; i++)
		printf("%s%" PRIu64, i ? "," : "", s->values[i]);
	printf("]");
}

static void forget_samples(struct way ways[NR_WAYS])
{
	for (unsigned int i = 0; i < NR_WAYS; i++)
		ways[i].samples.nr = 0;
}

static void measure(struct way ways[NR_WAYS], unsigned int rounds,
		    const struct load *load)
{
	/* The first round of each warms the caches. */
	for (unsigned int i = 0; i <= rounds; i++) {
		run_round(&ways[WAY_DRIVER], by_driver, load);
		run_round(&ways[WAY_NETLINK], by_netlink, load);
		run_round(&ways[WAY_VIEW], by_driver, load);
		if (!i)
			forget_samples(ways);
	}
	printf("{\"requests\":%u,\"blocks\":%u,\"queued\":%u", 2 * load->nr,
	       load->nr_blocks, load->queued);
	print_samples("vhost_user_ns", &ways[WAY_DRIVER].samples);
	print_samples("netlink_ns", &ways[WAY_NETLINK].samples);
	print_samples("view_ns", &ways[WAY_VIEW].samples);
	printf("}\n");
	fflush(stdout);
	forget_samples(ways);
}

int main(int argc, char **argv)
{
	char *const args[] = {(char *)"--log-level", (char *)"warning",
			      (char *)"--requested-size", (char *)"1T", NULL};
	/* A whole memslot, as Linux requests it, and a single block. */
	static const struct load loads[] = {
		{256, SLOT_SIZE / BLOCK, 1},
		{256, SLOT_SIZE / BLOCK, DRIVER_OUTSTANDING},
		{1024, 1, 1},
		{1024, 1, DRIVER_OUTSTANDING},
	};
	static struct viewer viewer = {.path = "/tmp/request-bench-control"};
	static struct way ways[NR_WAYS];
	unsigned int rounds = ROUNDS;

	if (argc == 2)
		rounds = (unsigned int)strtoul(argv[1], NULL, 10);
	if (argc > 2 || !rounds || rounds >= SAMPLES_MAX) {
		fprintf(stderr, "usage: request_bench [ROUNDS]\n"
				"ROUNDS: 1 to 100\n");
		return 2;
	}
	share_a_cpu();
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		driver_region(&ways[i].r, GPA, TIB(1), BLOCK, SLOT_SIZE);
	ways[WAY_NETLINK].r.nl = netlink_open();
	driver_spawn(&ways[WAY_DRIVER].d, args, NULL, ways[WAY_DRIVER].r.fd,
		     ways[WAY_DRIVER].r.mem.fd);
	driver_start(&ways[WAY_DRIVER].d);
	driver_spawn(&ways[WAY_VIEW].d, args, viewer.path, ways[WAY_VIEW].r.fd,
		     ways[WAY_VIEW].r.mem.fd);
	driver_start(&ways[WAY_VIEW].d);
	viewer_start(&viewer, &ways[WAY_VIEW].r);
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		measure(ways, rounds, &loads[i]);
	measure_mappings(&ways[WAY_VIEW], &viewer);
	viewer_stop(&viewer);
	driver_stop(&ways[WAY_VIEW].d);
	driver_stop(&ways[WAY_DRIVER].d);
	return 0;
}
