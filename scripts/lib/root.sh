# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions that run programs of another Debian release, to be sourced after deb.sh.
#
# Tools in kernel headers are linked to the libraries of their release, and need its
# compiler. These are extracted below the cache as a root, and run there with chroot in
# a new mount namespace. Without root privileges, a user namespace is created too.

# root_tools SUITE - print a root with compilers
# Trixie's root has the tools to build modules. Sid's root has rustc, and the crate with
# the vhost-user front end of VMMs in Rust.
root_tools() {
	case $1 in
	trixie*)
		deb_root "$1" bash binutils coreutils dash diffutils findutils gcc-14 \
			grep gzip kmod libelf1t64 libssl3t64 make mawk pahole \
			sed sparse tar xz-utils zlib1g
		;;
	sid) deb_root sid cargo coreutils gcc libc6-dev librust-vhost-dev rustc ;;
	*)
		deb_say "no list of tools for $1"
		return 1
		;;
	esac
}

# root_propagation - print the mount propagation for unshare
# If the scripts themselves run in a chroot, the root is not a mount point, and unshare
# cannot make it private. Mounts may then be visible outside, so callers unmount them.
root_propagation() {
	if unshare --mount true 2>/dev/null; then
		echo private
	else
		echo unchanged
	fi
}

# root_run ROOT FOLDER... -- COMMAND... - run a command in a root
# The folders have the same paths in the root, and are writable.
root_run() {
	local options=(--mount) point status=0

	if [ "$(id -u)" = 0 ]; then
		options+=(--propagation "$(root_propagation)")
	else
		options+=(--user --map-root-user)
	fi
	point=$(mktemp -d) || return 1
	# Mounts below it are removed with the namespace.
	# shellcheck disable=SC2016 # for the shell inside
	unshare "${options[@]}" bash -c '
		set -e
		mount -t tmpfs -o mode=755 root "$1"
		mount --make-private "$1"
		trap "cd /; umount -l -R $1" EXIT
		cd "$1"
		mkdir usr dev proc tmp
		mount --bind "$2/usr" usr
		mount -o remount,bind,ro usr
		mount --rbind /dev dev
		mount --rbind /proc proc
		# Make them slaves, as unmounting mounts below them would otherwise
		# unmount those outside too.
		mount --make-rslave dev
		mount --make-rslave proc
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
		env -i PATH=/usr/sbin:/usr/bin HOME=/ LC_ALL=C.UTF-8 \
			chroot . "$@"' root_run "$point" "$@" || status=$?
	rmdir "$point"
	return "$status"
}
