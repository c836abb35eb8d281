# shellcheck shell=dash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Nested guests of QEMU with and without the patches of integrations/qemu, to be
# sourced in the testbed.
#
# A peer is one way to run QEMU. SMM is on, as by default, so there are two address
# spaces with each memslot.
#   stock     Debian's QEMU with dynamic-memslots=on
#   calls     patched, with memslots of SPARSE_MIB; /dev/kvm-vmem is not usable
#   batches   patched, with memslots of SPARSE_MIB and /dev/kvm-vmem
# The guest has no driver loaded: vmem-poke plugs one block of each memslot.

MIB=1048576
BOOT_MIB=256
BLOCK=$((2 * MIB))
# More than QEMU sends of a block: eight pages, and a mark for each that is zero. The kernel
# and the programs of a guest are more than that for all blocks.
SENT_PER_BLOCK=$((48 * 1024))
REGION_MIB=$((1024 * 1024))
# Bochs's Intel CPU has 40 address bits, too few for a region of 1 TiB above other memory.
! grep -qm 1 '^address sizes.*: 40 bits physical' /proc/cpuinfo || REGION_MIB=$((512 * 1024))
SPARSE_MIB=128
# The size of stock QEMU's memslots, of which there are at most 256.
STOCK_MIB=$((REGION_MIB / 256))
# The memslots above this address are those of the region.
DEVICE_MEMORY=$((4096 * MIB))
# Timeouts in seconds that only a hang reaches.
BOOT_TIMEOUT=300
STEP_TIMEOUT=600
# KVM_SET_USER_MEMORY_REGION and KVM_SET_USER_MEMORY_REGION2.
MEMSLOT_IOCTLS='cmd == 0x4020ae46 || cmd == 0x40a0ae49'
TRACING=/sys/kernel/tracing
EVENTS=$TRACING/events

run=/run/series
export VMEM_REFUSE=$run/refuse
mkdir -p $run
# shellcheck source=/dev/null
. /bin/guest-checks.sh
# shellcheck source=/dev/null
. /bin/guest-log.sh

give_up() {
	echo "Bail out! $*"
	for log in "$run"/*.log; do
		[ -s "$log" ] || continue
		echo "# the end of ${log##*/}:"
		tail -n 20 "$log" | tr -d '\r' | sed 's/^/# /'
	done
	exit 1
}

# What launch() does not do by default.
accel_more=
machine_more=
memory="memory-backend-ram"
memory_more=
device_more=
dynamic_memslots=
cpus=1
requested_mib=
# Memory of further devices.
more_mib=0
# A capability of migrate(), and a command that it runs meanwhile.
capability=
meanwhile=
# The option that has the size of memslots: -accel or -machine.
option=accel
# Empty for a VM without virtio-mem, which has its memory only.
virtio_mem=yes

# start NAME [OPTION]... - start QEMU as $peer, and wait until it listens
# NAME is the name of its console and monitor.
start() {
	launch "$@"
	listening "$vmm" "$monitor" || give_up "QEMU ($peer) does not start"
}

# launch NAME [OPTION]... - start QEMU as $peer
launch() {
	vm=$1
	shift
	console=$run/$vm.console
	monitor=$run/$vm.monitor
	rm -f "$console" "$monitor" "$run/$vm.gdb"
	folder=/series
	preload=
	accel=kvm$accel_more
	# The reduced build has none of these, whose state stock QEMU would migrate to it.
	machine=q35,hpet=off,vmport=off$machine_more
	dynamic=off
	device=/dev/kvm-vmem
	stride=$((SPARSE_MIB * MIB))
	case $peer in
	stock)
		folder=/stock dynamic=on stride=$((STOCK_MIB * MIB))
		;;
	calls) device=/dev/null preload=/series/refuse.so ;;
	batches) preload=/series/refuse.so ;;
	esac
	dynamic=${dynamic_memslots:-$dynamic}
	case $peer-$option in
	stock-*) ;;
	*-accel) accel=$accel,sparse-memslot-size=${SPARSE_MIB}M ;;
	*-machine) machine=$machine,sparse-memslot-size=${SPARSE_MIB}M ;;
	esac
	# shellcheck disable=SC2016 # for the shell inside
	unshare -m sh -c 'mount --bind "$0" /dev/kvm-vmem && exec "$@"' $device \
		$folder/lib/ld-linux-x86-64.so.2 --library-path $folder/lib \
		${preload:+--preload $preload} $folder/qemu -L /firmware \
		-nodefaults -no-user-config -display none -M "$machine" \
		-accel "$accel" -cpu host,host-phys-bits=on \
		-smp "$cpus" -m ${BOOT_MIB}M,maxmem=$((BOOT_MIB + REGION_MIB + more_mib))M \
		-kernel /guest/vmlinuz -initrd /guest/initrd \
		-append "console=ttyS0 quiet panic=-1 nowatchdog nokaslr nodriver" \
		-chardev "socket,id=console,path=$console,server=on,wait=off,logfile=$run/$vm-console.log" \
		-serial chardev:console -qmp "unix:$monitor,server=on,wait=off" \
		-object "$memory,id=ram,size=${REGION_MIB}M,reserve=off$memory_more" \
		"$@" \
		${virtio_mem:+-device "virtio-mem-pci,id=vm0,memdev=ram,requested-size=${requested_mib:-$REGION_MIB}M,block-size=2M,unplugged-inaccessible=on,dynamic-memslots=$dynamic$device_more"} \
		>>"$run/$vm.log" 2>&1 &
	vmm=$!
}

