"""Everything docsearch raises on purpose. Each message says what happened, where, and what to do next.

DocsearchError
├── IndexNotFound        there is no index at that place
├── IndexExists          asked to create one where one is
├── IndexLocked          another process is writing
├── IndexDamaged         a file of the index is not what was written; the file is named
├── IndexIncompatible    written by a newer docsearch
│   └── EncoderMismatch  built with another encoder, or another version of its weights
├── DiskFull             no space left; everything committed is safe
├── UnsupportedInput     a file, query or page that cannot be read; carries a failure code
├── PageNotFound         no such document or page in the index
├── FilterError          a ``where`` expression that cannot be understood
├── ModelUnavailable     an encoder whose weights or packages are not here
└── GpuUnavailable       no GPU, or no Triton, to keep pages on
    └── GpuFull          they do not fit
"""

from __future__ import annotations

from pathlib import Path

from docsearch.types import FailureCode


class DocsearchError(Exception):
    """The root: catch this to catch every error docsearch raises on purpose."""


class IndexNotFound(DocsearchError):
    """There is no index at that place."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no index at {path}: make one with `docsearch index PATH`, or point to one with --index DIR")
        self.path = path


class IndexExists(DocsearchError):
    """An index was to be created where one already is."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already holds an index: open it, or choose another folder")
        self.path = path


class IndexLocked(DocsearchError):
    """Another process is writing to the index."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"{path} is being written by {holder}; searching works meanwhile, writing has to wait: "
            f"try again when it has finished, or wait longer with --lock-timeout SECONDS"
        )
        self.path, self.holder = path, holder


class IndexDamaged(DocsearchError):
    """A file of the index is not what was written."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path} is damaged: {what}; {remedy}")
        self.path, self.what = path, what


class IndexIncompatible(DocsearchError):
    """The index has a format this version does not read."""


class EncoderMismatch(IndexIncompatible):
    """The index was built with another encoder; its vectors mean nothing to this one."""

    def __init__(self, path: Path, built_with: str, opened_with: str) -> None:
        super().__init__(
            f"{path} was built with {built_with}, not {opened_with}: "
            f"search it with the encoder it was built with, or index the files again into a new folder (--index DIR)"
        )
        self.path, self.built_with, self.opened_with = path, built_with, opened_with


class DiskFull(DocsearchError):
    """No space is left where the index lives."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no space left for {path}: what was committed is safe and searchable; "
            f"free some space and run the same command again, it goes on where it stopped"
        )
        self.path = path


class UnsupportedInput(DocsearchError):
    """A file that cannot be read as a document; ``code`` is stable and kept in the catalog."""

    def __init__(self, path: str, code: FailureCode, message: str) -> None:
        super().__init__(f"{path}: {message} ({code})")
        self.path, self.code, self.message = path, code, message


class PageNotFound(DocsearchError):
    """The index holds no such document or page."""


class FilterError(DocsearchError):
    """A ``where`` expression that cannot be understood."""

    def __init__(self, expression: str, problem: str) -> None:
        super().__init__(
            f"cannot read the filter {expression!r}: {problem}; "
            f"""write it like: year >= 2022 and team in ("fin", "ops") and not draft"""
        )
        self.expression, self.problem = expression, problem


class ModelUnavailable(DocsearchError):
    """An encoder that cannot be loaded here; the message says what is missing and how to get it."""


class GpuUnavailable(DocsearchError):
    """Pages cannot be kept on a GPU here; the message says what is missing. Searching on the CPU goes on working."""


class GpuFull(GpuUnavailable):
    """The GPU has too little memory for them."""
