"""An index is asked as its users ask it: which pages are meant, which count, and what each choice costs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import open_index, page_text, unique_word, write_pdf, write_planted

from docsearch.errors import UnsupportedInput
from docsearch.evaluation import mteb as mteb_module
from docsearch.evaluation import plot
from docsearch.evaluation.ablate import Row, Setting, ablate, read_grid, record, settings
from docsearch.evaluation.diff import compare
from docsearch.evaluation.evaluate import evaluate_index, evaluate_mteb, evaluate_run
from docsearch.evaluation.judged import Judged, JudgedQuery
from docsearch.evaluation.metrics import Interval, parse_measures
from docsearch.evaluation.pages import PageNames
from docsearch.evaluation.recode import EncodedOnce, copy_index, vectors_of
from docsearch.evaluation.trec import in_trec_order, write_qrels, write_run
from docsearch.index import Index
from docsearch.options import SearchOptions
from docsearch.testing import FakeEncoder
from docsearch.types import PageRef, PageVectors, PatchGrid, RenderedPage

OPTIONS = SearchOptions(k=100, n_candidates=200)
PLAN = {"old/lease": 3, "old/plan": 2, "new/lease": 4}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Nine pages with a word of their own each, in three files, and a copy of one of the files."""
    folder = tmp_path_factory.mktemp("eval")
    for name, n_pages in PLAN.items():
        write_planted(folder / "docs", name, n_pages)
    shutil.copy(folder / "docs" / "old" / "plan.pdf", folder / "docs" / "plan copy.pdf")
    with open_index(folder / ".docsearch", codec="r4") as opened:
        opened.add(folder / "docs")
        opened.set_metadata("docs/new/lease.pdf", {"year": 2024})
        yield opened


def word(name: str, number: int) -> str:
    return unique_word(name, number)


def judged(qrels: dict[str, dict[str, int]], texts: dict[str, str], **others) -> Judged:
    queries = [JudgedQuery(id=query, text=text) for query, text in texts.items()]
    return Judged(**{"name": "planted", "kind": "beir", "queries": queries, "qrels": qrels} | others)


# -- which page is meant ------------------------------------------------------------------------------------------


def test_pages_are_found_by_path_by_place_and_by_the_end_of_a_path(index, monkeypatch):
    """A failure means: judgements count for the wrong page, or for none although the page is there."""
    folder = index.paths.folder.parent
    monkeypatch.chdir(folder / "docs" / "old")
    written = {
        "docs/new/lease.pdf#4": "docs/new/lease.pdf#4",  # as the index has it
        "lease.pdf#1": "docs/old/lease.pdf#1",  # as typed in this folder, though there are two of the name
        "new/lease.pdf#2": "docs/new/lease.pdf#2",  # the only path that ends so
        f"{folder}/docs/new/lease.pdf#1": "docs/new/lease.pdf#1",  # the whole path
        "/mnt/share/docs/old/lease.pdf#3": "docs/old/lease.pdf#3",  # the path of the index is the end of it
        "plan.pdf#2": "docs/old/plan.pdf#2",
    }
    matched = PageNames(index).match(judged({"q": dict.fromkeys(written, 1)}, {"q": "x"}))

    assert set(matched.judged.qrels["q"]) == set(written.values())
    assert (matched.missing, matched.n_judged) == ((), len(written))


def test_what_is_not_there_or_not_clear_is_listed_and_stays_in_the_ideal(index):
    """A failure means: an index that lacks pages looks as good as one that holds them."""
    written = {"docs/new/lease.pdf#4": 1, "lease.pdf#1": 1, "docs/new/lease.pdf#5": 1, "gone.pdf#1": 1, "no page": 1}
    matched = PageNames(index).match(judged({"q": written}, {"q": word("new/lease", 4)}))
    found = evaluate_index(index, matched, OPTIONS, names=PageNames(index))

    assert matched.missing == (
        "lease.pdf#1 (several files have that name)", "docs/new/lease.pdf#5", "gone.pdf#1", "no page",
    )  # fmt: skip
    assert matched.judged.qrels["q"] == written
    assert found.result.summary["metrics"]["R@10"]["value"] == 1 / 5
    assert found.result.summary["data"]["pages_not_in_index"] == list(matched.missing)
    assert found.result.summary["data"]["n_pages_not_in_index"] == 4


