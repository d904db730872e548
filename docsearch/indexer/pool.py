"""Render documents in processes that may crash, hang or run out of memory without ending the run.

Each worker is a child process (``worker.py``) and a thread here that hands it work and passes its pages on. Documents
are handed out in chunks of pages: a worker whose documents are done helps with those of the others, so one long scan
keeps every core busy. Pages wait in a bounded queue: a slow encoder holds the workers back instead of filling memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from docsearch.errors import DocsearchError, UnsupportedInput
from docsearch.indexer import worker
from docsearch.options import OcrMode
from docsearch.types import FailureCode, RenderedPage, Words

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 16  # pages handed out at a time; fewer towards the end of a document, so that all workers end together
MAX_CRASHES = 3  # the rest of a document is given up when it has ended this many workers
WAITING_PAGES = 32  # pages without pixels that may wait to be taken; with pixels: two for each worker
MEMORY_LIMIT_MB = 4096  # address space of one worker

_ONE_CORE = {"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
CHANGED = "the file changed while it was being read: index it again"
_OUT_OF_REACH_OF_CTRL_C: Any = {"creationflags": 0x200} if os.name == "nt" else {"process_group": 0}
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from docsearch.indexer.worker import main; main()"


@dataclass(frozen=True, slots=True)
class RenderJob:
    """A document to render."""

    path: Path
    doc_id: str
    skip: frozenset[int] = frozenset()  # page numbers that are not needed
    size: int | None = None  # bytes, as the doc_id was made; with mtime_ns it tells whether the file has changed since
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The document can be read; comes before its pages."""

    job: RenderJob
    page_count: int
    title: str


@dataclass(frozen=True, slots=True)
class PageFailed:
    """One page cannot be read; the document's other pages follow as usual."""

    job: RenderJob
    page_number: int
    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every page of the document has been rendered, skipped or reported."""

    job: RenderJob


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing of the document can be used: it cannot be opened, no page can be read, or it changed meanwhile.

    Pages that came before this belong to another version of the file.
    """

    job: RenderJob
    code: FailureCode
    message: str


Event = Opened | RenderedPage | PageFailed | Done | Failed


class RenderPool:
    """A bounded number of rendering processes.

    Args:
        workers: processes; each keeps one core busy and holds one document open. None: one per core, at most 8.
        needs_image: pixels too, not only words.
        ocr: ``auto`` reads pages without a usable text layer from their picture.
        passwords: tried in order on encrypted PDFs.
        max_file_mb: larger files are refused (``too_large``).
        page_timeout: seconds to open a document, and to render one page; past it the page has failed (``timeout``).
        dpi: of the page image.
        max_pixels: of the page image; larger pages get a lower resolution.
        memory_limit_mb: address space of one worker; past it the page fails, or the worker ends.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        needs_image: bool = False,
        ocr: OcrMode = "auto",
        passwords: Sequence[str] = (),
        page_timeout: float = 120.0,
        max_file_mb: float = 2048.0,
        dpi: float = 150.0,
        max_pixels: int = 4_000_000,
        memory_limit_mb: int = MEMORY_LIMIT_MB,
    ) -> None:
        self._workers = workers or min(
            8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        self._settings = {
            "options": {"needs_image": needs_image, "dpi": dpi, "max_pixels": max_pixels, "ocr": ocr},
            "passwords": list(passwords),
            "max_file_mb": max_file_mb,
            "page_timeout": page_timeout,
            "memory_limit_mb": memory_limit_mb,
        }
        self._waiting = 2 * self._workers if needs_image else WAITING_PAGES
        self._run: _Run | None = None

    def run(self, jobs: Iterable[RenderJob]) -> Iterator[Event]:
        """Render documents, several at once.

        A document's events come as ``Opened``, then its pages in any order and ``PageFailed`` for those that cannot
        be read, then ``Done``; or ``Failed`` at any point, after which nothing more comes of it. Those of different
        documents are mixed. Jobs are taken from the iterable in the calling thread, a few ahead of need.

        Raises:
            DocsearchError: no worker can be started at all.
        """
        self._run = run = _Run(self._workers, self._settings, self._waiting)
        try:
            yield from run.events(iter(jobs))
        finally:
            run.close()

    def close(self) -> None:
        """End all workers at once."""
        if self._run:
            self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_words(image: Image.Image, *, timeout: float = 60.0) -> Words:
    """The words on a picture, read by OCR in a process of its own.

    Raises:
        UnsupportedInput: the picture cannot be read, or not within ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="docsearch-") as folder:
        path = Path(folder) / "query.png"
        image.save(path)
        with RenderPool(workers=1, page_timeout=timeout) as pool:
            for event in pool.run([RenderJob(path, "")]):
                if isinstance(event, RenderedPage):
                    return event.words
                if isinstance(event, PageFailed | Failed):
                    raise UnsupportedInput("the query image", event.code, event.message)
    return Words.none()


