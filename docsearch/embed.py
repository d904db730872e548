"""Vectors without an index: texts, images and PDFs in; what the embeddings API of the flagship returns, out."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from docsearch.encoders import DEFAULT, load_encoder
from docsearch.errors import UnsupportedInput
from docsearch.indexer.pool import Failed, PageFailed, RenderJob, RenderPool, read_words
from docsearch.protocols import Encoder
from docsearch.types import PageRef, Query, RenderedPage, Words

if TYPE_CHECKING:
    from PIL.Image import Image

EmbedTask = Literal["text-matching", "retrieval.query", "retrieval.passage", "code.query", "code.passage"]
EmbeddingType = Literal["float", "base64", "binary", "ubinary"]
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The vectors of one text, image or page: ``dense`` (E,) and ``tokens`` (T, D), float32 unit."""

    dense: Float
    tokens: Float
    is_image: bool


def embed(
    inputs: Sequence[str | Image | Path],
    *,
    model: str | Encoder = DEFAULT,
    task: EmbedTask = "text-matching",
    dimensions: int | None = None,
    embedding_type: EmbeddingType = "float",
    return_multivector: bool = False,
    truncate: bool = False,
) -> dict[str, Any]:
    """The answer of ``POST /v1/embeddings`` to these inputs, computed here.

    A string is a text, whatever it says; an image is a PIL image; a `Path` is a PDF or image file, each of whose pages
    is an input of its own. The fields have the meaning they have in the Jina embeddings API of 2026-04.

    Args:
        inputs: what to embed.
        model: a name of `docsearch models`, or an encoder.
        task: which adapter, and which side of a search; a model without adapters heeds the side only.
        dimensions: keep this many of the dense vector, made unit again.
        embedding_type: `float`: a list; `base64`: little-endian float32; `binary`, `ubinary`: signs, eight a byte,
            as int8 (minus 128) or uint8.
        return_multivector: the token vectors instead of the dense vector.
        truncate: cut a text that is longer than the model reads; otherwise it is an error.

    Returns:
        ``{"object": "list", "model", "data": [{"object", "index", "embedding"}], "usage": {…}}``; with
        `return_multivector` the items are ``{"object": "embeddings", "index", "embeddings"}``.

    Raises:
        ValueError: a field is out of range, or two exclude each other.
        UnsupportedInput: an input is empty, unreadable or too long.
        ModelUnavailable: the model is not here.
    """
    for name, value, choices in (("task", task, EmbedTask), ("embedding_type", embedding_type, EmbeddingType)):
        if value not in get_args(choices):
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(choices))}")
    if return_multivector and dimensions is not None:
        raise ValueError("dimensions shortens the dense vector, and cannot be used with return_multivector")
    encoder = load_encoder(model) if isinstance(model, str) else model
    if dimensions is not None and not 1 <= dimensions <= encoder.dense_dim:
        raise ValueError(f"dimensions is {dimensions}; {encoder.name} has 1 to {encoder.dense_dim}")
    made = _vectors(list(_units(inputs, encoder)), encoder, task, truncate=truncate)
    form = partial(_coded, kind=embedding_type)
    data: list[dict[str, Any]] = [
        {"object": "embeddings", "index": at, "embeddings": [form(row) for row in one.tokens]}
        if return_multivector
        else {"object": "embedding", "index": at, "embedding": form(_cut(one.dense, dimensions))}
        for at, one in enumerate(made)
    ]
    counts = {kind: sum(len(one.tokens) for one in made if one.is_image is kind) for kind in (False, True)}
    usage = {"prompt_tokens": sum(counts.values()), "total_tokens": sum(counts.values())}
    if counts[True]:
        usage["image_tokens"] = counts[True]
    return {"object": "list", "model": encoder.name, "data": data, "usage": usage}


def _units(inputs: Sequence[str | Image | Path], encoder: Encoder) -> Iterator[str | RenderedPage]:
    """Texts as they are, everything else as pages."""
    for at, one in enumerate(inputs):
        if isinstance(one, str):
            if not one.strip():
                raise UnsupportedInput(f"input {at + 1}", "empty", "a text needs a word")
            yield one
        elif isinstance(one, Path):
            yield from _pages(one, encoder)
        elif encoder.reads == "words":
            yield RenderedPage(ref=PageRef(str(at), 1), words=read_words(one))
        else:
            yield RenderedPage(ref=PageRef(str(at), 1), image=np.asarray(one.convert("RGB")))


def _pages(path: Path, encoder: Encoder) -> list[RenderedPage]:
    """The pages of a file, rendered where a broken one can be killed."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    pages: list[RenderedPage] = []
    with RenderPool(workers=1, needs_image=encoder.reads == "image") as pool:
        for event in pool.run([RenderJob(path, "0")]):
            if isinstance(event, RenderedPage):
                pages.append(event)
            elif isinstance(event, Failed | PageFailed):
                raise UnsupportedInput(str(path), event.code, event.message)
    return sorted(pages, key=lambda page: page.ref)


def _vectors(
    units: Sequence[str | RenderedPage], encoder: Encoder, task: EmbedTask, *, truncate: bool
) -> list[Embedded]:
    adapter, _, side = task.partition(".")
    many = getattr(encoder, "embed", None)
    if many is not None:  # a model with adapters
        given = [one if isinstance(one, str) else one.image for one in units]
        found = many(given, task=adapter, prompt_name=side or "query", truncate=truncate)
        return [
            Embedded(one.dense, one.tokens, not isinstance(unit, str)) for one, unit in zip(found, units, strict=True)
        ]
    return [_alone(unit, encoder, as_page=side == "passage") for unit in units]


def _alone(unit: str | RenderedPage, encoder: Encoder, *, as_page: bool) -> Embedded:
    """One input through the contract every encoder keeps."""
    if isinstance(unit, str) and not as_page:
        (query,) = encoder.encode_queries([Query(unit)])
        return Embedded(query.dense, query.tokens, is_image=False)
    if isinstance(unit, str):
        if encoder.reads != "words":
            raise UnsupportedInput(
                "text", "unsupported", f"{encoder.name} takes pages as images, and texts as queries only"
            )
        words = tuple(unit.split())
        page = RenderedPage(ref=PageRef("text", 1), words=Words(words, np.zeros((len(words), 4), np.uint16)))
    else:
        page = unit
    (vectors,) = encoder.encode_pages([page])
    return Embedded(vectors.dense, vectors.tokens, is_image=not isinstance(unit, str))


def _cut(dense: Float, dimensions: int | None) -> Float:
    if dimensions is None:
        return dense
    cut: Float = dense[:dimensions] / max(float(np.linalg.norm(dense[:dimensions])), 1e-12)
    return cut


def _coded(vector: Float, *, kind: EmbeddingType) -> list[float] | list[int] | str:
    if kind == "float":
        return [float(value) for value in vector]
    if kind == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    bits = np.packbits(vector > 0)
    return [int(value) for value in bits] if kind == "ubinary" else [int(value) - 128 for value in bits]
