/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole state of a vCPU in KVM. It is saved when the machine is created and
 * restored when it is reset, since KVM cannot create a vCPU a second time.
 */
#ifndef VCPU_STATE_H
#define VCPU_STATE_H

#include <linux/kvm.h>

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	/* Without guest mode, the header is all. */
	struct kvm_nested_state nested;
	struct kvm_msrs *msrs;
};

/**
 * vcpu_state_save() - save the current state
 * @state: zeroed; vcpu_state_free() frees it, whatever this returns
 * @kvm_fd: /dev/kvm
 * @vcpu_fd: a vCPU that does not run
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_state_save(struct vcpu_state *state, int kvm_fd, int vcpu_fd);

/**
 * vcpu_state_restore() - restore a state
 * @state: saved by vcpu_state_save()
 * @vcpu_fd: the same vCPU; it does not run, and no access is left for the next
 *	KVM_RUN to complete
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_state_restore(const struct vcpu_state *state, int vcpu_fd);

void vcpu_state_free(struct vcpu_state *state);

#endif /* VCPU_STATE_H */
