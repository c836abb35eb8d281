// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attacks by a VMM on the module, and through it on other processes: arguments
 * that wrap, memory that cannot be written, memslots changed without the
 * module's knowledge, and a vCPU that delays KVM for as long as the VMM likes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "batch.h"
#include "process.h"
#include "region.h"
#include "request.h"
#include "tap.h"
#include "userfault.h"

/* A memslot in addition to the region's. */
#define OTHER_SLOT 900U
#define OTHER_GPA  GIB(3)

static void slot_size_that_wraps(const void *arg)
{
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.slot_size = -r.args.block_size;
	r.fd = region_call_create(r.dev, &r.args);
	ASSERT_OK(r.fd < 0 ? r.fd : 0);
	/* One memslot of the region's size. */
	EXPECT_OK(region_plug(&r, 3, 1));
	EXPECT_GUEST_MEMORY(&r.vcpu, region_block_gpa(&r, 0),
			    region_block_hva(&r, 0));
	EXPECT_GUEST_MEMORY(&r.vcpu, region_block_gpa(&r, REGION_NR_BLOCKS - 1),
			    region_block_hva(&r, REGION_NR_BLOCKS - 1));
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_GUEST_MMIO(&r.vcpu, region_block_gpa(&r, 0));
}

/* The VMM replaces slot 0 of the region by a read-only memslot. */
static void make_read_only(const struct region *r)
{
	uint32_t slot = SLOT(AS_NORMAL, REGION_FIRST_SLOT);

	ASSERT_OK(vm_delete_slot(&r->vm, slot));
	ASSERT_OK(vm_set_region(&r->vm, slot, KVM_MEM_READONLY, REGION_GPA,
				r->args.slot_size, r->mem.hva));
}

static void read_only_stays(const void *arg)
{
	uint32_t slot = SLOT(AS_NORMAL, REGION_FIRST_SLOT);
	struct vmem_nl_region s;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, 2));
	make_read_only(&r);
	EXPECT_ERR(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				      VMEM_NL_SET_DIRTY_LOG, 0, true, &s, NULL),
		   ESTALE);
	EXPECT_ERR(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				      VMEM_NL_SET_DIRTY_LOG, 0, false, &s,
				      NULL),
		   ESTALE);
	EXPECT_ERR(vmem_nl_unplug_all(r.nl, VMEM_NL_BY_FD(r.fd), 0, NULL, NULL),
		   ESTALE);
	/* KVM refuses to change the flag: the memslot is still read-only. */
	EXPECT_ERR(vm_set_region(&r.vm, slot, 0, REGION_GPA, r.args.slot_size,
				 r.mem.hva),
		   EINVAL);
	/* The region does not delete it either. */
	close(r.fd);
	EXPECT_TRUE(vm_slot_exists(&r.vm, slot));
}

