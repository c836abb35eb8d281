// SPDX-License-Identifier: MIT
#include "struct_size.h"

#include <errno.h>
#include <string.h>

/*
 * Copy a structure of the caller. Members that it lacks become zero.
 *
 * @least: size of the first version
 *
 * Return: 0; -EINVAL: the structure is too small; -E2BIG: a member that is
 * unknown here is not zero.
 */
int kvmvmem_struct_take(void *known, size_t known_size, size_t least,
			const void *theirs, uint32_t their_size)
{
	const unsigned char *bytes = theirs;

	if (their_size < least)
		return -EINVAL;
	for (size_t i = known_size; i < their_size; i++)
		if (bytes[i])
			return -E2BIG;
	memset(known, 0, known_size);
	memcpy(known, theirs,
	       their_size < known_size ? their_size : known_size);
	return 0;
}

/* Copy the structure back, up to the caller's size, and keep its size member. */
void kvmvmem_struct_give(void *theirs, uint32_t their_size, const void *known,
			 size_t known_size)
{
	memcpy((char *)theirs + sizeof(their_size),
	       (const char *)known + sizeof(their_size),
	       (their_size < known_size ? their_size : known_size) -
		       sizeof(their_size));
}
