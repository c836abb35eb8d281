// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cost of batches of memslot changes, compared with one call for each memslot,
 * as VMMs make them.
 *
 * Both ways alternate within one run, in an order drawn at random for each
 * round, so that other load on the machine affects both. The meaningful result
 * is their ratio. Measured are:
 *
 *   count	grace periods and zaps of each step, by kernel tracepoints; TLB
 *	flushes and refaults of deletes, by KVM's statistics; also of a batch
 *	that drops only the mappings of what it deletes
 *   time	nanoseconds of each step; the times of a batch's parts; and the
 *	floor: the time to only allocate and free the metadata
 *   guest	effects on a vCPU that accesses memory: pauses, and missed rounds
 *	of its loop
 *
 * Caller and vCPU have a CPU each. Measurements with a vCPU are made twice,
 * with these two CPUs exchanged: KVM's call waits for a grace period, whose
 * length depends on the CPUs involved and is either a hundred microseconds or a
 * tick. If the scheduler chose the CPUs, a run would have the one or the other
 * at random.
 *
 * Writes one JSON object per line, with all rounds. scripts/bench makes its
 * tables from them.
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
#include "vcpu.h"
#include "vm.h"

/* The measured memslots begin here. Memslots that are only present follow. */
#define BENCH_GPA GIB(4)
/* Id of the first measured memslot. Lower ids are the VM's own. */
#define BENCH_FIRST_ID 1U

/*
 * Rounds of a series: as many as fit the time, but enough to show a spread.
 * Rounds of thousands of memslots are means in themselves, so fewer suffice.
 * One round before is not measured.
 */
#define MIN_ROUNDS	 5U
#define MIN_ROUNDS_LARGE 3U
#define LARGE		 4096U

/* Number of batches to measure their parts. */
#define PARTS_ROUNDS 5U

/*
 * A longer round is measured once, without a round before it. Where KVM's own
 * calls wait for a running vCPU, 16384 of them take minutes, and their mean is
 * precise enough.
 */
#define LONG_ROUND_NS 30000000000ULL

/* The number of memslots of the main figures. */
#define TYPICAL 1024U

/* Memslots that stay while others are counted, each with one page mapped. */
#define KEPT 64U

/*
 * Time to measure an undisturbed vCPU's pace. It is extended until the vCPU has
 * made this many rounds: on a busy machine it may not run.
 */
#define UNDISTURBED_NS	   50000000U
#define UNDISTURBED_ROUNDS 100U

/* A vCPU that has not run for this long has ended. */
#define UNDISTURBED_LIMIT_NS 60000000000ULL

/* Pauses are reported as their maximum and this quantile. */
#define PAUSE_PER_MILLE 999

/* The steps that are measured. */
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

/* The CPUs of the caller and of a vCPU. */
enum placement {
	CALLER_FIRST,
	CALLER_LAST,
	NR_PLACEMENTS,
};

/**
 * struct options - command line options
 * @max: largest number of memslots
 * @seed: seed of the order of both ways
 * @series_ns: time for a series
 * @first_cpu: first CPU that this process may use
 * @last_cpu: last CPU that this process may use
 */
struct options {
	uint32_t max;
	uint64_t seed;
	uint64_t series_ns;
	unsigned int first_cpu;
	unsigned int last_cpu;
};

/**
 * struct bench - state of a series of rounds
 * @vm: the VM
 * @dev: /dev/kvm-vmem
 * @hva: address space behind the memslots, only reserved
 * @reserved: bytes at @hva
 * @slot_size: bytes of a memslot
 * @nr: number of measured memslots
 * @present: number of memslots of 2 MiB that exist in addition
 * @address_spaces: 1, or 2 to have every other memslot in SMM's
 * @batch: entries of the memslots
 * @flags: flags of the batches
 * @spinner: a running vCPU, if @running
 * @running: a vCPU runs
 * @caller_cpu: CPU that changes the memslots
 * @vcpu_cpu: CPU of @spinner
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
	uint32_t flags;
	struct spinner spinner;
	bool running;
	unsigned int caller_cpu;
	unsigned int vcpu_cpu;
};

/* Figures of a step in the rounds of a series. */
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

