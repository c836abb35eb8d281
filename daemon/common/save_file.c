// SPDX-License-Identifier: GPL-2.0-or-later
/* Files of saved states; see output_file.c for how they are written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/output_file.h"
#include "common/save_file.h"

/**
 * save_file_write() - write a file atomically
 * @path: path of the file. An existing regular file is replaced; other types
 *	of files are refused, since no state can be restored from them
 * @data: contents
 * @size: bytes in @data
 * @err: set on error
 *
 * Return: 0, or an errno of output_file_write().
 */
int save_file_write(const char *path, const uint8_t *data, size_t size,
		    struct error *err)
{
	int ret;

	/* Accessible for this user only. */
	ret = output_file_write(path, 0600, true, data, size);
	if (ret == -EINVAL)
		return error_set(
			err, ret,
			"something is there that is not a regular file");
	if (ret)
		error_set(err, ret, "%s", strerror(-ret));
	return ret;
}

static int read_all(int fd, uint8_t *data, size_t size)
{
	while (size) {
		ssize_t got = read(fd, data, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		/* The file has been truncated meanwhile. */
		if (!got)
			return -EIO;
		data += got;
		size -= got;
	}
	return 0;
}

static int read_state(int fd, struct save_state *state, struct error *err)
{
	struct stat st;
	uint8_t *data;
	int ret;

	if (fstat(fd, &st) < 0) {
		ret = -errno;
		return error_set(err, ret, "%s", strerror(-ret));
	}
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "not a regular file");
	if ((uint64_t)st.st_size > SAVE_FILE_MAX)
		return error_set(err, -EFBIG,
				 "too long for a saved state of vmemd's");
	data = malloc(st.st_size + 1);
	if (!data)
		return error_set(err, -ENOMEM, "out of memory");
	ret = read_all(fd, data, st.st_size);
	if (ret)
		error_set(err, ret, "%s", strerror(-ret));
	else
		ret = save_parse(data, st.st_size, state, err);
	free(data);
	return ret;
}

/**
 * save_file_read() - read a saved state from a file
 * @path: path of the file
 * @state: set on success, to be freed by save_state_free()
 * @err: set on error; the text follows the file's name in messages
 *
 * Return: 0; -EINVAL, -EFBIG: the file is refused; another errno.
 */
int save_file_read(const char *path, struct save_state *state,
		   struct error *err)
{
	int fd, ret;

	/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		ret = -errno;
		return error_set(err, ret, "%s", strerror(-ret));
	}
	ret = read_state(fd, state, err);
	close(fd);
	return ret;
}
