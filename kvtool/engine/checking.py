"""`kvtool.check_model`: whether a model works here, as an extraction proves it first."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kvtool.bounds import checked
from kvtool.datasets.clips import load_clip
from kvtool.datasets.images import load_image
from kvtool.datasets.records import ImageRef, VideoRef
from kvtool.errors import ImageError
from kvtool.models import load_model
from kvtool.progress import Progress, called
from kvtool.types import Precision

if TYPE_CHECKING:
    from kvtool.engine.plan import Plan
    from kvtool.models.cells import Stimulus
    from kvtool.models.outcome import ModelCheck

COLORS = (16, 24)
"""Rows and columns of the picture of a check without one."""
COLOR_PX = 20
SHORT_PX = 320
"""Shortest side of a picture of random colors on which a model is proven."""
MOST_LONG = 4
"""The longer side of such a picture is at most so many times the shorter one."""
PROVEN_FRAMES = 4
"""Frames of a video on which a model is proven: two grids of tokens."""


@checked
def check_model(
    model: str,
    *,
    picture: str | PathLike[str] | Image.Image | None = None,
    device: str = "auto",
    dtype: Precision = "bfloat16",
    attention: str = "sdpa",
    progress: Progress | bool | None = None,
) -> tuple[ModelCheck, ...]:
    """Check that a model works here, in every view that it has, and on a video made of the picture
    where it takes videos.

    Changed cells of the picture must change the tokens that the map from pixels to tokens names;
    image keys and values must be those of the whole prompt, the same under two questions and in a
    batch; logits after a cache restored from stored arrays must be the whole prompt's; and where no
    head sees the picture, it must change nothing. Of an encoder alone the map, a batch and its last
    layer beside what its class gives are compared.

    Args:
        model: A hub id, a folder, or a shipped model.
        picture: A file or a picture that is not square; by default one of random colors.
        device: auto, cpu, cuda or cuda:N.
        dtype: The precision of the weights.
        attention: The attention of transformers, e.g. sdpa or eager.
        progress: Called with (checks done, note); True shows a bar.

    Returns one result a check and view. Raises KvtoolError where the model or the picture cannot be
    loaded.
    """
    from kvtool.models.check import check_views
    from kvtool.models.device import chosen_name

    # Random colors make the grid's cells differ from each other, as no plain picture does.
    image = colors() if picture is None else _opened(picture)
    loaded: Any = load_model(model, device=chosen_name(device), dtype=dtype, attention=attention)
    advance = called(progress)
    outcomes: list[ModelCheck] = []
    for outcome in check_views(loaded, image):
        outcomes.append(outcome)
        advance(1, outcome.check)
    return tuple(outcomes)


def colors(wh_px: tuple[int, int] = (COLORS[1] * COLOR_PX, COLORS[0] * COLOR_PX)) -> Image.Image:
    """Return a picture of random colors in rectangles, by default one that is not square."""
    rectangles = np.random.default_rng(0).integers(0, 256, (*COLORS, 3), dtype=np.uint8)
    return Image.fromarray(rectangles).resize(wh_px, Image.Resampling.NEAREST)


def colors_like(stimulus: Stimulus) -> Stimulus:
    """Return random colors of a picture's size, or a video of them.

    A picture whose shorter side has under SHORT_PX is enlarged to it, in which cells are larger
    than what resampling spreads; the longer side is cut to MOST_LONG times the shorter one.
    """
    from kvtool.models.check import turned

    if not isinstance(stimulus, Image.Image):
        return turned(_colors_of(stimulus[0].size))[: len(stimulus)]
    return _colors_of(stimulus.size)


def _colors_of(wh_px: tuple[int, int]) -> Image.Image:
    shorter = min(wh_px)
    # Both bounds keep the aspect ratio where they can: it decides the grid of tokens.
    scale = max(1.0, SHORT_PX / shorter)
    longest = round(MOST_LONG * shorter * scale)
    width, height = (min(round(side * scale), longest) for side in wh_px)
    return colors((width, height))


def _opened(picture: str | PathLike[str] | Image.Image) -> Image.Image:
    """Return a picture in RGB. Raises ImageError."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    path = Path(fspath(picture))
    return load_image(ImageRef(path.name, path))


def prove_first(plan: Plan, model: Any) -> None:
    """Prove a model on the first picture of a plan that can be read, see kvtool.models.check.prove.

    A true map may fail on it: where the picture has fewer pixels than the grid has cells,
    resampling spreads a changed cell over its neighbors, and a gray cell inverted is as gray. What
    fails there must therefore hold on random colors of the picture's size, enlarged where that is
    small. Raises ModelError. Where no picture can be read, or memory does not hold it, nothing is
    proven.
    """
    from torch import OutOfMemoryError

    from kvtool.models.cells import prepare_stimulus
    from kvtool.models.check import prove

    for index in plan.indices:
        ref = plan.ref(index)
        try:
            stimulus = stimulus_of(ref)
            prepare_stimulus(model, stimulus, plan.config.view)
        except ImageError:
            continue
        # A picture without room is the extraction's to name.
        with suppress(OutOfMemoryError):
            prove(model, stimulus, plan.config.view, plan.config.kinds, colors_like(stimulus))
        return


def stimulus_of(ref: ImageRef) -> Stimulus:
    """Return a picture, or the first frames of a video. Raises ImageError."""
    if isinstance(ref, VideoRef):
        return load_clip(ref).pictures[:PROVEN_FRAMES]
    return load_image(ref)
