/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first nested guest of a VM, which makes KVM give every memslot what it
 * had done without until then.
 */
#ifndef SELFTESTS_NESTED_H
#define SELFTESTS_NESTED_H

#include <stdbool.h>

#include "vcpu.h"

bool nested_vcpu_create(struct vcpu *vcpu, struct vm *vm);
void nested_guest_run(struct vcpu *vcpu);

#endif /* SELFTESTS_NESTED_H */
