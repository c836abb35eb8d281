/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unload and load kvm_vmem.ko. */
#ifndef SELFTESTS_MODULE_H
#define SELFTESTS_MODULE_H

void module_need_reload(void);
int module_unload(void);
void module_unload_soon(void);
void module_load(void);

#endif /* SELFTESTS_MODULE_H */
