"""Standard input, output and error as commands need them, whatever the shell made of them."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys

ESCAPE = "kvtool.escape"
"""How text is written that the encoding of standard output lacks: as JSON escapes it, so that JSON
stays JSON.
"""


def prepare() -> None:
    """Closed streams lead nowhere, and no text is refused.

    A closed descriptor has to be filled: the next file that is opened would take its number, and
    what C libraries print would go into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            substitute = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, substitute)
    codecs.register_error(ESCAPE, escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)


def escape(error: UnicodeError) -> tuple[str, int]:
    r"""Escape what cannot be encoded: é as \u00e9, a character beyond 16 bits as its two
    surrogates.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def drop_output() -> None:
    """Send what is still buffered nowhere, instead of to a closed pipe or a full disk when Python
    ends.
    """
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
