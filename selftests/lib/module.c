// SPDX-License-Identifier: GPL-2.0-or-later
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"

/* Path of the module, to load it again. */
#define MODULE_ENV     "KVM_VMEM_KO"
#define MODULE_DEFAULT "/lib/modules/kvm_vmem.ko"

/**
 * module_need_reload() - Skip the case if the module could not be loaded again.
 */
void module_need_reload(void)
{
	if (!getenv(MODULE_ENV) && access(MODULE_DEFAULT, R_OK))
		tap_skip("neither " MODULE_ENV " nor " MODULE_DEFAULT);
	if (geteuid())
		tap_skip("needs root");
}

/** module_unload() - Return: 0 or -errno, -EAGAIN if it is in use. */
int module_unload(void)
{
	return syscall(SYS_delete_module, "kvm_vmem", O_NONBLOCK) ? -errno : 0;
}

/**
 * module_unload_soon() - Unload the module once all regions have released it. A
 * region does so at the very end of its life, after close() has returned.
 */
void module_unload_soon(void)
{
	int r;

	while ((r = module_unload()) == -EAGAIN)
		sched_yield();
	ASSERT_OK(r);
}

/** module_load() - Load the module again. */
void module_load(void)
{
	const char *path = getenv(MODULE_ENV);
	int fd;

	fd = open(path ? path : MODULE_DEFAULT, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(syscall(SYS_finit_module, fd, "", 0), 0);
	close(fd);
}
