"""The report: the figures of the results, the misses as pictures, one file that loads nothing and trusts nobody."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import open_index, write_pdf

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.charts import groups_chart, latency_chart, ranks_chart
from docsearch.evaluation.evaluate import evaluate_index
from docsearch.evaluation.judged import read_judged
from docsearch.evaluation.misses import worst
from docsearch.evaluation.pages import PageNames
from docsearch.evaluation.report import write_report
from docsearch.evaluation.results import PER_QUERY, SUMMARY, read_result
from docsearch.index import Index
from docsearch.options import SearchOptions

EVIL_NAME = "<img src=x onerror=alert(1)>.pdf"
EVIL_QUERY = "<script>alert('query')</script> tank"
QUERIES = [
    {"_id": "ferry", "text": "winter ferry timetable", "language": "en"},
    {"_id": "missed", "text": "pump pressure", "language": "en"},
    {"_id": "evil", "text": EVIL_QUERY, "language": "<b onclick=alert(2)>$\\x$"},
]
JUDGED = [("ferry", "ship.pdf#2"), ("missed", "ship.pdf#3"), ("evil", f"{EVIL_NAME}#1")]  # ship.pdf#1 has the pump


class Page(HTMLParser):
    """What a browser makes of a page: elements with their attributes, the text, the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = defaultdict(list)
        self._table, self._silent, self._in_cell = "", False, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._silent = tag in {"script", "style"}
        if tag == "table":
            self._table = dict(attrs).get("id") or "words"
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in {"td", "th"}:
            self.tables[self._table][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._silent = False
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self.text += data
        if self._in_cell:
            self.tables[self._table][-1][-1] += data.strip()

    def pictures(self) -> list[Image.Image]:
        sources = [str(attributes["src"]) for tag, attributes in self.elements if tag == "img"]
        return [
            Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))
            for src in sources
            if src.startswith("data:image/")
        ]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Of two documents; beside them in `judged` three queries, one of them to be missed, and in `results` what came."""
    folder = tmp_path_factory.mktemp("measured")
    write_pdf(folder / "ship.pdf", ["pump pressure valve", "winter ferry timetable", "lease signed by the tenant"])
    write_pdf(folder / EVIL_NAME, ["capacity of the tank"])
    (folder / "judged" / "qrels").mkdir(parents=True)
    (folder / "judged" / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    rows = "".join(f"{query}\t{page}\t1\n" for query, page in JUDGED)
    (folder / "judged" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    (folder / "results").mkdir()
    with open_index(folder / ".docsearch") as index:
        index.add([folder / "ship.pdf", folder / EVIL_NAME])
        names = PageNames(index)
        matched = names.match(read_judged(folder / "judged"))
        evaluate_index(index, matched, SearchOptions(k=20), names=names).write(folder / "results")
        yield index


@pytest.fixture
def results(index: Index, tmp_path: Path) -> Path:
    """A copy of the results."""
    return Path(shutil.copytree(index.paths.folder.parent / "results", tmp_path / "results"))


def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def test_the_planted_miss_is_shown_with_both_pages_as_heat_maps(results: Path, index: Index):
    """A failure means: whoever wants to know why a query failed sees nothing, or the wrong pages."""
    progress: list[tuple[str, int, int]] = []
    page = read(write_report(results, index, on_progress=lambda *said: progress.append(said)))
    assert progress == [("drawing", 0, 1)]
    misses = page.text[page.text.index("Misses") : page.text.index("All queries")]
    assert re.search(r"does not answer 1 of 3 queries", misses)
    assert misses.index("pump pressure") < misses.index("ship.pdf#3") < misses.index("ship.pdf#1")
    rank = next(query.first_relevant_rank for query in read_result(results).queries if query.id == "missed")
    assert f"first answer at rank {rank}" in misses
    right, first = page.pictures()
    for picture, name in ((right, "ship.pdf#3"), (first, "ship.pdf#1")):
        drawn = index.heatmap(name, "pump pressure").convert("RGB").resize(picture.size)
        assert np.abs(np.asarray(picture.convert("RGB"), int) - np.asarray(drawn, int)).mean() < 2
    assert warm(first) > 0 == warm(index.page_image("ship.pdf#1"))
    assert page.tables["words"][1][0] == "pump"
    assert page.tables["words"][1][3:] == ["pump", "1.00"]


def warm(picture: Image.Image) -> int:
    """Pixels that are clearly more red than blue."""
    red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB"), int), -1, 0)
    return int((red - blue > 80).sum())


def test_the_figures_are_those_of_the_summary(results: Path, index: Index):
    """A failure means: the report says something else than the files that others check."""
    summary = json.loads((results / SUMMARY).read_text())

    page = read(write_report(results))
    assert page.tables["measures"][1:] == [
        [name, *(f"{value[part]:.4f}" for part in ("value", "low", "high"))]
        for name, value in summary["metrics"].items()
    ]
    for name in ("nDCG@10", "RR", "R@1", "R@10"):
        assert re.search(rf"{name}\s+{summary['metrics'][name]['value']:.3f}", page.text)
    assert "answers 2 of 3 queries (67 %); one of the first ten pages answers 3 of 3" in page.text
    cells = {row[0]: row[1:] for row in page.tables["queries"][1:]}
    for query in read_result(results).queries:
        (row,) = (cells[text] for text in cells if text.startswith(query.text))
        assert row[1:4] == [
            str(query.first_relevant_rank),
            *(f"{query.metrics[name]:.3f}" for name in ("nDCG@10", "RR")),
        ]
    for fact in (summary["index"]["fingerprint"], summary["index"]["codec"], summary["hardware"]["cpu"]):
        assert str(fact) in page.text


def test_nothing_in_a_query_or_a_name_becomes_part_of_the_page(results: Path, index: Index):
    """A failure means: opening a report runs what a stranger wrote into a query or the name of a file."""
    page = read(write_report(results, index))
    assert EVIL_QUERY in page.text
    assert f"{EVIL_NAME}#1" in page.text
    assert QUERIES[2]["language"] in page.text
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(str(attributes["src"]).startswith("data:") for tag, attributes in page.elements if tag == "img")


def test_the_report_is_one_file_that_loads_nothing(results: Path, index: Index):
    """A failure means: the report looks different without a network, or tells a server who reads it."""
    text = write_report(results, index).read_text("utf-8")
    without_pictures = re.sub(r"data:image/webp;base64,[\w+/=]+", "", text)
    assert "//" not in without_pictures
    assert not re.search(r"url\((?!#)|@import|<link|<iframe", without_pictures)
    assert "default-src 'none'" in text
    ids = re.findall(r'\bid="([^"]+)"', without_pictures)
    assert set(re.findall(r"url\(#([^)]+)\)", without_pictures)) <= set(ids)
    assert len(text) < 1_000_000


def test_the_same_results_give_the_same_bytes(results: Path, index: Index):
    """A failure means: a report in version control changes though nothing was measured anew."""
    assert write_report(results, index).read_bytes() == write_report(results, index).read_bytes()


def test_without_an_index_it_says_names_instead_of_pictures(results: Path, index: Index):
    """A failure means: the run of another engine cannot be reported."""
    page = read(write_report(results))
    assert page.pictures() == []
    assert "ship.pdf#3" in page.text
    assert "no index to draw" in page.text


def test_pictures_of_another_commit_are_called_that(results: Path, index: Index):
    """A failure means: someone explains a miss with pages that were indexed after it was measured."""
    warning = "The index has changed since it was measured"
    assert warning not in read(write_report(results, index)).text
    summary = json.loads((results / SUMMARY).read_text())
    summary["index"]["commit"] -= 1
    (results / SUMMARY).write_text(json.dumps(summary))

    assert warning in read(write_report(results, index)).text


def test_what_has_gone_is_told(results: Path, index: Index):
    """A failure means: a file that was moved, or a page that was never indexed, takes the whole report with it."""
    lines = [json.loads(line) for line in (results / PER_QUERY).read_text().splitlines()]
    lines[0] |= {"first_relevant_rank": None, "relevant": {"nowhere.pdf#1": 1}, "text": "a page that is not there"}
    lines[2] |= {"first_relevant_rank": None, "image": "gone.png"}
    lines.append(lines[0] | {"id": "empty", "top": [], "text": "nothing came"})
    (results / PER_QUERY).write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = index.paths.folder.parent / "ship.pdf"
    file.rename(file.with_suffix(".moved"))

    page = read(write_report(results, index))
    file.with_suffix(".moved").rename(file)
    assert "no document 'nowhere.pdf'" in page.text
    assert "the file of this page has gone" in page.text
    assert "has gone: gone.png" in page.text
    assert "Nothing was found." in page.text
    assert page.pictures() == []


def test_the_worst_come_first(results: Path, index: Index):
    """A failure means: the dozen misses that are shown are not those to look at."""
    lines = [json.loads(line) for line in (results / PER_QUERY).read_text().splitlines()]
    ranks = {"fourth": 4, "none": None, "right": 1, "ninth": 9}
    made = [lines[0] | {"id": name, "first_relevant_rank": rank} for name, rank in ranks.items()]
    (results / PER_QUERY).write_text("".join(json.dumps(line) + "\n" for line in made))

    assert [query.id for query in worst(read_result(results).queries)] == ["none", "ninth", "fourth"]


def test_a_folder_without_results_is_refused(tmp_path: Path):
    """A failure means: an empty report instead of a word about the wrong folder."""
    with pytest.raises(UnsupportedInput):
        write_report(tmp_path)


def test_charts_say_in_words_what_they_show():
    """A failure means: the figures are lost to whoever cannot see the charts, or the charts are wrong."""
    ranks = ranks_chart([1, 1, 2, 4, 7, 12, None])
    assert ranks.alt.endswith("1: 2; 2: 1; 4-5: 1; 6-10: 1; 11-20: 1; none: 1")
    times = latency_chart({"search": ([1.0, 2.0, 90.0], {"p50": 2.0, "p95": 81.2})})
    assert times.alt.endswith("search: median 2.0 ms, 95th percentile 81.2 ms")
    groups = groups_chart("RR", {"日本語 $x$ <b>": (3, {"value": 0.5, "low": 0.25, "high": 1.0})}, 0.75)
    assert "日本語 $x$ <b>, 3 queries, 0.500 (0.250 to 1.000)" in groups.alt
    assert "日本語 $x$ &lt;b&gt;" in groups.svg
    assert "<b>" not in groups.svg


def test_times_that_are_all_the_same_can_be_drawn():
    """A failure means: a report of one query, or of a clock with coarse ticks, ends with an error."""
    assert "<svg" in latency_chart({"encode": ([5.0, 5.0], {"p50": 5.0, "p95": 5.0})}).svg
