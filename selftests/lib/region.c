// SPDX-License-Identifier: GPL-2.0-or-later
#include "region.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "batch.h"
#include "process.h"
#include "tap.h"

/** region_call_create() - Return: the region's descriptor or -errno. */
int region_call_create(int dev_fd, struct kvm_vmem_create_region *args)
{
	int fd = ioctl(dev_fd, KVM_VMEM_CREATE_REGION, args);

	return fd < 0 ? -errno : fd;
}

/** region_count() - Return: regions on this host, by KVM_VMEM_QUERY. */
uint32_t region_count(int dev_fd)
{
	struct kvm_vmem_query query = {.size = sizeof(query)};

	ASSERT_EQ(ioctl(dev_fd, KVM_VMEM_QUERY, &query), 0);
	return query.regions;
}

/**
 * await_no_vm() - Wait until the VMs of processes that have exited are gone,
 * and their regions too. The testbed has no other VMs. The case's time limit
 * bounds the wait.
 */
void await_no_vm(void)
{
	int dev = kvm_vmem_open();

	while (region_count(dev) || kvm_vm_count())
		sched_yield();
	close(dev);
}

/**
 * region_await_none() - Wait until there is no region, and all events have been
 * sent. A region ends asynchronously if the VMM did not close the last
 * descriptor, for example because the process has exited.
 */
void region_await_none(void)
{
	int dev = kvm_vmem_open();

	while (region_count(dev))
		sched_yield();
	close(dev);
}

/** netlink_open() - Return: a netlink handle, the caller's to close. */
struct vmem_nl *netlink_open(void)
{
	struct error err;
	struct vmem_nl *nl;
	int r = vmem_nl_open(&nl, &err);

	if (r)
		tap_note("%s", err.text);
	ASSERT_OK(r);
	return nl;
}

/**
 * region_prepare() - Make the VM and set args to the usual geometry; the caller
 * may change args before region_create().
 */
void region_prepare(struct region *r)
{
	const uint64_t size = REGION_NR_BLOCKS * REGION_BLOCK;

	memset(r, 0, sizeof(*r));
	r->dev = kvm_vmem_open();
	vm_create(&r->vm, VM_SMM);
	vcpu_create(&r->vcpu, &r->vm);
	backing_create(&r->mem, size);
	r->nl = netlink_open();
	r->fd = -1;
	r->args = (struct kvm_vmem_create_region){
		.size = sizeof(r->args),
		.vm_fd = r->vm.fd,
		.address_spaces = AS_MASK_NORMAL,
		.first_slot = REGION_FIRST_SLOT,
		.guest_phys_addr = REGION_GPA,
		.region_size = size,
		.userspace_addr = (uintptr_t)r->mem.hva,
		.block_size = REGION_BLOCK,
		.slot_size = REGION_BLOCKS_PER_SLOT * REGION_BLOCK,
	};
}

/** region_create() - Make the region that args describe. */
void region_create(struct region *r)
{
	const struct kvm_vmem_create_region *args = &r->args;

	r->nr_blocks = (unsigned int)(args->region_size / args->block_size);
	r->blocks_per_slot = (unsigned int)(args->slot_size / args->block_size);
	r->nr_slots =
		(r->nr_blocks + r->blocks_per_slot - 1) / r->blocks_per_slot;
	r->fd = region_call_create(r->dev, &r->args);
	ASSERT_OK(r->fd);
	ASSERT_GT(args->region_id, 0);
}

/** region_init() - A VM and a region of the usual geometry. */
void region_init(struct region *r, uint32_t address_spaces)
{
	region_prepare(r);
	r->args.address_spaces = address_spaces;
	region_create(r);
}

uint64_t region_block_gpa(const struct region *r, unsigned int block)
{
	return r->args.guest_phys_addr + block * r->args.block_size;
}

uint8_t *region_block_hva(const struct region *r, unsigned int block)
{
	return r->mem.hva + block * r->args.block_size;
}

/** region_range() - Return: blocks as netlink names them. */
struct vmem_nl_range region_range(const struct region *r, unsigned int first,
				  unsigned int nr)
{
	return (struct vmem_nl_range){
		.gpa = region_block_gpa(r, first),
		.size = nr * r->args.block_size,
	};
}

