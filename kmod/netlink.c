// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family: it translates, region.c does the work. Policies
 * and operations are in genl.c, generated from uapi/kvm_vmem.yaml.
 *
 * A request names its region by a descriptor of the sender. It is looked up in
 * the context of the sender, which handlers and the start of dumps run in; the
 * later rounds of a dump may run in another process, and use the reference
 * taken at its start. By id, which only reads, and for everything that shows
 * other people's regions, the sender needs CAP_NET_ADMIN in the initial user
 * namespace: regions belong to no network namespace. Notifications go to the
 * initial network namespace for the same reason.
 *
 * The reply to a change is allocated before the change is made.
 */
#include <linux/capability.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "compat.h"
#include "genl.h"
#include "netlink.h"
#include "region.h"
#include "region_fd.h"

/* The generator does not know of flags of groups. */
static const struct genl_multicast_group multicast_groups[] = {
	[KVM_VMEM_NLGRP_EVENTS] = {
		.name = KVM_VMEM_MCGRP_EVENTS,
		.flags = GENL_MCAST_CAP_NET_ADMIN,
	},
};

VMEM_DEFINE_OLD_FAMILY();

/* Like NL_SET_ERR_MSG_ATTR(), for a message that is not a literal. */
static void set_error(struct netlink_ext_ack *extack, const struct nlattr *attr,
		      const char *message)
{
	if (!extack)
		return;
	extack->_msg = message;
	extack->bad_attr = attr;
}

/* Where a message may name its region. */
struct region_attrs {
	int id;
	int fd;
};

static const struct region_attrs region_attrs = {
	KVM_VMEM_A_REGION_ID, KVM_VMEM_A_REGION_FD,
};

static const struct region_attrs block_attrs = {
	KVM_VMEM_A_BLOCK_REGION_ID, KVM_VMEM_A_BLOCK_REGION_FD,
};

static const struct region_attrs slot_attrs = {
	KVM_VMEM_A_SLOT_REGION_ID, KVM_VMEM_A_SLOT_REGION_FD,
};

/* The region that a request names, with a reference. */
static struct vmem_region *get_region(struct sk_buff *request,
				      struct nlattr **attrs,
				      const struct region_attrs *names,
				      bool to_change,
				      struct netlink_ext_ack *extack)
{
	const struct nlattr *id = attrs[names->id];
	const struct nlattr *fd = attrs[names->fd];
	struct vmem_region *region;

	if (id && fd) {
		set_error(extack, id, "name the region by fd or by id, not both");
		return ERR_PTR(-EINVAL);
	}
	if (fd) {
		region = vmem_region_get_by_fd(nla_get_s32(fd));
		if (region)
			return region;
		set_error(extack, fd, "not the descriptor of a region");
		return ERR_PTR(-EBADF);
	}
	if (!id) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, names->fd);
		set_error(extack, NULL, "the region's fd is missing");
		return ERR_PTR(-EINVAL);
	}
	if (to_change) {
		set_error(extack, id, "a change takes the region's fd");
		return ERR_PTR(-EPERM);
	}
	if (!netlink_capable(request, CAP_NET_ADMIN)) {
		set_error(extack, id, "a region by id takes CAP_NET_ADMIN");
		return ERR_PTR(-EPERM);
	}
	region = vmem_region_get_by_id(nla_get_u32(id));
	if (!region) {
		set_error(extack, id, "no region has this id");
		return ERR_PTR(-ENOENT);
	}
	return region;
}

static int put_u64(struct sk_buff *skb, int attr, u64 value, int pad)
{
	return nla_put_u64_64bit(skb, attr, value, pad);
}

