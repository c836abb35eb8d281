// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moving to empty namespaces.
 *
 * vmemd works on descriptors that are open by then. Objects that it could reach
 * by name become inaccessible: its root is an empty read-only file system, its
 * network has no interface, and its System V IPC has no objects. Open sockets
 * stay in the namespaces in which they were created, including netlink sockets.
 *
 * This needs CAP_SYS_ADMIN, either held already or gained in a new user
 * namespace. In a user namespace, only vmemd's own user can be mapped. The
 * control socket could then not distinguish root, which it must serve, from
 * other users. So with a control socket and without the capability, the
 * namespaces are kept. The service manager can do all of this before
 * (PrivateUsers= and more), which the unit of vmemd requests.
 *
 * The PID namespace is kept. A new one would apply to children only, and vmemd
 * has none. The VMM would have no PID in it, which status shows.
 *
 * This is an additional layer; the system call filter is the main one. If the
 * kernel or a container refuses, vmemd continues without it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "namespaces.h"

/* Mount options of the empty root; its only inode is the root directory. */
#define ROOT_FLAGS   (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define ROOT_OPTIONS "mode=0555,nr_inodes=1"

static const struct {
	const char *name;
	int flag;
} kinds[] = {
	{"network", CLONE_NEWNET},
	{"ipc", CLONE_NEWIPC},
	{"uts", CLONE_NEWUTS},
	{"cgroup", CLONE_NEWCGROUP},
};

/* Map an id to itself. Without /proc the id is unmapped, which is harmless. */
static void map_id(const char *path, unsigned int id)
{
	char line[64];
	int length, fd;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	length = snprintf(line, sizeof(line), "%u %u 1\n", id, id);
	if (write(fd, line, length) != length)
		log_debug("%s: %s", path, strerror(errno));
	close(fd);
}

static int leave_users(void)
{
	unsigned int uid = geteuid(), gid = getegid();
	int fd;

	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "deny", 4) != 4)
			log_debug("setgroups: %s", strerror(errno));
		close(fd);
	}
	map_id("/proc/self/uid_map", uid);
	map_id("/proc/self/gid_map", gid);
	return 0;
}

/*
 * Mount an empty file system over the root, and make it the root: "/.." is the
 * new mount. An initramfs cannot be unmounted, so only chroot(2) applies there.
 * vmemd cannot escape from it, since it has neither the capability nor a
 * directory descriptor.
 */
static int empty_root(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/", "tmpfs", ROOT_FLAGS, ROOT_OPTIONS) < 0 ||
	    chdir("/..") < 0)
		return -errno;
	if (!syscall(SYS_pivot_root, ".", ".") && umount2(".", MNT_DETACH) < 0)
		return -errno;
	if (chroot(".") < 0 || chdir("/") < 0 ||
	    mount(NULL, "/", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | ROOT_FLAGS, NULL) < 0)
		return -errno;
	return 0;
}

/**
 * namespaces_leave() - move to empty namespaces, as far as possible
 * @tell_users_apart: the user ids of peers must stay distinguishable
 *
 * To be called before capabilities are dropped.
 */
void namespaces_leave(bool tell_users_apart)
{
	int ret = unshare(CLONE_NEWNS) < 0 ? -errno : 0;

	if (ret == -EPERM && !tell_users_apart) {
		ret = leave_users();
		if (!ret && unshare(CLONE_NEWNS) < 0)
			ret = -errno;
	}
	if (!ret)
		ret = empty_root();
	if (ret) {
		log_info("the file system stays accessible: %s",
			 strerror(-ret));
		if (ret == -EPERM)
			return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (unshare(kinds[i].flag) < 0)
			log_info("no new %s namespace: %s", kinds[i].name,
				 strerror(errno));
}
