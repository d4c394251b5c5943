#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of races, with delays at the points that they are about: between a lookup
# and its entry, between an entry that goes and the flush of TLBs, between a copy
# and its publication, and so on. delay/delay.c makes these functions wait.
#
# COWPOOL_DELAY names other functions, separated by commas, and COWPOOL_DELAY_US and
# COWPOOL_DELAY_ONE_IN say how long they wait at most, and one call in how many.

set -euo pipefail

programs=$(cd "$(dirname "$0")" && pwd)
# The kernel's: some have other names elsewhere, or are inlined
points=finish_fault,set_pte_range,do_set_pte,do_set_pmd,insert_page,vmf_insert_page_mkwrite
points+=,finish_mkwrite_fault,wp_page_reuse,unmap_mapping_pages,unmap_page_range
points+=,zap_page_range_single,flush_tlb_mm_range,tlb_finish_mmu
# Ours, all of which must be there
ours=cow_tree_unshare,cow_tree_restore,cow_tree_share,cow_path_grant,cow_page_put
ours+=,cowpool_private_copy,cowpool_private_held,cowpool_view_share,cowpool_view_drop
ours+=,cowpool_pool_get,cow_store_use

# races_pools comes last: it unloads the module, and our functions wait no more.
tests=(
	'fire -T fork -V list -V list_related -V ring -V ring_related'
	'reset -t shared_with_a_child -t notices_other_processors'
	'oracle --ops 1000'
	'races'
	'races_pools'
)
# A tenth of the rounds, which take longer and meet more
COWPOOL_ROUNDS=$(awk "BEGIN { print ${COWPOOL_ROUNDS:-1} / 10 }")
export COWPOOL_ROUNDS

module=${COWPOOL_KO:?is to name the file of the module that is loaded}
module=${module%/*}/delay.ko
if [[ ! -e $module ]]; then
	echo "1..0 # SKIP no $module"
	exit
fi

# While a function is patched no other processor may run it: emulated ones do not
# survive that ("Oops: int3"). So there is only one for as long.
others=()
for online in /sys/devices/system/cpu/cpu[1-9]*/online; do
	if [[ -e $online && $(<"$online") == 1 ]]; then
		others+=("$online")
	fi
done

alone() {
	local online status=0

	for online in "${others[@]}"; do
		echo 0 >"$online"
	done
	"$@" || status=$?
	for online in "${others[@]}"; do
		echo 1 >"$online"
	done
	return "$status"
}

arm() {
	alone insmod "$module" symbols="${COWPOOL_DELAY-$points,$ours}" \
		most_us="${COWPOOL_DELAY_US-100}" one_in="${COWPOOL_DELAY_ONE_IN-20}"
	trap 'alone rmmod delay' EXIT
}

number=0 failed=0

result() {
	echo "$1 $((++number)) $2"
	if [[ $1 != ok ]]; then
		failed=$((failed + 1))
	fi
}

# Prints how often each function has waited. Each of ours has.
waited() {
	local name waits left=",$ours,"

	while read -r name waits; do
		echo "# $name has waited $waits times"
		if ((waits)); then
			left=${left/,$name,/,}
		fi
	done </sys/module/delay/parameters/waits
	if [[ ! ${COWPOOL_DELAY-} && $left != , ]]; then
		echo "# these have not: $left"
		return 1
	fi
}

echo "TAP version 13"
echo "1..$((${#tests[@]} + 1))"
arm
for test in "${tests[@]}"; do
	read -ra command <<<"$test"
	result=ok start=$SECONDS
	# A name that the harness does not know is no test, and no failure to it.
	"$programs/${command[0]}" "${command[@]:1}" 2>&1 |
		sed '/^1\.\.0/ { s/^/# /; q 1 }; s/^/# /' || result='not ok'
	result "$result" "${command[0]} with delays # $((SECONDS - start)) s"
done
result=ok
waited || result='not ok'
result "$result" 'functions have waited'
((failed == 0))
