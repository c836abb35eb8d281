/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory use of the daemon itself; see footprint.c. */
#ifndef FOOTPRINT_H
#define FOOTPRINT_H

void footprint_trim(void);

#endif /* FOOTPRINT_H */
