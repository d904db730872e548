"""The catalog: documents, files, pages, their text, and which segments count. The only module that knows sqlite-utils.

One transaction of this database is the commit of the whole index: a segment that no row names does not exist.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from docsearch.errors import DiskFull, IndexDamaged
from docsearch.store.terms import index_text
from docsearch.types import Failure, FailureCode, PageRef, RenderedPage, Words

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    doc_id TEXT PRIMARY KEY, page_count INTEGER NOT NULL, title TEXT NOT NULL, complete INTEGER NOT NULL,
    indexed_at TEXT NOT NULL, metadata TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE TABLE files (path TEXT PRIMARY KEY, doc_id TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX files_doc ON files (doc_id);
CREATE TABLE pages (
    page_id INTEGER PRIMARY KEY, doc_id TEXT NOT NULL, page_number INTEGER NOT NULL, page_label TEXT NOT NULL,
    width_pt REAL NOT NULL, height_pt REAL NOT NULL, text_source TEXT NOT NULL,
    segment_id INTEGER NOT NULL, segment_row INTEGER NOT NULL, words BLOB NOT NULL
);
CREATE INDEX pages_doc ON pages (doc_id, page_number);
CREATE INDEX pages_segment ON pages (segment_id);
CREATE TABLE segments (segment_id INTEGER PRIMARY KEY, pages INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE tombstones (segment_id INTEGER NOT NULL, segment_row INTEGER NOT NULL,
    PRIMARY KEY (segment_id, segment_row)) WITHOUT ROWID;
CREATE TABLE failures (path TEXT PRIMARY KEY, doc_id TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    failed_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE page_failures (doc_id TEXT NOT NULL, page_number INTEGER NOT NULL, code TEXT NOT NULL,
    message TEXT NOT NULL, PRIMARY KEY (doc_id, page_number)) WITHOUT ROWID;
CREATE VIRTUAL TABLE page_text USING fts5(text, tokenize = "unicode61 remove_diacritics 2");
INSERT INTO meta VALUES ('schema', 1), ('commit', 0), ('last_segment', 0);
"""
# The metadata of a document is that of its files: identical files are one document, told apart by their paths only.


@dataclass(frozen=True, slots=True)
class PageRecord:
    """What the catalog knows about one page."""

    page_id: int
    doc_id: str
    page_number: int
    page_label: str
    page_count: int
    title: str
    indexed_at: str
    metadata: Mapping[str, Any]
    paths: tuple[str, ...]  # every file with this content; relative to the index's parent folder where possible
    words: Words
    width_pt: float
    height_pt: float
    text_source: str


