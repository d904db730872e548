"""The one writer's lock: held by the operating system for a process, so that it is never stale."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from docsearch.errors import IndexLocked
from docsearch.store.layout import IndexPaths

_MOMENT = 1.0  # seconds


class WriteLock:
    """Held by whoever changes the index; goes with the process that held it, however that ended.

    The same object may be entered again by who holds it.
    """

    def __init__(self, paths: IndexPaths, *, timeout: float = 0.0) -> None:
        """Prepare to lock; the lock is taken on entering.

        Args:
            paths: where the index is; its folder must be there.
            timeout: seconds to wait for another writer to finish; never less than one, for who only looks at the index
                (`docsearch verify`) may hold it for a moment.
        """
        self._paths = paths
        self._lock = FileLock(paths.lock, timeout=max(timeout, _MOMENT))

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            IndexLocked: another process, or another writer of this one, goes on writing after the time to wait.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise IndexLocked(self._paths.folder, _read_holder(self._paths.lock_holder)) from None
        with contextlib.suppress(OSError):  # only words for others: a full disk must not keep anybody from making room
            self._paths.lock_holder.write_text(_describe_this_process())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let others write."""
        if self._lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                self._paths.lock_holder.unlink(missing_ok=True)
        self._lock.release()


def _describe_this_process() -> str:
    return f"process {os.getpid()} on {platform.node()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _read_holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
