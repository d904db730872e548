"""Which index is meant when none is named."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from docsearch.store.layout import IndexPaths

FOLDER_NAME = ".docsearch"


def locate_index(given: Path | None = None, *, otherwise: Path | None = None) -> Path:
    """The index folder that is meant; it need not exist.

    The given one, else `DOCSEARCH_INDEX`, else the nearest `.docsearch` from the working folder upward, else
    ``otherwise``, which is the user's own when it is None.
    """
    if given is not None:
        return given
    if from_environment := os.environ.get("DOCSEARCH_INDEX"):
        return Path(from_environment)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if IndexPaths(folder / FOLDER_NAME).layout.is_file():
            return folder / FOLDER_NAME
    return otherwise or user_index()


def user_index() -> Path:
    """The user's own index, apart from any folder of documents."""
    return user_data_path("docsearch") / "index"
