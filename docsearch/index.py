"""The facade: an index you open, add files to, and search. Everything docsearch does goes through here."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from docsearch.encoders import DEFAULT, licence_of, load_encoder, restore_encoder
from docsearch.errors import (
    EncoderMismatch,
    IndexDamaged,
    IndexExists,
    IndexLocked,
    IndexNotFound,
    PageNotFound,
    UnsupportedInput,
)
from docsearch.indexer.compact import compact
from docsearch.locate import FOLDER_NAME, locate_index
from docsearch.options import DEFAULT_CODEC, CodecName, IndexOptions, SearchOptions, check_vectors
from docsearch.protocols import Encoder
from docsearch.retriever import explain
from docsearch.retriever.filters import compile_where, path_condition
from docsearch.retriever.reader import Reader
from docsearch.store.catalog import Catalog, PageRecord
from docsearch.store.layout import IndexPaths, Layout, create_folders, read_layout, write_layout
from docsearch.store.lock import WriteLock
from docsearch.store.writer import IndexWriter, translate_disk_full
from docsearch.types import Failure, Hit, IndexReport, Query, QueryVectors, ScoredPage
from docsearch.verify import repair_index, verify_index

if TYPE_CHECKING:
    from PIL.Image import Image

    from docsearch.indexer.pipeline import OnProgress

SHOWN_DPI = 110.0
_CREATE_SECONDS = 5.0  # what another process may take to make the index we were about to make


class Index:
    """An index of documents on this machine.

    Searching is safe from many threads and sees the commit that was newest when the index was opened or refreshed.
    Writing takes the index's one lock for the time of the call.

        with Index.open("pdfs/.docsearch", create=True) as index:
            index.add(["pdfs"])
            for hit in index.search("who signed the lease?", k=3):
                print(hit.path, hit.page_number, hit.snippet)
    """

    def __init__(
        self, paths: IndexPaths, layout: Layout, encoder: str | Encoder | None = None, *, device: str | None = None
    ) -> None:
        """Use `Index.open` or `Index.create`."""
        self.paths, self.layout, self._device = paths, layout, device
        self._given_encoder = encoder
        self._reader: Reader | None = None
        self._opening = threading.RLock()

    @classmethod
    def create(
        cls,
        folder: str | Path = FOLDER_NAME,
        *,
        encoder: str | Encoder = DEFAULT,
        codec: CodecName = DEFAULT_CODEC,
        pooling: int = 1,
    ) -> Self:
        """Make an empty index.

        Args:
            folder: where its files go.
            encoder: a name of `docsearch models`, or an encoder; fixed for the life of the index.
            codec: how token vectors are stored: `float16`, `int8`, `r4`, `r3`, `r2` or `binary`, each smaller and
                rougher than the one before.
            pooling: 2 or 3 keeps a half or a third of the token vectors, means of those that are alike.

        Raises:
            ValueError: the codec or the pooling is not one of those.
            IndexExists: the folder holds an index already.
            ModelUnavailable: the encoder cannot be loaded here.
            DiskFull: no space is left for it.
        """
        check_vectors(codec, pooling)
        loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
        paths = IndexPaths(Path(folder))
        layout = Layout(
            encoder=loaded.name,
            fingerprint=loaded.fingerprint,
            token_dim=loaded.token_dim,
            dense_dim=loaded.dense_dim,
            codec=codec,
            pooling=pooling,
            settings=dict(loaded.settings),
            licence=licence_of(loaded.name),
        )
        with translate_disk_full(paths.folder):
            create_folders(paths)
            with WriteLock(paths, timeout=_CREATE_SECONDS):
                if paths.layout.exists():
                    raise IndexExists(paths.folder)
                Catalog.create(paths.catalog)
                write_layout(paths, layout)
        return cls(paths, layout, loaded)

    @classmethod
    def open(
        cls,
        folder: str | Path | None = None,
        *,
        encoder: str | Encoder | None = None,
        create: bool = False,
        codec: CodecName | None = None,
        pooling: int | None = None,
        device: str | None = None,
    ) -> Self:
        """Open an index for searching and writing.

        Args:
            folder: the index folder; None looks for it as `locate_index` says.
            encoder: None takes the one the index was built with; a name says where its weights are now.
            create: make the index if there is none.
            codec: for an index made now; None is `r4`. An existing index keeps its own.
            pooling: likewise, see `create`; None is 1.
            device: a GPU to search on, as torch calls it (``"cuda"``). All pages are copied to it at the first query,
                and each query scores all of them, as `exact` does; where they do not fit, it finds the candidates.

        Raises:
            IndexNotFound: there is no index, and `create` is false.
            IndexDamaged: its layout cannot be read.
            EncoderMismatch: it was built with another encoder.
        """
        paths = IndexPaths(locate_index(None if folder is None else Path(folder)))
        try:
            layout = read_layout(paths)
        except IndexNotFound:
            if not create:
                raise
            try:
                made = cls.create(
                    paths.folder, encoder=encoder or DEFAULT, codec=codec or DEFAULT_CODEC, pooling=pooling or 1
                )
                return cls(paths, made.layout, made.encoder, device=device)
            except (IndexExists, IndexLocked):  # another process was faster, or is just making it
                if not paths.layout.exists():
                    raise
                layout = read_layout(paths)
        name = encoder if isinstance(encoder, str) else getattr(encoder, "name", layout.encoder)
        if name.partition(":")[0] != layout.encoder.partition(":")[0]:
            raise EncoderMismatch(paths.folder, layout.encoder, name)
        return cls(paths, layout, encoder, device=device)

    def close(self) -> None:
        """Let go of the snapshot; the index may be used again afterwards."""
        with self._opening:
            if self._reader is not None:
                self._reader.snapshot.close()
                self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use.

        Raises:
            ModelUnavailable: it cannot be loaded here.
            EncoderMismatch: its weights or settings are not those the index was built with.
        """
        encoder = self._given_encoder or self.layout.encoder
        if isinstance(encoder, str):
            encoder = restore_encoder(encoder, self.layout.settings)
        if encoder.fingerprint != self.layout.fingerprint:
            built_with = f"{self.layout.encoder} {self.layout.fingerprint}"
            raise EncoderMismatch(self.paths.folder, built_with, f"{encoder.name} {encoder.fingerprint}")
        return encoder

    # -- writing ------------------------------------------------------------------------------------------------

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        options: IndexOptions | None = None,
        *,
        on_progress: OnProgress = lambda _: None,
        lock_timeout: float = 0.0,
    ) -> IndexReport:
        """Bring the index up to date with files and folders: new and changed files are read, unchanged ones left alone.

        A file that cannot be read is in the report's `failed` and stops nothing. A run that is killed has lost at most
        the last seconds of work; the same call goes on where it stopped.

        Args:
            paths: files and folders.
            options: which files, and how they are read.
            on_progress: called after every page and file.
            lock_timeout: seconds to wait while another process is writing.

        Raises:
            FileNotFoundError: one of the paths does not exist.
            IndexLocked: another process is writing.
            DiskFull: no space is left; what was committed is safe.
        """
        from docsearch.indexer.pipeline import index_files

        given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        with self._write(lock_timeout) as writer:
            report = index_files(
                given,
                writer=writer,
                encoder=self.encoder,
                options=options or IndexOptions(),
                on_progress=on_progress,
            )
            compact(writer)
            self._save_prefilter()
        return report

    def remove(
        self, *names: str, path: str | None = None, where: str | None = None, lock_timeout: float = 0.0
    ) -> list[str]:
        """Take documents out of the index; their files are not touched. Returns the paths that went.

        Args:
            names: paths as `documents()` gives them, or ids (their first six characters or more).
            path: a glob on the path.
            where: a filter on metadata; with `path`, both must hold.
            lock_timeout: seconds to wait while another process is writing.

        Raises:
            PageNotFound: a name is unknown.
            FilterError: the filter cannot be understood.
        """
        with self._write(lock_timeout) as writer:
            doc_ids = {self._document(writer.catalog, name) for name in names}
            if path or where:
                doc_ids |= self._documents_where(writer.catalog, path, where)
            gone = writer.catalog.paths_of(doc_ids)
            for doc_id in doc_ids:
                writer.change(Catalog.drop_document, doc_id=doc_id)
            writer.commit()
        self.refresh()
        return sorted(gone)

    def set_metadata(self, name: str, metadata: Mapping[str, Any], *, lock_timeout: float = 0.0) -> None:
        """Add to the metadata of a document; None takes a key away."""
        with self._write(lock_timeout) as writer:
            doc_id = self._document(writer.catalog, name)
            writer.change(Catalog.merge_metadata, doc_id=doc_id, metadata=metadata)
            writer.commit()
        self.refresh()

    def compact(self, *, lock_timeout: float = 0.0) -> int:
        """Merge small segments, drop removed pages from disk, and return how many segments were rewritten."""
        with self._write(lock_timeout) as writer:
            rewritten = compact(writer, everything=True)
            self.refresh()  # our own reader, too, would keep the space from being given back
            writer.catalog.shrink()
            self._save_prefilter()
        return rewritten

    def verify(self, *, repair: bool = False, lock_timeout: float = 0.0) -> list[IndexDamaged]:
        """Read every file of the index and compare checksums; returns what is damaged.

        Args:
            repair: forget what is damaged, so that `add` with the same files makes it anew. Nothing else is touched.
            lock_timeout: seconds to wait while another process is writing.
        """
        if not repair:
            return verify_index(self.paths, self.layout)
        self.close()
        return repair_index(self.paths, self.layout, lock_timeout=lock_timeout)

    # -- searching ----------------------------------------------------------------------------------------------

    def search(
        self, query: str | Query | None = None, *, image: Image | Path | None = None, **options: Any
    ) -> list[Hit]:
        """The pages that answer a query, best first.

        Args:
            query: a text, or a `Query`.
            image: a picture to search with, alone or together with the text: a PIL image, or the `Path` of a file.
            options: the fields of `SearchOptions`: `k`, `mode`, `where`, `path`, `n_candidates`, `exact` …

        Raises:
            ValueError: an option is out of range, or the query is empty.
            FilterError: `where` cannot be understood.
            UnsupportedInput: the encoder can make nothing of the image.
        """
        asked = query if isinstance(query, Query) else Query(query, open_image(image))
        return self.search_many([asked], **options)[0]

    def search_many(self, queries: Sequence[str | Query], **options: Any) -> list[list[Hit]]:
        """`search` for many queries, which are encoded together; one list of hits each."""
        chosen = SearchOptions(**options)
        asked = [self._with_words(Query(query) if isinstance(query, str) else query) for query in queries]
        vectors: Sequence[QueryVectors | None] = [None] * len(asked)
        if chosen.mode != "text" and asked:
            vectors = self.encoder.encode_queries(asked)
        reader = self._read()
        answers = []
        for query, encoded in zip(asked, vectors, strict=True):
            text = _all_words(query)
            pages = reader.searcher.search(encoded, text, chosen)
            answers.append([reader.hit(page, rank, encoded, text) for rank, page in enumerate(pages, 1)])
        return answers

    def encode_query(self, query: str | Query) -> tuple[Query, QueryVectors]:
        """A query with the words on its image read, and its vectors: encoded once, it can be ranked in many ways."""
        asked = self._with_words(Query(query) if isinstance(query, str) else query)
        return asked, self.encoder.encode_queries([asked])[0]

    def rank(self, query: str | Query, vectors: QueryVectors | None = None, **options: Any) -> list[ScoredPage]:
        """The pages that `search` finds, best first, without what takes most of its time: snippets and regions.

        Args:
            query: a text, or a `Query`.
            vectors: those of the query, where it is encoded already; mode ``text`` needs none.
            options: the fields of `SearchOptions`, as for `search`.

        Returns:
            Scored pages; `PageRef(doc_id, page_number).page_id` tells which one is which.
        """
        chosen = SearchOptions(**options)
        asked = self._with_words(Query(query) if isinstance(query, str) else query)
        if chosen.mode == "text":
            vectors = None
        elif vectors is None:
            vectors = self.encoder.encode_queries([asked])[0]
        return self._read().searcher.search(vectors, _all_words(asked), chosen)

    def page_image(self, hit: Hit | str, *, dpi: float = SHOWN_DPI, highlight: bool = True) -> Image:
        """The page of a hit, or of `"PATH_OR_ID#PAGE"`, as a picture, with the hit's regions marked.

        Raises:
            PageNotFound: the index holds no such page, or its file has gone.
            UnsupportedInput: the file cannot be read any more.
        """
        return explain.draw_regions(
            self._pixels(self._record(hit), dpi), hit.regions if highlight and isinstance(hit, Hit) else ()
        )

    def heatmap(self, hit: Hit | str, query: str | Query, *, dpi: float = SHOWN_DPI) -> Image:
        """The page with warm colours where it answers the query.

        Raises:
            PageNotFound: the index holds no such page, or its file has gone.
        """
        record = self._record(hit)
        asked = self._with_words(Query(query) if isinstance(query, str) else query)
        snapshot = self._read().snapshot
        row = int(snapshot.rows_of(np.array([record.page_id]))[0])
        relevance = explain.token_relevance(self.encoder.encode_queries([asked])[0].tokens, snapshot.tokens(row))
        return explain.draw_heat(self._pixels(record, dpi), relevance, snapshot.boxes(row))

    def explain(self, hit: Hit | str, query: str | Query) -> list[tuple[str, float, str]]:
        """For every token of the query: its label, its best similarity on the page, and the word it was found at."""
        record = self._record(hit)
        asked = self._with_words(Query(query) if isinstance(query, str) else query)
        encoded = self.encoder.encode_queries([asked])[0]
        snapshot = self._read().snapshot
        row = int(snapshot.rows_of(np.array([record.page_id]))[0])
        return explain.best_matches(encoded, snapshot.tokens(row), snapshot.boxes(row), record.words)

    # -- looking ------------------------------------------------------------------------------------------------

    def page(self, name: str) -> PageRecord:
        """What the index knows about a page `"PATH_OR_ID#PAGE"`: its text, its document, its metadata.

        Raises:
            PageNotFound: the index holds no such page.
        """
        return self._record(name)

    def documents(self, *, path: str | None = None, where: str | None = None) -> list[dict[str, Any]]:
        """Every file of the index: path, id, title, pages, metadata, when it was indexed; sorted by path.

        Args:
            path: only documents one of whose paths matches this glob.
            where: only documents with a page that passes this filter; with `path`, both must hold.

        Raises:
            FilterError: the filter cannot be understood.
        """
        catalog = self._read().snapshot.catalog
        if not path and not where:
            return catalog.documents()
        chosen = self._documents_where(catalog, path, where)
        return [document for document in catalog.documents() if document["doc_id"] in chosen]

    def failures(self) -> list[Failure]:
        """The files, and pages (`path#page`), that could not be indexed, and why."""
        catalog = self._read().snapshot.catalog
        pages = [Failure(f"{path}#{n}", code, text) for path, n, code, text in catalog.page_failures()]  # type: ignore[arg-type]
        return [failure for _, failure in catalog.failures()] + pages

    def stats(self) -> dict[str, Any]:
        """Counts and sizes: documents, files, pages, token vectors, bytes, bytes per page; encoder, licence, codec."""
        snapshot = self._read().snapshot
        sizes = snapshot.catalog.segment_sizes()
        rows = sum(len(segment.boxes) for segment in snapshot.segments)
        n_bytes = sum(map(_file_size, self.paths.folder.rglob("*")))
        code_bytes = sum(segment.blocks.nbytes for segment in snapshot.segments)
        return {
            "index": str(self.paths.folder),
            "encoder": self.layout.encoder,
            "fingerprint": self.layout.fingerprint,
            "licence": self.layout.licence,
            "codec": self.layout.codec,
            "pooling": self.layout.pooling,
            "commit": snapshot.commit,
            "files": snapshot.catalog.count("files"),
            "documents": snapshot.catalog.count("documents"),
            "pages": len(snapshot),
            "failed": snapshot.catalog.count("failures"),
            "failed_pages": snapshot.catalog.count("page_failures"),
            "segments": len(sizes),
            "removed_pages": sum(dead for _, dead, _ in sizes.values()),
            "token_vectors": rows,
            "bytes": n_bytes,
            "bytes_per_page": round(n_bytes / max(1, len(snapshot))),
            "token_bytes_per_page": round(code_bytes / max(1, len(snapshot.live))),
        }

    def refresh(self) -> None:
        """See the newest commit from now on; searches that are running finish on the one they began with."""
        with self._opening:
            self._reader = None

    # -- helpers ------------------------------------------------------------------------------------------------

    def _write(self, lock_timeout: float) -> IndexWriter:
        return IndexWriter(self.paths, self.layout, lock_timeout=lock_timeout)

    def _read(self) -> Reader:
        with self._opening:
            if self._reader is None:
                self._reader = Reader(self.paths, self.layout, device=self._device)
            return self._reader

    def _save_prefilter(self) -> None:
        self.refresh()
        reader = self._read()
        with translate_disk_full(self.paths.folder):
            reader.prefilter.save(self.paths.prefilter, reader.snapshot.commit)

    def _with_words(self, query: Query) -> Query:
        """Read the words on the query's image, for an encoder that reads words."""
        if query.image is None or query.words is not None or self.encoder.reads != "words":
            return query
        from docsearch.indexer.pool import read_words

        return replace(query, words=read_words(query.image))

    def _record(self, page: Hit | str) -> PageRecord:
        catalog = self._read().snapshot.catalog
        if isinstance(page, Hit):
            doc_id, number = page.doc_id, page.page_number
        else:
            name, _, digits = page.rpartition("#")
            if not name or not digits.isdecimal():
                raise PageNotFound(f"{page!r} names no page: write PATH#PAGE or ID#PAGE, pages counted from 1")
            doc_id, number = self._document(catalog, name), int(digits)
        page_id = catalog.page_numbers(doc_id).get(number)
        if page_id is None:
            raise PageNotFound(f"the index holds no page {number} of {doc_id[:12]}")
        return catalog.page(page_id)

    def _document(self, catalog: Catalog, name: str) -> str:
        found = catalog.find_documents(name) or catalog.find_documents(self.paths.source_name(Path(name)))
        if len(found) == 1:
            return found[0]
        if found:
            raise PageNotFound(f"{name!r} is the beginning of {len(found)} documents' ids: write more of it")
        raise PageNotFound(f"no document {name!r} in {self.paths.folder}: `docsearch ls` lists what is there")

    def _documents_where(self, catalog: Catalog, path: str | None, where: str | None) -> set[str]:
        parts = [*([path_condition(path)] if path else []), *([compile_where(where)] if where else [])]
        sql = " AND ".join(f"({condition})" for condition, _ in parts)
        page_ids = catalog.page_ids_where(sql, [value for _, bound in parts for value in bound])
        return set(catalog.page_docs(page_ids.tolist()).values())

    def _pixels(self, record: PageRecord, dpi: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
        from docsearch.indexer.render import render_page_image

        for name in record.paths:
            path = self.paths.source_path(name)
            if path.exists():
                return render_page_image(path, record.page_number, dpi=dpi)
        raise PageNotFound(f"the file of this page has gone: {', '.join(record.paths)}")


def _all_words(query: Query) -> str:
    """What a query says, for BM25: its text, and the words on its image."""
    return " ".join(filter(None, (query.text, query.words.text if query.words else "")))


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # a writer took it away
        return 0


def open_image(image: Image | Path | None) -> Image | None:
    """A picture to search with, upright and in RGB.

    Raises:
        UnsupportedInput: the file is no image that can be read.
    """
    if isinstance(image, Path):
        from PIL import Image as Pillow
        from PIL import ImageOps

        try:
            with Pillow.open(image) as opened:
                return ImageOps.exif_transpose(opened).convert("RGB")
        except OSError as error:
            raise UnsupportedInput(str(image), "unsupported", f"it is no image that can be read: {error}") from error
    return image
