/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's device "edu", which does DMA, used by this process through VFIO, like a
 * device that a VMM passes through. Any failure ends the test. A machine
 * has one such device or none.
 */
#ifndef VFIO_EDU_H
#define VFIO_EDU_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/vfio.h"

/* Bytes of a DMA transfer: the size of the device's buffer. */
#define EDU_BUFFER_SIZE 4096

/**
 * struct vfio_edu - the device
 * @vfio: the device as any other
 * @registers: its BAR
 */
struct vfio_edu {
	struct vfio vfio;
	volatile uint8_t *registers;
};

void vfio_edu_need(void);
void vfio_edu_open(struct vfio_edu *edu, bool iommufd);

void vfio_edu_read(struct vfio_edu *edu, uint64_t iova);
void vfio_edu_write(struct vfio_edu *edu, uint64_t iova);

uint64_t vfio_pinned_pages(void);

#endif /* VFIO_EDU_H */
