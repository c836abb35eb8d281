// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Giving back what only the start needed.
 *
 * There is a vmemd for each VM, so what one has counts many times. Most of what
 * is resident after the start is code and tables of libraries that were read to
 * link them, to parse options and to build the system call filter, and that are
 * not read again. Pages of files that were never written are dropped from the
 * page table here; the few that are used come back as they are touched, from
 * the page cache. Segments that may be written hold relocations, and stay.
 */
#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "footprint.h"

static int drop_segments(struct dl_phdr_info *info,
			 size_t size __attribute__((unused)),
			 void *arg __attribute__((unused)))
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	/* The kernel's own object is no file. */
	if (info->dlpi_addr == getauxval(AT_SYSINFO_EHDR))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		uintptr_t end = start + segment->p_memsz;

		if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
			continue;
		start -= start % page;
		end += -end % page;
		/* If not, nothing is lost but memory. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

/* To be called once the start is over. */
void footprint_trim(void)
{
	malloc_trim(0);
	dl_iterate_phdr(drop_segments, NULL);
}
