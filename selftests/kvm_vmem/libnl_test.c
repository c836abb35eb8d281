// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The netlink family through libnl-genl-3, the most common library: its
 * resolver, its policy checks of attributes, and its dumps, events and extended
 * acknowledgments. The other tests use libmnl, which checks less.
 */
#include <errno.h>
#include <linux/kvm_vmem_netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "region.h"
#include "tap.h"

/* A limit against hangs: events are sent within the call that causes them. */
#define TIMEOUT_MS 20000

/* Space for the text of an extended acknowledgment. */
#define TEXT_SIZE 128

static struct nla_policy region_policy[KVM_VMEM_A_REGION_MAX + 1] = {
	[KVM_VMEM_A_REGION_ID] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_GPA] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_HVA] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_BLOCK_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_SLOT_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_FIRST_SLOT] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_NR_SLOTS] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_ADDRESS_SPACES] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_REQUESTED_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_PLUGGED_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_POPULATED_SLOTS] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_DIRTY_LOG] = {.type = NLA_U8},
	[KVM_VMEM_A_REGION_PID] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_ALIVE] = {.type = NLA_U8},
	[KVM_VMEM_A_REGION_REQUEST_ID] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_CHANGES] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_METADATA] = {.type = NLA_NESTED},
	[KVM_VMEM_A_REGION_WHOLE_METADATA] = {.type = NLA_NESTED},
	[KVM_VMEM_A_REGION_ZAP_RANGES] = {.type = NLA_U8},
	[KVM_VMEM_A_REGION_RANGE_ZAPS] = {.type = NLA_U64},
	[KVM_VMEM_A_REGION_ZAPS_BY_KVM] = {.type = NLA_U64},
};

static struct nla_policy metadata_policy[KVM_VMEM_A_METADATA_MAX + 1] = {
	[KVM_VMEM_A_METADATA_MEMSLOT] = {.type = NLA_U64},
	[KVM_VMEM_A_METADATA_RMAP] = {.type = NLA_U64},
	[KVM_VMEM_A_METADATA_LPAGE_INFO] = {.type = NLA_U64},
	[KVM_VMEM_A_METADATA_GFN_TRACK] = {.type = NLA_U64},
	[KVM_VMEM_A_METADATA_DIRTY_BITMAP] = {.type = NLA_U64},
	[KVM_VMEM_A_METADATA_TOTAL] = {.type = NLA_U64},
};

static struct nla_policy range_policy[KVM_VMEM_A_RANGE_MAX + 1] = {
	[KVM_VMEM_A_RANGE_GPA] = {.type = NLA_U64},
	[KVM_VMEM_A_RANGE_SIZE] = {.type = NLA_U64},
};

static struct nla_policy block_policy[KVM_VMEM_A_BLOCK_MAX + 1] = {
	[KVM_VMEM_A_BLOCK_REGION_ID] = {.type = NLA_U32},
	[KVM_VMEM_A_BLOCK_REQUEST_ID] = {.type = NLA_U64},
	[KVM_VMEM_A_BLOCK_RANGE] = {.type = NLA_NESTED},
	[KVM_VMEM_A_BLOCK_PLUGGED_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_BLOCK_POPULATED_SLOTS] = {.type = NLA_U32},
};

static struct nla_policy slot_policy[KVM_VMEM_A_SLOT_MAX + 1] = {
	[KVM_VMEM_A_SLOT_REGION_ID] = {.type = NLA_U32},
	[KVM_VMEM_A_SLOT_ID] = {.type = NLA_U32},
	[KVM_VMEM_A_SLOT_GPA] = {.type = NLA_U64},
	[KVM_VMEM_A_SLOT_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_SLOT_HVA] = {.type = NLA_U64},
	[KVM_VMEM_A_SLOT_PLUGGED_SIZE] = {.type = NLA_U64},
	[KVM_VMEM_A_SLOT_STALE] = {.type = NLA_FLAG},
	[KVM_VMEM_A_SLOT_METADATA] = {.type = NLA_NESTED},
};

static struct nla_policy ack_policy[NLMSGERR_ATTR_MAX + 1] = {
	[NLMSGERR_ATTR_MSG] = {.type = NLA_STRING},
	[NLMSGERR_ATTR_OFFS] = {.type = NLA_U32},
};

