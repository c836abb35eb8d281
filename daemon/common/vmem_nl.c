// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Client of the kvm-vmem generic netlink family.
 *
 * Requests are built with libmnl in a buffer of sufficient size and sent with
 * NLM_F_ACK. The kernel sends a reply (if the operation has one) and an
 * acknowledgment, or an error. The socket requests extended and capped
 * acknowledgments: a capped error does not contain the whole request, which for
 * a plug of 1024 ranges would not fit the receive buffer.
 *
 * Sequence numbers distinguish an answer from the rest of an aborted dump. A
 * subscribed handle gets notifications on the same socket, and a request drops
 * the notifications that arrive meanwhile. So a subscribed handle should not be
 * used for requests.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#include "common/vmem_nl.h"

/* Attribute types from here on are ignored. */
#define ATTR_MAX 64

/* Maximum size of a message of a dump. */
#define RECEIVE_SIZE 32768

/* Size of a request with up to one range: headers and scalar attributes. */
#define REQUEST_SIZE 256

/**
 * struct vmem_nl - handle
 * @socket: the socket
 * @port: port id of the socket
 * @seq: sequence number of the last request
 * @family: message type of the family
 * @events_group: multicast group of notifications
 * @failure: details of the last request, if it has failed
 * @sent: request of vmem_nl_send() that waits for its answer
 * @receive: last received datagram
 */
struct vmem_nl {
	struct mnl_socket *socket;
	unsigned int port;
	uint32_t seq;
	uint16_t family;
	uint32_t events_group;
	struct vmem_nl_failure failure;
	char sent[REQUEST_SIZE];
	char receive[RECEIVE_SIZE];
};

/* The caller's callback for a dump; one of the three functions is set. */
struct dump {
	vmem_nl_region_fn region;
	vmem_nl_range_fn range;
	vmem_nl_slot_fn slot;
	void *arg;
};

/*
 * The first attribute of each type in one level. Attributes that may occur
 * several times are iterated over instead.
 */
struct attrs {
	const struct nlattr *at[ATTR_MAX];
};

static int collect_attr(const struct nlattr *attr, void *arg)
{
	struct attrs *attrs = arg;
	unsigned int type = mnl_attr_get_type(attr);

	if (type < ATTR_MAX && !attrs->at[type])
		attrs->at[type] = attr;
	return MNL_CB_OK;
}

static int parse_message(const struct nlmsghdr *nlh, struct attrs *attrs)
{
	memset(attrs, 0, sizeof(*attrs));
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct genlmsghdr))
		return -EBADMSG;
	/* Fails only if the callback does. */
	mnl_attr_parse(nlh, sizeof(struct genlmsghdr), collect_attr, attrs);
	return 0;
}

static void parse_nest(const struct nlattr *nest, struct attrs *attrs)
{
	memset(attrs, 0, sizeof(*attrs));
	mnl_attr_parse_nested(nest, collect_attr, attrs);
}

/* Value of an integer attribute of any width; 0 if it is missing. */
static uint64_t get_uint(const struct attrs *attrs, unsigned int type)
{
	const struct nlattr *attr = attrs->at[type];

	if (!attr)
		return 0;
	switch (mnl_attr_get_payload_len(attr)) {
	case sizeof(uint8_t):
		return mnl_attr_get_u8(attr);
	case sizeof(uint16_t):
		return mnl_attr_get_u16(attr);
	case sizeof(uint32_t):
		return mnl_attr_get_u32(attr);
	case sizeof(uint64_t):
		return mnl_attr_get_u64(attr);
	default:
		return 0;
	}
}

/* Parse metadata, which may be missing. */
static void get_metadata(const struct nlattr *nest, bool *has,
			 struct vmem_nl_metadata *md)
{
	struct attrs attrs;

	*has = nest;
	if (!nest)
		return;
	parse_nest(nest, &attrs);
	md->memslot = get_uint(&attrs, KVM_VMEM_A_METADATA_MEMSLOT);
	md->rmap = get_uint(&attrs, KVM_VMEM_A_METADATA_RMAP);
	md->lpage_info = get_uint(&attrs, KVM_VMEM_A_METADATA_LPAGE_INFO);
	md->gfn_track = get_uint(&attrs, KVM_VMEM_A_METADATA_GFN_TRACK);
	md->dirty_bitmap = get_uint(&attrs, KVM_VMEM_A_METADATA_DIRTY_BITMAP);
	md->total = get_uint(&attrs, KVM_VMEM_A_METADATA_TOTAL);
}

