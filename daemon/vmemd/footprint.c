// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Freeing memory that only the start needed.
 *
 * A host runs one vmemd per VM, so its memory use counts many times. Most of
 * the resident memory after the start is code and tables of libraries, which
 * were read for linking, for parsing options and for building the system call
 * filter. These pages are dropped from the page table. The few that are used
 * again come back from the page cache. Writable segments contain relocations
 * and are kept.
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

	/* The vDSO is not backed by a file. */
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
		/* A failure only costs memory. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

/* To be called at the end of the start. */
void footprint_trim(void)
{
	malloc_trim(0);
	dl_iterate_phdr(drop_segments, NULL);
}
