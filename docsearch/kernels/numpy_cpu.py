"""MaxSim in NumPy: what is used without a compiler, and for half floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.kernels.query import query_levels
from docsearch.types import PackedVectors

_EXACT = 2**24  # float32 holds every whole number up to here


def maxsim_numpy(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    """The scores of ``maxsim_reference``, (P,) float32; of levels, with the query rounded to levels too.

    Products of levels are whole numbers that float32 holds exactly, so they come out the same in any order of adding,
    on any processor, and the same as in the integer kernels.

    Raises:
        ValueError: a page's block is not inside its buffer.
    """
    check_blocks(packed)
    turned = np.ascontiguousarray(packed.codec.turn(query), np.float32)
    scales = np.ones(len(query), np.float32)
    if packed.codec.bits < 16:
        whole, scales = query_levels(turned)
        largest_product = turned.shape[1] * 127 * 2**packed.codec.bits
        turned = whole.astype(np.float32 if largest_product <= _EXACT else np.float64)
    scores = np.full(len(packed), -float(len(query)), np.float32)
    for page in np.flatnonzero(packed.lengths).tolist():
        levels, token_scales = packed.read(page)
        # One product per page: the last bits of a product of floats depend on how many rows it has, and so would ties.
        similarity = (levels @ turned.T).astype(np.float32, copy=False)  # (T, Tq)
        if token_scales is not None:
            similarity *= token_scales[:, None]
        scores[page] = sum_of_best(similarity.max(axis=0)[None], scales, packed.scales[page : page + 1])[0]
    return scores


def check_blocks(packed: PackedVectors) -> None:
    """Raise ValueError if a page's block is not inside its buffer; the C kernel checks on its own."""
    sizes = np.array([*(len(buffer) for buffer in packed.buffers), -1], np.int64)
    known = (packed.which >= 0) & (packed.which < len(packed.buffers))
    room = sizes[np.where(known, packed.which, -1)] - packed.starts
    token_bytes = packed.codec.row_bytes(packed.dim) + 2 * packed.codec.has_token_scales
    inside = (packed.starts >= 0) & (room >= 0) & (packed.lengths >= 0) & (packed.lengths <= room // token_bytes)
    for page in np.flatnonzero(~inside)[:1]:
        raise ValueError(
            f"page {page}: a block of {packed.lengths[page]} token vectors at byte {packed.starts[page]} of buffer "
            f"{packed.which[page]} is not inside that buffer"
        )


def sum_of_best(
    best: NDArray[np.float32], query_scales: NDArray[np.float32], page_scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Add up each page's (P, Tq) best products in the order of the query, in float64: (P,) scores."""
    total = np.zeros(len(best))
    for products, scale in zip(best.T.astype(np.float64), query_scales.astype(np.float64), strict=True):
        total += products * scale
    return (total * page_scales).astype(np.float32)
