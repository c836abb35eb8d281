# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions that build initramfs images of busybox, modules, programs and files, to
# be sourced after deb.sh.
#
# An image is staged in a folder and then packed without compression, as unpacking
# in an emulated machine takes longer than loading.

# initramfs_begin STAGE - create the skeleton in STAGE
initramfs_begin() {
	local stage=$1 busybox

	busybox=$(deb_cached busybox deb_fetch_busybox) || return 1
	mkdir -p "$stage"/{bin,sbin,usr/{bin,sbin,lib},lib/modules,etc,dev,proc} \
		"$stage"/{sys,tmp,run,root,out,var} || return 1
	cp "$busybox/bin/busybox" "$stage/bin/busybox" || return 1
	ln -s busybox "$stage/bin/sh" || return 1
	cat >"$stage/etc/passwd" <<-'END'
	root:x:0:0:root:/root:/bin/sh
	nobody:x:65534:65534:nobody:/:/bin/false
	END
	cat >"$stage/etc/group" <<-'END'
	root:x:0:
	kvm:x:104:
	nogroup:x:65534:
	END
}

deb_fetch_busybox() {
	deb_fetch_extract bookworm "$1" busybox-static
}

# initramfs_module STAGE KERNELDIR MODULE - add a module
# MODULE is the name of one of the kernel's modules or the path of a .ko file. The
# modules it depends on are added too. A file is placed where depmod finds it, with
# a link at /lib/modules/NAME.ko.
initramfs_module() {
	local stage=$1 kernel=$2 module=$3 version name depends action path
	local modules

	version=$(<"$kernel/version")
	modules=$stage/lib/modules/$version
	mkdir -p "$modules/extra" || return 1
	if [[ $module == */* || $module == *.ko ]]; then
		[ -f "$module" ] || {
			deb_say "no module $module"
			return 1
		}
		name=$(modinfo -F vermagic "$module" | cut -d ' ' -f 1)
		[ "$name" = "$version" ] || {
			deb_say "$module is built for kernel ${name:-?}, not $version"
			return 1
		}
		name=${module##*/}
		cp "$module" "$modules/extra/$name" || return 1
		ln -sfn "$version/extra/$name" "$stage/lib/modules/$name"
		depends=$(modinfo -F depends "$module") || return 1
		for name in ${depends//,/ }; do
			# Another file of the command line may provide it.
			[ -e "$stage/lib/modules/$name.ko" ] ||
				initramfs_module "$stage" "$kernel" "$name" ||
				return 1
		done
		return 0
	fi

	depends=$(modprobe -C /dev/null -d "$kernel" -S "$version" \
		--show-depends "$module") || {
		deb_say "kernel $version has no module $module"
		return 1
	}
	while read -r action path _; do
		[ "$action" = insmod ] || continue
		name=${path##*/}
		name=${name%%.*}
		[ ! -e "$modules/kernel/$name.ko" ] || continue
		mkdir -p "$modules/kernel" || return 1
		case $path in
		*.xz) xz -dc "$path" >"$modules/kernel/$name.ko" || return 1 ;;
		*) cp "$path" "$modules/kernel/$name.ko" || return 1 ;;
		esac
	done <<<"$depends"
}

# initramfs_program STAGE PROGRAM[:PATH] - add a program and its libraries
# The default PATH is in /bin.
initramfs_program() {
	local stage=$1 program=${2%%:*} path library

	path=/bin/${program##*/}
	[[ $2 != *:* ]] || path=${2#*:}
	[ -x "$program" ] || program=$(command -v "$program") || {
		deb_say "no program ${2%%:*}"
		return 1
	}
	initramfs_copy "$stage" "$program" "$path" || return 1
	# ldd fails for scripts and static programs.
	{ ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true; } |
		while read -r library; do
			[ -e "$stage$library" ] ||
				initramfs_copy "$stage" "$library" "$library" ||
				return 1
		done
}

# initramfs_file STAGE SOURCE:DESTINATION - add a file or a folder
initramfs_file() {
	local source=${2%%:*}

	[[ $2 == *:/* ]] || {
		deb_say "--file takes SOURCE:/DESTINATION, not $2"
		return 1
	}
	[ -e "$source" ] || {
		deb_say "no file $source"
		return 1
	}
	initramfs_copy "$1" "$source" "${2#*:}"
}

initramfs_copy() {
	mkdir -p "$(dirname "$1$3")" && cp -rL "$2" "$1$3"
}

# initramfs_end STAGE KERNELDIR INIT FILE - pack the image
initramfs_end() {
	local stage=$1 version file=$4

	cp "$3" "$stage/init" && chmod 755 "$stage/init" || return 1
	version=$(<"$2/version")
	if [ -d "$stage/lib/modules/$version" ]; then
		cp "$2/lib/modules/$version"/modules.{order,builtin*} \
			"$stage/lib/modules/$version/" || return 1
		depmod -b "$stage" "$version" || return 1
	fi
	(cd "$stage" && find . -print0 | sort -z |
		cpio -o -0 -H newc -R 0:0 --quiet) >"$file"
}
