"""Descriptions of SAE features in words, read from the files in which others publish them.

Read are Neuronpedia's exports (batches of JSON lines, gzipped or not, and older dumps of lists),
the objects of its API, plain JSON, and CSV. Nothing is fetched.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from kvtool.autoencoders.hooks import layer_of
from kvtool.datasets import values
from kvtool.datasets.files import MAX_JSON_BYTES, read_text, split_lines
from kvtool.datasets.names import brief, is_hidden
from kvtool.errors import DatasetError, UsageError
from kvtool.outputs import write_output

SUFFIXES = (".json", ".jsonl", ".csv", ".json.gz", ".jsonl.gz", ".csv.gz")
ACTIVATIONS = "activations"
"""The folder of an export that holds no descriptions, and most of its bytes."""
_SOURCE = re.compile(r"(\d+)-\D")
"""A source as Neuronpedia names it: 12-gemmascope-res-16k."""
_RANGE = re.compile(r"(\d+)-\d+\.json(\.gz)?")
"""A list of features, the first of which has the first number: 128-256.json."""


class Descriptions(dict[int, dict[int, str]]):
    """Layer -> feature -> its description.

    Attributes:
        densities: Layer -> feature -> the share of text tokens on which it fires, where files say
            it.
        models: The names of the models that the files say they are of.
        skipped: One line for each record or file that could not be used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.densities: dict[int, dict[int, float]] = {}
        self.models: set[str] = set()
        self.skipped: list[str] = []


@dataclass(frozen=True)
class _Item:
    """A record of a file: `location` is where it stands; layer and feature are what the file's
    name and the record's position say, None for nothing.
    """

    record: Any
    location: str
    layer: int | None
    feature: int | None = None


def read_descriptions(path: str | PathLike[str]) -> Descriptions:
    """Read descriptions of features from a file, or from all files below a folder.

    Of several descriptions of a feature the first counts. A record that cannot be used, and a file
    of a folder, is left out and named in `skipped`; a record without a description is no fault.

    Args:
        path: JSON lines of Neuronpedia's export (`explanations/batch-0.jsonl.gz`), JSON lists of
            features (`12-gemmascope-res-16k/0-128.json`), objects of its API, plain JSON
            `{"layer": 3, "features": {"12": "text"}}` or a list of these, `{"12": "text"}` in a
            file or folder whose name says the layer, or CSV with the columns layer, index,
            description and, if known, density.

    Raises UsageError where there is nothing at the path, DatasetError where none of it can be used.
    """
    root = Path(path).expanduser()
    files = _files(root)
    descriptions = Descriptions()
    for file in files:
        try:
            for item in _items(file, root):
                _add(descriptions, item)
        except DatasetError as error:
            descriptions.skipped.append(str(error))
    if not any(descriptions.values()):
        reason = f"; first problem: {descriptions.skipped[0]}" if descriptions.skipped else ""
        raise DatasetError(f"{root}: expected descriptions of features, found none to use{reason}")
    return descriptions


def write_descriptions(
    path: str | PathLike[str], descriptions: Mapping[int, Mapping[int, str]]
) -> None:
    """Write descriptions, layer -> feature -> text, as plain JSON that read_descriptions reads.

    Raises StoreError or SpaceError where the file cannot be written.
    """
    records = [
        {
            "layer": layer,
            "features": {str(feature): features[feature] for feature in sorted(features)},
        }
        for layer, features in sorted(descriptions.items())
    ]
    content = records[0] if len(records) == 1 else records
    text = json.dumps(content, indent=0, ensure_ascii=False)
    write_output(path, f"{text}\n".encode(), "descriptions")


def _files(root: Path) -> list[Path]:
    """Return the files to read. Raises UsageError where there is none."""
    if root.is_dir():
        # Activations are most of an export, and hold no descriptions.
        files = [
            file
            for file in sorted(root.rglob("*"))
            if file.name.endswith(SUFFIXES)
            and file.is_file()
            and file.parent.name != ACTIVATIONS
            and not is_hidden(file.name)
        ]
    else:
        files = [root] if root.is_file() else []
    if not files:
        raise UsageError(
            f"{root}: expected descriptions of features ({', '.join(SUFFIXES)}), found "
            f"{'no such file below it' if root.is_dir() else 'nothing there'}; check the path"
        )
    return files


def _items(file: Path, root: Path) -> Iterator[_Item]:
    """Yield the records of a file. Raises DatasetError where it cannot be read as a whole."""
    text = _text(file)
    layer = _layer_of_path(file, root)
    name = file.name.removesuffix(".gz")
    if name.endswith(".csv"):
        try:
            for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
                yield _Item(row, f"{file}: line {number}", layer)
        except csv.Error as error:
            raise DatasetError(f"{file}: expected CSV, found: {error}") from None
    elif name.endswith(".jsonl"):
        for number, line in enumerate(split_lines(text), 1):
            if line.strip():
                yield _Item(_parsed(line), f"{file}: line {number}", layer)
    else:
        # A list does not number its features: its name says the first one's number.
        match = _RANGE.fullmatch(file.name)
        first = int(match[1]) if match else None
        content = _parsed(text)
        if isinstance(content, DatasetError):
            raise DatasetError(f"{file}: {content}")
        yield from _json_items(content, str(file), layer, first)


