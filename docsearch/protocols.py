"""What can be swapped, each one to three methods: an encoder, a codec, a prefilter.

`docsearch.testing` has a fake encoder that is fast and predictable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage


@runtime_checkable
class Encoder(Protocol):
    """Turns pages and queries into vectors of one space.

    Attributes:
        name: what ``--encoder`` calls it, with its source after a colon where it has one.
        settings: what `load_encoder` needs besides the name to make it again, in JSON's types; kept with an index. No
            address, no key: an index from somewhere else must not be able to send anything anywhere.
        token_dim: D, the length of a token vector.
        dense_dim: E, the length of the dense vector.
        fingerprint: changes whenever the same page would get other vectors (weights, adapter, prompts, pixel budget).
        modalities: what a query may hold: ``{"text"}``, ``{"text", "image"}``.
        reads: ``"words"`` or ``"image"``: what it needs of a page. Pages come without pixels for the former.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def token_dim(self) -> int: ...
    @property
    def dense_dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def modalities(self) -> frozenset[str]: ...
    @property
    def reads(self) -> str: ...

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """One result per page, in order; a page's vectors do not depend on its neighbours in the call."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """One result per query, in order."""
        ...


class Codec(Protocol):
    """How token vectors become bytes on disk, and whole numbers, called levels, for the kernels.

    Attributes:
        name: what ``--codec`` calls it.
        bits: per dimension; 16 means half floats, less means levels.
        has_token_scales: whether every token vector has a scale of its own, stored behind the codes of its page.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def has_token_scales(self) -> bool: ...

    def width(self, dim: int) -> int:
        """W, the number of levels of a coded token vector: at least D."""
        ...

    def row_bytes(self, dim: int) -> int:
        """B, the bytes the levels of one token vector take."""
        ...

    def encode(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:
        """Turn one page's (T, D) unit rows into its block (`docsearch.store.codec`) and its positive scale."""
        ...

    def levels(self, codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:
        """Turn (T, B) codes into (T, W) levels; of half floats, the floats."""
        ...

    def turn(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (N, D) rows into the codec's coordinates, (N, W): products with levels need it."""
        ...

    def turn_back(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """Turn (N, W) rows of the codec's coordinates back into (N, D)."""
        ...


class Prefilter(Protocol):
    """Finds the pages worth scoring: best first; may miss, never invents."""

    def candidates(self, query: QueryVectors, n: int, *, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """At most n rows of the snapshot; ``allowed`` (P,) says which rows may appear, None means every live one."""
        ...
