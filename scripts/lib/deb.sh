# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Access to Debian packages, to be sourced.
#
# There are two ways, which are never mixed:
#
# - deb_install installs missing build tools and libraries on the host with the
#   host's apt.
# - Everything that a test boots or reads (kernel images and headers, compilers of
#   another release, kernel sources, the emulator) is fetched with a private apt and
#   extracted below the cache. This needs no root and does not modify the host. The
#   private apt has its own package lists and sources. Its sources are the host's
#   sources of Debian itself and the suites derived from them; archives are verified
#   with Debian's keyring as usual.
#
# The archive drops superseded versions. Versions are therefore resolved on each
# fetch, and none is hard-coded. A cached item stays until deb_forget removes it.
# Each cached item is complete or absent: it is created under another name with a
# lock held, then renamed.
#
# Functions print their result on stdout and everything else on stderr. On failure
# they print an error and return non-zero. They do not rely on "set -e", which bash
# disables inside a tested command.

deb_cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/kvm-vmem

# Apt waits this many seconds for another apt, which may be fetching the packages of a whole
# root.
DEB_LOCK_S=600

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/debug-kernel.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/matrix.sh"

deb_say() {
	echo "${0##*/}: $*" >&2
}

# deb_cached ITEM BUILDER [ARG]... - print the path of a cached item
# If the item is absent, "BUILDER DIR ARG..." is called to fill the new folder DIR.
deb_cached() {
	local item=$1 path=$deb_cache/$1 partial lock
	shift

	if [ ! -e "$path" ]; then
		partial=$deb_cache/partial/${item//\//-}
		lock=$deb_cache/lock/${item//\//-}
		mkdir -p "$deb_cache/lock" "$deb_cache/partial" \
			"$(dirname "$path")" || return 1
		(
			flock 9 || exit 1
			[ -e "$path" ] && exit 0
			rm -rf "$partial" && mkdir -p "$partial" || exit 1
			"$1" "$partial" "${@:2}" >&2 9>&- || exit 1
			mv -T "$partial" "$path"
		) 9>"$lock" || {
			deb_say "cannot create $item in the cache $deb_cache"
			return 1
		}
	fi
	echo "$path"
}

# deb_forget ITEM... - remove items from the cache
deb_forget() {
	local item

	for item; do
		rm -rf "${deb_cache:?}/$item" || return 1
	done
}

# deb_install PACKAGE... - install the packages that are missing on the host
deb_install() {
	local package missing=()

	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" \
			2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} != 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		deb_say "packages are missing, and installing them needs root: apt-get install ${missing[*]}"
		return 1
	fi
	deb_say "installing ${missing[*]}"
	deb_host_install "${missing[@]}" 2>/dev/null && return 0
	# The lists are absent, or name versions that the archive has dropped.
	apt-get -q -q update >&2 || {
		deb_say "apt-get update failed"
		return 1
	}
	deb_host_install "${missing[@]}" || {
		deb_say "cannot install ${missing[*]}"
		return 1
	}
}

deb_host_install() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -q -y \
		-o DPkg::Lock::Timeout=$DEB_LOCK_S install --no-install-recommends \
		"$@" </dev/null >&2
}

# deb_uri SUITE - print the archive URI of a suite
# It is the one of the host's apt, or derived from the host's other sources.
deb_uri() {
	local suite=$1 release=${1%%-*} known uri

	known=$(apt-get update --print-uris 2>/dev/null |
		sed -n "s#^'\([^']*\)/dists/\([^/']*\)/InRelease'.*#\2 \1#p")
	uri=$(awk -v suite="$suite" '$1 == suite { print $2; exit }' <<<"$known")
	if [ -z "$uri" ]; then
		# Any suite of the main archive, preferably of this release.
		uri=${KVM_VMEM_DEBIAN_MIRROR-}
		[ -n "$uri" ] || uri=$(awk -v release="$release" '
			$2 ~ /\/debian$/ && $1 == release { print $2; exit }' <<<"$known")
		[ -n "$uri" ] || uri=$(awk '
			$2 ~ /\/debian$/ { print $2; exit }' <<<"$known")
		case $uri,$suite in
		,*)
			deb_say "apt has no source for Debian's main archive; set KVM_VMEM_DEBIAN_MIRROR to its URI"
			return 1
			;;
		*-security) uri=${uri%/}-security ;;
		esac
	fi
	echo "${uri%/}"
}

# deb_apt_root DIR RELEASE - create the private apt of a Debian release
deb_apt_root() {
	local dir=$1 release=$2 suite uri keyring
	local final=$deb_cache/apt/$release
	local suites=("$release")

	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -r "$keyring" ] || {
		deb_say "$keyring is missing: install debian-archive-keyring"
		return 1
	}
	mkdir -p "$dir"/{state/lists/partial,cache/archives/partial} || return 1
	: >"$dir/status"
	# Unlike sid, a release has suites for updates.
	[ "$release" = sid ] ||
		suites+=("$release-updates" "$release-security" "$release-backports")
	for suite in "${suites[@]}"; do
		uri=$(deb_uri "$suite") || return 1
		echo "deb [signed-by=$keyring] $uri $suite main"
	done >"$dir/sources.list"
	{
		# How the host reaches the archive (proxies and so on).
		apt-config dump | grep '^Acquire::'
		cat <<-END
		Dir::State "$final/state";
		Dir::State::status "$final/status";
		Dir::Cache "$final/cache";
		Dir::Etc::sourcelist "$final/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::parts "/dev/null";
		Dir::Etc::main "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		Acquire::Languages "none";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::Retries "3";
		APT::Sandbox::User "";
		END
	} >"$dir/apt.conf"
}

