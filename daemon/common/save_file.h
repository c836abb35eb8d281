/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of saved states; see save_file.c. */
#ifndef SAVE_FILE_H
#define SAVE_FILE_H

#include "common/error.h"
#include "common/save.h"

int save_file_write(const char *path, const uint8_t *data, size_t size,
		    struct error *err);
int save_file_read(const char *path, struct save_state *state,
		   struct error *err);

#endif /* SAVE_FILE_H */