static int put_metadata(struct sk_buff *skb, int attr,
			const struct vmem_metadata *m)
{
	const int pad = KVM_VMEM_A_METADATA_PAD;
	struct nlattr *nest = nla_nest_start(skb, attr);

	if (!nest)
		return -EMSGSIZE;
	if (put_u64(skb, KVM_VMEM_A_METADATA_MEMSLOT, m->memslot, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_RMAP, m->rmap, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_LPAGE_INFO, m->lpage_info, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_GFN_TRACK, m->gfn_track, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_DIRTY_BITMAP, m->dirty_bitmap,
		    pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_TOTAL, vmem_metadata_total(m),
		    pad))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* The attributes of region-get. Under region->lock. */
static int put_region(struct sk_buff *skb, struct vmem_region *region,
		      struct pid_namespace *pid_ns,
		      const struct vmem_metadata *metadata)
{
	const int pad = KVM_VMEM_A_REGION_PAD;

	if (nla_put_u32(skb, KVM_VMEM_A_REGION_ID, region->id) ||
	    put_u64(skb, KVM_VMEM_A_REGION_GPA, region->gpa, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_SIZE, region->size, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_HVA, region->hva, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_BLOCK_SIZE, region->block_size,
		    pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_SLOT_SIZE, region->slot_size, pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_FIRST_SLOT,
			region->first_slot) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_NR_SLOTS, region->nr_slots) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_ADDRESS_SPACES,
			region->as_mask) ||
	    put_u64(skb, KVM_VMEM_A_REGION_REQUESTED_SIZE,
		    region->requested_size, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_PLUGGED_SIZE,
		    region->plugged_blocks * region->block_size, pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_POPULATED_SLOTS,
			region->populated_slots) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_DIRTY_LOG, region->dirty_log) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_PID,
			pid_nr_ns(region->pid, pid_ns)) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_ALIVE, !!region->kvm) ||
	    put_u64(skb, KVM_VMEM_A_REGION_REQUEST_ID,
		    region->last_request.id, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_CHANGES,
		    atomic64_read(&region->changes), pad))
		return -EMSGSIZE;
	if (metadata)
		return put_metadata(skb, KVM_VMEM_A_REGION_METADATA, metadata);
	return 0;
}

/* A whole message with the state of a region, metadata included. */
static int put_region_message(struct sk_buff *skb, struct vmem_region *region,
			      u32 portid, u32 seq, int flags, int cmd)
{
	struct vmem_metadata metadata;
	void *header;
	int r;

	header = genlmsg_put(skb, portid, seq, vmem_genl_family, flags, cmd);
	if (!header)
		return -EMSGSIZE;
	mutex_lock(&region->lock);
	vmem_region_metadata(region, &metadata);
	r = put_region(skb, region, task_active_pid_ns(current), &metadata);
	mutex_unlock(&region->lock);
	if (r)
		genlmsg_cancel(skb, header);
	else
		genlmsg_end(skb, header);
	return r;
}

/*
 * vmem_netlink_notify() - tell the group of a change
 * @cmd: KVM_VMEM_CMD_REGION_*_NTF
 *
 * Under region->lock, so that notifications have the order of what they tell.
 */
void vmem_netlink_notify(struct vmem_region *region, int cmd)
{
	struct sk_buff *skb;
	void *header;

	if (!genl_has_listeners(vmem_genl_family, &init_net,
				KVM_VMEM_NLGRP_EVENTS))
		return;
	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!skb)
		goto lost;
	header = genlmsg_put(skb, 0, 0, vmem_genl_family, 0, cmd);
	if (!header || put_region(skb, region, &init_pid_ns, NULL)) {
		nlmsg_free(skb);
		goto lost;
	}
	genlmsg_end(skb, header);
	genlmsg_multicast(vmem_genl_family, skb, 0, KVM_VMEM_NLGRP_EVENTS,
			  GFP_KERNEL);
	return;
lost:
	/* Listeners learn that they have missed something. */
	genl_set_err(vmem_genl_family, &init_net, 0, KVM_VMEM_NLGRP_EVENTS,
		     -ENOBUFS);
}

/* Reply with the state of a region. */
static int reply_region(struct sk_buff *reply, struct genl_info *info,
			struct vmem_region *region)
{
	int r = put_region_message(reply, region, info->snd_portid,
				   info->snd_seq, 0, info->genlhdr->cmd);

	if (WARN_ON_ONCE(r)) {
		nlmsg_free(reply);
		return r;
	}
	return genlmsg_reply(reply, info);
}

int kvm_vmem_nl_region_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct vmem_region *region;
	struct sk_buff *reply;
	int r;

	region = get_region(skb, info->attrs, &region_attrs, false,
			    info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	r = reply ? reply_region(reply, info, region) : -ENOMEM;
	vmem_region_put(region);
	return r;
}

