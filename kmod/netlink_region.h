/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_NETLINK_REGION_H
#define KVM_VMEM_NETLINK_REGION_H

#include <linux/types.h>

struct netlink_ext_ack;
struct nlattr;
struct pid_namespace;
struct sk_buff;
struct sock;
struct vmem_metadata;
struct vmem_region;

/* Where a message may name its region. */
struct vmem_netlink_names {
	int id;
	int fd;
};

extern const struct vmem_netlink_names vmem_netlink_region_names;
extern const struct vmem_netlink_names vmem_netlink_block_names;
extern const struct vmem_netlink_names vmem_netlink_slot_names;

/**
 * struct vmem_netlink_reader - the recipient of a state
 * @pid_ns: where it sees processes
 * @sees_hva: it may see addresses of the VMM
 */
struct vmem_netlink_reader {
	struct pid_namespace *pid_ns;
	bool sees_hva;
};

bool vmem_netlink_is_host_socket(const struct sock *sk);
bool vmem_netlink_may_read_all(const struct sk_buff *request);
bool vmem_netlink_may_see_hva(const struct sk_buff *request,
			      const struct nlattr *region_fd);
struct vmem_region *
vmem_netlink_get_region(struct sk_buff *request, struct nlattr **attrs,
			const struct vmem_netlink_names *names, bool to_change,
			struct netlink_ext_ack *extack);

int vmem_netlink_put_metadata(struct sk_buff *skb, int attr,
			      const struct vmem_metadata *m);
int vmem_netlink_put_region(struct sk_buff *skb, struct vmem_region *region,
			    const struct vmem_netlink_reader *reader);
int vmem_netlink_put_message(struct sk_buff *skb, struct vmem_region *region,
			     const struct vmem_netlink_reader *reader,
			     u32 portid, u32 seq, int flags, int cmd);

#endif /* KVM_VMEM_NETLINK_REGION_H */
