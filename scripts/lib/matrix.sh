# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Access to scripts/matrix, to be sourced: the supported kernels, and the parts of
# the test run with their machines.

matrix_file=$(dirname "${BASH_SOURCE[0]}")/../matrix

# matrix_series - print the kernel series, the default one first
matrix_series() {
	awk '$1 == "kernel" { print $2 }' "$matrix_file"
}

# matrix_suite SERIES - print the Debian suite of a series
matrix_suite() {
	awk -v series="$1" '$1 == "kernel" && $2 == series { print $3 }' \
		"$matrix_file"
}

# matrix_has_flavour SERIES FLAVOUR - return 0 if the series has the flavour
matrix_has_flavour() {
	awk -v series="$1" -v flavour="$2" '
	$1 == "kernel" && $2 == series {
		for (i = 5; i <= NF; i++)
			found = found || $i == flavour
	}
	END { exit !found }' "$matrix_file"
}

# matrix_releases - print all kernels on one line: "6.1 6.1-cloud ..."
matrix_releases() {
	awk '
	$1 == "kernel" {
		printf "%s%s", between, $2
		between = " "
		for (i = 5; i <= NF; i++)
			printf " %s-%s", $2, $i
	}' "$matrix_file"
}

# matrix_may_go SERIES - return 0 if the series is optional in the archive
matrix_may_go() {
	awk -v series="$1" '
	$1 == "kernel" && $2 == series { found = $4 == "optional" }
	END { exit !found }' "$matrix_file"
}

# matrix_parts SET - print the parts of a set of scripts/test, the longest first
# Each line is: KERNEL CPU MODE SUITE SECONDS
matrix_parts() {
	awk -v set="$1" '
	$1 == "part" {
		for (i = 7; i <= NF; i++)
			if ($i == set)
				print $2, $3, $4, $5, $6
	}' "$matrix_file" | sort -k 5,5nr -s
}

# matrix_sets - print the sets of scripts/test
matrix_sets() {
	awk '
	$1 == "part" {
		for (i = 7; i <= NF; i++)
			if (!seen[$i]++)
				print $i
	}' "$matrix_file"
}

# matrix_kernels SET - print the kernels that the parts of a set run on
# They are in the order of the table.
matrix_kernels() {
	awk -v set="$1" '
	$1 == "part" && $2 != "-" {
		for (i = 7; i <= NF; i++)
			if ($i == set && !seen[$2]++)
				print $2
	}' "$matrix_file"
}
