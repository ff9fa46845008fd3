import tomllib
from pathlib import Path

from vexfs.config import load
from vexfs.config.model import KEYS
from vexfs.config.reference import default_file, page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_in_the_documentation_is_the_one_made_from_the_model():
    assert (ROOT / "docs/configuration.md").read_text() == page(), "run: python -m vexfs.config.reference > docs/..."


def test_the_default_file_is_valid_and_changes_nothing(tmp_path):
    file = tmp_path / "node.conf"
    file.write_text(default_file())
    settings = load(file, environment={})
    assert all(settings.value(path) == key.default for path, key in KEYS.items())


def test_the_default_file_with_every_key_uncommented_says_the_defaults():
    text = "\n".join(line.removeprefix("# ") if " = " in line else line for line in default_file().splitlines())
    tables = tomllib.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    found = {f"{s}.{k}": KEYS[f"{s}.{k}"].kind.read(v) for s, table in tables.items() for k, v in table.items()}
    assert set(found) == set(KEYS)
    assert {path for path, value in found.items() if value != KEYS[path].default} == {"general.node_id"}
