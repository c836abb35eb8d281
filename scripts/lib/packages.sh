# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Which of Debian's packages the project needs, to be sourced after deb.sh.

# packages_build - install what building everything takes
packages_build() {
	deb_install build-essential gcc-12 cmake pkg-config acpica-tools \
		libcap-ng-dev libcmocka-dev libelf1 libjson-c-dev libmd-dev \
		libmnl-dev libnl-genl-3-dev libseccomp-dev libsystemd-dev kmod pahole util-linux xz-utils
}

# packages_check - install what the style and static checks take besides
packages_check() {
	deb_install clang-format clang-tidy git perl python3 python3-jsonschema \
		python3-yaml shellcheck sparse
}

# packages_fuzz - install what fuzzing takes besides
packages_fuzz() {
	deb_install clang llvm libclang-rt-14-dev
}
