/* SPDX-License-Identifier: MIT */
/* Errors of the library: a negative errno and a text. */
#ifndef KVMVMEM_FAIL_H
#define KVMVMEM_FAIL_H

#include <stddef.h>

#include "kvmvmem.h"

int kvmvmem_fail(struct kvmvmem_error *error, int number, const char *format,
		 ...) __attribute__((format(printf, 3, 4)));
int kvmvmem_errno_of(const char *name);
const char *kvmvmem_text_of(int number, char *text, size_t size);

#endif /* KVMVMEM_FAIL_H */
