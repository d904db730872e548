"""How token vectors become bytes: `float16` is the truth, `int8` half of it, `binary` a sixteenth.

A codec has one positive scale per page. The best match of a query token within a page does not depend on it, so
scoring takes the maximum over unscaled rows and multiplies once per page.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from docsearch.protocols import Codec


def get_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        ValueError: no codec is called that.
    """
    try:
        return _CODECS[name]
    except KeyError:
        raise ValueError(f"there is no codec {name!r}; choose one of {', '.join(_CODECS)}") from None


class Float16:
    """IEEE half floats: 2 bytes a dimension, error below 0.0005 of a unit row's largest entry."""

    name = "float16"

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return 2 * dim

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        return np.ascontiguousarray(tokens, np.float16).view(np.uint8).reshape(len(tokens), 2 * tokens.shape[1]), 1.0

    def decode(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return np.ascontiguousarray(codes).view(np.float16).reshape(len(codes), dim).astype(np.float32)


class Int8:
    """Symmetric 8-bit integers, one scale per page: 1 byte a dimension, error at most 1/254 of the largest entry."""

    name = "int8"

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return dim

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        largest = float(np.abs(tokens).max(initial=0.0))
        scale = largest / 127 if largest > 0 else 1.0
        return np.rint(tokens / np.float32(scale)).astype(np.int8).view(np.uint8), scale

    def decode(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: ARG002, D102
        return codes.view(np.int8).astype(np.float32)


class Binary:
    """Sign bits, scored against the float query: 1 bit a dimension. Every row becomes a corner of the unit ball.

    Source: asymmetric scoring as in Gordo et al. 2014, "Asymmetric distances for binary embeddings".
    """

    name = "binary"

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return -(-dim // 8)

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        return np.packbits(tokens > 0, axis=1), float(1 / np.sqrt(tokens.shape[1]))

    def decode(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return _SIGNS[codes].reshape(len(codes), 8 * codes.shape[1])[:, :dim]


# (256, 8) float32: the eight signs of every byte value, so that decoding is one table look-up.
_SIGNS = (np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1).copy()

_CODECS: dict[str, Codec] = {codec.name: codec for codec in (Float16(), Int8(), Binary())}
