/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/kvm_vmem.yaml */
/* YNL-GEN kernel header */

#ifndef _LINUX_KVM_VMEM_GEN_H
#define _LINUX_KVM_VMEM_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/kvm_vmem_netlink.h>

/* Common nested types */
extern const struct nla_policy kvm_vmem_range_nl_policy[KVM_VMEM_A_RANGE_SIZE + 1];

int kvm_vmem_nl_region_start(struct netlink_callback *cb);
int kvm_vmem_nl_block_start(struct netlink_callback *cb);
int kvm_vmem_nl_slot_start(struct netlink_callback *cb);
int kvm_vmem_nl_dump_done(struct netlink_callback *cb);

int kvm_vmem_nl_region_get_doit(struct sk_buff *skb, struct genl_info *info);
int kvm_vmem_nl_region_get_dumpit(struct sk_buff *skb,
				  struct netlink_callback *cb);
int kvm_vmem_nl_region_set_doit(struct sk_buff *skb, struct genl_info *info);
int kvm_vmem_nl_block_plug_doit(struct sk_buff *skb, struct genl_info *info);
int kvm_vmem_nl_block_unplug_doit(struct sk_buff *skb, struct genl_info *info);
int kvm_vmem_nl_block_unplug_all_doit(struct sk_buff *skb,
				      struct genl_info *info);
int kvm_vmem_nl_block_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb);
int kvm_vmem_nl_slot_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);

enum {
	KVM_VMEM_NLGRP_EVENTS,
};

extern struct genl_family kvm_vmem_nl_family;

#endif /* _LINUX_KVM_VMEM_GEN_H */
