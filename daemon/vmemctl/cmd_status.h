/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The status of a vmemd, in the same form for one and for several devices. */
#ifndef VMEMCTL_STATUS_H
#define VMEMCTL_STATUS_H

#include "daemon_call.h"

json_object *status_new(json_object *result);
int status_ask(struct daemon *daemon, json_object **status);
const char *status_driver_text(json_object *driver);

#endif /* VMEMCTL_STATUS_H */
