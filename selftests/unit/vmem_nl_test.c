// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The netlink client's parsing of a kernel's answers: extended acknowledgments
 * of errors, and datagrams that are no answer. The test replaces only the two
 * calls that send and receive. selftests/kvm_vmem tests the family itself in
 * the testbed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#include "common/vmem_nl.h"
#include "unit.h"

#define FAMILY 0x77

/* An attribute type made of the last bytes of a plug request. */
#define LAST_TYPE 0x1234ULL

/* More than any test uses. */
#define DATAGRAMS_MAX 8

/**
 * struct datagram - a datagram to receive
 * @sender: port of the sender, 0 for the kernel
 * @error: error that receiving returns instead
 * @flags: flags of the received message
 */
struct datagram {
	char bytes[1024];
	size_t size;
	unsigned int sender;
	int error;
	int flags;
};

/**
 * struct kernel - the other end
 * @request: the last request sent
 * @port: port of its sender
 * @next, @nr: the remaining datagrams
 */
static struct {
	char request[1024];
	unsigned int port;
	struct datagram datagrams[DATAGRAMS_MAX];
	size_t next;
	size_t nr;
	void (*answer)(void);
} kernel;

static struct vmem_nl *nl;

static const struct nlmsghdr *request(void)
{
	return (const struct nlmsghdr *)kernel.request;
}

static struct datagram *new_datagram(void)
{
	struct datagram *datagram = &kernel.datagrams[kernel.nr++];

	assert_true(kernel.nr <= DATAGRAMS_MAX);
	memset(datagram, 0, sizeof(*datagram));
	return datagram;
}

/* Append a message of the answer, in its own datagram. */
static struct nlmsghdr *put(uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(new_datagram()->bytes);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = flags;
	nlh->nlmsg_seq = request()->nlmsg_seq;
	nlh->nlmsg_pid = kernel.port;
	return nlh;
}

static void end(const struct nlmsghdr *nlh)
{
	kernel.datagrams[kernel.nr - 1].size = nlh->nlmsg_len;
}

/* @flags: without NLM_F_CAPPED the message contains the whole request */
static struct nlmsghdr *put_error(int error, uint16_t flags)
{
	struct nlmsghdr *nlh = put(NLMSG_ERROR, flags);
	uint32_t rest = NLMSG_ALIGN(request()->nlmsg_len) - NLMSG_HDRLEN;
	struct nlmsgerr *body;

	body = mnl_nlmsg_put_extra_header(nlh, sizeof(*body));
	body->error = error;
	body->msg = *request();
	if (!(flags & NLM_F_CAPPED))
		memcpy(mnl_nlmsg_put_extra_header(nlh, rest),
		       kernel.request + NLMSG_HDRLEN, rest);
	return nlh;
}

static void put_ack(void)
{
	end(put_error(0, NLM_F_CAPPED));
}

static void answer_family(void)
{
	struct nlmsghdr *nlh = put(GENL_ID_CTRL, 0);

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct genlmsghdr));
	mnl_attr_put_u16(nlh, CTRL_ATTR_FAMILY_ID, FAMILY);
	end(nlh);
	put_ack();
}

/* Names that the linker requires for wrapped functions. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *socket,
				 const void *buf, size_t len);
ssize_t __wrap_recvmsg(int fd, struct msghdr *mh, int flags);

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *socket,
				 const void *buf, size_t len)
{
	assert_true(len <= sizeof(kernel.request));
	memcpy(kernel.request, buf, len);
	kernel.port = mnl_socket_get_portid(socket);
	kernel.next = 0;
	kernel.nr = 0;
	kernel.answer();
	return (ssize_t)len;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *mh, int flags)
{
	const struct datagram *datagram = &kernel.datagrams[kernel.next++];
	struct sockaddr_nl *from = mh->msg_name;

	(void)fd;
	(void)flags;
	/* The client must not read beyond the answer. */
	assert_true(kernel.next <= kernel.nr);
	if (datagram->error) {
		errno = datagram->error;
		return -1;
	}
	memcpy(mh->msg_iov[0].iov_base, datagram->bytes, datagram->size);
	*from = (struct sockaddr_nl){
		.nl_family = AF_NETLINK,
		.nl_pid = datagram->sender,
	};
	mh->msg_namelen = sizeof(*from);
	mh->msg_flags = datagram->flags;
	return (ssize_t)datagram->size;
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

