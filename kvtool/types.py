"""Plain data that every part of kvtool shares.

No torch, no transformers, no zarr.

Glossary: layer, q_head, kv_head are 0-based; kv_head = q_head // group. `grid` is (rows, cols).
Pixels are those of the original image after EXIF rotation, x to the right, y down, and (0, 0) is
the upper left corner of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from kvtool.display import Displayed, Facts, listing
from kvtool.errors import UsageError
from kvtool.geometry import Geometry as Geometry
from kvtool.spans import Frame as Frame
from kvtool.spans import GridSpan as GridSpan

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
"""What a model is given of one picture."""
RunView = Literal[View, "video"]
"""What it is given in a run: pictures one by one, or the frames of a video in one context."""
VIDEO: RunView = "video"
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


@dataclass(frozen=True, repr=False)
class Sample(Displayed):
    """What a part records of one image, or of one video: enough to place every stored token on the
    image and in the prompt.

    Attributes:
        image_start: position in the prompt of the first image token, equal to the number of
            prefix tokens.
        next_position: rotary position of the token that follows the image (Qwen's 3-D positions
            make it smaller than image_start + n_tokens).
        digest: of the bytes of the picture's file (kvtool.digests), empty where it is not known.
        stamp: size, modification time, change time (ns) and inode of that file, for the quick
            look; of pictures inside a larger file, that file's. Empty where it is not known, and
            of a video made of several files.
        frames: of a video, its frames in order; the grids name them by their index.
        frame_rate: of a video, how many of these frames it has in a second.
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
    frames: tuple[Frame, ...] = ()
    frame_rate: float = 0.0

    def base(self, kind: Kind = "value") -> GridSpan:
        """Return the base grid of a kind, wherever it stands among the others; the tower's may be
        finer than the decoder's.

        Raises UsageError for a video, which has a grid every few frames.
        """
        if self.frames:
            raise UsageError(
                f"{self.id}: expected a picture, found a video of {len(self.frames)} frames in one "
                "context, which only temporal-correspondence, show, read and tokens take; extract "
                "its frames one by one (--view base)"
            )
        return next(span for span in self.spans_of(kind) if span.name == "base")

    @property
    def grid(self) -> tuple[int, int]:
        """The (rows, cols) of the base grid, or of each grid of a video: they are alike."""
        return self.spans[0].grid if self.frames else self.base().grid

    def grid_at(self, frame: int, kind: Kind = "value") -> GridSpan:
        """Return the grid of a kind that shows a frame of a video. Raises UsageError without it."""
        if not 0 <= frame < len(self.frames):
            raise UsageError(
                f"{self.id}: expected a frame from 0 to {len(self.frames) - 1}, found {frame}"
                if self.frames
                else f"{self.id}: expected a video, found a picture, which has no frames"
            )
        return next(span for span in self.spans_of(kind) if frame in span.frames)

    def view(self, frame: int) -> Sample:
        """Return a frame of a video as a picture of its own, with the tokens that show it; frames
        that share tokens have the same index and `image_start`. Raises UsageError without it.
        """
        grids = [self.grid_at(frame, kind) for kind in ("value", "vision")]
        spans, vision_spans = ((replace(grid, name="base", start=0, frames=()),) for grid in grids)
        return replace(
            self,
            id=self.frames[frame].id,
            n_tokens=grids[0].grid[0] * grids[0].grid[1],
            spans=spans,
            n_vision_tokens=grids[1].grid[0] * grids[1].grid[1],
            vision_spans=vision_spans,
            image_start=self.image_start + grids[0].start,
            digest=self.frames[frame].digest,
            stamp=self.frames[frame].stamp,
            frames=(),
        )

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
            "frames": f"{len(self.frames)}, {self.frame_rate:g} a second" if self.frames else None,
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
                marks[token] = TILES if span.name == "tiles" else BASE
        return marks

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; those of videos alone only where there are frames."""
        from dataclasses import asdict

        record = asdict(self)
        if not self.frames:
            del record["frames"], record["frame_rate"]
            for span in (*record["spans"], *record["vision_spans"]):
                del span["frames"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Sample:
        """Return the inverse of to_json, after a trip through JSON (lists become tuples again)."""

        def span(s: dict[str, Any]) -> GridSpan:
            """Return a grid from its JSON."""
            lists = ("grid", "cover_xyxy_px", "frames")
            return GridSpan(**{**s, **{name: tuple(s[name]) for name in lists if name in s}})

        width, height = record["image_wh_px"]
        return cls(
            **{
                **record,
                "image_wh_px": (width, height),
                "spans": tuple(map(span, record["spans"])),
                "vision_spans": tuple(map(span, record["vision_spans"])),
                "prefix_ids": tuple(record["prefix_ids"]),
                "stamp": tuple(record.get("stamp", ())),
                "frames": tuple(
                    Frame(**{**frame, "stamp": tuple(frame["stamp"])})
                    for frame in record.get("frames", ())
                ),
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
