// SPDX-License-Identifier: GPL-2.0-or-later
#include "twins.h"

#include <unistd.h>

#include "common/vm_memslots.h"
#include "tap.h"

static void twin_create(struct twin *twin, unsigned int vm_flags)
{
	vm_create(&twin->vm, vm_flags);
	vcpu_create(&twin->vcpu, &twin->vm);
	for (unsigned int i = 0; i < TWINS_MEMORIES; i++)
		backing_create(&twin->mem[i], TWINS_SLOTS * TWINS_SLOT_SIZE);
}

static void twin_destroy(struct twin *twin)
{
	for (unsigned int i = 0; i < TWINS_MEMORIES; i++)
		backing_destroy(&twin->mem[i]);
	vcpu_destroy(&twin->vcpu);
	vm_destroy(&twin->vm);
}

static unsigned int count_address_spaces(void)
{
	struct vm vm;
	int count;

	vm_create(&vm, VM_BARE);
	count = vm_check_extension(&vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	vm_destroy(&vm);
	/* 0 if KVM does not know the capability. */
	return count > 1 ? (unsigned int)count : 1;
}

/**
 * twins_create() - Make both VMs.
 * @vm_flags: flags of vm_create(); VM_SMM is ignored if KVM does not support
 *	SMM
 */
void twins_create(struct twins *t, unsigned int vm_flags)
{
	t->dev = kvm_vmem_open();
	t->address_spaces = count_address_spaces();
	if (t->address_spaces == 1)
		vm_flags &= ~VM_SMM;
	twin_create(&t->batched, vm_flags);
	twin_create(&t->single, vm_flags);
	batch_init(&t->batch);
}

void twins_destroy(struct twins *t)
{
	batch_free(&t->batch);
	twin_destroy(&t->single);
	twin_destroy(&t->batched);
	close(t->dev);
}

uint64_t twins_gpa(unsigned int slot)
{
	/* With a gap after each. */
	return TWINS_GPA + slot * 2 * TWINS_SLOT_SIZE;
}

uint8_t *twins_hva(const struct twin *twin, unsigned int memory,
		   unsigned int slot)
{
	return twin->mem[memory].hva + slot * TWINS_SLOT_SIZE;
}

/**
 * twins_set() - Create a memslot or change its flags at the next twins_apply().
 */
void twins_set(struct twins *t, unsigned int as, unsigned int slot,
	       unsigned int memory, uint32_t flags)
{
	batch_set(&t->batch, SLOT(as, TWINS_FIRST_ID + slot), flags,
		  twins_gpa(slot), TWINS_SLOT_SIZE,
		  twins_hva(&t->batched, memory, slot));
}

/** twins_delete() - Delete a memslot at the next twins_apply(). */
void twins_delete(struct twins *t, unsigned int as, unsigned int slot)
{
	batch_delete(&t->batch, SLOT(as, TWINS_FIRST_ID + slot));
}

/* Apply an entry to the other VM, whose memory has other addresses. */
static void apply_single(struct twins *t,
			 const struct kvm_userspace_memory_region *entry)
{
	const uint64_t hva = entry->userspace_addr;

	for (unsigned int i = 0; i < TWINS_MEMORIES; i++) {
		const struct backing *from = &t->batched.mem[i];
		const uint64_t offset = hva - (uintptr_t)from->hva;

		if (entry->memory_size && offset >= from->size)
			continue;
		EXPECT_OK(vm_set_region(&t->single.vm, entry->slot,
					entry->flags, entry->guest_phys_addr,
					entry->memory_size,
					t->single.mem[i].hva + offset));
		return;
	}
	ASSERT_TRUE(!"the memory is a twin's");
}

/**
 * twins_apply() - Make the changes: as one batch, and one call after the other.
 *
 * Deletes come first: a batch may create memory where it deletes.
 */
void twins_apply(struct twins *t)
{
	const struct batch *b = &t->batch;

	for (uint32_t i = 0; i < b->nr; i++)
		if (!b->entries[i].memory_size)
			EXPECT_OK(vm_delete_slot(&t->single.vm,
						 b->entries[i].slot));
	for (uint32_t i = 0; i < b->nr; i++)
		if (b->entries[i].memory_size)
			apply_single(t, &b->entries[i]);
	EXPECT_OK(batch_apply(t->dev, &t->batched.vm, &t->batch));
	batch_reset(&t->batch);
}

static void expect_same_memslot(const struct kvm_vmem_memslot *is,
				const struct kvm_vmem_memslot *want)
{
	EXPECT_EQ(is->slot, want->slot);
	EXPECT_EQ(is->flags, want->flags);
	EXPECT_EQ(is->guest_phys_addr, want->guest_phys_addr);
	EXPECT_EQ(is->memory_size, want->memory_size);
	EXPECT_EQ(is->memslot, want->memslot);
	EXPECT_EQ(is->rmap, want->rmap);
	EXPECT_EQ(is->lpage_info, want->lpage_info);
	EXPECT_EQ(is->gfn_track, want->gfn_track);
	EXPECT_EQ(is->dirty_bitmap, want->dirty_bitmap);
}

static void expect_same_address_space(struct twins *t, unsigned int as)
{
	struct vm_memslots is, want;

	ASSERT_OK(vm_memslots_read(t->dev, t->batched.vm.fd, as, &is));
	ASSERT_OK(vm_memslots_read(t->dev, t->single.vm.fd, as, &want));
	EXPECT_EQ(is.nr, want.nr);
	for (size_t i = 0; i < is.nr && i < want.nr; i++) {
		tap_context("address space %u, memslot %u", as,
			    want.memslots[i].slot & UINT16_MAX);
		expect_same_memslot(&is.memslots[i], &want.memslots[i]);
	}
	tap_context("%s", "");
	vm_memslots_free(&is);
	vm_memslots_free(&want);
}

/**
 * twins_expect_same_memslots() - Both VMs have the same memslots, with the same
 * metadata.
 */
void twins_expect_same_memslots(struct twins *t)
{
	for (unsigned int as = AS_NORMAL; as < t->address_spaces; as++)
		expect_same_address_space(t, as);
}

/** twins_expect_memory() - Both guests see this memory at a memslot. */
void twins_expect_memory(struct twins *t, unsigned int slot,
			 unsigned int memory)
{
	EXPECT_GUEST_MEMORY(&t->batched.vcpu, twins_gpa(slot),
			    twins_hva(&t->batched, memory, slot));
	EXPECT_GUEST_MEMORY(&t->single.vcpu, twins_gpa(slot),
			    twins_hva(&t->single, memory, slot));
}

/**
 * twins_leave_guest() - Make both vCPUs flush the dirty log of their CPU.
 *
 * An Intel CPU logs writes in a buffer (PML), which KVM flushes when the CPU
 * leaves the guest. An access without memory leaves the guest by an MMIO exit.
 */
void twins_leave_guest(struct twins *t)
{
	const uint64_t gap = twins_gpa(0) + TWINS_SLOT_SIZE;

	EXPECT_GUEST_MMIO(&t->batched.vcpu, gap);
	EXPECT_GUEST_MMIO(&t->single.vcpu, gap);
}

/** twins_expect_none() - Neither guest has memory there. */
void twins_expect_none(struct twins *t, unsigned int slot)
{
	EXPECT_GUEST_MMIO(&t->batched.vcpu, twins_gpa(slot));
	EXPECT_GUEST_MMIO(&t->single.vcpu, twins_gpa(slot));
}