static int get_region(const struct nlmsghdr *nlh, struct vmem_nl_region *region)
{
	struct attrs attrs;
	int ret;

	memset(region, 0, sizeof(*region));
	ret = parse_message(nlh, &attrs);
	if (ret)
		return ret;
	region->id = get_uint(&attrs, KVM_VMEM_A_REGION_ID);
	region->gpa = get_uint(&attrs, KVM_VMEM_A_REGION_GPA);
	region->size = get_uint(&attrs, KVM_VMEM_A_REGION_SIZE);
	region->hva = get_uint(&attrs, KVM_VMEM_A_REGION_HVA);
	region->block_size = get_uint(&attrs, KVM_VMEM_A_REGION_BLOCK_SIZE);
	region->slot_size = get_uint(&attrs, KVM_VMEM_A_REGION_SLOT_SIZE);
	region->first_slot = get_uint(&attrs, KVM_VMEM_A_REGION_FIRST_SLOT);
	region->nr_slots = get_uint(&attrs, KVM_VMEM_A_REGION_NR_SLOTS);
	region->address_spaces =
		get_uint(&attrs, KVM_VMEM_A_REGION_ADDRESS_SPACES);
	region->requested_size =
		get_uint(&attrs, KVM_VMEM_A_REGION_REQUESTED_SIZE);
	region->plugged_size = get_uint(&attrs, KVM_VMEM_A_REGION_PLUGGED_SIZE);
	region->populated_slots =
		get_uint(&attrs, KVM_VMEM_A_REGION_POPULATED_SLOTS);
	region->dirty_log = get_uint(&attrs, KVM_VMEM_A_REGION_DIRTY_LOG);
	region->pid = get_uint(&attrs, KVM_VMEM_A_REGION_PID);
	region->alive = get_uint(&attrs, KVM_VMEM_A_REGION_ALIVE);
	region->request_id = get_uint(&attrs, KVM_VMEM_A_REGION_REQUEST_ID);
	region->changes = get_uint(&attrs, KVM_VMEM_A_REGION_CHANGES);
	region->has_zaps = attrs.at[KVM_VMEM_A_REGION_ZAP_RANGES] &&
			   attrs.at[KVM_VMEM_A_REGION_RANGE_ZAPS] &&
			   attrs.at[KVM_VMEM_A_REGION_ZAPS_BY_KVM];
	region->zap_ranges = get_uint(&attrs, KVM_VMEM_A_REGION_ZAP_RANGES);
	region->range_zaps = get_uint(&attrs, KVM_VMEM_A_REGION_RANGE_ZAPS);
	region->zaps_by_kvm = get_uint(&attrs, KVM_VMEM_A_REGION_ZAPS_BY_KVM);
	get_metadata(attrs.at[KVM_VMEM_A_REGION_METADATA],
		     &region->has_metadata, &region->metadata);
	get_metadata(attrs.at[KVM_VMEM_A_REGION_WHOLE_METADATA],
		     &region->has_whole_metadata, &region->whole_metadata);
	return 0;
}

static int get_slot(const struct nlmsghdr *nlh, struct vmem_nl_slot *slot)
{
	struct attrs attrs;
	int ret;

	memset(slot, 0, sizeof(*slot));
	ret = parse_message(nlh, &attrs);
	if (ret)
		return ret;
	slot->region_id = get_uint(&attrs, KVM_VMEM_A_SLOT_REGION_ID);
	slot->id = get_uint(&attrs, KVM_VMEM_A_SLOT_ID);
	slot->gpa = get_uint(&attrs, KVM_VMEM_A_SLOT_GPA);
	slot->size = get_uint(&attrs, KVM_VMEM_A_SLOT_SIZE);
	slot->hva = get_uint(&attrs, KVM_VMEM_A_SLOT_HVA);
	slot->plugged_size = get_uint(&attrs, KVM_VMEM_A_SLOT_PLUGGED_SIZE);
	slot->stale = attrs.at[KVM_VMEM_A_SLOT_STALE];
	get_metadata(attrs.at[KVM_VMEM_A_SLOT_METADATA], &slot->has_metadata,
		     &slot->metadata);
	return 0;
}

static int take_region(const struct nlmsghdr *nlh, void *arg)
{
	return get_region(nlh, arg);
}

static int take_answer(const struct nlmsghdr *nlh, void *arg)
{
	struct vmem_nl_answer *answer = arg;
	struct attrs attrs;
	int ret;

	ret = parse_message(nlh, &attrs);
	if (ret)
		return ret;
	answer->region_id = get_uint(&attrs, KVM_VMEM_A_BLOCK_REGION_ID);
	answer->request_id = get_uint(&attrs, KVM_VMEM_A_BLOCK_REQUEST_ID);
	answer->plugged_size = get_uint(&attrs, KVM_VMEM_A_BLOCK_PLUGGED_SIZE);
	answer->populated_slots =
		get_uint(&attrs, KVM_VMEM_A_BLOCK_POPULATED_SLOTS);
	return 0;
}