/** region_model_set() - Change the model alone. */
void region_model_set(struct region *r, unsigned int first, unsigned int nr,
		      bool plugged)
{
	unsigned int i;

	ASSERT_LE(first + nr, REGION_MAX_BLOCKS);
	for (i = first; i < first + nr; i++)
		r->plugged[i] = plugged;
}

/** region_plug() - Plug, and on success change the model. */
int region_plug(struct region *r, unsigned int first, unsigned int nr)
{
	const struct vmem_nl_range range = region_range(r, first, nr);
	int ret = vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->fd), 0, &range, 1, NULL,
			       NULL);

	if (!ret)
		region_model_set(r, first, nr, true);
	return ret;
}

/** region_unplug() - Unplug, and on success change the model. */
int region_unplug(struct region *r, unsigned int first, unsigned int nr)
{
	const struct vmem_nl_range range = region_range(r, first, nr);
	int ret = vmem_nl_unplug(r->nl, VMEM_NL_BY_FD(r->fd), 0, &range, 1,
				 NULL, NULL);

	if (!ret)
		region_model_set(r, first, nr, false);
	return ret;
}

/** region_unplug_all() - Unplug all, and on success change the model. */
int region_unplug_all(struct region *r)
{
	int ret =
		vmem_nl_unplug_all(r->nl, VMEM_NL_BY_FD(r->fd), 0, NULL, NULL);

	if (!ret)
		memset(r->plugged, 0, sizeof(r->plugged));
	return ret;
}

/** region_slot_populated() - Is there a plugged block in the slot? */
bool region_slot_populated(const struct region *r, unsigned int slot)
{
	unsigned int block = slot * r->blocks_per_slot;
	unsigned int end = block + r->blocks_per_slot;

	for (; block < end && block < r->nr_blocks; block++)
		if (r->plugged[block])
			return true;
	return false;
}

/** region_nr_populated() - Return: populated slots of the model. */
unsigned int region_nr_populated(const struct region *r)
{
	unsigned int slot, nr = 0;

	for (slot = 0; slot < r->nr_slots; slot++)
		nr += region_slot_populated(r, slot);
	return nr;
}

static void expect_block(const char *file, int line, struct region *r,
			 unsigned int block, bool memory)
{
	const uint64_t last = r->args.block_size - sizeof(uint64_t);
	const uint64_t gpa = region_block_gpa(r, block);
	uint8_t *hva = region_block_hva(r, block);

	if (memory) {
		guest_expect_memory(file, line, &r->vcpu, gpa, hva);
		guest_expect_memory(file, line, &r->vcpu, gpa + last,
				    hva + last);
	} else {
		guest_expect_mmio(file, line, &r->vcpu, gpa);
		guest_expect_mmio(file, line, &r->vcpu, gpa + last);
	}
}

/**
 * region_expect_guest() - Compare the guest's memory with the model: the first
 * and last word of each block, and the words before and after the region. A
 * slot with a plugged block is present as a whole.
 */
void region_expect_guest(const char *file, int line, struct region *r)
{
	const uint64_t end = region_block_gpa(r, r->nr_blocks);
	unsigned int as, block, slot;

	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		const bool ours = r->args.address_spaces >> as & 1;

		vcpu_set_smm(&r->vcpu, as == AS_SMM);
		for (block = 0; block < r->nr_blocks; block++) {
			slot = block / r->blocks_per_slot;
			tap_context("address space %u, block %u", as, block);
			expect_block(file, line, r, block,
				     ours && region_slot_populated(r, slot));
		}
		tap_context("address space %u", as);
		guest_expect_mmio(file, line, &r->vcpu,
				  r->args.guest_phys_addr - sizeof(uint64_t));
		guest_expect_mmio(file, line, &r->vcpu, end);

		for (slot = 0; slot < r->nr_slots; slot++) {
			const uint32_t id = SLOT(as, r->args.first_slot + slot);
			const bool want =
				ours && region_slot_populated(r, slot);

			if (vm_slot_exists(&r->vm, id) != want)
				tap_fail(file, line, "KVM %s memslot %#x",
					 want ? "lacks" : "has", id);
		}
	}
	tap_context("%s", "");
	vcpu_set_smm(&r->vcpu, false);
}

