/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Run vmemctl and read its JSON output. */
#ifndef SELFTESTS_VMEMCTL_RUN_H
#define SELFTESTS_VMEMCTL_RUN_H

#include <stdint.h>

#include <json-c/json.h>

#define OUTPUT_MAX 65536

extern char output[OUTPUT_MAX];

/** RUN() - Run vmemctl with these arguments. Return: its exit status. */
#define RUN(...) run_vmemctl((const char *const[]){__VA_ARGS__, NULL})

int run_vmemctl(const char *const *args);

const char *number(long value);
json_object *printed_device(void);
json_object *printed(const char *name);
json_object *member(json_object *object, const char *name);
uint64_t get(json_object *object, const char *name);

#endif /* SELFTESTS_VMEMCTL_RUN_H */
