// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Members of JSON objects on the control socket: of answers and events, and of
 * a call's parameters.
 */
#include <errno.h>

#include "common/json_member.h"

/* Add a number: bytes, an address, or a count. */
void json_add_size(json_object *object, const char *name, uint64_t value)
{
	json_object_object_add(object, name, json_object_new_uint64(value));
}

void json_add_bool(json_object *object, const char *name, bool value)
{
	json_object_object_add(object, name, json_object_new_boolean(value));
}

void json_add_text(json_object *object, const char *name, const char *value)
{
	json_object_object_add(object, name, json_object_new_string(value));
}

/**
 * json_get_bool() - get a member that is true or false
 * @object: the object; NULL: an empty one
 * @name: name of the member
 * @value: set on success
 *
 * Return: 0; -ENOENT: the member is missing; -EINVAL: it has another type.
 */
int json_get_bool(json_object *object, const char *name, bool *value)
{
	json_object *member;

	if (!object || !json_object_object_get_ex(object, name, &member))
		return -ENOENT;
	if (!json_object_is_type(member, json_type_boolean))
		return -EINVAL;
	*value = json_object_get_boolean(member);
	return 0;
}
