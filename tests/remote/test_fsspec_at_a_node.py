"""``vexfs://`` on a volume that a node serves."""

import gc
import socket

import fsspec
import pandas as pd
import pytest

from tests.remote.conftest import Served
from vexfs.errors import Unreachable
from vexfs.remote.link import Refused


def test_files_by_url(served, fs, monkeypatch):
    options = {"volume": served.url, "token": served.token}
    pd.DataFrame({"a": [1, 2]}).to_csv("vexfs://data/t.csv", index=False, storage_options=options)
    assert fs.read_text("data/t.csv") == "a\n1\n2\n"
    assert pd.read_csv("vexfs://data/t.csv", storage_options=options)["a"].tolist() == [1, 2]
    there = fsspec.filesystem("vexfs", **options)
    assert there.find("data") == ["data/t.csv"] and there.ukey("data/t.csv").startswith(f"vexfs_{served.url}")
    there.pipe("data/b", b"12345")
    assert there.cat_file("data/b", 1, 3) == b"23"
    there.mv("data/b", "data/c")
    there.rm("data", recursive=True)
    assert not fs.exists("data")
    fs.write_text("x", "by its address")
    monkeypatch.setenv("VEXFS_TOKEN", served.token)
    with fsspec.open("vexfs://x", "r", volume=served.url) as file:
        assert file.read() == "by its address"


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_open_file_of_a_node_that_went_is_let_go_of_without_a_word(tmp_path):
    node = Served(tmp_path)
    there = fsspec.filesystem("vexfs", volume=node.url, token=node.token, skip_instance_cache=True)
    there.pipe("f", b"text")
    file = there.open("f", cache_type="readahead")
    assert file.read(2) == b"te"
    node.stop()
    del file
    gc.collect()


def test_what_keeps_out(served):
    with pytest.raises(Refused, match="token"):
        fsspec.filesystem("vexfs", volume=served.url, token="vex_no").ls("/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            fsspec.filesystem("vexfs", volume=f"http://127.0.0.1:{free.getsockname()[1]}").ls("/")
