# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the scripts take from Debian, to be sourced.
#
# Two ways, never mixed:
#
# - deb_install puts build tools and libraries on this machine with its own
#   apt, and only those that are missing.
# - Everything a test boots or reads (kernel images and headers, compilers of
#   another release, kernel sources, the emulator) is fetched with a private apt and extracted below
#   the cache, and so needs no root and changes nothing of the machine. The
#   private apt has its own lists and its own sources, which are those of the
#   machine's apt for Debian itself plus the suites derived from them; archives
#   are checked against Debian's keyring as usual.
#
# The archive drops superseded versions, so versions are resolved when
# something is fetched and never written down here. What is in the cache stays
# until deb_forget. Each item there is complete or absent: it is made under
# another name with a lock held, then renamed.
#
# Functions print their result on stdout, all else on stderr, and return
# non-zero after an explanation on failure. They do not rely on "set -e", which
# bash turns off inside a tested command.

deb_cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/kvm-vmem

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/debug-kernel.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/matrix.sh"

deb_say() {
	echo "${0##*/}: $*" >&2
}

# deb_cached ITEM BUILDER [ARG]... - print the path of a cached item
# BUILDER is called as "BUILDER DIR ARG..." with a new folder to fill, if the
# item is not there yet.
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
			deb_say "cannot make $item in the cache, $deb_cache"
			return 1
		}
	fi
	echo "$path"
}

# deb_forget ITEM... - drop items from the cache, to be fetched anew
deb_forget() {
	local item

	for item; do
		rm -rf "${deb_cache:?}/$item" || return 1
	done
}

# deb_install PACKAGE... - install those that are missing on this machine
deb_install() {
	local package missing=()

	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" \
			2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} != 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		deb_say "not root, so cannot install what is missing; run: apt-get install ${missing[*]}"
		return 1
	fi
	deb_say "installing ${missing[*]}"
	deb_host_install "${missing[@]}" 2>/dev/null && return 0
	# The lists were absent, or name versions that have left the archive.
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
		-o DPkg::Lock::Timeout=300 install --no-install-recommends \
		"$@" </dev/null >&2
}

