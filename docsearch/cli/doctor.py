"""Whether this installation works: `doctor`."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from docsearch.cli.options import IndexOption, JsonOption, examples, print_json
from docsearch.cli.terminal import console, counted, plain, shown_path, size

BROKEN, NO_ENCODER = 4, 5
_LOW_SPACE, _NO_SPACE = 1e9, 5e7

Level = Literal["ok", "warn", "fail"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    panel = "This installation"
    epilog = examples("docsearch doctor", "docsearch doctor --model jina-v4")
    app.command(rich_help_panel=panel, epilog=epilog)(doctor)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    level: Level
    found: str
    exit_code: int = BROKEN  # when it failed


def doctor(
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Check this encoder [dim](else the index's, or words)[/dim].")
    ] = None,
    folder: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that everything docsearch needs is here and works."""
    checks = []
    for check in _checks(model, folder):
        checks.append(check)
        if not as_json:
            _print_check(check)
    if as_json:
        print_json([{"name": check.name, "level": check.level, "found": check.found} for check in checks])
    failed = [check.exit_code for check in checks if check.level == "fail"]
    if failed:
        raise typer.Exit(max(failed))


def _print_check(check: Check) -> None:
    from rich.text import Text

    style = {"ok": "green", "warn": "yellow", "fail": "bold red"}[check.level]
    text = Text(f"{check.level:4}", style).append(f"  {check.name:12} ", "bold").append(plain(check.found), "default")
    console().print(text, soft_wrap=True)


def _checks(model: str | None, folder: Path | None) -> Iterator[Check]:
    from docsearch import __version__

    yield Check("docsearch", "ok", __version__)
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _try("rendering", lambda: f"PyMuPDF {import_module('pymupdf').VersionBind}")
    yield _try("prefilter", lambda: f"FAISS {import_module('faiss').__version__}")
    yield _try("inference", lambda: f"ONNX Runtime {import_module('onnxruntime').__version__}")
    yield _try("catalog", _sqlite)
    yield _kernel()
    yield _torch()
    yield _ocr()
    name, check, place = _index(folder)
    yield check
    yield _space(place)
    yield _encoder(model or name)


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except Exception as error:  # noqa: BLE001 - whatever a broken package raises, it is what the doctor looks for
        return Check(name, "fail", f"{type(error).__name__}: {error}; install docsearch-engine again")


def _sqlite() -> str:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    finally:
        connection.close()
    return f"SQLite {sqlite3.sqlite_version} with full-text search"


def _torch() -> Check:
    """Torch is not imported: that takes seconds, and only the visual encoders use it."""
    try:
        return Check("torch", "ok", f"{metadata.version('torch')} (for visual encoders)")
    except metadata.PackageNotFoundError:
        return Check("torch", "warn", "not here; only visual encoders need it")


def _kernel() -> Check:
    from docsearch.kernels import backend_name

    name = backend_name()
    if name.startswith("C"):
        return Check("scoring", "ok", f"{name}: pages are scored in their stored form")
    return Check("scoring", "warn", f"{name}: installed without a C compiler; searching works, several times slower")


def _ocr() -> Check:
    from docsearch.indexer.ocr import TESSDATA

    languages = sorted(path.stem for path in TESSDATA.glob("*.traineddata"))
    if not languages:
        return Check("ocr", "warn", f"no language data in {TESSDATA}: scans will have no text")
    return Check("ocr", "ok", f"data for {', '.join(languages)}")


def _index(folder: Path | None) -> tuple[str, Check, Path]:
    """The encoder the index wants, what was found of the index, and the folder whose disk it is on."""
    from docsearch.encoders import DEFAULT
    from docsearch.errors import DocsearchError, IndexNotFound
    from docsearch.index import Index
    from docsearch.locate import FOLDER_NAME, locate_index

    place = locate_index(folder, otherwise=Path(FOLDER_NAME))
    try:
        with Index.open(place) as index:
            stats = index.stats()
    except IndexNotFound as error:
        if folder is not None:
            return DEFAULT, Check("index", "fail", str(error)), place
        return DEFAULT, Check("index", "ok", "none here yet: `docsearch index PATH` makes one"), place
    except (DocsearchError, OSError) as error:
        return DEFAULT, Check("index", "fail", str(error)), place
    found = f"{shown_path(place)}: {counted(stats['pages'], 'page')}, encoder {stats['encoder']}"
    return str(stats["encoder"]), Check("index", "ok", found), place


def _space(place: Path) -> Check:
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    level: Level = "fail" if free < _NO_SPACE else "warn" if free < _LOW_SPACE else "ok"
    return Check("disk", level, f"{size(free)} free at {shown_path(there)}")


def _encoder(name: str) -> Check:
    from docsearch.encoders import load_encoder
    from docsearch.errors import DocsearchError
    from docsearch.types import Query

    try:
        started = time.perf_counter()
        encoder = load_encoder(name)
        loaded = time.perf_counter()
        vectors = encoder.encode_queries([Query("Who signed the lease?")])[0]
        encoded = time.perf_counter()
    except (DocsearchError, OSError, ImportError, RuntimeError) as error:
        return Check("encoder", "fail", str(error), NO_ENCODER)
    times = f"loaded in {1000 * (loaded - started):.0f} ms, a query in {1000 * (encoded - loaded):.0f} ms"
    about = getattr(encoder, "about", "")  # what a large model says of itself: what was counted, where it runs
    found = f"{name} {encoder.fingerprint[:16]}: {times}, {counted(len(vectors.tokens), 'token vector')}"
    return Check("encoder", "ok", f"{found}; {about}" if about else found)
