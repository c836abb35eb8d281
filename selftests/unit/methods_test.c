// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The answers of the control methods about a device, member by member: a
 * monitor relies on each of them. The module is the fuzzers' model;
 * vmemd_test.c of the kselftests uses the real module.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/methods.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_module.h"
#include "manager.h"
#include "unit.h"

#define BLOCK FUZZ_MODULE_BLOCK
#define GPA   FUZZ_MODULE_GPA

/* Number of runs in an answer, see methods.c. */
#define PAGE 256

/**
 * struct fixture - a daemon with a device
 * @call: the last call, whose result belongs to the fixture
 */
struct fixture {
	struct vmem *vmem;
	struct vmem_device *device;
	struct control_call call;
};

static void nothing(struct vmem_device *device, void *arg)
{
	(void)device;
	(void)arg;
}

static const struct vmem_device_ops ops = {.changed = nothing};

static struct fixture *new_fixture(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->vmem = calloc(1, sizeof(*f->vmem));
	assert_non_null(f->vmem);
	f->device = &f->vmem->devices[0];
	f->vmem->nr_devices = 1;
	assert_true(sd_event_new(&f->vmem->event) >= 0);
	return f;
}

static void open_device(struct fixture *f)
{
	struct vmem *vmem = f->vmem;

	vmem_device_init(f->device, 0, false, &vmem->options.devices[0],
			 &vmem->access, &ops, f);
	assert_int_equal(vmem_device_open(f->device, vmem->event, -1, -1), 0);
}

/* A device with a region of the model. */
static int set_up(void **state)
{
	struct fixture *f = new_fixture();
	int memory = memfd_create("methods-test", MFD_CLOEXEC);
	struct error err;

	assert_int_equal(ftruncate(memory, FUZZ_MODULE_SIZE), 0);
	fuzz_module_start();
	open_device(f);
	if (vmem_device_attach(f->device, dup(fuzz_module_region()), memory,
			       &err))
		fail_msg("%s", err.text);
	*state = f;
	return 0;
}

static int tear_down_vmm(void **state)
{
	struct fixture *f = *state;

	json_object_put(f->call.result);
	vmem_device_close(f->device);
	guest_access_stop(&f->vmem->access);
	sd_event_unref(f->vmem->event);
	free(f->vmem);
	free(f);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	struct vmem_device *device = f->device;

	vmem_device_close(device);
	assert_null(device->region_source);
	assert_null(device->work_again_source);
	assert_null(device->excess_source);
	assert_null(device->slots);
	tear_down_vmm(state);
	fuzz_module_stop();
	return 0;
}

/* A device whose memory a front end maps. */
static int set_up_vmm(void **state)
{
	struct fixture *f = new_fixture();
	struct error err;

	f->vmem->options.devices[0] = (struct device_options){
		.vmm = true,
		.region_size = GIB,
		.block_size = BLOCK,
		.slot_size = 128 * MIB,
		.gpa = GPA,
	};
	open_device(f);
	if (vmem_device_attach_vmm(f->device, vmm_make_file("memory"),
				   vmm_make_file("state"), &err))
		fail_msg("%s", err.text);
	*state = f;
	return 0;
}

/* @params: JSON; NULL: none */
static int call(struct fixture *f, const char *name, const char *params)
{
	const struct control_method *method = methods_ops.methods;
	int ret;

	while (method->name && strcmp(method->name, name))
		method++;
	assert_non_null(method->name);
	json_object_put(f->call.result);
	f->call.result = NULL;
	f->call.params = params ? json_tokener_parse(params) : NULL;
	ret = method->handle(&f->call, f->vmem);
	json_object_put(f->call.params);
	return ret;
}

/* Call a method, and find the member @name of the result. */
static json_object *member_of(struct fixture *f, const char *method,
			      const char *params, const char *name)
{
	json_object *value;

	if (call(f, method, params))
		fail_msg("%s: %s", method, f->call.error.text);
	if (!json_object_object_get_ex(f->call.result, name, &value))
		fail_msg("%s: no \"%s\"", method, name);
	return value;
}

