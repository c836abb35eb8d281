/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Common parts of the fuzz targets; see fuzz.c. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Maximum number of descriptors sent at once. */
#define FUZZ_FDS_MAX 16

/**
 * struct fuzz_input - the remaining input of a run
 *
 * Reads beyond the end return zeroes, so that a target need not check.
 */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

uint8_t fuzz_u8(struct fuzz_input *in);
uint16_t fuzz_u16(struct fuzz_input *in);
uint32_t fuzz_u32(struct fuzz_input *in);
uint64_t fuzz_u64(struct fuzz_input *in);
size_t fuzz_bytes(struct fuzz_input *in, void *to, size_t size);

ssize_t fuzz_send(int fd, const void *bytes, size_t size, const int *fds,
		  size_t nr_fds);

/* An invariant that no input may violate. */
#define fuzz_require(condition)                                      \
	do {                                                         \
		if (!(condition))                                    \
			fuzz_broken(__FILE__, __LINE__, #condition); \
	} while (0)

void fuzz_broken(const char *file, int line, const char *condition)
	__attribute__((noreturn));

/*
 * Descriptors whose read() or write() by the daemon is short-cut, since the
 * system calls cost time and show nothing.
 */
struct fuzz_sink {
	int fd;
	uint64_t writes;
};

extern struct fuzz_sink fuzz_sinks[2];
extern int fuzz_source_fd;

/* Bytes that the daemon's code has mapped. */
uint64_t fuzz_mapped(void);

/* Implemented by a target: called once, and for each input. */
void fuzz_set_up(void);
void fuzz_one(struct fuzz_input *in);

#endif /* FUZZ_H */