guest_is_up() {
	vmem-guestctl "$console" --timeout $BOOT_TIMEOUT ready >/dev/null ||
		give_up "the guest ($peer) does not boot"
}

# qmp REQUEST [--until TEXT [--unless TEXT] | --event NAME] - send a QMP request
qmp() {
	vmem-qmp "$monitor" $STEP_TIMEOUT "$@"
}

# monitor COMMAND - have QEMU's human monitor execute a command
monitor() {
	qmp '{"execute":"human-monitor-command","arguments":{"command-line":"'"$1"'"}}'
}

# region_address - print the address of the region in the guest
region_address() {
	qmp '{"execute":"query-memory-devices"}' | sed -n 's/.*"memaddr": *\([0-9]*\).*/\1/p'
}

# gdb PACKET... - send packets of GDB's protocol, and print the answers
# The guest is stopped meanwhile.
gdb() {
	if [ ! -S "$run/$vm.gdb" ]; then
		monitor "gdbserver unix:$run/$vm.gdb,server=on,wait=off" >/dev/null &&
			listening "$vmm" "$run/$vm.gdb" || return 1
	fi
	vmem-gdb "$run/$vm.gdb" $STEP_TIMEOUT "$@"
}

quit() {
	qmp '{"execute":"quit"}' >/dev/null
	wait "$vmm"
}

# poke COMMAND... - have the guest drive the device
poke() {
	guest sh "vmem-poke $*"
}

# total_metadata - print the size of KVM's metadata for QEMU's memslots, in bytes, of
# all address spaces together
total_metadata() {
	vmemctl --json metadata --pid "$vmm" | grep -o '"total":[0-9]*' |
		cut -d : -f 2 | sort -n | tail -n 1
}

# kvm_memslots - print the number of QEMU's memslots in all address spaces
kvm_memslots() {
	vmemctl --json metadata --pid "$vmm" | grep -o '"nr_memslots":[0-9]*' |
		cut -d : -f 2 | awk '{ sum += $1 } END { print sum }'
}

# count - start counting trace events of all processes
count() {
	echo 'p:vmem/grace_period synchronize_srcu_expedited' >$TRACING/kprobe_events &&
		echo "hist:keys=common_pid if $MEMSLOT_IOCTLS" \
			>$EVENTS/syscalls/sys_enter_ioctl/trigger || return 1
	for event in vmem/grace_period kvmmmu/kvm_mmu_zap_all_fast kvm_vmem/batch; do
		echo 'hist:keys=common_pid' >$EVENTS/$event/trigger || return 1
	done
}

# hits EVENT - print how often a trace event occurred, from its histogram
hits() {
	sed -n 's/^ *Hits: *//p' "$EVENTS/$1/hist" | head -n 1
}

# remember - remember the current counts
remember() {
	calls_0=$(hits syscalls/sys_enter_ioctl)
	batches_0=$(hits kvm_vmem/batch)
	grace_0=$(hits vmem/grace_period)
	zaps_0=$(hits kvmmmu/kvm_mmu_zap_all_fast)
}

# step NAME COMMAND... - run a command, and set $calls, $batches, $grace and $zaps
step() {
	step=$1
	shift
	remember
	"$@" >$run/step 2>&1 || { sed 's/^/# /' $run/step; return 1; }
	calls=$(($(hits syscalls/sys_enter_ioctl) - calls_0))
	batches=$(($(hits kvm_vmem/batch) - batches_0))
	grace=$(($(hits vmem/grace_period) - grace_0))
	zaps=$(($(hits kvmmmu/kvm_mmu_zap_all_fast) - zaps_0))
	echo "# COUNTS $peer $step: calls $calls, batches $batches, grace periods $grace, zaps $zaps"
}

