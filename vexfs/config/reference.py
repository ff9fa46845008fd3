"""What people read about the configuration, made from the model: the reference page and the commented default file."""

from collections.abc import Iterator

import attrs

from vexfs.config.model import KEYS, SECTIONS, Key
from vexfs.config.settings import DEFAULT_FILE

_INTRODUCTION = f"""\
# Configuration

One TOML file configures a node: `{DEFAULT_FILE}`, or what `vexfs serve --config` names.
Everything has a default; an empty file is a valid one. A key that is unknown, of the wrong type or out of range is
refused, with file, line and what would be right.

    vexctl config init FILE           writes the commented default file
    vexctl config check FILE          checks one, with what it names of this host: user, certificates
    vexctl config show --effective    every value of the running node, and where it came from
    vexctl config reload              reads the file again (so does SIGHUP)

What counts, from the least: the default, the file, the environment (`VEXFS_SECTION__KEY`, as
`VEXFS_STORAGE__CACHE_SIZE=24GB`), the command line (`--set storage.cache_size=24GB`).

Sizes have units of powers of 1024: `"64MB"`, `"64MiB"`, `"64M"` are the same. Times need their unit: `"30s"`, `"5ms"`.
Addresses are `"HOST:PORT"`; port 0 takes a free one.

Keys marked *live* change while the node runs; the others wait for a restart, and a reload says so.
"""


def _default(key: Key) -> str:
    return key.kind.show(key.default) if key.path != "general.node_id" else "the host's name"


def page() -> str:
    """The reference page, in Markdown."""
    parts = [_INTRODUCTION]
    for section, cls in SECTIONS.items():
        rows = [f"\n## [{section}]\n\n{cls.__doc__}\n\n| key | default | | what |\n| --- | --- | --- | --- |\n"]
        for key in _of(section):
            live = "live" if key.live else ""
            valid = key.kind.wanted[0].upper() + key.kind.wanted[1:]
            default = _default(key)
            default = default if default.startswith("the ") else f"`{default}`"
            rows.append(f"| `{key.name}` | {default} | {live} | {key.about} {valid}. |\n")
        parts.append("".join(rows))
    return "".join(parts)


def default_file() -> str:
    """The commented default file: every key, commented out, with its default."""
    lines = [
        "# VexFS: configuration of a node.  Every key is shown with its default; take the # away to change it.",
        "# `vexctl config check FILE` checks this file, `vexctl config show --effective` shows what is in force.",
    ]
    for section, cls in SECTIONS.items():
        lines += ["", f"# {cls.__doc__}", f"[{section}]"]
        for key in _of(section):
            live = " (live)" if key.live else ""
            value = key.kind.show(key.default) if key.path != "general.node_id" else '"node-1"'
            lines += [f"# {key.about}{live}", f"# {key.name} = {value}", ""]
        lines.pop()
    return "\n".join(lines) + "\n"


def _of(section: str) -> Iterator[Key]:
    for field in attrs.fields(SECTIONS[section]):
        yield KEYS[f"{section}.{field.name}"]


if __name__ == "__main__":
    print(page(), end="")
