// SPDX-License-Identifier: GPL-2.0-or-later
/* The nested guest has no memory, so its first fetch ends it. */
#include "nested.h"

#include "kernel.h"
#include "nested_vendor.h"

static const struct nested_vendor *vendor(void)
{
	return kernel_has_module("kvm_intel") ? &nested_vmx : &nested_svm;
}

/**
 * nested_vcpu_create() - Create a vCPU that can enter a nested guest; one per
 * VM.
 *
 * Return: false if KVM has no nested guests; the vCPU is created nevertheless.
 */
bool nested_vcpu_create(struct vcpu *vcpu, struct vm *vm)
{
	vcpu_create(vcpu, vm);
	return vendor()->create(vcpu);
}

/** nested_guest_run() - Enter the nested guest and check that it ends. */
void nested_guest_run(struct vcpu *vcpu)
{
	vendor()->run(vcpu);
}