static int dump_region(const struct nlmsghdr *nlh, void *arg)
{
	const struct dump *dump = arg;
	struct vmem_nl_region region;
	int ret;

	ret = get_region(nlh, &region);
	return ret ? ret : dump->region(&region, dump->arg);
}

static int dump_slot(const struct nlmsghdr *nlh, void *arg)
{
	const struct dump *dump = arg;
	struct vmem_nl_slot slot;
	int ret;

	ret = get_slot(nlh, &slot);
	return ret ? ret : dump->slot(&slot, dump->arg);
}

static int dump_ranges(const struct nlmsghdr *nlh, void *arg)
{
	const struct dump *dump = arg;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr))
	{
		struct vmem_nl_range run;
		struct attrs attrs;
		int ret;

		if (mnl_attr_get_type(attr) != KVM_VMEM_A_BLOCK_RANGE)
			continue;
		parse_nest(attr, &attrs);
		run.gpa = get_uint(&attrs, KVM_VMEM_A_RANGE_GPA);
		run.size = get_uint(&attrs, KVM_VMEM_A_RANGE_SIZE);
		ret = dump->range(&run, dump->arg);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Type of the attribute at byte @offset of the request; 0: none. */
static uint16_t attr_at(const struct nlmsghdr *request, uint32_t offset)
{
	const char *base = (const char *)request;
	struct nlattr attr;

	if (offset < NLMSG_HDRLEN || offset > request->nlmsg_len ||
	    request->nlmsg_len - offset < sizeof(attr))
		return 0;
	memcpy(&attr, base + offset, sizeof(attr));
	return attr.nla_type & NLA_TYPE_MASK;
}

/*
 * Parse the attributes of an extended acknowledgment, which start at @at.
 * @error: errno of the acknowledgment
 */
static void get_extack(struct vmem_nl *nl, const struct nlmsghdr *nlh,
		       size_t at, const struct nlmsghdr *request, int error,
		       struct error *err)
{
	struct vmem_nl_failure *failure = &nl->failure;
	struct attrs attrs = {};
	const struct nlattr *msg;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS) ||
	    mnl_nlmsg_get_payload_len(nlh) < at)
		return;
	if (mnl_attr_parse(nlh, at, collect_attr, &attrs) < 0)
		return;

	if (attrs.at[NLMSGERR_ATTR_OFFS]) {
		failure->has_offset = true;
		failure->offset = get_uint(&attrs, NLMSGERR_ATTR_OFFS);
		failure->attr = attr_at(request, failure->offset);
	}
	if (attrs.at[NLMSGERR_ATTR_MISS_TYPE]) {
		failure->missing = true;
		failure->attr = get_uint(&attrs, NLMSGERR_ATTR_MISS_TYPE);
	}
	msg = attrs.at[NLMSGERR_ATTR_MSG];
	if (msg && mnl_attr_get_payload_len(msg) > 0) {
		failure->from_kernel = true;
		error_set(err, error, "%.*s",
			  (int)mnl_attr_get_payload_len(msg),
			  mnl_attr_get_str(msg));
	} else if (failure->missing) {
		error_set(err, error, "attribute %u is missing", failure->attr);
	}
}

/* Result of an NLMSG_ERROR or NLMSG_DONE: 0, or an errno with @err set. */
static int end_of_answer(struct vmem_nl *nl, const struct nlmsghdr *nlh,
			 const struct nlmsghdr *request, struct error *err)
{
	size_t at;
	int error = 0;

	if (mnl_nlmsg_get_payload_len(nlh) >= sizeof(error))
		memcpy(&error, mnl_nlmsg_get_payload(nlh), sizeof(error));
	else if (nlh->nlmsg_type == NLMSG_ERROR)
		error = -EBADMSG;
	if (error >= 0)
		return 0;

	error_set(err, error, "%s", strerror(-error));
	if (nlh->nlmsg_type == NLMSG_DONE) {
		at = sizeof(error);
	} else {
		at = sizeof(struct nlmsgerr);
		if (!(nlh->nlmsg_flags & NLM_F_CAPPED)) {
			const struct nlmsgerr *body =
				mnl_nlmsg_get_payload(nlh);

			if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*body))
				return error;
			at += NLMSG_ALIGN(body->msg.nlmsg_len) - NLMSG_HDRLEN;
		}
	}
	get_extack(nl, nlh, at, request, error, err);
	return error;
}

/*
 * Receive one datagram of the kernel. Datagrams of other processes are ignored.
 *
 * Return: its size; -EAGAIN: none arrived in time; an errno of the socket.
 */