static int set_up(void **state)
{
	struct error err;

	(void)state;
	kernel.answer = answer_family;
	if (vmem_nl_open(&nl, &err))
		fail_msg("%s", err.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vmem_nl_close(nl);
	return 0;
}

/* Make a request that ends with @answer. */
static int plug(void (*answer)(void), struct error *err)
{
	static const struct vmem_nl_range range = {
		.gpa = 1 << 30,
		.size = LAST_TYPE << 48,
	};
	int ret;

	if (err)
		memset(err, 0xff, sizeof(*err));
	kernel.answer = answer;
	ret = vmem_nl_plug(nl, VMEM_NL_BY_FD(3), 1, &range, 1, NULL, err);
	assert_int_equal(request()->nlmsg_type, FAMILY);
	/* The whole answer was read. */
	assert_int_equal(kernel.next, kernel.nr);
	return ret;
}

/* Offset of the first attribute of a type in the request. */
static uint32_t offset_of(uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, request(), sizeof(struct genlmsghdr))
	{
		if (mnl_attr_get_type(attr) == type)
			return (uint32_t)((const char *)attr - kernel.request);
	}
	fail_msg("no attribute %u", type);
	return 0;
}

static void put_words(struct nlmsghdr *nlh)
{
	mnl_attr_put_u32(nlh, NLMSGERR_ATTR_OFFS,
			 offset_of(KVM_VMEM_A_BLOCK_RANGE));
	mnl_attr_put_strz(nlh, NLMSGERR_ATTR_MSG, "no such block");
}

static void refuse(void)
{
	struct nlmsghdr *nlh =
		put_error(-EEXIST, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	put_words(nlh);
	end(nlh);
}

static void refuse_uncapped(void)
{
	struct nlmsghdr *nlh = put_error(-EEXIST, NLM_F_ACK_TLVS);

	put_words(nlh);
	end(nlh);
}

static void the_kernels_message_is_used(void **state)
{
	void (*const answers[])(void) = {refuse, refuse_uncapped};
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		assert_int_equal(plug(answers[i], &err), -EEXIST);
		assert_string_equal(err.text, "no such block");
		assert_true(failure->from_kernel);
		assert_true(failure->has_offset);
		assert_int_equal(failure->offset,
				 offset_of(KVM_VMEM_A_BLOCK_RANGE));
		assert_int_equal(failure->attr, KVM_VMEM_A_BLOCK_RANGE);
		assert_false(failure->missing);
		assert_false(failure->unknown);
		/* The details are optional. */
		assert_int_equal(plug(answers[i], NULL), -EEXIST);
	}
}

/* Without the flag, data that looks like attributes is none. */
static void refuse_without_flag(void)
{
	struct nlmsghdr *nlh = put_error(-EEXIST, NLM_F_CAPPED);

	put_words(nlh);
	end(nlh);
}

static void refuse_without_words(void)
{
	end(put_error(-EEXIST, NLM_F_CAPPED | NLM_F_ACK_TLVS));
}

