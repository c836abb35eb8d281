// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The region as a backing, with the real module. This program is the VMM of a
 * VM without vCPUs; the daemon's backing/kernel.c and device/virtio_mem.c
 * manage its region. It needs /dev/kvm and /dev/kvm-vmem, and runs in the
 * testbed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/kvm_vmem.h>
#include <linux/netlink.h>

#include "backing/kernel.h"
#include "base/log.h"
#include "device/virtio_mem.h"
#include "fd_message.h"
#include "unit.h"

#define GPA	    (4 * GIB)
#define BLOCK	    (2 * MIB)
#define SLOT	    (16 * MIB)
#define REGION_SIZE (256 * MIB)
#define FIRST_SLOT  8

/* Bounds on the end of a VM and on an answer of the kernel. */
#define GONE_TIMEOUT_MS	  20000
#define ANSWER_TIMEOUT_MS 20000

/**
 * struct fixture - a VM with a region, and the daemon's view of it
 * @fd: the VMM's descriptor of the region
 * @memory_fd: the VMM's descriptor of its memory
 */
struct fixture {
	int vm_fd;
	int fd;
	int memory_fd;
	uint8_t *memory;
	sd_event *event;
	struct kernel_nl nl;
	struct vmem_nl *other_nl;
	struct kernel_backing region;
	struct error err;
	bool done;
	int result;
	unsigned int news;
	struct virtio_mem_resp resp;
};

/*
 * Number of answers to lose, as the kernel does if it has no memory for one.
 * recvmsg() below, which the netlink client calls, counts them.
 */
static unsigned int answers_to_lose;
/* Called when an answer is lost. */
static void (*when_lost)(void);
/* Number of answers to delay beyond the caller's wait. */
static unsigned int answers_to_delay;

ssize_t recvmsg(int fd, struct msghdr *mh, int flags)
{
	const struct sockaddr_nl *from = mh->msg_name;
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	ssize_t got;

	if (answers_to_delay && !(flags & MSG_DONTWAIT)) {
		answers_to_delay--;
		errno = EAGAIN;
		return -1;
	}
	/*
	 * The region waits for an answer only briefly, and the kernel of a busy
	 * machine may take longer. Late answers are tested by answers_to_delay.
	 */
	if (!(flags & MSG_DONTWAIT))
		poll(&pfd, 1, ANSWER_TIMEOUT_MS);
	got = syscall(SYS_recvmsg, fd, mh, flags);

	if (got > 0 && from && from->nl_family == AF_NETLINK &&
	    answers_to_lose) {
		answers_to_lose--;
		if (when_lost)
			when_lost();
		errno = ENOBUFS;
		return -1;
	}
	return got;
}

/* Run the event loop until the kernel has answered. */
static int wait_done(struct fixture *f)
{
	while (!f->done)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	f->done = false;
	return f->result;
}

static void on_done(void *arg, int result)
{
	struct fixture *f = arg;

	f->done = true;
	f->result = result;
}

static void on_size_set(void *arg, int result, const char *text)
{
	(void)text;
	on_done(arg, result);
}

static void on_news(void *arg)
{
	struct fixture *f = arg;

	f->news++;
}

static void create_vm(struct fixture *f)
{
	struct kvm_vmem_create_region args = {
		.size = sizeof(args),
		.address_spaces = 1,
		.first_slot = FIRST_SLOT,
		.guest_phys_addr = GPA,
		.region_size = REGION_SIZE,
		.block_size = BLOCK,
		.slot_size = SLOT,
	};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int dev = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);

	assert_true(kvm >= 0);
	assert_true(dev >= 0);
	f->vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	assert_true(f->vm_fd >= 0);
	f->memory_fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(f->memory_fd, REGION_SIZE), 0);
	f->memory = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, f->memory_fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	args.vm_fd = f->vm_fd;
	args.userspace_addr = (uintptr_t)f->memory;
	f->fd = ioctl(dev, KVM_VMEM_CREATE_REGION, &args);
	assert_true(f->fd >= 0);
	close(kvm);
	close(dev);
}

