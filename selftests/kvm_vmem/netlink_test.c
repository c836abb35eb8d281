// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Errors of the netlink family: the errno, the text of the extended
 * acknowledgment, and the attribute that it points at. Each malformed request
 * of a table is sent, and must leave the region unchanged.
 */
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"
#include "region.h"
#include "tap.h"

/* Blocks that are plugged before each request. */
#define PLUGGED_FIRST 4U
#define PLUGGED_NR    4U

/* Space for more ranges than are allowed. */
#define MSG_SIZE KIB(64)

/* EXPECT_REFUSED() expects no bad attribute. */
#define NO_ATTR NULL

/**
 * struct msg - a request under construction
 * @nlh: its header, in a buffer of MSG_SIZE
 * @bad: attribute that the answer must point at, NULL for none
 * @r: the region that it names
 * @other_fd: another descriptor that the request names, closed afterwards
 */
struct msg {
	struct nlmsghdr *nlh;
	const void *bad;
	struct region *r;
	int other_fd;
};

static void msg_begin(struct msg *m, struct region *r, uint8_t cmd,
		      uint16_t flags)
{
	struct genlmsghdr *genl;

	m->nlh = mnl_nlmsg_put_header(calloc(1, MSG_SIZE));
	m->nlh->nlmsg_type = vmem_nl_family(r->nl);
	m->nlh->nlmsg_flags = flags;
	genl = mnl_nlmsg_put_extra_header(m->nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = KVM_VMEM_FAMILY_VERSION;
	m->bad = NO_ATTR;
	m->r = r;
	m->other_fd = -1;
}

/* The next attribute is the bad one. */
static void blame_next(struct msg *m)
{
	m->bad = mnl_nlmsg_get_payload_tail(m->nlh);
}

/* Name the region by descriptor, in the attribute sets of blocks and slots. */
static void put_fd(struct msg *m)
{
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_REGION_FD, m->r->fd);
}

static void put_region_fd(struct msg *m)
{
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_REGION_FD, m->r->fd);
}

static void put_range(struct msg *m, uint64_t gpa, uint64_t size)
{
	struct nlattr *nest =
		mnl_attr_nest_start(m->nlh, KVM_VMEM_A_BLOCK_RANGE);

	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_GPA, gpa);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_SIZE, size);
	mnl_attr_nest_end(m->nlh, nest);
}

/* A range whose gpa or size is bad. */
static void put_bad_range(struct msg *m, uint64_t gpa, uint64_t size,
			  bool blame_gpa)
{
	struct nlattr *nest =
		mnl_attr_nest_start(m->nlh, KVM_VMEM_A_BLOCK_RANGE);

	if (blame_gpa)
		blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_GPA, gpa);
	if (!blame_gpa)
		blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_SIZE, size);
	mnl_attr_nest_end(m->nlh, nest);
}

static void put_good_range(struct msg *m)
{
	put_range(m, region_block_gpa(m->r, 12), REGION_BLOCK);
}

static uint64_t end_gpa(const struct msg *m)
{
	return region_block_gpa(m->r, m->r->nr_blocks);
}

/* Requests without a region, or with a descriptor of something else. */

static void put_nothing(struct msg *m)
{
	(void)m;
}

static void put_range_alone(struct msg *m)
{
	put_good_range(m);
}

static void put_other_fd(struct msg *m, int fd)
{
	m->other_fd = fd;
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_REGION_FD, fd);
	put_good_range(m);
}

static void put_closed_fd(struct msg *m)
{
	int fd = dup(m->r->fd);

	ASSERT_GE(fd, 0);
	close(fd);
	put_other_fd(m, fd);
	m->other_fd = -1;
}

