"""What fsck says of a volume whose process or machine died."""

import os
import shutil
import struct

from vexfs._core.meta import Meta
from vexfs.errors import Damaged

PAGE, HEADER, FRAME = 4096, 32, 24 + 4096


def test_a_page_that_the_log_holds_anew_is_not_damaged(volume, tmp_path):
    """A power cut amid a checkpoint tears pages of the database; a rebuild of them would lose what is all there."""
    fs = volume()
    for k in range(400):
        fs.write_file(f"f{k}", os.urandom(50))
    fs.close()
    fs = volume(commit_delay_ms=60_000)
    for k in range(0, 400, 40):
        fs.write_file(f"f{k}", b"new")
    fs.sync()
    shutil.copytree(tmp_path / "volume", tmp_path / "copy")
    log = (tmp_path / "copy" / "meta.db-wal").read_bytes()
    held = {struct.unpack_from(">I", log, at)[0] for at in range(HEADER, len(log) - FRAME + 1, FRAME)}
    sound = (tmp_path / "copy" / "meta.db").read_bytes()
    seen = set()
    for number in range(1, len(sound) // PAGE + 1):
        torn = bytearray(sound)
        torn[(number - 1) * PAGE + 700] ^= 1
        (tmp_path / "copy" / "meta.db").write_bytes(torn)
        try:
            with Meta(tmp_path / "copy" / "meta.db", read_only=True) as meta:
                damaged = [page for page, _ in meta.verify()[1]]
        except Damaged as error:  # a page without which it cannot be opened
            damaged = [number] if f"page {number} " in str(error) else []
        assert damaged == ([] if number in held else [number])
        seen.add(number in held)
    assert seen == {True, False}