/* The test uses the region directly, without a device. */
static void take_over(struct fixture *f)
{
	f->region.backing.done = on_done;
	f->region.backing.arg = f;
}

/* Attach copies of the descriptors, as a daemon gets them. */
static int attach(struct fixture *f)
{
	int ret;

	ret = kernel_attach(&f->region, f->event, &f->nl, dup(f->fd),
			    dup(f->memory_fd), &f->err);
	take_over(f);
	f->region.news = on_news;
	f->region.size_set = on_size_set;
	f->region.log_set = on_size_set;
	f->region.arg = f;
	return ret;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	create_vm(f);
	assert_true(sd_event_new(&f->event) >= 0);
	assert_int_equal(kernel_nl_open(&f->nl, &f->err), 0);
	assert_int_equal(vmem_nl_open(&f->other_nl, &f->err), 0);
	assert_int_equal(attach(f), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	kernel_detach(&f->region);
	kernel_nl_close(&f->nl);
	sd_event_unref(f->event);
	vmem_nl_close(f->other_nl);
	munmap(f->memory, REGION_SIZE);
	close(f->fd);
	close(f->memory_fd);
	close(f->vm_fd);
	free(f);
	return 0;
}

/*
 * The daemon is killed and started again: it loses its memory but keeps its
 * descriptors.
 */
static void restart(struct fixture *f)
{
	kernel_detach(&f->region);
	assert_int_equal(attach(f), 0);
}

/* The answer is immediate unless delayed by answers_to_delay. */
static int plug_in(struct fixture *f, struct kernel_backing *region,
		   unsigned int first, unsigned int nr)
{
	struct backing *backing = &region->backing;
	int ret = backing_plug(backing, GPA + first * BLOCK, nr * BLOCK);

	return ret == -EINPROGRESS ? wait_done(f) : ret;
}

static int plug(struct fixture *f, unsigned int first, unsigned int nr)
{
	return plug_in(f, &f->region, first, nr);
}

static int unplug(struct fixture *f, unsigned int first, unsigned int nr)
{
	struct backing *backing = &f->region.backing;
	int ret = backing_unplug(backing, GPA + first * BLOCK, nr * BLOCK);

	return ret == -EINPROGRESS ? wait_done(f) : ret;
}

static int unplug_all(struct fixture *f)
{
	struct backing *backing = &f->region.backing;
	int ret = backing_unplug_all(backing);

	return ret == -EINPROGRESS ? wait_done(f) : ret;
}

static int set_requested(struct fixture *f, uint64_t size)
{
	assert_int_equal(kernel_set_requested(&f->region, size, &f->err),
			 -EINPROGRESS);
	return wait_done(f);
}

static bool repeated(struct fixture *f, bool plugging, unsigned int first,
		     unsigned int nr)
{
	struct backing *backing = &f->region.backing;

	int ret;

	ret = backing_repeat(backing, plugging, GPA + first * BLOCK,
			     nr * BLOCK);
	if (ret == -EINPROGRESS)
		ret = wait_done(f);
	assert_true(!ret || ret == -EINVAL);
	return !ret;
}

/* Another holder of the descriptor plugs blocks. */
static void plug_by_other(struct fixture *f, unsigned int first,
			  unsigned int nr, uint64_t request_id)
{
	struct vmem_nl_range range = {GPA + first * BLOCK, nr * BLOCK};

	assert_int_equal(vmem_nl_plug(f->other_nl, VMEM_NL_BY_FD(f->fd),
				      request_id, &range, 1, NULL, &f->err),
			 0);
}

static int add_to_blocks(const struct vmem_nl_range *run, void *arg)
{
	blocks_set(arg, (run->gpa - GPA) / BLOCK, run->size / BLOCK);
	return 0;
}

/* The daemon's mirror agrees with the kernel. */
static void assert_mirror(struct fixture *f)
{
	const struct blocks *mirror = &f->region.backing.plugged;
	struct vmem_nl_region state;
	struct blocks truth;

	assert_int_equal(blocks_init(&truth, REGION_SIZE / BLOCK), 0);
	assert_int_equal(vmem_nl_block_dump(f->other_nl, VMEM_NL_BY_FD(f->fd),
					    add_to_blocks, &truth, &f->err),
			 0);
	assert_int_equal(truth.set, mirror->set);
	for (uint64_t i = 0; i < truth.nr; i++)
		assert_int_equal(blocks_count(&truth, i, 1),
				 blocks_count(mirror, i, 1));
	blocks_free(&truth);
	assert_int_equal(vmem_nl_region_get(f->other_nl, VMEM_NL_BY_FD(f->fd),
					    &state, &f->err),
			 0);
	assert_int_equal(state.plugged_size, f->region.state.plugged_size);
	assert_int_equal(state.populated_slots,
			 f->region.state.populated_slots);
	assert_int_equal(state.request_id, f->region.state.request_id);
	assert_int_equal(state.changes, f->region.changes);
}

static bool others_changed(struct fixture *f)
{
	struct pollfd pfd = {.fd = f->region.fd, .events = POLLIN};
	bool others;

	/* The event of an own change may have been read already. */
	if (!poll(&pfd, 1, 0))
		return false;
	assert_int_equal(kernel_read_changes(&f->region, &others), 0);
	return others;
}

/* --- Tests --- */

static void geometry_is_the_kernels(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->region.backing.gpa, GPA);
	assert_int_equal(f->region.backing.size, REGION_SIZE);
	assert_int_equal(f->region.backing.block_size, BLOCK);
	assert_int_equal(f->region.state.slot_size, SLOT);
	assert_false(f->region.used_before);
	assert_mirror(f);
}

