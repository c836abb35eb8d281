/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device of fuzz targets with a front end; see fuzz_device.c. */
#ifndef FUZZ_DEVICE_H
#define FUZZ_DEVICE_H

#include "front_end.h"

/* Number of backing errors that a byte of the input selects from. */
#define FUZZ_NR_ERRORS 8

void fuzz_device_restart(struct front_end *fe, bool used_before);
void fuzz_backing_fails(struct bitmap_backing *bitmap, uint8_t how,
			const int errors[FUZZ_NR_ERRORS]);

#endif /* FUZZ_DEVICE_H */