static void assert_json(json_object *object, const char *text)
{
	json_object *wanted = json_tokener_parse(text), *is;

	assert_non_null(wanted);
	/* A message has not the space for a whole status. */
	if (json_object_is_type(wanted, json_type_object)) {
		json_object_object_foreach(wanted, name, value)
		{
			is = NULL;
			json_object_object_get_ex(object, name, &is);
			if (!json_object_equal(is, value))
				fail_msg("\"%s\" is %s", name,
					 json_object_to_json_string(is));
		}
	}
	if (!json_object_equal(object, wanted))
		fail_msg("%s is not %s", json_object_to_json_string(object),
			 text);
	json_object_put(wanted);
}

static void plug(struct fixture *f, uint64_t first, uint64_t nr)
{
	assert_int_equal(backing_plug(f->device->dev.backing,
				      GPA + first * BLOCK, nr * BLOCK),
			 0);
}

/* Give what the model of the device counts values that all differ. */
static void set_values(struct vmem_device *device)
{
	struct virtio_mem *dev = &device->dev;
	uint64_t value = 1000;

	for (int i = 0; i < VIRTIO_MEM_NR_REQUESTS; i++)
		for (int j = 0; j < VIRTIO_MEM_NR_ANSWERS; j++)
			dev->answers[i][j] = value++;
	dev->work_done->most_ns = 2001;
	dev->work_done->most_steps = 2002;
	dev->has_node = true;
	dev->node_id = 3;
	dev->usable_region_size = 9 * BLOCK;
	dev->requested_size = 8 * BLOCK;
	dev->given_back = true;
	strcpy(dev->last_failure.text, "no huge pages");
	device->excess.has_cap = true;
	device->excess.cap = 2 * GIB;
	device->excess.punches = 2005;
	device->excess.punched_size = 2006;
	device->vu.features = 2007;
	device->vu.protocol_features = 2008;
	device->vu.status = 15;
	device->vu.vring.broken = true;
	/* One block is owed, others are not expected to have memory. */
	dev->sweep = dev->backing->plugged.nr;
	blocks_set(&dev->backing->owed, 40, 1);
	assert_int_equal(
		posix_fallocate(dev->backing->memory->fd, 0, 8 * BLOCK), 0);
}

/* Remove a member that depends on the host. */
static void take_out(json_object *object, const char *name)
{
	if (!json_object_object_get_ex(object, name, NULL))
		fail_msg("no \"%s\"", name);
	json_object_object_del(object, name);
}

#define MODEL                                                                                                \
	"\"memory\":\"shmem\",\"page_size\":4096,"                                                           \
	"\"resident_size\":524288,\"undiscarded_size\":65536,\"unplugged_cap\":2147483648,\"punches\":2005," \
	"\"punched_size\":2006,\"longest_turn_ns\":2001,"                                                    \
	"\"longest_turn_steps\":2002,\"usable_region_size\":589824,"                                         \
	"\"node\":3,\"driver\":{\"connected\":false,\"ready\":false,"                                        \
	"\"broken\":true,\"features\":2007,\"protocol_features\":2008,"                                      \
	"\"status\":15},\"requests\":{"                                                                      \
	"\"plug\":{\"ack\":1000,\"nack\":1001,\"busy\":1002,"                                                \
	"\"error\":1003},"                                                                                   \
	"\"unplug\":{\"ack\":1004,\"nack\":1005,\"busy\":1006,"                                              \
	"\"error\":1007},"                                                                                   \
	"\"unplug_all\":{\"ack\":1008,\"nack\":1009,\"busy\":1010,"                                          \
	"\"error\":1011},"                                                                                   \
	"\"state\":{\"ack\":1012,\"nack\":1013,\"busy\":1014,"                                               \
	"\"error\":1015}},"                                                                                  \
	"\"last_failure\":\"no huge pages\",\"held\":false,"                                                 \
	"\"held_since\":null,\"given_back\":true"

