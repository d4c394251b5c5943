# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Bash completion for the command cowpool. Names of pools are completed for
# whoever can list them.

_cowpool_pools() {
	cowpool pool list 2>/dev/null | awk 'NR > 1 && $2 != "-" { print $2 }'
}

_cowpool() {
	local current=${COMP_WORDS[COMP_CWORD]}
	local previous=${COMP_WORDS[COMP_CWORD - 1]}
	local words=() candidates='' word

	# The words that are no options, up to here
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || words+=("$word")
	done

	COMPREPLY=()
	case $previous in
	-i | --image)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	--color)
		candidates='auto always never'
		;;
	-m | --mode | -p | --processes | -s | --seed | -w | --writes)
		return
		;;
	*)
		case ${words[*]:0:2} in
		'')
			candidates='delta demo pool --help --json --version'
			;;
		demo*)
			candidates='--color --help --image --processes --seed --writes'
			;;
		delta)
			candidates='save apply show --help --json'
			;;
		'delta save' | 'delta apply' | 'delta show')
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			return
			;;
		pool)
			candidates='create list show fill seal destroy --help --json'
			;;
		'pool create')
			candidates='--json --mode'
			;;
		'pool show' | 'pool seal' | 'pool destroy' | 'pool fill')
			if ((${#words[@]} == 2)); then
				candidates="$(_cowpool_pools) --json"
			elif [[ ${words[1]} == fill ]] && ((${#words[@]} == 3)); then
				compopt -o filenames
				mapfile -t COMPREPLY < <(compgen -f -- "$current")
				return
			fi
			;;
		'pool list')
			candidates='--json'
			;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
}

complete -F _cowpool cowpool
