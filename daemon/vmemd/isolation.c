// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dropping the privileges of the daemon.
 *
 * vmemd parses data of a guest, a VMM and operators. If one of them exploits a
 * vulnerability, the isolation bounds the damage. It is entered in one step,
 * after the start and before the first byte of such data is read. Exceptions
 * are the file of --restore and the state that is passed at the start, which
 * the start parses. Everything that needs more privileges is done before:
 * opening paths and netlink sockets, and reading the service manager's
 * environment.
 *
 * 1. no_new_privs: no executed program can gain privileges.
 * 2. Empty namespaces: no object can be reached by name, as far as the kernel
 *    allows this; see namespaces.c.
 * 3. No capabilities, also in the bounding set if possible. Plugging and
 *    unplugging only need the region's descriptor.
 * 4. Not dumpable: no other process of the same user can attach, and no core
 *    file contains guest memory.
 * 5. A system call filter. syscalls.list has the allowed calls and a reason for
 *    each; a test traces the daemon and reports missing and unused entries.
 *    Executable mappings and new sockets are not allowed: all peers are
 *    connected by then, or connect to vmemd. Other calls fail with ENOSYS, for
 *    which C libraries have fallbacks. Calls that vmemd never makes and that an
 *    attacker would try first, such as running a program or accessing another
 *    process, kill the daemon instead, which leaves a trace. A call of another
 *    architecture kills it, too. The VM keeps running without vmemd.
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
 * struct rule - rule for a system call
 * @syscall: number of the call
 * @action: action of libseccomp
 * @not_executable: the rule only applies without PROT_EXEC in the third
 *	argument
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

	/* vmemd makes no calls of another architecture. */
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
	/* Reducing the bounding set needs CAP_SETPCAP. */
	if (capng_apply(CAPNG_SELECT_BOUNDS))
		log_debug("the capability bounding set stays as it is");
	return capng_apply(CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT) ? -EPERM
								     : 0;
}

/**
 * isolation_enter() - drop all privileges that are not needed any more
 * @tell_users_apart: the user ids of peers must stay distinguishable
 *
 * Return: 0; a negative errno with a message printed: the daemon must end.
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
	/* LeakSanitizer traces this process at exit and needs its /proc. */
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
