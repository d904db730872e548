"""Searching: planted answers, filters, fusion, ties, and the same numbers as brute force in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import open_index, write_planted
from test_survival_lock import add_words, stage_page

from docsearch.errors import FilterError, GpuFull, GpuUnavailable
from docsearch.index import Index
from docsearch.kernels.query import query_levels
from docsearch.options import IndexOptions, SearchOptions
from docsearch.protocols import Codec
from docsearch.retriever import searcher
from docsearch.retriever.fuse import BM25_WEIGHT, fuse, ideal_bm25, telling_terms
from docsearch.store.catalog import Catalog
from docsearch.store.snapshot import Snapshot
from docsearch.store.terms import query_terms
from docsearch.store.writer import IndexWriter
from docsearch.testing import FakeEncoder
from docsearch.types import Hit, Query

VOCABULARY = [f"word{number}" for number in range(60)]
N_PAGES = 400


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """400 pages of random words in several segments, some removed, every document with metadata."""
    random = np.random.default_rng(3)
    with open_index(tmp_path_factory.mktemp("search") / "index") as opened:
        for start in range(0, N_PAGES, 100):
            with IndexWriter(opened.paths, opened.layout) as writer:
                for number in range(start, start + 100):
                    words = random.choice(VOCABULARY, size=random.integers(0, 30)).tolist()
                    stage_page(writer, f"d{number}", 1, " ".join([f"unique{number}", *words]))
                    writer.change(Catalog.merge_metadata, doc_id=f"d{number}", metadata={"n": number})
                writer.commit()
        opened.remove(*[f"d{number}.pdf" for number in range(0, N_PAGES, 10)])
        yield opened


def numbers(hits: list[Hit]) -> list[int]:
    return [hit.metadata["n"] for hit in hits]


def brute_force(index: Index, text: str, mode: str) -> list[tuple[float, int]]:
    """(score, page id) of every live page in double precision, best first: no prefilter, no kernel, no SQL but BM25."""
    snapshot = index._read().snapshot
    query = as_rounded(FakeEncoder().encode_queries([Query(text)])[0].tokens, snapshot.codec)
    terms = query_terms(text)
    bm25 = dict(zip(*(part.tolist() for part in snapshot.catalog.match_text(terms, -1)), strict=True))
    ideal = ideal_bm25(snapshot.catalog.document_frequencies(terms), len(snapshot))
    scores = []
    for row in snapshot.live_rows:
        page_id = int(snapshot.page_ids[row])
        tokens = snapshot.tokens(int(row)).astype(np.float64)
        score = float((tokens @ query.T).max(axis=0).sum()) / len(query)
        share = bm25.get(page_id, 0) / ideal if mode == "hybrid" else 0
        scores.append((score + BM25_WEIGHT * share, page_id))
    return sorted(scores, key=lambda pair: (-pair[0], pair[1]))


def as_rounded(query: NDArray[np.float32], codec: Codec) -> NDArray[np.float64]:
    """The query as the kernels see it: rounded to whole numbers in the codec's coordinates."""
    levels, scales = query_levels(codec.turn(query))
    return codec.turn_back(levels * scales[:, None], query.shape[1]).astype(np.float64)


@pytest.mark.parametrize("mode", ["visual", "hybrid"])
@pytest.mark.parametrize("text", ["word1", "word3 word4 word5 unique77", "nothing of this"])
def test_exact_search_is_brute_force(index: Index, mode: str, text: str) -> None:
    """A failure means: the yardstick for everything else is wrong."""
    truth = brute_force(index, text, mode)
    hits = index.search(text, mode=mode, exact=True, k=1000)
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in truth], abs=1e-5)
    ids = {
        hit.doc_id: page_id
        for hit in hits
        for page_id in index._read().snapshot.catalog.page_numbers(hit.doc_id).values()
    }
    by_id = {page_id: score for score, page_id in truth}
    assert [by_id[ids[hit.doc_id]] for hit in hits] == pytest.approx([hit.score for hit in hits], abs=1e-5)