static void memory_that_does_not_fit_is_refused(void **state)
{
	struct fixture *f = *state;
	struct kernel_backing region;
	int small = memfd_create("small", MFD_CLOEXEC);
	int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int null = open("/dev/null", O_RDWR);

	assert_int_equal(ftruncate(small, REGION_SIZE - 1), 0);
	assert_int_equal(ftruncate(sealed, REGION_SIZE), 0);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(
		kernel_attach(&region, f->event, &f->nl, f->fd, small, &f->err),
		-EINVAL);
	assert_int_equal(kernel_attach(&region, f->event, &f->nl, f->fd, sealed,
				       &f->err),
			 -EPERM);
	assert_int_equal(
		kernel_attach(&region, f->event, &f->nl, f->fd, null, &f->err),
		-EINVAL);
	assert_int_equal(
		kernel_attach(&region, f->event, &f->nl, f->fd, -1, &f->err),
		-EBADF);
	/* Descriptors that are no region. */
	assert_int_equal(kernel_attach(&region, f->event, &f->nl, null,
				       f->memory_fd, &f->err),
			 -EBADF);
	assert_int_equal(kernel_attach(&region, f->event, &f->nl, f->vm_fd,
				       f->memory_fd, &f->err),
			 -EBADF);
	assert_true(vmem_nl_failure(f->nl.read)->from_kernel);
	close(small);
	close(sealed);
	close(null);
}

static void changes_are_carried_out(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 12), 0);
	assert_mirror(f);
	assert_int_equal(f->region.state.populated_slots, 2);
	assert_int_equal(unplug(f, 2, 3), 0);
	assert_int_equal(unplug(f, 8, 4), 0);
	assert_mirror(f);
	assert_int_equal(f->region.state.populated_slots, 1);
	assert_int_equal(plug(f, 100, 28), 0);
	assert_mirror(f);
	assert_int_equal(unplug_all(f), 0);
	assert_mirror(f);
	assert_int_equal(f->region.state.populated_slots, 0);
}