static void put_file_fd(struct msg *m)
{
	put_other_fd(m, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
}

static void put_vm_fd(struct msg *m)
{
	put_other_fd(m, dup(m->r->vm.fd));
}

static void put_device_fd(struct msg *m)
{
	put_other_fd(m, dup(m->r->dev));
}

static void put_huge_fd(struct msg *m)
{
	put_other_fd(m, INT32_MAX);
	m->other_fd = -1;
}

static void put_negative_fd(struct msg *m)
{
	put_other_fd(m, -1);
	m->other_fd = -1;
}

static void put_fd_and_id(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_REGION_ID,
			 m->r->args.region_id);
	put_fd(m);
	put_good_range(m);
}

static void put_id(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_REGION_ID,
			 m->r->args.region_id);
	put_good_range(m);
}

static void put_region_id(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_REGION_ID, m->r->args.region_id);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE, 0);
}

static void put_unknown_id(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_REGION_ID,
			 m->r->args.region_id + 1000);
}

static void put_last_id(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_REGION_ID, UINT32_MAX);
}

static void put_id_0(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_REGION_ID, 0);
}

/* Requests with bad ranges. */

static void put_fd_alone(struct msg *m)
{
	put_fd(m);
}

static void put_misaligned_gpa(struct msg *m)
{
	put_fd(m);
	put_bad_range(m, region_block_gpa(m->r, 12) + GUEST_PAGE, REGION_BLOCK,
		      true);
}

static void put_misaligned_size(struct msg *m)
{
	put_fd(m);
	put_bad_range(m, region_block_gpa(m->r, 12), REGION_BLOCK + 1, false);
}

static void put_size_0(struct msg *m)
{
	put_fd(m);
	put_bad_range(m, region_block_gpa(m->r, 12), 0, false);
}

static void put_range_before(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, REGION_GPA - REGION_BLOCK, 2 * REGION_BLOCK);
}

static void put_range_at_end(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, end_gpa(m), REGION_BLOCK);
}

static void put_range_over_end(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, end_gpa(m) - REGION_BLOCK, 2 * REGION_BLOCK);
}

static void put_range_of_gpa_0(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, 0, REGION_BLOCK);
}

static void put_range_that_wraps(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	/* The end of the range, computed in 64 bits, is inside the region. */
	put_range(m, region_block_gpa(m->r, 12), -8 * REGION_BLOCK);
}

static void put_range_at_the_top(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, -REGION_BLOCK, REGION_BLOCK);
}

static void put_good_then_bad(struct msg *m)
{
	put_fd(m);
	put_good_range(m);
	blame_next(m);
	put_range(m, end_gpa(m), REGION_BLOCK);
}

static void put_plugged_range(struct msg *m)
{
	put_fd(m);
	put_good_range(m);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST + PLUGGED_NR - 1),
		  2 * REGION_BLOCK);
}

static void put_unplugged_range(struct msg *m)
{
	put_fd(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST), REGION_BLOCK);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST + PLUGGED_NR),
		  REGION_BLOCK);
}

static void put_overlap(struct msg *m)
{
	put_fd(m);
	put_range(m, region_block_gpa(m->r, 12), 2 * REGION_BLOCK);
	put_range(m, region_block_gpa(m->r, 16), REGION_BLOCK);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, 13), REGION_BLOCK);
}

/* The ranges after the overlapping ones do not overlap. */
static void put_overlap_amid(struct msg *m)
{
	put_fd(m);
	put_range(m, region_block_gpa(m->r, 12), 2 * REGION_BLOCK);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, 13), REGION_BLOCK);
	put_range(m, region_block_gpa(m->r, 16), REGION_BLOCK);
	put_range(m, region_block_gpa(m->r, 18), 2 * REGION_BLOCK);
}

static void put_overlap_of_plugged(struct msg *m)
{
	put_fd(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST), 2 * REGION_BLOCK);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST), REGION_BLOCK);
}

static void put_too_many_ranges(struct msg *m)
{
	unsigned int i;

	put_fd(m);
	for (i = 0; i < KVM_VMEM_MAX_RANGES; i++)
		put_good_range(m);
	blame_next(m);
	put_good_range(m);
}

