# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# TAP for test scripts, to be sourced: each case is a function.

# tap_run FUNCTION... - run cases, each in a subshell
# A case fails by its status, and has to chain its steps with && for that, as
# bash turns "set -e" off here. What it prints becomes comments. Its name is
# the function's, with blanks for underscores.
tap_run() {
	local case number=0 bad=0 output

	echo "TAP version 13"
	echo "1..$#"
	for case; do
		number=$((number + 1))
		if output=$("$case" 2>&1); then
			echo "ok $number - ${case//_/ }"
		else
			[ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/# /'
			echo "not ok $number - ${case//_/ }"
			bad=1
		fi
	done
	return "$bad"
}

# tap_cases [HELPER]... - print the functions of the script, without its helpers
tap_cases() {
	sed -n 's/^\([a-zA-Z_]*\)() {$/\1/p' "$0" | tap_without "$@"
}

# tap_without [NAME]... - print the names on stdin but these
tap_without() {
	grep -vxF "${@/#/-e}" -e ''
}
