"""What each choice costs and brings: quality, time and space of every combination, in one table."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np

from docsearch.evaluation import machine
from docsearch.evaluation.judged import Judged
from docsearch.evaluation.metrics import RESAMPLES, SEED, Interval, intervals, per_query
from docsearch.evaluation.pages import Matched, PageNames
from docsearch.evaluation.recode import Vectors, copy_index, vectors_of
from docsearch.evaluation.run import Answer, Asker, OnProgress, encode, search
from docsearch.evaluation.trec import Qrels
from docsearch.index import Index
from docsearch.options import MOST_POOLING, CodecName, Mode, SearchOptions

SCHEMA = "docsearch.eval.ablation/1"
QUALITY = "nDCG@10"
GRID: dict[str, tuple[Any, ...]] = {  # what is tried of a choice that is named without values
    "codec": get_args(CodecName),
    "pooling": tuple(range(1, MOST_POOLING + 1)),
    "candidates": (50, 100, 200, 400),
    "mode": ("text", "visual", "hybrid"),
}

Grid = Mapping[str, Sequence[Any]]
Say = Callable[[str, float], None]  # the index that was made, and the seconds it took


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One combination; ``candidates`` is None where every page is scored, or none is by its vectors."""

    codec: CodecName
    pooling: int
    candidates: int | None
    mode: Mode
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of a setting."""

    setting: Setting
    metrics: Mapping[str, Interval]
    search_ms: Mapping[str, float]  # p50, p95
    bytes_per_page: int
    optimal: bool = False  # no other is as good, as fast and as small, and better in one of them

    @property
    def printed(self) -> tuple[float, float, int]:
        """Quality, milliseconds and bytes as the table has them: finer differences are noise."""
        return round(self.metrics[QUALITY].value, 3), round(self.search_ms["p50"], 1), self.bytes_per_page

    def to_dict(self) -> dict[str, Any]:
        """A record of ablation.json."""
        return asdict(self.setting) | {
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "search_ms": dict(self.search_ms),
            "bytes_per_page": self.bytes_per_page,
            "optimal": self.optimal,
        }


def read_grid(chosen: Sequence[str]) -> dict[str, list[Any]]:
    """What is to be varied: `codec,pooling` or `codec=r4,int8`, in any number.

    Raises:
        ValueError: a choice or one of its values is unknown.
    """
    grid: dict[str, list[Any]] = {}
    for word in chosen:
        names, mark, values = word.partition("=")
        for name in names.split(","):
            if name not in GRID or (mark and "," in names):
                raise ValueError(
                    f"{word!r} cannot be varied: write {', '.join(GRID)}, or one of them with values, as codec=r4,int8"
                )
            grid[name] = [_value(name, value) for value in values.split(",")] if mark else list(GRID[name])
    return grid


def _value(name: str, text: str) -> Any:
    if name == "candidates" and text.isdecimal() and int(text):
        return int(text)
    allowed = {str(value): value for value in (get_args(Mode) if name == "mode" else GRID[name])}
    if name == "candidates" or text not in allowed:
        choices = "a whole number above 0" if name == "candidates" else f"one of {', '.join(allowed)}"
        raise ValueError(f"{name}={text}: choose {choices}")
    return allowed[text]


def settings(grid: Grid, index: Index, options: SearchOptions) -> list[Setting]:
    """Every combination once, those of one index together; and, as the yardstick, every page scored by the finest."""
    codecs = list(grid.get("codec", [index.layout.codec]))
    poolings = list(grid.get("pooling", [index.layout.pooling]))
    modes = list(grid.get("mode", [options.mode]))
    finest = {"codec": min(codecs, key=list(GRID["codec"]).index), "pooling": min(poolings)}
    found: dict[Setting, None] = {}
    for codec, pooling in itertools.product(codecs, poolings):
        of_index = {"codec": codec, "pooling": pooling}
        for mode in modes:
            if mode == "text":  # the same in every index
                found.setdefault(Setting(**finest, candidates=None, mode=mode))
                continue
            if of_index == finest:
                found.setdefault(Setting(**of_index, candidates=None, mode=mode, exact=True))
            for candidates in grid.get("candidates", [options.n_candidates]):
                found.setdefault(Setting(**of_index, candidates=candidates, mode=mode))
    return sorted(found, key=lambda setting: (codecs.index(setting.codec), setting.pooling))


def ablate(
    index: Index,
    judged: Judged,
    grid: Grid,
    options: SearchOptions,
    measures: Sequence[Any],
    *,
    names: PageNames,
    keep: Path | None = None,
    on_progress: OnProgress = lambda *_: None,
    say: Say = lambda *_: None,
) -> list[Row]:
    """Answer every query in every setting.

    Choices of the index (codec, pooling) need one of their own: its pages are encoded again, once for all, and stored
    in each way (`docsearch.evaluation.recode`). The others vary how an index is asked.

    Args:
        index: the index; it is one of those compared where its codec and pooling are asked for.
        judged: in its names.
        grid: of `read_grid`.
        options: what is not varied.
        measures: nDCG@10 among them.
        names: of the index's pages.
        keep: a folder for the indexes that are made, which are found there another time; None: they are temporary.
        on_progress: what is being done, how much of it is done, and of how much.
        say: told of every index that was made.

    Raises:
        UnsupportedInput: a document has gone or changed.
    """
    encoded = encode(index, judged, mode="auto", on_progress=on_progress)
    tried = settings(grid, index, options)
    with _Indexes(index, keep, on_progress, say) as indexes:
        askers = [
            Asker(indexes.get(setting.codec, setting.pooling), judged, _asked(setting, options), names)
            for setting in tried
        ]
        answers = search(askers, encoded, on_progress=on_progress)
        sizes = [indexes.get(setting.codec, setting.pooling).stats()["bytes_per_page"] for setting in tried]
    qrels = {query.id: judged.qrels[query.id] for query in judged.answerable}
    return _marked(
        [
            _row(setting, of_setting, qrels, measures, bytes_per_page=size)
            for setting, of_setting, size in zip(tried, answers, sizes, strict=True)
        ]
    )


def _row(
    setting: Setting, answers: Mapping[str, Answer], qrels: Qrels, measures: Sequence[Any], *, bytes_per_page: int
) -> Row:
    values = per_query(qrels, {query: answer.ranking for query, answer in answers.items()}, measures)
    p50, p95 = np.percentile([answer.search_ms or 0.0 for answer in answers.values()], [50, 95])
    times = {"p50": float(p50), "p95": float(p95)}
    return Row(setting=setting, metrics=intervals(values), search_ms=times, bytes_per_page=bytes_per_page)


def _asked(setting: Setting, options: SearchOptions) -> SearchOptions:
    """What is asked in a setting: rankings as long as its candidates allow."""
    n_candidates = setting.candidates or options.n_candidates
    k = min(options.k, n_candidates)
    return replace(options, mode=setting.mode, exact=setting.exact, n_candidates=n_candidates, k=k)


class _Indexes:
    """The given index, and those made from its documents: all of them at hand, so that they can be asked in turn."""

    def __init__(self, index: Index, keep: Path | None, on_progress: OnProgress, say: Say) -> None:
        self._index, self._keep, self._on_progress, self._say = index, keep, on_progress, say
        self._open = {(index.layout.codec, index.layout.pooling): index}

    def __enter__(self) -> Self:
        self._held = ExitStack()
        self._temporary = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="docsearch-ablate-")))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def get(self, codec: CodecName, pooling: int) -> Index:
        """The index with this codec and pooling, made where there is none."""
        if (codec, pooling) not in self._open:
            name, started = f"{codec}-{pooling}", time.monotonic()
            made = copy_index(
                self._index,
                self._vectors,
                (self._keep or self._temporary) / name,
                codec=codec,
                pooling=pooling,
                on_pages=lambda done, total: self._on_progress(f"pages as {name}", done, total),
            )
            self._open[codec, pooling] = self._held.enter_context(made)
            self._say(name, time.monotonic() - started)
        return self._open[codec, pooling]

    @cached_property
    def _vectors(self) -> Vectors:
        return vectors_of(self._index, self._temporary, on_pages=partial(self._on_progress, "pages read"))


def record(rows: Sequence[Row], index: Index, matched: Matched, options: SearchOptions) -> dict[str, Any]:
    """The content of ablation.json."""
    return {
        "schema": SCHEMA,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": matched.judged.name,
        "queries": len(matched.judged.answerable),
        "n_pages_not_in_index": len(matched.missing),
        "pages": index.stats()["pages"],
        "encoder": index.layout.encoder,
        "fingerprint": index.layout.fingerprint,
        "options": {"depth": options.k, "where": options.where, "path": options.path},
        "rows": [row.to_dict() for row in rows],
        "versions": machine.versions(),
        "hardware": machine.hardware(),
        "seed": SEED,
        "resamples": RESAMPLES,
    }


def _marked(rows: Sequence[Row]) -> list[Row]:
    """The rows with the mark on those that no other is better than: more quality, less time, less space."""
    printed = [row.printed for row in rows]
    return [replace(row, optimal=not any(_beats(other, row.printed) for other in printed)) for row in rows]


def _beats(one: tuple[float, float, int], other: tuple[float, float, int]) -> bool:
    costs = [(-quality, ms, size) for quality, ms, size in (one, other)]
    return costs[0] != costs[1] and all(a <= b for a, b in zip(*costs, strict=True))
