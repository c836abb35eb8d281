// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region in netlink messages: requests name it, answers and notifications show
 * its state.
 *
 * A request names its region by a file descriptor of the sender. The descriptor is
 * looked up in the context of the sender, in which handlers and the start of dumps
 * run.
 *
 * Permission to read:
 *
 *   by descriptor	everything, from any namespace: the descriptor is the
 *			authority.
 *   by id, and all	CAP_NET_ADMIN in the initial user namespace, and a socket
 *			of the initial network namespace. Regions belong to the
 *			host and to no network namespace. A container that shares
 *			the host's user namespace may have CAP_NET_ADMIN for a
 *			network of its own, which is not enough.
 *   events		the same. Generic netlink checks the permission to join
 *			the group. A socket of another namespace may subscribe to
 *			the multicasts of all namespaces; netlink.c excludes it.
 *   addresses of the	the descriptor, or CAP_SYS_PTRACE in addition to the
 *   VMM (hva)		above: they help an attacker of the VMM, and monitoring
 *			does not need them. Events never contain them.
 */
#include <linux/capability.h>
#include <linux/lockdep.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "compat.h"
#include "genl.h"
#include "netlink_region.h"
#include "region.h"
#include "region_dump.h"
#include "region_fd.h"

const struct vmem_netlink_names vmem_netlink_region_names = {
	KVM_VMEM_A_REGION_ID,
	KVM_VMEM_A_REGION_FD,
};

const struct vmem_netlink_names vmem_netlink_block_names = {
	KVM_VMEM_A_BLOCK_REGION_ID,
	KVM_VMEM_A_BLOCK_REGION_FD,
};

const struct vmem_netlink_names vmem_netlink_slot_names = {
	KVM_VMEM_A_SLOT_REGION_ID,
	KVM_VMEM_A_SLOT_REGION_FD,
};

bool vmem_netlink_is_host_socket(const struct sock *sk)
{
	return net_eq(sock_net(sk), &init_net);
}

/* May the sender read regions that it has no descriptor of? */
bool vmem_netlink_may_read_all(const struct sk_buff *request)
{
	return vmem_netlink_is_host_socket(NETLINK_CB(request).sk) &&
	       netlink_capable(request, CAP_NET_ADMIN);
}

/* May the sender, who may read a region, see where the VMM has mapped it? */
bool vmem_netlink_may_see_hva(const struct sk_buff *request,
			      const struct nlattr *region_fd)
{
	return region_fd || netlink_capable(request, CAP_SYS_PTRACE);
}

/* The region that a request names, with a reference. */
struct vmem_region *
vmem_netlink_get_region(struct sk_buff *request, struct nlattr **attrs,
			const struct vmem_netlink_names *names, bool to_change,
			struct netlink_ext_ack *extack)
{
	const struct nlattr *id = attrs[names->id];
	const struct nlattr *fd = attrs[names->fd];
	struct vmem_region *region;

	if (id && fd) {
		vmem_set_extack(extack, id, "name the region by fd or by id, not both");
		return ERR_PTR(-EINVAL);
	}
	if (fd) {
		region = vmem_region_get_by_fd(nla_get_s32(fd));
		if (region)
			return region;
		vmem_set_extack(extack, fd, "not the descriptor of a region");
		return ERR_PTR(-EBADF);
	}
	if (!id) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, names->fd);
		vmem_set_extack(extack, NULL, "the region's fd is missing");
		return ERR_PTR(-EINVAL);
	}
	if (to_change) {
		vmem_set_extack(extack, id, "a change takes the region's fd");
		return ERR_PTR(-EPERM);
	}
	if (!vmem_netlink_may_read_all(request)) {
		vmem_set_extack(extack, id,
				"a region by id takes the host's CAP_NET_ADMIN");
		return ERR_PTR(-EPERM);
	}
	region = vmem_region_get_by_id(nla_get_u32(id));
	if (!region) {
		vmem_set_extack(extack, id, "no region has this id");
		return ERR_PTR(-ENOENT);
	}
	return region;
}