static void discarded_memory_is_given_back(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;
	struct stat st;

	memset(f->memory, 1, 4 * BLOCK);
	assert_int_equal(backing_discard(backing, GPA + BLOCK, BLOCK), 0);
	assert_int_equal(fstat(f->memory_fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, 3 * BLOCK);
	assert_int_equal(st.st_size, REGION_SIZE);
	assert_int_equal(f->memory[BLOCK - 1], 1);
	assert_int_equal(f->memory[BLOCK], 0);
	assert_int_equal(f->memory[2 * BLOCK - 1], 0);
	assert_int_equal(f->memory[2 * BLOCK], 1);
}

static void a_restart_loses_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set_requested(f, 64 * MIB), 0);
	assert_int_equal(plug(f, 3, 5), 0);
	assert_int_equal(plug(f, 20, 1), 0);
	assert_int_equal(unplug(f, 5, 1), 0);
	restart(f);
	assert_mirror(f);
	assert_true(f->region.used_before);
	assert_int_equal(f->region.state.requested_size, 64 * MIB);
	assert_int_equal(f->region.backing.plugged.set, 5);
	assert_int_equal(plug(f, 5, 1), 0);
	assert_mirror(f);
}

/* A driver may have seen the usable region, which must not shrink then. */
static void a_region_once_requested_counts_as_used(void **state)
{
	struct fixture *f = *state;

	restart(f);
	assert_false(f->region.used_before);
	assert_int_equal(set_requested(f, 64 * MIB), 0);
	assert_int_equal(set_requested(f, 0), 0);
	restart(f);
	assert_true(f->region.used_before);
}

static void only_the_last_request_is_repeated(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(plug(f, 8, 4), 0);
	/* Requests are repeated only after a restart. */
	assert_false(repeated(f, true, 8, 4));
	restart(f);
	assert_true(repeated(f, true, 8, 4));
	assert_false(repeated(f, true, 8, 4));
	assert_mirror(f);
	restart(f);
	assert_false(repeated(f, true, 0, 4));
	assert_false(repeated(f, true, 8, 4));
	restart(f);
	assert_false(repeated(f, false, 8, 4));
	assert_int_equal(unplug(f, 0, 4), 0);
	restart(f);
	assert_true(repeated(f, false, 0, 4));
	restart(f);
	/* Another change ends the possibility of a repetition. */
	assert_int_equal(plug(f, 0, 1), 0);
	assert_false(repeated(f, false, 0, 4));
	assert_mirror(f);
}

static void own_changes_are_distinguished_from_others(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 4), 0);
	assert_false(others_changed(f));
	assert_int_equal(unplug(f, 1, 1), 0);
	assert_int_equal(set_requested(f, 32 * MIB), 0);
	assert_int_equal(set_requested(f, 32 * MIB), 0);
	assert_false(others_changed(f));

	plug_by_other(f, 40, 2, 0);
	assert_true(others_changed(f));
	kernel_recheck(&f->region);
	assert_false(f->region.recheck);
	assert_int_equal(f->news, 1);
	assert_mirror(f);
	/* Mixed with an own change. */
	plug_by_other(f, 50, 2, 0);
	assert_int_equal(plug(f, 60, 1), 0);
	assert_false(f->region.recheck);
	assert_int_equal(f->news, 2);
	assert_mirror(f);
	plug_by_other(f, 54, 2, 0);
	assert_int_equal(unplug(f, 60, 1), 0);
	assert_true(others_changed(f));
	kernel_recheck(&f->region);
	assert_mirror(f);

	assert_int_equal(vmem_nl_region_set(f->other_nl, VMEM_NL_BY_FD(f->fd),
					    VMEM_NL_SET_REQUESTED_SIZE,
					    64 * MIB, false, NULL, &f->err),
			 0);
	assert_true(others_changed(f));
	kernel_recheck(&f->region);
	assert_false(f->region.recheck);
	assert_int_equal(f->region.state.requested_size, 64 * MIB);
	assert_mirror(f);
}

/*
 * The descriptor's event is not read with a late answer, so changes by others
 * are reported by that event.
 */
