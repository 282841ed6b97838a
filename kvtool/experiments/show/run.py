"""`kvtool show`: pictures of what a run holds of some images, and of what a block predicts of them,
as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kvtool.bounds import checked
from kvtool.display import Displayed, Facts, listing
from kvtool.errors import UsageError
from kvtool.layers import LayerChoice
from kvtool.pictures.components import BOTTOM_PX, TOP_PX, Head, Sheet, draw_sheets
from kvtool.pictures.files import check_images, checked_png, frames_of, pictures_of, write_png
from kvtool.progress import Progress, called
from kvtool.result import Row
from kvtool.store import Run
from kvtool.store.kept import kept_results
from kvtool.store.select import Target, select_run
from kvtool.types import VIDEO, Block, Kind

LIMIT = 12
"""Sampling units on a sheet."""
BESIDE_PX = (420, 240)
"""The most width that the original picture has beside its maps, and the least height that it has
room for."""


@dataclass(frozen=True, repr=False)
class Shown(Displayed):
    """A picture that was written.

    Args:
        path: its file.
        what: the task, or "pca".
        run: the name of the run.
        kind: the kind of vectors.
        block: the block of the task.
        images: ids.
        wh_px: width and height of the file.
        notes: notes for the user.
    """

    path: Path
    what: str
    run: str
    kind: Kind
    block: Block | None
    images: tuple[str, ...]
    wh_px: tuple[int, int]
    notes: tuple[str, ...] = ()

    def _title(self) -> str:
        return f"Picture {self.path}"

    def _facts(self) -> Facts:
        block = self.block
        return {
            "what": self.what,
            "run": self.run,
            "kind": self.kind,
            "block": block and f"layer {block.layer}, kv_head {block.kv_head}",
            "images": f"{len(self.images)}: {listing(self.images)}",
            "pixels": "{} x {}".format(*self.wh_px),
            "notes": f"{len(self.notes)}: {listing(self.notes)}" if self.notes else None,
        }

    def row(self) -> Row:
        """Return the picture as a row."""
        layer, kv_head = (
            (None, None) if self.block is None else (self.block.layer, self.block.kv_head)
        )
        labels = {"run": self.run, "kind": self.kind, "layer": layer, "kv_head": kv_head}
        return {"path": str(self.path), "what": self.what, **labels, "images": list(self.images)}


@checked
def show(
    target: Target,
    images: str | Sequence[str],
    out: str | Path,
    *,
    task: str | None = None,
    block: Block | None = None,
    kind: Kind | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    limit: int = LIMIT,
    data: str | Path | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> Shown:
    """Write one PNG about some images of a run, without loading the model.

    Without a task: the first three principal components of every block as colors, layers across and
    heads down, each image's picture beside (left out where the data set is gone). With a task: what
    a block predicts of the images, exactly as the probe scores it; where no probe is stored and no
    block named, the task is probed first. Of one image of SPair-71k all pairs are drawn, of several
    those among them; a frame of DAVIS brings its sequence's first one, a sequence's name all its
    frames. Of a run over videos the images are frames, or videos for all of theirs.

    An existing file is replaced. Raises UsageError for an image, a task or a block that the run
    does not have, KvtoolError where the data set or the file's folder cannot be used.

    Args:
        target: the run, or the store that holds it.
        images: one id or several.
        out: the file, whose name ends in .png.
        task: a task; its options are those of the widest stored probe, else the defaults.
        block: with a task, by default the best block of the widest stored probe.
        kind: without a task, by default value, else what is stored.
        layers: without a task, some of the stored layers.
        heads: without a task, some of the heads.
        limit: with a task, the most sampling units (sentences, episodes, pairs, frames), evenly
            chosen.
        data: the place of the run's data set, if it moved.
        device: the device of a task.
        progress: called with (blocks done, note), and once with their number; True shows a bar.
    """
    run = select_run(target)
    ids = tuple(dict.fromkeys([images] if isinstance(images, str) else images))
    path = checked_png(out, "show: -o")
    if not ids:
        raise UsageError("show: expected an image or more (--image), found none")
    if task is None:
        if block is not None:
            raise UsageError(
                "show: --block is of a task: give --task too, or choose maps with --layers and "
                "--heads"
            )
        sheet, kind, notes = _components(run, ids, kind, layers, heads, data)
    else:
        if kind is not None or layers is not None or heads is not None:
            raise UsageError(
                "show: --kind, --layers and --heads are of the maps without --task: give --block "
                "instead"
            )
        from kvtool.experiments.show.predictions import predictions

        sheet, block, notes = predictions(
            run, ids, task, block, limit, data, device, called(progress)
        )
        kind = block.kind
    write_png(sheet, path, "show: -o")
    return Shown(path, task or "pca", run.name, kind, block, ids, sheet.size, notes)


def _components(
    run: Run,
    ids: tuple[str, ...],
    kind: Kind | None,
    layers: LayerChoice | None,
    heads: Sequence[int] | None,
    data: str | Path | None,
) -> tuple[Image.Image, Kind, tuple[str, ...]]:
    """Return the maps of all images, one image below the other, their kind, and notes."""
    from kvtool.tasks.blocks import plan_blocks

    if run.config.view == VIDEO:
        ids = frames_of(run, ids)
    check_images(run, ids, "show")
    default: Kind = "value" if "value" in run.config.kinds else run.config.kinds[0]
    kind = kind or default
    plan = plan_blocks(run, [kind], layers, heads)
    # Input-agnostic blocks are framed: their maps show no picture.
    sheets = draw_sheets(run, kind, ids, known_agnostic(run, kind), plan.layers, plan.heads)
    pictures, notes = pictures_of(run, ids, data)
    small = {image: scaled(picture, sheets[image]) for image, picture in pictures.items()}
    # Maps of all images begin at one column, beside the widest picture.
    left_px = max((16 + picture.width for picture in small.values()), default=0)
    return stack([beside(small.get(image), sheets[image], left_px) for image in ids]), kind, notes


def known_agnostic(run: Run, kind: Kind) -> set[Head] | None:
    """Return the input-agnostic blocks by the last variance result of the run in its store; None
    without one."""
    # The newest result comes first.
    for result in kept_results(run, "variance"):
        if result.config.get("kind") == kind:
            return {
                (row["layer"], row["kv_head"]) for row in result.rows if row.get("input_agnostic")
            }
    return None


def scaled(picture: Image.Image, sheet: Sheet) -> Image.Image:
    """Return the picture as large as there is room beside an image's maps."""
    room = BESIDE_PX[0], max(BESIDE_PX[1], sheet.picture.height - TOP_PX - BOTTOM_PX)
    scale = min(side / have for side, have in zip(room, picture.size, strict=True))
    return picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
    )


def beside(picture: Image.Image | None, sheet: Sheet, left_px: int) -> Image.Image:
    """Put a picture at the left of its maps, which begin at left_px."""
    maps = sheet.picture
    # The taller of both sets the height.
    below = 0 if picture is None else TOP_PX + picture.height + BOTTOM_PX
    sheet_image = Image.new("RGB", (left_px + maps.width, max(maps.height, below)), "white")
    sheet_image.paste(maps, (left_px, 0))
    if picture is not None:
        sheet_image.paste(picture, (8, TOP_PX))
    return sheet_image


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures one below the other, left edges level."""
    height = sum(picture.height for picture in pictures)
    sheet_image = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
    y = 0
    for picture in pictures:
        sheet_image.paste(picture, (0, y))
        y += picture.height
    return sheet_image
