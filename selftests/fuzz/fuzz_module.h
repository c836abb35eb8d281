/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A model of the module with one region; see fuzz_module.c. */
#ifndef FUZZ_MODULE_H
#define FUZZ_MODULE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/vmem_nl.h"

/* The region. */
#define FUZZ_MODULE_GPA	      (8ULL << 30)
#define FUZZ_MODULE_BLOCK     (64ULL << 10)
#define FUZZ_MODULE_NR_BLOCKS 64ULL
#define FUZZ_MODULE_SIZE      (FUZZ_MODULE_NR_BLOCKS * FUZZ_MODULE_BLOCK)
#define FUZZ_MODULE_SLOT      (8 * FUZZ_MODULE_BLOCK)

/* Behaviour of the module from now on: bits of a byte of the input. */
enum fuzz_module_how {
	/* The error of requests; 0: success. */
	FUZZ_MODULE_ERROR = 7,
	/* The error applies to the next request only. */
	FUZZ_MODULE_ONCE = 8,
	/* Changes are carried out on the target's command. */
	FUZZ_MODULE_LATER = 16,
	/* The next answer is lost. */
	FUZZ_MODULE_LOSE = 32,
	/* Reads fail too. */
	FUZZ_MODULE_READS = 64,
};

void fuzz_module_start(void);
void fuzz_module_stop(void);
int fuzz_module_region(void);
void fuzz_module_set(uint8_t how);
void fuzz_module_delay(unsigned int nr);
bool fuzz_module_finish(void);
void fuzz_module_others(uint8_t first, uint8_t nr, bool plug);
void fuzz_module_show(const struct vmem_nl_range *run);
void fuzz_module_end_vm(void);
bool fuzz_module_alive(void);
const struct vmem_nl_region *fuzz_module_state(void);
bool fuzz_module_plugged(uint64_t block);

#endif /* FUZZ_MODULE_H */
