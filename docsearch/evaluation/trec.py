"""The files others can check: runs `qid Q0 page rank score tag` and judgements `qid 0 page grade`, as TREC has them.

Fields are apart by white space, so white space in a name is percent-escaped there, and only there; so is a percent sign
that would read as an escape. A run's order is that of trec_eval: by score as a 32-bit number, then by name, both from
the highest down, whatever the rank column says. What is written here is in that order, with its scores in full.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from docsearch.evaluation.lines import Line, read_lines

Ranking = dict[str, float]  # page → score, best first
Qrels = Mapping[str, Mapping[str, int]]  # query → page → grade
TAG = "docsearch"

_ESCAPED = re.compile(r"\s|%(?=[0-9A-Fa-f]{2})")
_FIELDS = re.compile(r"[ \t]+")  # other white space belongs to a name; we escape it, not everyone does


def escape(name: str) -> str:
    """A name without white space; `unescape` gives it back."""
    return _ESCAPED.sub(lambda found: quote(found.group(), safe=""), name)


def unescape(name: str) -> str:
    """The name that `escape` was given."""
    return unquote(name)


def in_trec_order(scores: Mapping[str, float]) -> Ranking:
    """The pages as trec_eval orders them. Equal scores are rare and say nothing: so everyone makes the same of them."""
    with np.errstate(over="ignore"):  # beyond the largest they are all infinite, there as here
        singles = np.fromiter(scores.values(), np.float64, len(scores)).astype(np.float32)
    order = sorted(
        zip(singles.tolist(), map(escape, scores), scores, strict=True), key=lambda entry: entry[:2], reverse=True
    )
    return {page: scores[page] for _, _, page in order}


def write_run(path: Path, rankings: Mapping[str, Ranking]) -> None:
    """Write a run; a query without an answer leaves no line."""
    lines = (
        f"{escape(query)} Q0 {escape(page)} {rank} {float(score)!r} {TAG}"
        for query, ranking in rankings.items()
        for rank, (page, score) in enumerate(ranking.items(), 1)
    )
    _write(path, lines)


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgements."""
    _write(
        path, (f"{escape(query)} 0 {escape(page)} {n}" for query, pages in qrels.items() for page, n in pages.items())
    )


def read_run(path: Path) -> dict[str, Ranking]:
    """Read a run, whoever wrote it: query → ranking in trec_eval's order.

    Raises:
        UnsupportedInput: the message names the file and the line.
    """
    found: dict[str, dict[str, float]] = {}
    for line in read_lines(path):
        query, _, page, _, score, _ = _fields(line, 6, "qid Q0 page rank score tag")
        scores = found.setdefault(unescape(query), {})
        name = unescape(page)
        if name in scores:
            raise line.wrong(f"{name} is there twice for the query {unescape(query)}")
        scores[name] = _score(line, score)
    return {query: in_trec_order(scores) for query, scores in found.items()}


def read_qrels(path: Path) -> list[tuple[Line, str, str, int]]:
    """Read judgements: (line, query, page, grade) of each.

    Raises:
        UnsupportedInput: the message names the file and the line.
    """
    found = []
    for line in read_lines(path):
        query, _, page, grade = _fields(line, 4, "qid 0 page grade")
        found.append((line, unescape(query), unescape(page), line.whole_number(grade, "grade")))
    return found


def _fields(line: Line, n: int, form: str) -> list[str]:
    fields = _FIELDS.split(line.text.strip(" \t"))
    if len(fields) != n:
        raise line.wrong(f"it must be `{form}`: {n} fields with spaces between, and there are {len(fields)}")
    return fields


def _score(line: Line, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise line.wrong(f"the score is {text!r}, which is no number")
    return score


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