static int receive_datagram(struct vmem_nl *nl, int flags)
{
	for (;;) {
		struct sockaddr_nl from = {};
		struct iovec iov = {
			.iov_base = nl->receive,
			.iov_len = sizeof(nl->receive),
		};
		struct msghdr mh = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		ssize_t got = recvmsg(vmem_nl_fd(nl), &mh, flags);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (mh.msg_namelen != sizeof(from) || from.nl_pid)
			continue;
		return mh.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)got;
	}
}

static int send_message(struct vmem_nl *nl, struct nlmsghdr *nlh,
			struct error *err)
{
	nl->failure = (struct vmem_nl_failure){};
	nlh->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->socket, nlh, nlh->nlmsg_len) >= 0)
		return 0;
	return error_set(err, -errno, "cannot send a netlink message: %s",
			 strerror(errno));
}

static int answer_lost(struct vmem_nl *nl, int ret, struct error *err)
{
	nl->failure.unknown = true;
	return error_set(err, ret, "cannot receive a netlink message: %s",
			 strerror(-ret));
}

/**
 * vmem_nl_transact() - send a request and receive the whole answer
 * @nl: handle
 * @nlh: the request; sequence number and NLM_F_REQUEST | NLM_F_ACK are set here
 * @fn: called for each data message of the answer; may be NULL
 * @arg: for @fn
 * @err: set on failure; may be NULL
 *
 * Return: 0; a negative return value of @fn; the kernel's errno; -EAGAIN: the
 * data changed during a dump, try again; an errno of the socket.
 */
int vmem_nl_transact(struct vmem_nl *nl, struct nlmsghdr *nlh,
		     vmem_nl_message_fn fn, void *arg, struct error *err)
{
	bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	bool torn = false;
	int ret;

	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	ret = send_message(nl, nlh, err);
	if (ret)
		return ret;

	for (;;) {
		const struct nlmsghdr *in;
		int len;

		len = receive_datagram(nl, 0);
		if (len < 0)
			return answer_lost(nl, len, err);
		in = (const struct nlmsghdr *)nl->receive;
		for (; mnl_nlmsg_ok(in, len); in = mnl_nlmsg_next(in, &len)) {
			if (in->nlmsg_seq != nl->seq ||
			    in->nlmsg_pid != nl->port)
				continue;
			if (in->nlmsg_flags & NLM_F_DUMP_INTR)
				torn = true;
			if (in->nlmsg_type == NLMSG_ERROR ||
			    in->nlmsg_type == NLMSG_DONE) {
				ret = end_of_answer(nl, in, nlh, err);
				if (!ret && dump && torn)
					ret = error_set(err, -EAGAIN,
							"changed while read");
				return ret;
			}
			if (in->nlmsg_type < NLMSG_MIN_TYPE || !fn)
				continue;
			ret = fn(in, arg);
			if (ret < 0) {
				nl->failure.unknown = true;
				return error_set(err, ret, "%s",
						 strerror(-ret));
			}
		}
	}
}

/* Start a request in @buf, which must be large enough for its attributes. */
static struct nlmsghdr *begin_message(struct vmem_nl *nl, void *buf,
				      uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = nl->family;
	nlh->nlmsg_flags = flags;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = KVM_VMEM_FAMILY_VERSION;
	return nlh;
}

static void put_name(struct nlmsghdr *nlh, struct vmem_nl_name name,
		     uint16_t fd_type, uint16_t id_type)
{
	if (name.fd >= 0)
		mnl_attr_put_u32(nlh, fd_type, name.fd);
	if (name.id)
		mnl_attr_put_u32(nlh, id_type, name.id);
}

/*
 * Bytes of one range: a nest of two u64. Attributes of 12 bytes need no
 * padding.
 */
#define RANGE_SIZE (NLA_HDRLEN + 2 * (NLA_HDRLEN + sizeof(uint64_t)))

/**
 * vmem_nl_region_get() - get the state of a region
 * @nl: handle
 * @name: the region
 * @region: set to the state
 * @err: set on failure; may be NULL
 *
 * Return: 0; -EBADF, -EPERM, -ENOENT and others, see uapi/kvm_vmem.yaml.
 */
int vmem_nl_region_get(struct vmem_nl *nl, struct vmem_nl_name name,
		       struct vmem_nl_region *region, struct error *err)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh =
		begin_message(nl, buf, KVM_VMEM_CMD_REGION_GET, 0);

	memset(region, 0, sizeof(*region));
	put_name(nlh, name, KVM_VMEM_A_REGION_FD, KVM_VMEM_A_REGION_ID);
	return vmem_nl_transact(nl, nlh, take_region, region, err);
}

/* Dump all regions of the host; needs CAP_NET_ADMIN on the host. */
int vmem_nl_region_dump(struct vmem_nl *nl, vmem_nl_region_fn fn, void *arg,
			struct error *err)
{
	struct dump dump = {.region = fn, .arg = arg};
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh;

