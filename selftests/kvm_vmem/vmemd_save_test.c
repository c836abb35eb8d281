// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program vmemd: a device is saved, restored for another VM, and held
 * during a migration.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "driver.h"
#include "kvmvmem.h"
#include "region.h"
#include "tap.h"
#include "vmemctl_run.h"

/**
 * struct machine - a VM with a region, and a vmemd with a driver
 * @r: the region
 * @d: the driver and its vmemd
 * @control: path of vmemd's control socket
 * @file: file with the saved state
 * @tatters: runs seen by expect_tatters()
 */
struct machine {
	struct region r;
	struct driver d;
	char control[64];
	char file[64];
	unsigned int tatters;
};

/* Create a region, of @nr_blocks or with the usual geometry. */
static void machine_region(struct machine *m, uint64_t nr_blocks)
{
	vmemd_program();
	region_prepare(&m->r);
	if (nr_blocks) {
		backing_destroy(&m->r.mem);
		backing_create(&m->r.mem, nr_blocks * REGION_BLOCK);
		m->r.args.region_size = m->r.mem.size;
		m->r.args.userspace_addr = (uintptr_t)m->r.mem.hva;
	}
	region_create(&m->r);
	snprintf(m->control, sizeof(m->control), "/tmp/vmemd-save-%d",
		 (int)getpid());
	snprintf(m->file, sizeof(m->file), "/tmp/vmemd-saved-%d",
		 (int)getpid());
}

static void machine_start(struct machine *m, char *const *args)
{
	driver_spawn(&m->d, args, m->control, m->r.fd, m->r.mem.fd);
	driver_start(&m->d);
}

#define START(m, ...) \
	machine_start(m, (char *const[]){(char *)__VA_ARGS__, NULL})

static uint16_t request(struct machine *m, uint16_t type, unsigned int first,
			uint16_t nr)
{
	return driver_request(&m->d, type, region_block_gpa(&m->r, first), nr);
}

static uint16_t plug(struct machine *m, unsigned int first, uint16_t nr)
{
	return request(m, VIRTIO_MEM_REQ_PLUG, first, nr);
}

/* Output of a vmemctl command; the caller frees it. */
static char *told(const struct machine *m, const char *command)
{
	char *text;

	ASSERT_EQ(RUN("--control", m->control, command), 0);
	text = strdup(output);
	ASSERT_TRUE(text);
	return text;
}

static uint64_t status_of(const struct machine *m, const char *name)
{
	json_object *object;
	uint64_t value;

	ASSERT_EQ(RUN("--control", m->control, "--json", "status"), 0);
	object = printed_device();
	value = get(object, name);
	json_object_put(object);
	return value;
}

static struct vmem_nl_region state_of(struct machine *m)
{
	struct vmem_nl_region state;

	ASSERT_OK(vmem_nl_region_get(m->r.nl, VMEM_NL_BY_FD(m->r.fd), &state,
				     NULL));
	return state;
}

/* Start a vmemd that must refuse to restore, and exit. */
static void expect_refused(struct machine *m)
{
	char *const args[] = {(char *)"--restore", m->file, NULL};
	struct kvmvmem_vmemd *vmemd;
	siginfo_t how;

	ASSERT_OK(kvmvmem_vmemd_new(&vmemd, NULL, NULL));
	for (size_t i = 0; args[i]; i++)
		ASSERT_OK(kvmvmem_vmemd_add_option(vmemd, args[i], NULL));
	ASSERT_OK(kvmvmem_vmemd_add_device(vmemd, NULL, m->r.fd, m->r.mem.fd,
					   NULL));
	ASSERT_OK(kvmvmem_vmemd_spawn(vmemd, vmemd_program(), NULL));
	ASSERT_EQ(waitid(P_PIDFD, (id_t)kvmvmem_vmemd_pidfd(vmemd), &how,
			 WEXITED),
		  0);
	EXPECT_EQ(how.si_code, CLD_EXITED);
	EXPECT_EQ(how.si_status, 1);
	kvmvmem_vmemd_free(vmemd);
}

