"""The door of the command line: whatever goes wrong leaves as one sentence and an exit code.

====  =============================================================================
code  meaning
====  =============================================================================
0     done
1     a fault of gendyn itself; ``--debug`` shows where
2     the input cannot be used; one sentence on the standard error says why
130   interrupted with Ctrl-C
====  =============================================================================

Results go to the standard output (with ``--json`` one JSON document and nothing else), progress and notes to
the standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import typer

__all__ = ["announce", "emit", "enter", "last_resort", "note", "plain"]

# Since 0.26 typer carries its own copy of click: the way to its exceptions is through the exported one.
_UsageError = typer.BadParameter.__mro__[1]
_ClickException = typer.BadParameter.__mro__[2]

_INPUT_ERRORS: tuple[type[Exception], ...] = (
    _ClickException,
    ValueError,
    TypeError,
    KeyError,
    OSError,
    ArithmeticError,
    ImportError,
    MemoryError,
)

EXIT_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def enter(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    app
        The application.
    arguments
        What stands after the program's name.
    """
    debug = "--debug" in arguments
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        try:
            # Not app(...): that would put typer's own hook in the place of sys.excepthook.
            command = typer.main.get_command(app)
            code = command.main(args=list(arguments), prog_name="gendyn", standalone_mode=False)
        except (KeyboardInterrupt, typer.Abort):
            code = EXIT_INTERRUPTED
        except BrokenPipeError:
            # The reader of our output has left (`gendyn info | head`): leave as well, without a word.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return EXIT_FAULT
        except _INPUT_ERRORS as error:
            if debug:
                traceback.print_exc()
            _say(sentence(error))
            return EXIT_INPUT
    if code == EXIT_INTERRUPTED:
        _say("interrupted; nothing half-written was left behind")
    for message in dict.fromkeys(_one_line(str(entry.message)) for entry in notes):
        _say(f"note: {message}")
    return int(code or 0)


def sentence(error: BaseException) -> str:
    """Say what went wrong in one line."""
    if isinstance(error, _ClickException):
        return _one_line(error.format_message())  # type: ignore[attr-defined]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return _one_line(f"{where}{error.strerror}")
    if isinstance(error, MemoryError):
        return "not enough memory; use fewer cells or dimensions"
    if isinstance(error, KeyError) and error.args:
        return _one_line(str(error.args[0]))
    return _one_line(str(error)) or type(error).__name__


def last_resort(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report a fault of gendyn itself; meant for ``sys.excepthook``, so the exit code is 1."""
    _say(
        f"a fault inside gendyn ({kind.__name__}: {_one_line(str(error))}); "
        "run the same command with --debug and report what it prints"
    )


def announce(message: str) -> None:
    """Tell a person at a terminal what is being done; say nothing in a script."""
    if sys.stderr.isatty():
        _say(message)


def note(message: str) -> None:
    """Tell a person something about the result, also in a script."""
    _say(f"note: {_one_line(message)}")


def emit(result: Mapping[str, Any], as_json: bool, show: Callable[[], None]) -> None:
    """Print a result: as one JSON document, or as a person likes it."""
    if as_json:
        sys.stdout.write(json.dumps(plain(result), indent=2, allow_nan=False) + "\n")
    else:
        show()
    sys.stdout.flush()


def _say(message: str) -> None:
    sys.stderr.write(f"gendyn: {message}\n")
    sys.stderr.flush()


def _one_line(message: str) -> str:
    return " ".join(message.split())


def plain(value: Any) -> Any:
    """Reduce to what JSON knows; a number that JSON does not know (NaN, infinity) becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(entry) for entry in value]
    return str(value)