static void refuse_with_empty_words(void)
{
	struct nlmsghdr *nlh =
		put_error(-EEXIST, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	mnl_attr_put(nlh, NLMSGERR_ATTR_MSG, 0, NULL);
	end(nlh);
}

/* An attribute that is longer than its message. */
static void refuse_with_damage(void)
{
	struct nlmsghdr *nlh =
		put_error(-EEXIST, NLM_F_CAPPED | NLM_F_ACK_TLVS);
	struct nlattr *attr = mnl_nlmsg_get_payload_tail(nlh);

	put_words(nlh);
	attr->nla_len = 512;
	end(nlh);
}

/* The request is missing from the message. */
static void refuse_cut_off(void)
{
	struct nlmsghdr *nlh =
		put_error(-EEXIST, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	nlh->nlmsg_flags = NLM_F_ACK_TLVS;
	end(nlh);
}

static void refuse_by_number(void)
{
	struct nlmsghdr *nlh = put(NLMSG_ERROR, NLM_F_ACK_TLVS);

	*(int *)mnl_nlmsg_put_extra_header(nlh, sizeof(int)) = -EEXIST;
	end(nlh);
}

static void without_a_message_the_error_is_described(void **state)
{
	void (*const answers[])(void) = {
		refuse_without_flag,	 refuse_without_words,
		refuse_with_empty_words, refuse_with_damage,
		refuse_cut_off,		 refuse_by_number,
	};
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		assert_int_equal(plug(answers[i], &err), -EEXIST);
		assert_string_equal(err.text, strerror(EEXIST));
		assert_false(failure->from_kernel);
		assert_false(failure->has_offset);
		assert_int_equal(failure->attr, 0);
		assert_false(failure->missing);
		assert_false(failure->unknown);
	}
}

static void refuse_for_lack(void)
{
	struct nlmsghdr *nlh =
		put_error(-EINVAL, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	mnl_attr_put_u32(nlh, NLMSGERR_ATTR_MISS_TYPE, 5);
	end(nlh);
}

static void refuse_for_lack_with_words(void)
{
	struct nlmsghdr *nlh =
		put_error(-EINVAL, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	mnl_attr_put_u32(nlh, NLMSGERR_ATTR_MISS_TYPE, 5);
	mnl_attr_put_strz(nlh, NLMSGERR_ATTR_MSG, "no range");
	end(nlh);
}

static void a_missing_attribute_is_named(void **state)
{
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	assert_int_equal(plug(refuse_for_lack, &err), -EINVAL);
	assert_string_equal(err.text, "attribute 5 is missing");
	assert_true(failure->missing);
	assert_int_equal(failure->attr, 5);
	assert_false(failure->from_kernel);
	assert_false(failure->has_offset);
	assert_int_equal(plug(refuse_for_lack_with_words, &err), -EINVAL);
	assert_string_equal(err.text, "no range");
	assert_true(failure->missing);
	assert_int_equal(failure->attr, 5);
	assert_true(failure->from_kernel);
}

static uint32_t told_offset;

static void refuse_at_offset(void)
{
	struct nlmsghdr *nlh =
		put_error(-EINVAL, NLM_F_CAPPED | NLM_F_ACK_TLVS);

	mnl_attr_put_u32(nlh, NLMSGERR_ATTR_OFFS, told_offset);
	end(nlh);
}

static void an_offset_may_be_anywhere(void **state)
{
	uint32_t size;
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	plug(put_ack, NULL);
	size = request()->nlmsg_len;
	{
		const uint32_t nowhere[] = {
			0,
			NLMSG_HDRLEN - 1,
			size - sizeof(struct nlattr) + 1,
			size,
			size + 1,
			UINT32_MAX,
		};

		for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]);
		     i++) {
			told_offset = nowhere[i];
			assert_int_equal(plug(refuse_at_offset, &err), -EINVAL);
			assert_true(failure->has_offset);
			assert_int_equal(failure->offset, told_offset);
			assert_int_equal(failure->attr, 0);
		}
	}
	/* The last offset with room for an attribute. */
	told_offset = size - sizeof(struct nlattr);
	assert_int_equal(plug(refuse_at_offset, &err), -EINVAL);
	assert_int_equal(failure->attr, LAST_TYPE);
	told_offset = offset_of(KVM_VMEM_A_BLOCK_REGION_FD);
	assert_int_equal(plug(refuse_at_offset, &err), -EINVAL);
	assert_int_equal(failure->attr, KVM_VMEM_A_BLOCK_REGION_FD);
}

static void end_dump(void)
{
	struct nlmsghdr *nlh = put(NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS);

	*(int *)mnl_nlmsg_put_extra_header(nlh, sizeof(int)) = -ENODEV;
	mnl_attr_put_strz(nlh, NLMSGERR_ATTR_MSG, "the VM is gone");
	end(nlh);
}

static void end_dump_torn(void)
{
	struct nlmsghdr *nlh = put(NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR);

	*(int *)mnl_nlmsg_put_extra_header(nlh, sizeof(int)) = 0;
	end(nlh);
}

static int no_range(const struct vmem_nl_range *run, void *arg)
{
	(void)run;
	(void)arg;
	fail_msg("a range of nothing");
	return 0;
}

static int no_region(const struct vmem_nl_region *region, void *arg)
{
	(void)region;
	(void)arg;
	fail_msg("a region of nothing");
	return 0;
}

