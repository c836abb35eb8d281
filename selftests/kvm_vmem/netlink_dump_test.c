// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dumps that need many messages, and events between these messages. The region
 * has a slot for each two blocks, and every second block is plugged, so that
 * both dumps have their maximum length.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region.h"
#include "tap.h"

#define NR_RUNS	   KVM_VMEM_MAX_RANGES
#define RUN_GPA(i) (REGION_GPA + 2 * (uint64_t)(i)*GUEST_PAGE)

/* Maximum that the kernel sends in one round of a dump. */
#define RECEIVE_SIZE KIB(32)

static void fill_ranges(struct vmem_nl_range *ranges)
{
	unsigned int i;

	for (i = 0; i < NR_RUNS; i++)
		ranges[i] = (struct vmem_nl_range){.gpa = RUN_GPA(i),
						   .size = GUEST_PAGE};
}

/* A region whose dumps have NR_RUNS runs and as many slots. */
static void region_init_fragmented(struct region *r)
{
	struct vmem_nl_range ranges[NR_RUNS];

	region_prepare(r);
	r->args.block_size = GUEST_PAGE;
	r->args.slot_size = 2 * GUEST_PAGE;
	r->args.region_size = 2 * NR_RUNS * GUEST_PAGE;
	backing_create(&r->mem, r->args.region_size);
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	region_create(r);
	fill_ranges(ranges);
	ASSERT_OK(vmem_nl_plug(r->nl, VMEM_NL_BY_FD(r->fd), 0, ranges, NR_RUNS,
			       NULL, NULL));
}

static int count_run(const struct vmem_nl_range *run, void *arg)
{
	unsigned int *n = arg;

	EXPECT_EQ(run->gpa, RUN_GPA(*n));
	EXPECT_EQ(run->size, GUEST_PAGE);
	(*n)++;
	return 0;
}

static int count_slot(const struct vmem_nl_slot *slot, void *arg)
{
	unsigned int *n = arg;

	EXPECT_EQ(slot->gpa, RUN_GPA(*n));
	EXPECT_EQ(slot->id, REGION_FIRST_SLOT + *n);
	EXPECT_EQ(slot->plugged_size, GUEST_PAGE);
	EXPECT_EQ(slot->stale, false);
	(*n)++;
	return 0;
}

static void most_ranges_of_a_request(const void *arg)
{
	struct vmem_nl_range ranges[NR_RUNS];
	struct vmem_nl_answer answer;
	struct region r;
	unsigned int i;

	(void)arg;
	region_init_fragmented(&r);
	for (i = 0; i < NR_RUNS; i += 101)
		EXPECT_GUEST_MEMORY(&r.vcpu, RUN_GPA(i),
				    r.mem.hva + 2 * i * GUEST_PAGE);
	fill_ranges(ranges);
	EXPECT_OK(vmem_nl_unplug(r.nl, VMEM_NL_BY_FD(r.fd), 0, ranges, NR_RUNS,
				 &answer, NULL));
	EXPECT_EQ(answer.plugged_size, 0);
	EXPECT_EQ(answer.populated_slots, 0);
	for (i = 0; i < NR_RUNS; i += 101)
		EXPECT_GUEST_MMIO(&r.vcpu, RUN_GPA(i));
}

static void dumps_all_in_order(const void *arg)
{
	unsigned int runs = 0, slots = 0;
	struct region r;

	(void)arg;
	region_init_fragmented(&r);
	EXPECT_OK(vmem_nl_block_dump(r.nl, VMEM_NL_BY_FD(r.fd), count_run,
				     &runs, NULL));
	EXPECT_EQ(runs, NR_RUNS);
	EXPECT_OK(vmem_nl_slot_dump(r.nl, VMEM_NL_BY_FD(r.fd), count_slot,
				    &slots, NULL));
	EXPECT_EQ(slots, NR_RUNS);
}

/**
 * struct dump - a dump that is read message by message
 * @socket: socket of this dump
 * @r: the region
 * @elements: runs or slots received
 * @messages: messages received
 * @torn: the kernel reported that the region changed during the dump
 * @done: the end has been received
 * @buf: buffer for one message
 */
