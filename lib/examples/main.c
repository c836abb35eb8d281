// SPDX-License-Identifier: MIT
/*
 * What a VMM has before it comes to the examples: a VM, and memory. Each example
 * has a VM of its own.
 *
 * usage: kvmvmem-examples [VMEMD]
 *   VMEMD  path of vmemd; without it, only the batch is run
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "examples.h"

/**
 * struct vm - a VM and memory for it
 * @vm_fd: of KVM
 * @memory_fd: of a memfd
 * @hva: where the memory is mapped
 */
struct vm {
	int vm_fd;
	int memory_fd;
	char *hva;
};

static int create_vm(struct vm *vm)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm_fd < 0)
		goto err;
	vm->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	close(kvm_fd);
	if (vm->vm_fd < 0)
		goto err;
	vm->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	if (vm->memory_fd < 0)
		goto err_vm;
	if (ftruncate(vm->memory_fd, MEMORY_SIZE))
		goto err_memory;
	vm->hva = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_NORESERVE, vm->memory_fd, 0);
	if (vm->hva == MAP_FAILED)
		goto err_memory;
	return 0;

err_memory:
	close(vm->memory_fd);
err_vm:
	close(vm->vm_fd);
err:
	perror("no VM");
	return -1;
}

static void close_vm(struct vm *vm)
{
	munmap(vm->hva, MEMORY_SIZE);
	close(vm->memory_fd);
	close(vm->vm_fd);
}

static int run_batch(int device_fd, struct kvmvmem_error *error)
{
	struct vm vm;
	int ret;

	ret = create_vm(&vm);
	if (ret)
		return ret;
	ret = example_batch(device_fd, vm.vm_fd, vm.hva, error);
	if (!ret)
		printf("batch: %d memslots in one step\n", NR_SLOTS);
	close_vm(&vm);
	return ret;
}

/* As the VMM's loop does it, until all that is plugged is mapped. */
static int dispatch(struct kvmvmem_consumer *consumer,
		    struct kvmvmem_error *error)
{
	struct pollfd ready = {.events = POLLIN};
	int ret = 0;

	ready.fd = kvmvmem_consumer_fd(consumer);
	while (!ret && kvmvmem_consumer_state(consumer) != KVMVMEM_SUBSCRIBED) {
		poll(&ready, 1, -1);
		ret = kvmvmem_consumer_dispatch(consumer, error);
	}
	return ret;
}

static int run_consumer(const char *control, const char *hva,
			struct kvmvmem_error *error)
{
	/* Nothing is plugged, so nothing is mapped: no device is needed. */
	struct example_dma dma = {
		.container_fd = -1,
		.hva = hva,
		.mappings = 65535,
	};
	struct kvmvmem_consumer *consumer;
	int ret;

	ret = example_consumer(&consumer, control, &dma, error);
	if (ret)
		return ret;
	ret = dispatch(consumer, error);
	if (!ret)
		printf("consumer: subscribed, %llu bytes mapped\n",
		       (unsigned long long)kvmvmem_consumer_mapped_size(
			       consumer));
	kvmvmem_consumer_free(consumer);
	return ret;
}

static int run_region(int device_fd, const char *program, const char *control,
		      struct kvmvmem_error *error)
{
	struct kvmvmem_vmemd *vmemd;
	int region_fd, ret;
	struct vm vm;

	ret = create_vm(&vm);
	if (ret)
		return ret;
	ret = kvmvmem_vmemd_new(&vmemd, control, error);
	if (ret)
		goto out_vm;
	region_fd = example_region(device_fd, vm.vm_fd, vm.hva, vm.memory_fd,
				   vmemd, program, error);
	if (region_fd < 0) {
		ret = region_fd;
		goto out_vmemd;
	}
	ret = kvmvmem_vmemd_resize(vmemd, NULL, MEMORY_SIZE / 2, error);
	if (!ret) {
		printf("region: vmemd serves it\n");
		ret = run_consumer(control, vm.hva, error);
	}
	close(region_fd);
out_vmemd:
	kvmvmem_vmemd_free(vmemd);
out_vm:
	close_vm(&vm);
	return ret;
}

/* The control socket is in a folder of its own. */
static int run_in_folder(int device_fd, const char *program,
			 struct kvmvmem_error *error)
{
	char folder[] = "/tmp/kvmvmem-XXXXXX";
	char control[sizeof(folder) + sizeof("/control")];
	int ret;

	if (!mkdtemp(folder)) {
		perror(folder);
		return -1;
	}
	snprintf(control, sizeof(control), "%s/control", folder);
	ret = run_region(device_fd, program, control, error);
	rmdir(folder);
	return ret;
}

int main(int argc, char **argv)
{
	struct kvmvmem_error error = {"the example failed"};
	int device_fd, ret;

	device_fd = kvmvmem_open(&error);
	if (device_fd < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	ret = run_batch(device_fd, &error);
	if (!ret && argc > 1)
		ret = run_in_folder(device_fd, argv[1], &error);
	if (ret)
		fprintf(stderr, "%s\n", error.text);
	close(device_fd);
	return ret ? 1 : 0;
}
