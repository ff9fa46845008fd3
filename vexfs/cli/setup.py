"""``vexctl setup``: units, scripts, monitoring and load balancers that ship with VexFS, printed or installed."""

import argparse
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from vexfs.cli import output, reference, told
from vexfs.cli.told import Option, Told
from vexfs.config.reference import default_file
from vexfs.errors import UsageError

PACKAGE = "vexfs.deploy"


@attrs.frozen
class Piece:
    """One file that ships, and where a host has it."""

    source: str
    target: str
    about: str
    executable: bool = False
    kept: bool = False

    @property
    def group(self) -> str:
        """What it belongs to: ``systemd``, ``prometheus`` ..."""
        return "systemd" if self.source.startswith("bin/") else self.source.partition("/")[0]


LIB = "/usr/local/lib/vexfs"
PIECES = (
    Piece("systemd/vexfs.service", "/etc/systemd/system/vexfs.service", "the node"),
    Piece("systemd/vexfs-monitor.service", "/etc/systemd/system/vexfs-monitor.service", "a look each 30 seconds"),
    Piece("systemd/vexfs-recover.service", "/etc/systemd/system/vexfs-recover.service", "reset, validate, escalate"),
    Piece("systemd/vexfs-validate.service", "/etc/systemd/system/vexfs-validate.service", "validation under load"),
    Piece("systemd/vexfs-validate.timer", "/etc/systemd/system/vexfs-validate.timer", "when: weekly"),
    Piece("systemd/monitor.env", "/etc/vexfs/monitor.env", "settings of the scripts", kept=True),
    Piece("bin/vexfs-monitor", f"{LIB}/vexfs-monitor", "the monitor", executable=True),
    Piece("bin/vexfs-recover", f"{LIB}/vexfs-recover", "the recovery procedure", executable=True),
    Piece("bin/vexfs-validate", f"{LIB}/vexfs-validate", "the weekly job", executable=True),
    Piece("prometheus/prometheus.yml", "/etc/prometheus/prometheus.yml", "what is scraped", kept=True),
    Piece("prometheus/vexfs.rules.yml", "/etc/prometheus/vexfs.rules.yml", "recorded figures and alerts"),
    Piece("prometheus/vexfs.rules.test.yml", "/etc/prometheus/vexfs.rules.test.yml", "unit tests of the rules"),
    Piece("alertmanager/alertmanager.yml", "/etc/prometheus/alertmanager.yml", "who is told", kept=True),
    Piece("grafana/vexfs.json", "/var/lib/grafana/dashboards/vexfs.json", "the dashboard"),
    Piece("haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg", "two nodes behind one address", kept=True),
    Piece("nginx/vexfs.conf", "/etc/nginx/conf.d/vexfs.conf", "the same with NGINX", kept=True),
    Piece("sysctl/60-vexfs.conf", "/etc/sysctl.d/60-vexfs.conf", "kernel settings"),
)
GROUPS = (*dict.fromkeys(piece.group for piece in PIECES), "man")
MAN = "/usr/local/share/man/man1"
CONFIGURATION = "/etc/vexfs/vexfs-performance.conf"


def register(subparsers: Any) -> None:
    """Add ``setup`` and what is below it."""
    parser = subparsers.add_parser(
        "setup",
        help="units, scripts, monitoring and load balancers for this host",
        description="Print or install what ships beside VexFS.",
        epilog="Example: vexctl setup install systemd",
    )
    told.register(parser, COMMANDS, {})
    for action, about in (("show", "a file's name, as in `list`"), ("install", "what; everything by default")):
        below = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[action]
        several = action == "install"
        named: Any = below.add_argument("names" if several else "name", nargs="*" if several else None, help=about)
        # For completion; `choices` would refuse no word at all.
        named.names = [*(GROUPS if several else (Path(p.source).name for p in PIECES)), *(p.source for p in PIECES)]


def text_of(piece: Piece, lib: str = LIB) -> str:
    """The file with the places of this installation in it; `lib` is where the scripts are."""
    text = resources.files(PACKAGE).joinpath(piece.source).read_text(encoding="utf-8")
    return text.replace("@BIN@", str(_programs())).replace("@LIB@", lib)


