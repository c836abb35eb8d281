# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The kernel log of a guest in the testbed, to be sourced by scripts there.

# Warnings about the emulated CPU, which the kernel prints on every boot.
GUEST_LOG_BENIGN='RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable'

# no_complaint LOG - return 0 if a kernel log is complete and has no warnings
no_complaint() {
	grep -q 'Linux version' "$1" || return 1
	! grep -vE "$GUEST_LOG_BENIGN" "$1" |
		grep -B 4 -E 'BUG:|WARNING:|Oops|Call Trace|virtio_mem.*(error|fail|unknown)'
}
