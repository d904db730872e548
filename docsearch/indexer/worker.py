"""The process that opens documents for ``pool.RenderPool``: it may crash or hang, and nothing else does.

It reads requests from standard input and answers on standard output, each a line of JSON followed by as many raw bytes
as the line says. Nothing it sends can run code in the parent, whatever a hostile document made of it. It ends when its
input ends, which is when the parent is gone, and never outlives the time limit of a page.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from docsearch.errors import UnsupportedInput
from docsearch.types import PageRef, RenderedPage, Words

UNUSED = ("pymupdf.layout", "pymupdf4llm")  # PyMuPDF 2 loads them where it can: 0.8 s and 50 MB a process
TIMED_OUT = 1  # exit status faulthandler gives a process whose time is up


def send(stream: IO[bytes], message: Mapping[str, Any], *payload: bytes) -> None:
    """Write one message; the payload arrives as one piece."""
    stream.write(json.dumps({**message, "bytes": sum(map(len, payload))}).encode() + b"\n")
    for piece in payload:
        stream.write(piece)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Raises:
        EOFError: the other side is gone, perhaps in the middle of a message.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    message: dict[str, Any] = json.loads(line)
    payload = stream.read(message["bytes"])
    if len(payload) < message["bytes"]:
        raise EOFError
    return message, payload


def send_page(stream: IO[bytes], page: RenderedPage) -> None:
    """Write a page: everything but the boxes and the pixels as JSON."""
    header = {
        "kind": "page",
        "page_number": page.ref.page_number,
        "texts": page.words.texts,
        "shape": None if page.image is None else page.image.shape,
        "text_source": page.text_source,
        "page_label": page.page_label,
        "width_pt": page.width_pt,
        "height_pt": page.height_pt,
        "dpi": page.dpi,
    }
    send(stream, header, page.words.boxes.tobytes(), b"" if page.image is None else page.image.tobytes())


def page_from(message: Mapping[str, Any], payload: bytes, doc_id: str) -> RenderedPage:
    """The page that ``send_page`` sent."""
    texts, shape = tuple(message["texts"]), message["shape"]
    boxes = np.frombuffer(payload, np.uint16, 4 * len(texts)).reshape(-1, 4)
    text_source: Literal["layer", "ocr", "none"] = message["text_source"]
    return RenderedPage(
        ref=PageRef(doc_id, message["page_number"]),
        words=Words(texts, boxes),
        image=None if shape is None else np.frombuffer(payload, np.uint8, offset=boxes.nbytes).reshape(shape),
        text_source=text_source,
        page_label=message["page_label"],
        width_pt=message["width_pt"],
        height_pt=message["height_pt"],
        dpi=message["dpi"],
    )


def main() -> None:
    """Serve requests until the input ends. The first message holds the settings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    requests, answers = sys.stdin.buffer, own_output()
    settings, _ = receive(requests)
    limit_memory(settings["memory_limit_mb"])
    for unused in UNUSED:
        sys.modules[unused] = None  # type: ignore[assignment]
    try:
        from docsearch.indexer import render  # noqa: PLC0415 - so that a broken installation can be reported
    except Exception as error:  # noqa: BLE001
        send(answers, {"kind": "broken", "message": f"{type(error).__name__}: {error}"})
        return
    send(answers, {"kind": "ready"})
    _serve(requests, answers, settings, render)


def _serve(requests: IO[bytes], answers: IO[bytes], settings: Mapping[str, Any], render: Any) -> None:
    options = render.RenderOptions(**settings["options"])
    document: Any = None
    path = ""
    while True:
        try:
            request, _ = receive(requests)
        except EOFError:
            return
        try:
            if document is None or path != request["path"]:
                if document is not None:
                    document.close()
                document, path = None, request["path"]
                with _TimeLimit(settings["page_timeout"]):
                    document = render.open_document(
                        Path(path), settings["passwords"], max_file_mb=settings["max_file_mb"]
                    )
            opened = {"page_count": document.page_count, "title": document.title}
            send(answers, {"kind": "opened", **opened, "size": document.size, "mtime_ns": document.mtime_ns})
        except UnsupportedInput as error:
            send(answers, {"kind": "failed", "code": error.code, "message": error.message})
            continue
        for page_number in request["pages"]:
            try:
                with _TimeLimit(settings["page_timeout"]):
                    page = document.render(page_number, doc_id="", options=options)
            except UnsupportedInput as error:
                send(answers, {"kind": "page_failed", "code": error.code, "message": error.message})
            else:
                send_page(answers, page)


class _TimeLimit:
    """Ends this process when the block takes longer, even one that hangs in C with the interpreter locked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=1)  # to the sink that took output's place

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()


def own_output() -> IO[bytes]:
    """Standard output for this process alone: what a C library prints must not land among the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return answers


def limit_memory(megabytes: int) -> None:
    """Bound the address space of this process, where the system can."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = megabytes << 20
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
