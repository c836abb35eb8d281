/* SPDX-License-Identifier: MIT */
/* Structures of callers built with another version of the header. */
#ifndef KVMVMEM_STRUCT_SIZE_H
#define KVMVMEM_STRUCT_SIZE_H

#include <stddef.h>
#include <stdint.h>

int kvmvmem_struct_take(void *known, size_t known_size, size_t least,
			const void *theirs, uint32_t their_size);
void kvmvmem_struct_give(void *theirs, uint32_t their_size, const void *known,
			 size_t known_size);

#endif /* KVMVMEM_STRUCT_SIZE_H */
