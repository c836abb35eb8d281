// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Methods and events of vmemd's control socket.
 *
 * Sizes are in bytes, and addresses are guest addresses. Unknown values are
 * null, not 0. vmemctl(1) is the client; its --json prints these objects
 * unchanged.
 *
 * The parameter "device" names the device of a call; it may be omitted if there
 * is only one. Answers include the device's name only if the command line names
 * devices.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_member.h"
#include "control/budget_methods.h"
#include "control/consumer_methods.h"
#include "control/methods.h"
#include "control/vmm_methods.h"

/* Device-specific feature bits, as opposed to the transport's. */
#define DEVICE_FEATURES ((1ULL << 24) - 1)

/* Maximum number of elements per page of "slots", "blocks" and "save". */
#define PAGE_MAX 256

/* Add the name of the device, if the command line names devices. */
static void add_device(json_object *object, const struct vmem_device *device)
{
	if (device->named)
		json_add_text(object, "device", device->name);
}

/* The sizes, for answers and events. */
json_object *methods_sizes(const struct vmem_device *device)
{
	json_object *object = json_object_new_object();

	add_device(object, device);
	json_add_size(object, "requested_size", device->dev.requested_size);
	json_add_size(object, "plugged_size", vmem_device_plugged_size(device));
	json_add_size(object, "usable_region_size",
		      device->dev.usable_region_size);
	json_add_size(object, "populated_slots",
		      vmem_device_populated_slots(device));
	return object;
}

static void add_held_since(json_object *object,
			   const struct vmem_device *device)
{
	if (device->dev.held && device->held_since)
		json_add_size(object, "held_since", device->held_since);
	else
		json_object_object_add(object, "held_since", NULL);
}

/* The state of a migration, for answers. */
json_object *methods_migration(const struct vmem_device *device)
{
	json_object *object = json_object_new_object();

	json_add_bool(object, "held", device->dev.held);
	add_held_since(object, device);
	json_add_bool(object, "dirty_log", device->region.state.dirty_log);
	return object;
}

/* Unknown metadata is null, not 0. */
static json_object *new_metadata(bool known,
				 const struct vmem_nl_metadata *metadata)
{
	json_object *object;

	if (!known)
		return NULL;
	object = json_object_new_object();
	json_add_size(object, "memslot", metadata->memslot);
	json_add_size(object, "rmap", metadata->rmap);
	json_add_size(object, "lpage_info", metadata->lpage_info);
	json_add_size(object, "gfn_track", metadata->gfn_track);
	json_add_size(object, "dirty_bitmap", metadata->dirty_bitmap);
	json_add_size(object, "total", metadata->total);
	return object;
}

/* The names of all devices for an error message, cut at its size. */
static const char *device_names(const struct vmem *vmem,
				char names[ERROR_TEXT_MAX])
{
	size_t at = 0;

	names[0] = '\0';
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		snprintf(names + at, ERROR_TEXT_MAX - at, "%s%s", i ? ", " : "",
			 vmem->devices[i].name);
		at = strlen(names);
	}
	return names;
}

/*
 * Find the device of a call: by "device", a name or an index. Without "device",
 * this is the only device, or NULL if there are several.
 */
static int find_device(struct vmem *vmem, struct control_call *call,
		       struct vmem_device **device)
{
	char names[ERROR_TEXT_MAX];
	json_object *value;
	const char *name;

	*device = vmem->nr_devices == 1 ? &vmem->devices[0] : NULL;
	if (!call->params ||
	    !json_object_object_get_ex(call->params, "device", &value))
		return 0;
	*device = NULL;
	name = json_object_get_string(value);
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%u", i);
		if (name && (!strcmp(name, vmem->devices[i].name) ||
			     !strcmp(name, number)))
			*device = &vmem->devices[i];
	}
	if (*device)
		return 0;
	return error_set(&call->error, -ENOENT,
			 "no device \"%.40s\"; there are: %s",
			 name ? name : "null", device_names(vmem, names));
}

