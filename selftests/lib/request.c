// SPDX-License-Identifier: GPL-2.0-or-later
#include "request.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/kvm_vmem_netlink.h>
#include <sys/socket.h>

#include "tap.h"

/* Room for one request or answer. */
#define MSG_SIZE KIB(4)
/* Room for a request with the maximum number of ranges, of 28 bytes each. */
#define LONG_MSG_SIZE KIB(32)

/** request_socket() - Return: a socket, the caller's to close. */
struct mnl_socket *request_socket(unsigned int portid)
{
	struct mnl_socket *socket =
		mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);

	ASSERT_TRUE(socket);
	ASSERT_EQ(mnl_socket_bind(socket, 0, (pid_t)portid), 0);
	return socket;
}

static struct nlmsghdr *put_request(char *buf, const struct region *r,
				    uint8_t cmd, uint16_t fd_attr, uint32_t seq)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = vmem_nl_family(r->nl);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nlh->nlmsg_seq = seq;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = KVM_VMEM_FAMILY_VERSION;
	mnl_attr_put_u32(nlh, fd_attr, (uint32_t)r->fd);
	return nlh;
}

static void put_range(struct nlmsghdr *nlh, const struct vmem_nl_range *range)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, KVM_VMEM_A_BLOCK_RANGE);

	mnl_attr_put_u64(nlh, KVM_VMEM_A_RANGE_GPA, range->gpa);
	mnl_attr_put_u64(nlh, KVM_VMEM_A_RANGE_SIZE, range->size);
	mnl_attr_nest_end(nlh, nest);
}

/** request_plug() - Ask for blocks to be plugged. */
void request_plug(struct mnl_socket *socket, const struct region *r,
		  unsigned int first, unsigned int nr, uint32_t seq)
{
	char buf[MSG_SIZE];
	struct nlmsghdr *nlh = put_request(buf, r, KVM_VMEM_CMD_BLOCK_PLUG,
					   KVM_VMEM_A_BLOCK_REGION_FD, seq);
	struct vmem_nl_range range = region_range(r, first, nr);

	put_range(nlh, &range);
	ASSERT_GT(mnl_socket_sendto(socket, nlh, nlh->nlmsg_len), 0);
}

/**
 * request_long_plug() - Send a request of maximum length.
 *
 * All its ranges are the same, so that it is refused when it is carried out.
 */
void request_long_plug(struct mnl_socket *socket, const struct region *r,
		       uint32_t seq)
{
	static char buf[LONG_MSG_SIZE];
	struct nlmsghdr *nlh = put_request(buf, r, KVM_VMEM_CMD_BLOCK_PLUG,
					   KVM_VMEM_A_BLOCK_REGION_FD, seq);
	struct vmem_nl_range range = region_range(r, 0, 1);
	unsigned int i;

	for (i = 0; i < KVM_VMEM_MAX_RANGES; i++)
		put_range(nlh, &range);
	ASSERT_GT(mnl_socket_sendto(socket, nlh, nlh->nlmsg_len), 0);
}

/** request_set() - Ask for @blocks as the requested size. */
void request_set(struct mnl_socket *socket, const struct region *r,
		 unsigned int blocks, uint32_t seq)
{
	char buf[MSG_SIZE];
	struct nlmsghdr *nlh = put_request(buf, r, KVM_VMEM_CMD_REGION_SET,
					   KVM_VMEM_A_REGION_FD, seq);

	mnl_attr_put_u64(nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE,
			 blocks * r->args.block_size);
	ASSERT_GT(mnl_socket_sendto(socket, nlh, nlh->nlmsg_len), 0);
}

/**
 * request_expect_answer() - The next answer must have data and belong to this
 * request.
 */
void request_expect_answer(struct mnl_socket *socket, const struct region *r,
			   uint32_t seq)
{
	char buf[MSG_SIZE];
	const struct nlmsghdr *nlh = (void *)buf;

	ASSERT_GT(mnl_socket_recvfrom(socket, buf, sizeof(buf)), 0);
	EXPECT_EQ(nlh->nlmsg_type, vmem_nl_family(r->nl));
	EXPECT_EQ(nlh->nlmsg_seq, seq);
}

/**
 * request_explain() - Enable extended ACKs: message and attribute of an error.
 */
void request_explain(struct mnl_socket *socket)
{
	int one = 1;

	ASSERT_OK(mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &one,
					sizeof(one)));
}

static int find_offset(const struct nlattr *attr, void *arg)
{
	bool *found = arg;

	if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_OFFS)
		*found = true;
	return MNL_CB_OK;
}

/**
 * request_error() - Receive the next answer and return its error.
 * @blames_attr: out: the error refers to an attribute; may be NULL
 *
 * Return: 0 if the answer has data.
 */
int request_error(struct mnl_socket *socket, bool *blames_attr)
{
	char buf[MSG_SIZE];
	const struct nlmsghdr *nlh = (void *)buf;
	const struct nlmsgerr *err;

	ASSERT_GT(mnl_socket_recvfrom(socket, buf, sizeof(buf)), 0);
	if (blames_attr)
		*blames_attr = false;
	if (nlh->nlmsg_type != NLMSG_ERROR)
		return 0;
	err = mnl_nlmsg_get_payload(nlh);
	if (blames_attr && nlh->nlmsg_flags & NLM_F_ACK_TLVS)
		mnl_attr_parse(nlh,
			       (unsigned int)sizeof(*err) +
				       NLMSG_ALIGN(err->msg.nlmsg_len) -
				       NLMSG_HDRLEN,
			       find_offset, blames_attr);
	return err->error;
}
