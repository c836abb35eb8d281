// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A fuzzed vmemd: libkvmvmem in a VMM, and a process at the control socket that
 * does not follow the protocol. It answers, sends events, closes connections and
 * does not answer; the VMM's map() and unmap() fail.
 *
 * The first byte chooses a consumer, a view, or a single call. The steps of the
 * input belong to both sides. While the library waits within a call, only vmemd's
 * steps are taken; once the input has ended, time passes until the call gives up.
 * The clock is virtual: it is advanced by poll().
 *
 * A consumer maps nothing twice, unmaps only what it has mapped, and with
 * KVMVMEM_EACH_BLOCK exactly what it has mapped by one call. It reports the size of
 * what is mapped, and nothing is mapped when it has been freed. A view protects its
 * own memory only. A text is one line of printable ASCII.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fuzz.h"
#include "kvmvmem.h"

/* Ranges that map() accepts: more are refused, as by a full container. */
#define RANGES_MAX 64

/* Bytes of vmemd that are sent at once. */
#define SAY_MAX 64

/* A longer line than the library accepts. */
#define LONG_LINE (64 << 10)

#define VIEW_SIZE (64ULL << 20)

/* Delays below are until the next attempt to connect. */
#define RETRY_MAX_S 2

enum mode {
	MODE_BLOCKS,
	MODE_BLOCK_RUNS,
	MODE_MEMSLOT_RUNS,
	MODE_VIEW,
	MODE_CALL,
	MODE_NR,
};

enum step {
	/* Of vmemd. */
	STEP_SAY,
	STEP_LINE,
	STEP_LONG,
	STEP_END,
	STEP_READ,
	STEP_ABSENT,
	STEP_NR_VMEMD,
	/* Of the VMM. */
	STEP_DISPATCH = STEP_NR_VMEMD,
	STEP_TIMEOUT,
	STEP_RESUME,
	STEP_FAIL,
	STEP_NR,
};

enum line {
	LINE_ANSWER,
	LINE_POPULATE,
	LINE_DISCARD,
	LINE_SUBSCRIBED,
	LINE_CLOSED,
	LINE_ERROR,
	LINE_PLAN,
	LINE_RESULT,
	LINE_NR,
};

/**
 * struct vmemd - the other side
 * @fd: its end of the connection, -1: none
 * @absent: connections that are refused from now on
 */
struct vmemd {
	int fd;
	unsigned int absent;
};

/**
 * struct maps - what the consumer has mapped
 * @ranges: ranges, in any order
 * @nr: number of @ranges
 * @size: bytes of all
 * @fail: a bit for each of the next calls, which fails if it is set
 */
struct maps {
	struct kvmvmem_range ranges[RANGES_MAX];
	unsigned int nr;
	uint64_t size;
	uint8_t fail;
};

int __wrap_kvmvmem_connect(const char *path, struct kvmvmem_error *error);
int64_t __wrap_kvmvmem_now_ms(void);
int __wrap_poll(struct pollfd *fds, nfds_t nr, int ms);
int __real_poll(struct pollfd *fds, nfds_t nr, int ms);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);
int __wrap_mprotect(void *address, size_t size, int access);
int __real_mprotect(void *address, size_t size, int access);

static struct fuzz_input *input;
static struct vmemd vmemd;
static struct maps maps;
static enum mode mode;
static int64_t clock_ms;
static int timer_fd = -1;
static int memory_fd;
static const void *view_hva;

static void check_text(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	fuzz_require(length && length < size);
	for (size_t i = 0; i < length; i++)
		fuzz_require(text[i] >= ' ' && text[i] <= '~');
}

static void check_error(int ret, const struct kvmvmem_error *error)
{
	fuzz_require(ret < 0);
	check_text(error->text, sizeof(error->text));
}

/* --- vmemd --- */

static void say(const void *bytes, size_t size)
{
	if (vmemd.fd >= 0)
		fuzz_send(vmemd.fd, bytes, size, NULL, 0);
}

static void __attribute__((format(printf, 1, 2)))
say_line(const char *format, ...)
{
	char line[512];
	va_list ap;
	int length;

	va_start(ap, format);
	length = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	fuzz_require(length > 0 && length < (int)sizeof(line));
	say(line, (size_t)length);
}

/* Mostly small multiples of a block of 2 MiB. */
static uint64_t choose_size(void)
{
	uint8_t how = fuzz_u8(input);

	return how < 0xf8 ? (uint64_t)how << 21 : fuzz_u64(input);
}

static void say_event(const char *name)
{
	uint8_t seq = fuzz_u8(input);
	uint64_t at = (4ULL << 30) + choose_size();

	say_line("{\"event\":\"%s\",\"seq\":%u,\"gpa\":%" PRIu64
		 ",\"size\":%" PRIu64 "}\n",
		 name, seq, at, choose_size());
}

