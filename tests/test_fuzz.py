"""Whatever people type and whatever a disk gives back: an answer or an error of ours, never one of another library."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from planted import open_index
from test_survival_lock import add_words

from docsearch.errors import FilterError, IndexDamaged
from docsearch.index import Index
from docsearch.retriever.filters import MOST_CHARACTERS, compile_where
from docsearch.store.codec import get_codec
from docsearch.store.segment import Segment, write_segment
from docsearch.store.terms import index_text, query_terms
from docsearch.types import PageVectors

ANY_TEXT = st.text(st.characters(), max_size=60)  # with controls, surrogates, astral characters
NAMES = st.sampled_from(["year", "team", "draft", "path", "title", "page", "page_label", "indexed_at", "été", "x" * 90])
VALUES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=8), st.integers(-(2**70), 2**70)
)
LENIENT = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with open_index(tmp_path_factory.mktemp("fuzz") / "index") as opened:
        add_words(opened, "alpha beta", "gamma A-1312/B")
        opened.set_metadata("gamma A-1312/B-doc.pdf", {"year": 2022, "team": "ops", "draft": False, "été": "chaud"})
        yield opened


@LENIENT
@given(text=st.one_of(ANY_TEXT, st.text('"*():^-+{}\\\0ANDORNT ', max_size=40)))
@example(text="half \ud800")
@example(text='a\0b "')
def test_any_text_is_a_query(index: Index, text: str) -> None:
    """A failure means: a quote, a star or half an emoji in the search box ends in an error page."""
    for term in query_terms(text):
        assert term.startswith('"')
        assert term.endswith('"')
        assert '"' not in term[1:-1]
    if text.strip():
        assert len(index.search(text, mode="text")) <= 2
    assert isinstance(index_text(text), str)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    """Filters that are mostly well formed."""
    if depth == 0 or draw(st.booleans()):
        name, value = draw(NAMES), draw(VALUES)
        operator = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "and", "+"]))
        forms = [
            f"{name} {operator} {value!r}",
            f"{value!r} {operator} {name}",
            name,
            f"{name} {operator} ({value!r}, 1, 'a')",
            f"1 < {name} < {value!r}",
        ]
        return draw(st.sampled_from(forms))
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    return draw(st.sampled_from([f"({left}) and ({right})", f"{left} or {right}", f"not ({left})", f"not {left}"]))


@LENIENT
@given(expression=st.one_of(expressions(), ANY_TEXT, st.text("()[]'\"=<>!andortin 01.,-", max_size=40)))
def test_any_filter_selects_or_is_refused(index: Index, expression: str) -> None:
    """A failure means: a filter somebody typed ends in an error of SQLite or Python, or reaches SQL as code."""
    with contextlib.suppress(FilterError):
        sql, bound = compile_where(expression)
        assert sql.count("?") == len(bound)
        assert len(index.documents(where=expression)) <= 2 if expression else True


@pytest.mark.parametrize(
    "expression",
    [
        " and ".join(["year"] * 800)[:MOST_CHARACTERS].rsplit(" and", 1)[0],
        " or ".join(["a"] * 800),
        "not " * 900 + "a",
        "(" * 90 + "a" + ")" * 90,
        "year in (" + "1," * 1900 + ")",
        "1 < " + "a < " * 900 + "2",
        "not (" * 150 + "a" + ")" * 150,
        "a" * 4000 + " == 1",
        "x" * 5000,
        "year == " + "9" * 4000,
        "team == '" + "\\ud800" + "'",
        "team == 'a\\0b'",
    ],
)
def test_long_and_deep_filters_are_answered_or_refused(index: Index, expression: str) -> None:
    """A failure means: a list of two thousand ids in a filter ends in SQLite's own words."""
    with contextlib.suppress(FilterError):
        index.search("alpha", where=expression)


def test_a_long_list_is_answered(index: Index) -> None:
    """A failure means: a filter as programs write them, `id in (…)`, is refused for its length."""
    years = ",".join(str(year) for year in range(1700, 2400))
    assert len(index.search("alpha gamma", where=f"year in ({years})")) == 1


@LENIENT
@given(pattern=st.one_of(ANY_TEXT, st.text("*?[]^-\\/ab", max_size=30)))
@example(pattern="half \ud800")
@example(pattern="a\0b")
def test_any_glob_is_a_path_filter(index: Index, pattern: str) -> None:
    """A failure means: an unbalanced bracket in --path ends in an error of SQLite."""
    with contextlib.suppress(FilterError):
        assert len(index.search("alpha", path=pattern or None)) <= 2


def test_the_worst_glob_is_refused_or_answered(index: Index) -> None:
    """A failure means: a pattern of a megabyte ends in SQLite's own words."""
    with contextlib.suppress(FilterError):
        index.search("alpha", path="*" * 60_000)


@pytest.fixture(scope="module")
def segment_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segment") / "00000001.seg"
    random = np.random.default_rng(0)
    pages = []
    for page_id, length in enumerate([3, 0, 5]):
        tokens = random.standard_normal((length, 8)).astype(np.float32)
        pages.append((page_id, PageVectors(tokens, np.ones(4, np.float32) / 2, np.zeros((length, 4), np.uint16))))
    write_segment(path, 1, pages, get_codec("int8"))
    return path


@settings(LENIENT, max_examples=400)
@given(data=st.data())
def test_a_segment_is_sound_or_damaged(segment_file: Path, data: st.DataObject) -> None:
    """A failure means: a damaged segment crashes the reader, or reads as something else than what was written."""
    sound = segment_file.read_bytes()
    harmed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(sound) - 1))
        harmed[at] ^= data.draw(st.integers(1, 255))
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(sound)), st.integers(0, len(sound)))))
    harmed = data.draw(
        st.sampled_from([harmed, harmed[:start], harmed[:start] + harmed[end:], harmed + harmed[start:]])
    )
    check_reads_as(segment_file, bytes(harmed), sound)


@LENIENT
@given(garbage=st.binary(max_size=300))
def test_garbage_is_no_segment(segment_file: Path, garbage: bytes) -> None:
    """A failure means: a file of anything else is read as vectors."""
    sound = segment_file.read_bytes()
    check_reads_as(segment_file, garbage, sound)
    check_reads_as(segment_file, sound[:12] + garbage, sound)


def check_reads_as(segment_file: Path, content: bytes, sound: bytes) -> None:
    path = segment_file.with_name("harmed.seg")
    path.write_bytes(content)
    codec = get_codec("int8")
    want = Segment(segment_file, 1, codec, token_dim=8, dense_dim=4)
    try:
        have = Segment(path, 1, codec, token_dim=8, dense_dim=4)
        have.verify()
    except IndexDamaged:
        return
    for name in ("page_ids", "offsets", "scales", "dense", "boxes", "starts", "blocks"):
        assert np.array_equal(getattr(have, name), getattr(want, name)), name


def test_sqlite_is_as_this_file_assumes() -> None:
    """A failure means: the tests above ask an SQLite without the limits they are about."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH) == 1000
