"""MaxSim as it is defined, in float64: the yardstick for every faster kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.types import PackedVectors


def maxsim_reference(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float64]:
    """Score every page against one query: each query token takes its best page token.

    Args:
        query: (Tq, D) unit rows, one per query token.
        packed: P pages' coded token vectors.

    Returns:
        (P,) sums of cosines in [-Tq, Tq]; -Tq, the least possible, for a page that owns no token vectors.

    Source: Khattab & Zaharia 2020, "ColBERT", section 3.3; ours takes packed pages, not padded ones.
    """
    turned = packed.codec.turn(query).astype(np.float64)  # (Tq, W)
    scores = np.full(len(packed), -float(len(query)))
    for page in np.flatnonzero(packed.lengths).tolist():
        levels, token_scales = packed.read(page)
        rows = levels.astype(np.float64) * (1 if token_scales is None else token_scales[:, None].astype(np.float64))
        similarity = rows @ turned.T * float(packed.scales[page])  # (T, Tq)
        scores[page] = similarity.max(axis=0).sum()
    return scores
