/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CPU vendors' parts of nested.c. */
#ifndef SELFTESTS_NESTED_VENDOR_H
#define SELFTESTS_NESTED_VENDOR_H

#include <stdbool.h>

#include "vcpu.h"

/**
 * struct nested_vendor - nested guests by one vendor's extension
 * @create: prepares the vCPU and its VM's boot memory; false if KVM does not
 *	offer the extension with nested paging to guests
 * @run: enters the nested guest; its first fetch is expected to end it
 */
struct nested_vendor {
	bool (*create)(struct vcpu *vcpu);
	void (*run)(struct vcpu *vcpu);
};

extern const struct nested_vendor nested_svm;
extern const struct nested_vendor nested_vmx;

#endif /* SELFTESTS_NESTED_VENDOR_H */
