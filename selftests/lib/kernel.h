/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Properties of the running kernel that tests depend on. */
#ifndef SELFTESTS_KERNEL_H
#define SELFTESTS_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

bool kernel_is_at_least(unsigned int major, unsigned int minor);
bool module_parameter(const char *module, const char *parameter);
bool kernel_has_module(const char *module);
bool kvm_nested_paging(void);
bool kvm_tdp_mmu(void);
int module_users(const char *module);
void kernel_write(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
uint64_t meminfo(const char *name);
uint64_t meminfo_quick(const char *name);
uint64_t slab_bytes(void);
uint64_t slab_cache_bytes(const char *name);

#endif /* SELFTESTS_KERNEL_H */