static void the_status_of_a_region(void **state)
{
	struct fixture *f = *state;

	plug(f, 2, 3);
	plug(f, 20, 1);
	set_values(f->device);
	f->device->budget.slot_size = 4001;
	f->device->budget.nr_slots = 4002;
	f->device->budget.metadata = 4003;
	f->device->budget.metadata_nested = 4004;
	assert_int_equal(call(f, "status", NULL), 0);
	take_out(f->call.result, "version");
	take_out(f->call.result, "map_size");
	take_out(f->call.result, "map_size_wanted");
	/* The requested size is the kernel's. */
	assert_json(
		f->call.result,
		"{\"region_id\":1,\"gpa\":8589934592,\"region_size\":4194304,"
		"\"block_size\":65536,\"slot_size\":524288,"
		"\"requested_size\":0,\"plugged_size\":262144,"
		"\"nr_slots\":8,\"first_slot\":10,\"populated_slots\":2,"
		"\"address_spaces\":1,\"dirty_log\":false,"
		"\"budget\":{\"slot_size\":4001,\"nr_slots\":4002,"
		"\"reason\":\"as the VMM created the region\","
		"\"metadata\":4003,\"metadata_nested\":4004},"
		"\"metadata\":{\"memslot\":100,\"rmap\":101,"
		"\"lpage_info\":102,\"gfn_track\":103,"
		"\"dirty_bitmap\":104,\"total\":105},"
		"\"whole_metadata\":{\"memslot\":200,\"rmap\":201,"
		"\"lpage_info\":202,\"gfn_track\":203,"
		"\"dirty_bitmap\":204,\"total\":205},"
		"\"zap_ranges\":true,\"range_zaps\":3,\"zaps_by_kvm\":4,"
		"\"prealloc\":false,\"vmm_pid\":77," MODEL
		",\"excess_size\":196608}");
}

static void the_status_of_a_front_ends_memory(void **state)
{
	struct fixture *f = *state;

	set_values(f->device);
	blocks_set(&f->device->dev.backing->plugged, 3, 2);
	f->device->vmm_backing.slots[1].mapped = true;
	f->device->dev.asked_early = true;
	assert_int_equal(call(f, "status", NULL), 0);
	take_out(f->call.result, "version");
	assert_json(f->call.result,
		    "{\"backing\":\"vmm\",\"gpa\":8589934592,"
		    "\"asked_early\":true,\"state_lost\":false,"
		    "\"region_size\":1073741824,\"block_size\":65536,"
		    "\"slot_size\":134217728,\"requested_size\":524288,"
		    "\"plugged_size\":131072,\"nr_slots\":3,"
		    "\"populated_slots\":1,\"metadata\":null,"
		    "\"whole_metadata\":null,\"vmm_pid\":0," MODEL
		    ",\"excess_size\":327680}");
	/* A region without a place has no address. */
	f->device->vmm_backing.backing.placed = false;
	assert_null(member_of(f, "status", NULL, "gpa"));
}

#define SLOT_10                                                      \
	"{\"id\":10,\"gpa\":8589934592,\"size\":524288,"             \
	"\"hva\":8589934592,\"plugged_size\":196608,\"stale\":true," \
	"\"metadata\":null}"
#define SLOT_12                                                      \
	"{\"id\":12,\"gpa\":8590983168,\"size\":524288,"             \
	"\"hva\":8590983168,\"plugged_size\":65536,\"stale\":false," \
	"\"metadata\":{\"memslot\":2,\"rmap\":3,\"lpage_info\":4,"   \
	"\"gfn_track\":5,\"dirty_bitmap\":6,\"total\":7}}"

static void memslots_are_listed_from_an_address_on(void **state)
{
	struct fixture *f = *state;

	assert_json(member_of(f, "slots", NULL, "slots"), "[]");
	plug(f, 2, 3);
	plug(f, 20, 1);
	assert_json(member_of(f, "slots", NULL, "slots"),
		    "[" SLOT_10 "," SLOT_12 "]");
	assert_json(member_of(f, "slots", "{\"start\":8590983168}", "slots"),
		    "[" SLOT_12 "]");
	assert_json(member_of(f, "slots", "{\"start\":8590983169}", "slots"),
		    "[]");
	assert_null(f->device->slots);
	fuzz_module_set(FUZZ_MODULE_READS | 1);
	assert_int_equal(call(f, "slots", NULL), -ENOMEM);
	assert_null(f->device->slots);
}

