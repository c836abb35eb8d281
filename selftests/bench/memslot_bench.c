// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What batches of memslot changes cost, next to one call per memslot, which is
 * how every VMM does it.
 *
 * Both ways take turns in one run, in an order that is drawn anew for each
 * round, so that what else the machine does falls on both; what is worth
 * keeping is the ratio. What is measured:
 *
 *   count	grace periods and zaps of each step, told by the kernel's tracing
 *   time	nanoseconds of each step; in how long the batch's own parts took;
 *		and the floor: only to allocate and free the metadata
 *   guest	what a vCPU that touches memory feels of it: pauses, and rounds of
 *		its loop that it did not get to
 *
 * Caller and vCPU have a CPU each, and what takes a vCPU is measured twice, with
 * these two exchanged: KVM's call waits for a grace period, and how long that is
 * hangs on the CPUs that take part, a hundred microseconds or a whole tick. Left
 * to the scheduler, a run has the one or the other by chance.
 *
 * Writes one JSON object per line, with all rounds: what scripts/bench makes
 * its tables of.
 */
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "clock.h"
#include "floor.h"
#include "kernel.h"
#include "samples.h"
#include "spinner.h"
#include "tap.h"
#include "tracing.h"
#include "vm.h"

/* Memslots of the bench begin here, those that only have to be there follow. */
#define BENCH_GPA GIB(4)
/* Id of the first; lower ones are the VM's own. */
#define BENCH_FIRST_ID 1U

/*
 * Rounds of a series: as many as fit the time, but no fewer than tell a spread;
 * those of some thousand memslots are means of many in themselves. One round
 * comes before, unmeasured.
 */
#define MIN_ROUNDS	 5U
#define MIN_ROUNDS_LARGE 3U
#define LARGE		 4096U

/* Batches are made so often to ask where their time went. */
#define PARTS_ROUNDS 5U

/*
 * A round that takes longer than this is measured once, and none comes before:
 * where KVM's own calls wait for a running vCPU, 16384 of them take minutes, and
 * a mean of so many needs no second.
 */
#define LONG_ROUND_NS 30000000000ULL

/* The number of memslots whose figures stand for all. */
#define TYPICAL 1024U

/*
 * How long a vCPU is watched to know its pace when nothing disturbs it; again
 * until it has gone this many rounds, as a busy machine may not let it run.
 */
#define UNDISTURBED_NS	   50000000U
#define UNDISTURBED_ROUNDS 100U

/* A vCPU that has not run for so long has ended. */
#define UNDISTURBED_LIMIT_NS 60000000000ULL

/* Pauses are told by the longest and by this quantile. */
#define PAUSE_PER_MILLE 999

/* What is measured. */
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

/* Where the caller and a vCPU run. */
enum placement {
	CALLER_FIRST,
	CALLER_LAST,
	NR_PLACEMENTS,
};

/**
 * struct options - of the command line
 * @max: largest number of memslots
 * @seed: of the order in which both ways take turns
 * @series_ns: time that a series should take
 * @first_cpu: of those that this process may use
 * @last_cpu: of them
 */
struct options {
	uint32_t max;
	uint64_t seed;
	uint64_t series_ns;
	unsigned int first_cpu;
	unsigned int last_cpu;
};

/**
 * struct bench - what one series of rounds works on
 * @vm: the VM
 * @dev: /dev/kvm-vmem
 * @hva: memory behind the memslots, reserved only
 * @reserved: bytes at @hva
 * @slot_size: bytes of a memslot
 * @nr: memslots
 * @present: memslots of 2 MiB that are there already
 * @address_spaces: 1, or 2 for every other memslot in SMM's
 * @batch: entries for them
 * @spinner: a running vCPU, if @running
 * @running: whether there is one
 * @caller_cpu: where memslots are changed
 * @vcpu_cpu: where @spinner runs
 */
struct bench {
	struct vm vm;
	int dev;
	uint8_t *hva;
	uint64_t reserved;
	uint64_t slot_size;
	uint32_t nr;
	uint32_t present;
	uint32_t address_spaces;
	struct batch batch;
	struct spinner spinner;
	bool running;
	unsigned int caller_cpu;
	unsigned int vcpu_cpu;
};

