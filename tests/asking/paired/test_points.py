"""Semantic correspondence as a question: what is asked of which pair, and what is drawn."""

from __future__ import annotations

import json
from collections import Counter
from io import BytesIO
from itertools import combinations
from math import dist
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.asking.paired import points as paired_points
from kvtool.asking.paired.points import (
    LETTERS,
    QUESTIONS,
    PointQuestion,
    make_questions,
    picture_files,
    questions_file,
    write_pictures,
)
from kvtool.datasets import open_dataset, parse_spec
from kvtool.datasets.images import load_image
from kvtool.errors import ImageError, UsageError
from kvtool.pictures.marks import Box, PointMark, draw_marks, place_marks, ring_radius_px
from tests.support.pairs import pair
from tests.support.scenes import World
from tests.support.tiny import noise

Array = np.ndarray[Any, Any]


PAIRS = [pair(f"{i:02d}", n_points) for i, n_points in enumerate((4, 5, 6, 4, 7))]


def test_pairs_take_turns_and_no_keypoint_is_asked_about_twice() -> None:
    questions = make_questions(PAIRS, 100, seed=0)
    assert [question.number for question in questions] == list(range(26))
    for n in (3, 5, 10, 15, 20):
        counts = Counter(question.pair.id for question in questions[:n])
        assert max(counts.values()) - min(counts[pair.id] for pair in PAIRS) <= 1
    assert Counter(question.pair.id for question in questions) == {
        pair.id: len(pair.kps_ids) for pair in PAIRS
    }
    assert len({question.id for question in questions}) == 26


def test_the_right_answer_is_the_same_keypoint() -> None:
    for question in make_questions(PAIRS, 100, seed=1):
        assert len(set(question.targets)) == 4
        x, y = question.targets_px[question.right]
        assert (x, y - 20) == question.source_px
        assert question.question.answer == f"({LETTERS[question.right]})"
        assert question.id == f"{question.pair.id}/{10 + question.source}"
        assert question.question.image_ids == (question.pair.src_id, question.pair.trg_id)


def test_letters_are_drawn_evenly() -> None:
    many = [pair(f"{i:04d}", 6) for i in range(400)]
    counts = Counter(question.right for question in make_questions(many, 400, seed=0))
    assert all(70 <= counts[index] <= 130 for index in range(4))


def test_the_same_questions_in_whatever_order_the_pairs_come() -> None:
    questions = make_questions(PAIRS, 12, seed=5)
    assert make_questions(Random(0).sample(PAIRS, len(PAIRS)), 12, seed=5) == questions
    assert make_questions(PAIRS, 12, seed=6) != questions
    assert make_questions(PAIRS, 5, seed=5) == questions[:5]


def test_pairs_without_four_points_apart_inside_both_pictures_give_none() -> None:
    assert make_questions([pair("few", 3)], 9, seed=0) == []
    radius = ring_radius_px((400, 300))
    assert make_questions([pair("close", 4, step=2 * radius - 0.1)], 9, seed=0) == []
    assert len(make_questions([pair("apart", 4, step=2 * radius)], 9, seed=0)) == 4
    assert make_questions([pair("outside", 4, wh_px=(169, 300))], 9, seed=0) == []
    assert len(make_questions([pair("inside", 4, wh_px=(171, 300))], 9, seed=0)) == 4


def boxes(marks: list[PointMark], shape: tuple[int, int]) -> Array:
    """(height, width) bool: pixels that a mark may change."""
    allowed = np.zeros(shape, bool)
    for mark in marks:
        for x0, y0, x1, y1 in (mark.ring_xyxy_px, mark.name_xyxy_px):
            allowed[max(0, int(y0)) : int(y1) + 1, max(0, int(x0)) : int(x1) + 1] = True
    return allowed


def apart(first: Box, second: Box) -> bool:
    (a0, b0, a1, b1), (x0, y0, x1, y1) = first, second
    return a1 <= x0 or x1 <= a0 or b1 <= y0 or y1 <= b0


