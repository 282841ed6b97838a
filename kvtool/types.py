"""Plain data that every part of kvtool shares.

No torch, no transformers, no zarr.

Glossary: layer, q_head, kv_head are 0-based; kv_head = q_head // group. `grid` is (rows, cols).
Pixels are those of the original image after EXIF rotation, x to the right, y down, and (0, 0) is
the upper left corner of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from kvtool.display import Displayed, Facts, listing
from kvtool.geometry import Geometry as Geometry

VectorKind = Literal["key", "value", "projected", "vision", "hidden"]
Kind = Literal[VectorKind, "saliency"]
VECTOR_KINDS: tuple[Kind, ...] = get_args(VectorKind)
"""Kinds of vectors, which measures compare."""
HIDDEN: Kind = "hidden"
"""The residual stream after a decoder layer: held where it is asked for."""
KINDS: tuple[Kind, ...] = tuple(kind for kind in VECTOR_KINDS if kind != HIDDEN)
"""Kinds of vectors that runs hold by default."""
SALIENCY: Kind = "saliency"
"""One number a patch, the tower's attention to it: held where it is asked for."""
TOWER_KINDS: tuple[Kind, ...] = ("vision", SALIENCY)
"""Kinds whose tokens are the tower's patches, not those that the decoder gets."""
BEFORE_DECODER: tuple[Kind, ...] = ("projected", "vision")
"""Kinds that the text before an image does not change."""
View = Literal["base", "full"]
KeyPosition = Literal["post-rope", "pre-rope"]
Precision = Literal["bfloat16", "float16", "float32"]
Backend = Literal["auto", "faiss-gpu", "faiss-cpu", "torch", "numpy"]
"""What finds nearest neighbors; numpy is the slow, obvious one that the others are compared with.
"""

BASE, TILES, NEWLINE = 0, 1, 2
"""Marks of image tokens, see Sample.token_marks."""


@dataclass(frozen=True, order=True)
class Block:
    """One (kind, layer, kv_head): the unit every probe and analysis scores."""

    kind: Kind
    layer: int
    kv_head: int


