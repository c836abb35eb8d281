// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A library to preload into a VMM: it makes memslot calls fail as the host
 * specifies in a file.
 *
 * The file in the environment variable VMEM_REFUSE contains two to four
 * numbers. The first is the number of calls that KVM still carries out before
 * it refuses to create or change single memslots. The second is 1 if
 * /dev/kvm-vmem refuses batches. The third is a guest physical address;
 * memslots below it are neither counted nor refused. The fourth is the number
 * of deletes of memslots that KVM refuses before it carries them out. The
 * library counts down the first and the fourth number in the file. Without the
 * file nothing is refused.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/kvm_vmem.h>

/* New in Linux 6.8. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_SET_USER_MEMORY_REGION2 0x40a0ae49UL
#endif

int ioctl(int fd, unsigned long request, ...);

/*
 * Is this call refused? Counts memslots that are not. The argument of
 * KVM_SET_USER_MEMORY_REGION2 begins like that of KVM_SET_USER_MEMORY_REGION.
 */
static bool refused(unsigned long request, const void *argument)
{
	const struct kvm_userspace_memory_region *memslot = argument;
	const char *path = getenv("VMEM_REFUSE");
	unsigned int creates, batches, deletes = 0;
	unsigned long long from = 0;
	FILE *file;
	bool refuse = false, counted = false;
	int got;

	file = path ? fopen(path, "r+e") : NULL;
	if (!file)
		return false;
	got = fscanf(file, "%u %u %llu %u", &creates, &batches, &from,
		     &deletes);
	if (got >= 2) {
		if (request == KVM_VMEM_MEMSLOT_BATCH) {
			refuse = batches;
		} else if (memslot->guest_phys_addr < from) {
			refuse = false;
		} else if (!memslot->memory_size) {
			refuse = counted = deletes;
			deletes -= counted;
		} else {
			counted = creates;
			refuse = !counted;
			creates -= counted;
		}
	}
	if (counted) {
		rewind(file);
		fprintf(file, "%10u %u %20llu %10u\n", creates, batches, from,
			deletes);
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
