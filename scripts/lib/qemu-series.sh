# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# QEMU with the patches of integrations/qemu, to be sourced after deb.sh, root.sh and
# qemu.sh. It is Debian's source package, built with tools of Debian 13 and little more
# than the devices that the tests use.
#
# The build takes five to ten minutes of CPU time. The result is cached until the patches
# or the build steps change.

# The versions of QEMU that there are patches for, the first one by default: 10.0 of
# Debian 13, and 11, which is in sid and in Debian 13's backports.
QEMU_SERIES=(10 11)
# Sid's version that the patches were tested with.
QEMU_SERIES_KNOWN_11=1:11.1.1+ds-1
QEMU_SERIES_KNOWN_11_SHA256=dfd4fbdd38517e2467002091bbcd938bbff8b2c851cc3f56b019236c7d1f21da

qemu_series_folder=$(dirname "${BASH_SOURCE[0]}")/../../integrations/qemu
qemu_series_header=$qemu_series_folder/../../uapi/linux/kvm_vmem.h

# qemu_series_check VERSION - return 0 if there are patches for a version
qemu_series_check() {
	[[ " ${QEMU_SERIES[*]} " != *" $1 "* ]] || return 0
	deb_say "there are no patches for QEMU $1, only for ${QEMU_SERIES[*]}"
	return 1
}

# qemu_series_patches VERSION - print the files of the patches, in their order
qemu_series_patches() {
	local folder=$qemu_series_folder/patches patch

	[ "$1" = "${QEMU_SERIES[0]}" ] || folder+=-$1
	while read -r patch; do
		echo "$folder/$patch"
	done <"$folder/series"
}

# qemu_series [VERSION] - print a folder with the patched QEMU
# It has the program "qemu", and its loader and libraries in "lib".
qemu_series() {
	local version=${1-${QEMU_SERIES[0]}} key patches

	qemu_series_check "$version" || return 1
	mapfile -t patches < <(qemu_series_patches "$version")
	key=$({
		cat "$qemu_series_folder/devices.mak" "${patches[@]}" \
			"$qemu_series_header"
		declare -f qemu_series_make qemu_series_build qemu_series_configured
	} | sha256sum) || return 1
	deb_cached "qemu/series-$version-${key:0:16}" qemu_series_make "$version"
}

# qemu_series_source DIR VERSION - extract the source to DIR and patch it
qemu_series_source() {
	local dir=$1 patch

	case $2 in
	10) deb_fetch_source trixie "$dir" qemu ;;
	11)
		deb_fetch_source sid "$dir" qemu 1:11. "$QEMU_SERIES_KNOWN_11" \
			"$QEMU_SERIES_KNOWN_11_SHA256"
		;;
	esac || return 1
	# QEMU's script update-linux-headers.sh would place it there.
	cp "$qemu_series_header" "$dir/linux-headers/linux/" || return 1
	while read -r patch; do
		patch -s -d "$dir" -p1 <"$patch" || return 1
	done < <(qemu_series_patches "$2")
}

qemu_series_make() {
	local dir=$1 root

	root=$(qemu_series_tools "$2") && qemu_series_source "$dir/source" "$2" ||
		return 1
	cp "$qemu_series_folder/devices.mak" \
		"$dir/source/configs/devices/x86_64-softmmu/kvm-vmem.mak" || return 1
	mkdir "$dir/build" "$dir/lib" || return 1
	deb_say "building QEMU $2: this takes minutes, once"
	qemu_series_build "$root" "$dir" >"$dir/log" 2>&1 || {
		tail -n 40 "$dir/log"
		return 1
	}
	strip "$dir/build/qemu-system-x86_64" &&
		qemu_copy "$root" "$dir" "$dir/build/qemu-system-x86_64" || return 1
	rm -rf "$dir/source" "$dir/build" "$dir/log"
}

# qemu_series_tools VERSION - print a root with the build tools and libraries of QEMU
qemu_series_tools() {
	local suite=trixie name=qemu-tools more=()

	deb_install xz-utils || return 1
	if [ "$1" != 10 ]; then
		# QEMU 11 needs more Python packages to be configured, one of them from
		# the backports. pip does not start without ca-certificates.
		suite=trixie-backports
		name=qemu-tools-$1
		more=(ca-certificates python3-pycotap python3-qemu-qmp python3-wheel)
	fi
	deb_cached "root/$name" deb_root_make "$suite" bash binutils \
		bison coreutils dash diffutils findutils flex gawk gcc-14 grep gzip \
		libc6-dev libfdt-dev libglib2.0-dev libpixman-1-dev make meson \
		ninja-build perl pkgconf python3 python3-distlib python3-packaging \
		python3-pip python3-setuptools python3-venv sed tar zlib1g-dev \
		"${more[@]}"
}

# qemu_series_build ROOT DIR - build DIR/source in DIR/build
qemu_series_build() {
	# shellcheck disable=SC2016 # for the shell inside
	qemu_series_configured "$1" "$2" 'ninja -j "$jobs" qemu-system-x86_64' \
		--with-devices-x86_64=kvm-vmem \
		--without-default-devices --without-default-features \
		--enable-system --enable-kvm --enable-vhost-kernel \
		--enable-vhost-user --enable-vhost-net --enable-vhost-vdpa \
		--enable-hv-balloon \
		--enable-trace-backends=log --disable-tcg --disable-tools
}

# qemu_series_configured ROOT DIR SCRIPT OPTION... - configure DIR/source in DIR/build, and
# run a script there, for which $jobs is the number of CPUs
qemu_series_configured() {
	# shellcheck disable=SC2016 # for the shell inside
	root_run "$1" "$2" -- bash -e -c '
		if [ -d /usr/share/ca-certificates ]; then
			# The script of the package did not run.
			mkdir -p /etc/ssl/certs
			cat /usr/share/ca-certificates/mozilla/*.crt \
				>/etc/ssl/certs/ca-certificates.crt
		fi
		cd "$1/build"
		../source/configure --cc=gcc-14 --host-cc=gcc-14 --disable-download \
			--target-list=x86_64-softmmu --disable-user \
			--disable-guest-agent --disable-docs --disable-install-blobs \
			--disable-debug-info -Doptimization=1 "${@:3}"
		jobs=$(nproc)
		eval "$2"' build "${@:2}"
}

# qemu_series_ovmf - print a folder with UEFI firmware, OVMF
qemu_series_ovmf() {
	deb_install xz-utils || return 1
	deb_cached qemu/ovmf qemu_series_ovmf_make
}

qemu_series_ovmf_make() {
	deb_fetch_extract trixie "$1" ovmf
}

# qemu_of_series VERSION - print a root with the unpatched QEMU of a version
qemu_of_series() {
	if [ "$1" = 11 ]; then
		qemu_with_shmem
		return
	fi
	deb_install xz-utils || return 1
	deb_cached qemu/trixie deb_root_make trixie qemu-system-x86 qemu-system-data \
		seabios
}
