// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device of the daemon whose event loop is never idle. Owed discards and
 * memory of the guest beyond its cap are still given back to the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/turn.h"
#include "device/vmem_device.h"
#include "unit.h"

#define REGION_SIZE (4 * GIB)
#define BLOCK	    (2 * MIB)
#define OWED	    (96 * MIB)
#define CAP	    (8 * MIB)

/* A slice of discards runs at least once in this number of turns. */
#define SHARE 4

/**
 * struct fixture - a device with constant other work
 * @flood: a turn that requests another turn each time, like a queue that the
 *	guest keeps full
 */
struct fixture {
	sd_event *event;
	struct guest_access access;
	struct device_options options;
	struct vmem_device device;
	struct turn flood;
	uint64_t flooded;
	int memory_fd;
	uint8_t *memory;
	int front_end;
};

static void nothing(struct vmem_device *device, void *arg)
{
	(void)device;
	(void)arg;
}

static const struct vmem_device_ops ops = {.changed = nothing};

static int on_flood(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct fixture *f = arg;

	f->flooded++;
	turn_take(&f->flood);
	return 0;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err;
	int fds[2];

	assert_non_null(f);
	f->options = (struct device_options){
		.vmm = true,
		.region_size = REGION_SIZE,
		.block_size = BLOCK,
		.slot_size = 128 * MIB,
		.gpa = 4 * GIB,
		.has_unplugged_cap = true,
		.unplugged_cap = CAP,
	};
	assert_true(sd_event_new(&f->event) >= 0);
	vmem_device_init(&f->device, 0, false, &f->options, &f->access, &ops,
			 f);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->front_end = fds[0];
	assert_int_equal(vmem_device_open(&f->device, f->event, fds[1], -1), 0);
	f->memory_fd = vmm_make_file("memory");
	assert_true(f->memory_fd >= 0);
	if (vmem_device_attach_vmm(&f->device, dup(f->memory_fd),
				   vmm_make_file("state"), &err))
		fail_msg("%s", err.text);
	f->memory = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, f->memory_fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	assert_int_equal(turn_init(&f->flood, f->event, on_flood, f), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	turn_end(&f->flood);
	vmem_device_close(&f->device);
	guest_access_stop(&f->access);
	sd_event_unref(f->event);
	munmap(f->memory, REGION_SIZE);
	close(f->memory_fd);
	close(f->front_end);
	free(f);
	return 0;
}

static uint64_t resident(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->memory_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void turn(struct fixture *f)
{
	work_begin_turn(&f->access.work);
	assert_true(sd_event_run(f->event, 0) > 0);
	work_end_turn(&f->access.work, 0);
}

/* Touch the memory of blocks, as a guest does. */
static void touch(struct fixture *f, uint64_t offset, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += 4096)
		f->memory[offset + at] = 1;
}

static void begin_flood(struct fixture *f)
{
	/* At start the whole region is owed. */
	while (f->device.dev.backing->owed.set ||
	       virtio_mem_sweeping(&f->device.dev))
		turn(f);
	turn_take(&f->flood);
	turn(f);
}

static void what_is_owed_is_given_back_in_a_flood(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = f->device.dev.backing;
	uint64_t turns = 0;

	begin_flood(f);
	touch(f, 0, OWED);
	backing_owe(backing, backing->gpa, OWED);
	virtio_mem_backing_changed(&f->device.dev);
	f->access.work.most_steps = 0;
	for (; backing->owed.set; turns++) {
		assert_true(turns < SHARE * (OWED / BACKING_DISCARD_SLICE));
		turn(f);
	}
	assert_int_equal(resident(f), 0);
	/* The discards are spread over turns. */
	assert_true(f->access.work.most_steps <= WORK_TURN_STEPS);
	assert_true(turns >= OWED / BACKING_DISCARD_SLICE);
}

/*
 * The cap is enforced while discards are owed, while a request is pending, and
 * in a flood.
 */
static void memory_beyond_the_cap_is_taken_in_a_flood(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = f->device.dev.backing;

	begin_flood(f);
	touch(f, GIB, 4 * CAP);
	/* An unrelated owed discard. */
	backing_owe(backing, backing->gpa, BLOCK);
	while (!f->device.excess.punches)
		turn(f);
	assert_true(f->device.excess.now > CAP);
	while (virtio_mem_sweeping(&f->device.dev) || backing->owed.set)
		turn(f);
	assert_int_equal(resident(f), 0);
	/* The bound of a turn includes this work. */
	assert_true(f->access.work.most_steps <= 2 * WORK_TURN_STEPS);
}

/* Memory that was allocated but never written appears as a hole of the file. */
static void memory_only_allocated_is_taken_too(void **state)
{
	struct fixture *f = *state;

	begin_flood(f);
	assert_int_equal(posix_fallocate(f->memory_fd, GIB, 4 * CAP), 0);
	assert_int_equal(resident(f), 4 * CAP);
	while (!f->device.excess.punches)
		turn(f);
	while (virtio_mem_sweeping(&f->device.dev) ||
	       f->device.dev.backing->owed.set)
		turn(f);
	assert_int_equal(resident(f), 0);
}

/* A sweep discards memory before the guest sees it. */
static void memory_plugged_in_a_sweep_is_zero(void **state)
{
	struct fixture *f = *state;
	struct virtio_mem *dev = &f->device.dev;
	struct virtio_mem_req req = {.type = VIRTIO_MEM_REQ_PLUG};
	struct virtio_mem_resp resp;

	begin_flood(f);
	touch(f, GIB, BLOCK);
	virtio_mem_set_requested(dev, REGION_SIZE);
	virtio_mem_sweep(dev);
	/* The plug fails without a front end, but only after the discard. */
	req.u.plug.addr = dev->backing->gpa + GIB;
	req.u.plug.nb_blocks = 1;
	virtio_mem_handle(dev, &req, &resp);
	assert_true(virtio_mem_sweeping(dev));
	assert_int_equal(resident(f), 0);
}

/* A plug larger than a discard slice ends. */
static void a_large_plug_in_a_sweep_ends(void **state)
{
	struct fixture *f = *state;
	struct virtio_mem *dev = &f->device.dev;
	uint64_t size = 2 * BACKING_DISCARD_MAX;
	struct virtio_mem_req req = {.type = VIRTIO_MEM_REQ_PLUG};
	struct virtio_mem_resp resp;

	begin_flood(f);
	for (uint64_t at = 0; at < size; at += BLOCK)
		touch(f, GIB + at, BLOCK);
	virtio_mem_set_requested(dev, REGION_SIZE);
	virtio_mem_sweep(dev);
	req.u.plug.addr = dev->backing->gpa + GIB;
	req.u.plug.nb_blocks = size / BLOCK;
	/* The plug fails without a front end, after this number of slices. */
	if (!virtio_mem_handle(dev, &req, &resp)) {
		for (uint64_t i = 0; virtio_mem_busy(dev); i++) {
			assert_true(i <= size / BACKING_DISCARD_SLICE);
			work_begin_turn(&f->access.work);
			virtio_mem_work(dev);
			work_end_turn(&f->access.work, 0);
		}
	}
	assert_int_equal(resident(f), 0);
}

/* At first the whole region is owed; each turn discards one slice. */
#define MANY_TURNS (4 * REGION_SIZE / BACKING_DISCARD_SLICE)

static void run_until_idle(struct fixture *f)
{
	uint64_t turns = 0;
	int ret;

	do {
		assert_true(turns++ < MANY_TURNS);
		work_begin_turn(&f->access.work);
		ret = sd_event_run(f->event, 0);
		work_end_turn(&f->access.work, 0);
	} while (ret > 0);
	assert_int_equal(ret, 0);
}

/* The retry happens whenever the timer expires, not before. */
static void a_discard_that_fails_is_tried_again(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = f->device.dev.backing;
	sd_event_source *again = f->device.work_again_source;
	int enabled;

	run_until_idle(f);
	assert_int_equal(backing->owed.set, 0);
	/* A file with a writable mapping cannot be sealed. */
	assert_ptr_equal(
		mmap(f->memory, REGION_SIZE, PROT_READ,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		     -1, 0),
		f->memory);
	assert_int_equal(fcntl(f->memory_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	backing_owe(backing, backing->gpa, BLOCK);
	virtio_mem_backing_changed(&f->device.dev);
	for (int i = 0; i < 3; i++) {
		run_until_idle(f);
		assert_int_equal(backing->owed.set, 1);
		assert_int_equal(sd_event_source_get_enabled(again, &enabled),
				 1);
		assert_int_equal(enabled, SD_EVENT_ONESHOT);
		/* Make the timer expire now. */
		assert_int_equal(sd_event_source_set_time(again, 0), 0);
	}
}

static void assert_no_size(struct fixture *f, uint64_t size, int error,
			   const char *why)
{
	struct error err = {0};

	assert_int_equal(vmem_device_set_requested(&f->device, size, &err),
			 error);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void a_size_is_one_that_the_region_can_have(void **state)
{
	struct fixture *f = *state;
	struct vmem_device *device = &f->device;
	const volatile struct vmm_header *kept =
		device->vmm_backing.state.header;
	struct error err;

	assert_int_equal(vmem_device_set_requested(device, 3 * BLOCK, &err), 0);
	assert_int_equal(device->dev.requested_size, 3 * BLOCK);
	assert_int_equal(kept->requested_size, 3 * BLOCK);
	assert_no_size(f, REGION_SIZE + BLOCK, -ERANGE,
		       "is more than the region has (4 GiB)");
	assert_no_size(f, 3 * BLOCK + 4096, -EINVAL, "2 MiB");
	assert_int_equal(device->dev.requested_size, 3 * BLOCK);
	assert_int_equal(kept->requested_size, 3 * BLOCK);
	assert_int_equal(vmem_device_set_requested(device, REGION_SIZE, &err),
			 0);
	assert_int_equal(kept->requested_size, REGION_SIZE);
}

/* A client that moves the region to and fro cannot fill the log. */
static void a_place_that_changes_does_not_fill_the_log(void **state)
{
	struct fixture *f = *state;
	int file = memfd_create("log", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
	unsigned int lines = 0;
	struct error err;
	char byte;

	assert_true(file >= 0 && kept >= 0);
	assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO);
	log_init(LOG_LEVEL_INFO);
	/* Not a multiple of a memory block of Linux, which is a warning. */
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(
			vmem_device_place(&f->device,
					  8 * GIB + (1 + i % 2) * BLOCK, &err),
			0);
	log_init(LOG_LEVEL_ERR);
	assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
	for (off_t at = 0; pread(file, &byte, 1, at) == 1; at++)
		lines += byte == '\n';
	/* A slow machine may exceed the limit's interval a few times. */
	assert_in_range(lines, 1, 10 * (LOG_LIMIT_BURST + 1));
	close(kept);
	close(file);
}

/* Each device would discard the memory of the other one. */
static void memory_of_another_device_is_refused(void **state)
{
	struct fixture *f = *state;
	struct vmem_device other;
	struct error err;
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	vmem_device_init(&other, 1, true, &f->options, &f->access, &ops, f);
	assert_int_equal(vmem_device_open(&other, f->event, fds[1], -1), 0);
	assert_int_equal(vmem_device_attach_vmm(&other, dup(f->memory_fd),
						vmm_make_file("state"), &err),
			 -EBUSY);
	assert_non_null(strstr(err.text, "another device"));
	assert_false(other.attached);
	assert_int_equal(vmem_device_attach_vmm(&other, vmm_make_file("memory"),
						vmm_make_file("state"), &err),
			 0);
	vmem_device_close(&other);
	close(fds[0]);
}

/* At exit, the control socket is served until all devices are closed. */
static void a_closed_device_has_no_region(void **state)
{
	struct fixture *f = *state;

	assert_true(f->device.attached);
	vmem_device_close(&f->device);
	assert_false(f->device.attached);
	assert_null(f->device.dev.backing);
	/* tear_down() needs a device. */
	vmem_device_init(&f->device, 0, false, &f->options, &f->access, &ops,
			 f);
}

/* A message names the device if there are several, the connection's too. */
static void messages_have_the_label_of_their_device(void **state)
{
	struct fixture *f = *state;
	struct vmem_device *other = calloc(1, sizeof(*other));

	assert_non_null(other);
	assert_string_equal(f->device.label, "");
	assert_string_equal(f->device.vu.label, "");
	vmem_device_init(other, 3, true, &f->options, &f->access, &ops, f);
	assert_string_equal(other->label, "3: ");
	assert_string_equal(other->vu.label, "3: ");
	vmem_device_close(other);
	free(other);
}

/* The event loop needs a descriptor for the timers. */
static void without_descriptors_a_device_does_not_open(void **state)
{
	struct fixture *f = *state;
	struct vmem_device *other = calloc(1, sizeof(*other));
	struct rlimit limit, none;
	sd_event *event;
	int ret;

	assert_non_null(other);
	assert_true(sd_event_new(&event) >= 0);
	vmem_device_init(other, 1, false, &f->options, &f->access, &ops, f);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fcntl(f->memory_fd, F_DUPFD_CLOEXEC, 0);
	close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ret = vmem_device_open(other, event, -1, -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(ret, -EMFILE);
	vmem_device_close(other);
	sd_event_unref(event);
	free(other);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_owed_is_given_back_in_a_flood),
		T(memory_beyond_the_cap_is_taken_in_a_flood),
		T(memory_only_allocated_is_taken_too),
		T(memory_plugged_in_a_sweep_is_zero),
		T(a_large_plug_in_a_sweep_ends),
		T(a_discard_that_fails_is_tried_again),
		T(a_size_is_one_that_the_region_can_have),
		T(a_place_that_changes_does_not_fill_the_log),
		T(memory_of_another_device_is_refused),
		T(a_closed_device_has_no_region),
		T(messages_have_the_label_of_their_device),
		T(without_descriptors_a_device_does_not_open),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