def test_a_judgement_on_any_copy_of_a_file_counts(index):
    """A failure means: a page that is found is called not found, for it has another file's name."""
    qrels = {"a": {"docs/plan copy.pdf#1": 2, "docs/old/plan.pdf#1": 1}, "b": {"plan copy.pdf#2": 1}}
    texts = {"a": word("old/plan", 1), "b": word("old/plan", 2)}
    matched = PageNames(index).match(judged(qrels, texts))
    found = evaluate_index(index, matched, OPTIONS, names=PageNames(index))

    assert matched.judged.qrels == {"a": {"docs/old/plan.pdf#1": 2}, "b": {"docs/old/plan.pdf#2": 1}}
    assert matched.missing == ()
    assert found.result.summary["metrics"]["R@1"]["value"] == 1.0


def test_pages_outside_the_collection_and_excluded_documents_do_not_count(index):
    """A failure means: a page that nobody judged, or a translation, pushes the judged ones down."""
    text = f"{word('old/lease', 1)} {word('old/plan', 1)} {word('new/lease', 1)}"
    names = PageNames(index)
    query = JudgedQuery(id="q", text=text, exclude=("plan.pdf",))
    asked = judged(
        {"q": {"docs/new/lease.pdf#1": 1}},
        {},
        queries=[query],
        collection=frozenset({"new/lease.pdf#1", "old/plan.pdf#1", "new/lease.pdf#2"}),
    )
    found = evaluate_index(index, names.match(asked), replace(OPTIONS, k=2), names=names)

    assert list(found.answers["q"].ranking) == ["docs/new/lease.pdf#1", "docs/new/lease.pdf#2"]
    assert found.result.queries[0].first_relevant_rank == 1
    data = found.result.summary["data"]
    assert (data["collection_pages"], data["collection_pages_in_index"]) == (3, 3)


# -- asking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "visual", "text", "hybrid"])
def test_the_ranking_is_that_of_a_search(index, mode):
    """A failure means: what is evaluated is not what users get."""
    text = page_text("new/lease", 2)
    names = PageNames(index)
    matched = names.match(judged({"q": {"docs/new/lease.pdf#2": 1}}, {"q": text}))
    found = evaluate_index(index, matched, replace(OPTIONS, mode=mode), names=names)
    hits = index.search(text, k=100, n_candidates=200, mode=mode)
    shown = in_trec_order({f"{index.paths.source_name(Path(hit.path))}#{hit.page_number}": hit.score for hit in hits})

    assert found.answers["q"].ranking == shown
    assert found.answers["q"].search_ms > 0
    assert found.result.summary["latency_ms"]["search"]["p50"] == found.answers["q"].search_ms
    assert found.result.summary["index"]["pages"] == 9
    ranked = index.rank(text, k=1, mode=mode)
    assert ranked[0].page_id == PageRef(index.documents()[0]["doc_id"], 2).page_id


def test_every_page_scored_beside_it_says_what_the_prefilter_misses(index, monkeypatch):
    """A failure means: the cost of the index is no number, or a wrong one."""
    names = PageNames(index)
    texts = {"near": word("old/lease", 1), "far": word("new/lease", 1)}
    matched = names.match(judged({"near": {"docs/old/lease.pdf#1": 1}, "far": {"docs/new/lease.pdf#1": 1}}, texts))
    rank = Index.rank

    def forgetful(self, query, vectors=None, **options):
        """An index whose prefilter misses the document that `far` asks for."""
        found = rank(self, query, vectors, **options)
        return found if options["exact"] or query.text != texts["far"] else found[1:]

    monkeypatch.setattr(Index, "rank", forgetful)
    found = evaluate_index(index, matched, replace(OPTIONS, mode="visual"), names=names, exact=True)

    assert found.result.summary["metrics"]["R@1"]["value"] == 0.5
    assert found.result.summary["exact"]["metrics"]["R@1"]["value"] == 1.0
    assert found.result.summary["prefilter"]["recall_of_exact_top10"] == (1 + 8 / 9) / 2
    assert found.result.summary["options"]["exact"] is True


