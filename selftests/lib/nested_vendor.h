/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between the CPU vendors; for nested.c. */
#ifndef SELFTESTS_NESTED_VENDOR_H
#define SELFTESTS_NESTED_VENDOR_H

#include <stdbool.h>

#include "vcpu.h"

/**
 * struct nested_vendor - nested guests by one vendor's extension
 * @create: prepares the vCPU and its VM's boot memory; false if KVM offers guests
 *	neither the extension nor nested paging with it
 * @run: enters the nested guest, and expects its first fetch to end it
 */
struct nested_vendor {
	bool (*create)(struct vcpu *vcpu);
	void (*run)(struct vcpu *vcpu);
};

extern const struct nested_vendor nested_svm;
extern const struct nested_vendor nested_vmx;

#endif /* SELFTESTS_NESTED_VENDOR_H */