/* Find the device of a call; with several devices, "device" is required. */
static int need_device(struct vmem *vmem, struct control_call *call,
		       struct vmem_device **device)
{
	char names[ERROR_TEXT_MAX];
	int ret;

	ret = find_device(vmem, call, device);
	if (ret)
		return ret;
	if (!*device) {
		error_set(&call->error, -EINVAL,
			  "\"device\" is needed, one of: %s",
			  device_names(vmem, names));
		return -EINVAL;
	}
	call->subject = (*device)->index;
	return 0;
}

/* The same for calls that need an attached region. */
static int need_region(struct vmem *vmem, struct control_call *call,
		       struct vmem_device **device)
{
	int ret;

	ret = need_device(vmem, call, device);
	if (ret || (*device)->attached)
		return ret;
	return error_set(&call->error, -ENODEV,
			 "no region yet: the VMM has not attached one");
}

static json_object *new_counters(const struct virtio_mem *dev)
{
	json_object *requests = json_object_new_object();

	for (int i = 0; i < VIRTIO_MEM_NR_REQUESTS; i++) {
		json_object *answers = json_object_new_object();

		for (int j = 0; j < VIRTIO_MEM_NR_ANSWERS; j++)
			json_add_size(answers, virtio_mem_answer_name(j),
				      dev->answers[i][j]);
		json_object_object_add(requests, virtio_mem_request_name(i),
				       answers);
	}
	return requests;
}

/* Bounds and sums are in nanoseconds; buckets are not cumulative. */
static json_object *new_latency(const struct latency *latency)
{
	json_object *object = json_object_new_object();
	json_object *buckets = json_object_new_array();

	for (size_t i = 0; i < LATENCY_NR_BUCKETS; i++) {
		json_object *bucket = json_object_new_object();

		json_add_size(bucket, "most", latency_bounds_ns[i]);
		json_add_size(bucket, "count", latency->buckets[i]);
		json_object_array_add(buckets, bucket);
	}
	json_object_object_add(object, "buckets", buckets);
	json_add_size(object, "count", latency->count);
	json_add_size(object, "sum", latency->sum_ns);
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

	json_add_bool(driver, "connected", vhost_user_connected(vu));
	json_add_bool(driver, "ready", vhost_user_driver_ready(vu));
	json_add_bool(driver, "broken", vu->vring.broken);
	json_add_size(driver, "features", vu->features);
	json_add_size(driver, "protocol_features", vu->protocol_features);
	json_add_size(driver, "status", vu->status);
	return driver;
}

/* Add the state of the memory; unknown values are omitted. */
static void add_memory(json_object *status, struct vmem_device *device)
{
	const struct memory *memory = device->dev.backing->memory;
	uint64_t resident;

	json_add_text(status, "memory", memory_kind_name(memory->kind));
	json_add_size(status, "page_size", memory->page_size);
	if (!vmem_device_resident(device, &resident))
		json_add_size(status, "resident_size", resident);
	json_add_size(status, "excess_size", device->excess.now);
	if (device->excess.has_cap)
		json_add_size(status, "unplugged_cap", device->excess.cap);
	json_add_size(status, "punches", device->excess.punches);
	json_add_size(status, "punched_size", device->excess.punched_size);
}

/* Add the state of device model and queue, which any backing has. */
static void add_model(json_object *status, const struct vmem_device *device)
{
	const struct virtio_mem *dev = &device->dev;

	/* All devices share the event loop and its statistics. */
	json_add_size(status, "longest_turn_ns", dev->work_done->most_ns);
	json_add_size(status, "longest_turn_steps", dev->work_done->most_steps);

	json_add_size(status, "usable_region_size", dev->usable_region_size);
	if (dev->has_node)
		json_add_size(status, "node", dev->node_id);
	json_object_object_add(status, "driver", new_driver(&device->vu));
	json_object_object_add(status, "requests", new_counters(dev));
	json_add_text(status, "last_failure", dev->last_failure.text);
	json_add_bool(status, "held", dev->held);
	add_held_since(status, device);
	json_add_bool(status, "given_back", dev->given_back);
	json_add_size(status, "undiscarded_size",
		      virtio_mem_undiscarded_size(dev));
}

