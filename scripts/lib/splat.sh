# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Detection of warnings and errors in kernel logs, to be sourced.

# The time stamp and, with CONFIG_PRINTK_CALLER, the caller.
splat_start='^(<[0-9]+>)?(\[ *[0-9]+\.[0-9]+\])?( *\[ *[TC][0-9]+\])? *'

# The beginnings of all reports of the kernel's checkers. Any call trace counts as a
# report.
splat_pattern="${splat_start}(WARNING: |BUG: |INFO: (task|rcu_|trying to register)"
splat_pattern+="|watchdog: |NMI watchdog: |rcu: INFO: |Kernel panic|Oops"
splat_pattern+="|general protection fault|double fault|stack segment|invalid opcode"
splat_pattern+="|UBSAN: |KASAN: |KCSAN: |KFENCE: |refcount_t: |list_(add|del) corruption"
splat_pattern+="|kmemleak: [0-9]+ new suspected|unreferenced object"
splat_pattern+="|DEBUG_LOCKS_WARN_ON|ODEBUG: |VFS: Busy inodes|Call Trace:|------------\[ cut here)"
splat_pattern+="|kernel BUG at |: (Oops|BUG|general protection fault|double fault)[:,]"
splat_pattern+="|BUG: soft lockup|: page allocation failure|Modules linked in:"

# Lines that match, but are not reports.
splat_benign='NMI watchdog: (Enabled|Perf NMI|disabled)|watchdog: (Delayed|Disabling|Perf)'

# These lines are not reports either, although a call trace follows: the kernel refuses
# to allocate more memory than the machine has, which tests request; and the results of
# failing allocations, in the tests that cause these.
splat_refusal=': vmalloc error: size [0-9]+, exceeds total pages'
splat_injected=': vmalloc error: size [0-9]+, | invoked oom-killer: '
splat_injecting='testbed: begin ((vmemd_)?fail_nth_test|vmemd_fault_test|charge_test)$'

# splat_find LOG - print the reports in a kernel log, with the lines around them
# Return: 0 if there is a report, 1 if the log is clean
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
