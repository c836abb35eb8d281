// SPDX-License-Identifier: GPL-2.0-or-later
#include "region.h"

#include <errno.h>
#include <linux/kvm_vmem.h>
#include <unistd.h>

#include "kvmvmem.h"
#include "layout.h"
#include "util.h"

/*
 * The alignment permits the largest pages in the first memslot, and hotplug of
 * the first block by Linux: memslots larger than 1 GiB need no more.
 */
#define MIN_ALIGN (128 * MIB)
#define MAX_ALIGN GIB

uint64_t region_nr_slots(const struct region_config *config)
{
	return config->size / config->slot_size +
	       !!(config->size % config->slot_size);
}

int region_place(struct region_config *config, unsigned int phys_bits,
		 uint64_t min_gpa)
{
	uint64_t align = MIN_ALIGN, last;

	while (align < MAX_ALIGN && align < config->slot_size)
		align *= 2;
	if (!config->gpa && !align_up(min_gpa, align, &config->gpa))
		return -ERANGE;
	if (config->gpa < min_gpa) {
		error("the region must be at 0x%llx or above",
		      (unsigned long long)min_gpa);
		return -EINVAL;
	}
	if (__builtin_add_overflow(config->gpa, config->size - 1, &last) ||
	    (phys_bits < 64 && last >> phys_bits)) {
		error("a region of %llu bytes at 0x%llx is beyond the guest's %u physical address bits",
		      (unsigned long long)config->size,
		      (unsigned long long)config->gpa, phys_bits);
		return -ERANGE;
	}
	return 0;
}

/*
 * Ask that the guest's other memory stays mapped when a memslot is deleted, if
 * the module can do that.
 */
static uint32_t region_flags(const struct region_config *config, int device_fd)
{
	struct kvm_vmem_query query = {.size = sizeof(query)};

	if (config->zap_all || kvmvmem_query(device_fd, &query, NULL) ||
	    !(query.features & KVM_VMEM_FEATURE_ZAP_RANGES))
		return 0;
	return KVM_VMEM_REGION_ZAP_RANGES;
}

int region_create(const struct region_config *config, int vm_fd, void *hva,
		  uint32_t first_slot)
{
	struct kvm_vmem_create_region create = {
		.size = sizeof(create),
		.vm_fd = vm_fd,
		.address_spaces = config->address_spaces,
		.first_slot = first_slot,
		.guest_phys_addr = config->gpa,
		.region_size = config->size,
		.userspace_addr = (uintptr_t)hva,
		.block_size = config->block_size,
		.slot_size = config->slot_size,
	};
	struct kvmvmem_error reason;
	int device_fd, region_fd;

	device_fd = kvmvmem_open(&reason);
	if (device_fd < 0) {
		error("%s", reason.text);
		return device_fd;
	}
	create.flags = region_flags(config, device_fd);
	region_fd = kvmvmem_region_create(device_fd, &create, &reason);
	if (region_fd < 0)
		error("%s", reason.text);
	close(device_fd);
	return region_fd;
}