static void answer_that_cannot_be_written(const void *arg)
{
	struct kvm_userspace_memory_region entry = {
		.slot = OTHER_SLOT,
		.guest_phys_addr = OTHER_GPA,
		.memory_size = GUEST_PAGE,
	};
	struct kvm_vmem_memslot_batch *batch;
	struct backing mem;
	struct vm vm;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	vm_create(&vm, 0);
	backing_create(&mem, GUEST_PAGE);
	entry.userspace_addr = (uintptr_t)mem.hva;
	batch = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(batch != MAP_FAILED);
	*batch = (struct kvm_vmem_memslot_batch){
		.size = sizeof(*batch),
		.vm_fd = vm.fd,
		.nr = 1,
		.regions = (uintptr_t)&entry,
		.entry_size = sizeof(entry),
	};
	ASSERT_EQ(mprotect(batch, GUEST_PAGE, PROT_READ), 0);
	EXPECT_EQ(ioctl(dev, KVM_VMEM_MEMSLOT_BATCH, batch), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_ERR(vm_delete_slot(&vm, OTHER_SLOT), EINVAL);
}

static void argument_too_large(const void *arg)
{
	struct kvm_vmem_query *query;
	int dev;

	(void)arg;
	dev = kvm_vmem_open();
	query = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(query != MAP_FAILED);
	query->size = GUEST_PAGE;
	EXPECT_EQ(ioctl(dev, KVM_VMEM_QUERY, query), 0);
	memset(query, 0, sizeof(*query));
	query->size = GUEST_PAGE + 1;
	EXPECT_EQ(ioctl(dev, KVM_VMEM_QUERY, query), -1);
	EXPECT_EQ(errno, E2BIG);
}

/**
 * struct stuck - a VM whose vCPU waits for a page that is withheld
 * @r: its region
 * @watcher: another vCPU, which runs
 * @uffd: userfaultfd that handles the page
 * @page: the page
 * @vcpu: thread of the waiting vCPU
 * @plugger: thread of a plug, which waits for the vCPU
 * @creator: thread that creates another region, which waits for the plug
 * @plugged: result of the plug
 * @unplugged: result of an unplug
 * @created: result of the creation
 */
struct stuck {
	struct region r;
	struct vcpu watcher;
	int uffd;
	uint8_t *page;
	pthread_t vcpu;
	pthread_t plugger;
	pthread_t creator;
	int plugged;
	int unplugged;
	int created;
};

static void *read_page(void *arg)
{
	struct stuck *s = arg;
	uint64_t value;

	guest_read(&s->r.vcpu, OTHER_GPA, &value);
	return NULL;
}

static void *plug_one(void *arg)
{
	struct stuck *s = arg;
	struct vmem_nl_range range = region_range(&s->r, 0, 1);
	struct vmem_nl *nl = netlink_open();

	s->plugged = vmem_nl_plug(nl, VMEM_NL_BY_FD(s->r.fd), 0, &range, 1,
				  NULL, NULL);
	vmem_nl_close(nl);
	return NULL;
}

static void *create_another(void *arg)
{
	struct stuck *s = arg;
	struct kvm_vmem_create_region args = s->r.args;

	args.guest_phys_addr = GIB(8);
	args.first_slot = OTHER_SLOT + 1;
	s->created = region_call_create(s->r.dev, &args);
	return NULL;
}

static void make_vcpu_wait(struct stuck *s)
{
	struct uffd_msg msg;

	s->page = userfault_page(&s->uffd);
	ASSERT_OK(vm_set_region(&s->r.vm, OTHER_SLOT, 0, OTHER_GPA, GUEST_PAGE,
				s->page));
	ASSERT_EQ(pthread_create(&s->vcpu, NULL, read_page, s), 0);
	/* The vCPU has accessed the page. */
	ASSERT_EQ(read(s->uffd, &msg, sizeof(msg)), sizeof(msg));
	ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
}

static void let_vcpu_go(struct stuck *s)
{
	struct uffdio_zeropage zero = {
		.range = {.start = (uintptr_t)s->page, .len = GUEST_PAGE},
	};

	ASSERT_EQ(ioctl(s->uffd, UFFDIO_ZEROPAGE, &zero), 0);
	pthread_join(s->vcpu, NULL);
}

/* Prepare a region of a VM that will be stuck. */
static void stuck_init(struct stuck *s)
{
	region_await_none();
	region_init(&s->r, AS_MASK_NORMAL);
	vcpu_create(&s->watcher, &s->r.vm);
}

/*
 * Wait until the plug of block 0 waits for the stuck vCPU. Other vCPUs already
 * see its memslot then, although the plug is not complete.
 */
static void await_change_under_way(struct stuck *s)
{
	const uint64_t gpa = region_block_gpa(&s->r, 0);
	struct vmem_nl_region state;
	uint64_t value;

	while (guest_read(&s->watcher, gpa, &value) == GUEST_MMIO)
		sched_yield();
	ASSERT_OK(vmem_nl_region_get(s->r.nl, VMEM_NL_BY_FD(s->r.fd), &state,
				     NULL));
	EXPECT_EQ(state.alive, true);
	EXPECT_EQ(state.plugged_size, 0);
}

static void make_change_wait(struct stuck *s)
{
	make_vcpu_wait(s);
	ASSERT_EQ(pthread_create(&s->plugger, NULL, plug_one, s), 0);
	await_change_under_way(s);
}

static int count_metadata(const struct vmem_nl_slot *slot, void *arg)
{
	EXPECT_GT(slot->metadata.total, 0);
	EXPECT_EQ(slot->stale, false);
	++*(unsigned int *)arg;
	return 0;
}

static int expect_metadata(const struct vmem_nl_region *region, void *arg)
{
	(void)arg;
	EXPECT_EQ(region->has_metadata, true);
	EXPECT_GT(region->metadata.total, 0);
	return 0;
}

/* Memslots plugged before are reported although the VM is stuck. */
static void expect_reads(struct stuck *s)
{
	const struct vmem_nl_name name = VMEM_NL_BY_FD(s->r.fd);
	struct vmem_nl_region state;
	unsigned int slots = 0;
	char path[64], line[128];
	bool has_line = false;
	FILE *f;

	ASSERT_OK(vmem_nl_region_get(s->r.nl, name, &state, NULL));
	expect_metadata(&state, NULL);
	EXPECT_OK(
		vmem_nl_slot_dump(s->r.nl, name, count_metadata, &slots, NULL));
	EXPECT_EQ(slots, 1);
	EXPECT_OK(vmem_nl_region_dump(s->r.nl, expect_metadata, NULL, NULL));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->r.fd);
	f = fopen(path, "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		has_line |= !strncmp(line, "metadata:", 9);
	EXPECT_TRUE(has_line);
	fclose(f);
}

static void readers_do_not_wait(const void *arg)
{
	static struct stuck s;

	(void)arg;
	stuck_init(&s);
	/* The last slot; the stuck plug will be in the first one. */
	ASSERT_OK(region_plug(&s.r, REGION_NR_BLOCKS - 1, 1));
	make_vcpu_wait(&s);
	ASSERT_EQ(pthread_create(&s.plugger, NULL, plug_one, &s), 0);
	while (guest_read(&s.watcher, region_block_gpa(&s.r, 0),
			  &(uint64_t){0}) == GUEST_MMIO)
		sched_yield();
	expect_reads(&s);
	let_vcpu_go(&s);
	pthread_join(s.plugger, NULL);
	EXPECT_OK(s.plugged);
	region_model_set(&s.r, 0, 1, true);
	EXPECT_AS_MODEL(&s.r);
}

static void *unplug_one(void *arg)
{
	struct stuck *s = arg;
	struct vmem_nl_range range = region_range(&s->r, 0, 1);
	struct vmem_nl *nl = netlink_open();

	s->unplugged = vmem_nl_unplug(nl, VMEM_NL_BY_FD(s->r.fd), 0, &range, 1,
				      NULL, NULL);
	vmem_nl_close(nl);
	return NULL;
}

static int look_for_metadata(const struct vmem_nl_slot *slot, void *arg)
{
	EXPECT_EQ(slot->stale, false);
	*(bool *)arg |= slot->metadata.total != 0;
	return 0;
}

/* A memslot that a change is deleting does not count as deleted by the VMM. */
static void leaving_is_not_stale(const void *arg)
{
	static struct stuck s;
	pthread_t unplugger;
	bool there;

	(void)arg;
	stuck_init(&s);
	ASSERT_OK(region_plug(&s.r, 0, 1));
	make_vcpu_wait(&s);
	ASSERT_EQ(pthread_create(&unplugger, NULL, unplug_one, &s), 0);
	do {
		there = false;
		ASSERT_OK(vmem_nl_slot_dump(s.r.nl, VMEM_NL_BY_FD(s.r.fd),
					    look_for_metadata, &there, NULL));
	} while (there);
	let_vcpu_go(&s);
	pthread_join(unplugger, NULL);
	EXPECT_OK(s.unplugged);
	region_model_set(&s.r, 0, 1, false);
	EXPECT_AS_MODEL(&s.r);
}

static void nobody_else_waits(const void *arg)
{
	static struct stuck s;
	struct vmem_nl *nl;
	struct region other;

	(void)arg;
	stuck_init(&s);
	make_change_wait(&s);
	ASSERT_EQ(pthread_create(&s.creator, NULL, create_another, &s), 0);

	/* Generic netlink, and the complete life of a region in another VM. */
	nl = netlink_open();
	region_init(&other, AS_MASK_BOTH);
	EXPECT_OK(region_plug(&other, 0, 9));
	EXPECT_AS_MODEL(&other);
	EXPECT_OK(region_unplug_all(&other));
	EXPECT_EQ(close(other.fd), 0);
	vmem_nl_close(nl);
	await_change_under_way(&s);

	let_vcpu_go(&s);
	pthread_join(s.plugger, NULL);
	pthread_join(s.creator, NULL);
	EXPECT_OK(s.plugged);
	EXPECT_OK(s.created < 0 ? s.created : 0);
	region_model_set(&s.r, 0, 1, true);
	EXPECT_AS_MODEL(&s.r);
}

/**
 * struct stranger - a process that is not the VMM
 * @pid: its process
 * @socket: connection to it
 */
struct stranger {
	pid_t pid;
	int socket;
};

/* Start a process that calls @act on request, and confirms it. */
static void stranger_start(struct stranger *st, void (*act)(int fd), int fd)
{
	int pair[2];

	process_pair(pair);
	st->pid = fork();
	ASSERT_GE(st->pid, 0);
	if (!st->pid) {
		close(pair[0]);
		receive_byte(pair[1]);
		act(fd);
		send_byte(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	st->socket = pair[0];
}

static void stranger_act(struct stranger *st)
{
	send_byte(st->socket);
	receive_byte(st->socket);
	expect_exit(st->pid);
	close(st->socket);
}

/* State of a region that has ended but cannot drop its VM yet. */
static void expect_ending(struct stuck *s)
{
	struct kvm_vmem_create_region args = s->r.args;
	const struct vmem_nl_name name = VMEM_NL_BY_ID(args.region_id);
	struct vmem_nl_region state;

	EXPECT_ERR(vmem_nl_region_get(s->r.nl, name, &state, NULL), ENOENT);
	EXPECT_EQ(region_count(s->r.dev), 1);
	EXPECT_ERR(region_call_create(s->r.dev, &args), EEXIST);
}

/* State of the region once its end is complete: the VMM may reuse its ids. */
static void expect_end(struct stuck *s)
{
	let_vcpu_go(s);
	pthread_join(s->plugger, NULL);
	EXPECT_OK(s->plugged);
	region_await_none();
	EXPECT_GUEST_MMIO(&s->r.vcpu, region_block_gpa(&s->r, 0));
	region_create(&s->r);
	EXPECT_OK(region_plug(&s->r, 0, 2));
	EXPECT_AS_MODEL(&s->r);
}

static void close_fd(int fd)
{
	close(fd);
}

static void closed_by_a_stranger(const void *arg)
{
	static struct stuck s;
	struct stranger st;

	(void)arg;
	stuck_init(&s);
	stranger_start(&st, close_fd, s.r.fd);
	make_change_wait(&s);
	/* The stranger has another copy. */
	EXPECT_EQ(close(s.r.fd), 0);
	stranger_act(&st);
	expect_ending(&s);
	expect_end(&s);
}

/* Closing a unix socket makes the kernel search for unreachable descriptors. */
static void collect_garbage(void)
{
	int pair[2];

	process_pair(pair);
	close(pair[0]);
	close(pair[1]);
}

static void close_fd_and_collect(int fd)
{
	/* A copy, not the unreachable descriptor. */
	close(fd);
	collect_garbage();
}

/*
 * Make a descriptor unreachable: it is in a queue of a socket that is in its
 * own queue.
 */
static void lose_fd(int fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);
	int self = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ASSERT_GE(self, 0);
	/* Any free name. */
	ASSERT_EQ(bind(self, (void *)&addr, sizeof(addr.sun_family)), 0);
	ASSERT_EQ(getsockname(self, (void *)&addr, &len), 0);
	ASSERT_EQ(connect(self, (void *)&addr, len), 0);
	send_fd(self, fd);
	send_fd(self, self);
	close(fd);
	close(self);
}

/* The kernel closes one unreachable descriptor, then goes on to the next. */
static void lost_holds_up_nobody(const void *arg)
{
	static struct stuck s;
	struct vmem_nl_region state;
	struct stranger st;
	int ends[2];

	(void)arg;
	stuck_init(&s);
	stranger_start(&st, close_fd_and_collect, s.r.fd);
	make_change_wait(&s);
	lose_fd(s.r.fd);
	stranger_act(&st);
	while (!vmem_nl_region_get(s.r.nl, VMEM_NL_BY_ID(s.r.args.region_id),
				   &state, NULL))
		sched_yield();

	ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
	lose_fd(ends[1]);
	collect_garbage();
	EXPECT_EQ(read(ends[0], &(char){0}, 1), 0);
	expect_ending(&s);
	expect_end(&s);
}

/*
 * Maximum number of requests that wait for a region, including the current one.
 */
#define MAX_QUEUED 64U

static void only_so_many_wait(const void *arg)
{
	struct error err = {.text = ""};
	struct mnl_socket *socket;
	struct vmem_nl_region state;
	static struct stuck s;
	unsigned int i;

	(void)arg;
	stuck_init(&s);
	socket = request_socket(MNL_SOCKET_AUTOPID);
	make_vcpu_wait(&s);
	request_plug(socket, &s.r, 0, 1, 1);
	await_change_under_way(&s);
	for (i = 2; i <= MAX_QUEUED; i++)
		request_set(socket, &s.r, i % REGION_NR_BLOCKS, i);
	for (i = 0; i < 2; i++) {
		EXPECT_ERR(vmem_nl_region_set(s.r.nl, VMEM_NL_BY_FD(s.r.fd),
					      VMEM_NL_SET_REQUESTED_SIZE, 0,
					      false, &state, &err),
			   EBUSY);
		EXPECT_EQ(vmem_nl_failure(s.r.nl)->from_kernel, true);
		EXPECT_TRUE(strstr(err.text, "many"));
	}
	/* Reads do not count. */
	EXPECT_OK(vmem_nl_region_get(s.r.nl, VMEM_NL_BY_FD(s.r.fd), &state,
				     NULL));

	let_vcpu_go(&s);
	for (i = 1; i <= MAX_QUEUED; i++)
		request_expect_answer(socket, &s.r, i);
	ASSERT_OK(vmem_nl_region_set(s.r.nl, VMEM_NL_BY_FD(s.r.fd),
				     VMEM_NL_SET_REQUESTED_SIZE, REGION_BLOCK,
				     false, &state, NULL));
	EXPECT_EQ(state.requested_size, REGION_BLOCK);
	region_model_set(&s.r, 0, 1, true);
	EXPECT_AS_MODEL(&s.r);
	mnl_socket_close(socket);
}

/* Create another region in the VM, with nothing plugged. */
static struct region add_sibling(const struct region *of, unsigned int i)
{
	struct region r = *of;

	r.args.first_slot += i * REGION_NR_SLOTS;
	r.args.guest_phys_addr += i * GIB(1);
	region_create(&r);
	return r;
}

/*
 * Receive the errors so far. Return: number of requests that were not queued.
 */
static unsigned int count_refused(struct mnl_socket *socket)
{
	struct pollfd ready = {.fd = mnl_socket_get_fd(socket),
			       .events = POLLIN};
	unsigned int nr = 0;

	while (poll(&ready, 1, 0) == 1) {
		EXPECT_EQ(request_error(socket, NULL), -EBUSY);
		nr++;
	}
	return nr;
}

/* Send requests of maximum length for a region until one is not queued. */
static unsigned int fill(struct mnl_socket *socket, const struct region *r,
			 unsigned int max)
{
	unsigned int i;

	for (i = 0; i < max; i++) {
		request_long_plug(socket, r, i);
		if (count_refused(socket))
			break;
	}
	return i;
}

/* The longest requests of two regions leave space for one of a third region. */
static void nobody_takes_all_room(const void *arg)
{
	unsigned int first, second, third, i;
	struct region siblings[2];
	struct mnl_socket *socket;
	static struct stuck s;
	int on = 1;

	(void)arg;
	stuck_init(&s);
	for (i = 0; i < ARRAY_SIZE(siblings); i++)
		siblings[i] = add_sibling(&s.r, i + 1);
	socket = request_socket(MNL_SOCKET_AUTOPID);
	/* Acknowledgments without a copy of the request. */
	ASSERT_EQ(
		mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, sizeof(on)),
		0);
	make_vcpu_wait(&s);
	request_plug(socket, &s.r, 0, 1, 1);
	await_change_under_way(&s);

	first = fill(socket, &s.r, MAX_QUEUED - 1);
	second = fill(socket, &siblings[0], MAX_QUEUED);
	third = fill(socket, &siblings[1], 1);
	tap_note("%u, %u and %u requests of %u ranges", first, second, third,
		 KVM_VMEM_MAX_RANGES);
	/* One region may use all of its places. */
	EXPECT_EQ(first, MAX_QUEUED - 1);
	EXPECT_GT(second, MAX_QUEUED / 4);
	EXPECT_EQ(third, 1);

	let_vcpu_go(&s);
	EXPECT_EQ(request_error(socket, NULL), 0);
	for (i = 0; i < first + second + third; i++)
		EXPECT_EQ(request_error(socket, NULL), -EINVAL);
	mnl_socket_close(socket);
}

static void answer_to_who_left(const void *arg)
{
	struct mnl_socket *socket;
	unsigned int portid;
	static struct stuck s;

	(void)arg;
	stuck_init(&s);
	socket = request_socket(MNL_SOCKET_AUTOPID);
	portid = mnl_socket_get_portid(socket);
	make_vcpu_wait(&s);
	request_plug(socket, &s.r, 0, 1, 1);
	await_change_under_way(&s);
	mnl_socket_close(socket);

	/* Changes are carried out and answered in order. */
	socket = request_socket(portid);
	request_set(socket, &s.r, 3, 2);
	let_vcpu_go(&s);
	request_expect_answer(socket, &s.r, 2);
	region_model_set(&s.r, 0, 1, true);
	EXPECT_AS_MODEL(&s.r);
	mnl_socket_close(socket);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a slot size near 2^64 makes one memslot",
		 .run = slot_size_that_wraps},
		{.name = "a memslot that the VMM made read-only stays read-only",
		 .run = read_only_stays},
		{.name = "a batch that cannot answer is not applied",
		 .run = answer_that_cannot_be_written},
		{.name = "an argument larger than a page is E2BIG",
		 .run = argument_too_large},
		{.name = "a vCPU that blocks a change blocks no other process",
		 .run = nobody_else_waits},
		{.name = "readers do not wait for it, and get the metadata",
		 .run = readers_do_not_wait},
		{.name = "closing a region of a stuck VM does not block",
		 .run = closed_by_a_stranger},
		{.name = "its unreachable descriptor blocks no other close()",
		 .run = lost_holds_up_nobody},
		{.name = "more changes than may wait are EBUSY",
		 .run = only_so_many_wait},
		{.name = "requests of one region leave space for others",
		 .run = nobody_takes_all_room},
		{.name = "the next owner of a sender's port gets none of its answers",
		 .run = answer_to_who_left},
		{.name = "a memslot that is being deleted is not reported stale",
		 .run = leaving_is_not_stale},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