/* Status of an attached device. Return: 0; an errno with a message. */
static int new_status(struct vmem_device *device, json_object **statusp,
		      struct control_call *call)
{
	struct vmem_nl_region state;
	json_object *status;
	int ret;

	if (!vmem_device_region(device)) {
		status = json_object_new_object();
		add_device(status, device);
		vmm_methods_status(device, status);
		add_memory(status, device);
		add_model(status, device);
		*statusp = status;
		return 0;
	}
	ret = vmem_nl_region_get(device->nl.read,
				 VMEM_NL_BY_FD(device->region.fd), &state,
				 &call->error);
	if (ret)
		return ret;
	status = json_object_new_object();
	add_device(status, device);
	json_add_size(status, "region_id", state.id);
	json_add_size(status, "gpa", state.gpa);
	json_add_size(status, "region_size", state.size);
	json_add_size(status, "block_size", state.block_size);
	json_add_size(status, "slot_size", state.slot_size);
	json_add_size(status, "requested_size", state.requested_size);
	json_add_size(status, "plugged_size", state.plugged_size);
	json_add_size(status, "nr_slots", state.nr_slots);
	json_add_size(status, "first_slot", state.first_slot);
	json_add_size(status, "populated_slots", state.populated_slots);
	json_add_size(status, "address_spaces", state.address_spaces);
	json_add_bool(status, "dirty_log", state.dirty_log);
	json_object_object_add(status, "budget", budget_methods_status(device));
	json_object_object_add(
		status, "metadata",
		new_metadata(state.has_metadata, &state.metadata));
	json_object_object_add(
		status, "whole_metadata",
		new_metadata(state.has_whole_metadata, &state.whole_metadata));
	/* Older modules do not count these. */
	if (state.has_zaps) {
		json_add_bool(status, "zap_ranges", state.zap_ranges);
		json_add_size(status, "range_zaps", state.range_zaps);
		json_add_size(status, "zaps_by_kvm", state.zaps_by_kvm);
	}
	add_memory(status, device);
	json_add_size(status, "map_size",
		      memory_map_size(&device->region.memory, state.gpa,
				      state.hva, state.slot_size));
	json_add_size(status, "map_size_wanted",
		      memory_map_wanted(&device->region.memory));
	json_add_bool(status, "prealloc", device->region.prealloc);
	json_add_size(status, "vmm_pid", state.pid);
	add_model(status, device);
	*statusp = status;
	return 0;
}

/* Status of all devices, including those without a region. */
static int new_all_status(struct vmem *vmem, struct control_call *call)
{
	json_object *all = json_object_new_array();
	json_object *status;
	int ret;

	call->result = json_object_new_object();
	json_object_object_add(call->result, "devices", all);
	for (unsigned int i = 0; i < vmem->nr_devices; i++) {
		struct vmem_device *device = &vmem->devices[i];

		if (device->attached) {
			ret = new_status(device, &status, call);
			if (ret)
				return ret;
		} else {
			status = json_object_new_object();
			add_device(status, device);
		}
		json_add_bool(status, "attached", device->attached);
		json_object_array_add(all, status);
	}
	return 0;
}

static int handle_status(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = find_device(arg, call, &device);
	if (ret)
		return ret;
	if (!device) {
		ret = new_all_status(arg, call);
	} else {
		ret = need_region(arg, call, &device);
		if (!ret)
			ret = new_status(device, &call->result, call);
	}
	if (!ret)
		json_add_text(call->result, "version", VMEM_VERSION);
	return ret;
}

