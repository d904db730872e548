"""How work that is counted shows how far it is: a live line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from docsearch.cli.terminal import VOICE, duration, notice

_LOG_SECONDS = 10.0
_FIRST_SECONDS = 3.0  # before this, nobody knows how long it will take

OnCount = Callable[[str, int, int], None]  # what is counted, how many are done, of how many


@contextmanager
def show_counting() -> Iterator[OnCount]:
    """Show counts on stderr for the time of the block; yields what to call with them."""
    tell = _Pace()
    if VOICE.quiet or not sys.stderr.isatty():
        yield _log(tell)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), BarColumn(16), TextColumn("{task.fields[said]}", markup=False))
    with Progress(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=None, said="")

        def update(what: str, done: int, total: int) -> None:
            display.update(task, total=total, completed=done, said=tell(what, done, total))

        yield update


class _Pace:
    """`120 of 1,127 queries answered, 18 s left`: the time left is that of the work of this name."""

    def __init__(self) -> None:
        self._what, self._started, self._first, self._last = "", 0.0, 0, 0

    def __call__(self, what: str, done: int, total: int) -> str:
        now = time.monotonic()
        if what != self._what or done < self._last:
            self._what, self._started, self._first = what, now, done
        self._last = done
        said = f"{done:,} of {total:,} {what}"
        took, made = now - self._started, done - self._first
        if took < _FIRST_SECONDS or not made or done >= total:
            return said
        return f"{said}, {duration(took / made * (total - done))} left"


def _log(tell: _Pace) -> OnCount:
    last = time.monotonic()

    def update(what: str, done: int, total: int) -> None:
        nonlocal last
        said = tell(what, done, total)
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            notice(said)

    return update
