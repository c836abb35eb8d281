// SPDX-License-Identifier: GPL-2.0-or-later
#include "vmem_util.h"

/** vmem_open() - Return: a descriptor of the device. Skips if it is absent. */
int vmem_open(void)
{
	int dev = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);

	__TEST_REQUIRE(dev >= 0, "/dev/kvm-vmem: %s", strerror(errno));
	return dev;
}

/* A parameter of a module that may not be loaded. */
static bool parameter_is_set(const char *path)
{
	FILE *file = fopen(path, "r");
	int value = 0;

	if (file) {
		value = getc(file);
		fclose(file);
	}
	return value == 'Y' || value == '1';
}

/** vmem_has_tdp_mmu() - Does KVM use the TDP MMU? */
bool vmem_has_tdp_mmu(void)
{
	return parameter_is_set("/sys/module/kvm/parameters/tdp_mmu") &&
	       (parameter_is_set("/sys/module/kvm_amd/parameters/npt") ||
		parameter_is_set("/sys/module/kvm_intel/parameters/ept"));
}

/** vmem_batch_add() - Append an entry: create a memslot or change its flags. */
void vmem_batch_add(struct vmem_batch *batch, uint32_t slot, uint32_t flags,
		    uint64_t gpa, uint64_t size, const void *hva)
{
	TEST_ASSERT(batch->nr < VMEM_BATCH_ENTRIES, "the batch is full");
	batch->entries[batch->nr++] = (struct kvm_userspace_memory_region){
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
}

/** vmem_batch_delete() - Append an entry that deletes a memslot. */
void vmem_batch_delete(struct vmem_batch *batch, uint32_t slot)
{
	vmem_batch_add(batch, slot, 0, 0, 0, NULL);
}

/** vmem_batch_apply() - Apply a batch, and clear its entries. */
void vmem_batch_apply(int dev, struct kvm_vm *vm, struct vmem_batch *batch)
{
	struct kvm_vmem_memslot_batch arg = {
		.size = sizeof(arg),
		.flags = batch->flags,
		.vm_fd = vm->fd,
		.nr = batch->nr,
		.regions = (uintptr_t)batch->entries,
		.entry_size = sizeof(*batch->entries),
	};
	int r = ioctl(dev, KVM_VMEM_MEMSLOT_BATCH, &arg);

	TEST_ASSERT(!r, "KVM_VMEM_MEMSLOT_BATCH: %s, entry %d", strerror(errno),
		    (int)arg.bad_index);
	batch->zapped = arg.zapped;
	batch->nr = 0;
}

/** vmem_alloc() - Return: anonymous memory, zeroed and page aligned. */
void *vmem_alloc(size_t size)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(hva != MAP_FAILED, "mmap: %s", strerror(errno));
	return hva;
}
