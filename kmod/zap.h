/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_ZAP_H
#define KVM_VMEM_ZAP_H

#include <linux/kvm_host.h>

/*
 * struct vmem_zap - state while mappings of deleted memslots are dropped
 * @kvm: the VM; slots_lock is held, and mmu_lock for write
 * @flush: TLBs may still contain mappings that were dropped
 */
struct vmem_zap {
	struct kvm *kvm;
	bool flush;
};

bool vmem_zap_is_wanted(struct kvm *kvm, bool asked);
bool vmem_zap_is_safe(struct kvm *kvm);
void vmem_zap_memslot(struct vmem_zap *zap, struct kvm_memory_slot *slot);
void vmem_zap_flush(struct vmem_zap *zap);

#endif /* KVM_VMEM_ZAP_H */