def test_a_filter_is_passed_on(index):
    """A failure means: options of the search do nothing in an evaluation."""
    names = PageNames(index)
    matched = names.match(judged({"q": {"docs/old/lease.pdf#1": 1}}, {"q": page_text("old/lease", 1)}))
    for options in (replace(OPTIONS, where="year == 2024"), replace(OPTIONS, path="docs/new/*")):
        found = evaluate_index(index, matched, options, names=names)
        assert {page.partition("#")[0] for page in found.answers["q"].ranking} == {"docs/new/lease.pdf"}


def test_a_run_is_scored_without_an_index(tmp_path):
    """A failure means: a run of another program cannot be scored, or is not taken as it is."""
    asked = judged(
        {"q": {"x#1": 1, "x#2": 1}, "p": {"x#1": 1}}, {"q": "", "p": ""}, collection=frozenset({"x#1", "x#2"})
    )
    write_run(tmp_path / "run.trec", {"q": {"y#1": 3.0, "x#2": 2.0}, "unjudged": {"x#1": 1.0}})
    found = evaluate_run(tmp_path / "run.trec", asked)

    assert found.answers["q"].ranking == {"x#2": 2.0}
    assert found.result.summary["metrics"]["R@1"]["value"] == 0.25
    assert found.result.summary["latency_ms"] is None
    for run, said in [
        ({"z": {"x#1": 1.0}}, "no query, z, as"),
        ({"q": {"y#1": 1.0}}, "no page of the collection, y#1"),
    ]:
        write_run(tmp_path / "other.trec", run)
        with pytest.raises(UnsupportedInput, match=said):
            evaluate_run(tmp_path / "other.trec", asked)


def test_a_task_of_mteb_is_scored_from_what_it_leaves(tmp_path, monkeypatch):
    """A failure means: mteb's queries and ours do not meet."""

    def evaluate_task(name, *, encoder, out, way, search=None):
        out.mkdir(parents=True)
        write_qrels(out / "qrels.trec", {"q": {"page one": 1}})
        (out / "queries.jsonl").write_text('{"_id": "q", "text": "who?", "language": "en"}\n')
        write_run(
            out / "run.trec", {"q": {"page two": 2.0, "page one": 1.0} if way == "pipeline" else {"page one": 1.0}}
        )
        return out

    monkeypatch.setattr(mteb_module, "evaluate_task", evaluate_task)
    found = evaluate_mteb("Toy", tmp_path, encoder="words", options=OPTIONS, exact=True)

    assert (found.judged.name, found.judged.kind) == ("Toy", "mteb")
    assert found.result.summary["metrics"]["RR"]["value"] == 0.5
    assert found.result.summary["exact"]["metrics"]["RR"]["value"] == 1.0


# -- two results --------------------------------------------------------------------------------------------------


def runs(folder: Path) -> tuple[Path, Path, Path]:
    """Four queries: B is better for one, worse for one, equal for one; one is in A only."""
    write_qrels(folder / "qrels.trec", {query: {"a#1": 1} for query in ("up", "down", "same", "none")})
    write_run(folder / "a.trec", {"up": {"b#1": 2.0, "a#1": 1.0}, "down": {"a#1": 1.0}, "same": {"a#1": 1.0}})
    write_run(
        folder / "b.trec",
        {"up": {"a#1": 1.0}, "down": {"b#1": 3.0, "c#1": 2.0, "d#1": 1.5, "a#1": 1.0}, "same": {"a#1": 9.0}},
    )
    return folder / "a.trec", folder / "b.trec", folder / "qrels.trec"


