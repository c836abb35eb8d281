// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The process at the other end of a socket.
 *
 * A pidfd stands for one process, whatever becomes of its number. It polls
 * readable when all threads have ended, and by then the process's descriptors
 * are closed and its memory is unmapped: what it had mapped is unmapped as well.
 * A socket that has hung up says less, since a process that is killed closes one
 * descriptor after the other.
 *
 * Linux 6.5 gives the pidfd of a socket's peer (SO_PEERPIDFD). Before that it is
 * opened by number. If the peer had ended and its number was used again by then,
 * the pidfd is another process's, and outlives the peer: who waits for its end
 * waits too long, but does not go on too early. From Linux 6.9 on the inode
 * number of a pidfd tells processes apart, also over a restart of ours.
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

/* Not in the headers of older systems. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

/* Before Linux 6.9 all pidfds have the same inode. */
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

/**
 * peer_of_socket() - who has connected a UNIX socket
 * @peer: to be closed by peer_close()
 *
 * Return: 0, also if the process is not known; an errno of getsockopt(2).
 */
int peer_of_socket(struct peer *peer, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	*peer = PEER_UNKNOWN;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	peer->uid = cred.uid;
	if (cred.pid > 0)
		peer->pid = cred.pid;
	size = sizeof(peer->pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &peer->pidfd, &size) < 0)
		peer->pidfd = peer->pid ? open_pid(peer->pid) : -1;
	if (peer->pidfd >= 0)
		peer->id = id_of(peer->pidfd);
	return 0;
}

/*
 * Does an error of pidfd_open(2) say that no process has the number? It may be a
 * thread's now: EINVAL, and ENOENT since Linux 6.9.
 */
static bool number_is_free(int error)
{
	return error == ESRCH || error == EINVAL || error == ENOENT;
}

/**
 * peer_find() - the process of a peer that is known by its numbers
 * @peer: its @pid is of our PID namespace; gets a @pidfd if there is one
 *
 * Return: 0; -ESRCH it has ended.
 */
int peer_find(struct peer *peer)
{
	uint64_t id;

	peer->pidfd = peer->pid ? open_pid(peer->pid) : -1;
	if (peer->pidfd < 0)
		return peer->pid && number_is_free(errno) ? -ESRCH : 0;
	id = id_of(peer->pidfd);
	if (!peer->id || !id || peer->id == id)
		return 0;
	/* The number is another process's now. */
	fd_close(&peer->pidfd);
	return -ESRCH;
}

/* Can both be the same process? Also where that is not known. */
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
 * Which PID namespace our numbers are of; 0: not known. To be asked before the
 * file system is out of reach.
 */
uint64_t peer_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}