static void put_range_without(struct msg *m, uint16_t present)
{
	struct nlattr *nest;

	put_fd(m);
	blame_next(m);
	nest = mnl_attr_nest_start(m->nlh, KVM_VMEM_A_BLOCK_RANGE);
	if (present)
		mnl_attr_put_u64(m->nlh, present, REGION_GPA);
	mnl_attr_nest_end(m->nlh, nest);
}

static void put_empty_range(struct msg *m)
{
	put_range_without(m, 0);
}

static void put_range_without_size(struct msg *m)
{
	put_range_without(m, KVM_VMEM_A_RANGE_GPA);
}

static void put_range_without_gpa(struct msg *m)
{
	put_range_without(m, KVM_VMEM_A_RANGE_SIZE);
}

static void put_range_with_unknown(struct msg *m)
{
	struct nlattr *nest;

	put_fd(m);
	nest = mnl_attr_nest_start(m->nlh, KVM_VMEM_A_BLOCK_RANGE);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_GPA, REGION_GPA);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_SIZE, REGION_BLOCK);
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_RANGE_MAX + 1, 0);
	mnl_attr_nest_end(m->nlh, nest);
}

static void put_range_with_short_gpa(struct msg *m)
{
	struct nlattr *nest;

	put_fd(m);
	nest = mnl_attr_nest_start(m->nlh, KVM_VMEM_A_BLOCK_RANGE);
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_RANGE_GPA, 0);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_RANGE_SIZE, REGION_BLOCK);
	mnl_attr_nest_end(m->nlh, nest);
}

static void put_range_not_nested(struct msg *m)
{
	struct nlattr *nest;

	put_fd(m);
	blame_next(m);
	put_good_range(m);
	nest = (struct nlattr *)m->bad;
	nest->nla_type &= ~NLA_F_NESTED;
}

static void put_request_id_0(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, 0);
	put_good_range(m);
}

static void put_used_request_id(struct msg *m)
{
	struct vmem_nl_range range = region_range(m->r, 20, 1);

	ASSERT_OK(vmem_nl_plug(m->r->nl, VMEM_NL_BY_FD(m->r->fd), 77, &range, 1,
			       NULL, NULL));
	region_model_set(m->r, 20, 1, true);
	put_fd(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, 77);
	put_good_range(m);
}

/* Malformed attributes. */

static void put_unknown_attr(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_MAX + 1, 0);
	put_good_range(m);
}

static void put_answer_attr(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_BLOCK_PLUGGED_SIZE, 0);
	put_good_range(m);
}

static void put_pad(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	mnl_attr_put(m->nlh, KVM_VMEM_A_BLOCK_PAD, 0, NULL);
	put_good_range(m);
}

static void put_ranges_to_unplug_all(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	put_range(m, region_block_gpa(m->r, PLUGGED_FIRST), REGION_BLOCK);
}

static void put_short_fd(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u16(m->nlh, KVM_VMEM_A_BLOCK_REGION_FD, m->r->fd);
	put_good_range(m);
}

static void put_long_fd(struct msg *m)
{
	blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_BLOCK_REGION_FD, m->r->fd);
	put_good_range(m);
}

static void put_short_request_id(struct msg *m)
{
	put_fd(m);
	blame_next(m);
	mnl_attr_put_u32(m->nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, 1);
	put_good_range(m);
}

static void put_cut_attr(struct msg *m)
{
	struct nlattr *attr;

	put_fd(m);
	put_good_range(m);
	/* An attribute that is longer than the rest of the message. */
	attr = mnl_nlmsg_get_payload_tail(m->nlh);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, 1);
	attr->nla_len += NLA_HDRLEN;
}

