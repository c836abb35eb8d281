// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Histogram triggers count events in the kernel, so no number of events can
 * overflow a buffer. KVM has an event for the zap, of the same name, in all
 * kernels, even where its function is inlined. It has no event for the grace
 * period, so a kprobe makes one. Batches are read from a trace instance. Only
 * the calling thread is traced.
 */
#include "tracing.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

#define TRACEFS	 "/sys/kernel/tracing/"
#define INSTANCE TRACEFS "instances/kvm_vmem_selftest/"
#define GROUP	 "kvm_vmem_selftest"

#define GRACE_PERIOD_PROBE \
	"p:" GROUP "/grace_period synchronize_srcu_expedited\n"
#define BATCH_EVENT INSTANCE "events/kvm_vmem/batch/"

/* Folders of the counted events. */
static const char *const events[TRACING_NR_COUNTERS] = {
	[TRACING_GRACE_PERIODS] = TRACEFS "events/" GROUP "/grace_period/",
	[TRACING_ZAPS] = TRACEFS "events/kvmmmu/kvm_mmu_zap_all_fast/",
};

#define TRIGGER_LEN 96
#define PATH_LEN    160

/**
 * tracing_try_write() - Write a text to a file. Return: whether it succeeded.
 */
bool tracing_try_write(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	ssize_t len = (ssize_t)strlen(text);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, (size_t)len) == len;
	close(fd);
	return ok;
}

static void must_write(const char *path, const char *text, int flags)
{
	if (!tracing_try_write(path, text, flags)) {
		tap_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
		tap_abort();
	}
}

static const char *event_file(char *path, enum tracing_counter counter,
			      const char *name)
{
	snprintf(path, PATH_LEN, "%s%s", events[counter], name);
	return path;
}

static void write_trigger(enum tracing_counter counter, const char *before)
{
	char trigger[TRIGGER_LEN], path[PATH_LEN];

	snprintf(trigger, sizeof(trigger),
		 "%shist:keys=common_pid if common_pid == %d\n", before,
		 gettid());
	must_write(event_file(path, counter, "trigger"), trigger, 0);
}

/* Remove what a killed earlier user left behind. */
static void remove_leftovers(void)
{
	char path[PATH_LEN];

	/* A probe with a trigger is busy and cannot be removed. */
	tracing_try_write(event_file(path, TRACING_GRACE_PERIODS, "trigger"),
			  "!hist:keys=common_pid\n", 0);
	tracing_try_write(event_file(path, TRACING_ZAPS, "trigger"),
			  "!hist:keys=common_pid\n", 0);
	tracing_try_write(TRACEFS "kprobe_events", "-:" GROUP "/grace_period\n",
			  O_APPEND);
	rmdir(INSTANCE);
}

/**
 * tracing_open() - Begin to trace the calling thread; the same thread closes
 * it.
 *
 * Skips the case if tracefs is absent.
 */
void tracing_open(void)
{
	char filter[TRIGGER_LEN];

	if (access(TRACEFS "kprobe_events", W_OK))
		tap_skip("%s: %s", TRACEFS "kprobe_events", strerror(errno));
	remove_leftovers();
	must_write(TRACEFS "kprobe_events", GRACE_PERIOD_PROBE, O_APPEND);
	ASSERT_EQ(mkdir(INSTANCE, S_IRWXU), 0);
	snprintf(filter, sizeof(filter), "common_pid == %d\n", gettid());
	must_write(BATCH_EVENT "filter", filter, 0);
	must_write(BATCH_EVENT "enable", "1\n", 0);
}

/**
 * tracing_watch_batches() - Enable or disable the batch event, which is enabled
 * at first.
 */
void tracing_watch_batches(bool on)
{
	must_write(BATCH_EVENT "enable", on ? "1\n" : "0\n", 0);
}

/** tracing_close() - Stop tracing; remove the probe and the instance. */
void tracing_close(void)
{
	must_write(BATCH_EVENT "enable", "0\n", 0);
	ASSERT_EQ(rmdir(INSTANCE), 0);
	must_write(TRACEFS "kprobe_events", "-:" GROUP "/grace_period\n",
		   O_APPEND);
}

/**
 * tracing_count_start() - Start counting from 0.
 *
 * Skips the case, and cleans up, on kernels without histogram triggers.
 */
void tracing_count_start(void)
{
	char path[PATH_LEN];

	if (access(event_file(path, TRACING_ZAPS, "hist"), R_OK)) {
		tracing_close();
		tap_skip(
			"this kernel cannot count events (CONFIG_HIST_TRIGGERS)");
	}
	for (int i = 0; i < TRACING_NR_COUNTERS; i++)
		write_trigger(i, "");
}

/**
 * tracing_count_stop() - Stop counting and discard the counts; read them
 * before.
 */
