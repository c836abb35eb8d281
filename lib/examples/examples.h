/* SPDX-License-Identifier: MIT */
/*
 * Examples of libkvmvmem, each as a function that a VMM would have. main.c makes
 * the VM and the memory, and calls them. Each returns 0 or a descriptor, or a
 * negative errno with the reason in @error.
 *
 *	cc -o examples *.c $(pkg-config --cflags --libs kvmvmem)
 */
#ifndef KVMVMEM_EXAMPLES_H
#define KVMVMEM_EXAMPLES_H

#include <kvmvmem.h>

/* Where the memory is in the guest, and the first of its memslots. */
#define GPA	   (4ULL << 30)
#define FIRST_SLOT 64

/* 64 memslots of 2 MiB. */
#define NR_SLOTS    64
#define SLOT_SIZE   (2ULL << 20)
#define MEMORY_SIZE (NR_SLOTS * SLOT_SIZE)

/* batch.c: create the memslots in one step. */
int example_batch(int device_fd, int vm_fd, char *hva,
		  struct kvmvmem_error *error);

/*
 * region.c: make a region of the memory, and start vmemd for it. Return: the
 * region's descriptor.
 */
int example_region(int device_fd, int vm_fd, const char *hva, int memory_fd,
		   struct kvmvmem_vmemd *vmemd, const char *program,
		   struct kvmvmem_error *error);

/**
 * struct example_dma - what a consumer maps for
 * @container_fd: of VFIO, type 1
 * @hva: where the region's memory is mapped
 * @mappings: how many mappings the container has left for the region: what
 *	VFIO_IOMMU_GET_INFO says in VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, less those
 *	that the VMM still needs for other memory
 */
struct example_dma {
	int container_fd;
	const char *hva;
	uint64_t mappings;
};

/* consumer.c: map what is plugged. @dma must outlive the consumer. */
int example_consumer(struct kvmvmem_consumer **consumer, const char *control,
		     struct example_dma *dma, struct kvmvmem_error *error);

#endif
