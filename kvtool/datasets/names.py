"""Names of files and values out of files: which can be ids, which are nobody's, and how errors show
them.
"""

from __future__ import annotations

import os
from typing import Any


def brief(value: Any, limit: int = 60) -> str:
    """Return a value out of a file as errors show it: on one line, cut off, and of characters that
    can be printed.
    """
    text = (
        repr(value)
        if not isinstance(value, list | dict) or len(value) < limit
        else f"{type(value).__name__} of {len(value)}"
    )
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def is_utf8(name: str) -> bool:
    """Return whether a file's name can be an id: one that is not UTF-8 has surrogates in it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """Return a file's name as errors show it: on one line, its bytes that are not UTF-8 escaped."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is one that systems leave among pictures, or that its owner
    hid.
    """
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir")
