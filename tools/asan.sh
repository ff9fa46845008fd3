#!/bin/sh
# Builds the compiled core with AddressSanitizer and UBSan apart from the ordinary build, and runs the core's tests on it.
#
#   tools/asan.sh [pytest arguments]     default: tests/core, without the slow ones
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-gcc}
out=build/asan
flags='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1'
# shellcheck disable=SC2086  # CC may carry a launcher
runtime=$($CC -print-file-name=libasan.so)
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
[ $# -gt 0 ] || set -- -q tests/core
# The project's pythonpath would put the ordinary build before this one.
# Python itself leaks by design at exit, and keeps its own arenas, which would hide what happens in them.
LD_PRELOAD=$runtime ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1:use_sigaltstack=0 \
    UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONSAFEPATH=1 PYTHONPATH="$PWD/$out/lib:$PWD" VEXFS_SANITIZED=1 \
    python -m pytest -p no:cacheprovider -o pythonpath= "$@"