static void changes_by_others_are_not_hidden_by_a_late_answer(void **state)
{
	struct fixture *f = *state;

	plug_by_other(f, 50, 2, 0);
	answers_to_delay = 1;
	assert_int_equal(plug(f, 60, 1), 0);
	assert_int_equal(answers_to_delay, 0);
	assert_int_equal(f->news, 0);
	assert_true(others_changed(f));
	kernel_recheck(&f->region);
	assert_false(f->region.recheck);
	assert_int_equal(f->news, 1);
	assert_mirror(f);

	/* Without changes by others, nothing is reported. */
	answers_to_delay = 1;
	assert_int_equal(plug(f, 70, 1), 0);
	assert_int_equal(answers_to_delay, 0);
	assert_false(others_changed(f));
	assert_int_equal(f->news, 1);
	assert_mirror(f);
}

static void a_stale_view_is_found_and_renewed(void **state)
{
	struct fixture *f = *state;

	plug_by_other(f, 4, 2, 0);
	assert_int_equal(plug(f, 0, 8), -EAGAIN);
	assert_int_equal(f->news, 1);
	assert_mirror(f);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_mirror(f);
	/* Another request takes the id that would be used next. */
	plug_by_other(f, 20, 1, f->region.state.request_id + 1);
	assert_int_equal(unplug(f, 0, 1), -EAGAIN);
	assert_mirror(f);
	assert_int_equal(unplug(f, 0, 1), 0);
	assert_mirror(f);
}

/* The earlier daemon's request is carried out only now. */
static void a_request_in_flight_over_a_restart_is_found(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 4), 0);
	restart(f);
	plug_by_other(f, 8, 4, f->region.state.request_id + 1);
	kernel_recheck(&f->region);
	assert_mirror(f);
	assert_false(repeated(f, true, 0, 4));
	restart(f);
	plug_by_other(f, 16, 4, f->region.state.request_id + 1);
	kernel_recheck(&f->region);
	assert_true(repeated(f, true, 16, 4));
	/* The same request is made again before its event was read. */
	restart(f);
	plug_by_other(f, 24, 4, f->region.state.request_id + 1);
	assert_int_equal(plug(f, 24, 4), 0);
	kernel_recheck(&f->region);
	assert_mirror(f);
	/* The end of a connection has the same effect. */
	assert_int_equal(plug(f, 32, 4), 0);
	assert_false(repeated(f, true, 32, 4));
	backing_answer_lost(&f->region.backing);
	assert_true(repeated(f, true, 32, 4));
}

static struct fixture *of_when_lost;

static void plug_when_lost(void)
{
	plug_by_other(of_when_lost, 100, 1,
		      of_when_lost->region.blocks.change.request_id + 1);
}

static void lost_answers_are_requested_again(void **state)
{
	struct fixture *f = *state;

	answers_to_lose = 1;
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(answers_to_lose, 0);
	assert_mirror(f);
	answers_to_lose = 1;
	assert_int_equal(unplug(f, 1, 2), 0);
	assert_mirror(f);
	answers_to_lose = 1;
	assert_int_equal(unplug_all(f), 0);
	assert_mirror(f);
	/* A refusal may be lost too. */
	plug_by_other(f, 4, 1, 0);
	answers_to_lose = 1;
	assert_int_equal(plug(f, 4, 2), -EAGAIN);
	assert_mirror(f);
	answers_to_lose = 1;
	assert_int_equal(set_requested(f, 32 * MIB), 0);
	assert_int_equal(f->region.state.requested_size, 32 * MIB);
	/* The kernel remembers a later request of another holder by then. */
	of_when_lost = f;
	when_lost = plug_when_lost;
	answers_to_lose = 1;
	assert_int_equal(plug(f, 50, 2), 0);
	when_lost = NULL;
	assert_mirror(f);
	assert_int_equal(blocks_count(&f->region.backing.plugged, 50, 2), 2);
	assert_int_equal(blocks_count(&f->region.backing.plugged, 100, 1), 1);
}

/* Sequence numbers start at the time and increase by one per request. */
#define FORGED_BEFORE 400
#define FORGED	      800