int kvm_vmem_nl_region_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	const struct nlattr *size_attr =
		info->attrs[KVM_VMEM_A_REGION_REQUESTED_SIZE];
	const struct nlattr *log_attr = info->attrs[KVM_VMEM_A_REGION_DIRTY_LOG];
	struct vmem_fault fault;
	struct vmem_region *region;
	struct sk_buff *reply;
	bool dirty_log = false;
	u64 size = 0;
	int r;

	region = get_region(skb, info->attrs, &region_attrs, true,
			    info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	r = -EINVAL;
	if (!size_attr && !log_attr) {
		set_error(info->extack, NULL, "nothing to set");
		goto out;
	}
	if (size_attr)
		size = nla_get_u64(size_attr);
	if (log_attr)
		dirty_log = nla_get_u8(log_attr);

	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	r = -ENOMEM;
	if (!reply)
		goto out;
	r = vmem_region_set(region, size_attr ? &size : NULL,
			    log_attr ? &dirty_log : NULL, &fault);
	if (r) {
		set_error(info->extack, size_attr ?: log_attr, fault.reason);
		nlmsg_free(reply);
		goto out;
	}
	r = reply_region(reply, info, region);
out:
	vmem_region_put(region);
	return r;
}

/* The range attribute after @attr, or the first; NULL if there is none. */
static const struct nlattr *next_range(struct genl_info *info,
				       const struct nlattr *attr)
{
	const struct nlattr *head = genlmsg_data(info->genlhdr);
	int rem = genlmsg_len(info->genlhdr);

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
		set_error(extack, attr, "a range takes gpa and size");
		return -EINVAL;
	}
	gpa = nla_get_u64(tb[KVM_VMEM_A_RANGE_GPA]);
	size = nla_get_u64(tb[KVM_VMEM_A_RANGE_SIZE]);
	if (!IS_ALIGNED(gpa, region->block_size)) {
		set_error(extack, tb[KVM_VMEM_A_RANGE_GPA],
			  "not a multiple of the block size");
		return -EINVAL;
	}
	if (!size || !IS_ALIGNED(size, region->block_size)) {
		set_error(extack, tb[KVM_VMEM_A_RANGE_SIZE],
			  "not a multiple of the block size, or 0");
		return -EINVAL;
	}
	if (gpa < region->gpa || gpa - region->gpa >= region->size ||
	    size > region->size - (gpa - region->gpa)) {
		set_error(extack, attr, "not inside the region");
		return -ERANGE;
	}
	range->first = (gpa - region->gpa) >> ilog2(region->block_size);
	range->nr = size >> ilog2(region->block_size);
	return 0;
}

static int parse_ranges(const struct vmem_region *region,
			struct vmem_request *req, struct genl_info *info)
{
	struct netlink_ext_ack *extack = info->extack;
	const struct nlattr *attr;
	u32 nr = 0;
	int r;

	for (attr = next_range(info, NULL); attr; attr = next_range(info, attr))
		nr++;
	if (!nr) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, KVM_VMEM_A_BLOCK_RANGE);
		set_error(extack, NULL, "no range");
		return -EINVAL;
	}
	if (nr > KVM_VMEM_MAX_RANGES) {
		set_error(extack, NULL, "too many ranges");
		return -E2BIG;
	}
	/* It may be remembered for as long as the region lives. */
	req->ranges = kvmalloc_array(nr, sizeof(*req->ranges),
				     GFP_KERNEL_ACCOUNT);
	if (!req->ranges)
		return -ENOMEM;
	for (attr = next_range(info, NULL); attr;
	     attr = next_range(info, attr)) {
		r = parse_range(region, attr, &req->ranges[req->nr++], extack);
		if (r)
			return r;
	}
	return 0;
}

static const struct nlattr *range_attr(struct genl_info *info, int index)
{
	const struct nlattr *attr = next_range(info, NULL);

	while (attr && index--)
		attr = next_range(info, attr);
	return attr;
}

static int put_answer(struct sk_buff *skb, struct genl_info *info,
		      const struct vmem_region *region, u64 request_id,
		      const struct vmem_answer *answer)
{
	void *header = genlmsg_put_reply(skb, info, vmem_genl_family, 0,
					 info->genlhdr->cmd);

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_BLOCK_REGION_ID, region->id))
		return -EMSGSIZE;
	if (request_id && put_u64(skb, KVM_VMEM_A_BLOCK_REQUEST_ID, request_id,
				  KVM_VMEM_A_BLOCK_PAD))
		return -EMSGSIZE;
	if (put_u64(skb, KVM_VMEM_A_BLOCK_PLUGGED_SIZE, answer->plugged_size,
		    KVM_VMEM_A_BLOCK_PAD) ||
	    nla_put_u32(skb, KVM_VMEM_A_BLOCK_POPULATED_SLOTS,
			answer->populated_slots))
		return -EMSGSIZE;
	genlmsg_end(skb, header);
	return 0;
}

