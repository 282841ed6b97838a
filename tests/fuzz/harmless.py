"""The same texts and JSON values written in another way: no reader is to notice."""

from __future__ import annotations

import json
from random import Random
from typing import Any

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def harmless_text(rng: Random, data: bytes) -> bytes:
    """The same text to every reader of text: a byte order mark, other line ends, blank lines at the
    end.
    """
    change = rng.randrange(3)
    if change == 0:
        return BYTE_ORDER_MARK + data
    if change == 1:
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return data + b"\n" * rng.choice((1, 3))


def harmless_json(rng: Random, data: bytes) -> bytes:
    """The same value to every reader of JSON: members in another order, indented, characters
    escaped or not.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return harmless_text(rng, data)
    if rng.random() < 0.3:
        return BYTE_ORDER_MARK + data
    text = json.dumps(
        _reordered(rng, value), ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1, "\t"))
    )
    return text.encode()


def _reordered(rng: Random, value: Any) -> Any:
    if isinstance(value, list):
        return [_reordered(rng, item) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    return {key: _reordered(rng, value[key]) for key in keys}