static void mappings_are_listed_from_an_address_on(void **state)
{
	struct fixture *f = *state;
	struct vmm_slot *slots = f->device->vmm_backing.slots;

	assert_json(member_of(f, "slots", NULL, "slots"), "[]");
	slots[0].mapped = true;
	slots[2].mapped = true;
	blocks_set(&f->device->dev.backing->plugged, 3, 2);
	assert_json(member_of(f, "slots", NULL, "slots"),
		    "[{\"id\":null,\"gpa\":8589934592,\"size\":134217728,"
		    "\"plugged_size\":131072,\"metadata\":null},"
		    "{\"id\":null,\"gpa\":9126805504,\"size\":536870912,"
		    "\"plugged_size\":0,\"metadata\":null}]");
	assert_json(member_of(f, "slots", "{\"start\":9126805504}", "slots"),
		    "[{\"id\":null,\"gpa\":9126805504,\"size\":536870912,"
		    "\"plugged_size\":0,\"metadata\":null}]");
}

#define RUN_2  "{\"gpa\":8590065664,\"size\":196608}"
#define RUN_20 "{\"gpa\":8591245312,\"size\":65536}"

static void runs_are_listed_from_an_address_on(void **state)
{
	struct fixture *f = *state;

	assert_json(member_of(f, "blocks", NULL, "runs"), "[]");
	plug(f, 2, 3);
	plug(f, 20, 1);
	assert_json(member_of(f, "blocks", NULL, "runs"),
		    "[" RUN_2 "," RUN_20 "]");
	assert_json(f->call.result,
		    "{\"block_size\":65536,\"runs\":[" RUN_2 "," RUN_20 "]}");
	/* In the middle of a run. */
	assert_json(member_of(f, "blocks", "{\"start\":8590131200}", "runs"),
		    "[{\"gpa\":8590131200,\"size\":131072}," RUN_20 "]");
	/* The region has no block there. */
	assert_json(member_of(f, "blocks", "{\"start\":1}", "runs"),
		    "[" RUN_2 "," RUN_20 "]");
	assert_json(member_of(f, "blocks", "{\"start\":8594128896}", "runs"),
		    "[]");
}

static void long_lists_have_pages(void **state)
{
	struct fixture *f = *state;
	struct blocks *plugged = &f->device->dev.backing->plugged;
	char start[64];

	for (uint64_t i = 0; i < PAGE; i++)
		blocks_set(plugged, 2 * i, 1);
	assert_int_equal(
		json_object_array_length(member_of(f, "blocks", NULL, "runs")),
		PAGE);
	assert_false(json_object_object_get_ex(f->call.result, "next", NULL));
	blocks_set(plugged, 2 * PAGE, 1);
	assert_int_equal(
		json_object_get_uint64(member_of(f, "blocks", NULL, "next")),
		GPA + 2 * PAGE * BLOCK);
	assert_int_equal(
		json_object_array_length(member_of(f, "blocks", NULL, "runs")),
		PAGE);
	snprintf(start, sizeof(start), "{\"start\":%llu}",
		 (unsigned long long)(GPA + 2 * PAGE * BLOCK));
	assert_int_equal(
		json_object_array_length(member_of(f, "blocks", start, "runs")),
		1);
	assert_false(json_object_object_get_ex(f->call.result, "next", NULL));
}

static void a_saved_state_has_what_the_driver_relies_on(void **state)
{
	struct fixture *f = *state;

	plug(f, 2, 3);
	set_values(f->device);
	assert_int_equal(call(f, "save", NULL), 0);
	/* All features of the device, none of the transport. */
	assert_json(f->call.result,
		    "{\"gpa\":8589934592,\"region_size\":4194304,"
		    "\"block_size\":65536,\"usable_region_size\":589824,"
		    "\"requested_size\":524288,\"features\":7,\"node\":3,"
		    "\"changes\":1,\"runs\":[" RUN_2 "]}");
	f->device->dev.has_node = false;
	assert_int_equal(
		json_object_get_uint64(member_of(f, "save", NULL, "node")), 0);
	/* The first page finds what others have plugged. */
	fuzz_module_others(20, 1, true);
	assert_json(member_of(f, "save", "{\"start\":8590983168}", "runs"),
		    "[]");
	assert_json(member_of(f, "save", NULL, "runs"),
		    "[" RUN_2 "," RUN_20 "]");
	fuzz_module_others(21, 1, true);
	fuzz_module_set(FUZZ_MODULE_READS | 1);
	assert_int_equal(call(f, "save", NULL), -ENOMEM);
	fuzz_module_set(0);
}

