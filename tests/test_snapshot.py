"""Snapshots: what is gathered is what was written, from any segment, in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import open_index
from test_survival_lock import add_words

from docsearch.errors import IndexDamaged
from docsearch.index import Index
from docsearch.store.codec import get_codec
from docsearch.store.segment import Segment
from docsearch.testing import FakeEncoder
from docsearch.types import Query

TEXTS = [" ".join(f"w{number}n{count}" for count in range(number % 5)) or f"blank{number}" for number in range(30)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    opened = open_index(tmp_path / "index")
    for start in range(0, 30, 10):
        add_words(opened, *TEXTS[start : start + 10])
    return opened


def test_gathering_takes_rows_in_the_given_order(index: Index) -> None:
    """A failure means: a page gets the score of another."""
    snapshot = index._read().snapshot
    rows = np.random.default_rng(2).permutation(30)[:17]
    packed = snapshot.gather(rows)
    codec = get_codec("r4")
    for place, row in enumerate(rows):
        query = FakeEncoder().encode_queries([Query(snapshot.catalog.page(int(snapshot.page_ids[row])).words.text)])[0]
        block, scale = codec.encode(query.tokens)
        assert packed.lengths[place] == len(query.tokens)
        assert np.array_equal(packed.buffers[packed.which[place]][packed.starts[place] :][: len(block)], block)
        assert packed.scales[place] == np.float32(scale)
        assert np.allclose(snapshot.tokens(int(row)), packed.decode(place))
        assert np.allclose(snapshot.dense(rows)[place], query.dense, atol=0.001)
    assert len(snapshot.gather(np.empty(0, np.int64))) == 0


def test_rows_of_pages(index: Index) -> None:
    """A failure means: a filter selects other pages than it names."""
    index.remove(f"{TEXTS[4]}-doc.pdf")
    snapshot = index._read().snapshot
    asked = np.array([snapshot.page_ids[7], 12345, snapshot.page_ids[2], snapshot.page_ids[4]])
    assert snapshot.rows_of(asked).tolist() == [7, 2]
    assert snapshot.rows_of(np.empty(0, np.int64)).tolist() == []
    assert len(snapshot) == 29
    assert not snapshot.live[4]


def test_a_missing_segment_is_named(index: Index) -> None:
    """A failure means: a deleted file ends in FileNotFoundError, or in fewer answers."""
    path = index.paths.segment(2)
    path.unlink()
    index.refresh()
    with pytest.raises(IndexDamaged, match=path.name):
        index.search("anything")


def test_compacting_changes_no_answer_and_removes_what_is_dead(index: Index) -> None:
    """A failure means: tidying up loses pages, changes scores, or frees nothing."""
    index.remove(f"{TEXTS[3]}-doc.pdf", f"{TEXTS[13]}-doc.pdf")
    queries = TEXTS[:8]
    before = [[(hit.doc_id, hit.score) for hit in hits] for hits in index.search_many(queries, k=30, exact=True)]
    assert index.stats()["removed_pages"] == 2
    assert index.compact() == 3
    stats = index.stats()
    assert (stats["segments"], stats["removed_pages"], stats["pages"]) == (1, 0, 28)
    assert [
        [(hit.doc_id, hit.score) for hit in hits] for hits in index.search_many(queries, k=30, exact=True)
    ] == before
    assert [path.name for path in index.paths.segments.iterdir()] == ["00000004.seg"]
    assert index.compact() == 0
    assert index.verify() == []


def test_compacting_an_empty_index(index: Index) -> None:
    """A failure means: when everything was removed, tidying up fails."""
    index.remove(path="*")
    assert index.compact() == 3
    assert list(index.paths.segments.iterdir()) == []
    assert index.search("w1n0") == []
    assert index.verify() == []


def test_what_was_read_lately_is_not_announced_again(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: pages are faulted in one by one, or every query pays for telling what lies in memory."""
    snapshot = index._read().snapshot
    told: list[list[int]] = []
    now = [1000.0]
    monkeypatch.setattr(Segment, "will_need", lambda self, rows, **_: told.append(rows.tolist()))
    monkeypatch.setattr("docsearch.store.snapshot.time.monotonic", lambda: now[0])
    snapshot.gather(np.array([3, 1]))
    snapshot.gather(np.array([1, 2, 3]))
    snapshot.gather_sketches(np.array([1]))
    now[0] += 61
    snapshot.gather(np.array([1]))
    assert told == [[1, 3], [2], [1], [1]]
