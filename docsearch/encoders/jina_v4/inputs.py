"""What the model reads: the ids of a text or of an image's prompt, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from PIL.Image import Image
from tokenizers import Tokenizer

from docsearch.encoders.jina_v4.checkpoint import Checkpoint
from docsearch.encoders.jina_v4.model import Task
from docsearch.encoders.jina_v4.pixels import Patches, PixelSettings, to_patches

PREFIX = {"query": "Query", "passage": "Passage"}
IMAGE_PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
PAD = "<|endoftext|>"


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One thing to encode.

    Attributes:
        task: which adapter it goes through.
        ids: (T,) what the decoder reads.
        span: the positions that the single vector is the mean of.
        patches: its pixels, for an image.
    """

    task: Task
    ids: torch.Tensor
    span: tuple[int, int]
    patches: Patches | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts, or images, of about one length, padded on the right."""

    places: tuple[int, ...]  # of its items in what was asked for
    items: tuple[Item, ...]

    @property
    def width(self) -> int:
        """T, of the longest item."""
        return max(len(item.ids) for item in self.items)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches, for when there is not memory enough for one."""
        cut = len(self.items) // 2
        return Batch(self.places[:cut], self.items[:cut]), Batch(self.places[cut:], self.items[cut:])


class InputReader:
    """Makes items of texts and images, with the tokenizer and the sizes of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        config = checkpoint.config
        self.image_id: int = config.image_token_id
        self._vision_ids: tuple[int, int] = (config.vision_start_token_id, config.vision_end_token_id)
        self.tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.pad_id: int = self.tokenizer.encode(PAD).ids[0]

    @cached_property
    def pixel_settings(self) -> PixelSettings:
        """As the checkpoint wants them; a caller may replace `max_pixels`."""
        read = self._checkpoint.json("preprocessor_config.json")
        size = read.get("size", {})
        return PixelSettings(
            mean=tuple(read["image_mean"]),
            std=tuple(read["image_std"]),
            patch=read["patch_size"],
            merge=read["merge_size"],
            temporal=read["temporal_patch_size"],
            min_pixels=read.get("min_pixels") or size["shortest_edge"],
            max_pixels=read.get("max_pixels") or size["longest_edge"],
        )

    def text(self, text: str, *, task: Task, prompt_name: str, max_length: int) -> Item:
        """Tokens of ``"Query: …"`` or ``"Passage: …"``, cut on the right; no special token is added."""
        ids = self.tokenizer.encode(f"{PREFIX[prompt_name]}: {text}").ids[:max_length]
        return Item(task, torch.tensor(ids), (0, len(ids)))

    def image(self, image: Image | NDArray[Any], *, task: Task, settings: PixelSettings) -> Item:
        """The prompt with a token per merged patch; the single vector is the mean from vision start to vision end."""
        patches = to_patches(image, settings)
        prompt = self.tokenizer.encode(IMAGE_PROMPT).ids
        at = prompt.index(self.image_id)
        tokens = patches.rows * patches.cols // settings.merge**2
        ids = torch.tensor([*prompt[:at], *[self.image_id] * tokens, *prompt[at + 1 :]])
        start, end = (int((ids == marker).nonzero()[0]) for marker in self._vision_ids)
        return Item(task, ids, (start, end + 1), patches)

    def labels(self, ids: Sequence[int]) -> tuple[str, ...]:
        """What each token says."""
        return tuple(self.tokenizer.decode([token], skip_special_tokens=False) for token in ids)


def make_batches(items: Sequence[Item], *, token_budget: int, batch_size: int | None) -> Iterator[Batch]:
    """Items of one kind and about one length together, longest first, so that memory runs out at once or never.

    Args:
        items: texts and images in any order.
        token_budget: at most this many positions in a batch, padding among them; an item that is longer goes alone.
        batch_size: at most this many items; None leaves it to the budget.
    """
    for images in (True, False):
        order = [at for at, item in enumerate(items) if (item.patches is not None) is images]
        order.sort(key=lambda at: (-len(items[at].ids), at))
        while order:
            room = max(1, token_budget // max(1, len(items[order[0]].ids)))
            taken, order = order[: min(room, batch_size or room)], order[min(room, batch_size or room) :]
            yield Batch(tuple(taken), tuple(items[at] for at in taken))
