# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Option parsing for scripts, to be sourced. The comment at the top of the script
# defines the options:
#
#	# usage: NAME [--flag] [--option VALUE]
#	#   --flag          text
#	#   --option VALUE  text
#
# A flag sets the variable of its name to "yes", an option sets it to VALUE. The
# script assigns defaults before it calls options_parse. If VALUE is spelled FOLDER,
# the folder is created and the variable holds its absolute path.

# options_help - print the comment at the top of the script
options_help() {
	sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$0" | grep -v shellcheck
}

# options_bad TEXT - print an error and the usage, and exit with 2
options_bad() {
	{
		echo "${0##*/}: $1"
		options_help | sed -n '/^usage:/,/^ *--/{/^ *--/!p}' | sed '/^$/d'
	} >&2
	exit 2
}

# options_value NAME - print the name of an option's VALUE, nothing for a flag
# Return: 1 if the option is unknown
options_value() {
	options_help | awk -v name="$1" '
	# One space precedes VALUE, two or more precede the text.
	$1 == name && /^  --/ {
		found = 1
		if (index($0, name " " $2) && $2 ~ /^[A-Z]+$/)
			print $2
	}
	END { exit !found }'
}

# options_parse [ARG]... - parse the arguments of the script, options only
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

# options_need NAME... - exit with 2 unless these variables are set
options_need() {
	local name

	for name; do
		[ -n "${!name-}" ] || options_bad "--${name//_/-} is needed"
	done
}
