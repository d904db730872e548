"""The sketch of a page: a sixth as many vectors that stand for its token vectors, so that a search can afford them all.

MaxSim with the sketches orders pages almost as MaxSim with everything does: on the development documents 99 % of the
best ten are among the best 200 by sketch (benchmarks/prefilter.py). Nothing is trained, so a page has its sketch as
soon as it is written. Sketches are for finding candidates only; no score is computed from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.store.codec import block_bytes, get_codec

SKETCH_CODEC = get_codec("r4")  # whatever the codec of the token vectors
_SHARE = 6  # token vectors to one of the sketch
_ROUNDS = 3


def sketch(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """The (ceil(T / 6), D) unit rows that stand for a page's (T, D) token vectors: means of rows that are alike.

    Spherical k-means (Dhillon & Modha 2001, "Concept decompositions for large sparse text data using clustering"),
    three rounds from runs of neighbours, since what stands together on a page is often alike.
    """
    n_kept = int(sketch_lengths(np.array([len(tokens)]))[0])
    cluster = np.arange(len(tokens)) * n_kept // max(len(tokens), 1)
    centres = _directions(tokens, cluster, np.zeros((n_kept, tokens.shape[1]), np.float32))
    for _ in range(_ROUNDS):
        cluster = (tokens @ centres.T).argmax(axis=1) if n_kept else cluster
        centres = _directions(tokens, cluster, centres)
    return centres


def sketch_lengths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many vectors the sketches of pages with so many token vectors have."""
    return -(-lengths // _SHARE)


def sketch_sizes(lengths: NDArray[np.int64], dim: int) -> NDArray[np.int64]:
    """The bytes of those sketches."""
    return sketch_lengths(lengths) * block_bytes(SKETCH_CODEC, 1, dim)


def encode_sketch(tokens: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A page's sketch as a block of `SKETCH_CODEC`, whose page scale is 1."""
    return SKETCH_CODEC.encode(sketch(tokens))[0]


def _directions(
    rows: NDArray[np.float32], cluster: NDArray[np.int64], before: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The unit mean of each cluster; one that lost all its rows, or whose rows cancel out, stays as it was."""
    members = np.zeros((len(before), len(rows)), np.float32)
    members[cluster, np.arange(len(rows))] = 1
    sums = members @ rows
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), before)
