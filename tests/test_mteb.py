"""docsearch under mteb: the encoder alone and the whole pipeline, on toy tasks made in memory of sample documents."""

from __future__ import annotations

import csv
import json
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image

from docsearch.encoders import load_encoder
from docsearch.errors import ModelUnavailable, UnsupportedInput
from docsearch.evaluation.judged import read_judged
from docsearch.evaluation.metrics import intervals, parse_measures, per_query
from docsearch.evaluation.mteb import DataUnavailable, evaluate_task
from docsearch.evaluation.trec import read_run
from docsearch.options import IndexOptions, SearchOptions
from docsearch.testing import FakeEncoder
from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what mteb imports
    import datasets
    import mteb
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    from docsearch.evaluation.mteb_models import ExactMaxSim, WholePipeline

SAMPLES = Path(__file__).parents[1] / "sample_docs"
TINY = Path(__file__).parent / "data" / "tiny_jina_v4"
EXACT = SearchOptions(mode="visual", exact=True)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    """A failure means that an evaluation asks the outside world for something."""
    asked = []

    def refuse(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise OSError(f"a test asks for {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert asked == []


# -- toy tasks ----------------------------------------------------------------------------------------------------


def toy_task(
    corpus: dict[str, dict[str, Any]],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    *,
    category: str = "t2i",
    subsets: Sequence[str] = ("default",),
    name: str = "ToyPages",
    top_ranked: dict[str, list[str]] | None = None,
) -> Any:
    """A retrieval task that is loaded already; every subset has the same pages and queries."""
    columns = sorted({column for row in corpus.values() for column in row})
    rows = {"id": list(corpus)} | {column: [row[column] for row in corpus.values()] for column in columns}

    class Toy(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name=name, description="a toy", reference=None, dataset={"path": "nowhere/toy", "revision": "1"},
            type="Retrieval" if category == "t2t" else "DocumentUnderstanding", category=category,
            modalities=["text"] if category == "t2t" else ["text", "image"], eval_splits=["test"],
            eval_langs=["eng-Latn"] if tuple(subsets) == ("default",) else {one: ["eng-Latn"] for one in subsets},
            main_score="ndcg_at_5", date=("2025-01-01", "2025-01-02"), domains=["Written"], task_subtypes=[],
            license="apache-2.0", annotations_creators="derived", dialect=[], sample_creation="created",
            bibtex_citation="",
        )  # fmt: skip

    task = Toy()
    task.dataset = {
        subset: {
            "test": {
                "corpus": datasets.Dataset.from_dict(rows),
                "queries": datasets.Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
                "relevant_docs": {query: dict(pages) for query, pages in qrels.items()},
                "top_ranked": top_ranked,
            }
        }
        for subset in subsets
    }
    task.data_loaded = True
    return task


def picture(name: str, number: int, *, part: tuple[float, float] = (0, 1), dpi: int = 72) -> Image.Image:
    """A page of a sample document, or what lies between two heights of it."""
    with pymupdf.open(SAMPLES / name) as document:
        pixels = document[number - 1].get_pixmap(dpi=dpi)
    image = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)
    return image.crop((0, round(part[0] * image.height), image.width, round(part[1] * image.height)))


def scanned_task() -> Any:
    """Parts of two sample pages as images, and what the sample documents' own queries ask of them."""
    corpus = {
        "invoice": {"image": picture("invoice.pdf", 1, part=(0.18, 0.3), dpi=100)},
        "claim": {"image": picture("insurance-claim.pdf", 1, part=(0.12, 0.2), dpi=100)},
    }
    queries = {"number": "BW-2025-08817", "policy": "HM-5520-31874-B"}
    return toy_task(corpus, queries, {"number": {"invoice": 2}, "policy": {"claim": 2}})


def sample_text_task() -> Any:
    """The text of some sample pages, and the queries that they answer."""
    corpus = {}
    for name in ("annual-report.pdf", "mietvertrag.pdf"):
        with pymupdf.open(SAMPLES / name) as document:
            corpus |= {f"{name}#{n}": {"text": page.get_text(), "title": ""} for n, page in enumerate(document, 1)}
    with (SAMPLES / "qrels.tsv").open(encoding="utf-8") as file:
        judged = [row for row in csv.DictReader(file, delimiter="\t") if row["corpus-id"] in corpus]
    texts = {query["_id"]: query["text"] for query in lines_of(SAMPLES / "queries.jsonl")}
    qrels: dict[str, dict[str, int]] = {}
    for row in judged:
        if texts[row["query-id"]]:
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return toy_task(corpus, {query: texts[query] for query in qrels}, qrels, category="t2t")


def planted_texts(n: int = 6) -> dict[str, dict[str, Any]]:
    return {f"page {at}": {"text": f"only{at} valve pressure harbour", "title": ""} for at in range(n)}


def planted_task(**more: Any) -> Any:
    queries = {f"q{at}": f"only{at} harbour" for at in range(3)}
    return toy_task(planted_texts(), queries, {f"q{at}": {f"page {at}": 1} for at in range(3)}, category="t2t", **more)


class Counting(FakeEncoder):
    """Counts the pages it is given."""

    def __init__(self) -> None:
        self.pages = 0

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        self.pages += len(pages)
        return super().encode_pages(pages)


class Remembering:
    """An encoder that remembers the pages it has seen, so that two ways cost one encoding."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._pages = encoder, dict[str, PageVectors]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        for page in pages:
            key = page.words.text
            self._pages[key] = self._pages.get(key) or self._encoder.encode_pages([page])[0]
        return [self._pages[page.words.text] for page in pages]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        return self._encoder.encode_queries(queries)


@pytest.fixture(scope="module")
def words() -> Any:
    return Remembering(load_encoder("words"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def flagship() -> Any:
    return load_encoder(f"jina-v4:{TINY}", device="cpu", max_pixels=50_176)


def found(folder: Path) -> dict[str, dict[str, float]]:
    return read_run(folder / "run.trec")


def scores_of(folder: Path) -> dict[str, Any]:
    """mteb's own scores, by subset."""
    (path,) = folder.glob("mteb/results/*/*/Toy*.json")
    return {scores["hf_subset"]: scores for scores in json.loads(path.read_text())["scores"]["test"]}


def assert_same_order(exact: dict[str, dict[str, float]], stored: dict[str, dict[str, float]], bound: float) -> None:
    """Way 2 gives means over the query's tokens, way 1 sums: one factor a query."""
    assert exact.keys() == stored.keys()
    for query, sums in exact.items():
        means = stored[query]
        factor = next(iter(sums.values())) / means[next(iter(sums))]
        assert set(means) == set(sums)
        assert max(abs(sums[page] / factor - means[page]) for page in sums) < bound
        for better, worse in zip(list(sums), list(sums)[1:], strict=False):
            clear = (sums[better] - sums[worse]) / factor > 2 * bound
            assert not clear or means[better] > means[worse]


# -- what has to hold ---------------------------------------------------------------------------------------------


def test_page_images_are_read_and_found_both_ways(words: Any, tmp_path: Path):
    """A failure means: a benchmark of page images measures something else than what indexing makes of them."""
    ways = {
        "exact": evaluate_task(scanned_task(), encoder=words, out=tmp_path / "exact", way="exact"),
        "stored": evaluate_task(scanned_task(), encoder=words, out=tmp_path / "stored", codec="float16", search=EXACT),
    }

    exact, stored = found(ways["exact"]), found(ways["stored"])
    assert {query: next(iter(pages)) for query, pages in exact.items()} == {"number": "invoice", "policy": "claim"}
    assert_same_order(exact, stored, 1e-3)
    assert {scores_of(folder)["default"]["main_score"] for folder in ways.values()} == {1.0}


def test_texts_are_found_both_ways_and_measured_as_by_others(words: Any, tmp_path: Path):
    """A failure means: the two ways disagree by more than the codec, or mteb's figures are not those of its own run."""
    task = sample_text_task()
    exact = evaluate_task(task, encoder=words, out=tmp_path / "exact", way="exact")
    stored = evaluate_task(task, encoder=words, out=tmp_path / "stored", codec="float16", search=EXACT)
    hybrid = evaluate_task(task, encoder=words, out=tmp_path / "hybrid")

    assert_same_order(found(exact), found(stored), 1e-3)
    for folder in (exact, stored, hybrid):
        judged = read_judged(folder / "qrels.trec", queries=folder / "queries.jsonl")
        theirs = scores_of(folder)["default"]
        names = {"nDCG@10": "ndcg_at_10", "nDCG@5": "ndcg_at_5", "R@5": "recall_at_5", "AP@10": "map_at_10"}
        ours = intervals(per_query(judged.qrels, found(folder), parse_measures(names)))
        for name, measure in ours.items():
            assert measure.value == pytest.approx(theirs[names[name]], abs=1e-5)  # mteb rounds to five places
        assert {query.about["language"] for query in judged.answerable} == {"eng-Latn"}
        assert theirs["ndcg_at_10"] > 0.75


def test_text_beside_an_image_is_what_is_written_on_it(flagship: Any, tmp_path: Path):
    """A failure means: an encoder that looks at pages is given no pixels, or the words are lost to BM25."""
    pages = [picture("quarterly-review.pdf", n, dpi=36) for n in (3, 4, 5)]
    corpus = {f"p{at}": {"image": page, "text": f"only{at} bicycles"} for at, page in enumerate(pages)}
    queries = {f"q{at}": f"only{at}" for at in range(3)}
    task = toy_task(corpus, queries, {f"q{at}": {f"p{at}": 1} for at in range(3)}, category="t2it")

    exact = evaluate_task(task, encoder=flagship, out=tmp_path / "exact", way="exact")
    bm25 = evaluate_task(task, encoder=flagship, out=tmp_path / "text", search=SearchOptions(mode="text"))

    assert {len(ranking) for ranking in found(exact).values()} == {3}
    assert {query: list(ranking) for query, ranking in found(bm25).items()} == {f"q{at}": [f"p{at}"] for at in range(3)}


def test_page_images_are_looked_at_by_the_flagships_code(flagship: Any, tmp_path: Path):
    """A failure means: the two ways show the encoder other pixels."""
    corpus = {f"p{n}": {"image": picture("annual-report.pdf", n, dpi=50)} for n in (3, 4, 5)}
    corpus |= {"again": corpus["p4"]}
    task = toy_task(corpus, {"q": "net debt", "r": "foundry"}, {"q": {"p4": 2}, "r": {"p3": 2}})

    exact = evaluate_task(task, encoder=flagship, out=tmp_path / "exact", way="exact")
    stored = evaluate_task(
        task, encoder=flagship, out=tmp_path / "stored", codec="float16", search=EXACT, reading=IndexOptions(ocr="off")
    )

    assert_same_order(found(exact), found(stored), 1e-3)
    for ranking in (*found(exact).values(), *found(stored).values()):
        assert ranking["again"] == ranking["p4"]  # two ids of one page


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path):
    """A failure means: hours on a GPU are spent again, or old figures stand for new settings."""
    encoder = Counting()
    task = planted_task(subsets=("english", "german"))
    folder = evaluate_task(task, encoder=encoder, out=tmp_path)
    first = (folder / "run.trec").read_text()
    (path,) = folder.glob("mteb/results/*/*/ToyPages.json")
    record = json.loads(path.read_text())
    record["scores"]["test"] = record["scores"]["test"][:1]
    path.write_text(json.dumps(record))

    for expected in (12, 12):  # the lost subset once, then nothing
        evaluate_task(task, encoder=encoder, out=tmp_path)
        assert encoder.pages == expected
        assert (folder / "run.trec").read_text() == first
    assert set(found(folder)) == {f"{subset}:q{at}" for subset in ("english", "german") for at in range(3)}
    evaluate_task(task, encoder=encoder, out=tmp_path, codec="int8")
    assert encoder.pages == 18


