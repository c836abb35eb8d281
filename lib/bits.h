/* SPDX-License-Identifier: MIT */
/* A set of blocks or memslots, identified by numbers below @nr. */
#ifndef KVMVMEM_BITS_H
#define KVMVMEM_BITS_H

#include <stdbool.h>
#include <stdint.h>

struct kvmvmem_bits {
	uint64_t *words;
	uint64_t nr;
};

int kvmvmem_bits_init(struct kvmvmem_bits *bits, uint64_t nr);
void kvmvmem_bits_free(struct kvmvmem_bits *bits);
void kvmvmem_bits_fill(struct kvmvmem_bits *bits, uint64_t first, uint64_t end,
		       bool value);
uint64_t kvmvmem_bits_next(const struct kvmvmem_bits *bits, uint64_t from,
			   uint64_t end, bool value);

#endif /* KVMVMEM_BITS_H */
