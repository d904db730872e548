"""The imports follow the design: who may import whom, and which module owns which heavy library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "docsearch"

# A module may import from its own layer and from those before it; layers on one line do not know each other.
LAYERS = [
    {"types", "errors", "options", "protocols"},
    {"store", "encoders"},
    {"kernels"},
    {"indexer", "retriever", "finetune"},
    {"locate", "verify", "testing"},
    {"index"},
    {"embed", "evaluation"},
    {"cli"},
    {"__main__"},
]
OWNERS = {
    "pymupdf": ["indexer/render.py", "indexer/outline.py"],
    "faiss": ["retriever/dense_index.py"],
    "triton": ["kernels/triton"],
    "late_interaction_kernels": ["kernels/float_gpu.py"],
    "sqlite_utils": ["store/catalog.py"],
    "onnxruntime": ["encoders/"],
    "tokenizers": ["encoders/"],
    "transformers": ["encoders/", "finetune/eyes/stock.py"],
    "peft": ["encoders/", "finetune/"],
    "torch": ["encoders/", "kernels/", "finetune/"],
    "sentence_transformers": ["encoders/sentence_transformers.py", "evaluation/mteb_models.py"],
    "httpx2": ["encoders/remote.py"],
    "ir_measures": ["evaluation/", "finetune/train.py"],
    "jinja2": ["evaluation/report.py"],
    "matplotlib": ["evaluation/charts.py", "evaluation/plot.py", "finetune/eyes/views.py"],
    "mteb": ["evaluation/mteb"],
    "typer": ["cli/"],
    "rich": ["cli/"],
}
DOCTOR = "cli/"  # may ask every library for its version


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write imports in full"
            if node.module == "docsearch":
                yield from (f"docsearch.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer_of(name: str) -> int:
    return next(at for at, layer in enumerate(LAYERS) if name in layer)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_before_it(path: Path):
    """A failure means that the halves of the system have begun to depend on each other."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "docsearch" or len(parts) == 1 or parts[1] in {own, "__version__"}:
            continue
        assert layer_of(parts[1]) <= layer_of(own), f"{path.name} must not import {name}"
        same_layer = layer_of(parts[1]) == layer_of(own)
        assert not same_layer or layer_of(own) in {0, 4}, f"{own} and {parts[1]} must not know each other"


@pytest.mark.parametrize(("library", "owners"), OWNERS.items())
def test_a_heavy_library_has_one_owner(library: str, owners: list[str]):
    """A failure means that replacing a library would take changes in more than one place."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    strangers = [user for user in users if not any(user.startswith(owner) for owner in [*owners, DOCTOR])]
    assert strangers == []


def test_the_links_at_the_root_show_the_system():
    """A failure means that the shape of the system cannot be seen at first sight any more."""
    for name in ("indexer", "retriever", "cli"):
        assert (PACKAGE.parent / name).resolve() == PACKAGE / name
