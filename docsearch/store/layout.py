"""What an index is and where its files lie: `layout.json`, written once, and the names of everything beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from docsearch.errors import IndexDamaged, IndexExists, IndexIncompatible, IndexNotFound
from docsearch.options import CodecName

FORMAT_VERSION = 2
_POSITIVE = ("token_dim", "dense_dim", "pooling", "format_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The facts about an index that never change. A folder holds an index when it holds its `layout.json`."""

    encoder: str
    fingerprint: str
    token_dim: int  # D
    dense_dim: int  # E
    codec: CodecName
    pooling: int = 1  # how many times fewer token vectors than the encoder makes
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the encoder, as it gave them
    licence: str = ""  # of the encoder's weights
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class IndexPaths:
    """Every file of the index in ``folder``."""

    folder: Path

    @property
    def layout(self) -> Path:
        """Encoder, dimensions and codec."""
        return self.folder / "layout.json"

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.folder / "catalog.db"

    @property
    def segments(self) -> Path:
        """The folder of segment files."""
        return self.folder / "segments"

    @property
    def prefilter(self) -> Path:
        """The folder of FAISS files, each rebuilt from the segments when missing or damaged."""
        return self.folder / "prefilter"

    @property
    def lock(self) -> Path:
        """Held by the one writer."""
        return self.folder / "writer.lock"

    @property
    def lock_holder(self) -> Path:
        """Says in words who holds the lock."""
        return self.folder / "writer.txt"

    def source_name(self, path: Path) -> str:
        """What the catalog calls a source file: its path from the folder that holds the index, or the absolute one.

        So a folder of documents can be moved or mounted elsewhere together with its index.
        """
        path, root = Path(os.path.abspath(path)), Path(os.path.abspath(self.folder)).parent
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

    def source_path(self, name: str) -> Path:
        """The file that `source_name` named."""
        return Path(os.path.abspath(self.folder)).parent / name

    def segment(self, segment_id: int) -> Path:
        """The file of one segment."""
        return self.segments / f"{segment_id:08d}.seg"


def create_folders(paths: IndexPaths) -> None:
    """Make the folders of a new index.

    Raises:
        IndexExists: there is an index already.
    """
    if paths.layout.exists():
        raise IndexExists(paths.folder)
    for folder in (paths.folder, paths.segments, paths.prefilter):
        folder.mkdir(parents=True, exist_ok=True)
    (paths.folder / ".gitignore").write_text("*\n")  # an index is no source: keep it out of version control


def write_layout(paths: IndexPaths, layout: Layout) -> None:
    """Write the layout, last of all: it makes the folder an index."""
    write_synced(paths.layout, json.dumps(asdict(layout), indent=1).encode())


def read_layout(paths: IndexPaths) -> Layout:
    """The layout of an existing index.

    Raises:
        IndexNotFound: there is none.
        IndexDamaged: the file is not what was written.
        IndexIncompatible: a newer docsearch wrote it.
    """
    try:
        found = json.loads(paths.layout.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(paths.folder) from None
    except ValueError as error:
        raise _damaged(paths, f"it is no JSON ({error})") from None
    version = found.get("format_version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise IndexIncompatible(
            f"{paths.folder} has format {version}, this docsearch reads up to {FORMAT_VERSION}: "
            f"upgrade docsearch-engine"
        )
    try:
        layout = Layout(**found)
    except TypeError as error:
        raise _damaged(paths, f"it lacks what a layout has ({error})") from None
    facts = asdict(layout)
    wrong = [
        *(name for name in ("encoder", "fingerprint", "licence") if not isinstance(facts[name], str)),
        *(name for name in _POSITIVE if not isinstance(facts[name], int) or facts[name] < 1),
        *(["codec"] if layout.codec not in get_args(CodecName) else []),
        *(["settings"] if not isinstance(layout.settings, dict) else []),
    ]
    if wrong:
        raise _damaged(paths, f"its {wrong[0]} is {facts[wrong[0]]!r}")
    return layout


def write_synced(path: Path, data: bytes) -> None:
    """Replace a file by new content in one step: after a crash it holds the old or the new, never a mixture."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file's directory entry durable."""
    if os.name == "nt":  # Windows cannot open folders; its renames are durable without
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(paths: IndexPaths, what: str) -> IndexDamaged:
    remedy = "without it the token vectors cannot be read: move the folder away and index the files again"
    return IndexDamaged(paths.layout, what, remedy)
