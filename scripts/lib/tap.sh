# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# TAP for test scripts, to be sourced. Each test case is a function.

# tap_run FUNCTION... - run test cases, each in a subshell
# A test case fails if its function returns non-zero. It must chain its steps with &&, as
# bash disables "set -e" here. Output of a failed test case is printed as comments. Its
# name is the function's, with spaces for underscores.
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

# tap_without [NAME]... - print the names on stdin except these
tap_without() {
	grep -vxF "${@/#/-e}" -e ''
}
