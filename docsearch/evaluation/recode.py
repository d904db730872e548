"""Copies of an index that store their vectors in another way: what is on the pages is read and encoded once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from docsearch.errors import PageNotFound, UnsupportedInput
from docsearch.index import Index
from docsearch.options import CodecName
from docsearch.protocols import Encoder
from docsearch.retriever.reader import Reader
from docsearch.store.catalog import Catalog
from docsearch.store.writer import IndexWriter
from docsearch.types import PageRef, PageVectors, PatchGrid, Query, QueryVectors, RenderedPage

_BATCH = 32  # pages encoded together
_COMMIT = 128  # pages written together

OnPages = Callable[[int, int], None]  # pages done, and of how many


class Vectors(Protocol):
    """Where the vectors of an index's pages come from before they are stored."""

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """One result per page, in order."""
        ...


def copy_index(
    index: Index,
    vectors: Vectors,
    folder: Path,
    *,
    codec: CodecName,
    pooling: int,
    on_pages: OnPages = lambda *_: None,
) -> Index:
    """An index of the same pages: same documents under the same names, same words, another codec or pooling.

    Args:
        index: what is copied.
        vectors: those of its pages, of `vectors_of`.
        folder: where to. A copy that is there already is opened.
        codec: of the copy.
        pooling: of the copy.
        on_pages: told how far it is.

    Raises:
        UnsupportedInput: there is an index of other documents or another encoder, or a page has no vectors.
    """
    documents = {record["doc_id"]: record for record in index.documents()}
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")  # so that what is there is complete
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        with Index.create(part, encoder=index.encoder, codec=codec, pooling=pooling) as made:
            _write_pages(made, index, vectors, documents, on_pages)
            made.compact()  # as indexing leaves it: few segments, and the prefilter on disk
        part.rename(folder)
    copied = Index.open(folder, encoder=index.encoder)
    same_documents = {record["doc_id"] for record in copied.documents()} == documents.keys()
    expected = replace(index.layout, codec=codec, pooling=pooling)
    if not same_documents or replace(copied.layout, format_version=expected.format_version) != expected:
        raise UnsupportedInput(
            str(folder), "unsupported", "it holds another index than is wanted: delete it, or choose another folder"
        )
    return copied


def _write_pages(
    made: Index, index: Index, vectors: Vectors, documents: Mapping[str, Mapping[str, Any]], on_pages: OnPages
) -> None:
    done, total = 0, sum(record["pages"] for record in documents.values())
    paths = {record["path"]: record for record in index.documents()}
    with IndexWriter(made.paths, made.layout) as writer:
        for document, record in documents.items():
            pages = _pages(index, document, record["page_count"])
            for start in range(0, len(pages), _BATCH):
                batch = pages[start : start + _BATCH]
                writer.add_pages(list(zip(batch, vectors.encode_pages(batch), strict=True)))
                done += len(batch)
                on_pages(done, total)
                if writer.buffered_pages >= _COMMIT:
                    writer.commit()
            facts = {name: record[name] for name in ("page_count", "title", "complete", "indexed_at")}
            writer.change(Catalog.put_document, doc_id=document, **facts)
            writer.change(Catalog.merge_metadata, doc_id=document, metadata=record["metadata"])
        for path, record in paths.items():
            writer.change(Catalog.put_file, path=path, doc_id=record["doc_id"], size=record["size"])
        writer.commit()


def _pages(index: Index, document: str, page_count: int) -> list[RenderedPage]:
    """The pages of a document as the catalog has them: with their words, without pixels."""
    pages = []
    for number in range(1, page_count + 1):
        try:
            record = index.page(f"{document}#{number}")
        except PageNotFound:  # it could not be read
            continue
        pages.append(
            RenderedPage(
                ref=PageRef(document, number),
                words=record.words,
                text_source=record.text_source,  # type: ignore[arg-type]
                page_label=record.page_label,
                width_pt=record.width_pt,
                height_pt=record.height_pt,
            )
        )
    return pages


# -- vectors ------------------------------------------------------------------------------------------------------


