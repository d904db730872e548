"""Encoders: pages and queries in, token vectors and dense vectors out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docsearch.errors import ModelUnavailable

if TYPE_CHECKING:
    from docsearch.protocols import Encoder

DEFAULT = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCard:
    """What `docsearch models` says about an encoder."""

    name: str
    summary: str
    reads: str
    token_dim: int
    dense_dim: int
    licence: str
    availability: str


CARDS = (
    EncoderCard(
        name="words",
        summary="reads the words of a page (text layer or OCR); about 100 languages; no GPU, no download",
        reads="words",
        token_dim=128,
        dense_dim=256,
        licence="MIT (multilingual-e5-small)",
        availability="built in",
    ),
    EncoderCard(
        name="jina-v4",
        summary="looks at the page itself: layout, figures, handwriting; 3.8 billion parameters, wants a GPU",
        reads="image",
        token_dim=128,
        dense_dim=2048,
        licence="Qwen Research License (non-commercial)",
        availability="not in this release",
    ),
)


def load_encoder(name: str = DEFAULT) -> Encoder:
    """The encoder of that name, ready to encode.

    Raises:
        ModelUnavailable: it is not known, or what it needs is not here; the message says what is missing.
    """
    if name == "words":
        from docsearch.encoders.words import WordsEncoder

        return WordsEncoder()
    if name == "jina-v4":
        raise ModelUnavailable(
            "jina-v4 cannot be loaded: its native loader is not part of this release, and its weights "
            "(7.5 GB, non-commercial licence) are not here; use --encoder words, which is built in"
        )
    known = ", ".join(card.name for card in CARDS)
    raise ModelUnavailable(f"there is no encoder {name!r}; choose one of {known} (`docsearch models` describes them)")