@pytest.mark.parametrize("make", [ExactMaxSim, WholePipeline])
def test_pages_of_several_languages_are_encoded_once(make: Any):
    """A failure means: a benchmark in six languages costs six times what it should."""
    encoder = Counting()
    model = make(encoder)

    results = mteb.evaluate(
        model, planted_task(subsets=("a", "b", "c")), cache=None, co2_tracker=False, show_progress_bar=False
    )

    assert encoder.pages == 6
    assert [scores["ndcg_at_5"] for scores in results.task_results[0].scores["test"]] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("category", ["t2t", "t2i"])
def test_a_subset_has_its_own_pages_only(category: str, flagship: Any):
    """A failure means: pages of the subset before are found, or those that stay are lost."""
    task = (
        planted_task() if category == "t2t" else toy_task({"x": {"image": Image.new("RGB", (60, 60))}}, {"q": "x"}, {})
    )
    about = {
        "task_metadata": task.metadata,
        "hf_split": "test",
        "hf_subset": "x",
        "encode_kwargs": {},
        "num_proc": None,
    }
    pages: dict[str, dict[str, Any]] = planted_texts()
    if category == "t2i":
        pages = {name: {"image": Image.new("RGB", (60, 80 + at))} for at, name in enumerate(pages)}
    model = WholePipeline(
        FakeEncoder() if category == "t2t" else flagship,
        search=SearchOptions(exact=True), reading=IndexOptions(ocr="off"),
    )  # fmt: skip
    for names in (["page 0", "page 1", "page 2"], ["page 2", "page 3"]):
        rows = {column: [pages[name][column] for name in names] for column in pages["page 0"]}
        model.index(datasets.Dataset.from_dict({"id": names} | rows), **about)
        asked = datasets.Dataset.from_dict({"id": ["q"], "text": ["only2 harbour"]})
        answer = model.search(asked, top_k=1000, **about)["q"]

        assert set(answer) == set(names)
        assert category == "t2i" or next(iter(answer)) == "page 2"
    model.close()