/*
 * Send errors that look like the kernel's but come from another sender. Needs
 * CAP_NET_ADMIN.
 */
static void forge_answers(const struct vmem_nl *nl)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr body;
	} forged[FORGED] = {};
	struct sockaddr_nl to = {};
	socklen_t size = sizeof(to);
	int fd;

	assert_int_equal(
		getsockname(vmem_nl_fd(nl), (struct sockaddr *)&to, &size), 0);
	for (uint32_t i = 0; i < FORGED; i++) {
		forged[i].head.nlmsg_len = sizeof(forged[i]);
		forged[i].head.nlmsg_type = NLMSG_ERROR;
		forged[i].head.nlmsg_seq = time(NULL) - FORGED_BEFORE + i;
		forged[i].head.nlmsg_pid = to.nl_pid;
		forged[i].body.error = -EXDEV;
	}
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, forged, sizeof(forged), 0,
				(struct sockaddr *)&to, sizeof(to)),
			 sizeof(forged));
	close(fd);
}

static void forged_answers_are_ignored(void **state)
{
	struct fixture *f = *state;
	struct vmem_nl_region state_now;

	forge_answers(f->nl.read);
	assert_int_equal(vmem_nl_region_get(f->nl.read,
					    VMEM_NL_BY_FD(f->region.fd),
					    &state_now, &f->err),
			 0);
	assert_int_equal(state_now.size, REGION_SIZE);
	forge_answers(f->nl.blocks);
	assert_int_equal(plug(f, 0, 1), 0);
	assert_int_equal(f->region.backing.plugged.set, 1);
}

static void changes_do_not_block(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;

	answers_to_delay = 1;
	assert_int_equal(backing_plug(backing, GPA, BLOCK), -EINPROGRESS);
	assert_int_equal(answers_to_delay, 0);
	/*
	 * One request at a time; the mirror does not change before the answer.
	 */
	assert_int_equal(backing_plug(backing, GPA + BLOCK, BLOCK), -EBUSY);
	assert_int_equal(backing->plugged.set, 0);
	assert_int_equal(kernel_set_requested(&f->region, 32 * MIB, &f->err),
			 -EINPROGRESS);
	/* In the order of the requests. */
	assert_int_equal(wait_done(f), 0);
	assert_int_equal(backing->plugged.set, 1);
	assert_int_equal(wait_done(f), 0);
	assert_int_equal(f->region.state.requested_size, 32 * MIB);
}

static uint64_t requested_in_kernel(struct fixture *f)
{
	struct vmem_nl_region state;

	assert_int_equal(vmem_nl_region_get(f->other_nl, VMEM_NL_BY_FD(f->fd),
					    &state, &f->err),
			 0);
	return state.requested_size;
}

/* Settings change faster than the kernel answers. */
static void the_last_setting_wins(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 1; i <= 4; i++)
		assert_int_equal(
			kernel_set_requested(&f->region, i * 16 * MIB, &f->err),
			-EINPROGRESS);
	assert_int_equal(kernel_set_dirty_log(&f->region, false, &f->err),
			 -EINPROGRESS);
	assert_int_equal(kernel_set_dirty_log(&f->region, true, &f->err),
			 -EINPROGRESS);
	/* One result per setting, for its last value. */
	assert_int_equal(wait_done(f), 0);
	assert_int_equal(wait_done(f), 0);
	assert_false(f->region.size.out);
	assert_int_equal(f->region.state.requested_size, 64 * MIB);
	assert_int_equal(requested_in_kernel(f), 64 * MIB);
	assert_true(f->region.state.dirty_log);
	/* Changes: the first size, the last size, and dirty logging. */
	assert_int_equal(f->region.changes, 3);
	assert_mirror(f);
}