int vmem_netlink_put_metadata(struct sk_buff *skb, int attr,
			      const struct vmem_metadata *m)
{
	const int pad = KVM_VMEM_A_METADATA_PAD;
	struct nlattr *nest = nla_nest_start(skb, attr);

	if (!nest)
		return -EMSGSIZE;
	if (nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_MEMSLOT, m->memslot,
			      pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_RMAP, m->rmap, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_LPAGE_INFO,
			      m->lpage_info, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_GFN_TRACK, m->gfn_track,
			      pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_DIRTY_BITMAP,
			      m->dirty_bitmap, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_METADATA_TOTAL,
			      vmem_metadata_total(m), pad))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* What KVM holds for a region, and would hold. Under region->lock. */
static int put_region_metadata(struct sk_buff *skb, struct vmem_region *region)
{
	struct vmem_metadata metadata;
	int r;

	vmem_region_metadata(region, &metadata);
	r = vmem_netlink_put_metadata(skb, KVM_VMEM_A_REGION_METADATA,
				      &metadata);
	if (!r && vmem_region_whole_metadata(region, &metadata))
		r = vmem_netlink_put_metadata(skb,
					      KVM_VMEM_A_REGION_WHOLE_METADATA,
					      &metadata);
	return r;
}

/* The attributes of region-get but for metadata. Under region->lock. */
int vmem_netlink_put_region(struct sk_buff *skb, struct vmem_region *region,
			    const struct vmem_netlink_reader *reader)
{
	const int pad = KVM_VMEM_A_REGION_PAD;
	bool alive = vmem_region_alive(region);

	lockdep_assert_held(&region->lock);
	if (nla_put_u32(skb, KVM_VMEM_A_REGION_ID, region->id) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_GPA, region->gpa, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_SIZE, region->size, pad) ||
	    (reader->sees_hva &&
	     nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_HVA, region->hva, pad)) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_BLOCK_SIZE,
			      region->block_size, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_SLOT_SIZE,
			      region->slot_size, pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_FIRST_SLOT,
			region->first_slot) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_NR_SLOTS, region->nr_slots) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_ADDRESS_SPACES,
			region->as_mask) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_REQUESTED_SIZE,
			      region->requested_size, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_PLUGGED_SIZE,
			      region->plugged_blocks * region->block_size,
			      pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_POPULATED_SLOTS,
			region->populated_slots) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_DIRTY_LOG, region->dirty_log) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_PID,
			alive ? pid_nr_ns(region->pid, reader->pid_ns) : 0) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_ALIVE, alive) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_REQUEST_ID,
			      region->last_request.id, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_CHANGES,
			      atomic64_read(&region->changes), pad) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_ZAP_RANGES, region->zap_ranges) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_RANGE_ZAPS,
			      region->range_zaps, pad) ||
	    nla_put_u64_64bit(skb, KVM_VMEM_A_REGION_ZAPS_BY_KVM,
			      region->zaps_by_kvm, pad))
		return -EMSGSIZE;
	return 0;
}

/* A whole message with the state of a region, metadata included. */
int vmem_netlink_put_message(struct sk_buff *skb, struct vmem_region *region,
			     const struct vmem_netlink_reader *reader,
			     u32 portid, u32 seq, int flags, int cmd)
{
	void *header;
	int r;

	header = genlmsg_put(skb, portid, seq, vmem_genl_family, flags, cmd);
	if (!header)
		return -EMSGSIZE;
	mutex_lock(&region->lock);
	r = vmem_netlink_put_region(skb, region, reader);
	if (!r)
		r = put_region_metadata(skb, region);
	mutex_unlock(&region->lock);
	if (r)
		genlmsg_cancel(skb, header);
	else
		genlmsg_end(skb, header);
	return r;
}
