// SPDX-License-Identifier: GPL-2.0-or-later
/* The region's descriptor: poll, read and fdinfo. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "region.h"
#include "tap.h"

static short poll_now(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN | POLLOUT};

	ASSERT_GE(poll(&pfd, 1, 0), 0);
	return pfd.revents;
}

static int read_changes(int fd, uint64_t *changes)
{
	ssize_t n = read(fd, changes, sizeof(*changes));

	return n < 0 ? -errno : (int)n;
}

static void set_nonblocking(int fd)
{
	ASSERT_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void polls_and_reads_changes(const void *arg)
{
	struct vmem_nl_region s;
	uint64_t changes;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	set_nonblocking(r.fd);
	EXPECT_EQ(poll_now(r.fd), 0);
	EXPECT_EQ(read_changes(r.fd, &changes), -EAGAIN);

	EXPECT_OK(region_plug(&r, 0, 1));
	EXPECT_EQ(poll_now(r.fd), POLLIN);
	EXPECT_EQ(poll_now(r.fd), POLLIN);
	EXPECT_EQ(read_changes(r.fd, &changes), sizeof(changes));
	EXPECT_EQ(changes, 1);
	EXPECT_EQ(poll_now(r.fd), 0);
	EXPECT_EQ(read_changes(r.fd, &changes), -EAGAIN);

	/* Each change counts. One read returns the total. */
	EXPECT_OK(region_plug(&r, 1, 1));
	EXPECT_OK(region_unplug(&r, 0, 1));
	EXPECT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_REQUESTED_SIZE, REGION_BLOCK,
				     false, NULL, NULL));
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_EQ(read_changes(r.fd, &changes), sizeof(changes));
	EXPECT_EQ(changes, 5);
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &s, NULL));
	EXPECT_EQ(s.changes, 5);

	/* A refused request or a query is no change. */
	EXPECT_ERR(region_unplug(&r, 0, 1), ENXIO);
	EXPECT_EQ(poll_now(r.fd), 0);
}

