/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write and read them: binary units. */
#ifndef SIZE_H
#define SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Room for any size_format(). */
#define SIZE_TEXT_MAX 32

int size_parse(const char *text, uint64_t *size);
const char *size_format(uint64_t size, char text[SIZE_TEXT_MAX]);

#endif /* SIZE_H */