/* A refused value does not prevent a later one. */
static void a_failed_setting_does_not_block_later_ones(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(kernel_set_requested(&f->region, 1, &f->err),
			 -EINPROGRESS);
	assert_int_equal(kernel_set_requested(&f->region, 16 * MIB, &f->err),
			 -EINPROGRESS);
	assert_int_equal(wait_done(f), 0);
	assert_int_equal(requested_in_kernel(f), 16 * MIB);
	assert_int_equal(kernel_set_requested(&f->region, 32 * MIB, &f->err),
			 -EINPROGRESS);
	assert_int_equal(kernel_set_requested(&f->region, 1, &f->err),
			 -EINPROGRESS);
	assert_int_equal(wait_done(f), -EINVAL);
	/* The first value was accepted, and the daemon knows it. */
	assert_int_equal(f->region.state.requested_size, 32 * MIB);
	assert_int_equal(requested_in_kernel(f), 32 * MIB);
}

static void memory_plugged_by_others_is_not_discarded(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->region.backing;

	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(unplug(f, 0, 4), 0);
	assert_int_equal(backing->owed.set, 4);
	/* Another holder plugs a block and writes it, unknown to the daemon. */
	plug_by_other(f, 2, 1, 0);
	f->memory[2 * BLOCK] = 9;
	assert_int_equal(backing_discard(backing, GPA, 4 * BLOCK), -EAGAIN);
	assert_int_equal(f->memory[2 * BLOCK], 9);
	assert_int_equal(backing->owed.set, 3);
	assert_int_equal(f->news, 1);
	assert_mirror(f);
	assert_int_equal(backing_discard(backing, GPA, 2 * BLOCK), 0);
}

static void a_memslot_in_the_way_is_busy(void **state)
{
	struct fixture *f = *state;
	struct kvm_userspace_memory_region slot = {
		.slot = 0,
		.guest_phys_addr = GPA + SLOT,
		.memory_size = BLOCK,
		.userspace_addr = (uintptr_t)f->memory,
	};

	assert_int_equal(ioctl(f->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	assert_int_equal(plug(f, 8, 1), -EBUSY);
	assert_string_not_equal(f->region.backing.error.text, "");
	assert_mirror(f);
	slot.memory_size = 0;
	assert_int_equal(ioctl(f->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	assert_int_equal(plug(f, 8, 1), 0);
	assert_mirror(f);
}

static uint16_t request(struct fixture *f, struct virtio_mem *dev,
			uint16_t type, unsigned int first, uint16_t nr)
{
	struct virtio_mem_req req = {.type = htole16(type)};
	struct virtio_mem_resp resp;

	req.u.plug.addr = htole64(GPA + first * BLOCK);
	req.u.plug.nb_blocks = htole16(nr);
	if (!virtio_mem_handle(dev, &req, &resp)) {
		wait_done(f);
		resp = f->resp;
	}
	while (virtio_mem_work(dev))
		;
	return le16toh(resp.type);
}

static bool take_answer(void *arg, const struct virtio_mem_resp *resp)
{
	struct fixture *f = arg;

	f->resp = *resp;
	f->done = true;
	return true;
}

/* The whole device, with a daemon that dies between a change and the answer. */
static void the_device_survives_its_daemon(void **state)
{
	struct fixture *f = *state;
	struct virtio_mem dev = {.answered = take_answer, .arg = f};

	assert_int_equal(set_requested(f, 64 * MIB), 0);
	virtio_mem_start(&dev, &f->region.backing, 64 * MIB, false);
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_PLUG, 0, 16),
			 VIRTIO_MEM_RESP_ACK);
	memset(f->memory, 7, 16 * BLOCK);
	/* Killed after the memslots were deleted, before the discard. */
	virtio_mem_stop(&dev);
	take_over(f);
	assert_int_equal(unplug(f, 8, 8), 0);
	restart(f);
	virtio_mem_start(&dev, &f->region.backing,
			 f->region.state.requested_size, f->region.used_before);
	while (virtio_mem_work(&dev))
		;
	assert_int_equal(f->memory[8 * BLOCK], 0);
	assert_int_equal(f->memory[8 * BLOCK - 1], 7);
	/* The request is still in the queue, and is handled again. */
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_UNPLUG, 8, 8),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_UNPLUG, 8, 8),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_PLUG, 8, 16),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_PLUG, 24, 16),
			 VIRTIO_MEM_RESP_NACK);
	assert_int_equal(request(f, &dev, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0),
			 VIRTIO_MEM_RESP_ACK);
	assert_mirror(f);
	virtio_mem_stop(&dev);
}

