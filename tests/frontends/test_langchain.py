"""The LangChain frontend: LangChain's own standard tests on a real volume, and what they do not look at."""

import numpy as np
import pytest

pytest.importorskip("langchain_tests", reason="needs langchain-tests")

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests
from vexfs.frontends.langchain import VexRetriever, VexVectorStore
from vexfs.frontends.langchain.metadata import attributes_of, id_of, metadata_of, name_of

import vexfs
from tests.search.test_damaged_table import half_damaged
from vexfs.errors import Damaged, InvalidArgument


@pytest.fixture
def volume(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        yield fs


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio' but it is not an async function")
class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, volume):
        return VexVectorStore(self.get_embeddings(), volume=volume)


@pytest.fixture
def store(volume):
    return VexVectorStore(DeterministicFakeEmbedding(size=8), volume=volume, directory="docs")


def test_documents_are_files(store, volume):
    store.add_texts(["one", "two"], [{"year": 2020}, {"year": 2021}], ids=["a", "b"])
    assert volume.read_text("/docs/a") == "one"
    assert volume.attributes("/docs/b")["year"] == 2021
    volume.remove("/docs/a")
    assert [d.id for d in store.similarity_search("one", k=5)] == ["b"]


def test_texts_come_back_with_their_ends_of_lines(store):
    text = "one\r\ntwo\rthree\n"
    store.add_texts([text], ids=["a"])
    assert [document.page_content for document in store.get_by_ids(["a"])] == [text]
    assert [document.page_content for document in store.similarity_search("x", k=1)] == [text]


def test_filters(store):
    store.add_texts([f"text {i}" for i in range(20)], [{"n": i} for i in range(20)])
    found = store.similarity_search("text 3", k=5, filter={"n": {"$gte": 17}})
    assert sorted(d.metadata["n"] for d in found) == [17, 18, 19]


def test_replacing_leaves_no_old_metadata(store):
    store.add_texts(["one"], [{"a": 1, "b": [1, 2]}], ids=["x"])
    store.add_texts(["two"], [{"a": 2}], ids=["x"])
    (document,) = store.get_by_ids(["x"])
    assert (document.page_content, document.metadata) == ("two", {"a": 2})


def test_the_last_of_one_id_holds(store):
    assert store.add_texts(["one", "two"], ids=["x", "x"]) == ["x", "x"]
    assert [d.page_content for d in store.similarity_search("any", k=5)] == ["two"]


def test_relevance_and_diversity(store):
    store.add_texts([f"text {i}" for i in range(30)])
    pairs = store.similarity_search_with_relevance_scores("text 3", k=3)
    assert pairs[0][0].page_content == "text 3"
    assert pairs[0][1] == pytest.approx(1, abs=1e-5)
    assert all(0 <= score <= 1 for _, score in pairs)
    diverse = store.max_marginal_relevance_search("text 3", k=4, fetch_k=15)
    assert diverse[0].page_content == "text 3"
    assert len({d.id for d in diverse}) == 4


def test_deleting_all_and_none(store):
    assert store.delete(["nothing"]) is True
    store.add_texts(["one", "two"], ids=["a", "b"])
    store.delete(["a", "a", "unknown"])
    assert [d.id for d in store.get_by_ids(["a", "b"])] == ["b"]
    store.delete()
    assert store.similarity_search("one") == []


def test_from_texts_and_a_retriever(volume):
    store = VexVectorStore.from_texts(["x", "y"], DeterministicFakeEmbedding(size=4), ids=["1", "2"], volume=volume)
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("y")[0].id == "2"


def test_a_volume_by_its_place(tmp_path):
    store = VexVectorStore(DeterministicFakeEmbedding(size=4), volume=tmp_path / "own.vex")
    store.add_texts(["x"], ids=["1"])
    assert VexVectorStore(DeterministicFakeEmbedding(size=4), volume=tmp_path / "own.vex").get_by_ids(["1"])
    store.volume.close()
    with vexfs.open(tmp_path / "own.vex") as fs:
        assert fs.read_text("/documents/1") == "x"


def test_refusals(store):
    with pytest.raises(InvalidArgument, match="not one each"):
        store.add_texts(["a"], [{}, {}])
    with pytest.raises(InvalidArgument, match="id of a document"):
        store.add_texts(["a"], ids=["x" * 300])
    with pytest.raises(InvalidArgument, match="JSON"):
        store.add_texts(["a"], [{"when": np.float32(1)}])


@pytest.mark.parametrize("name", ["a", "a/b", "../x", ".", "%41", "http://x/?q=1", "Füße 日本", "nul\0", "a.md", "ⅷ²"])
def test_ids_are_names_and_come_back(name):
    assert id_of(name_of(name)) == name
    assert "/" not in name_of(name) and "\0" not in name_of(name) and not name_of(name).startswith(".")


def test_metadata_comes_back():
    metadata = {"s": "2020", "i": 1, "f": 1.5, "b": True, "n": None, "l": [1, {"x": 2}], "": 1}
    metadata |= {"vexfs.x": 2, "x" * 300: 3}
    assert metadata_of(attributes_of(metadata)) == metadata
    assert attributes_of(metadata)["i"] == 1


def test_the_retriever_gives_passages(volume):
    volume.write_text("docs/roasts.md", "Light roasts keep acidity; dark roasts are bitter.")
    volume.write_text("docs/bread.txt", "Sourdough needs flour, water, salt and time.")
    volume.attributes("docs/bread.txt")["year"] = 2021
    volume.index("docs", embedder="default")
    assert volume.ingest.wait(120)
    retriever = VexRetriever(volume=volume, k=1)
    (document,) = retriever.invoke("sourdough flour")
    assert document.page_content.startswith("Sourdough")
    assert document.metadata["source"] == document.id == "/docs/bread.txt"
    assert document.metadata["year"] == 2021
    assert document.metadata["score"] > 0
    assert retriever.invoke("roasts", where={"year": 2021}, mode="keyword") == []


def test_the_retriever_tells_what_could_not_be_searched(tmp_path, caplog):
    half_damaged(tmp_path / "half.vex")
    with vexfs.open(tmp_path / "half.vex") as fs:
        found = VexRetriever(volume=fs).invoke("acidity")
        assert {each.metadata["source"] for each in found} == {"/good/goo.txt", "/bad/inner/bad.txt"}
    told = [each.getMessage() for each in caplog.records if each.name == "vexfs.langchain"]
    assert told == ["not everything below /bad was searched: its table of rows is damaged"]


def test_a_store_whose_index_is_damaged_is_not_taken_for_an_empty_one(tmp_path):
    model = DeterministicFakeEmbedding(size=8)
    with vexfs.open(tmp_path / "v") as fs:
        VexVectorStore(model, volume=fs).add_texts(["one"], ids=["a"])
    with vexfs.open(tmp_path / "v") as fs:
        fs.filesystem.write_file(".vexfs/index-1/rows", b"nothing of the kind")
    with vexfs.open(tmp_path / "v") as fs:
        store = VexVectorStore(model, volume=fs)
        for use in (store.similarity_search, lambda _: store.get_by_ids(["a"]), lambda _: store.delete(["a"])):
            with pytest.raises(Damaged, match="vexctl index drop"):
                use("one")
        assert VexVectorStore(model, volume=fs, directory="elsewhere").similarity_search("one") == []
