"""The last net: however a command ends, it is one line on standard error, or none, and an exit
code.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable

import typer

from kvtool.cli import console, signals, streams
from kvtool.errors import KvtoolError

TRACEBACK = "KVTOOL_TRACEBACK"
"""Where this is set, the traceback of what is no KvtoolError goes to standard error without -v too.
"""
LONGEST = 2000
"""Characters of a message at most; arguments that it repeats may have any length."""
REPORT = (
    f"this is a fault of kvtool: run again with -v (or {TRACEBACK}=1) for the traceback, "
    "and report it"
)
INTERRUPTED = "interrupted; what was committed stays, the same command goes on from there"

MEMORY = re.compile(
    r"out of memory|can't allocate memory|Unable to allocate|bad_alloc", re.IGNORECASE
)
DEVICE = re.compile(r"\b(?:cuda|cudnn|cublas|nccl|nvml|hip|mps|xpu|meta)(?:\b|_)", re.IGNORECASE)
ESCAPE_CODE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


class Stopped(Exception):  # noqa: N818  not an error of ours
    """The user or the reader of our output ended the command; Typer would end the process without a
    word.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


def run(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, whatever it raises."""
    try:
        exit_code = command() or 0
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  the last net
        exit_code = _last_words(error)
    # A signal that was swallowed on the way, e.g. by an import that then went on without a module.
    exit_code = signals.received() or exit_code
    signals.end()
    return exit_code


def _last_words(error: BaseException) -> int:
    try:
        return exit_code_of(error)
    except KeyboardInterrupt:
        return signals.INTERRUPTED
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception:  # noqa: BLE001  the net itself must not fall
        streams.drop_output()
        return KvtoolError.exit_code


def exit_code_of(error: BaseException) -> int:
    """Say what is to be said of an exception that ended a command, and return the exit code."""
    code = signals.received()
    if code is not None:
        return _stopped(code)
    match error:
        case Stopped():
            return _stopped(error.exit_code)
        case KeyboardInterrupt():
            return _stopped(signals.INTERRUPTED)
        case BrokenPipeError():
            return _stopped(signals.PIPE_CLOSED)
        case SystemExit() if isinstance(error.__context__, BrokenPipeError):  # as rich ends
            return _stopped(signals.PIPE_CLOSED)
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        case KvtoolError():
            say(str(error))
            return error.exit_code
        case typer.TyperException():
            return _refused(error)
        case typer.Abort():
            typer.echo(err=True)  # the prompt's line
            say("aborted: nothing was changed")
            return KvtoolError.exit_code
    say(describe(error))
    console.log.log(
        logging.ERROR if os.environ.get(TRACEBACK) else logging.DEBUG, "traceback", exc_info=error
    )
    if isinstance(error, OSError):
        streams.drop_output()
    return KvtoolError.exit_code


def describe(error: BaseException) -> str:
    """Return what happened, in one sentence, of an exception that no part of kvtool expected."""
    text = " ".join(str(error).split()).rstrip(".")
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or _is_torch(error, MEMORY):
        return (
            f"out of memory{': ' * bool(text)}{text}; try a smaller --limit or --batch-size, "
            "or another --device"
        )
    if isinstance(error, RecursionError):
        return (
            f"something is nested too deeply ({text}), such as brackets in a JSON file or a chat "
            f"template; {REPORT}"
        )
    if _is_torch(error, DEVICE):
        return f"the device failed: {text}; see nvidia-smi, or try --device cpu"
    if isinstance(error, OSError) and error.filename is None:
        return f"output: {error.strerror or text or name}"
    if isinstance(error, OSError):
        filename = error.filename
        path = os.fsdecode(filename) if isinstance(filename, bytes) else str(filename)
        return f"{path}: {error.strerror or text or name}"
    return f"{name}{': ' * bool(text)}{text}; {REPORT}"


def _is_torch(error: BaseException, pattern: re.Pattern[str]) -> bool:
    return isinstance(error, RuntimeError) and pattern.search(str(error)) is not None


def _stopped(exit_code: int) -> int:
    if exit_code == signals.INTERRUPTED:
        say(INTERRUPTED)
    streams.drop_output()
    return exit_code


def _refused(error: typer.TyperException) -> int:
    """Return what Typer refuses, as one line in place of its three; a group without a command still
    prints its help.
    """
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context is None:
        say(message)
    elif message == context.get_help():
        print(message, file=sys.stderr)
    else:
        command = context.command_path
        command_words = command.partition(" ")[2]
        say(f"{command_words + ': ' * bool(command_words)}{message.rstrip('.')}: see {command} -h")
    return int(error.exit_code)


def say(message: str) -> None:
    """One line on standard error, and in the log file."""
    if not console.log.handlers:
        console.configure(quiet=False, verbose=False, log_file=None)
    console.log.error("kvtool: %s", one_line(message))


def one_line(text: str) -> str:
    """Foreign text without line breaks, terminal codes and other characters that do not print, and
    not without end.
    """
    line = " ".join(ESCAPE_CODE.sub("", text).split())
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return (
        line if len(line) <= LONGEST else f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"
    )
