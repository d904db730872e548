"""jina-embeddings-v4 as an encoder of docsearch: pages and queries in, token vectors with their patches out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from docsearch.encoders.jina_v4.checkpoint import HUB_ID
from docsearch.encoders.jina_v4.jina import MAX_LENGTH, Embedding, JinaV4, Picture, PromptName
from docsearch.encoders.jina_v4.model import Task, take_census
from docsearch.errors import ModelUnavailable, UnsupportedInput
from docsearch.types import PageVectors, PatchGrid, Query, QueryVectors, RenderedPage

CODE = 1  # changes when the same page would get other vectors although nothing else has changed


class JinaV4Encoder:
    """The flagship: looks at the page itself.

    A page is its image: one token vector per merged patch (28 by 28 pixels after resizing), and eleven for the prompt
    around them, as upstream keeps them; the dense vector is the mean over the image.

    A query is a text (every token of ``"Query: …"``), an image (as a page), or both. Both together are the token
    vectors of the text and those of the image, each from a pass of its own, scaled so that text and image have the same
    weight in the MaxSim sum, however many tokens they have: row lengths n / 2n_text and n / 2n_image, n their sum. The
    joint dense vector is the normalised mean of both.

    Args:
        source: a folder or hub repository; empty is the published model.
        task: which adapter pages and queries go through.
        max_pixels: pixels of a page the model looks at; None is the checkpoint's own (602,112, about 768 tokens).
        image_rows_only: leave out the eleven rows of the prompt (1.5 % smaller; other scores than upstream's).
        revision: commit, branch or tag of a repository; None is the pinned commit of the published one.
        model: of `JinaV4`, for one that is loaded already.
        options: the other arguments of `JinaV4`: `device`, `dtype`, `attention`, `token_budget`.

    Raises:
        ModelUnavailable: the weights are not here.
    """

    reads = "image"
    modalities = frozenset({"text", "image"})

    def __init__(
        self,
        source: str = "",
        *,
        task: Task = "retrieval",
        max_pixels: int | None = None,
        image_rows_only: bool = False,
        revision: str | None = None,
        model: JinaV4 | None = None,
        **options: Any,
    ) -> None:
        self.model = model or JinaV4(source, revision=revision, **options)
        self.name = f"jina-v4:{source}" if source and source != HUB_ID else "jina-v4"
        self.token_dim, self.dense_dim = self.model.token_dim, self.model.dense_dim
        self._task: Task = task
        self._max_pixels = max_pixels or self.model.reader.pixel_settings.max_pixels
        self._image_rows_only, self._revision = image_rows_only, revision

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes this encoder again, besides its name."""
        pinned = {} if self._revision is None else {"revision": self._revision}
        return self._shaping | pinned

    @property
    def _shaping(self) -> dict[str, Any]:
        return {"task": self._task, "max_pixels": self._max_pixels, "image_rows_only": self._image_rows_only}

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the task, the pixel budget and the rows kept; not with device or precision."""
        told = json.dumps([self.model.checkpoint.fingerprint, self._shaping, CODE], sort_keys=True)
        return "jina-v4-" + hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def about(self) -> str:
        """What was counted, and where it runs: for `docsearch doctor`."""
        census, config = take_census(self.model.checkpoint), self.model.network.config
        counted = f"{census.base:,} + {census.adapters:,} tensors, {census.parameters:,} parameters"
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"{counted}; {kind} on {self.model.device}, attention {config._attn_implementation}"  # noqa: SLF001

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """The vectors of each page, in order.

        Raises:
            ModelUnavailable: a page comes without pixels.
            UnsupportedInput: a page is more than 200 times as long as wide.
        """
        images = []
        for page in pages:
            if page.image is None:
                raise ModelUnavailable(f"{self.name} looks at pixels, and {page.ref} was rendered without any")
            images.append(page.image)
        found = self.model.encode(images, task=self._task, max_pixels=self._max_pixels)
        vectors = []
        for embedding in found:
            tokens, grid = self._rows(embedding)
            vectors.append(PageVectors(tokens=tokens, dense=embedding.dense, regions=grid))
        return vectors

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """The vectors of each query, in order."""
        parts = [part for query in queries for part in (query.text, query.image) if part is not None and part != ""]
        found = iter(self.model.encode(parts, task=self._task, max_pixels=self._max_pixels))
        return [self._query_vectors(query, found) for query in queries]

    def embed(
        self, inputs: Sequence[str | Picture], *, task: Task, prompt_name: PromptName, truncate: bool
    ) -> list[Embedding]:
        """Texts and images through any adapter, for `docsearch.embed`.

        Raises:
            UnsupportedInput: a text is longer than the model reads, and may not be cut.
        """
        found = self.model.encode(inputs, task=task, prompt_name=prompt_name, max_pixels=self._max_pixels)
        for at, (given, embedding) in enumerate(zip(inputs, found, strict=True)):
            if isinstance(given, str) and not truncate and len(embedding.ids) == MAX_LENGTH:
                raise UnsupportedInput(
                    f"input {at + 1}", "too_large", f"the text has more than {MAX_LENGTH - 1} tokens; truncate cuts it"
                )
        return found

    def _query_vectors(self, query: Query, found: Any) -> QueryVectors:
        made: list[QueryVectors] = []
        if query.text:
            text = next(found)
            made.append(QueryVectors(text.tokens, text.dense, self.model.reader.labels(text.ids)))
        if query.image is not None:
            image = next(found)
            tokens, grid = self._rows(image)
            made.append(QueryVectors(tokens, image.dense, self._patch_labels(image, grid)))
        return made[0] if len(made) == 1 else _joined(*made)

    def _rows(self, embedding: Embedding) -> tuple[Any, PatchGrid]:
        grid = embedding.grid
        assert grid is not None
        if not self._image_rows_only:
            return embedding.tokens, grid
        return embedding.tokens[grid.start : grid.start + grid.rows * grid.cols], replace(grid, start=0)

    def _patch_labels(self, embedding: Embedding, grid: PatchGrid) -> tuple[str, ...]:
        patches = [f"patch {row + 1},{col + 1}" for row in range(grid.rows) for col in range(grid.cols)]
        if self._image_rows_only:
            return tuple(patches)
        around = self.model.reader.labels(embedding.ids)
        return (*around[: grid.start], *patches, *around[grid.start + len(patches) :])


def _joined(text: QueryVectors, image: QueryVectors) -> QueryVectors:
    """Text and image as one query of equal parts."""
    n = len(text.tokens) + len(image.tokens)
    tokens = np.concatenate([part.tokens * np.float32(n / (2 * len(part.tokens))) for part in (text, image)])
    dense = text.dense + image.dense
    length = np.linalg.norm(dense)
    if not length:
        raise UnsupportedInput("query", "unsupported", "text and image mean opposite things; ask them one by one")
    return QueryVectors(tokens, (dense / length).astype(np.float32), (*text.labels, *image.labels))
