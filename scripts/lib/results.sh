# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The results of a test run, to be sourced. They are collected in a file: the lines of
# lib/tap (verdict, test, reason; separated by tabs), and a line for each part of the
# run ("part", its name, seconds). $top is the checkout.

# results_begin FILE - start a run, with results in FILE
results_begin() {
	results=$1
	: >"$results"
	results_clock=$SECONDS
}

# results_add VERDICT TEST [REASON] - add one result: ok, fail or skip
results_add() {
	printf '%s\t%s\t%s\n' "$1" "$2" "${3-}" >>"$results"
	results_tell < <(tail -n 1 "$results")
}

# results_judge LOG ARG... - judge a log with lib/tap and its arguments
# Prints a line for each program, with its failures and skips below.
results_judge() {
	local judged

	judged=$("${top:?}/scripts/lib/tap" "${@:2}" <"$1") || judged=$(
		printf 'fail\t%s: its log\tcannot be judged' "$1")
	[ -n "$judged" ] || return 0
	printf '%s\n' "$judged" >>"$results"
	results_tell <<<"$judged"
	sed -n 's/^fail\t\([^:]*\): .*/\1/p' <<<"$judged" | uniq |
		while read -r program; do
			results_show "$1" "$program"
		done
}

# results_show LOG PROGRAM - print the output of a program with failures
results_show() {
	echo "    --- $2, without passed tests:"
	if grep -qF "@@begin $2" "$1"; then
		awk -v name="$2" '
		/^@@begin / { wanted = $2 == name }
		wanted { print }' "$1"
	else
		cat "$1"
	fi | tr -d '\r' | grep -vE '^(ok |@@|$)' | tail -n 60 | sed 's/^/    | /'
}

# results_tell - print the results on stdin
results_tell() {
	awk -F '\t' '
	NF < 2 { next }
	{
		program = $2
		sub(/: .*/, "", program)
		if (!(program in seen)) {
			seen[program] = 1
			order[++programs] = program
		}
		count[program, $1]++
		if ($1 != "ok") {
			test = substr($2, length(program) + 3)
			text[program] = text[program] sprintf( \
				"    %s %s%s\n", $1 == "fail" ? "FAILED" : "skipped", \
				test, $3 == "" ? "" : " (" $3 ")")
		}
	}
	END {
		for (i = 1; i <= programs; i++) {
			program = order[i]
			printf "  %-32s %4d passed %3d failed %3d skipped\n%s", program, \
				count[program, "ok"], count[program, "fail"], \
				count[program, "skip"], text[program]
		}
	}'
}

# results_part NAME - end a part of the run: print and record its time
results_part() {
	local seconds=$((SECONDS - results_clock))

	printf '== %s: %d s\n' "$1" "$seconds"
	printf 'part\t%s\t%d\n' "$1" "$seconds" >>"$results"
	results_clock=$SECONDS
}

# results_parts - print a table of the parts' times, the longest first
# Times of parts that ran in parallel include the load of the others.
results_parts() {
	echo "parts, in seconds:"
	awk -F '\t' '$1 == "part" { printf "  %6d  %s\n", $3, $2 }' "$results" |
		sort -k 1,1nr -s
}

# results_end - print the failures, and the totals as the last line
# Return: 0 if a test passed and none failed
results_end() {
	awk -F '\t' '
	{ count[$1]++ }
	$1 == "fail" { failures = failures sprintf("  %s (%s)\n", $2, $3) }
	END {
		if (failures != "")
			printf "failed:\n%s", failures
		printf "%d passed, %d failed, %d skipped\n", \
			count["ok"], count["fail"], count["skip"]
		exit !(count["ok"] > 0 && !count["fail"])
	}' "$results"
}
