"""docsearch as mteb sees it: an encoder whose pages are all scored, and the whole pipeline with a real index.

The only module that imports mteb and the classes it derives from: the extra `mteb`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mteb._create_dataloaders import create_dataloader
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.models.sentence_transformer_wrapper import MultiVectorSearchEncoderWrapper
from mteb.types import PromptType
from numpy.typing import NDArray
from sentence_transformers.util import get_device_name, maxsim

from docsearch import __version__
from docsearch.errors import UnsupportedInput
from docsearch.evaluation.mteb_pages import Row, pages_of, rows_in
from docsearch.index import Index
from docsearch.options import DEFAULT_CODEC, CodecName, IndexOptions, SearchOptions
from docsearch.protocols import Encoder
from docsearch.store.catalog import Catalog
from docsearch.store.writer import IndexWriter
from docsearch.types import PageRef, PageVectors, RenderedPage

BATCH = 16  # pages read and encoded together
WRITTEN = 8  # batches of images written to disk together
COMMIT_PAGES = 128

Floats = NDArray[np.float32]
Scores = dict[str, dict[str, float]]  # query → document → score
Names = Mapping[int, Sequence[str]]  # page of the index → ids of the corpus


class ExactMaxSim(MultiVectorSearchEncoderWrapper):  # mteb is untyped to us
    """An encoder alone: its vectors as they are, and every page scored by MaxSim in float32.

    This is what an index over the encoder's vectors approaches: no codec, no candidates, no BM25. A page that cannot be
    read, or holds nothing the encoder reads, scores -1 for every token of the query, the least possible, as it does in
    an index. Vectors are kept while one task is asked for: its subsets in other languages often have the same pages.

    Args:
        encoder: any encoder of docsearch.
        chunk: pages scored together.
    """

    def __init__(self, encoder: Encoder, *, chunk: int = 10_000) -> None:
        self.encoder, self.corpus_chunk_size = encoder, chunk
        self.mteb_model_meta = model_meta(encoder, "exact", {})
        self._task, self._known = "", dict[str, Floats]()

    def _encode(self, inputs: Iterable[Any], *, task_metadata: Any, prompt_type: Any, **_: Any) -> list[Floats]:
        """One (T, D) array a row, in order."""
        rows = rows_in(inputs)
        if prompt_type == PromptType.query:
            queries = [row.query(self.encoder) for row in rows]
            return [vectors.tokens for vectors in self.encoder.encode_queries(queries)]
        if self._task != task_metadata.name:
            self._task, self._known = task_metadata.name, {}
        contents: list[str] = []
        fresh = only_new(rows, self._known, on_row=lambda row: contents.append(row.content))
        for page, vectors in encoded(pages_of(fresh, self.encoder), self.encoder):
            self._known[page.ref.doc_id] = vectors.tokens
        nothing = np.zeros((0, self.encoder.token_dim), np.float32)
        return [self._known.get(content, nothing) for content in contents]

    def similarity(self, queries: Sequence[Any], pages: Sequence[Any]) -> Floats:
        """(Q, P) MaxSim, computed on a GPU where there is one."""
        lengths = np.array([len(query) for query in queries], np.float32)
        scores: Floats = np.repeat(-lengths[:, None], len(pages), axis=1)
        full = [at for at, page in enumerate(pages) if len(page)]
        if full:
            found = maxsim(list(queries), [pages[at] for at in full], device=get_device_name())
            scores[:, full] = found.cpu().numpy()
        return scores


class WholePipeline:
    """Everything a user gets: pages read, encoded, stored with a codec, found by candidates, MaxSim and BM25.

    Page images become files, which `Index.add` reads with OCR for their words, as it reads any scan. Texts, alone or
    beside an image, need no reading: they are the words of their page. The index lies in a temporary folder. When the
    next subset of the same task has the same pages, they are not encoded again.

    At most `n_candidates` pages are returned, unless `exact`: measures that look at 1,000 pages see no more.

    Args:
        encoder: any encoder of docsearch.
        codec: of the index.
        pooling: of the index.
        reading: how images are read.
        search: how queries are answered; its `k` is for mteb to choose.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        codec: CodecName = DEFAULT_CODEC,
        pooling: int = 1,
        reading: IndexOptions | None = None,
        search: SearchOptions | None = None,
    ) -> None:
        self.encoder, self._codec, self._pooling = encoder, codec, pooling
        self._reading = reading or IndexOptions()
        self._search = search or SearchOptions()
        chosen = {"codec": codec, "pooling": pooling, "ocr": self._reading.ocr} | asdict(self._search)
        del chosen["k"]
        self.mteb_model_meta = model_meta(encoder, "pipeline", chosen)
        self._task = ""
        self._place: Path | None = None
        self._names: Names = {}

    def index(self, corpus: Any, *, task_metadata: Any, num_proc: int | None = None, **_: Any) -> None:
        """Bring a real index up to date with the corpus.

        Raises:
            UnsupportedInput: the corpus is text alone, and the encoder looks at pixels.
        """
        if self._place is None or self._task != task_metadata.name:
            self.close()
            self._task, self._place = task_metadata.name, Path(tempfile.mkdtemp(prefix="docsearch-"))
            weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)
            Index.create(self._place / "index", encoder=self.encoder, codec=self._codec, pooling=self._pooling)
        rows = rows_in(_loader(corpus, task_metadata, PromptType.document, num_proc))
        with self._open() as index:
            is_text = "text" in task_metadata.get_modalities(PromptType.document)
            self._names = add_texts(index, rows) if is_text else add_images(index, rows, self._place, self._reading)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **_: Any,
    ) -> Scores:
        """The best documents of every query; of those that `top_ranked` names, where it does: each is scored then."""
        rows = list(rows_in(_loader(queries, task_metadata, PromptType.query, num_proc)))
        asked = [row.query(self.encoder) for row in rows]
        no_vectors = self._search.mode == "text" or not asked
        vectors = [None] * len(asked) if no_vectors else self.encoder.encode_queries(asked)
        if top_ranked is None:
            depth = top_k if self._search.exact else min(top_k, self._search.n_candidates)
            options = replace(self._search, k=depth)
        else:
            options = replace(self._search, k=max(1, len(self._names)), exact=True)
        found: Scores = {}
        with self._open() as index:
            for row, query, encoded_query in zip(rows, asked, vectors, strict=True):
                pages = index.rank(query, encoded_query, **asdict(options))
                scores = [(name, page.score) for page in pages for name in self._names[page.page_id]]
                if top_ranked is not None:
                    wanted = set(top_ranked.get(row.id, ()))
                    scores = [(name, score) for name, score in scores if name in wanted]
                found[row.id] = dict(scores[:top_k])
        return found

    def close(self) -> None:
        """Remove the index."""
        if self._place is not None:
            shutil.rmtree(self._place)
            self._place = None

    def _open(self) -> Index:
        assert self._place is not None, "mteb indexes before it searches"
        return Index.open(self._place / "index", encoder=self.encoder)


