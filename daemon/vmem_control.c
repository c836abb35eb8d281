// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What vmemd answers on its control socket, and tells those who watch.
 *
 * Sizes are in bytes, addresses are the guest's. What is not known is null, not
 * 0. vmemctl(1) is the client; its --json prints these objects as they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer_control.h"
#include "vmem_control.h"

/* Elements of one answer to "slots" or "blocks"; the rest is asked for next. */
#define PAGE_MAX 256

static json_object *new_size(uint64_t value)
{
	return json_object_new_uint64(value);
}

static void add_size(json_object *object, const char *name, uint64_t value)
{
	json_object_object_add(object, name, new_size(value));
}

static void add_bool(json_object *object, const char *name, bool value)
{
	json_object_object_add(object, name, json_object_new_boolean(value));
}

static void add_text(json_object *object, const char *name, const char *value)
{
	json_object_object_add(object, name, json_object_new_string(value));
}

/* The sizes, for answers and events. */
json_object *vmem_control_sizes(const struct vmem_device *device)
{
	json_object *object = json_object_new_object();

	add_size(object, "requested_size", device->dev.requested_size);
	add_size(object, "plugged_size", vmem_device_plugged_size(device));
	add_size(object, "usable_region_size", device->dev.usable_region_size);
	add_size(object, "populated_slots",
		 device->region.state.populated_slots);
	return object;
}

/* What is not known is null, not 0. */
static json_object *new_metadata(bool known,
				 const struct vmem_nl_metadata *metadata)
{
	json_object *object;

	if (!known)
		return NULL;
	object = json_object_new_object();
	add_size(object, "memslot", metadata->memslot);
	add_size(object, "rmap", metadata->rmap);
	add_size(object, "lpage_info", metadata->lpage_info);
	add_size(object, "gfn_track", metadata->gfn_track);
	add_size(object, "dirty_bitmap", metadata->dirty_bitmap);
	add_size(object, "total", metadata->total);
	return object;
}

/* The device that a call is about, which has a region; NULL with a message. */
static struct vmem_device *get_device(struct vmem *vmem,
				      struct control_call *call)
{
	struct vmem_device *device = &vmem->devices[0];

	if (device->attached)
		return device;
	snprintf(call->message, sizeof(call->message),
		 "no region yet: the VMM has not attached one");
	return NULL;
}

static json_object *new_counters(const struct virtio_mem *dev)
{
	json_object *requests = json_object_new_object();

	for (int i = 0; i < VIRTIO_MEM_NR_REQUESTS; i++) {
		json_object *answers = json_object_new_object();

		for (int j = 0; j < VIRTIO_MEM_NR_ANSWERS; j++)
			add_size(answers, virtio_mem_answer_name(j),
				 dev->answers[i][j]);
		json_object_object_add(requests, virtio_mem_request_name(i),
				       answers);
	}
	return requests;
}

/* Bounds and sums in nanoseconds; each bucket counts from the one before. */
static json_object *new_latency(const struct latency *latency)
{
	json_object *object = json_object_new_object();
	json_object *buckets = json_object_new_array();

	for (size_t i = 0; i < LATENCY_NR_BUCKETS; i++) {
		json_object *bucket = json_object_new_object();

		add_size(bucket, "most", latency_bounds_ns[i]);
		add_size(bucket, "count", latency->buckets[i]);
		json_object_array_add(buckets, bucket);
	}
	json_object_object_add(object, "buckets", buckets);
	add_size(object, "count", latency->count);
	add_size(object, "sum", latency->sum_ns);
	return object;
}

static json_object *new_latencies(const struct virtio_mem *dev)
{
	json_object *latencies = json_object_new_object();

	for (int i = 0; i < VIRTIO_MEM_NR_REQUESTS; i++)
		json_object_object_add(latencies, virtio_mem_request_name(i),
				       new_latency(&dev->latencies[i]));
	return latencies;
}