static void save_runs(struct machine *m)
{
	machine_region(m, 0);
	START(m, "--requested-size", "1M");
	EXPECT_EQ(plug(m, 0, 3), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(plug(m, 5, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(plug(m, 17, 9), VIRTIO_MEM_RESP_ACK);
	memset(region_block_hva(&m->r, 5), 0x5a, REGION_BLOCK);
	EXPECT_EQ(RUN("--control", m->control, "save", m->file), 0);
}

static void a_device_comes_back_for_another_vm(const void *arg)
{
	struct machine m, n;
	char *blocks, *now;
	uint64_t usable, value;
	struct backing old;

	(void)arg;
	save_runs(&m);
	blocks = told(&m, "blocks");
	usable = status_of(&m, "usable_region_size");
	driver_stop(&m.d);

	/* The VMM has transferred the contents. */
	machine_region(&n, 0);
	old = n.r.mem;
	memcpy(old.hva, m.r.mem.hva, old.size);
	START(&n, "--restore", n.file);
	now = told(&n, "blocks");
	EXPECT_EQ(strcmp(now, blocks), 0);
	free(now);
	EXPECT_EQ(status_of(&n, "usable_region_size"), usable);
	EXPECT_EQ(status_of(&n, "requested_size"), MIB(1));
	EXPECT_EQ(guest_read(&n.r.vcpu, region_block_gpa(&n.r, 5), &value),
		  GUEST_MEMORY);
	EXPECT_EQ(value, 0x5a5a5a5a5a5a5a5aULL);
	EXPECT_GUEST_MMIO(&n.r.vcpu, region_block_gpa(&n.r, 8));
	/* One change of the requested size, and one batch. */
	EXPECT_EQ(state_of(&n).changes, 2);

	/* A restarted vmemd does not restore the file again. */
	EXPECT_EQ(plug(&n, 8, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(request(&n, VIRTIO_MEM_REQ_UNPLUG, 17, 9),
		  VIRTIO_MEM_RESP_ACK);
	free(blocks);
	blocks = told(&n, "blocks");
	driver_lose(&n.d);
	driver_respawn(&n.d, (char *const[]){(char *)"--restore", n.file, NULL},
		       n.control, n.r.fd, n.r.mem.fd);
	driver_start(&n.d);
	now = told(&n, "blocks");
	EXPECT_EQ(strcmp(now, blocks), 0);
	free(now);
	free(blocks);
	driver_stop(&n.d);
	unlink(n.file);
}

/* A restore that plugs nothing is not repeated either. */
static void what_was_set_after_a_restore_stays(const void *arg)
{
	struct machine m, n;

	(void)arg;
	machine_region(&m, 0);
	START(&m, "--log-level", "warning");
	EXPECT_EQ(RUN("--control", m.control, "save", m.file), 0);
	driver_stop(&m.d);

	machine_region(&n, 0);
	START(&n, "--restore", n.file);
	EXPECT_EQ(status_of(&n, "requested_size"), 0);
	EXPECT_EQ(RUN("--control", n.control, "resize", "512K"), 0);
	driver_lose(&n.d);
	driver_respawn(&n.d, (char *const[]){(char *)"--restore", n.file, NULL},
		       n.control, n.r.fd, n.r.mem.fd);
	driver_start(&n.d);
	EXPECT_EQ(status_of(&n, "requested_size"), KIB(512));
	EXPECT_EQ(state_of(&n).requested_size, KIB(512));
	driver_stop(&n.d);
	unlink(n.file);
}

static void another_region_is_refused(const void *arg)
{
	struct machine m, n;

	(void)arg;
	save_runs(&m);
	driver_stop(&m.d);
	/* A larger region. */
	machine_region(&n, REGION_NR_BLOCKS + 4);
	expect_refused(&n);
	EXPECT_EQ(state_of(&n).changes, 0);
	/* With plugged blocks that were not saved. */
	machine_region(&n, 0);
	ASSERT_OK(region_plug(&n.r, 3, 1));
	expect_refused(&n);
	EXPECT_AS_MODEL(&n.r);
	/* With some of the saved blocks. */
	machine_region(&n, 0);
	ASSERT_OK(region_plug(&n.r, 0, 3));
	expect_refused(&n);
	EXPECT_AS_MODEL(&n.r);
	/* With all saved blocks, and one in another memslot. */
	machine_region(&n, 0);
	ASSERT_OK(region_plug(&n.r, 0, 3));
	ASSERT_OK(region_plug(&n.r, 5, 1));
	ASSERT_OK(region_plug(&n.r, 17, 9));
	ASSERT_OK(region_plug(&n.r, 10, 1));
	expect_refused(&n);
	EXPECT_AS_MODEL(&n.r);
	/* With exactly the saved blocks: there is nothing to do. */
	machine_region(&n, 0);
	ASSERT_OK(region_plug(&n.r, 0, 3));
	ASSERT_OK(region_plug(&n.r, 5, 1));
	ASSERT_OK(region_plug(&n.r, 17, 9));
	START(&n, "--restore", n.file);
	EXPECT_AS_MODEL(&n.r);
	driver_stop(&n.d);
	/* A memslot of the VMM conflicts with the last run: all is undone. */
	machine_region(&n, 0);
	ASSERT_OK(vm_set_region(&n.r.vm, SLOT(AS_NORMAL, 200), 0,
				region_block_gpa(&n.r, 24), REGION_BLOCK,
				n.r.mem.hva));
	expect_refused(&n);
	EXPECT_EQ(state_of(&n).plugged_size, 0);
	EXPECT_EQ(state_of(&n).populated_slots, 0);
	unlink(n.file);
}

/* Blocks of which every other one is plugged: twice the ranges of a message. */
#define TATTERED (4U * KVM_VMEM_MAX_RANGES)

static void plug_tatters(struct machine *m)
{
	struct vmem_nl_range *ranges =
		calloc(KVM_VMEM_MAX_RANGES, sizeof(*ranges));

	ASSERT_TRUE(ranges);
	for (unsigned int half = 0; half < 2; half++) {
		for (unsigned int i = 0; i < KVM_VMEM_MAX_RANGES; i++)
			ranges[i] = region_range(
				&m->r, half * TATTERED / 2 + 2 * i, 1);
		ASSERT_OK(vmem_nl_plug(m->r.nl, VMEM_NL_BY_FD(m->r.fd), 0,
				       ranges, KVM_VMEM_MAX_RANGES, NULL,
				       NULL));
	}
	free(ranges);
}

static int next_tatter(const struct vmem_nl_range *run, void *arg)
{
	struct machine *m = arg;
	struct vmem_nl_range wanted = region_range(&m->r, 2 * m->tatters, 1);

	if (run->gpa != wanted.gpa || run->size != wanted.size)
		return -EBADMSG;
	m->tatters++;
	return 0;
}

/* Exactly the blocks of plug_tatters() are plugged. */
static void expect_tatters(struct machine *m)
{
	m->tatters = 0;
	EXPECT_OK(vmem_nl_block_dump(m->r.nl, VMEM_NL_BY_FD(m->r.fd),
				     next_tatter, m, NULL));
	EXPECT_EQ(m->tatters, TATTERED / 2);
}

static void more_runs_than_a_message_takes_are_one_batch(const void *arg)
{
	struct vmem_nl_range all;
	struct machine m, n;

	(void)arg;
	machine_region(&m, TATTERED);
	plug_tatters(&m);
	expect_tatters(&m);
	START(&m, "--log-level", "warning");
	EXPECT_EQ(RUN("--control", m.control, "save", m.file), 0);
	driver_stop(&m.d);

	machine_region(&n, TATTERED);
	START(&n, "--restore", n.file);
	expect_tatters(&n);
	/* One change plugs all memslots, and two changes unplug the gaps. */
	EXPECT_EQ(state_of(&n).changes, 1 + 2);
	EXPECT_EQ(state_of(&n).populated_slots,
		  TATTERED / REGION_BLOCKS_PER_SLOT);
	driver_stop(&n.d);

	/* Killed before the gaps were unplugged, it continues. */
	machine_region(&n, TATTERED);
	all = region_range(&n.r, 0, TATTERED - 1);
	ASSERT_OK(vmem_nl_plug(n.r.nl, VMEM_NL_BY_FD(n.r.fd), 0, &all, 1, NULL,
			       NULL));
	START(&n, "--restore", n.file);
	expect_tatters(&n);
	driver_stop(&n.d);
	unlink(n.file);
}

/* The log of a memslot contains exactly this page, or none if negative. */
static void expect_dirty(struct machine *m, unsigned int slot, int page)
{
	uint64_t bitmap[REGION_BLOCKS_PER_SLOT * REGION_BLOCK / GUEST_PAGE /
			64] = {0};

	tap_context("memslot %u", slot);
	EXPECT_OK(vm_dirty_log(
		&m->r.vm, SLOT(AS_NORMAL, REGION_FIRST_SLOT + slot), bitmap));
	EXPECT_EQ(bitmap[0], page < 0 ? 0 : 1ULL << page);
	tap_context(NULL);
}

static int set(const struct machine *m, const char *what, const char *value)
{
	return RUN("--control", m->control, what, value);
}

static void it_is_held_for_a_migration(const void *arg)
{
	uint64_t bitmap[4];
	struct machine m;

	(void)arg;
	machine_region(&m, 0);
	START(&m, "--requested-size", "1M");
	EXPECT_EQ(plug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(set(&m, "dirty-log", "on"), 0);
	EXPECT_EQ(status_of(&m, "dirty_log"), 1);
	/* Logging alone does not prevent a plug. The new memslot logs, too. */
	EXPECT_EQ(plug(&m, 4, 1), VIRTIO_MEM_RESP_ACK);
	expect_dirty(&m, 0, -1);
	EXPECT_EQ(
		guest_write(&m.r.vcpu, region_block_gpa(&m.r, 0) + 5 * 4096, 1),
		GUEST_MEMORY);
	EXPECT_EQ(
		guest_write(&m.r.vcpu, region_block_gpa(&m.r, 4) + 9 * 4096, 1),
		GUEST_MEMORY);
	expect_dirty(&m, 0, 5);
	expect_dirty(&m, 1, 9);
	expect_dirty(&m, 1, -1);

	EXPECT_EQ(set(&m, "hold", "on"), 0);
	EXPECT_EQ(plug(&m, 8, 1), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(request(&m, VIRTIO_MEM_REQ_UNPLUG, 4, 1),
		  VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(request(&m, VIRTIO_MEM_REQ_STATE, 4, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(RUN("--control", m.control, "status"), 0);
	EXPECT_TRUE(strstr(output, "nothing is plugged or unplugged"));
	EXPECT_EQ(RUN("--control", m.control, "save", m.file), 0);
	unlink(m.file);

	/* A vmemd that is killed is still held after its restart. */
	driver_lose(&m.d);
	driver_respawn(&m.d, (char *const[]){NULL}, m.control, m.r.fd,
		       m.r.mem.fd);
	driver_start(&m.d);
	EXPECT_EQ(status_of(&m, "held"), 1);
	EXPECT_EQ(plug(&m, 8, 1), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(set(&m, "dirty-log", "off"), 0);
	EXPECT_EQ(vm_dirty_log(&m.r.vm, SLOT(AS_NORMAL, REGION_FIRST_SLOT),
			       bitmap),
		  -ENOENT);
	EXPECT_EQ(plug(&m, 8, 1), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(set(&m, "hold", "off"), 0);
	EXPECT_EQ(plug(&m, 8, 1), VIRTIO_MEM_RESP_ACK);
	driver_stop(&m.d);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a device is restored for another VM",
		 .run = a_device_comes_back_for_another_vm},
		{.name = "changes after a restore survive a restart",
		 .run = what_was_set_after_a_restore_stays},
		{.name = "another region is refused and left unchanged",
		 .run = another_region_is_refused},
		{.name = "more runs than fit in a message are one batch",
		 .run = more_runs_than_a_message_takes_are_one_batch},
		{.name = "a device is held during a migration",
		 .run = it_is_held_for_a_migration},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