def _programs() -> Path:
    """Where ``vexfs`` and ``vexctl`` are: beside the interpreter, or on the path."""
    beside = Path(sys.executable).parent
    found = shutil.which("vexctl")
    return beside if (beside / "vexctl").exists() or found is None else Path(found).parent


def _list(_: argparse.Namespace) -> dict[str, Any]:
    return {"pieces": [{"name": p.source, "target": p.target, "about": p.about} for p in PIECES]}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    for piece in PIECES:
        if args.name in (piece.source, Path(piece.source).name):
            return {"name": piece.source, "target": piece.target, "text": text_of(piece, args.lib)}
    raise UsageError(f"nothing is called {args.name!r}; vexctl setup list")


def _install(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files below ``--root``; what an operator has changed is kept unless ``--force``."""
    unknown = set(args.names) - set(GROUPS) - {p.source for p in PIECES}
    if unknown:
        raise UsageError(f"nothing is called {', '.join(sorted(unknown))}; groups are {', '.join(GROUPS)}")
    root = Path(args.root)
    wanted = [p for p in PIECES if not args.names or p.group in args.names or p.source in args.names]
    done: dict[str, Any] = {"dry_run": args.dry_run, "written": [], "kept": [], "unchanged": [], "next": []}
    for piece in wanted:
        target = piece.target.replace(LIB, args.lib)
        _write(root, target, text_of(piece, args.lib), 0o755 if piece.executable else 0o644, piece.kept, args, done)
    if any(p.group == "systemd" for p in wanted):
        _write(root, CONFIGURATION, default_file(), 0o600, True, args, done)
        done["next"] = ["systemctl daemon-reload", "systemctl enable --now vexfs vexfs-monitor vexfs-validate.timer"]
    if "man" in (args.names or GROUPS) or any(p.group == "systemd" for p in wanted):  # which the units point at
        for program in reference.PROGRAMS:
            _write(root, f"{MAN}/{program}.1", reference.manual(program), 0o644, False, args, done)
    if any(p.group == "sysctl" for p in wanted):
        done["next"].append("sysctl --system")
    return done


def _write(
    root: Path, target: str, text: str, mode: int, kept: bool, args: argparse.Namespace, done: dict[str, Any]
) -> None:
    place = root / target.lstrip("/")
    if place.exists():
        if place.read_bytes() == text.encode():
            done["unchanged"].append(str(place))
            return
        if kept and not args.force:
            done["kept"].append(str(place))
            return
    if not args.dry_run:
        place.parent.mkdir(parents=True, exist_ok=True)
        output.write_file(place, text, mode)
    done["written"].append(str(place))


def _installed(answer: dict[str, Any]) -> str:
    words = {"written": "to write" if answer["dry_run"] else "written", "kept": "kept", "unchanged": "unchanged"}
    lines = [f"{word:<9}  {path}" for what, word in words.items() for path in answer[what]]
    return "\n".join([*lines, *(["then:"] if answer["next"] else []), *(f"  {each}" for each in answer["next"])])


SCRIPTS = Option("--lib", f"where the scripts go; default {LIB}", default=LIB, local=True, metavar="DIR")
COMMANDS = (
    Told(
        "list",
        "",
        "every file, and where it goes",
        "setup list",
        run=_list,
        show=lambda a: output.table(("name", "target", "about"), [list(p.values()) for p in a["pieces"]]),
    ),
    Told(
        "show",
        "",
        "print one file",
        "setup show vexfs.service",
        (SCRIPTS,),
        run=_show,
        show=lambda a: str(a["text"]).rstrip(),
    ),
    Told(
        "install",
        "",
        "write the files to this host",
        "setup install systemd prometheus",
        (
            SCRIPTS,
            Option("--root", "below this directory instead of /", default="/", local=True, metavar="DIR"),
            Option("--force", "also over configuration that was changed", flag=True, local=True),
            Option("--dry-run", "only tell what would be written", flag=True, local=True),
        ),
        show=_installed,
        run=_install,
    ),
)
