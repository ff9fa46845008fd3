"""``volume.toml``: what a volume is, readable before anything in it can be read.

It holds the format version, the volume's identity, its geometry and, of an encrypted volume, the wrapped master key;
nothing secret.  The last line is a checksum of all before it, so that a damaged file is told apart from a strange one.
Without the wrapped key an encrypted volume is lost, so a spare copy is kept beside it and rewritten with it.
"""

import contextlib
import fcntl
import os
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any

import attrs

from vexfs._core.codec import crc32c
from vexfs.errors import FormatUnknown, UsageError, VolumeDamaged, VolumeNotFound, from_errno

FORMAT = 1
NAME = "volume.toml"
SPARE = "volume.spare.toml"
MARK = "unfinished"  # beside what is not a volume yet
SEGMENT_SIZE = 64 << 20
COMPRESSIONS = ("lz4", "none")


@attrs.frozen(kw_only=True)
class Geometry:
    """What was decided when the volume was made.  Sizes in bytes; a size limit of 0 is none."""

    segment_size: int = SEGMENT_SIZE
    size_limit: int = 0
    compression: str = "lz4"


def checked_geometry(segment_size: int, size_limit: int, compression: str) -> Geometry:
    """The geometry of a new volume; ``UsageError`` says which value is out of range and what is valid."""
    if not 1 << 20 <= segment_size <= 1 << 30:
        raise UsageError(f"segment_size {segment_size} is out of range; from 1 MiB to 1 GiB is valid")
    if size_limit and size_limit < 1 << 20:
        raise UsageError(f"size_limit {size_limit} is out of range; 0 (none) or at least 1 MiB is valid")
    if compression not in COMPRESSIONS:
        raise UsageError(f"compression {compression!r} is unknown; {', '.join(COMPRESSIONS)} are valid")
    return Geometry(segment_size=segment_size, size_limit=size_limit, compression=compression)


@attrs.frozen(kw_only=True)
class VolumeFile:
    """The content of ``volume.toml``."""

    format: int = FORMAT
    uuid: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    created: str = attrs.field(factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    geometry: Geometry = Geometry()
    wrapped_key: str | None = None

    def text(self) -> str:
        """The file's text, with its checksum."""
        lines = [
            "# A VexFS volume.  Written by VexFS: a change by hand fails the checksum below.",
            f"format = {self.format}",
            f'uuid = "{self.uuid}"',
            f'created = "{self.created}"',
            "",
            "[geometry]",
            f"segment_size = {self.geometry.segment_size}",
            f"size_limit = {self.geometry.size_limit}",
            f'compression = "{self.geometry.compression}"',
        ]
        if self.wrapped_key is not None:
            lines += ["", "[encryption]", 'cipher = "AES-256-GCM"', f'wrapped_key = "{self.wrapped_key}"']
        body = "\n".join(lines) + "\n"
        return f"{body}\n[checksum]\ncrc32c = {crc32c(body.encode())}\n"

    def save(self, directory: Path) -> None:
        """Write file and spare so that a crash leaves each of them old or new, never torn."""
        for name in (NAME, SPARE):
            replace_file(directory / name, self.text().encode())


def tidy(directory: Path, about: VolumeFile) -> None:
    """Bring a sound spare to the file: a change of key that was killed between the two leaves the old key in it.

    One that is not sound stays for ``fsck``, which tells of it; where making the volume was killed, there was none yet.
    """
    _finish(directory, about)
    spare = sound_spare(directory)
    if spare is not None and spare != about and spare.uuid == about.uuid:
        with contextlib.suppress(OSError):  # the host is full, or the like: it is tried at the next opening
            replace_file(directory / SPARE, about.text().encode())


def _finish(directory: Path, about: VolumeFile) -> None:
    """What a making that was killed behind its last step but these had left to do."""
    with contextlib.suppress(OSError):
        mark = os.open(directory / MARK, os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or it is under way
            if sound_spare(directory) is None:
                replace_file(directory / SPARE, about.text().encode())
            os.unlink(directory / MARK)
        finally:
            os.close(mark)


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path` atomically and durably."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names created in or removed from `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load(directory: Path) -> VolumeFile:
    """Read ``volume.toml`` of the volume in `directory`.

    Raises
    ------
    VolumeNotFound
        There is no such directory.
    FormatUnknown
        It is not a volume, or one of a newer format.
    VolumeDamaged
        The file is truncated or altered; the message says whether the spare copy is sound.
    """
    path = directory / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _absent(directory) from None
    except NotADirectoryError:
        raise FormatUnknown.at("is a file; a volume is a directory", directory) from None
    except OSError as error:
        raise from_errno(error.errno or 5, path) from error
    try:
        return parse(raw, path)
    except VolumeDamaged as damage:
        raise VolumeDamaged.at(f"{damage.strerror}; {_remedy(directory)}", path) from None


def parse(raw: bytes, path: Path) -> VolumeFile:
    """The content of a volume file's bytes; `path` is for messages."""
    try:
        told = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VolumeDamaged.at(f"is damaged: {error}", path) from None
    version = told.get("format")
    # A newer format may lay out everything below differently, its checksum too: look at the version first.
    if isinstance(version, int) and version > FORMAT:
        raise FormatUnknown.at(
            f"is of format {version}; this VexFS knows formats up to {FORMAT}: open it with a newer VexFS", path
        )
    body, mark, _ = raw.decode().partition("\n[checksum]\n")
    if not mark or told.get("checksum", {}).get("crc32c") != crc32c(body.encode()):
        raise VolumeDamaged.at("is damaged: its checksum does not match its text", path)
    if type(version) is not int or version != FORMAT:
        raise FormatUnknown.at(f"has no known format version ({version!r}); this VexFS knows format {FORMAT}", path)
    return _build(told, path)


def _build(told: dict[str, Any], path: Path) -> VolumeFile:
    try:
        geometry = Geometry(**told["geometry"])
        wrapped = told.get("encryption", {}).get("wrapped_key")
        made = VolumeFile(uuid=told["uuid"], created=told["created"], geometry=geometry, wrapped_key=wrapped)
    except (KeyError, TypeError) as error:
        raise VolumeDamaged.at(f"is damaged: {error}", path) from None
    if geometry.compression not in COMPRESSIONS:
        raise FormatUnknown.at(f"names the unknown compression {geometry.compression!r}", path)
    return made


def _absent(directory: Path) -> VolumeNotFound | FormatUnknown | VolumeDamaged:
    if not directory.exists():
        return VolumeNotFound.at("no such volume; make one with `vexctl volume create`", directory)
    if (directory / MARK).exists():
        what = "a creation, backup or restore that did not come to its end left it; do that again, or remove it"
        return FormatUnknown.at(f"is not a volume: {what}", directory)
    if (directory / "meta.db").exists():
        return VolumeDamaged.at(f"is missing; {_remedy(directory)}", directory / NAME)
    return FormatUnknown.at(f"is not a volume: there is no {NAME} in it", directory)


def _remedy(directory: Path) -> str:
    if sound_spare(directory) is not None:
        return f"the spare copy is sound: copy {SPARE} over it, or run `vexctl volume fsck --repair`"
    return f"the spare copy {SPARE} is no help either: take both from a backup of this volume"


def sound_spare(directory: Path) -> VolumeFile | None:
    """The spare copy, when it is there and sound."""
    try:
        return parse((directory / SPARE).read_bytes(), directory / SPARE)
    except OSError:
        return None
