// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The tracepoint kvm_vmem:batch compared with the batch itself, with the clock
 * and with the counts of the kernel's own tracepoints.
 */
#include <errno.h>
#include <unistd.h>

#include "batch.h"
#include "clock.h"
#include "tap.h"
#include "tracing.h"
#include "vm.h"

/* Memslots of the cases, and their addresses. */
#define NR	  32U
#define SLOT_SIZE MIB(2)
#define GPA	  GIB(4)
#define FIRST_ID  8U

struct fixture {
	struct vm vm;
	struct backing backing;
	struct batch batch;
	int dev;
};

static void fixture_init(struct fixture *f, unsigned int vm_flags)
{
	f->dev = kvm_vmem_open();
	vm_create(&f->vm, vm_flags);
	backing_create(&f->backing, 2 * NR * SLOT_SIZE);
	batch_init(&f->batch);
	tracing_open();
}

static void fixture_destroy(struct fixture *f)
{
	tracing_close();
	batch_free(&f->batch);
	backing_destroy(&f->backing);
	vm_destroy(&f->vm);
	close(f->dev);
}

static void add_set(struct fixture *f, unsigned int as, unsigned int i,
		    uint32_t flags)
{
	batch_set(&f->batch, SLOT(as, FIRST_ID + i), flags, GPA + i * SLOT_SIZE,
		  SLOT_SIZE, f->backing.hva + i * SLOT_SIZE);
}

/*
 * Apply the batch. It must report itself once, with its result, the actual
 * number of grace periods and zaps, and no more time than has passed.
 */
static struct tracing_batch apply(struct fixture *f, int result)
{
	struct tracing_batch told = {0};
	uint64_t start, ns;

	tracing_count_start();
	start = now_ns();
	EXPECT_ERR(batch_apply(f->dev, &f->vm, &f->batch), -result);
	ns = now_ns() - start;
	EXPECT_EQ(tracing_take_batches(&told, 1), 1);
	EXPECT_EQ(told.result, result);
	EXPECT_EQ(told.grace_periods, tracing_count(TRACING_GRACE_PERIODS));
	EXPECT_EQ(told.zaps, tracing_count(TRACING_ZAPS));
	tracing_count_stop();
	EXPECT_GT(told.judge_ns, 0);
	EXPECT_LE(told.judge_ns + told.prepare_ns + told.grace_ns +
			  told.zap_ns + told.commit_ns,
		  ns);
	batch_reset(&f->batch);
	return told;
}

#define EXPECT_ENTRIES(told, nr_creates, nr_deletes, nr_flips) \
	do {                                                   \
		EXPECT_EQ((told).creates, nr_creates);         \
		EXPECT_EQ((told).deletes, nr_deletes);         \
		EXPECT_EQ((told).flips, nr_flips);             \
	} while (0)

static void tells_each_kind(const void *arg)
{
	struct tracing_batch told;
	struct fixture f;
	unsigned int i;

	(void)arg;
	fixture_init(&f, VM_SMM);
	for (i = 0; i < NR; i++)
		add_set(&f, i % 2, i, 0);
	told = apply(&f, 0);
	EXPECT_ENTRIES(told, NR, 0, 0);
	EXPECT_EQ(told.grace_periods, 1);
	EXPECT_EQ(told.zaps, 0);
	EXPECT_GT(told.prepare_ns, 0);
	EXPECT_GT(told.grace_ns, 0);
	EXPECT_EQ(told.zap_ns, 0);
	EXPECT_GT(told.commit_ns, 0);

	for (i = 0; i < 3; i++)
		add_set(&f, i % 2, i, KVM_MEM_LOG_DIRTY_PAGES);
	/* An entry without change is not counted. */
	add_set(&f, 1, 3, 0);
	told = apply(&f, 0);
	EXPECT_ENTRIES(told, 0, 0, 3);
	EXPECT_EQ(told.grace_periods, 1);

	for (i = 0; i < NR; i++)
		batch_delete(&f.batch, SLOT(i % 2, FIRST_ID + i));
	for (i = NR; i < 2 * NR; i++)
		add_set(&f, i % 2, i, 0);
	told = apply(&f, 0);
	EXPECT_ENTRIES(told, NR, NR, 0);
	EXPECT_EQ(told.grace_periods, 2);
	EXPECT_EQ(told.zaps, 1);
	EXPECT_GT(told.zap_ns, 0);
	fixture_destroy(&f);
}

static void tells_refusals(const void *arg)
{
	struct tracing_batch told;
	struct fixture f;

	(void)arg;
	fixture_init(&f, 0);
	add_set(&f, AS_NORMAL, 0, 0);
	add_set(&f, AS_NORMAL, 1, 0);
	batch_delete(&f.batch, SLOT(AS_NORMAL, FIRST_ID + 2));
	told = apply(&f, -EINVAL);
	EXPECT_EQ(told.creates, 2);
	EXPECT_EQ(told.grace_periods, 0);
	EXPECT_EQ(told.zaps, 0);
	EXPECT_EQ(told.prepare_ns, 0);
	EXPECT_EQ(told.grace_ns, 0);
	EXPECT_EQ(told.zap_ns, 0);
	EXPECT_EQ(told.commit_ns, 0);

	/* Beyond the CPU's guest addresses, which the prepare step detects. */
	add_set(&f, AS_NORMAL, 0, 0);
	batch_set(&f.batch, SLOT(AS_NORMAL, FIRST_ID + 1), 0, TIB(4096),
		  SLOT_SIZE, f.backing.hva);
	told = apply(&f, -EINVAL);
	EXPECT_GT(told.prepare_ns, 0);
	EXPECT_EQ(told.grace_periods, 0);
	EXPECT_EQ(told.commit_ns, 0);
	fixture_destroy(&f);
}

static void tells_validations(const void *arg)
{
	struct tracing_batch told = {0};
	struct fixture f;

	(void)arg;
	fixture_init(&f, 0);
	add_set(&f, AS_NORMAL, 0, 0);
	tracing_count_start();
	EXPECT_OK(batch_call(f.dev, f.vm.fd, &f.batch,
			     KVM_VMEM_BATCH_VALIDATE_ONLY));
	EXPECT_EQ(tracing_count(TRACING_GRACE_PERIODS), 0);
	tracing_count_stop();
	EXPECT_EQ(tracing_take_batches(&told, 1), 1);
	EXPECT_ENTRIES(told, 1, 0, 0);
	EXPECT_GT(told.judge_ns, 0);
	EXPECT_EQ(told.prepare_ns + told.grace_ns + told.commit_ns, 0);
	EXPECT_EQ(told.grace_periods, 0);
	/* A batch with bad arguments is not traced. */
	EXPECT_ERR(batch_call(f.dev, f.vm.fd, &f.batch, 1U << 31), EINVAL);
	EXPECT_EQ(tracing_take_batches(&told, 1), 0);
	fixture_destroy(&f);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a batch reports its entries, costs and times",
		 .run = tells_each_kind},
		{.name = "a refused batch reports how far it got",
		 .run = tells_refusals},
		{.name = "a validated batch reports only its check",
		 .run = tells_validations},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
