// SPDX-License-Identifier: MIT
/* The device node of the module: version, limits, regions. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fail.h"

#define DEVICE_PATH "/dev/kvm-vmem"

const char *kvmvmem_version(void)
{
	return KVMVMEM_VERSION;
}

/* Set the error of a system call, with the text of its errno. */
static int fail_call(struct kvmvmem_error *error, const char *call, int number)
{
	char text[128];

	return kvmvmem_fail(error, -number, "%s: %s", call,
			    kvmvmem_text_of(number, text, sizeof(text)));
}

static int check_version(int device_fd, struct kvmvmem_error *error)
{
	struct kvm_vmem_query query = {.size = sizeof(query)};
	int ret;

	ret = kvmvmem_query(device_fd, &query, error);
	if (ret)
		return ret;
	if (query.api_version != KVM_VMEM_API_VERSION)
		return kvmvmem_fail(error, -EPROTONOSUPPORT,
				    "%s has interface %" PRIu32
				    ", libkvmvmem %s is for %d",
				    DEVICE_PATH, query.api_version,
				    KVMVMEM_VERSION, KVM_VMEM_API_VERSION);
	return 0;
}

int kvmvmem_open(struct kvmvmem_error *error)
{
	char text[128];
	int fd, ret;

	fd = open(DEVICE_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		ret = errno;
		return kvmvmem_fail(error, -ret, "%s: %s%s", DEVICE_PATH,
				    kvmvmem_text_of(ret, text, sizeof(text)),
				    ret == ENOENT ? ": is kvm_vmem.ko loaded?"
						  : "");
	}
	ret = check_version(fd, error);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

int kvmvmem_query(int device_fd, struct kvm_vmem_query *query,
		  struct kvmvmem_error *error)
{
	if (ioctl(device_fd, KVM_VMEM_QUERY, query) < 0)
		return fail_call(error, "KVM_VMEM_QUERY", errno);
	return 0;
}

/* Most likely cause of an errno, see linux/kvm_vmem.h. */
static const char *region_hint(int number)
{
	switch (number) {
	case EIO:
		return ": the VM is not this process's";
	case EFBIG:
		return ": too many blocks, take larger ones";
	case ENOSPC:
		return ": too many memslots, take larger ones";
	case EEXIST:
		return ": the range or a memslot id is in use";
	default:
		return "";
	}
}

int kvmvmem_region_create(int device_fd, struct kvm_vmem_create_region *create,
			  struct kvmvmem_error *error)
{
	char text[128];
	int fd, number;

	fd = ioctl(device_fd, KVM_VMEM_CREATE_REGION, create);
	if (fd >= 0)
		return fd;
	number = errno;
	return kvmvmem_fail(error, -number, "KVM_VMEM_CREATE_REGION: %s%s",
			    kvmvmem_text_of(number, text, sizeof(text)),
			    region_hint(number));
}
