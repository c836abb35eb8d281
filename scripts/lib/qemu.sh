# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# QEMU, the testbed's AMD machine, to be sourced after deb.sh.
#
# Debian 12's own QEMU 7.2 can inject double faults into newer kernels under
# TCG, so the backport is used, from the cache. Its shared libraries are those
# of the machine, which the installed package brings.
#
# The testbed has one machine or another, each in a file like this one, and knows
# of them only these functions, here with qemu_ before their names. What the
# machine is to be is in the array "machine": cpu, kernel (its name), vmlinuz,
# initrd and append (kernel parameters), memory, cpus; counted, keep and wake, if
# those options were given; timeout; began, what SECONDS was
# then; work, a folder for its files.
#
#   refuse	print what of that the machine cannot be, or nothing
#   prepare	have ready what a run takes
#   begin	print the words, one a line, that start the emulator. The machine's
#		first serial port is the file "output" in the folder, with keep
#		the terminal; its second is the file "console"
#   look PID	return 0 if the machine goes on, or LOOK_TIMEOUT, or LOOK_STALLED if
#		the emulator stands still and not the kernel. The testbed looks
#		every second
#   stalled_how	print what LOOK_STALLED was seen by
#   last_words	print what the emulator itself said of a machine that ended

# How often --wake looks, and when it did.
QEMU_WAKE_S=5
qemu_woken=$SECONDS

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

# qemu_copy ROOT FOLDER [PROGRAM] - copy that QEMU, without what does not run it
# FOLDER gets "qemu", which is ROOT's or PROGRAM, and "lib", with the loader.
qemu_copy() {
	local root=$1 folder=$2 libraries=$1/usr/lib/x86_64-linux-gnu library
	local loader=$1/usr/lib64/ld-linux-x86-64.so.2

	cp "${3-$root/usr/bin/qemu-system-x86_64}" "$folder/qemu" &&
		cp -L "$loader" "$folder/lib/" || return 1
	"$loader" --library-path "$libraries:$libraries/pulseaudio" --list \
		"$folder/qemu" | grep -o "$root/[^ ]*" | sort -u |
		while read -r library; do
			cp -L "$library" "$folder/lib/" || return 1
		done
}

qemu_refuse() {
	:
}

qemu_prepare() {
	local emulator accel options=qemu_accel

	[ -z "${machine[counted]}" ] || options=qemu_accel_counted
	emulator=$(qemu_command) && accel=$("$options") || return 1
	mapfile -t qemu_words <<<"$emulator"$'\n'"-M"$'\n'"q35"$'\n'"$accel"
}

qemu_begin() {
	local work=${machine[work]}

	printf '%s\n' "${qemu_words[@]}" \
		-smp "${machine[cpus]}" -m "${machine[memory]}" \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "${machine[vmlinuz]}" -initrd "${machine[initrd]}" \
		-append "${machine[append]}" \
		-qmp "unix:$work/monitor,server=on,wait=off"
	if [ -n "${machine[keep]}" ]; then
		printf '%s\n' -chardev "stdio,id=command,signal=off" \
			-serial chardev:command
	else
		printf '%s\n' -serial "file:$work/output"
	fi
	printf '%s\n' -serial "file:$work/console"
}

# qemu_stalled - is it the emulator that stands still?
# Its signature: every CPU sleeps, with the timer interrupt pending that ought
# to wake it. A kernel that hangs either runs or has no interrupt pending, as
# a CPU takes it in the very instant.
qemu_stalled() {
	local _

	for _ in 1 2 3; do
		"${BASH_SOURCE[0]%/*}/qemu-stalled" "${machine[work]}/monitor" ||
			return 1
		sleep 1
	done
}

# qemu_wake - make an emulator go on that stands still
# It has forgotten to tell a CPU of the interrupt; any other one reminds it. A
# kernel that hangs is not helped by a key.
qemu_wake() {
	qemu_stalled 2>/dev/null || return 0
	deb_say "the emulator stalled; pressing a key"
	"${BASH_SOURCE[0]%/*}/qemu-stalled" --wake "${machine[work]}/monitor" ||
		true
}

qemu_look() {
	local began=${machine[began]}

	if [ $((SECONDS - began)) -ge "${machine[timeout]}" ]; then
		! qemu_stalled || return "$LOOK_STALLED"
		return "$LOOK_TIMEOUT"
	fi
	if [ -n "${machine[wake]}" ] &&
		[ $((SECONDS - qemu_woken)) -ge "$QEMU_WAKE_S" ]; then
		qemu_wake
		qemu_woken=$SECONDS
	fi
}

qemu_stalled_how() {
	echo "all CPUs sleep with the timer interrupt pending, for the whole of ${machine[timeout]}s or a part"
}

qemu_last_words() {
	: # It said so on stderr.
}
