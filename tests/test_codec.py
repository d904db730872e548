"""Codecs: what is lost is what their docstrings say, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from docsearch.store.codec import get_codec

ROWS = arrays(
    np.float32, st.tuples(st.integers(0, 9), st.integers(1, 40)), elements=st.floats(-1, 1, width=32)
)  # fmt: skip


def there_and_back(name: str, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    codec = get_codec(name)
    codes, scale = codec.encode(tokens)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(tokens), codec.row_bytes(tokens.shape[1]))
    assert scale > 0
    decoded = codec.decode(codes, tokens.shape[1])
    assert decoded.dtype == np.float32
    assert decoded.shape == tokens.shape
    return decoded * np.float32(scale)


@settings(deadline=None)
@given(tokens=ROWS)
def test_half_floats_lose_half_a_thousandth_of_the_largest_entry(tokens: NDArray[np.float32]) -> None:
    """A failure means: the codec that is called the truth is not."""
    largest = float(np.abs(tokens).max(initial=0))
    assume(largest > 0.01 or not tokens.any())  # a unit row of up to 10,000 dimensions has such an entry
    assert np.abs(there_and_back("float16", tokens) - tokens).max(initial=0) <= 0.0005 * largest


@settings(deadline=None)
@given(tokens=ROWS)
def test_bytes_lose_a_254th_of_the_largest_entry(tokens: NDArray[np.float32]) -> None:
    """A failure means: the default codec is worse than it says, and scores move."""
    largest = float(np.abs(tokens).max(initial=0))
    assert np.abs(there_and_back("int8", tokens) - tokens).max(initial=0) <= largest / 254 * (1 + 1e-5)


@settings(deadline=None)
@given(tokens=ROWS)
def test_bits_keep_every_sign_on_the_unit_ball(tokens: NDArray[np.float32]) -> None:
    """A failure means: bits are packed in another order than they are unpacked."""
    decoded = there_and_back("binary", tokens)
    assert np.array_equal(decoded > 0, tokens > 0)
    assert np.allclose((decoded**2).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["float16", "int8", "binary"])
def test_coding_twice_changes_nothing_more(name: str) -> None:
    """A failure means: every copy of an index loses a little."""
    tokens = np.random.default_rng(0).standard_normal((50, 33)).astype(np.float32)
    once = there_and_back(name, tokens)
    assert np.allclose(there_and_back(name, once), once, atol=1e-6)


def test_an_unknown_codec_is_named() -> None:
    """A failure means: a typing error ends in a KeyError."""
    with pytest.raises(ValueError, match=r"int9.*float16, int8, binary"):
        get_codec("int9")
