"""An annotation that cannot be used is left out, named with its file and counted; what is left
scores as ever.

Its unit is left out as if the file were not there: the scores of both are equal, number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.msrc import V2_COLORS
from kvtool.errors import KvtoolError
from kvtool.tasks.truth import check_size
from tests.support import breaking
from tests.support import datasets as builders
from tests.support.tasks.runs import RUNS
from tests.support.units import noise, sample, write_run
from tests.tasks.truths import MASKS, Scene, data_of, scored

BREAKS: list[tuple[str, str, Callable[[Path], None]]] = [
    *((task, damage, broken) for task in MASKS for damage, broken in breaking.FILES.items()),
    *(
        (task, damage, broken)
        for task in ("foreground-segmentation", "bdd10k", "temporal-correspondence")
        for damage, broken in breaking.MODES.items()
    ),
    ("co-segmentation", "black", breaking.black),
    ("foreground-segmentation", "black", breaking.black),
    ("temporal-correspondence", "black", breaking.black),
    ("semantic-segmentation", "swapped", breaking.swapped),
    *(("semantic-segmentation", mode, breaking.MODES[mode]) for mode in ("LA", "I;16")),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage", "broken"), BREAKS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_mask_is_as_good_as_none(
    scenes: Callable[[str], Scene], name: str, damage: str, broken: Callable[[Path], None]
) -> None:
    scene = scenes(name)
    path, data = scene.path, scene.path.read_bytes()
    try:
        broken(path)
        result = scored(scene.run, name)
    finally:
        path.write_bytes(data)
    assert (result.n, result.n_skipped) == (scene.without.n, 1)
    assert result.rows == scene.without.rows
    assert any(
        word in line
        for word in (str(path), path.stem, f"sequence {path.parent.name}")
        for line in result.skipped
    )
    assert damage in ("missing", "black") or any(
        line.startswith(str(path)) for line in result.skipped
    )
    assert all("\n" not in line for line in result.skipped)


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKS)
def test_where_nothing_can_be_used_one_line_says_so(tmp_path: Path, name: str) -> None:
    run = RUNS[name](tmp_path)
    for path in data_of(run).glob(MASKS[name]):
        breaking.truncated(path)
    with pytest.raises(KvtoolError, match="expected a mask") as caught:
        scored(run, name)
    assert "\n" not in str(caught.value)


def test_a_turned_mask_says_so() -> None:
    with pytest.raises(
        KvtoolError,
        match=r"a: the annotation says 4 x 3 pixels, the picture has 3 x 4: it is turned",
    ):
        check_size((4, 3), (3, 4), "a")
    with pytest.raises(
        KvtoolError,
        match=r"says 500 x 375 pixels, the picture has 250 x 188: take both from the same",
    ):
        check_size((500, 375), (250, 188), "a")
    check_size((3, 3), (3, 3), "a")


@pytest.mark.slow
def test_a_scored_frame_decides_too(scenes: Callable[[str], Scene]) -> None:
    """A sequence one of whose scored frames has no usable annotation is left out; the last frame is
    not scored.
    """
    scene = scenes("temporal-correspondence")
    frames = sorted(scene.path.parent.iterdir())
    for path, reference in ((frames[2], scene.without), (frames[-1], scene.full)):
        data = path.read_bytes()
        breaking.truncated(path)
        result = scored(scene.run, "temporal-correspondence")
        path.write_bytes(data)
        assert (result.n, result.n_skipped, result.rows) == (
            reference.n,
            reference.n_skipped,
            reference.rows,
        )


def test_frames_of_two_sizes_leave_out_their_sequence(tmp_path: Path) -> None:
    builders.davis(tmp_path / "data")
    samples = [
        sample(
            f"{name}/{i:05d}",
            4 * position + i,
            (24, 32) if (name, i) == ("two", 3) else (32, 24),
            (3, 4),
        )
        for position, name in enumerate(("two", "gone", "nothing"))
        for i in range(4)
    ]
    run = write_run(tmp_path / "s", "davis", "val", tmp_path / "data", samples, noise(0))
    result = scored(run, "temporal-correspondence")
    assert (result.n, result.n_skipped) == (1, 2)
    assert (
        "sequence two: expected frames of one size, 32 x 24, found two/00003 of 24 x 32"
        in result.skipped
    )


@pytest.mark.slow
def test_msrc_v2_maps_in_other_colors_are_left_out(tmp_path: Path) -> None:
    """Channels swapped, a plane's color is no class's, and a cow's would be a building's."""
    for number in range(4):
        field = np.full((24, 32, 3), (0, 128, 0), np.uint8)
        field[4:12, 4:12] = V2_COLORS["plane"]
        builders.picture(tmp_path / f"data/Images/{number}.bmp")
        builders.colour_bmp(tmp_path / f"data/GroundTruth/{number}_GT.bmp", field)
    path = tmp_path / "data/GroundTruth/0_GT.bmp"
    breaking.swapped(path)
    samples = [sample(str(number), number, (32, 24), (3, 4)) for number in range(4)]
    run = write_run(tmp_path / "s", "msrc", "all", tmp_path / "data", samples, noise(0))
    result = scored(run, "co-segmentation")
    assert (result.n, result.n_skipped) == (3, 1)
    assert any(
        line.startswith(f"{path}: expected MSRCv2's colors, found RGB (0, 0, 192)")
        for line in result.skipped
    )
    Image.open(path).convert("L").save(path)
    result = scored(run, "co-segmentation")
    assert (result.n, result.n_skipped) == (3, 1)
