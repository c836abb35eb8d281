/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_LAYOUT_H
#define KVM_VMEM_LAYOUT_H

int vmem_layout_check(void);

#endif /* KVM_VMEM_LAYOUT_H */
