/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory of the daemon's own; see footprint.c. */
#ifndef FOOTPRINT_H
#define FOOTPRINT_H

void footprint_trim(void);

#endif /* FOOTPRINT_H */
