"""Text files read line by line, so that whatever is wrong with one is said with its name and the line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docsearch.errors import UnsupportedInput


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, and where it stands."""

    path: Path
    number: int  # from 1
    text: str

    def wrong(self, message: str) -> UnsupportedInput:
        """The error that names this line."""
        return UnsupportedInput(str(self.path), "corrupt", f"line {self.number}: {message}")

    def whole_number(self, text: str, what: str) -> int:
        """A whole number, of either sign.

        Raises:
            UnsupportedInput: it is none.
        """
        try:
            return int(text)
        except ValueError:
            raise self.wrong(f"the {what} is {text!r}, which is no whole number") from None

    def record(self) -> dict[str, Any]:
        """A JSON object.

        Raises:
            UnsupportedInput: it is none.
        """
        try:
            found = json.loads(self.text)
        except ValueError as error:
            raise self.wrong(f"not JSON: {error}") from None
        if not isinstance(found, dict):
            raise self.wrong("not a JSON object")
        return found


def read_lines(path: Path) -> list[Line]:
    """The lines of a file that are not empty, without their ends.

    Raises:
        UnsupportedInput: it cannot be read, is not UTF-8, or holds nothing.
    """
    found = []
    for number, raw in enumerate(read_bytes(path).split(b"\n"), 1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            raise Line(path, number, "").wrong("not UTF-8: save the file in that encoding") from None
        if text.strip():
            found.append(Line(path, number, text))
    if not found:
        raise UnsupportedInput(str(path), "empty", "there is nothing in it")
    return found


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UnsupportedInput: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnsupportedInput(str(path), "unsupported", f"cannot be read: {error.strerror}") from error
