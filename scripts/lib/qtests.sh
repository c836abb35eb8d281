# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# QEMU with the patches of integrations/qemu and all of its default devices, with its
# own qtests and functional tests, to be sourced after deb.sh, root.sh, qemu.sh and
# qemu-series.sh.
#
# The build takes about 15 minutes of CPU time. The result is cached as the build for the
# other tests is.

# qtests_of VERSION - print a folder with the patched QEMU and its tests
# "build" has the programs with the names that the tests expect, and "build/list" the
# names of the qtests; "source" has the functional tests with the modules that they
# import, and "source/list" their paths; "on" has what the testbed needs to run them.
qtests_of() {
	local version=$1 key patches

	qemu_series_check "$version" || return 1
	mapfile -t patches < <(qemu_series_patches "$version")
	# shellcheck disable=SC2154 # of qemu-series.sh
	key=$({
		cat "${patches[@]}" "$qemu_series_header"
		declare -f qtests_make qtests_build qtests_firmware qtests_copy \
			qtests_functional qtests_more qemu_series_configured
	} | sha256sum) || return 1
	deb_cached "qemu/qtests-$version-${key:0:16}" qtests_make "$version"
}

qtests_make() {
	local dir=$1 root stock

	root=$(qemu_series_tools "$2") && stock=$(qemu_of_series "$2") &&
		qemu_series_source "$dir/source" "$2" || return 1
	mkdir "$dir/build" || return 1
	deb_say "building QEMU $2 and its qtests: this takes long, once"
	qtests_build "$root" "$dir" >"$dir/log" 2>&1 || {
		tail -n 40 "$dir/log"
		return 1
	}
	qtests_copy "$root" "$dir" && qtests_firmware "$stock" "$dir/tests" || return 1
	rm -rf "$dir/source" "$dir/build" "$dir/log"
	mv "$dir/tests" "$dir/build" && mv "$dir/functional" "$dir/source"
}

# qtests_build ROOT DIR - build DIR/source in DIR/build
qtests_build() {
	# shellcheck disable=SC2016 # for the shell inside
	qemu_series_configured "$1" "$2" '
		meson introspect --tests >tests.json
		grep -o "\"name\": \"qtest-x86_64/[^\"]*" tests.json | sed "s,.*/,," >list
		[ -s list ]
		ninja -j "$jobs" qemu-system-x86_64 qemu-img \
			storage-daemon/qemu-storage-daemon \
			$(sed "s,^,tests/qtest/," list)' \
		--enable-kvm --enable-tcg --enable-tools
}

# qtests_copy ROOT DIR - copy what the tests need from DIR/build and DIR/source
# It is copied to DIR/tests, DIR/functional and DIR/on.
qtests_copy() {
	local root=$1 dir=$2 name

	mkdir -p "$dir/tests/tests/qtest" "$dir/tests/storage-daemon" "$dir/on/lib" \
		"$dir/functional/tests" || return 1
	for name in qemu-system-x86_64 qemu-img storage-daemon/qemu-storage-daemon \
		$(sed 's,^,tests/qtest/,' "$dir/build/list"); do
		strip -o "$dir/tests/$name" "$dir/build/$name" || return 1
	done
	cp "$dir/build/list" "$dir/tests/" &&
		qtests_functional "$dir" >"$dir/functional/list" &&
		cp -r "$dir/source/python" "$dir/functional/" &&
		cp -r "$dir/source/tests/functional" "$dir/functional/tests/" &&
		qtests_more "$dir" &&
		qemu_copy "$root" "$dir/on" "$dir/tests/qemu-system-x86_64"
}

# qtests_more DIR - copy what functional tests of QEMU 11 read besides
qtests_more() {
	local dir=$1 name=vmstate-static-checker

	[ -e "$dir/source/tests/data/$name" ] || return 0
	mkdir -p "$dir/functional/scripts" "$dir/functional/tests/data" &&
		cp "$dir/source/scripts/$name.py" "$dir/functional/scripts/" &&
		cp -r "$dir/source/tests/data/$name" "$dir/functional/tests/data/"
}

# qtests_functional DIR - print the paths of the functional tests, relative to DIR/source
# Those of QEMU's suite "quick" need no files of the network.
qtests_functional() {
	python3 - "$1" <<-'END'
	import json, sys

	with open(f"{sys.argv[1]}/build/tests.json", encoding="utf8") as file:
	    tests = json.load(file)
	paths = [test["cmd"][1] for test in tests if any(
	    suite.endswith("func-quick") for suite in test["suite"])]
	if not paths:
	    sys.exit("QEMU has no functional tests")
	for path in paths:
	    print(path.rsplit("/source/", 1)[1])
	END
}

# qtests_firmware STOCK DIR - place the firmware where QEMU in DIR looks for it
# Debian's source package has no binaries.
qtests_firmware() {
	local share=$2/qemu-bundle/usr/local/share/qemu

	mkdir -p "$share" && cp -rL "$1/usr/share/qemu/." "$share/" &&
		cp -rL "$1/usr/share/seabios/." "$share/"
}

# qtests_python VERSION - print a root with Python and QEMU's libraries
# It runs the functional tests of that version, here and, from root.tar, in the testbed.
qtests_python() {
	local suite=trixie more=() key

	deb_install xz-utils || return 1
	key=$(declare -f qtests_python_make | sha256sum) || return 1
	if [ "$1" != 10 ]; then
		suite=trixie-backports
		more=(python3-qemu-qmp)
	fi
	deb_cached "root/qemu-python-$1-${key:0:16}" qtests_python_make "$suite" \
		"${more[@]}"
}

qtests_python_make() {
	deb_root_make "$1" "$2" bash coreutils dash libc-bin libfdt1 libglib2.0-0t64 \
		libpixman-1-0 ncat python3 python3-pycotap zlib1g "${@:3}" &&
		tar -C "$1" -cf "$1/root.tar" bin sbin lib lib64 usr
}