/**
 * struct client - a socket of libnl
 * @sock: the socket
 * @family: id of the family
 * @error: negative errno of the last answer, 0 for success
 * @offset: offset of the attribute that the error points at, 0 for none
 * @text: text of the extended acknowledgment, or ""
 */
struct client {
	struct nl_sock *sock;
	int family;
	int error;
	uint32_t offset;
	char text[TEXT_SIZE];
};

/*
 * The attributes of the acknowledgment follow the request, or only its header.
 */
static int on_error(struct sockaddr_nl *peer, struct nlmsgerr *err, void *arg)
{
	const struct nlmsghdr *nlh = (void *)((char *)err - NLMSG_HDRLEN);
	struct nlattr *tb[NLMSGERR_ATTR_MAX + 1];
	struct client *c = arg;
	int skip = sizeof(*err);

	(void)peer;
	c->error = err->error;
	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NL_STOP;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(nlmsg_datalen(&err->msg));
	ASSERT_EQ(nla_parse(tb, NLMSGERR_ATTR_MAX,
			    (struct nlattr *)((char *)err + skip),
			    nlmsg_datalen(nlh) - skip, ack_policy),
		  0);
	if (tb[NLMSGERR_ATTR_MSG])
		nla_strlcpy(c->text, tb[NLMSGERR_ATTR_MSG], sizeof(c->text));
	if (tb[NLMSGERR_ATTR_OFFS])
		c->offset = nla_get_u32(tb[NLMSGERR_ATTR_OFFS]);
	return NL_STOP;
}

static void client_open(struct client *c)
{
	const int one = 1;

	memset(c, 0, sizeof(*c));
	c->sock = nl_socket_alloc();
	ASSERT_TRUE(c->sock != NULL);
	ASSERT_EQ(genl_connect(c->sock), 0);
	ASSERT_EQ(setsockopt(nl_socket_get_fd(c->sock), SOL_NETLINK,
			     NETLINK_EXT_ACK, &one, sizeof(one)),
		  0);
	c->family = genl_ctrl_resolve(c->sock, KVM_VMEM_FAMILY_NAME);
	ASSERT_GT(c->family, 0);
	nl_socket_modify_err_cb(c->sock, NL_CB_CUSTOM, on_error, c);
}

static struct nl_msg *request(const struct client *c, uint8_t cmd, int flags)
{
	struct nl_msg *msg = nlmsg_alloc();

	ASSERT_TRUE(msg != NULL);
	ASSERT_TRUE(genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, c->family, 0,
				flags, cmd, KVM_VMEM_FAMILY_VERSION) != NULL);
	return msg;
}

static void client_clear(struct client *c, nl_recvmsg_msg_cb_t valid, void *arg)
{
	c->error = 0;
	c->offset = 0;
	c->text[0] = 0;
	if (valid)
		nl_socket_modify_cb(c->sock, NL_CB_VALID, NL_CB_CUSTOM, valid,
				    arg);
}

/* Return: 0, or an error of libnl; the kernel's error is in @c. */
static int call(struct client *c, struct nl_msg *msg, nl_recvmsg_msg_cb_t valid,
		void *arg)
{
	int ret;

	client_clear(c, valid, arg);
	/* This call also requests an acknowledgment. */
	ASSERT_GT(nl_send_auto(c->sock, msg), 0);
	nlmsg_free(msg);
	ret = nl_recvmsgs_default(c->sock);
	/* The acknowledgment follows the reply, in a separate datagram. */
	return ret || c->error ? ret : nl_wait_for_ack(c->sock);
}

static int dump(struct client *c, struct nl_msg *msg, nl_recvmsg_msg_cb_t valid,
		void *arg)
{
	client_clear(c, valid, arg);
	nl_socket_disable_auto_ack(c->sock);
	ASSERT_GT(nl_send_auto(c->sock, msg), 0);
	nlmsg_free(msg);
	nl_socket_enable_auto_ack(c->sock);
	return nl_recvmsgs_default(c->sock);
}

