# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions that build the debug kernel, to be sourced after deb.sh: Debian's source
# of a series with all debug checkers enabled by debug-kernel.config.
#
# The build takes half an hour of CPU time, and 4 GB of disk space until it ends. The
# result is laid out as deb_kernel documents, and cached until the configuration
# changes.

# debug_kernel_config - print the path of the configuration fragment
debug_kernel_config() {
	echo "$(dirname "${BASH_SOURCE[0]}")/debug-kernel.config"
}

# debug_kernel_fresh DIR - return 0 if the kernel has the current configuration
debug_kernel_fresh() {
	cmp -s "$(debug_kernel_config)" "$1/fragment"
}

# debug_kernel_make DIR SERIES SUITE - fetch, configure, build
debug_kernel_make() {
	local dir=$1 series=$2 suite=$3

	deb_install build-essential bc bison dwarves flex kmod libelf-dev \
		xz-utils || return 1
	deb_fetch_linux "$suite" "$dir/source" "$series" --strip-components=1 || return 1

	cp "$(debug_kernel_config)" "$dir/fragment" || return 1
	deb_say "building debug kernel $series: this takes half an hour, once"
	debug_kernel_build "$dir" >"$dir/log" 2>&1 || {
		tail -n 40 "$dir/log"
		return 1
	}
	rm -rf "$dir/source" "$dir/log"
}

# debug_kernel_build DIR - build DIR/source into DIR
debug_kernel_build() {
	local dir=$1 version headers
	local kmake=(nice -n 10 make -s -C "$dir/source" -j "$(nproc)")

	"${kmake[@]}" KCONFIG_ALLCONFIG="$dir/fragment" allnoconfig || return 1
	# kconfig silently drops options whose dependencies are not met.
	if grep '^CONFIG_' "$dir/fragment" |
		grep -vxFf "$dir/source/.config"; then
		echo "these options cannot be set"
		return 1
	fi
	"${kmake[@]}" bzImage modules || return 1

	version=$("${kmake[@]}" kernelrelease) || return 1
	headers=$dir/headers/usr/src/linux-headers-$version
	# install-extmod-build creates a build folder that can be moved.
	# shellcheck disable=SC2016 # for make
	"${kmake[@]}" INSTALL_MOD_PATH="$dir" INSTALL_MOD_STRIP=1 \
		modules_install &&
		"${kmake[@]}" run-command KBUILD_RUN_COMMAND='+$(srctree)/scripts/package/install-extmod-build '"$headers" &&
		cp "$dir/source/.config" "$headers/" &&
		cp "$dir/source/arch/x86/boot/bzImage" "$dir/vmlinuz" &&
		rm -f "$dir/lib/modules/$version/build" &&
		echo "$version" >"$dir/version"
}