/* A valid message, except that it repeats an attribute too often. */
static void put_long_message(struct msg *m)
{
	unsigned int i;

	put_good_range(m);
	for (i = 0; i < MSG_SIZE / 2 / sizeof(uint64_t); i++)
		put_fd(m);
}

/* Bad settings. */

static void put_nothing_to_set(struct msg *m)
{
	put_region_fd(m);
}

static void put_requested(struct msg *m, uint64_t size)
{
	put_region_fd(m);
	blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE, size);
	/* This setting is valid, but must not be applied. */
	mnl_attr_put_u8(m->nlh, KVM_VMEM_A_REGION_DIRTY_LOG, 1);
}

static void put_requested_misaligned(struct msg *m)
{
	put_requested(m, REGION_BLOCK / 2);
}

static void put_requested_too_large(struct msg *m)
{
	put_requested(m, m->r->args.region_size + REGION_BLOCK);
}

static void put_requested_huge(struct msg *m)
{
	put_requested(m, -REGION_BLOCK);
}

static void put_dirty_log_2(struct msg *m)
{
	put_region_fd(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE,
			 REGION_BLOCK);
	blame_next(m);
	mnl_attr_put_u8(m->nlh, KVM_VMEM_A_REGION_DIRTY_LOG, 2);
}

static void put_set_gpa(struct msg *m)
{
	put_region_fd(m);
	blame_next(m);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_REGION_GPA, 0);
	mnl_attr_put_u64(m->nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE, 0);
}

/**
 * struct request - a request and the error that it must cause
 * @name: describes the error
 * @cmd: command
 * @flags: NLM_F_DUMP or 0
 * @put: adds the attributes, and marks the bad one
 * @err: the errno
 * @missing: attribute that the answer must report as missing, 0 for none
 * @text: part of the message in the answer, NULL for any
 */
struct request {
	const char *name;
	uint8_t cmd;
	uint16_t flags;
	void (*put)(struct msg *m);
	int err;
	uint16_t missing;
	const char *text;
};

#define GET	   KVM_VMEM_CMD_REGION_GET
#define SET	   KVM_VMEM_CMD_REGION_SET
#define PLUG	   KVM_VMEM_CMD_BLOCK_PLUG
#define UNPLUG	   KVM_VMEM_CMD_BLOCK_UNPLUG
#define UNPLUG_ALL KVM_VMEM_CMD_BLOCK_UNPLUG_ALL
#define BLOCKS	   KVM_VMEM_CMD_BLOCK_GET
#define SLOTS	   KVM_VMEM_CMD_SLOT_GET
#define REGION_FD  KVM_VMEM_A_REGION_FD
#define BLOCK_FD   KVM_VMEM_A_BLOCK_REGION_FD
#define RANGE	   KVM_VMEM_A_BLOCK_RANGE

