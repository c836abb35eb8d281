/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Members of the JSON objects on the control socket; see json_member.c. */
#ifndef JSON_MEMBER_H
#define JSON_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

void json_add_size(json_object *object, const char *name, uint64_t value);
void json_add_bool(json_object *object, const char *name, bool value);
void json_add_text(json_object *object, const char *name, const char *value);

int json_get_bool(json_object *object, const char *name, bool *value);

#endif /* JSON_MEMBER_H */
