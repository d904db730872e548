"""Files in, committed pages out: scan, render, encode, commit, and say what happened."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from docsearch.errors import UnsupportedInput
from docsearch.indexer.pool import Done, Failed, Opened, PageFailed, RenderJob, RenderPool
from docsearch.indexer.sources import SourceFile, find_files, hash_file
from docsearch.options import IndexOptions
from docsearch.protocols import Encoder
from docsearch.store.catalog import Catalog
from docsearch.store.writer import IndexWriter
from docsearch.types import Failure, IndexReport, PageVectors, RenderedPage

BATCH_PAGES = 16  # pages encoded together
COMMIT_PAGES = 128  # pages a killed run may lose at most
COMMIT_SECONDS = 10.0  # and how old they may be
A4_SQUARE_INCHES = 96.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is. ``pages_total`` counts the pages of the files opened so far and estimates the rest."""

    files_done: int
    files_total: int
    pages_done: int
    pages_total: int
    path: str


OnProgress = Callable[[Progress], None]


def index_files(
    paths: Sequence[Path],
    *,
    writer: IndexWriter,
    encoder: Encoder,
    options: IndexOptions,
    on_progress: OnProgress = lambda _: None,
) -> IndexReport:
    """Bring the index up to date with the given files and folders.

    Raises:
        FileNotFoundError: a given path does not exist.
        DiskFull: no space is left; what was committed stays.
    """
    run = _Run(writer, encoder, options, on_progress)
    started = time.monotonic()
    found = list(find_files(paths, include=options.include, exclude=options.exclude))
    run.files_total = len(found)
    run.unopened_bytes = sum(file.size for file in found if isinstance(file, SourceFile))
    pool = RenderPool(
        workers=options.workers or min(os.cpu_count() or 1, 8),
        needs_image=encoder.reads == "image",
        **render_resolution(encoder),
        ocr=options.ocr,
        passwords=options.passwords,
        page_timeout=options.page_timeout,
        max_file_mb=options.max_file_mb,
    )
    with pool:
        try:
            for event in pool.run(run.jobs(found)):
                run.handle(event)
            run.flush(commit=True)
        except BaseException:
            writer.commit()  # an interrupted run keeps what it has encoded
            raise
    run.settle(paths)
    return replace(run.report, failed=tuple(run.failed), seconds=time.monotonic() - started)


@dataclass(slots=True)
class _Document:
    """A document on its way into the index."""

    files: list[SourceFile] = field(default_factory=list)
    page_count: int = 0
    title: str = ""
    changed: bool = False  # a file that was indexed with another content
    done: bool = False
    failure: Failure | None = None
    pages: int = 0  # read in this run
    ocr_pages: int = 0
    bad_pages: list[Failure] = field(default_factory=list)


def render_resolution(encoder: Encoder) -> dict[str, Any]:
    """How finely pages are drawn: an encoder that looks at more pixels than usual is given them."""
    wanted = int(encoder.settings.get("max_pixels", 0))
    return {"dpi": max(150.0, math.sqrt(wanted / A4_SQUARE_INCHES)), "max_pixels": max(4_000_000, wanted)}


