// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The inflight region: a daemon dies at any moment of its work, and the next
 * one answers the remaining requests exactly once. Also invalid regions.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats.h"
#include "ring.h"
#include "vhost/inflight.h"

/* Queue size of the region; the queues are smaller. */
#define QUEUE_SIZE 32

/* Offsets of the protocol's layouts, and sizes of an entry. */
#define VERSION		8
#define DESC_NUM	10
#define SPLIT_BATCH	12
#define SPLIT_USED	14
#define SPLIT_DESC	16
#define SPLIT_ENTRY	16
#define PACKED_FREE	12
#define PACKED_OLD_FREE 14
#define PACKED_USED	16
#define PACKED_OLD_USED 18
#define PACKED_WRAP	20
#define PACKED_OLD_WRAP 21
#define PACKED_DESC	32
#define PACKED_ENTRY	32

#define NOT_THIS_QUEUE "an inflight region of another queue"

/* The state that a daemon leaves behind: the whole queue and its region. */
struct moment {
	uint8_t desc[RING_SIZE * 16];
	uint8_t avail[256];
	uint8_t used[256];
	uint8_t region[PACKED_DESC + QUEUE_SIZE * PACKED_ENTRY];
};

/**
 * struct fixture - a queue and its inflight region
 * @ring: first member, as ring.c expects
 * @region: the front end's mapping of @region_fd
 * @without: daemons get no region
 */
struct fixture {
	struct ring *ring;
	struct inflight inflight;
	int region_fd;
	uint8_t *region;
	bool without;
};

static uint16_t get16(const struct fixture *f, size_t at)
{
	uint16_t value;

	memcpy(&value, f->region + at, sizeof(value));
	return value;
}

static void set16(const struct fixture *f, size_t at, uint16_t value)
{
	memcpy(f->region + at, &value, sizeof(value));
}

static int reopen(struct fixture *f)
{
	inflight_close(&f->inflight);
	if (f->without)
		return 0;
	return inflight_open(&f->inflight, f->region_fd, 0,
			     inflight_size(QUEUE_SIZE), QUEUE_SIZE,
			     &f->ring->err);
}

