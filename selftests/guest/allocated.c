// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-allocated: which bytes of a memfd are allocated, according to the file
 * itself.
 *
 * A memfd has memory where a mapping was written or read, and a hole where
 * there was no access yet or where a hole was punched. So this shows the host
 * memory of a guest, independently of any program's accounting.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Unit of st_blocks in stat(2), whatever the file's block size. */
#define BLOCK_BYTES 512

static const char usage[] =
	"Usage: vmem-allocated FILE\n"
	"Print the runs of FILE that have memory, \"OFFSET SIZE\", then \"total BYTES\";\n"
	"FILE may be a memfd of another process, /proc/PID/fd/FD.\n";

/* Return: 0 or a negative errno. */
static int print_runs(int fd)
{
	off_t start, end = 0;

	for (;;) {
		start = lseek(fd, end, SEEK_DATA);
		if (start < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(fd, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		printf("%jd %jd\n", (intmax_t)start, (intmax_t)(end - start));
	}
}

int main(int argc, char **argv)
{
	struct stat st;
	int fd, ret;

	if (argc != 2 || argv[1][0] == '-') {
		fputs(usage, stderr);
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "vmem-allocated: %s: %s\n", argv[1],
			strerror(errno));
		return 1;
	}
	ret = print_runs(fd);
	if (!ret && fstat(fd, &st))
		ret = -errno;
	close(fd);
	if (ret) {
		fprintf(stderr, "vmem-allocated: %s: %s\n", argv[1],
			strerror(-ret));
		return 1;
	}
	printf("total %" PRIu64 "\n", (uint64_t)st.st_blocks * BLOCK_BYTES);
	return 0;
}
