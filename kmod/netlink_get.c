// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that read: region-get, block-get, slot-get.
 *
 * None of them waits for a change, see region_dump.c. The start of a dump runs in
 * the context of the sender. Later rounds may run in another process. They use the
 * reference to the region that was taken at the start.
 */
#include <linux/pid_namespace.h>
#include <net/genetlink.h>

#include "compat.h"
#include "genl.h"
#include "netlink_region.h"
#include "region.h"
#include "region_dump.h"

int kvm_vmem_nl_region_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct vmem_netlink_reader reader = {
		.pid_ns = task_active_pid_ns(current),
	};
	struct vmem_region *region;
	struct sk_buff *reply;
	int r = -ENOMEM;

	region = vmem_netlink_get_region(skb, info->attrs,
					 &vmem_netlink_region_names, false,
					 info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	/* The check of a capability may be audited, so only now. */
	reader.sees_hva = vmem_netlink_may_see_hva(skb, info->attrs[KVM_VMEM_A_REGION_FD]);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply)
		goto out;
	r = vmem_netlink_put_message(reply, region, &reader, info->snd_portid,
				     info->snd_seq, 0, info->genlhdr->cmd);
	if (WARN_ON_ONCE(r))
		nlmsg_free(reply);
	else
		r = genlmsg_reply(reply, info);
out:
	vmem_region_put(region);
	return r;
}

/**
 * struct dump - state of a dump between its rounds
 * @region: what is dumped, with a reference; NULL for all regions
 * @pos: the next region id, block or slot
 * @sees_hva: its sender may see addresses of the VMM
 */
struct dump {
	struct vmem_region *region;
	u64 pos;
	bool sees_hva;
};

static struct dump *dump_of(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(struct dump) > sizeof(cb->ctx));
	return (struct dump *)cb->ctx;
}

static int start_dump(struct netlink_callback *cb,
		      const struct vmem_netlink_names *names)
{
	struct nlattr **attrs = vmem_dump_attrs(cb);
	struct vmem_region *region;

	region = vmem_netlink_get_region(cb->skb, attrs, names, false,
					 cb->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	dump_of(cb)->region = region;
	dump_of(cb)->sees_hva =
		vmem_netlink_may_see_hva(cb->skb, attrs[names->fd]);
	return 0;
}

int kvm_vmem_nl_region_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = vmem_dump_attrs(cb);

	if (attrs[KVM_VMEM_A_REGION_ID] || attrs[KVM_VMEM_A_REGION_FD])
		return start_dump(cb, &vmem_netlink_region_names);
	if (!vmem_netlink_may_read_all(cb->skb)) {
		vmem_set_extack(cb->extack, NULL,
				"all regions take the host's CAP_NET_ADMIN");
		return -EPERM;
	}
	dump_of(cb)->sees_hva = vmem_netlink_may_see_hva(cb->skb, NULL);
	return 0;
}

int kvm_vmem_nl_block_start(struct netlink_callback *cb)
{
	return start_dump(cb, &vmem_netlink_block_names);
}

int kvm_vmem_nl_slot_start(struct netlink_callback *cb)
{
	return start_dump(cb, &vmem_netlink_slot_names);
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
	const struct vmem_netlink_reader reader = {
		.pid_ns = task_active_pid_ns(current),
		.sees_hva = dump_of(cb)->sees_hva,
	};

	return vmem_netlink_put_message(skb, region, &reader,
					NETLINK_CB(cb->skb).portid,
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

/*
 * NLM_F_DUMP_INTR is set if the region changed during the dump:
 * each message is compared with the one before, the last one included, which
 * says that the dump is done.
 */
static void note_dump_seq(struct netlink_callback *cb,
			  struct vmem_region *region)
{
	cb->seq = vmem_region_dump_seq(region, cb->prev_seq);
	/* The first look counts, too. */
	if (!cb->prev_seq)
		cb->prev_seq = cb->seq;
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
	if (nla_put_u64_64bit(skb, KVM_VMEM_A_RANGE_GPA,
			      region->gpa + run->first * region->block_size,
			      KVM_VMEM_A_RANGE_PAD) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_RANGE_SIZE,
			      run->nr * region->block_size,
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
		note_dump_seq(cb, dump->region);
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
	    nla_put_u64_64bit(skb, KVM_VMEM_A_SLOT_GPA, slot->gpa, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_SLOT_SIZE, slot->size, pad) ||
	    (dump_of(cb)->sees_hva &&
	     nla_put_u64_64bit(skb, KVM_VMEM_A_SLOT_HVA, slot->hva, pad)) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_SLOT_PLUGGED_SIZE,
			      slot->plugged_size, pad) ||
	    (slot->stale && nla_put_flag(skb, KVM_VMEM_A_SLOT_STALE)) ||
	    (slot->has_metadata &&
	     vmem_netlink_put_metadata(skb, KVM_VMEM_A_SLOT_METADATA,
				       &slot->metadata))) {
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
		note_dump_seq(cb, dump->region);
		if (put_slot(skb, cb, dump->region, &slot))
			break;
		dump->pos = index;
	}
	return skb->len;
}
