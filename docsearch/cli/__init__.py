"""The command line: a thin skin over the library.

Exit codes: 0 done, or found at least one page; 1 found nothing; 2 wrong usage or filter; 3 finished, but some files
failed; 4 the index is missing, incompatible, locked or damaged, or the disk is full; 5 the encoder is not available;
70 a mistake of docsearch itself; 130 interrupted, and safe to run again.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from docsearch.cli import care, doctor, embed, evaluate, finetune, index, look, models, query
from docsearch.cli.options import WrongUsage, examples, flag
from docsearch.cli.terminal import VOICE, complain

INTERRUPTED, INTERNAL_ERROR = 130, 70

app = typer.Typer(
    name="docsearch",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("docsearch index ./pdfs", 'docsearch query "who signed the lease?"')
    + "\n\n[dim]Exit codes: 0 done or found, 1 nothing found, 2 wrong usage, 3 some files failed,\n"
    "4 index, 5 encoder, 130 interrupted. -q and -v may stand anywhere.[/dim]",
)
for module in (index, query, evaluate, embed, look, care, models, doctor, finetune):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the console entry point."""
    # Read when NumPy is loaded. Our products of matrices are small: a second thread is waited for longer than it works.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = _set_voice(list(sys.argv[1:] if arguments is None else arguments))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that cannot be read or shown must not end the run
            stream.reconfigure(errors="replace")
    try:
        code = app(words, prog_name="docsearch", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as end:  # so typer ends on a broken pipe
        if isinstance(end.__context__, BrokenPipeError):
            return _reader_has_gone()
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where an error can become a message and an exit code
        return _explain(error)
    if code == INTERRUPTED:
        complain("interrupted, safe to re-run")
    return code if isinstance(code, int) else 0


@app.callback(invoke_without_command=True)
def docsearch(
    ctx: typer.Context,
    version: Annotated[bool, flag("--version", about="Print the version.")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", about="No progress and no notices.")] = False,  # noqa: ARG001 - see _set_voice
    verbose: Annotated[bool, flag("--verbose", "-v", about="Name each file, and trace errors.")] = False,  # noqa: ARG001
) -> None:
    """Search documents by what is on their pages: finds the page, and shows where on it."""
    if version:
        from docsearch import __version__

        typer.echo(f"docsearch {__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def _set_voice(words: list[str]) -> list[str]:
    """Take -q and -v out of the command line wherever they stand, up to `--`."""
    end = words.index("--") if "--" in words else len(words)
    VOICE.quiet = any(word in {"-q", "--quiet"} for word in words[:end])
    VOICE.verbose = any(word in {"-v", "--verbose"} for word in words[:end])
    return [word for word in words[:end] if word not in {"-q", "--quiet", "-v", "--verbose"}] + words[end:]


def _reader_has_gone() -> int:
    """The reader has seen enough, as in `docsearch query … | head`: not a word about it, now or when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _explain(error: Exception) -> int:
    """Say what happened in one line, and return the exit code that stands for it."""
    if VOICE.verbose:
        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # typer's own: the command was typed wrong
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "docsearch"
        complain(f"{error.format_message().rstrip('.')}: see {command} --help")
        return 2
    code = _exit_code(error)
    if code == INTERNAL_ERROR and not VOICE.verbose:
        complain(f"internal error: {type(error).__name__}: {error} (-v shows where)")
    else:
        complain(str(error))
    return code


def _exit_code(error: Exception) -> int:
    from docsearch import errors

    match error:
        case errors.PageNotFound():
            return 1
        case WrongUsage() | errors.FilterError() | errors.UnsupportedInput() | FileNotFoundError():
            return 2
        case errors.ModelUnavailable():
            return 5
        case errors.DocsearchError() | OSError():
            return 4
    return INTERNAL_ERROR
