# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The kernel's kselftest runner, from the kernel's sources, to be sourced after
# deb.sh.

# kselftest_runner SERIES - print the folder of a kernel's runner
# It has run_kselftest.sh, and the folder "kselftest" with the files it sources.
kselftest_runner() {
	deb_install xz-utils || return 1
	deb_cached "kselftest-runner/$1" kselftest_runner_make "$1"
}

kselftest_runner_make() {
	local dir=$1 series=$2 suite

	read -r suite _ < <(deb_kernel_suite "$series") || return 1
	deb_fetch_linux "$suite" "$dir" "$series" --strip-components=4 --wildcards \
		'*/tools/testing/selftests/run_kselftest.sh' \
		'*/tools/testing/selftests/kselftest/*'
}
