"""MaxSim in float32 on the CPU: a few pages at a time, so that the similarities never leave the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.types import PackedVectors

BLOCK_ROWS = 4096  # decoded rows held at once: 2 MB at 128 dimensions, about one core's second-level cache


def maxsim_cpu(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    """The same scores as ``maxsim_reference``, (P,) float32."""
    query = np.ascontiguousarray(query, np.float32)
    offsets = packed.offsets
    scores = np.full(len(packed.scales), -float(len(query)), np.float32)
    filled = np.flatnonzero(np.diff(offsets))
    begin = 0
    while begin < len(filled):
        first_row = offsets[filled[begin]]
        end = max(begin + 1, int(np.searchsorted(offsets[filled + 1], first_row + BLOCK_ROWS, side="right")))
        pages = filled[begin:end]
        rows = packed.codec.decode(packed.codes[first_row : offsets[pages[-1] + 1]], query.shape[1])
        for page in pages:
            # One product per page, at the cost of a few per cent: the last bits of a product depend on how many rows it
            # has, so in a product of many pages a page's score would depend on its neighbours, and so would ties.
            own = rows[offsets[page] - first_row : offsets[page + 1] - first_row]
            scores[page] = (own @ query.T).max(axis=0).sum() * packed.scales[page]
        begin = end
    return scores
