/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calls of iommufd that vfio.c uses. Debian 12's headers precede iommufd
 * (Linux 6.2), and VFIO's calls for it (6.6). The numbers and the layout are part
 * of the kernel's interface, see Documentation/userspace-api/iommufd.rst.
 */
#ifndef IOMMUFD_H
#define IOMMUFD_H

#include <stdint.h>
#include <sys/ioctl.h>

/* All of them have the type of VFIO's calls. */
#define IOMMUFD_CALL(number) _IO(';', number)
#define IOMMUFD_BIND	     IOMMUFD_CALL(118)
#define IOMMUFD_ATTACH	     IOMMUFD_CALL(119)
#define IOMMUFD_ALLOC	     IOMMUFD_CALL(129)
#define IOMMUFD_MAP	     IOMMUFD_CALL(133)
#define IOMMUFD_UNMAP	     IOMMUFD_CALL(134)

#define IOMMUFD_MAP_AT_IOVA 1U
#define IOMMUFD_MAP_WRITE   2U
#define IOMMUFD_MAP_READ    4U

/* Called on the device: VFIO_DEVICE_BIND_IOMMUFD. */
struct iommufd_bind {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t device_id;
};

/* Called on the device: VFIO_DEVICE_ATTACH_IOMMUFD_PT. */
struct iommufd_attach {
	uint32_t argsz;
	uint32_t flags;
	uint32_t id;
};

/* IOMMU_IOAS_ALLOC: a new address space. */
struct iommufd_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t id;
};

/* IOMMU_IOAS_MAP */
struct iommufd_map {
	uint32_t size;
	uint32_t flags;
	uint32_t id;
	uint32_t reserved;
	uint64_t hva;
	uint64_t length;
	uint64_t iova;
};

/* IOMMU_IOAS_UNMAP: sets @length to the unmapped size. */
struct iommufd_unmap {
	uint32_t size;
	uint32_t id;
	uint64_t iova;
	uint64_t length;
};

#endif /* IOMMUFD_H */