static json_object *new_driver(const struct vhost_user *vu)
{
	json_object *driver = json_object_new_object();

	add_bool(driver, "connected", vhost_user_connected(vu));
	add_bool(driver, "ready", vhost_user_driver_ready(vu));
	add_bool(driver, "broken", vu->vring.broken);
	add_size(driver, "features", vu->features);
	add_size(driver, "protocol_features", vu->protocol_features);
	add_size(driver, "status", vu->status);
	return driver;
}

/* What there is of memory; what cannot be told is left out. */
static void add_memory(json_object *status, struct vmem_device *device,
		       const struct vmem_nl_region *state)
{
	const struct memory *memory = &device->region.memory;
	uint64_t resident;

	add_text(status, "memory", memory_kind_name(memory->kind));
	add_size(status, "page_size", memory->page_size);
	add_size(status, "map_size",
		 memory_map_size(memory, state->gpa, state->hva,
				 state->slot_size));
	add_size(status, "map_size_wanted", memory_map_wanted(memory));
	add_bool(status, "prealloc", device->region.prealloc);
	if (!vmem_device_resident(device, &resident))
		add_size(status, "resident_size", resident);
	add_size(status, "excess_size", device->excess.now);
	if (device->excess.has_cap)
		add_size(status, "unplugged_cap", device->excess.cap);
	add_size(status, "punches", device->excess.punches);
	add_size(status, "punched_size", device->excess.punched_size);
}

static int handle_status(struct control_call *call, void *arg)
{
	const struct virtio_mem *dev;
	struct vmem_device *device;
	struct vmem_nl_region state;
	struct vmem_nl_error err;
	json_object *status;
	int ret;

	device = get_device(arg, call);
	if (!device)
		return -ENODEV;
	dev = &device->dev;
	ret = vmem_nl_region_get(device->nl.read,
				 VMEM_NL_BY_FD(device->region.fd), &state,
				 &err);
	if (ret) {
		snprintf(call->message, sizeof(call->message), "%s", err.text);
		return ret;
	}
	status = json_object_new_object();
	add_size(status, "region_id", state.id);
	add_size(status, "gpa", state.gpa);
	add_size(status, "region_size", state.size);
	add_size(status, "block_size", state.block_size);
	add_size(status, "slot_size", state.slot_size);
	add_size(status, "usable_region_size", dev->usable_region_size);
	add_size(status, "requested_size", state.requested_size);
	add_size(status, "plugged_size", state.plugged_size);
	add_size(status, "nr_slots", state.nr_slots);
	add_size(status, "first_slot", state.first_slot);
	add_size(status, "populated_slots", state.populated_slots);
	add_size(status, "address_spaces", state.address_spaces);
	add_bool(status, "dirty_log", state.dirty_log);
	json_object_object_add(
		status, "metadata",
		new_metadata(state.has_metadata, &state.metadata));
	json_object_object_add(
		status, "whole_metadata",
		new_metadata(state.has_whole_metadata, &state.whole_metadata));
	add_memory(status, device, &state);
	if (dev->has_node)
		add_size(status, "node", dev->node_id);
	add_size(status, "vmm_pid", state.pid);
	json_object_object_add(status, "driver", new_driver(&device->vu));
	json_object_object_add(status, "requests", new_counters(dev));
	add_text(status, "last_failure", dev->last_failure);
	add_bool(status, "given_back", dev->given_back);
	add_size(status, "undiscarded_size",
		 dev->backing->owed.set * dev->backing->block_size);
	call->result = status;
	return 0;
}

static int handle_latencies(struct control_call *call, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device = &vmem->devices[0];

	call->result = json_object_new_object();
	json_object_object_add(call->result, "latencies_ns",
			       new_latencies(&device->dev));
	return 0;
}