static int no_slot(const struct vmem_nl_slot *slot, void *arg)
{
	(void)slot;
	(void)arg;
	fail_msg("a memslot of nothing");
	return 0;
}

static void a_dump_has_its_error_at_the_end(void **state)
{
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	kernel.answer = end_dump;
	assert_int_equal(
		vmem_nl_block_dump(nl, VMEM_NL_BY_FD(3), no_range, NULL, &err),
		-ENODEV);
	assert_string_equal(err.text, "the VM is gone");
	assert_true(failure->from_kernel);
	kernel.answer = end_dump_torn;
	assert_int_equal(
		vmem_nl_block_dump(nl, VMEM_NL_BY_FD(3), no_range, NULL, &err),
		-EAGAIN);
	assert_string_equal(err.text, "changed while read");
	/* Only dumps can be torn. */
	assert_int_equal(plug(end_dump_torn, &err), 0);
}

static void end_without_number(void)
{
	end(put(NLMSG_ERROR, 0));
}

static void an_error_message_without_a_number_is_invalid(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(plug(end_without_number, &err), -EBADMSG);
	assert_string_equal(err.text, strerror(EBADMSG));
}

/* Other datagrams precede the answer. */
static void answer_among_others(void)
{
	struct nlmsghdr *nlh;

	new_datagram()->error = EINTR;
	nlh = put_error(-EPERM, NLM_F_CAPPED);
	kernel.datagrams[kernel.nr - 1].sender = 1234;
	end(nlh);
	nlh = put_error(-EPERM, NLM_F_CAPPED);
	nlh->nlmsg_seq--;
	end(nlh);
	nlh = put_error(-EPERM, NLM_F_CAPPED);
	nlh->nlmsg_pid++;
	end(nlh);
	end(put(NLMSG_NOOP, 0));
	put_ack();
}

static void other_datagrams_are_skipped(void **state)
{
	(void)state;
	assert_int_equal(plug(answer_among_others, NULL), 0);
}

static void lose(void)
{
	new_datagram()->error = ENOBUFS;
}

static void cut(void)
{
	put_ack();
	kernel.datagrams[kernel.nr - 1].flags = MSG_TRUNC;
}

static void a_lost_answer_is_reported_as_unknown(void **state)
{
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	assert_int_equal(plug(lose, &err), -ENOBUFS);
	assert_true(failure->unknown);
	assert_non_null(strstr(err.text, strerror(ENOBUFS)));
	assert_int_equal(plug(cut, &err), -EMSGSIZE);
	assert_true(failure->unknown);
}

/* Nothing is available between the answers. */
static void answer_later(void)
{
	struct nlmsghdr *nlh;
	struct genlmsghdr *genl;

	new_datagram()->error = EAGAIN;
	refuse();
	new_datagram()->error = ENOBUFS;
	/* An acknowledgment alone is no answer: the answer has the state. */
	put_ack();
	nlh = put(FAMILY, 0);
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = KVM_VMEM_CMD_BLOCK_PLUG;
	mnl_attr_put_u64(nlh, KVM_VMEM_A_BLOCK_PLUGGED_SIZE, 5 * MIB);
	end(nlh);
}

static void answers_can_be_received_later(void **state)
{
	static const struct vmem_nl_change change = {
		.type = VMEM_NL_PLUG,
		.request_id = 1,
		.range = {.gpa = GIB, .size = MIB},
	};
	struct vmem_nl_changed changed;
	const struct vmem_nl_failure *failure = vmem_nl_failure(nl);
	struct error err;

	(void)state;
	kernel.answer = answer_later;
	assert_int_equal(vmem_nl_send(nl, VMEM_NL_BY_FD(3), &change, &err), 0);
	assert_int_equal(vmem_nl_receive(nl, false, &changed, &err),
			 -EINPROGRESS);
	assert_int_equal(vmem_nl_receive(nl, false, &changed, &err), -EEXIST);
	assert_string_equal(err.text, "no such block");
	assert_false(failure->unknown);
	assert_int_equal(vmem_nl_receive(nl, false, &changed, &err), -ENOBUFS);
	assert_true(failure->unknown);
	assert_int_equal(vmem_nl_receive(nl, false, &changed, &err), 0);
	assert_int_equal(changed.blocks.plugged_size, 5 * MIB);
	assert_int_equal(kernel.next, kernel.nr);
}

