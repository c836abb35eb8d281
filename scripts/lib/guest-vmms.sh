# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash disable=SC2034,SC2154
#
# Two VMMs with the same Linux guest, to be sourced by scripts inside a machine of
# lib/peers.sh: QEMU with its own virtio-mem device, and vmem-vmm with vmemd. The script
# sets BOOT_MIB, REGION_MIB, BOOT_TIMEOUT and STEP_TIMEOUT (seconds; only a hang reaches
# them). After a VMM is started, $vmm is its process.

# shellcheck source=scripts/lib/guest-log.sh
. /bin/guest-log.sh

BLOCK=2M
SLOT=128M
# The function of the guest's driver that sends a request and waits for the answer.
DRIVER_FUNCTION=virtio_mem_send_request

run=/run/vmms
console=$run/console
control=$run/control
mkdir -p $run

say() {
	echo "[$(cut -d . -f 1 /proc/uptime) s] $*"
}

give_up() {
	say "FAILED: $*"
	for log in $run/console.log $run/vmm.log; do
		[ -s "$log" ] || continue
		say "the end of ${log##*/}:"
		tail -n 30 "$log" | tr -d '\r' | sed 's/^/# /'
	done
	exit 1
}

guest() {
	vmem-guestctl $console --timeout "$STEP_TIMEOUT" "$@"
}

# start_qemu DYNAMIC-MEMSLOTS [COMMAND...] - start QEMU with that property of the device
# COMMAND is qemu-system-x86_64 by default. $qemu_machine is the machine, without SMM by
# default, $qemu_accel has options of the accelerator.
start_qemu() {
	dynamic=$1
	shift
	"${@:-qemu-system-x86_64}" -L /guest/firmware -M "${qemu_machine:-q35,smm=off}" \
		-accel "kvm${qemu_accel-}" \
		-cpu host -smp 1 -m "${BOOT_MIB}M,maxmem=$((BOOT_MIB + REGION_MIB))M" \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel /guest/vmlinuz -initrd /guest/initrd \
		-append 'console=ttyS0 quiet panic=-1' \
		-chardev socket,id=console,path=$console,server=on,wait=off,logfile=$run/console.log \
		-serial chardev:console -qmp unix:$control,server=on,wait=off \
		-object memory-backend-file,id=ram,size="${REGION_MIB}M",mem-path=$run/shm/ram,align=2M,share=on,reserve=off,discard-data=on \
		-device virtio-mem-pci,id=vm0,memdev=ram,requested-size=0,block-size=$BLOCK,unplugged-inaccessible=on,dynamic-memslots="$dynamic" \
		>$run/vmm.log 2>&1 &
	vmm=$!
}

# start_patched_qemu - start QEMU with the patches of integrations/qemu, from /series
start_patched_qemu() {
	qemu_accel=,sparse-memslot-size=$SLOT
	start_qemu off /series/lib/ld-linux-x86-64.so.2 --library-path /series/lib \
		/series/qemu
	qemu_accel=
}

# request_qemu BYTES - set the requests for vmem-guestresize
request_qemu() {
	hello='{"execute":"qmp_capabilities"}'
	request='{"execute":"qom-set","arguments":{"path":"/machine/peripheral/vm0","property":"requested-size","value":'$1'}}'
	check='{"execute":"qom-get","arguments":{"path":"/machine/peripheral/vm0","property":"size"}}'
	until='"return": '$1'}'
}

# start_ours [OPTION]... - start vmem-vmm with vmemd, with more options
start_ours() {
	vmem-vmm --kernel /guest/vmlinuz --initrd /guest/initrd \
		--cmdline 'console=ttyS0 quiet panic=-1' --memory "${BOOT_MIB}M" \
		--region-size "${REGION_MIB}M" --slot-size $SLOT --block-size $BLOCK \
		--serial unix:$console --console-log $run/console.log \
		--vmemd /bin/vmemd --vmemd-arg --log-level --vmemd-arg warning \
		--control-listen $control "$@" >$run/vmm.log 2>&1 &
	vmm=$!
}

request_ours() {
	hello=
	request='{"id":1,"method":"resize","params":{"size":'$1'}}'
	check='{"id":2,"method":"status"}'
	until='"plugged_size":'$1','
}

# start_guest NAME COMMAND... - start a VMM by COMMAND, and wait for its guest
# Sets $guest_base to the guest's MemTotal without memory of the device.
start_guest() {
	vmm_name=$1
	shift
	say "$vmm_name"
	rm -f $console $control
	"$@"
	vmem-guestctl $console --timeout "$BOOT_TIMEOUT" ready ||
		give_up "$vmm_name: the guest does not boot"
	guest_base=$(guest meminfo | sed -n 's/^memtotal //p')
	[ -n "$guest_base" ] ||
		give_up "$vmm_name: the guest does not report its memory"
}

end_guest() {
	guest dmesg >$run/dmesg || give_up "$vmm_name: the guest's log"
	no_complaint $run/dmesg ||
		give_up "$vmm_name: the guest's kernel log has warnings"
	guest poweroff || give_up "$vmm_name: the guest does not power off"
	wait "$vmm" || give_up "$vmm_name: the VMM ends with status $?"
}

# resize_guest MIB - resize, and wait until VMM and guest have followed
# $kind is the kind of the VMM: qemu or ours.
resize_guest() {
	"request_$kind" $(($1 * MIB))
	vmem-guestresize --console $console --control $control \
		--timeout "$STEP_TIMEOUT" --memtotal $((guest_base + $1 * MIB)) \
		${hello:+--hello "$hello"} --request "$request" \
		--check "$check" --until "$until" >$run/times ||
		give_up "$vmm_name does not reach $1 MiB"
}

# trace_requests - have the guest measure each request of its driver, until it answers
trace_requests() {
	guest sh "mount -t tracefs tracefs /sys/kernel/tracing && cd /sys/kernel/tracing && echo $DRIVER_FUNCTION >set_ftrace_filter && echo function_graph >current_tracer" ||
		give_up "$vmm_name: the guest cannot trace its driver"
}

# forget_requests - begin with requests from now on
forget_requests() {
	guest sh 'echo >/sys/kernel/tracing/trace' ||
		give_up "$vmm_name: the guest's trace"
}

# traced_requests - print the requests since then, in nanoseconds, separated by commas
# The tracer prints microseconds, with fewer decimals for larger values. Its other lines
# have no duration: they are comments, and show where the process slept.
traced_requests() {
	guest sh 'cat /sys/kernel/tracing/trace' >$run/trace ||
		give_up "$vmm_name: the guest's trace"
	awk -F '|' '$1 ~ / us *$/ {
		nr = split($1, words, " ")
		printf "%s%.0f", comma, 1000 * words[nr - 1]
		comma = ","
	}' $run/trace
}

# huge_pages_for_guests - use huge pages for guest memory where the VMM asks for them
# Faulting in a million small pages takes long in an emulated machine. QEMU maps a memfd
# unaligned to huge pages, so that shrinking is ten times slower, and accepts an alignment
# for files only.
huge_pages_for_guests() {
	echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled
	mkdir $run/shm
	mount -t tmpfs -o huge=advise shm $run/shm || give_up "no huge pages for files"
}