def vectors_of(index: Index, temporary: Path, *, on_pages: OnPages = lambda *_: None) -> Vectors:
    """The vectors of an index's pages, in the cheapest way there is.

    A float16 index that is not pooled holds them, rounded to half precision. An encoder that reads words is asked
    again, with the words of the catalog. One that looks at pages needs the documents: they are rendered anew.

    Args:
        index: of these pages.
        temporary: a folder for what is kept meanwhile, 4 * D bytes a token vector.
        on_pages: told how far rendering is.

    Raises:
        UnsupportedInput: a document has gone, and is needed.
    """
    if index.layout.codec == "float16" and index.layout.pooling == 1:
        return _Stored(index)
    encoded = EncodedOnce(index.encoder, temporary / "encoded")
    if index.encoder.reads != "words":
        paths = [index.paths.source_path(record["path"]) for record in index.documents()]
        if gone := [path for path in paths if not path.exists()]:
            raise UnsupportedInput(
                str(gone[0]), "unsupported", "it has gone, and codecs can be compared only where the documents are"
            )
        with (
            tempfile.TemporaryDirectory(dir=temporary) as folder,
            Index.create(Path(folder) / "index", encoder=encoded, codec="binary") as throwaway,
        ):
            throwaway.add(paths, on_progress=lambda progress: on_pages(progress.pages_done, progress.pages_total))
    return encoded


class _Stored:
    """The vectors of a float16 index."""

    def __init__(self, index: Index) -> None:
        self._snapshot = Reader(index.paths, index.layout).snapshot

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """As they are stored."""
        snapshot = self._snapshot
        rows = snapshot.rows_of(np.array([page.ref.page_id for page in pages], np.int64))
        dense = snapshot.dense(rows).astype(np.float32)
        return [
            PageVectors(snapshot.tokens(int(row)), of_page, snapshot.boxes(int(row)))
            for row, of_page in zip(rows, dense, strict=True)
        ]


class EncodedOnce:
    """An encoder that is asked for a page once; its vectors are kept in a file, as float32.

    Args:
        encoder: what makes them.
        file: where they are kept.
    """

    def __init__(self, encoder: Encoder, file: Path) -> None:
        self._encoder, self._file = encoder, file
        self._kept: dict[int, tuple[int, int, PatchGrid | None]] = {}  # page id → its first byte, T, its grid
        self.name, self.settings, self.fingerprint = encoder.name, encoder.settings, encoder.fingerprint
        self.token_dim, self.dense_dim = encoder.token_dim, encoder.dense_dim
        self.modalities, self.reads = encoder.modalities, encoder.reads

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """As the encoder does.

        Raises:
            UnsupportedInput: a page comes without the pixels that the encoder needs.
        """
        new = [page for page in pages if page.ref.page_id not in self._kept]
        if self.reads != "words" and any(page.image is None for page in new):
            raise UnsupportedInput(
                str(new[0].ref), "unsupported", "its document is not what was indexed: run `docsearch index` again"
            )
        for page, vectors in zip(new, self._encoder.encode_pages(new) if new else [], strict=True):
            self._keep(page.ref.page_id, vectors)
        return [self._recall(page.ref.page_id) for page in pages]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """As the encoder does."""
        return self._encoder.encode_queries(queries)

    def _keep(self, page_id: int, vectors: PageVectors) -> None:
        grid = vectors.regions if isinstance(vectors.regions, PatchGrid) else None
        with self._file.open("ab") as file:
            start = file.tell()
            file.write(vectors.tokens.astype("<f4").tobytes() + vectors.dense.astype("<f4").tobytes())
            if grid is None:
                file.write(vectors.boxes.astype("<u2").tobytes())
        self._kept[page_id] = start, len(vectors.tokens), grid

    def _recall(self, page_id: int) -> PageVectors:
        start, n_tokens, grid = self._kept[page_id]
        with self._file.open("rb") as file:
            file.seek(start)
            tokens = np.fromfile(file, "<f4", n_tokens * self.token_dim).reshape(n_tokens, self.token_dim)
            dense = np.fromfile(file, "<f4", self.dense_dim)
            boxes = grid or np.fromfile(file, "<u2", 4 * n_tokens).reshape(n_tokens, 4)
        return PageVectors(tokens, dense, boxes)