static void put_range(struct nl_msg *msg, uint64_t gpa, uint64_t size)
{
	struct nlattr *nest = nla_nest_start(msg, KVM_VMEM_A_BLOCK_RANGE);

	ASSERT_TRUE(nest != NULL);
	nla_put_u64(msg, KVM_VMEM_A_RANGE_GPA, gpa);
	nla_put_u64(msg, KVM_VMEM_A_RANGE_SIZE, size);
	nla_nest_end(msg, nest);
}

/**
 * struct state - state of a region in the last message
 * @cmd: command of the message
 * @nr: number of messages
 * @id: the region's id
 * @gpa: its guest address
 * @requested_size: its requested size
 * @plugged_size: its plugged size
 * @populated_slots: number of its populated slots
 * @metadata: sum of its metadata
 */
struct state {
	uint8_t cmd;
	unsigned int nr;
	uint32_t id;
	uint64_t gpa;
	uint64_t requested_size;
	uint64_t plugged_size;
	uint32_t populated_slots;
	uint64_t metadata;
};

/* The sum of all kinds, which the region must report as the total. */
static uint64_t metadata_total(struct nlattr *nest)
{
	struct nlattr *tb[KVM_VMEM_A_METADATA_MAX + 1];
	uint64_t sum = 0;
	int type;

	ASSERT_EQ(nla_parse_nested(tb, KVM_VMEM_A_METADATA_MAX, nest,
				   metadata_policy),
		  0);
	for (type = KVM_VMEM_A_METADATA_MEMSLOT;
	     type < KVM_VMEM_A_METADATA_TOTAL; type++) {
		ASSERT_TRUE(tb[type] != NULL);
		sum += nla_get_u64(tb[type]);
	}
	ASSERT_TRUE(tb[KVM_VMEM_A_METADATA_TOTAL] != NULL);
	EXPECT_EQ(nla_get_u64(tb[KVM_VMEM_A_METADATA_TOTAL]), sum);
	return sum;
}

static int on_region(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[KVM_VMEM_A_REGION_MAX + 1];
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	struct state *s = arg;

	ASSERT_EQ(
		genlmsg_parse(nlh, 0, tb, KVM_VMEM_A_REGION_MAX, region_policy),
		0);
	s->cmd = genlmsg_hdr(nlh)->cmd;
	s->nr++;
	ASSERT_TRUE(tb[KVM_VMEM_A_REGION_ID] && tb[KVM_VMEM_A_REGION_GPA] &&
		    tb[KVM_VMEM_A_REGION_REQUESTED_SIZE] &&
		    tb[KVM_VMEM_A_REGION_PLUGGED_SIZE] &&
		    tb[KVM_VMEM_A_REGION_POPULATED_SLOTS]);
	s->id = nla_get_u32(tb[KVM_VMEM_A_REGION_ID]);
	s->gpa = nla_get_u64(tb[KVM_VMEM_A_REGION_GPA]);
	s->requested_size = nla_get_u64(tb[KVM_VMEM_A_REGION_REQUESTED_SIZE]);
	s->plugged_size = nla_get_u64(tb[KVM_VMEM_A_REGION_PLUGGED_SIZE]);
	s->populated_slots = nla_get_u32(tb[KVM_VMEM_A_REGION_POPULATED_SLOTS]);
	/* Notifications contain no metadata. */
	if (tb[KVM_VMEM_A_REGION_METADATA])
		s->metadata = metadata_total(tb[KVM_VMEM_A_REGION_METADATA]);
	return NL_OK;
}

/* The answer to a plug or an unplug. */
struct answer {
	uint32_t id;
	uint64_t request_id;
	uint64_t plugged_size;
	uint32_t populated_slots;
};

static int on_answer(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[KVM_VMEM_A_BLOCK_MAX + 1];
	struct answer *answer = arg;

	ASSERT_EQ(genlmsg_parse(nlmsg_hdr(msg), 0, tb, KVM_VMEM_A_BLOCK_MAX,
				block_policy),
		  0);
	ASSERT_TRUE(tb[KVM_VMEM_A_BLOCK_REGION_ID] &&
		    tb[KVM_VMEM_A_BLOCK_REQUEST_ID] &&
		    tb[KVM_VMEM_A_BLOCK_PLUGGED_SIZE] &&
		    tb[KVM_VMEM_A_BLOCK_POPULATED_SLOTS]);
	answer->id = nla_get_u32(tb[KVM_VMEM_A_BLOCK_REGION_ID]);
	answer->request_id = nla_get_u64(tb[KVM_VMEM_A_BLOCK_REQUEST_ID]);
	answer->plugged_size = nla_get_u64(tb[KVM_VMEM_A_BLOCK_PLUGGED_SIZE]);
	answer->populated_slots =
		nla_get_u32(tb[KVM_VMEM_A_BLOCK_POPULATED_SLOTS]);
	return NL_OK;
}

