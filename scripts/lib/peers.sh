# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154
#
# A machine of the testbed with two VMMs, vmem-vmm and QEMU, and a Linux guest for both,
# to be sourced after deb.sh and qemu.sh. lib/guest-vmms.sh starts them.

# The kernel of the guests, which does not depend on that of the machine.
PEERS_GUEST_KERNEL=6.1

# What CMake has to build before.
PEERS_TARGETS=(vmemd vmemctl vmem-vmm vmem-guest vmem-guestctl vmem-guestresize)

# peers_prepare WORK MAIN - set peers_machine to options of the testbed
# WORK is a folder for files that the testbed reads, MAIN the build folder of CMake.
peers_prepare() {
	local work=$1 main=$2 guest words emulator folder file

	guest=$("$top/scripts/testbed" fetch "$PEERS_GUEST_KERNEL") || return 1
	# One image for both VMMs: QEMU's device is on PCI.
	"$top/scripts/testbed" initramfs --kernel "$PEERS_GUEST_KERNEL" \
		-o "$work/initrd" --module virtio_mmio --module virtio_pci \
		--module virtio_mem \
		--program "$main/selftests/guest/vmem-guest" \
		--init "$top/selftests/guest/init" || return 1
	# The testbed's own QEMU is the VMM.
	words=$(qemu_command) || return 1
	mapfile -t emulator <<<"$words"
	# One CPU, as several ones can break interrupts of nested guests; see
	# scripts/demo. A stall of the emulator delays one step, which does not
	# change the median.
	peers_machine=(--cpus 1 --wake
		--program "${emulator[0]}:/bin/qemu-system-x86_64"
		--program "$top/scripts/lib/guest-log.sh"
		--program "$top/scripts/lib/guest-vmms.sh"
		--file "$guest/vmlinuz:/guest/vmlinuz"
		--file "$work/initrd:/guest/initrd")
	for file in daemon/vmemd daemon/vmemctl selftests/vmm/vmem-vmm \
		selftests/guest/vmem-guestctl selftests/guest/vmem-guestresize; do
		peers_machine+=(--program "$main/$file")
	done
	for file in bios-256k.bin kvmvapic.bin linuxboot_dma.bin; do
		while read -r folder; do
			[ ! -e "$folder/$file" ] || break
		done < <("${emulator[@]}" -L help)
		[ -e "$folder/$file" ] || {
			echo "QEMU's $file is missing" >&2
			return 1
		}
		peers_machine+=(--file "$folder/$file:/guest/firmware/$file")
	done
}

# peers_add_patched_qemu - add QEMU with the patches of integrations/qemu, as /series
# For scripts that have sourced root.sh and qemu-series.sh as well.
peers_add_patched_qemu() {
	local series

	series=$(qemu_series) || return 1
	peers_machine+=(--file "$series/qemu:/series/qemu"
		--file "$series/lib:/series/lib")
}