# dirty_rate - have QEMU start dirty logging and stop it again
dirty_rate() {
	mode=bitmap
	[ -z "$accel_more" ] || mode=ring
	qmp '{"execute":"calc-dirty-rate","arguments":{"calc-time":1,"mode":"dirty-'$mode'"}}' &&
		qmp '{"execute":"query-dirty-rate"}' --until '"measured"'
}

# start_writing FROM COMMAND - have the guest run a command until stop_writing() or its failure
# The command's $1 is the number of its pass, FROM + 1 at first.
start_writing() {
	# The agent takes lines of limited length.
	guest sh 'rm -f /tmp/stop; echo passes 0 >/tmp/passes' &&
		guest sh "echo '$2' >/tmp/write" &&
		guest sh "(i=$1; until [ -e /tmp/stop ]; do i=\$((i + 1)); sh /tmp/write \$i >/tmp/wrong || { i=0; break; }; echo passes \$i >/tmp/passes; done; echo end \$i >/tmp/passes) >/dev/null 2>&1 &"
}

# written PASSES - wait until the guest has written all of its blocks more often than
# PASSES, and set $passes
written() {
	await passes_or_end "$1" && [ "${passes:-0}" -gt "$1" ] && return
	echo "# what the guest wrote is wrong: $(guest sh 'cat /tmp/passes /tmp/wrong' | tr -d '\r' | tr '\n' ' ')"
	return 1
}

# passes_or_end PASSES - as passes_are passes, or the writes have ended
passes_or_end() {
	passes_are passes "$1" || guest sh 'grep ^end /tmp/passes'
}

# passes_are WORD PASSES - set $passes, and return 0 if they are more
passes_are() {
	passes=$(guest sh 'cat /tmp/passes' | tr -d '\r' | sed -n "s/^$1 //p") &&
		[ "${passes:-0}" -gt "$2" ]
}

# stop_writing - stop the guest's writes, and set $passes
stop_writing() {
	guest sh 'touch /tmp/stop' >/dev/null && await guest sh 'grep ^end /tmp/passes' &&
		passes_are end 0
}

# remember_source - remember which QEMU is the source of a migration
remember_source() {
	source=$vmm
	source_vm=$vm
	source_console=$console
	source_monitor=$monitor
	source_peer=$peer
	source_stride=$stride
}

# back_to_source - return to the source after a migration that failed
back_to_source() {
	if [ "$vmm" != "$source" ]; then
		kill "$vmm" 2>/dev/null
		wait "$vmm"
	fi
	kill -0 "$source" 2>/dev/null || give_up "the guest is lost in its migration"
	vmm=$source
	vm=$source_vm
	console=$source_console
	monitor=$source_monitor
	peer=$source_peer
	stride=$source_stride
}

# migrate URI NAME [PEER] - migrate the guest to another QEMU under write load
# The guest verifies and then writes all of its blocks repeatedly, with other contents each
# time, before, during and after the migration, until stop_writing(). The first pass at the
# destination so finds a page that was not migrated after it was written. One block is
# written before only. The destination starts with another requested size, and gets that of
# the source with the state. With $meanwhile, other blocks may be plugged already, and that
# command runs when QEMU has sent all of the region.
migrate() {
	uri=$1
	remember_source
	requested_mib=0
	migrated "$@"
	done=$?
	requested_mib=
	# The next checks use the source if the guest is still there.
	[ $done = 0 ] || back_to_source
	[ -z "$capability" ] || {
		migrates_with "$capability" false && has_bandwidth 0
	}
	[ $done != 0 ] || return 0
	stop_writing
	return 1
}