static const struct request requests[] = {
	{"get: no region", GET, 0, put_nothing, EINVAL, REGION_FD, "fd"},
	{"set: no region", SET, 0, put_nothing, EINVAL, REGION_FD, "fd"},
	{"plug: no region", PLUG, 0, put_range_alone, EINVAL, BLOCK_FD, "fd"},
	{"unplug: no region", UNPLUG, 0, put_range_alone, EINVAL, BLOCK_FD,
	 "fd"},
	{"unplug-all: no region", UNPLUG_ALL, 0, put_nothing, EINVAL, BLOCK_FD,
	 "fd"},
	{"block dump: no region", BLOCKS, NLM_F_DUMP, put_nothing, EINVAL,
	 BLOCK_FD, "fd"},
	{"slot dump: no region", SLOTS, NLM_F_DUMP, put_nothing, EINVAL,
	 KVM_VMEM_A_SLOT_REGION_FD, "fd"},
	{"closed descriptor", PLUG, 0, put_closed_fd, EBADF, 0, "descriptor"},
	{"descriptor of a file", PLUG, 0, put_file_fd, EBADF, 0, "descriptor"},
	{"descriptor of the VM", PLUG, 0, put_vm_fd, EBADF, 0, "descriptor"},
	{"descriptor of /dev/kvm-vmem", UNPLUG, 0, put_device_fd, EBADF, 0,
	 "descriptor"},
	{"descriptor beyond any", PLUG, 0, put_huge_fd, EBADF, 0, "descriptor"},
	{"negative descriptor", PLUG, 0, put_negative_fd, ERANGE, 0, NULL},
	{"both descriptor and id", PLUG, 0, put_fd_and_id, EINVAL, 0, "both"},
	{"plug by id", PLUG, 0, put_id, EPERM, 0, "fd"},
	{"unplug by id", UNPLUG, 0, put_id, EPERM, 0, "fd"},
	{"set by id", SET, 0, put_region_id, EPERM, 0, "fd"},
	{"id of no region", GET, 0, put_unknown_id, ENOENT, 0, "id"},
	{"the last id", GET, 0, put_last_id, ENOENT, 0, "id"},
	{"dump of an id of no region", GET, NLM_F_DUMP, put_unknown_id, ENOENT,
	 0, "id"},
	{"id 0", GET, 0, put_id_0, ERANGE, 0, NULL},

	{"plug: no range", PLUG, 0, put_fd_alone, EINVAL, RANGE, "range"},
	{"unplug: no range", UNPLUG, 0, put_fd_alone, EINVAL, RANGE, "range"},
	{"gpa not of a block", PLUG, 0, put_misaligned_gpa, EINVAL, 0,
	 "block size"},
	{"size not of blocks", PLUG, 0, put_misaligned_size, EINVAL, 0,
	 "block size"},
	{"size 0", PLUG, 0, put_size_0, EINVAL, 0, "0"},
	{"range that begins before the region", PLUG, 0, put_range_before,
	 ERANGE, 0, "region"},
	{"range behind the region", PLUG, 0, put_range_at_end, ERANGE, 0,
	 "region"},
	{"range over the region's end", PLUG, 0, put_range_over_end, ERANGE, 0,
	 "region"},
	{"range at gpa 0", PLUG, 0, put_range_of_gpa_0, ERANGE, 0, "region"},
	{"range that wraps", PLUG, 0, put_range_that_wraps, ERANGE, 0,
	 "region"},
	{"range at the top of 64 bits", UNPLUG, 0, put_range_at_the_top, ERANGE,
	 0, "region"},
	{"second range outside", PLUG, 0, put_good_then_bad, ERANGE, 0,
	 "region"},
	{"second range plugged already", PLUG, 0, put_plugged_range, EEXIST, 0,
	 "plugged"},
	{"second range not plugged", UNPLUG, 0, put_unplugged_range, ENXIO, 0,
	 "plugged"},
	{"plug: ranges overlap", PLUG, 0, put_overlap, EINVAL, 0, "overlap"},
	{"plug: ranges overlap amid others", PLUG, 0, put_overlap_amid, EINVAL,
	 0, "overlap"},
	{"unplug: ranges overlap", UNPLUG, 0, put_overlap_of_plugged, EINVAL, 0,
	 "overlap"},
	{"too many ranges", PLUG, 0, put_too_many_ranges, E2BIG, 0, "many"},
	{"empty range", PLUG, 0, put_empty_range, EINVAL, 0, NULL},
	{"range without size", PLUG, 0, put_range_without_size, EINVAL, 0,
	 NULL},
	{"range without gpa", PLUG, 0, put_range_without_gpa, EINVAL, 0, NULL},
	{"unknown attribute in a range", PLUG, 0, put_range_with_unknown,
	 EINVAL, 0, NULL},
	{"gpa of 4 bytes", PLUG, 0, put_range_with_short_gpa, EINVAL, 0, NULL},
	{"range not marked as nested", PLUG, 0, put_range_not_nested, EINVAL, 0,
	 NULL},
	{"request id 0", PLUG, 0, put_request_id_0, EINVAL, 0, "request id"},
	{"request id of another request", PLUG, 0, put_used_request_id, EINVAL,
	 0, "request id"},

	{"unknown attribute", PLUG, 0, put_unknown_attr, EINVAL, 0, NULL},
	{"attribute of answers", PLUG, 0, put_answer_attr, EINVAL, 0, NULL},
	{"padding attribute", PLUG, 0, put_pad, EINVAL, 0, NULL},
	{"unplug-all with a range", UNPLUG_ALL, 0, put_ranges_to_unplug_all,
	 EINVAL, 0, NULL},
	{"descriptor of 2 bytes", PLUG, 0, put_short_fd, EINVAL, 0, NULL},
	{"descriptor of 8 bytes", PLUG, 0, put_long_fd, EINVAL, 0, NULL},
	{"request id of 4 bytes", PLUG, 0, put_short_request_id, EINVAL, 0,
	 NULL},
	{"attribute longer than the message", PLUG, 0, put_cut_attr, EINVAL, 0,
	 NULL},

	{"longer than any that makes sense", PLUG, 0, put_long_message, E2BIG,
	 0, "long"},

	{"nothing to set", SET, 0, put_nothing_to_set, EINVAL, 0, "nothing"},
	{"requested size not of blocks", SET, 0, put_requested_misaligned,
	 EINVAL, 0, "block size"},
	{"requested size above the region", SET, 0, put_requested_too_large,
	 ERANGE, 0, "region"},
	{"requested size near 2^64", SET, 0, put_requested_huge, ERANGE, 0,
	 "region"},
	{"dirty-log 2", SET, 0, put_dirty_log_2, ERANGE, 0, NULL},
	{"set of the gpa", SET, 0, put_set_gpa, EINVAL, 0, NULL},
};

