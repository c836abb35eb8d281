// SPDX-License-Identifier: GPL-2.0-or-later
#include "vcpu_state.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "util.h"

/* KVM lists about 120 on current hosts. */
#define MAX_MSRS 1024

/*
 * The time stamp counter is not reset: a reset is no power cycle, and the
 * counters of all vCPUs stay synchronized.
 */
#define MSR_IA32_TSC 0x10

/*
 * Parts of the state that are read and restored as a whole, in the order of
 * restoring.
 */
struct part {
	const char *name;
	unsigned long get;
	unsigned long set;
	size_t offset;
};

#define PART(part_name, ioctl_name)                                     \
	{                                                               \
#part_name, KVM_GET_##ioctl_name, KVM_SET_##ioctl_name, \
			offsetof(struct vcpu_state, part_name)          \
	}

/*
 * The events come first: they end system management mode, which changes the
 * meaning of other state. The local APIC comes last: its address and mode are
 * in the special registers.
 */
static const struct part parts[] = {
	PART(events, VCPU_EVENTS),  PART(mp_state, MP_STATE),
	PART(sregs, SREGS),	    PART(regs, REGS),
	PART(xcrs, XCRS),	    PART(xsave, XSAVE),
	PART(debugregs, DEBUGREGS),
};

static int get_msr(int vcpu_fd, struct kvm_msr_entry *entry)
{
	union {
		struct kvm_msrs msrs;
		char room[sizeof(struct kvm_msrs) +
			  sizeof(struct kvm_msr_entry)];
	} one = {.msrs = {.nmsrs = 1}};
	int ret;

	one.msrs.entries[0] = *entry;
	ret = ioctl(vcpu_fd, KVM_GET_MSRS, &one.msrs);
	if (ret < 0)
		return -errno;
	*entry = one.msrs.entries[0];
	return ret ? 0 : -ENOENT;
}

static int set_msr(int vcpu_fd, const struct kvm_msr_entry *entry)
{
	union {
		struct kvm_msrs msrs;
		char room[sizeof(struct kvm_msrs) +
			  sizeof(struct kvm_msr_entry)];
	} one = {.msrs = {.nmsrs = 1}};
	int ret;

	one.msrs.entries[0] = *entry;
	ret = ioctl(vcpu_fd, KVM_SET_MSRS, &one.msrs);
	if (ret < 0)
		return -errno;
	return ret ? 0 : -EINVAL;
}

/* Save the MSRs in KVM's list that this vCPU has. */
static int save_msrs(struct vcpu_state *state, int kvm_fd, int vcpu_fd)
{
	struct kvm_msr_list *list;
	struct kvm_msr_entry entry;
	uint32_t i;
	int ret = -ENOMEM;

	list = calloc(1, sizeof(*list) + MAX_MSRS * sizeof(list->indices[0]));
	state->msrs =
		calloc(1, sizeof(*state->msrs) + MAX_MSRS * sizeof(entry));
	if (!list || !state->msrs)
		goto out;
	list->nmsrs = MAX_MSRS;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		ret = -errno;
		goto out;
	}
	ret = 0;
	for (i = 0; i < list->nmsrs && !ret; i++) {
		entry = (struct kvm_msr_entry){.index = list->indices[i]};
		if (entry.index == MSR_IA32_TSC)
			continue;
		ret = get_msr(vcpu_fd, &entry);
		if (!ret)
			state->msrs->entries[state->msrs->nmsrs++] = entry;
		else if (ret == -ENOENT)
			ret = 0;
	}
out:
	free(list);
	return ret;
}

/*
 * Restore only changed MSRs: some, such as read-only counters, accept no value
 * but their current one.
 */
static int restore_msrs(const struct vcpu_state *state, int vcpu_fd)
{
	const struct kvm_msr_entry *saved;
	struct kvm_msr_entry now;
	uint32_t i;
	int ret;

	for (i = 0; i < state->msrs->nmsrs; i++) {
		saved = &state->msrs->entries[i];
		now = *saved;
		ret = get_msr(vcpu_fd, &now);
		if (!ret && now.data != saved->data)
			ret = set_msr(vcpu_fd, saved);
		if (ret) {
			error_errno(-ret, "cannot reset MSR 0x%x to 0x%llx",
				    saved->index,
				    (unsigned long long)saved->data);
			return ret;
		}
	}
	return 0;
}

int vcpu_state_save(struct vcpu_state *state, int kvm_fd, int vcpu_fd)
{
	const char *name = "MSRs";
	size_t i;
	int ret;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		name = parts[i].name;
		if (ioctl(vcpu_fd, parts[i].get,
			  (char *)state + parts[i].offset))
			goto err;
	}
	name = "local APIC";
	if (ioctl(vcpu_fd, KVM_GET_LAPIC, &state->lapic))
		goto err;
	/* The size is 0 if KVM does not support nested guests. */
	name = "nested state";
	if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) > 0) {
		state->nested.size = sizeof(state->nested);
		if (ioctl(vcpu_fd, KVM_GET_NESTED_STATE, &state->nested))
			goto err;
	}
	ret = save_msrs(state, kvm_fd, vcpu_fd);
	if (ret)
		error_errno(-ret, "cannot read a vCPU's MSRs");
	return ret;

err:
	ret = -errno;
	error_errno(-ret, "cannot read a vCPU's %s", name);
	return ret;
}

int vcpu_state_restore(const struct vcpu_state *state, int vcpu_fd)
{
	const char *name = "nested state";
	size_t i;
	int ret;

	/*
	 * Leave guest mode first: the following state is the guest's, not its
	 * nested guest's.
	 */
	if (state->nested.size &&
	    ioctl(vcpu_fd, KVM_SET_NESTED_STATE, &state->nested))
		goto err;
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		name = parts[i].name;
		if (ioctl(vcpu_fd, parts[i].set,
			  (const char *)state + parts[i].offset))
			goto err;
	}
	ret = restore_msrs(state, vcpu_fd);
	if (ret)
		return ret;
	name = "local APIC";
	if (ioctl(vcpu_fd, KVM_SET_LAPIC, &state->lapic))
		goto err;
	return 0;

err:
	ret = -errno;
	error_errno(-ret, "cannot reset a vCPU's %s", name);
	return ret;
}

void vcpu_state_free(struct vcpu_state *state)
{
	free(state->msrs);
	state->msrs = NULL;
}
