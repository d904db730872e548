"""Ask an index every judged query, one by one as a user would, and note what it answers and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from docsearch.evaluation.judged import Judged, JudgedQuery
from docsearch.evaluation.pages import PageNames
from docsearch.evaluation.trec import Ranking, in_trec_order
from docsearch.index import Index, open_image
from docsearch.options import SearchOptions
from docsearch.types import Query

if TYPE_CHECKING:
    from docsearch.types import QueryVectors

_WARM_UP = 10  # queries asked before the clock counts: the first find files unread and structures unbuilt
_BLOCK = 32  # queries; each reads megabytes of pages, so after so many nothing of another way is left in a cache

OnProgress = Callable[[str, int, int], None]  # what is being done, how much of it is done, and of how much


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery:
    """A query as the index takes it; ``vectors`` are None where only its words are asked for."""

    id: str
    query: Query
    vectors: QueryVectors | None
    ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came back for a query: the pages that count, in trec_eval's order. A run that was read has no times."""

    ranking: Ranking
    encode_ms: float | None = None
    search_ms: float | None = None


def encode(index: Index, judged: Judged, *, mode: str, on_progress: OnProgress = lambda *_: None) -> list[EncodedQuery]:
    """Encode every query that a page answers, one at a time, after a first one that loads the encoder.

    Raises:
        ModelUnavailable: the encoder cannot be loaded.
        UnsupportedInput: it can make nothing of an image.
    """
    queries = judged.answerable
    if mode == "text":
        return [EncodedQuery(query.id, _query(query), None, 0.0) for query in queries]
    encoded = []
    for done, query in enumerate(queries):
        on_progress("queries encoded", done, len(queries))
        asked = _query(query)
        if not done:
            index.encode_query(asked)
        started = time.perf_counter()
        with_words, vectors = index.encode_query(asked)
        encoded.append(EncodedQuery(query.id, with_words, vectors, _ms_since(started)))
    return encoded


class Asker:
    """One way to ask: an index, and how it is searched.

    Pages that do not count are dropped, so more than `k` are asked for where that changes nothing else: as many as
    may be dropped when every page or every word is scored, up to the number of candidates otherwise.

    Args:
        index: what to ask.
        judged: which pages count, in the names given here.
        options: how to search; ``k`` is the length of the rankings.
        names: of the pages of the index, or of one with the same documents.
    """

    def __init__(self, index: Index, judged: Judged, options: SearchOptions, names: PageNames) -> None:
        self._index, self._judged, self._options, self._names = index, judged, options, names
        self._queries = {query.id: query for query in judged.queries}
        collection = judged.collection
        self._n_outside = 0 if collection is None else sum(name not in collection for name in names.of_id.values())

    def ask(self, one: EncodedQuery) -> Answer:
        """Answer one query."""
        query = self._queries[one.id]
        n_droppable = self._n_outside + sum(map(self._names.count, query.exclude))
        options = asdict(_widened(self._options, n_droppable))
        started = time.perf_counter()
        found = self._index.rank(one.query, one.vectors, **options)
        took = _ms_since(started)
        scores = {self._names.of_id[page.page_id]: page.score for page in found}
        return Answer(counted(scores, self._judged, query, self._options.k), one.ms, took)


def search(
    askers: Sequence[Asker], encoded: Sequence[EncodedQuery], *, on_progress: OnProgress = lambda *_: None
) -> list[dict[str, Answer]]:
    """Ask every query in every way; one dictionary of query → answer each.

    The ways take turns, a block of queries each, and take turns in going first: so a machine that is busy for a while
    slows all alike, and none finds what another has just read.
    """
    answers: list[dict[str, Answer]] = [{} for _ in askers]
    for asker in askers:
        for one in encoded[:_WARM_UP]:
            asker.ask(one)
    total, done = len(encoded) * len(askers), 0
    for turn, start in enumerate(range(0, len(encoded), _BLOCK)):
        for at in range(len(askers)):
            way = (at + turn) % len(askers)
            for one in encoded[start : start + _BLOCK]:
                on_progress("answers", done, total)
                answers[way][one.id] = askers[way].ask(one)
                done += 1
    return answers


def answers_of(run: Mapping[str, Ranking], judged: Judged, depth: int | None) -> dict[str, Answer]:
    """A run that exists already, as answers: a query it does not know has none."""
    return {query.id: Answer(counted(run.get(query.id, {}), judged, query, depth)) for query in judged.answerable}


def counted(scores: Mapping[str, float], judged: Judged, query: JudgedQuery, depth: int | None) -> Ranking:
    """The pages of a ranking that count, the first so many in trec_eval's order."""
    kept = {
        page: score
        for page, score in scores.items()
        if query.keeps(page) and (judged.collection is None or page in judged.collection)
    }
    return dict(list(in_trec_order(kept).items())[:depth])


def _query(query: JudgedQuery) -> Query:
    return Query(query.text or None, open_image(query.image))


def _widened(options: SearchOptions, n_droppable: int) -> SearchOptions:
    k = options.k + n_droppable
    if options.mode == "text":
        return replace(options, k=k, n_candidates=max(k, options.n_candidates))  # which text does not ask for
    return replace(options, k=k if options.exact else min(k, options.n_candidates))


def _ms_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