static int begin(struct fixture *f)
{
	return inflight_start(&f->inflight, &f->ring->vring, &f->ring->err);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *ring = *state;

	assert_non_null(f);
	ring_set_up(&ring);
	f->ring = ring;
	f->region_fd = inflight_create(QUEUE_SIZE, &f->ring->err);
	assert_true(f->region_fd >= 0);
	f->region = mmap(NULL, inflight_size(QUEUE_SIZE),
			 PROT_READ | PROT_WRITE, MAP_SHARED, f->region_fd, 0);
	assert_ptr_not_equal(f->region, MAP_FAILED);
	assert_int_equal(reopen(f), 0);
	assert_int_equal(begin(f), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	void *ring = f->ring;

	inflight_close(&f->inflight);
	munmap(f->region, inflight_size(QUEUE_SIZE));
	close(f->region_fd);
	free(f);
	return ring_tear_down(&ring);
}

/*
 * Take, handle and answer a chain, as the back end does. Return: false if there
 * was none.
 */
static bool serve(struct fixture *f)
{
	struct vring_request *request = &f->ring->request;

	if (ring_pop(f->ring) != 1 || request->read_size != 24 ||
	    request->write_size != 10)
		return false;
	inflight_take(&f->inflight, &f->ring->vring, &request->chain);
	vring_write(request, "0123456789", 10);
	inflight_push(&f->inflight, &f->ring->vring, &request->chain, 10);
	return true;
}

static void go_on_for(struct fixture *f, unsigned int rounds)
{
	while (rounds--) {
		struct driver_chain chain = ring_add_request(f->ring);

		serve(f);
		ring_assert_back(f->ring, &chain, 10);
	}
}

/* The position that a front end may assume for a lost daemon: the driver's. */
static uint32_t lost_base(const struct fixture *f)
{
	const struct driver *driver = &f->ring->driver;

	return ring_packed(f->ring) ? driver->next | driver->next << 16
				    : driver->avail;
}

static void next_daemon(struct fixture *f, uint32_t base)
{
	ring_next_daemon(f->ring, base);
	assert_int_equal(reopen(f), 0);
	assert_int_equal(begin(f), 0);
}

/* --- Dying --- */

static void note(const struct fixture *f, struct moment *moment)
{
	const uint8_t *memory = f->ring->memory;

	memcpy(moment->desc, memory + RING_DESC, sizeof(moment->desc));
	memcpy(moment->avail, memory + RING_AVAIL, sizeof(moment->avail));
	memcpy(moment->used, memory + RING_USED, sizeof(moment->used));
	memcpy(moment->region, f->region, sizeof(moment->region));
}

static void go_back_to(const struct fixture *f, const struct moment *moment)
{
	uint8_t *memory = f->ring->memory;

	memcpy(memory + RING_DESC, moment->desc, sizeof(moment->desc));
	memcpy(memory + RING_AVAIL, moment->avail, sizeof(moment->avail));
	memcpy(memory + RING_USED, moment->used, sizeof(moment->used));
	memcpy(f->region, moment->region, sizeof(moment->region));
}

static bool is_now(const struct fixture *f, const struct moment *moment)
{
	const uint8_t *memory = f->ring->memory;

	return !memcmp(moment->desc, memory + RING_DESC,
		       sizeof(moment->desc)) &&
	       !memcmp(moment->avail, memory + RING_AVAIL,
		       sizeof(moment->avail)) &&
	       !memcmp(moment->used, memory + RING_USED,
		       sizeof(moment->used)) &&
	       !memcmp(moment->region, f->region, sizeof(moment->region));
}

static pid_t start_traced(struct fixture *f)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(1);
		raise(SIGSTOP);
		_exit(serve(f) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

/*
 * Have another process answer the next chain, in single steps, and record each
 * state of the shared memory. Return: the number of states.
 */
static size_t each_moment(struct fixture *f, struct moment *moments, size_t max)
{
	pid_t pid = start_traced(f);
	size_t nr = 0;
	int status;

	note(f, &moments[nr++]);
	for (;;) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			break;
		assert_true(WIFSTOPPED(status));
		if (is_now(f, &moments[nr - 1]))
			continue;
		assert_true(nr < max);
		note(f, &moments[nr++]);
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return nr;
}

/*
 * The daemon was killed at this moment. Return: whether the chain had been
 * answered.
 */
static bool dies_and_another_comes(struct fixture *f,
				   const struct moment *moment,
				   const struct driver_chain *chain)
{
	const struct driver driver = f->ring->driver;
	bool answered;
	uint32_t size;
	uint16_t id;

	go_back_to(f, moment);
	answered = driver_take(&f->ring->driver, 2, &id, &size);
	f->ring->driver = driver;
	next_daemon(f, lost_base(f));
	/* A second daemon dies before it does anything. */
	next_daemon(f, lost_base(f));
	/*
	 * An answered chain is not served again, any other is served
	 * completely.
	 */
	assert_int_equal(serve(f), !answered);
	assert_false(f->ring->vring.broken);
	ring_assert_back(f->ring, chain, 10);
	assert_false(driver_take(&f->ring->driver, 2, &id, &size));
	go_on_for(f, 2 * RING_SIZE + 1);
	f->ring->driver = driver;
	return answered;
}

static void dies_with_a_request(struct fixture *f, struct moment *moments,
				size_t max)
{
	struct driver_chain chain = ring_add_request(f->ring);
	size_t nr = each_moment(f, moments, max);
	size_t answered = 0;

	for (size_t i = 0; i < nr; i++)
		answered += dies_and_another_comes(f, &moments[i], &chain);
	/* Some states are before the answer, some after it. */
	assert_true(answered > 0 && answered < nr);
	/* The last daemon continues. */
	go_back_to(f, &moments[nr - 1]);
	next_daemon(f, lost_base(f));
	ring_assert_back(f->ring, &chain, 10);
}

static void dies_at_any_moment(struct fixture *f)
{
	/* Also at and beyond the end of the ring, for each chain length. */
	static const unsigned int rounds_before[] = {
		1, RING_SIZE / 2 - 3, 0, RING_SIZE / 2 - 2, 0,
	};
	enum { MAX = 512 };
	struct moment *moments = calloc(MAX, sizeof(*moments));

	assert_non_null(moments);
	for (size_t i = 0; i < sizeof(rounds_before) / sizeof(rounds_before[0]);
	     i++) {
		go_on_for(f, rounds_before[i]);
		dies_with_a_request(f, moments, MAX);
	}
	free(moments);
}

static void a_daemon_dies_at_any_moment(void **state)
{
	dies_at_any_moment(*state);
}

static void a_daemon_without_a_region_dies_at_any_moment(void **state)
{
	struct fixture *f = *state;

	f->without = true;
	assert_int_equal(reopen(f), 0);
	dies_at_any_moment(f);
}

/* The daemon ends while the device still works on a request. */
static void a_request_in_flight_is_taken_again(void **state)
{
	struct fixture *f = *state;

	for (unsigned int round = 0; round < 40; round++) {
		struct driver_chain chain = ring_add_request(f->ring);

		assert_int_equal(ring_pop(f->ring), 1);
		inflight_take(&f->inflight, &f->ring->vring,
			      &f->ring->request.chain);
		for (unsigned int deaths = 0; deaths < 3; deaths++) {
			next_daemon(f, lost_base(f));
			assert_true(f->inflight.taken);
		}
		serve(f);
		ring_assert_back(f->ring, &chain, 10);
		next_daemon(f, lost_base(f));
		assert_false(f->inflight.taken);
		go_on_for(f, round % 3);
	}
}

/* The ring's position is ambiguous; the region resolves it. */
static void a_region_resolves_the_position(void **state)
{
	static const uint8_t pieces[] = {1, 24};
	struct driver_buffer buffers[3] = {};
	struct fixture *f = *state;
	struct ring *ring = f->ring;
	struct driver_chain chain;

	if (!ring_packed(ring) || !ring_indirect(ring))
		return;
	ring->driver.features &= ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	for (unsigned int i = 0; i < 2; i++)
		buffers[i] = (struct driver_buffer){
			.gpa = RING_GPA + RING_BUFFERS,
			.size = pieces[i],
		};
	buffers[2] = (struct driver_buffer){
		.gpa = RING_GPA + RING_BUFFERS + 100,
		.size = 10,
		.write = true,
	};
	for (unsigned int i = 0; i < 4 * RING_SIZE; i++) {
		chain = driver_add(&ring->driver, buffers, 3);
		assert_int_equal(ring_pop(ring), 1);
		inflight_take(&f->inflight, &ring->vring, &ring->request.chain);
		inflight_push(&f->inflight, &ring->vring, &ring->request.chain,
			      10);
		ring_assert_back(ring, &chain, 10);
		next_daemon(f, lost_base(f));
		assert_int_equal(ring_pop(ring), 0);
	}
}

/* The guest was reset while no daemon was running. */
static void a_region_of_an_earlier_driver_begins_anew(void **state)
{
	struct fixture *f = *state;

	for (unsigned int used = 1; used < 2 * RING_SIZE; used++) {
		go_on_for(f, used);
		ring_add_request(f->ring);
		assert_int_equal(ring_pop(f->ring), 1);
		inflight_take(&f->inflight, &f->ring->vring,
			      &f->ring->request.chain);
		ring_start(f->ring, RING_SIZE);
		assert_int_equal(reopen(f), 0);
		/* The old region may look valid for the new queue. */
		assert_true(begin(f) >= 0);
		go_on_for(f, 3 * RING_SIZE);
		next_daemon(f, lost_base(f));
		go_on_for(f, 1);
	}
}

static void a_queue_that_was_taken_back_begins_anew(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;

	go_on_for(f, 5);
	ring_add_request(f->ring);
	assert_int_equal(ring_pop(f->ring), 1);
	inflight_take(&f->inflight, &f->ring->vring, &f->ring->request.chain);
	inflight_forget(&f->inflight);
	assert_int_equal(get16(f, VERSION), 0);
	/* The driver sets up another queue. */
	ring_start(f->ring, 8);
	assert_int_equal(begin(f), 0);
	assert_false(f->inflight.taken);
	chain = ring_add_request(f->ring);
	serve(f);
	ring_assert_back(f->ring, &chain, 10);
	next_daemon(f, lost_base(f));
	go_on_for(f, 20);
}

static void without_a_region_nothing_changes(void **state)
{
	struct fixture *f = *state;

	inflight_close(&f->inflight);
	assert_int_equal(begin(f), 0);
	inflight_forget(&f->inflight);
	go_on_for(f, 40);
}

/* --- Layout of the region --- */

static void a_region_has_the_protocols_layout(void **state)
{
	struct fixture *f = *state;
	struct driver_chain chain;
	size_t entry;

	assert_int_equal(get16(f, VERSION), 1);
	assert_int_equal(get16(f, DESC_NUM), QUEUE_SIZE);
	go_on_for(f, 3);
	chain = ring_add_request(f->ring);
	assert_int_equal(ring_pop(f->ring), 1);
	inflight_take(&f->inflight, &f->ring->vring, &f->ring->request.chain);
	if (!ring_packed(f->ring)) {
		entry = SPLIT_DESC + chain.id * SPLIT_ENTRY;
		assert_int_equal(f->region[entry], 1);
		/* The fourth chain. */
		assert_int_equal(f->region[entry + 8], 3);
		assert_int_equal(get16(f, SPLIT_USED), 3);
		inflight_push(&f->inflight, &f->ring->vring,
			      &f->ring->request.chain, 10);
		assert_int_equal(f->region[entry], 0);
		assert_int_equal(get16(f, SPLIT_USED), 4);
		assert_int_equal(get16(f, SPLIT_BATCH), chain.id);
		return;
	}
	entry = PACKED_DESC;
	assert_int_equal(f->region[entry], 1);
	/* last, num, counter */
	assert_int_equal(get16(f, entry + 4), ring_indirect(f->ring) ? 0 : 1);
	assert_int_equal(get16(f, entry + 6), ring_indirect(f->ring) ? 1 : 2);
	assert_int_equal(f->region[entry + 8], 3);
	/* id and flags of the last descriptor */
	entry += ring_indirect(f->ring) ? 0 : PACKED_ENTRY;
	assert_int_equal(get16(f, entry + 16), chain.id);
	assert_memory_equal(f->region + entry + 24,
			    driver_slot(&f->ring->driver,
					ring_indirect(f->ring) ? chain.slot
							       : chain.slot + 1)
				    .gpa,
			    8);
	assert_int_equal(get16(f, PACKED_FREE), get16(f, PACKED_OLD_FREE));
	assert_int_equal(get16(f, PACKED_USED), chain.slot);
	assert_int_equal(get16(f, PACKED_OLD_USED), chain.slot);
	assert_int_equal(f->region[PACKED_WRAP], 1);
	inflight_push(&f->inflight, &f->ring->vring, &f->ring->request.chain,
		      10);
	assert_int_equal(f->region[PACKED_DESC], 0);
	assert_int_equal(get16(f, PACKED_USED), f->ring->driver.next);
	assert_int_equal(get16(f, PACKED_OLD_USED), f->ring->driver.next);
	assert_int_equal(get16(f, PACKED_FREE), 0);
}

/* --- Invalid regions --- */

static void assert_refused(struct fixture *f, const char *reason)
{
	ring_next_daemon(f->ring, lost_base(f));
	assert_int_equal(reopen(f), 0);
	assert_int_equal(begin(f), -EINVAL);
	assert_string_equal(f->ring->err.text, reason);
}

static void another_layout_is_refused(void **state)
{
	struct fixture *f = *state;

	set16(f, VERSION, 2);
	assert_refused(f, NOT_THIS_QUEUE);
	set16(f, VERSION, 1);
	set16(f, DESC_NUM, QUEUE_SIZE - 1);
	assert_refused(f, NOT_THIS_QUEUE);
	set16(f, DESC_NUM, QUEUE_SIZE);
}

/* The region does not belong to this queue; the ring is used instead. */
static void assert_begun_anew(struct fixture *f)
{
	struct driver_chain chain = ring_add_request(f->ring);

	ring_next_daemon(f->ring, lost_base(f));
	assert_int_equal(reopen(f), 0);
	assert_int_equal(begin(f), INFLIGHT_ANEW);
	assert_false(f->inflight.taken);
	assert_true(serve(f));
	ring_assert_back(f->ring, &chain, 10);
	go_on_for(f, 3);
	next_daemon(f, lost_base(f));
	go_on_for(f, 1);
	ring_start(f->ring, RING_SIZE);
	inflight_forget(&f->inflight);
	assert_int_equal(begin(f), 0);
}

static void another_queues_region_begins_anew(void **state)
{
	struct fixture *f = *state;
	size_t entry = ring_packed(f->ring) ? PACKED_ENTRY : SPLIT_ENTRY;
	size_t desc = ring_packed(f->ring) ? PACKED_DESC : SPLIT_DESC;

	/* Two chains in flight, no free entry. */
	set16(f, PACKED_OLD_FREE, QUEUE_SIZE);
	set16(f, PACKED_FREE, QUEUE_SIZE);
	f->region[desc + 3 * entry] = 1;
	f->region[desc + 5 * entry] = 1;
	if (!ring_packed(f->ring)) {
		set16(f, SPLIT_BATCH, 0);
		set16(f, SPLIT_USED, 0);
	}
	assert_begun_anew(f);
	if (ring_packed(f->ring)) {
		uint16_t per = ring_indirect(f->ring) ? 1 : 2;

		/* Behind a waiting request. */
		go_on_for(f, 1);
		set16(f, PACKED_USED, 2 * per);
		set16(f, PACKED_OLD_USED, 2 * per);
		assert_begun_anew(f);
		set16(f, PACKED_USED, RING_SIZE);
		assert_begun_anew(f);
		set16(f, PACKED_OLD_USED, UINT16_MAX);
		assert_begun_anew(f);
		set16(f, PACKED_USED, 5);
		set16(f, PACKED_OLD_USED, 5);
		assert_begun_anew(f);
		set16(f, PACKED_OLD_FREE, QUEUE_SIZE);
		set16(f, PACKED_FREE, QUEUE_SIZE);
		f->region[desc + 3 * entry] = 1;
		set16(f, desc + 3 * entry + 4, QUEUE_SIZE);
		assert_begun_anew(f);
		return;
	}
	/* Too many answers in the ring, or answers without a daemon. */
	set16(f, SPLIT_USED, (uint16_t)(0 - QUEUE_SIZE - 1));
	assert_begun_anew(f);
	set16(f, SPLIT_USED, UINT16_MAX);
	set16(f, SPLIT_BATCH, QUEUE_SIZE);
	assert_begun_anew(f);
}

static void a_region_for_a_smaller_queue_is_refused(void **state)
{
	struct fixture *f = *state;

	inflight_close(&f->inflight);
	assert_int_equal(inflight_open(&f->inflight, f->region_fd, 0,
				       inflight_size(QUEUE_SIZE), RING_SIZE - 1,
				       &f->ring->err),
			 0);
	assert_int_equal(begin(f), -EINVAL);
	assert_string_equal(f->ring->err.text,
			    "an inflight region for a smaller queue");
}

/* With any contents the daemon continues and writes nowhere else. */
static void any_contents_are_survived(void **state)
{
	size_t size = inflight_size(QUEUE_SIZE);
	struct fixture *f = *state;
	unsigned int anew = 0;
	unsigned int seed = 1;
	int ret;

	for (unsigned int round = 0; round < 2000; round++) {
		ring_start(f->ring, RING_SIZE);
		for (size_t i = 0; i < size; i++)
			f->region[i] = rand_r(&seed) >> 8;
		/* A valid header, so that the rest is parsed. */
		set16(f, VERSION, 1);
		set16(f, DESC_NUM, QUEUE_SIZE);
		for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
			if (rand_r(&seed) % 64)
				f->region[SPLIT_DESC + i * SPLIT_ENTRY] = 0;
			if (rand_r(&seed) % 64 && ring_packed(f->ring))
				f->region[PACKED_DESC + i * PACKED_ENTRY] = 0;
		}
		for (size_t i = SPLIT_BATCH; i < PACKED_DESC; i += 2)
			if (rand_r(&seed) % 4)
				set16(f, i, get16(f, i) % (QUEUE_SIZE / 4));
		assert_int_equal(reopen(f), 0);
		ret = begin(f);
		assert_true(ret >= 0);
		anew += ret == INFLIGHT_ANEW;
		/* The front end keeps writing while the region is in use. */
		for (unsigned int i = 0; i < 4; i++) {
			go_on_for(f, 1);
			f->region[rand_r(&seed) % size] = rand_r(&seed) >> 8;
		}
	}
	assert_true(anew > 0 && anew < 2000);
}

static void assert_not_opened(struct fixture *f, int fd, uint64_t offset,
			      uint64_t size, int error, const char *reason)
{
	struct inflight inflight = {};

	assert_int_equal(inflight_open(&inflight, fd, offset, size, QUEUE_SIZE,
				       &f->ring->err),
			 error);
	assert_string_equal(f->ring->err.text, reason);
	assert_null(inflight.map);
}

static void only_its_own_file_is_used(void **state)
{
	const char *misplaced = "an inflight region of a size or place that it "
				"was not given";
	const char *beyond = "an inflight region beyond the end of its file";
	const char *unsealed = "an inflight region that can be truncated";
	uint64_t size = inflight_size(QUEUE_SIZE);
	struct fixture *f = *state;
	int fd, fds[2];

	assert_not_opened(f, f->region_fd, 0, size - 1, -EINVAL, misplaced);
	assert_not_opened(f, f->region_fd, 0, 0, -EINVAL, misplaced);
	assert_not_opened(f, f->region_fd, 1, size, -EINVAL, misplaced);
	assert_not_opened(f, f->region_fd, UINT64_MAX - 4095, 4096, -EINVAL,
			  misplaced);
	assert_not_opened(f, f->region_fd, 0 - 8192ULL, 4096, -EINVAL, beyond);
	assert_not_opened(f, f->region_fd, 0, UINT64_MAX, -EINVAL, beyond);
	assert_not_opened(f, f->region_fd, 4096, size, -EINVAL, beyond);
	fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_not_opened(f, fd, 0, size, -EPERM, unsealed);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_not_opened(f, fd, 0, size, -EPERM, unsealed);
	close(fd);
	assert_int_equal(pipe(fds), 0);
	assert_not_opened(f, fds[0], 0, size, -EPERM, unsealed);
	close(fds[0]);
	close(fds[1]);
	assert_not_opened(f, -1, 0, size, -EPERM, unsealed);
	/* The daemon's own region cannot be truncated. */
	assert_int_equal(ftruncate(f->region_fd, 0), -1);
	assert_int_equal(errno, EPERM);
}

int main(void)
{
	const struct format_case cases[] = {
		FORMAT_CASE(a_daemon_dies_at_any_moment),
		FORMAT_CASE(a_daemon_without_a_region_dies_at_any_moment),
		FORMAT_CASE(a_request_in_flight_is_taken_again),
		FORMAT_CASE(a_region_resolves_the_position),
		FORMAT_CASE(a_region_of_an_earlier_driver_begins_anew),
		FORMAT_CASE(a_queue_that_was_taken_back_begins_anew),
		FORMAT_CASE(without_a_region_nothing_changes),
		FORMAT_CASE(a_region_has_the_protocols_layout),
		FORMAT_CASE(another_layout_is_refused),
		FORMAT_CASE(another_queues_region_begins_anew),
		FORMAT_CASE(a_region_for_a_smaller_queue_is_refused),
		FORMAT_CASE(any_contents_are_survived),
		FORMAT_CASE(only_its_own_file_is_used),
	};

	return formats_run(cases, sizeof(cases) / sizeof(cases[0]), set_up,
			   tear_down);
}
