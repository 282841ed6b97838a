"""The layout of DAVIS-2017: frames, annotations, and lists of the sequences.

    JPEGImages/480p/<sequence>/%05d.jpg
    Annotations/480p/<sequence>/%05d.png
    ImageSets/2017/{train,val}.txt

The folders are called 480p as in DAVIS, whatever the size of the frames. Annotations are indexed
PNGs; object ids are 1, 2, ... and all are seen in the first frame.
"""

from __future__ import annotations

from pathlib import Path

from kvtool.demo.draw import Rendered, render, visible_enough
from kvtool.demo.layouts.files import Size, save_jpeg, save_labels, save_text, stream
from kvtool.demo.world import Scene, sample_motion

PLAN: dict[Size, dict[str, tuple[int, int]]] = {
    "small": {"train": (1, 8), "val": (3, 14)},
    "medium": {"train": (2, 16), "val": (10, 24)},
    "large": {"train": (10, 40), "val": (30, 60)},
}
"""The number of sequences of each split, and of frames of each sequence."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    n_images = 0
    for split, (n_sequences, n_frames) in PLAN[size].items():
        names = []
        for index in range(n_sequences):
            scenes, drawings = draw_sequence(seed, split, index, n_frames)
            objects = [thing.category for thing in scenes[0].things]
            name = "-".join([*objects, f"{split}{index:02d}"])
            names.append(name)
            for frame, drawing in enumerate(drawings):
                save_jpeg(folder / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg", drawing.image)
                save_labels(
                    folder / "Annotations" / "480p" / name / f"{frame:05d}.png", drawing.thing_map
                )
            n_images += n_frames
        save_text(
            folder / "ImageSets" / "2017" / f"{split}.txt",
            "".join(f"{name}\n" for name in sorted(names)),
        )
    return n_images


def draw_sequence(
    seed: int, split: str, index: int, n_frames: int
) -> tuple[list[Scene], list[Rendered]]:
    """Draw the scenes of a sequence whose things can all be seen in its first frame."""
    rng = stream(seed, "davis", split, index)
    height = int(rng.integers(112, 161))
    size_wh = (round(height * float(rng.uniform(1.15, 1.33))), height)
    while True:
        scenes = sample_motion(rng, n_frames=n_frames, size_wh=size_wh)
        first = render(scenes[0])
        if visible_enough(scenes[0], first):
            return scenes, [first, *(render(scene) for scene in scenes[1:])]