static int do_request(struct sk_buff *skb, struct genl_info *info,
		      enum vmem_request_type type)
{
	const struct nlattr *id_attr = info->attrs[KVM_VMEM_A_BLOCK_REQUEST_ID];
	struct vmem_request req = { .type = type };
	struct sk_buff *reply = NULL;
	struct vmem_answer answer;
	struct vmem_region *region;
	struct vmem_fault fault;
	u64 id = 0;
	int r;

	region = get_region(skb, info->attrs, &block_attrs, true, info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	if (id_attr) {
		id = nla_get_u64(id_attr);
		if (!id) {
			set_error(info->extack, id_attr,
				  "a request id is not 0");
			r = -EINVAL;
			goto out;
		}
	}
	req.id = id;
	if (type != VMEM_REQUEST_UNPLUG_ALL) {
		r = parse_ranges(region, &req, info);
		if (r)
			goto out;
	}
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply) {
		r = -ENOMEM;
		goto out;
	}

	r = vmem_region_request(region, &req, &answer, &fault);
	if (r) {
		set_error(info->extack,
			  fault.range < 0 ? NULL : range_attr(info, fault.range),
			  fault.reason);
		goto out;
	}
	r = put_answer(reply, info, region, id, &answer);
	if (WARN_ON_ONCE(r))
		goto out;
	r = genlmsg_reply(reply, info);
	reply = NULL;
out:
	nlmsg_free(reply);
	kvfree(req.ranges);
	vmem_region_put(region);
	return r;
}

int kvm_vmem_nl_block_plug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_request(skb, info, VMEM_REQUEST_PLUG);
}

int kvm_vmem_nl_block_unplug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_request(skb, info, VMEM_REQUEST_UNPLUG);
}

int kvm_vmem_nl_block_unplug_all_doit(struct sk_buff *skb,
				      struct genl_info *info)
{
	return do_request(skb, info, VMEM_REQUEST_UNPLUG_ALL);
}

/**
 * struct dump - state of a dump between its rounds
 * @region: what is dumped, with a reference; NULL for all regions
 * @pos: the next region id, block or slot
 */
struct dump {
	struct vmem_region *region;
	u64 pos;
};

static struct dump *dump_of(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(struct dump) > sizeof(cb->ctx));
	return (struct dump *)cb->ctx;
}

static int start_dump(struct netlink_callback *cb,
		      const struct region_attrs *names)
{
	struct vmem_region *region = get_region(cb->skb, vmem_dump_attrs(cb),
						names, false, cb->extack);

	if (IS_ERR(region))
		return PTR_ERR(region);
	dump_of(cb)->region = region;
	return 0;
}

int kvm_vmem_nl_region_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = vmem_dump_attrs(cb);

	if (attrs[KVM_VMEM_A_REGION_ID] || attrs[KVM_VMEM_A_REGION_FD])
		return start_dump(cb, &region_attrs);
	if (netlink_capable(cb->skb, CAP_NET_ADMIN))
		return 0;
	set_error(cb->extack, NULL, "all regions take CAP_NET_ADMIN");
	return -EPERM;
}

int kvm_vmem_nl_block_start(struct netlink_callback *cb)
{
	return start_dump(cb, &block_attrs);
}

int kvm_vmem_nl_slot_start(struct netlink_callback *cb)
{
	return start_dump(cb, &slot_attrs);
}

int kvm_vmem_nl_dump_done(struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);

	if (dump->region)
		vmem_region_put(dump->region);
	return 0;
}

static int dump_region(struct sk_buff *skb, struct netlink_callback *cb,
		       struct vmem_region *region)
{
	return put_region_message(skb, region, NETLINK_CB(cb->skb).portid,
				  cb->nlh->nlmsg_seq, NLM_F_MULTI,
				  KVM_VMEM_CMD_REGION_GET);
}

