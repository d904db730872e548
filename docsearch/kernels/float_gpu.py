"""MaxSim of half floats on a GPU: by late-interaction-kernels, or by plain torch without. Owns that library."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

try:
    from late_interaction_kernels import maxsim_varlen
except ImportError:
    maxsim_varlen = None

_LIBRARY_ELEMENTS = 2**31 - 2**20  # the library counts elements in 32 bits: more in one call would read elsewhere
_PLAIN_ROWS = 2**20  # turned into single precision at once without the library: half a gigabyte at 128 dimensions


def maxsim_half(
    query: NDArray[np.float32], rows: torch.Tensor, first_rows: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Score pages whose rows lie on a device, as ``maxsim_reference`` does.

    The library rounds the query to half floats, as it is made for; plain torch computes in single precision.

    Args:
        query: (Tq, D) unit rows.
        rows: (V, D) float16, on any device.
        first_rows: (P,) where each page's rows begin, in any order. Pages that follow one another are read where they
            lie; others are gathered, a block at a time.
        lengths: (P,) token vectors of each page; one without scores -Tq.

    Returns:
        (P,) scores.
    """
    scores = np.full(len(lengths), -float(len(query)), np.float32)
    filled = np.flatnonzero(lengths)
    with_library = maxsim_varlen is not None and rows.is_cuda
    score = _by_library if with_library else _in_plain_torch
    most_rows = _LIBRARY_ELEMENTS // query.shape[1] if with_library else _PLAIN_ROWS
    moved_query = torch.from_numpy(np.ascontiguousarray(query, np.float32)).to(rows.device)
    for block in _blocks(filled, lengths, most_rows):
        offsets = np.concatenate([[0], np.cumsum(lengths[block])])
        in_order = bool((first_rows[block] == first_rows[block[0]] + offsets[:-1]).all())
        if in_order:
            block_rows = rows[first_rows[block[0]] :][: offsets[-1]]
        else:
            wanted = np.arange(offsets[-1]) + np.repeat(first_rows[block] - offsets[:-1], lengths[block])
            block_rows = rows[torch.from_numpy(wanted).to(rows.device)]
        ends = torch.from_numpy(offsets).to(rows.device)
        scores[block] = score(moved_query, block_rows, ends, int(lengths[block].max())).cpu().numpy()
    return scores


def _blocks(pages: NDArray[np.int64], lengths: NDArray[np.int64], most_rows: int) -> list[NDArray[np.int64]]:
    """The pages cut where a block's rows would exceed the most; a page alone may."""
    ends = np.cumsum(lengths[pages])
    blocks, begin = [], 0
    while begin < len(pages):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most_rows, side="right")))
        blocks.append(pages[begin:end])
        begin = end
    return blocks


def _by_library(query: torch.Tensor, rows: torch.Tensor, offsets: torch.Tensor, longest: int) -> torch.Tensor:
    whole_query = torch.tensor([0, len(query)], dtype=torch.int32, device=rows.device)
    scores: torch.Tensor = maxsim_varlen(
        query.half(), rows, whole_query, offsets.int(), max_seqlen_q=len(query), max_seqlen_d=longest
    )[0]
    return scores


def _in_plain_torch(query: torch.Tensor, rows: torch.Tensor, offsets: torch.Tensor, _longest: int) -> torch.Tensor:
    products = rows.float() @ query.T  # (V, Tq)
    best = torch.segment_reduce(products, "max", offsets=offsets, axis=0)  # (P, Tq)
    return best.sum(dim=1)
