/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI device that this process uses through VFIO: the calls that a VMM needs to
 * pass a device to its guest. The device is bound to vfio-pci.
 *
 * The IOMMU is a type 1 container, or an address space of iommufd. Both map each
 * range by one call, and unmap it only as a whole.
 */
#ifndef VMM_VFIO_H
#define VMM_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct vfio - the device
 * @iommu: descriptor of the container, or of /dev/iommu
 * @group: descriptor of the device's group; -1 with iommufd
 * @device: descriptor of the device
 * @address_space: id of the address space of iommufd; 0: a container
 */
struct vfio {
	int iommu;
	int group;
	int device;
	uint32_t address_space;
};

/** vfio_has_iommufd() - does this machine have iommufd? */
bool vfio_has_iommufd(void);

/**
 * vfio_open() - open a device, which cannot access any memory yet
 * @vfio: to be closed by vfio_close(), also after an error
 * @address: address on the PCI bus, like 0000:00:01.0
 * @iommufd: use iommufd; false: use a type 1 container
 *
 * Return: 0, or a negative errno. -ENODEV: the device has no IOMMU, or is not
 * bound to vfio-pci. -EPERM: other devices of its group have another driver.
 */
int vfio_open(struct vfio *vfio, const char *address, bool iommufd);
void vfio_close(struct vfio *vfio);

/**
 * vfio_enable_dma() - allow or forbid the device to access memory by itself
 *
 * Return: 0, or a negative errno.
 */
int vfio_enable_dma(const struct vfio *vfio, bool enable);

/**
 * vfio_map_bar() - map the first BAR of the device
 * @vfio: the device
 * @bar: set to the address of the mapping, to be unmapped by the caller
 * @size: set to its size
 *
 * Return: 0, or a negative errno.
 */
int vfio_map_bar(const struct vfio *vfio, void **bar, size_t *size);

/** vfio_map() - let the device access memory. Return: 0, or a negative errno. */
int vfio_map(const struct vfio *vfio, uint64_t iova, const void *hva,
	     uint64_t size);

/**
 * vfio_unmap() - end the access
 *
 * Return: 0, or a negative errno. -ENOENT: not exactly this range was mapped.
 */
int vfio_unmap(const struct vfio *vfio, uint64_t iova, uint64_t size);

/**
 * vfio_mappings_left() - how many more ranges can be mapped
 *
 * Return: the number; 0: there is no limit, or it is not known.
 */
uint64_t vfio_mappings_left(const struct vfio *vfio);

#endif /* VMM_VFIO_H */
