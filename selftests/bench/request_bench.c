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
 * One line of JSON per measurement: {"requests":..,"blocks":..,"queued":..,
 * "vhost_user_ns":[..],"netlink_ns":[..]}.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "driver.h"
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

static void measure(struct way ways[2], unsigned int rounds,
		    const struct load *load)
{
	/* The first round of each warms the caches. */
	for (unsigned int i = 0; i <= rounds; i++) {
		run_round(&ways[0], by_driver, load);
		run_round(&ways[1], by_netlink, load);
		if (!i)
			ways[0].samples.nr = ways[1].samples.nr = 0;
	}
	printf("{\"requests\":%u,\"blocks\":%u,\"queued\":%u", 2 * load->nr,
	       load->nr_blocks, load->queued);
	print_samples("vhost_user_ns", &ways[0].samples);
	print_samples("netlink_ns", &ways[1].samples);
	printf("}\n");
	fflush(stdout);
	ways[0].samples.nr = ways[1].samples.nr = 0;
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
	unsigned int rounds = ROUNDS;
	static struct way ways[2];

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
	ways[1].r.nl = netlink_open();
	driver_spawn(&ways[0].d, args, NULL, ways[0].r.fd, ways[0].r.mem.fd);
	driver_start(&ways[0].d);
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		measure(ways, rounds, &loads[i]);
	driver_stop(&ways[0].d);
	return 0;
}
