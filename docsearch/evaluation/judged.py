"""What is asked and which pages answer: a BEIR folder, TREC qrels with queries, or an analyst's CSV.

A page is always called `path#page`, its path as it is written there: `docsearch.evaluation.pages` finds it in an index.
A grade of 0 or less says that a page was looked at and does not answer.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.lines import Line, read_bytes, read_lines
from docsearch.evaluation.trec import Qrels, read_qrels

Kind = Literal["beir", "trec", "csv", "mteb"]

_TREC_SUFFIXES = {".qrels", ".trec", ".txt"}
_HEADER = ["query-id", "corpus-id", "score"]
_COLUMNS = {  # of a CSV: what people call them
    "query": ("query", "question", "text"),
    "path": ("path", "file", "document"),
    "page": ("page", "page_number"),
    "rel": ("rel", "relevance", "grade", "score"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuery:
    """One query: a text, an image, or both."""

    id: str
    text: str = ""
    image: Path | None = None
    exclude: tuple[str, ...] = ()  # documents that are dropped from its ranking
    about: Mapping[str, str] = field(default_factory=dict)  # what else is said of it: gives groups

    def keeps(self, page: str) -> bool:
        """Whether a page may count."""
        return page.rpartition("#")[0] not in self.exclude


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Queries and judgements, read and checked: every judged query is known, no page is judged twice."""

    name: str
    kind: Kind
    queries: Sequence[JudgedQuery]
    qrels: Qrels
    collection: frozenset[str] | None = None  # pages that count; None: all do

    @property
    def answerable(self) -> list[JudgedQuery]:
        """The queries that a page answers: the others can tell nothing, and are left out of every mean."""
        return [query for query in self.queries if any(grade > 0 for grade in self.qrels.get(query.id, {}).values())]


def read_judged(path: Path, *, split: str | None = None, queries: Path | None = None, asked: bool = True) -> Judged:
    """Read judgements; what they are is told by the path: a folder is BEIR's, a file is a CSV or TREC qrels.

    Args:
        path: the folder, or the file.
        split: of a BEIR folder; None is `test`, else the only one.
        queries: for TREC qrels, a file of queries: .jsonl, or lines `qid<TAB>text`.
        asked: whether the queries will be asked, so that each needs a text or an image.

    Raises:
        UnsupportedInput: something is missing or wrong; the message names the file and the line.
    """
    kind = _kind(path)
    for option, value, its_kind in (("--split", split, "beir"), ("--queries", queries, "trec")):
        if value is not None and kind != its_kind:
            raise UnsupportedInput(str(path), "unsupported", f"{option} is for {_NAMES[its_kind]}, and this is none")
    if kind == "beir":
        judged = _read_beir(path, split, asked=asked)
    elif kind == "trec":
        judged = _read_trec(path, queries, asked=asked)
    else:
        judged = _read_csv(path)
    if not judged.answerable:
        raise UnsupportedInput(str(path), "empty", "no query has a page that answers it: there is nothing to measure")
    return judged


_NAMES = {"beir": "a BEIR folder", "trec": "TREC qrels", "csv": "a CSV"}


def _kind(path: Path) -> Kind:
    if path.is_dir():
        return "beir"
    if not path.exists():
        raise UnsupportedInput(str(path), "unsupported", "there is no such file or folder")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return "csv"
    if suffix in _TREC_SUFFIXES:
        return "trec"
    known = ", ".join(sorted(_TREC_SUFFIXES))
    raise UnsupportedInput(
        str(path), "unsupported", f"what is it? A BEIR folder, a .csv, or TREC qrels ({known}) can be read"
    )


class _Grades:
    """Judgements as they come in, line by line."""

    def __init__(self) -> None:
        self.qrels: dict[str, dict[str, int]] = defaultdict(dict)
        self._lines: dict[tuple[str, str], int] = {}

    def add(self, line: Line, query: str, page: str, grade: int) -> None:
        first = self._lines.setdefault((query, page), line.number)
        if first != line.number:
            raise line.wrong(f"{page} is judged for the query {query!r} on line {first} already")
        self.qrels[query][page] = grade


# -- a BEIR folder ------------------------------------------------------------------------------------------------