static bool counts_zaps;

/* An answer of a module with or without counters of zaps. */
static void answer_region(void)
{
	struct nlmsghdr *nlh = put(FAMILY, 0);
	struct genlmsghdr *genl =
		mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));

	genl->cmd = KVM_VMEM_CMD_REGION_GET;
	mnl_attr_put_u32(nlh, KVM_VMEM_A_REGION_ID, 5);
	if (counts_zaps) {
		mnl_attr_put_u8(nlh, KVM_VMEM_A_REGION_ZAP_RANGES, 1);
		mnl_attr_put_u64(nlh, KVM_VMEM_A_REGION_RANGE_ZAPS, 0);
		mnl_attr_put_u64(nlh, KVM_VMEM_A_REGION_ZAPS_BY_KVM, 7);
	}
	end(nlh);
	put_ack();
}

static void zaps_are_unknown_without_counters(void **state)
{
	struct vmem_nl_region region;

	(void)state;
	kernel.answer = answer_region;
	counts_zaps = false;
	assert_int_equal(
		vmem_nl_region_get(nl, VMEM_NL_BY_FD(3), &region, NULL), 0);
	assert_int_equal(region.id, 5);
	assert_false(region.has_zaps);
	counts_zaps = true;
	assert_int_equal(
		vmem_nl_region_get(nl, VMEM_NL_BY_FD(3), &region, NULL), 0);
	assert_true(region.has_zaps);
	assert_true(region.zap_ranges);
	assert_int_equal(region.range_zaps, 0);
	assert_int_equal(region.zaps_by_kvm, 7);
}

/* The value of an attribute in the following answers. */
#define VALUE(type) (100 + (uint64_t)(type))

/* The flag that is true in the next answer; the others are false. */
static uint16_t true_flag;

static void put_values(struct nlmsghdr *nlh, const uint16_t *types, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		mnl_attr_put_u64(nlh, types[i], VALUE(types[i]));
}

static void put_metadata(struct nlmsghdr *nlh, uint16_t type)
{
	static const uint16_t types[] = {
		KVM_VMEM_A_METADATA_MEMSLOT,	  KVM_VMEM_A_METADATA_RMAP,
		KVM_VMEM_A_METADATA_LPAGE_INFO,	  KVM_VMEM_A_METADATA_GFN_TRACK,
		KVM_VMEM_A_METADATA_DIRTY_BITMAP, KVM_VMEM_A_METADATA_TOTAL,
	};
	struct nlattr *nest = mnl_attr_nest_start(nlh, type);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		mnl_attr_put_u64(nlh, types[i], VALUE(types[i]) + type);
	mnl_attr_nest_end(nlh, nest);
}

static void assert_metadata(const struct vmem_nl_metadata *metadata,
			    uint16_t type)
{
	const struct vmem_nl_metadata wanted = {
		.memslot = VALUE(KVM_VMEM_A_METADATA_MEMSLOT) + type,
		.rmap = VALUE(KVM_VMEM_A_METADATA_RMAP) + type,
		.lpage_info = VALUE(KVM_VMEM_A_METADATA_LPAGE_INFO) + type,
		.gfn_track = VALUE(KVM_VMEM_A_METADATA_GFN_TRACK) + type,
		.dirty_bitmap = VALUE(KVM_VMEM_A_METADATA_DIRTY_BITMAP) + type,
		.total = VALUE(KVM_VMEM_A_METADATA_TOTAL) + type,
	};

	assert_memory_equal(metadata, &wanted, sizeof(wanted));
}

