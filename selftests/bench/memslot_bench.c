// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What batches of memslot changes cost, next to one call per memslot.
 *
 * Both ways take turns in one run, so that what else the machine does falls on
 * both; each figure is the median of the rounds, and what is worth keeping is
 * the ratio. Grace periods and zaps are counted, in rounds of their own, by
 * kprobes. Writes one JSON object per line: what scripts/bench
 * makes its tables of.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "profile.h"
#include "spinner.h"
#include "tap.h"
#include "vm.h"

/* Memslots of the bench begin here, with room between them. */
#define BENCH_GPA GIB(4)
/* Id of the first; lower ones are the VM's own. */
#define BENCH_FIRST_ID 1U

#define MAX_ROUNDS 15

/* Rounds of small and large batches: a large one is a mean of many in itself. */
#define ROUNDS_SMALL 9
#define ROUNDS_LARGE 3
#define LARGE	     1024U

/* What is measured, in the order it happens in a round. */
enum step {
	PEER_CREATE,
	PEER_DELETE,
	BATCH_CREATE,
	BATCH_DELETE,
	NR_STEPS,
};

static const char *const step_names[NR_STEPS] = {
	"peer_create",
	"peer_delete",
	"batch_create",
	"batch_delete",
};

#define GRACE_PERIOD "synchronize_srcu_expedited"
#define ZAP	     "kvm_mmu_zap_all_fast"

/**
 * struct bench - what one series of rounds works on
 * @vm: the VM
 * @dev: /dev/kvm-vmem
 * @hva: memory behind the memslots, reserved only
 * @slot_size: bytes of a memslot
 * @nr: memslots
 * @address_spaces: 1, or 2 for every other memslot in SMM's
 * @batch: entries for them
 * @spinner: a running vCPU, if @running
 * @running: whether there is one
 */
struct bench {
	struct vm vm;
	int dev;
	uint8_t *hva;
	uint64_t slot_size;
	uint32_t nr;
	uint32_t address_spaces;
	struct batch batch;
	struct spinner spinner;
	bool running;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint64_t slot_gpa(const struct bench *b, uint32_t i)
{
	return BENCH_GPA + i * b->slot_size;
}

static uint32_t slot_id(const struct bench *b, uint32_t i)
{
	return SLOT(i % b->address_spaces,
		    BENCH_FIRST_ID + i / b->address_spaces);
}

static void peer_create(struct bench *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		ASSERT_OK(vm_set_region(&b->vm, slot_id(b, i), 0,
					slot_gpa(b, i), b->slot_size,
					b->hva + i * b->slot_size));
}

static void peer_delete(struct bench *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		ASSERT_OK(vm_delete_slot(&b->vm, slot_id(b, i)));
}

static void prepare_batch(struct bench *b, enum step step)
{
	batch_reset(&b->batch);
	for (uint32_t i = 0; i < b->nr; i++) {
		if (step == BATCH_CREATE)
			batch_set(&b->batch, slot_id(b, i), 0, slot_gpa(b, i),
				  b->slot_size, b->hva + i * b->slot_size);
		else
			batch_delete(&b->batch, slot_id(b, i));
	}
}

/* One step of a round, in nanoseconds. */
static uint64_t run_step(struct bench *b, enum step step)
{
	uint64_t start;

	if (step == BATCH_CREATE || step == BATCH_DELETE)
		prepare_batch(b, step);
	start = now_ns();
	switch (step) {
	case PEER_CREATE:
		peer_create(b);
		break;
	case PEER_DELETE:
		peer_delete(b);
		break;
	default:
		ASSERT_OK(batch_apply(b->dev, &b->vm, &b->batch));
	}
	return now_ns() - start;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t median(uint64_t *values, unsigned int nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

/* All steps, @rounds times. */
static void measure(struct bench *b, unsigned int rounds)
{
	uint64_t ns[NR_STEPS][MAX_ROUNDS];
	uint64_t pause[NR_STEPS][MAX_ROUNDS];

	for (unsigned int round = 0; round < rounds; round++)
		for (int step = 0; step < NR_STEPS; step++) {
			if (b->running)
				spinner_take_longest_pause(&b->spinner);
			ns[step][round] = run_step(b, step);
			pause[step][round] =
				b->running ? spinner_take_longest_pause(
						     &b->spinner)
					   : 0;
		}

	printf("{\"nr\":%u,\"slot_size\":%" PRIu64 ",\"running\":%s", b->nr,
	       b->slot_size, b->running ? "true" : "false");
	for (int step = 0; step < NR_STEPS; step++) {
		printf(",\"%s_ns\":%" PRIu64, step_names[step],
		       median(ns[step], rounds));
		if (b->running)
			printf(",\"%s_pause_ticks\":%" PRIu64, step_names[step],
			       median(pause[step], rounds));
	}
	printf("}\n");
	fflush(stdout);
}

/* Grace periods and zaps of each step. */
static void count(struct bench *b)
{
	static const char *const functions[] = {GRACE_PERIOD, ZAP};

	printf("{\"count\":true,\"nr\":%u,\"address_spaces\":%u", b->nr,
	       b->address_spaces);
	for (int step = 0; step < NR_STEPS; step++) {
		profile_start(functions, ARRAY_SIZE(functions));
		run_step(b, step);
		printf(",\"%s_grace_periods\":%" PRIu64 ",\"%s_zaps\":%" PRIu64,
		       step_names[step], profile_hits(GRACE_PERIOD),
		       step_names[step], profile_hits(ZAP));
		profile_stop();
	}
	printf("}\n");
	fflush(stdout);
}

static void bench_init(struct bench *b)
{
	b->dev = kvm_vmem_open();
	vm_create(&b->vm, 0);
	b->hva = mmap(NULL, b->nr * b->slot_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_TRUE(b->hva != MAP_FAILED);
	batch_init(&b->batch);
	if (b->running)
		spinner_start(&b->spinner, &b->vm);
}

static void bench_destroy(struct bench *b)
{
	if (b->running)
		spinner_stop(&b->spinner);
	batch_free(&b->batch);
	munmap(b->hva, b->nr * b->slot_size);
	vm_destroy(&b->vm);
	close(b->dev);
}

static const uint32_t counts[] = {1, 16, 64, 256, 1024, 4096, 16384};
static const uint64_t sizes[] = {MIB(2), MIB(128)};

static void measure_all(uint32_t max)
{
	for (int running = 0; running < 2; running++)
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
			for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
				struct bench b = {
					.nr = counts[i],
					.slot_size = sizes[s],
					.address_spaces = 1,
					.running = running,
				};

				if (counts[i] > max)
					break;
				bench_init(&b);
				measure(&b, counts[i] < LARGE ? ROUNDS_SMALL
							      : ROUNDS_LARGE);
				bench_destroy(&b);
			}
}

static void count_all(uint32_t max)
{
	for (uint32_t as = 1; as <= 2; as++)
		for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
			struct bench b = {
				.nr = counts[i],
				.slot_size = MIB(2),
				.address_spaces = as,
			};

			if (counts[i] > max)
				break;
			bench_init(&b);
			count(&b);
			bench_destroy(&b);
		}
}

int main(int argc, char **argv)
{
	uint32_t max = counts[ARRAY_SIZE(counts) - 1];
	int opt;

	while ((opt = getopt(argc, argv, "n:")) != -1) {
		if (opt != 'n') {
			fprintf(stderr,
				"usage: memslot_bench [-n MAX_SLOTS]\n");
			return 2;
		}
		max = (uint32_t)strtoul(optarg, NULL, 0);
	}
	count_all(max);
	measure_all(max);
	return 0;
}
