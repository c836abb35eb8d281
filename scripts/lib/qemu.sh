# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The emulator that the testbed runs in, to be sourced after deb.sh.
#
# Debian 12's own QEMU 7.2 can inject double faults into newer kernels under
# TCG, so the backport is used, from the cache. Its shared libraries are those
# of the machine, which the installed package brings.

# qemu_command - print the words, one a line, that start the emulator
qemu_command() {
	local dir

	if [ -n "${KVM_VMEM_QEMU-}" ]; then
		echo "$KVM_VMEM_QEMU"
		return 0
	fi
	# For its libraries; without root, they may be there all the same.
	[ "$(id -u)" != 0 ] || deb_install qemu-system-x86 || return 1
	if dir=$(deb_cached qemu/backport qemu_fetch); then
		printf '%s\n' "$dir/usr/bin/qemu-system-x86_64" \
			-L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios"
	elif command -v qemu-system-x86_64; then
		deb_say "running with the installed QEMU, as the backport cannot be had: $(
			qemu-system-x86_64 --version | head -n 1)"
	else
		deb_say "there is no QEMU"
		return 1
	fi
}

qemu_fetch() {
	local missing

	deb_fetch_extract bookworm-backports "$1" qemu-system-x86 \
		qemu-system-common qemu-system-data seabios || return 1
	missing=$(ldd "$1/usr/bin/qemu-system-x86_64" | grep 'not found')
	if [ -n "$missing" ]; then
		deb_say "libraries of QEMU are missing:" "$missing"
		return 1
	fi
	"$1/usr/bin/qemu-system-x86_64" --version >&2
}

# "max" has 40 physical address bits otherwise, too few for memory at 1 TiB.
# With erms, Linux clears and copies pages by "rep stosb", which TCG carries out
# byte by byte: eight times slower, once in the machine and once more in its
# guests.
qemu_tcg_cpu=max,phys-bits=48,erms=off,fsrm=off

# qemu_accel - print the acceleration options, one word a line
# One host thread for all vCPUs of an emulated machine: with one each, guests
# that run guests of their own hung now and then.
qemu_accel() {
	if [ -n "${KVM_VMEM_ACCEL-}" ]; then
		printf '%s\n' -accel "$KVM_VMEM_ACCEL"
		case $KVM_VMEM_ACCEL in
		kvm*) printf '%s\n' -cpu host ;;
		*) printf '%s\n' -cpu "$qemu_tcg_cpu" ;;
		esac
	elif [ -w /dev/kvm ] && qemu_nested; then
		printf '%s\n' -accel kvm -cpu host
	else
		printf '%s\n' -accel tcg,thread=single -cpu "$qemu_tcg_cpu"
	fi
}

# qemu_accel_counted - print the options of emulation that counts, one word a line
# Time goes by instructions, of all vCPUs together, two nanoseconds each; while
# all are idle it jumps to the next timer.
qemu_accel_counted() {
	printf '%s\n' -accel tcg,thread=single -cpu "$qemu_tcg_cpu" \
		-icount shift=1,sleep=off
}

# qemu_nested - does this machine's KVM let guests run guests?
qemu_nested() {
	grep -q '^[1Y]' /sys/module/kvm_{amd,intel}/parameters/nested 2>/dev/null
}

# qemu_with_shmem - print a root with a QEMU that can map memory for a device
# The first that can is in a later release than what this machine runs, so it
# comes with all that it needs, down to its loader.
qemu_with_shmem() {
	deb_install xz-utils || return 1
	deb_cached qemu/shmem deb_root_make trixie-backports qemu-system-x86 \
		qemu-system-data seabios
}

# qemu_copy ROOT FOLDER - copy that QEMU, without what does not run it
# FOLDER gets "qemu" and "lib", with the loader.
qemu_copy() {
	local root=$1 folder=$2 libraries=$1/usr/lib/x86_64-linux-gnu library
	local loader=$1/usr/lib64/ld-linux-x86-64.so.2

	cp "$root/usr/bin/qemu-system-x86_64" "$folder/qemu" &&
		cp -L "$loader" "$folder/lib/" || return 1
	"$loader" --library-path "$libraries:$libraries/pulseaudio" --list \
		"$folder/qemu" | grep -o "$root/[^ ]*" | sort -u |
		while read -r library; do
			cp -L "$library" "$folder/lib/" || return 1
		done
}