static void answer_whole_region(void)
{
	static const uint16_t numbers[] = {
		KVM_VMEM_A_REGION_ID,
		KVM_VMEM_A_REGION_GPA,
		KVM_VMEM_A_REGION_SIZE,
		KVM_VMEM_A_REGION_HVA,
		KVM_VMEM_A_REGION_BLOCK_SIZE,
		KVM_VMEM_A_REGION_SLOT_SIZE,
		KVM_VMEM_A_REGION_FIRST_SLOT,
		KVM_VMEM_A_REGION_NR_SLOTS,
		KVM_VMEM_A_REGION_ADDRESS_SPACES,
		KVM_VMEM_A_REGION_REQUESTED_SIZE,
		KVM_VMEM_A_REGION_PLUGGED_SIZE,
		KVM_VMEM_A_REGION_POPULATED_SLOTS,
		KVM_VMEM_A_REGION_PID,
		KVM_VMEM_A_REGION_REQUEST_ID,
		KVM_VMEM_A_REGION_CHANGES,
		KVM_VMEM_A_REGION_RANGE_ZAPS,
		KVM_VMEM_A_REGION_ZAPS_BY_KVM,
	};
	static const uint16_t flags[] = {
		KVM_VMEM_A_REGION_DIRTY_LOG,
		KVM_VMEM_A_REGION_ALIVE,
		KVM_VMEM_A_REGION_ZAP_RANGES,
	};
	struct nlmsghdr *nlh = put(FAMILY, 0);

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct genlmsghdr));
	put_values(nlh, numbers, sizeof(numbers) / sizeof(numbers[0]));
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		mnl_attr_put_u8(nlh, flags[i], flags[i] == true_flag);
	put_metadata(nlh, KVM_VMEM_A_REGION_METADATA);
	put_metadata(nlh, KVM_VMEM_A_REGION_WHOLE_METADATA);
	end(nlh);
	put_ack();
}

static void all_values_of_a_region_are_read(void **state)
{
	static const uint16_t flags[] = {
		0,
		KVM_VMEM_A_REGION_DIRTY_LOG,
		KVM_VMEM_A_REGION_ALIVE,
		KVM_VMEM_A_REGION_ZAP_RANGES,
	};
	struct vmem_nl_region r;

	(void)state;
	kernel.answer = answer_whole_region;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		true_flag = flags[i];
		memset(&r, 0xff, sizeof(r));
		assert_int_equal(
			vmem_nl_region_get(nl, VMEM_NL_BY_FD(3), &r, NULL), 0);
		assert_int_equal(r.dirty_log,
				 true_flag == KVM_VMEM_A_REGION_DIRTY_LOG);
		assert_int_equal(r.alive, true_flag == KVM_VMEM_A_REGION_ALIVE);
		assert_int_equal(r.zap_ranges,
				 true_flag == KVM_VMEM_A_REGION_ZAP_RANGES);
	}
	assert_int_equal(r.id, VALUE(KVM_VMEM_A_REGION_ID));
	assert_int_equal(r.pid, VALUE(KVM_VMEM_A_REGION_PID));
	assert_int_equal(r.gpa, VALUE(KVM_VMEM_A_REGION_GPA));
	assert_int_equal(r.size, VALUE(KVM_VMEM_A_REGION_SIZE));
	assert_int_equal(r.hva, VALUE(KVM_VMEM_A_REGION_HVA));
	assert_int_equal(r.block_size, VALUE(KVM_VMEM_A_REGION_BLOCK_SIZE));
	assert_int_equal(r.slot_size, VALUE(KVM_VMEM_A_REGION_SLOT_SIZE));
	assert_int_equal(r.first_slot, VALUE(KVM_VMEM_A_REGION_FIRST_SLOT));
	assert_int_equal(r.nr_slots, VALUE(KVM_VMEM_A_REGION_NR_SLOTS));
	assert_int_equal(r.address_spaces,
			 VALUE(KVM_VMEM_A_REGION_ADDRESS_SPACES));
	assert_int_equal(r.populated_slots,
			 VALUE(KVM_VMEM_A_REGION_POPULATED_SLOTS));
	assert_int_equal(r.requested_size,
			 VALUE(KVM_VMEM_A_REGION_REQUESTED_SIZE));
	assert_int_equal(r.plugged_size, VALUE(KVM_VMEM_A_REGION_PLUGGED_SIZE));
	assert_int_equal(r.request_id, VALUE(KVM_VMEM_A_REGION_REQUEST_ID));
	assert_int_equal(r.changes, VALUE(KVM_VMEM_A_REGION_CHANGES));
	assert_int_equal(r.range_zaps, VALUE(KVM_VMEM_A_REGION_RANGE_ZAPS));
	assert_int_equal(r.zaps_by_kvm, VALUE(KVM_VMEM_A_REGION_ZAPS_BY_KVM));
	assert_true(r.has_zaps);
	assert_true(r.has_metadata);
	assert_metadata(&r.metadata, KVM_VMEM_A_REGION_METADATA);
	assert_true(r.has_whole_metadata);
	assert_metadata(&r.whole_metadata, KVM_VMEM_A_REGION_WHOLE_METADATA);
}