static int handle_resize(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	uint64_t size;
	int ret;

	device = get_device(arg, call);
	if (!device)
		return -ENODEV;
	if (control_get_size(call, "size", &size)) {
		snprintf(call->message, sizeof(call->message),
			 "\"size\" is a number of bytes");
		return -EINVAL;
	}
	ret = vmem_device_set_requested(device, size, call->message,
					sizeof(call->message));
	if (ret == -EINPROGRESS)
		device->resize_token = call->token;
	return ret;
}

/* Where a page of a list begins: "start", a guest address, or the region's. */
static int get_start(const struct vmem_device *device,
		     struct control_call *call, uint64_t *start)
{
	*start = device->region.backing.gpa;
	if (control_get_size(call, "start", start) != -EINVAL)
		return 0;
	snprintf(call->message, sizeof(call->message),
		 "\"start\" is a guest address");
	return -EINVAL;
}

static void drop_slots(struct vmem_device *device)
{
	free(device->slots);
	device->slots = NULL;
	device->nr_slots = 0;
}

static int keep_slot(const struct vmem_nl_slot *slot, void *arg)
{
	struct vmem_device *device = arg;
	size_t nr = device->nr_slots;
	struct vmem_nl_slot *grown;

	/* Room doubles. */
	if (!(nr & (nr - 1))) {
		grown = reallocarray(device->slots, nr ? 2 * nr : 1,
				     sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		device->slots = grown;
	}
	device->slots[device->nr_slots++] = *slot;
	return 0;
}

static json_object *new_slot(const struct vmem_nl_slot *slot)
{
	json_object *object = json_object_new_object();

	add_size(object, "id", slot->id);
	add_size(object, "gpa", slot->gpa);
	add_size(object, "size", slot->size);
	add_size(object, "hva", slot->hva);
	add_size(object, "plugged_size", slot->plugged_size);
	add_bool(object, "stale", slot->stale);
	json_object_object_add(
		object, "metadata",
		new_metadata(slot->has_metadata, &slot->metadata));
	return object;
}

/*
 * The kernel is asked for the first page only, and what it said is kept until
 * the last one: to ask it for each would take a time that grows by the square.
 */
static int handle_slots(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	struct vmem_nl_error err;
	json_object *slots;
	uint64_t start;
	size_t i = 0;
	int ret;

	device = get_device(arg, call);
	if (!device)
		return -ENODEV;
	ret = get_start(device, call, &start);
	if (ret)
		return ret;
	if (!device->slots || start <= device->region.backing.gpa) {
		drop_slots(device);
		ret = vmem_nl_slot_dump(device->nl.read,
					VMEM_NL_BY_FD(device->region.fd),
					keep_slot, device, &err);
		if (ret) {
			drop_slots(device);
			snprintf(call->message, sizeof(call->message), "%s",
				 err.text);
			return ret;
		}
	}
	slots = json_object_new_array();
	call->result = json_object_new_object();
	json_object_object_add(call->result, "slots", slots);
	while (i < device->nr_slots && device->slots[i].gpa < start)
		i++;
	for (; i < device->nr_slots; i++) {
		if (json_object_array_length(slots) >= PAGE_MAX) {
			add_size(call->result, "next", device->slots[i].gpa);
			return 0;
		}
		json_object_array_add(slots, new_slot(&device->slots[i]));
	}
	drop_slots(device);
	return 0;
}

static int handle_blocks(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	const struct backing *backing;
	const struct blocks *plugged;
	json_object *runs;
	uint64_t start, at;
	int ret;

	device = get_device(arg, call);
	if (!device)
		return -ENODEV;
	backing = &device->region.backing;
	plugged = &backing->plugged;
	ret = get_start(device, call, &start);
	if (ret)
		return ret;
	at = start < backing->gpa
		     ? 0
		     : (start - backing->gpa) / backing->block_size;
	runs = json_object_new_array();
	call->result = json_object_new_object();
	add_size(call->result, "block_size", backing->block_size);
	json_object_object_add(call->result, "runs", runs);
	while ((at = blocks_next(plugged, at, true)) < plugged->nr) {
		uint64_t end = blocks_next(plugged, at, false);
		uint64_t gpa = backing->gpa + at * backing->block_size;
		json_object *run;

		if (json_object_array_length(runs) >= PAGE_MAX) {
			add_size(call->result, "next", gpa);
			break;
		}
		run = json_object_new_object();
		add_size(run, "gpa", gpa);
		add_size(run, "size", (end - at) * backing->block_size);
		json_object_array_add(runs, run);
		at = end;
	}
	return 0;
}

/*
 * A VMM whose vmemd has ended and was started again attaches its region again,
 * and need not know that the service manager has kept it.
 */
static int attach_again(struct vmem_device *device, struct control_call *call)
{
	struct vmem_nl_region state;

	if (vmem_nl_region_get(device->nl.read, VMEM_NL_BY_FD(call->fds[0]),
			       &state, NULL) ||
	    state.id != device->region.state.id) {
		snprintf(call->message, sizeof(call->message),
			 "there is another region already");
		return -EBUSY;
	}
	return 0;
}

static int handle_attach(struct control_call *call, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device = &vmem->devices[0];
	int region_fd, memory_fd, ret;

	if (call->nr_fds != 2) {
		snprintf(call->message, sizeof(call->message),
			 "two descriptors are needed, region and memory, "
			 "%zu came",
			 call->nr_fds);
		return -EINVAL;
	}
	if (device->attached) {
		ret = attach_again(device, call);
	} else {
		region_fd = call->fds[0];
		memory_fd = call->fds[1];
		call->fds[0] = -1;
		call->fds[1] = -1;
		ret = vmem_attach(vmem, device, region_fd, memory_fd,
				  call->message, sizeof(call->message));
		if (!ret) {
			notify_store(&vmem->notify, "region", region_fd);
			notify_store(&vmem->notify, "memory", memory_fd);
		}
	}
	if (ret)
		return ret;
	call->result = json_object_new_object();
	add_size(call->result, "region_id", device->region.state.id);
	return 0;
}

static json_object *new_event(void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device = &vmem->devices[0];
	json_object *event;

	if (!device->attached) {
		event = json_object_new_object();
		add_text(event, "event", "no-region");
		return event;
	}
	event = vmem_control_sizes(device);
	add_text(event, "event", "state");
	add_bool(event, "connected", vhost_user_connected(&device->vu));
	add_bool(event, "ready", vhost_user_driver_ready(&device->vu));
	add_text(event, "last_failure", device->dev.last_failure);
	add_bool(event, "given_back", device->dev.given_back);
	return event;
}

static int reached(uint64_t size, void *arg)
{
	const struct vmem *vmem = arg;
	const struct vmem_device *device = &vmem->devices[0];

	if (device->dev.requested_size != size)
		return -ECANCELED;
	return vmem_device_plugged_size(device) == size;
}

static int handle_subscribe(struct control_call *call, void *arg)
{
	struct vmem_device *device = get_device(arg, call);

	if (!device)
		return -ENODEV;
	return consumer_control_subscribe(call, &device->consumers);
}

static int handle_done(struct control_call *call,
		       void *arg __attribute__((unused)))
{
	return consumer_control_done(call);
}

static int handle_consumers(struct control_call *call, void *arg)
{
	struct vmem_device *device = get_device(arg, call);

	if (!device)
		return -ENODEV;
	call->result = json_object_new_object();
	json_object_object_add(call->result, "consumers",
			       consumer_control_list(&device->consumers));
	return 0;
}

static const struct control_method control_methods[] = {
	{"status", handle_status}, {"latencies", handle_latencies},
	{"resize", handle_resize}, {"slots", handle_slots},
	{"blocks", handle_blocks}, {"subscribe", handle_subscribe},
	{"done", handle_done},	   {"consumers", handle_consumers},
	{"attach", handle_attach}, {},
};

const struct control_ops vmem_control_ops = {
	.methods = control_methods,
	.event = new_event,
	.reached = reached,
};
