"""Codecs: what is lost is what their docstrings say, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from docsearch.store.codec import block_bytes, get_codec
from docsearch.types import PackedVectors

CODECS = ["float16", "int8", "r4", "r3", "r2", "binary"]
ROWS = arrays(
    np.float32, st.tuples(st.integers(0, 9), st.integers(1, 40)), elements=st.floats(-1, 1, width=32)
)  # fmt: skip


def packed(name: str, tokens: NDArray[np.float32]) -> PackedVectors:
    codec = get_codec(name)
    block, scale = codec.encode(tokens)
    assert block.dtype == np.uint8
    assert block.shape == (block_bytes(codec, *tokens.shape),)
    assert scale > 0
    one = np.zeros(1, np.int64)
    return PackedVectors((block,), one, one, one + len(tokens), np.float32([scale]), codec, tokens.shape[1])


def there_and_back(name: str, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    decoded = packed(name, tokens).decode(0)
    assert decoded.dtype == np.float32
    assert decoded.shape == tokens.shape
    return decoded


def unit_rows(n: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None)
@given(tokens=ROWS)
def test_half_floats_lose_half_a_thousandth_of_the_largest_entry(tokens: NDArray[np.float32]) -> None:
    """A failure means: the codec that is called the truth is not."""
    largest = float(np.abs(tokens).max(initial=0))
    assume(largest > 1e-3)
    assert np.abs(there_and_back("float16", tokens) - tokens).max(initial=0) <= 0.0005 * largest


@settings(deadline=None)
@given(tokens=ROWS)
def test_bytes_lose_a_254th_of_the_largest_entry(tokens: NDArray[np.float32]) -> None:
    """A failure means: `int8` is worse than it says, and scores move."""
    largest = float(np.abs(tokens).max(initial=0))
    assert np.abs(there_and_back("int8", tokens) - tokens).max(initial=0) <= largest / 254 * (1 + 1e-5)


@settings(deadline=None)
@given(tokens=ROWS)
def test_bits_keep_every_sign_on_the_unit_ball(tokens: NDArray[np.float32]) -> None:
    """A failure means: bits are packed in another order than they are unpacked."""
    decoded = there_and_back("binary", tokens)
    assert np.array_equal(decoded > 0, tokens > 0)
    assert np.allclose((decoded**2).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("name", "most"), [("r4", 0.0115), ("r3", 0.0375), ("r2", 0.1188)])
@pytest.mark.parametrize("dim", [32, 48, 100, 128, 320])
def test_rotated_codes_lose_what_an_even_grid_must_lose(name: str, most: float, dim: int) -> None:
    """A failure means: the rotation, the grid or the packing is wrong; the least possible is in Max 1960, table II."""
    for tokens in (unit_rows(400, dim), np.eye(dim, dtype=np.float32)):  # also rows that lie along the axes
        decoded = there_and_back(name, tokens)
        cosine = (decoded * tokens).sum(axis=1)
        if get_codec(name).width(dim) == dim:
            assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-3)  # unit rows stay unit rows
        else:
            cosine /= np.linalg.norm(decoded, axis=1)
        share = dim / get_codec(name).width(dim)  # what the grid loses in the dimensions it has to spare costs nothing
        assert 0.7 * most * share < 1 - (cosine**2).mean() < 1.1 * most


@pytest.mark.parametrize("name", CODECS)
def test_products_with_levels_are_products_with_decoded_rows(name: str) -> None:
    """A failure means: a query is turned into other coordinates than the codes lie in."""
    for dim in (3, 31, 33, 128):
        tokens, query = unit_rows(20, dim), unit_rows(5, dim, seed=1)
        page = packed(name, tokens)
        levels, token_scales = page.read(0)
        assert levels.shape == (20, page.codec.width(dim))
        assert name == "float16" or np.array_equal(levels, np.rint(levels))
        rows = levels * page.scales[0] * (1 if token_scales is None else token_scales[:, None])
        assert np.allclose(rows @ page.codec.turn(query).T, page.decode(0) @ query.T, atol=1e-5)


@pytest.mark.parametrize("name", ["float16", "int8", "binary"])
def test_coding_twice_changes_nothing_more(name: str) -> None:
    """A failure means: every copy of an index loses a little."""
    once = there_and_back(name, unit_rows(50, 33))
    assert np.allclose(there_and_back(name, once), once, atol=1e-6)


@pytest.mark.parametrize("name", CODECS)
def test_zero_rows_and_empty_pages_are_coded_too(name: str) -> None:
    """A failure means: a blank page or a dead row stops the indexing, or comes back as something."""
    assert there_and_back(name, np.empty((0, 20), np.float32)).shape == (0, 20)
    decoded = there_and_back(name, np.zeros((2, 20), np.float32))
    assert name == "binary" or not decoded.any()


ROTATION_BEGINS = np.array([[-0.12078252, -0.05907713, -0.04229109], [0.02663193, 0.03307164, 0.10390666]])


def test_the_rotation_stays_as_it_is() -> None:
    """A failure means: indices written before cannot be read any more."""
    codec = get_codec("r4")
    rows = codec.turn(np.eye(128, dtype=np.float32))
    assert np.allclose(rows @ rows.T, np.eye(128), atol=1e-5)
    assert rows[:2, :3] == pytest.approx(ROTATION_BEGINS, abs=1e-6)


def test_an_unknown_codec_is_named() -> None:
    """A failure means: a typing error ends in a KeyError."""
    with pytest.raises(ValueError, match=r"int9.*float16, int8, r4, r3, r2, binary"):
        get_codec("int9")
