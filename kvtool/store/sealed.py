"""Sealed JSON: a file carries the crc32c of its own bytes, computed with the eight digits as zeros.

So a flipped bit anywhere in it is found, in a sample's id as much as in a brace.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kvtool.errors import CorruptError
from kvtool.store.durable import (
    crc32c,
    read_file,
)
from kvtool.store.layout import ZARR_JSON

SEAL = "kvtool_crc32c"


UNSEALED = "00000000"


_SEAL_PATTERN = re.compile(rb'"kvtool_crc32c": "([0-9a-f]{8})"')


_NO_ZARR = {"about": "files of kvtool that are not Zarr"}
"""An attribute for those who meet such a folder with zarr."""


def sealed(document: dict[str, Any]) -> bytes:
    """Return JSON bytes of a document whose first SEAL member (now UNSEALED) becomes the checksum
    of those bytes.
    """
    text = json.dumps(document).encode()
    start, stop = _SEAL_PATTERN.search(text).span(1)  # type: ignore[union-attr]
    # The checksum has the length of the zeros it replaces, so that nothing moves.
    return text[:start] + b"%08x" % crc32c(text) + text[stop:]


def unsealed(data: bytes, location: str) -> dict[str, Any]:
    """Return the inverse of sealed, SEAL left in place.

    Raises CorruptError that begins with `location`.
    """
    match = _SEAL_PATTERN.search(data)
    if match is None:
        raise CorruptError(
            f"{location}: expected a checksum ({SEAL}), found none: damaged, or not kvtool's"
        )
    # The first seal is the document's own: it stands before anything that a user wrote.
    start, stop = match.span(1)
    checksum = b"%08x" % crc32c(data[:start] + UNSEALED.encode() + data[stop:])
    if checksum != match[1]:
        raise CorruptError(
            f"{location}: expected crc32c {match[1].decode()}, found {checksum.decode()}: damaged"
        )
    # Bytes that agree with their checksum and are no JSON were never written by kvtool.
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(
            f"{location}: expected JSON, found {str(error) or type(error).__name__}"
        ) from None
    if not isinstance(document, dict):
        raise CorruptError(f"{location}: expected a JSON object, found {type(document).__name__}")
    return document


def group_json(attributes: dict[str, Any]) -> bytes:
    """zarr.json of an explicit group; the seal is its first attribute, since zarr allows no other
    member.
    """
    return sealed(
        {"zarr_format": 3, "node_type": "group", "attributes": {SEAL: UNSEALED, **attributes}}
    )


def leaf_json(attributes: dict[str, Any]) -> bytes:
    """Return the zarr.json of a folder whose files are not Zarr, e.g. of results: an array without
    a value.

    zarr never looks into the folder of an array, so that it finds nothing there that it would have
    to warn of.
    """
    geometry = {
        "shape": [0],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }
    all_attributes = {SEAL: UNSEALED, **_NO_ZARR, **attributes}
    return sealed(
        {"zarr_format": 3, "node_type": "array", **geometry, "attributes": all_attributes}
    )


def read_group(folder: Path, location: str) -> dict[str, Any]:
    """Return the attributes that group_json or leaf_json was given.

    Raises CorruptError, or FileNotFoundError.
    """
    location = f"{location}: {ZARR_JSON}"
    attributes = unsealed(read_file(folder / ZARR_JSON), location).get("attributes")
    if not isinstance(attributes, dict):
        raise CorruptError(f"{location}: expected the attributes of a group, found none")
    # What sealing added is taken off again: callers get what they gave.
    for name in (SEAL, *_NO_ZARR):
        attributes.pop(name, None)
    return attributes
