#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs that know nothing of cowpool work on /dev/cowpool as on a file of
# fixed size, and any language can map it.

# shellcheck disable=SC2317 # check() runs the functions
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
size=$(($(</sys/module/cowpool/parameters/default_mib) * 1024 * 1024))

number=0 failed=0

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
		sed 's/^/# /' "$dir/log"
	fi
	echo "$result $number $1"
}

# Skips the test $1 where its program $2 is not installed.
check_if() {
	if command -v "$2" >/dev/null; then
		check "$1" "$3"
	else
		number=$((number + 1))
		echo "ok $number $1 # SKIP no $2"
	fi
}

fails() {
	if "$@"; then
		return 1
	fi
}

# A file of the pool's size, nowhere the same
make_image() {
	seq 1000000 $((1000000 + size / 8)) >image
	truncate -s "$size" image
}

with_dd() {
	dd if=image of=/dev/cowpool bs=64k status=none
	dd if=/dev/cowpool of=back bs=1M status=none
	cmp image back
	# A record in the middle, and one of odd size at an odd place
	dd if=/dev/cowpool bs=4096 skip=1234 count=3 status=none |
		cmp - <(dd if=image bs=4096 skip=1234 count=3 status=none)
	printf other | dd of=/dev/cowpool bs=1 seek=12345 conv=notrunc status=none
	printf other | dd of=image bs=1 seek=12345 conv=notrunc status=none
	cmp /dev/cowpool image
}

with_cp() {
	cp image /dev/cowpool
	cp /dev/cowpool back
	cmp image back
}

with_cat() {
	cat image >/dev/cowpool
	# shellcheck disable=SC2002 # cat is what is tested
	cat /dev/cowpool | cmp - image
}

with_cmp() {
	cat image >/dev/cowpool
	cmp /dev/cowpool image
	printf X | dd of=/dev/cowpool bs=1 seek=1000 conv=notrunc status=none
	fails cmp -s /dev/cowpool image
	test "$(cmp -l /dev/cowpool image | awk '{ print $1 }')" = 1001
}

with_head_tail() {
	cat image >/dev/cowpool
	head -c 5000 /dev/cowpool | cmp - <(head -c 5000 image)
	tail -c 5000 /dev/cowpool | cmp - <(tail -c 5000 image)
}

with_checksum() {
	cat image >/dev/cowpool
	test "$(sha256sum </dev/cowpool)" = "$(sha256sum <image)"
}

# As on a full disk
too_much() {
	{ cat image; echo; } >larger
	fails cp larger /dev/cowpool 2>error
	grep -q 'No space left' error
	cmp /dev/cowpool image
}

with_python() {
	cat image >/dev/cowpool
	# Without what a site has every program load
	python3 -I -S - /dev/cowpool image <<'END'
import mmap, os, sys

device, image = sys.argv[1:]
image = open(image, "rb").read()
fd = os.open(device, os.O_RDWR)
assert os.lseek(fd, 0, os.SEEK_END) == len(image)
one = mmap.mmap(fd, len(image))
other = mmap.mmap(fd, len(image))
assert one[:] == image
one[5000:5009] = b"my change"
assert one[5000:5009] == b"my change"
assert one.find(b"my change") == 5000
assert one[:5000] == image[:5000] and one[5009:] == image[5009:]
assert other[:] == image
assert os.pread(fd, len(image), 0) == image
dd = f"dd if=/dev/zero of={device} count=1 2>said"
assert os.system(f"! {dd} && grep -q 'Text file busy' said") == 0
child = os.fork()
if child == 0:
    good = one[5000:5009] == b"my change"
    one[5000:5009] = b"childrens"
    os._exit(not (good and one[5000:5009] == b"childrens"))
assert os.waitpid(child, 0)[1] == 0
assert one[5000:5009] == b"my change"
with open(device, "rb") as file:
    file.seek(5000)
    assert file.read(9) == image[5000:5009]
END
}

with_perl() {
	cat image >/dev/cowpool
	perl -e '
		open(my $pool, "+<:raw", $ARGV[0]) or die;
		seek($pool, 4090, 0) or die;
		read($pool, my $old, 12) == 12 or die;
		seek($pool, 4090, 0) or die;
		print $pool "hello, world";
		close($pool) or die;
		open(my $image, "+<:raw", "image") or die;
		seek($image, 4090, 0) or die;
		read($image, my $expected, 12) == 12 or die;
		$old eq $expected or die;
	' /dev/cowpool
	test "$(tail -c +4091 /dev/cowpool | head -c 12)" = "hello, world"
}

echo "KTAP version 1"
echo "1..10"
check "an image to work with" make_image
check "dd" with_dd
check "cp" with_cp
check "cat" with_cat
check "cmp" with_cmp
check "head and tail" with_head_tail
check "sha256sum" with_checksum
check "more than fits" too_much
check_if "mmap in python" python3 with_python
check_if "perl" perl with_perl
exit $((failed > 0))