	nlh = begin_message(nl, buf, KVM_VMEM_CMD_REGION_GET, NLM_F_DUMP);
	return vmem_nl_transact(nl, nlh, dump_region, &dump, err);
}

/**
 * vmem_nl_region_set() - change the requested size, dirty logging, or both
 * @nl: handle
 * @name: the region
 * @what: VMEM_NL_SET_* flags of the values to send
 * @requested_size: new requested size
 * @dirty_log: new state of dirty logging
 * @region: set to the new state; may be NULL
 * @err: set on failure; may be NULL
 *
 * Return: 0; -ERANGE, -EINVAL, -ESTALE and others, see uapi/kvm_vmem.yaml.
 */
int vmem_nl_region_set(struct vmem_nl *nl, struct vmem_nl_name name,
		       unsigned int what, uint64_t requested_size,
		       bool dirty_log, struct vmem_nl_region *region,
		       struct error *err)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh =
		begin_message(nl, buf, KVM_VMEM_CMD_REGION_SET, 0);

	put_name(nlh, name, KVM_VMEM_A_REGION_FD, KVM_VMEM_A_REGION_ID);
	if (what & VMEM_NL_SET_REQUESTED_SIZE)
		mnl_attr_put_u64(nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE,
				 requested_size);
	if (what & VMEM_NL_SET_DIRTY_LOG)
		mnl_attr_put_u8(nlh, KVM_VMEM_A_REGION_DIRTY_LOG, dirty_log);
	return vmem_nl_transact(nl, nlh, region ? take_region : NULL, region,
				err);
}

static void put_range(struct nlmsghdr *nlh, const struct vmem_nl_range *range)
{
	struct nlattr *nest;

	nest = mnl_attr_nest_start(nlh, KVM_VMEM_A_BLOCK_RANGE);
	mnl_attr_put_u64(nlh, KVM_VMEM_A_RANGE_GPA, range->gpa);
	mnl_attr_put_u64(nlh, KVM_VMEM_A_RANGE_SIZE, range->size);
	mnl_attr_nest_end(nlh, nest);
}

static int change_blocks(struct vmem_nl *nl, uint8_t cmd,
			 struct vmem_nl_name name, uint64_t request_id,
			 const struct vmem_nl_range *ranges, size_t nr,
			 struct vmem_nl_answer *answer, struct error *err)
{
	char small[REQUEST_SIZE];
	struct nlmsghdr *nlh;
	size_t size, i;
	char *buf = small;
	int ret;

	/* The kernel checks KVM_VMEM_MAX_RANGES, and its tests rely on this. */
	if (__builtin_mul_overflow(nr, RANGE_SIZE, &size) ||
	    __builtin_add_overflow(size, REQUEST_SIZE, &size) ||
	    size > INT32_MAX)
		return error_set(err, -E2BIG, "too many ranges: %zu", nr);
	if (nr > 1) {
		buf = malloc(size);
		if (!buf)
			return error_set(err, -ENOMEM, "out of memory");
	}

	nlh = begin_message(nl, buf, cmd, 0);
	put_name(nlh, name, KVM_VMEM_A_BLOCK_REGION_FD,
		 KVM_VMEM_A_BLOCK_REGION_ID);
	if (request_id)
		mnl_attr_put_u64(nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, request_id);
	for (i = 0; i < nr; i++)
		put_range(nlh, &ranges[i]);
	if (answer)
		memset(answer, 0, sizeof(*answer));
	ret = vmem_nl_transact(nl, nlh, answer ? take_answer : NULL, answer,
			       err);
	if (buf != small)
		free(buf);
	return ret;
}

/**
 * vmem_nl_plug() - plug ranges of blocks atomically
 * @nl: handle
 * @name: the region
 * @request_id: stored by the kernel, so that the request can be repeated
 *	without effect; 0: not sent
 * @ranges: ranges of whole blocks
 * @nr: number of @ranges, 1 to KVM_VMEM_MAX_RANGES
 * @answer: set on success; may be NULL
 * @err: set on failure; may be NULL
 *
 * Return: 0; -EEXIST: a block is plugged already, or another memslot overlaps;
 * -ESTALE: the region's memslots were changed by the VMM; -ENODEV: the VM is
 * gone; -ENOMEM; others, see uapi/kvm_vmem.yaml. On an error nothing was
 * changed.
 */
int vmem_nl_plug(struct vmem_nl *nl, struct vmem_nl_name name,
		 uint64_t request_id, const struct vmem_nl_range *ranges,
		 size_t nr, struct vmem_nl_answer *answer, struct error *err)
{
	return change_blocks(nl, KVM_VMEM_CMD_BLOCK_PLUG, name, request_id,
			     ranges, nr, answer, err);
}

