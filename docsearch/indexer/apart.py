"""`outline.py` in a process of its own: a document that crashes MuPDF, or hangs it, costs itself and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from docsearch.errors import UnsupportedInput
from docsearch.indexer import outline, worker
from docsearch.indexer.outline import Box, Line, PageLines, Section, Structure
from docsearch.indexer.pool import MEMORY_LIMIT_MB

TIMEOUT = 600.0  # seconds for one document
_BOOT = (
    f"import sys, json; sys.path[:] = json.loads(sys.argv[1]); sys.modules.update(dict.fromkeys({worker.UNUSED})); "
    "from docsearch.indexer.apart import main; main()"
)


def read_structure(path: Path, *, timeout: float = TIMEOUT) -> Structure:
    """As `outline.read_structure`; a crash is a `render_error` too, and past ``timeout`` seconds comes `timeout`."""
    found = _ask(path, {"path": str(path)}, timeout)
    pages = tuple(_page_from(page) for page in found["pages"])
    return Structure(found["page_count"], tuple(Section(**section) for section in found["sections"]), pages)


def write_masked(
    path: Path,
    target: Path,
    *,
    hidden: Mapping[int, Sequence[Box]],
    emptied: Collection[int] = (),
    timeout: float = TIMEOUT,
) -> None:
    """As `outline.write_masked`; a crash is a `render_error` too, and past ``timeout`` seconds comes `timeout`."""
    job = {"target": str(target), "hidden": list(hidden.items()), "emptied": sorted(emptied)}
    try:
        _ask(path, {"path": str(path), **job}, timeout)
    except UnsupportedInput:
        target.unlink(missing_ok=True)
        raise


def main() -> None:
    """Do what the line on standard input says, and answer with a line on standard output."""
    answers = worker.own_output()
    worker.limit_memory(MEMORY_LIMIT_MB)
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    path, target = Path(request["path"]), request.get("target")
    try:
        if target is None:
            found: dict[str, Any] = asdict(outline.read_structure(path))
        else:
            hidden = {page: [_box(box) for box in boxes] for page, boxes in request["hidden"]}
            outline.write_masked(path, Path(target), hidden=hidden, emptied=request["emptied"])
            found = {}
    except UnsupportedInput as error:
        found = {"code": error.code, "message": error.message}
    answers.write(json.dumps(found).encode())
    answers.flush()


def _ask(path: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    command = [sys.executable, "-I", "-c", _BOOT, json.dumps(sys.path)]
    line = json.dumps(request).encode() + b"\n"
    try:
        done = subprocess.run(command, input=line, capture_output=True, timeout=timeout, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise UnsupportedInput(str(path), "timeout", f"not read after {timeout:g} seconds") from error
    status = done.returncode
    if status:
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise UnsupportedInput(str(path), "render_error", f"the renderer crashed ({name})")
    found: dict[str, Any] = json.loads(done.stdout)
    if "code" in found:
        raise UnsupportedInput(str(path), found["code"], found["message"])
    return found


def _page_from(page: Mapping[str, Any]) -> PageLines:
    lines = (Line(**{**line, "box": _box(line["box"]), "shown": _box(line["shown"])}) for line in page["lines"])
    return PageLines(**{**page, "lines": tuple(lines)})


def _box(numbers: Sequence[float]) -> Box:
    left, top, right, bottom = numbers
    return left, top, right, bottom
