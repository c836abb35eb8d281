// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family, and the group that is notified of regions.
 *
 * Policies and operations are in genl.c, which is generated from
 * uapi/kvm_vmem.yaml. The handlers translate messages, region*.c carries out the
 * requests:
 *
 * netlink_region.c	which region a request names, who may read it, its state in
 *			a message
 * netlink_get.c	requests that read
 * netlink_job.c	a request that changes a region waits for its turn, and is
 *			answered then
 * netlink_change.c	requests that change a region
 */
#include <linux/lockdep.h>
#include <linux/pid_namespace.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "compat.h"
#include "genl.h"
#include "netlink.h"
#include "netlink_region.h"
#include "region.h"

/* The generator does not know of flags of groups. */
static const struct genl_multicast_group multicast_groups[] = {
	[KVM_VMEM_NLGRP_EVENTS] = {
		.name = KVM_VMEM_MCGRP_EVENTS,
		.flags = GENL_MCAST_CAP_NET_ADMIN,
	},
};

VMEM_DEFINE_OLD_FAMILY();

/* Nonzero for a listener that is not to have an event. */
static int may_not_hear(struct sock *listener, struct sk_buff *skb, void *data)
{
	return !vmem_netlink_is_host_socket(listener);
}

/* Notify the group of a change. @cmd: KVM_VMEM_CMD_REGION_*_NTF. */
static void notify(struct vmem_region *region, int cmd)
{
	static const struct vmem_netlink_reader anybody = {
		.pid_ns = &init_pid_ns,
	};
	struct sk_buff *skb;
	void *header;
	int r;

	lockdep_assert_held(&region->vm_lock);
	if (!genl_has_listeners(vmem_genl_family, &init_net,
				KVM_VMEM_NLGRP_EVENTS))
		return;
	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!skb)
		goto lost;
	header = genlmsg_put(skb, 0, 0, vmem_genl_family, 0, cmd);
	mutex_lock(&region->lock);
	r = header ? vmem_netlink_put_region(skb, region, &anybody) : -EMSGSIZE;
	mutex_unlock(&region->lock);
	if (r) {
		nlmsg_free(skb);
		goto lost;
	}
	genlmsg_end(skb, header);
	vmem_genl_multicast(vmem_genl_family, skb, KVM_VMEM_NLGRP_EVENTS,
			    may_not_hear);
	return;
lost:
	/* Listeners learn that they have missed something. */
	genl_set_err(vmem_genl_family, &init_net, 0, KVM_VMEM_NLGRP_EVENTS,
		     -ENOBUFS);
}

static void notify_published(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_NEW_NTF);
}

static void notify_changed(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_CHANGE_NTF);
}

static void notify_ended(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_DEL_NTF);
}

static const struct vmem_region_ops region_ops = {
	.published = notify_published,
	.changed = notify_changed,
	.ended = notify_ended,
};

int vmem_netlink_init(void)
{
	vmem_region_init(&region_ops);
	kvm_vmem_nl_family.mcgrps = multicast_groups;
	return vmem_genl_register();
}

void vmem_netlink_exit(void)
{
	genl_unregister_family(vmem_genl_family);
}
