// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memslot budget on the control socket.
 *
 * A VMM creates its region with a memslot size and then attaches it. Before
 * that, it may ask for the best memslot size:
 *
 *	-> {"id":1,"method":"plan","params":{"gpa":4294967296,
 *	    "region_size":1099511627776,"block_size":2097152,"used":6,
 *	    "kvm_limit":32764}}
 *	<- {"id":1,"result":{"slot_size":134217728,"nr_slots":8192,
 *	    "reason":"...","metadata":..,"metadata_nested":..}}
 *
 * "used" is the number of the VMM's own memslots. The memslots of other
 * devices' regions are known here. They count as reserved, populated or not.
 *
 * "mappings" is the number of separate mappings that a consumer of the region will
 * be able to have. If the region has more blocks, the plan fails.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/json_member.h"
#include "control/budget_methods.h"

/* Parse the parameters. Return: 0; -EINVAL with a message. */
static int get_numbers(struct control_call *call,
		       struct budget_request *request)
{
	const struct {
		const char *name;
		uint64_t *value;
		bool needed;
	} numbers[] = {
		{"region_size", &request->region_size, true},
		{"block_size", &request->block_size, true},
		{"kvm_limit", &request->kvm_limit, true},
		{"gpa", &request->gpa, false},
		{"total_size", &request->total_size, false},
		{"used", &request->used, false},
		{"reserved", &request->reserved, false},
		{"consumer_limit", &request->consumer_limit, false},
		{"mappings", &request->mappings, false},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		int ret = control_get_size(call, numbers[i].name,
					   numbers[i].value);

		if (!ret || (ret == -ENOENT && !numbers[i].needed))
			continue;
		return error_set(&call->error, -EINVAL, "\"%s\" is a number%s",
				 numbers[i].name,
				 numbers[i].needed ? ", and needed" : "");
	}
	return 0;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* Maximum number of memslots of a device; before "attach", the planned one. */
static uint64_t most_slots(const struct vmem_device *device)
{
	if (!device->attached)
		return device->budget.nr_slots;
	return device->dev.backing->nr_slots;
}

/**
 * budget_methods_others() - maximum number of memslots of the other devices
 * @vmem: the daemon
 * @device: the device that is not counted
 *
 * Return: the number of memslots.
 */
uint64_t budget_methods_others(const struct vmem *vmem,
			       const struct vmem_device *device)
{
	uint64_t slots = 0;

	for (unsigned int i = 0; i < vmem->nr_devices; i++)
		if (&vmem->devices[i] != device)
			slots = add(slots, most_slots(&vmem->devices[i]));
	return slots;
}

/* Add the limits of all consumers, and the memslots of other devices. */
static void add_devices(const struct vmem *vmem,
			const struct vmem_device *device,
			struct budget_request *request)
{
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		const struct vmem_device *other = &vmem->devices[i];
		uint64_t limit = other->attached
					 ? consumers_limit(&other->consumers)
					 : 0;

		if (limit && (!request->consumer_limit ||
			      limit < request->consumer_limit))
			request->consumer_limit = limit;
	}
	request->reserved =
		add(request->reserved, budget_methods_others(vmem, device));
}

static json_object *new_budget(const struct budget *budget)
{
	json_object *object = json_object_new_object();

	json_add_size(object, "slot_size", budget->slot_size);
	json_add_size(object, "nr_slots", budget->nr_slots);
	json_add_text(object, "reason", budget->reason);
	json_add_size(object, "metadata", budget->metadata);
	json_add_size(object, "metadata_nested", budget->metadata_nested);
	return object;
}

/* Method "plan" of a device. */
int budget_methods_plan(struct control_call *call, const struct vmem *vmem,
			struct vmem_device *device)
{
	struct budget_request request = {0};
	struct budget budget;
	int ret;

	if (device->attached)
		return error_set(&call->error, -EBUSY,
				 "there is a region already");
	ret = get_numbers(call, &request);
	if (ret)
		return ret;
	add_devices(vmem, device, &request);
	ret = budget_plan(&device->options->budget, &request, &budget,
			  &call->error);
	if (ret)
		return ret;
	device->budget = budget;
	call->result = new_budget(&budget);
	return 0;
}

/**
 * budget_methods_attach() - check the memslots of a region before "attach"
 * @call: the call; its error is set on error
 * @vmem: the daemon
 * @device: the device that the region will be attached to
 * @region_fd: descriptor of the region
 *
 * A VMM need not ask for a plan, and need not follow it. So the region may have
 * more memslots than were counted when consumers of other devices subscribed.
 *
 * Return: 0, also if @region_fd is not a region, which attaching detects;
 * -ENOSPC: a consumer could not handle that many memslots.
 */
int budget_methods_attach(struct control_call *call, const struct vmem *vmem,
			  const struct vmem_device *device, int region_fd)
{
	struct vmem_nl_region region;
	int ret = 0;

	if (vmem_nl_region_get(device->nl.read, VMEM_NL_BY_FD(region_fd),
			       &region, NULL))
		return 0;
	for (unsigned int i = 0; !ret && i < vmem->nr_devices; i++) {
		const struct vmem_device *other = &vmem->devices[i];
		uint64_t others = budget_methods_others(vmem, other);

		/* Consumers exist once a region in the kernel is attached. */
		if (!other->attached)
			continue;
		/* Replace the planned number by the actual one. */
		others -= most_slots(device);
		ret = consumers_check(&other->consumers,
				      add(others, region.nr_slots),
				      &call->error);
	}
	return ret;
}

/* Number and size of the memslots, and the reason, for "status". */
json_object *budget_methods_status(const struct vmem_device *device)
{
	return new_budget(&device->budget);
}