static void expect_unchanged(struct region *r, const struct vmem_nl_region *was)
{
	struct vmem_nl_region is;

	ASSERT_OK(vmem_nl_region_get(r->nl, VMEM_NL_BY_FD(r->fd), &is, NULL));
	EXPECT_EQ(is.changes, was->changes);
	EXPECT_EQ(is.requested_size, was->requested_size);
	EXPECT_EQ(is.dirty_log, was->dirty_log);
	EXPECT_EQ(is.request_id, was->request_id);
	EXPECT_DUMPS_AS_MODEL(r);
}

static int fail_on_data(const struct nlmsghdr *nlh, void *arg)
{
	(void)nlh;
	(void)arg;
	tap_fail(__FILE__, __LINE__, "data in the answer");
	return 0;
}

static void is_refused(const void *arg)
{
	const struct request *q = arg;
	const struct vmem_nl_failure *failure;
	struct error err = {.text = ""};
	struct vmem_nl_region before;
	struct region r;
	struct msg m;

	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, PLUGGED_FIRST, PLUGGED_NR));
	msg_begin(&m, &r, q->cmd, q->flags);
	q->put(&m);
	ASSERT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &before, NULL));

	EXPECT_ERR(vmem_nl_transact(r.nl, m.nlh, fail_on_data, NULL, &err),
		   q->err);
	failure = vmem_nl_failure(r.nl);
	tap_context("answer \"%s\"", err.text);
	/*
	 * Genetlink of older kernels drops the extended error of a dump's
	 * start.
	 */
	if (q->flags == NLM_F_DUMP && !kernel_is_at_least(6, 12))
		goto out;
	EXPECT_EQ(failure->from_kernel, true);
	if (q->text)
		EXPECT_TRUE(strstr(err.text, q->text));
	EXPECT_EQ(failure->missing, q->missing != 0);
	if (q->missing)
		EXPECT_EQ(failure->attr, q->missing);
	EXPECT_EQ(failure->has_offset, m.bad != NO_ATTR);
	if (m.bad)
		EXPECT_EQ(failure->offset,
			  (const char *)m.bad - (const char *)m.nlh);
