// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Control methods for memory that front ends map. The objects have the same
 * members as for a region in the kernel, so that clients need no special case.
 * Values that only the VMM and its kernel know are null.
 */
#include <sys/socket.h>

#include "common/json_member.h"
#include "control/vmm_methods.h"

/* PID of the connected front end; 0: none. */
static uint64_t front_end_pid(const struct vhost_user *vu)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (vu->fd < 0 ||
	    getsockopt(vu->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return 0;
	return (uint64_t)peer.pid;
}

/* Members that replace those of a region in the kernel. */
void vmm_methods_status(const struct vmem_device *device, json_object *status)
{
	const struct vmm_backing *vmm = &device->vmm_backing;
	const struct backing *backing = &vmm->backing;

	json_add_text(status, "backing", "vmm");
	json_object_object_add(
		status, "gpa",
		backing->placed ? json_object_new_uint64(backing->gpa) : NULL);
	json_add_bool(status, "asked_early", device->dev.asked_early);
	json_add_bool(status, "state_lost", backing->lost);
	json_add_size(status, "region_size", backing->size);
	json_add_size(status, "block_size", backing->block_size);
	json_add_size(status, "slot_size", vmm->slots[0].size);
	json_add_size(status, "requested_size", device->dev.requested_size);
	json_add_size(status, "plugged_size", vmem_device_plugged_size(device));
	json_add_size(status, "nr_slots", vmm->nr_slots);
	json_add_size(status, "populated_slots",
		      vmem_device_populated_slots(device));
	json_object_object_add(status, "metadata", NULL);
	json_object_object_add(status, "whole_metadata", NULL);
	json_add_size(status, "vmm_pid", front_end_pid(&device->vu));
}

/* Mapped slots at or after guest address @start. */
json_object *vmm_methods_slots(const struct vmem_device *device, uint64_t start)
{
	const struct vmm_backing *vmm = &device->vmm_backing;
	json_object *slots = json_object_new_array();

	for (unsigned int i = 0; i < vmm->nr_slots; i++) {
		const struct vmm_slot *slot = &vmm->slots[i];
		uint64_t gpa = vmm->backing.gpa + slot->offset;
		json_object *object;

		if (!slot->mapped || gpa < start)
			continue;
		object = json_object_new_object();
		json_object_object_add(object, "id", NULL);
		json_add_size(object, "gpa", gpa);
		json_add_size(object, "size", slot->size);
		json_add_size(object, "plugged_size", vmm_slot_plugged(vmm, i));
		json_object_object_add(object, "metadata", NULL);
		json_object_array_add(slots, object);
	}
	return slots;
}
