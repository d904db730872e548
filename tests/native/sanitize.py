"""Build the C kernel with sanitizers and show it random pages and nonsense: ``make sanitize``.

What is tried depends on what is installed; what is left out is said. The Arm kernel runs under QEMU: on Debian,
``apt-get install gcc-aarch64-linux-gnu qemu-user``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
KERNEL = HERE.parent.parent / "docsearch/kernels/_native.c"
WARNINGS = ["-g", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ROUNDS = "2000"

# The test suite of the kernel, with the extension built here in the place of the installed one.
SUITE = """
import importlib.util, sys, pytest
spec = importlib.util.spec_from_file_location("docsearch.kernels._native", sys.argv[1])
sys.modules["docsearch.kernels._native"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["docsearch.kernels._native"])
sys.exit(pytest.main(["-p", "no:cacheprovider", "-k", "not sanitizers", sys.argv[2]]))
"""


def main() -> int:
    """Run everything that can be run; the exit status is the number of things that failed."""
    with tempfile.TemporaryDirectory() as folder:
        return sum(not passed for passed in (
            fuzz("gcc", [*SANITIZERS, "-O1"], Path(folder)),
            fuzz("gcc", ["-O3"], Path(folder)),
            fuzz("clang", [*SANITIZERS, "-O2"], Path(folder)),
            fuzz("aarch64-linux-gnu-gcc", ["-O3", "-static", "-fsanitize=undefined",
                 "-fsanitize-undefined-trap-on-error"], Path(folder), "qemu-aarch64"),
            suite(Path(folder)),
        ))  # fmt: skip


def fuzz(compiler: str, options: list[str], folder: Path, *runner: str) -> bool:
    """Compile fuzz.c and run it."""
    title = " ".join([compiler, *options])
    missing = [program for program in (compiler, *runner) if shutil.which(program) is None]
    if missing:
        print(f"{title}: left out, there is no {missing[0]}", flush=True)
        return True
    program = str(folder / "fuzz")
    subprocess.run([compiler, *WARNINGS, *options, str(HERE / "fuzz.c"), "-o", program, "-lm"], check=True)
    print(f"{title}: ", end="", flush=True)
    return subprocess.run([*runner, program, ROUNDS], check=False).returncode == 0


def suite(folder: Path) -> bool:
    """Run tests/test_native.py on an extension with sanitizers: the part that speaks with Python."""
    if shutil.which("gcc") is None:
        print("tests/test_native.py with sanitizers: left out, there is no gcc")
        return True
    library = str(folder / "_native.so")
    include = "-I" + sysconfig.get_paths()["include"]
    command = ["gcc", *WARNINGS, *SANITIZERS, "-O1", "-shared", "-fPIC", include, str(KERNEL), "-o", library]
    subprocess.run(command, check=True)
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "PYTHONMALLOC": "malloc",
        "OPENBLAS_NUM_THREADS": "1",
    }
    print("tests/test_native.py with sanitizers:", flush=True)
    tests = str(HERE.parent / "test_native.py")
    run = subprocess.run(
        [sys.executable, "-c", SUITE, library, tests], cwd=HERE.parent.parent, env=environment, check=False
    )
    return run.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