/* Unplug ranges, see vmem_nl_plug(). -ENXIO: a block is not plugged. */
int vmem_nl_unplug(struct vmem_nl *nl, struct vmem_nl_name name,
		   uint64_t request_id, const struct vmem_nl_range *ranges,
		   size_t nr, struct vmem_nl_answer *answer, struct error *err)
{
	return change_blocks(nl, KVM_VMEM_CMD_BLOCK_UNPLUG, name, request_id,
			     ranges, nr, answer, err);
}

/* Unplug all blocks; succeeds if no block is plugged. */
int vmem_nl_unplug_all(struct vmem_nl *nl, struct vmem_nl_name name,
		       uint64_t request_id, struct vmem_nl_answer *answer,
		       struct error *err)
{
	return change_blocks(nl, KVM_VMEM_CMD_BLOCK_UNPLUG_ALL, name,
			     request_id, NULL, 0, answer, err);
}

static const uint8_t change_commands[] = {
	[VMEM_NL_PLUG] = KVM_VMEM_CMD_BLOCK_PLUG,
	[VMEM_NL_UNPLUG] = KVM_VMEM_CMD_BLOCK_UNPLUG,
	[VMEM_NL_UNPLUG_ALL] = KVM_VMEM_CMD_BLOCK_UNPLUG_ALL,
	[VMEM_NL_SET] = KVM_VMEM_CMD_REGION_SET,
};

/**
 * vmem_nl_send() - send a change without waiting for the answer
 * @nl: handle
 * @name: the region
 * @change: the change
 * @err: set on failure; may be NULL
 *
 * vmem_nl_receive() receives the answer. If the answer seems lost, the same
 * change may be sent again. Then only the answer to the last one is received.
 *
 * Return: 0; an errno of the socket: the change was not sent.
 */
int vmem_nl_send(struct vmem_nl *nl, struct vmem_nl_name name,
		 const struct vmem_nl_change *change, struct error *err)
{
	struct nlmsghdr *nlh;

	/* No NLM_F_ACK: the reply, or the error, is the answer. */
	nlh = begin_message(nl, nl->sent, change_commands[change->type],
			    NLM_F_REQUEST);
	if (change->type == VMEM_NL_SET) {
		put_name(nlh, name, KVM_VMEM_A_REGION_FD, KVM_VMEM_A_REGION_ID);
		if (change->set & VMEM_NL_SET_REQUESTED_SIZE)
			mnl_attr_put_u64(nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE,
					 change->requested_size);
		if (change->set & VMEM_NL_SET_DIRTY_LOG)
			mnl_attr_put_u8(nlh, KVM_VMEM_A_REGION_DIRTY_LOG,
					change->dirty_log);
	} else {
		put_name(nlh, name, KVM_VMEM_A_BLOCK_REGION_FD,
			 KVM_VMEM_A_BLOCK_REGION_ID);
		mnl_attr_put_u64(nlh, KVM_VMEM_A_BLOCK_REQUEST_ID,
				 change->request_id);
	}
	if (change->type == VMEM_NL_PLUG || change->type == VMEM_NL_UNPLUG)
		put_range(nlh, &change->range);
	return send_message(nl, nlh, err);
}

/* Find the answer to nl->sent in a datagram. Return: see vmem_nl_receive(). */
static int take_changed(struct vmem_nl *nl, int len,
			struct vmem_nl_changed *changed, struct error *err)
{
	const struct nlmsghdr *sent = (const struct nlmsghdr *)nl->sent;
	const struct nlmsghdr *in = (const struct nlmsghdr *)nl->receive;
	const struct genlmsghdr *genl = mnl_nlmsg_get_payload(sent);
	int ret;

	for (; mnl_nlmsg_ok(in, len); in = mnl_nlmsg_next(in, &len)) {
		if (in->nlmsg_seq != sent->nlmsg_seq ||
		    in->nlmsg_pid != nl->port)
			continue;
		if (in->nlmsg_type == NLMSG_ERROR) {
			ret = end_of_answer(nl, in, sent, err);
			/* An acknowledgment, which was not requested. */
			if (!ret)
				continue;
			return ret;
		}
		if (in->nlmsg_type != nl->family)
			continue;
		if (genl->cmd == KVM_VMEM_CMD_REGION_SET)
			ret = get_region(in, &changed->region);
		else
			ret = take_answer(in, &changed->blocks);
		return ret ? answer_lost(nl, ret, err) : 0;
	}
	return -EINPROGRESS;
}

/**
 * vmem_nl_receive() - receive the answer to the last change sent
 * @nl: handle
 * @wait: wait for the answer, up to the time set by vmem_nl_set_patience()
 * @changed: set to the new state
 * @err: set on failure; not NULL
 *
 * Return: 0; -EINPROGRESS: not answered yet; the kernel's errno: nothing was
 * changed; another errno with @unknown set in vmem_nl_failure().
 */
