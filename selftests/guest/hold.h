/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that is in use: a process that has it, stamped, until it is told to
 * let go. Without swap the kernel can move it, but not do without it.
 *
 * Each page also tells its number and a mark, so that a page of which only the
 * contents are known, as in a dump, can be recognized and checked.
 */
#ifndef HOLD_H
#define HOLD_H

#include <stdbool.h>
#include <stdint.h>

/**
 * hold_begin() - take memory and keep it
 * @bytes: how much, a multiple of 4 KiB
 * @seed: of its stamps
 *
 * Return: 0 once all of it is written; -EBUSY: some is held already; another
 * negative errno.
 */
int hold_begin(uint64_t bytes, uint64_t seed);

/**
 * hold_end() - verify it and let it go
 * @bad_pages: how many had lost what was written
 *
 * Return: 0; -EILSEQ if a page was bad; -ENOENT: none is held; -ENOMEM: who had
 * it was killed meanwhile; another negative errno.
 */
int hold_end(uint64_t *bad_pages);

/** hold_is_page() - is this a page that was held, whole, with that seed? */
bool hold_is_page(const uint64_t *page, uint64_t seed);

#endif /* HOLD_H */
