/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that KVM keeps of a vCPU, as it was when the machine was made, to be put
 * back when the machine is reset: KVM cannot make a vCPU anew.
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
	/* Without guest mode it is its header. */
	struct kvm_nested_state nested;
	struct kvm_msrs *msrs;
};

/**
 * vcpu_state_save() - note the present state
 * @state: zeroed; to be freed by vcpu_state_free(), whatever this returns
 * @kvm_fd: /dev/kvm
 * @vcpu_fd: a vCPU that does not run
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_state_save(struct vcpu_state *state, int kvm_fd, int vcpu_fd);

/**
 * vcpu_state_restore() - put a state back
 * @state: what vcpu_state_save() has noted
 * @vcpu_fd: the same vCPU; it does not run, and has nothing pending that its
 *	next KVM_RUN would complete
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_state_restore(const struct vcpu_state *state, int vcpu_fd);

void vcpu_state_free(struct vcpu_state *state);

#endif /* VCPU_STATE_H */
