"""Draft queries for one's own documents: what their authors wrote above a section, under a figure, or into an index.

Nobody judges a page here: a bookmark says where a section starts, a caption stands on its page, an index names pages.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docsearch.errors import UnsupportedInput
from docsearch.evaluation.draft_book import KINDS, Book, Kind, Question, read_book
from docsearch.evaluation.draft_readme import readme
from docsearch.evaluation.draft_text import count_words, fold
from docsearch.indexer.apart import read_structure, write_masked
from docsearch.indexer.outline import Box
from docsearch.indexer.sources import find_files, hash_file
from docsearch.types import Failure

MASKED = "masked"  # the folder of the copies
_QUERIES = "queries.jsonl"

OnProgress = Callable[[int, int, str], None]  # files done, of how many, the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOptions:
    """What is drafted."""

    per_document: int = 20  # questions of each kind from one document, at most
    seed: int = 7  # chooses among them
    exclude: Sequence[str] = ()  # globs: files and folders left out, as `IndexOptions.exclude`
    mask: bool = False  # write copies, too, in which the headings and captions asked about cannot be read

    def __post_init__(self) -> None:
        if self.per_document < 1:
            raise ValueError(f"per_document is {self.per_document}; ask for at least one question")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedQuery:
    """A line of queries.jsonl, and the pages that answer it."""

    id: str
    text: str
    type: Kind
    file: str
    language: str | None
    verbatim: bool
    relevant: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The line of queries.jsonl."""
        fields = {"_id": self.id, **asdict(self)}
        return {key: value for key, value in fields.items() if key not in {"id", "relevant"} and value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftReport:
    """What was drafted, and from what."""

    folder: Path
    queries: tuple[DraftedQuery, ...]
    files: tuple[str, ...]  # all that were read, by the names the queries give them
    pages: int  # that count
    failed: tuple[Failure, ...]

    @property
    def silent(self) -> tuple[str, ...]:
        """The files that gave no question."""
        asked = {query.file for query in self.queries}
        return tuple(name for name in self.files if name not in asked)

    def counts(self) -> dict[Kind, int]:
        """Questions of each kind."""
        counts = Counter(query.type for query in self.queries)
        return {kind: counts[kind] for kind in KINDS}


def draft_queries(
    paths: Sequence[Path], out: Path, options: DraftOptions, *, on_progress: OnProgress = lambda *_: None
) -> DraftReport:
    """Draft a folder of queries and judgements as BEIR lays them out. The same files and seed give the same bytes.

    A file that cannot be read is in the report's `failed` and stops nothing; of two files with the same content the
    first is asked about.

    Args:
        paths: files and folders; PDFs are asked about, images only count as pages.
        out: the folder to write.
        options: how many, and whether with masked copies.
        on_progress: called before each file.

    Raises:
        FileNotFoundError: one of the paths is not there.
        UnsupportedInput: `out` holds queries already, perhaps corrected by hand.
    """
    if (out / _QUERIES).exists():
        message = "it holds queries already, which may have been corrected by hand: choose another folder with --out"
        raise UnsupportedInput(str(out), "unsupported", message)
    files, failed = _find(paths, out, options.exclude)
    books: dict[str, Book] = {}
    known: set[str] = set()
    for done, (name, path) in enumerate(files.items()):
        on_progress(done, len(files), name)
        try:
            content = hash_file(path)
            if content not in known:
                books[name] = read_book(read_structure(path))
                known.add(content)
        except UnsupportedInput as error:
            failed.append(Failure(name, error.code, error.message))
    queries = _choose(books, options)
    out.mkdir(parents=True, exist_ok=True)
    if options.mask:
        failed += _write_copies(out / MASKED, files, books, queries)
    report = DraftReport(
        folder=out,
        queries=tuple(query for query, _ in queries),
        files=tuple(books),
        pages=sum(len(book.content) for book in books.values()),
        failed=tuple(failed),
    )
    _write(report, books, options)
    return report


def _find(paths: Sequence[Path], out: Path, exclude: Sequence[str]) -> tuple[dict[str, Path], list[Failure]]:
    """The files by name: the path from the folder that holds all of them. What lies in `out` is none of them."""
    roots = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    root, own = os.path.commonpath(roots), Path(os.path.abspath(out))
    files, failed = {}, []
    for found in find_files(paths, exclude=exclude):
        if isinstance(found, Failure):
            failed.append(found)
            continue
        path = Path(os.path.abspath(found.path))
        if not path.is_relative_to(own):
            files[path.relative_to(root).as_posix()] = path
    return files, failed


# -- choosing -----------------------------------------------------------------------------------------------------


def _choose(books: Mapping[str, Book], options: DraftOptions) -> list[tuple[DraftedQuery, Question]]:
    """Questions that only one document can be meant by, so many of each kind and document."""
    asked_by: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
    for book in books.values():
        for question in book.questions:
            asked_by[question.kind][fold(question.text)] += 1
    headings = Counter(key for book in books.values() for key in book.headings)
    slugs: Counter[str] = Counter()
    queries = []
    for name, book in books.items():
        slug = re.sub(r"[^\w.]+", "-", name.rpartition(".")[0] or name)
        slugs[slug] += 1
        slug += f"-{slugs[slug]}" if slugs[slug] > 1 else ""
        for kind in KINDS:
            rivals = [asked_by[earlier] for earlier in KINDS[: KINDS.index(kind)]]
            clear = [
                question
                for question in book.questions
                if question.kind == kind
                and asked_by[kind][key := fold(question.text)] == 1
                and headings[key] <= (kind == "title")
                and not any(rival[key] for rival in rivals)
            ]
            for n, question in enumerate(_sample(clear, options, f"{name} {kind}")):
                queries.append((_query(f"{slug}-{kind}-{n:02d}", name, book, question), question))
    return queries


def _sample(questions: Sequence[Question], options: DraftOptions, name: str) -> list[Question]:
    """As many as are wanted, in the order of the document, whatever other documents hold.

    A word on its own asks little: at most a quarter, and only index entries are that short.
    """
    chance = random.Random(f"{options.seed} {name}")  # noqa: S311 - a choice, not a secret
    phrases = [question for question in questions if count_words(question.text) >= 2]
    words = [question for question in questions if count_words(question.text) < 2]
    n_words = min(len(words), options.per_document // 4)
    n_phrases = min(len(phrases), options.per_document - n_words)
    chosen = [*chance.sample(phrases, n_phrases), *chance.sample(words, n_words)]
    return sorted(chosen, key=lambda question: (question.pages, question.text))


def _query(query_id: str, name: str, book: Book, question: Question) -> DraftedQuery:
    return DraftedQuery(
        id=query_id,
        text=question.text,
        type=question.kind,
        file=name,
        language=book.language,
        verbatim=question.verbatim,
        relevant=tuple(f"{name}#{page}" for page in question.pages),
    )


# -- writing ------------------------------------------------------------------------------------------------------


def _write_copies(
    folder: Path,
    files: Mapping[str, Path],
    books: Mapping[str, Book],
    queries: Iterable[tuple[DraftedQuery, Question]],
) -> list[Failure]:
    """A copy of every document, in which the lines that would answer a question by themselves cannot be read."""
    hidden: dict[str, dict[int, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for query, question in queries:
        for page, boxes in question.hidden.items():
            hidden[query.file][page] += boxes
    failed = []
    for name, book in books.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not book.is_pdf:
            shutil.copyfile(files[name], target)
            continue
        emptied = set(range(1, book.page_count + 1)).difference(book.content)
        try:
            write_masked(files[name], target, hidden=hidden[name], emptied=emptied)
        except UnsupportedInput as error:
            failed.append(Failure(name, error.code, error.message))
    return failed


def _write(report: DraftReport, books: Mapping[str, Book], options: DraftOptions) -> None:
    """Queries last: a folder without them is not finished."""
    pages = [{"_id": f"{name}#{n}", "path": name, "page": n} for name, book in books.items() for n in book.content]
    _write_lines(report.folder / "corpus.jsonl", map(_json, pages))
    judgements = (f"{query.id}\t{page}\t1" for query in report.queries for page in query.relevant)
    (report.folder / "qrels").mkdir(exist_ok=True)
    _write_lines(report.folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judgements])
    explained = readme(
        [query.type for query in report.queries],
        [query.type for query in report.queries if query.verbatim],
        files=len(report.files),
        silent=len(report.silent),
        pages=report.pages,
        per_document=options.per_document,
        seed=options.seed,
        mask=options.mask,
    )
    (report.folder / "README.md").write_text(explained, "utf-8")
    _write_lines(report.folder / _QUERIES, (_json(query.record()) for query in report.queries))


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
