"""The one writer: buffers pages, writes them as a segment, and commits them with one catalog transaction."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from threadpoolctl import threadpool_limits

from docsearch.errors import DiskFull
from docsearch.store.catalog import Catalog
from docsearch.store.codec import get_codec
from docsearch.store.layout import IndexPaths, Layout
from docsearch.store.lock import WriteLock
from docsearch.store.pooling import pool
from docsearch.store.segment import write_segment
from docsearch.types import PageVectors, RenderedPage

Change = Callable[[Catalog], object]
EncodedPage = tuple[RenderedPage, PageVectors]


class IndexWriter:
    """Write access to an index, for one process at a time."""

    def __init__(
        self, paths: IndexPaths, layout: Layout, *, lock_timeout: float = 0.0, lock: WriteLock | None = None
    ) -> None:
        """Prepare to write; the lock is taken on entering.

        Args:
            paths: where the index is.
            layout: what it is.
            lock_timeout: seconds to wait for another writer to finish.
            lock: one that is held already.
        """
        self.paths, self.layout = paths, layout
        self._lock = lock or WriteLock(paths, timeout=lock_timeout)
        self._held = ExitStack()
        self._staged: list[tuple[Sequence[EncodedPage], Sequence[Change]]] = []

    def __enter__(self) -> Self:
        """Take the lock and clear away what a killed writer left.

        Raises:
            IndexLocked: another process goes on writing after the time to wait.
        """
        with ExitStack() as held, translate_disk_full(self.paths.folder):
            held.enter_context(self._lock)
            # Pages are coded one by one, in small products that a busy machine makes wait for each other's threads.
            held.enter_context(threadpool_limits(1, user_api="blas"))
            self.catalog = Catalog(self.paths.catalog, writable=True)
            held.callback(self.catalog.close)
            self._remove_orphans()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of the index; what was not committed is dropped."""
        self._staged.clear()
        self._held.close()

    @property
    def buffered_pages(self) -> int:
        """Pages that the next commit will add."""
        return sum(len(pages) for pages, _ in self._staged)

    def add_page(self, page: RenderedPage, vectors: PageVectors) -> None:
        """Let the next commit add a page."""
        self.add_pages([(page, vectors)])

    def add_pages(self, pages: Sequence[EncodedPage], changes: Sequence[Change] = ()) -> None:
        """Let the next commit add pages, and make the changes that belong with them: both, or neither."""
        self._staged.append((pages, changes))  # one step, so that Ctrl-C cannot come between

    def change(self, method: Callable[..., object], **arguments: Any) -> None:
        """Let the next commit call a method of `Catalog`, after it has added its pages and made the changes before."""
        self._staged.append(((), (partial(method, **arguments),)))

    def commit(self) -> None:
        """Make everything since the last commit visible and durable, all at once.

        Whatever happens, nothing stays buffered: a commit that failed is not tried again with what came after it.

        Raises:
            DiskFull: there was no room; the index is as the last commit left it.
        """
        staged, self._staged = self._staged, []
        if not staged:
            return
        pages = [page for group, _ in staged for page in group]
        with translate_disk_full(self.paths.folder):
            segment_id = self.catalog.next_segment_id()
            size = self._write_segment(segment_id, pages) if pages else 0
            with self.catalog.transaction():
                if pages:
                    self.catalog.add_segment(segment_id, len(pages), size)
                for row, (page, _) in enumerate(pages):
                    self.catalog.add_page(page, segment_id, row)
                for _, changes in staged:
                    for change in changes:
                        change(self.catalog)

    def _write_segment(self, segment_id: int, pages: Sequence[EncodedPage]) -> int:
        vectors = [(page.ref.page_id, self._pooled(vectors)) for page, vectors in pages]
        return write_segment(self.paths.segment(segment_id), segment_id, vectors, get_codec(self.layout.codec))

    def _pooled(self, vectors: PageVectors) -> PageVectors:
        if self.layout.pooling == 1:
            return vectors
        tokens, boxes = pool(vectors.tokens, vectors.boxes, self.layout.pooling)
        return PageVectors(tokens, vectors.dense, boxes)

    def _remove_orphans(self) -> None:
        """Delete segment files that no commit names: what a killed writer, or a compaction, left behind."""
        for folder in (self.paths.segments, self.paths.prefilter):  # empty ones get lost in copies and archives
            folder.mkdir(exist_ok=True)
        known = {self.paths.segment(segment_id) for segment_id in self.catalog.segment_ids()}
        for path in self.paths.segments.iterdir():
            if path not in known:
                path.unlink()


@contextmanager
def translate_disk_full(folder: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" of the operating system into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(folder) from error
        raise
