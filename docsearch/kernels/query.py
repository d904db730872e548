"""The query as the kernels take it: whole numbers, so that every kernel computes the same products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def query_levels(turned: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a query's rows to 8-bit levels: the error is at most 1/254 of a row's largest entry.

    Args:
        turned: (Tq, W) rows in the codec's coordinates.

    Returns:
        (Tq, W) int8 levels in -127..127, and the (Tq,) float32 scales that make rows of them again.
    """
    largest = np.abs(turned).max(axis=1, initial=0)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(turned / scales[:, None]).astype(np.int8, order="C"), scales