def test_two_runs_are_compared_query_by_query(tmp_path):
    """A failure means: the better one is called the worse, or a difference is called sure that is not."""
    a, b, qrels = runs(tmp_path)
    found = compare(a, b, "RR", qrels=qrels)

    assert (found.queries, found.left_out) == (4, 0)
    assert (found.a, found.b) == ((0.5 + 1 + 1) / 4, (1 + 0.25 + 1) / 4)
    assert found.difference.value == pytest.approx((0.5 - 0.75) / 4)
    assert found.difference.low < found.difference.value < found.difference.high
    assert (found.wins, found.losses, found.ties) == (1, 1, 2)
    assert [(moved.id, moved.rank_a, moved.rank_b) for moved in found.moved] == [("down", 1, 4), ("up", 2, 1)]
    assert found.p == 1.0  # each of the two may as well have the other sign: no sum is nearer to 0
    assert found.to_dict(1)["moved"] == [
        {"id": "down", "text": "", "a": 1.0, "b": 0.25, "rank_a": 1, "rank_b": 4},
    ]


def test_two_folders_are_compared_and_other_queries_are_refused(tmp_path):
    """A failure means: results on different queries are compared as if they were on the same."""
    a, b, _ = runs(tmp_path)
    texts = {"up": "u", "down": "d", "same": "s"}
    for name, run, queries in (("A", a, texts), ("B", b, texts | {"none": "n"})):
        asked = judged({query: {"a#1": 1} for query in queries}, queries)
        found = evaluate_run(run, asked)
        (tmp_path / name).mkdir()
        found.write(tmp_path / name)

    with pytest.raises(UnsupportedInput, match="1 queries are in only one of the two"):
        compare(tmp_path / "A", tmp_path / "B", "nDCG@10")
    found = compare(tmp_path / "A", tmp_path / "B", "nDCG@10", common=True)
    assert (found.queries, found.left_out, found.wins, found.losses, found.ties) == (3, 1, 1, 1, 1)
    assert {moved.text for moved in found.moved} == {"u", "d"}
    with pytest.raises(UnsupportedInput, match="it has no P@7 of up"):
        compare(tmp_path / "A", tmp_path / "A", "P@7")
    with pytest.raises(ValueError, match="is no measure"):
        compare(tmp_path / "A", tmp_path / "A", "quality")


# -- an ablation --------------------------------------------------------------------------------------------------


def test_choices_are_read_with_and_without_values():
    """A failure means: something else is varied than was asked for."""
    assert read_grid(["codec=r4,int8", "pooling", "mode=auto"]) == {
        "codec": ["r4", "int8"], "pooling": [1, 2, 3], "mode": ["auto"],
    }  # fmt: skip
    assert read_grid(["mode,candidates"])["candidates"] == [50, 100, 200, 400]
    for wrong in (
        "colour",
        "codec=r5",
        "pooling=4",
        "candidates=0",
        "candidates=x",
        "mode=dense",
        "codec,mode=text",
        "",
    ):
        with pytest.raises(ValueError, match=r"choose|cannot be varied"):
            read_grid([wrong])


def test_every_combination_is_tried_once_and_the_finest_exactly(index):
    """A failure means: a setting is missing from the table, or measured twice under two names."""
    found = settings({"codec": ["r4", "float16"], "mode": ["text", "visual"], "candidates": [100, 50]}, index, OPTIONS)

    def of(codec, **others):
        return Setting(**{"codec": codec, "pooling": 1, "candidates": None, "mode": "visual", "exact": False} | others)

    assert set(found) == {
        of("r4", candidates=100), of("r4", candidates=50),
        of("float16", candidates=100), of("float16", candidates=50),
        of("float16", exact=True), of("float16", mode="text"),
    }  # fmt: skip
    assert len(found) == 6


