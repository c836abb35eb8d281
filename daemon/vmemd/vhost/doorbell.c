// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Signalling eventfds of an untrusted process.
 *
 * The VMM passes an eventfd for interrupts, and shares its open file with
 * vmemd. A VMM may clear O_NONBLOCK at any time and fill the counter. A
 * write(2) would then block until the VMM reads the eventfd, and this one
 * thread could serve no other device or client. A check before the write does
 * not help, as the state may change after it.
 *
 * The kernel itself adds to an eventfd without waiting: a full counter stays
 * full. An asynchronous read that signals an eventfd at its end does that on
 * behalf of vmemd (io_submit(2), IOCB_FLAG_RESFD). The doorbell therefore
 * submits a read at the end of an empty file of its own, which completes before
 * io_submit() returns. The same call refuses a descriptor that is no eventfd.
 * The results of these reads are not used, and are removed when there is no
 * room for more.
 *
 * Without asynchronous I/O - the kernel is built without it, or fs.aio-max-nr
 * of the host is exhausted - the doorbell checks the eventfd and then writes to
 * it. A full counter is not written to. A VMM that fills its counter between
 * the two calls blocks its own vmemd until it reads the counter or is killed.
 * vmemd.8 documents that.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vhost/doorbell.h"

/* One request at a time; the kernel allocates room for more results. */
#define DOORBELL_REQUESTS 1

/* Results removed per call. */
#define DOORBELL_RESULTS 64

static void reset(struct doorbell *bell)
{
	bell->tried = false;
	bell->context = 0;
	bell->file_fd = -1;
}

void doorbell_init(struct doorbell *bell)
{
	bell->label = NULL;
	reset(bell);
}

/**
 * doorbell_open() - set up asynchronous I/O
 * @bell: the doorbell
 *
 * The first call must precede the system call filter; later calls do nothing.
 * After an error, the doorbell works without asynchronous I/O.
 *
 * Return: 0; an errno of io_setup(2) or memfd_create(2).
 */
int doorbell_open(struct doorbell *bell)
{
	aio_context_t context = 0;
	int ret;

	if (bell->tried)
		return 0;
	bell->tried = true;
	if (syscall(SYS_io_setup, DOORBELL_REQUESTS, &context) < 0)
		return -errno;
	bell->file_fd = memfd_create("vmemd-doorbell", MFD_CLOEXEC);
	if (bell->file_fd < 0) {
		ret = -errno;
		syscall(SYS_io_destroy, context);
		return ret;
	}
	bell->context = context;
	return 0;
}

void doorbell_close(struct doorbell *bell)
{
	if (bell->context) {
		syscall(SYS_io_destroy, bell->context);
		close(bell->file_fd);
	}
	reset(bell);
}

/* Remove results to make room. Return: their number, or an errno. */
static long drop_results(struct doorbell *bell)
{
	struct io_event results[DOORBELL_RESULTS];
	struct timespec none = {0, 0};
	long ret;

	ret = syscall(SYS_io_getevents, bell->context, 0, DOORBELL_RESULTS,
		      results, &none);
	return ret < 0 ? -errno : ret;
}

static int submit(struct doorbell *bell, int fd)
{
	char byte;
	struct iocb read_nothing = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = bell->file_fd,
		.aio_buf = (uintptr_t)&byte,
		.aio_nbytes = sizeof(byte),
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = fd,
	};
	struct iocb *list = &read_nothing;

	return syscall(SYS_io_submit, bell->context, 1, &list) < 0 ? -errno : 0;
}

/* Without asynchronous I/O. A full eventfd has already woken its waiters. */
static int look_and_write(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	uint64_t one = 1;

	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLOUT))
		return 0;
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

/**
 * doorbell_ring() - signal an eventfd
 * @bell: the doorbell
 * @fd: the eventfd. Negative values and other types of files are ignored.
 */
void doorbell_ring(struct doorbell *bell, int fd)
{
	int ret;

	if (fd < 0)
		return;
	if (!bell->context) {
		ret = look_and_write(fd);
	} else {
		ret = submit(bell, fd);
		if (ret == -EAGAIN && drop_results(bell) > 0)
			ret = submit(bell, fd);
	}
	if (ret)
		log_debug_of(bell->label, "signalling a descriptor: %s",
			     strerror(-ret));
}
