#!/bin/sh
# Compiles every C file of the core with warnings as errors, and keeps nothing.  The flags stand in setup.py.
set -eu
cd "$(dirname "$0")/.."
case $(uname -m) in aarch64 | arm64) skip='avx' ;; *) skip='neon' ;; esac
status=0
for source in vexfs/_core/src/*.c frontends/fuse/*.c; do
    case $source in *"$skip"*) continue ;; esac
    # shellcheck disable=SC2046,SC2086  # lists of words
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O2 -fPIC -Wall -Wextra -Wconversion -Wno-sign-conversion -Werror \
        $(pkg-config --cflags sqlite3 liblz4 libcrypto) -Ivexfs/_core/include -c "$source" -o /dev/null || status=1
done
exit $status
