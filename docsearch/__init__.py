"""Late-interaction search for documents: finds the page, and shows where on it.

    from docsearch import Index

    with Index.open("pdfs/.docsearch", create=True) as index:
        index.add("pdfs")
        hits = index.search("who signed the lease?", k=3)

Names are loaded on first use (PEP 562): importing docsearch loads neither torch nor FAISS.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docsearch.encoders import load_encoder
    from docsearch.errors import DocsearchError
    from docsearch.index import Index
    from docsearch.options import IndexOptions, SearchOptions
    from docsearch.types import Failure, Hit, IndexReport, Query, Region

__version__ = "0.1.0"

_HOMES = {
    "DocsearchError": "docsearch.errors",
    "Failure": "docsearch.types",
    "Hit": "docsearch.types",
    "Index": "docsearch.index",
    "IndexOptions": "docsearch.options",
    "IndexReport": "docsearch.types",
    "Query": "docsearch.types",
    "Region": "docsearch.types",
    "SearchOptions": "docsearch.options",
    "load_encoder": "docsearch.encoders",
}

__all__ = [
    "DocsearchError",
    "Failure",
    "Hit",
    "Index",
    "IndexOptions",
    "IndexReport",
    "Query",
    "Region",
    "SearchOptions",
    "__version__",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'docsearch' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
