// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Signalling eventfds of somebody who is not trusted.
 *
 * The VMM passes an eventfd to be interrupted by, and its open file stays the
 * VMM's as much as ours. A VMM may clear O_NONBLOCK at any moment, and fill
 * the counter: a write(2) of ours would wait then until the VMM has read it,
 * and with it everybody else whom this one thread serves. To look before
 * writing does not help, as what was seen may have changed since.
 *
 * The kernel itself adds to an eventfd without ever waiting: a counter that is
 * full stays so. One of the kernel's calls does that for us, the end of an
 * asynchronous read that is to be told by an eventfd (io_submit(2),
 * IOCB_FLAG_RESFD). So a read at the end of an empty file of ours, which is
 * done by the time that io_submit() returns, is what signals. The same call
 * refuses what is no eventfd. Nobody wants the results of these reads: they
 * are taken out when there is no room for more.
 *
 * Where there is no asynchronous I/O - the kernel is built without, or the
 * host's fs.aio-max-nr is used up - what is left is to look and then to write.
 * A VMM that has filled its counter is not written to then; one that fills it
 * between the two calls makes its own vmemd wait until it reads it, or is
 * killed. vmemd.8 has that.
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

/* One at a time; the kernel makes room for some more results than that. */
#define DOORBELL_REQUESTS 1

/* Results taken out with one call. */
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
 * doorbell_open() - prepare; before the system calls are filtered
 *
 * Is done once: later calls do nothing. After an error it can be used all the
 * same, in the lesser way.
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

/* Take out results, to make room. Return: how many, or an errno. */
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

/* The lesser way. One that is full has woken whoever waits. */
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
 * doorbell_ring() - wake whoever waits on an eventfd
 * @fd: the eventfd; negative: nobody waits. What is no eventfd is let be.
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