int kvm_vmem_nl_region_get_dumpit(struct sk_buff *skb,
				  struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_region *region;
	unsigned long id;
	int r = 0;

	if (dump->region) {
		if (!dump->pos) {
			r = dump_region(skb, cb, dump->region);
			dump->pos = 1;
		}
		return r ?: skb->len;
	}
	for (;;) {
		id = dump->pos;
		region = vmem_region_get_next(&id);
		if (!region)
			break;
		r = dump_region(skb, cb, region);
		vmem_region_put(region);
		if (r)
			break;
		dump->pos = id + 1;
	}
	return r && !skb->len ? r : skb->len;
}

/* The head of one message of a dump of a region's parts. */
static void *put_part_header(struct sk_buff *skb, struct netlink_callback *cb,
			     struct vmem_region *region, int cmd)
{
	void *header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				   cb->nlh->nlmsg_seq, vmem_genl_family,
				   NLM_F_MULTI, cmd);

	if (header)
		genl_dump_check_consistent(cb, header);
	return header;
}

/* A reader is told (NLM_F_DUMP_INTR) if the region changed between rounds. */
static void note_dump_seq(struct netlink_callback *cb,
			  struct vmem_region *region)
{
	/* 0 would mean that there is nothing to compare with. */
	cb->seq = (u32)atomic64_read(&region->changes) | 1U << 31;
}

static int put_run(struct sk_buff *skb, struct netlink_callback *cb,
		   struct vmem_region *region, const struct vmem_range *run)
{
	void *header = put_part_header(skb, cb, region, KVM_VMEM_CMD_BLOCK_GET);
	struct nlattr *nest;

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_BLOCK_REGION_ID, region->id))
		goto cancel;
	nest = nla_nest_start(skb, KVM_VMEM_A_BLOCK_RANGE);
	if (!nest)
		goto cancel;
	if (put_u64(skb, KVM_VMEM_A_RANGE_GPA,
		    region->gpa + run->first * region->block_size,
		    KVM_VMEM_A_RANGE_PAD) ||
	    put_u64(skb, KVM_VMEM_A_RANGE_SIZE, run->nr * region->block_size,
		    KVM_VMEM_A_RANGE_PAD))
		goto cancel;
	nla_nest_end(skb, nest);
	genlmsg_end(skb, header);
	return 0;

cancel:
	genlmsg_cancel(skb, header);
	return -EMSGSIZE;
}

int kvm_vmem_nl_block_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_range run;
	u64 block;

	note_dump_seq(cb, dump->region);
	for (;;) {
		block = dump->pos;
		if (!vmem_region_next_run(dump->region, &block, &run))
			break;
		if (put_run(skb, cb, dump->region, &run))
			break;
		dump->pos = block;
	}
	return skb->len;
}

static int put_slot(struct sk_buff *skb, struct netlink_callback *cb,
		    struct vmem_region *region,
		    const struct vmem_region_slot *slot)
{
	void *header = put_part_header(skb, cb, region, KVM_VMEM_CMD_SLOT_GET);
	const int pad = KVM_VMEM_A_SLOT_PAD;

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_SLOT_REGION_ID, region->id) ||
	    nla_put_u32(skb, KVM_VMEM_A_SLOT_ID, slot->id) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_GPA, slot->gpa, pad) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_SIZE, slot->size, pad) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_HVA, slot->hva, pad) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_PLUGGED_SIZE, slot->plugged_size,
		    pad) ||
	    (slot->stale && nla_put_flag(skb, KVM_VMEM_A_SLOT_STALE)) ||
	    put_metadata(skb, KVM_VMEM_A_SLOT_METADATA, &slot->metadata)) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, header);
	return 0;
}

int kvm_vmem_nl_slot_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_region_slot slot;
	u32 index;

	note_dump_seq(cb, dump->region);
	for (;;) {
		index = dump->pos;
		if (!vmem_region_next_slot(dump->region, &index, &slot))
			break;
		if (put_slot(skb, cb, dump->region, &slot))
			break;
		dump->pos = index;
	}
	return skb->len;
}

int vmem_netlink_init(void)
{
	kvm_vmem_nl_family.mcgrps = multicast_groups;
	return vmem_genl_register();
}

void vmem_netlink_exit(void)
{
	genl_unregister_family(vmem_genl_family);
}
