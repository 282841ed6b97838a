"""The embedded world as a data set: `scenes@LAYOUT` draws it on first use, then the layout's own
loader reads it.
"""

from __future__ import annotations

from pathlib import Path

from kvtool import digests
from kvtool.datasets.base import About, DatasetBase


def cache_folder() -> Path:
    """Return where scenes without a path go: `scenes` below the user's cache folder."""
    return digests.cache_folder() / "scenes"


class Scenes:
    """Opens one of the layouts that `kvtool data scenes` writes (small, seed 0), writing it where
    it is missing.

    A run over it names the layout's data set and folder, so nothing later needs to know that it was
    drawn.
    """

    about = About(
        name="scenes",
        title="the embedded world, drawn on first use",
        tasks=(),
        splits=(
            "coco",
            "spair71k",
            "pascal5i",
            "msrc",
            "imagenet-s",
            "refcoco",
            "davis",
            "bdd10k",
            "pope",
            "mme",
        ),
        layout=(
            "none: written to $KVTOOL_CACHE, ~/.cache/kvtool, or PATH; the split names the layout",
        ),
        source="kvtool data scenes",
        licence="that of kvtool",
    )

    def __call__(self, root: Path | None, split: str | None = None) -> DatasetBase:
        from kvtool.datasets import Spec, open_dataset
        from kvtool.demo.layouts import write_scenes

        layout, folder = split or self.about.splits[0], root or cache_folder()
        write_scenes(folder, only=[layout])
        return open_dataset(Spec(layout, str(folder / layout)))


scenes = Scenes()
