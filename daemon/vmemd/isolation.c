// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Giving up what the daemon does not need.
 *
 * vmemd parses data of a guest, a VMM and operators. If one of them exploits a
 * vulnerability in it, the isolation bounds the damage. It is entered in one step,
 * after the start and before the first byte of such data is read. Exceptions are the
 * file of --restore and the state that is passed at the start, which the start parses.
 * Everything that needs more privileges is done before: opening paths, the netlink
 * socket, reading the service manager's environment.
 *
 * 1. No new privileges: nothing that might be executed gains any.
 * 2. Nothing can be reached by name any more, as far as the kernel allows that;
 *    see namespaces.c.
 * 3. All capabilities go, from the bounding set too where that is allowed. The
 *    region's descriptor is the authority that is left: plug and unplug by it
 *    need none.
 * 4. Not dumpable: no other process of the same user attaches, and no core
 *    file holds guest memory.
 * 5. A system call filter. Allowed is what syscalls.list has, with the reason
 *    for each; a test traces the daemon and reports missing and unused entries.
 *    Mappings that are executable are not allowed, nor sockets: what the daemon
 *    talks to is connected by then, or connects to it. Everything else fails with
 *    ENOSYS, which the C library has fallbacks for where a newer one tries newer
 *    calls. Calls that nothing here ever makes and that an intruder would want
 *    first - run a program, look into another process - kill the daemon instead,
 *    which leaves a trace, and so does any call of another architecture. The VM
 *    goes on without it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cap-ng.h>
#include <seccomp.h>

#include "base/log.h"
#include "isolation.h"
#include "namespaces.h"

/**
 * struct rule - what becomes of a system call
 * @syscall: its number
 * @action: of libseccomp
 * @not_executable: only if its third argument has no PROT_EXEC
 */
struct rule {
	int syscall;
	uint32_t action;
	bool not_executable;
};

static const struct rule rules[] = {
#include "syscalls.h"
};

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
	return seccomp_rule_add(filter, rule->action, rule->syscall,
				rule->not_executable ? 1 : 0,
				SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static int add_rules(scmp_filter_ctx filter)
{
	int ret;

	/* A call of another architecture has other numbers: none is ours. */
	ret = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
			       SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; !ret && i < sizeof(rules) / sizeof(rules[0]); i++)
		ret = add_rule(filter, &rules[i]);
	return ret;
}

/* Load the filter. Return: 0, or a negative errno. */
int isolation_filter_calls(void)
{
	scmp_filter_ctx filter;
	int ret;

	filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (!filter)
		return -ENOMEM;
	ret = add_rules(filter);
	if (!ret)
		ret = seccomp_load(filter);
	seccomp_release(filter);
	return ret;
}

static int drop_capabilities(void)
{
	capng_clear(CAPNG_SELECT_ALL);
	/* The bounding set is lowered only with CAP_SETPCAP. */
	if (capng_apply(CAPNG_SELECT_BOUNDS))
		log_debug("the capability bounding set stays as it is");
	return capng_apply(CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT) ? -EPERM
								     : 0;
}

/**
 * isolation_enter() - give up everything that is not needed from here on
 * @tell_users_apart: but the user numbers of peers are
 *
 * Return: 0, or a negative errno with a message printed. Not to go on then.
 */
int isolation_enter(bool tell_users_apart)
{
	int ret;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		ret = -errno;
		log_err("no_new_privs: %s", strerror(-ret));
		return ret;
	}
#ifndef __SANITIZE_ADDRESS__
	namespaces_leave(tell_users_apart);
#endif
	ret = drop_capabilities();
	if (ret) {
		log_err("capabilities cannot be dropped");
		return ret;
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		ret = -errno;
		log_err("dumpable: %s", strerror(-ret));
		return ret;
	}
#ifdef __SANITIZE_ADDRESS__
	/* The leak check at exit traces this process, by its /proc. */
	(void)tell_users_apart;
	log_warning("built with sanitizers: no namespaces and no system call "
		    "filter");
#else
	ret = isolation_filter_calls();
	if (ret) {
		log_err("system call filter: %s", strerror(-ret));
		return ret;
	}
#endif
	return 0;
}
