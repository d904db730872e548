"""What people see: notices, sizes and durations in words, and text that cannot upset a terminal."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Controls move the cursor or switch colours, direction marks reorder what is read: neither belongs in a listing.
_NOT_PRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


@dataclass(slots=True)
class Voice:
    """How much is said on stderr; `main` sets it from the command line."""

    quiet: bool = False
    verbose: bool = False


VOICE = Voice()


def notice(message: str) -> None:
    """Say something on stderr that is not a result, unless asked to be quiet."""
    if not VOICE.quiet:
        say(message, sys.stderr)


def complain(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    say(f"docsearch: {plain(message)}", sys.stderr)


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line, on stdout unless told otherwise; a terminal gets it broken between words, a file in one piece."""
    stream = stream or sys.stdout
    if stream.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    print(line, file=stream, flush=True)


def console() -> Console:
    """A console for stdout, as wide as the terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def listing(widths: dict[str, int], *, right: Collection[str] = ()) -> Table:
    """An empty table without lines: columns of these names and widths, some of them flush right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, width in widths.items():
        table.add_column(name, justify="right" if name in right else "left", width=width, overflow="fold")
    return table


def widest(texts: Iterable[str], *, most: int) -> int:
    """The columns that the widest text takes, at most so many; the heading is one of the texts."""
    from rich.cells import cell_len

    return min(max(map(cell_len, texts)), most)


def plain(text: str) -> str:
    """A text on one line, without characters that could upset a terminal or a table."""
    return _NOT_PRINTED.sub(" ", text).strip()


def shown_path(path: Path) -> str:
    """A path as one would type it here: relative to the working folder when it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def counted(n: int, noun: str) -> str:
    """`1 page`, `1,024 pages`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def size(n_bytes: float) -> str:
    """`980 bytes`, `3.4 kB`, `12 MB`: powers of 1000, two or three digits."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    for unit in ("kB", "MB", "GB", "TB"):
        n_bytes /= 1000
        if n_bytes < 999.5 or unit == "TB":
            break
    return f"{n_bytes:.1f} {unit}" if n_bytes < 9.95 else f"{n_bytes:.0f} {unit}"


def duration(seconds: float) -> str:
    """`0.4 s`, `38 s`, `2 min 05 s`, `1 h 03 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
