/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of vmemctl share. */
#ifndef VMEMCTL_H
#define VMEMCTL_H

#include <stdbool.h>
#include <sys/types.h>

#include <json-c/json.h>

void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_json(json_object *object);

/**
 * struct metadata_options - of "vmemctl metadata"
 * @pid: VMs of this process, if not 0
 * @fd: the VM of this descriptor, if @has_fd
 * @top: all VMs of the host
 * @memslots: print each memslot
 * @json: print JSON
 */
struct metadata_options {
	pid_t pid;
	int fd;
	bool has_fd;
	bool top;
	bool memslots;
	bool json;
};

int vmemctl_metadata(const struct metadata_options *options);

#endif /* VMEMCTL_H */
