"""What the benchmarks share: rows with intervals, and result files read with errors that name the
line."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from kvtool.datasets.files import read_text
from kvtool.errors import DatasetError
from kvtool.result import MAX_REASONS, Row
from kvtool.stats.bootstrap import Array, Estimate, Scores, bootstrap
from kvtool.stats.proportions import widened

FilePath = str | PathLike[str]


def estimates(
    units: Array,
    scores: Scores,
    *,
    strata: Array | None = None,
    clusters: Array | None = None,
    seed: int = 0,
    top: float | Mapping[str, float] = 1.0,
) -> dict[str, Estimate]:
    """Return the scores of `units` (n, k) with their intervals.

    The ends are NaN where nothing can be drawn instead of another: one unit, or the units of one
    cluster, have no interval. An interval that collapses at an edge of its score's range is
    widened.

    Args:
        units: (n, k), numbers of n units that add up.
        scores: Turns sums over units (..., k) into named scores (...).
        strata: Labels (n,) within which to resample.
        clusters: Labels (n,) of what is resampled whole, such as the unit's picture; or (n, 2),
            the two pictures that a unit joins.
        seed: The random seed of the resamples.
        top: The best score that there is, see kvtool.stats.proportions.
    """
    # What is drawn are clusters where there are some, else single units.
    first = np.arange(len(units))
    if clusters is not None:
        first = np.unique(clusters, return_index=True)[1]
        # Flattened, the two pictures that a unit joins follow each other.
        first //= np.size(clusters) // len(units)
    counts = [len(first)]
    # Within strata of one cluster each, every resample would be the same: no spread can be seen.
    if strata is not None:
        counts = np.unique(np.asarray(strata)[first], return_counts=True)[1].tolist()
    # One unit joins two pictures, but is one all the same.
    if max(counts) > 1 and len(units) > 1:
        resampled = bootstrap(units, scores, strata=strata, clusters=clusters, seed=seed)
        return widened(resampled, len(first), top)
    values = {name: np.asarray(value) for name, value in scores(units.sum(axis=0)).items()}
    # Nothing can be resampled: the scores stand, their ends are unknown.
    unknown = {name: np.full_like(value, np.nan) for name, value in values.items()}
    return {name: Estimate(value, unknown[name], unknown[name]) for name, value in values.items()}


def scored(units: Array, scores: Scores, **resampling: Any) -> Row:
    """Return the fields of `estimates`: every score, <score>_low and <score>_high."""
    row: Row = {}
    for name, estimate in estimates(units, scores, **resampling).items():
        row |= with_interval(name, *(float(number) for number in estimate))
    return row


def with_interval(name: str, value: float, low: float, high: float) -> Row:
    """Return a score's three fields; ends that are not defined are null."""
    ends = (None if math.isnan(end) else end for end in (low, high))
    return {name: value} | dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))


def side_by_side(groups: Sequence[Array]) -> tuple[Array, Array]:
    """Lay the units (n_g, k) of groups side by side.

    Returns (n, group * k), each unit in its group's columns, so that sums keep the groups apart;
    and the group of each unit (n,), within which to resample.
    """
    group = np.repeat(np.arange(len(groups)), [len(units) for units in groups])
    columns = np.zeros((len(group), len(groups), groups[0].shape[1]))
    # A unit's row is zero outside its group's columns.
    columns[np.arange(len(group)), group] = np.concatenate(groups)
    return columns.reshape(len(group), -1), group


def numbered(labels: Iterable[Hashable]) -> Array:
    """Number labels by their first mention, so that resamples do not depend on their names."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def results_folder(path: FilePath, what: str) -> Path:
    """Return a folder of result files. Raises DatasetError where there is none."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    description = "a file" if folder.exists() else "nothing there"
    raise DatasetError(
        f"{folder}: expected a folder with {what}, found {description}; check the path"
    )


def read_records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the objects of a JSON lines file, or of a file that holds one JSON list.

    Each comes with its location: FILE:LINE, or FILE: item N. Raises DatasetError that names the
    line of what is not JSON, and for a file without any object.
    """
    text = read_text(path, piped=True)
    # LLaVA's files have an object on each line, others hold one list.
    if text.lstrip().startswith("["):
        items = [
            (f"{path}: item {number}", item) for number, item in enumerate(_parse(text, path, 1), 1)
        ]
    else:
        items = [
            (f"{path}:{number}", _parse(line, path, number)) for number, line in _numbered(text)
        ]
    if not items:
        raise DatasetError(
            f"{path}: expected one JSON object a line, or a JSON list of them, found none"
        )
    for location, item in items:
        if not isinstance(item, dict):
            raise DatasetError(f"{location}: expected a JSON object, found {_shown(item)}")
    return items


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines from 1 and leave blank ones out.

    Only line feeds end a line: text may hold other breaks.
    """
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _parse(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
        line = line + error.lineno - 1
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise DatasetError(f"{path}:{line}: expected JSON, found: {reason}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which is no JSON number")


def need(record: dict[str, Any], names: Sequence[str], location: str) -> list[Any]:
    """Return the named values of a record. Raises DatasetError that names the missing ones."""
    absent = [name for name in names if name not in record]
    if absent:
        has = ", ".join(list(record)[:MAX_REASONS]) or "no field"
        raise DatasetError(
            f"{location}: expected the fields {', '.join(names)}; no {', '.join(absent)} among "
            f"{has}"
        )
    return [record[name] for name in names]


def need_text(value: Any, name: str, location: str) -> str:
    """Return a value that must be a text. Raises DatasetError."""
    if not isinstance(value, str):
        raise DatasetError(f"{location}: expected {name} to be a text, found {_shown(value)}")
    return value


def need_numbers(value: Any, n: int, name: str, location: str) -> list[float]:
    """Return `n` finite numbers. Raises DatasetError."""
    if isinstance(value, list) and len(value) == n and all(_is_number(number) for number in value):
        return [float(number) for number in value]
    raise DatasetError(f"{location}: expected {name} to be {n} numbers, found {_shown(value)}")


def _is_number(value: Any) -> bool:
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """Return a value in a few characters of JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def none_left(what: str, left_out: Sequence[str]) -> DatasetError:
    """Return the error to raise where everything had to be left out, with the first reason."""
    first = left_out[0] if left_out else "nothing there"
    return DatasetError(
        f"{what}: expected some that can be scored, found none of {len(left_out)}; first: {first}"
    )


def size_error(path: Path, mask: Array, annotation: Array, source: str) -> DatasetError:
    """Return the error of a mask that has not the size of its annotation.

    Both are (height, width, ...).
    """
    sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (annotation, mask)]
    return DatasetError(
        f"{path}: expected {sizes[0]} pixels as {source} has, found {sizes[1]}; write masks in the "
        "original size"
    )
