// SPDX-License-Identifier: MIT
/*
 * A client of the netlink family on libnl-genl-3, by itself: it prints a region or
 * all of them, or why not, and then each change. It takes CAP_NET_ADMIN.
 *
 * usage: kvmvmem-netlink-example [REGION-ID]
 */
#include <linux/kvm_vmem_netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* What is read must have these types. Attributes that are not named may come. */
static struct nla_policy policy[KVM_VMEM_A_REGION_MAX + 1] = {
	[KVM_VMEM_A_REGION_ID] = {.type = NLA_U32},
	[KVM_VMEM_A_REGION_PLUGGED_SIZE] = {.type = NLA_U64},
};

/* A region of the answer, or an event: both have the same attributes. */
static int on_region(struct nl_msg *msg, void *arg)
{
	struct genlmsghdr *genl = genlmsg_hdr(nlmsg_hdr(msg));
	struct nlattr *tb[KVM_VMEM_A_REGION_MAX + 1];

	if (!genlmsg_parse(nlmsg_hdr(msg), 0, tb, KVM_VMEM_A_REGION_MAX,
			   policy) &&
	    tb[KVM_VMEM_A_REGION_ID] && tb[KVM_VMEM_A_REGION_PLUGGED_SIZE])
		printf("%s: region %u has %llu bytes plugged\n",
		       genl->cmd == KVM_VMEM_CMD_REGION_GET ? "now" : "event",
		       nla_get_u32(tb[KVM_VMEM_A_REGION_ID]),
		       (unsigned long long)nla_get_u64(
			       tb[KVM_VMEM_A_REGION_PLUGGED_SIZE]));
	(void)arg;
	return NL_OK;
}

/* The kernel's reason comes behind the request that is sent back, or its header. */
static int on_error(struct sockaddr_nl *peer, struct nlmsgerr *err, void *arg)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)((char *)err - NLMSG_HDRLEN);
	int skip = (int)sizeof(*err);
	struct nlattr *text = NULL;

	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(nlmsg_datalen(&err->msg));
	if (nlh->nlmsg_flags & NLM_F_ACK_TLVS)
		text = nla_find((struct nlattr *)((char *)err + skip),
				nlmsg_datalen(nlh) - skip, NLMSGERR_ATTR_MSG);
	printf("error %d: %s\n", -err->error,
	       text ? nla_get_string(text) : "no reason");
	(void)peer;
	(void)arg;
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	struct nl_sock *sock = nl_socket_alloc();
	struct nl_msg *msg = nlmsg_alloc();
	const int one = 1;
	int family, group, err;

	setlinebuf(stdout);
	if (!sock || !msg || genl_connect(sock))
		return EXIT_FAILURE;
	family = genl_ctrl_resolve(sock, KVM_VMEM_FAMILY_NAME);
	group = genl_ctrl_resolve_grp(sock, KVM_VMEM_FAMILY_NAME,
				      KVM_VMEM_MCGRP_EVENTS);
	if (family < 0 || group < 0) {
		fprintf(stderr, "is kvm_vmem.ko loaded?\n");
		return EXIT_FAILURE;
	}
	setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_EXT_ACK, &one,
		   sizeof(one));
	/* Events have no sequence number, and may come before the answer. */
	nl_socket_disable_seq_check(sock);
	nl_socket_disable_auto_ack(sock);
	nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, on_region, NULL);
	nl_socket_modify_err_cb(sock, NL_CB_CUSTOM, on_error, NULL);
	/* Before the request, so that no change is missed in between. */
	if (nl_socket_add_membership(sock, group))
		return EXIT_FAILURE;
	genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0,
		    argc > 1 ? 0 : NLM_F_DUMP, KVM_VMEM_CMD_REGION_GET,
		    KVM_VMEM_FAMILY_VERSION);
	if (argc > 1)
		nla_put_u32(msg, KVM_VMEM_A_REGION_ID,
			    (uint32_t)strtoul(argv[1], NULL, 0));
	do {
		err = nl_send_auto(sock, msg);
		while (err >= 0)
			err = nl_recvmsgs_default(sock);
		/* A list that has changed meanwhile, or events that were lost. */
	} while (err == -NLE_DUMP_INTR || err == -NLE_NOMEM);
	fprintf(stderr, "netlink: %s\n", nl_geterror(err));
	return EXIT_FAILURE;
}
