// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that change a region: region-set, block-plug, block-unplug,
 * block-unplug-all.
 *
 * A handler checks the message. The job, see netlink_job.c, reads it again, from
 * the copy: so it holds no ranges while it waits.
 */
#include <linux/log2.h>
#include <net/genetlink.h>

#include "compat.h"
#include "genl.h"
#include "netlink_job.h"
#include "netlink_region.h"
#include "region.h"
#include "region_change.h"

static int run_set(struct vmem_netlink_job *job)
{
	/* A change comes by descriptor. */
	const struct vmem_netlink_reader reader = {
		.pid_ns = job->pid_ns,
		.sees_hva = true,
	};
	const struct nlattr *size_attr = job->size_attr;
	const struct nlattr *log_attr = job->log_attr;
	struct vmem_fault fault;
	bool dirty_log = false;
	u64 size = 0;
	int r;

	if (size_attr)
		size = nla_get_u64(size_attr);
	if (log_attr)
		dirty_log = nla_get_u8(log_attr);
	r = vmem_region_set(job->base.region, size_attr ? &size : NULL,
			    log_attr ? &dirty_log : NULL, &fault);
	if (r) {
		if (fault.range == VMEM_SET_REQUESTED_SIZE)
			job->bad_attr = size_attr;
		else if (fault.range == VMEM_SET_DIRTY_LOG)
			job->bad_attr = log_attr;
		job->reason = fault.reason;
		return r;
	}
	r = vmem_netlink_put_message(job->reply, job->base.region, &reader,
				     vmem_netlink_job_portid(job),
				     job->nlh->nlmsg_seq, 0,
				     KVM_VMEM_CMD_REGION_SET);
	WARN_ON_ONCE(r);
	return r;
}

int kvm_vmem_nl_region_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	const struct nlattr *size_attr =
		info->attrs[KVM_VMEM_A_REGION_REQUESTED_SIZE];
	const struct nlattr *log_attr = info->attrs[KVM_VMEM_A_REGION_DIRTY_LOG];
	struct vmem_netlink_job *job;
	struct vmem_region *region;

	region = vmem_netlink_get_region(skb, info->attrs,
					 &vmem_netlink_region_names, true,
					 info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	if (!size_attr && !log_attr) {
		vmem_set_extack(info->extack, NULL, "nothing to set");
		vmem_region_put(region);
		return -EINVAL;
	}
	job = vmem_netlink_new_job(skb, info, region, run_set);
	if (IS_ERR(job)) {
		vmem_region_put(region);
		return PTR_ERR(job);
	}
	job->size_attr = vmem_netlink_copied_attr(job, info, size_attr);
	job->log_attr = vmem_netlink_copied_attr(job, info, log_attr);
	return vmem_netlink_queue_job(job, info->extack);
}

/* The range attribute after @attr, or the first; NULL if there is none. */
static const struct nlattr *next_range(const struct nlmsghdr *nlh,
				       const struct nlattr *attr)
{
	const struct nlattr *head = nlmsg_attrdata(nlh, GENL_HDRLEN);
	int rem = nlmsg_attrlen(nlh, GENL_HDRLEN);

	if (attr) {
		rem -= (const char *)attr - (const char *)head;
		head = nla_next(attr, &rem);
	}
	return nla_find(head, rem, KVM_VMEM_A_BLOCK_RANGE);
}

/* One range attribute as blocks of the region. */
static int parse_range(const struct vmem_region *region,
		       const struct nlattr *attr, struct vmem_range *range,
		       struct netlink_ext_ack *extack)
{
	struct nlattr *tb[KVM_VMEM_A_RANGE_SIZE + 1];
	u64 gpa, size;
	int r;

	r = nla_parse_nested(tb, KVM_VMEM_A_RANGE_SIZE, attr,
			     kvm_vmem_range_nl_policy, extack);
	if (r)
		return r;
	if (!tb[KVM_VMEM_A_RANGE_GPA] || !tb[KVM_VMEM_A_RANGE_SIZE]) {
		vmem_set_extack(extack, attr, "a range takes gpa and size");
		return -EINVAL;
	}
	gpa = nla_get_u64(tb[KVM_VMEM_A_RANGE_GPA]);
	size = nla_get_u64(tb[KVM_VMEM_A_RANGE_SIZE]);
	if (!IS_ALIGNED(gpa, region->block_size)) {
		vmem_set_extack(extack, tb[KVM_VMEM_A_RANGE_GPA],
				"not a multiple of the block size");
		return -EINVAL;
	}
	if (!size || !IS_ALIGNED(size, region->block_size)) {
		vmem_set_extack(extack, tb[KVM_VMEM_A_RANGE_SIZE],
				"not a multiple of the block size, or 0");
		return -EINVAL;
	}
	if (gpa < region->gpa || gpa - region->gpa >= region->size ||
	    size > region->size - (gpa - region->gpa)) {
		vmem_set_extack(extack, attr, "not inside the region");
		return -ERANGE;
	}
	range->first = (gpa - region->gpa) >> ilog2(region->block_size);
	range->nr = size >> ilog2(region->block_size);
	return 0;
}

