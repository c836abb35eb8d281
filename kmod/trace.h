/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: /sys/kernel/tracing/events/kvm_vmem.
 *
 * batch reports each batch that reached step 1 (see batch.c): its changes, the
 * time of each step, and the result.
 *
 * work reports each work of a queue: the process that created the VM, the CPU
 * time of the work, and the remaining credit of the VM.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_vmem

#if !defined(KVM_VMEM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KVM_VMEM_TRACE_H

#include <linux/tracepoint.h>

#include "batch.h"

TRACE_EVENT(batch,
	TP_PROTO(const struct vmem_batch_stats *stats, int result),
	TP_ARGS(stats, result),

	TP_STRUCT__entry(
		__field(u32, creates)
		__field(u32, deletes)
		__field(u32, flips)
		__field(u32, grace_periods)
		__field(u32, zaps)
		__field(u32, unmaps)
		__field(u64, judge_ns)
		__field(u64, prepare_ns)
		__field(u64, grace_ns)
		__field(u64, zap_ns)
		__field(u64, commit_ns)
		__field(int, result)
	),

	TP_fast_assign(
		__entry->creates = stats->creates;
		__entry->deletes = stats->deletes;
		__entry->flips = stats->flips;
		__entry->grace_periods = stats->grace_periods;
		__entry->zaps = stats->zaps;
		__entry->unmaps = stats->unmaps;
		__entry->judge_ns = stats->judge_ns;
		__entry->prepare_ns = stats->prepare_ns;
		__entry->grace_ns = stats->grace_ns;
		__entry->zap_ns = stats->zap_ns;
		__entry->commit_ns = stats->commit_ns;
		__entry->result = result;
	),

	TP_printk("creates=%u deletes=%u flips=%u grace_periods=%u zaps=%u unmaps=%u judge_ns=%llu prepare_ns=%llu grace_ns=%llu zap_ns=%llu commit_ns=%llu result=%d",
		  __entry->creates, __entry->deletes, __entry->flips,
		  __entry->grace_periods, __entry->zaps, __entry->unmaps, __entry->judge_ns,
		  __entry->prepare_ns, __entry->grace_ns, __entry->zap_ns,
		  __entry->commit_ns, __entry->result)
);

TRACE_EVENT(work,
	TP_PROTO(pid_t vmm, u64 ran_ns, s64 credit_ns),
	TP_ARGS(vmm, ran_ns, credit_ns),

	TP_STRUCT__entry(
		__field(pid_t, vmm)
		__field(u64, ran_ns)
		__field(s64, credit_ns)
	),

	TP_fast_assign(
		__entry->vmm = vmm;
		__entry->ran_ns = ran_ns;
		__entry->credit_ns = credit_ns;
	),

	TP_printk("vmm=%d ran_ns=%llu credit_ns=%lld",
		  __entry->vmm, __entry->ran_ns, __entry->credit_ns)
);

#endif /* KVM_VMEM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

#include <trace/define_trace.h>
