/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A page whose first access waits until the test fills it, or ends. */
#ifndef SELFTESTS_USERFAULT_H
#define SELFTESTS_USERFAULT_H

void *userfault_page(int *uffd);

#endif /* SELFTESTS_USERFAULT_H */
