// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records which blocks of the module have run. scripts/mutate adds this file to a
 * module that is built with -fsanitize-coverage=trace-pc, so that each block of
 * the code first calls __sanitizer_cov_trace_pc(). Debian's kernels lack KCOV.
 */
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

/* Text on each side of __sanitizer_cov_trace_pc(); the module has much less. */
#define TEXT_MAX 0x40000UL
/* The longest line of reached_get(). */
#define LINE_MAX 8

static u8 reached[2 * TEXT_MAX];
static size_t position;

void __sanitizer_cov_trace_pc(void);

__attribute__((no_sanitize_coverage)) notrace void
__sanitizer_cov_trace_pc(void)
{
	unsigned long at = (unsigned long)__builtin_return_address(0) +
			   TEXT_MAX - (unsigned long)&__sanitizer_cov_trace_pc;

	if (at < sizeof(reached))
		WRITE_ONCE(reached[at], 1);
}

/*
 * Print the return addresses of the calls, relative to TEXT_MAX before the
 * function. Each read goes on where the last one ended; the last one is empty.
 */
static int reached_get(char *buffer, const struct kernel_param *kp)
{
	int length = 0;

	for (; position < sizeof(reached) && length < PAGE_SIZE - LINE_MAX;
	     position++)
		if (reached[position])
			length += sprintf(buffer + length, "%zx\n", position);
	return length;
}

/* Writing anything begins a new record. */
static int reached_set(const char *text, const struct kernel_param *kp)
{
	memset(reached, 0, sizeof(reached));
	position = 0;
	return 0;
}

static const struct kernel_param_ops reached_ops = {
	.get = reached_get,
	.set = reached_set,
};

module_param_cb(reached, &reached_ops, NULL, 0600);