@dataclass(slots=True, eq=False)
class _Document:
    """A job on its way. ``pages``, ``stat`` and ``crashes`` belong to the schedule, the rest to the caller's thread."""

    job: RenderJob
    pages: deque[int] | None = None  # still to be handed out; None until it has been opened
    stat: tuple[int | None, int | None] = (None, None)  # size and time the file must have
    crashes: int = 0
    unanswered: int = 0  # pages not accounted for
    rendered: int = 0
    first_failure: PageFailed | None = None
    ended: bool = False  # Done or Failed has been said


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a thread tells the caller's thread about a document."""

    document: _Document
    event: Event


class _Schedule:
    """Who does what next."""

    def __init__(self, workers: int) -> None:
        self.changed = threading.Condition()
        self.stopped = False
        self._workers = workers
        self._waiting: deque[_Document] = deque()  # not begun
        self._begun: list[_Document] = []  # begun and not ended
        self._complete = False  # no more jobs will come

    def refill(self, jobs: Iterator[RenderJob]) -> None:
        """Take jobs from the caller until there are enough to keep every worker busy for a while."""
        while not self._complete and len(self._waiting) < 2 * self._workers:
            job = next(jobs, None)  # the caller's code runs here: no lock is held
            with self.changed:
                if job is None:
                    self._complete = True
                else:
                    self._waiting.append(_Document(job, stat=(job.size, job.mtime_ns)))
                self.changed.notify_all()

    def next(self, current: _Document | None) -> tuple[_Document, list[int]] | None:
        """A document and pages to render of it, none to open it first. Waits for work; None when no more will come."""
        with self.changed:
            while not self.stopped:
                if current and current.pages:
                    return current, self._chunk(current.pages)
                if self._waiting:
                    document = self._waiting.popleft()
                    self._begun.append(document)
                    return document, []
                unfinished = [(len(document.pages), document) for document in self._begun if document.pages]
                if unfinished:
                    _, document = max(unfinished, key=lambda pair: pair[0])
                    assert document.pages
                    return document, self._chunk(document.pages)
                if self._complete and not self._begun:
                    return None
                self.changed.wait()
            return None

    def opened(self, document: _Document, page_count: int, stat: tuple[int, int]) -> tuple[bool, bool]:
        """Whether this was the first time, and whether the file is still the same."""
        with self.changed:
            same = all(want in (None, have) for want, have in zip(document.stat, stat, strict=True))
            first = document.pages is None
            if first:
                document.stat = stat
                document.pages = deque(page for page in range(1, page_count + 1) if page not in document.job.skip)
                self.changed.notify_all()
            return first, same

    def crashed(self, document: _Document, again: Sequence[int]) -> list[int]:
        """Put pages back that a worker left behind; returns those to give up: all, after too many crashes."""
        with self.changed:
            document.crashes += 1
            if document.pages is None:
                return []
            document.pages.extendleft(reversed(again))
            given_up = list(document.pages) if document.crashes >= MAX_CRASHES else []
            if given_up:
                document.pages.clear()
            self.changed.notify_all()
            return given_up

    def ended(self, document: _Document) -> None:
        """Nothing more is wanted of the document."""
        with self.changed:
            document.ended, document.pages = True, deque()
            self._begun.remove(document)
            self.changed.notify_all()

    def stop(self) -> None:
        """Let every waiting thread go."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def _chunk(self, pages: deque[int]) -> list[int]:
        size = max(1, min(CHUNK, len(pages) // (2 * self._workers)))
        return [pages.popleft() for _ in range(size)]


class _Run:
    """One pass over some jobs: threads, each with its process, and the queue between them and the caller."""

    def __init__(self, workers: int, settings: dict[str, Any], waiting: int) -> None:
        self._settings = settings
        self._schedule = _Schedule(workers)
        self._answers: queue.Queue[_Answer | Exception | None] = queue.Queue(waiting)
        self._processes: set[_Process] = set()
        self._threads = [
            threading.Thread(target=self._work, name="docsearch-render", daemon=True) for _ in range(workers)
        ]

    def events(self, jobs: Iterator[RenderJob]) -> Iterator[Event]:
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            self._schedule.refill(jobs)
            answer = self._answers.get()
            if answer is None:
                working -= 1
            elif isinstance(answer, Exception):
                raise answer
            elif not answer.document.ended:  # else the rest of a chunk of a document given up meanwhile
                yield from self._account(answer.document, answer.event)

    def close(self) -> None:
        self._schedule.stop()
        for process in list(self._processes):
            process.end()
        for thread in self._threads:
            while thread.is_alive():  # it may be waiting to put a page into the full queue
                with contextlib.suppress(queue.Empty):
                    self._answers.get(timeout=0.01)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _account(self, document: _Document, event: Event) -> Iterator[Event]:
        """Pass an event on, and say so when it was the document's last."""
        if isinstance(event, Failed):
            self._schedule.ended(document)
            yield event
            return
        if isinstance(event, Opened):
            wanted = set(range(1, event.page_count + 1)) - document.job.skip
            document.unanswered = len(wanted)
        elif isinstance(event, PageFailed):
            document.first_failure = document.first_failure or event
            document.unanswered -= 1
        else:
            document.rendered += 1
            document.unanswered -= 1
        yield event
        if document.unanswered == 0:
            self._schedule.ended(document)
            failure = document.first_failure
            if _has_changed(document):
                yield Failed(document.job, "render_error", CHANGED)
            elif failure and not document.rendered and not document.job.skip:
                yield Failed(document.job, failure.code, f"no page of it can be read; {failure.message}")
            else:
                yield Done(document.job)

    def _work(self) -> None:
        """One thread's life: take work, have the process do it, pass the answers on."""
        process: _Process | None = None
        document: _Document | None = None
        try:
            while work := self._schedule.next(document):
                document, pages = work
                process = process or self._start()
                if not self._render(process, document, deque(pages)):
                    self._retire(process)
                    process = None
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._answers.put(error)
        finally:
            if process:
                self._retire(process)
            self._answers.put(None)

    def _render(self, process: _Process, document: _Document, pages: deque[int]) -> bool:
        """Have pages rendered, or the document opened if there are none; False when the process ended over it."""
        job = document.job
        try:
            answer, _ = process.ask({"path": str(job.path), "pages": list(pages)})
            if answer["kind"] == "failed":
                self._answers.put(_Answer(document, Failed(job, answer["code"], answer["message"])))
                return True
            first, same = self._schedule.opened(document, answer["page_count"], (answer["size"], answer["mtime_ns"]))
            if first:
                self._answers.put(_Answer(document, Opened(job, answer["page_count"], answer["title"])))
            if not same:
                self._answers.put(_Answer(document, Failed(job, "render_error", CHANGED)))
            while pages:
                answer, payload = process.answer()
                event = _page_event(job, pages[0], answer, payload)
                pages.popleft()
                self._answers.put(_Answer(document, event))
        except (EOFError, OSError):
            if not self._schedule.stopped:
                self._crashed(document, pages, process)
            return False
        return True

    def _crashed(self, document: _Document, pages: deque[int], process: _Process) -> None:
        """The process ended over the first of these pages, or opening the document; the others are tried again."""
        code, message = process.cause_of_death()
        if not pages:
            self._answers.put(_Answer(document, Failed(document.job, code, message)))
            return
        culprit = pages.popleft()
        given_up = self._schedule.crashed(document, pages)
        self._answers.put(_Answer(document, PageFailed(document.job, culprit, code, f"page {culprit}: {message}")))
        for page in given_up:
            reason = f"page {page} was not tried: {MAX_CRASHES} others of this document ended the renderer"
            self._answers.put(_Answer(document, PageFailed(document.job, page, code, reason)))

    def _start(self) -> _Process:
        process = _Process(self._settings)
        self._processes.add(process)
        if self._schedule.stopped:
            process.end()
        else:
            process.greet()
        return process

    def _retire(self, process: _Process) -> None:
        process.end()
        self._processes.discard(process)


