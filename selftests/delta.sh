#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# "cowpool delta": differences between files and pools, saved and applied, and
# what is refused. The library's test damages deltas more thoroughly.

# shellcheck disable=SC2317 # check() runs the functions
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
number=0 failed=0

# 64 KiB, and the same with changes in the first two pages, in one in the
# middle and in the last one
printf -v base '%08d' {0..8191}
image=${base:0:4094}other${base:4099:25901}other${base:30005:35526}other

# Runs the function $2 (in a shell of its own) as the test $1.
check() {
	local result=ok
	number=$((number + 1))
	(
		set -e
		cd "$dir"
		"$2"
	) >"$dir/log" 2>&1 &
	if ! wait $!; then
		result='not ok' failed=$((failed + 1))
		while IFS= read -r line; do
			echo "# $line"
		done <"$dir/log"
	fi
	echo "$result $number $1"
}

# $2... must fail, say $1 on the way, and leave no file OUT, nor a part of it.
refuses() {
	local what=$1 status=0 said
	shift
	said=$("$@" 2>&1) || status=$?
	echo "$said"
	[[ $status == 1 && $said == *"$what"* && ! $(compgen -G 'OUT*') ]]
}

files() {
	printf %s "$base" >base
	printf %s "$image" >image
	cowpool delta save base image delta
	cowpool delta apply base delta applied
	cmp applied image
	told=$(cowpool delta show delta)
	echo "$told"
	[[ $told == *'differs in 16384 '* && $told =~ ranges\ *3$'\n' ]]
	told=$(cowpool -j delta show delta)
	[[ $told == *'"data_size": 16384'* && $told == *'"start": 28672,'* ]]
}

# In place, through pipes, and onto nothing new when something fails
outputs() {
	cp base applied
	chmod 600 applied
	cowpool delta apply applied delta applied
	cmp applied image
	[[ $(stat -c %a applied) == 600 ]]
	chown 60000:60001 applied
	cowpool delta apply base delta applied
	[[ $(stat -c '%u:%g %a' applied) == '60000:60001 600' ]]
	ln -s applied link
	cp base applied
	cowpool delta apply base delta link
	cmp applied image
	[[ -L link ]]
	cowpool delta apply base delta /dev/stdout | cmp - image
	cowpool delta save base image /dev/stdout | cmp - delta
	refuses 'No space left' cowpool delta apply base delta /dev/full
	refuses 'No space left' cowpool delta save base image /dev/full
	refuses 'No such file' cowpool delta save base image none/OUT
	refuses 'No space left' bash -c 'cowpool -j delta show delta >/dev/full'
	ln -s nowhere dangling
	refuses 'leads nowhere' cowpool delta apply base delta dangling
	[[ -L dangling && ! -e nowhere ]]
	refuses 'not what the delta was made from' \
		cowpool delta apply image delta applied
	cmp applied image
}

odd_sizes() {
	printf %s "${base:100}" >short
	printf %s! "${base:101}" >short-image
	cowpool delta save short short-image odd
	cowpool delta apply short odd applied
	cmp applied short-image
	: >empty
	cowpool delta save empty empty odd
	cowpool delta apply empty odd applied
	cmp applied empty
}

destroy_pools() {
	cowpool pool destroy delta-base
	cowpool pool destroy delta-out
	cowpool pool destroy delta-large
}

pools() {
	trap destroy_pools EXIT
	cowpool pool create delta-base 64K
	cowpool pool create delta-out 64K
	cowpool pool create delta-large 128K
	cowpool pool fill delta-base base
	cowpool delta save pool:delta-base image of-pool
	cmp of-pool delta
	cowpool delta apply pool:delta-base delta pool:delta-out
	cowpool delta save image pool:delta-out same
	[[ $(cowpool delta show same) == *'differs in 0 '* ]]
	refuses 'has 131072 bytes' cowpool delta apply base delta pool:delta-large
	cowpool pool seal delta-out
	refuses 'not permitted' cowpool delta apply base delta pool:delta-out
	refuses 'No such file' cowpool delta save pool:delta-none base OUT
}

damaged() {
	cp delta bad
	printf ! | dd of=bad bs=1 seek=9000 conv=notrunc status=none
	refuses corrupted cowpool delta apply base bad OUT
	for length in 8 64 16000; do
		head -c "$length" delta >bad
		refuses truncated cowpool delta apply base bad OUT
	done
}

foreign() {
	refuses 'no delta file' cowpool delta show base
	refuses 'no delta file' cowpool delta show empty
	refuses 'no regular file' cowpool delta apply base /dev/cowpool OUT
	refuses 'the delta is for 65536' cowpool delta apply short delta OUT
	refuses 'of one size' cowpool delta save base short OUT
}

echo "KTAP version 1"
echo "1..6"
check "files" files
check "outputs" outputs
check "sizes that are no multiple of a page" odd_sizes
check "pools" pools
check "damaged deltas" damaged
check "foreign files" foreign
exit $((failed > 0))
