"""The master key of a volume: found with the key file that it is wrapped under."""

import os
from pathlib import Path

from vexfs.errors import FormatUnknown, KeyMissing, KeyWrong, UsageError, VolumeDamaged
from vexfs.store import keys, volumefile

HostPath = str | os.PathLike[str]


def master_key(directory: Path, about: volumefile.VolumeFile, key_file: HostPath | None) -> bytes | None:
    """The key that everything in the volume is under; None when it is not encrypted.

    Raises
    ------
    KeyMissing, KeyWrong
        It is encrypted, and no key file or another one's was given.
    UsageError
        It is not encrypted and a key file was given.
    """
    if about.wrapped_key is None:
        if key_file is not None:
            raise UsageError(f"{directory}: is not encrypted; open it without a key file")
        return None
    if key_file is None:
        raise KeyMissing.at("is encrypted; give its key file (--key-file, or key_file= in Python)", directory)
    return unwrapped(directory, about.wrapped_key, about.uuid, key_file)


def unwrapped(directory: Path, wrapped: str, volume: str, key_file: HostPath) -> bytes:
    """The master key out of its wrapping; an error names the file that is at fault."""
    key = keys.load_key_file(key_file)
    try:
        return keys.unwrap(wrapped, key, volume=volume)
    except KeyWrong as error:
        raise KeyWrong.at(error.strerror or str(error), key_file) from None
    except (VolumeDamaged, FormatUnknown) as error:
        raise type(error).at(error.strerror or str(error), directory / volumefile.NAME) from None


def key_in(key_file: HostPath) -> bytes:
    """The key in `key_file`, which is made when it is not there."""
    return keys.load_key_file(key_file) if os.path.lexists(key_file) else keys.create_key_file(key_file)
