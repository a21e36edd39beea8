# bash completion for tarn(8): commands and options come from the program's own help.

_tarn_words()
{
	# pools or volumes that run here; what is in the trash; devices of a pool
	case $1 in
	pool) tarn pool list --json 2>/dev/null | sed -n 's/^ *"name": "\(.*\)",\{0,1\}$/\1/p' ;;
	volume)
		tarn volume list --bytes 2>/dev/null | sed -n '1!s/^\([^ ]*\/[^ ]*\) .*/\1/p'
		;;
	trash)
		tarn trash list ${2:+"$2"} --bytes 2>/dev/null |
			sed -n '1!s/^\([^ ]*\/[^ ]*\) .*/\1/p' | sort -u
		;;
	snapshot)
		tarn snapshot list --bytes 2>/dev/null |
			sed -n '1!s/^\([^ ]*\/[^ ]*@[^ ]*\) .*/\1/p'
		;;
	device)
		tarn pool status "$2" --json 2>/dev/null |
			sed -n 's/^ *"path": "\(.*\)",\{0,1\}$/\1/p'
		;;
	esac
}

# $cur: the word to be completed; $line: all before it.
_tarn_replies()
{
	local word cmd="" name help
	local -a words=() typed
	read -ra typed <<<"$line"
	for word in "${typed[@]:1}"; do
		[[ $word == -* ]] || words+=("$word")
	done
	help=$(tarn help 2>/dev/null) || return

	case ${#words[@]} in
	0)
		name=$(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$help" | sort -u)
		COMPREPLY=($(compgen -W "$name" -- "$cur"))
		return
		;;
	1)
		name=$(sed -n "s/^  ${words[0]} \([a-z-]*\)  .*/\1/p" <<<"$help")
		if [[ -n $name && ${words[0]} == @(pool|volume|trash|snapshot|rescue) ]]; then
			COMPREPLY=($(compgen -W "$name" -- "$cur"))
			return
		fi
		;;
	esac

	cmd=${words[0]}
	[[ $cmd == @(pool|volume|trash|snapshot|rescue) ]] && cmd+=" ${words[1]}"
	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$(tarn $cmd --help 2>/dev/null |
			grep -o -- '--[a-z][a-z-]*' | sort -u)" -- "$cur"))
		return
	fi
	case ${typed[-1]} in
	--type|-t) COMPREPLY=($(compgen -W "fs block" -- "$cur")); return ;;
	--compression) COMPREPLY=($(compgen -W "lz4 off" -- "$cur")); return ;;
	--owner) COMPREPLY=($(compgen -u -- "$cur")); return ;;
	--class) COMPREPLY=($(compgen -W "nvme ssd hdd" -- "$cur")); return ;;
	--to) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--copies|-c) COMPREPLY=($(compgen -W "1 2 3 4" -- "$cur")); return ;;
	esac
	case $cmd in
	"pool create") ((${#words[@]} > 2)) && COMPREPLY=($(compgen -f -- "$cur")) ;;
	"pool import"|"pool check") COMPREPLY=($(compgen -f -W "$(_tarn_words pool)" -- "$cur")) ;;
	"pool online"|"pool add"|"pool replace")
		if ((${#words[@]} > (${#words[1]} == 7 ? 3 : 2))); then   # replace: OLD comes first
			COMPREPLY=($(compgen -f -- "$cur"))
		elif ((${#words[@]} > 2)); then
			COMPREPLY=($(compgen -W "$(_tarn_words device "${words[2]}")" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		fi
		;;
	"pool offline"|"pool remove"|"pool shrink-device"|"pool grow-device")
		if ((${#words[@]} > 3)); then
			:
		elif ((${#words[@]} > 2)); then
			COMPREPLY=($(compgen -W "$(_tarn_words device "${words[2]}")" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		fi
		;;
	"pool class")
		if ((${#words[@]} > 3)); then
			COMPREPLY=($(compgen -W "nvme ssd hdd -" -- "$cur"))
		elif ((${#words[@]} > 2)); then
			COMPREPLY=($(compgen -W "$(_tarn_words device "${words[2]}")" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		fi
		;;
	"pool spare")
		if ((${#words[@]} > 3)); then
			COMPREPLY=($(compgen -f -W "$(_tarn_words device "${words[3]}")" -- "$cur"))
		elif ((${#words[@]} > 2)); then
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "add remove" -- "$cur"))
		fi
		;;
	"pool set")
		if ((${#words[@]} > 2)); then
			compopt -o nospace
			COMPREPLY=($(compgen -W "discard= spare-after= trash-retention=" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		fi
		;;
	"trash restore")
		COMPREPLY=($(compgen -W "$(_tarn_words trash)" -- "$cur"))
		;;
	"trash empty")
		if ((${#words[@]} > 2)); then
			name=$(_tarn_words trash "${words[2]}")
			COMPREPLY=($(compgen -W "${name//"${words[2]}/"/}" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		fi
		;;
	"snapshot create"|"snapshot destroy")
		if [[ " $line " =~ \ (-r|--recursive)\  ]]; then
			compopt -o nospace
			COMPREPLY=($(compgen -S @ -W "$(_tarn_words pool)" -- "$cur"))
		elif [[ $cmd == *create ]]; then
			compopt -o nospace
			COMPREPLY=($(compgen -S @ -W "$(_tarn_words volume)" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words snapshot)" -- "$cur"))
		fi
		;;
	"snapshot list")
		COMPREPLY=($(compgen -W "$(_tarn_words pool) $(_tarn_words volume)" -- "$cur"))
		;;
	"pool "*|"volume list"|"trash list")
		COMPREPLY=($(compgen -W "$(_tarn_words pool)" -- "$cur"))
		;;
	"volume create") COMPREPLY=($(compgen -S / -W "$(_tarn_words pool)" -- "$cur")) ;;
	"volume set")
		if ((${#words[@]} > 2)); then
			compopt -o nospace
			name="class= compression= copies= owner= quota= reservation= size="
			COMPREPLY=($(compgen -W "$name" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words volume)" -- "$cur"))
		fi
		;;
	"volume get")
		if ((${#words[@]} > 2)); then
			COMPREPLY=($(compgen -W "type size copies class compression owner used \
				logical reserved available reservation quota" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$(_tarn_words volume)" -- "$cur"))
		fi
		;;
	"volume "*) COMPREPLY=($(compgen -W "$(_tarn_words volume)" -- "$cur")) ;;
	mount)
		if ((${#words[@]} > 1)); then
			COMPREPLY=($(compgen -d -- "$cur"))
		else
			name="$(_tarn_words volume) $(_tarn_words snapshot)"
			COMPREPLY=($(compgen -W "$name" -- "$cur"))
		fi
		;;
	"rescue "*) COMPREPLY=($(compgen -f -- "$cur")) ;;
	umount) COMPREPLY=($(compgen -d -- "$cur")) ;;
	dump)
		if ((${#words[@]} > 1)); then
			COMPREPLY=($(compgen -f -W "$(_tarn_words pool)" -- "$cur"))
		else
			name="sb log tree:map tree:space tree:root tree: node: chunk:"
			COMPREPLY=($(compgen -W "$name" -- "$cur"))
		fi
		;;
	help)
		name="pool volume trash snapshot mount umount dump rescue"
		COMPREPLY=($(compgen -W "$name" -- "$cur"))
		;;
	esac
}

# Words are what blanks part, as for the program. Where bash parts them at @ : = as well it wants
# only what comes behind.
_tarn()
{
	local line=${COMP_LINE:0:COMP_POINT} cur breaks=${COMP_WORDBREAKS//[^@:=]/} cut=""
	cur=${line##* }
	line=${line%"$cur"}
	COMPREPLY=()
	_tarn_replies
	[[ -z $breaks ]] || cut=${cur%"${cur##*[$breaks]}"}
	COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}

complete -F _tarn tarn
