"""Reading pickles of foreign origin: plain values only, no class and no function is ever looked up.

Python's own unpickler allocates what an opcode claims before it looks: nine bytes can ask for a
memo of 8 GB, and nested tuples as keys end the process or hash for ever. So the opcodes are walked
first, and only dict, list, str, bytes, int, float, bool and None go on to it, in a size that the
file can account for.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from kvtool.digests import read_stamped
from kvtool.errors import DatasetError

MAX_PICKLE_BYTES = 1 << 28
_MAX_VALUE_BYTES = 1_500_000_000
_OPCODE_BYTES = 64
"""Memory that one opcode makes at most: an empty list or dict, or an entry of one."""
_TEXT_BYTES = 4
"""Memory that one byte of a string makes at most."""

_PLAIN = (
    "APPEND APPENDS BINBYTES BINFLOAT BINGET BININT BININT1 BININT2 BINPUT BINSTRING BINUNICODE "
    "DICT EMPTY_DICT "
    "EMPTY_LIST FLOAT FRAME GET INT LIST LONG LONG1 LONG_BINGET LONG_BINPUT MARK MEMOIZE NEWFALSE "
    "NEWTRUE NONE POP "
    "PROTO PUT SETITEM SETITEMS SHORT_BINBYTES SHORT_BINSTRING SHORT_BINUNICODE STRING UNICODE"
)
_PLAIN_OPCODES = [op for op in pickletools.opcodes if op.name in _PLAIN.split()]
_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_ENDS = frozenset(
    code for code, name in _NAMES.items() if name in ("STOP", "GLOBAL", "INST", "STACK_GLOBAL")
)
"""The walk ends here: the unpickler stops, or refuses to look a name up."""

_ARGUMENTS = {ord(op.code): op.arg.n if op.arg else 0 for op in _PLAIN_OPCODES}
"""Opcode -> bytes of its argument, or pickletools' mark of one that carries its length or ends with
its line.
"""
_COUNT_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
}
_PUT, _LONG_BINPUT, _LONG1, _INT, _LONG = b"pr\x8aIL"
_INTEGERS = (_LONG1, _INT, _LONG)
_LINES = frozenset(code for code, kind in _ARGUMENTS.items() if kind == pickletools.UP_TO_NEWLINE)
_SHORT_LINE = 7
"""Bytes of a line that cannot hold a number of harm."""
_STEPS = [
    1 + size if (size := _ARGUMENTS.get(code, -1)) >= 0 and code != _LONG_BINPUT else 0
    for code in range(256)
]
"""Bytes to the next opcode, 0 where that takes a look at the argument."""
_MAX_INT_BYTES, _MAX_INT_DIGITS = 8, 24


class _PlainUnpickler(pickle.Unpickler):
    """Builds dict, list, str, bytes, int, float, bool and None; these need no lookup by name."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_plain(path: Path) -> Any:
    """Return the value in a pickle, Python 2 strings read as latin-1.

    Raises DatasetError, also for anything not plain.
    """
    try:
        data, _ = read_stamped(path, MAX_PICKLE_BYTES)
        # Walked before it is loaded: loading is what a hostile file harms by.
        _check(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, found: {error.strerror}") from None
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
        AttributeError, OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"{path}: expected a pickle of plain lists and dicts, found something else: {reason}; "
            "download it again"
        ) from None


def _check(data: bytes) -> None:
    """Walk the opcodes up to the end, or to the first lookup by name, which the unpickler then
    refuses.

    Raises UnpicklingError for opcodes of values that are not plain, and for more memory than the
    file accounts for. Real files have millions of opcodes, so the loop does the most frequent ones
    with a table and nothing else.
    """
    steps, position, end = _STEPS, 0, len(data)
    # The budget is in opcodes: each makes at most so much memory, and texts by their bytes.
    for opcodes in range((_MAX_VALUE_BYTES - _TEXT_BYTES * end) // _OPCODE_BYTES):
        if position >= end:
            return
        code = data[position]
        step = steps[code]
        if step:
            position += step
            continue
        if code in _ENDS:
            return
        # An argument that ends with its line, or one that begins with its length.
        size = (
            data.find(b"\n", position) - position
            if code in _LINES
            else _argument_bytes(data, position + 1, code)
        )
        if size < 0:
            raise pickle.UnpicklingError("pickle data was truncated")
        # Short lines can hold no number that does harm, and are most of what is not in the table.
        if size > _SHORT_LINE or code not in _LINES:
            _check_argument(data[position + 1 : position + 1 + size], code, opcodes)
        position += 1 + size
    raise pickle.UnpicklingError("more values than memory is lent for")


def _argument_bytes(data: bytes, start: int, code: int) -> int:
    """Return bytes of an argument that begins with its length.

    Raises UnpicklingError where the opcode is not plain.
    """
    kind = _ARGUMENTS.get(code)
    if kind is None:
        raise pickle.UnpicklingError(f"opcode {_NAMES.get(code, hex(code))}")
    if kind >= 0:
        return kind
    count = _COUNT_BYTES[kind]
    # The length that is claimed is compared with the bytes that are there.
    size = count + int.from_bytes(data[start : start + count], "little")
    if start + size > len(data):
        raise pickle.UnpicklingError("pickle data was truncated")
    return size


def _check_argument(argument: bytes, code: int, opcodes: int) -> None:
    """Refuse what the unpickler would give far more memory or time than the file has bytes for."""
    if code in (_PUT, _LONG_BINPUT):  # it makes room for all entries of its memo up to the greatest
        index = int(argument) if code == _PUT else int.from_bytes(argument, "little")
        if index > opcodes:
            raise pickle.UnpicklingError("a memo entry far beyond the values before it")
    elif (
        len(argument) > (_MAX_INT_BYTES + 1 if code == _LONG1 else _MAX_INT_DIGITS)
        and code in _INTEGERS
    ):
        raise pickle.UnpicklingError("an integer of more than 64 bits")
