"""The figures of docs/guides: `python -m tests.tools.guides STORE` draws them again.

STORE is the store of `kvtool demo`. Each is what `--plot` or `kvtool show` writes, in few colors.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

import kvtool
from kvtool.reporting.study import choose
from kvtool.store.keeping import results
from tests.tools.readme import FIGURES, MODEL, draw

FIGURE_OF = {
    ("knockout", "mme"): "knockout",
    ("prefix", "semantic-correspondence"): "prefix",
    ("average", None): "average",
    ("lens", None): "lens",
    ("attend", None): "attend",
    ("surface", "semantic-correspondence"): "surface",
}
"""Names of the figures, by command and task."""
PICTURES = ("components", "prediction")
DATASET, TASK = "spair71k", "semantic-correspondence"
"""The data set and the task of the pictures that `kvtool show` writes."""


def draw_results(store: Path) -> None:
    """Draw the figure of each command's result over the demo model."""
    for stored in choose(("demo", record) for record in results(store)):
        result = stored.result
        if result.config.get("model") not in (MODEL, None):
            continue
        if name := FIGURE_OF.get((result.command, result.task)):
            draw(result, FIGURES / f"{name}.png")


def draw_pictures(store: Path) -> None:
    """Write what `kvtool show` writes: components, and keypoints that a block finds."""
    runs = kvtool.open(store)
    run = runs[next(name for name in runs if name.startswith(f"{MODEL}-{DATASET}-"))]
    ids = list(run)
    with tempfile.TemporaryDirectory() as folder:
        components, prediction = (Path(folder) / f"{name}.png" for name in PICTURES)
        kvtool.show(run, ids[:1], components)
        kvtool.show(run, ids[:2], prediction, task=TASK)
        for path in (components, prediction):
            with Image.open(path) as image:
                image.thumbnail((900, 900))
                image.convert("RGB").quantize(64).save(FIGURES / path.name, optimize=True)


def main(store: Path) -> int:
    """Draw all figures of the guides, and return the exit code."""
    draw_results(store)
    draw_pictures(store)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
