/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dropping the privileges of the daemon; see isolation.c. */
#ifndef ISOLATION_H
#define ISOLATION_H

#include <stdbool.h>

int isolation_enter(bool tell_users_apart);

/* The last step of isolation_enter(), exported for its test. */
int isolation_filter_calls(void);

#endif /* ISOLATION_H */
