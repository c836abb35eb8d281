/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks that the module does on this host what KVM's own calls do, in VMs that
 * they make and throw away. No other VM is touched, and none needs to be there.
 */
#ifndef MODULE_CHECK_H
#define MODULE_CHECK_H

#include <stddef.h>

#include "tap.h"

extern const struct tap_case module_checks[];
extern const size_t nr_module_checks;

/* Room for any text of module_check_possible(). */
#define MODULE_CHECK_REASON_MAX 256

int module_check_possible(char reason[MODULE_CHECK_REASON_MAX]);

#endif /* MODULE_CHECK_H */