class Catalog:
    """One connection to the catalog; reads and, for the one writer, writes. Reading is safe from many threads."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Open the catalog.

        Even a reader of SQLite's writes: a few kilobytes of shared memory beside the file. Where there is no room for
        them, or nothing may be written, the catalog is read from a copy in memory.

        Raises:
            IndexDamaged: the file is missing, empty, or not the database that was written.
            DiskFull: there is no room to write, nor to read what a killed writer left.
        """
        self.path = path
        # Python's sqlite3 hands one cached statement to two threads that ask the same thing at the same time.
        self._one_thread = threading.RLock()
        with self._translated():
            if not path.is_file() or path.stat().st_size == 0:
                raise self._damaged("it is missing or empty")
            try:
                self._open(sqlite3.connect(path, check_same_thread=False, timeout=30), writable=writable)
            except (sqlite3.OperationalError, DiskFull):
                copy = None if writable else _copy_in_memory(path)
                if copy is None:
                    raise
                self._open(copy, writable=False)

    def _open(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        self._db = Database(connection, execute_plugins=False, recursive_triggers=False)
        self._close = weakref.finalize(self, connection.close)  # a replaced snapshot ends with its last user
        try:
            if writable:
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA wal_autocheckpoint = 1000")
            else:
                self._db.execute("PRAGMA query_only = ON")
                self._db.execute("PRAGMA temp_store = MEMORY")  # sorting must not need a disk either
            if self._meta("schema") != SCHEMA_VERSION:
                raise self._damaged(f"its schema is {self._meta('schema')}, not {SCHEMA_VERSION}")
        except BaseException:
            self._close()
            raise

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty catalog, in place of what an interrupted creation may have left."""
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with _translated(path), closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN")
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        with self._one_thread:
            self._close()

    # -- reading ------------------------------------------------------------------------------------------------

    def pin(self) -> int:
        """Hold this connection's view of the catalog until it is closed; returns the number of its commit."""
        with self._translated():
            self._db.execute("BEGIN")
            return self._meta("commit")  # the first read: from here on the view stands still

    def commit_number(self) -> int:
        """The number of the last commit: grows with every one."""
        with self._translated():
            return self._meta("commit")

    def segments(self) -> list[tuple[int, int]]:
        """(segment, pages) of those that count, oldest first."""
        return [tuple(row) for row in self._rows("SELECT segment_id, pages FROM segments ORDER BY segment_id")]

    def segment_ids(self) -> list[int]:
        """The segments that count, oldest first."""
        return [segment_id for segment_id, _ in self.segments()]

    def dead_rows(self) -> list[tuple[int, int]]:
        """(segment, row) of every page that must not be found: removed, or of a change that is not complete."""
        counted = self._rows("SELECT (SELECT count(*) FROM documents), (SELECT count(DISTINCT doc_id) FROM files)")
        if counted[0][0] == counted[0][1]:  # every document has a file; looking them all up takes four times as long
            return self.tombstones()
        hidden = self._rows(
            "SELECT segment_id, segment_row FROM pages WHERE doc_id IN "
            "(SELECT doc_id FROM documents WHERE doc_id NOT IN (SELECT doc_id FROM files))"
        )
        return [*self.tombstones(), *(tuple(row) for row in hidden)]

    def tombstones(self) -> list[tuple[int, int]]:
        """(segment, row) of every removed page whose vectors are still in their file."""
        return [tuple(row) for row in self._rows("SELECT segment_id, segment_row FROM tombstones")]

    def page(self, page_id: int) -> PageRecord:
        """Everything about one page.

        Raises:
            IndexDamaged: there is no such page, or its record cannot be read.
        """
        rows = self._rows(
            "SELECT p.*, d.page_count, d.title, d.indexed_at, d.metadata FROM pages p JOIN documents d USING (doc_id) "
            "WHERE page_id = ?",
            page_id,
        )
        if not rows:
            raise self._damaged(f"it lacks page {page_id}, which a segment holds")
        row = rows[0]
        paths = self._rows("SELECT path FROM files WHERE doc_id = ? ORDER BY path", row["doc_id"])
        try:
            words, metadata = _unpack_words(row["words"]), json.loads(row["metadata"])
        except (ValueError, TypeError, zlib.error) as error:
            raise self._damaged(f"its record of page {page_id} cannot be read ({error})") from error
        return PageRecord(
            page_id=page_id,
            doc_id=row["doc_id"],
            page_number=row["page_number"],
            page_label=row["page_label"],
            page_count=row["page_count"],
            title=row["title"],
            indexed_at=row["indexed_at"],
            metadata=metadata,
            paths=tuple(path for (path,) in paths),
            words=words,
            width_pt=row["width_pt"],
            height_pt=row["height_pt"],
            text_source=row["text_source"],
        )

    def page_docs(self, page_ids: Sequence[int]) -> dict[int, str]:
        """The document of each of the given pages."""
        sql = "SELECT page_id, doc_id FROM pages WHERE page_id IN (SELECT value FROM json_each(?))"
        return dict(self._rows(sql, json.dumps(list(page_ids))))

    def page_ids_where(self, condition: str, parameters: Sequence[Any]) -> NDArray[np.int64]:
        """Ids of the pages whose row in ``pages p JOIN documents d`` fulfils a condition with bound parameters."""
        sql = f"SELECT p.page_id FROM pages p JOIN documents d USING (doc_id) WHERE {condition}"
        return np.array([row[0] for row in self._rows(sql, *parameters)], np.int64)

    def match_text(self, terms: Sequence[str], n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The n pages with the highest BM25 for any of the terms: ids and scores (higher is better), best first.

        Source: FTS5's bm25 (k1 = 1.2, b = 0.75), Robertson & Zaragoza 2009.
        """
        if not terms:
            return np.empty(0, np.int64), np.empty(0)
        rows = self._rows(
            "SELECT rowid, -bm25(page_text) AS score FROM page_text WHERE page_text MATCH ? "
            "ORDER BY score DESC, rowid LIMIT ?",
            " OR ".join(terms),
            n,
        )
        return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)

    def document_frequencies(self, terms: Sequence[str]) -> NDArray[np.int64]:
        """How many pages hold each term, (len(terms),)."""
        sql = "SELECT count(*) FROM page_text WHERE page_text MATCH ?"
        return np.array([self._rows(sql, term)[0][0] for term in terms], np.int64)

    def count(self, table: str) -> int:
        """The number of rows of a table."""
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def documents(self) -> list[dict[str, Any]]:
        """Every file with its document, sorted by path."""
        rows = self._rows(
            "SELECT f.path, d.doc_id, d.title, d.page_count, d.complete, d.indexed_at, d.metadata, f.size, "
            "(SELECT count(*) FROM pages p WHERE p.doc_id = d.doc_id) AS pages, "
            "(SELECT count(*) FROM pages p WHERE p.doc_id = d.doc_id AND text_source = 'ocr') AS ocr_pages "
            "FROM files f JOIN documents d USING (doc_id) ORDER BY f.path"
        )
        try:
            return [
                dict(row) | {"metadata": json.loads(row["metadata"]), "complete": bool(row["complete"])} for row in rows
            ]
        except (ValueError, TypeError) as error:
            raise self._damaged(f"its metadata cannot be read ({error})") from error

    def paths_of(self, doc_ids: Iterable[str]) -> list[str]:
        """The files with the content of one of these documents."""
        sql = "SELECT path FROM files WHERE doc_id IN (SELECT value FROM json_each(?))"
        return [path for (path,) in self._rows(sql, json.dumps(list(doc_ids)))]

    def files(self) -> dict[str, str]:
        """Path → document of every indexed file."""
        return dict(self._rows("SELECT path, doc_id FROM files"))

    def find_documents(self, name: str) -> list[str]:
        """Documents called ``name``: a path, or the beginning (at least 6 characters) of an id."""
        found = self._rows("SELECT DISTINCT doc_id FROM files WHERE path = ?", name)
        if not found and len(name) >= 6 and all(character in "0123456789abcdef" for character in name):
            found = self._rows("SELECT doc_id FROM documents WHERE substr(doc_id, 1, ?) = ?", len(name), name)
        return [row[0] for row in found]

    def page_numbers(self, doc_id: str) -> dict[int, int]:
        """Page number → page id of the pages of one document that are in the index."""
        return dict(self._rows("SELECT page_number, page_id FROM pages WHERE doc_id = ? ORDER BY page_number", doc_id))

    def is_complete(self, doc_id: str) -> bool:
        """Whether every readable page of the document is in the index."""
        rows = self._rows("SELECT complete FROM documents WHERE doc_id = ?", doc_id)
        return bool(rows and rows[0][0])

    def has_documents_without_files(self) -> bool:
        """Whether there is something for `drop_documents_without_files` to do."""
        return bool(self._rows("SELECT 1 FROM documents WHERE doc_id NOT IN (SELECT doc_id FROM files) LIMIT 1"))

    def failures(self) -> list[tuple[str, Failure]]:
        """(content hash, failure) of every file that could not be indexed, sorted by path."""
        rows = self._rows("SELECT doc_id, path, code, message FROM failures ORDER BY path")
        return [(row[0], Failure(row[1], cast("FailureCode", row[2]), row[3])) for row in rows]

    def page_failures(self) -> list[tuple[str, int, str, str]]:
        """(path, page number, code, message) of the pages that could not be read in files that are indexed."""
        return self._rows(
            "SELECT f.path, e.page_number, e.code, e.message FROM page_failures e JOIN files f USING (doc_id) "
            "ORDER BY f.path, e.page_number"
        )

    def segment_sizes(self) -> dict[int, tuple[int, int, int]]:
        """Segment → (pages, dead pages, bytes)."""
        rows = self._rows(
            "SELECT s.segment_id, s.pages, (SELECT count(*) FROM tombstones t WHERE t.segment_id = s.segment_id), "
            "s.bytes FROM segments s"
        )
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    def check(self) -> None:
        """Run SQLite's own checks over the database, and compare what was written twice.

        SQLite keeps no checksums: a flipped bit in a title, a path, a metadata value or a page's size goes unnoticed.

        Raises:
            IndexDamaged: one of them fails.
        """
        with self._translated():
            problems = [row[0] for row in self._db.execute("PRAGMA integrity_check").fetchall()]
            if problems != ["ok"]:
                raise self._damaged(problems[0].splitlines()[-1])
            self._check_pages()
        self.documents()  # reads all metadata

    def check_text_index(self) -> None:
        """Compare the full-text index with the texts; changes nothing, and yet only the writer may ask for it.

        Raises:
            IndexDamaged: it does not hold what it should.
        """
        with self._translated():
            self._db.execute("PRAGMA query_only = OFF")
            try:
                self._db.conn.execute("INSERT INTO page_text (page_text) VALUES ('integrity-check')")
            finally:
                self._db.conn.rollback()
                self._db.execute("PRAGMA query_only = ON")

    def _check_pages(self) -> None:
        """An id says which page of which document it is of, and the words are there twice: here and in the index."""
        rows = self._db.execute(
            "SELECT p.page_id, p.doc_id, p.page_number, p.words, t.text, d.doc_id IS NOT NULL "
            "FROM pages p LEFT JOIN page_text t ON t.rowid = p.page_id LEFT JOIN documents d USING (doc_id)"
        )
        for page_id, doc_id, number, words, text, has_document in rows:
            try:
                sound = has_document and PageRef(doc_id, number).page_id == page_id
                sound = sound and index_text(_unpack_words(words).text) == text
            except (ValueError, TypeError, zlib.error):
                sound = False
            if not sound:
                raise self._damaged(f"its record of page {page_id} is not what was written")
        if self.count("page_text") != self.count("pages"):
            raise self._damaged("it holds the text of pages that do not exist")
        for table in ("pages", "tombstones"):
            sql = f"SELECT count(*) FROM {table} WHERE segment_id NOT IN (SELECT segment_id FROM segments)"
            if self._rows(sql)[0][0]:
                raise self._damaged(f"its {table} name segments that do not exist")

    def check_places(self, segment_id: int, page_ids: NDArray[np.int64]) -> None:
        """Compare what a segment file says its rows are with what is recorded here.

        Raises:
            IndexDamaged: a page is recorded to be where it is not, or a row is neither a page nor removed.
        """
        rows = self._rows(
            "SELECT segment_row, page_id FROM pages WHERE segment_id = ?1 "
            "UNION ALL SELECT segment_row, NULL FROM tombstones WHERE segment_id = ?1",
            segment_id,
        )
        right = {row for row, page_id in rows if 0 <= row < len(page_ids) and page_id in {None, page_ids[row]}}
        if len(rows) != len(right) or len(right) not in {0, len(page_ids)}:  # none: it was replaced meanwhile
            raise self._damaged(f"it does not place the pages of segment {segment_id} where they are")

    # -- writing: every method belongs inside `transaction` -----------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One commit: all that is written inside becomes visible at once, or nothing does."""
        with self._translated(), self._db.atomic():
            yield
            self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'commit'")

    def next_segment_id(self) -> int:
        """An id no segment has ever had."""
        with self._translated():
            return self._meta("last_segment") + 1

    def add_segment(self, segment_id: int, pages: int, size: int) -> None:
        """Let a written segment count."""
        self._db.table("segments").insert({"segment_id": segment_id, "pages": pages, "bytes": size})
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'last_segment'", [segment_id])

    def add_page(self, page: RenderedPage, segment_id: int, segment_row: int) -> None:
        """Record a page and where its vectors are."""
        self._db.execute(
            "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [page.ref.page_id, page.ref.doc_id, page.ref.page_number, page.page_label, page.width_pt, page.height_pt,
             page.text_source, segment_id, segment_row, _pack_words(page.words)],
        )  # fmt: skip
        self._db.execute(
            "INSERT INTO page_text (rowid, text) VALUES (?, ?)", [page.ref.page_id, index_text(page.words.text)]
        )
        self._db.execute(
            "DELETE FROM page_failures WHERE doc_id = ? AND page_number = ?", [page.ref.doc_id, page.ref.page_number]
        )

    def put_document(self, doc_id: str, *, page_count: int, title: str, complete: bool, indexed_at: str) -> None:
        """Add a document, or update it; its metadata stays."""
        self._db.execute(
            "INSERT INTO documents (doc_id, page_count, title, complete, indexed_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (doc_id) DO UPDATE SET page_count = excluded.page_count, title = excluded.title, "
            "complete = excluded.complete, indexed_at = excluded.indexed_at",
            [doc_id, page_count, title, complete, indexed_at],
        )

    def merge_metadata(self, doc_id: str, metadata: Mapping[str, Any]) -> None:
        """Add to a document's metadata; a null takes a key away. Source: RFC 7396, JSON Merge Patch."""
        self._db.execute(
            "UPDATE documents SET metadata = json_patch(metadata, ?) WHERE doc_id = ?",
            [json.dumps(dict(metadata)), doc_id],
        )

    def put_file(self, path: str, doc_id: str, size: int) -> None:
        """Say that a path has this content now."""
        self._db.table("files").upsert({"path": path, "doc_id": doc_id, "size": size}, pk="path")

    def drop_file(self, path: str) -> None:
        """Forget a path; its document stays until `drop_documents_without_files`."""
        self._db.execute("DELETE FROM files WHERE path = ?", [path])

    def put_failure(self, doc_id: str, failure: Failure, failed_at: str) -> None:
        """Remember that this content could not be indexed."""
        self._db.table("failures").upsert(
            {"path": failure.path, "doc_id": doc_id, "code": failure.code, "message": failure.message,
             "failed_at": failed_at}, pk="path",
        )  # fmt: skip

    def drop_failure(self, path: str) -> None:
        """Forget a failure: the file was indexed, or is gone."""
        self._db.execute("DELETE FROM failures WHERE path = ?", [path])

    def put_page_failure(self, doc_id: str, page_number: int, code: str, message: str) -> None:
        """Remember that one page of a document could not be read."""
        self._db.table("page_failures").upsert(
            {"doc_id": doc_id, "page_number": page_number, "code": code, "message": message},
            pk=("doc_id", "page_number"),
        )

    def drop_document(self, doc_id: str) -> None:
        """Remove a document with its pages, and the files that stand for it."""
        self._drop_pages("doc_id = ?", [doc_id])
        self._db.execute("DELETE FROM files WHERE doc_id = ?", [doc_id])

    def drop_documents_without_files(self) -> int:
        """Remove every document that no file stands for; returns how many pages went."""
        return self._drop_pages("doc_id NOT IN (SELECT doc_id FROM files)", [])

    def drop_segment(self, segment_id: int) -> int:
        """Forget a segment and its pages, whose documents are incomplete from then on; returns how many pages went."""
        self._db.execute(
            "UPDATE documents SET complete = 0 WHERE doc_id IN (SELECT doc_id FROM pages WHERE segment_id = ?)",
            [segment_id],
        )
        dropped = self._drop_pages("segment_id = ?", [segment_id], documents=False)
        self._db.execute("DELETE FROM segments WHERE segment_id = ?", [segment_id])
        self._db.execute("DELETE FROM tombstones WHERE segment_id = ?", [segment_id])
        return dropped

    def move_pages(self, old_segments: Sequence[int], page_ids: NDArray[np.int64], segment_id: int) -> None:
        """Replace segments by one that holds their living pages, in the given order."""
        self._db.conn.executemany(
            "UPDATE pages SET segment_id = ?, segment_row = ? WHERE page_id = ?",
            ((segment_id, row, int(page_id)) for row, page_id in enumerate(page_ids)),
        )
        for old in old_segments:
            self._db.execute("DELETE FROM segments WHERE segment_id = ?", [old])
            self._db.execute("DELETE FROM tombstones WHERE segment_id = ?", [old])

    def shrink(self) -> None:
        """Give the space of removed rows back to the file system; not part of a transaction."""
        with self._translated():
            self._db.execute("INSERT INTO page_text (page_text) VALUES ('optimize')")
            self._db.conn.commit()
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA busy_timeout = 0")  # a reader of an older commit may take long: do not wait for it
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # -- helpers ------------------------------------------------------------------------------------------------

    def _drop_pages(self, condition: str, parameters: Sequence[Any], *, documents: bool = True) -> int:
        execute: Callable[..., sqlite3.Cursor] = self._db.execute
        chosen = f"FROM pages WHERE {condition}"
        execute(f"INSERT OR IGNORE INTO tombstones SELECT segment_id, segment_row {chosen}", parameters)
        execute(f"DELETE FROM page_text WHERE rowid IN (SELECT page_id {chosen})", parameters)
        dropped = execute(f"DELETE {chosen}", parameters).rowcount
        if documents:
            execute(f"DELETE FROM page_failures WHERE {condition}", parameters)
            execute(f"DELETE FROM documents WHERE {condition}", parameters)
        return dropped

    def _meta(self, key: str) -> int:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        if not rows or not isinstance(rows[0][0], int):
            raise self._damaged(f"it lacks {key}")
        return int(rows[0][0])

    def _rows(self, sql: str, *parameters: Any) -> list[Any]:
        with self._one_thread, self._translated():
            cursor = self._db.conn.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(sql, parameters).fetchall()

    def _translated(self) -> AbstractContextManager[None]:
        return _translated(self.path)

    def _damaged(self, what: str) -> IndexDamaged:
        return _damaged(self.path, what)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_for_want_of_space(error, path):
            raise DiskFull(path) from error
        if _tells_of_damage(error):
            raise _damaged(path, str(error)) from error
        raise
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:  # its subclasses are mistakes of ours, not damage
            raise _damaged(path, str(error)) from error
        raise


def _damaged(path: Path, what: str) -> IndexDamaged:
    return IndexDamaged(path, what, "run `docsearch verify --repair`, then index the same files again")


def _copy_in_memory(path: Path) -> sqlite3.Connection | None:
    """A copy of a catalog nobody writes to; None if it is being written to, or is more than its one file."""
    log = path.with_name(path.name + "-wal")
    before = path.stat()
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as source:
        source.backup(copy)
    after = path.stat()
    written = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
    if written or (log.exists() and log.stat().st_size):
        copy.close()
        return None
    return copy


def _is_for_want_of_space(error: sqlite3.OperationalError, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL or code in _FAILED_WRITES:
        return True
    if code & 0xFF != sqlite3.SQLITE_CANTOPEN or not hasattr(os, "statvfs"):
        return False
    space = os.statvfs(path.parent)  # a file could not be created, for which there may be other reasons
    return space.f_bavail == 0 or (space.f_files > 0 and space.f_favail == 0)


def _tells_of_damage(error: sqlite3.OperationalError) -> bool:
    if getattr(error, "sqlite_errorcode", 0) in {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}:
        return True
    return any(sign in str(error) for sign in _SIGNS_OF_DAMAGE)


# A write that failed with another error than "no space left": a quota, or a limit on the size of files.
_FAILED_WRITES = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_FSYNC,
}
_SIGNS_OF_DAMAGE = (
    "no such table",
    "no such column",
    "no such module",
    "has no column named",
    "vtable constructor failed",
    "unsupported file format",
    "Could not decode to UTF-8",
)


def _pack_words(words: Words) -> bytes:
    """Words and boxes as one compressed blob: the text (UTF-8), a zero byte, the boxes (little-endian uint16)."""
    return zlib.compress(words.text.encode() + b"\0" + words.boxes.astype("<u2").tobytes(), 6)


def _unpack_words(blob: bytes) -> Words:
    text, _, boxes = zlib.decompress(blob).partition(b"\0")
    return Words(tuple(text.decode().split()), np.frombuffer(boxes, "<u2").reshape(-1, 4))
