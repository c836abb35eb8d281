// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the tests' own instruments, against KVM's own calls: how the helpers
 * read memslots through guest accesses. The other programs rely on these. Needs
 * no kvm_vmem.ko.
 */
#include <errno.h>
#include <string.h>

#include "tap.h"
#include "vcpu.h"
#include "vm.h"

#define SLOT_ID	  1U
#define SLOT_GPA  MIB(16)
#define SLOT_SIZE (4 * GUEST_PAGE)

static void sees_memslot_come_and_go(const void *arg)
{
	struct backing b;
	struct vcpu vcpu;
	struct vm vm;
	int round;

	(void)arg;
	vm_create(&vm, 0);
	vcpu_create(&vcpu, &vm);
	backing_create(&b, SLOT_SIZE);

	for (round = 0; round < 3; round++) {
		EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA);
		EXPECT_OK(vm_set_region(&vm, SLOT_ID, 0, SLOT_GPA, SLOT_SIZE,
					b.hva));
		EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA - 8);
		EXPECT_GUEST_MEMORY(&vcpu, SLOT_GPA, b.hva);
		EXPECT_GUEST_MEMORY(&vcpu, SLOT_GPA + SLOT_SIZE - 8,
				    b.hva + SLOT_SIZE - 8);
		EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA + SLOT_SIZE);
		EXPECT_OK(vm_delete_slot(&vm, SLOT_ID));
	}
	EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA);
}

static void tells_backings_apart(const void *arg)
{
	const uint64_t token = 0x0123456789abcdefULL;
	struct backing a, b;
	struct vcpu vcpu;
	struct vm vm;
	uint64_t value;

	(void)arg;
	vm_create(&vm, 0);
	vcpu_create(&vcpu, &vm);
	backing_create(&a, SLOT_SIZE);
	backing_create(&b, SLOT_SIZE);

	ASSERT_OK(vm_set_region(&vm, SLOT_ID, 0, SLOT_GPA, SLOT_SIZE, a.hva));
	memcpy(a.hva, &token, sizeof(token));
	EXPECT_EQ(guest_read(&vcpu, SLOT_GPA, &value), GUEST_MEMORY);
	EXPECT_EQ(value, token);
	ASSERT_OK(vm_delete_slot(&vm, SLOT_ID));
	ASSERT_OK(vm_set_region(&vm, SLOT_ID, 0, SLOT_GPA, SLOT_SIZE, b.hva));
	EXPECT_EQ(guest_read(&vcpu, SLOT_GPA, &value), GUEST_MEMORY);
	EXPECT_EQ(value, 0U);
	EXPECT_EQ(guest_write(&vcpu, SLOT_GPA, ~token), GUEST_MEMORY);
	EXPECT_EQ(*(uint64_t *)a.hva, token);
	EXPECT_EQ(*(uint64_t *)b.hva, ~token);
}

static void sees_readonly(const void *arg)
{
	struct backing b;
	struct vcpu vcpu;
	struct vm vm;
	uint64_t value;

	(void)arg;
	vm_create(&vm, 0);
	vcpu_create(&vcpu, &vm);
	backing_create(&b, SLOT_SIZE);
	ASSERT_OK(vm_set_region(&vm, SLOT_ID, KVM_MEM_READONLY, SLOT_GPA,
				SLOT_SIZE, b.hva));
	EXPECT_EQ(guest_read(&vcpu, SLOT_GPA, &value), GUEST_MEMORY);
	EXPECT_EQ(guest_write(&vcpu, SLOT_GPA, 1), GUEST_MMIO);
}

static void sees_both_address_spaces(const void *arg)
{
	struct backing normal, smm;
	struct vcpu vcpu;
	struct vm vm;

	(void)arg;
	vm_create(&vm, VM_SMM);
	vcpu_create(&vcpu, &vm);
	backing_create(&normal, SLOT_SIZE);
	backing_create(&smm, SLOT_SIZE);

	ASSERT_OK(vm_set_region(&vm, SLOT(AS_SMM, SLOT_ID), 0, SLOT_GPA,
				SLOT_SIZE, smm.hva));
	EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA);
	vcpu_set_smm(&vcpu, true);
	EXPECT_GUEST_MEMORY(&vcpu, SLOT_GPA, smm.hva);
	vcpu_set_smm(&vcpu, false);
	ASSERT_OK(vm_set_region(&vm, SLOT(AS_NORMAL, SLOT_ID), 0, SLOT_GPA,
				SLOT_SIZE, normal.hva));
	EXPECT_GUEST_MEMORY(&vcpu, SLOT_GPA, normal.hva);
	vcpu_set_smm(&vcpu, true);
	EXPECT_GUEST_MEMORY(&vcpu, SLOT_GPA, smm.hva);
	ASSERT_OK(vm_delete_slot(&vm, SLOT(AS_SMM, SLOT_ID)));
	EXPECT_GUEST_MMIO(&vcpu, SLOT_GPA);
}

