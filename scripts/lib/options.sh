# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The options of a script, to be sourced. The comment at the top of the script is
# their only list:
#
#	# usage: NAME [--flag] [--option VALUE]
#	#   --flag          text
#	#   --option VALUE  text
#
# A flag sets a variable of its name to "yes", an option to its value. The script
# sets the defaults before. A VALUE called FOLDER is made, and is absolute after.

# options_help - print the comment at the top of the script
options_help() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" | grep -v shellcheck
}

# options_bad TEXT - end the script with a complaint and its usage
options_bad() {
	{
		echo "${0##*/}: $1"
		options_help | sed -n '/^usage:/,/^ *--/{/^ *--/!p}' | sed '/^$/d'
	} >&2
	exit 2
}

# options_value NAME - print what a value is called; fail for unknown options
# Prints nothing for a flag.
options_value() {
	options_help | awk -v name="$1" '
	# One blank before a VALUE, two or more before the text.
	$1 == name && /^  --/ {
		found = 1
		if (index($0, name " " $2) && $2 ~ /^[A-Z]+$/)
			print $2
	}
	END { exit !found }'
}

# options_parse [ARG]... - take the arguments of the script, options only
options_parse() {
	local value name

	while [ $# != 0 ]; do
		case $1 in
		-h | --help)
			options_help
			exit 0
			;;
		esac
		value=$(options_value "$1") || options_bad "unknown: $1"
		name=${1#--}
		name=${name//-/_}
		if [ -z "$value" ]; then
			declare -g "$name=yes"
			shift
			continue
		fi
		[ $# -ge 2 ] || options_bad "$1 needs a value"
		if [ "$value" = FOLDER ]; then
			mkdir -p "$2" || exit 2
			declare -g "$name=$(cd "$2" && pwd)"
		else
			declare -g "$name=$2"
		fi
		shift 2
	done
}

# options_need NAME... - these variables must be set
options_need() {
	local name

	for name; do
		[ -n "${!name-}" ] || options_bad "--${name//_/-} is needed"
	done
}