int vmem_nl_receive(struct vmem_nl *nl, bool wait,
		    struct vmem_nl_changed *changed, struct error *err)
{
	int ret;

	memset(changed, 0, sizeof(*changed));
	nl->failure = (struct vmem_nl_failure){};
	do {
		ret = receive_datagram(nl, wait ? 0 : MSG_DONTWAIT);
		if (ret == -EAGAIN)
			return -EINPROGRESS;
		if (ret < 0)
			return answer_lost(nl, ret, err);
		ret = take_changed(nl, ret, changed, err);
	} while (ret == -EINPROGRESS);
	return ret;
}

/* Dump runs of plugged blocks, ascending. -EAGAIN: they changed meanwhile. */
int vmem_nl_block_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		       vmem_nl_range_fn fn, void *arg, struct error *err)
{
	struct dump dump = {.range = fn, .arg = arg};
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh;

	nlh = begin_message(nl, buf, KVM_VMEM_CMD_BLOCK_GET, NLM_F_DUMP);
	put_name(nlh, name, KVM_VMEM_A_BLOCK_REGION_FD,
		 KVM_VMEM_A_BLOCK_REGION_ID);
	return vmem_nl_transact(nl, nlh, dump_ranges, &dump, err);
}

/* Dump populated slots, ascending. -EAGAIN: they changed meanwhile. */
int vmem_nl_slot_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		      vmem_nl_slot_fn fn, void *arg, struct error *err)
{
	struct dump dump = {.slot = fn, .arg = arg};
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh;

	nlh = begin_message(nl, buf, KVM_VMEM_CMD_SLOT_GET, NLM_F_DUMP);
	put_name(nlh, name, KVM_VMEM_A_SLOT_REGION_FD,
		 KVM_VMEM_A_SLOT_REGION_ID);
	return vmem_nl_transact(nl, nlh, dump_slot, &dump, err);
}

/* Get id and multicast group of the family from the controller's answer. */
static int take_family(const struct nlmsghdr *nlh, void *arg)
{
	struct vmem_nl *nl = arg;
	const struct nlattr *group;
	struct attrs attrs;
	int ret;

	ret = parse_message(nlh, &attrs);
	if (ret)
		return ret;
	nl->family = get_uint(&attrs, CTRL_ATTR_FAMILY_ID);
	if (!attrs.at[CTRL_ATTR_MCAST_GROUPS])
		return 0;
	mnl_attr_for_each_nested(group, attrs.at[CTRL_ATTR_MCAST_GROUPS])
	{
		const struct nlattr *name;
		struct attrs of_group;

		parse_nest(group, &of_group);
		name = of_group.at[CTRL_ATTR_MCAST_GRP_NAME];
		if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0)
			continue;
		if (!strcmp(mnl_attr_get_str(name), KVM_VMEM_MCGRP_EVENTS))
			nl->events_group =
				get_uint(&of_group, CTRL_ATTR_MCAST_GRP_ID);
	}
	return 0;
}

static int resolve_family(struct vmem_nl *nl, struct error *err)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *nlh;
	int ret;

	nl->family = GENL_ID_CTRL;
	nlh = begin_message(nl, buf, CTRL_CMD_GETFAMILY, 0);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, KVM_VMEM_FAMILY_NAME);
	ret = vmem_nl_transact(nl, nlh, take_family, nl, err);
	if (ret == -ENOENT)
		error_set(err, ret,
			  "no netlink family \"%s\": is the kvm_vmem "
			  "module loaded?",
			  KVM_VMEM_FAMILY_NAME);
	return ret;
}

/**
 * vmem_nl_open() - open a netlink socket and find the family
 * @nlp: set to the handle
 * @err: set on failure; may be NULL
 *
 * Return: 0; -ENOENT: the module is not loaded; -ENOMEM; an errno of the
 * socket.
 */
int vmem_nl_open(struct vmem_nl **nlp, struct error *err)
{
	struct vmem_nl *nl;
	int one = 1;
	int ret;

	nl = calloc(1, sizeof(*nl));
	if (!nl)
		return error_set(err, -ENOMEM, "out of memory");
	nl->socket = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!nl->socket) {
		ret = error_set(err, -errno,
				"cannot open a generic netlink socket: %s",
				strerror(errno));
		goto free_nl;
	}
	if (mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_setsockopt(nl->socket, NETLINK_EXT_ACK, &one,
				  sizeof(one)) < 0 ||
	    mnl_socket_setsockopt(nl->socket, NETLINK_CAP_ACK, &one,
				  sizeof(one)) < 0) {
		ret = error_set(err, -errno,
				"cannot set up a generic netlink socket: %s",
				strerror(errno));
		goto close_socket;
	}
	nl->port = mnl_socket_get_portid(nl->socket);
	ret = resolve_family(nl, err);
	if (ret)
		goto close_socket;
	*nlp = nl;
	return 0;

