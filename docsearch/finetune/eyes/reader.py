"""A trained network on real pages: as an encoder of the same space as `words`, and as a reader one can look at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from docsearch.encoders.words.encoder import DENSE_DIM, WordsEncoder
from docsearch.errors import UnsupportedInput
from docsearch.finetune.eyes.network import CELL, SIZES, WINDOW, EyesNetwork, Shape
from docsearch.finetune.eyes.state import load_run
from docsearch.finetune.eyes.targets import Alphabet, unit
from docsearch.finetune.eyes.train import prepare
from docsearch.types import BOX_UNIT, PageVectors, Query, QueryVectors, RenderedPage

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What is made of one page of R by C cells: tokens (R * C, D) unit, classes (2 R, 8 C) of its slots, 0 for none."""

    tokens: Float
    classes: NDArray[np.int64]
    rows: int
    cols: int

    @property
    def written(self) -> NDArray[np.bool_]:
        """(R * C,) whether a character was seen in the cell."""
        slots = self.classes.reshape(self.rows, 2, self.cols, 8) > 0
        found: NDArray[np.bool_] = slots.any(axis=(1, 3)).reshape(-1)
        return found


class EyesReader:
    """The network of a run.

    Args:
        run: the folder of the run.
        page: height and width in px of what a page is scaled to, in area; None is what its size is made for.
    """

    def __init__(self, run: Path, *, page: tuple[int, int] | None = None) -> None:
        found = load_run(run)
        if found is None:
            raise UnsupportedInput(
                str(run), "empty", "holds no run: `python -m docsearch.finetune.eyes train` makes one"
            )
        tensors, facts = found
        settings = facts["settings"]
        self.shape: Shape = SIZES[settings["size"]]
        self.page = page or self.shape.page
        self.alphabet = Alphabet(settings["alphabet"])
        self.network = EyesNetwork(self.shape, n_chars=len(self.alphabet), causal=settings["causal"])
        weights = {
            name.removeprefix("weights/"): value for name, value in tensors.items() if name.startswith("weights/")
        }
        self.network.load_state_dict(weights)
        self.network.eval().requires_grad_(False)
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(weights[name].numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def read(self, grey: NDArray[np.uint8]) -> Reading:
        """(H, W) uint8, paper white -> what is read; the page is filled up with white to whole windows."""
        height, width = grey.shape
        rows, cols = -(-height // CELL), -(-width // CELL)
        full = np.full((-(-height // WINDOW) * WINDOW, -(-width // WINDOW) * WINDOW), 255, np.uint8)
        full[:height, :width] = grey
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            tokens, named = self.network(prepare(torch.from_numpy(full)[None]))
        assert named is not None
        across = full.shape[1] // CELL
        kept = tokens[0].float().view(-1, across, tokens.shape[-1])[:rows, :cols].reshape(rows * cols, -1)
        classes = named[0].argmax(-1)[: 2 * rows, : 8 * cols]
        return Reading(kept.numpy(), classes.numpy().astype(np.int64), rows, cols)

    def fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB -> grey, with about as many pixels as `page`."""
        picture = Image.fromarray(image).convert("L")
        scale = (self.page[0] * self.page[1] / (picture.width * picture.height)) ** 0.5
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


class EyesEncoder:
    """Pages by their pixels, queries by the encoder `words`: both in its space. For judging runs; it is no default.

    A page has a token vector for every cell in which a character is seen; its dense vector is their mean, and is good
    for little: the space of dense vectors is not learned.
    """

    reads = "image"
    modalities = frozenset({"text"})
    token_dim, dense_dim = 128, DENSE_DIM

    def __init__(self, run: Path, *, page: tuple[int, int] | None = None) -> None:
        self.name, self._reader, self._words = f"eyes:{run}", EyesReader(run, page=page), WordsEncoder()
        self.fingerprint = "eyes-{}-{}x{}".format(self._reader.fingerprint, *self._reader.page)
        self.settings: Mapping[str, Any] = {}

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """The cells with characters of each page."""
        made = []
        for page in pages:
            if page.image is None:
                raise UnsupportedInput(str(page.ref), "unsupported", "was rendered without pixels")
            grey = self._reader.fit(page.image)
            reading = self._reader.read(grey)
            kept = np.flatnonzero(reading.written)
            row, col = np.divmod(kept, reading.cols)
            edges = np.stack([col, row, col + 1, row + 1], axis=1) * CELL / np.array([*grey.shape[::-1]] * 2)
            tokens = reading.tokens[kept]
            dense = np.zeros(DENSE_DIM, np.float32)
            dense[: tokens.shape[1]] = tokens.sum(axis=0)
            dense[0] += 1e-6
            boxes = np.round(np.clip(edges, 0, 1) * BOX_UNIT).astype(np.uint16)
            made.append(PageVectors(tokens=tokens, dense=unit(dense[None])[0], regions=boxes))
        return made

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """As `words` does."""
        return self._words.encode_queries(queries)