/* Request a change of blocks @first to @first + @nr, by descriptor. */
static void change(struct client *c, const struct region *r, uint8_t cmd,
		   uint64_t request_id, unsigned int first, unsigned int nr,
		   struct answer *answer)
{
	struct nl_msg *msg = request(c, cmd, 0);

	memset(answer, 0, sizeof(*answer));
	nla_put_s32(msg, KVM_VMEM_A_BLOCK_REGION_FD, r->fd);
	nla_put_u64(msg, KVM_VMEM_A_BLOCK_REQUEST_ID, request_id);
	if (nr)
		put_range(msg, region_block_gpa(r, first), nr * REGION_BLOCK);
	call(c, msg, on_answer, answer);
}

static void region_is_set_and_read(const void *arg)
{
	struct state state = {0};
	struct nl_msg *msg;
	struct client c;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_BOTH);
	client_open(&c);
	msg = request(&c, KVM_VMEM_CMD_REGION_SET, 0);
	nla_put_s32(msg, KVM_VMEM_A_REGION_FD, r.fd);
	nla_put_u64(msg, KVM_VMEM_A_REGION_REQUESTED_SIZE, 3 * REGION_BLOCK);
	EXPECT_EQ(call(&c, msg, on_region, &state), 0);
	EXPECT_EQ(c.error, 0);
	EXPECT_EQ(state.nr, 1);
	EXPECT_EQ(state.requested_size, 3 * REGION_BLOCK);

	ASSERT_OK(region_plug(&r, 2, 3));
	msg = request(&c, KVM_VMEM_CMD_REGION_GET, 0);
	nla_put_u32(msg, KVM_VMEM_A_REGION_ID, r.args.region_id);
	EXPECT_EQ(call(&c, msg, on_region, &state), 0);
	EXPECT_EQ(state.nr, 2);
	EXPECT_EQ(state.id, r.args.region_id);
	EXPECT_EQ(state.gpa, r.args.guest_phys_addr);
	EXPECT_EQ(state.requested_size, 3 * REGION_BLOCK);
	EXPECT_EQ(state.plugged_size, 3 * REGION_BLOCK);
	EXPECT_EQ(state.populated_slots, region_nr_populated(&r));
	EXPECT_GT(state.metadata, 0);
	nl_socket_free(c.sock);
}

static void blocks_are_plugged_and_unplugged(const void *arg)
{
	struct answer answer;
	struct client c;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	client_open(&c);

	change(&c, &r, KVM_VMEM_CMD_BLOCK_PLUG, 7, 1, 6, &answer);
	ASSERT_EQ(c.error, 0);
	region_model_set(&r, 1, 6, true);
	EXPECT_EQ(answer.id, r.args.region_id);
	EXPECT_EQ(answer.request_id, 7);
	EXPECT_EQ(answer.plugged_size, 6 * REGION_BLOCK);
	EXPECT_EQ(answer.populated_slots, region_nr_populated(&r));
	EXPECT_AS_MODEL(&r);

	change(&c, &r, KVM_VMEM_CMD_BLOCK_UNPLUG, 8, 2, 2, &answer);
	ASSERT_EQ(c.error, 0);
	region_model_set(&r, 2, 2, false);
	EXPECT_EQ(answer.request_id, 8);
	EXPECT_EQ(answer.plugged_size, 4 * REGION_BLOCK);
	EXPECT_AS_MODEL(&r);

	change(&c, &r, KVM_VMEM_CMD_BLOCK_UNPLUG_ALL, 9, 0, 0, &answer);
	ASSERT_EQ(c.error, 0);
	region_model_set(&r, 0, r.nr_blocks, false);
	EXPECT_EQ(answer.request_id, 9);
	EXPECT_EQ(answer.plugged_size, 0);
	EXPECT_EQ(answer.populated_slots, 0);
	EXPECT_AS_MODEL(&r);
	nl_socket_free(c.sock);
}