static void say_answer(void)
{
	uint8_t how = fuzz_u8(input);
	const uint64_t block = 2 << 20;

	/* The usual region, or another one. */
	if (how < 0xc0)
		say_line(
			"{\"id\":1,\"result\":{\"gpa\":4294967296,\"size\":%" PRIu64
			",\"block_size\":%" PRIu64 ",\"slot_size\":%" PRIu64
			",\"first_slot\":100,\"answer_ms\":10000}}\n",
			(1 + how % 32) * block, block, block << how % 4);
	else
		say_line("{\"id\":1,\"result\":{\"gpa\":%" PRIu64
			 ",\"size\":%" PRIu64 ",\"block_size\":%" PRIu64
			 ",\"slot_size\":%" PRIu64 ",\"first_slot\":%" PRIu64
			 "}}\n",
			 choose_size(), choose_size(), choose_size(),
			 choose_size(), fuzz_u64(input));
}

static void say_one(void)
{
	static const char *const errors[] = {"EBUSY",  "ENODEV", "EINVAL",
					     "ENOSPC", "ENOENT", "EWHAT"};
	uint8_t kind = fuzz_u8(input) % LINE_NR;
	uint8_t how;

	switch (kind) {
	case LINE_ANSWER:
		say_answer();
		break;
	case LINE_POPULATE:
		say_event("populate");
		break;
	case LINE_DISCARD:
		say_event("discard");
		break;
	case LINE_SUBSCRIBED:
		say_line("{\"event\":\"subscribed\"}\n");
		break;
	case LINE_CLOSED:
		say_line("{\"event\":\"closed\",\"reason\":\"it is\\u0007 \\"
			 "ud834 late\"}\n");
		break;
	case LINE_ERROR:
		how = fuzz_u8(input);
		say_line("{\"id\":%s,\"error\":{\"code\":\"%s\",\"message\":"
			 "\"no\\n%c\"}}\n",
			 how & 0x80 ? "null" : "1",
			 errors[how % (sizeof(errors) / sizeof(errors[0]))],
			 how & 0x40 ? 0xff : 'x');
		break;
	case LINE_PLAN:
		say_line("{\"id\":1,\"result\":{\"slot_size\":%" PRIu64
			 ",\"nr_slots\":%" PRIu64
			 ",\"metadata\":{\"total\":%" PRIu64
			 "},\"reason\":\"because\\t%c\"}}\n",
			 choose_size(), choose_size(), choose_size(),
			 fuzz_u8(input) % 0x5f + 0x20 == '"'
				 ? '\''
				 : 'a' + fuzz_u8(input) % 26);
		break;
	case LINE_RESULT:
		say_line("{\"id\":%u,\"result\":%s}\n", fuzz_u8(input) % 4,
			 fuzz_u8(input) & 1 ? "null" : "{}");
		break;
	}
}

static void say_input(void)
{
	uint8_t bytes[SAY_MAX];
	size_t size = fuzz_u8(input) % (SAY_MAX + 1);

	size = fuzz_bytes(input, bytes, size);
	say(bytes, size);
}

static void say_long(void)
{
	static char bytes[LONG_LINE];

	memset(bytes, fuzz_u8(input), sizeof(bytes));
	say(bytes, sizeof(bytes));
}

static void end_connection(void)
{
	if (vmemd.fd >= 0)
		close(vmemd.fd);
	vmemd.fd = -1;
}