@pytest.mark.parametrize("codec", ["r4", "float16"])
def test_a_copy_answers_as_the_index_it_is_a_copy_of(index, tmp_path, codec):
    """A failure means: the table compares indexes that hold other pages, words or vectors than the one in use."""
    folder = index.paths.folder.parent
    with open_index(tmp_path / "built" / ".docsearch", codec=codec) as built:
        built.add(folder / "docs")
        asked = [page_text(name, n) for name, n_pages in PLAN.items() for n in range(1, n_pages + 1)] + [
            "tenant report"
        ]
        with copy_index(index, vectors_of(index, tmp_path), tmp_path / codec, codec=codec, pooling=1) as copied:
            for text in asked:
                for mode in ("visual", "text", "hybrid"):
                    ours, theirs = (one.rank(text, mode=mode) for one in (copied, built))
                    assert [(page.page_id, page.score) for page in ours] == [
                        (page.page_id, page.score) for page in theirs
                    ]
            assert copied.documents() == index.documents()
            assert copied.layout.codec == codec
            assert copied.verify() == []
            assert any(copied.paths.prefilter.iterdir())  # it takes the space that an index made by indexing takes
        with copy_index(copied, vectors_of(copied, tmp_path), tmp_path / "again", codec="r4", pooling=1) as again:
            nearest = [abs(one.score - two.score) for one, two in
                       zip(again.rank(asked[0]), index.rank(asked[0]), strict=True)]  # fmt: skip
            assert max(nearest) < 2e-3  # from float16, or from float32: a level here and there


def test_copies_are_kept_and_those_of_other_documents_refused(index, tmp_path):
    """A failure means: everything is encoded again each time, or an old copy passes for the documents of today."""

    class Untouchable:
        def encode_pages(self, pages):
            raise AssertionError("what is there already was made again")

    copy_index(index, vectors_of(index, tmp_path), tmp_path / "kept", codec="r2", pooling=2).close()
    with copy_index(index, Untouchable(), tmp_path / "kept", codec="r2", pooling=2) as kept:
        assert (kept.layout.pooling, len(kept.documents())) == (2, 4)
    with pytest.raises(UnsupportedInput, match="it holds another index than is wanted"):
        copy_index(index, Untouchable(), tmp_path / "kept", codec="r3", pooling=2)
    write_pdf(tmp_path / "other" / "new.pdf", ["a new page"])
    with open_index(tmp_path / "other" / ".docsearch") as other:
        other.add(tmp_path / "other")
        with pytest.raises(UnsupportedInput, match="it holds another index than is wanted"):
            copy_index(other, Untouchable(), tmp_path / "kept", codec="r2", pooling=2)


class SeesPages(FakeEncoder):
    """An encoder that needs the pixels of a page, and cuts it into patches."""

    reads = "image"

    def encode_pages(self, pages):
        assert all(page.image is not None for page in pages)
        made = [self._vectors([str(int(page.image.mean()))] * 4, self.token_dim) for page in pages]
        return [PageVectors(rows, self._dense(["page"]), PatchGrid(2, 2)) for rows in made]


def test_an_encoder_that_looks_at_pages_is_given_them_again(tmp_path):
    """A failure means: codecs cannot be compared for the flagship."""
    write_planted(tmp_path / "docs", "seen", 3)
    with Index.open(tmp_path / ".docsearch", encoder=SeesPages(), create=True, codec="r4") as index:
        index.add(tmp_path / "docs")
        vectors = vectors_of(index, tmp_path)
        with copy_index(index, vectors, tmp_path / "int8", codec="int8", pooling=1) as copied:
            assert copied.stats()["token_vectors"] == 12
            assert len(copied.rank("seen")) == 3
        (tmp_path / "docs" / "seen.pdf").unlink()
        with pytest.raises(UnsupportedInput, match="it has gone, and codecs can be compared only where"):
            vectors_of(index, tmp_path)


def test_vectors_are_kept_to_the_last_bit(tmp_path):
    """A failure means: an index made from kept vectors is rougher than one made at once."""

    class Once(FakeEncoder):
        asked = 0

        def encode_pages(self, pages):
            self.asked += len(pages)
            rng = np.random.default_rng(1)
            tokens = rng.normal(size=(2, self.token_dim)).astype(np.float32)
            return [PageVectors(tokens, rng.normal(size=self.dense_dim).astype(np.float32), PatchGrid(1, 2))] * len(
                pages
            )

    encoder = Once()
    once = EncodedOnce(encoder, tmp_path / "kept")
    pages = [RenderedPage(ref=PageRef("d", number)) for number in (1, 2)]
    first = once.encode_pages(pages)
    second = once.encode_pages(pages[::-1])

    assert encoder.asked == 2
    for kept in (*first, *second):
        expected = encoder.encode_pages(pages)[0]
        assert np.array_equal(kept.tokens, expected.tokens)
        assert np.array_equal(kept.dense, expected.dense)
        assert kept.regions == expected.regions