# deb_apt RELEASE COMMAND... - run an apt tool with the private apt
deb_apt() {
	local root

	root=$(deb_cached "apt/$1" deb_apt_root "$1") || return 1
	APT_CONFIG=$root/apt.conf "${@:2}"
}

# deb_update RELEASE [MINUTES] - update the private lists
# Lists younger than MINUTES (60) are not updated.
deb_update() {
	local release=$1 minutes=${2-60} root

	root=$(deb_cached "apt/$release" deb_apt_root "$release") || return 1
	(
		flock 9 || exit 1
		[ -z "$(find "$root/updated" -mmin "-$minutes" 2>/dev/null)" ] ||
			exit 0
		deb_say "updating the package lists of $release"
		deb_apt "$release" apt-get -q -q \
			-o APT::Update::Error-Mode=any update >&2 9>&- || exit 1
		touch "$root/updated"
	) 9>"$deb_cache/lock/apt-$release-update" || {
		deb_say "cannot update the package lists of $release"
		return 1
	}
}

# deb_target SUITE - print the apt option that makes a suite's packages candidates
# Prints nothing for a release, as its security and updates suites take precedence.
deb_target() {
	[[ $1 != *-* ]] || echo "-oAPT::Default-Release=$1"
}

# deb_depends SUITE PACKAGE - print the names of a package's dependencies
deb_depends() {
	local target

	mapfile -t target < <(deb_target "$1")
	deb_apt "${1%%-*}" apt-cache "${target[@]}" show --no-all-versions "$2" |
		sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' |
		tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//'
}

# deb_fetch SUITE DIR PACKAGE... - download .deb files into a folder
# Fetches the newest versions of the release, its security and its updates suite.
# Backports are used only if SUITE is the backports suite.
deb_fetch() {
	local suite=$1 release=${1%%-*} dir=$2

	deb_update "$release" || return 1
	mkdir -p "$dir" || return 1
	deb_say "fetching ${*:3} ($suite)"
	deb_fetch_once "$@" && return 0
	# The versions may have been superseded since the last update.
	deb_update "$release" 0 && deb_fetch_once "$@" && return 0
	deb_say "cannot fetch ${*:3} from $suite"
	return 1
}

deb_fetch_once() (
	mapfile -t target < <(deb_target "$1")
	cd "$2" && deb_apt "${1%%-*}" apt-get -q -q "${target[@]}" \
		download "${@:3}" >&2
)

