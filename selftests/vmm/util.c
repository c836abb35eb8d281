// SPDX-License-Identifier: GPL-2.0-or-later
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void message(int errnum, const char *format, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), format, ap);
	if (errnum)
		fprintf(stderr, "vmem-vmm: %s: %s\n", line, strerror(errnum));
	else
		fprintf(stderr, "vmem-vmm: %s\n", line);
}

void error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	message(0, format, ap);
	va_end(ap);
}

void error_errno(int errnum, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	message(errnum, format, ap);
	va_end(ap);
}

int parse_size(const char *text, uint64_t *size)
{
	static const char suffixes[] = "KMGT";
	unsigned long long number;
	const char *suffix;
	char *end;
	int shift = 0;

	/* strtoull accepts signs and white space, sizes do not. */
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 0);
	if (errno)
		return -errno;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (int)(suffix - suffixes + 1);
	}
	if (number > UINT64_MAX >> shift)
		return -ERANGE;
	*size = (uint64_t)number << shift;
	return 0;
}

bool align_up(uint64_t value, uint64_t align, uint64_t *result)
{
	if (__builtin_add_overflow(value, align - 1, result))
		return false;
	*result &= ~(align - 1);
	return true;
}
