# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# libvirt of Debian 13, to be sourced after deb.sh.

LIBVIRT_SUITE=trixie

# libvirt_system - print a folder with a system that has libvirt, and no QEMU
# The archive root.tar has the programs with the shared libraries that they need, the
# files that they read, and AppArmor's profiles of them. Scripts of packages did not run:
# there is no user.
libvirt_system() {
	local key

	deb_install xz-utils || return 1
	key=$(declare -f libvirt_system_make | sha256sum) || return 1
	deb_cached "root/libvirt-$LIBVIRT_SUITE-${key:0:16}" libvirt_system_make
}

libvirt_system_make() {
	local root libraries=usr/lib/x86_64-linux-gnu loader file
	local programs=(usr/bin/virsh usr/sbin/libvirtd usr/sbin/apparmor_parser
		usr/lib/libvirt/libvirt_iohelper usr/lib/libvirt/virt-aa-helper
		"$libraries/libvirt/connection-driver/libvirt_driver_qemu.so")
	local others=(bin sbin lib lib64 etc/apparmor etc/libvirt usr/share/apparmor-features
		usr/share/libvirt
		etc/apparmor.d/{abi,abstractions,libvirt,tunables}
		etc/apparmor.d/usr.{lib.libvirt.virt-aa-helper,sbin.libvirtd})

	# The paths of the libraries below must begin with that of the root.
	root=$(realpath "$1")/root
	mkdir "$root" && deb_root_make "$root" "$LIBVIRT_SUITE" apparmor libvirt-clients \
		libvirt-daemon libvirt-daemon-driver-qemu || return 1
	loader=$root/usr/lib64/ld-linux-x86-64.so.2
	for file in "${programs[@]}"; do
		"$loader" --library-path "$root/$libraries" --list "$root/$file"
	done | grep -o "$root/[^ ]*" | sort -u >"$1/libraries" || return 1
	{
		printf '%s\n' "${programs[@]}" "${others[@]}" usr/lib64/ld-linux-x86-64.so.2
		while read -r file; do
			realpath "$file" && echo "$file" || return 1
		done <"$1/libraries"
	} | sed "s#^$root/##" | sort -u >"$1/files" || return 1
	tar -C "$root" -cf "$1/root.tar" -T "$1/files" || return 1
	rm -rf "$root" "$1/files" "$1/libraries"
}
