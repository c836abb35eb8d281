// SPDX-License-Identifier: GPL-2.0-or-later
#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"
#include "vm.h"

/**
 * userfault_page() - Map a missing page whose faults userspace handles.
 * @uffd: out: userfaultfd that reports and resolves the faults; the caller
 *	closes it
 *
 * Skips the case if the kernel has no userfaultfd.
 *
 * Return: the page, which the caller unmaps.
 */
void *userfault_page(int *uffd)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg;
	void *page;

	page = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(page != MAP_FAILED);
	*uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (*uffd < 0)
		tap_skip("userfaultfd: %s", strerror(errno));
	ASSERT_EQ(ioctl(*uffd, UFFDIO_API, &api), 0);
	reg = (struct uffdio_register){
		.range = {.start = (uintptr_t)page, .len = GUEST_PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	ASSERT_EQ(ioctl(*uffd, UFFDIO_REGISTER, &reg), 0);
	return page;
}
