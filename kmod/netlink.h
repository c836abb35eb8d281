/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_NETLINK_H
#define KVM_VMEM_NETLINK_H

#include "uapi/linux/kvm_vmem_netlink.h"

struct vmem_region;

int vmem_netlink_init(void);
void vmem_netlink_exit(void);
void vmem_netlink_notify(struct vmem_region *region, int cmd);

#endif /* KVM_VMEM_NETLINK_H */