static const struct nlattr *range_attr(const struct nlmsghdr *nlh, int index)
{
	const struct nlattr *attr = next_range(nlh, NULL);

	while (attr && index--)
		attr = next_range(nlh, attr);
	return attr;
}

/* Check the ranges of a message, and count them. */
static int check_ranges(const struct vmem_region *region,
			const struct nlmsghdr *nlh, u32 *nr,
			struct netlink_ext_ack *extack)
{
	const struct nlattr *attr;
	struct vmem_range range;
	int r;

	*nr = 0;
	for (attr = next_range(nlh, NULL); attr; attr = next_range(nlh, attr))
		++*nr;
	if (!*nr) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, KVM_VMEM_A_BLOCK_RANGE);
		vmem_set_extack(extack, NULL, "no range");
		return -EINVAL;
	}
	if (*nr > KVM_VMEM_MAX_RANGES) {
		vmem_set_extack(extack, range_attr(nlh, KVM_VMEM_MAX_RANGES),
				"too many ranges");
		return -E2BIG;
	}
	for (attr = next_range(nlh, NULL); attr; attr = next_range(nlh, attr)) {
		r = parse_range(region, attr, &range, extack);
		if (r)
			return r;
	}
	return 0;
}

/* The ranges of a message that was checked. */
static int copy_ranges(struct vmem_netlink_job *job)
{
	struct vmem_request *req = &job->change;
	const struct nlattr *attr;
	struct vmem_fault fault;
	u32 i = 0;
	int r;

	r = vmem_region_alloc_ranges(job->base.region, req, &fault);
	if (r) {
		job->reason = fault.reason;
		return r;
	}
	for (attr = next_range(job->nlh, NULL); attr;
	     attr = next_range(job->nlh, attr))
		if (WARN_ON_ONCE(parse_range(job->base.region, attr,
					     &req->ranges[i++], NULL)))
			return -EINVAL;
	return 0;
}

static int put_answer(const struct vmem_netlink_job *job,
		      const struct vmem_answer *answer, u64 request_id)
{
	struct genlmsghdr *genlh = nlmsg_data(job->nlh);
	struct sk_buff *skb = job->reply;
	void *header = genlmsg_put(skb, vmem_netlink_job_portid(job),
				   job->nlh->nlmsg_seq, vmem_genl_family, 0,
				   genlh->cmd);

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_BLOCK_REGION_ID, job->base.region->id))
		return -EMSGSIZE;
	if (request_id && nla_put_u64_64bit(skb, KVM_VMEM_A_BLOCK_REQUEST_ID,
					    request_id, KVM_VMEM_A_BLOCK_PAD))
		return -EMSGSIZE;
	if (nla_put_u64_64bit(skb, KVM_VMEM_A_BLOCK_PLUGGED_SIZE,
			      answer->plugged_size, KVM_VMEM_A_BLOCK_PAD) ||
	    nla_put_u32(skb, KVM_VMEM_A_BLOCK_POPULATED_SLOTS,
			answer->populated_slots))
		return -EMSGSIZE;
	genlmsg_end(skb, header);
	return 0;
}

static int run_change(struct vmem_netlink_job *job)
{
	struct vmem_answer answer;
	struct vmem_fault fault;
	int r;

	if (job->change.nr) {
		r = copy_ranges(job);
		if (r)
			return r;
	}
	r = vmem_region_request(job->base.region, &job->change, &answer, &fault);
	if (r) {
		if (fault.range >= 0)
			job->bad_attr = range_attr(job->nlh, fault.range);
		job->reason = fault.reason;
		return r;
	}
	r = put_answer(job, &answer, job->change.id);
	WARN_ON_ONCE(r);
	return r;
}

/* The request of a message, but for its ranges, of which it has the number. */
static int parse_request(const struct vmem_region *region,
			 struct genl_info *info, struct vmem_request *req)
{
	const struct nlattr *id_attr = info->attrs[KVM_VMEM_A_BLOCK_REQUEST_ID];

	if (id_attr) {
		req->id = nla_get_u64(id_attr);
		if (!req->id) {
			vmem_set_extack(info->extack, id_attr,
					"a request id is not 0");
			return -EINVAL;
		}
	}
	if (req->type == VMEM_REQUEST_UNPLUG_ALL)
		return 0;
	return check_ranges(region, info->nlhdr, &req->nr, info->extack);
}

static int do_change(struct sk_buff *skb, struct genl_info *info,
		     enum vmem_request_type type)
{
	struct vmem_region *region;
	struct vmem_netlink_job *job;
	int r;

	region = vmem_netlink_get_region(skb, info->attrs,
					 &vmem_netlink_block_names, true,
					 info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	job = vmem_netlink_new_job(skb, info, region, run_change);
	if (IS_ERR(job)) {
		vmem_region_put(region);
		return PTR_ERR(job);
	}
	job->change.type = type;
	r = parse_request(region, info, &job->change);
	if (r) {
		vmem_netlink_free_job(job);
		return r;
	}
	return vmem_netlink_queue_job(job, info->extack);
}

int kvm_vmem_nl_block_plug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_PLUG);
}

int kvm_vmem_nl_block_unplug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_UNPLUG);
}

int kvm_vmem_nl_block_unplug_all_doit(struct sk_buff *skb,
				      struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_UNPLUG_ALL);
}
