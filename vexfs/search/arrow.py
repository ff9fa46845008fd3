"""Hits as an Arrow table."""

from typing import TYPE_CHECKING, Any

from vexfs.errors import PluginBroken

if TYPE_CHECKING:
    from vexfs.search.hits import Hits


def pyarrow() -> Any:
    """The library; an extra."""
    try:
        import pyarrow as pa
    except ImportError:
        raise PluginBroken("Arrow needs pyarrow: pip install 'vexfs[arrow]'") from None
    return pa


def table_of(hits: "Hits") -> Any:
    """The table of :meth:`Hits.to_arrow`.  An attribute whose values are of several types becomes strings."""
    pa = pyarrow()
    attributes = [hit.attributes for hit in hits]
    columns: dict[str, Any] = {
        "path": pa.array([hit.path for hit in hits], pa.string()),
        "id": pa.array([hit.id for hit in hits], pa.string()),
        "score": pa.array([hit.score for hit in hits], pa.float32()),
        "distance": pa.array([hit.distance for hit in hits], pa.float32()),
        "start": pa.array([hit.span[0] if hit.span else None for hit in hits], pa.int64()),
        "end": pa.array([hit.span[1] if hit.span else None for hit in hits], pa.int64()),
        "text": pa.array([hit.text for hit in hits], pa.string()),
    }
    for name in sorted({name for row in attributes for name in row} - set(columns)):
        values = [row.get(name) for row in attributes]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if v is None else str(v) for v in values], pa.string())
    return pa.table(columns)