migrated() {
	at=$stride
	[ -n "$meanwhile" ] || poke unplug-all || return 1
	poke plug 0 "$memslots" "$at" && poke fill 0 "$memslots" "$at" 1 &&
		poke plug $BLOCK 1 $BLOCK && poke fill $BLOCK 1 $BLOCK 25 || return 1
	start_writing 1 "vmem-poke check 0 $memslots $at \$((\$1 - 1)) && vmem-poke fill 0 $memslots $at \$1" &&
		written 0 || return 1
	[ -z "$capability" ] || migrates_with "$capability" || return 1
	case $uri in
	unix:*)
		peer=${3-$peer}
		start "$2" -incoming defer
		[ -z "$capability" ] || migrates_with "$capability" || return 1
		qmp '{"execute":"migrate-incoming","arguments":{"uri":"'"$uri"'"}}' >/dev/null &&
			listening "$vmm" "${uri#unix:}" || return 1
		monitor=$source_monitor
		;;
	esac
	step "migration" qmp_migrated || return 1
	if [ "$capability" = postcopy-ram ]; then
		grep -o '"postcopy-\(bytes\|requests\)": *[0-9]*' $run/step | tr '\n' ' ' |
			sed 's/^/# /; s/$/\n/'
		grep -q '"postcopy-bytes": *[1-9]' $run/step || return 1
	fi
	grep -o '"\(downtime\|dirty-sync-count\|normal\|duplicate\)": *[0-9]*' $run/step |
		tr '\n' ' ' | sed 's/^/# /; s/$/\n/'
	qmp '{"execute":"quit"}' >/dev/null
	wait "$source"
	case $uri in
	file:*)
		peer=${3-$peer}
		set -- "$2"
		[ "$capability" != mapped-ram ] || set -- "$@" -global migration.mapped-ram=on
		start "$@" -incoming "$uri"
		;;
	*) monitor=$run/$vm.monitor ;;
	esac
	qmp '{"execute":"query-status"}' --until '"running": true' >/dev/null &&
		written_again && stop_writing || return 1
	echo "# all blocks were written $passes times"
	poke check 0 "$memslots" "$at" "$passes" && poke check $BLOCK 1 $BLOCK 25 || return 1
	[ -n "$meanwhile" ] || poke unplug-all
}

# migrates_with CAPABILITY [true|false] - set a capability of QEMU's next migration
migrates_with() {
	qmp '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"'"$1"'","state":'"${2-true}"'}]}}' >/dev/null
}

# has_bandwidth BYTES - limit QEMU's next migration to this many bytes a second, or 0: do not
has_bandwidth() {
	qmp '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":'"$1"'}}' >/dev/null
}

# has_downtime MS - limit the downtime of QEMU's next migration
has_downtime() {
	qmp '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":'"$1"'}}' >/dev/null
}

# at_source [COMMAND...] - run a command for the guest at the source of a migration
# The command does not call at_source().
at_source() {
	there=$console
	console=$source_console
	"$@"
	at_source=$?
	console=$there
	return $at_source
}

# written_again - wait until the guest has written all of its blocks once more
written_again() {
	written 0 && written "$passes" && written "$passes"
}

# has_sent BYTES - return 0 if QEMU has sent this much for its migration
has_sent() {
	[ "$(of_migration transferred)" -gt "$1" ]
}

# of_migration NAME - print a figure of QEMU's migration
of_migration() {
	qmp '{"execute":"query-migrate"}' | sed -n 's/.*"'"$1"'": *\([0-9]*\).*/\1/p' |
		grep . || echo 0
}

# qmp_migrated - migrate
# By precopy, the migration completes when QEMU has sent all of the region once, which it
# sends first, and the guest has written all of its blocks since. Without KVM's log, what it
# wrote would be lost. Until then QEMU sends the guest's other memory, slowly.
qmp_migrated() {
	case $capability in
	# At this bandwidth, it does not complete before postcopy is requested.
	postcopy-ram) has_bandwidth $MIB ;;
	background-snapshot) ;;
	*) has_bandwidth $((16 * MIB)) && has_downtime 1 ;;
	esac || return 1
	qmp '{"execute":"migrate","arguments":{"uri":"'"$uri"'"}}' || return 1
	case $capability in
	postcopy-ram)
		qmp '{"execute":"query-migrate"}' --until '"status": "active"' \
			--unless '"status": "failed"' &&
			qmp '{"execute":"migrate-start-postcopy"}'
		;;
	background-snapshot) ;;
	*)
		# Up to eight other blocks are plugged.
		await has_sent $(((memslots + 8) * SENT_PER_BLOCK)) && has_bandwidth $((MIB / 8)) &&
			reads=$(of_migration dirty-sync-count) && at_source written_again &&
			at_source "${meanwhile:-true}" &&
			[ "$(of_migration dirty-sync-count)" = "$reads" ] && has_bandwidth 0 &&
			has_downtime 10000
		;;
	esac || return 1
	qmp '{"execute":"query-migrate"}' --until '"status": "completed"' \
		--unless '"status": "failed"'
}

# resize MIB - set the requested size
resize() {
	qmp '{"execute":"qom-set","arguments":{"path":"/machine/peripheral/vm0","property":"requested-size","value":'$(($1 * MIB))'}}' >/dev/null
}

# pattern SEED - have the guest write and verify its hotplugged memory
pattern() {
	guest pattern "$1" >$run/pattern || { cat $run/pattern; return 1; }
	sed 's/^/# /' $run/pattern
	[ "$(sed -n 's/^bad_pages //p' $run/pattern)" = 0 ]
}

driver_is_loaded() {
	guest sh 'modprobe virtio_pci && modprobe virtio_mem'
}
