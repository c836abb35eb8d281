# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Running programs of another Debian release, to be sourced after deb.sh.
#
# Kernel headers come with tools that are linked to the libraries of their
# release, and want its compiler. Those are extracted below the cache as a root
# of their own, and run there with chroot, in a mount namespace that ends with
# them. Without root it is a user namespace too.

# root_tools SUITE - print a root with all it takes to build modules
root_tools() {
	case $1 in
	trixie*)
		deb_root "$1" bash binutils coreutils dash diffutils findutils gcc-14 \
			grep gzip kmod libelf1t64 libssl3t64 make mawk pahole \
			sed sparse tar xz-utils zlib1g
		;;
	*)
		deb_say "no tools are known for $1"
		return 1
		;;
	esac
}

# root_run ROOT FOLDER... -- COMMAND... - run a command in a root
# Folders are there under their own names, and may be written to.
root_run() {
	local options=(--mount --propagation private) point status=0

	[ "$(id -u)" = 0 ] || options+=(--user --map-root-user)
	point=$(mktemp -d) || return 1
	# What is mounted there is gone with the namespace.
	# shellcheck disable=SC2016 # for the shell inside
	unshare "${options[@]}" bash -c '
		set -e
		mount -t tmpfs -o mode=755 root "$1"
		cd "$1"
		mkdir usr dev proc tmp
		mount --bind "$2/usr" usr
		mount -o remount,bind,ro usr
		mount --rbind /dev dev
		mount --rbind /proc proc
		for name in bin sbin lib lib64; do
			ln -s "usr/$name" "$name"
		done
		shift 2
		while [ "$1" != -- ]; do
			mkdir -p "./$1"
			mount --bind "$1" "./$1"
			shift
		done
		shift
		exec env -i PATH=/usr/sbin:/usr/bin HOME=/ LC_ALL=C.UTF-8 \
			chroot . "$@"' root_run "$point" "$@" || status=$?
	rmdir "$point"
	return "$status"
}
