"""The in-process API under test: on a volume, and on the model that says what is right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vexfs.frontends.local import Files

import vexfs
from vexfs.testing.model import ModelFilesystem


class ModelFiles(Files):
    def __init__(self) -> None:
        super().__init__()
        self.filesystem = ModelFilesystem()  # type: ignore[assignment]


@pytest.fixture(params=["volume", "model"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "model":
        yield ModelFiles()
    else:
        with vexfs.open(tmp_path / "v.vex") as volume:
            yield volume


@pytest.fixture
def other_files() -> Files:
    """A second, unrelated set of files."""
    return ModelFiles()