void tracing_count_stop(void)
{
	for (int i = 0; i < TRACING_NR_COUNTERS; i++)
		write_trigger(i, "!");
}

/** tracing_count() - Return: events since tracing_count_start(). */
uint64_t tracing_count(enum tracing_counter counter)
{
	char line[256], path[PATH_LEN];
	uint64_t hits = 0, dropped = 0;
	bool found = false;
	FILE *f;

	f = fopen(event_file(path, counter, "hist"), "re");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " Hits: %" SCNu64, &hits) == 1)
			found = true;
		sscanf(line, " Dropped: %" SCNu64, &dropped);
	}
	fclose(f);
	ASSERT_TRUE(found);
	ASSERT_EQ(dropped, 0);
	return hits;
}

static bool parse_batch(const char *line, struct tracing_batch *batch)
{
	const char *fields = strstr(line, " batch: ");

	return fields &&
	       sscanf(fields,
		      " batch: creates=%" SCNu32 " deletes=%" SCNu32
		      " flips=%" SCNu32 " grace_periods=%" SCNu32
		      " zaps=%" SCNu32 " unmaps=%" SCNu32 " judge_ns=%" SCNu64
		      " prepare_ns=%" SCNu64 " grace_ns=%" SCNu64
		      " zap_ns=%" SCNu64 " commit_ns=%" SCNu64
		      " result=%" SCNd32,
		      &batch->creates, &batch->deletes, &batch->flips,
		      &batch->grace_periods, &batch->zaps, &batch->unmaps,
		      &batch->judge_ns, &batch->prepare_ns, &batch->grace_ns,
		      &batch->zap_ns, &batch->commit_ns, &batch->result) == 12;
}

/**
 * tracing_take_batches() - take the batch events since the last call
 * @batches: room for @max events; further events are dropped
 *
 * Return: the number of events.
 */
unsigned int tracing_take_batches(struct tracing_batch *batches,
				  unsigned int max)
{
	struct tracing_batch batch;
	unsigned int nr = 0;
	char line[512];
	FILE *f;

	f = fopen(INSTANCE "trace", "re");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!parse_batch(line, &batch)) {
			tap_fail(__FILE__, __LINE__, "not as expected: %s",
				 line);
			tap_abort();
		}
		if (nr < max)
			batches[nr] = batch;
		nr++;
	}
	fclose(f);
	must_write(INSTANCE "trace", "", O_TRUNC);
	return nr;
}

/**
 * tracing_open_events() - Begin to trace "work" or "batch" events of all
 * threads.
 *
 * Skips the case if tracefs is absent. Return: the argument of the functions
 * below.
 */
FILE *tracing_open_events(const char *event)
{
	char path[PATH_LEN];
	FILE *pipe;
	int fd;

	if (access(TRACEFS "instances", W_OK))
		tap_skip("%s: %s", TRACEFS "instances", strerror(errno));
	rmdir(INSTANCE);
	ASSERT_EQ(mkdir(INSTANCE, S_IRWXU), 0);
	snprintf(path, sizeof(path), INSTANCE "events/kvm_vmem/%s/enable",
		 event);
	must_write(path, "1\n", 0);
	fd = open(INSTANCE "trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	pipe = fdopen(fd, "r");
	ASSERT_TRUE(pipe);
	return pipe;
}

static bool next_line(FILE *pipe, char *line, int size)
{
	/* The last read may have reached the end of the file. */
	clearerr(pipe);
	return fgets(line, size, pipe);
}

static void not_as_expected(const char *line)
{
	tap_fail(__FILE__, __LINE__, "not as expected: %s", line);
	tap_abort();
}

/** tracing_next_work() - Return: false if there is no further event yet. */
bool tracing_next_work(FILE *pipe, struct tracing_work *work)
{
	const char *fields;
	char line[512];

	if (!next_line(pipe, line, sizeof(line)))
		return false;
	fields = strstr(line, " work: ");
	if (!fields || sscanf(fields,
			      " work: vmm=%" SCNd32 " ran_ns=%" SCNu64
			      " credit_ns=%" SCNd64,
			      &work->vmm, &work->ran_ns, &work->credit_ns) != 3)
		not_as_expected(line);
	return true;
}

/** tracing_next_batch() - Return: false if there is no further event yet. */
bool tracing_next_batch(FILE *pipe, struct tracing_batch *batch)
{
	char line[512];

	if (!next_line(pipe, line, sizeof(line)))
		return false;
	if (!parse_batch(line, batch))
		not_as_expected(line);
	return true;
}

/** tracing_close_events() - Stop tracing and remove the instance. */
void tracing_close_events(FILE *pipe)
{
	fclose(pipe);
	ASSERT_EQ(rmdir(INSTANCE), 0);
}
