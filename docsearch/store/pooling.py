"""Fewer token vectors per page: those that say nearly the same become one, before the codec sees them.

The clusters are exactly those of Ward's linkage, cut where a page has its share of rows left. They are found in rounds:
two clusters that are each other's nearest are joined by Ward's linkage sooner or later whatever happens around them,
so all such pairs can be joined at once, which is a few operations on whole arrays a round and some ten rounds a page.

Source: Ward 1963, "Hierarchical grouping to optimize an objective function"; mutual neighbours: Murtagh 1983, "A survey
of recent advances in hierarchical clustering algorithms"; pooling of token vectors: Clavié, Chaffin & Adams 2024,
"Reducing the footprint of multi-vector retrieval with minimal performance impact via token pooling".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pool(
    tokens: NDArray[np.float32], boxes: NDArray[np.uint16], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Join a page's most similar token vectors until one in ``factor`` is left, rounded up.

    Args:
        tokens: (T, D) float32 unit rows. Takes memory and time in proportion to T * T: 2 MB at 700.
        boxes: (T, 4) uint16, where each stands on the page.
        factor: how many times fewer rows; 1 changes nothing.

    Returns:
        (ceil(T / factor), D) unit rows, each the direction of its members' mean, in the order of their first members;
        and the (ceil(T / factor), 4) boxes of the members nearest to the means: a place where that was really read.

    Raises:
        ValueError: the factor is below 1.
    """
    if factor < 1:
        raise ValueError(
            f"cannot pool by {factor}: the factor is 1 for nothing, 2 or 3 for half or a third of the rows"
        )
    kept = -(-len(tokens) // factor)
    if kept == len(tokens):
        return tokens, boxes
    cluster = ward_clusters(tokens, kept)
    by_cluster = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[by_cluster], np.arange(kept))
    sums = np.add.reduceat(tokens[by_cluster], starts, axis=0)
    nearness = np.einsum("td,td->t", tokens, sums[cluster])
    nearest = np.lexsort((-nearness, cluster))[starts]  # a member of each
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Opposite rows have no mean direction: one of them stands for both.
    return np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), tokens[nearest]), boxes[nearest]


def ward_clusters(rows: NDArray[np.float32], n_clusters: int) -> NDArray[np.int64]:
    """(T,) the cluster of each row as Ward's linkage cuts them, from 0 in the order of their first rows."""
    n_joins = len(rows) - n_clusters
    clusters = _Clusters(rows)
    left, right, heights = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    limit = np.float32(np.inf)
    while True:
        first, second, height = clusters.mutual_neighbours(limit)
        if not len(first):
            break
        left, right = np.append(left, clusters.names[first]), np.append(right, clusters.names[second])
        heights = np.append(heights, height)
        clusters.join(first, second, height)
        if len(heights) >= n_joins:  # later joins are higher than those they are made of: no need for higher ones
            limit = np.partition(heights, n_joins - 1)[n_joins - 1]
    lowest = np.argsort(heights, kind="stable")[:n_joins]
    parents = np.arange(len(rows) + len(heights))
    parents[left[lowest]] = parents[right[lowest]] = len(rows) + lowest
    while (parents[parents] != parents).any():
        parents = parents[parents]
    _, firsts, cluster = np.unique(parents[: len(rows)], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[cluster]


class _Clusters:
    """What is not yet joined, and all distances: (C, C) float32, exactly symmetric, infinite on the diagonal.

    The distance of two clusters with n and m members, sums s and t, and a = |s|^2 / n, b = |t|^2 / m is by how much
    joining them raises the sum of squares around the means: (a m + n b - 2 s t) / (n + m), one matrix product.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.names = np.arange(len(rows))  # rows, then joins in their order
        self._next_name = len(rows)
        self._heights = np.zeros(len(rows), np.float32)
        self._sums, self._sizes = rows.astype(np.float32), np.ones(len(rows), np.float32)
        self._squares = np.einsum("td,td->t", self._sums, self._sums)
        self._distances = self._sums @ self._sums.T  # of unit rows: half their squared distance is 1 less their product
        np.subtract(1, self._distances, out=self._distances)
        np.fill_diagonal(self._distances, np.inf)

    def mutual_neighbours(self, limit: np.float32) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Pairs that are nearest to each other and join below ``limit``, with the heights at which they join."""
        if len(self.names) == 1:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        nearest, own = self._distances.argmin(axis=1), np.arange(len(self.names))
        first = np.flatnonzero((nearest[nearest] == own) & (own < nearest))
        second = nearest[first]
        # Rounding must not let a join come before those it is made of.
        heights = np.maximum(self._distances[first, second], np.maximum(self._heights[first], self._heights[second]))
        low = heights < limit
        return first[low], second[low], heights[low]

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64], heights: NDArray[np.float32]) -> None:
        """Make one cluster of each pair, at the place of its first."""
        self._sums[first] += self._sums[second]
        self._sizes[first] += self._sizes[second]
        self._squares[first] = np.einsum("td,td->t", self._sums[first], self._sums[first]) / self._sizes[first]
        self._heights[first] = heights
        self.names[first] = self._next_name + np.arange(len(first))
        self._next_name += len(first)
        stay = np.delete(np.arange(len(self.names)), second)
        new = np.searchsorted(stay, first)
        self._distances = self._distances[stay].take(stay, axis=1)  # what [:, stay] gives lies column by column
        self.names, self._heights, self._sums = self.names[stay], self._heights[stay], self._sums[stay]
        self._sizes, self._squares = self._sizes[stay], self._squares[stay]
        distances = np.column_stack([-2 * self._sums[new], self._squares[new], self._sizes[new]]) @ np.column_stack(
            [self._sums, self._sizes, self._squares]
        ).T  # fmt: skip
        distances /= self._sizes[new, None] + self._sizes
        among = distances[:, new]
        among = np.minimum(among, among.T)
        np.fill_diagonal(among, np.inf)
        distances[:, new] = among
        self._distances[new] = distances
        self._distances[:, new] = distances.T
