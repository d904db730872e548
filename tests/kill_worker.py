"""A warm process that runs jobs in forks of itself and kills them where it is told: a kill every fraction of a second.

Requests come in as lines of JSON and are answered by lines of JSON. A fork is a process of its own, ended by SIGKILL:
from outside after a delay, or by itself the moment it comes to its n-th event, where an event is a sync, a rename or a
removal of a file, or one of the steps of a commit: the points between which the state on disk changes its meaning.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from planted import open_index

from docsearch.errors import PageNotFound, UnsupportedInput
from docsearch.indexer import compact, pipeline, render
from docsearch.indexer.pool import Done, Event, Failed, Opened, RenderJob
from docsearch.options import IndexOptions
from docsearch.store.catalog import Catalog
from docsearch.store.writer import IndexWriter


class PoolInThisProcess:
    """Renders here: starting rendering processes would take longer than all the rest of a job."""

    def __init__(self, **_: Any) -> None:
        """Take any settings."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, jobs: Iterator[RenderJob]) -> Iterator[Event]:
        options = render.RenderOptions(ocr="off")
        for job in jobs:
            try:
                with render.open_document(job.path) as document:
                    yield Opened(job, document.page_count, document.title)
                    for number in range(1, document.page_count + 1):
                        if number not in job.skip:
                            yield document.render(number, doc_id=job.doc_id, options=options)
                yield Done(job)
            except UnsupportedInput as error:
                yield Failed(job, error.code, error.message)


class Events:
    """Counts events, and ends this process with the one it is to end with."""

    def __init__(self, last: int | None) -> None:
        self.count, self._last = 0, last

    def happened(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Make an event of the moment before a function is called, and another of the moment after."""
        function: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.happened()
            result = function(*arguments, **options)
            self.happened()
            return result

        setattr(owner, name, counted)


def do_job(request: dict[str, Any]) -> int:
    """Run the steps of a job; returns the number of events there were."""
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    events = Events(request.get("event"))
    for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (Catalog, "add_segment")):
        events.around(owner, name)
    transaction, commit = Catalog.transaction, IndexWriter.commit

    def commit_and_tell(writer: IndexWriter) -> None:
        pages = [(page.ref.doc_id, page.ref.page_number) for group, _ in writer._staged for page, _ in group]
        commit(writer)
        os.write(log, b"".join(b"%s %d\n" % (doc_id.encode(), number) for doc_id, number in pages))

    Catalog.transaction = lambda catalog: Around(transaction(catalog), events)  # type: ignore[method-assign]
    IndexWriter.commit = commit_and_tell  # type: ignore[method-assign]
    if not request.get("real_pool"):
        pipeline.RenderPool = PoolInThisProcess  # type: ignore[misc,assignment]
    index = open_index(Path(request["index"]))
    for step, argument in request["steps"]:
        match step:
            case "add":
                index.add(argument, IndexOptions(prune=True, ocr="off", workers=1))
            case "remove":
                with contextlib.suppress(PageNotFound):  # a run before this one got that far
                    index.remove(argument)
            case "describe":
                index.set_metadata(argument, {"seen": True})
            case "compact":
                index.compact()
    index.close()
    return events.count


class Around:
    """A transaction whose every edge is an event: before it begins, before it commits, and when it has."""

    def __init__(self, transaction: Any, events: Events) -> None:
        self._transaction, self._events = transaction, events

    def __enter__(self) -> None:
        self._events.happened()
        self._transaction.__enter__()

    def __exit__(self, *error: object) -> None:
        self._events.happened()
        self._transaction.__exit__(*error)
        self._events.happened()


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, run, perhaps kill; says whether the fork was killed, after how long, and how many events it had."""
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.write(write, str(do_job(request)).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a fork must not return into the test
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(write)
    if request.get("delay") is not None:
        time.sleep(request["delay"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    events = os.read(read, 100)
    os.close(read)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {
        "pid": child,
        "killed": killed,
        "failed": not killed and status != 0,
        "seconds": time.monotonic() - started,
        "events": int(events or 0),
    }


if __name__ == "__main__":
    pipeline.COMMIT_PAGES, pipeline.BATCH_PAGES, pipeline.COMMIT_SECONDS = 4, 2, 60.0
    compact.SEGMENT_PAGES, compact.FANOUT = 16, 4
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
