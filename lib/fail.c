// SPDX-License-Identifier: MIT
#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* strerror() without a static buffer; strerror_r() differs between libcs. */
const char *kvmvmem_text_of(int number, char *text, size_t size)
{
	errno = number;
	snprintf(text, size, "%m");
	return text;
}

/*
 * Set the error, unless it is NULL. The text may contain text from vmemd, so
 * characters other than printable ASCII become '?'.
 *
 * Return: @number.
 */
int kvmvmem_fail(struct kvmvmem_error *error, int number, const char *format,
		 ...)
{
	va_list ap;

	if (!error)
		return number;
	va_start(ap, format);
	vsnprintf(error->text, sizeof(error->text), format, ap);
	va_end(ap);
	for (char *at = error->text; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return number;
}

/*
 * Convert the name of an errno, as vmemd sends it, to a negative errno. The C
 * library has no function for this.
 */
int kvmvmem_errno_of(const char *name)
{
#define ERRNO(name)         \
	{                   \
#name, name \
	}
	static const struct {
		const char *name;
		int number;
	} numbers[] = {
		ERRNO(EPERM),	     ERRNO(ENOENT),    ERRNO(ESRCH),
		ERRNO(EINTR),	     ERRNO(EIO),       ERRNO(ENXIO),
		ERRNO(E2BIG),	     ERRNO(EBADF),     ERRNO(EAGAIN),
		ERRNO(ENOMEM),	     ERRNO(EACCES),    ERRNO(EFAULT),
		ERRNO(EBUSY),	     ERRNO(EEXIST),    ERRNO(EXDEV),
		ERRNO(ENODEV),	     ERRNO(ENOTDIR),   ERRNO(EISDIR),
		ERRNO(EINVAL),	     ERRNO(ENFILE),    ERRNO(EMFILE),
		ERRNO(ENOTTY),	     ERRNO(EFBIG),     ERRNO(ENOSPC),
		ERRNO(ESPIPE),	     ERRNO(EROFS),     ERRNO(EPIPE),
		ERRNO(EDOM),	     ERRNO(ERANGE),    ERRNO(ENAMETOOLONG),
		ERRNO(ENOSYS),	     ERRNO(ENODATA),   ERRNO(ETIME),
		ERRNO(EPROTO),	     ERRNO(EBADMSG),   ERRNO(EOVERFLOW),
		ERRNO(EUSERS),	     ERRNO(EMSGSIZE),  ERRNO(EOPNOTSUPP),
		ERRNO(ECONNABORTED), ERRNO(ENOBUFS),   ERRNO(ENOTCONN),
		ERRNO(ETIMEDOUT),    ERRNO(EALREADY),  ERRNO(EINPROGRESS),
		ERRNO(ESTALE),	     ERRNO(ECANCELED), ERRNO(EREMOTEIO),
	};
#undef ERRNO

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!strcmp(name, numbers[i].name))
			return -numbers[i].number;
	return -EREMOTEIO;
}
