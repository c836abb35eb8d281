// SPDX-License-Identifier: MIT
/* A region, and a vmemd for it. */
#include <stdint.h>
#include <unistd.h>

#include "examples.h"

int example_region(int device_fd, int vm_fd, const char *hva, int memory_fd,
		   struct kvmvmem_vmemd *vmemd, const char *program,
		   struct kvmvmem_error *error)
{
	struct kvm_vmem_create_region create = {
		.size = sizeof(create),
		.vm_fd = vm_fd,
		.address_spaces = 1,
		.first_slot = FIRST_SLOT,
		.guest_phys_addr = GPA,
		.region_size = MEMORY_SIZE,
		.userspace_addr = (uintptr_t)hva,
		.block_size = SLOT_SIZE,
		.slot_size = SLOT_SIZE,
	};
	int region_fd, ret;

	region_fd = kvmvmem_region_create(device_fd, &create, error);
	if (region_fd < 0)
		return region_fd;
	ret = kvmvmem_vmemd_add_device(vmemd, NULL, region_fd, memory_fd,
				       error);
	if (!ret)
		ret = kvmvmem_vmemd_spawn(vmemd, program, error);
	if (ret) {
		close(region_fd);
		return ret;
	}
	/* The VMM keeps it, to start another vmemd should this one die. */
	return region_fd;
}
