/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the device's position in a queue; see vring_locate.c. */
#ifndef VRING_LOCATE_H
#define VRING_LOCATE_H

#include "vhost/vring.h"

void vring_locate(struct vring_queue *vring);
bool vring_may_be_at(const struct vring_queue *vring, uint16_t index,
		     bool wrap);

#endif /* VRING_LOCATE_H */
