# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Drivers that Debian's kernels lack, as modules from the sources of the same kernel, to be
# sourced after deb.sh, packages.sh and root.sh.

# extra_modules_source NAME KERNEL PATTERN... - print a folder with a part of the sources
# The patterns select it, and NAME is the part's name in the cache.
extra_modules_source() {
	local key

	deb_install xz-utils || return 1
	key=$(echo "${@:3}" | sha256sum) || return 1
	deb_cached "$1-source/${2%%-*}-${key:0:16}" extra_modules_fetch "${2%%-*}" "${@:3}"
}

extra_modules_fetch() {
	local dir=$1 series=$2 suite

	read -r suite _ < <(deb_kernel_suite "$series") || return 1
	deb_fetch_linux "$suite" "$dir" "$series" --strip-components=1 --wildcards "${@:3}"
}

# extra_modules_build KERNEL FOLDER [MAKE-ARGUMENT]... - build the modules of FOLDER/Kbuild
extra_modules_build() {
	local kernel=$1 folder=$2 kdir suite root='' command

	packages_build || return 1
	kdir=$(deb_headers "$kernel") &&
		read -r suite _ < <(deb_kernel_suite "$kernel") || return 1
	[[ $suite == bookworm* ]] || root=$(root_tools "$suite") || return 1
	command=(make -s -j "$(nproc)" -C "$kdir" M="$folder" "${@:3}" modules)
	if [ -n "$root" ]; then
		root_run "$root" "${kdir%/usr/src/*}" "$folder" -- "${command[@]}" >&2
	else
		"${command[@]}" >&2
	fi
}

# extra_modules_collect FOLDER MODULE... - copy built modules to FOLDER/ko
# FOLDER/ko/modules.list has their files, in this order.
extra_modules_collect() {
	local folder=$1 module file

	rm -rf "$folder/ko"
	mkdir -p "$folder/ko" || return 1
	for module in "${@:2}"; do
		file=$(find "$folder/drivers" -name "$module.ko")
		[ -n "$file" ] || {
			deb_say "$module was not built"
			return 1
		}
		# modprobe takes both spellings, /lib/modules/NAME.ko only one.
		cp "$file" "$folder/ko/${module//-/_}.ko" || return 1
		echo "${module//-/_}.ko"
	done >"$folder/ko/modules.list"
}
