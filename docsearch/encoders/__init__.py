"""Encoders: pages and queries in, token vectors and dense vectors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docsearch.errors import ModelUnavailable

if TYPE_CHECKING:
    from docsearch.protocols import Encoder

DEFAULT = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCard:
    """What `docsearch models` says about an encoder. A dimension of 0 is the model's own."""

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
        availability="extra jina-v4, and its weights: `docsearch models download jina-v4`, or jina-v4:FOLDER",
    ),
    EncoderCard(
        name="sentence-transformers:MODEL",
        summary="any late-interaction model its MultiVectorEncoder loads: ColBERT, ColPali, ColQwen and their like",
        reads="words or image",
        token_dim=0,
        dense_dim=0,
        licence="the model's own",
        availability="extra sentence-transformers, and a folder or a model in the local cache",
    ),
    EncoderCard(
        name="remote:MODEL",
        summary="a server that speaks the embeddings API of OpenAI and Jina, or vLLM's pooling",
        reads="words or image",
        token_dim=0,
        dense_dim=0,
        licence="the model's own",
        availability="extra remote, and DOCSEARCH_REMOTE_URL (DOCSEARCH_REMOTE_KEY)",
    ),
)


# What an index may ask for when it is opened. Anything else in its layout was not put there by us.
_KEPT = {
    "words": frozenset[str](),
    "jina-v4": frozenset({"task", "max_pixels", "image_rows_only", "revision"}),
    "sentence-transformers": frozenset({"revision"}),
    "remote": frozenset({"api", "reads", "query_prefix", "page_prefix", "timeout", "batch_size"}),
}


def load_encoder(name: str = DEFAULT, **settings: Any) -> Encoder:
    """The encoder of that name, ready to encode. Nothing is fetched for it, unless a setting says `download=True`.

    Args:
        name: of `docsearch models`; some have a source after a colon: `jina-v4:FOLDER`.
        settings: of that encoder, such as `max_pixels` of jina-v4.

    Raises:
        ModelUnavailable: it is not known, or what it needs is not here; the message says what is missing.
    """
    kind, _, source = name.partition(":")
    try:
        return _load(kind, source, settings)
    except ImportError as error:
        raise ModelUnavailable(
            f'{kind} needs the package {error.name}: pip install "docsearch-engine[{kind}]"'
        ) from error
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ModelUnavailable(f"{kind} has no such setting: {str(error).split()[-1]}") from error


def restore_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """The encoder an index was built with, from what it keeps: an index brings in no address and no download.

    Raises:
        ModelUnavailable: it is not here, or the settings are none that an encoder gives.
    """
    if strange := set(settings) - _KEPT.get(name.partition(":")[0], frozenset()):
        raise ModelUnavailable(
            f"{name} takes no {min(strange)!r} from an index: its layout.json has been tampered with"
        )
    return load_encoder(name, **settings)


def licence_of(name: str) -> str:
    """The licence of an encoder's weights, as far as it can be known here."""
    kind, _, source = name.partition(":")
    if kind == "sentence-transformers":
        from docsearch.encoders import sentence_transformers

        return sentence_transformers.licence_of(_place(source)) or "unknown: there is no model card, or it does not say"
    return next((card.licence for card in CARDS if card.name.partition(":")[0] == kind), "unknown")


def _load(kind: str, source: str, settings: dict[str, Any]) -> Encoder:
    if kind == "words" and not source:
        from docsearch.encoders.words import WordsEncoder

        return WordsEncoder(**settings)
    if kind == "jina-v4":
        from docsearch.encoders.jina_v4 import JinaV4Encoder

        return JinaV4Encoder(_place(source), **settings)
    if kind == "sentence-transformers" and source:
        from docsearch.encoders.sentence_transformers import SentenceTransformersEncoder

        return SentenceTransformersEncoder(_place(source), **settings)
    if kind == "remote" and source:
        from docsearch.encoders.remote import RemoteEncoder

        return RemoteEncoder(source, **settings)
    known = ", ".join(card.name for card in CARDS)
    shown = f"{kind}:{source}" if source else kind
    raise ModelUnavailable(f"there is no encoder {shown!r}; choose one of {known} (`docsearch models` describes them)")


def _place(source: str) -> str:
    """A folder by its full path, so that an index finds it from anywhere."""
    return str(Path(source).expanduser().resolve()) if source and Path(source).expanduser().is_dir() else source
