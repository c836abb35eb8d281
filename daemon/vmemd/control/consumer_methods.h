/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Consumers on the control socket; see consumer_methods.c. */
#ifndef CONSUMER_CONTROL_H
#define CONSUMER_CONTROL_H

#include <json-c/json.h>

#include "control/socket.h"
#include "device/consumer.h"

int consumer_methods_subscribe(struct control_call *call,
			       struct consumers *consumers, uint64_t others,
			       uint64_t requested_size);
int consumer_methods_done(struct control_call *call);
int consumer_methods_unsubscribe(struct control_call *call,
				 struct consumers *consumers);
int consumer_methods_forget(struct control_call *call,
			    struct consumers *consumers);
json_object *consumer_methods_list(const struct consumers *consumers);

#endif /* CONSUMER_CONTROL_H */