def add_images(index: Index, rows: Iterable[Row], place: Path, options: IndexOptions) -> Names:
    """Write images to files, some at a time, and index them; what the subset before had stays where it is the same."""
    folder = place / "pages"
    ids: dict[str, list[str]] = defaultdict(list)  # content, which names the file → ids
    known = {Path(document["path"]).stem for document in index.documents()}
    fresh = only_new(rows, known, on_row=lambda row: ids[row.content].append(row.id))
    while batch := list(islice(fresh, BATCH * WRITTEN)):
        folder.mkdir()
        for row in batch:
            row.save_image(folder / f"{row.content}.png")
        index.add(folder, options)
        shutil.rmtree(folder)  # searching needs no files, and a corpus of images may be larger than the disk
    names: dict[int, Sequence[str]] = {}
    gone = []
    for document in index.documents():
        content = Path(document["path"]).stem
        if content in ids:
            names[page_id_of(document["doc_id"])] = ids[content]
        else:
            gone.append(document["doc_id"])
    if gone:
        index.remove(*gone)
    return names


def add_texts(index: Index, rows: Iterable[Row]) -> Names:
    """Index pages made of texts; what the subset before had stays where it is the same."""
    names = defaultdict(list)
    with IndexWriter(index.paths, index.layout) as writer:
        there = set(writer.catalog.files().values())
        fresh = only_new(rows, there, on_row=lambda row: names[page_id_of(row.content)].append(row.id))
        for page, vectors in encoded(pages_of(fresh, index.encoder), index.encoder):
            writer.add_pages([(page, vectors)], document_of(page.ref.doc_id))
            if writer.buffered_pages >= COMMIT_PAGES:
                writer.commit()
        for doc_id in there:
            if page_id_of(doc_id) not in names:
                writer.change(Catalog.drop_document, doc_id=doc_id)
        writer.commit()
    return names


def model_meta(encoder: Encoder, way: str, chosen: Mapping[str, Any]) -> ModelMeta:
    """What mteb files results under: the encoder's kind and the way, and a revision that changes with anything else."""
    told = json.dumps([__version__, encoder.fingerprint, chosen], sort_keys=True, default=str)
    return ModelMeta.create_empty(
        overwrites={
            "name": f"docsearch/{encoder.name.partition(':')[0]}-{way}",
            "revision": hashlib.sha256(told.encode()).hexdigest()[:16],
            "model_type": ["late-interaction"],
            "modalities": sorted(encoder.modalities | {"image", "text"}),
            "similarity_fn_name": ScoringFunction.MAX_SIM,
        }
    )


def encoded(pages: Iterator[RenderedPage], encoder: Encoder) -> Iterator[tuple[RenderedPage, PageVectors]]:
    """Pages with their vectors, without those the encoder can make nothing of."""
    while batch := list(islice(pages, BATCH)):
        try:
            yield from zip(batch, encoder.encode_pages(batch), strict=True)
        except UnsupportedInput:
            if len(batch) > 1:
                yield from (pair for page in batch for pair in encoded(iter([page]), encoder))


def only_new(rows: Iterable[Row], known: Iterable[str], *, on_row: Any) -> Iterator[Row]:
    """The rows whose content is neither known nor that of a row before; `on_row` hears of all."""
    met = set(known)
    for row in rows:
        on_row(row)
        if row.content not in met:
            met.add(row.content)
            yield row


def page_id_of(doc_id: str) -> int:
    """The only page of a document."""
    return PageRef(doc_id, 1).page_id


def document_of(doc_id: str) -> list[partial[None]]:
    """The changes to a catalog that make a page without a file a document."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        partial(Catalog.put_document, doc_id=doc_id, page_count=1, title="", complete=True, indexed_at=now),
        partial(Catalog.put_file, path=doc_id, doc_id=doc_id, size=0),
    ]


def _loader(rows: Any, task_metadata: Any, side: Any, num_proc: int | None) -> Iterable[Mapping[str, Sequence[Any]]]:
    loader: Iterable[Mapping[str, Sequence[Any]]] = create_dataloader(
        rows, task_metadata=task_metadata, prompt_type=side, batch_size=BATCH, num_proc=num_proc
    )
    return loader