@dataclass(frozen=True)
class GridSpan:
    """A rectangular grid of tokens within one image's tokens, and the pixels it covers.

    Attributes:
        name: "base" (the whole image at the tower's size; each view has one such grid, which may
            stand after the others) or "tiles" (the high resolution part of the full view, in one
            grid or one a tile).
        start: index of the grid's first token among the image's tokens. Tokens that are of no grid
            may stand between two of them.
        row_stride: tokens from one row to the next: cols, or cols + 1 where a newline token ends
            each row.
        cover_xyxy_px: the rectangle of the original image that the grid covers; it reaches beyond
            the image where the model pads and stays inside where it crops.
    """

    name: Literal["base", "tiles"]
    start: int
    grid: tuple[int, int]
    row_stride: int
    cover_xyxy_px: tuple[float, float, float, float]

    def cell_at(self, x_px: float, y_px: float) -> tuple[int, int]:
        """Return the (row, col) of the cell that holds a pixel position; positions outside go to
        the nearest cell.
        """
        x0, y0, x1, y1 = self.cover_xyxy_px
        rows, cols = self.grid
        col = int((x_px - x0) / (x1 - x0) * cols // 1)
        row = int((y_px - y0) / (y1 - y0) * rows // 1)
        return min(max(row, 0), rows - 1), min(max(col, 0), cols - 1)

    def covers(self, x_px: float, y_px: float) -> bool:
        """Tell whether a pixel position lies inside the grid's cover."""
        x0, y0, x1, y1 = self.cover_xyxy_px
        return x0 <= x_px < x1 and y0 <= y_px < y1

    def token_at(self, x_px: float, y_px: float) -> int:
        """Index, among the image's tokens, of the token over a pixel position."""
        row, col = self.cell_at(x_px, y_px)
        return self.start + row * self.row_stride + col

    def centre_px(self, row: int, col: int) -> tuple[float, float]:
        """Return the (x, y) of the center of a cell in pixels of the original image."""
        x0, y0, x1, y1 = self.cover_xyxy_px
        rows, cols = self.grid
        return x0 + (col + 0.5) * (x1 - x0) / cols, y0 + (row + 0.5) * (y1 - y0) / rows

    def token_indices(self) -> list[int]:
        """Return the indices of the grid's tokens in row-major order, newline tokens left out."""
        rows, cols = self.grid
        return [self.start + r * self.row_stride + c for r in range(rows) for c in range(cols)]


@dataclass(frozen=True, repr=False)
class Sample(Displayed):
    """What a part records of one image: enough to place every stored token on the image and in the
    prompt.

    Attributes:
        image_start: position in the prompt of the first image token, equal to the number of
            prefix tokens.
        next_position: rotary position of the token that follows the image (Qwen's 3-D positions
            make it smaller than image_start + n_tokens).
        digest: of the bytes of the picture's file (kvtool.digests), empty where it is not known.
        stamp: size, modification time, change time (ns) and inode of that file, for the quick
            look; of pictures inside a larger file, that file's. Empty where it is not known.
    """

    id: str
    index: int
    image_wh_px: tuple[int, int]
    n_tokens: int
    spans: tuple[GridSpan, ...]
    n_vision_tokens: int
    vision_spans: tuple[GridSpan, ...]
    prefix: str
    prefix_ids: tuple[int, ...]
    image_start: int
    next_position: int
    digest: str = ""
    stamp: tuple[int, ...] = ()

    def base(self, kind: Kind = "value") -> GridSpan:
        """Return the base grid of a kind, wherever it stands among the others; the tower's may be
        finer than the decoder's.
        """
        return next(span for span in self.spans_of(kind) if span.name == "base")

    def spans_of(self, kind: Kind) -> tuple[GridSpan, ...]:
        """Return the grids of a kind's tokens."""
        return self.vision_spans if kind in TOWER_KINDS else self.spans

    def count_tokens(self, kind: Kind) -> int:
        """Return how many tokens of a kind are stored."""
        return self.n_vision_tokens if kind in TOWER_KINDS else self.n_tokens

    def _title(self) -> str:
        return f"Sample {self.id}"

    def _facts(self) -> Facts:
        grids = [f"{span.name} {span.grid[0]} x {span.grid[1]}" for span in self.spans]
        return {
            "index": self.index,
            "pixels": "{} x {}".format(*self.image_wh_px),
            "tokens": f"{self.n_tokens} ({listing(grids)})",
            "vision tokens": self.n_vision_tokens,
            "text before it": f"{len(self.prefix_ids)} tokens: {self.prefix}",
            "digest": self.digest or "not known",
        }

    def token_marks(self) -> list[int]:
        """BASE, TILES or NEWLINE for each of the image's n_tokens tokens."""
        marks = [NEWLINE] * self.n_tokens
        for span in self.spans:
            for token in span.token_indices():
                marks[token] = BASE if span.name == "base" else TILES
        return marks

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        from dataclasses import asdict

        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Sample:
        """Return the inverse of to_json, after a trip through JSON (lists become tuples again)."""

        def span(s: dict[str, Any]) -> GridSpan:
            """Return a grid from its JSON."""
            return GridSpan(
                **{**s, "grid": tuple(s["grid"]), "cover_xyxy_px": tuple(s["cover_xyxy_px"])}
            )

        width, height = record["image_wh_px"]
        return cls(
            **{
                **record,
                "image_wh_px": (width, height),
                "spans": tuple(map(span, record["spans"])),
                "vision_spans": tuple(map(span, record["vision_spans"])),
                "prefix_ids": tuple(record["prefix_ids"]),
                "stamp": tuple(record.get("stamp", ())),
            }
        )


@dataclass(frozen=True)
class InputSize:
    """To what size pictures are brought before a tower sees them, where that is not the
    checkpoint's own way.

    image_size: "384" for a square of that side, "480x832" (height x width), or "short:480" for that
        shorter side and the picture's own aspect ratio; empty leaves it to the checkpoint.
    min_pixels, max_pixels: bounds of the area of a family that keeps the aspect ratio; 0 leaves
        the checkpoint's.
    """

    image_size: str = ""
    min_pixels: int = 0
    max_pixels: int = 0

    @property
    def given(self) -> list[str]:
        """The options that are not left to the checkpoint."""
        return [name for name, value in vars(self).items() if value]


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model is, recorded with every run.

    Attributes:
        name: as it was asked for: a hub id, a folder or a shipped model. No part of the identity.
        revision: a digest of the weights and files that are read
            (kvtool.models.files.folder_revision), wherever they lie; empty for a model whose
            weights are not here, which is known by its commit alone.
        template: a digest of the chat template that lays out its prompts; empty for an encoder
            alone.
        commit: the hub's commit, where it is known. No part of the identity.
        quantization: how its weights are quantized, in a few words; empty where they are not. No
            part of the identity, since the revision covers it.
    """

    name: str
    revision: str
    family: str
    geometry: Geometry
    dtype: Precision
    attention: str
    template: str = ""
    commit: str | None = None
    quantization: str = ""
