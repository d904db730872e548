"""A fake encoder for tests of applications: real contracts, instant, and its answers can be worked out by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from docsearch.errors import UnsupportedInput
from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage


class FakeEncoder:
    """Gives every distinct word a random unit vector of its own: equal words match with 1, others with about 0."""

    name = "fake"
    settings: ClassVar[Mapping[str, Any]] = {}
    token_dim = 32
    dense_dim = 48
    fingerprint = "fake-1"
    modalities = frozenset({"text", "image"})
    reads = "words"

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """One vector per word, in the word's box."""
        return [
            PageVectors(
                self._vectors(page.words.texts, self.token_dim), self._dense(page.words.texts), page.words.boxes
            )
            for page in pages
        ]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """One vector per word of the text and of the image."""
        return [self._encode_query(query) for query in queries]

    def _encode_query(self, query: Query) -> QueryVectors:
        words = (*(query.text or "").split(), *(query.words.texts if query.words else ()))
        if not words:
            raise UnsupportedInput("query image", "empty", "no words were found on it, and this encoder reads words")
        return QueryVectors(self._vectors(words, self.token_dim), self._dense(words), words)

    def _dense(self, words: Sequence[str]) -> NDArray[np.float32]:
        total = self._vectors([*words, ""], self.dense_dim).sum(axis=0)
        dense: NDArray[np.float32] = total / np.linalg.norm(total)
        return dense

    def _vectors(self, words: Sequence[str], dim: int) -> NDArray[np.float32]:
        rows = np.empty((len(words), dim), np.float32)
        for row, word in enumerate(words):
            seed = int.from_bytes(hashlib.blake2b(word.casefold().encode(), digest_size=8).digest(), "big")
            vector = np.random.default_rng(seed).standard_normal(dim)
            rows[row] = vector / np.linalg.norm(vector)
        return rows