static int handle_latencies(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_device(arg, call, &device);
	if (ret)
		return ret;
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

	ret = need_region(arg, call, &device);
	if (ret)
		return ret;
	if (control_get_size(call, "size", &size))
		return error_set(&call->error, -EINVAL,
				 "\"size\" is a number of bytes");
	ret = vmem_device_set_requested(device, size, &call->error);
	if (ret == -EINPROGRESS)
		return control_wait(call, &device->resize_token);
	if (!ret)
		call->result = methods_sizes(device);
	return ret;
}

/* Fails unless the front end maps the memory; see backing/vmm.c. */
static int handle_place(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	uint64_t gpa;
	int ret;

	ret = need_region(arg, call, &device);
	if (ret)
		return ret;
	if (control_get_size(call, "gpa", &gpa))
		return error_set(&call->error, -EINVAL,
				 "\"gpa\" is a guest address");
	ret = vmem_device_place(device, gpa, &call->error);
	if (ret)
		return ret;
	call->result = json_object_new_object();
	json_add_size(call->result, "gpa", gpa);
	json_add_bool(call->result, "asked_early", device->dev.asked_early);
	return 0;
}

static int handle_system_reset(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	bool force = false;
	int ret;

	ret = need_region(arg, call, &device);
	if (ret)
		return ret;
	if (json_get_bool(call->params, "force", &force) == -EINVAL)
		return error_set(&call->error, -EINVAL,
				 "\"force\" is true or false");
	ret = vmem_device_system_reset(device, force, &call->error);
	if (ret == -EINPROGRESS || (ret == -EALREADY && device->reset_token))
		return control_wait(call, &device->reset_token);
	if (!ret)
		call->result = methods_sizes(device);
	return ret;
}

/* Start of a page: guest address "start", or the start of the region. */
static int get_start(const struct vmem_device *device,
		     struct control_call *call, uint64_t *start)
{
	*start = device->dev.backing->gpa;
	if (control_get_size(call, "start", start) != -EINVAL)
		return 0;
	return error_set(&call->error, -EINVAL, "\"start\" is a guest address");
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

	if (nr >= device->region.state.nr_slots)
		return -EBADMSG;
	/* Double the array when its size is a power of two. */
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

	json_add_size(object, "id", slot->id);
	json_add_size(object, "gpa", slot->gpa);
	json_add_size(object, "size", slot->size);
	json_add_size(object, "hva", slot->hva);
	json_add_size(object, "plugged_size", slot->plugged_size);
	json_add_bool(object, "stale", slot->stale);
	json_object_object_add(
		object, "metadata",
		new_metadata(slot->has_metadata, &slot->metadata));
	return object;
}

/*
 * All memslots are read from the kernel for the first page and kept until the
 * last one. Reading them for each page would take quadratic time.
 */
static int handle_slots(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	json_object *slots;
	uint64_t start;
	size_t i = 0;
	int ret;

	ret = need_region(arg, call, &device);
	if (!ret)
		ret = get_start(device, call, &start);
	if (ret)
		return ret;
	if (!vmem_device_region(device)) {
		call->result = json_object_new_object();
		json_object_object_add(call->result, "slots",
				       vmm_methods_slots(device, start));
		return 0;
	}
	if (!device->slots || start <= device->region.backing.gpa) {
		drop_slots(device);
		ret = vmem_nl_slot_dump(device->nl.read,
					VMEM_NL_BY_FD(device->region.fd),
					keep_slot, device, &call->error);
		if (ret) {
			drop_slots(device);
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
			json_add_size(call->result, "next",
				      device->slots[i].gpa);
			return 0;
		}
		json_object_array_add(slots, new_slot(&device->slots[i]));
	}
	drop_slots(device);
	return 0;
}

