"""MaxSim over packed pages: the definition, and faster ways to the same numbers."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from docsearch.kernels.numpy_cpu import maxsim_numpy
from docsearch.kernels.reference import maxsim_reference
from docsearch.types import PackedVectors

try:
    from docsearch.kernels import native
except ImportError:  # installed without a compiler
    native = None  # type: ignore[assignment]

__all__ = ["backend_name", "maxsim", "maxsim_reference"]


def maxsim(query: NDArray[np.float32], packed: PackedVectors, *, threads: int | None = None) -> NDArray[np.float32]:
    """Score every page against one query in the fastest way at hand; all ways give the same scores to the last bit.

    Args:
        query: (Tq, D) unit rows, one per query token.
        packed: P pages' coded token vectors.
        threads: how many share the pages where the C kernel scores them; by default as many as pay.

    Returns:
        (P,) float32, the scores of ``maxsim_reference`` but for rounding: of the query, unless pages are half floats.

    Raises:
        ValueError: the query has not the pages' dimension, or a page's block is not inside its buffer.
    """
    if query.shape[1:] != (packed.dim,):
        raise ValueError(f"a query of shape {query.shape} cannot be scored against vectors of {packed.dim} dimensions")
    if packed.codec.bits == 16:
        return maxsim_numpy(query, packed)
    if native:
        return native.maxsim_native(query, packed, threads=threads)
    if "torch" in sys.modules:  # it takes seconds to load: not for this
        from docsearch.kernels.torch_cpu import maxsim_torch

        return maxsim_torch(query, packed)
    return maxsim_numpy(query, packed)


def backend_name() -> str:
    """What ``maxsim`` scores whole numbers with, in words for people."""
    if native:
        return f"C, {native.isas()[0]}"
    return "torch" if "torch" in sys.modules else "NumPy"