struct dump {
	struct mnl_socket *socket;
	struct region *r;
	unsigned int elements;
	unsigned int messages;
	bool torn;
	bool done;
	char buf[RECEIVE_SIZE];
};

static void dump_begin(struct dump *d, struct region *r, uint8_t cmd)
{
	struct nlmsghdr *nlh;
	struct genlmsghdr *genl;

	memset(d, 0, sizeof(*d));
	d->r = r;
	d->socket = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	ASSERT_TRUE(d->socket);
	ASSERT_EQ(mnl_socket_bind(d->socket, 0, MNL_SOCKET_AUTOPID), 0);
	nlh = mnl_nlmsg_put_header(d->buf);
	nlh->nlmsg_type = vmem_nl_family(r->nl);
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = KVM_VMEM_FAMILY_VERSION;
	/* Both attribute sets have this attribute at the same number. */
	mnl_attr_put_u32(nlh, KVM_VMEM_A_BLOCK_REGION_FD, r->fd);
	ASSERT_GT(mnl_socket_sendto(d->socket, nlh, nlh->nlmsg_len), 0);
}

/* Receive one more message. */
static void dump_read(struct dump *d)
{
	ssize_t got = mnl_socket_recvfrom(d->socket, d->buf, sizeof(d->buf));
	const struct nlmsghdr *nlh = (void *)d->buf;
	int len = (int)got;

	ASSERT_GT(got, 0);
	d->messages++;
	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		d->torn |= !!(nlh->nlmsg_flags & NLM_F_DUMP_INTR);
		ASSERT_NE(nlh->nlmsg_type, NLMSG_ERROR);
		if (nlh->nlmsg_type == NLMSG_DONE)
			d->done = true;
		else
			d->elements++;
	}
}

static void dump_read_rest(struct dump *d)
{
	while (!d->done)
		dump_read(d);
}

static void dump_end(struct dump *d)
{
	mnl_socket_close(d->socket);
}

static const uint8_t dump_commands[] = {KVM_VMEM_CMD_BLOCK_GET,
					KVM_VMEM_CMD_SLOT_GET};

static void undisturbed_is_not_torn(const void *arg)
{
	struct region r;
	struct dump d;
	unsigned int i;

	(void)arg;
	region_init_fragmented(&r);
	for (i = 0; i < ARRAY_SIZE(dump_commands); i++) {
		dump_begin(&d, &r, dump_commands[i]);
		dump_read_rest(&d);
		EXPECT_EQ(d.elements, NR_RUNS);
		EXPECT_GT(d.messages, 2);
		EXPECT_EQ(d.torn, false);
		dump_end(&d);
	}
}

static void change_between_messages_is_told(const void *arg)
{
	const struct vmem_nl_range one = {.gpa = RUN_GPA(NR_RUNS / 2),
					  .size = GUEST_PAGE};
	const struct vmem_nl_range hole = {.gpa = one.gpa + GUEST_PAGE,
					   .size = GUEST_PAGE};
	struct region r;
	struct dump d;
	unsigned int i;

	(void)arg;
	region_init_fragmented(&r);
	for (i = 0; i < ARRAY_SIZE(dump_commands); i++) {
		dump_begin(&d, &r, dump_commands[i]);
		dump_read(&d);
		ASSERT_EQ(d.done, false);
		EXPECT_EQ(d.torn, false);
		/* The slot is deleted, and created again for another block. */
		ASSERT_OK(vmem_nl_unplug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &one, 1,
					 NULL, NULL));
		ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &hole, 1,
				       NULL, NULL));
		dump_read_rest(&d);
		EXPECT_EQ(d.torn, true);
		EXPECT_LE(d.elements, NR_RUNS);
		EXPECT_GE(d.elements, NR_RUNS - 1);
		dump_end(&d);
		ASSERT_OK(vmem_nl_unplug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &hole, 1,
					 NULL, NULL));
		ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 0, &one, 1,
				       NULL, NULL));
	}
}

