from vexfs._core.fs import Filesystem
from vexfs._core.rows import RowTable

CONTENT: int
STALE: int
AWAY: int
RENAMED: int

def origin(table: RowTable, ino: int) -> tuple[int, int] | None: ...
def met(fs: Filesystem, directory: int, name: bytes) -> bool: ...
