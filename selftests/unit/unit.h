/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every unit test includes: cmocka, with TAP as its output. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define unit_run(tests, setup, teardown)           \
	(puts("TAP version 13"), fflush(stdout),   \
	 cmocka_set_message_output(CM_OUTPUT_TAP), \
	 cmocka_run_group_tests(tests, setup, teardown))

#endif /* UNIT_H */
