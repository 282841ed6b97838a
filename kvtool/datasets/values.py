"""Values of foreign records, checked one by one: what is not as it should be is a DatasetError that
names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kvtool.datasets.names import brief
from kvtool.errors import DatasetError

LARGEST = 2**53
"""Whole numbers beyond are none of a data set's, and not told apart by every reader of JSON."""


@contextmanager
def at(location: str) -> Iterator[None]:
    """Context in which a DatasetError comes to begin with the place it speaks of."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{location}: {error}") from None


def number(value: Any, what: str) -> float:
    """Return a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    raise DatasetError(f"expected {what} to be a finite number, found {brief(value)}")


def whole(value: Any, what: str) -> int:
    """Return a whole number, or the digits of one: some tools write them as texts."""
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isdecimal()
        and len(value) < len(str(LARGEST))
    ):
        return int(value)
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= LARGEST
        and value == int(value)
    ):
        return int(value)
    raise DatasetError(f"expected {what} to be a whole number, found {brief(value)}")


def text(value: Any, what: str) -> str:
    """Return a text that is more than blanks."""
    if isinstance(value, str) and value.strip():
        return value
    raise DatasetError(f"expected {what} to be a text, found {brief(value)}")


def size(value: Any, what: str) -> tuple[int, int]:
    """Return (width, height) of a picture, both positive, from a list that begins with them."""
    # Some lists have the number of channels behind width and height.
    width, height = numbers(value[:2] if isinstance(value, list | tuple) else value, 2, what)
    if width < 1 or height < 1 or width != int(width) or height != int(height):
        raise DatasetError(
            f"expected {what} to be a width and a height in pixels, found {brief(value)}"
        )
    return int(width), int(height)


def numbers(value: Any, count: int, what: str) -> tuple[float, ...]:
    """`count` finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != count:
        raise DatasetError(f"expected {what} to be {count} numbers, found {brief(value)}")
    return tuple(number(entry, what) for entry in value)


def points(value: Any, what: str) -> tuple[tuple[float, float], ...]:
    """Pairs (x, y) of finite numbers."""
    if not isinstance(value, list | tuple):
        raise DatasetError(f"expected {what} to be a list of points, found {brief(value)}")
    pairs = (numbers(point, 2, f"point {index} of {what}") for index, point in enumerate(value))
    return tuple((x, y) for x, y in pairs)


def box(value: Any, what: str) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of a box that has an area."""
    left, top, right, bottom = numbers(value, 4, what)
    if right <= left or bottom <= top:
        raise DatasetError(
            f"expected {what} to be a box (left, top, right, bottom), found {brief(list(value))}"
        )
    return left, top, right, bottom


def first_few(names: Sequence[str], count: int = 3) -> str:
    """Some names for a message, and how many more there are."""
    overflow = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + overflow