/* Add a page of runs of plugged blocks, and the start of the next page. */
static void add_runs(json_object *result, const struct backing *backing,
		     uint64_t start)
{
	const struct blocks *plugged = &backing->plugged;
	json_object *runs = json_object_new_array();
	uint64_t at = 0;

	if (start > backing->gpa)
		at = (start - backing->gpa) / backing->block_size;
	json_object_object_add(result, "runs", runs);
	while ((at = blocks_next(plugged, at, true)) < plugged->nr) {
		uint64_t end = blocks_next(plugged, at, false);
		uint64_t gpa = backing->gpa + at * backing->block_size;
		json_object *run;

		if (json_object_array_length(runs) >= PAGE_MAX) {
			json_add_size(result, "next", gpa);
			break;
		}
		run = json_object_new_object();
		json_add_size(run, "gpa", gpa);
		json_add_size(run, "size", (end - at) * backing->block_size);
		json_object_array_add(runs, run);
		at = end;
	}
}

static int handle_blocks(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	uint64_t start;
	int ret;

	ret = need_region(arg, call, &device);
	if (ret)
		return ret;
	ret = get_start(device, call, &start);
	if (ret)
		return ret;
	call->result = json_object_new_object();
	json_add_size(call->result, "block_size",
		      device->dev.backing->block_size);
	add_runs(call->result, device->dev.backing, start);
	return 0;
}

/* Get the required parameter "on". Return: 0; -EINVAL with a message. */
static int get_on(struct control_call *call, bool *on)
{
	if (!json_get_bool(call->params, "on", on))
		return 0;
	return error_set(&call->error, -EINVAL, "\"on\" is true or false");
}

/* The same for calls that need a region in the kernel. */
static int need_kernel_region(struct vmem *vmem, struct control_call *call,
			      struct vmem_device **device)
{
	int ret = need_region(vmem, call, device);

	if (ret || vmem_device_region(*device))
		return ret;
	return error_set(&call->error, -EOPNOTSUPP, "not with --backing vmm");
}

/* Waiting calls with the same value get the same answer. */
static int handle_dirty_log(struct control_call *call, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device;
	uint64_t token;
	bool on;
	int ret;

	ret = need_kernel_region(vmem, call, &device);
	if (ret)
		return ret;
	ret = get_on(call, &on);
	if (ret)
		return ret;
	token = device->log_token;
	if (token && device->log_on != on) {
		device->log_token = 0;
		control_answer(&vmem->control, token, -ECANCELED, NULL,
			       "another value was requested meanwhile");
	}
	device->log_on = on;
	ret = vmem_device_set_dirty_log(device, on, &call->error);
	if (ret == -EINPROGRESS)
		return control_wait(call, &device->log_token);
	return ret;
}

/* "hold" is answered once no request of the guest is in progress. */
static int handle_hold(struct control_call *call, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device;
	uint64_t token;
	bool on;
	int ret;

	ret = need_region(vmem, call, &device);
	if (ret)
		return ret;
	ret = get_on(call, &on);
	if (ret)
		return ret;
	vmem_device_hold(device, on);
	if (on && virtio_mem_busy(&device->dev))
		return control_wait(call, &device->hold_token);
	token = device->hold_token;
	device->hold_token = 0;
	if (token)
		control_answer(&vmem->control, token, -ECANCELED, NULL,
			       "the hold was ended before it was complete");
	call->result = methods_migration(device);
	return 0;
}

/* State that a driver relies on, see common/save.h; runs follow in pages. */
static void add_saved(json_object *result, const struct vmem_device *device)
{
	const struct virtio_mem *dev = &device->dev;
	const struct backing *backing = &device->region.backing;

	json_add_size(result, "gpa", backing->gpa);
	json_add_size(result, "region_size", backing->size);
	json_add_size(result, "block_size", backing->block_size);
	json_add_size(result, "usable_region_size", dev->usable_region_size);
	json_add_size(result, "requested_size", dev->requested_size);
	json_add_size(result, "features",
		      virtio_mem_features(dev) & DEVICE_FEATURES);
	json_add_size(result, "node", dev->has_node ? dev->node_id : 0);
}