def _json_items(
    content: Any, location: str, layer: int | None, first: int | None
) -> Iterator[_Item]:
    """Yield the records of a JSON file: of a list, of a plain object, or the one that it is."""
    if isinstance(content, list):
        for position, record in enumerate(content):
            feature = None if first is None else first + position
            yield from _plain_items(record, f"{location}: item {position}", layer, feature)
    else:
        yield from _plain_items(content, location, layer, None)


def _plain_items(
    record: Any, location: str, layer: int | None, feature: int | None
) -> Iterator[_Item]:
    """Yield the features of a plain object, or the record as it is."""
    if isinstance(record, dict) and isinstance(record.get("features"), dict):
        features, layer = record["features"], record.get("layer", layer)
    elif isinstance(record, dict) and record and all(key.isdecimal() for key in record):
        features = record
    else:
        yield _Item(record, location, layer, feature)
        return
    for index, description in features.items():
        entry = {"layer": layer, "index": index, "description": description}
        yield _Item(entry, f"{location}: feature {brief(index)}", None)


def _add(descriptions: Descriptions, item: _Item) -> None:
    """Put what a record says among the descriptions; what cannot be used gets a line."""
    try:
        if isinstance(item.record, DatasetError):
            raise item.record
        if not isinstance(item.record, dict):
            raise DatasetError(f"expected an object, found {brief(item.record)}")
        with values.at(item.location):
            layer, feature = _layer(item), _feature(item)
            text = _description(item.record)
    except DatasetError as error:
        location = "" if str(error).startswith(item.location) else f"{item.location}: "
        descriptions.skipped.append(f"{location}{error}")
        return
    if isinstance(model := item.record.get("modelId"), str):
        descriptions.models.add(model)
    density = _density(item.record)
    # The first file that speaks of a feature counts, here and for its description.
    if density is not None:
        descriptions.densities.setdefault(layer, {}).setdefault(feature, density)
    if text:
        descriptions.setdefault(layer, {}).setdefault(feature, text)


def _layer(item: _Item) -> int:
    """Return the layer of a record: its number, its source's ("12-..."), or the path's."""
    # The record's own layer comes before what the path says.
    layer = item.record.get("layer") if item.record.get("layer") is not None else item.layer
    if isinstance(layer, str) and not layer.isdecimal():
        match = _SOURCE.match(layer)
        layer = int(match[1]) if match else layer_of(layer)
    if layer is None:
        raise DatasetError(
            "expected its layer, found none in the record or in the path; name the file or its "
            "folder layer_N"
        )
    return _index(layer, "layer")


def _feature(item: _Item) -> int:
    """Return the number of a record's feature: its index, or what its position says."""
    index = item.record.get("index")
    return _index(item.feature if index is None else index, "index")


def _index(value: Any, what: str) -> int:
    number = values.whole(value, what)
    if number < 0:
        raise DatasetError(f"expected {what} of 0 or more, found {number}")
    return number


def _description(record: Mapping[str, Any]) -> str:
    """Return a record's description, of several the first; "" where it has none."""
    explanations = record.get("explanations")
    if "description" not in record and isinstance(explanations, list):
        entries = [entry for entry in explanations if isinstance(entry, dict)]
        record = entries[0] if entries else {}
    if "description" not in record:
        return ""
    return " ".join(values.text(record["description"], "description").split())


def _density(record: Mapping[str, Any]) -> float | None:
    """Return the share of tokens on which a feature fires; None where the record says none."""
    value: Any = record.get("frac_nonzero", record.get("density"))
    try:
        density = float(value)
    except (TypeError, ValueError):
        return None
    return density if 0 <= density <= 1 else None


def _layer_of_path(file: Path, root: Path) -> int | None:
    """Return the layer that a file's name or a folder's above it says, the nearest first."""
    # From the file upward to the root, so that the nearest name counts.
    below = [part.name for part in (file, *file.parents) if part == root or root in part.parents]
    folders = [root.parent.name] if root == file else []
    for name in [*below, *folders]:
        match = _SOURCE.match(name) if name != file.name else None
        layer = int(match[1]) if match else layer_of(name.removesuffix(".gz"))
        if layer is not None:
            return layer
    return None


def _parsed(text: str) -> Any:
    """Return what JSON says, or the DatasetError about it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return DatasetError(f"expected JSON, found: {brief(str(error), 100)}")


def _text(file: Path) -> str:
    """Return a file's text, unpacked where it is gzipped. Raises DatasetError."""
    if not file.name.endswith(".gz"):
        return read_text(file, MAX_JSON_BYTES)
    try:
        with gzip.open(file) as packed:
            # A byte more than allowed tells a file that is too large, however far it unpacks.
            data = packed.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise DatasetError(f"{file}: expected at most {MAX_JSON_BYTES} bytes, found more")
        return data.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: expected gzipped UTF-8 text, found: {error}") from None