static void read_all(void)
{
	char bytes[4096];

	while (vmemd.fd >= 0 &&
	       recv(vmemd.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void vmemd_step(uint8_t step)
{
	switch (step) {
	case STEP_SAY:
		say_input();
		break;
	case STEP_LINE:
		say_one();
		break;
	case STEP_LONG:
		say_long();
		break;
	case STEP_END:
		end_connection();
		break;
	case STEP_READ:
		read_all();
		break;
	case STEP_ABSENT:
		vmemd.absent = fuzz_u8(input) % 4;
		break;
	}
}

/* --- What the library calls --- */

int __wrap_kvmvmem_connect(const char *path __attribute__((unused)),
			   struct kvmvmem_error *error)
{
	int pair[2];

	if (vmemd.absent) {
		vmemd.absent--;
		if (error)
			strcpy(error->text, "no vmemd listens there");
		return -ECONNREFUSED;
	}
	end_connection();
	fuzz_require(!socketpair(
		AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	vmemd.fd = pair[1];
	return pair[0];
}

int64_t __wrap_kvmvmem_now_ms(void)
{
	return clock_ms;
}

int __wrap_poll(struct pollfd *fds, nfds_t nr, int ms)
{
	int ret;

	for (;;) {
		ret = __real_poll(fds, nr, 0);
		if (ret || !ms || !input)
			return ret;
		if (!input->left) {
			fuzz_require(ms > 0);
			clock_ms += ms;
			return 0;
		}
		vmemd_step(fuzz_u8(input) % STEP_NR_VMEMD);
	}
}

/* The library connects again at once; other timeouts are steps of the input. */
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old)
{
	struct itimerspec set = *value;

	timer_fd = fd;
	if (set.it_value.tv_sec || set.it_value.tv_nsec)
		set.it_value = set.it_value.tv_sec < RETRY_MAX_S
				       ? (struct timespec){0, 1}
				       : (struct timespec){1000000, 0};
	return __real_timerfd_settime(fd, flags, &set, old);
}

/* A view changes its own memory only. */
int __wrap_mprotect(void *address, size_t size, int access)
{
	uintptr_t offset = (uintptr_t)address - (uintptr_t)view_hva;

	fuzz_require(view_hva && offset < VIEW_SIZE &&
		     size <= VIEW_SIZE - offset);
	return __real_mprotect(address, size, access);
}

static bool has_to_fail(void)
{
	bool fail = maps.fail & 1;

	maps.fail >>= 1;
	return fail;
}

static bool overlap(const struct kvmvmem_range *a,
		    const struct kvmvmem_range *b)
{
	return a->gpa < b->gpa + b->size && b->gpa < a->gpa + a->size;
}

static void check_range(const struct kvmvmem_range *range)
{
	fuzz_require(range->size && range->gpa + range->size > range->gpa &&
		     range->offset + range->size > range->offset &&
		     range->offset <= range->gpa);
	fuzz_require((mode == MODE_MEMSLOT_RUNS) == (range->nr_slots != 0));
}

static int map(void *arg __attribute__((unused)),
	       const struct kvmvmem_range *range)
{
	check_range(range);
	for (unsigned int i = 0; i < maps.nr; i++)
		fuzz_require(!overlap(range, &maps.ranges[i]));
	if (has_to_fail() || maps.nr == RANGES_MAX)
		return -ENOSPC;
	maps.ranges[maps.nr++] = *range;
	maps.size += range->size;
	return 0;
}

/* Remove a range from the front of another one, or split it. */
static int remove_part(unsigned int i, const struct kvmvmem_range *range)
{
	struct kvmvmem_range *has = &maps.ranges[i];
	uint64_t end = range->gpa + range->size;
	uint64_t has_end = has->gpa + has->size;
	struct kvmvmem_range after = *has;

	fuzz_require(range->gpa >= has->gpa);
	if (end < has_end && range->gpa > has->gpa) {
		if (maps.nr == RANGES_MAX)
			return -ENOSPC;
		after.gpa = end;
		after.size = has_end - end;
		has->size = range->gpa - has->gpa;
		maps.ranges[maps.nr++] = after;
	} else if (end < has_end) {
		has->gpa = end;
		has->size = has_end - end;
	} else if (range->gpa > has->gpa) {
		has->size = range->gpa - has->gpa;
	} else {
		*has = maps.ranges[--maps.nr];
	}
	return 0;
}

static int unmap(void *arg __attribute__((unused)),
		 const struct kvmvmem_range *range)
{
	struct kvmvmem_range left = *range;

	check_range(range);
	if (has_to_fail())
		return -EIO;
	while (left.size) {
		struct kvmvmem_range part = left;
		unsigned int i = 0;

		while (i < maps.nr &&
		       (left.gpa < maps.ranges[i].gpa ||
			left.gpa - maps.ranges[i].gpa >= maps.ranges[i].size))
			i++;
		/* Only what is mapped is unmapped. */
		fuzz_require(i < maps.nr);
		if (mode == MODE_BLOCKS)
			fuzz_require(maps.ranges[i].gpa == left.gpa &&
				     maps.ranges[i].size == left.size);
		if (part.size >
		    maps.ranges[i].gpa + maps.ranges[i].size - left.gpa)
			part.size = maps.ranges[i].gpa + maps.ranges[i].size -
				    left.gpa;
		/* A part in the middle needs a range more; the call fails first. */
		if (remove_part(i, &part))
			return -ENOSPC;
		maps.size -= part.size;
		left.gpa += part.size;
		left.size -= part.size;
	}
	return 0;
}

/* --- The VMM --- */

static void dispatch(struct kvmvmem_consumer *consumer)
{
	struct kvmvmem_error error = {""};
	int ret = kvmvmem_consumer_dispatch(consumer, &error);

	if (!ret)
		return;
	check_error(ret, &error);
	fuzz_require(kvmvmem_consumer_state(consumer) == KVMVMEM_CLOSED);
}

static void resume(struct kvmvmem_consumer *consumer)
{
	struct kvmvmem_error error = {""};
	int ret = kvmvmem_consumer_resume(consumer, &error);

	if (ret)
		check_error(ret, &error);
}

static void expire_timer(void)
{
	const struct itimerspec now = {.it_value = {0, 1}};

	if (timer_fd >= 0)
		__real_timerfd_settime(timer_fd, 0, &now, NULL);
}

static void vmm_step(struct kvmvmem_consumer *consumer, uint8_t step)
{
	switch (step) {
	case STEP_DISPATCH:
		dispatch(consumer);
		break;
	case STEP_TIMEOUT:
		expire_timer();
		break;
	case STEP_RESUME:
		resume(consumer);
		break;
	case STEP_FAIL:
		maps.fail = fuzz_u8(input);
		break;
	}
}

static void run_consumer(struct kvmvmem_consumer *consumer)
{
	while (input->left) {
		uint8_t step = fuzz_u8(input) % STEP_NR;

		if (step < STEP_NR_VMEMD)
			vmemd_step(step);
		else
			vmm_step(consumer, step);
		if (mode != MODE_VIEW)
			fuzz_require(kvmvmem_consumer_mapped_size(consumer) ==
				     maps.size);
	}
	dispatch(consumer);
	maps.fail = 0;
}

static void be_consumer(void)
{
	const struct kvmvmem_consumer_config config = {
		.size = sizeof(config),
		.unit = mode,
		.control_path = "/control",
		.name = "fuzz",
		.map = map,
		.unmap = unmap,
	};
	struct kvmvmem_error error = {""};
	struct kvmvmem_consumer *consumer;
	int ret = kvmvmem_consumer_new(&consumer, &config, &error);

	fuzz_require(!maps.nr);
	if (ret) {
		check_error(ret, &error);
		return;
	}
	run_consumer(consumer);
	kvmvmem_consumer_free(consumer);
	fuzz_require(!maps.nr && !maps.size);
}

static void be_view(void)
{
	const struct kvmvmem_view_config config = {
		.size = sizeof(config),
		.memory_fd = memory_fd,
		.region_size = VIEW_SIZE,
		.control_path = "/control",
		.name = "fuzz",
	};
	struct kvmvmem_error error = {""};
	struct kvmvmem_view *view;
	int ret = kvmvmem_view_new(&view, &config, &error);

	if (ret) {
		check_error(ret, &error);
		return;
	}
	view_hva = kvmvmem_view_address(view);
	run_consumer(kvmvmem_view_consumer(view));
	kvmvmem_view_free(view);
	view_hva = NULL;
}

static void plan(struct kvmvmem_vmemd *daemon)
{
	struct kvmvmem_plan request = {
		.size = sizeof(request),
		.region_size = 1ULL << 40,
		.block_size = 2ULL << 20,
		.kvm_limit = 32764,
	};
	struct kvmvmem_error error = {""};
	int ret = kvmvmem_vmemd_plan(daemon, NULL, &request, &error);

	if (ret)
		check_error(ret, &error);
	else if (*request.reason)
		check_text(request.reason, sizeof(request.reason));
}

static void call(void)
{
	struct kvmvmem_error error = {""};
	struct kvmvmem_vmemd *daemon;
	uint8_t method = fuzz_u8(input) % 6;
	int ret = 0;

	fuzz_require(!kvmvmem_vmemd_new(&daemon, "/control", &error));
	if (method == 0)
		plan(daemon);
	else if (method == 1)
		ret = kvmvmem_vmemd_attach(daemon, "node0", memory_fd,
					   memory_fd, &error);
	else if (method == 2)
		ret = kvmvmem_vmemd_system_reset(daemon, NULL, true, &error);
	else if (method == 3)
		ret = kvmvmem_vmemd_hold(daemon, NULL, true, &error);
	else if (method == 4)
		ret = kvmvmem_vmemd_dirty_log(daemon, NULL, false, &error);
	else
		ret = kvmvmem_vmemd_resize(daemon, NULL, 1ULL << 30, &error);
	if (ret)
		check_error(ret, &error);
	kvmvmem_vmemd_free(daemon);
}

void fuzz_set_up(void)
{
	memory_fd = memfd_create("memory", MFD_CLOEXEC);
	fuzz_require(memory_fd >= 0 && !ftruncate(memory_fd, VIEW_SIZE));
}

void fuzz_one(struct fuzz_input *in)
{
	memset(&maps, 0, sizeof(maps));
	vmemd = (struct vmemd){.fd = -1};
	clock_ms = 0;
	timer_fd = -1;
	input = in;
	mode = fuzz_u8(in) % MODE_NR;
	switch (mode) {
	case MODE_VIEW:
		be_view();
		break;
	case MODE_CALL:
		call();
		break;
	default:
		be_consumer();
		break;
	}
	input = NULL;
	end_connection();
}
