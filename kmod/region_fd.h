/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_FD_H
#define KVM_VMEM_REGION_FD_H

struct file;
struct vmem_region;

struct file *vmem_region_file(struct vmem_region *region);
struct vmem_region *vmem_region_get_by_fd(int fd);

#endif /* KVM_VMEM_REGION_FD_H */
