"""What is read from disk, checked against the dataclass it is to become: the one place where wrong
types, missing members and numbers out of bounds become CorruptError. Members that a dataclass does
not know are passed over.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kvtool.errors import CorruptError

T = TypeVar("T")
Reader = Callable[[Any], Any]
LARGEST_INTEGER = 1 << 62
_MAX_TEXT = 60
_MEMBER = "member"


class _MismatchError(Exception):
    """expected, found, and the members that lead there, the innermost first."""

    def __init__(self, expected: str, found: Any) -> None:
        super().__init__()
        self.expected, self.found, self.path = expected, found, list[str]()


def read(kind: type[T], record: Any, location: str) -> T:
    """Return a value of a type, most often a dataclass, from its JSON.

    Raises CorruptError that begins with `location`.
    """
    try:
        value: T = _reader(kind)(record)  # type: ignore[arg-type]
    except _MismatchError as error:
        members = "".join(f"{member}: " for member in reversed(error.path))
        text = repr(error.found)
        short_text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
        raise CorruptError(
            f"{location}: {members}expected {error.expected}, found {short_text}"
        ) from None
    except RecursionError:
        raise CorruptError(f"{location}: expected fewer levels of JSON") from None
    return value


def member(name: str) -> dict[str, str]:
    """Return the metadata of a dataclass's field that is stored under another name."""
    return {_MEMBER: name}


def _member_name(item: Field[Any]) -> str:
    return str(item.metadata.get(_MEMBER, item.name))


@cache
def _reader(kind: Any) -> Reader:
    """Return the function that checks and converts JSON to a type, made once a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        needed = {
            _member_name(f)
            for f in fields(kind)
            if f.default is MISSING and f.default_factory is MISSING
        }
        return _record_reader(kind, {_member_name(f): f.name for f in fields(kind)}, needed)
    if hasattr(kind, "_field_defaults"):
        needed = set(kind._fields) - kind._field_defaults.keys()
        return _record_reader(kind, {name: name for name in kind._fields}, needed)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is list:
        item = _reader(arguments[0])
        return lambda value: _items(item, _of(list, value))
    if origin is dict:
        item = _reader(arguments[1])
        return lambda value: _members(lambda _: item, _of(dict, value))
    if origin is Literal:
        return _literal_reader(arguments)
    if origin in (Union, types.UnionType):
        return _optional_reader(arguments)
    if kind is Any:
        return lambda value: value
    return _scalar_reader(kind)


def _record_reader(kind: Any, field_names: Mapping[str, str], needed: set[str]) -> Reader:
    """Of a dataclass or a NamedTuple; field_names: by the member of JSON that each is read from."""
    hints = get_type_hints(kind)
    readers = {member: _reader(hints[name]) for member, name in field_names.items()}

    def reader(value: Any) -> Any:
        """Return the value that some JSON stands for. Raises _MismatchError."""
        if type(value) is not dict:
            raise _MismatchError("an object", value)
        if needed - value.keys():
            raise _MismatchError(f"the members {', '.join(readers)}", list(value))
        members = {member: value[member] for member in readers if member in value}
        values = _members(readers.__getitem__, members)
        return kind(**{field_names[member]: item for member, item in values.items()})

    return reader


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    if arguments[1:] == (...,):
        item = _reader(arguments[0])
        return lambda value: tuple(_items(item, _of(list, value)))
    readers = [_reader(argument) for argument in arguments]
    shared_reader = readers[0] if len(set(arguments)) == 1 else None

    def reader(value: Any) -> Any:
        """Return the value that some JSON stands for. Raises _MismatchError."""
        if type(value) is not list or len(value) != len(readers):
            raise _MismatchError(f"{len(readers)} values", value)
        return tuple(
            _items(shared_reader, value)
            if shared_reader
            else (read(item) for read, item in zip(readers, value, strict=True))
        )

    return reader


def _literal_reader(values: tuple[Any, ...]) -> Reader:
    def reader(value: Any) -> Any:
        """Return the value that some JSON stands for. Raises _MismatchError."""
        if type(value) not in (str, int) or value not in values:
            raise _MismatchError(" or ".join(map(str, values)), value)
        return value

    return reader


def _optional_reader(arguments: tuple[Any, ...]) -> Reader:
    """Of `X | None`, the only union there is."""
    (item,) = (_reader(argument) for argument in arguments if argument is not types.NoneType)
    return lambda value: None if value is None else item(value)


def _scalar_reader(kind: Any) -> Reader:
    if kind is int:
        return _integer
    if kind is float:
        return _finite

    def reader(value: Any) -> Any:
        """Return the value that some JSON stands for. Raises _MismatchError."""
        if type(value) is not kind:
            raise _MismatchError(f"a value of type {kind.__name__}", value)
        return value

    return reader


def _integer(value: Any) -> Any:
    if type(value) is not int:
        raise _MismatchError("a value of type int", value)
    if not -LARGEST_INTEGER < value < LARGEST_INTEGER:
        raise _MismatchError("an integer of 62 bits", value)
    return value


def _finite(value: Any) -> Any:
    if type(value) not in (float, int) or not isfinite(value):
        raise _MismatchError("a finite number", value)
    return value


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _MismatchError("a list" if kind is list else "an object", value)
    return value


def _items(reader: Reader, values: list[Any]) -> list[Any]:
    read_values: list[Any] = []
    try:
        read_values.extend(map(reader, values))
    except _MismatchError as error:
        error.path.append(str(len(read_values)))
        raise
    return read_values


def _members(reader_of: Callable[[str], Reader], values: dict[str, Any]) -> dict[str, Any]:
    read_values = {}
    name = ""
    try:
        for name, value in values.items():
            read_values[name] = reader_of(name)(value)
    except _MismatchError as error:
        error.path.append(name)
        raise
    return read_values