out:
	tap_context("%s", "");
	expect_unchanged(&r, &before);
	if (m.other_fd >= 0)
		close(m.other_fd);
	free(m.nlh);
}

/* Commands that do not exist, or that exist only as a dump or only without. */
static void operations_not_there(const void *arg)
{
	static const struct {
		uint8_t cmd;
		uint16_t flags;
	} none[] = {
		{0, 0},
		{KVM_VMEM_CMD_MAX + 1, 0},
		{UINT8_MAX, 0},
		{KVM_VMEM_CMD_REGION_NEW_NTF, 0},
		{KVM_VMEM_CMD_REGION_CHANGE_NTF, NLM_F_DUMP},
		{PLUG, NLM_F_DUMP},
		{SET, NLM_F_DUMP},
		{BLOCKS, 0},
		{SLOTS, 0},
	};
	struct region r;
	unsigned int i;
	struct msg m;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	for (i = 0; i < ARRAY_SIZE(none); i++) {
		tap_context("command %u", none[i].cmd);
		msg_begin(&m, &r, none[i].cmd, none[i].flags);
		put_fd(&m);
		EXPECT_ERR(
			vmem_nl_transact(r.nl, m.nlh, fail_on_data, NULL, NULL),
			EOPNOTSUPP);
		free(m.nlh);
	}
	EXPECT_AS_MODEL(&r);
}

/**
 * struct ack_form - form of acknowledgments that a socket requests
 * @name: of the form
 * @extended: with the extended acknowledgment
 * @capped: without a copy of the request
 */
struct ack_form {
	const char *name;
	bool extended;
	bool capped;
};

static struct mnl_socket *open_socket(const struct ack_form *form)
{
	struct mnl_socket *socket =
		mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	int on = 1;

	ASSERT_TRUE(socket);
	ASSERT_EQ(mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID), 0);
	if (form->extended)
		ASSERT_EQ(mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &on,
						sizeof(on)),
			  0);
	if (form->capped)
		ASSERT_EQ(mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on,
						sizeof(on)),
			  0);
	return socket;
}

