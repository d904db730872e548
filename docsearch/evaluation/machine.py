"""What a measurement was made with: versions of what computes, and the processor; not whose machine it was."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import docsearch

_DISTRIBUTIONS = {"numpy": "numpy", "faiss": "faiss-cpu", "onnxruntime": "onnxruntime", "ir_measures": "ir-measures"}


def versions() -> dict[str, str]:
    """Name → version; torch only where it was loaded."""
    found = {"docsearch": docsearch.__version__, "python": platform.python_version()}
    for name, distribution in _DISTRIBUTIONS.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:  # faiss comes under several names
            continue
    if "torch" in sys.modules:
        found["torch"] = metadata.version("torch")
    return found


def hardware() -> dict[str, Any]:
    """The processor, its cores, the system."""
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_name(),
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