/* Two memslots: the second one without flag and metadata. */
static void answer_slots(void)
{
	static const uint16_t numbers[] = {
		KVM_VMEM_A_SLOT_REGION_ID, KVM_VMEM_A_SLOT_ID,
		KVM_VMEM_A_SLOT_GPA,	   KVM_VMEM_A_SLOT_SIZE,
		KVM_VMEM_A_SLOT_HVA,	   KVM_VMEM_A_SLOT_PLUGGED_SIZE,
	};
	struct nlmsghdr *nlh;

	for (int i = 0; i < 2; i++) {
		nlh = put(FAMILY, NLM_F_MULTI);
		mnl_nlmsg_put_extra_header(nlh, sizeof(struct genlmsghdr));
		put_values(nlh, numbers, sizeof(numbers) / sizeof(numbers[0]));
		if (!i) {
			mnl_attr_put(nlh, KVM_VMEM_A_SLOT_STALE, 0, NULL);
			put_metadata(nlh, KVM_VMEM_A_SLOT_METADATA);
		}
		end(nlh);
	}
	nlh = put(NLMSG_DONE, NLM_F_MULTI);
	*(int *)mnl_nlmsg_put_extra_header(nlh, sizeof(int)) = 0;
	end(nlh);
}

static int check_slot(const struct vmem_nl_slot *slot, void *arg)
{
	unsigned int *nr = arg;

	assert_int_equal(slot->region_id, VALUE(KVM_VMEM_A_SLOT_REGION_ID));
	assert_int_equal(slot->id, VALUE(KVM_VMEM_A_SLOT_ID));
	assert_int_equal(slot->gpa, VALUE(KVM_VMEM_A_SLOT_GPA));
	assert_int_equal(slot->size, VALUE(KVM_VMEM_A_SLOT_SIZE));
	assert_int_equal(slot->hva, VALUE(KVM_VMEM_A_SLOT_HVA));
	assert_int_equal(slot->plugged_size,
			 VALUE(KVM_VMEM_A_SLOT_PLUGGED_SIZE));
	assert_int_equal(slot->stale, !*nr);
	assert_int_equal(slot->has_metadata, !*nr);
	if (slot->has_metadata)
		assert_metadata(&slot->metadata, KVM_VMEM_A_SLOT_METADATA);
	++*nr;
	return 0;
}

static void all_values_of_memslots_are_read(void **state)
{
	unsigned int nr = 0;

	(void)state;
	kernel.answer = answer_slots;
	assert_int_equal(
		vmem_nl_slot_dump(nl, VMEM_NL_BY_FD(3), check_slot, &nr, NULL),
		0);
	assert_int_equal(nr, 2);
}

static void answer_blocks(void)
{
	static const uint16_t numbers[] = {
		KVM_VMEM_A_BLOCK_REGION_ID,
		KVM_VMEM_A_BLOCK_REQUEST_ID,
		KVM_VMEM_A_BLOCK_PLUGGED_SIZE,
		KVM_VMEM_A_BLOCK_POPULATED_SLOTS,
	};
	struct nlmsghdr *nlh = put(FAMILY, 0);

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct genlmsghdr));
	put_values(nlh, numbers, sizeof(numbers) / sizeof(numbers[0]));
	end(nlh);
	put_ack();
}

static void all_values_of_an_answer_are_read(void **state)
{
	struct vmem_nl_answer answer;

	(void)state;
	kernel.answer = answer_blocks;
	assert_int_equal(
		vmem_nl_unplug_all(nl, VMEM_NL_BY_FD(3), 9, &answer, NULL), 0);
	assert_int_equal(answer.region_id, VALUE(KVM_VMEM_A_BLOCK_REGION_ID));
	assert_int_equal(answer.request_id, VALUE(KVM_VMEM_A_BLOCK_REQUEST_ID));
	assert_int_equal(answer.plugged_size,
			 VALUE(KVM_VMEM_A_BLOCK_PLUGGED_SIZE));
	assert_int_equal(answer.populated_slots,
			 VALUE(KVM_VMEM_A_BLOCK_POPULATED_SLOTS));
}