static void reaches_far_addresses(const void *arg)
{
	static const uint64_t gpas[] = {GIB(4), GIB(512), TIB(1), TIB(2)};
	struct backing b;
	struct vcpu vcpu;
	struct vm vm;
	unsigned int i;

	(void)arg;
	vm_create(&vm, 0);
	vcpu_create(&vcpu, &vm);
	backing_create(&b, SLOT_SIZE);
	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		/* Some CPUs have only 39 or 40 bits of guest address. */
		if (i && gpas[i] + SLOT_SIZE > vm_max_gpa(&vm))
			break;
		EXPECT_GUEST_MMIO(&vcpu, gpas[i]);
		ASSERT_OK(vm_set_region(&vm, SLOT_ID, 0, gpas[i], SLOT_SIZE,
					b.hva));
		EXPECT_GUEST_MEMORY(&vcpu, gpas[i] + GUEST_PAGE,
				    b.hva + GUEST_PAGE);
		ASSERT_OK(vm_delete_slot(&vm, SLOT_ID));
	}
}

static void probes_slot_ids(const void *arg)
{
	uint64_t bitmap = 0;
	struct backing b;
	unsigned int as;
	struct vm vm;

	(void)arg;
	vm_create(&vm, VM_SMM);
	backing_create(&b, SLOT_SIZE);
	for (as = AS_NORMAL; as <= AS_SMM; as++) {
		const uint32_t slot = SLOT(as, SLOT_ID);

		EXPECT_TRUE(vm_slot_exists(&vm, SLOT(as, VM_BOOT_SLOT)));
		EXPECT_TRUE(!vm_slot_exists(&vm, slot));
		EXPECT_ERR(vm_dirty_log(&vm, slot, &bitmap), ENOENT);
		ASSERT_OK(vm_set_region(&vm, slot, 0, SLOT_GPA, SLOT_SIZE,
					b.hva));
		EXPECT_TRUE(vm_slot_exists(&vm, slot));
		EXPECT_ERR(vm_dirty_log(&vm, slot, &bitmap), ENOENT);
		ASSERT_OK(vm_set_region(&vm, slot, KVM_MEM_LOG_DIRTY_PAGES,
					SLOT_GPA, SLOT_SIZE, b.hva));
		EXPECT_TRUE(vm_slot_exists(&vm, slot));
		EXPECT_OK(vm_dirty_log(&vm, slot, &bitmap));
		ASSERT_OK(vm_delete_slot(&vm, slot));
		EXPECT_TRUE(!vm_slot_exists(&vm, slot));
	}
}

static void several_vcpus(const void *arg)
{
	struct vcpu vcpus[3];
	struct backing b;
	struct vm vm;
	unsigned int i;

	(void)arg;
	vm_create(&vm, 0);
	backing_create(&b, SLOT_SIZE);
	ASSERT_OK(vm_set_region(&vm, SLOT_ID, 0, SLOT_GPA, SLOT_SIZE, b.hva));
	for (i = 0; i < ARRAY_SIZE(vcpus); i++)
		vcpu_create(&vcpus[i], &vm);
	for (i = 0; i < ARRAY_SIZE(vcpus); i++) {
		EXPECT_GUEST_MEMORY(&vcpus[i], SLOT_GPA + i * GUEST_PAGE,
				    b.hva + i * GUEST_PAGE);
		EXPECT_GUEST_MMIO(&vcpus[i], SLOT_GPA + SLOT_SIZE);
	}
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "the guest sees a memslot created and deleted",
		 .run = sees_memslot_come_and_go},
		{.name = "the guest distinguishes the backing of memslots",
		 .run = tells_backings_apart},
		{.name = "the guest sees a read-only memslot as such",
		 .run = sees_readonly},
		{.name = "the guest sees each address space's memslots",
		 .run = sees_both_address_spaces},
		{.name = "the guest reaches addresses far above 4 GiB",
		 .run = reaches_far_addresses},
		{.name = "a memslot id can be probed without changing it",
		 .run = probes_slot_ids},
		{.name = "several vCPUs see the same memslots",
		 .run = several_vcpus},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
