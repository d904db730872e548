"""MaxSim of whole numbers in C, on several threads; `docsearch/kernels/_native.c` says how it works."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from docsearch.kernels import _native
from docsearch.kernels.query import query_levels
from docsearch.types import PackedVectors

MOST_THREADS = 8  # more than this only wait for memory
TOKENS_PER_THREAD = 8192  # below this, handing work to another thread costs more than it saves


def maxsim_native(
    query: NDArray[np.float32], packed: PackedVectors, *, threads: int | None = None, isa: str | None = None
) -> NDArray[np.float32]:
    """The scores of ``maxsim_numpy``, (P,) float32, to the last bit; of every codec but half floats.

    Args:
        query: (Tq, D) unit rows.
        packed: P pages' coded token vectors.
        threads: how many to share the pages among, which changes no score; by default as many as pay.
        isa: one of `isas`, for tests; by default the fastest.

    Raises:
        ValueError: a page's block is not inside its buffer.
    """
    levels, query_scales = query_levels(packed.codec.turn(query))
    which, starts, lengths, scales = map(
        np.ascontiguousarray, (packed.which, packed.starts, packed.lengths, packed.scales)
    )
    scores = np.empty(len(packed), np.float32)

    def score(begin: int, end: int) -> None:
        _native.score(
            levels, query_scales, packed.codec.bits, packed.codec.has_token_scales,
            packed.codec.row_bytes(packed.dim), packed.buffers, which, starts, lengths, scales, scores, begin, end, isa,
        )  # fmt: skip

    own, *others = _shares(packed.lengths, threads)
    started = [_pool().submit(score, *share) for share in others]
    score(*own)
    for future in started:
        future.result()
    return scores


def isas() -> tuple[str, ...]:
    """The instruction sets this processor can run the kernel on, the fastest first."""
    return _native.isas()


def _shares(lengths: NDArray[np.int64], threads: int | None) -> list[tuple[int, int]]:
    """Cut the pages into runs of about as many token vectors each, one per thread."""
    before = np.cumsum(lengths.clip(0, 2**32))  # they are not checked yet
    total = int(before[-1]) if len(before) else 0
    if threads is None:
        threads = max(1, min(_cores(), MOST_THREADS, total // TOKENS_PER_THREAD))
    cuts = [0, *np.searchsorted(before, total * np.arange(1, threads) / threads).tolist(), len(lengths)]
    return list(pairwise(cuts))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, min(_cores(), MOST_THREADS) - 1), thread_name_prefix="maxsim")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # the child has none of the threads
