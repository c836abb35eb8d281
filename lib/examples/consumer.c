// SPDX-License-Identifier: MIT
/* A consumer: what is plugged is mapped for the devices of a VFIO container. */
#include <errno.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "examples.h"

static int map(void *arg, const struct kvmvmem_range *range)
{
	const struct example_dma *dma = arg;
	struct vfio_iommu_type1_dma_map request = {
		.argsz = sizeof(request),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)dma->hva + range->offset,
		.iova = range->gpa,
		.size = range->size,
	};

	return ioctl(dma->container_fd, VFIO_IOMMU_MAP_DMA, &request) ? -errno
								      : 0;
}

static int unmap(void *arg, const struct kvmvmem_range *range)
{
	const struct example_dma *dma = arg;
	struct vfio_iommu_type1_dma_unmap request = {
		.argsz = sizeof(request),
		.iova = range->gpa,
		.size = range->size,
	};

	return ioctl(dma->container_fd, VFIO_IOMMU_UNMAP_DMA, &request) ? -errno
									: 0;
}

int example_consumer(struct kvmvmem_consumer **consumer, const char *control,
		     struct example_dma *dma, struct kvmvmem_error *error)
{
	struct kvmvmem_consumer_config config = {
		.size = sizeof(config),
		.unit = KVMVMEM_EACH_BLOCK,
		.control_path = control,
		.name = "vfio",
		.map = map,
		.unmap = unmap,
		.arg = dma,
		.mappings = dma->mappings,
	};

	/* Then poll it with the VMM's other descriptors, and dispatch. */
	return kvmvmem_consumer_new(consumer, &config, error);
}
