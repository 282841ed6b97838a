"""Hostile versions of bytes, texts and JSON values: what disks, downloads, converters and people
make of files.

Every choice comes from the given random.Random, so that a number gives the same input again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.extremes import EXTREME_NUMBERS, EXTREME_TEXTS, HTML_PAGE, LFS_POINTER, OTHER_TYPES

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def hostile_bytes(rng: Random, data: bytes) -> bytes:
    """One to three damages of a file's bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_BYTE_DAMAGES)(rng, data)
    return data


def hostile_text(rng: Random, data: bytes) -> bytes:
    """A text's bytes with damages of its lines, numbers and encoding; or of its bytes."""
    return rng.choice(_TEXT_DAMAGES)(rng, data)


def hostile_json(rng: Random, data: bytes) -> bytes:
    """A JSON file (or one JSON value a line) with changed values, or damages of its text."""
    if rng.random() < 0.25:
        return hostile_text(rng, data)
    try:
        return _changed_json(rng, data)
    except (ValueError, RecursionError):  # damaged before, or nested too deeply
        return hostile_text(rng, data)


def _changed_json(rng: Random, data: bytes) -> bytes:
    try:
        value, lines = json.loads(data), False
    except ValueError:
        value, lines = [json.loads(line) for line in data.splitlines() if line.strip()], True
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = hostile_value(rng, value)
    if lines and isinstance(value, list):
        return b"".join(dumped(rng, item) + b"\n" for item in value)
    return dumped(rng, value)


def dumped(rng: Random, value: Any) -> bytes:
    """JSON of a value, now and then with a member twice or a number that no float holds."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.05:
        text = re.sub(r'("\w+": )', r"\1null, \1", text, count=1)
    if rng.random() < 0.05:
        text = re.sub(
            r": -?\d+", ": " + rng.choice(("1e400", "-1e400", "9" * 5000, "0" * 30)), text, count=1
        )
    return text.encode("utf-8", "surrogatepass")


def hostile_value(rng: Random, value: Any) -> Any:
    """A JSON-like value of which one place, at any depth, is changed."""
    leaf = not isinstance(value, dict | list | tuple) or not value or rng.random() < 0.08
    if leaf:
        return _other_value(rng, value)
    if isinstance(value, dict):
        return _hostile_dict(rng, value)
    items = list(value)
    position = rng.randrange(len(items))
    change = rng.random()
    if change < 0.06:
        del items[position]
    elif change < 0.12:
        items.insert(position, items[rng.randrange(len(items))])
    elif change < 0.15:
        items *= rng.choice((0, 2, 50))
    else:
        items[position] = hostile_value(rng, items[position])
    return tuple(items) if isinstance(value, tuple) else items


def _hostile_dict(rng: Random, value: dict[Any, Any]) -> dict[Any, Any]:
    key = rng.choice(list(value))
    change = rng.random()
    if change < 0.12:
        return {name: item for name, item in value.items() if name != key}
    if change < 0.16:
        return {
            (rng.choice(EXTREME_TEXTS) if name == key else name): item
            for name, item in value.items()
        }
    if change < 0.20:
        return {**value, key: value[rng.choice(list(value))]}
    return {**value, key: hostile_value(rng, value[key])}


def _other_value(rng: Random, value: Any) -> Any:
    if isinstance(value, int | float) and rng.random() < 0.7:
        return rng.choice(EXTREME_NUMBERS)
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice(
            (*EXTREME_TEXTS, value + "\0", value.upper(), value[: len(value) // 2], value * 3)
        )
    return rng.choice(
        (
            *OTHER_TYPES,
            *EXTREME_NUMBERS,
            nested(rng.choice((5, 500))),
            [value] * 3,
            {"a": value},
            str(value),
        )
    )


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_at_start(rng: Random, data: bytes) -> bytes:
    """Headers are where sizes stand."""
    head = rng.choice((16, 64, 256))
    return _flip(rng, data[:head]) + data[head:]


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 200)) :]


def _splice(rng: Random, data: bytes) -> bytes:
    """A piece of the file again at another place."""
    start, target = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    return data[:target] + data[start : start + rng.choice((1, 4, 32, 512))] + data[target:]


def _insert(rng: Random, data: bytes) -> bytes:
    position = rng.randrange(len(data) + 1)
    return data[:position] + rng.randbytes(rng.choice((1, 2, 4, 40))) + data[position:]


def _overwrite_number(rng: Random, data: bytes) -> bytes:
    """An extreme integer over some bytes, as a size or an offset in a header would be."""
    width = rng.choice((1, 2, 4, 8))
    extreme = rng.choice(
        (0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 7)
    )
    position = rng.randrange(min(len(data), rng.choice((64, 1 << 20))) + 1)
    return (
        data[:position]
        + extreme.to_bytes(width, rng.choice(("little", "big")))
        + data[position + width :]
    )


def _zeros(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    stop = min(len(data), start + rng.choice((8, 512, len(data))))
    return data[:start] + bytes(stop - start) + data[stop:]


def _append(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0" * 512, data[:100], rng.randbytes(30), b"\n", LFS_POINTER))


def _replace(rng: Random, data: bytes) -> bytes:  # noqa: ARG001
    return rng.choice(
        (
            b"",
            b"\0",
            b"\n",
            LFS_POINTER,
            HTML_PAGE,
            b"\x1f\x8b\x08\0",
            b"PK\x03\x04",
            b"[" * 100_000,
        )
    )


_BYTE_DAMAGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_flip, _flip, _flip_at_start, _flip_at_start, _truncate, _delete, _splice, _insert),
    *(_overwrite_number, _overwrite_number, _zeros, _append, _replace),
)


def _swap_lines(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    rng.shuffle(lines)
    return b"\n".join(lines)


def _repeat_line(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"\n".join(lines)


def _drop_line(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _extreme_number(rng: Random, data: bytes) -> bytes:
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return _flip(rng, data)
    start, stop = rng.choice(numbers).span()
    number = rng.choice(
        (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e18", b"-1", b"9" * 400, b"", b"0", b'"7"')
    )
    return data[:start] + number + data[stop:]


def _odd_characters(rng: Random, data: bytes) -> bytes:
    position = rng.randrange(len(data) + 1)
    odd = (
        b"\0",
        b"\xed\xa0\x80",
        b"\xff",
        b"\xe9",
        b'"',
        b"\r",
        b"\x1b[2J",
        b"\xe2\x80\xa8",
        b"\\ud800",
        b"\x85",
        b",",
    )
    return data[:position] + rng.choice(odd) + data[position:]


def _other_encoding(rng: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037")), "replace")


def _deep(rng: Random, data: bytes) -> bytes:
    mark = rng.choice((b"[", b'{"a":', b"(", b'"'))
    position = rng.randrange(len(data) + 1)
    return data[:position] + mark * rng.choice((3, 2000, 100_000)) + data[position:]


_TEXT_DAMAGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(
        hostile_bytes,
        hostile_bytes,
        _swap_lines,
        _repeat_line,
        _drop_line,
        _extreme_number,
        _extreme_number,
    ),
    *(_odd_characters, _odd_characters, _other_encoding, _deep),
)
