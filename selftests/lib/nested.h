/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A nested guest. The first one of a VM makes KVM allocate memslot metadata
 * that it has deferred until then.
 */
#ifndef SELFTESTS_NESTED_H
#define SELFTESTS_NESTED_H

#include <stdbool.h>

#include "vcpu.h"

bool nested_vcpu_create(struct vcpu *vcpu, struct vm *vm);
void nested_guest_run(struct vcpu *vcpu);

#endif /* SELFTESTS_NESTED_H */