close_socket:
	mnl_socket_close(nl->socket);
free_nl:
	free(nl);
	return ret;
}

void vmem_nl_close(struct vmem_nl *nl)
{
	if (!nl)
		return;
	mnl_socket_close(nl->socket);
	free(nl);
}

/* The socket, for polling. */
int vmem_nl_fd(const struct vmem_nl *nl)
{
	return mnl_socket_get_fd(nl->socket);
}

/**
 * vmem_nl_set_patience() - set how long vmem_nl_receive() waits for an answer
 * @nl: handle
 * @usec: time, not 0; the kernel may wait up to two jiffies longer
 * @err: set on failure; may be NULL
 *
 * The timeout applies to all functions, so the handle must only be used with
 * vmem_nl_send() and vmem_nl_receive().
 *
 * Return: 0, or an errno of setsockopt(2).
 */
int vmem_nl_set_patience(struct vmem_nl *nl, unsigned int usec,
			 struct error *err)
{
	const struct timeval tv = {
		.tv_sec = usec / 1000000,
		.tv_usec = usec % 1000000,
	};
	if (!setsockopt(vmem_nl_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &tv,
			sizeof(tv)))
		return 0;
	return error_set(err, -errno,
			 "cannot set up a generic netlink socket: %s",
			 strerror(errno));
}

/* Netlink message type of the family. */
uint16_t vmem_nl_family(const struct vmem_nl *nl)
{
	return nl->family;
}

/* Details of the last request; valid if the request has failed. */
const struct vmem_nl_failure *vmem_nl_failure(const struct vmem_nl *nl)
{
	return &nl->failure;
}

/* Join the group of notifications; needs CAP_NET_ADMIN on the host. */
int vmem_nl_subscribe(struct vmem_nl *nl, struct error *err)
{
	if (mnl_socket_setsockopt(nl->socket, NETLINK_ADD_MEMBERSHIP,
				  &nl->events_group,
				  sizeof(nl->events_group)) < 0)
		return error_set(err, -errno,
				 "cannot join the events group: %s",
				 strerror(errno));
	return 0;
}

/* Parse an event. Return: 1; 0: the datagram is not an event; an errno. */
static int take_event(struct vmem_nl *nl, ssize_t got,
		      struct vmem_nl_event *event)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)nl->receive;
	const struct genlmsghdr *genl;
	int len = got;

	/* The kernel sends each notification as a separate datagram. */
	if (!mnl_nlmsg_ok(nlh, len) || nlh->nlmsg_type != nl->family ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*genl))
		return 0;
	genl = mnl_nlmsg_get_payload(nlh);
	if (genl->cmd != KVM_VMEM_CMD_REGION_NEW_NTF &&
	    genl->cmd != KVM_VMEM_CMD_REGION_DEL_NTF &&
	    genl->cmd != KVM_VMEM_CMD_REGION_CHANGE_NTF)
		return 0;
	event->cmd = genl->cmd;
	len = get_region(nlh, &event->region);
	return len < 0 ? len : 1;
}

/**
 * vmem_nl_next_event() - wait for a notification
 * @nl: subscribed handle
 * @timeout_ms: timeout of poll(2); restarts with each message that is not an
 *	event
 * @event: set on success
 * @err: set on failure; may be NULL
 *
 * Return: 0; -ETIMEDOUT; -ENOBUFS: notifications were lost, so the state must
 * be read again; an errno of the socket.
 */
int vmem_nl_next_event(struct vmem_nl *nl, int timeout_ms,
		       struct vmem_nl_event *event, struct error *err)
{
	for (;;) {
		struct pollfd pfd = {.fd = vmem_nl_fd(nl), .events = POLLIN};
		int ret;

		ret = poll(&pfd, 1, timeout_ms);
		if (ret < 0 && errno == EINTR)
			continue;
		if (ret == 0)
			return error_set(err, -ETIMEDOUT, "no event in %d ms",
					 timeout_ms);
		/* The datagram may have been of another process: EAGAIN. */
		ret = ret < 0 ? -errno : receive_datagram(nl, MSG_DONTWAIT);
		if (ret == -EAGAIN)
			continue;
		if (ret < 0)
			return error_set(err, ret, "cannot receive events: %s",
					 strerror(-ret));
		ret = take_event(nl, ret, event);
		if (ret < 0)
			return error_set(err, ret, "malformed event");
		if (ret)
			return 0;
	}
}
