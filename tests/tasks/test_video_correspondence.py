"""Temporal correspondence by frames that share tokens: planted answers, a slow reference, and
comparison with the frames one by one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.datasets import open_dataset
from kvtool.digests import digest_file
from kvtool.errors import UsageError
from kvtool.experiments.compare.run import compare
from kvtool.experiments.probe.run import probe
from kvtool.experiments.variance.run import variance
from kvtool.features.layers import Layer
from kvtool.features.propagation import Rule
from kvtool.store import Run
from kvtool.tasks.temporal_correspondence import TemporalCorrespondence
from kvtool.tasks.truth import sizes_of
from kvtool.types import Sample
from tests.support.datasets import label_png
from tests.support.tasks.temporal_correspondence import (
    FRAMES,
    GRID,
    TASK,
    planted,
    slow_propagate,
    write_davis,
)
from tests.support.units import DIM, PLANTED, Array, Fill, noise, sample, write_run
from tests.support.videos import write_videos

CODES = np.random.default_rng(4).normal(size=(3, DIM))


def carrying(labels: dict[str, Array]) -> Fill:
    """The planted block has, at each grid, one vector for each id of its first frame."""
    background = noise(6)

    def fill(video: Sample, layer: int, head: int) -> Array:
        vectors = background(video, layer, head)
        if (layer, head) == PLANTED:
            for span in video.spans:
                ids = labels[video.frames[span.frames[0]].id].reshape(-1)
                vectors[span.token_indices()] *= 1e-3
                vectors[span.token_indices()] += CODES[ids]
        return vectors

    return fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def labels(root: Path) -> dict[str, Array]:
    """Objects move from one pair of frames to the next, not within one."""
    return write_davis(root)


@pytest.fixture
def run(tmp_path: Path, root: Path, labels: dict[str, Array]) -> Run:
    return write_videos(tmp_path / "store", root, labels, carrying(labels))


@pytest.mark.slow
def test_vectors_that_carry_the_labels_reach_the_top(run: Run) -> None:
    result = probe(run, TASK)
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert (result.n, result.best["j_and_f"]) == (4, 1.0)
    rivals = [r["j_and_f"] for r in result.rows if "object" not in r and r["j_and_f"] < 1]
    assert len(rivals) == 13
    assert max(rivals) < 0.6
    # Half of the objects stand still, and the others do so in the second frame alone.
    assert result.best["chance_kind"] == "first mask held still"
    assert 0.5 < result.best["chance"] < 0.9


def test_movement_within_a_pair_costs_what_the_shared_mask_misses(
    tmp_path: Path, root: Path, labels: dict[str, Array]
) -> None:
    """Object 1 of the second sequence is elsewhere in every second frame: there its J is 0."""
    for number in range(1, FRAMES, 2):
        frame = f"two/{number:05d}"
        ids = labels[frame].copy()
        ids[ids == 1] = 0
        ids[0:2, 5:8] = 1
        label_png(root / f"Annotations/480p/{frame}.png", ids)
    run = write_videos(tmp_path / "store", root, labels, carrying(labels))
    result = probe(run, TASK, kinds=["value"], layers=[PLANTED[0]], heads=[PLANTED[1]])
    row = next(row for row in result.rows if row.get("object") == "two_1")
    # Of the scored frames 1 to 4 the second and the fourth are the first of a pair.
    assert row["j_mean"] == 0.5


@pytest.mark.parametrize("rule", ["dino", "nearest"])
def test_soft_masks_are_those_of_a_walk_from_pair_to_pair(run: Run, rule: Any) -> None:
    """Token by token over unit vectors of each pair, both of its frames alike."""
    dataset: Any = open_dataset(f"davis:{run.place}")
    task = TemporalCorrespondence(dataset, sizes_of(run), torch.device("cpu"), propagation=rule)
    layer = Layer(run, "value", 2, [0, 1], torch.device("cpu"))
    video, stored = task.videos[1], run[task.videos[1].name]
    soft = {frame.id: masks for frame, masks in task._propagate(layer, video)}
    names = list(video.frame_ids)
    propagation = Rule() if rule == "dino" else Rule(last_frames=1, radius=99, top=1)
    for head in (0, 1):
        first = dataset.label_map(names[0]).reshape(-1) == np.arange(3)[:, None]
        context: list[Any] = []
        mask = first.astype(float)
        for pair in range(FRAMES // 2):
            vectors = stored.read("value", 2, head, frame=2 * pair).astype(float)
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            if pair:
                voters = [context[0], *context[1:][-propagation.last_frames :]]
                mask = slow_propagate(unit, GRID, voters, propagation)
            context.append((unit, mask, GRID))
            for frame in names[max(1, 2 * pair) : 2 * pair + 2]:
                np.testing.assert_allclose(soft[frame][head], mask, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("replaced", "n_objects"), [("", 4), ("one/00002", 2)])
def test_the_same_objects_are_compared_with_frames_one_by_one(
    root: Path, labels: dict[str, Array], run: Run, replaced: str, n_objects: int
) -> None:
    """A frame that is another picture in one of the runs takes its sequence out."""
    samples = [
        replace(
            sample(name, index, GRID[::-1], GRID),
            digest="other" * (name == replaced)
            or digest_file(root / f"JPEGImages/480p/{name}.jpg"),
        )
        for index, name in enumerate(labels)
    ]
    store, fill = run.store, planted(labels, lost="two/00003")
    write_run(store, "davis", "val", root, samples, fill, layers=6, name="alone")
    runs = ["together", "alone"]
    result = compare(store, runs, TASK, kinds=["value"], layers=[PLANTED[0]], select="max")
    assert (result.n, bool(result.n_skipped)) == (n_objects, bool(replaced))
    best = result.rows[0]
    assert (best["run"], best["choice"], best["base_score"]) == ("alone", "best", 1.0)
    # Of so many objects in four scored frames each, one is lost in one frame.
    assert best["difference"] == pytest.approx(-1 / (4 * n_objects))


def test_frames_are_read_by_number_and_by_id(run: Run) -> None:
    block = run.read("value", 2, 1)
    for index, video in enumerate(run.samples):
        vectors = block.values[block.offsets[index] : block.offsets[index + 1]]
        for number, frame in enumerate(video.frames):
            tokens = video.grid_at(number).token_indices()
            np.testing.assert_array_equal(
                run.read("value", 2, 1, ids=[frame.id]).values, vectors[tokens]
            )
            np.testing.assert_array_equal(
                run[video.id].read("value", 2, 1, frame=number), vectors[tokens]
            )
            top = run.read("value", 2, 1, [video.id], frame=number, rows=0, cols=[3, 1]).values
            np.testing.assert_array_equal(top, vectors[[tokens[3], tokens[1]]])
    names = [view.id for view in run.views]
    assert names == [frame.id for video in run.samples for frame in video.frames]
    assert [view.grid for view in run.views] == [GRID] * len(names)
    streamed = {
        sample.id: part.values[:, start:stop]
        for _, part in run.stream("vision", None, names[3:5])
        for sample, start, stop in zip(part.samples, part.offsets, part.offsets[1:], strict=False)
    }
    assert list(streamed) == names[3:5]
    for name, values in streamed.items():
        np.testing.assert_array_equal(values[0], run.read("vision", 3, 0, [name]).values)


def test_the_table_of_tokens_says_which_frame_they_show(run: Run) -> None:
    table = run.tokens(["two"])
    video = run["two"].sample
    assert len(table) == video.n_tokens
    for span in video.spans:
        rows = (
            table.iloc[span.token_indices()]
            if hasattr(table, "iloc")
            else table[span.token_indices()]
        )
        assert set(rows["frame"]) == {span.frames[0]}
        assert set(rows["grid"]) == {"frame"}
    assert sorted(set(table["frame"])) == [-1, 0, 2, 4]
    assert set(run.tokens(["one"], frame=5)["frame"]) == {4}


def test_what_needs_one_picture_refuses_a_video_in_one_line(run: Run) -> None:
    with pytest.raises(UsageError, match=r"^one: expected a picture, found a video of 6 frames"):
        variance(run, kind="value")
    with pytest.raises(UsageError, match=r"one: expected a picture, found a video"):
        run.read("value", 2, 0, rows=0)
    with pytest.raises(UsageError, match=r"one: expected a frame from 0 to 5, found 6"):
        run.read("value", 2, 0, frame=6)
    with pytest.raises(UsageError, match=r"one/00001: .* found a frame, before which the others"):
        run.read_image("one/00001")
    with pytest.raises(UsageError, match=r"expected either tokens or rows and cols \(and frame\)"):
        run.read("value", 2, 0, tokens=[1], frame=2)