/* Progress of the comparison of a dump with the model. */
struct dump_check {
	const char *file;
	int line;
	struct region *r;
	unsigned int next;
};

static int check_run(const struct vmem_nl_range *run, void *arg)
{
	struct dump_check *c = arg;
	const struct region *r = c->r;
	unsigned int first = c->next, end;

	while (first < r->nr_blocks && !r->plugged[first])
		first++;
	for (end = first; end < r->nr_blocks && r->plugged[end];)
		end++;
	c->next = end;
	if (first == end || run->gpa != region_block_gpa(r, first) ||
	    run->size != (end - first) * r->args.block_size)
		tap_fail(
			c->file, c->line,
			"block dump: run at %#llx of %#llx bytes, not blocks %u to %u",
			(unsigned long long)run->gpa,
			(unsigned long long)run->size, first, end);
	return 0;
}

static int check_slot(const struct vmem_nl_slot *s, void *arg)
{
	struct dump_check *c = arg;
	const struct region *r = c->r;
	unsigned int block, end, plugged = 0;

	while (c->next < r->nr_slots && !region_slot_populated(r, c->next))
		c->next++;
	block = c->next * r->blocks_per_slot;
	end = block + r->blocks_per_slot;
	if (end > r->nr_blocks)
		end = r->nr_blocks;
	if (block >= end || s->region_id != r->args.region_id ||
	    s->id != r->args.first_slot + c->next ||
	    s->gpa != region_block_gpa(r, block) ||
	    s->hva != (uintptr_t)region_block_hva(r, block) ||
	    s->size != (end - block) * r->args.block_size)
		tap_fail(c->file, c->line,
			 "slot dump: id %u, gpa %#llx, size %#llx, not slot %u",
			 s->id, (unsigned long long)s->gpa,
			 (unsigned long long)s->size, c->next);
	for (; block < end; block++)
		plugged += r->plugged[block];
	if (s->plugged_size != plugged * r->args.block_size || s->stale)
		tap_fail(c->file, c->line,
			 "slot dump: %#llx bytes plugged, not %u blocks%s",
			 (unsigned long long)s->plugged_size, plugged,
			 s->stale ? ", and stale" : "");
	c->next++;
	return 0;
}

/** region_expect_dumps() - Compare what the module reports with the model. */
void region_expect_dumps(const char *file, int line, struct region *r)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(r->fd);
	struct dump_check blocks = {.file = file, .line = line, .r = r};
	struct dump_check slots = blocks;
	struct vmem_nl_region state;
	unsigned int block, plugged = 0;
	int ret;

	for (block = 0; block < r->nr_blocks; block++)
		plugged += r->plugged[block];
	ret = vmem_nl_region_get(r->nl, name, &state, NULL);
	if (ret)
		tap_fail(file, line, "region-get: %s", strerror(-ret));
	else if (state.plugged_size != plugged * r->args.block_size ||
		 state.populated_slots != region_nr_populated(r))
		tap_fail(
			file, line,
			"region-get: %#llx bytes plugged in %u slots, not %u blocks in %u",
			(unsigned long long)state.plugged_size,
			state.populated_slots, plugged, region_nr_populated(r));

	ret = vmem_nl_block_dump(r->nl, name, check_run, &blocks, NULL);
	if (ret)
		tap_fail(file, line, "block-get: %s", strerror(-ret));
	for (; blocks.next < r->nr_blocks; blocks.next++)
		if (r->plugged[blocks.next])
			tap_fail(file, line, "block dump lacks block %u",
				 blocks.next);

	ret = vmem_nl_slot_dump(r->nl, name, check_slot, &slots, NULL);
	if (ret)
		tap_fail(file, line, "slot-get: %s", strerror(-ret));
	for (; slots.next < r->nr_slots; slots.next++)
		if (region_slot_populated(r, slots.next))
			tap_fail(file, line, "slot dump lacks slot %u",
				 slots.next);
}
