"""The prefilter: the nearest pages, only those that may appear, whatever the kind of index, and never a stale file."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
from planted import open_index
from test_survival_lock import add_words

from docsearch.errors import IndexDamaged
from docsearch.index import Index
from docsearch.retriever import dense_index
from docsearch.retriever import prefilter as module
from docsearch.retriever.prefilter import DensePrefilter, check_prefilter_file
from docsearch.retriever.prefilter_file import Header, newest_file, pack
from docsearch.types import QueryVectors

DIM, ROWS = 64, 8000
KINDS = {"flat": {}, "fast": {"_FLAT_NUMBERS": 1000}, "ivf": {"_FLAT_NUMBERS": 1000, "_IVF_ROWS": 1000}}


def clustered(rows: int, seed: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """(rows, DIM) unit vectors around 100 centres that are always the same, as pages are around subjects."""
    centres = np.random.default_rng(0).standard_normal((100, DIM))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 100, rows)] + 0.7 * rng.standard_normal((rows, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def asked(dense: np.ndarray[Any, Any]) -> QueryVectors:
    return QueryVectors(np.zeros((1, 32), np.float32), dense.astype(np.float32), ("x",))


class Snapshot:
    """What the prefilter sees of one: segments of 100, 1000, 100, 1000 ... rows, without any file of their own."""

    def __init__(self, folder: Path, dense: np.ndarray[Any, Any], dead: np.ndarray[Any, Any] | None = None) -> None:
        self.paths, self.layout = SimpleNamespace(prefilter=folder), SimpleNamespace(dense_dim=DIM)
        sizes = np.tile([100, 1000], 1 + len(dense) // 1100)
        parts = np.split(dense, np.cumsum(sizes))
        self.segments = [Segment(number, part) for number, part in enumerate(parts) if len(part)]
        self.page_ids, self.live = np.arange(len(dense)), np.ones(len(dense), bool)
        if dead is not None:
            self.live[dead] = False
        self._dense = dense

    def dense(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self._dense[rows]

    def nearest(self, query: np.ndarray[Any, Any], n: int, chosen: np.ndarray[Any, Any] | None = None) -> list[int]:
        """Brute force in double precision."""
        scores = np.where(self.live if chosen is None else chosen, self._dense.astype(np.float64) @ query, -np.inf)
        return [int(row) for row in np.argsort(-scores, kind="stable")[:n] if scores[row] > -np.inf]


class Segment:
    def __init__(self, number: int, dense: np.ndarray[Any, Any]) -> None:
        self.segment_id, self.dense, self.page_ids = number, dense, np.arange(len(dense))

    def checksum(self, _: str) -> int:
        return zlib.crc32(self.dense.tobytes())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every kind of index, at a size that a test can afford."""
    use(monkeypatch, request.param)
    return str(request.param)


def use(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for name, value in {"_LISTS": 16, "_PROBED": 8, **KINDS[kind]}.items():
        monkeypatch.setattr(dense_index, name, value)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path, clustered(ROWS, seed=1))


def test_the_nearest_rows_are_found(snapshot: Snapshot, kind: str) -> None:
    """A failure means: a row that is the query itself is missed, or a large index misses what a flat one finds."""
    prefilter = DensePrefilter(snapshot)
    hits, queries = 0, clustered(50, seed=2)
    for row in range(0, ROWS, 397):
        assert prefilter.candidates(asked(snapshot._dense[row]), 5)[0] == row
    for query in queries:
        found = prefilter.candidates(asked(query), 50).tolist()
        assert len(set(found)) == 50
        hits += len(set(found) & set(snapshot.nearest(query, 50)))
        assert kind != "flat" or hits == 50 or found == snapshot.nearest(query, 50)
    assert hits / (50 * len(queries)) >= (0.9 if kind == "ivf" else 0.99)


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.05, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 150, 2 * ROWS])
def test_a_filter_gives_all_that_were_asked_for(snapshot: Snapshot, kind: str, share: float, n: int) -> None:
    """A failure means: a filter lets through what it should not, or leaves fewer candidates than there are."""
    query = clustered(1, seed=3)[0]
    chosen = np.random.default_rng(5).random(ROWS) < share
    found = DensePrefilter(snapshot).candidates(asked(query), n, allowed=chosen)
    assert len(set(found.tolist())) == len(found) == min(n, chosen.sum())
    assert chosen[found].all()
    if n < ROWS and (kind == "flat" or chosen.sum() < 500):
        assert found.tolist() == snapshot.nearest(query, n, chosen)