/*
 * Summary of a dump of blocks or slots: its sum, and the end of its last entry.
 */
struct listing {
	uint64_t plugged_size;
	uint64_t next_gpa;
	unsigned int nr;
};

static int on_block(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[KVM_VMEM_A_BLOCK_MAX + 1];
	struct nlattr *range[KVM_VMEM_A_RANGE_MAX + 1];
	struct listing *l = arg;
	uint64_t gpa;

	ASSERT_EQ(genlmsg_parse(nlmsg_hdr(msg), 0, tb, KVM_VMEM_A_BLOCK_MAX,
				block_policy),
		  0);
	ASSERT_TRUE(tb[KVM_VMEM_A_BLOCK_RANGE] != NULL);
	ASSERT_EQ(nla_parse_nested(range, KVM_VMEM_A_RANGE_MAX,
				   tb[KVM_VMEM_A_BLOCK_RANGE], range_policy),
		  0);
	ASSERT_TRUE(range[KVM_VMEM_A_RANGE_GPA] &&
		    range[KVM_VMEM_A_RANGE_SIZE]);
	gpa = nla_get_u64(range[KVM_VMEM_A_RANGE_GPA]);
	EXPECT_GE(gpa, l->next_gpa);
	l->next_gpa = gpa + nla_get_u64(range[KVM_VMEM_A_RANGE_SIZE]);
	l->plugged_size += nla_get_u64(range[KVM_VMEM_A_RANGE_SIZE]);
	l->nr++;
	return NL_OK;
}

static int on_slot(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[KVM_VMEM_A_SLOT_MAX + 1];
	struct listing *l = arg;
	uint64_t gpa;

	ASSERT_EQ(genlmsg_parse(nlmsg_hdr(msg), 0, tb, KVM_VMEM_A_SLOT_MAX,
				slot_policy),
		  0);
	ASSERT_TRUE(tb[KVM_VMEM_A_SLOT_ID] && tb[KVM_VMEM_A_SLOT_GPA] &&
		    tb[KVM_VMEM_A_SLOT_SIZE] &&
		    tb[KVM_VMEM_A_SLOT_PLUGGED_SIZE] &&
		    tb[KVM_VMEM_A_SLOT_METADATA]);
	EXPECT_TRUE(!tb[KVM_VMEM_A_SLOT_STALE]);
	gpa = nla_get_u64(tb[KVM_VMEM_A_SLOT_GPA]);
	EXPECT_GE(gpa, l->next_gpa);
	l->next_gpa = gpa + nla_get_u64(tb[KVM_VMEM_A_SLOT_SIZE]);
	l->plugged_size += nla_get_u64(tb[KVM_VMEM_A_SLOT_PLUGGED_SIZE]);
	EXPECT_GT(metadata_total(tb[KVM_VMEM_A_SLOT_METADATA]), 0);
	l->nr++;
	return NL_OK;
}

static void blocks_and_slots_are_dumped(const void *arg)
{
	struct listing blocks = {0}, slots = {0};
	struct nl_msg *msg;
	struct client c;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, 2));
	ASSERT_OK(region_plug(&r, 9, 1));
	ASSERT_OK(region_plug(&r, 12, 8));
	client_open(&c);

	msg = request(&c, KVM_VMEM_CMD_BLOCK_GET, NLM_F_DUMP);
	nla_put_s32(msg, KVM_VMEM_A_BLOCK_REGION_FD, r.fd);
	EXPECT_EQ(dump(&c, msg, on_block, &blocks), 0);
	EXPECT_EQ(blocks.nr, 3);
	EXPECT_EQ(blocks.plugged_size, 11 * REGION_BLOCK);

	msg = request(&c, KVM_VMEM_CMD_SLOT_GET, NLM_F_DUMP);
	nla_put_s32(msg, KVM_VMEM_A_SLOT_REGION_FD, r.fd);
	EXPECT_EQ(dump(&c, msg, on_slot, &slots), 0);
	EXPECT_EQ(slots.nr, region_nr_populated(&r));
	EXPECT_EQ(slots.plugged_size, 11 * REGION_BLOCK);
	nl_socket_free(c.sock);
}

