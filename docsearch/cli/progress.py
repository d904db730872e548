"""How an indexing run shows how far it is: a live line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from docsearch.cli.terminal import VOICE, duration, notice, plain
from docsearch.indexer.pipeline import Progress

LOG_SECONDS = 10.0
_RATE_SECONDS = 30.0  # the rate is that of this long; encoding goes in batches, so a shorter time would flicker
_FIRST_SECONDS = 3.0  # before this, no rate is worth showing

OnProgress = Callable[[Progress], None]


@contextmanager
def show_progress(shown: Callable[[str], str]) -> Iterator[OnProgress]:
    """Show progress on stderr for the time of the block; yields what to call with it.

    Args:
        shown: turns the index's name for a file into what people call it.
    """
    pace = Pace(shown)
    if VOICE.quiet or VOICE.verbose or not sys.stderr.isatty():
        yield _log_files(pace) if VOICE.verbose else _log(pace)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Display

    said, name = TextColumn("{task.fields[said]}", markup=False), TextColumn("{task.fields[path]}", markup=False)
    name.get_table_column().no_wrap = True
    name.get_table_column().overflow = "ellipsis"
    said.get_table_column().no_wrap = True
    console = Console(stderr=True, highlight=False)
    with Display(SpinnerColumn(), BarColumn(16), said, name, console=console, transient=True) as display:
        task = display.add_task("", total=None, said="looking at files", path="")

        def update(progress: Progress) -> None:
            said = pace.tell(progress)
            path = pace.path
            room = max(12, console.width - 16 - len(said) - 6)
            shown = path if len(path) <= room else "…" + path[1 - room :]
            display.update(task, total=progress.pages_total, completed=progress.pages_done, said=said, path=shown)

        yield update


class Pace:
    """Pages per second over the last half minute, and what that means for the rest."""

    def __init__(self, shown: Callable[[str], str]) -> None:
        self._shown = shown
        self._started = time.monotonic()
        self._past: deque[tuple[float, int]] = deque([(self._started, 0)])
        self.path = ""  # the file that was last heard of

    def tell(self, progress: Progress) -> str:
        """`120 of about 212 pages, 5.6 pages/s, about 16 s left`; the total is an estimate until all files are open."""
        if progress.path:
            self.path = plain(self._shown(progress.path))
        now = time.monotonic()
        self._past.append((now, progress.pages_done))
        while now - self._past[0][0] > _RATE_SECONDS and len(self._past) > 2:
            self._past.popleft()
        then, done = self._past[0]
        total = max(progress.pages_total, progress.pages_done)
        said = f"{progress.pages_done:,} of about {total:,} pages"
        if now - self._started > _FIRST_SECONDS and progress.pages_done > done:
            rate = (progress.pages_done - done) / (now - then)
            said += f", {rate:.1f} pages/s"
            if total > progress.pages_done:
                said += f", {duration((total - progress.pages_done) / rate)} left"
        return said


def _log(pace: Pace) -> OnProgress:
    last = time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        said = pace.tell(progress)
        if time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            notice(f"{said}: {pace.path}")

    return update


def _log_files(pace: Pace) -> OnProgress:
    last = ""

    def update(progress: Progress) -> None:
        nonlocal last
        pace.tell(progress)
        if pace.path != last:
            last = pace.path
            notice(f"[{progress.files_done:,} of {progress.files_total:,} files done] {last}")

    return update
