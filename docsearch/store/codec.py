"""How token vectors become bytes: `float16` is the truth, `r4` the default, `binary` the smallest.

A page is one block of bytes: the codes of its T token vectors, then, where the codec has them, T half floats, a scale
per token. Beside it stands one scale per page. All codecs but `float16` write whole numbers, *levels*, so that every
kernel on every machine computes the same integer products:

    token vector = levels * token scale * page scale        in the codec's coordinates: see `turn`

The coordinates differ from the encoder's by a rotation or an order of the dimensions, which the query takes on once
instead of every row being turned back.
"""

from __future__ import annotations

from functools import lru_cache

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


def block_bytes(codec: Codec, n_tokens: int, dim: int) -> int:
    """The size of a page's block."""
    return n_tokens * (codec.row_bytes(dim) + 2 * codec.has_token_scales)


class Float16:
    """IEEE half floats: 2 bytes a dimension, error below 0.0005 of a unit row's largest entry."""

    name, bits, has_token_scales = "float16", 16, False

    def width(self, dim: int) -> int:  # noqa: D102
        return dim

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return 2 * dim

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        return np.ascontiguousarray(tokens, "<f2").view(np.uint8).reshape(-1), 1.0

    def levels(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return np.ascontiguousarray(codes).view("<f2").reshape(len(codes), dim).astype(np.float32)

    def turn(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: D102
        return rows

    def turn_back(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:  # noqa: ARG002, D102
        return rows


class Int8(Float16):
    """Symmetric 8-bit integers, one scale per page: 1 byte a dimension, error at most 1/254 of the largest entry."""

    name, bits = "int8", 8

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return dim

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        largest = float(max(tokens.max(initial=0.0), -tokens.min(initial=0.0)))
        scale = largest / 127 if largest > 0 else 1.0
        levels = np.rint(tokens / np.float32(scale)).astype(np.int8)
        return levels.view(np.uint8).reshape(-1), scale

    def levels(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: ARG002, D102
        return codes.view(np.int8).astype(np.float32)


class Rotated:
    """Rotated scalar codes of 4, 3 or 2 bits a dimension and a half float per token; nothing is trained.

    A fixed random rotation makes the entries of any unit row look like draws of one normal distribution, so one grid
    of evenly spaced levels fits all: code c stands for 2c - (2^bits - 1), an odd number. The scale per token keeps
    its length: unit rows stay unit rows, so scores stay what cosines can be, but for the rounding of the query.

    Source: Gao & Long 2024, "RaBitQ", section 3.1 (why to rotate); steps after Max 1960, "Quantizing for
    minimum distortion", table II.
    """

    has_token_scales = True

    def __init__(self, bits: int, step: float) -> None:
        """Make the codec of so many bits; ``step`` is the distance of two levels in standard deviations."""
        self.name, self.bits, self._step = f"r{bits}", bits, step
        self._top = 2**bits - 1

    def width(self, dim: int) -> int:  # noqa: D102
        return -(-dim // 32) * 32

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return self.width(dim) * self.bits // 8

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        rows = self.turn(tokens)  # (T, W)
        lengths = np.sqrt(np.einsum("tw,tw->t", rows, rows))
        inverse_step = np.sqrt(rows.shape[1]) / (self._step * np.maximum(lengths, 1e-30))
        scaled = rows * inverse_step[:, None].astype(np.float32)
        scaled += np.float32(self._top / 2 + 0.5)  # adding a half and cutting off rounds to the nearest
        codes = np.clip(scaled, 0, self._top, out=scaled).astype(np.uint8)
        levels = codes.astype(np.float32) * 2 - self._top
        scales = (lengths / np.sqrt(np.einsum("tw,tw->t", levels, levels))).astype("<f2")  # odd levels: never 0
        return np.concatenate([_pack(codes, self.bits).reshape(-1), scales.view(np.uint8)]), 1.0

    def levels(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: D102
        levels: NDArray[np.float32] = _unpack(codes, self.bits, self.width(dim)).astype(np.float32) * 2 - self._top
        return levels

    def turn(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: D102
        return rows @ _rotation(rows.shape[1], self.width(rows.shape[1]))

    def turn_back(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return rows @ _rotation(dim, self.width(dim)).T


class Binary:
    """Sign bits, scored against the whole query: 1 bit a dimension. Every row becomes a corner of the unit ball.

    Source: asymmetric scoring as in Gordo et al. 2014, "Asymmetric distances for binary embeddings".
    """

    name, bits, has_token_scales = "binary", 1, False

    def width(self, dim: int) -> int:  # noqa: D102
        return 8 * self.row_bytes(dim)

    def row_bytes(self, dim: int) -> int:  # noqa: D102
        return -(-dim // 8)

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:  # noqa: D102
        return np.packbits(tokens > 0, axis=1).reshape(-1), float(1 / np.sqrt(tokens.shape[1]))

    def levels(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return _unpack(codes, 1, self.width(dim)).astype(np.float32) * 2 - 1

    def turn(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: D102
        turned = np.zeros((len(rows), self.width(rows.shape[1])), np.float32)
        turned[:, _bit_order(rows.shape[1])] = rows
        return turned

    def turn_back(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:  # noqa: D102
        return rows[:, _bit_order(dim)]


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(T, W) numbers below 2^bits into (T, W * bits / 8) bytes.

    With n = 8 / bits numbers to a byte, byte i holds the dimensions i, i + W/n, i + 2 W/n, ... from its lowest bits
    upwards: unpacking is shifts and masks of whole vectors. Three bits are the lower two followed by the highest one.
    """
    if bits == 3:
        return np.concatenate([_pack(codes & np.uint8(3), 2), _pack(codes >> np.uint8(2), 1)], axis=1)
    planes = codes.reshape(len(codes), 8 // bits, codes.shape[1] * bits // 8)
    packed = planes[:, 0].copy()
    for number in range(1, 8 // bits):
        packed |= planes[:, number] << np.uint8(bits * number)
    return packed


def _unpack(packed: NDArray[np.uint8], bits: int, width: int) -> NDArray[np.uint8]:
    """(T, W) numbers of `_pack`."""
    if bits == 3:
        low, high = packed[:, : width // 4], packed[:, width // 4 :]
        return _unpack(low, 2, width) | _unpack(high, 1, width) << np.uint8(2)
    mask = np.uint8(2**bits - 1)
    return np.concatenate([packed >> np.uint8(shift) & mask for shift in range(0, 8, bits)], axis=1)


@lru_cache(maxsize=8)
def _rotation(dim: int, width: int) -> NDArray[np.float32]:
    """(D, W) orthonormal rows, the same for ever: indices hold codes made with it.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups", section 5.
    """
    bits = np.random.PCG64(dim).random_raw(2 * width * width)  # the stream of a bit generator never changes
    uniform = (bits >> np.uint64(11)).astype(np.float64) / 2**53
    radius, angle = np.sqrt(-2 * np.log1p(-uniform[::2])), 2 * np.pi * uniform[1::2]  # Box & Muller 1958
    orthogonal, triangle = np.linalg.qr((radius * np.cos(angle)).reshape(width, width))
    return np.ascontiguousarray((orthogonal * np.sign(np.diag(triangle)))[:dim], np.float32)


@lru_cache(maxsize=8)
def _bit_order(dim: int) -> NDArray[np.int64]:
    """(D,) where `_unpack` puts each dimension that ``packbits`` has put into the highest bit first."""
    dims = np.arange(dim)
    return dims // 8 + (7 - dims % 8) * -(-dim // 8)


_CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (Float16(), Int8(), Rotated(4, 0.3352), Rotated(3, 0.586), Rotated(2, 0.9957), Binary())
}
