"""The codec of ColBERTv2 and PLAID, plain and small: the bar for ours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Plaid:
    """The codec of ColBERTv2 and PLAID: the nearest centroid, and each entry of the rest in one of a few buckets.

    As in the reference: 16 * sqrt(V) centroids, rounded down to a power of two, by 4 rounds of k-means; buckets by
    quantiles of the rest over all dimensions; what comes back is scaled to unit length.

    Source: Santhanam et al. 2022, "ColBERTv2", section 3.3; and "PLAID", section 3.
    """

    def __init__(self, tokens: NDArray[np.float16], *, per_centroid: int = 32) -> None:
        """Train the centroids on a sample."""
        import faiss

        self.n_centroids = 2 ** int(np.log2(16 * np.sqrt(len(tokens))))
        self.n_centroids = min(self.n_centroids, 2 ** int(np.log2(max(len(tokens) // 4, 1))))  # of a small corpus
        rows = np.random.default_rng(5).permutation(len(tokens))[: per_centroid * self.n_centroids]
        self._sample = tokens[np.sort(rows)].astype(np.float32)
        means = faiss.Kmeans(
            tokens.shape[1],
            self.n_centroids,
            niter=4,
            seed=7,
            min_points_per_centroid=1,
            max_points_per_centroid=per_centroid,
        )
        means.train(self._sample)
        self.centroids = means.centroids / np.linalg.norm(means.centroids, axis=1, keepdims=True)
        self._index = faiss.IndexFlatIP(tokens.shape[1])
        self._index.add(self.centroids)
        self._sample_rest = self._sample - self.centroids[self.nearest(self._sample)]

    def train_buckets(self, bits: int) -> None:
        """Lay the borders and the values of the buckets."""
        quantiles = np.arange(2**bits) / 2**bits
        self.borders = np.quantile(self._sample_rest[:50_000], quantiles[1:]).astype(np.float32)
        self.values = np.quantile(self._sample_rest[:50_000], quantiles + 0.5 / 2**bits).astype(np.float32)
        self.token_bytes = 2 + bits * self.centroids.shape[1] / 8

    def nearest(self, tokens: NDArray[np.float32]) -> NDArray[np.int64]:
        """(T,) centroids."""
        found: NDArray[np.int64] = self._index.search(tokens, 1)[1][:, 0]
        return found

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """(T,) centroids, and (T, D) buckets, not packed: packing costs next to nothing beside the centroids."""
        near = self.nearest(tokens)
        return near, self.buckets(tokens, near)

    def buckets(self, tokens: NDArray[np.float32], near: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(T, D) the bucket of every entry of the rest."""
        rest = tokens - self.centroids[near]
        return np.searchsorted(self.borders, rest.reshape(-1)).astype(np.uint8).reshape(rest.shape)

    def decode(self, near: NDArray[np.int64], buckets: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(T, D) unit rows."""
        rows = self.centroids[near] + self.values[buckets]
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit
