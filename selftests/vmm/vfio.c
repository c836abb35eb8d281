// SPDX-License-Identifier: GPL-2.0-or-later
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommufd.h"

#define IOMMUFD	    "/dev/iommu"
#define PCI_DEVICES "/sys/bus/pci/devices/"

bool vfio_has_iommufd(void)
{
	return access(IOMMUFD, R_OK | W_OK) == 0;
}

static int open_group(const char *address)
{
	char path[64], link[128];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return -ENODEV;
	link[length] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%d",
		 atoi(strrchr(link, '/') + 1));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOENT ? -ENODEV : -errno;
}

static int open_type1(struct vfio *vfio, const char *address)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	vfio->iommu = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (vfio->iommu < 0)
		return -errno;
	vfio->group = open_group(address);
	if (vfio->group < 0)
		return vfio->group;
	if (ioctl(vfio->group, VFIO_GROUP_GET_STATUS, &status))
		return -errno;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return -EPERM;
	if (ioctl(vfio->group, VFIO_GROUP_SET_CONTAINER, &vfio->iommu) ||
	    ioctl(vfio->iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return -errno;
	vfio->device = ioctl(vfio->group, VFIO_GROUP_GET_DEVICE_FD, address);
	return vfio->device < 0 ? -errno : 0;
}

/* The device's own file, which exists where VFIO is built with iommufd. */
static int open_device_file(const char *address)
{
	char path[64];
	glob_t found;
	int fd = -1;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/vfio-dev/vfio*", address);
	if (glob(path, 0, NULL, &found))
		return -ENODEV;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_iommufd(struct vfio *vfio, const char *address)
{
	struct iommufd_alloc alloc = {.size = sizeof(alloc)};
	struct iommufd_bind bind = {.argsz = sizeof(bind)};
	struct iommufd_attach attach = {.argsz = sizeof(attach)};

	vfio->iommu = open(IOMMUFD, O_RDWR | O_CLOEXEC);
	if (vfio->iommu < 0)
		return -errno;
	vfio->device = open_device_file(address);
	if (vfio->device < 0)
		return vfio->device;
	bind.iommufd = vfio->iommu;
	if (ioctl(vfio->device, IOMMUFD_BIND, &bind) ||
	    ioctl(vfio->iommu, IOMMUFD_ALLOC, &alloc))
		return -errno;
	vfio->address_space = alloc.id;
	attach.id = alloc.id;
	return ioctl(vfio->device, IOMMUFD_ATTACH, &attach) ? -errno : 0;
}

int vfio_open(struct vfio *vfio, const char *address, bool iommufd)
{
	*vfio = (struct vfio){.iommu = -1, .group = -1, .device = -1};
	return iommufd ? open_iommufd(vfio, address)
		       : open_type1(vfio, address);
}

void vfio_close(struct vfio *vfio)
{
	/* The kernel unmaps everything with the last descriptor. */
	if (vfio->device >= 0)
		close(vfio->device);
	if (vfio->group >= 0)
		close(vfio->group);
	if (vfio->iommu >= 0)
		close(vfio->iommu);
	*vfio = (struct vfio){.iommu = -1, .group = -1, .device = -1};
}

static int get_region(const struct vfio *vfio, uint32_t index,
		      struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){.argsz = sizeof(*info),
					  .index = index};
	return ioctl(vfio->device, VFIO_DEVICE_GET_REGION_INFO, info) ? -errno
								      : 0;
}

int vfio_enable_dma(const struct vfio *vfio, bool enable)
{
	uint16_t command = PCI_COMMAND_MEMORY;
	struct vfio_region_info config;
	int ret;

	if (enable)
		command |= PCI_COMMAND_MASTER;
	ret = get_region(vfio, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	if (ret)
		return ret;
	if (pwrite(vfio->device, &command, sizeof(command),
		   (off_t)(config.offset + PCI_COMMAND)) != sizeof(command))
		return -EIO;
	return 0;
}

int vfio_map_bar(const struct vfio *vfio, void **bar, size_t *size)
{
	struct vfio_region_info info;
	int ret;

	ret = get_region(vfio, VFIO_PCI_BAR0_REGION_INDEX, &info);
	if (ret)
		return ret;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return -EOPNOTSUPP;
	*bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    vfio->device, (off_t)info.offset);
	if (*bar == MAP_FAILED)
		return -errno;
	*size = info.size;
	return 0;
}

int vfio_map(const struct vfio *vfio, uint64_t iova, const void *hva,
	     uint64_t size)
{
	struct iommufd_map own = {
		.size = sizeof(own),
		.flags = IOMMUFD_MAP_AT_IOVA | IOMMUFD_MAP_WRITE |
			 IOMMUFD_MAP_READ,
		.id = vfio->address_space,
		.hva = (uintptr_t)hva,
		.length = size,
		.iova = iova,
	};
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)hva,
		.iova = iova,
		.size = size,
	};
	int ret;

	ret = vfio->address_space
		      ? ioctl(vfio->iommu, IOMMUFD_MAP, &own)
		      : ioctl(vfio->iommu, VFIO_IOMMU_MAP_DMA, &map);
	return ret ? -errno : 0;
}

int vfio_unmap(const struct vfio *vfio, uint64_t iova, uint64_t size)
{
	struct iommufd_unmap own = {
		.size = sizeof(own),
		.id = vfio->address_space,
		.iova = iova,
		.length = size,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};
	uint64_t unmapped;

	if (vfio->address_space
		    ? ioctl(vfio->iommu, IOMMUFD_UNMAP, &own)
		    : ioctl(vfio->iommu, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	unmapped = vfio->address_space ? own.length : unmap.size;
	return unmapped == size ? 0 : -ENOENT;
}

/* The kernel's list of capabilities: each names the offset of the next. */
static uint64_t find_available(const struct vfio_iommu_type1_info *info)
{
	const char *at = (const char *)info;
	uint32_t offset = info->cap_offset;

	while (offset &&
	       offset + sizeof(struct vfio_info_cap_header) <= info->argsz) {
		const struct vfio_info_cap_header *header =
			(const void *)(at + offset);

		if (header->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
			return ((const struct vfio_iommu_type1_info_dma_avail *)
					header)
				->avail;
		offset = header->next;
	}
	return 0;
}

uint64_t vfio_mappings_left(const struct vfio *vfio)
{
	union {
		struct vfio_iommu_type1_info info;
		char room[1024];
	} answer = {.info.argsz = sizeof(answer)};

	if (vfio->address_space ||
	    ioctl(vfio->iommu, VFIO_IOMMU_GET_INFO, &answer) ||
	    answer.info.argsz > sizeof(answer) ||
	    !(answer.info.flags & VFIO_IOMMU_INFO_CAPS))
		return 0;
	return find_available(&answer.info);
}