@pytest.mark.parametrize("make", [ExactMaxSim, WholePipeline])
def test_only_given_candidates_are_ranked(make: Any):
    """A failure means: a reranking task is answered with pages it did not ask about."""
    given = {f"q{at}": [f"page {at}", "page 5", "page 4"] for at in range(3)}
    task = planted_task(top_ranked=given)
    data = task.dataset["default"]["test"]
    model = make(FakeEncoder())
    about = {
        "task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default",
        "encode_kwargs": {"batch_size": 2}, "num_proc": None,
    }  # fmt: skip

    model.index(data["corpus"], **about)
    answers = model.search(data["queries"], top_k=2, top_ranked=given, **about)

    for query, pages in given.items():
        assert len(answers[query]) == 2
        assert set(answers[query]) < set(pages)
        assert max(answers[query], key=answers[query].__getitem__) == pages[0]


def test_a_page_with_nothing_on_it_is_last():
    """A failure means: an empty page stops a benchmark, or beats one that says something else."""
    model = ExactMaxSim(FakeEncoder())
    query, page = np.eye(32, dtype=np.float32)[:2], -np.eye(32, dtype=np.float32)[:1]

    scores = model.similarity([query], [page, np.zeros((0, 32), np.float32), page[:, ::-1].copy()])

    assert scores.tolist() == [[-1.0, -2.0, 0.0]]  # -1: the second token's best is 0


