// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Access to members of an answer of vmemd. The answer is not trusted: a member
 * may be missing or have another type, and a text may contain any bytes.
 */
#include <stdlib.h>

#include "common/printable.h"
#include "vmemctl.h"

/* Return: the member with this name and type; NULL: there is none. */
static json_object *get_member(json_object *object, const char *name,
			       json_type type)
{
	json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, name, &value) ||
	    !json_object_is_type(value, type))
		return NULL;
	return value;
}

/* Is the member a size? A size that vmemd does not know is null. */
bool answer_has_size(json_object *object, const char *name)
{
	json_object *value = get_member(object, name, json_type_int);

	return value && json_object_get_int64(value) >= 0;
}

/* Return: the size; 0 if there is none. */
uint64_t answer_size(json_object *object, const char *name)
{
	return answer_has_size(object, name)
		       ? json_object_get_uint64(
				 get_member(object, name, json_type_int))
		       : 0;
}

bool answer_bool(json_object *object, const char *name)
{
	return json_object_get_boolean(
		get_member(object, name, json_type_boolean));
}

static bool is_printable(const char *text, size_t length)
{
	while (length) {
		size_t bytes = printable_length(text, length);

		if (!bytes)
			return false;
		text += bytes;
		length -= bytes;
	}
	return true;
}

/*
 * Return: the text in printable form; "" if there is none. The object owns the
 * text, in which unprintable characters have been replaced.
 */
const char *answer_text(json_object *object, const char *name)
{
	json_object *value = get_member(object, name, json_type_string);
	const char *text;
	size_t length;
	char *escaped;

	if (!value)
		return "";
	text = json_object_get_string(value);
	length = json_object_get_string_len(value);
	if (is_printable(text, length))
		return text;
	escaped = printable_escape(text, length);
	if (!escaped || !json_object_set_string(value, escaped)) {
		free(escaped);
		return "";
	}
	free(escaped);
	return json_object_get_string(value);
}

json_object *answer_object(json_object *object, const char *name)
{
	return get_member(object, name, json_type_object);
}

json_object *answer_array(json_object *object, const char *name)
{
	return get_member(object, name, json_type_array);
}

/* @array: from answer_array(); NULL has length 0 */
size_t answer_array_length(json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

/* Is the name printable and valid as the value of a label of a metric? */
static bool is_word(const char *name)
{
	if (!*name)
		return false;
	for (; *name; name++)
		if (!(*name >= 'a' && *name <= 'z') &&
		    !(*name >= '0' && *name <= '9') && *name != '_' &&
		    *name != '-')
			return false;
	return true;
}

/**
 * answer_each_member() - call a function for each member of an object
 * @object: the object; NULL has no members
 * @visit: called for each member whose name consists of a-z, 0-9, _ and -
 * @arg: last argument of @visit
 */
void answer_each_member(json_object *object,
			void (*visit)(const char *name, json_object *value,
				      void *arg),
			void *arg)
{
	if (!json_object_is_type(object, json_type_object))
		return;
	json_object_object_foreach(object, name, value)
	{
		if (is_word(name))
			visit(name, value, arg);
	}
}
