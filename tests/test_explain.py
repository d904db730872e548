"""Where on the page: the place that was planted is the place that is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pymupdf
import pytest
from planted import open_index

from docsearch.options import IndexOptions
from docsearch.retriever import explain
from docsearch.types import BOX_UNIT, Query, Words

WIDTH, HEIGHT = 400.0, 600.0
PLACE = (250.0, 430.0)  # where the planted words stand, in points
FILLER = "the quick brown fox jumps over lazy dogs while seven wizards make toxic brew"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    with pymupdf.open() as document:
        page = document.new_page(width=WIDTH, height=HEIGHT)
        for line in range(30):
            page.insert_text((30, 40 + 12 * line), f"{FILLER} line{line}", fontsize=6)
        page.insert_text(PLACE, "zirconium threshold", fontsize=9)
        document.new_page(width=WIDTH, height=HEIGHT)
        document.save(folder / "planted.pdf")
    with open_index(folder / ".docsearch") as index:
        index.add(folder, IndexOptions(workers=1, ocr="off"))
    return folder


@pytest.mark.parametrize("mode", ["visual", "text", "hybrid"])
def test_regions_and_snippet_show_the_planted_words(folder: Path, mode: str) -> None:
    """A failure means: the answer is marked where it is not, or the snippet leaves it out."""
    with open_index(folder / ".docsearch") as index:
        hit = index.search("zirconium threshold", mode=mode, k=1)[0]
    left, top, right, bottom = hit.regions[0].box
    assert left <= (PLACE[0] + 5) / WIDTH <= right
    assert top <= (PLACE[1] - 2) / HEIGHT <= bottom
    assert (right - left) * (bottom - top) < 0.05, "a region is a place, not half the page"
    assert "zirconium threshold" in hit.snippet
    assert len(hit.snippet) < 400
    for region in hit.regions:
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 0 < region.score <= 1


def test_the_heat_is_highest_at_the_planted_words(folder: Path) -> None:
    """A failure means: the heat map points somewhere else than the match."""
    with open_index(folder / ".docsearch") as index:
        hit = index.search("zirconium threshold", k=1)[0]
        plain, hot = (np.asarray(picture, float) for picture in (
            index.page_image(hit, dpi=72, highlight=False), index.heatmap(hit, "zirconium threshold", dpi=72)
        ))  # fmt: skip
        snapshot = index._read().snapshot
        row = int(np.flatnonzero(snapshot.live)[0])
        row = row if len(snapshot.tokens(row)) else row + 1
        query = index.encoder.encode_queries([Query("zirconium threshold")])[0]
        relevance = explain.token_relevance(query.tokens, snapshot.tokens(row))
        heat = explain.heat(relevance, snapshot.boxes(row), rows=60, cols=40)
    assert plain.shape == hot.shape
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert PLACE[0] / WIDTH - 0.03 <= x / 40 <= PLACE[0] / WIDTH + 0.25
    assert abs(y / 60 - (PLACE[1] - 3) / HEIGHT) < 0.03
    redness = hot[:, :, 0] - hot[:, :, 2]
    y, x = np.unravel_index(redness.argmax(), redness.shape)
    assert PLACE[0] - 15 <= x <= PLACE[0] + 110
    assert PLACE[1] - 25 <= y <= PLACE[1] + 15


def test_every_word_of_the_query_is_told_where_it_was_found(folder: Path) -> None:
    """A failure means: `docsearch explain` names a word that did not match."""
    with open_index(folder / ".docsearch") as index:
        hit = index.search("zirconium threshold", k=1)[0]
        told = index.explain(hit, "zirconium threshold")
        blank = index.explain(f"{hit.doc_id}#2", "zirconium")
    assert [(label, word) for label, _, word in told] == [("zirconium", "zirconium"), ("threshold", "threshold")]
    assert all(similarity > 0.98 for _, similarity, _ in told)
    assert blank == [("zirconium", 0.0, "")]


def test_a_page_without_words_is_explained_by_nothing(folder: Path) -> None:
    """A failure means: a blank page or a picture without text ends in an error."""
    none = Words.none()
    assert explain.token_relevance(np.ones((2, 4), np.float32), np.empty((0, 4), np.float32)).shape == (0,)
    assert explain.word_relevance(none, np.zeros(0, np.float32), none.boxes).shape == (0,)
    assert explain.snippet(none, np.zeros(0, np.float32)) == ""
    assert explain.regions(np.zeros(0, np.float32), none.boxes) == ()
    assert explain.heat(np.zeros(0, np.float32), none.boxes, rows=3, cols=2).tolist() == [[0, 0]] * 3
    with open_index(folder / ".docsearch") as index:
        name = f"{index.documents()[0]['doc_id']}#2"
        assert index.heatmap(name, "anything", dpi=20).size[0] > 0


@pytest.mark.parametrize(("rows", "reach"), [(1, 24), (5, 1), (60, 24), (49, 24), (200, 3), (7, 0)])
def test_the_sliding_maximum_is_that_of_every_window(rows: int, reach: int) -> None:
    table = np.random.default_rng(rows).random((rows, 3), np.float32)
    expected = [table[max(0, at - reach) : at + reach + 1].max(axis=0) for at in range(rows)]

    assert np.array_equal(explain.sliding_max(table, reach), expected)


def test_a_word_counts_more_where_the_rest_of_the_question_is() -> None:
    """A failure means that the place shown is where a common word stands, not where the question is answered."""
    axes = np.eye(4, dtype=np.float32)
    tokens = np.tile(axes[3], (400, 1))
    tokens[50] = axes[0]  # the first word of the question, alone
    tokens[300], tokens[305], tokens[310] = axes[0], axes[1], axes[2]  # all of them, near each other

    relevance = explain.token_relevance(axes[:3], tokens)

    assert relevance[300] > 10 * relevance[50] > 0
    assert np.flatnonzero(relevance > 0).tolist() == [50, 300, 305, 310]


def test_a_token_without_a_place_marks_nothing() -> None:
    """A failure means: tokens of an image encoder that stand for no patch mark the corner of the page."""
    boxes = np.array([[0, 0, 0, 0], [100, 100, 900, 900]], np.uint16)
    found = explain.regions(np.array([1.0, 0.5], np.float32), boxes)
    assert [region.box for region in found] == [tuple(round(edge / BOX_UNIT, 4) for edge in boxes[1].tolist())]