/* What the rounds of a series have shown of a step. */
struct step_samples {
	struct samples ns;
	struct samples judge_ns;
	struct samples prepare_ns;
	struct samples grace_ns;
	struct samples zap_ns;
	struct samples commit_ns;
	struct samples longest_ns;
	struct samples quantile_ns;
	struct samples rounds;
	struct samples undisturbed_ns;
	struct samples undisturbed_rounds;
};

/* xorshift64: nothing hangs on the draws but the order of the two ways. */
static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t slot_offset(const struct bench *b, uint32_t i)
{
	return i * b->slot_size;
}

static uint32_t slot_id(const struct bench *b, uint32_t i)
{
	return SLOT(i % b->address_spaces,
		    BENCH_FIRST_ID + i / b->address_spaces);
}

static void peer_create(const struct bench *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		ASSERT_OK(vm_set_region(
			&b->vm, slot_id(b, i), 0, BENCH_GPA + slot_offset(b, i),
			b->slot_size, b->hva + slot_offset(b, i)));
}

static void peer_delete(const struct bench *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		ASSERT_OK(vm_delete_slot(&b->vm, slot_id(b, i)));
}

static void prepare_batch(struct bench *b, enum step step)
{
	batch_reset(&b->batch);
	for (uint32_t i = 0; i < b->nr; i++) {
		if (step == BATCH_CREATE)
			batch_set(&b->batch, slot_id(b, i), 0,
				  BENCH_GPA + slot_offset(b, i), b->slot_size,
				  b->hva + slot_offset(b, i));
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

static void create_present(struct bench *b)
{
	uint64_t offset = slot_offset(b, b->nr);

	batch_reset(&b->batch);
	for (uint32_t i = 0; i < b->present; i++, offset += MIB(2))
		batch_set(&b->batch,
			  SLOT(AS_NORMAL, BENCH_FIRST_ID + b->nr + i), 0,
			  BENCH_GPA + offset, MIB(2), b->hva + offset);
	ASSERT_OK(batch_apply(b->dev, &b->vm, &b->batch));
}

/* Where each is to run; calls are made from the first CPU unless said otherwise. */
static void place(struct bench *b, const struct options *options,
		  enum placement placement)
{
	bool last = placement == CALLER_LAST;

	b->caller_cpu = last ? options->last_cpu : options->first_cpu;
	b->vcpu_cpu = last ? options->first_cpu : options->last_cpu;
}

static void bench_init(struct bench *b)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(b->caller_cpu, &cpus);
	ASSERT_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	b->dev = kvm_vmem_open();
	vm_create(&b->vm, 0);
	b->reserved = slot_offset(b, b->nr) + b->present * MIB(2);
	b->hva = mmap(NULL, b->reserved, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_TRUE(b->hva != MAP_FAILED);
	batch_init(&b->batch);
	create_present(b);
	if (b->running)
		spinner_start(&b->spinner, &b->vm, b->vcpu_cpu);
}

static void bench_destroy(struct bench *b)
{
	if (b->running)
		spinner_stop(&b->spinner);
	batch_free(&b->batch);
	munmap(b->hva, b->reserved);
	vm_destroy(&b->vm);
	close(b->dev);
}

/* Does a CPU of this machine have addresses enough? Says so if not. */
static bool fits(const struct bench *b)
{
	struct vm vm;
	uint64_t max;

	vm_create(&vm, VM_BARE);
	max = vm_max_gpa(&vm);
	vm_destroy(&vm);
	if (BENCH_GPA + slot_offset(b, b->nr) + b->present * MIB(2) <= max)
		return true;
	printf("{\"record\":\"left_out\",\"nr\":%u,\"slot_size\":%" PRIu64
	       ",\"reason\":\"beyond the CPU's physical addresses\"}\n",
	       b->nr, b->slot_size);
	return false;
}

/* A create and a delete, one way. */
static void run_way(struct bench *b, bool batch, struct step_samples *samples)
{
	for (int i = 0; i < 2; i++) {
		enum step step = (batch ? BATCH_CREATE : PEER_CREATE) + i;
		uint64_t ns = run_step(b, step);

		if (samples)
			samples_add(&samples[step].ns, ns);
	}
}

/*
 * What the module tells of some more batches: to tell takes time, and is no part
 * of what they are measured for.
 */
static void add_parts(struct bench *b, struct step_samples *samples)
{
	static struct tracing_batch batches[2 * PARTS_ROUNDS];

	tracing_watch_batches(true);
	for (unsigned int i = 0; i < PARTS_ROUNDS; i++)
		run_way(b, true, NULL);
	ASSERT_EQ(tracing_take_batches(batches, ARRAY_SIZE(batches)),
		  ARRAY_SIZE(batches));
	tracing_watch_batches(false);
	for (unsigned int i = 0; i < ARRAY_SIZE(batches); i++) {
		const struct tracing_batch *batch = &batches[i];
		struct step_samples *s = &samples[BATCH_CREATE + i % 2];

		samples_add(&s->judge_ns, batch->judge_ns);
		samples_add(&s->prepare_ns, batch->prepare_ns);
		samples_add(&s->grace_ns, batch->grace_ns);
		samples_add(&s->zap_ns, batch->zap_ns);
		samples_add(&s->commit_ns, batch->commit_ns);
	}
}

static void print_parts(const struct step_samples *s, enum step step)
{
	const struct {
		const char *name;
		const struct samples *samples;
	} parts[] = {
		{"judge", &s->judge_ns},   {"prepare", &s->prepare_ns},
		{"grace", &s->grace_ns},   {"zap", &s->zap_ns},
		{"commit", &s->commit_ns},
	};
	char name[64];

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(name, sizeof(name), "%s_%s_ns", step_names[step],
			 parts[i].name);
		samples_print(parts[i].samples, name);
	}
}

static void print_placement(const struct bench *b)
{
	printf(",\"running\":%s,\"caller_cpu\":%u",
	       b->running ? "true" : "false", b->caller_cpu);
	if (b->running)
		printf(",\"vcpu_cpu\":%u", b->vcpu_cpu);
}

/* Is there to be another round? */
static bool another_round(const struct bench *b, const struct options *options,
			  unsigned int done, uint64_t start)
{
	uint64_t ns = now_ns() - start;

	if (done && ns / done > LONG_ROUND_NS)
		return false;
	if (done < (b->nr < LARGE ? MIN_ROUNDS : MIN_ROUNDS_LARGE))
		return true;
	return done < SAMPLES_MAX && ns < options->series_ns;
}

/* Each way once, in an order of chance. */
static void run_round(struct bench *b, struct options *options,
		      struct step_samples *samples)
{
	bool batch_first = draw(&options->seed) & 1;

	run_way(b, batch_first, samples);
	run_way(b, !batch_first, samples);
}

static void measure(struct bench *b, struct options *options)
{
	/* Not for the stack. */
	static struct step_samples samples[NR_STEPS];
	static struct samples floor_alloc, floor_free;
	bool with_floor = !b->running && floor_available();
	unsigned int done = 0;
	uint64_t start;

	if (!fits(b))
		return;
	bench_init(b);
	memset(samples, 0, sizeof(samples));
	floor_alloc.nr = 0;
	floor_free.nr = 0;
	start = now_ns();
	run_round(b, options, samples);
	if (now_ns() - start > LONG_ROUND_NS) {
		done = 1;
	} else {
		memset(samples, 0, sizeof(samples));
		start = now_ns();
	}
	while (another_round(b, options, done, start)) {
		uint64_t alloc_ns, free_ns;

		run_round(b, options, samples);
		done++;
		if (!with_floor)
			continue;
		floor_measure(b->nr, BENCH_GPA, b->slot_size, &alloc_ns,
			      &free_ns);
		samples_add(&floor_alloc, alloc_ns);
		samples_add(&floor_free, free_ns);
	}
	add_parts(b, samples);
	bench_destroy(b);

	printf("{\"record\":\"time\",\"nr\":%u,\"slot_size\":%" PRIu64
	       ",\"present\":%u",
	       b->nr, b->slot_size, b->present);
	print_placement(b);
	for (int step = 0; step < NR_STEPS; step++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_ns", step_names[step]);
		samples_print(&samples[step].ns, name);
		if (step == BATCH_CREATE || step == BATCH_DELETE)
			print_parts(&samples[step], step);
	}
	if (with_floor) {
		samples_print(&floor_alloc, "floor_alloc_ns");
		samples_print(&floor_free, "floor_free_ns");
	}
	printf("}\n");
	fflush(stdout);
}

/* One step as the vCPU sees it. */
static void feel_step(struct bench *b, enum step step, struct step_samples *s)
{
	/* Not for the stack. */
	static struct spinner_state before, after;
	const struct timespec undisturbed = {.tv_nsec = UNDISTURBED_NS};
	uint64_t start, ns;

	start = now_ns();
	spinner_read(&b->spinner, &before);
	do {
		nanosleep(&undisturbed, NULL);
		ns = now_ns() - start;
		spinner_read(&b->spinner, &after);
		ASSERT_LE(ns, UNDISTURBED_LIMIT_NS);
	} while (after.rounds - before.rounds < UNDISTURBED_ROUNDS);
	if (s) {
		samples_add(&s->undisturbed_ns, ns);
		samples_add(&s->undisturbed_rounds,
			    after.rounds - before.rounds);
	}

	spinner_take_longest_ns(&b->spinner);
	start = now_ns();
	spinner_read(&b->spinner, &before);
	run_step(b, step);
	/* With the pause that may reach beyond the step's end. */
	ns = spinner_take_longest_ns(&b->spinner);
	spinner_read(&b->spinner, &after);
	if (!s)
		return;
	samples_add(&s->ns, now_ns() - start);
	samples_add(&s->longest_ns, ns);
	samples_add(&s->quantile_ns,
		    spinner_quantile_ns(&b->spinner, &before, &after,
					PAUSE_PER_MILLE));
	samples_add(&s->rounds, after.rounds - before.rounds);
}

static void feel_round(struct bench *b, struct options *options,
		       struct step_samples *samples)
{
	bool batch = draw(&options->seed) & 1;

	for (int way = 0; way < 2; way++, batch = !batch)
		for (int i = 0; i < 2; i++) {
			enum step step =
				(batch ? BATCH_CREATE : PEER_CREATE) + i;

			feel_step(b, step, samples ? &samples[step] : NULL);
		}
}

static void feel(struct bench *b, struct options *options)
{
	static struct step_samples samples[NR_STEPS];
	unsigned int done = 0;
	uint64_t start;

	if (!fits(b))
		return;
	bench_init(b);
	memset(samples, 0, sizeof(samples));
	feel_round(b, options, NULL);
	for (start = now_ns(); another_round(b, options, done, start); done++)
		feel_round(b, options, samples);
	bench_destroy(b);

	for (int step = 0; step < NR_STEPS; step++) {
		const struct step_samples *s = &samples[step];

		printf("{\"record\":\"guest\",\"step\":\"%s\",\"nr\":%u,"
		       "\"slot_size\":%" PRIu64,
		       step_names[step], b->nr, b->slot_size);
		print_placement(b);
		samples_print(&s->ns, "ns");
		samples_print(&s->longest_ns, "longest_pause_ns");
		samples_print(&s->quantile_ns, "p999_pause_ns");
		samples_print(&s->rounds, "rounds");
		samples_print(&s->undisturbed_ns, "undisturbed_ns");
		samples_print(&s->undisturbed_rounds, "undisturbed_rounds");
		printf("}\n");
	}
	fflush(stdout);
}

/* Grace periods and zaps of each step. */
static void count(struct bench *b)
{
	bench_init(b);
	printf("{\"record\":\"count\",\"nr\":%u,\"address_spaces\":%u", b->nr,
	       b->address_spaces);
	for (int step = 0; step < NR_STEPS; step++) {
		tracing_count_start();
		run_step(b, step);
		printf(",\"%s_grace_periods\":%" PRIu64 ",\"%s_zaps\":%" PRIu64,
		       step_names[step], tracing_count(TRACING_GRACE_PERIODS),
		       step_names[step], tracing_count(TRACING_ZAPS));
		tracing_count_stop();
	}
	printf("}\n");
	fflush(stdout);
	bench_destroy(b);
}

static const uint32_t counts[] = {1, 16, 64, 256, 1024, 4096, 16384};
static const uint64_t sizes[] = {MIB(2), MIB(128)};
static const uint32_t presents[] = {0, 1000, 20000};

static void count_all(const struct options *options)
{
	for (uint32_t as = 1; as <= 2; as++)
		for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
			struct bench b = {
				.nr = counts[i],
				.slot_size = MIB(2),
				.address_spaces = as,
			};

			place(&b, options, CALLER_FIRST);
			if (counts[i] <= options->max)
				count(&b);
		}
}

