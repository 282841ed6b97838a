"""What the viewer is asked, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvtool.digests import digest_bytes
from kvtool.errors import UsageError

JSON = "application/json"
VECTORS = "application/octet-stream"
MOST_CHARACTERS = 4000
"""No id, name or question is longer."""


@dataclass(frozen=True)
class Reply:
    """An answer: its bytes, their type, and what is said of them.

    Attributes:
        body: The bytes.
        media_type: Their type.
        name: Stands for the bytes for ever, where the request names the version of what it asks
            for; empty where the same request may have another answer later.
        labels: Further facts of the bytes, such as the shape and dtype of vectors.
    """

    body: bytes
    media_type: str = JSON
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """A digest by which a browser knows that it has the bytes."""
        return self.name or digest_bytes(self.body)

    @classmethod
    def of_json(cls, record: Any) -> Reply:
        """Return an answer of JSON values."""
        return cls(json.dumps(record, ensure_ascii=False, allow_nan=False).encode())


@dataclass(frozen=True)
class ViewRequest:
    """The parameters of a request, as text by name."""

    texts: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """Return a parameter. Raises UsageError where it is absent, or longer than any is."""
        value = self.texts.get(name, default)
        if value is None or len(value) > MOST_CHARACTERS:
            what = "none" if value is None else f"{len(value)} characters"
            raise UsageError(
                f"{name}: expected a text of up to {MOST_CHARACTERS} characters, found {what}"
            )
        return value

    def number(self, name: str, default: int | None = None, largest: int = 10**6) -> int:
        """Return a whole number from 0 to `largest`. Raises UsageError for anything else."""
        text = self.texts.get(name, "")
        if not text and default is not None:
            return default
        return _number(name, text, largest)

    def numbers(self, name: str, largest: int = 10**6) -> list[int]:
        """Return the whole numbers of a list such as "3,4,5". Raises UsageError."""
        return [_number(name, part, largest) for part in self.text(name).split(",")]


def _number(name: str, text: str, largest: int) -> int:
    # Long digits would cost time before they could be compared.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) <= largest):
        raise UsageError(f"{name}: expected a number from 0 to {largest}, found {text[:40]!r}")
    return int(text)