static void take_line(int fd, char *line, size_t size)
{
	ssize_t got = recv(fd, line, size - 1, MSG_DONTWAIT);

	line[got > 0 ? got : 0] = '\0';
}

/* A request of the guest waits for the kernel, or has ended. */
static void set_busy(struct fixture *f, bool busy)
{
	f->device->dev.current = (struct virtio_mem_current){
		.active = busy,
		.step = VIRTIO_MEM_CHANGING,
	};
}

/* A state is not saved in the middle of a request, and nobody is refused. */
static void a_save_waits_for_the_guests_request(void **state)
{
	static const char first[] = "{\"id\":1,\"method\":\"save\"}\n";
	static const char later[] = "{\"id\":2,\"method\":\"save\","
				    "\"params\":{\"start\":8590983168}}\n";
	struct fixture *f = *state;
	struct vmem *vmem = f->vmem;
	char line[4096];
	int fds[2][2];

	control_init(&vmem->control, vmem->event, &methods_ops, vmem);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					    0, fds[i]),
				 0);
		assert_int_equal(control_add_client(&vmem->control, fds[i][1]),
				 0);
	}
	set_busy(f, true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(send(fds[i][0], first, strlen(first), 0),
				 strlen(first));
	while (sd_event_run(vmem->event, 0) > 0)
		methods_answer_save(vmem, f->device);
	for (int i = 0; i < 2; i++) {
		take_line(fds[i][0], line, sizeof(line));
		assert_string_equal(line, "");
	}
	fuzz_module_others(20, 1, true);
	set_busy(f, false);
	methods_answer_save(vmem, f->device);
	for (int i = 0; i < 2; i++) {
		take_line(fds[i][0], line, sizeof(line));
		assert_non_null(strstr(line, "\"result\""));
		assert_non_null(strstr(line, RUN_20));
	}
	assert_int_equal(f->device->save_token, 0);
	/* A later page has the state that the first one has verified. */
	set_busy(f, true);
	assert_int_equal(send(fds[0][0], later, strlen(later), 0),
			 strlen(later));
	while (sd_event_run(vmem->event, 0) > 0)
		;
	take_line(fds[0][0], line, sizeof(line));
	assert_non_null(strstr(line, RUN_20));
	set_busy(f, false);
	/* The reason of a failure is told. */
	set_busy(f, true);
	assert_int_equal(send(fds[0][0], first, strlen(first), 0),
			 strlen(first));
	while (sd_event_run(vmem->event, 0) > 0)
		;
	set_busy(f, false);
	fuzz_module_set(FUZZ_MODULE_READS | 1);
	methods_answer_save(vmem, f->device);
	fuzz_module_set(0);
	take_line(fds[0][0], line, sizeof(line));
	assert_non_null(strstr(line, "ENOMEM"));
	control_stop(&vmem->control);
	close(fds[0][0]);
	close(fds[1][0]);
}

static void a_hold_is_counted_from_its_start(void **state)
{
	struct fixture *f = *state;

	assert_json(member_of(f, "hold", "{\"on\":true}", "held"), "true");
	assert_true(json_object_get_uint64(member_of(f, "hold", "{\"on\":true}",
						     "held_since")) > 0);
	assert_int_equal(call(f, "hold", "{\"on\":false}"), 0);
	assert_json(f->call.result, "{\"held\":false,\"held_since\":null,"
				    "\"dirty_log\":false}");
	/* The time may be unknown. */
	f->device->dev.held = true;
	assert_null(member_of(f, "status", NULL, "held_since"));
	f->device->region.state.dirty_log = true;
	assert_json(member_of(f, "hold", "{\"on\":false}", "dirty_log"),
		    "true");
}

