#!/bin/bash
# Every command and option in --help is in its man page, every option in a man page is in --help,
# and no line of help is wider than 80 columns.
#
#   test_help.sh TARN TARND MANDIR
set -u
tarn=$1 tarnd=$2 man=$3
failed=0

complain() { echo "test_help: $*"; failed=1; }

# Options of a help text: -x and --long, one a line; --help itself is told once for all.
help_options()
{
	sed -n 's/^  \(-.*\)/\1/p' | sed 's/   .*//' | grep -o -- '--*[a-zA-Z][a-z-]*' |
		grep -vx -e -h -e --help -e -V -e --version | sort -u
}

# The same of ".It Fl f , Fl Fl force Ar x" lines.
man_options()
{
	sed -n 's/^\.It \(Fl .*\)/\1/p' |
		sed 's/Fl Fl \([a-z-]*\)/--\1/g; s/Fl \([a-zA-Z]\)/-\1/g' |
		grep -o -- '--*[a-zA-Z][a-z-]*' |
		grep -vx -e -h -e --help -e -V -e --version | sort -u
}

# Lines of the section "tarn COMMAND" of a page; all lines when there is none.
section()
{
	if grep -q "^\.Ss tarn $2\$" "$1"; then
		awk -v head=".Ss tarn $2" '$0 == head { p = 1; next } /^\.S[hs] / { p = 0 } p' "$1"
	else
		cat "$1"
	fi
}

compare()   # NAME HELP_TEXT PAGE SECTION
{
	local wide
	wide=$(awk 'length($0) > 80' <<<"$2")
	[ -z "$wide" ] || complain "$1 --help: wider than 80 columns: $wide"
	local h m
	h=$(help_options <<<"$2")
	m=$(section "$3" "$4" | man_options)
	for o in $h; do
		grep -qx -- "$o" <<<"$m" || complain "$1: $o is not in $(basename "$3")"
	done
	for o in $m; do
		grep -qx -- "$o" <<<"$h" || complain "$1: $o of $(basename "$3") is not in --help"
	done
}

page_of()
{
	case $1 in
	pool\ *) echo tarn-pool.8 ;;
	volume\ *) echo tarn-volume.8 ;;
	trash\ *) echo tarn-trash.8 ;;
	snapshot\ *) echo tarn-snapshot.8 ;;
	rescue\ *) echo tarn-rescue.8 ;;
	mount|umount) echo tarn-mount.8 ;;
	*) echo "tarn-$1.8" ;;
	esac
}

overview=$("$tarn" help)
[ -z "$(awk 'length($0) > 80' <<<"$overview")" ] || complain "tarn help: wider than 80 columns"
mapfile -t commands < <(sed -n 's/^  \([a-z]*\( [a-z][a-z-]*\)\{0,1\}\)  .*/\1/p' <<<"$overview" |
	grep -vx version)
[ ${#commands[@]} -ge 15 ] || complain "found only ${#commands[@]} commands in tarn help"
for c in "${commands[@]}"; do
	page=$man/$(page_of "$c")
	[ -f "$page" ] || { complain "$c: no page $page"; continue; }
	grep -qx "\.Cm $c" "$page" || complain "$c: not in the synopsis of $(basename "$page")"
	grep -q "^\.It Cm $c\$" "$man/tarn.8" || complain "$c: not in tarn.8"
	# shellcheck disable=SC2086
	text=$("$tarn" $c --help) || complain "$c --help fails"
	compare "tarn $c" "$text" "$page" "$c"
done

# Commands of the pages that the program does not have.
while read -r c; do
	printf '%s\n' "${commands[@]}" | grep -qx "$c" || complain "$c: in a man page only"
done < <(sed -n 's/^\.Ss tarn \(.*\)/\1/p' "$man"/tarn-*.8)

text=$("$tarnd" --help) || complain "tarnd --help fails"
compare tarnd "$text" "$man/tarnd.8" ""

for page in "$man"/*.8; do
	grep -q '^\.Sh EXAMPLES' "$page" || complain "$(basename "$page"): no EXAMPLES"
done
[ $failed = 0 ] && echo "test_help: ${#commands[@]} commands agree with their pages"
exit $failed
