/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A page whose first access blocks until the test fills the page or exits. */
#ifndef SELFTESTS_USERFAULT_H
#define SELFTESTS_USERFAULT_H

void *userfault_page(int *uffd);

#endif /* SELFTESTS_USERFAULT_H */
