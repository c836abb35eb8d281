// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A library to be preloaded into a VMM: has calls fail that change memslots, as
 * the host says in a file.
 *
 * The file of the environment variable VMEM_REFUSE has two numbers, or three. The
 * first is of calls that KVM is still to carry out before it refuses to create or
 * change any more memslots one by one, the second is 1 if /dev/kvm-vmem is to refuse
 * batches. Memslots below the third, a guest physical address, are neither counted
 * nor refused. Without the file nothing is refused.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/kvm_vmem.h>

/* Linux has it from 6.8 on. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_SET_USER_MEMORY_REGION2 0x40a0ae49UL
#endif

int ioctl(int fd, unsigned long request, ...);

/*
 * Is this call to be refused? Counts the memslots that are not. The argument of
 * KVM_SET_USER_MEMORY_REGION2 begins as that of KVM_SET_USER_MEMORY_REGION.
 */
static bool refused(unsigned long request, const void *argument)
{
	const struct kvm_userspace_memory_region *memslot = argument;
	const char *path = getenv("VMEM_REFUSE");
	unsigned int creates, batches;
	unsigned long long from = 0;
	FILE *file;
	bool refuse = false;
	int got;

	file = path ? fopen(path, "r+e") : NULL;
	if (!file)
		return false;
	got = fscanf(file, "%u %u %llu", &creates, &batches, &from);
	if (got >= 2) {
		if (request == KVM_VMEM_MEMSLOT_BATCH) {
			refuse = batches;
		} else if (memslot->memory_size &&
			   memslot->guest_phys_addr >= from) {
			refuse = !creates;
			if (!refuse) {
				rewind(file);
				fprintf(file, "%10u %u %20llu\n", creates - 1,
					batches, from);
			}
		}
	}
	fclose(file);
	return refuse;
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*next)(int fd, unsigned long request, ...);
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "ioctl");
	if ((request == KVM_SET_USER_MEMORY_REGION ||
	     request == KVM_SET_USER_MEMORY_REGION2 ||
	     request == KVM_VMEM_MEMSLOT_BATCH) &&
	    refused(request, argument)) {
		errno = ENOMEM;
		return -1;
	}
	return next(fd, request, argument);
}