def _read_beir(folder: Path, split: str | None, *, asked: bool) -> Judged:
    queries = _read_jsonl_queries(folder / "queries.jsonl", asked=asked)
    pages = _read_corpus(folder / "corpus.jsonl") if (folder / "corpus.jsonl").exists() else None
    path = _find_qrels(folder, split)
    header, *lines = read_lines(path)
    if header.text.split() != _HEADER:
        raise header.wrong(f"the first line must be {', '.join(_HEADER)}, with tabs between")
    grades = _Grades()
    for line in lines:
        fields = line.text.split("\t")
        if len(fields) != len(_HEADER):
            raise line.wrong("a judgement is a query's id, a page and a grade, with tabs between")
        query, page, grade = (part.strip() for part in fields)
        if query not in queries:
            raise line.wrong(f"there is no query {query!r} in queries.jsonl")
        grades.add(line, query, (pages or {}).get(page, page), line.whole_number(grade, "score"))
    return Judged(
        name=folder.resolve().name,
        kind="beir",
        queries=list(queries.values()),
        qrels=dict(grades.qrels),
        collection=None if pages is None else frozenset(pages.values()),
    )


def _find_qrels(folder: Path, split: str | None) -> Path:
    """`qrels/SPLIT.tsv`; a folder with one file of judgements may have it as `qrels.tsv`."""
    found = {path.stem: path for path in sorted((folder / "qrels").glob("*.tsv"))}
    if not found and (folder / "qrels.tsv").exists():
        found = {"qrels": folder / "qrels.tsv"}
    chosen = split or ("test" if "test" in found else next(iter(found)) if len(found) == 1 else None)
    if chosen in found:
        return found[chosen]
    there = f"there are {', '.join(found)}: choose one with --split" if found else "there is no qrels/test.tsv"
    wanted = f"there is no split {split!r}; {there}" if split else there
    raise UnsupportedInput(str(folder), "unsupported", wanted)


def _read_corpus(path: Path) -> dict[str, str]:
    """Id → `path#page` of every page of the collection."""
    pages: dict[str, str] = {}
    for line in read_lines(path):
        record = line.record()
        name = _id(line, record)
        if name in pages:
            raise line.wrong(f"the _id {name!r} is there already")
        pages[name] = _page(line, record, name)
    return pages


def _page(line: Line, record: Mapping[str, Any], name: str) -> str:
    """`page` is "path#page", or a number beside `path`; a record with neither is called what it is: its id says it."""
    match record.get("path"), record.get("page"):
        case None, None:
            return name
        case None, str() as page:
            return page
        case str() as path, int() | str() as page:
            return f"{path}#{_page_number(line, str(page))}"
    raise line.wrong('a page is {"page": "path#page"}, or {"path": "path", "page": number}')


# -- queries ------------------------------------------------------------------------------------------------------


def _read_jsonl_queries(path: Path, *, asked: bool) -> dict[str, JudgedQuery]:
    queries: dict[str, JudgedQuery] = {}
    for line in read_lines(path):
        query = _query(line, asked=asked)
        if query.id in queries:
            raise line.wrong(f"the _id {query.id!r} is there already")
        queries[query.id] = query
    return queries


def _query(line: Line, *, asked: bool) -> JudgedQuery:
    record = line.record()
    name, text, image = _id(line, record), record.pop("text", None) or "", record.pop("image", None)
    exclude = record.pop("exclude", None) or []
    if not isinstance(text, str):
        raise line.wrong(f"the text of {name!r} is no text")
    if not isinstance(exclude, list) or not all(isinstance(document, str) for document in exclude):
        raise line.wrong(f"exclude of {name!r} must be a list of documents")
    if asked and not text.strip() and not image:
        raise line.wrong(f"the query {name!r} has neither text nor image")
    return JudgedQuery(
        id=name,
        text=text,
        image=_image(line, image) if image else None,
        exclude=tuple(exclude),
        about={key: _as_text(value) for key, value in record.items() if isinstance(value, str | int | float)},
    )


def _id(line: Line, record: dict[str, Any]) -> str:
    name = record.pop("_id", None)
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise line.wrong("it needs an _id")
    return str(name)


