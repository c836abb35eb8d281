/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's device "edu", which does DMA, used by this process through VFIO type1,
 * like a device that a VMM passes through. Any failure ends the test. A machine
 * has one such device or none.
 */
#ifndef VFIO_EDU_H
#define VFIO_EDU_H

#include <stdint.h>

/* Bytes of a DMA transfer: the size of the device's buffer. */
#define EDU_BUFFER_SIZE 4096

/**
 * struct vfio_edu - the device
 * @container: the memory that it can access
 * @group: descriptor of its group
 * @device: descriptor of the device
 * @registers: its BAR
 */
struct vfio_edu {
	int container;
	int group;
	int device;
	volatile uint8_t *registers;
};

void vfio_edu_need(void);
void vfio_edu_open(struct vfio_edu *edu);

/* Return: 0, or an errno of the ioctl. */
int vfio_edu_map(struct vfio_edu *edu, uint64_t iova, void *hva, uint64_t size);
int vfio_edu_unmap(struct vfio_edu *edu, uint64_t iova, uint64_t size);

void vfio_edu_read(struct vfio_edu *edu, uint64_t iova);
void vfio_edu_write(struct vfio_edu *edu, uint64_t iova);

uint64_t vfio_pinned_pages(void);

#endif /* VFIO_EDU_H */
