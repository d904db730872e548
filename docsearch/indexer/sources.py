"""Find the files to index: what `docsearch index PATH...` means on disk."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docsearch.errors import UnsupportedInput
from docsearch.types import Failure

SUFFIXES = frozenset({".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})  # lower case; a file's may be any


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was found; size and time tell later whether it changed."""

    path: Path
    size: int  # bytes
    mtime_ns: int


def find_files(
    paths: Sequence[Path], *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[SourceFile | Failure]:
    """Yield every file to index below the given files and folders, each once, always in the same order.

    Folders are searched to any depth, links followed (a loop is entered once); hidden names, which are those with a
    leading dot, and files of other kinds than ``SUFFIXES`` are left out. A file given by name is taken whatever it
    is called: whether it is a document is decided by its content, when it is opened.

    Args:
        paths: files and folders.
        include: globs; when there are any, only files matching one of them are yielded.
        exclude: globs; files and folders matching one of them are left out, whatever ``include`` says.
            Globs are those of .gitignore: ``*.pdf`` and ``drafts`` match at any depth, ``2023/*.pdf`` from the given
            folder downwards, ``**`` any number of folders; what matches a folder matches all that is in it.

    Yields:
        A ``Failure`` in place of a file or folder that cannot be looked at.

    Raises:
        ValueError: a glob makes no sense.
        FileNotFoundError: one of the paths is not there; raised at once, before anything is yielded.
    """
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises when the folder may not be looked into
            raise FileNotFoundError(f"no file or folder at {path}: check the spelling, or the folder you are in")
    return _find(paths, _matcher(include), _matcher(exclude))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal: its ``doc_id``. Reads in pieces, so any size is fine.

    Raises:
        UnsupportedInput: the file cannot be read; ``code`` is ``permission``, or ``render_error`` if it has vanished.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> UnsupportedInput:
    """The error for a file whose bytes cannot be had."""
    if isinstance(error, FileNotFoundError):
        return UnsupportedInput(str(path), "render_error", "it vanished before it could be read")
    return UnsupportedInput(str(path), "permission", f"it cannot be read: {error.strerror}")


def _find(
    paths: Sequence[Path], include: re.Pattern[str] | None, exclude: re.Pattern[str] | None
) -> Iterator[SourceFile | Failure]:
    seen: set[str] = set()  # real paths of what was visited: ends link loops, drops doubles
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - as above
            yield from _walk(path, path, include, exclude, seen)
        elif _wanted(path.name, include, exclude):
            yield from _look_at(path, seen)


def _walk(
    folder: Path,
    root: Path,
    include: re.Pattern[str] | None,
    exclude: re.Pattern[str] | None,
    seen: set[str],
) -> Iterator[SourceFile | Failure]:
    if _visited(folder, seen):
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:  # removed while we were on the way
        return
    except OSError as error:
        yield Failure(_printable(folder), "permission", f"the folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        path = folder / entry.name
        relative = path.relative_to(root).as_posix()
        if entry.name.startswith(".") or (exclude and exclude.fullmatch(relative)):
            continue
        if os.path.isdir(path):  # noqa: PTH112
            yield from _walk(path, root, include, exclude, seen)
        elif path.suffix.lower() in SUFFIXES and _wanted(relative, include, exclude):
            yield from _look_at(path, seen)


def _look_at(path: Path, seen: set[str]) -> Iterator[SourceFile | Failure]:
    name = _printable(path)
    try:
        status = path.stat()
    except FileNotFoundError:  # a link to nothing, or removed while we were on the way
        return
    except OSError as error:
        yield Failure(name, "permission", f"it cannot be read: {error.strerror}")
        return
    if _visited(path, seen):
        return
    if not stat.S_ISREG(status.st_mode):
        yield Failure(name, "unsupported", "it is not a regular file")
    elif name != str(path):
        yield Failure(name, "unsupported", "its name is not valid text (UTF-8); rename it")
    else:
        yield SourceFile(path, status.st_size, status.st_mtime_ns)


def _visited(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    known = real in seen
    seen.add(real)
    return known


def _wanted(relative: str, include: re.Pattern[str] | None, exclude: re.Pattern[str] | None) -> bool:
    if exclude and exclude.fullmatch(relative):
        return False
    return include is None or include.fullmatch(relative) is not None


def _printable(path: Path) -> str:
    r"""The path as text that can be stored and printed; bytes that are no UTF-8 are written as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _matcher(globs: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern for all globs, to be matched on whole relative paths with forward slashes."""
    try:
        return re.compile("|".join(_glob_to_regex(glob) for glob in globs)) if globs else None
    except re.error as error:
        raise ValueError(
            f"cannot read the globs {', '.join(globs)}: {error}; put odd characters in brackets"
        ) from error


def _glob_to_regex(glob: str) -> str:
    """A .gitignore glob as a regular expression: anchored if it holds a slash, and covering all below a match."""
    glob = glob.removeprefix("./").rstrip("/")
    anchored = "/" in glob
    pieces = re.findall(r"\*\*/|/\*\*$|\*|\?|\[!?\]?[^\]]*\]|.", glob.lstrip("/"), re.DOTALL)
    translated = "".join(map(_piece_to_regex, pieces))
    return f"(?:{'' if anchored else '(?:.*/)?'}{translated}(?:/.*)?)"


def _piece_to_regex(piece: str) -> str:
    if len(piece) > 2 and piece.startswith("["):
        inside = re.sub(r"([\\\[&~|^])", r"\\\1", piece[1:-1].removeprefix("!"))
        return f"[{'^' if piece[1] == '!' else ''}{inside}]"
    return {"**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece))