@pytest.mark.parametrize("wh_px", [(500, 375), (96, 120)])
def test_marks_stay_inside_and_change_nothing_else(wh_px: tuple[int, int]) -> None:
    width, height = wh_px
    points = [
        (0.0, 0.0),
        (width - 1.0, height - 1.0),
        (width / 2, height / 2),
        (width / 2 + 20, height / 2),
    ]
    marks = place_marks(points, LETTERS, wh_px)
    for mark in marks:
        x0, y0, x1, y1 = mark.name_xyxy_px
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    for placed in marks:
        for neighbor in marks:
            if placed is not neighbor:
                assert apart(placed.name_xyxy_px, neighbor.name_xyxy_px)
                assert apart(placed.name_xyxy_px, neighbor.ring_xyxy_px)
        x0, y0, x1, y1 = placed.ring_xyxy_px
        third = (x1 - x0) / 3
        assert apart(placed.name_xyxy_px, (x0 + third, y0 + third, x1 - third, y1 - third))
    image = noise(width, height)
    before = np.asarray(image).copy()
    changed = (np.asarray(draw_marks(image, marks)) != before).any(axis=2)
    assert not (changed & ~boxes(marks, changed.shape)).any()
    for mark in marks:
        for x0, y0, x1, y1 in (mark.ring_xyxy_px, mark.name_xyxy_px):
            assert changed[max(0, int(y0)) : int(y1), max(0, int(x0)) : int(x1)].any()
    assert (np.asarray(image) == before).all()


def test_a_name_is_nearest_to_its_own_point() -> None:
    for seed in range(20):
        random = Random(seed)
        points = [
            (x + random.uniform(-5, 5), y + random.uniform(-5, 5))
            for x in (90, 118)
            for y in (90, 118)
        ]
        marks = place_marks(points, LETTERS, (300, 200))
        assert all(apart(a.name_xyxy_px, b.name_xyxy_px) for a, b in combinations(marks, 2))
        for index, mark in enumerate(marks):
            x0, y0, x1, y1 = mark.name_xyxy_px
            away = [dist(((x0 + x1) / 2, (y0 + y1) / 2), point) for point in points]
            assert away.index(min(away)) == index


@pytest.fixture(scope="module")
def dataset(embedded_world: World) -> Any:
    return open_dataset(parse_spec(f"spair71k:{embedded_world('spair71k')}/spair71k"))


@pytest.mark.slow
def test_pictures_of_scenes_show_the_marks(dataset: Any) -> None:
    questions = make_questions(dataset.pairs(), 6, seed=0)
    refs = {ref.id: ref for ref in dataset.images()}
    files = dict(picture_files(questions, refs))
    assert [*files] == [*(name for question in questions for name in question.files), QUESTIONS]
    for question in questions:
        drawings = [
            (question.pair.src_id, [question.source_px], ["REF"]),
            (question.pair.trg_id, question.targets_px, LETTERS),
        ]
        for name, (image, points, names) in zip(question.files, drawings, strict=True):
            clean = np.asarray(load_image(refs[image]))
            picture = np.asarray(Image.open(BytesIO(files[name])))
            marks = place_marks(points, names, (clean.shape[1], clean.shape[0]))
            assert picture.shape == clean.shape
            changed = (picture != clean).any(axis=2)
            assert changed.any()
            assert not (changed & ~boxes(marks, changed.shape)).any()
            assert len(marks) == len(points)
            assert all((0 <= x < clean.shape[1]) for x, _ in points)
    lines = [json.loads(line) for line in files[QUESTIONS].decode().splitlines()]
    for question, line in zip(questions, lines, strict=True):
        annotated = next(pair for pair in dataset.pairs() if pair.id == line["pair"])
        index = annotated.kps_ids.index(line["keypoint"])
        assert tuple(line["source_px"]) == annotated.src_kps_px[index]
        assert tuple(line["targets_px"][line["answer"][1]]) == annotated.trg_kps_px[index]
        assert line["prompt"] == question.question.prompt
        assert line["choices"] == ["point A", "point B", "point C", "point D"]
    assert dict(picture_files(questions, refs)) == files


@pytest.mark.slow
def test_a_folder_of_pictures_is_written_once(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = make_questions(dataset.pairs(), 2, seed=0)
    refs = {ref.id: ref for ref in dataset.images()}
    folder = tmp_path / "deep" / "marked"
    write_pictures(folder, questions, refs)
    assert len(list(folder.iterdir())) == 5
    assert (folder / QUESTIONS).read_bytes() == questions_file(questions)

    def refused(_questions: list[PointQuestion], _refs: Any) -> Any:
        raise AssertionError("drawn again")

    monkeypatch.setattr(paired_points, "picture_files", refused)
    write_pictures(folder, questions, refs)
    with pytest.raises(
        UsageError, match=r"--pictures: expected a new or empty folder, found something in it"
    ):
        write_pictures(folder, questions[:1], refs)


@pytest.mark.slow
def test_a_missing_picture_leaves_no_folder(dataset: Any, tmp_path: Path) -> None:
    questions = make_questions(dataset.pairs(), 1, seed=0)
    refs = {ref.id: type(ref)(ref.id, tmp_path / "gone.jpg") for ref in dataset.images()}
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        write_pictures(tmp_path / "marked", questions, refs)
    assert list(tmp_path.iterdir()) == []
