"""MaxSim of whole numbers with torch: faster than NumPy where the C kernel could not be built."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from docsearch.kernels.numpy_cpu import check_blocks, sum_of_best
from docsearch.kernels.query import query_levels
from docsearch.types import PackedVectors

BLOCK_ROWS = 6000  # rows multiplied at once: with their products, about one core's second-level cache at 128 dimensions


def maxsim_torch(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    """The scores of ``maxsim_numpy``, (P,) float32, to the last bit; of every codec but half floats.

    Raises:
        ValueError: a page's block is not inside its buffer.
    """
    check_blocks(packed)
    whole, query_scales = query_levels(packed.codec.turn(query))
    filled = np.flatnonzero(packed.lengths)
    best = np.empty((len(filled), len(query)), np.float32)
    ends = np.cumsum(packed.lengths[filled])
    begin = 0
    while begin < len(filled):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + BLOCK_ROWS, side="right")))
        pages = [packed.read(page) for page in filled[begin:end].tolist()]
        levels = np.concatenate([levels for levels, _ in pages], dtype=np.int8, casting="unsafe")
        # Products of a query token side by side, as maxima across them are many times slower.
        by_dimension = torch.from_numpy(levels).T  # (W, rows)
        products = torch._int_mm(torch.from_numpy(whole), by_dimension).numpy()  # noqa: SLF001 -- (Tq, rows) int32
        if packed.codec.has_token_scales:
            token_scales = np.concatenate([scales for _, scales in pages if scales is not None])
            products = products.astype(np.float32) * token_scales
        starts = [0, *(ends[begin:end] - before).tolist()]
        for page in range(begin, end):
            best[page] = products[:, starts[page - begin] : starts[page - begin + 1]].max(axis=1)
        begin = end
    scores = np.full(len(packed), -float(len(query)), np.float32)
    scores[filled] = sum_of_best(best, query_scales, packed.scales[filled])
    return scores
