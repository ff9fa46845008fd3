#!/bin/sh
# deb.sh PYTHON OUT [WHEEL]: a Debian package of VexFS, OUT/vexfs_VERSION_ARCH.deb, for the release that PYTHON is of.
#
# It holds VexFS and the Python packages that it needs in a directory of its own, /usr/lib/vexfs, beside whatever Python
# packages the host has; programs, units, manual pages and sysctl settings lie where Debian has them.  Removing it leaves
# the configuration, purging it also removes that; the volume in /var/lib/vexfs stays in any case.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
python=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
lib=$root/usr/lib/vexfs

wheel=${3:-}
if [ -z "$wheel" ]; then
    "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$work" "$here"
    wheel=$(echo "$work"/vexfs-*.whl)
fi
"$python" -m pip install -q --no-compile --target "$lib" "$wheel[server,fuse,pdf]"
rm -rf "$lib/bin"
release=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
version=$(PYTHONPATH=$lib "$python" -c 'from vexfs.version import __version__; print(__version__)')

# Programs find their packages beside themselves: /usr/bin/../lib/vexfs.
program() { # NAME FUNCTION MODULE PLACE
    mkdir -p "$root$4"
    cat >"$root$4/$1" <<EOF
#!/usr/bin/python$release -I
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "$5"))
from $3 import $2
sys.exit($2())
EOF
    chmod 755 "$root$4/$1"
}
program vexfs vexfs vexfs.cli.main /usr/bin ../lib/vexfs
program vexctl vexctl vexfs.cli.main /usr/bin ../lib/vexfs
program mount.vexfs mount_vexfs vexfs.cli.mount /sbin ../usr/lib/vexfs
ln -s mount.vexfs "$root/sbin/mount.fuse.vexfs"

PATH=$root/usr/bin:$PATH PYTHONPATH=$lib "$python" -c 'from vexfs.cli.main import run; import sys; sys.exit(run("vexctl", sys.argv[1:]))' \
    setup install systemd sysctl man --root "$work/host" --lib /usr/lib/vexfs-scripts >/dev/null
mkdir -p "$root/lib/systemd/system" "$root/usr/lib/sysctl.d" "$root/usr/share/man" "$root/etc"
mv "$work"/host/etc/systemd/system/* "$root/lib/systemd/system/"
mv "$work"/host/etc/sysctl.d/* "$root/usr/lib/sysctl.d/"
mv "$work"/host/etc/vexfs "$root/etc/"
mv "$work"/host/usr/lib/vexfs-scripts "$root/usr/lib/"
mv "$work"/host/usr/local/share/man/man1 "$root/usr/share/man/"
gzip -9n "$root"/usr/share/man/man1/*
# The units name the programs where they were found; on the host they are in /usr/bin.
beside=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")
sed -i -e "s|$root/usr/bin|/usr/bin|g" -e "s|$beside/vex|/usr/bin/vex|g" \
    "$root"/lib/systemd/system/* "$root"/usr/lib/vexfs-scripts/*
mkdir -p "$root/usr/share/doc/vexfs"
cp "$here/LICENSE" "$root/usr/share/doc/vexfs/copyright"
gzip -9nc "$here/CHANGELOG.md" >"$root/usr/share/doc/vexfs/changelog.gz"
find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +

# What the compiled parts need, as Debian's own tool tells it.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: vexfs\n\nPackage: vexfs\nArchitecture: any\n' >"$work/debian/control"
shared=$(cd "$work" && find root/usr/lib/vexfs/vexfs root/usr/lib/vexfs/llfuse* -name '*.so' |
    xargs dpkg-shlibdeps -O --ignore-missing-info 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
next="${release%.*}.$((${release#*.} + 1))"
cat >"$root/DEBIAN/control" <<EOF
Package: vexfs
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: VexFS
Section: admin
Priority: optional
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: python$release, python3 (>= $release), python3 (<< $next), fuse | fuse3${shared:+, $shared}
Recommends: systemd
Description: filesystem that finds files by meaning
 A volume is embedded like SQLite, mounted like a disk, queried like a vector
 database and operated like a server.
EOF
(cd "$root" && find etc -type f | sed 's|^|/|') >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/postinst" <<EOF
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
    python$release -m compileall -q "\${DPKG_ROOT:-}/usr/lib/vexfs" >/dev/null 2>&1 || true
    if [ -z "\${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        # After an upgrade: what runs is to be what is installed.
        [ -z "\$2" ] || systemctl try-restart vexfs vexfs-monitor || true
    fi
fi
EOF
cat >"$root/DEBIAN/prerm" <<'EOF'
#!/bin/sh
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ] && [ "$1" = remove ]; then
    systemctl stop vexfs-validate.timer vexfs-monitor vexfs || true
fi
find "${DPKG_ROOT:-}/usr/lib/vexfs" -name __pycache__ -type d -prune -exec rm -rf {} +
EOF
cat >"$root/DEBIAN/postrm" <<'EOF'
#!/bin/sh
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
if [ "$1" = purge ]; then
    rm -f "${DPKG_ROOT:-}"/etc/systemd/system/*.wants/vexfs.service \
        "${DPKG_ROOT:-}"/etc/systemd/system/*.wants/vexfs-monitor.service \
        "${DPKG_ROOT:-}"/etc/systemd/system/*.wants/vexfs-validate.timer
    rmdir "${DPKG_ROOT:-}"/etc/systemd/system/vexfs.service.wants 2>/dev/null || true
    if [ -d "${DPKG_ROOT:-}/var/lib/vexfs" ]; then
        echo "vexfs: the volume in /var/lib/vexfs is kept; remove it by hand"
    fi
fi
EOF
chmod 755 "$root"/DEBIAN/postinst "$root"/DEBIAN/prerm "$root"/DEBIAN/postrm
dpkg-deb -Zxz -z1 --build --root-owner-group "$root" "$out" >/dev/null
echo "$out"/vexfs_"$version"_*.deb
