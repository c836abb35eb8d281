# shellcheck shell=dash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Checks of a guest and its vmemd, shared by scripts inside the testbed, to be sourced.
# The script sets $run (a folder), $console (socket of the guest's console), $vmm (the
# VMM's process), SLOT_SIZE, and STEP_TIMEOUT (seconds; only a hang reaches it). The
# socket of the VMM's probe is $run/probe.
#
# If the VM has several devices, $vmem_device is the name of the one to check, the
# socket of its probe is $run/probe-NAME, and $region is the name of its memory.

# Time between two looks at what is waited for.
LOOK_US=100000

# PCI device ID of QEMU's device "edu".
EDU=0x11e8

number=0
failures=0
vmem_device=
region=vmem-region

# ctl COMMAND... - run vmemctl on the device $vmem_device
ctl() {
	vmemctl ${vmem_device:+--device "$vmem_device"} "$@"
}

# check NAME COMMAND... - run a test case and print its result
check() {
	number=$((number + 1))
	name=$1
	shift
	if "$@"; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		failures=$((failures + 1))
	fi
}

# field NAME - print a number of the JSON object on stdin
field() {
	sed -n 's/.*"'"$1"'":\([0-9]*\).*/\1/p'
}

# status NAME - print a number of vmemd's status
status() {
	ctl --json status | field "$1"
}

guest() {
	vmem-guestctl "$console" --timeout "$STEP_TIMEOUT" "$@"
}

# the_guest_ends_in_order - power the guest off, and look for warnings in its log
# The script has sourced guest-log.sh.
the_guest_ends_in_order() {
	guest dmesg >"$run/dmesg" && no_complaint "$run/dmesg" && guest poweroff || return 1
	wait "$vmm"
}

# await COMMAND... - repeat a command until it succeeds
# Its last output is in $run/await, and printed if it does not succeed in STEP_TIMEOUT.
await() {
	deadline=$(($(cut -d . -f 1 /proc/uptime) + STEP_TIMEOUT))
	until "$@" >"$run/await" 2>&1; do
		[ "$(cut -d . -f 1 /proc/uptime)" -lt $deadline ] || { sed 's/^/# /' "$run/await"; return 1; }
		usleep $LOOK_US
	done
}

# listening PROCESS SOCKET - wait until a process listens on its socket
# The socket exists before. Return: 1 if the process ends
listening() {
	until grep -q "00010000.* $2\$" /proc/net/unix; do
		kill -0 "$1" 2>/dev/null || return 1
		usleep $LOOK_US
	done
}

# guest_has MIB - wait until the guest's driver reports this size
# The guest adds memory after it is plugged.
guest_has() {
	await guest_plugged_is $(($1 * 1048576))
}

guest_plugged_is() {
	[ "$(guest plugged | sed -n 's/^plugged //p')" = "$1" ]
}

# same_slots - return 0 if plugged blocks, module and vCPU agree on the memslots
# Compares the memslots of the plugged blocks, those in the module's dump, and those
# that a vCPU of the probe can access.
same_slots() {
	gpa=$(status gpa)
	ctl --json blocks >"$run/blocks" || return 1
	grep -o '{[^{}]*"gpa"[^{}]*}' "$run/blocks" | while read -r run_of_blocks; do
		start=$(echo "$run_of_blocks" | field gpa)
		size=$(echo "$run_of_blocks" | field size)
		slot=$(((start - gpa) / SLOT_SIZE))
		while [ $slot -le $(((start - gpa + size - 1) / SLOT_SIZE)) ]; do
			echo $((gpa + slot * SLOT_SIZE))
			slot=$((slot + 1))
		done
	done | uniq >"$run/by-blocks"
	ctl --json slots >"$run/slots" || return 1
	grep -o '"gpa":[0-9]*' "$run/slots" | cut -d : -f 2 >"$run/by-slots"
	vmem-guestctl "$run/probe${vmem_device:+-$vmem_device}" --timeout "$STEP_TIMEOUT" listen >"$run/probed" ||
		return 1
	while read -r start; do
		echo $((start))
	done <"$run/probed" >"$run/by-probe"
	diff "$run/by-blocks" "$run/by-slots" &&
		diff "$run/by-blocks" "$run/by-probe"
}

# finds_device - set $edu to the PCI address of the machine's device "edu", and bind it to vfio-pci
finds_device() {
	for edu in /sys/bus/pci/devices/*; do
		[ "$(cat "$edu/device")" != $EDU ] || break
	done
	[ "$(cat "$edu/device")" = $EDU ] || return 1
	modprobe -a vfio-pci vfio_iommu_type1 || return 1
	echo vfio-pci >"$edu/driver_override"
	edu=${edu##*/}
	echo "$edu" >/sys/bus/pci/drivers_probe
}

# region_memory - print the path of the region's memfd
region_memory() {
	for memory in "/proc/$vmm/fd/"*; do
		case $(readlink "$memory") in
		*:"$region "*) echo "$memory" && return ;;
		esac
	done
	return 1
}

# all_given_back - wait until vmemd has discarded all unplugged memory
all_given_back() {
	left=$STEP_TIMEOUT
	while [ "$(status undiscarded_size)" != 0 ]; do
		[ "$left" != 0 ] || return 1
		left=$((left - 1))
		sleep 1
	done
}

# memory_is_of_blocks - return 0 if memory is allocated in plugged blocks only
# Sets $allocated to its size. The guest must have touched its memory before.
memory_is_of_blocks() {
	all_given_back && memory=$(region_memory) || return 1
	gpa=$(status gpa)
	ctl --json blocks >"$run/blocks" || return 1
	vmem-allocated "$memory" >"$run/allocated" || return 1
	allocated=$(sed -n 's/^total //p' "$run/allocated")
	echo "# plugged $(status plugged_size), memory of the region $allocated bytes"
	grep -o '{[^{}]*"gpa"[^{}]*}' "$run/blocks" | while read -r run_of_blocks; do
		echo "block $(($(echo "$run_of_blocks" | field gpa) - gpa))" \
			"$(echo "$run_of_blocks" | field size)"
	done | awk '
		$1 == "block" { start[++nr] = $2; end[nr] = $2 + $3; plugged += $3; next }
		$1 == "total" { total = $2; next }
		{
			bytes += $2
			for (i = 1; i <= nr; i++)
				if ($1 >= start[i] && $1 + $2 <= end[i])
					next
			print "# memory at", $1, "of", $2, "bytes is in no plugged block"
			bad = 1
		}
		END { exit bad || total > plugged || bytes != total }' - "$run/allocated"
}
