// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mappings of files that another process can truncate.
 *
 * The VMM shares its memory as files, and can truncate them at any time. An
 * access behind the new end of a file faults with SIGBUS. A seal would prevent
 * it, but files on hugetlbfs and on disk cannot be sealed, and a hole in a
 * hugetlb file faults as well when the host has no free huge page.
 *
 * The signal handler replaces the whole mapping by zero pages and sets the
 * mapping's flag. The access continues, and its caller checks the flag
 * afterwards. The replacement covers the whole mapping, since part of a mapping
 * of huge pages cannot be replaced.
 *
 * A signal handler belongs to the process, and so does the list of guards. The
 * daemon has one guard for all of its devices. The process has one thread, and
 * this file does not touch guarded memory, so a list never changes while the
 * handler walks it.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vhost/guard.h"

static struct guard *guards;

static struct guard_mapping *find(const struct guard *guard, const void *at)
{
	for (size_t i = 0; i < guard->nr; i++) {
		struct guard_mapping *mapping = &guard->mappings[i];

		if ((uintptr_t)at - (uintptr_t)mapping->start < mapping->size)
			return mapping;
	}
	return NULL;
}

static bool replace(const struct guard_mapping *mapping)
{
	/* A private mapping would count towards RLIMIT_DATA. */
	if (mmap(mapping->start, mapping->size, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0) == MAP_FAILED)
		return false;
	*mapping->lost = true;
	return true;
}

static void on_sigbus(int signal, siginfo_t *info,
		      void *context __attribute__((unused)))
{
	for (const struct guard *guard = guards; guard; guard = guard->next) {
		const struct guard_mapping *mapping =
			find(guard, info->si_addr);

		if (mapping && replace(mapping))
			return;
	}
	/* Not a guarded mapping: restore the default action. */
	sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

/* Add the guard to the list, and install the handler, which is cheap. */
static int take_part(struct guard *guard)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	};
	const struct guard *other = guards;

	if (sigaction(SIGBUS, &action, NULL) < 0)
		return -errno;
	while (other && other != guard)
		other = other->next;
	if (!other) {
		guard->next = guards;
		guards = guard;
	}
	return 0;
}

/* All mappings must have been removed. */
void guard_stop(struct guard *guard)
{
	struct guard **at = &guards;

	while (*at && *at != guard)
		at = &(*at)->next;
	if (*at)
		*at = guard->next;
	free(guard->mappings);
	memset(guard, 0, sizeof(*guard));
}

/**
 * guard_add() - guard a mapping
 * @guard: the guard; zeroed before the first call
 * @start: start of the mapping
 * @size: bytes, see struct guard_mapping
 * @lost: flag to set; replaces the flag of a mapping that is guarded already
 *
 * Return: 0; -ENOMEM; an errno of sigaction(2).
 */
int guard_add(struct guard *guard, void *start, size_t size,
	      volatile bool *lost)
{
	struct guard_mapping *mapping = find(guard, start), *grown;
	int ret;

	ret = take_part(guard);
	if (ret)
		return ret;
	if (!mapping) {
		grown = reallocarray(guard->mappings, guard->nr + 1,
				     sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		guard->mappings = grown;
		mapping = &grown[guard->nr++];
	}
	mapping->start = start;
	mapping->size = size;
	mapping->lost = lost;
	return 0;
}

/* To be called before the mapping is unmapped, whether guarded or not. */
void guard_remove(struct guard *guard, const void *start)
{
	struct guard_mapping *mapping = find(guard, start);

	if (mapping)
		*mapping = guard->mappings[--guard->nr];
}