static void all_regions_are_dumped(const void *arg)
{
	struct state state = {0};
	struct region r[3];
	struct client c;
	unsigned int i;

	(void)arg;
	region_await_none();
	for (i = 0; i < ARRAY_SIZE(r); i++)
		region_init(&r[i], AS_MASK_NORMAL);
	client_open(&c);
	EXPECT_EQ(dump(&c, request(&c, KVM_VMEM_CMD_REGION_GET, NLM_F_DUMP),
		       on_region, &state),
		  0);
	EXPECT_EQ(state.nr, ARRAY_SIZE(r));
	nl_socket_free(c.sock);
}

static void refusal_names_the_attribute(const void *arg)
{
	struct answer answer;
	struct nl_msg *msg;
	struct client c;
	struct region r;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	client_open(&c);

	/* The headers, the descriptor, then the range outside the region. */
	msg = request(&c, KVM_VMEM_CMD_BLOCK_PLUG, 0);
	nla_put_s32(msg, KVM_VMEM_A_BLOCK_REGION_FD, r.fd);
	put_range(msg, 0, REGION_BLOCK);
	call(&c, msg, on_answer, &answer);
	EXPECT_EQ(c.error, -ERANGE);
	EXPECT_GE(c.offset, NLMSG_HDRLEN + GENL_HDRLEN + nla_total_size(4));
	EXPECT_TRUE(c.text[0]);

	/* An invalid region id, which the kernel's policy check refuses. */
	msg = request(&c, KVM_VMEM_CMD_REGION_GET, 0);
	nla_put_u32(msg, KVM_VMEM_A_REGION_ID, 0);
	call(&c, msg, NULL, NULL);
	EXPECT_EQ(c.error, -ERANGE);
	EXPECT_EQ(c.offset, NLMSG_HDRLEN + GENL_HDRLEN);
	EXPECT_TRUE(c.text[0]);

	/* The socket still works, and the region is unchanged. */
	change(&c, &r, KVM_VMEM_CMD_BLOCK_PLUG, 1, 0, 1, &answer);
	EXPECT_EQ(c.error, 0);
	region_model_set(&r, 0, 1, true);
	EXPECT_AS_MODEL(&r);
	nl_socket_free(c.sock);
}

static void events_arrive_at_subscribers(const void *arg)
{
	struct pollfd poll_fd = {.events = POLLIN};
	struct state state = {0};
	struct client c;
	struct region r;
	int group;

	(void)arg;
	region_await_none();
	client_open(&c);
	group = genl_ctrl_resolve_grp(c.sock, KVM_VMEM_FAMILY_NAME,
				      KVM_VMEM_MCGRP_EVENTS);
	ASSERT_GT(group, 0);
	nl_socket_disable_seq_check(c.sock);
	ASSERT_EQ(nl_socket_add_membership(c.sock, group), 0);
	nl_socket_modify_cb(c.sock, NL_CB_VALID, NL_CB_CUSTOM, on_region,
			    &state);

	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, 0, 5));
	poll_fd.fd = nl_socket_get_fd(c.sock);
	while (state.nr < 2) {
		ASSERT_EQ(poll(&poll_fd, 1, TIMEOUT_MS), 1);
		ASSERT_EQ(nl_recvmsgs_default(c.sock), 0);
	}
	EXPECT_EQ(state.nr, 2);
	EXPECT_EQ(state.cmd, KVM_VMEM_CMD_REGION_CHANGE_NTF);
	EXPECT_EQ(state.id, r.args.region_id);
	EXPECT_EQ(state.plugged_size, 5 * REGION_BLOCK);
	nl_socket_free(c.sock);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a region is set and read",
		 .run = region_is_set_and_read},
		{.name = "blocks are plugged and unplugged",
		 .run = blocks_are_plugged_and_unplugged},
		{.name = "blocks and slots are dumped",
		 .run = blocks_and_slots_are_dumped},
		{.name = "all regions are dumped",
		 .run = all_regions_are_dumped},
		{.name = "an error points at the attribute",
		 .run = refusal_names_the_attribute},
		{.name = "events arrive at subscribers",
		 .run = events_arrive_at_subscribers},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