class _Run:
    def __init__(self, writer: IndexWriter, encoder: Encoder, options: IndexOptions, on_progress: OnProgress) -> None:
        self.report = IndexReport()
        self.failed: list[Failure] = []
        self.files_total = 0
        self.unopened_bytes = 0
        self._opened_bytes = 1
        self._opened_pages = 0
        self._writer, self._encoder, self._options, self._on_progress = writer, encoder, options, on_progress
        self._indexed = writer.catalog.files()
        self._known_bad = {failure.path: doc_id for doc_id, failure in writer.catalog.failures()}
        self._bad_pages = {path for path, *_ in writer.catalog.page_failures()}
        self._documents: dict[str, _Document] = defaultdict(_Document)
        self._batch: list[RenderedPage] = []
        self._changes: list[Callable[[Catalog], object]] = []
        self._committed_at = time.monotonic()
        self._now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # -- what to do ---------------------------------------------------------------------------------------------

    def jobs(self, found: Sequence[SourceFile | Failure]) -> Iterator[RenderJob]:
        """The files that need rendering, one job per content; settles all others on the way."""
        for file in found:
            if isinstance(file, Failure):
                self._fail("", replace(file, path=self._name(Path(file.path))))
                continue
            if file.size > self._options.max_file_mb * 2**20:
                size = f"{file.size / 2**20:.0f} MB; files of more than {self._options.max_file_mb:.0f} MB are left out"
                self._fail("", Failure(self._name(file.path), "too_large", f"{size} (--max-file-mb)"), file)
                continue
            try:
                doc_id = hash_file(file.path)
            except UnsupportedInput as error:
                self._fail("", Failure(self._name(file.path), error.code, error.message), file)
                continue
            job = self._job(file, doc_id)
            if job is not None:
                yield job

    def _job(self, file: SourceFile, doc_id: str) -> RenderJob | None:
        name = self._name(file.path)
        if doc_id in self._documents:
            self._join(file, doc_id)
            return None
        catalog = self._writer.catalog
        if self._known_bad.get(name) == doc_id and not self._options.retry_failed:
            self._count(known_bad=1)
            self._close(file)
            return None
        again = self._options.retry_failed and name in self._bad_pages
        if catalog.is_complete(doc_id) and not again:
            self._keep(file, name, doc_id)
            return None
        document = self._documents[doc_id]
        document.files.append(file)
        document.changed = self._indexed.get(name, doc_id) != doc_id
        done = frozenset(catalog.page_numbers(doc_id))
        return RenderJob(file.path, doc_id, done, file.size, file.mtime_ns)

    def _join(self, file: SourceFile, doc_id: str) -> None:
        """The same content was met before in this run: it is on its way, or it failed."""
        document = self._documents[doc_id]
        document.files.append(file)
        if document.failure:
            self._fail(doc_id, replace(document.failure, path=self._name(file.path)), file)
            return
        self._count(duplicates=1)
        self._close(file)
        if document.done:
            self._put_files(doc_id)

    def _keep(self, file: SourceFile, name: str, doc_id: str) -> None:
        """The content is in the index: nothing to encode, at most another path to it."""
        before = self._indexed.get(name)
        if before == doc_id:
            self._count(unchanged=1)
        else:
            self._count(duplicates=1)
            self._change(Catalog.put_file, path=name, doc_id=doc_id, size=file.size)
        if name in self._known_bad:
            self._change(Catalog.drop_failure, path=name)
        self._describe(doc_id)
        self._close(file)

    # -- what happened ------------------------------------------------------------------------------------------

    def handle(self, event: Opened | RenderedPage | PageFailed | Done | Failed) -> None:
        """Take in one event of the pool."""
        match event:
            case RenderedPage():
                self._batch.append(event)
                document, ocr_pages = self._documents[event.ref.doc_id], int(event.text_source == "ocr")
                document.pages += 1
                document.ocr_pages += ocr_pages
                self._count(pages=1, ocr_pages=ocr_pages)
            case Opened(job=job, page_count=page_count, title=title):
                self._open(job, page_count, title)
            case PageFailed(job=job, page_number=number, code=code, message=message):
                self._change(
                    Catalog.put_page_failure, doc_id=job.doc_id, page_number=number, code=code, message=message
                )
                failure = Failure(f"{self._name(job.path)}#{number}", code, message)
                self._documents[job.doc_id].bad_pages.append(failure)
                self.failed.append(failure)
            case Done(job=job):
                self._finish(job)
            case Failed(job=job, code=code, message=message):
                document = self._documents[job.doc_id]
                document.failure = Failure("", code, message)
                self._forget(job.doc_id)
                for file in document.files:
                    self._fail(job.doc_id, Failure(self._name(file.path), code, message), file)
        if len(self._batch) >= BATCH_PAGES:
            self.flush()
        self._tell(getattr(event, "job", None))

    def _open(self, job: RenderJob, page_count: int, title: str) -> None:
        document = self._documents[job.doc_id]
        document.page_count, document.title = page_count, title
        size = document.files[0].size
        self.unopened_bytes -= size
        self._opened_bytes += size
        self._opened_pages += page_count - len(job.skip)
        self._put_document(job.doc_id, complete=False)
        self._describe(job.doc_id)
        self._put_files(job.doc_id, changed=False)  # found from its first page on; a change when it is complete

    def _finish(self, job: RenderJob) -> None:
        document = self._documents[job.doc_id]
        document.done = True
        self._put_document(job.doc_id, complete=True)
        self._put_files(job.doc_id)
        for file in document.files:
            self._change(Catalog.drop_failure, path=self._name(file.path))
        self._count(**{"updated" if document.changed else "added": 1})

    def _forget(self, doc_id: str) -> None:
        """Take back what came of a document before it failed: its pages are of a file that is there no more."""
        document = self._documents[doc_id]
        self._batch = [page for page in self._batch if page.ref.doc_id != doc_id]
        self.failed = [failure for failure in self.failed if failure not in document.bad_pages]
        self._count(pages=-document.pages, ocr_pages=-document.ocr_pages)
        if document.page_count:
            self._change(Catalog.drop_document, doc_id=doc_id)

    def _put_document(self, doc_id: str, *, complete: bool) -> None:
        document = self._documents[doc_id]
        self._change(
            Catalog.put_document,
            doc_id=doc_id,
            page_count=document.page_count,
            title=document.title,
            complete=complete,
            indexed_at=self._now,
        )

    def _put_files(self, doc_id: str, *, changed: bool = True) -> None:
        """Let the files stand for their content; ``changed``: those too that stand for another one so far."""
        for file in self._documents[doc_id].files:
            name = self._name(file.path)
            if changed or self._indexed.get(name, doc_id) == doc_id:
                self._change(Catalog.put_file, path=name, doc_id=doc_id, size=file.size)

    def _fail(self, doc_id: str, failure: Failure, file: SourceFile | None = None) -> None:
        self.failed.append(failure)
        self._change(Catalog.put_failure, doc_id=doc_id, failure=failure, failed_at=self._now)
        if file:
            self._close(file)

    # -- commit -------------------------------------------------------------------------------------------------

    def flush(self, *, commit: bool = False) -> None:
        """Encode the batch and hand it to the writer with the changes that came with it; commit when it is time."""
        if self._batch or self._changes:
            self._writer.add_pages(self._encode(self._batch), self._changes)
            self._batch, self._changes = [], []
        due = time.monotonic() - self._committed_at > COMMIT_SECONDS
        if commit or due or self._writer.buffered_pages >= COMMIT_PAGES:
            self._writer.commit()
            self._committed_at = time.monotonic()

    def _encode(self, pages: list[RenderedPage]) -> list[tuple[RenderedPage, PageVectors]]:
        """The pages with their vectors, without those the encoder can make nothing of."""
        try:
            return list(zip(pages, self._encoder.encode_pages(pages) if pages else [], strict=True))
        except UnsupportedInput as error:
            if len(pages) > 1:
                return [pair for page in pages for pair in self._encode([page])]
            self._refuse(pages[0], error)
            return []

    def _refuse(self, page: RenderedPage, error: UnsupportedInput) -> None:
        """Note a page down as failed: the rest of its document is indexed."""
        document = self._documents[page.ref.doc_id]
        path, number = self._name(document.files[0].path), page.ref.page_number
        self._change(
            Catalog.put_page_failure, doc_id=page.ref.doc_id, page_number=number, code=error.code, message=error.message
        )
        failure = Failure(f"{path}#{number}", error.code, error.message)
        document.bad_pages.append(failure)
        self.failed.append(failure)
        document.pages -= 1
        self._count(pages=-1, ocr_pages=-int(page.text_source == "ocr"))

    def settle(self, paths: Sequence[Path]) -> None:
        """Deal with vanished files, and drop the documents no file stands for any more."""
        roots = [Path(os.path.abspath(path)) for path in paths]
        catalog = self._writer.catalog
        known = [*self._indexed, *self._known_bad]
        gone = [name for name in dict.fromkeys(known) if self._is_gone(name, roots)]
        if self._options.prune:
            for name in gone:
                self._writer.change(Catalog.drop_file, path=name)
                self._writer.change(Catalog.drop_failure, path=name)
            self._count(removed=len(gone))
        else:
            self._count(gone=len([name for name in gone if name in self._indexed]))
        if gone or catalog.has_documents_without_files():
            self._writer.change(Catalog.drop_documents_without_files)
        self._writer.commit()

    # -- small things -------------------------------------------------------------------------------------------

    def _is_gone(self, name: str, roots: list[Path]) -> bool:
        path = self._writer.paths.source_path(name)
        return any(path.is_relative_to(root) for root in roots) and not path.exists()

    def _name(self, path: Path) -> str:
        return self._writer.paths.source_name(path)

    def _describe(self, doc_id: str) -> None:
        if self._options.metadata:
            self._change(Catalog.merge_metadata, doc_id=doc_id, metadata=self._options.metadata)

    def _change(self, method: Callable[..., object], **arguments: Any) -> None:
        """Change the catalog once the pages that came before are in."""
        self._changes.append(partial(method, **arguments))

    def _count(self, **more: int) -> None:
        self.report = replace(self.report, **{name: getattr(self.report, name) + n for name, n in more.items()})

    def _close(self, file: SourceFile) -> None:
        self.unopened_bytes -= file.size

    def _tell(self, job: RenderJob | None) -> None:
        report = self.report
        done = (
            report.added + report.updated + report.unchanged + report.duplicates + report.known_bad + len(self.failed)
        )
        estimate = self._opened_pages * max(self.unopened_bytes, 0) / self._opened_bytes
        self._on_progress(
            Progress(
                files_done=done,
                files_total=self.files_total,
                pages_done=report.pages,
                pages_total=self._opened_pages + round(estimate),
                path=self._name(job.path) if job else "",
            )
        )
