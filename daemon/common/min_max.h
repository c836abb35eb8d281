/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The smaller and the larger one of two numbers. */
#ifndef VMEM_MIN_MAX_H
#define VMEM_MIN_MAX_H

#include <stdint.h>

static inline uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max(uint64_t a, uint64_t b)
{
	return a < b ? b : a;
}

#endif /* VMEM_MIN_MAX_H */