static void sockets_dump_side_by_side(const void *arg)
{
	struct dump dumps[4];
	struct region r;
	unsigned int i;
	bool busy = true;

	(void)arg;
	region_init_fragmented(&r);
	for (i = 0; i < ARRAY_SIZE(dumps); i++)
		dump_begin(&dumps[i], &r, dump_commands[i % 2]);
	while (busy) {
		busy = false;
		for (i = 0; i < ARRAY_SIZE(dumps); i++) {
			if (dumps[i].done)
				continue;
			dump_read(&dumps[i]);
			busy = true;
		}
	}
	for (i = 0; i < ARRAY_SIZE(dumps); i++) {
		EXPECT_EQ(dumps[i].elements, NR_RUNS);
		dump_end(&dumps[i]);
	}
}

static void socket_closed_amid(const void *arg)
{
	struct region r;
	struct dump d;
	unsigned int i;

	(void)arg;
	region_init_fragmented(&r);
	for (i = 0; i < 20; i++) {
		dump_begin(&d, &r, dump_commands[i % 2]);
		if (i % 4 / 2)
			dump_read(&d);
		dump_end(&d);
	}
	dumps_all_in_order(NULL);
	EXPECT_EQ(close(r.fd), 0);
}

static void region_closed_amid(const void *arg)
{
	struct region r;
	struct dump d;
	unsigned int i;

	(void)arg;
	region_await_none();
	for (i = 0; i < ARRAY_SIZE(dump_commands); i++) {
		region_init_fragmented(&r);
		dump_begin(&d, &r, dump_commands[i]);
		dump_read(&d);
		ASSERT_EQ(d.done, false);
		EXPECT_EQ(close(r.fd), 0);
		EXPECT_EQ(region_count(r.dev), 0);
		EXPECT_GUEST_MMIO(&r.vcpu, RUN_GPA(0));
		/*
		 * The dump ends, with or without an error, after no more
		 * elements than there were.
		 */
		dump_read_rest(&d);
		EXPECT_LE(d.elements, NR_RUNS);
		dump_end(&d);
	}
}

/* The VMM: creates a region, begins a dump, forks a reader and ends. */
static void vmm_with_reader(int gone_fd, int done_fd)
{
	struct region r;
	struct dump d;
	char byte;
	pid_t pid;

	region_init_fragmented(&r);
	dump_begin(&d, &r, KVM_VMEM_CMD_SLOT_GET);
	dump_read(&d);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid)
		_exit(0);
	ASSERT_EQ(read(gone_fd, &byte, 1), 0);
	dump_read_rest(&d);
	EXPECT_LE(d.elements, NR_RUNS);
	close(r.fd);
	region_await_none();
	ASSERT_EQ(write(done_fd, "x", 1), 1);
	_exit(0);
}

static void vmm_ends_amid(const void *arg)
{
	int gone[2], done[2], status;
	char byte;
	pid_t pid;

	(void)arg;
	ASSERT_EQ(pipe(gone), 0);
	ASSERT_EQ(pipe(done), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(gone[1]);
		close(done[0]);
		vmm_with_reader(gone[0], done[1]);
	}
	close(done[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	close(gone[1]);
	EXPECT_EQ(read(done[0], &byte, 1), 1);
}

/* The ids in a dump of all regions, in order. */
struct region_ids {
	uint32_t ids[4];
	unsigned int nr;
};

static int remember_id(const struct vmem_nl_region *region, void *arg)
{
	struct region_ids *seen = arg;

	ASSERT_LE(seen->nr + 1, ARRAY_SIZE(seen->ids));
	seen->ids[seen->nr++] = region->id;
	EXPECT_EQ(region->has_metadata, true);
	EXPECT_EQ(region->alive, true);
	return 0;
}

static void all_regions(const void *arg)
{
	struct region_ids seen = {0};
	struct region r, other;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	region_init(&other, AS_MASK_BOTH);
	ASSERT_OK(region_plug(&r, 0, 1));
	EXPECT_OK(vmem_nl_region_dump(r.nl, remember_id, &seen, NULL));
	EXPECT_EQ(seen.nr, 2);
	EXPECT_EQ(seen.ids[0], r.args.region_id);
	EXPECT_EQ(seen.ids[1], other.args.region_id);
	EXPECT_EQ(close(r.fd), 0);
	seen.nr = 0;
	EXPECT_OK(vmem_nl_region_dump(other.nl, remember_id, &seen, NULL));
	EXPECT_EQ(seen.nr, 1);
	EXPECT_EQ(seen.ids[0], other.args.region_id);
}

static int remember_id_of(const struct nlmsghdr *nlh, void *arg)
{
	struct region_ids *seen = arg;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr))
	{
		if (mnl_attr_get_type(attr) != KVM_VMEM_A_REGION_ID)
			continue;
		ASSERT_LE(seen->nr + 1, ARRAY_SIZE(seen->ids));
		seen->ids[seen->nr++] = mnl_attr_get_u32(attr);
	}
	return 0;
}

