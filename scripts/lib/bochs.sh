# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Bochs, the testbed's Intel machines, to be sourced after deb.sh. qemu.sh describes
# the functions that the testbed calls.
#
# QEMU's TCG emulates AMD's SVM only. Bochs also emulates VMX with EPT and, with some
# of its CPU models, PML.
#
# The machine's time is its instruction count, BOCHS_IPS a second, and jumps to the
# next timer while the CPU sleeps. Bochs is therefore never idle, and its processor
# time distinguishes a machine that hangs from one that does not get the host's CPU.
#
# The machine boots from a CD, as Bochs cannot load a kernel itself. The kernel on
# the CD is not compressed; see bochs-kernel.

# Bochs 3.0 is in a later Debian release, so its root has all its libraries and its
# loader. Bochs 2.7 of Debian 12 has the debugger built in, which is three times
# slower.
BOCHS_SUITE=trixie
BOCHS_PACKAGES=(bochs bochs-term bochsbios vgabios isolinux syslinux-common
	xorriso)

BOCHS_IPS=100000000
# Bochs keeps machine memory beyond this size in a file.
BOCHS_RESIDENT_MIB=2048
# A runnable process gets some processor time within this number of looks, however
# busy the host is.
BOCHS_STILL_LOOKS=120

# Parameters of kvm-intel, before those of the user. Bochs 3.0 reports virtual
# interrupt delivery and posted interrupts, but refuses the first VM entry of a vCPU
# that uses them, with an in-kernel interrupt controller: VM-instruction error 7,
# invalid control fields (with KVM of 6.1).
# shellcheck disable=SC2034 # by the testbed
BOCHS_KVM_INTEL='enable_apicv=0'

# bochs_cpu NAME - print the Bochs model of the testbed's --cpu NAME
bochs_cpu() {
	case $1 in
	intel) echo corei7_skylake_x ;;
	intel-no-pml) echo broadwell_ult ;;
	*) return 1 ;;
	esac
}

# bochs_kernel_make DIR VMLINUZ - see deb_cached
bochs_kernel_make() {
	"${BASH_SOURCE[0]%/*}/bochs-kernel" "$2" "$1/vmlinuz"
}

# bochs_run PROGRAM - print the command that starts a program of Bochs's root
bochs_run() {
	local libraries=$bochs_root/usr/lib/x86_64-linux-gnu

	printf '%s\n' "$libraries/ld-linux-x86-64.so.2" --library-path \
		"$libraries:$libraries/pulseaudio" "$bochs_root/usr/bin/$1"
}

bochs_refuse() {
	if [ "${machine[cpus]}" != 1 ]; then
		echo "Bochs's machine has one CPU"
	elif [ "${machine[devices]}" != 0 ]; then
		echo "--device is for QEMU"
	elif [ -n "${machine[wake]}" ]; then
		echo "--wake is for QEMU: Bochs loses no interrupts"
	elif [ -n "${machine[keep]}" ] && ! tty >/dev/null; then
		echo "--keep takes a terminal with Bochs"
	fi
}

bochs_prepare() {
	deb_install binutils zstd || return 1
	bochs_root=$(deb_cached bochs deb_root_make "$BOCHS_SUITE" \
		"${BOCHS_PACKAGES[@]}") || return 1
	# Below the kernel's folder, so that a new kernel replaces it.
	bochs_kernel=$(deb_cached "kernel/${machine[kernel]}/bochs" \
		bochs_kernel_make "${machine[vmlinuz]}")/vmlinuz || return 1
}

