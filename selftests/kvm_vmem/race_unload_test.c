// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One thread unloads the module whenever possible while others use it. There
 * must be no crash, no hang, and no partly loaded module in use. Independent of
 * how KVM maps memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "batch.h"
#include "module.h"
#include "region.h"
#include "tap.h"
#include "thread.h"

/* Emulated machines are slow, and may have other load. */
#define TIMEOUT_S 600

/**
 * struct unloader - a thread that unloads the module whenever possible
 * @refused: number of attempts while it was in use
 * @unloaded: number of times it was unloaded
 * @stop: ask the thread to end
 */
struct unloader {
	uint64_t refused;
	uint64_t unloaded;
	bool stop;
};

static void *unloader_run(void *arg)
{
	struct unloader *u = arg;

	while (!flag_is_set(&u->stop)) {
		if (module_unload()) {
			EXPECT_EQ(errno, EAGAIN);
			counter_add(&u->refused);
			sched_yield();
		} else {
			module_load();
			counter_add(&u->unloaded);
		}
	}
	return NULL;
}

/*
 * Return: the device, or -1 with an errno that unloading and loading may cause.
 */
static int try_open(void)
{
	int fd = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		EXPECT_TRUE(errno == ENOENT || errno == ENODEV ||
			    errno == ENXIO);
	return fd;
}

/*
 * The device could not be opened. If its node is missing, wait for the node:
 * polling would take CPU time from the unloader.
 */
static void wait_for_node(int notify)
{
	char events[4096];

	if (errno == ENOENT)
		ASSERT_GT(read(notify, events, sizeof(events)), 0);
	else
		sched_yield();
}

/* Use all of the module once: a batch, a region, a plug. */
static void use_module(struct region *r, struct batch *batch)
{
	unsigned int i;

	batch_reset(batch);
	for (i = 0; i < 4; i++)
		batch_set(batch, SLOT(i % 2, 1 + i), 0, GIB(1) + i * GUEST_PAGE,
			  GUEST_PAGE, r->mem.hva + i * GUEST_PAGE);
	ASSERT_OK(batch_apply(r->dev, &r->vm, batch));
	region_create(r);
	r->nl = netlink_open();
	ASSERT_OK(region_plug(r, 1, 9));
	close(r->dev);
	/* Now only the region holds the module. */
	EXPECT_GUEST_MEMORY(&r->vcpu, region_block_gpa(r, 2),
			    region_block_hva(r, 2));
	vmem_nl_close(r->nl);
	close(r->fd);
	memset(r->plugged, 0, sizeof(r->plugged));
	EXPECT_GUEST_MMIO(&r->vcpu, region_block_gpa(r, 2));
	for (i = 0; i < 4; i++)
		EXPECT_OK(vm_delete_slot(&r->vm, SLOT(i % 2, 1 + i)));
}

static void module_leaves_amid_use(const void *arg)
{
	const uint64_t min_uses = 40, min_unloads = 10, min_refused = 40;
	struct unloader u = {0};
	uint64_t uses, missed = 0;
	struct batch batch;
	pthread_t thread;
	struct region r;
	int notify;

	(void)arg;
	module_need_reload();
	notify = inotify_init1(IN_CLOEXEC);
	ASSERT_GE(notify, 0);
	ASSERT_GE(inotify_add_watch(notify, "/dev", IN_CREATE), 0);
	region_prepare(&r);
	vmem_nl_close(r.nl);
	close(r.dev);
	batch_init(&batch);
	thread_start(&thread, unloader_run, &u);
	for (uses = 0; uses < min_uses ||
		       counter_read(&u.unloaded) < min_unloads ||
		       counter_read(&u.refused) < min_refused;) {
		r.dev = try_open();
		if (r.dev < 0) {
			missed++;
			wait_for_node(notify);
			continue;
		}
		use_module(&r, &batch);
		uses++;
	}
	flag_set(&u.stop);
	pthread_join(thread, NULL);
	tap_note(
		"%llu uses, %llu times not there, unloaded %llu times, refused %llu times",
		(unsigned long long)uses, (unsigned long long)missed,
		(unsigned long long)u.unloaded, (unsigned long long)u.refused);
	/* The module is loaded, and works. */
	r.dev = kvm_vmem_open();
	EXPECT_EQ(region_count(r.dev), 0);
	use_module(&r, &batch);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "the module may be unloaded at any time between uses",
		 .run = module_leaves_amid_use,
		 .timeout_s = TIMEOUT_S},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