static void latencies_have_their_bounds(void **state)
{
	struct fixture *f = *state;
	struct latency *plugs = &f->device->dev.latencies[VIRTIO_MEM_PLUG];
	json_object *plug, *buckets, *value;

	plugs->count = 5;
	plugs->sum_ns = 6;
	plugs->buckets[1] = 7;
	value = member_of(f, "latencies", NULL, "latencies_ns");
	assert_int_equal(json_object_object_length(value),
			 VIRTIO_MEM_NR_REQUESTS);
	assert_true(json_object_object_get_ex(value, "plug", &plug));
	assert_true(json_object_object_get_ex(plug, "count", &value));
	assert_int_equal(json_object_get_uint64(value), 5);
	assert_true(json_object_object_get_ex(plug, "sum", &value));
	assert_int_equal(json_object_get_uint64(value), 6);
	assert_true(json_object_object_get_ex(plug, "buckets", &buckets));
	assert_int_equal(json_object_array_length(buckets), LATENCY_NR_BUCKETS);
	for (size_t i = 0; i < LATENCY_NR_BUCKETS; i++) {
		char bucket[64];

		snprintf(bucket, sizeof(bucket), "{\"most\":%llu,\"count\":%d}",
			 (unsigned long long)latency_bounds_ns[i],
			 i == 1 ? 7 : 0);
		assert_json(json_object_array_get_idx(buckets, i), bucket);
	}
}

static void assert_event(struct fixture *f, const char *text)
{
	json_object *event = methods_ops.event(0, f->vmem);

	assert_json(event, text);
	json_object_put(event);
}

static void an_event_has_the_state(void **state)
{
	struct fixture *f = *state;

	plug(f, 2, 3);
	set_values(f->device);
	assert_event(f, "{\"event\":\"state\",\"requested_size\":524288,"
			"\"plugged_size\":196608,"
			"\"usable_region_size\":589824,\"populated_slots\":1,"
			"\"connected\":false,\"ready\":false,"
			"\"last_failure\":\"no huge pages\","
			"\"given_back\":true,\"state_lost\":false}");
	assert_int_equal(methods_ops.nr_subjects(f->vmem), 1);
	/* A resize has an end: at the size, or at another request. */
	assert_int_equal(methods_ops.reached(0, 8 * BLOCK, f->vmem), 0);
	assert_int_equal(methods_ops.reached(0, 3 * BLOCK, f->vmem),
			 -ECANCELED);
	f->device->dev.requested_size = 3 * BLOCK;
	assert_int_equal(methods_ops.reached(0, 3 * BLOCK, f->vmem), 1);
	f->device->attached = false;
	f->device->named = true;
	assert_event(f, "{\"device\":\"0\",\"event\":\"no-region\"}");
	f->device->attached = true;
}

/* A refused call has an error and a reason, and changes nothing. */
static void assert_refused(struct fixture *f, const char *method,
			   const char *params, int error, const char *why)
{
	f->call.error.text[0] = '\0';
	assert_int_equal(call(f, method, params), error);
	assert_null(f->call.result);
	if (!strstr(f->call.error.text, why))
		fail_msg("%s: \"%s\" does not say \"%s\"", method,
			 f->call.error.text, why);
}

