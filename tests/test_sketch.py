"""Sketches: a few vectors that stand for many."""

from __future__ import annotations

import numpy as np
import pytest
from test_codec import unit_rows

from docsearch.store.sketch import encode_sketch, sketch, sketch_lengths, sketch_sizes


@pytest.mark.parametrize("run", [12, 18, 30])
def test_planted_directions_come_back(run: int) -> None:
    """A failure means: rows that are alike are not brought together, so a sketch stands for none of them."""
    directions = unit_rows(10, 64)
    rows = np.repeat(directions, run, axis=0) + 0.1 * unit_rows(10 * run, 64, seed=2)
    rows = np.roll(rows, 3, axis=0)  # so that no run is cut where the directions change
    found = sketch(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert found.shape == (10 * run // 6, 64)
    assert (directions @ found.T).max(axis=1).min() > 0.97


@pytest.mark.parametrize("n_tokens", [0, 1, 5, 6, 7, 100])
def test_a_sixth_of_the_rows_stand_for_all(n_tokens: int) -> None:
    """A failure means: where a sketch lies in its file is computed otherwise than it is written."""
    rows = unit_rows(n_tokens, 32)
    found = sketch(rows)
    assert found.shape == (-(-n_tokens // 6), 32)
    assert sketch_lengths(np.array([n_tokens])) == len(found)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert len(encode_sketch(rows)) == sketch_sizes(np.array([n_tokens]), 32)


def test_rows_that_cancel_out_stay_finite() -> None:
    """A failure means: a page with opposite or zero rows has a sketch of nothing, and is found by every query."""
    assert np.isfinite(sketch(np.array([[1, 0], [-1, 0]] * 6, np.float32))).all()
    assert not sketch(np.zeros((9, 4), np.float32)).any()