/* A page of the saved state. Return: 0; an errno with @err set. */
static int save_page(struct vmem_device *device, uint64_t start,
		     json_object **result, struct error *err)
{
	struct backing *backing = &device->region.backing;
	int ret;

	if (start <= backing->gpa) {
		ret = backing_verify(device->dev.backing);
		if (ret < 0)
			return error_set(err, ret, "%s", backing->error.text);
	}
	*result = json_object_new_object();
	add_saved(*result, device);
	json_add_size(*result, "changes", device->region.changes);
	add_runs(*result, backing, start);
	return 0;
}

/*
 * Save a consistent state: the first page verifies the blocks with the kernel,
 * and all pages have the change count. If the count differs between two pages,
 * the client starts again. The first page waits for the end of a request of the
 * guest.
 */
static int handle_save(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	uint64_t start;
	int ret;

	ret = need_kernel_region(arg, call, &device);
	if (ret)
		return ret;
	ret = get_start(device, call, &start);
	if (ret)
		return ret;
	if (start <= device->region.backing.gpa &&
	    virtio_mem_busy(&device->dev))
		return control_wait(call, &device->save_token);
	return save_page(device, start, &call->result, &call->error);
}

/**
 * methods_answer_save() - answer clients whose "save" waits for a request
 * @vmem: the daemon
 * @device: the device; does nothing while a request is in progress
 */
void methods_answer_save(struct vmem *vmem, struct vmem_device *device)
{
	uint64_t token = device->save_token;
	json_object *result = NULL;
	struct error err = {0};
	int ret;

	if (!token || !device->attached || virtio_mem_busy(&device->dev))
		return;
	device->save_token = 0;
	ret = save_page(device, device->region.backing.gpa, &result, &err);
	control_answer(&vmem->control, token, ret, result, err.text);
}

/*
 * After a restart of vmemd, a VMM attaches its region again. It does not know
 * that the service manager has kept the region, so this succeeds.
 */
static int attach_again(struct vmem *vmem, struct vmem_device *device,
			struct control_call *call)
{
	if (daemon_device_of_region(vmem, device->nl.read, call->fds[0]) ==
	    device)
		return 0;
	return error_set(&call->error, -EBUSY,
			 "there is another region already");
}

static int handle_attach(struct control_call *call, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device;
	char name[PASSED_FD_NAME_MAX];
	int region_fd, memory_fd, ret;

	ret = need_device(vmem, call, &device);
	if (ret)
		return ret;
	if (call->nr_fds != 2)
		return error_set(
			&call->error, -EINVAL,
			"two descriptors are needed, region and memory, "
			"%zu came",
			call->nr_fds);
	if (!vmem_device_region(device)) {
		return error_set(
			&call->error, -EOPNOTSUPP,
			"with --backing vmm vmemd makes the memory itself");
	}
	if (device->attached) {
		ret = attach_again(vmem, device, call);
	} else {
		ret = budget_methods_attach(call, vmem, device, call->fds[0]);
		if (ret)
			return ret;
		region_fd = call->fds[0];
		memory_fd = call->fds[1];
		call->fds[0] = -1;
		call->fds[1] = -1;
		ret = daemon_attach(vmem, device, region_fd, memory_fd,
				    &call->error);
		if (!ret) {
			/* In this order: see passed_fds.c. */
			notify_store(
				&vmem->notify,
				passed_fd_name(device->options, "memory", name),
				memory_fd);
			notify_store(
				&vmem->notify,
				passed_fd_name(device->options, "region", name),
				region_fd);
		}
	}
	if (ret)
		return ret;
	call->result = json_object_new_object();
	json_add_size(call->result, "region_id", device->region.state.id);
	return 0;
}

static unsigned int nr_subjects(void *arg)
{
	const struct vmem *vmem = arg;

	return vmem->nr_devices;
}

