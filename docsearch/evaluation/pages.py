"""Which page of an index is meant by a name that somebody wrote into judgements."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from docsearch.errors import PageNotFound
from docsearch.evaluation.judged import Judged
from docsearch.index import Index
from docsearch.types import PageRef


@dataclass(frozen=True, slots=True)
class Matched:
    """Judgements in the index's own names, and the judged pages it does not hold: they stay, and cannot be found."""

    judged: Judged
    missing: tuple[str, ...]
    n_judged: int  # different pages that were judged


class PageNames:
    """The names of an index's pages: `path#page`, for several files with the same content the first path.

    Args:
        index: its commit of now counts.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._pages: dict[str, int] = {}  # document → pages
        self._first: dict[str, str] = {}  # document → its first path
        self._documents: dict[str, str] = {}  # path → document
        self._ending: dict[str, list[str]] = defaultdict(list)  # file name → paths
        self._meant: dict[str, frozenset[str]] = {}  # as written → documents
        for record in index.documents():
            path, document = record["path"], record["doc_id"]
            self._documents[path] = document
            self._first.setdefault(document, path)
            self._pages[document] = record["page_count"]
            self._ending[PurePosixPath(path).name].append(path)

    @cached_property
    def of_id(self) -> dict[int, str]:
        """Page id → name."""
        return {
            PageRef(document, number).page_id: f"{self._first[document]}#{number}"
            for document, n_pages in self._pages.items()
            for number in range(1, n_pages + 1)
        }

    def count(self, path: str) -> int:
        """The pages of a document, named as `match` names it."""
        return self._pages[self._documents[path]] if path in self._documents else 0

    def match(self, judged: Judged) -> Matched:
        """Judgements in the names of this index.

        A path is looked for as it is, as a path typed here, and as the end of a path or a path with a known end,
        where there is only one such document. Where several files have the same content, a judgement on any counts,
        the highest if there are several.
        """
        qrels: dict[str, dict[str, int]] = {}
        missing: dict[str, str] = {}
        found: dict[str, str] = {}
        for query, pages in judged.qrels.items():
            grades = qrels.setdefault(query, {})
            for written, grade in pages.items():
                name = found.get(written) or found.setdefault(written, self._page(written, missing))
                grades[name] = max(grade, grades.get(name, grade))
        queries = [replace(query, exclude=tuple(map(self._document, query.exclude))) for query in judged.queries]
        collection = judged.collection and frozenset(map(self._renamed, judged.collection))
        matched = replace(judged, queries=queries, qrels=qrels, collection=collection)
        return Matched(matched, tuple(missing.values()), len(found))

    def _page(self, written: str, missing: dict[str, str]) -> str:
        """The index's name for a page; one that is not there keeps its name, and is noted."""
        name = self._renamed(written)
        try:
            self._index.page(name)
        except PageNotFound:
            many = len(self._candidates(written.rpartition("#")[0])) > 1
            missing[written] = f"{written} (several files have that name)" if many else written
            return written
        return name

    def _renamed(self, written: str) -> str:
        path, mark, number = written.rpartition("#")
        return f"{self._document(path)}{mark}{number}" if mark else written

    def _document(self, written: str) -> str:
        meant = self._candidates(written)
        return next(iter(meant)) if len(meant) == 1 else written

    def _candidates(self, written: str) -> frozenset[str]:
        """The documents that may be meant, each by its first path."""
        if written not in self._meant:
            self._meant[written] = frozenset(self._first[self._documents[path]] for path in self._paths(written))
        return self._meant[written]

    def _paths(self, written: str) -> list[str]:
        for name in (written, self._index.paths.source_name(Path(written))):
            if name in self._documents:
                return [name]
        wanted = PurePosixPath(written)
        return [
            path
            for path in self._ending.get(wanted.name, ())
            if _is_end_of(wanted, PurePosixPath(path)) or _is_end_of(PurePosixPath(path), wanted)
        ]


def _is_end_of(end: PurePosixPath, path: PurePosixPath) -> bool:
    return end.parts == path.parts[-len(end.parts) :]