def test_texts_cannot_be_looked_at(flagship: Any, tmp_path: Path):
    """A failure means: a benchmark of texts runs for hours with an encoder that sees nothing."""
    for way in ("exact", "pipeline"):
        with pytest.raises(UnsupportedInput, match="takes pages as images"):
            evaluate_task(planted_task(), encoder=flagship, out=tmp_path / way, way=way)


def test_missing_data_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means: who has no hub is shown a traceback, and no way on."""
    task = planted_task()
    task.data_loaded = False

    def unreachable() -> None:
        raise ConnectionError("Couldn't reach 'nowhere/toy' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(task, "load_data", unreachable)
    with pytest.raises(DataUnavailable, match=r"nowhere/toy on the Hugging Face hub: .*Offline.*set HF_HOME"):
        evaluate_task(task, encoder=FakeEncoder(), out=tmp_path)


def test_data_that_is_there_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means: tasks that load whatever is asked of them, as those of ViDoRe v1, ask the hub each time."""
    task = planted_task()
    monkeypatch.setattr(task, "load_data", lambda **_: pytest.fail("loaded again"))

    assert len(found(evaluate_task(task, encoder=FakeEncoder(), out=tmp_path))) == 3


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means: a misspelt task, or a missing package, ends in a traceback."""
    with pytest.raises(ValueError, match="no task 'Nowhere'"):
        evaluate_task("Nowhere", encoder=FakeEncoder(), out=tmp_path)
    with pytest.raises(ValueError, match=r"ViDoRe\(v2\) is a benchmark of several tasks.*Vidore2ESGReportsRetrieval"):
        evaluate_task("ViDoRe(v2)", encoder=FakeEncoder(), out=tmp_path)
    with pytest.raises(ValueError, match="choose one of exact, pipeline"):
        evaluate_task("ViDoRe(v2)", encoder=FakeEncoder(), out=tmp_path, way="http")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(ModelUnavailable, match=r'pip install "docsearch-engine\[mteb\]"'):
        evaluate_task("ViDoRe(v2)", encoder=FakeEncoder(), out=tmp_path)
