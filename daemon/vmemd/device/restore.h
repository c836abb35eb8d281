/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Restoring a region from a saved state, see restore.c. */
#ifndef RESTORE_H
#define RESTORE_H

#include <stddef.h>

#include "backing/kernel.h"
#include "common/error.h"
#include "common/save.h"
#include "device/virtio_mem.h"

int restore_check(const struct save_state *saved,
		  const struct kernel_backing *region,
		  const struct virtio_mem *dev, struct error *err);
int restore_region(struct kernel_backing *region,
		   const struct save_state *saved, struct error *err);

int restore_cover(const struct blocks *wanted, uint64_t blocks_per_slot,
		  struct blocks *cover);

#endif /* RESTORE_H */