def _as_text(value: str | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _image(line: Line, name: object) -> Path:
    folder = line.path.parent
    path = folder / str(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise line.wrong(f"the image {name} is not in this folder")
    if not path.is_file():
        raise line.wrong(f"there is no image {name}")
    return path


# -- TREC qrels ---------------------------------------------------------------------------------------------------


def _read_trec(path: Path, queries_path: Path | None, *, asked: bool) -> Judged:
    judgements = read_qrels(path)
    if queries_path is not None:
        queries = _read_queries(queries_path, asked=asked)
    elif asked:
        raise UnsupportedInput(
            str(path), "unsupported", "what do the queries say? Give their texts with --queries FILE, or --run FILE"
        )
    else:
        queries = {query: JudgedQuery(id=query) for _, query, _, _ in judgements}
    grades = _Grades()
    for line, query, page, grade in judgements:
        if query not in queries:
            raise line.wrong(f"there is no query {query!r} in {queries_path}")
        grades.add(line, query, page, grade)
    return Judged(name=path.stem, kind="trec", queries=list(queries.values()), qrels=dict(grades.qrels))


def _read_queries(path: Path, *, asked: bool) -> dict[str, JudgedQuery]:
    if path.suffix.lower() == ".jsonl":
        return _read_jsonl_queries(path, asked=asked)
    queries: dict[str, JudgedQuery] = {}
    for line in read_lines(path):
        name, _, text = (part.strip() for part in line.text.partition("\t"))
        if not name or not text:
            raise line.wrong("it must be a query's id, a tab, and its text")
        if name in queries:
            raise line.wrong(f"the query {name!r} is there already")
        queries[name] = JudgedQuery(id=name, text=text)
    return queries


# -- a CSV --------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> Judged:
    """`query,path,page[,rel]`, a line for each page that was looked at; other columns tell more about the query."""
    text = _decode(path)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text), restval="", strict=True)
    columns = _columns(Line(path, 1, text), rows.fieldnames or [])
    queries: dict[str, JudgedQuery] = {}
    grades = _Grades()
    try:
        for row in rows:
            line = Line(path, rows.line_num, "")
            if None in row:
                raise line.wrong("there are more cells than columns: put a cell with a delimiter in it in quotes")
            cells = {name: cell.strip() for name, cell in row.items()}
            known = {name: cells.pop(column) for name, column in columns.items()}
            if not any(known.values()):
                continue
            if missing := [name for name in ("query", "path", "page") if not known[name]]:
                raise line.wrong(f"there is no {missing[0]}")
            about = {name: cell for name, cell in cells.items() if cell}
            new = JudgedQuery(id=str(len(queries) + 1), text=known["query"], about=about)
            query = queries.setdefault(known["query"], new)
            grade = line.whole_number(known["rel"], "grade") if known.get("rel") else 1
            grades.add(line, query.id, f"{known['path']}#{_page_number(line, known['page'])}", grade)
    except csv.Error as error:
        raise Line(path, rows.line_num, "").wrong(f"not CSV: {error}") from None
    return Judged(name=path.stem, kind="csv", queries=list(queries.values()), qrels=dict(grades.qrels))


def _decode(path: Path) -> str:
    raw = read_bytes(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = Line(path, raw[: error.start].count(b"\n") + 1, "")
        raise line.wrong('not UTF-8: save it as "CSV UTF-8"') from None
    if not text.strip():
        raise UnsupportedInput(str(path), "empty", "there is nothing in it")
    return text


def _delimiter(text: str) -> str:
    header = text.splitlines()[0]
    return max(",;\t", key=header.count)


def _columns(line: Line, header: Sequence[str]) -> dict[str, str]:
    """What we call a column → what it is called there."""
    there = {name.strip().casefold(): name for name in header}
    columns = {ours: there[name] for ours, names in _COLUMNS.items() for name in reversed(names) if name in there}
    if missing := [name for name in ("query", "path", "page") if name not in columns]:
        raise line.wrong(f"the first line must name the columns query, path, page and, if you like, rel; "
                         f"{' and '.join(missing)} cannot be found")  # fmt: skip
    return columns


def _page_number(line: Line, text: str) -> int:
    number = line.whole_number(text, "page")
    if number < 1:
        raise line.wrong(f"the page is {number}, and pages are counted from 1")
    return number
