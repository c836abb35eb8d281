// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Giving up what the daemon does not need.
 *
 * vmemd reads what a guest, a VMM and operators write. Should one of them find
 * a hole in it, what can be done from inside is bounded here, in one step,
 * after the start and before the first byte of theirs is looked at. All that
 * needs more - paths, the netlink socket, the service manager's environment -
 * is done by then.
 *
 * 1. No new privileges: nothing that might be executed gains any.
 * 2. Nothing can be reached by name any more, as far as the kernel allows that;
 *    see namespaces.c.
 * 3. All capabilities go, from the bounding set too where that is allowed. The
 *    region's descriptor is the authority that is left: plug and unplug by it
 *    need none.
 * 4. Not dumpable: no other process of the same user attaches, and no core
 *    file holds guest memory.
 * 5. A system call filter. Allowed is what the event loop, the sockets, the
 *    memory mappings and malloc use; mappings that are executable are not, nor
 *    sockets: what the daemon talks to is connected by then, or connects to
 *    it. Everything else fails with ENOSYS, which the C library has fallbacks for where a newer one
 *    tries newer calls. Calls that nothing here ever makes and that an
 *    intruder would want first - run a program, look into another process -
 *    kill the daemon instead, which leaves a trace. The VM goes on without it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cap-ng.h>
#include <seccomp.h>

#include "isolation.h"
#include "log.h"
#include "namespaces.h"

static const int allowed[] = {
	/* descriptors and sockets */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(close),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(statx),
	SCMP_SYS(accept4),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(fallocate),
	SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate),
	SCMP_SYS(lseek),
	/* the event loop */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(signalfd4),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	/* memory */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	/* the C library's own */
	SCMP_SYS(futex),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(tgkill),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(bpf),
};

static int add_rules(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_executable =
		SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int ret = 0;

	for (size_t i = 0; !ret && i < sizeof(allowed) / sizeof(allowed[0]);
	     i++)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !ret && i < sizeof(deadly) / sizeof(deadly[0]); i++)
		ret = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i],
				       0);
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap),
				       1, not_executable);
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW,
				       SCMP_SYS(mprotect), 1, not_executable);
	return ret;
}

/* Load the filter. Return: 0, or a negative errno. */
int isolate_system_calls(void)
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
 * isolate() - give up everything that is not needed from here on
 * @tell_users_apart: but the user numbers of peers are
 *
 * Return: 0, or a negative errno with a message printed. Not to go on then.
 */
int isolate(bool tell_users_apart)
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
	ret = isolate_system_calls();
	if (ret) {
		log_err("system call filter: %s", strerror(-ret));
		return ret;
	}
#endif
	return 0;
}
