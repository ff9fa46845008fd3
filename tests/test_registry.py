"""Plugins are found lazily, and a broken one harms nobody else."""

from importlib.metadata import EntryPoint

import pytest

from vexfs.errors import ConfigError, PluginBroken
from vexfs.registry import Registry, registry


@pytest.fixture
def frontends(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Registry:
    (tmp_path / "vexfs_plugin_bad.py").write_text("raise RuntimeError('no such device')")
    monkeypatch.syspath_prepend(tmp_path)
    installed = [
        EntryPoint("good", "collections:OrderedDict", "vexfs.frontends"),
        EntryPoint("bad", "vexfs_plugin_bad:Frontend", "vexfs.frontends"),
    ]
    monkeypatch.setattr("vexfs.registry.entry_points", lambda group: installed)
    return Registry("vexfs.frontends")


def test_a_broken_plugin_is_listed_and_only_asking_for_it_raises(frontends: Registry) -> None:
    from collections import OrderedDict

    assert frontends.names() == ["bad", "good"]
    assert frontends.get("good") is OrderedDict
    with pytest.raises(PluginBroken, match=r"'bad'.*vexfs_plugin_bad.*RuntimeError: no such device"):
        frontends.get("bad")
    assert list(frontends.broken()) == ["bad"]


def test_an_unknown_name_lists_the_known_ones(frontends: Registry) -> None:
    with pytest.raises(ConfigError, match="no frontends named 'nfs'; installed: bad, good"):
        frontends.get("nfs")


def test_what_a_process_adds_goes_first(frontends: Registry) -> None:
    frontends.add("good", int)
    assert frontends.get("good") is int


def test_groups_are_known_by_name() -> None:
    assert registry("frontends") is registry("vexfs.frontends")
    with pytest.raises(ConfigError, match="vexfs.embedders"):
        registry("embeders")
