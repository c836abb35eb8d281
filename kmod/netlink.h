/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_NETLINK_H
#define KVM_VMEM_NETLINK_H

int vmem_netlink_init(void);
void vmem_netlink_exit(void);

#endif /* KVM_VMEM_NETLINK_H */