/* A dump may name a region, as the request for a single region does. */
static void one_region(const void *arg)
{
	const uint16_t names[] = {KVM_VMEM_A_REGION_FD, KVM_VMEM_A_REGION_ID};
	struct region r, other;
	unsigned int i;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	region_init(&other, AS_MASK_BOTH);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		bool by_fd = names[i] == KVM_VMEM_A_REGION_FD;
		struct region_ids seen = {0};
		struct genlmsghdr *genl;
		struct nlmsghdr *nlh;
		char buf[256];

		nlh = mnl_nlmsg_put_header(buf);
		nlh->nlmsg_type = vmem_nl_family(r.nl);
		nlh->nlmsg_flags = NLM_F_DUMP;
		genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
		genl->cmd = KVM_VMEM_CMD_REGION_GET;
		genl->version = KVM_VMEM_FAMILY_VERSION;
		mnl_attr_put_u32(nlh, names[i],
				 by_fd ? (uint32_t)other.fd
				       : other.args.region_id);
		EXPECT_OK(vmem_nl_transact(r.nl, nlh, remember_id_of, &seen,
					   NULL));
		EXPECT_EQ(seen.nr, 1);
		EXPECT_EQ(seen.ids[0], other.args.region_id);
	}
}

static int count_region(const struct vmem_nl_region *region, void *arg)
{
	unsigned int *n = arg;

	EXPECT_GT(region->id, 0);
	(*n)++;
	return 0;
}

static void many_regions(const void *arg)
{
	const unsigned int nr = 60;
	unsigned int i, n = 0;
	struct region r;

	(void)arg;
	region_prepare(&r);
	r.args.region_size = REGION_BLOCK;
	for (i = 0; i < nr; i++) {
		EXPECT_OK(region_call_create(r.dev, &r.args));
		r.args.guest_phys_addr += REGION_BLOCK;
		r.args.first_slot++;
	}
	EXPECT_OK(vmem_nl_region_dump(r.nl, count_region, &n, NULL));
	EXPECT_EQ(n, nr);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "one request takes KVM_VMEM_MAX_RANGES ranges",
		 .run = most_ranges_of_a_request},
		{.name = "dumps of many messages are complete and sorted",
		 .run = dumps_all_in_order},
		{.name = "a dump of an unchanged region is not marked torn",
		 .run = undisturbed_is_not_torn},
		{.name = "a change between messages marks the dump torn",
		 .run = change_between_messages_is_told},
		{.name = "several sockets dump at the same time",
		 .run = sockets_dump_side_by_side},
		{.name = "a socket may be closed during a dump",
		 .run = socket_closed_amid},
		{.name = "a region may be closed during a dump",
		 .run = region_closed_amid},
		{.name = "the VMM may end during a dump", .run = vmm_ends_amid},
		{.name = "a dump contains all regions", .run = all_regions},
		{.name = "a dump contains only the region that it names",
		 .run = one_region},
		{.name = "a dump contains dozens of regions",
		 .run = many_regions},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