# deb_uri SUITE - the archive URI that the machine's apt has for a suite, or
# that follows from what it has
deb_uri() {
	local suite=$1 release=${1%%-*} known uri

	known=$(apt-get update --print-uris 2>/dev/null |
		sed -n "s#^'\([^']*\)/dists/\([^/']*\)/InRelease'.*#\2 \1#p")
	uri=$(awk -v suite="$suite" '$1 == suite { print $2; exit }' <<<"$known")
	if [ -z "$uri" ]; then
		# Any suite of the main archive, of this release or another.
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

# deb_apt_root DIR RELEASE - make the private apt of a Debian release
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
	# What is released has suites of its own for what comes after that.
	[ "$release" = sid ] ||
		suites+=("$release-updates" "$release-security" "$release-backports")
	for suite in "${suites[@]}"; do
		uri=$(deb_uri "$suite") || return 1
		echo "deb [signed-by=$keyring] $uri $suite main"
	done >"$dir/sources.list"
	{
		# How this machine reaches the archive (proxies and so on).
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

# deb_update RELEASE [MINUTES] - bring the private lists up to date
# Lists younger than MINUTES (an hour) are good enough.
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

# deb_target SUITE - the apt option that makes a suite's packages the candidates
# None for a release itself: its security and updates are to win over it.
deb_target() {
	[[ $1 != *-* ]] || echo "-oAPT::Default-Release=$1"
}

# deb_depends SUITE PACKAGE - the names that a package depends on
deb_depends() {
	local target

	mapfile -t target < <(deb_target "$1")
	deb_apt "${1%%-*}" apt-cache "${target[@]}" show --no-all-versions "$2" |
		sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' |
		tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//'
}

# deb_fetch SUITE DIR PACKAGE... - download archives into a folder
# The newest that the suite's release, its security and updates offer; from the
# backports only with SUITE naming them.
deb_fetch() {
	local suite=$1 release=${1%%-*} dir=$2

	deb_update "$release" || return 1
	mkdir -p "$dir" || return 1
	deb_say "fetching ${*:3} ($suite)"
	deb_fetch_once "$@" && return 0
	# Superseded since the lists were made?
	deb_update "$release" 0 && deb_fetch_once "$@" && return 0
	deb_say "cannot fetch ${*:3} from $suite"
	return 1
}

deb_fetch_once() (
	mapfile -t target < <(deb_target "$1")
	cd "$2" && deb_apt "${1%%-*}" apt-get -q -q "${target[@]}" \
		download "${@:3}" >&2
)

# deb_fetch_extract SUITE DIR PACKAGE... - download and extract into a folder
deb_fetch_extract() {
	local dir=$2 archive

	deb_fetch "$1" "$dir/.debs" "${@:3}" || return 1
	for archive in "$dir"/.debs/*.deb; do
		dpkg-deb -x "$archive" "$dir" || return 1
		rm -f "$archive"
	done
	rmdir "$dir/.debs"
}

# deb_fetch_source SUITE DIR PACKAGE - download a source package and extract it
# To DIR, which is made, with Debian's patches. It is the newest of the release, its
# security and updates, or of the backports with SUITE naming them; where that has
# left the archive, the one before.
deb_fetch_source() {
	local suite=$1 release=${1%%-*} dir=$2 package=$3 own=$2.apt version apt

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
		# Of a version that was not fetched in whole, the .dsc may be here.
		rm -f "$own"/*.dsc
		(cd "$own" && deb_apt "$release" apt-get "${apt[@]}" \
			--download-only source "$package=$version" >&2) || continue
		dpkg-source -q --no-check --no-copy -x "$own/$package"_*.dsc "$dir" >&2 &&
			rm -rf "$own"
		return
	done < <(deb_apt "$release" apt-cache "${apt[@]}" showsrc "$package" |
		sed -n 's/^Version: //p' | sort -rVu)
	deb_say "cannot fetch the source of $package from $suite"
	return 1
}

# deb_root SUITE PACKAGE... - print a root with packages and all they depend on
# Extracted only: no script of theirs runs, and what is not depended on, as
# essential as it may be, is not there. All is below usr; see root.sh for how to
# run something in it.
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
	deb_say "fetching ${*:3} and what they depend on ($suite)"
	deb_apt "${suite%%-*}" apt-get -q -q -y "${target[@]}" \
		-o Dir::Cache::archives="$archives" --no-install-recommends \
		--download-only install "${@:3}" </dev/null >&2 || return 1
	for archive in "$archives"/*.deb; do
		dpkg-deb --fsys-tarfile "$archive" |
			tar -x -C "$dir" --keep-directory-symlink || return 1
	done
	rm -rf "$archives" "${dir:?}/usr/share/"{doc,info,locale,man} || return 1
	# Of the alternatives, which are made by scripts.
	[ ! -e "$dir/usr/bin/mawk" ] || ln -s mawk "$dir/usr/bin/awk"
}

# deb_reviewed_series - print the kernel series that the module was reviewed for
deb_reviewed_series() {
	sed -n 's/^\t{ \([0-9]*\), \([0-9]*\) },$/\1.\2/p' \
		"$(dirname "${BASH_SOURCE[0]}")/../../kmod/series.c"
}

# deb_kernel_suite RELEASE - where a kernel series is, and its flavour
# Prints "SUITE FLAVOUR", from scripts/matrix. RELEASE is a series, or a series
# and "-cloud", "-rt" or "-debug": no package has the last one, it is built from
# the source.
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
		deb_say "kernel $1 is not known here; these are: $(matrix_releases)"
		return 1
	fi
	echo "$suite $flavour"
}

# deb_kernel_newest SUITE SERIES FLAVOUR - print the newest version of a series
# The archive keeps the last series of the backports for a while beside the one
# that the meta package names. Image and headers are both to be there, in SUITE,
# for a release also in its security and updates. Prints nothing if the archive
# has none.
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

# deb_kernel_gone RELEASE - has the archive dropped a kernel that was there?
# Superseded series leave the backports. Not if it is in the cache, and not if
# the archive cannot be asked: to fetch it then fails and says why.
deb_kernel_gone() {
	local suite flavour version

	[ ! -e "$deb_cache/kernel/$1" ] || return 1
	read -r suite flavour < <(deb_kernel_suite "$1") || return 1
	[ "$flavour" != debug ] || return 1
	version=$(deb_kernel_newest "$suite" "${1%%-*}" "$flavour") || return 1
	[ -z "$version" ]
}

# deb_kernel RELEASE - print the folder of an extracted kernel
# It holds "version" (as uname -r tells), "vmlinuz", lib/modules/VERSION with
# its dependency files, and "headers", to build modules for that very image.
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
		deb_say "$suite has no kernel $release any more (flavour $flavour, with headers): the archive drops superseded series"
		return 1
	}
	image=("linux-image-$version")
	# Newer images are empty, and depend on packages with the parts.
	for package in $(deb_depends "$suite" "linux-image-$version"); do
		case $package in
		linux-base-"$version" | linux-binary-"$version" | \
			linux-modules-"$version") image+=("$package") ;;
		esac
	done
	deb_fetch_extract "$suite" "$dir" "${image[@]}" || return 1
	rm -rf "${dir:?}/usr/share" || return 1
	# Newer packages have the modules below usr/lib, the kernel with them.
	[ -d "$dir/lib" ] || mv "$dir/usr/lib" "$dir/lib" || return 1
	if [ -e "$dir/boot/vmlinuz-$version" ]; then
		mv "$dir/boot/vmlinuz-$version" "$dir/vmlinuz" || return 1
	else
		mv "$dir/lib/modules/$version/vmlinuz" "$dir/vmlinuz" || return 1
	fi
	depmod -b "$dir" "$version" || return 1

	# The headers of the same ABI, and what they need besides.
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

# deb_relocate_headers ROOT FINAL - let extracted headers find their parts
# The flavour's Makefile names the common part by absolute path, and links lead
# to absolute places: both are made to stay below FINAL, where ROOT will be.
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

# deb_complete_headers ROOT - add what newer header packages ought to have
# kbuild asks a script whether the checker works before it runs it, and does
# without the checker where there is no such script.
deb_complete_headers() {
	local makefile script

	for makefile in "$1"/usr/src/*-common/Makefile; do
		script=${makefile%/*}/scripts/checker-valid.sh
		grep -qF checker-valid.sh "$makefile" || continue
		[ ! -e "$script" ] || continue
		# shellcheck disable=SC2016 # for whom it is
		printf '#!/bin/sh\ncommand -v "$1" >/dev/null && echo 1\n' \
			>"$script" && chmod 755 "$script" || return 1
	done
}

# deb_linux_source SERIES - print a folder with parts of the kernel's sources
# Only what the scripts use: the netlink generator with its schemas, and the
# style checker.
deb_linux_source() {
	deb_install xz-utils || return 1
	deb_cached "linux-source/$1" deb_linux_source_make "$1"
}

deb_linux_source_make() {
	local dir=$1 series=$2 suite archive

	read -r suite _ < <(deb_kernel_suite "$series") || return 1
	deb_fetch "$suite" "$dir" "linux-source-$series" || return 1
	archive=$(echo "$dir"/*.deb)
	dpkg-deb --fsys-tarfile "$archive" |
		tar -xO --wildcards "./usr/src/linux-source-$series.tar.*" |
		tar -xJ -C "$dir" --strip-components=1 --wildcards \
			'*/MAINTAINERS' '*/Documentation/netlink' \
			'*/Documentation/dev-tools/checkpatch.rst' \
			'*/tools/net/ynl' '*/scripts/checkpatch.pl' \
			'*/scripts/spelling.txt' \
			'*/scripts/const_structs.checkpatch' || return 1
	rm -f "$archive"
}
