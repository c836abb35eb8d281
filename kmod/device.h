/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_DEVICE_H
#define KVM_VMEM_DEVICE_H

int vmem_device_init(void);
void vmem_device_exit(void);

#endif /* KVM_VMEM_DEVICE_H */