# bochs_image - make the CD
bochs_image() {
	local work=${machine[work]} xorriso

	mkdir -p "$work/cd/isolinux" || return 1
	cp "$bochs_root/usr/lib/ISOLINUX/isolinux.bin" \
		"$bochs_root/usr/lib/syslinux/modules/bios/ldlinux.c32" \
		"$work/cd/isolinux/" || return 1
	ln -s "$bochs_kernel" "$work/cd/vmlinuz" &&
		ln -s "${machine[initrd]}" "$work/cd/initrd" || return 1
	# reboot=t: Bochs exits on the triple fault of a reset. earlyprintk shows
	# the messages of a kernel that fails early.
	cat >"$work/cd/isolinux/isolinux.cfg" <<-END || return 1
	DEFAULT linux
	LABEL linux
	KERNEL /vmlinuz
	INITRD /initrd
	APPEND earlyprintk=serial,ttyS1,115200 reboot=t ${machine[append]}
	END
	mapfile -t xorriso < <(bochs_run xorriso)
	"${xorriso[@]}" -as mkisofs -quiet -f -o "$work/cd.iso" \
		-b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
		-boot-load-size 4 -boot-info-table "$work/cd" 2>/dev/null || {
		deb_say "cannot make the machine's CD"
		return 1
	}
	rm -r "$work/cd"
}

# bochs_config - print Bochs's configuration
# Only fatal errors are logged, as there are very many other messages.
bochs_config() {
	local work=${machine[work]} share=$bochs_root/usr/share/bochs
	local mib=${machine[memory]%[MG]} resident=$BOCHS_RESIDENT_MIB
	local port="mode=file, dev=$work/output"

	[[ ${machine[memory]} != *G ]] || mib=$((mib * 1024))
	[ "$mib" -gt "$resident" ] || resident=$mib
	[ -z "${machine[keep]}" ] || port="mode=term, dev=$(tty)"
	cat <<-END
	display_library: term, options="hideIPS"
	romimage: file=$share/BIOS-bochs-latest
	vgaromimage: file=$share/VGABIOS-lgpl-latest
	memory: guest=$mib, host=$resident
	cpu: model=$(bochs_cpu "${machine[cpu]}"), ips=$BOCHS_IPS, reset_on_triple_fault=0, ignore_bad_msrs=1
	clock: sync=none
	ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
	ata0-master: type=cdrom, path=$work/cd.iso, status=inserted
	boot: cdrom
	com1: enabled=1, $port
	com2: enabled=1, mode=file, dev=$work/console
	speaker: enabled=0
	log: $work/bochs.log
	panic: action=fatal
	error: action=ignore
	info: action=ignore
	debug: action=ignore
	END
}

bochs_begin() {
	local work=${machine[work]}
	local libraries=$bochs_root/usr/lib/x86_64-linux-gnu

	bochs_image && bochs_config >"$work/bochsrc" || return 1
	printf '%s\n' env TERM=vt100 BXSHARE="$bochs_root/usr/share/bochs" \
		LTDL_LIBRARY_PATH="$libraries/bochs/plugins"
	# The program prints the machine's screen, which is not used.
	# shellcheck disable=SC2016 # for the shell inside
	printf '%s\n' sh -c 'exec "$@" >"$0" 2>&1' "$work/screen"
	bochs_run bochs-bin
	printf '%s\n' -q -f "$work/bochsrc"
}

# Processor time in ticks of 10 ms, and the number of looks without a change.
bochs_ran=-1
bochs_still=0

bochs_look() {
	local stat ran

	# utime and stime of proc(5), in ticks of 10 ms.
	stat=$(<"/proc/$1/stat") 2>/dev/null || return 0
	read -ra stat <<<"${stat##*) }"
	ran=$((stat[11] + stat[12]))
	[ "$ran" -lt "${machine[timeout]}00" ] || return "$LOOK_TIMEOUT"
	bochs_still=$((ran == bochs_ran ? bochs_still + 1 : 0))
	bochs_ran=$ran
	[ "$bochs_still" -lt "$BOCHS_STILL_LOOKS" ] || return "$LOOK_STALLED"
}

bochs_stalled_how() {
	echo "Bochs has not run for $BOCHS_STILL_LOOKS seconds, though it always has work"
}

bochs_last_words() {
	# Powering off the machine logs a panic as well.
	grep -a '>>PANIC<<' "${machine[work]}/bochs.log" 2>/dev/null |
		grep -av 'soft power off'
}
