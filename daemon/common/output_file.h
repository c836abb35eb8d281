/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing files that a user names; see output_file.c. */
#ifndef OUTPUT_FILE_H
#define OUTPUT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

int output_file_write(const char *path, mode_t mode, bool regular,
		      const void *data, size_t size);

#endif /* OUTPUT_FILE_H */
