from vexfs._core.rows import RowTable

CONTENT: int
STALE: int
AWAY: int
RENAMED: int

def origin(table: RowTable, ino: int) -> tuple[int, int] | None: ...
