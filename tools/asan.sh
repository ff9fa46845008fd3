#!/bin/sh
# Builds all that is compiled with AddressSanitizer and UBSan apart from the ordinary build, and runs tests on it.
#
#   tools/asan.sh [pytest arguments]     default: tests/core and a part of the mount's, without the slow ones
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-gcc}
out=build/asan
flags='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1'
# shellcheck disable=SC2086  # CC may carry a launcher
runtime=$($CC -print-file-name=libasan.so)
behaviour=$($CC -print-file-name=libubsan.so)
case $runtime in
/*) ;;
*) echo "asan: $CC has no libasan; install it (Debian: apt-get install libasan8, with gcc)" >&2; exit 1 ;;
esac
mkdir -p "$out/lib"
CC=$CC VEXFS_CFLAGS=$flags VEXFS_LDFLAGS='-fsanitize=address,undefined' \
    python setup.py -q build --build-base "$out/base" --build-lib "$out/lib" >"$out/build.log" 2>&1 || {
    tail -40 "$out/build.log" >&2
    exit 1
}
mount=tests/frontends/fuse
[ $# -gt 0 ] || set -- -q tests/core $mount/test_requests.py $mount/test_posix.py $mount/test_coherence.py
# The project's pythonpath would put the ordinary build before this one.
# Python itself leaks by design at exit, and keeps its own arenas, which would hide what happens in them.
asan=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1:use_sigaltstack=0:verify_asan_link_order=0
# What is found in a process that a test has started, a mount's, leaves a file too, and none may be there; UBSan heeds
# where only ahead of ASan.
found=$PWD/$out/found
rm -f "$found".*
status=0
LD_PRELOAD="$behaviour $runtime" ASAN_OPTIONS="$asan:log_path=$found" \
    UBSAN_OPTIONS="print_stacktrace=1:log_path=$found" PYTHONMALLOC=malloc PYTHONSAFEPATH=1 \
    PYTHONPATH="$PWD/$out/lib:$PWD" VEXFS_SANITIZED=1 python -m pytest -p no:cacheprovider -o pythonpath= "$@" || status=$?
for report in "$found".*; do
    [ -e "$report" ] || continue
    grep -q 'SEGV .* in __pthread_kill' "$report" && continue # a fault that a test makes, handed on by faulthandler
    cat "$report" >&2
    status=1
done
exit "$status"
