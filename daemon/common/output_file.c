// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing files that a user names.
 *
 * A regular file is replaced atomically: the data is written to a temporary
 * file in the same directory, which is synced and renamed, and then the
 * directory is synced. At any time PATH is the complete old or new file. After
 * success the new file survives a crash of the machine. A writer that is killed
 * may leave the temporary file PATH.XXXXXX behind.
 *
 * Other files, such as a device, a FIFO or /dev/stdout, are opened and written
 * to. A symbolic link is kept, and its target is replaced.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/output_file.h"

/* Maximum number of symbolic links to follow, as in the kernel. */
#define LINKS_MAX 40

static int write_all(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t put = write(fd, data, size);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		data += put;
		size -= put;
	}
	return 0;
}

/* Sync the directory of a file, so that a rename is on disk. */
static int sync_folder(const char *path)
{
	char *copy = strdup(path);
	int ret = 0;
	int fd;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	free(copy);
	return ret;
}

static int replace(const char *path, char *work, mode_t mode, const void *data,
		   size_t size)
{
	int fd, ret;

	fd = mkostemp(work, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write_all(fd, data, size);
	if (!ret && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		ret = -errno;
	if (close(fd) < 0 && !ret)
		ret = -errno;
	if (!ret && rename(work, path) < 0)
		ret = -errno;
	if (ret) {
		unlink(work);
		return ret;
	}
	return sync_folder(path);
}

/* Write to an existing file that is not regular; may block, e.g. for a FIFO. */
static int write_through(const char *path, const void *data, size_t size)
{
	int fd, ret;

	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	ret = write_all(fd, data, size);
	if (close(fd) < 0 && !ret)
		ret = -errno;
	return ret;
}

/* The target of a symbolic link, relative to the link's directory. */
static int follow(const char *path, char target[PATH_MAX])
{
	char link[PATH_MAX], folder[PATH_MAX];
	ssize_t length = readlink(path, link, sizeof(link) - 1);

	if (length < 0)
		return -errno;
	link[length] = '\0';
	strcpy(folder, path);
	if (snprintf(target, PATH_MAX, "%s%s%s",
		     *link == '/' ? "" : dirname(folder),
		     *link == '/' ? "" : "/", link) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

/* Resolve all symbolic links. The file itself need not exist. */
static int resolve(const char *path, char target[PATH_MAX])
{
	char next[PATH_MAX];
	struct stat st;
	int ret;

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(target, path);
	for (int i = 0; i < LINKS_MAX; i++) {
		if (lstat(target, &st) < 0)
			return errno == ENOENT ? 0 : -errno;
		if (!S_ISLNK(st.st_mode))
			return 0;
		ret = follow(target, next);
		if (ret)
			return ret;
		strcpy(target, next);
	}
	return -ELOOP;
}

/* Is this the file that standard output refers to, as /dev/stdout is? */
static bool is_standard_output(const struct stat *st)
{
	struct stat out;

	return !fstat(STDOUT_FILENO, &out) && out.st_dev == st->st_dev &&
	       out.st_ino == st->st_ino;
}

/**
 * output_file_write() - write a file
 * @path: path of the file
 * @mode: permissions of a regular file
 * @regular: refuse other types of files with -EINVAL
 * @data: contents
 * @size: bytes in @data
 *
 * Return: 0, or a negative errno. If the last step fails, syncing the
 * directory, the file exists, but it may be lost in a crash of the machine.
 */
int output_file_write(const char *path, mode_t mode, bool regular,
		      const void *data, size_t size)
{
	char target[PATH_MAX];
	struct stat st;
	char *work;
	int ret;

	if (stat(path, &st) < 0) {
		/* Only ENOENT means a new file; e.g. ELOOP does not. */
		if (errno != ENOENT)
			return -errno;
	} else {
		if (regular && !S_ISREG(st.st_mode))
			return -EINVAL;
		if (S_ISDIR(st.st_mode))
			return -EISDIR;
		if (!regular && is_standard_output(&st))
			return write_all(STDOUT_FILENO, data, size);
		if (!S_ISREG(st.st_mode))
			return write_through(path, data, size);
	}
	ret = resolve(path, target);
	if (ret)
		return ret;
	if (asprintf(&work, "%s.XXXXXX", target) < 0)
		return -ENOMEM;
	ret = replace(target, work, mode, data, size);
	free(work);
	return ret;
}