/* xorshift64: only the order of the two ways depends on it. */
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

/* Run one step. Return: nanoseconds. */
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
		ASSERT_OK(batch_call(b->dev, b->vm.fd, &b->batch, b->flags));
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

/* Set the CPUs. By default calls are made from the first CPU. */
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

/* Does the CPU have enough guest addresses? Prints a record if not. */
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

/* A create step and a delete step, one way. */
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
 * Measure the parts of a few more batches with the module's tracepoint. Tracing
 * takes time, so the batches themselves are not measured here.
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

/* Is another round needed? */
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

/* Each way once, in random order. */
static void run_round(struct bench *b, struct options *options,
		      struct step_samples *samples)
{
	bool batch_first = draw(&options->seed) & 1;

	run_way(b, batch_first, samples);
	run_way(b, !batch_first, samples);
}

static void measure(struct bench *b, struct options *options)
{
	/* Too large for the stack. */
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

/* One step as seen by the vCPU. */
static void feel_step(struct bench *b, enum step step, struct step_samples *s)
{
	/* Too large for the stack. */
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
	/* Includes a pause that extends beyond the step's end. */
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

/* The guest reads a page at each address. Return: its page faults. */
static uint64_t read_pages(struct bench *b, struct vcpu *vcpu, uint64_t offset,
			   uint64_t stride, uint32_t nr)
{
	uint64_t value, faults = vm_stat(&b->vm, "pf_fixed");

	for (uint32_t i = 0; i < nr; i++)
		ASSERT_EQ(guest_read(vcpu, BENCH_GPA + offset + i * stride,
				     &value),
			  GUEST_MEMORY);
	return vm_stat(&b->vm, "pf_fixed") - faults;
}

static uint64_t read_kept(struct bench *b, struct vcpu *vcpu)
{
	return read_pages(b, vcpu, slot_offset(b, b->nr), MIB(2), b->present);
}

/* Count what a step does. For deletes, everything is mapped before. */
static void count_step(struct bench *b, struct vcpu *vcpu, enum step step,
		       const char *name)
{
	bool deletes = step == PEER_DELETE || step == BATCH_DELETE;
	uint64_t flushes;

	if (deletes) {
		read_kept(b, vcpu);
		/* Those of its address space. */
		read_pages(b, vcpu, 0, b->address_spaces * b->slot_size,
			   (b->nr - 1) / b->address_spaces + 1);
	}
	flushes = vm_stat(&b->vm, "remote_tlb_flush_requests");
	tracing_count_start();
	run_step(b, step);
	printf(",\"%s_grace_periods\":%" PRIu64 ",\"%s_zaps\":%" PRIu64, name,
	       tracing_count(TRACING_GRACE_PERIODS), name,
	       tracing_count(TRACING_ZAPS));
	tracing_count_stop();
	if (!deletes)
		return;
	flushes = vm_stat(&b->vm, "remote_tlb_flush_requests") - flushes;
	printf(",\"%s_flushes\":%" PRIu64 ",\"%s_refaults\":%" PRIu64, name,
	       flushes, name, read_kept(b, vcpu));
}

static void count(struct bench *b)
{
	struct vcpu vcpu;

	bench_init(b);
	vcpu_create(&vcpu, &b->vm);
	printf("{\"record\":\"count\",\"nr\":%u,\"address_spaces\":%u", b->nr,
	       b->address_spaces);
	for (int step = 0; step < NR_STEPS; step++)
		count_step(b, &vcpu, step, step_names[step]);
	b->flags = KVM_VMEM_BATCH_ZAP_RANGES;
	run_step(b, BATCH_CREATE);
	count_step(b, &vcpu, BATCH_DELETE, "range_delete");
	printf("}\n");
	fflush(stdout);
	vcpu_destroy(&vcpu);
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
				.present = KEPT,
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

/*
 * The case of 0 present memslots is measured again, close to the others in
 * time.
 */
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

/* A vCPU and the caller need a CPU each. */
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

/* An attribute of the module in sysfs, "" if missing. */
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
