"""Which tokens of an image are meant, and where the tokens of images lie: on the grid and in
pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import UsageError
from kvtool.registry import load_object
from kvtool.types import GridSpan, Kind, Sample

if TYPE_CHECKING:
    from kvtool.store.stored_run import StoredRun

Numbers = int | slice | Sequence[int]
"""One number, a slice, or several numbers in the order that is meant."""
Tokens = Numbers | Mapping[str, Numbers]
"""The same tokens of every image, or those of each image by its id."""
Indices = NDArray[np.int64]
COLUMNS = ("image", "token", "row", "col", "x_px", "y_px", "grid")
FRAME_COLUMN = "frame"
"""Of runs over videos: the first frame that a token shows; -1 for one that shows none."""


@dataclass(frozen=True)
class TokenChoice:
    """The tokens that are meant of every image; all of them where nothing is chosen.

    Args:
        tokens: indices among the image's tokens, or a slice of them; for each image by its id,
            where they differ: an image that is not there has none.
        rows, cols: rows and columns of the base grid; one that is None means all of them. The
            tokens come row by row.
        frame: of a video, the frame whose grid is meant in place of the base grid.
    """

    tokens: Tokens | None = None
    rows: Numbers | None = None
    cols: Numbers | None = None
    frame: int | None = None

    def __post_init__(self) -> None:
        """Raise UsageError where both kinds of choice are given."""
        if self.tokens is not None and not self._is_whole_grid:
            raise UsageError(
                "tokens: expected either tokens or rows and cols (and frame), found both"
            )

    @property
    def is_all(self) -> bool:
        """Whether every token is meant."""
        return self.tokens is None and self._is_whole_grid

    @property
    def _is_whole_grid(self) -> bool:
        return self.rows is None and self.cols is None and self.frame is None

    def indices(self, sample: Sample, kind: Kind) -> Indices:
        """Return the (token,) indices that are meant of one image.

        Raises UsageError where the image has no such token, row or column; slices end where the
        image does.
        """
        n_tokens = sample.count_tokens(kind)
        if self.is_all:
            return np.arange(n_tokens)
        if isinstance(self.tokens, Mapping):
            return _numbers(self.tokens.get(sample.id, ()), n_tokens, sample, "token")
        if self.tokens is not None:
            return _numbers(self.tokens, n_tokens, sample, "token")
        # The grid is spanned by every pair of a chosen row and a chosen column.
        span = sample.base(kind) if self.frame is None else sample.grid_at(self.frame, kind)
        rows = _numbers(_or_all(self.rows), span.grid[0], sample, "row")
        cols = _numbers(_or_all(self.cols), span.grid[1], sample, "col")
        # A row may be longer than the grid is wide, by a newline token.
        return (span.start + rows[:, None] * span.row_stride + cols).reshape(-1)


ALL_TOKENS = TokenChoice()
CLASS_TOKENS = "kvtool.features.classes:class_tokens"
"""What knows the tokens of a class: by name, since it reads data sets and runs, and stands on
them."""


def choose(
    run: StoredRun,
    kind: Kind,
    ids: Sequence[str] | None,
    choice: TokenChoice,
    category: str | None,
    data: str | Path | None,
) -> tuple[Sequence[str] | None, TokenChoice]:
    """Return the images and the tokens that are meant, those of a class too, see StoredRun.read.

    Raises UsageError.
    """
    if category is not None:
        if not choice.is_all:
            raise UsageError("category: expected no tokens, rows or cols beside it, found some")
        # A class has other tokens in each image, and images without it have none.
        choice = TokenChoice(load_object(CLASS_TOKENS)(run, category, kind, ids, data))
    if ids is None and isinstance(choice.tokens, Mapping):
        ids = [image for image in run.ids if image in choice.tokens]
    return ids, choice


def consecutive(indices: Indices) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) of each stretch of indices that follow each other."""
    # A stretch ends where the next index is not one larger; order and repetition are kept.
    ends = np.flatnonzero(np.diff(indices) != 1) + 1
    for stretch in np.split(indices, ends):
        if len(stretch):
            yield int(stretch[0]), int(stretch[-1]) + 1


