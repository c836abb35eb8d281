# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# QEMU with the patches of integrations/qemu, to be sourced after deb.sh, root.sh and
# qemu.sh. It is Debian's source package, built with the tools of the same release
# and little more than the devices that the tests use.
#
# The build takes five minutes of CPU time. The result is cached until the patches or
# the build steps change.

# The Debian release whose QEMU the patches apply to.
QEMU_SERIES_SUITE=trixie

qemu_series_folder=$(dirname "${BASH_SOURCE[0]}")/../../integrations/qemu
qemu_series_header=$qemu_series_folder/../../uapi/linux/kvm_vmem.h

# qemu_series - print a folder with the patched QEMU
# It has the program "qemu", and its loader and libraries in "lib".
qemu_series() {
	local key

	key=$({
		cat "$qemu_series_folder"/{devices.mak,patches/*} "$qemu_series_header"
		declare -f qemu_series_make qemu_series_build
	} | sha256sum) || return 1
	deb_cached "qemu/series-${key:0:16}" qemu_series_make
}

# qemu_series_source DIR - extract the source to DIR and patch it
qemu_series_source() {
	local dir=$1 patch

	deb_fetch_source "$QEMU_SERIES_SUITE" "$dir" qemu || return 1
	# QEMU's script update-linux-headers.sh would place it there.
	cp "$qemu_series_header" "$dir/linux-headers/linux/" || return 1
	while read -r patch; do
		patch -s -d "$dir" -p1 <"$qemu_series_folder/patches/$patch" ||
			return 1
	done <"$qemu_series_folder/patches/series"
}

qemu_series_make() {
	local dir=$1 root

	root=$(qemu_series_tools) && qemu_series_source "$dir/source" || return 1
	cp "$qemu_series_folder/devices.mak" \
		"$dir/source/configs/devices/x86_64-softmmu/kvm-vmem.mak" || return 1
	mkdir "$dir/build" "$dir/lib" || return 1
	deb_say "building QEMU: this takes five minutes, once"
	qemu_series_build "$root" "$dir" >"$dir/log" 2>&1 || {
		tail -n 40 "$dir/log"
		return 1
	}
	strip "$dir/build/qemu-system-x86_64" &&
		qemu_copy "$root" "$dir" "$dir/build/qemu-system-x86_64" || return 1
	rm -rf "$dir/source" "$dir/build" "$dir/log"
}

# qemu_series_tools - print a root with the build tools and libraries of QEMU
qemu_series_tools() {
	deb_install xz-utils || return 1
	deb_cached root/qemu-tools deb_root_make "$QEMU_SERIES_SUITE" bash binutils \
		bison coreutils dash diffutils findutils flex gawk gcc-14 grep gzip \
		libc6-dev libfdt-dev libglib2.0-dev libpixman-1-dev make meson \
		ninja-build perl pkgconf python3 python3-distlib python3-packaging \
		python3-pip python3-setuptools python3-venv sed tar zlib1g-dev
}

# qemu_series_build ROOT DIR - build DIR/source in DIR/build
qemu_series_build() {
	local jobs

	jobs=$(nproc)
	# shellcheck disable=SC2016 # for the shell inside
	root_run "$1" "$2" -- bash -e -c '
		cd "$1/build"
		../source/configure --cc=gcc-14 --host-cc=gcc-14 --disable-download \
			--target-list=x86_64-softmmu --with-devices-x86_64=kvm-vmem \
			--without-default-devices --without-default-features \
			--enable-system --enable-kvm --enable-vhost-kernel \
			--enable-vhost-user --enable-vhost-net --enable-hv-balloon \
			--enable-trace-backends=log --disable-tcg --disable-user \
			--disable-tools --disable-guest-agent --disable-docs \
			--disable-install-blobs --disable-debug-info \
			-Doptimization=1
		ninja -j "$2" qemu-system-x86_64' build "$2" "$jobs"
}

# qemu_of_series - print a root with the unpatched QEMU that the patches apply to
qemu_of_series() {
	deb_install xz-utils || return 1
	deb_cached "qemu/$QEMU_SERIES_SUITE" deb_root_make "$QEMU_SERIES_SUITE" \
		qemu-system-x86 qemu-system-data seabios
}
