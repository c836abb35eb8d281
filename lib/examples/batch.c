// SPDX-License-Identifier: MIT
/* A batch: 64 memslots in one step. */
#include <errno.h>
#include <stdio.h>

#include "examples.h"

int example_batch(int device_fd, int vm_fd, char *hva,
		  struct kvmvmem_error *error)
{
	struct kvmvmem_batch *batch = kvmvmem_batch_new();
	int ret;

	if (!batch)
		return -ENOMEM;
	/* An entry that cannot be added fails the submit. */
	for (uint32_t i = 0; i < NR_SLOTS; i++)
		kvmvmem_batch_set(batch, FIRST_SLOT + i, 0, GPA + i * SLOT_SIZE,
				  SLOT_SIZE, hva + i * SLOT_SIZE);
	ret = kvmvmem_batch_submit(batch, device_fd, vm_fd, 0, error);
	if (ret && kvmvmem_batch_bad_index(batch) != KVM_VMEM_NO_INDEX)
		fprintf(stderr, "entry %u\n", kvmvmem_batch_bad_index(batch));
	kvmvmem_batch_free(batch);
	return ret;
}