static void read_sizes(const void *arg)
{
	uint64_t buf[3] = {0, ~0ULL, ~0ULL};
	struct region r;
	void *no_access;

	(void)arg;
	no_access = mmap(NULL, GUEST_PAGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(no_access, MAP_FAILED);
	region_init(&r, AS_MASK_NORMAL);
	set_nonblocking(r.fd);
	EXPECT_EQ(read(r.fd, buf, 7), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(read(r.fd, buf, 0), -1);
	EXPECT_EQ(errno, EINVAL);
	ASSERT_OK(region_plug(&r, 0, 1));
	EXPECT_EQ(read(r.fd, buf, 7), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(read(r.fd, no_access, sizeof(buf)), -1);
	EXPECT_EQ(errno, EFAULT);
	/*
	 * The failed reads did not consume the event. A larger buffer is not
	 * filled.
	 */
	EXPECT_EQ(read(r.fd, buf, sizeof(buf)), sizeof(buf[0]));
	EXPECT_EQ(buf[0], 1);
	EXPECT_EQ(buf[1], ~0ULL);
}

static void copies_share_what_was_read(const void *arg)
{
	uint64_t changes;
	struct region r;
	int copy;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	set_nonblocking(r.fd);
	copy = dup(r.fd);
	ASSERT_GE(copy, 0);
	ASSERT_OK(region_plug(&r, 0, 1));
	EXPECT_EQ(poll_now(copy), POLLIN);
	EXPECT_EQ(read_changes(r.fd, &changes), sizeof(changes));
	EXPECT_EQ(poll_now(copy), 0);
	EXPECT_EQ(read_changes(copy, &changes), -EAGAIN);
}

/**
 * struct waiter - a thread that waits for a change
 * @fd: the region
 * @use_poll: wait with poll(), otherwise with read()
 * @tid: its thread id, set when it runs
 * @result: result of the read
 * @changes: value read
 */
struct waiter {
	int fd;
	bool use_poll;
	pid_t tid;
	int result;
	uint64_t changes;
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;
	struct pollfd pfd = {.fd = w->fd, .events = POLLIN};

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	if (w->use_poll && poll(&pfd, 1, -1) != 1)
		w->result = -errno;
	else
		w->result = read_changes(w->fd, &w->changes);
	return NULL;
}

/* Does the thread sleep in the kernel, according to its state in /proc? */
static bool is_asleep(const struct waiter *w)
{
	pid_t tid = __atomic_load_n(&w->tid, __ATOMIC_ACQUIRE);
	char path[64], state = 0;
	FILE *f;

	if (!tid)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	ASSERT_EQ(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state == 'S';
}

static void change_wakes(const void *arg)
{
	const bool *use_poll = arg;
	struct waiter w = {.use_poll = *use_poll};
	pthread_t thread;
	struct region r;

	region_init(&r, AS_MASK_NORMAL);
	w.fd = r.fd;
	ASSERT_EQ(pthread_create(&thread, NULL, waiter_run, &w), 0);
	while (!is_asleep(&w))
		sched_yield();
	EXPECT_OK(region_plug(&r, 0, 1));
	pthread_join(thread, NULL);
	EXPECT_EQ(w.result, sizeof(w.changes));
	EXPECT_EQ(w.changes, 1);
}

static void is_not_for_other_calls(const void *arg)
{
	struct region r;
	char byte = 0;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	EXPECT_EQ(write(r.fd, &byte, 1), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(ioctl(r.fd, KVM_VMEM_CREATE_REGION, &r.args), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(ftruncate(r.fd, 0), -1);
}

/* The value after "name:" in this process' fdinfo; hexadecimal with 0x. */
static uint64_t fdinfo(int fd, const char *name)
{
	char path[64], line[256];
	uint64_t value = 0;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		size_t len = strlen(name);

		if (strncmp(line, name, len) || line[len] != ':')
			continue;
		EXPECT_TRUE(!found);
		found = true;
		value = strtoull(line + len + 1, NULL, 0);
	}
	fclose(f);
	if (!found)
		tap_fail(__FILE__, __LINE__, "no %s in fdinfo", name);
	return value;
}

static void fdinfo_shows_state(const void *arg)
{
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	EXPECT_EQ(fdinfo(r.fd, "plugged-size"), 0);
	EXPECT_EQ(fdinfo(r.fd, "populated-slots"), 0);
	EXPECT_EQ(fdinfo(r.fd, "metadata"), 0);
	EXPECT_EQ(fdinfo(r.fd, "request-id"), 0);
	EXPECT_EQ(fdinfo(r.fd, "dirty-log"), 0);

	EXPECT_OK(region_plug(&r, 3, 2));
	EXPECT_OK(
		vmem_nl_unplug(r.nl, VMEM_NL_BY_FD(r.fd), 12,
			       (struct vmem_nl_range[]){region_range(&r, 3, 1)},
			       1, NULL, NULL));
	EXPECT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_REQUESTED_SIZE |
					     VMEM_NL_SET_DIRTY_LOG,
				     2 * REGION_BLOCK, true, &s, NULL));
	EXPECT_EQ(fdinfo(r.fd, "region-id"), r.args.region_id);
	EXPECT_EQ(fdinfo(r.fd, "gpa"), r.args.guest_phys_addr);
	EXPECT_EQ(fdinfo(r.fd, "size"), r.args.region_size);
	EXPECT_EQ(fdinfo(r.fd, "hva"), r.args.userspace_addr);
	EXPECT_EQ(fdinfo(r.fd, "block-size"), r.args.block_size);
	EXPECT_EQ(fdinfo(r.fd, "slot-size"), r.args.slot_size);
	EXPECT_EQ(fdinfo(r.fd, "first-slot"), r.args.first_slot);
	EXPECT_EQ(fdinfo(r.fd, "nr-slots"), r.nr_slots);
	EXPECT_EQ(fdinfo(r.fd, "address-spaces"), AS_MASK_BOTH);
	EXPECT_EQ(fdinfo(r.fd, "requested-size"), 2 * REGION_BLOCK);
	EXPECT_EQ(fdinfo(r.fd, "plugged-size"), REGION_BLOCK);
	EXPECT_EQ(fdinfo(r.fd, "populated-slots"), 1);
	EXPECT_EQ(fdinfo(r.fd, "dirty-log"), 1);
	EXPECT_EQ(fdinfo(r.fd, "alive"), 1);
	EXPECT_EQ(fdinfo(r.fd, "request-id"), 12);
	EXPECT_EQ(fdinfo(r.fd, "metadata"), s.metadata.total);
	EXPECT_GT(s.metadata.total, 0);
}

int main(void)
{
	static const bool by_read = false, by_poll = true;
	static const struct tap_case cases[] = {
		{.name = "changes are polled and read",
		 .run = polls_and_reads_changes},
		{.name = "a read needs a buffer of 8 bytes", .run = read_sizes},
		{.name = "duplicates of the descriptor share the count already read",
		 .run = copies_share_what_was_read},
		{.name = "a change wakes a blocked read",
		 .run = change_wakes,
		 .arg = &by_read},
		{.name = "a change wakes a poll",
		 .run = change_wakes,
		 .arg = &by_poll},
		{.name = "other calls are refused",
		 .run = is_not_for_other_calls},
		{.name = "fdinfo shows the region's state",
		 .run = fdinfo_shows_state},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
