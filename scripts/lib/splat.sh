# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What a healthy kernel's log does not contain, to be sourced.

# After the time stamp and, with CONFIG_PRINTK_CALLER, the caller.
splat_start='^(<[0-9]+>)?(\[ *[0-9]+\.[0-9]+\])?( *\[ *[TC][0-9]+\])? *'

# Everything that the kernel's checkers begin their reports with. A call trace
# is a report whatever comes before it.
splat_pattern="${splat_start}(WARNING: |BUG: |INFO: (task|rcu_|trying to register)"
splat_pattern+="|watchdog: |NMI watchdog: |rcu: INFO: |Kernel panic|Oops"
splat_pattern+="|general protection fault|double fault|stack segment|invalid opcode"
splat_pattern+="|UBSAN: |KASAN: |KCSAN: |KFENCE: |refcount_t: |list_(add|del) corruption"
splat_pattern+="|kmemleak: [0-9]+ new suspected|unreferenced object"
splat_pattern+="|DEBUG_LOCKS_WARN_ON|ODEBUG: |VFS: Busy inodes|Call Trace:|------------\[ cut here)"
splat_pattern+="|kernel BUG at |: (Oops|BUG|general protection fault|double fault)[:,]"
splat_pattern+="|BUG: soft lockup|: page allocation failure|Modules linked in:"

# Not reports, though they look like it.
splat_benign='NMI watchdog: (Enabled|Perf NMI|disabled)|watchdog: (Delayed|Disabling|Perf)'

# Nor are these, though the kernel prints a call trace after them: it says that
# it refused to allocate more than the machine has, which tests ask for; or, in
# the tests that have allocations fail, what that led to.
splat_refusal=': vmalloc error: size [0-9]+, exceeds total pages'
splat_injected=': vmalloc error: size [0-9]+, | invoked oom-killer: '
splat_injecting='testbed: begin ((vmemd_)?fail_nth_test|vmemd_fault_test|charge_test)$'

# splat_find LOG - print what is wrong in a kernel log, with the text around it
# Return: 0 if something was found, 1 if the log is clean
splat_find() {
	tr -d '\r\0' <"$1" | grep -avE "$splat_benign" |
		awk -v refusal="$splat_refusal" -v injected="$splat_injected" \
			-v injecting="$splat_injecting" '
		/testbed: begin / { failing = $0 ~ injecting }
		$0 ~ refusal || failing && $0 ~ injected { refused = 1 }
		refused && /Call Trace:/ { refused = 0; next }
		{ print }' |
		grep -aE -B 2 -A 40 "$splat_pattern"
}
