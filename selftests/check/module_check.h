/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks that the module does on this host what KVM's own calls do. The checks
 * use VMs that they create and destroy; other VMs are not affected.
 */
#ifndef MODULE_CHECK_H
#define MODULE_CHECK_H

#include <stddef.h>

#include "tap.h"

extern const struct tap_case module_checks[];
extern const size_t nr_module_checks;

/* Buffer size for module_check_possible(). */
#define MODULE_CHECK_REASON_MAX 256

int module_check_possible(char reason[MODULE_CHECK_REASON_MAX]);

#endif /* MODULE_CHECK_H */