/* --- The end of the VM --- */

static void send_fds(int to, const int *fds)
{
	if (fd_message_send(to, "x", 1, fds, 2, 0) != 1)
		_exit(1);
}

static void receive_fds(int from, int *fds)
{
	size_t nr = 2;
	char byte;

	assert_int_equal(fd_message_receive(from, &byte, 1, fds, &nr, 0), 1);
	assert_int_equal(nr, 2);
}

static void the_end_of_the_vm_is_seen(void **state)
{
	struct fixture *f = *state;
	struct kernel_backing region;
	struct kernel_nl nl = {};
	int pair[2], fds[2];
	struct pollfd pfd = {.events = POLLIN};
	struct backing *backing = &region.backing;
	bool others;
	pid_t vmm;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	vmm = fork();
	assert_true(vmm >= 0);
	if (!vmm) {
		struct fixture own = {};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		create_vm(&own);
		send_fds(pair[1], (int[]){own.fd, own.memory_fd});
		for (;;)
			pause();
	}
	receive_fds(pair[0], fds);
	assert_int_equal(kernel_nl_open(&nl, &f->err), 0);
	assert_int_equal(
		kernel_attach(&region, f->event, &nl, fds[0], fds[1], &f->err),
		0);
	backing->done = on_done;
	backing->arg = f;
	/*
	 * In another process than the VM's: the descriptor alone gives the
	 * authority.
	 */
	answers_to_delay = 1;
	assert_int_equal(backing_plug(backing, GPA, BLOCK), -EINPROGRESS);
	assert_int_equal(wait_done(f), 0);
	assert_int_equal(kernel_read_changes(&region, &others), 0);

	assert_int_equal(kill(vmm, SIGKILL), 0);
	assert_int_equal(waitpid(vmm, NULL, 0), vmm);
	pfd.fd = region.fd;
	assert_int_equal(poll(&pfd, 1, GONE_TIMEOUT_MS), 1);
	assert_true(pfd.revents & POLLHUP);
	/* The end is a change itself, and is read first. */
	assert_int_equal(kernel_read_changes(&region, &others), 0);
	assert_true(others);
	assert_int_equal(kernel_read_changes(&region, &others), -ENODEV);
	assert_int_equal(plug_in(f, &region, 1, 1), -ENODEV);
	kernel_detach(&region);
	kernel_nl_close(&nl);
	close(pair[0]);
	close(pair[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(geometry_is_the_kernels),
		T(memory_that_does_not_fit_is_refused),
		T(changes_are_carried_out),
		T(discarded_memory_is_given_back),
		T(a_restart_loses_nothing),
		T(a_region_once_requested_counts_as_used),
		T(only_the_last_request_is_repeated),
		T(own_changes_are_distinguished_from_others),
		T(changes_by_others_are_not_hidden_by_a_late_answer),
		T(a_stale_view_is_found_and_renewed),
		T(a_request_in_flight_over_a_restart_is_found),
		T(lost_answers_are_requested_again),
		T(forged_answers_are_ignored),
		T(changes_do_not_block),
		T(the_last_setting_wins),
		T(a_failed_setting_does_not_block_later_ones),
		T(memory_plugged_by_others_is_not_discarded),
		T(a_memslot_in_the_way_is_busy),
		T(the_device_survives_its_daemon),
		T(the_end_of_the_vm_is_seen),
	};

	log_init(LOG_LEVEL_ERR);
	if (access("/dev/kvm-vmem", R_OK | W_OK)) {
		puts("TAP version 13\n1..0 # SKIP no /dev/kvm-vmem");
		return 4;
	}
	return unit_run(tests, NULL, NULL);
}
