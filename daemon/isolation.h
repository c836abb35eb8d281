/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up what the daemon does not need; see isolation.c. */
#ifndef ISOLATION_H
#define ISOLATION_H

int isolate(void);

#endif /* ISOLATION_H */
