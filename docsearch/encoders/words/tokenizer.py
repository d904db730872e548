"""Cut words into the pieces the model knows, and remember where on its word each piece stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

CACHED_WORDS = 50_000  # words kept with their pieces, about 20 MB; a document repeats most of its words
CACHED_LENGTH = 40  # characters; a longer word seldom comes back


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The pieces of a text, T of them.

    Attributes:
        ids: (T,) int64, rows of the embedding table.
        words: (T,) int64, the word each piece is a part of.
        spans: (T, 2) int64, the characters of that word the piece covers: first, one past the last.
    """

    ids: NDArray[np.int64]
    words: NDArray[np.int64]
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


class WordTokenizer:
    """The unigram tokenizer of multilingual-e5-small over a part of its vocabulary.

    No piece reaches over a space, so a word has the same pieces wherever it stands: each is cut once and kept.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._known: dict[str, NDArray[np.int64]] = {}

    def encode(self, words: Sequence[str]) -> Pieces:
        """The pieces of all words, in order. A word of control characters alone has none."""
        rows = [self._pieces(word) for word in words]
        table = np.concatenate([np.zeros((0, 3), np.int64), *rows])
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return Pieces(ids=table[:, 0], words=owner, spans=table[:, 1:])

    @property
    def size(self) -> int:
        """How many pieces the vocabulary has."""
        return int(self._tokenizer.get_vocab_size())

    def id_of(self, piece: str) -> int:
        """The id of one piece of the vocabulary.

        Raises:
            KeyError: the vocabulary has no such piece.
        """
        row = self._tokenizer.token_to_id(piece)
        if row is None:
            raise KeyError(piece)
        return int(row)

    def piece_of(self, row: int) -> str:
        """The piece with an id, a space where a word begins."""
        return str(self._tokenizer.id_to_token(row)).replace("\N{LOWER ONE EIGHTH BLOCK}", " ")

    def _pieces(self, word: str) -> NDArray[np.int64]:
        """(pieces of the word, 3) int64: id, first character, one past the last character."""
        known = self._known.get(word)
        if known is not None:
            return known
        encoding = self._tokenizer.encode(word, add_special_tokens=False)
        row = np.array([(i, *span) for i, span in zip(encoding.ids, encoding.offsets, strict=True)], np.int64)
        row = row.reshape(-1, 3)
        if len(word) <= CACHED_LENGTH:
            if len(self._known) >= CACHED_WORDS:
                self._known.clear()  # simple, and rare enough
            self._known[word] = row
        return row
