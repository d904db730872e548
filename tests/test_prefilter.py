"""The prefilter: the nearest pages, only those that may appear, and never a stale file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import open_index
from test_survival_lock import add_words

from docsearch.index import Index
from docsearch.retriever.prefilter import FlatPrefilter
from docsearch.types import QueryVectors

QUERY = np.random.default_rng(1).standard_normal(48).astype(np.float32)
ASKED = QueryVectors(np.zeros((1, 32), np.float32), QUERY / np.linalg.norm(QUERY), ("x",))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    opened = open_index(tmp_path / "index")
    for commit in range(4):
        add_words(opened, *[f"word{commit}x{number} more" for number in range(50)])
    opened.remove(*[f"word1x{number} more-doc.pdf" for number in range(0, 50, 3)])
    return opened


def brute_force(index: Index, allowed: np.ndarray) -> list[int]:  # type: ignore[type-arg]
    snapshot = index._read().snapshot
    dense = np.concatenate([segment.dense for segment in snapshot.segments]).astype(np.float64)
    scores = np.where(allowed, dense @ ASKED.dense.astype(np.float64), -np.inf)
    return [int(row) for row in np.argsort(-scores, kind="stable") if allowed[row]]


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_the_nearest_allowed_pages_are_found(index: Index, share: float, n: int) -> None:
    """A failure means: a filter makes the prefilter miss pages, or let through what was removed."""
    snapshot, prefilter = index._read().snapshot, index._read().prefilter
    chosen = np.random.default_rng(5).random(len(snapshot.page_ids)) < share
    found = prefilter.candidates(ASKED, n, allowed=snapshot.live & chosen)
    assert found.tolist() == brute_force(index, snapshot.live & chosen)[:n]


def test_without_a_filter_every_live_page_may_appear(index: Index) -> None:
    """A failure means: removed pages come back, or live ones are missing."""
    found = index._read().prefilter.candidates(ASKED, 1000)
    assert found.tolist() == brute_force(index, index._read().snapshot.live)


def test_an_empty_index_has_no_candidates(tmp_path: Path) -> None:
    """A failure means: searching before anything was indexed ends in an error."""
    with open_index(tmp_path / "index") as index:
        assert index.search("anything") == []
        assert index._read().prefilter.candidates(ASKED, 5).tolist() == []


def test_the_file_is_used_and_completed(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    """A failure means: every start builds the whole prefilter again, or takes an old one for complete."""
    index._save_prefilter()
    (first,) = index.paths.prefilter.iterdir()
    fresh = index._read().prefilter.candidates(ASKED, 1000).tolist()
    add_words(index, "arrived later")
    index.refresh()
    snapshot = index._read().snapshot
    prefilter = FlatPrefilter(snapshot)
    assert set(prefilter.candidates(ASKED, 1000).tolist()) == {*fresh, len(snapshot.page_ids) - 1}
    assert list(index.paths.prefilter.iterdir()) == [first], "readers do not write"
    index._save_prefilter()
    assert [path.name for path in index.paths.prefilter.iterdir()] == [f"{snapshot.commit:08d}.faiss"]
    assert caplog.messages == []


def test_a_damaged_file_is_named_and_done_without(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    """A failure means: a damaged convenience file stops the search, or is used."""
    fresh = index._read().prefilter.candidates(ASKED, 1000).tolist()
    index._save_prefilter()
    (path,) = index.paths.prefilter.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    index.refresh()
    assert index._read().prefilter.candidates(ASKED, 1000).tolist() == fresh
    assert path.name in caplog.text
    assert "rebuilt" in caplog.text