def test_an_ablation_measures_every_setting(index):
    """A failure means: a row of the table is not the setting that it names."""
    names = PageNames(index)
    texts = {f"q{n}": word("new/lease", n) for n in range(1, 5)} | {"common": "tenant report winter"}
    qrels = {f"q{n}": {f"docs/new/lease.pdf#{n}": 1} for n in range(1, 5)} | {"common": {"docs/old/lease.pdf#1": 1}}
    matched = names.match(judged(qrels, texts))
    grid = read_grid(["codec=r4,float16", "mode=text,visual"])
    made: list[str] = []
    rows = ablate(
        index, matched.judged, grid, OPTIONS, parse_measures(["nDCG@10", "R@1"]), names=names,
        say=lambda name, _: made.append(name),
    )  # fmt: skip
    by_setting = {(row.setting.codec, row.setting.mode, row.setting.exact): row for row in rows}

    assert made == ["float16-1"]
    assert by_setting.keys() == {
        ("r4", "visual", False), ("float16", "visual", False), ("float16", "visual", True), ("float16", "text", False),
    }  # fmt: skip
    assert all(row.metrics["R@1"].value >= 0.8 for row in rows)
    assert by_setting["float16", "visual", False].metrics == by_setting["float16", "visual", True].metrics
    sizes = {key[0]: row.bytes_per_page for key, row in by_setting.items()}
    assert sizes["float16"] != sizes["r4"]
    for mode in ("text", "visual"):
        alone = evaluate_index(index, matched, replace(OPTIONS, mode=mode), names=names, measures=["nDCG@10"])
        codec = "r4" if mode == "visual" else "float16"
        assert by_setting[codec, mode, False].metrics["nDCG@10"].to_dict() == alone.result.summary["metrics"]["nDCG@10"]
    written = json.loads(json.dumps(record(rows, index, matched, OPTIONS)))
    assert len(written["rows"]) == 4
    assert (written["schema"], written["pages"], written["queries"]) == ("docsearch.eval.ablation/1", 9, 5)


def test_a_row_is_optimal_where_no_other_is_better_in_one_thing_and_as_good_in_all(index, monkeypatch):
    """A failure means: the table recommends a setting that another one beats."""
    from docsearch.evaluation import ablate as module

    def row(quality: float, ms: float, size: int) -> Row:
        setting = Setting(codec="r4", pooling=1, candidates=None, mode="visual")
        values = {"nDCG@10": Interval(quality, quality, quality)}
        return Row(setting=setting, metrics=values, search_ms={"p50": ms, "p95": ms}, bytes_per_page=size)

    rows = [
        row(0.9, 9, 100),
        row(0.8, 9, 50),
        row(0.8, 5, 100),
        row(0.8, 9, 100),
        row(0.7, 6, 60),
        row(0.90001, 9, 100),
    ]

    assert [one.optimal for one in module._marked(rows)] == [True, True, True, False, True, True]


def test_the_plot_shows_what_is_varied_and_is_the_same_each_time(index, tmp_path):
    """A failure means: the picture has other names than the table, or changes without a reason."""
    values = {"nDCG@10": Interval(0.5, 0.4, 0.6)}
    rows = [
        Row(setting=Setting(codec=codec, pooling=1, candidates=candidates, mode="auto", exact=candidates is None),
            metrics=values, search_ms={"p50": ms, "p95": ms}, bytes_per_page=size, optimal=True)
        for codec, candidates, ms, size in [("r4", 50, 1.0, 100), ("r4", None, 2.0, 100), ("int8", 50, 3.0, 200)]
    ]  # fmt: skip
    assert plot.told(rows) == ["r4 50", "r4 exact", "int8 50"]
    for name in ("one.svg", "two.svg"):
        plot.plot_ablation(tmp_path / name, rows, "a title")
    text = (tmp_path / "one.svg").read_text()

    assert text == (tmp_path / "two.svg").read_text()
    assert all(word in text for word in ("a title", "r4 exact", "milliseconds to search, median", "kB a page on disk"))
