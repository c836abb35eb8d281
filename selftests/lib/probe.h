/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memslot_probe.ko: records what KVM does on memslot changes, and dumps the
 * resulting memslots. See selftests/kvm_vmem/probe.
 */
#ifndef SELFTESTS_PROBE_H
#define SELFTESTS_PROBE_H

#include <memslot_probe.h>
#include <stdint.h>

#include "vm.h"

/**
 * struct probe_log - the recorded events
 * @events: room for PROBE_MAX_EVENTS
 * @nr: number of events
 */
struct probe_log {
	struct probe_event *events;
	uint32_t nr;
};

/**
 * struct probe_dump - the memslots of a set
 * @set: the set; its nr is the number of memslots
 * @slots: room for @capacity memslots
 * @capacity: size of @slots
 */
struct probe_dump {
	struct probe_set set;
	struct probe_slot *slots;
	uint32_t capacity;
};

void probe_module_load(void);
void probe_module_unload(void);

int probe_watch(const struct vm *vm);
void probe_pretend_pml(int fd);
int probe_track(int fd);
int probe_assign(int fd);
void probe_keep_mm(int fd);
void probe_invalidate(int fd);
void probe_invalidated(int fd);
bool probe_is_awaited(int fd);
void probe_fail(int fd, enum probe_change change, uint32_t skip, int error);
void probe_look(int fd, unsigned int as, uint64_t gpa);
void probe_read_vm(int fd, struct probe_vm *vm);

void probe_log_init(struct probe_log *log);
void probe_log_free(struct probe_log *log);
void probe_log_read(int fd, struct probe_log *log);

void probe_dump_init(struct probe_dump *dump, uint32_t capacity);
void probe_dump_free(struct probe_dump *dump);
void probe_dump_read(int fd, unsigned int as, bool inactive,
		     struct probe_dump *dump);

const char *probe_kind_name(uint32_t kind);

#endif /* SELFTESTS_PROBE_H */
