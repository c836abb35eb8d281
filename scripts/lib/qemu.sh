# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# QEMU, the testbed's AMD machine, to be sourced after deb.sh.
#
# QEMU 7.2 of Debian 12 can inject double faults into newer kernels under TCG. The
# scripts use the backport from the cache instead, with the host's shared libraries,
# which the installed package depends on.
#
# The testbed supports several emulators, each in a file like this one with the
# functions below. Here their names start with qemu_. The array "machine" describes
# the machine: cpu, kernel (its name), vmlinuz, initrd, append (kernel parameters),
# memory, cpus, devices (the length of its -device options), timeout, the flags
# counted, keep and wake, began (the value of SECONDS at the start), and work (a
# folder for its files).
#
#   refuse	print which of these settings the emulator does not support, or
#		nothing
#   prepare	fetch everything that a run needs
#   begin	print the command line of the emulator, one word a line. The first
#		serial port of the machine is the file "output" in the work folder,
#		or the terminal with keep; the second is the file "console"
#   look PID	return 0 if the machine may go on, LOOK_TIMEOUT if its time is over,
#		LOOK_STALLED if the emulator, not the kernel, stalled. The testbed
#		calls it every second
#   stalled_how	print the evidence for LOOK_STALLED
#   last_words	print the emulator's own error messages after the machine ended

# Interval at which --wake checks for a stall, and the time of the last check.
QEMU_WAKE_S=5
qemu_woken=$SECONDS

# qemu_command - print the command that starts QEMU, one word a line
qemu_command() {
	local dir

	if [ -n "${KVM_VMEM_QEMU-}" ]; then
		echo "$KVM_VMEM_QEMU"
		return 0
	fi
	# The backport needs its libraries. Without root they may be installed.
	[ "$(id -u)" != 0 ] || deb_install qemu-system-x86 || return 1
	if dir=$(deb_cached qemu/backport qemu_fetch); then
		printf '%s\n' "$dir/usr/bin/qemu-system-x86_64" \
			-L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios"
	elif command -v qemu-system-x86_64; then
		deb_say "using the installed QEMU, as the backport is not available: $(
			qemu-system-x86_64 --version | head -n 1)"
	else
		deb_say "QEMU is not available"
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

# The default of "max" is 40 physical address bits, too few for memory at 1 TiB.
# With erms, Linux clears and copies pages by "rep stosb". TCG executes that byte by
# byte, eight times slower, both in the machine and in its guests.
qemu_tcg_cpu=max,phys-bits=48,erms=off,fsrm=off

# qemu_accel - print the acceleration options, one word a line
# All vCPUs of an emulated machine share one host thread: with one thread each,
# machines with nested guests hung now and then.
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

# qemu_accel_counted - print the acceleration options for --icount, one word a line
# Each instruction of any vCPU advances the time by two nanoseconds. While all vCPUs
# are idle, the time jumps to the next timer.
qemu_accel_counted() {
	printf '%s\n' -accel tcg,thread=single -cpu "$qemu_tcg_cpu" \
		-icount shift=1,sleep=off
}

# qemu_nested - return 0 if the host's KVM supports nested virtualization
qemu_nested() {
	grep -q '^[1Y]' /sys/module/kvm_{amd,intel}/parameters/nested 2>/dev/null
}

# qemu_with_shmem - print a root with a QEMU that supports vhost-user SHMEM_MAP
# The first such QEMU is in a later Debian release than the host's, so its root has
# all its libraries and its loader.
qemu_with_shmem() {
	deb_install xz-utils || return 1
	deb_cached qemu/shmem deb_root_make trixie-backports qemu-system-x86 \
		qemu-system-data seabios
}

# qemu_copy ROOT FOLDER [PROGRAM] - copy the QEMU of such a root to FOLDER
# FOLDER/qemu is PROGRAM, or else ROOT's; FOLDER/lib has its libraries and loader.
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

# qemu_stalled - return 0 if the emulator stalled, and not the kernel
# In a stall every CPU sleeps although a timer interrupt is pending. In a machine
# whose kernel hangs, a CPU runs or no interrupt is pending, as a sleeping CPU takes
# a pending interrupt at once.
qemu_stalled() {
	local _

	for _ in 1 2 3; do
		"${BASH_SOURCE[0]%/*}/qemu-stalled" "${machine[work]}/monitor" ||
			return 1
		sleep 1
	done
}

# qemu_wake - resume a stalled emulator
# The stalled emulator did not notify a CPU of a pending interrupt; any further
# interrupt does. A key does not resume a kernel that hangs.
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
	: # QEMU reports errors on stderr.
}