def token_table(samples: Sequence[Sample], kind: Kind, choice: TokenChoice) -> Any:
    """Return one row for each chosen token of the images, in the order in which `read` gives their
    vectors.

    The columns are COLUMNS: the image's id, the token's index in the image, its row and column on
    the grid, the center of its cell in pixels of the original image, and the grid ("base" or
    "tiles"). A token on no grid, such as a newline, has row and col -1, NaN pixels and an empty
    grid. Of videos the grid is "frame", and FRAME_COLUMN says which.

    The table is a pandas.DataFrame where pandas is installed, else a structured NumPy array with
    these fields.
    """
    choices = [choice.indices(sample, kind) for sample in samples]
    counts = [len(indices) for indices in choices]
    ids = np.array([sample.id for sample in samples], dtype=np.str_)
    locations = [
        _places(sample, kind)[indices] for sample, indices in zip(samples, choices, strict=True)
    ]
    # One column more where there are videos, and then for all images of the table.
    has_frames = any(sample.frames for sample in samples)
    names = (*COLUMNS, FRAME_COLUMN) if has_frames else COLUMNS
    fields = {"image": ids.dtype, **{name: _LOCATION[name] for name in names[1:]}}
    table = np.zeros(sum(counts), list(fields.items()))
    table["image"] = np.repeat(ids, counts)
    if locations:
        joined = np.concatenate(locations)
        for name in names[1:]:
            table[name] = joined[name]
    return _as_frame(table)


_LOCATION = np.dtype(
    [
        ("token", "<i8"),
        ("row", "<i8"),
        ("col", "<i8"),
        ("x_px", "<f8"),
        ("y_px", "<f8"),
        ("grid", "<U5"),
        (FRAME_COLUMN, "<i8"),
    ]
)


def _places(sample: Sample, kind: Kind) -> NDArray[Any]:
    """Return the (token,) records of where each token of an image lies."""
    locations = np.zeros(sample.count_tokens(kind), _LOCATION)
    locations["token"] = np.arange(len(locations))
    # Tokens of no grid, such as newlines, lie nowhere.
    for name, nowhere in (
        *(("row", -1), ("col", -1), ("x_px", np.nan), ("y_px", np.nan)),
        (FRAME_COLUMN, -1),
    ):
        locations[name] = nowhere
    for span in sample.spans_of(kind):
        _place_span(locations, span)
    return locations


def _place_span(table: NDArray[Any], span: GridSpan) -> None:
    """Fill in the records of one grid's tokens."""
    rows, cols = np.indices(span.grid).reshape(2, -1)
    # A row may be longer than the grid is wide: a newline token ends it, which lies nowhere.
    tokens = span.start + rows * span.row_stride + cols
    center_px: Any = span.centre_px  # works on arrays as it does on numbers
    x_px, y_px = center_px(rows, cols)
    for name, values in (("row", rows), ("col", cols), ("x_px", x_px), ("y_px", y_px)):
        table[name][tokens] = values
    table["grid"][tokens] = span.name
    if span.frames:
        table[FRAME_COLUMN][tokens] = span.frames[0]


def _as_frame(table: NDArray[Any]) -> Any:
    """Return a structured array as a DataFrame where pandas is installed, else as it is."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        return table
    return pandas.DataFrame({name: table[name] for name in table.dtype.names or ()})


def _or_all(numbers: Numbers | None) -> Numbers:
    return slice(None) if numbers is None else numbers


def _numbers(numbers: Numbers, count: int, sample: Sample, what: str) -> Indices:
    """Return the numbers that are meant of 0 to count - 1. Raises UsageError for one outside."""
    if isinstance(numbers, slice):
        return np.arange(count)[numbers]
    indices = np.atleast_1d(np.asarray(numbers))
    # An empty list is an array of floats to NumPy, and still chooses nothing.
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise UsageError(f"{what}s: expected whole numbers or a slice, found {numbers!r}")
    outside = indices[(indices < 0) | (indices >= count)]
    if outside.size:
        raise UsageError(f"image {sample.id}: no {what} {outside[0]}: expected 0 to {count - 1}")
    return indices.astype(np.int64)
