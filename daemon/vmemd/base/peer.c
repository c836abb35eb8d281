// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The process at the other end of a socket.
 *
 * A pidfd refers to one process, even if the PID is used again. It polls
 * readable once all threads have ended. By then the process's descriptors are
 * closed, and all its mappings are gone. The hangup of a socket does not imply
 * this, because a killed process closes its descriptors one after the other.
 *
 * Linux 6.5 and later returns the pidfd of a socket's peer (SO_PEERPIDFD).
 * Earlier kernels need pidfd_open(2). If the peer has ended and its PID is in
 * use again by then, the pidfd refers to another process. This process ends
 * later than the peer, so the peer's end is noticed too late, but never too
 * early. On Linux 6.9 and later, the inode number of a pidfd identifies the
 * process, also across restarts of vmemd.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/peer.h"
#include "common/fd.h"

/* Missing in the headers of older systems. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

/* Unique id of a process; 0: before Linux 6.9 all pidfds share one inode. */
static uint64_t id_of(int pidfd)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(pidfd, &fs) < 0 || fs.f_type != PID_FS_MAGIC ||
	    fstat(pidfd, &st) < 0)
		return 0;
	return st.st_ino;
}

static int open_pid(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Return: a pidfd of the process that connected a socket, or a negative errno. */
static int open_peer(int fd, pid_t pid)
{
	socklen_t size = sizeof(int);
	int pidfd = -1;

	if (!getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		return pidfd;
	/* Before Linux 6.5. After any other error the PID may be another's. */
	if (errno != ENOPROTOOPT)
		return -errno;
	pidfd = pid ? open_pid(pid) : -1;
	if (pidfd >= 0)
		return pidfd;
	return pid ? -errno : -ESRCH;
}

/*
 * Does an error of pidfd_open(2) mean that no process has the PID? The number
 * may be a thread's: EINVAL, or ENOENT since Linux 6.9.
 */
static bool number_is_free(int error)
{
	return error == ESRCH || error == EINVAL || error == ENOENT;
}

/**
 * peer_of_socket() - get the process that connected a UNIX socket
 * @peer: to be closed by peer_close()
 * @fd: the socket
 *
 * Return: 0, also if the process is unknown; -ESRCH: it has ended, but some kernels
 * return a pidfd that reports this; an errno of getsockopt(2); -EMFILE, -ENFILE,
 * -ENOMEM: it cannot be opened now.
 */
int peer_of_socket(struct peer *peer, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int pidfd;

	*peer = PEER_UNKNOWN;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	peer->uid = cred.uid;
	if (cred.pid > 0)
		peer->pid = cred.pid;
	pidfd = open_peer(fd, peer->pid);
	if (peer->pid && pidfd < 0 && number_is_free(-pidfd))
		return -ESRCH;
	if (pidfd < 0)
		return fd_is_shortage(pidfd) ? pidfd : 0;
	peer->pidfd = pidfd;
	peer->id = id_of(pidfd);
	return 0;
}

/**
 * peer_find() - open the process of a peer by PID and id
 * @peer: has a PID of vmemd's PID namespace; its pidfd is set if possible
 *
 * Return: 0, also if the process cannot be known; -ESRCH: the process has ended;
 * -EMFILE, -ENFILE, -ENOMEM: it cannot be opened now.
 */
int peer_find(struct peer *peer)
{
	uint64_t id;

	peer->pidfd = peer->pid ? open_pid(peer->pid) : -1;
	if (peer->pidfd < 0 && peer->pid && number_is_free(errno))
		return -ESRCH;
	if (peer->pidfd < 0)
		return peer->pid && fd_is_shortage(-errno) ? -errno : 0;
	id = id_of(peer->pidfd);
	if (!peer->id || !id || peer->id == id)
		return 0;
	/* Another process has the PID now. */
	fd_close(&peer->pidfd);
	return -ESRCH;
}

/* Can both be the same process? True if this is unknown. */
bool peer_may_be(const struct peer *peer, const struct peer *other)
{
	if (peer->id && other->id)
		return peer->id == other->id;
	return !peer->pid || !other->pid || peer->pid == other->pid;
}

void peer_close(struct peer *peer)
{
	fd_close(&peer->pidfd);
}

/*
 * The PID namespace of vmemd; 0: unknown. To be called while /proc is still
 * accessible.
 */
uint64_t peer_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}