static int note_attr(const struct nlattr *attr, void *arg)
{
	const struct nlattr **attrs = arg;

	if (mnl_attr_get_type(attr) <= NLMSGERR_ATTR_MAX)
		attrs[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

/* The error has the requested form, and points at @m's bad attribute. */
static void expect_error_form(const struct nlmsghdr *nlh,
			      const struct ack_form *form, const struct msg *m,
			      int err)
{
	const struct nlattr *attrs[NLMSGERR_ATTR_MAX + 1] = {NULL};
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	size_t size = sizeof(*e);

	ASSERT_EQ(nlh->nlmsg_type, NLMSG_ERROR);
	EXPECT_EQ(e->error, -err);
	EXPECT_EQ(e->msg.nlmsg_len, m->nlh->nlmsg_len);
	EXPECT_EQ(e->msg.nlmsg_seq, m->nlh->nlmsg_seq);
	EXPECT_EQ(!!(nlh->nlmsg_flags & NLM_F_CAPPED), form->capped);
	EXPECT_EQ(!!(nlh->nlmsg_flags & NLM_F_ACK_TLVS), form->extended);
	if (!form->capped) {
		size += m->nlh->nlmsg_len - NLMSG_HDRLEN;
		ASSERT_GE(mnl_nlmsg_get_payload_len(nlh), size);
		EXPECT_EQ(memcmp(&e->msg, m->nlh, m->nlh->nlmsg_len), 0);
	}
	if (!form->extended) {
		EXPECT_EQ(mnl_nlmsg_get_payload_len(nlh), size);
		return;
	}
	ASSERT_TRUE(mnl_attr_parse(nlh, size, note_attr, attrs) > 0);
	ASSERT_TRUE(attrs[NLMSGERR_ATTR_MSG]);
	ASSERT_TRUE(attrs[NLMSGERR_ATTR_OFFS]);
	EXPECT_EQ(mnl_attr_get_u32(attrs[NLMSGERR_ATTR_OFFS]),
		  (const char *)m->bad - (const char *)m->nlh);
}

static void answers_have_the_form_asked_for(const void *arg)
{
	/*
	 * One is refused at once, the other by the worker that carries it out.
	 */
	static const struct {
		void (*put)(struct msg *m);
		int err;
	} bad[] = {{put_range_at_end, ERANGE}, {put_plugged_range, EEXIST}};
	const struct ack_form *form = arg;
	char *buf = malloc(MSG_SIZE);
	struct mnl_socket *socket;
	const struct nlmsghdr *nlh = (void *)buf;
	struct region r;
	struct msg m;
	unsigned int i;

	ASSERT_TRUE(buf);
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_OK(region_plug(&r, PLUGGED_FIRST, PLUGGED_NR));
	socket = open_socket(form);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		tap_context("request %u", i);
		msg_begin(&m, &r, PLUG, NLM_F_REQUEST);
		m.nlh->nlmsg_seq = i + 1;
		bad[i].put(&m);
		ASSERT_GT(mnl_socket_sendto(socket, m.nlh, m.nlh->nlmsg_len),
			  0);
		ASSERT_GT(mnl_socket_recvfrom(socket, buf, MSG_SIZE), 0);
		expect_error_form(nlh, form, &m, bad[i].err);
		free(m.nlh);
	}
	/*
	 * An acknowledgment of success has no text and no copy of the request.
	 */
	tap_context("success");
	msg_begin(&m, &r, PLUG, NLM_F_REQUEST | NLM_F_ACK);
	put_fd(&m);
	put_good_range(&m);
	ASSERT_GT(mnl_socket_sendto(socket, m.nlh, m.nlh->nlmsg_len), 0);
	ASSERT_GT(mnl_socket_recvfrom(socket, buf, MSG_SIZE), 0);
	EXPECT_EQ(nlh->nlmsg_type, vmem_nl_family(r.nl));
	ASSERT_GT(mnl_socket_recvfrom(socket, buf, MSG_SIZE), 0);
	ASSERT_EQ(nlh->nlmsg_type, NLMSG_ERROR);
	EXPECT_EQ(nlh->nlmsg_flags, NLM_F_CAPPED);
	EXPECT_EQ(((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error, 0);
	EXPECT_EQ(mnl_nlmsg_get_payload_len(nlh), sizeof(struct nlmsgerr));
	free(m.nlh);
	mnl_socket_close(socket);
	free(buf);
}

static const struct ack_form ack_forms[] = {
	{"plain errors", false, false},
	{"capped errors", false, true},
	{"extended errors", true, false},
	{"extended and capped errors", true, true},
};

#define MAX_NAME 128

int main(void)
{
	static struct tap_case
		cases[ARRAY_SIZE(requests) + ARRAY_SIZE(ack_forms) + 1];
	static char names[ARRAY_SIZE(requests)][MAX_NAME];
	char err[TAP_STRERROR_LEN];
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		const struct request *q = &requests[i];

		snprintf(names[i], MAX_NAME, "%s: %s", q->name,
			 tap_strerror(-q->err, err, sizeof(err)) + 1);
		cases[i] = (struct tap_case){
			.name = names[i], .run = is_refused, .arg = q};
	}
	cases[i++] =
		(struct tap_case){.name = "unknown operations are EOPNOTSUPP",
				  .run = operations_not_there};
	for (j = 0; j < ARRAY_SIZE(ack_forms); j++)
		cases[i++] = (struct tap_case){
			.name = ack_forms[j].name,
			.run = answers_have_the_form_asked_for,
			.arg = &ack_forms[j]};
	return tap_run(cases, i);
}