static void bad_parameters_are_refused(void **state)
{
	static const struct {
		const char *method;
		const char *params;
		const char *why;
	} bad[] = {
		{"resize", NULL, "\"size\" is"},
		{"resize", "{\"size\":\"1\"}", "\"size\" is"},
		{"resize", "{\"size\":-1}", "\"size\" is"},
		{"slots", "{\"start\":\"x\"}", "\"start\" is"},
		{"blocks", "{\"start\":true}", "\"start\" is"},
		{"save", "{\"start\":-1}", "\"start\" is"},
		{"dirty-log", NULL, "\"on\" is"},
		{"dirty-log", "{\"on\":1}", "\"on\" is"},
		{"hold", NULL, "\"on\" is"},
		{"hold", "{\"on\":\"yes\"}", "\"on\" is"},
		{"system-reset", "{\"force\":1}", "\"force\" is"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_refused(f, bad[i].method, bad[i].params, -EINVAL,
			       bad[i].why);
	assert_false(f->device->dev.held);
}

static void without_a_region_there_is_nothing_to_tell(void **state)
{
	static const char *const methods[] = {
		"status",	   "resize",	"place",     "system-reset",
		"slots",	   "blocks",	"save",	     "hold",
		"dirty-log",	   "subscribe", "consumers", "unsubscribe",
		"forget-consumer",
	};
	struct fixture *f = *state;

	f->device->attached = false;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		assert_refused(f, methods[i], NULL, -ENODEV, "no region yet");
	f->device->attached = true;
}

static void a_front_ends_memory_has_no_kernel_region(void **state)
{
	static const char *const methods[] = {
		"save",	       "dirty-log",	  "subscribe",
		"unsubscribe", "forget-consumer",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		assert_refused(f, methods[i], "{\"on\":true}", -EOPNOTSUPP,
			       "--backing vmm");
}

/*
 * vmemd may be killed between two messages to the service manager. It can start
 * with memory alone, so memory is stored before its region.
 */
static void memory_is_stored_before_its_region(void **state)
{
	struct fixture *f = new_fixture();
	int manager[2], fds[2];
	char names[256];

	*state = f;
	fuzz_module_start();
	open_device(f);
	f->vmem->control.event = f->vmem->event;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, manager), 0);
	f->vmem->notify.fd = manager[0];
	fds[0] = dup(fuzz_module_region());
	fds[1] = memfd_create("methods-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fds[1], FUZZ_MODULE_SIZE), 0);
	f->call.fds = fds;
	f->call.nr_fds = 2;
	if (call(f, "attach", NULL))
		fail_msg("%s", f->call.error.text);
	manager_names(manager[1], names, sizeof(names));
	assert_string_equal(names, "consumers\nmemory\nregion\n");
	close(manager[0]);
	close(manager[1]);
	f->vmem->notify.fd = -1;
}

/* A socket that listens at any address. */
static int listen_anywhere(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(
		bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* Start a daemon with memory and no region. Return: as daemon_new(). */
static int start_with_memory(int manager)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(addr);
	struct options options = {.nr_devices = 1};
	struct passed_fds fds;
	struct vmem *vmem;
	char path[sizeof(addr.sun_path) + 1] = "@";
	int ret;

	if (getsockname(manager, (struct sockaddr *)&addr, &size) < 0)
		return -ENOTRECOVERABLE;
	memcpy(path + 1, addr.sun_path + 1,
	       size - offsetof(struct sockaddr_un, sun_path) - 1);
	setenv("NOTIFY_SOCKET", path, 1);
	passed_fds_init(&fds);
	fds.devices[0].memory = memfd_create("methods-test", MFD_CLOEXEC);
	fds.devices[0].vhost_user = listen_anywhere();
	fds.control = listen_anywhere();
	fuzz_module_start();
	ret = daemon_new(&vmem, &options, &fds);
	/* The VMM attaches it later. */
	return ret ? ret : -vmem->devices[0].attached;
}

static void memory_whose_region_was_not_stored_is_dropped(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;
	char names[256];
	pid_t child;

	(void)state;
	assert_int_equal(bind(manager, (struct sockaddr *)&addr,
			      sizeof(addr.sun_family)),
			 0);
	child = fork();
	assert_true(child >= 0);
	/* The daemon isolates its process. */
	if (!child)
		_exit(-start_with_memory(manager));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	manager_names(manager, names, sizeof(names));
	assert_string_equal(names, "-memory\n");
	close(manager);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define VMM(name) \
	cmocka_unit_test_setup_teardown(name, set_up_vmm, tear_down_vmm)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_status_of_a_region),
		VMM(the_status_of_a_front_ends_memory),
		T(memslots_are_listed_from_an_address_on),
		VMM(mappings_are_listed_from_an_address_on),
		T(runs_are_listed_from_an_address_on),
		VMM(long_lists_have_pages),
		T(a_saved_state_has_what_the_driver_relies_on),
		T(a_save_waits_for_the_guests_request),
		T(a_hold_is_counted_from_its_start),
		T(latencies_have_their_bounds),
		T(an_event_has_the_state),
		T(bad_parameters_are_refused),
		T(without_a_region_there_is_nothing_to_tell),
		VMM(a_front_ends_memory_has_no_kernel_region),
		cmocka_unit_test_teardown(memory_is_stored_before_its_region,
					  tear_down),
		cmocka_unit_test(memory_whose_region_was_not_stored_is_dropped),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
