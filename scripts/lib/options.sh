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
# A flag sets the variable of its name to "yes", an option sets it to VALUE; if the
# variable is an array, the option may be repeated. The script assigns defaults before
# it calls options_parse. If VALUE is spelled FOLDER, the folder is created and the
# variable holds its absolute path. --option=VALUE is the same as --option VALUE.
#
# Other arguments are collected in the array "arguments". They are an error if the
# script does not declare it.

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

# options_is_array VARIABLE - return 0 if the variable is an array
options_is_array() {
	[[ $(declare -p "$1" 2>/dev/null) == 'declare -a'* ]]
}

# options_set NAME VALUE - set the variable of an option, or append to it
options_set() {
	local options_name=${1#--}

	options_name=${options_name//-/_}
	if options_is_array "$options_name"; then
		local -n options_array=$options_name
		options_array+=("$2")
	else
		declare -g "$options_name=$2"
	fi
}

# options_parse [ARG]... - parse the arguments of the script
options_parse() {
	local value joined

	while [ $# != 0 ]; do
		joined=
		case $1 in
		-h | --help)
			options_help
			exit 0
			;;
		--*=*)
			joined=yes
			set -- "${1%%=*}" "${1#*=}" "${@:2}"
			;;
		-*) ;;
		*)
			options_is_array arguments || options_bad "unknown: $1"
			arguments+=("$1")
			shift
			continue
			;;
		esac
		value=$(options_value "$1") || options_bad "unknown: $1"
		if [ -z "$value" ]; then
			[ -z "$joined" ] || options_bad "$1 takes no value"
			options_set "$1" yes
			shift
			continue
		fi
		[ $# -ge 2 ] || options_bad "$1 needs a value"
		if [ "$value" = FOLDER ]; then
			mkdir -p "$2" || exit 2
			options_set "$1" "$(cd "$2" && pwd)"
		else
			options_set "$1" "$2"
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
