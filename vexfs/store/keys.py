"""Key files, and the master key that they wrap.

A volume is encrypted with a master key of its own.  What stands in the volume is that key wrapped by the key of a key
file, which lives elsewhere; so changing the key file rewraps 32 bytes and touches no data.  The core derives from the
master key one key for the metadata and one for each segment (HKDF-SHA256).

A key file is one line of text between comments, so that it survives mail and paper::

    # VexFS key file ...
    vexfs-key-1 <64 hex digits> <8 hex digits: crc32c of the key>

A wrapped key is one word: ``vexfs-wrapped-1:<id of the key file>:<nonce and ciphertext, base64>``.  The id tells which
key file opens a volume, and reveals nothing of the key.
"""

import base64
import binascii
import os
import secrets
import warnings
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vexfs._core.codec import crc32c, hkdf
from vexfs.errors import Exists, FormatUnknown, KeyFileDamaged, KeyMissing, KeyWrong, VolumeDamaged, from_errno

KEY_BYTES = 32
FILE_FORMAT = "vexfs-key-"
WRAP_FORMAT = "vexfs-wrapped-"
VERSION = "1"
NONCE_BYTES = 12
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + 16
FILE_BYTES_MAX = 4096

_HEADING = """\
# VexFS key file.  Whoever has it can read the volumes made with it; without it nobody can.
# Keep a copy where the volume is not.
"""

PathLike = str | os.PathLike[str]


def new_master_key() -> bytes:
    """32 random bytes for a new volume."""
    return secrets.token_bytes(KEY_BYTES)


def key_id(key: bytes) -> str:
    """Sixteen hex digits that name a key and reveal nothing of it."""
    return hkdf(_checked_key(key), "vexfs/key-id", 1)[:8].hex()


def create_key_file(path: PathLike) -> bytes:
    """Make a key file with a random key, readable by its owner alone, and return the key.

    The file is on stable storage when this returns.

    Raises
    ------
    Exists
        `path` is there already: a key is never overwritten, since a volume may need it.
    OSError
        The file could not be written; nothing is left behind.
    """
    path = Path(path)
    key = secrets.token_bytes(KEY_BYTES)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Exists.at("already there; a key file is never overwritten, choose another name", path) from None
    except OSError as error:
        raise from_errno(error.errno or 0, path) from None
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            os.fchmod(fd, 0o600)
            file.write(f"{_HEADING}{FILE_FORMAT}{VERSION} {key.hex()} {crc32c(key):08x}\n")
            file.flush()
            os.fsync(fd)
        _sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise from_errno(error.errno or 0, path) from None
    return key


def load_key_file(path: PathLike) -> bytes:
    """The key in a key file.

    Warns
    -----
    UserWarning
        Others than the owner may read the file.

    Raises
    ------
    KeyMissing
        There is no such file.
    KeyFileDamaged
        It is not a key file, or was truncated or altered.
    FormatUnknown
        It was written by a newer VexFS.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        raise KeyMissing.at("no such key file; give the one that the volume was made with", path) from None
    except OSError as error:
        raise from_errno(error.errno or 0, path) from None
    if mode & 0o077:
        warnings.warn(f"{path}: others may read this key file; run: chmod 600 '{path}'", stacklevel=2)
    return _parse(raw, path)


def wrap(master: bytes, key: bytes, *, volume: str = "") -> str:
    """The master key, encrypted and authenticated by the key of a key file.

    Parameters
    ----------
    master, key : bytes
        32 bytes each.
    volume : str
        The volume's uuid: a wrapped key then opens in no other volume.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(_wrapping_key(key)).encrypt(nonce, _checked_key(master), volume.encode())
    return f"{WRAP_FORMAT}{VERSION}:{key_id(key)}:{base64.b64encode(nonce + sealed).decode()}"


def unwrap(wrapped: str, key: bytes, *, volume: str = "") -> bytes:
    """The master key out of `wrap`.

    Raises
    ------
    KeyWrong
        It was wrapped with another key; the message names both by their ids.
    VolumeDamaged
        The text was truncated or altered, or belongs to another volume.
    FormatUnknown
        It was written by a newer VexFS.
    """
    wanted, sealed = _split(wrapped)
    given = key_id(key)
    if wanted != given:
        raise KeyWrong.at(
            f"the volume opens with key {wanted}, and this key file holds key {given}; "
            "give the key file that it was made with, or that its key was changed to"
        )
    try:
        return AESGCM(_wrapping_key(key)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], volume.encode())
    except InvalidTag:
        raise VolumeDamaged.at(
            "the volume's wrapped key was altered or comes from another volume; restore volume.toml from a backup"
        ) from None


def rotate(wrapped: str, old_key: bytes, new_key: bytes, *, volume: str = "") -> str:
    """Wrap the same master key with another key file's key; no data changes.

    Raises what `unwrap` raises.
    """
    return wrap(unwrap(wrapped, old_key, volume=volume), new_key, volume=volume)


def _checked_key(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    return key


def _wrapping_key(key: bytes) -> bytes:
    return hkdf(_checked_key(key), "vexfs/wrap", 1)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _parse(raw: bytes, path: Path) -> bytes:
    lines = [line.strip() for line in raw.decode("ascii", errors="replace").splitlines()]
    content = [line for line in lines if line and not line.startswith("#")]
    if len(raw) > FILE_BYTES_MAX or not content or not content[0].startswith(FILE_FORMAT):
        raise KeyFileDamaged.at("not a key file, or truncated; give the right file or a copy of it", path)
    words = content[0].split()
    version = words[0].removeprefix(FILE_FORMAT)
    if version != VERSION and version.isdigit():
        raise FormatUnknown.at(f"a key file of format {version}; this VexFS knows {VERSION}: install a newer one", path)
    if version != VERSION or len(content) != 1 or len(words) != 3 or len(words[1]) != 2 * KEY_BYTES:
        raise KeyFileDamaged.at("truncated or altered; restore it from a copy", path)
    try:
        key, checksum = bytes.fromhex(words[1]), words[2]
    except ValueError:
        raise KeyFileDamaged.at("altered: the key is not in hex digits; restore it from a copy", path) from None
    if f"{crc32c(key):08x}" != checksum.lower():
        raise KeyFileDamaged.at("altered: the checksum does not match the key; restore it from a copy", path)
    return key


def _split(wrapped: str) -> tuple[str, bytes]:
    head, _, rest = wrapped.partition(":")
    identity, _, text = rest.partition(":")
    version = head.removeprefix(WRAP_FORMAT)
    if head.startswith(WRAP_FORMAT) and version != VERSION and version.isdigit():
        raise FormatUnknown.at(f"a wrapped key of format {version}; this VexFS knows {VERSION}: install a newer one")
    try:
        sealed = base64.b64decode(text, validate=True)
        bytes.fromhex(identity)
    except (binascii.Error, ValueError):
        sealed = b""
    if head != WRAP_FORMAT + VERSION or len(identity) != 16 or len(sealed) != WRAPPED_BYTES:
        raise VolumeDamaged.at("the volume's wrapped key is truncated or altered; restore volume.toml from a backup")
    return identity, sealed
