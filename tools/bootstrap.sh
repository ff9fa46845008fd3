#!/bin/sh
# bootstrap.sh PYTHON [tests]: see that everything VexFS is built with is on this machine; install what is missing (Debian
# and its relatives, as root or with sudo), or name it.  Exit status 0 when VexFS can be built, 1 when something it cannot
# do without is missing.  Does nothing, and needs no network, when all is there.  With `tests` also the programs that only
# tests use, and those as root alone: what cannot be had is named, and its tests are skipped.
set -u
python=${1:-python3}
what=${2:-}
# program:package
for_tests='amtool:prometheus-alertmanager chromium:chromium curl:curl fish:fish haproxy:haproxy man:man-db
    nginx:nginx-light promtool:prometheus rsync:rsync zsh:zsh'
needed='' # cannot build without
wanted='' # only the mount needs it

lacks_module() { ! pkg-config --exists "$1" 2>/dev/null; }

check() {
    needed=''
    wanted=''
    command -v cc >/dev/null && command -v make >/dev/null || needed="$needed build-essential"
    command -v pkg-config >/dev/null || needed="$needed pkg-config"
    lacks_module sqlite3 && needed="$needed libsqlite3-dev"
    lacks_module liblz4 && needed="$needed liblz4-dev"
    lacks_module libcrypto && needed="$needed libssl-dev"
    if ! command -v "$python" >/dev/null; then
        name=${python##*/} # python3, or a version of it, as Debian's packages are called
        needed="$needed $name $name-dev $name-venv"
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null || needed="$needed python3-venv"
        "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
            needed="$needed python3-dev"
    fi
    lacks_module fuse && wanted="$wanted libfuse-dev"
    command -v fusermount >/dev/null || wanted="$wanted fuse"
}

install() {
    if ! command -v apt-get >/dev/null; then
        return 1
    elif [ "$(id -u)" = 0 ]; then
        set -- env DEBIAN_FRONTEND=noninteractive apt-get
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        set -- sudo DEBIAN_FRONTEND=noninteractive apt-get
    else
        return 1
    fi
    echo "Installing system packages:$needed$wanted"
    # shellcheck disable=SC2086  # lists of words
    "$@" install -qq -y --no-install-recommends $needed $wanted >/dev/null 2>&1 && return
    # The package lists may be old or absent; and the mount's packages must not keep the rest from being installed.
    "$@" update -qq && "$@" install -qq -y --no-install-recommends $needed >/dev/null
    [ -z "$wanted" ] || "$@" install -qq -y --no-install-recommends $wanted >/dev/null
}

lacking() {
    for pair in $for_tests; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || printf ' %s' "${pair#*:}"
    done
}

# Servers among them must not begin to serve: their tests start them, on ports of their own.
install_for_tests() {
    policy=/usr/sbin/policy-rc.d
    mine=''
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && mine=1
    fi
    echo "Installing programs for tests:$1"
    set -- "$1" env DEBIAN_FRONTEND=noninteractive timeout 600 apt-get
    packages=$1
    shift
    # shellcheck disable=SC2086  # a list of words
    if ! "$@" install -qq -y --no-install-recommends $packages >/dev/null 2>&1; then
        "$@" update -qq >/dev/null 2>&1
        for package in $packages; do # one that cannot be had must not keep the others away
            "$@" install -qq -y --no-install-recommends "$package" >/dev/null 2>&1
        done
    fi
    [ -z "$mine" ] || rm -f "$policy"
}

if [ "$what" = tests ]; then
    missing=$(lacking)
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        install_for_tests "$missing"
        missing=$(lacking)
    fi
    [ -z "$missing" ] || echo "Tests are skipped that need:$missing (Debian: apt-get install$missing)" >&2
    exit 0
fi

check
if [ -n "$needed$wanted" ]; then
    install
    check
fi
if [ -n "$wanted" ]; then
    echo "Going on without the mount, which needs:$wanted (Debian: apt-get install$wanted)" >&2
fi
if [ -n "$needed" ]; then
    echo "VexFS cannot be built here; missing:$needed" >&2
    echo "Install with (Debian, Ubuntu): apt-get install$needed" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "VexFS needs Python 3.11 or newer; $python is $("$python" -V). Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
