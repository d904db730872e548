import numpy as np
import pytest

from docsearch.store.pooling import pool, ward_clusters


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_rows(n, dim=32, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim)))


def boxes_of(n):
    """Every token vector in a box of its own."""
    return np.arange(4 * n, dtype=np.uint16).reshape(n, 4)


def ward_by_hand(rows, n_clusters):
    """Ward's linkage as it is defined: join the two whose joining costs least, again and again."""
    clusters = [[at] for at in range(len(rows))]

    def cost(one, other):
        gap = rows[one].astype(np.float64).mean(axis=0) - rows[other].astype(np.float64).mean(axis=0)
        return len(one) * len(other) / (len(one) + len(other)) * gap @ gap

    while len(clusters) > n_clusters:
        pairs = [(cost(clusters[i], clusters[j]), i, j) for j in range(len(clusters)) for i in range(j)]
        _, i, j = min(pairs)
        clusters[i] += clusters.pop(j)
    labels = np.empty(len(rows), np.int64)
    for number, members in enumerate(sorted(clusters, key=min)):
        labels[members] = number
    return labels


@pytest.mark.parametrize(("n", "n_clusters"), [(2, 1), (9, 4), (40, 20), (41, 14), (60, 1), (60, 59)])
def test_clusters_are_those_of_wards_linkage(n, n_clusters):
    """A failure means: joining many pairs at once joins others than Ward's linkage does one by one."""
    rows = random_rows(n, seed=n)
    assert np.array_equal(ward_clusters(rows, n_clusters), ward_by_hand(rows, n_clusters))


def test_planted_clusters_come_back():
    """A failure means: rows that say the same are not the ones that become one."""
    random = np.random.default_rng(4)
    meanings = random_rows(25, 64, seed=5)
    said = random.permutation(np.repeat(np.arange(25), 3))
    tokens = unit(meanings[said] + 0.02 * random.standard_normal((75, 64)))

    pooled, boxes = pool(tokens, boxes_of(75), 3)

    in_order = said[np.sort(np.unique(said, return_index=True)[1])]
    assert pooled.shape == (25, 64)
    assert np.array_equal((pooled @ meanings.T).argmax(axis=1), in_order)  # in the order of their first members
    expected = [unit(tokens[said == meaning].mean(axis=0)) for meaning in in_order]
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    nearest = [
        max(np.flatnonzero(said == meaning), key=lambda at, mean=mean: tokens[at] @ mean)
        for meaning, mean in zip(in_order, expected, strict=True)
    ]
    assert np.array_equal(boxes, boxes_of(75)[nearest])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_factor_one_changes_nothing(n):
    """A failure means: an index without pooling would hold other vectors than the encoder's."""
    tokens, boxes = random_rows(n), boxes_of(n)
    pooled, pooled_boxes = pool(tokens, boxes, 1)
    assert np.array_equal(pooled, tokens)
    assert np.array_equal(pooled_boxes, boxes)


@pytest.mark.parametrize(("n", "factor", "kept"), [(0, 2, 0), (1, 3, 1), (2, 3, 1), (3, 2, 2), (700, 3, 234)])
def test_the_share_kept_is_rounded_up(n, factor, kept):
    """A failure means: a short page could lose all its rows."""
    pooled, boxes = pool(random_rows(n), boxes_of(n), factor)
    assert pooled.shape == (kept, 32)
    assert boxes.shape == (kept, 4)
    assert pooled.dtype == np.float32
    assert boxes.dtype == np.uint16
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)


def test_equal_and_opposite_rows_pool():
    """A failure means: a page that repeats itself hangs, or rows that cancel out become no direction at all."""
    tokens = np.repeat(random_rows(3), 20, axis=0)
    pooled, _ = pool(tokens, boxes_of(60), 20)
    np.testing.assert_allclose(pooled, tokens[::20], atol=1e-6)
    opposite = random_rows(1)
    pooled, _ = pool(np.concatenate([opposite, -opposite]), boxes_of(2), 2)
    assert np.array_equal(pooled, opposite)


def test_the_same_page_pools_the_same():
    """A failure means: indexing a file again gives other scores."""
    tokens = random_rows(200, seed=8)
    one, other = pool(tokens, boxes_of(200), 2), pool(tokens.copy(), boxes_of(200), 2)
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_a_factor_below_one_is_refused():
    """A failure means: a wrong option is noticed only as wrong vectors."""
    with pytest.raises(ValueError, match="cannot pool by 0"):
        pool(random_rows(3), boxes_of(3), 0)