class _Process:
    """A worker process, seen from this side."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_CORE},
            **_OUT_OF_REACH_OF_CTRL_C,
        )

    def greet(self) -> None:
        """Hand over the settings.

        Raises:
            DocsearchError: the process cannot work here at all.
        """
        try:
            answer, _ = self.ask(self._settings)
        except (EOFError, OSError) as error:
            reason = f"exit status {self._child.wait()}"
            raise DocsearchError(f"the rendering process {sys.executable} does not start ({reason})") from error
        if answer["kind"] == "broken":
            raise DocsearchError(f"the rendering process cannot work: {answer['message']}; install docsearch again")

    def ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        assert self._child.stdin
        worker.send(self._child.stdin, message)
        return self.answer()

    def answer(self) -> tuple[dict[str, Any], bytes]:
        assert self._child.stdout
        return worker.receive(self._child.stdout)

    def cause_of_death(self) -> tuple[FailureCode, str]:
        """Why the process ended: a code and a message about what it was doing."""
        status = self._child.wait()
        if status == worker.TIMED_OUT:
            return "timeout", f"not done after {self._settings['page_timeout']:g} seconds (--page-timeout)"
        if status == -9:
            return "render_error", "the renderer was killed, perhaps for want of memory"
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return "render_error", f"the renderer crashed ({name})"

    def end(self) -> None:
        """Kill it; harmless when it has ended."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                with contextlib.suppress(OSError):  # a broken pipe, with something still unwritten
                    stream.close()


def _has_changed(document: _Document) -> bool:
    try:
        status = document.job.path.stat()
    except OSError:  # removed; what was read of it is sound
        return False
    return (status.st_size, status.st_mtime_ns) != document.stat


def _page_event(job: RenderJob, page_number: int, answer: dict[str, Any], payload: bytes) -> RenderedPage | PageFailed:
    if answer["kind"] == "page":
        return worker.page_from(answer, payload, job.doc_id)
    return PageFailed(job, page_number, answer["code"], answer["message"])
