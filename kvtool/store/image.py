"""One image of a run: where its tokens lie, and its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvtool.display import Displayed, Facts
from kvtool.store.encoding import Bits
from kvtool.store.tokens import Numbers, TokenChoice, token_table
from kvtool.types import Kind, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvtool.store.stored_run import StoredRun


@dataclass(frozen=True, repr=False)
class RunImage(Displayed):
    """One image that a run holds, as `run["id"]` and `run.image("id")` give it.

    Its arrays are read on demand.
    """

    run: StoredRun
    sample: Sample

    @property
    def id(self) -> str:
        """The image's id in its data set."""
        return self.sample.id

    @property
    def grid(self) -> tuple[int, int]:
        """The (rows, cols) of the base view's tokens, or of each grid of a video."""
        return self.sample.grid

    @property
    def wh_px(self) -> tuple[int, int]:
        """The width and height of the original image in pixels."""
        return self.sample.image_wh_px

    def __len__(self) -> int:
        """Return how many tokens the decoder gets of the image."""
        return self.sample.n_tokens

    def read(
        self,
        kind: Kind,
        layer: int | Sequence[int],
        kv_head: int | Sequence[int] = 0,
        *,
        tokens: Numbers | None = None,
        rows: Numbers | None = None,
        cols: Numbers | None = None,
        frame: int | None = None,
        raw: bool = False,
    ) -> Bits:
        """Return the image's vectors (token, dim), with an axis in front for layers and heads, as
        Run.read does.
        """
        return self.run.read(
            kind, layer, kv_head, [self.id], raw, tokens=tokens, rows=rows, cols=cols, frame=frame
        ).values

    def tokens(
        self,
        kind: Kind = "value",
        *,
        tokens: Numbers | None = None,
        rows: Numbers | None = None,
        cols: Numbers | None = None,
        frame: int | None = None,
    ) -> Any:
        """Return the table of the image's tokens, as Run.tokens does."""
        return token_table([self.sample], kind, TokenChoice(tokens, rows, cols, frame))

    def _title(self) -> str:
        return f"Image {self.id}"

    def _facts(self) -> Facts:
        grid = "each grid" if self.sample.frames else "base grid"
        rows, cols = self.grid
        width, height = self.wh_px
        return {
            "run": self.run.name,
            "pixels": f"{width} x {height}",
            "frames": len(self.sample.frames) or None,
            "tokens": f"{self.sample.n_tokens}, {grid} {rows} x {cols}",
            "text before it": self.sample.prefix or "none",
        }
