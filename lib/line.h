/* SPDX-License-Identifier: MIT */
/* A connection to a control socket, and the lines received on it. */
#ifndef KVMVMEM_LINE_H
#define KVMVMEM_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "fail.h"
#include "json.h"

/*
 * Maximum length of a line. The longest line of vmemd for this library is an
 * answer with a reason as text, which has less than 1 KiB.
 */
#define KVMVMEM_LINE_MAX 8192

/**
 * struct kvmvmem_line - received bytes
 * @text: the bytes, from the start of a line on
 * @have: number of bytes in @text
 * @used: length of the last line with its newline
 */
struct kvmvmem_line {
	char text[KVMVMEM_LINE_MAX];
	size_t have;
	size_t used;
};

int kvmvmem_connect(const char *path, struct kvmvmem_error *error);
int kvmvmem_line_receive(struct kvmvmem_line *line, int fd);
int kvmvmem_line_next(struct kvmvmem_line *line, struct kvmvmem_json *object);

int kvmvmem_refusal(struct kvmvmem_json error_member,
		    struct kvmvmem_error *error);
int64_t kvmvmem_now_ms(void);
int kvmvmem_poll_ms(int64_t left);

#endif /* KVMVMEM_LINE_H */
