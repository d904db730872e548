"""The forms in which hits are printed: for people, for spreadsheets, for programs, for evaluation tools."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from docsearch.cli.options import print_json
from docsearch.cli.terminal import complain, counted, notice, plain
from docsearch.errors import DocsearchError

if TYPE_CHECKING:
    from types import TracebackType

    from docsearch.index import Index
    from docsearch.types import Hit, Query

CSV_FIELDS = ("query_id", "rank", "score", "path", "page", "page_label", "title", "snippet", "doc_id")


@dataclass(slots=True)
class Answer:
    """A query, its hits, and what was asked for beside each hit."""

    query_id: str
    query: Query
    hits: list[Hit]
    extras: list[dict[str, Any]] = field(default_factory=list)

    def records(self) -> Iterator[dict[str, Any]]:
        """One `docsearch.result/1` per hit, with the id of the query, and the extras."""
        for at, hit in enumerate(self.hits):
            yield {"query_id": self.query_id} | hit.to_dict() | (self.extras[at] if self.extras else {})


@dataclass(slots=True)
class Run:
    """What is printed how, and what the footer says about it."""

    form: str
    null: bool
    mode: str
    many: bool  # several queries: their ids and texts are printed too
    pages: int = 0  # in the index
    seconds: float = 0.0  # spent searching
    load_seconds: float = 0.0  # spent loading the encoder


def write(answers: Iterable[Answer], run: Run) -> bool:
    """Print the answers as they come; returns whether there was a hit in any of them."""
    if run.form == "json":
        return _write_json(answers, run)
    found = False
    write_one = _Csv() if run.form == "csv" else _WRITERS[run.form]
    for answer in answers:
        found = found or bool(answer.hits)
        write_one(answer, run)
        sys.stdout.flush()
    return found


# -- for people ---------------------------------------------------------------------------------------------------


def _write_table(answer: Answer, run: Run) -> None:
    from docsearch.cli.table import print_hits

    print_hits(answer, run)


def _write_markdown(answer: Answer, run: Run) -> None:
    if run.many:
        print(f"## {plain(answer.query.text or 'image')}\n")
    for hit in answer.hits:
        link = f"[{_markdown(hit.path)}, p. {page_label(hit)}]({quote(hit.path)}#page={hit.page_number})"
        print(f"{hit.rank}. {link} ({hit.score:.3f})  ")
        print(f"   {_markdown(hit.snippet) or 'no text'}")
    if answer.hits and run.many:
        print()


def _markdown(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([][\\*_`<>#|])", r"\\\1", plain(text))


def page_label(hit: Hit) -> str:
    """The page number, with the page's own label beside it where that differs."""
    label = plain(hit.page_label)
    return f"{hit.page_number} ({label})" if label not in {"", str(hit.page_number)} else str(hit.page_number)


# -- for programs -------------------------------------------------------------------------------------------------


def _write_tsv(answer: Answer, run: Run) -> None:
    for hit in answer.hits:
        cells = [str(hit.rank), f"{hit.score:.4f}", hit.path, str(hit.page_number), hit.snippet]
        print("\t".join(plain(cell) for cell in ([answer.query_id] if run.many else []) + cells))


def _write_json(answers: Iterable[Answer], run: Run) -> bool:
    hits = [record for answer in answers for record in answer.records()]
    print_json({"hits": hits, "pages": run.pages, "mode": run.mode, "milliseconds": round(1000 * run.seconds, 1)})
    return bool(hits)


def _write_jsonl(answer: Answer, _: Run) -> None:
    for record in answer.records():
        print(json.dumps(record, ensure_ascii=False))


def _write_paths(answer: Answer, run: Run) -> None:
    for hit in answer.hits:
        print(f"{hit.path}#{hit.page_number}", end="\0" if run.null else "\n")


def _write_trec(answer: Answer, _: Run) -> None:
    """`qid Q0 docid rank score tag`; white space in ids is escaped, scores are printed in full."""
    for hit in answer.hits:
        page = f"{hit.path}#{hit.page_number}"
        print(_one_word(answer.query_id), "Q0", _one_word(page), hit.rank, repr(float(hit.score)), "docsearch")


def _one_word(name: str) -> str:
    return re.sub(r"\s", lambda space: quote(space.group()), name)


class _Csv:
    def __init__(self) -> None:
        self._writer = csv.DictWriter(sys.stdout, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def __call__(self, answer: Answer, _: Run) -> None:
        self._writer.writerows(answer.records())


_WRITERS = {
    "table": _write_table,
    "tsv": _write_tsv,
    "jsonl": _write_jsonl,
    "paths": _write_paths,
    "md": _write_markdown,
    "trec": _write_trec,
}


# -- beside each hit ----------------------------------------------------------------------------------------------


class Extras:
    """Explains hits and writes their pages as pictures, as far as asked."""

    def __init__(self, index: Index, *, explain: bool, heatmap: Path | None, pages: Path | None) -> None:
        self._index, self._explain = index, explain
        self._folders = {"heatmap": heatmap, "page_image": pages}
        self._written = dict.fromkeys(self._folders, 0)

    def __enter__(self) -> Self:
        """Make the folders, so that a wrong one is known before the search."""
        for folder in self._folders.values():
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say where the pictures are."""
        for name, noun in (("heatmap", "heat map"), ("page_image", "page")):
            if self._folders[name] is not None:
                notice(f"Wrote {counted(self._written[name], noun)} to {self._folders[name]}")

    def add(self, answer: Answer) -> Answer:
        """The answer with its extras."""
        if self._explain or any(self._folders.values()):
            answer.extras = [self._of(answer, hit) for hit in answer.hits]
        return answer

    def _of(self, answer: Answer, hit: Hit) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if self._explain:
            matches = self._index.explain(hit, answer.query)
            extras["explain"] = [{"token": t, "similarity": round(s, 4), "word": word} for t, s, word in matches]
        for name, folder in self._folders.items():
            if folder is None:
                continue
            path = folder / self._file_name(answer, hit)
            try:
                if name == "heatmap":
                    self._index.heatmap(hit, answer.query).save(path)
                else:
                    self._index.page_image(hit).save(path)
            except DocsearchError as problem:  # one file that has gone must not cost the others
                complain(str(problem))
                continue
            extras[name] = str(path)
            self._written[name] += 1
        return extras

    def _file_name(self, answer: Answer, hit: Hit) -> str:
        query = "" if answer.query_id == "0" else f"{answer.query_id}-"
        rank = str(hit.rank).zfill(len(str(len(answer.hits))))
        stem = re.sub(r"[^\w.-]+", "_", f"{query}{rank}-{Path(hit.path).stem}")
        return f"{stem[:120]}-{hit.page_number}.png"
