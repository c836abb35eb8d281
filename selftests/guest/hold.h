/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory in use: a process allocates and stamps it, and keeps it until it is
 * released. Without swap the kernel can move this memory, but not reclaim it.
 *
 * Each page also contains its number and a mark, so that a page can be
 * recognized and checked by its contents alone, as in a dump.
 */
#ifndef HOLD_H
#define HOLD_H

#include <stdbool.h>
#include <stdint.h>

/**
 * hold_begin() - allocate memory and keep it
 * @bytes: size, a multiple of 4 KiB
 * @seed: seed of the stamps
 *
 * Return: 0 once all of it is written; -EBUSY: memory is held already; another
 * negative errno.
 */
int hold_begin(uint64_t bytes, uint64_t seed);

/**
 * hold_verify() - verify the memory and keep it
 * @bad_pages: set to the number of pages with wrong contents
 *
 * Return: as hold_end().
 */
int hold_verify(uint64_t *bad_pages);

/**
 * hold_end() - verify the memory and free it
 * @bad_pages: set to the number of pages with wrong contents
 *
 * Return: 0; -EILSEQ if a page was bad; -ENOENT: no memory is held; -ENOMEM:
 * the holder was killed; another negative errno.
 */
int hold_end(uint64_t *bad_pages);

/** hold_is_page() - is this a held page of that seed, with correct contents? */
bool hold_is_page(const uint64_t *page, uint64_t seed);

#endif /* HOLD_H */
