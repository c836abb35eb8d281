# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Running programs of another Debian release, to be sourced after deb.sh.
#
# Kernel headers come with tools that are linked to the libraries of their
# release, and want its compiler. Those are extracted below the cache as a root
# of their own, and run there with chroot, in a mount namespace that ends with
# them. Without root it is a user namespace too.

# root_tools SUITE - print a root with compilers
# Trixie's has all it takes to build modules; sid's has rustc, and the crates that
# VMMs in Rust have their vhost-user front end from.
root_tools() {
	case $1 in
	trixie*)
		deb_root "$1" bash binutils coreutils dash diffutils findutils gcc-14 \
			grep gzip kmod libelf1t64 libssl3t64 make mawk pahole \
			sed sparse tar xz-utils zlib1g
		;;
	sid) deb_root sid cargo coreutils gcc libc6-dev librust-vhost-dev rustc ;;
	*)
		deb_say "no tools are known for $1"
		return 1
		;;
	esac
}

# root_propagation - print how unshare is to treat the mounts of this machine
# In a plain chroot the root is no mount, so unshare cannot make it private.
# What is mounted then may be seen outside: the mounter unmounts it.
root_propagation() {
	if unshare --mount true 2>/dev/null; then
		echo private
	else
		echo unchanged
	fi
}

# root_run ROOT FOLDER... -- COMMAND... - run a command in a root
# Folders are there under their own names, and may be written to.
root_run() {
	local options=(--mount) point status=0

	if [ "$(id -u)" = 0 ]; then
		options+=(--propagation "$(root_propagation)")
	else
		options+=(--user --map-root-user)
	fi
	point=$(mktemp -d) || return 1
	# What is mounted there is gone with the namespace.
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
		# Or to unmount what is below them would do so outside, too.
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
