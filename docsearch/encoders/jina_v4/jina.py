"""jina-embeddings-v4 as a model: texts and images in, single vectors and multi-vectors out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch.nn.functional import normalize

from docsearch.encoders.jina_v4.checkpoint import Checkpoint, find_checkpoint
from docsearch.encoders.jina_v4.inputs import Batch, InputReader, Item, make_batches
from docsearch.encoders.jina_v4.model import (
    TASKS,
    Attention,
    JinaV4Network,
    Task,
    add_adapters,
    load_network,
    merge_task,
    route_rows,
)
from docsearch.errors import UnsupportedInput
from docsearch.types import PatchGrid

MAX_LENGTH = 32_768
PromptName = Literal["query", "passage"]
Float = NDArray[np.float32]
Picture = Image | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What one forward pass makes of a text or an image.

    Attributes:
        dense: (E,) float32 unit, the single vector.
        tokens: (T, D) float32 unit rows, the multi-vector: every token, prompt and prefix among them.
        ids: (T,) the tokens.
        grid: which of the rows are patches of the image, and where.
    """

    dense: Float
    tokens: Float
    ids: tuple[int, ...]
    grid: PatchGrid | None = None


class JinaV4:
    """jina-embeddings-v4. Strings are texts, always; images come as pictures. Nothing is opened or fetched for them.

    A result does not depend on what else is in the call, beyond rounding. One call runs at a time.

    Args:
        source: a folder, or a hub repository whose files are here; empty is the published model.
        revision: of the repository.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; None takes the best there is.
        dtype: of weights and products; None is bfloat16, and float32 on a CPU. Pooling and norms are float32 always.
        attention: None is FlashAttention 2 where it is installed and the device can, else torch's own.
        token_budget: positions in a batch; memory grows in proportion. Halved by itself when memory runs out.

    Raises:
        ModelUnavailable: the weights are not here, or are not what their config says.
    """

    def __init__(
        self,
        source: str | Path | Checkpoint = "",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        attention: Attention | None = None,
        token_budget: int = 16_384,
    ) -> None:
        self.checkpoint = source if isinstance(source, Checkpoint) else find_checkpoint(str(source), revision=revision)
        self.device = device or best_device()
        self.dtype = dtype or (torch.float32 if self.device == "cpu" else torch.bfloat16)
        self.network: JinaV4Network = load_network(
            self.checkpoint, device=self.device, dtype=self.dtype, attention=attention
        )
        self._route = add_adapters(self.network, self.checkpoint)
        self.reader = InputReader(self.checkpoint)
        self.merged: Task | None = None
        self._token_budget = token_budget
        self._running = threading.Lock()
        config = self.checkpoint.config
        self.dense_dim: int = config.text_config.hidden_size
        self.token_dim: int = config.multi_vector_projector_dim
        self.matryoshka_dims: tuple[int, ...] = tuple(self.checkpoint.json("config.json")["matryoshka_dims"])

    def merge(self, task: Task) -> Self:
        """Fold one task's adapter into the weights, for serving; every other task is refused from then on."""
        _check("task", task, TASKS)
        if self.merged not in (None, task):
            raise ValueError(f"merged with {self.merged!r} already; load the model again for {task!r}")
        if self.merged is None:
            merge_task(self.network, task)
            self.merged = task
        return self

    @overload
    def encode_text(
        self, texts: Sequence[str], *, task: Task | Sequence[Task] = ..., prompt_name: PromptName = ...,
        truncate_dim: int | None = ..., max_length: int = ..., batch_size: int | None = ...,
        return_multivector: Literal[False] = ...,
    ) -> Float: ...  # fmt: skip
    @overload
    def encode_text(
        self, texts: Sequence[str], *, task: Task | Sequence[Task] = ..., prompt_name: PromptName = ...,
        truncate_dim: int | None = ..., max_length: int = ..., batch_size: int | None = ...,
        return_multivector: Literal[True],
    ) -> list[Float]: ...  # fmt: skip
    def encode_text(
        self,
        texts: Sequence[str],
        *,
        task: Task | Sequence[Task] = "retrieval",
        prompt_name: PromptName = "query",
        truncate_dim: int | None = None,
        max_length: int = MAX_LENGTH,
        batch_size: int | None = None,
        return_multivector: bool = False,
    ) -> Float | list[Float]:
        """(N, E) single vectors, or N multi-vectors (T, D); float32, unit rows.

        Args:
            texts: N texts.
            task: one for all, or one each. Texts to be compared with each other (`text-matching`) are all queries.
            prompt_name: which side of the search the texts are on.
            truncate_dim: keep this many dimensions of the single vector, one of `matryoshka_dims`, made unit again.
            max_length: tokens; what is longer is cut on the right.
            batch_size: at most this many texts at once; None is as many as the token budget lets in.
            return_multivector: the other kind.

        Raises:
            ValueError: an argument is out of range.
        """
        found = self.encode(texts, task=task, prompt_name=prompt_name, max_length=max_length, batch_size=batch_size)
        return self._pick(found, truncate_dim, return_multivector)

    @overload
    def encode_image(
        self, images: Sequence[Picture], *, task: Task | Sequence[Task] = ..., truncate_dim: int | None = ...,
        max_pixels: int | None = ..., batch_size: int | None = ..., return_multivector: Literal[False] = ...,
    ) -> Float: ...  # fmt: skip
    @overload
    def encode_image(
        self, images: Sequence[Picture], *, task: Task | Sequence[Task] = ..., truncate_dim: int | None = ...,
        max_pixels: int | None = ..., batch_size: int | None = ..., return_multivector: Literal[True],
    ) -> list[Float]: ...  # fmt: skip
    def encode_image(
        self,
        images: Sequence[Picture],
        *,
        task: Task | Sequence[Task] = "retrieval",
        truncate_dim: int | None = None,
        max_pixels: int | None = None,
        batch_size: int | None = None,
        return_multivector: bool = False,
    ) -> Float | list[Float]:
        """As `encode_text`. More `max_pixels` see finer print and cost time and space in proportion (602,112)."""
        found = self.encode(images, task=task, max_pixels=max_pixels, batch_size=batch_size)
        return self._pick(found, truncate_dim, return_multivector)

    def encode(
        self,
        inputs: Sequence[str | Picture],
        *,
        task: Task | Sequence[Task] = "retrieval",
        prompt_name: PromptName | Sequence[PromptName] = "query",
        max_length: int = MAX_LENGTH,
        max_pixels: int | None = None,
        batch_size: int | None = None,
    ) -> list[Embedding]:
        """Texts and images in any order, each with its task: both kinds of vectors from one pass, in that order.

        Raises:
            ValueError: an argument is out of range.
            UnsupportedInput: an image is too long for its width, or an input needs more memory than there is.
        """
        items = self._items(inputs, task, prompt_name, max_length, max_pixels)
        found: list[Embedding | None] = [None] * len(items)
        batches = list(make_batches(items, token_budget=self._token_budget, batch_size=batch_size))[::-1]
        with self._running, torch.inference_mode():
            while batches:
                batch = batches.pop()
                try:
                    made = self._forward(batch)
                except torch.OutOfMemoryError as error:
                    if len(batch.items) == 1:
                        raise _too_large(batch.items[0], self.device) from error
                    self._token_budget = max(1, self._token_budget // 2)
                    batches += reversed(batch.halves())
                    continue
                for place, embedding in zip(batch.places, made, strict=True):
                    found[place] = embedding
        return [embedding for embedding in found if embedding is not None]

    def _items(
        self,
        inputs: Sequence[str | Picture],
        task: Task | Sequence[Task],
        prompt_name: PromptName | Sequence[PromptName],
        max_length: int,
        max_pixels: int | None,
    ) -> list[Item]:
        tasks = _one_each("task", task, TASKS, len(inputs))
        prompts = _one_each("prompt_name", prompt_name, ("query", "passage"), len(inputs))
        if self.merged and set(tasks) - {self.merged}:
            raise ValueError(f"merged with the task {self.merged!r}; it can do no other any more")
        settings = self.reader.pixel_settings
        if max_pixels is not None:
            if max_pixels < settings.min_pixels:
                raise ValueError(f"max_pixels is {max_pixels}; the model reads no less than {settings.min_pixels}")
            settings = replace(settings, max_pixels=max_pixels)
        length = min(max_length, MAX_LENGTH)
        if length < 1:
            raise ValueError(f"max_length is {max_length}; a text needs at least one token")
        return [
            self.reader.text(one, task=of, prompt_name="query" if of == "text-matching" else name, max_length=length)
            if isinstance(one, str)
            else self.reader.image(one, task=of, settings=settings)
            for one, of, name in zip(inputs, tasks, prompts, strict=True)
        ]

    def _forward(self, batch: Batch) -> list[Embedding]:
        return [
            Embedding(_numpy(dense), _numpy(tokens), tuple(item.ids.tolist()), self._grid(item))
            for item, (dense, tokens) in zip(batch.items, self.vectors(batch), strict=True)
        ]

    def vectors(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Dense vector (E,) and token vectors (T, D) of each item, float32 unit, on the device.

        One pass. No logits are made, and of all layers only the last hidden state is kept.
        """
        hidden = self.last_hidden(batch)
        with self.autocast():
            projected = self.network.multi_vector_projector(hidden)
        tokens = normalize(projected.float(), dim=-1)
        for row, item in enumerate(batch.items):
            start, end = item.span
            yield normalize(hidden[row, start:end].float().mean(dim=0), dim=0), tokens[row, : len(item.ids)]

    def last_hidden(self, batch: Batch) -> torch.Tensor:
        """(B, T, hidden) after the final norm, of a batch of texts or of images."""
        route_rows(self._route, [item.task for item in batch.items])
        with self.autocast():
            hidden: torch.Tensor = self.network.model(**self.inputs(batch)).last_hidden_state
        return hidden

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What the network is given.

        Padding is on the right and attention causal, so no item sees it and no mask is needed.
        """
        ids = torch.full((len(batch.items), batch.width), self.reader.pad_id)
        kinds = torch.zeros_like(ids, dtype=torch.int32)
        for row, item in enumerate(batch.items):
            ids[row, : len(item.ids)] = item.ids
            kinds[row, : len(item.ids)] = (item.ids == self.reader.image_id).int()
        given: dict[str, Any] = {"input_ids": ids.to(self.device), "use_cache": False}
        patches = [item.patches for item in batch.items if item.patches is not None]
        if patches:
            grid = torch.tensor([(1, one.rows, one.cols) for one in patches])
            given["pixel_values"] = torch.cat([one.values for one in patches]).to(self.device, self.dtype)
            given["image_grid_thw"] = grid.to(self.device)
            # Without this the library gives images the positions of text, and says nothing.
            given["mm_token_type_ids"] = kinds.to(self.device)
        return given

    def _grid(self, item: Item) -> PatchGrid | None:
        if item.patches is None:
            return None
        merge = self.reader.pixel_settings.merge
        start = int((item.ids == self.reader.image_id).nonzero()[0])
        return PatchGrid(item.patches.rows // merge, item.patches.cols // merge, start)

    def autocast(self) -> AbstractContextManager[object]:
        """The published model runs its bfloat16 weights under autocast, and so its numbers are those."""
        if self.dtype != torch.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16)

    def _pick(
        self, found: Sequence[Embedding], truncate_dim: int | None, return_multivector: bool
    ) -> Float | list[Float]:
        if return_multivector:
            if truncate_dim is not None:
                raise ValueError("truncate_dim shortens single vectors only; the rows of multi-vectors stay whole")
            return [embedding.tokens for embedding in found]
        dense = (
            np.stack([embedding.dense for embedding in found]) if found else np.zeros((0, self.dense_dim), np.float32)
        )
        return dense if truncate_dim is None else self.truncate(dense, truncate_dim)

    def truncate(self, dense: Float, dim: int) -> Float:
        """The first ``dim`` dimensions of (N, E) single vectors, made unit again (Kusupati et al. 2022)."""
        _check("truncate_dim", dim, self.matryoshka_dims)
        cut = dense[:, :dim]
        unit: Float = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        return unit


def best_device() -> str:
    """A GPU if there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _numpy(tensor: torch.Tensor) -> Float:
    array: Float = tensor.float().cpu().numpy()
    return array


def _too_large(item: Item, device: str) -> UnsupportedInput:
    kind = f"an image of {len(item.ids)} tokens" if item.patches else f"a text of {len(item.ids)} tokens"
    way = "use fewer max_pixels" if item.patches else "use a smaller max_length"
    return UnsupportedInput(kind, "too_large", f"{device} has not memory enough for it alone; {way}")


def _check(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}")


def _one_each(name: str, given: Any, choices: Sequence[Any], n: int) -> list[Any]:
    values = [given] * n if isinstance(given, str) else list(given)
    if len(values) != n:
        raise ValueError(f"{len(values)} values of {name} for {n} inputs; give one for all, or one each")
    for value in dict.fromkeys(values):
        _check(name, value, choices)
    return values
