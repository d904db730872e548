"""The queries that went worst, each with the page that should have been found and the page that came first."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docsearch.errors import PageNotFound, UnsupportedInput
from docsearch.evaluation.results import QueryResult
from docsearch.evaluation.trec import Ranking
from docsearch.index import Index, open_image
from docsearch.types import Query

if TYPE_CHECKING:
    from PIL.Image import Image

_PAGE_WIDTH, _QUERY_WIDTH = 900, 420  # pixels
_DPI, _QUALITY = 110, 55
_MOST_WORDS = 40  # of a query, word by word


@dataclass(frozen=True, slots=True)
class ShownPage:
    """A page as the report shows it."""

    name: str
    told: str  # rank, score, grade
    image: str = ""  # data URI: the page as a heat map of the query
    absent: str = ""  # why there is no image


@dataclass(frozen=True, slots=True)
class Match:
    """Where a token of the query was found best on a page."""

    word: str
    score: float


@dataclass(frozen=True, slots=True)
class TokenMatch:
    """A token of the query on both pages."""

    label: str
    right: Match
    first: Match


@dataclass(frozen=True, slots=True)
class Miss:
    """A query whose first page does not answer."""

    query: QueryResult
    told: str
    chips: tuple[str, ...]
    right: ShownPage
    first: ShownPage | None  # None: nothing was found
    words: tuple[TokenMatch, ...] = ()
    picture: str = ""  # data URI: the image that was searched with


def worst(queries: Sequence[QueryResult]) -> list[QueryResult]:
    """The queries whose first page does not answer, the worst first."""
    missed = [query for query in queries if query.first_relevant_rank != 1]
    return sorted(
        missed,
        key=lambda query: (-(query.first_relevant_rank or math.inf), sum(query.metrics.values()), query.id),
    )


def show_miss(
    query: QueryResult, ranking: Ranking, *, index: Index | None, keys: Sequence[str], depth: int | None
) -> Miss:
    """A miss with its two pages, drawn by the index if there is one.

    Args:
        query: what went wrong.
        ranking: the whole of it.
        index: draws the pages; a page it lacks, or whose file has gone, is told instead.
        keys: what to say of the query.
        depth: how many pages were asked for.
    """
    ranks = {page: rank for rank, page in enumerate(ranking, 1)}
    right = min(query.relevant, key=lambda page: (-query.relevant[page], ranks.get(page, math.inf), page))
    among = f"not among the {depth or len(ranking):,} pages asked for"
    place = f"rank {ranks[right]:,}, score {ranking[right]:.3f}" if right in ranks else among
    pages = {"right": (right, f"{place}, grade {query.relevant[right]}")}
    if query.top:
        first = query.top[0]
        grade = "nobody judged it" if first["grade"] is None else "judged not to answer"
        pages["first"] = (first["page"], f"rank 1, score {first['score']:.3f}; {grade}")
    picture, asked, problem = _asked(query)
    shown = {name: _draw(page, told, asked, index, problem) for name, (page, told) in pages.items()}
    rank = query.first_relevant_rank
    return Miss(
        query,
        told=f"first answer at rank {rank:,}" if rank else f"no answer among the first {depth or len(ranking):,}",
        chips=tuple(f"{key}: {query.about[key]}" for key in keys if key in query.about),
        right=shown["right"],
        first=shown.get("first"),
        words=_words(asked, index, shown),
        picture=picture,
    )


def _asked(query: QueryResult) -> tuple[str, Query | None, str]:
    """The picture of the query, the query itself, and what is wrong with it."""
    try:
        image = open_image(Path(query.image) if query.image else None)
    except UnsupportedInput:
        return "", None, f"The picture that was searched with has gone: {query.image}"
    if image is None and not query.text.strip():
        return "", None, "What was asked is not known."
    return _data_uri(image, _QUERY_WIDTH) if image else "", Query(query.text or None, image), ""


def _draw(name: str, told: str, asked: Query | None, index: Index | None, problem: str) -> ShownPage:
    if index is None:
        return ShownPage(name, told, absent="No picture: there was no index to draw it from.")
    if asked is None:
        return ShownPage(name, told, absent=problem)
    try:
        return ShownPage(name, told, image=_data_uri(index.heatmap(name, asked, dpi=_DPI), _PAGE_WIDTH))
    except (PageNotFound, UnsupportedInput) as error:
        return ShownPage(name, told, absent=f"No picture: {error}")


def _words(asked: Query | None, index: Index | None, shown: Mapping[str, ShownPage]) -> tuple[TokenMatch, ...]:
    """The query token by token on both pages, if both could be drawn."""
    if index is None or asked is None or len(shown) < 2 or not all(page.image for page in shown.values()):
        return ()
    right, first = (index.explain(shown[name].name, asked)[:_MOST_WORDS] for name in ("right", "first"))
    return tuple(
        TokenMatch(label, Match(word, score), Match(other_word, other_score))
        for (label, score, word), (_, other_score, other_word) in zip(right, first, strict=True)
    )


def _data_uri(image: Image, width: int) -> str:
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), reducing_gap=2.0)
    written = io.BytesIO()
    image.save(written, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