static void measure_counts(struct options *options, bool running,
			   enum placement placement)
{
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
		for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
			struct bench b = {
				.nr = counts[i],
				.slot_size = sizes[s],
				.address_spaces = 1,
				.running = running,
			};

			place(&b, options, placement);
			if (counts[i] <= options->max)
				measure(&b, options);
		}
}

static void measure_all(struct options *options)
{
	measure_counts(options, false, CALLER_FIRST);
	for (int placement = 0; placement < NR_PLACEMENTS; placement++)
		measure_counts(options, true, placement);
}

static uint32_t typical(const struct options *options)
{
	return options->max < TYPICAL ? options->max : TYPICAL;
}

/* 0 memslots are measured once more, beside those that they are compared to. */
static void measure_present(struct options *options)
{
	for (size_t i = 0; i < ARRAY_SIZE(presents); i++) {
		struct bench b = {
			.nr = typical(options),
			.slot_size = MIB(2),
			.present = presents[i],
			.address_spaces = 1,
		};

		place(&b, options, CALLER_FIRST);
		measure(&b, options);
	}
}

static void feel_all(struct options *options)
{
	for (int placement = 0; placement < NR_PLACEMENTS; placement++)
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			struct bench b = {
				.nr = typical(options),
				.slot_size = sizes[s],
				.address_spaces = 1,
				.running = true,
			};

			place(&b, options, placement);
			feel(&b, options);
		}
}

