"""A benchmark's corpus as pages: its images drawn and read as indexing does it, its texts as the words of a page."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from docsearch.errors import UnsupportedInput
from docsearch.indexer.pipeline import render_resolution
from docsearch.indexer.pool import RenderJob, RenderPool, read_words
from docsearch.protocols import Encoder
from docsearch.types import PageRef, Query, RenderedPage, Words

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Row:
    """A document or a query of a benchmark: a text, an image, or both."""

    id: str
    text: str
    image: Image | None

    @cached_property
    def content(self) -> str:
        """A digest of what it holds; equal pages have equal ones, whatever their ids."""
        pixels = b"" if self.image is None else repr(self.image.size).encode() + self.image.tobytes()
        return hashlib.sha256(pixels + self.text.encode()).hexdigest()

    def query(self, encoder: Encoder) -> Query:
        """The row as a query; the words on its image are read for an encoder that reads words."""
        words = read_words(self.image) if self.image is not None and encoder.reads == "words" else None
        return Query(self.text or None, self.image, words)

    def words(self) -> Words:
        """The words of the text, nobody knows where on the page."""
        texts = tuple(self.text.split())
        return Words(texts, np.zeros((len(texts), 4), np.uint16))

    def save_image(self, path: Path) -> None:
        """Write the image as PNG; the same pixels give the same bytes."""
        assert self.image is not None
        self.image.save(path, compress_level=1)  # read once and thrown away


def rows_in(batches: Iterable[Mapping[str, Sequence[Any]]]) -> Iterator[Row]:
    """The rows in the batches of one of mteb's data loaders."""
    for batch in batches:
        nothing = [None] * len(batch["id"])
        texts, images = batch.get("text", nothing), batch.get("image", nothing)
        for row_id, text, image in zip(batch["id"], texts, images, strict=True):
            yield Row(row_id, text or "", None if image is None else image.convert("RGB"))


def pages_of(rows: Iterable[Row], encoder: Encoder) -> Iterator[RenderedPage]:
    """Turn rows of different contents into pages, several at once and in any order; ``doc_id`` is the row's content.

    A text that comes with an image is taken for the words on it, and nothing is read by OCR. A row whose image cannot
    be read is left out.

    Raises:
        UnsupportedInput: a row is a text alone, and the encoder looks at pixels.
    """
    sees = encoder.reads == "image"
    texts: dict[str, Words] = {}
    files: dict[str, Path] = {}
    written: list[RenderedPage] = []

    def jobs(folder: Path) -> Iterator[RenderJob]:
        for at, row in enumerate(rows):
            if row.text:
                texts[row.content] = row.words()
            if row.image is not None and (sees or not row.text):
                files[row.content] = path = folder / f"{at}.png"
                row.save_image(path)
                yield RenderJob(path, row.content)
            elif sees:
                raise UnsupportedInput(row.id, "unsupported", f"{encoder.name} takes pages as images, and this is text")
            else:
                written.append(RenderedPage(ref=PageRef(row.content, 1), words=row.words(), text_source="layer"))

    pool = RenderPool(needs_image=sees, ocr="off" if sees else "auto", **render_resolution(encoder))
    with tempfile.TemporaryDirectory(prefix="docsearch-") as folder, pool:
        for event in pool.run(jobs(Path(folder))):
            if isinstance(event, RenderedPage):
                files.pop(event.ref.doc_id).unlink()  # a corpus of images may be larger than the disk
                words = texts.get(event.ref.doc_id)
                yield replace(event, words=words, text_source="layer") if words else event
    yield from written