def test_a_filter_far_from_the_query_still_gives_all(snapshot: Snapshot, kind: str) -> None:
    """A failure means: when what a filter allows is what the query is least like, the list is short."""
    query = snapshot._dense[0]
    chosen = np.zeros(ROWS, bool)
    chosen[snapshot.nearest(query, ROWS)[-1500:]] = True
    found = DensePrefilter(snapshot).candidates(asked(query), 100, allowed=chosen)
    assert len(set(found.tolist())) == 100
    assert chosen[found].all()


def test_removed_pages_never_appear(tmp_path: Path, kind: str) -> None:
    """A failure means: what was removed is found, or takes the place of what is there."""
    dead = np.random.default_rng(6).permutation(ROWS)[: ROWS // 2]
    snapshot = Snapshot(tmp_path, clustered(ROWS, seed=1), dead)
    prefilter = DensePrefilter(snapshot)
    for query in clustered(20, seed=4):
        found = prefilter.candidates(asked(query), 100)
        assert len(set(found.tolist())) == 100
        assert snapshot.live[found].all()


def test_best_first_across_the_file_and_what_came_since(tmp_path: Path, kind: str) -> None:
    """A failure means: new pages are always behind old ones, or before them."""
    dense = clustered(ROWS, seed=1)
    wait(DensePrefilter(Snapshot(tmp_path, dense[:7700])).save(tmp_path, 1))
    snapshot = Snapshot(tmp_path, dense)
    prefilter = DensePrefilter(snapshot)
    for query in clustered(5, seed=7):
        found = prefilter.candidates(asked(query), 50)
        scores = dense[found].astype(np.float64) @ query
        assert (np.diff(scores) < 1e-6).all()
        assert len(set(found.tolist()) & set(snapshot.nearest(query, 50))) >= (40 if kind == "ivf" else 48)
    newest = ROWS - 1
    assert prefilter.candidates(asked(dense[newest]), 3)[0] == newest


def test_the_file_gives_what_building_gives(snapshot: Snapshot, kind: str) -> None:
    """A failure means: a reader that loads the file and one that builds for itself answer differently."""
    query = asked(clustered(1, seed=8)[0])
    built = DensePrefilter(snapshot).candidates(query, 100).tolist()
    wait(DensePrefilter(snapshot).save(snapshot.paths.prefilter, 7))
    assert [path.name for path in snapshot.paths.prefilter.iterdir()] == ["00000007.faiss"]
    file = newest_file(snapshot.paths.prefilter, DensePrefilter(snapshot)._segments)
    assert file
    assert file.header.kind == {"flat": "SQfp16", "fast": "PQ32x4fs", "ivf": "IVF16,PQ32x4fs"}[kind]
    assert DensePrefilter(snapshot).candidates(query, 100).tolist() == built


def test_opening_reads_nothing(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: opening an index of a million pages waits for its prefilter."""
    monkeypatch.setattr(module, "newest_file", None)
    monkeypatch.setattr(dense_index, "faiss", None)
    DensePrefilter(snapshot)


def test_few_new_rows_write_nothing(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: adding one page to a million writes the whole prefilter again."""
    monkeypatch.setattr(dense_index, "_SOON_ADDED", 150 * DIM)
    dense = clustered(ROWS, seed=1)
    wait(DensePrefilter(Snapshot(tmp_path, dense[:4400])).save(tmp_path, 1))
    wait(DensePrefilter(Snapshot(tmp_path, dense[:4500])).save(tmp_path, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.faiss"]
    wait(DensePrefilter(Snapshot(tmp_path, dense[:5000])).save(tmp_path, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["00000003.faiss"]


def test_growth_extends_the_codes_and_trains_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: codes made for the first pages serve for ever, or every run trains."""
    use(monkeypatch, "fast")
    monkeypatch.setattr(dense_index, "_SOON_ADDED", 0)
    dense, trained_on = clustered(12100, seed=1), []
    for commit, rows in enumerate([1100, 2200, 9900, 11000, 12100]):
        snapshot = Snapshot(tmp_path, dense[:rows])
        wait(DensePrefilter(snapshot).save(tmp_path, commit))
        file = newest_file(tmp_path, DensePrefilter(snapshot)._segments)
        assert file
        assert len(file.header.segments) == len(snapshot.segments)
        assert faiss.deserialize_index(file.index).ntotal == rows
        trained_on.append(file.header.trained_on)
    assert trained_on == [1100, 1100, 1100, 11000, 11000]


def test_a_flat_file_becomes_codes_when_the_index_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: an index that began small is scanned as half floats for ever."""
    monkeypatch.setattr(dense_index, "_FLAT_NUMBERS", 2000 * DIM)
    dense = clustered(ROWS, seed=1)
    assert DensePrefilter(Snapshot(tmp_path, dense[:1100])).save(tmp_path, 1) is None
    thread = DensePrefilter(Snapshot(tmp_path, dense)).save(tmp_path, 2)
    assert thread
    wait(thread)
    file = newest_file(tmp_path, DensePrefilter(Snapshot(tmp_path, dense))._segments)
    assert file
    assert file.header.kind == "PQ32x4fs"


def test_a_reader_goes_on_while_the_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: training in the background stops a search, changes its answer, or is waited for."""
    use(monkeypatch, "fast")
    snapshot = Snapshot(tmp_path, clustered(ROWS, seed=1))
    wait(DensePrefilter(snapshot).save(tmp_path, 1))
    reader, query = DensePrefilter(snapshot), asked(clustered(1, seed=9)[0])
    before = reader.candidates(query, 100).tolist()
    grown = Snapshot(tmp_path, clustered(ROWS, seed=1), np.arange(10))
    monkeypatch.setattr(module, "_GROWTH", 0.5)  # so that it trains
    go_on, answered = threading.Event(), threading.Event()
    write = module.write_synced

    def slow_write(path: Path, data: bytes) -> None:
        assert go_on.wait(60)
        write(path, data)
        answered.wait(60)  # the old file is still there beside the new one

    monkeypatch.setattr(module, "write_synced", slow_write)
    thread = DensePrefilter(grown).save(tmp_path, 2)
    assert thread
    assert DensePrefilter(grown).save(tmp_path, 3) is None, "one training at a time"
    assert reader.candidates(query, 100).tolist() == before
    assert DensePrefilter(snapshot).candidates(query, 100).tolist() == before
    go_on.set()
    while thread.is_alive():
        assert len(DensePrefilter(snapshot).candidates(query, 100)) == 100
        answered.set()
    wait(thread)
    assert [path.name for path in tmp_path.iterdir()] == ["00000002.faiss"]
    assert reader.candidates(query, 100).tolist() == before
    assert not module._training.locked()


def test_readers_of_one_file_share_what_it_holds(snapshot: Snapshot, kind: str) -> None:
    """A failure means: every refresh of a server loads the prefilter again, and holds it twice."""
    wait(DensePrefilter(snapshot).save(snapshot.paths.prefilter, 1))
    first, second = DensePrefilter(snapshot), DensePrefilter(snapshot)
    assert first._indexes()[0] is second._indexes()[0]


def test_a_full_disk_in_the_background_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure means: a thread dies with a traceback, or nothing is ever trained again."""
    use(monkeypatch, "fast")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_synced", no_space)
    snapshot = Snapshot(tmp_path, clustered(2000, seed=1))
    wait(DensePrefilter(snapshot).save(tmp_path, 1))
    assert "No space left" in caplog.text
    assert not module._training.locked()


def test_a_file_without_a_kind_is_half_floats(snapshot: Snapshot) -> None:
    """A failure means: the prefilter of version 0.1 is not used, and is built again at every start."""
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(snapshot._dense.astype(np.float32))
    header = f'{{"segments": {[[number, checksum] for number, checksum in DensePrefilter(snapshot)._segments]}}}'
    body = header.encode() + faiss.serialize_index(index).tobytes()
    path = snapshot.paths.prefilter / "00000001.faiss"
    path.write_bytes(b"DSPREFLT" + np.array([len(header), zlib.crc32(body)], "<u4").tobytes() + body)
    check_prefilter_file(path)
    prefilter = DensePrefilter(snapshot)
    assert len(prefilter._indexes()) == 1
    query = clustered(1, seed=3)[0]
    assert prefilter.candidates(asked(query), 9).tolist() == snapshot.nearest(query, 9)
    assert prefilter.save(path.parent, 2) is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_faiss_cannot_read_is_done_without(
    snapshot: Snapshot, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: after going back to an older FAISS nothing can be searched."""
    monkeypatch.setattr(dense_index, "_SOON_ADDED", 0)
    prefilter = DensePrefilter(snapshot)
    query = asked(clustered(1, seed=3)[0])
    built = prefilter.candidates(query, 20).tolist()
    unreadable = Header(prefilter._segments[:8], dense_index.kind_for(ROWS, DIM), ROWS)
    path = snapshot.paths.prefilter / "00000001.faiss"
    path.write_bytes(pack(unreadable, np.frombuffer(b"what is this", np.uint8)))
    assert DensePrefilter(snapshot).candidates(query, 20).tolist() == built
    wait(DensePrefilter(snapshot).save(path.parent, 2))
    assert len(DensePrefilter(snapshot)._indexes()) == 1


# -- in a whole index ----------------------------------------------------------------------------------------------

QUERY = np.random.default_rng(1).standard_normal(48).astype(np.float32)
ASKED = QueryVectors(np.zeros((1, 32), np.float32), QUERY / np.linalg.norm(QUERY), ("x",))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index") as opened:
        for commit in range(4):
            add_words(opened, *[f"word{commit}x{number} more" for number in range(50)])
        opened.remove(*[f"word1x{number} more-doc.pdf" for number in range(0, 50, 3)])
        yield opened


def test_without_a_filter_every_live_page_may_appear(index: Index) -> None:
    """A failure means: removed pages come back, or live ones are missing."""
    snapshot = index._read().snapshot
    dense = np.concatenate([segment.dense for segment in snapshot.segments]).astype(np.float64)
    scores = np.where(snapshot.live, dense @ ASKED.dense.astype(np.float64), -np.inf)
    nearest = [int(row) for row in np.argsort(-scores, kind="stable") if snapshot.live[row]]
    assert index._read().prefilter.candidates(ASKED, 1000).tolist() == nearest


def test_an_empty_index_has_no_candidates(tmp_path: Path) -> None:
    """A failure means: searching before anything was indexed ends in an error."""
    with open_index(tmp_path / "index") as index:
        assert index.search("anything") == []
        assert index._read().prefilter.candidates(ASKED, 5).tolist() == []
        assert index._read().prefilter.save(index.paths.prefilter, 1) is None


def test_the_file_is_used_and_completed(
    index: Index, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: every start builds the whole prefilter again, or takes an old one for complete."""
    monkeypatch.setattr(dense_index, "_SOON_ADDED", 0)
    index._save_prefilter()
    (first,) = index.paths.prefilter.iterdir()
    fresh = index._read().prefilter.candidates(ASKED, 1000).tolist()
    add_words(index, "arrived later")
    index.refresh()
    snapshot = index._read().snapshot
    prefilter = DensePrefilter(snapshot)
    assert set(prefilter.candidates(ASKED, 1000).tolist()) == {*fresh, len(snapshot.page_ids) - 1}
    assert list(index.paths.prefilter.iterdir()) == [first], "readers do not write"
    index._save_prefilter()
    assert [path.name for path in index.paths.prefilter.iterdir()] == [f"{snapshot.commit:08d}.faiss"]
    index.remove("word2x1 more-doc.pdf")
    index._save_prefilter()
    assert [path.name for path in index.paths.prefilter.iterdir()] == [f"{snapshot.commit:08d}.faiss"], "a removal"
    assert caplog.messages == []


def cut(data: bytearray) -> bytearray:
    return data[:10]


def flip(data: bytearray) -> bytearray:
    data[-1] ^= 1
    return data


@pytest.mark.parametrize("harm", [cut, flip])
def test_a_damaged_file_is_named_done_without_and_replaced(
    index: Index, caplog: pytest.LogCaptureFixture, harm: Callable[[bytearray], bytearray]
) -> None:
    """A failure means: a damaged convenience file stops the search, is used, or stays."""
    fresh = index._read().prefilter.candidates(ASKED, 1000).tolist()
    index._save_prefilter()
    (path,) = index.paths.prefilter.iterdir()
    path.write_bytes(harm(bytearray(path.read_bytes())))
    with pytest.raises(IndexDamaged):
        check_prefilter_file(path)
    index.refresh()
    assert index._read().prefilter.candidates(ASKED, 1000).tolist() == fresh
    assert path.name in caplog.text
    assert "rebuilt" in caplog.text
    index._save_prefilter()
    check_prefilter_file(path)


def wait(thread: threading.Thread | None) -> None:
    if thread:
        thread.join(60)
        assert not thread.is_alive()
