"""An annotation that cannot be used is left out, named with its file and counted; what is left
scores as ever.

Its unit is left out as if the file were not there: the scores of both are equal, number by number.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.msrc import V2_COLORS
from kvtool.errors import KvtoolError
from kvtool.experiments.probe.run import probe
from kvtool.result import Result
from kvtool.store import Run
from kvtool.tasks.truth import check_size
from tests.support import breaking
from tests.support import datasets as builders
from tests.support.tasks.runs import RUNS
from tests.support.units import noise, sample, write_run

LAYERS: dict[str, Any] = {"layers": [0], "kinds": ["value"]}
OPTIONS: dict[str, dict[str, Any]] = {
    "foreground-segmentation": {"episodes": 20},
    "co-segmentation": {"restarts": 1},
}

MASKS = {
    "foreground-segmentation": "VOC2012/SegmentationClassAug/*.png",
    "co-segmentation": "groundtruth/*/*",
    "semantic-segmentation": "**/validation-segmentation/*/*.png",
    "bdd10k": "labels/sem_seg/masks/val/*.png",
    "temporal-correspondence": "Annotations/480p/*/00000.png",
}
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


def scored(run: Run, name: str, **options: Any) -> Result:
    task = "semantic-segmentation" if name == "bdd10k" else name
    return probe(run, task, fresh=True, **LAYERS, **OPTIONS.get(name, {}), **options)


def data_of(run: Run) -> Path:
    return Path(str(run.config.dataset_path))


@dataclass(frozen=True)
class Scene:
    """A run, the mask that is to be broken, and its results with that mask and without it."""

    run: Run
    path: Path
    full: Result
    without: Result


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    @cache
    def made(name: str) -> Scene:
        run = RUNS[name](tmp_path_factory.mktemp("run"))
        path = sorted(data_of(run).glob(MASKS.get(name, "PairAnnotation/test/*.json")))[0]
        full, data = scored(run, name), path.read_bytes()
        path.unlink()
        without = scored(run, name)
        path.write_bytes(data)
        assert (full.n_skipped, without.n_skipped) == (0, 1)
        return Scene(run, path, full, without)

    return made


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


def spair_annotations(run: Run) -> list[Path]:
    return sorted((data_of(run) / "PairAnnotation/test").iterdir())


CHANGES: dict[str, dict[str, Any]] = {
    "half-size": {"src_imsize": [40, 30, 3]},
    "turned": {"trg_imsize": [60, 80, 3]},
    "nan": {"src_kps": [[float("nan"), 1]] * 4},
    "infinite": {"trg_kps": [[1e400, -1e400]] * 4},
    "null": {"src_kps": [None] * 4},
    "outside": {"src_kps": [[-30, 100000]] * 4},
    "flat box": {"trg_bndbox": [5, 5, 5, 5]},
    "no points": {"src_kps": [], "trg_kps": [], "kps_ids": []},
}


@pytest.mark.parametrize("damage", [*CHANGES, "missing", "truncated", "empty", "text"])
def test_a_broken_pair_is_as_good_as_none(scenes: Callable[[str], Scene], damage: str) -> None:
    scene = scenes("semantic-correspondence")
    path, data = scene.path, scene.path.read_bytes()
    try:
        if damage in CHANGES:
            path.write_text(json.dumps(json.loads(data) | CHANGES[damage]))
        else:
            breaking.FILES[damage](path)
        result = scored(scene.run, "semantic-correspondence")
    finally:
        path.write_bytes(data)
    assert (result.n, result.n_skipped) == (scene.without.n, 1)
    assert result.rows == scene.without.rows
    assert any(str(path) in line for line in result.skipped)


def test_pictures_shrunk_beside_their_annotations_are_never_scored(tmp_path: Path) -> None:
    """Silently, PCK would be that of points at twice their places."""
    run = RUNS["semantic-correspondence"](tmp_path)
    small = [sample(s.id, s.index, (40, 30), (6, 8)) for s in run.samples]
    half = write_run(tmp_path / "half", "spair71k", "test", data_of(run), small, noise(0))
    with pytest.raises(
        KvtoolError, match=r"says 80 x 60 pixels, the picture has 40 x 30"
    ) as caught:
        scored(half, "semantic-correspondence")
    assert str(spair_annotations(run)[0].parent) in str(caught.value)


def test_pairs_listed_twice_count_once(tmp_path: Path) -> None:
    run = RUNS["semantic-correspondence"](tmp_path)
    full = scored(run, "semantic-correspondence")
    path = data_of(run) / "Layout/large/test.txt"
    path.write_text(path.read_text() * 2)
    result = scored(run, "semantic-correspondence")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert f"{path}: {full.n} of its lines are listed twice and count once" in result.skipped[0]


def test_entries_listed_twice_count_once(tmp_path: Path) -> None:
    run = RUNS["foreground-segmentation"](tmp_path)
    full = scored(run, "foreground-segmentation")
    path = data_of(run) / "splits/pascal/val/fold0.txt"
    path.write_text(path.read_text() * 2)
    result = scored(run, "foreground-segmentation")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert "35 of its lines are listed twice" in result.skipped[0]


SEGMENTATIONS: dict[str, Any] = {
    "no polygon": [],
    "two points": [[1, 2, 3, 4]],
    "odd": [[1, 2, 30, 4, 30, 40, 9]],
    "infinite": [[1, 2, float("inf"), 4, 3, 4]],
    "other size": {"size": [10, 10], "counts": [100]},
    "text": "polygon",
    "none": None,
}


@pytest.mark.parametrize(
    "damage", [*SEGMENTATIONS, "no segmentation", "no annotation", "other width", "no height"]
)
def test_a_broken_object_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/instances.json"
    record = json.loads(path.read_text())
    annotation = record["annotations"][0]
    remainder = [a for a in record["annotations"] if a is not annotation]
    image = next(image for image in record["images"] if image["id"] == annotation["image_id"])
    if damage in SEGMENTATIONS:
        annotation["segmentation"] = SEGMENTATIONS[damage]
    elif damage == "no segmentation":
        del annotation["segmentation"]
    elif damage == "no annotation":
        record["annotations"] = remainder
    elif damage == "other width":
        image["width"] *= 2
    else:
        del image["height"]
    path.write_text(json.dumps(record))
    result = scored(run, "referring-expression")
    assert 0 < result.n < full.n
    if damage == "no annotation":
        assert any(
            f"no annotation {annotation['id']} with an image" in line for line in result.skipped
        )
    else:
        assert result.n + result.n_skipped == full.n
        assert all(line.startswith(f"{path}") for line in result.skipped)


def test_widths_written_as_texts_are_read(tmp_path: Path) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/instances.json"
    record = json.loads(path.read_text())
    for image in record["images"]:
        image.update(width=str(image["width"]), height=str(image["height"]))
    path.write_text(json.dumps(record))
    assert scored(run, "referring-expression").rows == full.rows


def test_sentences_listed_twice_count_once_and_empty_ones_not(tmp_path: Path) -> None:
    run = RUNS["referring-expression"](tmp_path)
    full = scored(run, "referring-expression")
    path = data_of(run) / "refcoco/refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(refs + refs, protocol=2))
    result = scored(run, "referring-expression")
    assert (result.rows, result.n_skipped) == (full.rows, 0)
    assert f"{path}: {full.n} sentences are listed twice and count once" in result.skipped
    refs[0]["sentences"][0]["sent"] = "  "
    path.write_bytes(pickle.dumps(refs, protocol=2))
    result = scored(run, "referring-expression")
    assert (result.n, result.n_skipped) == (full.n - 1, 1)
    assert any(
        f"{path}: ref 0: sentence 0: expected sent to be a text, found {'  '!r}" in line
        for line in result.skipped
    )


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