static int handle_watch(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = find_device(arg, call, &device);
	if (!ret)
		call->subject = device ? device->index : CONTROL_ALL_SUBJECTS;
	return ret;
}

static json_object *new_event(unsigned int subject, void *arg)
{
	struct vmem *vmem = arg;
	struct vmem_device *device = &vmem->devices[subject];
	json_object *event;

	if (!device->attached) {
		event = json_object_new_object();
		add_device(event, device);
		json_add_text(event, "event", "no-region");
		return event;
	}
	event = methods_sizes(device);
	json_add_text(event, "event", "state");
	json_add_bool(event, "connected", vhost_user_connected(&device->vu));
	json_add_bool(event, "ready", vhost_user_driver_ready(&device->vu));
	json_add_text(event, "last_failure", device->dev.last_failure.text);
	json_add_bool(event, "given_back", device->dev.given_back);
	json_add_bool(event, "state_lost", virtio_mem_lost(&device->dev));
	return event;
}

static int reached(unsigned int subject, uint64_t size, void *arg)
{
	const struct vmem *vmem = arg;
	const struct vmem_device *device = &vmem->devices[subject];

	if (device->dev.requested_size != size)
		return -ECANCELED;
	return vmem_device_plugged_size(device) == size;
}

/* The same for calls about consumers, which need a region in the kernel. */
static int need_consumers(struct vmem *vmem, struct control_call *call,
			  struct vmem_device **device)
{
	int ret = need_region(vmem, call, device);

	if (ret || vmem_device_region(*device))
		return ret;
	return error_set(
		&call->error, -EOPNOTSUPP,
		"with --backing vmm, the VMM informs its devices itself");
}

static int handle_subscribe(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_consumers(arg, call, &device);
	return ret ? ret
		   : consumer_methods_subscribe(
			     call, &device->consumers,
			     budget_methods_others(arg, device),
			     vmem_device_promised_size(device));
}

static int handle_unsubscribe(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_consumers(arg, call, &device);
	return ret ? ret
		   : consumer_methods_unsubscribe(call, &device->consumers);
}

static int handle_forget_consumer(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_consumers(arg, call, &device);
	return ret ? ret : consumer_methods_forget(call, &device->consumers);
}

static int handle_done(struct control_call *call,
		       void *arg __attribute__((unused)))
{
	return consumer_methods_done(call);
}

static int handle_consumers(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_region(arg, call, &device);
	if (ret)
		return ret;
	call->result = json_object_new_object();
	json_object_object_add(call->result, "consumers",
			       consumer_methods_list(&device->consumers));
	return 0;
}

static int handle_plan(struct control_call *call, void *arg)
{
	struct vmem_device *device;
	int ret;

	ret = need_device(arg, call, &device);
	return ret ? ret : budget_methods_plan(call, arg, device);
}

static const struct control_method control_methods[] = {
	{.name = "plan", .handle = handle_plan},
	{.name = "status", .handle = handle_status},
	{.name = "latencies", .handle = handle_latencies},
	{.name = "resize", .handle = handle_resize},
	{.name = "place", .handle = handle_place},
	{.name = "system-reset", .handle = handle_system_reset},
	{.name = "slots", .handle = handle_slots},
	{.name = "blocks", .handle = handle_blocks},
	{.name = "save", .handle = handle_save},
	{.name = "hold", .handle = handle_hold},
	{.name = "dirty-log", .handle = handle_dirty_log},
	{.name = "subscribe", .handle = handle_subscribe},
	{.name = "done", .handle = handle_done},
	{.name = "consumers", .handle = handle_consumers},
	{.name = "unsubscribe", .handle = handle_unsubscribe},
	{.name = "forget-consumer", .handle = handle_forget_consumer},
	{.name = "attach", .handle = handle_attach, .takes_fds = true},
	{},
};

const struct control_ops methods_ops = {
	.methods = control_methods,
	.nr_subjects = nr_subjects,
	.watch = handle_watch,
	.event = new_event,
	.reached = reached,
};