/* A vCPU and who changes its memslots each need a CPU of their own. */
static void find_cpus(struct options *options)
{
	unsigned int nr = 0;
	cpu_set_t cpus;

	ASSERT_EQ(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		if (!nr++)
			options->first_cpu = cpu;
		options->last_cpu = cpu;
	}
	ASSERT_GE(nr, 2);
}

/* What the kernel says of the module, "" if nothing. */
static const char *module_says(const char *name, char *value, size_t size)
{
	char path[64];
	FILE *f;

	value[0] = '\0';
	snprintf(path, sizeof(path), "/sys/module/kvm_vmem/%s", name);
	f = fopen(path, "re");
	if (!f)
		return value;
	if (!fgets(value, (int)size, f))
		value[0] = '\0';
	value[strcspn(value, "\n")] = '\0';
	fclose(f);
	return value;
}

static const char *bool_name(bool value)
{
	return value ? "true" : "false";
}

static void print_machine(const struct options *options)
{
	char version[64], srcversion[64];
	struct utsname name;

	ASSERT_EQ(uname(&name), 0);
	printf("{\"record\":\"machine\",\"kernel\":\"%s\",\"cpus\":%ld,"
	       "\"memory\":%" PRIu64 ",\"module_version\":\"%s\","
	       "\"module_srcversion\":\"%s\",\"tdp_mmu\":%s,\"npt\":%s,"
	       "\"ept\":%s,\"seed\":%" PRIu64 "}\n",
	       name.release, sysconf(_SC_NPROCESSORS_ONLN), meminfo("MemTotal"),
	       module_says("version", version, sizeof(version)),
	       module_says("srcversion", srcversion, sizeof(srcversion)),
	       bool_name(module_parameter("kvm", "tdp_mmu")),
	       bool_name(module_parameter("kvm_amd", "npt")),
	       bool_name(module_parameter("kvm_intel", "ept")), options->seed);
}

int main(int argc, char **argv)
{
	struct options options = {
		.max = counts[ARRAY_SIZE(counts) - 1],
		.seed = 1,
		.series_ns = 4000000000U,
	};
	int opt;

	while ((opt = getopt(argc, argv, "n:s:t:")) != -1) {
		uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (opt == '?' || !value) {
			fprintf(stderr,
				"usage: memslot_bench [-n MAX_SLOTS] [-s SEED] [-t SERIES_MS]\n"
				"numbers are from 1\n");
			return 2;
		}
		if (opt == 'n')
			options.max = (uint32_t)value;
		else if (opt == 's')
			options.seed = value;
		else
			options.series_ns = value * 1000000U;
	}
	find_cpus(&options);
	print_machine(&options);
	tracing_open();
	tracing_watch_batches(false);
	count_all(&options);
	feel_all(&options);
	measure_present(&options);
	measure_all(&options);
	tracing_close();
	printf("{\"record\":\"end\"}\n");
	return 0;
}
