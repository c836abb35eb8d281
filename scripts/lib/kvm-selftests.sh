# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The kernel's KVM selftests, built once from the kernel's sources and kept in the
# cache, to be sourced after deb.sh.

# The tests to build: those that concern memslots, as paths below
# tools/testing/selftests/kvm.
kvm_selftests_programs=(set_memory_region_test memslot_modification_stress_test
	memslot_perf_test dirty_log_test)

# kvm_selftests_series KERNEL - print the series whose selftests run on a kernel
# Selftests of 6.8 and later need KVM_SET_USER_MEMORY_REGION2, which 6.1 lacks. Those
# of 6.12 run on newer kernels too.
kvm_selftests_series() {
	case $1 in
	6.1 | 6.1-cloud) echo 6.1 ;;
	*) echo 6.12 ;;
	esac
}

# kvm_selftests KERNEL - print the folder of built selftests
# It is a part of a kernel tree. "kvm" has the programs and the objects of their
# library. "include-paths" lists the folders of their headers, one a line, relative
# to the tree.
kvm_selftests() {
	local series key

	series=$(kvm_selftests_series "$1") || return 1
	# The cache key depends on the compiler and the build steps.
	key=$({
		cc --version
		declare -f kvm_selftests_make
		echo "${kvm_selftests_programs[@]}"
	} | sha256sum) || return 1
	deb_install xz-utils || return 1
	deb_cached "kvm-selftests/$series-${key:0:16}" kvm_selftests_make "$series"
}

kvm_selftests_make() {
	local dir=$1 series=$2 suite source tests flags='' folder
	local -a headers

	read -r suite _ < <(deb_kernel_suite "$series") || return 1
	source=$dir/source
	deb_fetch_linux "$suite" "$source" "$series" --strip-components=1 --wildcards \
		--no-wildcards-match-slash '*/Makefile' '*/Kbuild' '*/Kconfig' \
		'*/arch/x86' '*/include' '*/scripts' '*/tools/arch/x86' \
		'*/tools/build' '*/tools/include' '*/tools/lib' '*/tools/scripts' \
		'*/tools/testing/selftests/*.h' '*/tools/testing/selftests/lib.mk' \
		'*/tools/testing/selftests/kvm' '*/tools/testing/selftests/rseq' ||
		return 1
	make -s -C "$source" ARCH=x86_64 headers || return 1

	tests=$source/tools/testing/selftests/kvm
	# A fix backported to 6.1 uses a macro by the name that newer kernels
	# have for it.
	grep -q 'define TEST_ASSERT_EQ' "$tests/include/test_util.h" ||
		flags=-DTEST_ASSERT_EQ=ASSERT_EQ
	make -s -j "$(nproc)" -C "$tests" ARCH=x86_64 OUTPUT="$dir/kvm" \
		LDFLAGS='-pthread -no-pie -static' EXTRA_CFLAGS="$flags" \
		TEST_GEN_PROGS_x86_64="${kvm_selftests_programs[*]}" \
		TEST_GEN_PROGS_EXTENDED_x86_64= TEST_PROGS_x86_64= || return 1

	# Keep the headers of the sources only.
	headers=(tools/include tools/arch/x86/include usr/include
		tools/testing/selftests/kvm/include
		tools/testing/selftests/kvm/include/x86_64)
	for folder in "${headers[@]}"; do
		mkdir -p "$dir/$(dirname "$folder")" || return 1
		# The last folder is below the one before.
		[ -d "$dir/$folder" ] ||
			mv "$source/$folder" "$dir/$folder" || return 1
	done
	mv "$source"/tools/testing/selftests/*.h \
		"$dir/tools/testing/selftests/" || return 1
	printf '%s\n' "${headers[@]}" tools/testing/selftests \
		>"$dir/include-paths"
	rm -rf "$source"
}
