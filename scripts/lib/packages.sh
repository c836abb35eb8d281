# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The Debian packages that the project needs, to be sourced after deb.sh.

# packages_build - install the packages to build everything
packages_build() {
	deb_install build-essential gcc-12 cmake pkg-config acpica-tools \
		libcap-ng-dev libcmocka-dev libelf1 libjson-c-dev libmd-dev \
		libmnl-dev libnl-genl-3-dev libseccomp-dev libsystemd-dev kmod pahole util-linux xz-utils
}

# packages_check - install the additional packages for style and static checks
packages_check() {
	deb_install clang-format clang-tidy git perl python3 python3-jsonschema \
		python3-yaml shellcheck sparse
}

# packages_fuzz - install the additional packages for fuzzing
packages_fuzz() {
	deb_install clang llvm libclang-rt-14-dev
}