@pytest.fixture(params=["everything scored", "by sketch", "by dense vector and sketch", "without sketches"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How candidates are found in indexes of different sizes."""
    if request.param != "everything scored":
        monkeypatch.setattr(searcher, "SCORED_ALL", 0)
    if request.param == "by dense vector and sketch":
        monkeypatch.setattr(searcher, "SKETCHED_ALL", 0)
        monkeypatch.setattr(searcher, "SKETCHED", 100)
    if request.param == "without sketches":
        monkeypatch.setattr(Snapshot, "has_sketches", False)
    return str(request.param)


def test_only_the_candidates_are_scored(index: Index, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure means: a query takes time in proportion to the index, or the stages between were left out."""
    asked: list[tuple[str, int]] = []
    for name in ("gather", "gather_sketches"):
        original = getattr(Snapshot, name)
        monkeypatch.setattr(
            Snapshot, name, lambda self, rows, *, o=original, n=name: (asked.append((n, len(rows))), o(self, rows))[1]
        )
    assert len(index.search("unique77", mode="visual", k=5, n_candidates=20)) == 5
    scored = next(count for name, count in asked if name == "gather")
    assert [count for name, count in asked if name == "gather_sketches"] == (
        {"by sketch": [360], "by dense vector and sketch": [100]}.get(way, [])
    )
    assert scored == {"everything scored": 360, "without sketches": 40}.get(way, 20)


def test_the_prefilter_with_room_for_all_is_exact(index: Index, way: str) -> None:
    """A failure means: pages get lost between the prefilter and the rerank."""
    for text in ("word1 word2", "unique5"):
        for mode in ("visual", "hybrid"):
            exact = index.search(text, mode=mode, exact=True, k=50)
            assert index.search(text, mode=mode, k=50, n_candidates=N_PAGES) == exact


@pytest.mark.parametrize("mode", ["visual", "hybrid", "auto"])
def test_every_planted_page_is_found_first(index: Index, mode: str, way: str) -> None:
    """A failure means: a word that stands on one page only does not lead to it."""
    for number in range(1, N_PAGES, 22):
        exact = mode == "visual" and way != "everything scored"  # random vectors have nothing to sketch
        assert numbers(index.search(f"unique{number}", mode=mode, k=1, exact=exact)) == [number]
    assert 10 not in numbers(index.search("unique10", mode=mode, k=360, n_candidates=400)), "it was removed"


@pytest.mark.parametrize("share", [0.0, 0.003, 0.01, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("mode", ["visual", "hybrid"])
def test_filters_leave_k_hits_whenever_there_are_k(index: Index, share: float, mode: str, way: str) -> None:
    """A failure means: a strict filter answers less than there is, because it was applied after the candidates."""
    most = round(share * N_PAGES)
    allowed = [number for number in range(most) if number % 10]
    hits = index.search("word1 word2", mode=mode, where=f"n < {most}", k=20, n_candidates=20)
    assert len(hits) == min(20, len(allowed))
    assert set(numbers(hits)) <= set(allowed)
    exact = index.search("word1 word2", mode=mode, where=f"n < {most}", k=1000, exact=True)
    assert sorted(numbers(exact)) == allowed


def test_ties_are_ordered_by_page_id(tmp_path: Path) -> None:
    """A failure means: equal pages change places from run to run, and so do pages of results."""
    with open_index(tmp_path / "index") as index:
        ids = {}
        for commit in range(3):
            with IndexWriter(index.paths, index.layout) as writer:
                for number in range(7):
                    ids[f"{commit}-{number}"] = stage_page(writer, f"{commit}-{number}", 1, "same words everywhere")
                writer.commit()
        for options in ({"mode": "visual"}, {"mode": "text"}, {"mode": "hybrid", "exact": True}):
            hits = index.search("same words", k=21, **options)
            assert [ids[hit.doc_id] for hit in hits] == sorted(ids.values())
            assert index.search("same words", k=5, **options) == hits[:5]


def test_modes_score_as_they_say(index: Index) -> None:
    """A failure means: `scores` in the answer does not add up to `score`."""
    for hit in index.search("word1 unique7", mode="hybrid", k=5):
        snapshot = index._read().snapshot
        terms = query_terms("word1 unique7")
        ideal = ideal_bm25(snapshot.catalog.document_frequencies(terms), len(snapshot))
        share = hit.scores["bm25"] / ideal
        assert hit.score == pytest.approx(hit.scores["maxsim"] + BM25_WEIGHT * share, abs=1e-9)
        assert hit.raw_score == pytest.approx(2 * hit.scores["maxsim"])
    visual = index.search("word1 unique7", mode="visual", k=5)
    assert all(hit.score == pytest.approx(hit.scores["maxsim"]) for hit in visual)
    text = index.search("unique7", mode="text", k=5)
    assert numbers(text) == [7]
    assert text[0].raw_score == text[0].scores["bm25"] > 0
    assert "maxsim" not in text[0].scores
    assert index.search("absent", mode="text") == []


def test_fusion_adds_a_twentieth_for_all_the_words_and_half_of_that_for_half_of_them() -> None:
    """A failure means: words weigh more or less than documented, or a rare term is worth nothing."""
    ideal = ideal_bm25(np.array([1, 50]), 100)
    idf = np.log((100 - 1 + 0.5) / 1.5) + max(1e-6, np.log((100 - 50 + 0.5) / 50.5))
    assert ideal == pytest.approx(2.2 * idf)
    fused = fuse(np.array([0.5, 0.5, 0.2]), np.array([ideal, ideal / 2, 0]), ideal)
    assert fused.tolist() == pytest.approx([0.55, 0.525, 0.2])
    assert np.isfinite(ideal_bm25(np.array([7, 0]), 3)), "hidden pages count among those with a word"


def test_min_score_and_k_cut_the_list(index: Index) -> None:
    """A failure means: the list is cut at the wrong place, or options that make no sense are taken."""
    hits = index.search("word1 word2", k=50)
    limit = hits[10].score
    assert index.search("word1 word2", k=50, min_score=limit) == [hit for hit in hits if hit.score >= limit]
    assert index.search("word1 word2", k=3) == hits[:3]
    assert [hit.rank for hit in hits] == list(range(1, 51))
    with pytest.raises(ValueError, match="n_candidates"):
        SearchOptions(k=50, n_candidates=20)
    with pytest.raises(ValueError, match="at least one"):
        SearchOptions(k=0)


def test_grouping_keeps_the_best_page_of_each_document(tmp_path: Path) -> None:
    """A failure means: one long document fills the list, or its best page is not the one that is shown."""
    for name in "abc":
        write_planted(tmp_path, name, 6)
    with open_index(tmp_path / ".docsearch") as index:
        index.add(tmp_path, IndexOptions(workers=1, ocr="off"))
        for mode in ("visual", "text", "hybrid"):
            pages = index.search("invoice harbour", mode=mode, k=18)
            best: dict[str, Hit] = {}
            for hit in pages:
                best.setdefault(hit.path, hit)
            grouped = index.search("invoice harbour", mode=mode, k=18, group="doc")
            assert [(hit.path, hit.page_number, hit.score) for hit in grouped] == [
                (hit.path, hit.page_number, hit.score) for hit in best.values()
            ]


DOCUMENTS = {
    "fin": {"year": 2021, "team": "fin", "draft": True, "été": "chaud", "share": 0.5},
    "ops": {"year": 2023, "team": "ops", "draft": False},
    "text": {"year": "2022", "team": "Fin"},
    "none": {"year": None, "team": ""},
    "bare": {},
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("described")
    for name in DOCUMENTS:
        write_planted(folder / "reports" / "2021" if name == "fin" else folder, name, 3 if name == "ops" else 1)
    with open_index(folder / ".docsearch") as index:
        index.add(folder, IndexOptions(workers=1, ocr="off"))
        for file in index.documents():
            index.set_metadata(file["path"], DOCUMENTS[Path(file["path"]).stem])
        yield index


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year >= 2022", "ops"),
        ("year < 2022", "fin"),
        ("year != 2021", "ops"),  # a missing year, and a text, compare as false
        ("2020 < year < 2022", "fin"),
        ("2022 < year", "ops"),
        ('year == "2022"', "text"),
        ('year > "2000"', "text"),
        ("year == None", "none bare"),
        ("year != None", "fin ops text"),
        ("draft", "fin"),
        ("not draft", "ops text none bare"),
        ("draft == True", "fin"),
        ("draft == False", "ops"),
        ("draft == 1", ""),  # a truth value is no number
        ("share == 0.5", "fin"),
        ("share < 1", "fin"),
        ('team == "fin"', "fin"),
        ('team in ("fin", "ops")', "fin ops"),
        ('team in ["fin", 3, True, None]', "fin bare"),
        ("year in (2021, 2023, 9)", "fin ops"),
        ("year in ()", ""),
        ('"in" in team', "fin text"),
        ('"in" not in team', "ops none bare"),
        ('year == 2021 or team == "ops"', "fin ops"),
        ('not (year == 2021 or team == "ops")', "text none bare"),
        ('year and not team == "fin"', "ops text"),
        ("unheard_of", ""),
        ("not unheard_of", "fin ops text none bare"),
        ("page >= 3", "ops"),
        ("page_count == 3", "ops"),
        ('title == "bare"', "bare"),
        ('"reports/" in path', "fin"),
        ('path == "ops.pdf"', "ops"),
        ('path in ("ops.pdf", "bare.pdf")', "ops bare"),
        ('path != "ops.pdf"', "fin text none bare"),
        ('indexed_at > "2020"', "fin ops text none bare"),
        ('été == "chaud"', "fin"),
        ("True", "fin ops text none bare"),
        ("False", ""),
    ],
)
def test_filters_mean_what_they_say(described: Index, where: str, expected: str) -> None:
    """A failure means: a filter lets through what it should not, or keeps back what it should let through."""
    hits = described.search("invoice", where=where, k=50, mode="visual", group="doc")
    assert sorted(Path(hit.path).stem for hit in hits) == sorted(expected.split())


@pytest.mark.parametrize(
    "where",
    ["year =", "year + 1 == 2", "f(x)", "year == team", "x is None", "a[0] == 1", "lambda: 1", "'a' == 'b'", "1",
     "path < 3", "None < year", "'a' in ('b', 'c')", "year == 99999999999999999999", "x := 1", "a if b else c"],
)  # fmt: skip
def test_filters_that_mean_nothing_are_refused(described: Index, where: str) -> None:
    """A failure means: a mistyped filter selects something, or ends in an error nobody understands."""
    with pytest.raises(FilterError, match="cannot read the filter"):
        described.search("invoice", where=where)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.pdf", "fin ops text none bare"), ("ops.pdf", "ops"), ("reports/*", "fin"), ("2021/*.pdf", "fin"),
     ("*/2021/*", "fin"), ("o?s.pdf", "ops"), ("[ot]*.pdf", "ops text"), ("OPS.pdf", ""), ("ops", "")],
)  # fmt: skip
def test_path_globs(described: Index, pattern: str, expected: str) -> None:
    """A failure means: --path shows files outside the folder that was meant, or none in it."""
    hits = described.search("invoice", path=pattern, k=50, mode="visual", group="doc")
    assert sorted(Path(hit.path).stem for hit in hits) == sorted(expected.split())


@pytest.mark.parametrize(
    ("page", "query", "found"),
    [
        ("Pumpe A-1312/B undicht", "A-1312/B", True),
        ("Pumpe A-1312/B undicht", "a-1312/b", True),
        ("Pumpe A-1312/B undicht", "A-1313/B", False),
        ("crème brûlée", "creme brulee", True),
        ("naive façade", "naïve facade", True),
        ("東京都庁の契約書", "契約書", True),
        ("東京都庁の契約書", "京都", True),  # as pairs of characters: more is found, nothing is missed
        ("東京都庁の契約書", "大阪", False),
        ("บริษัทจำกัด", "จำกัด", True),
        ("\uff21\uff22\uff23\uff11\uff12\uff13", "abc123", True),  # full-width letters and digits
        ("file_name.v2.tar.gz", "file_name.v2.tar.gz", True),
        ("C++ and C#", "c++", True),
        ('he said "hello"', '"hello"', True),
        ("100 % AND NOT OR NEAR", "NEAR", True),
        ("price 1,234.50", "1,234.50", True),
    ],
)
def test_words_are_found_as_people_write_them(tmp_path: Path, page: str, query: str, found: bool) -> None:
    """A failure means: a part number, an accent or a language without spaces cannot be searched for."""
    with open_index(tmp_path / "index") as index:
        with IndexWriter(index.paths, index.layout) as writer:
            stage_page(writer, "document", 1, page)
            stage_page(writer, "other", 1, "entirely different content")
            writer.commit()
        hits = index.search(query, mode="text")
        assert [hit.doc_id for hit in hits] == (["document"] if found else [])


def test_words_on_half_of_all_pages_are_not_matched() -> None:
    """A failure means: a common word costs the time of reading every page, or a query of common words finds nothing."""
    pages = np.array([900, 400, 3, 501, 120])
    every = telling_terms(["the", "a", "rare", "of", "word"], pages, 1000, most_pages=None)
    assert every == ["rare", "word", "a"]
    assert telling_terms(["the", "a", "rare", "of", "word"], pages, 1000, most_pages=200) == ["rare", "word"]
    assert telling_terms(["the", "of"], pages[[0, 3]], 1000, most_pages=None) == ["of"]
    assert telling_terms(["the", "of"], pages[[0, 3]], 1000, most_pages=10) == []
    assert telling_terms(["nowhere"], np.array([0]), 0, most_pages=10) == ["nowhere"]


@pytest.mark.parametrize("fits", [True, False])
def test_pages_kept_on_a_device_give_the_exact_answers(
    tmp_path: Path, fits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure means: a search on a GPU finds other pages than one on the CPU, or dies where they do not fit."""
    resident = pytest.importorskip("docsearch.kernels.resident")
    with open_index(tmp_path / "index", codec="float16") as index:  # half floats need no Triton, so any device will do
        add_words(index, *(f"unique{number} word{number % 7} word{number % 3}" for number in range(40)))
        index.remove("unique5 word5 word2-doc.pdf")
    if not fits:
        monkeypatch.setattr(resident, "ResidentPages", lambda *_, **__: (_ for _ in ()).throw(GpuFull("too small")))
        monkeypatch.setattr(searcher, "SCORED_ALL", 0)
    with (
        Index.open(tmp_path / "index", encoder=FakeEncoder()) as plain,
        Index.open(tmp_path / "index", encoder=FakeEncoder(), device="cpu") as held,
    ):
        for mode in ("visual", "hybrid", "text"):
            for text in ("unique7 word1", "unique5", "word2"):
                hits = plain.search(text, mode=mode, k=3)
                wanted = [(hit.doc_id, pytest.approx(hit.score, abs=1e-5)) for hit in hits]
                found = [(hit.doc_id, hit.score) for hit in held.search(text, mode=mode, k=3, n_candidates=39)]
                assert sorted(found)[: len(wanted)] == sorted(wanted, key=lambda pair: pair[0])
    assert ("only finds candidates" in caplog.text) is not fits


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A failure means: asking for a GPU on a machine without one ends in a traceback of torch."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with open_index(tmp_path / "index") as index:
        add_words(index, "alpha")
    with (
        Index.open(tmp_path / "index", encoder=FakeEncoder(), device="cuda") as held,
        pytest.raises(GpuUnavailable, match="on the CPU searching works"),
    ):
        held.search("alpha")
