"""Episodes that few-shot segmentation scores: of all images, or of two halves that share none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kvtool.datasets.episodes import Entry, Episode
from kvtool.datasets.protocols import HasEpisodes
from kvtool.errors import DatasetError, UsageError
from kvtool.tasks.base import Array


def draw_episodes(
    dataset: HasEpisodes,
    count: int,
    shots: int,
    seed: int,
    entries: Sequence[Entry],
    select: str,
) -> tuple[list[Episode], Array | None]:
    """Episodes of some entries; for select "split" those of two halves of the images, which share
    neither queries nor supports, and which half (0 or 1) each is of.
    """
    if select != "split":
        return dataset.episodes(count, shots, seed, entries), None
    if count < 2:
        raise UsageError(f"--select split: expected two episodes or more, found {count}; use max")
    classes = {entry.image_id: entry.class_id for entry in entries}
    shuffled = np.random.default_rng(seed).permutation(list(classes)).tolist()
    # Every other image of a class, so that both halves have images of all.
    first = set(sorted(shuffled, key=lambda image: classes[image])[::2])
    episodes: list[Episode] = []
    # Each half draws from its own images, so that no support of one is a query of the other.
    for side, n in ((True, count // 2), (False, count - count // 2)):
        members = [entry for entry in entries if (entry.image_id in first) == side]
        try:
            half = dataset.episodes(n, shots, seed, members)
        except DatasetError as error:
            raise DatasetError(
                f"{error}; --select split draws them from half of the images: use max"
            ) from None
        # Episodes are numbered through both halves.
        episodes += [replace(new, index=len(episodes) + new.index) for new in half]
    return episodes, np.arange(count) // max(1, count // 2) > 0


def classes_without(
    dataset: HasEpisodes,
    entries: Sequence[Entry],
    episodes: Sequence[Episode],
    lines: Sequence[str],
) -> list[str]:
    """A line that names the classes that entries have and no episode is of, but those that `lines`
    name.
    """
    scored = {episode.class_id for episode in episodes}
    absent = sorted({entry.class_id for entry in entries} - scored)
    names = [dataset.name_of_class(class_id) for class_id in absent]
    unnamed = [name for name in names if not any(line.endswith(f" {name}") for line in lines)]
    return [f"no episode is of {', '.join(unnamed)}: no score counts them"] if unnamed else []