# deb_fetch_extract SUITE DIR PACKAGE... - download and extract packages into a folder
deb_fetch_extract() {
	local dir=$2 archive

	deb_fetch "$1" "$dir/.debs" "${@:3}" || return 1
	for archive in "$dir"/.debs/*.deb; do
		dpkg-deb -x "$archive" "$dir" || return 1
		rm -f "$archive"
	done
	rmdir "$dir/.debs"
}

# deb_fetch_source SUITE DIR PACKAGE [PREFIX KNOWN SHA256] - download a source package
# and extract it
# The source in the new folder DIR has Debian's patches applied. The version is the
# newest one, that starts with PREFIX, of the release, its security and its updates
# suite, or of the backports if SUITE is the backports suite. If the archive has dropped
# that version, the previous one is fetched, and finally the version KNOWN, whose .dsc
# has the checksum SHA256.
deb_fetch_source() {
	local suite=$1 release=${1%%-*} dir=$2 package=$3 own=$2.apt version apt
	local prefix=${4-} known=${5-} sha256=${6-}

	deb_install dpkg-dev xz-utils && deb_update "$release" &&
		mkdir -p "$own/lists/partial" || return 1
	awk -v suite="$suite" -v backports="$release-backports" '
		$(NF - 1) == suite || (suite !~ /-/ && $(NF - 1) != backports) {
			$1 = "deb-src"
			print
		}' "$deb_cache/apt/$release/sources.list" >"$own/sources.list"
	apt=(-q -q -o Dir::Etc::sourcelist="$own/sources.list"
		-o Dir::State::Lists="$own/lists" -o Dir::Cache="$own")
	deb_say "fetching the source of $package ($suite)"
	deb_apt "$release" apt-get "${apt[@]}" update >&2 || return 1
	while read -r version; do
		[[ $version == "$prefix"* ]] || continue
		# A failed fetch of another version may have left its .dsc.
		rm -f "$own"/*.dsc
		(cd "$own" && deb_apt "$release" apt-get "${apt[@]}" \
			--download-only source "$package=$version" >&2) || continue
		deb_extract_source "$own" "$package" "$dir"
		return
	done < <(deb_apt "$release" apt-cache "${apt[@]}" showsrc "$package" |
		sed -n 's/^Version: //p' | sort -rVu)
	rm -f "$own"/*.dsc
	if [ -n "$known" ] &&
		deb_fetch_from_pool "$suite" "$own" "$package" "$known" "$sha256"; then
		deb_extract_source "$own" "$package" "$dir"
		return
	fi
	deb_say "cannot fetch the source of $package from $suite"
	return 1
}

deb_extract_source() {
	dpkg-source -q --no-check --no-copy -x "$1/$2"_*.dsc "$3" >&2 && rm -rf "$1"
}

# deb_fetch_from_pool SUITE DIR PACKAGE VERSION SHA256 - download a source package that
# no list has
# Lists may be newer than a mirror's files, which are there for as long as any release
# needs them. SHA256 is the checksum of the .dsc, which has those of the other files.
deb_fetch_from_pool() {
	local release=${1%%-*} dir=$2 dsc=$3_${4#*:}.dsc uri hash name

	uri=$(deb_uri "$1")/pool/main/${3::1}/$3 || return 1
	deb_say "fetching version $4 of $3"
	deb_fetch_file "$release" "$uri/$dsc" "$dir/$dsc" "$5" || return 1
	while read -r hash _ name; do
		deb_fetch_file "$release" "$uri/$name" "$dir/$name" "$hash" ||
			return 1
	done < <(sed -n 's/^ \([0-9a-f]\{64\} .*\)/\1/p' "$dir/$dsc")
}

# deb_fetch_file RELEASE URI FILE SHA256 - download a file as apt does
deb_fetch_file() {
	deb_apt "$1" /usr/lib/apt/apt-helper -q -q download-file "$2" "$3" \
		"SHA256:$4" >&2
}

# deb_root SUITE PACKAGE... - print a root with packages and their dependencies
# Packages are extracted only; their scripts do not run. Essential packages without
# a dependency on them are absent. All files are below usr; root.sh runs programs in
# the root.
deb_root() {
	deb_install xz-utils || return 1
	deb_cached "root/$1" deb_root_make "$@"
}

deb_root_make() {
	local dir=$1 suite=$2 archives=$1/.debs archive name target

	deb_update "${suite%%-*}" || return 1
	mapfile -t target < <(deb_target "$suite")
	mkdir -p "$archives/partial" "$dir/usr/bin" "$dir/usr/sbin" \
		"$dir/usr/lib" "$dir/usr/lib64" || return 1
	for name in bin sbin lib lib64; do
		ln -s "usr/$name" "$dir/$name" || return 1
	done
	deb_say "fetching ${*:3} and their dependencies ($suite)"
	deb_apt "${suite%%-*}" apt-get -q -q -y "${target[@]}" \
		-o DPkg::Lock::Timeout=$DEB_LOCK_S \
		-o Dir::Cache::archives="$archives" --no-install-recommends \
		--download-only install "${@:3}" </dev/null >&2 || return 1
	for archive in "$archives"/*.deb; do
		dpkg-deb --fsys-tarfile "$archive" |
			tar -x -C "$dir" --keep-directory-symlink || return 1
	done
	rm -rf "$archives" "${dir:?}/usr/share/"{doc,info,locale,man} || return 1
	# The scripts that would create the alternatives do not run.
	[ ! -e "$dir/usr/bin/mawk" ] || ln -s mawk "$dir/usr/bin/awk"
}

# deb_reviewed_series - print the kernel series of kmod/series.c
deb_reviewed_series() {
	sed -n 's/^\t{ \([0-9]*\), \([0-9]*\) },$/\1.\2/p' \
		"$(dirname "${BASH_SOURCE[0]}")/../../kmod/series.c"
}

# deb_kernel_suite RELEASE - print the suite and the flavour of a kernel
# Prints "SUITE FLAVOUR", from scripts/matrix. RELEASE is a series, optionally with
# "-cloud", "-rt" or "-debug". Debian has no -debug packages; debug-kernel.sh builds
# that kernel from source.
deb_kernel_suite() {
	local series=${1%%-*} name=${1#*-} flavour suite

	suite=$(matrix_suite "$series")
	case $1 in
	"$series") flavour=amd64 ;;
	*-debug) flavour=debug ;;
	*) flavour=$name-amd64 ;;
	esac
	if [ -z "$suite" ] || { [ "$1" != "$series" ] &&
		! matrix_has_flavour "$series" "$name"; }; then
		deb_say "unknown kernel $1; known kernels: $(matrix_releases)"
		return 1
	fi
	echo "$suite $flavour"
}

# deb_kernel_newest SUITE SERIES FLAVOUR - print the newest version of a series
# The backports keep the previous series for a while beside the one of the meta
# package, so the image is searched by name. Both image and headers must be in SUITE
# or, for a release, in its security or updates suite. Prints nothing if the archive
# has no such version.
deb_kernel_newest() {
	local number='[0-9][0-9.]*(\+[a-z0-9.]+)?(-[0-9]+)?' where=$1 packages

	[[ $1 == *-* ]] || where="$1(-updates|-security)?"
	deb_update "${1%%-*}" || return 1
	mapfile -t packages < <(deb_apt "${1%%-*}" apt-cache search --names-only \
		"^linux-(image|headers)-${2//./\\.}\\.$number-$3\$" | cut -d ' ' -f 1)
	[ ${#packages[@]} != 0 ] || return 0
	deb_apt "${1%%-*}" apt-cache madison "${packages[@]}" |
		sed -nE "s#^ *linux-(image|headers)-([^ ]*) .* $where/.*#\2 \1#p" |
		sort -uV | cut -d ' ' -f 1 | uniq -d | tail -n 1
}

# deb_kernel_gone RELEASE - return 0 if the archive has dropped a kernel
# The backports drop superseded series. Returns 1 if the kernel is in the cache, or if
# the archive cannot be reached; fetching the kernel then fails with an error.
deb_kernel_gone() {
	local suite flavour version

	[ ! -e "$deb_cache/kernel/$1" ] || return 1
	read -r suite flavour < <(deb_kernel_suite "$1") || return 1
	[ "$flavour" != debug ] || return 1
	version=$(deb_kernel_newest "$suite" "${1%%-*}" "$flavour") || return 1
	[ -z "$version" ]
}

# deb_kernel RELEASE - print the folder of an extracted kernel
# It has "version" (the output of uname -r), "vmlinuz", lib/modules/VERSION with its
# dependency files, and "headers", to build modules for exactly this image.
deb_kernel() {
	deb_kernel_suite "$1" >/dev/null || return 1
	deb_install kmod xz-utils || return 1
	if [[ $1 == *-debug && -e $deb_cache/kernel/$1 ]] &&
		! debug_kernel_fresh "$deb_cache/kernel/$1"; then
		deb_forget "kernel/$1"
	fi
	deb_cached "kernel/$1" deb_kernel_make "$1"
}

# deb_headers RELEASE - print the build folder (KDIR) for a kernel's modules
deb_headers() {
	local dir

	dir=$(deb_kernel "$1") || return 1
	echo "$dir/headers/usr/src/linux-headers-$(<"$dir/version")"
}

deb_kernel_make() {
	local dir=$1 release=$2 suite flavour version package
	local -a image headers

	read -r suite flavour < <(deb_kernel_suite "$release") || return 1
	if [ "$flavour" = debug ]; then
		debug_kernel_make "$dir" "${release%-debug}" "$suite"
		return
	fi
	version=$(deb_kernel_newest "$suite" "${release%%-*}" "$flavour") ||
		return 1
	[ -n "$version" ] || {
		deb_say "$suite no longer has kernel $release (flavour $flavour, with headers): the archive drops superseded series"
		return 1
	}
	image=("linux-image-$version")
	# Newer image packages are empty and depend on packages with the files.
	for package in $(deb_depends "$suite" "linux-image-$version"); do
		case $package in
		linux-base-"$version" | linux-binary-"$version" | \
			linux-modules-"$version") image+=("$package") ;;
		esac
	done
	deb_fetch_extract "$suite" "$dir" "${image[@]}" || return 1
	rm -rf "${dir:?}/usr/share" || return 1
	# Newer packages have the modules below usr/lib, and the image with them.
	[ -d "$dir/lib" ] || mv "$dir/usr/lib" "$dir/lib" || return 1
	if [ -e "$dir/boot/vmlinuz-$version" ]; then
		mv "$dir/boot/vmlinuz-$version" "$dir/vmlinuz" || return 1
	else
		mv "$dir/lib/modules/$version/vmlinuz" "$dir/vmlinuz" || return 1
	fi
	depmod -b "$dir" "$version" || return 1

	# The headers of the same ABI, and the packages they depend on.
	headers=("linux-headers-$version")
	for package in $(deb_depends "$suite" "linux-headers-$version"); do
		case $package in
		linux-headers-* | linux-kbuild-*) headers+=("$package") ;;
		esac
	done
	deb_fetch_extract "$suite" "$dir/headers" "${headers[@]}" || return 1
	deb_relocate_headers "$dir/headers" \
		"$deb_cache/kernel/$release/headers" || return 1
	deb_complete_headers "$dir/headers" || return 1
	echo "$version" >"$dir/version"
}

# deb_relocate_headers ROOT FINAL - make absolute paths in headers point below FINAL
# The flavour's Makefile includes the common headers by absolute path, and symbolic
# links are absolute. ROOT is renamed to FINAL later.
deb_relocate_headers() {
	local root=$1 final=$2 link target

	find "$root/usr/src" -name Makefile -maxdepth 2 \
		-exec sed -i "s#\([ =]\)/usr/#\1$final/usr/#g" {} + || return 1
	find "$root" -type l -lname '/*' | while read -r link; do
		target=$(readlink "$link")
		[ ! -e "$root$target" ] || ln -sfn "$final$target" "$link" ||
			return 1
	done
}

# deb_complete_headers ROOT - add a script that newer header packages lack
# kbuild runs the checker (sparse) only if checker-valid.sh succeeds.
deb_complete_headers() {
	local makefile script

	for makefile in "$1"/usr/src/*-common/Makefile; do
		script=${makefile%/*}/scripts/checker-valid.sh
		grep -qF checker-valid.sh "$makefile" || continue
		[ ! -e "$script" ] || continue
		# shellcheck disable=SC2016 # for the script
		printf '#!/bin/sh\ncommand -v "$1" >/dev/null && echo 1\n' \
			>"$script" && chmod 755 "$script" || return 1
	done
}

# deb_fetch_linux SUITE DIR SERIES TAR-OPTION... - extract a kernel's sources, or a part, to a
# folder
# The options and patterns of tar select the part.
deb_fetch_linux() {
	local suite=$1 dir=$2 series=$3 archive

	deb_fetch "$suite" "$dir" "linux-source-$series" || return 1
	archive=$(echo "$dir"/*.deb)
	dpkg-deb --fsys-tarfile "$archive" |
		tar -xO --wildcards "./usr/src/linux-source-$series.tar.*" |
		tar -xJ -C "$dir" "${@:4}" || return 1
	rm -f "$archive"
}

# deb_linux_source SERIES - print a folder with parts of the kernel's sources
# It has the netlink generator with its schemas, and checkpatch.
deb_linux_source() {
	deb_install xz-utils || return 1
	deb_cached "linux-source/$1" deb_linux_source_make "$1"
}

deb_linux_source_make() {
	local dir=$1 series=$2 suite

	read -r suite _ < <(deb_kernel_suite "$series") || return 1
	deb_fetch_linux "$suite" "$dir" "$series" --strip-components=1 --wildcards \
		'*/MAINTAINERS' '*/Documentation/netlink' \
		'*/Documentation/dev-tools/checkpatch.rst' \
		'*/tools/net/ynl' '*/scripts/checkpatch.pl' \
		'*/scripts/spelling.txt' '*/scripts/const_structs.checkpatch'
}