static void refuse_family(void)
{
	end(put_error(-ENOENT, NLM_F_CAPPED));
}

static void without_the_module_there_is_no_family(void **state)
{
	struct error err;
	struct vmem_nl *none = NULL;

	(void)state;
	kernel.answer = refuse_family;
	assert_int_equal(vmem_nl_open(&none, &err), -ENOENT);
	assert_null(none);
	assert_non_null(strstr(err.text, "is the kvm_vmem module loaded?"));
}

#define NR_RANGES 30

/* All ranges of a change are in one message, in their order. */
static void a_change_may_have_many_ranges(void **state)
{
	struct vmem_nl_range ranges[NR_RANGES];
	const struct nlattr *attr, *value;
	uint64_t nr = 0;
	struct error err;

	(void)state;
	for (uint64_t i = 0; i < NR_RANGES; i++)
		ranges[i] = (struct vmem_nl_range){
			.gpa = (100 + i) * MIB,
			.size = (1 + i) * MIB,
		};
	kernel.answer = put_ack;
	assert_int_equal(vmem_nl_unplug(nl, VMEM_NL_BY_FD(3), 0, ranges,
					NR_RANGES, NULL, &err),
			 0);
	mnl_attr_for_each(attr, request(), sizeof(struct genlmsghdr))
	{
		uint64_t sum = 0;

		if (mnl_attr_get_type(attr) != KVM_VMEM_A_BLOCK_RANGE)
			continue;
		mnl_attr_for_each_nested(value, attr) sum +=
			mnl_attr_get_u64(value);
		assert_int_equal(sum, (101 + 2 * nr) * MIB);
		nr++;
	}
	assert_int_equal(nr, NR_RANGES);
	assert_int_equal(vmem_nl_unplug(nl, VMEM_NL_BY_FD(3), 0, ranges,
					INT32_MAX, NULL, &err),
			 -E2BIG);
	assert_int_equal(vmem_nl_unplug(nl, VMEM_NL_BY_FD(3), 0, ranges,
					SIZE_MAX, NULL, &err),
			 -E2BIG);
}

/* A message without the header of generic netlink. */
static void answer_short(void)
{
	end(put(request()->nlmsg_type, 0));
	put_ack();
}

static void a_message_without_its_header_is_invalid(void **state)
{
	struct vmem_nl_answer answer;
	struct vmem_nl_region region;
	struct vmem_nl_range range = {.size = 1 << 21};
	struct vmem_nl *none = NULL;
	struct error err;

	(void)state;
	kernel.answer = answer_short;
	assert_int_equal(vmem_nl_open(&none, &err), -EBADMSG);
	assert_null(none);
	assert_int_equal(
		vmem_nl_region_get(nl, VMEM_NL_BY_FD(3), &region, &err),
		-EBADMSG);
	assert_int_equal(vmem_nl_region_dump(nl, no_region, NULL, &err),
			 -EBADMSG);
	assert_int_equal(
		vmem_nl_slot_dump(nl, VMEM_NL_BY_FD(3), no_slot, NULL, &err),
		-EBADMSG);
	assert_int_equal(
		vmem_nl_plug(nl, VMEM_NL_BY_FD(3), 1, &range, 1, &answer, &err),
		-EBADMSG);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_kernels_message_is_used),
		CASE(without_a_message_the_error_is_described),
		CASE(a_missing_attribute_is_named),
		CASE(an_offset_may_be_anywhere),
		CASE(a_dump_has_its_error_at_the_end),
		CASE(an_error_message_without_a_number_is_invalid),
		CASE(other_datagrams_are_skipped),
		CASE(a_lost_answer_is_reported_as_unknown),
		CASE(answers_can_be_received_later),
		CASE(zaps_are_unknown_without_counters),
		CASE(all_values_of_a_region_are_read),
		CASE(all_values_of_memslots_are_read),
		CASE(all_values_of_an_answer_are_read),
		CASE(without_the_module_there_is_no_family),
		CASE(a_change_may_have_many_ranges),
		CASE(a_message_without_its_header_is_invalid),
	};

	return unit_run(tests, NULL, NULL);
}
