"""Scenes: the same from the same seed, and maps, boxes and keypoints that agree with the pixels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.demo.compare import corresponding_point, most_similar, same_style
from kvtool.demo.draw import (
    Rendered,
    area_fraction,
    keypoint_offsets,
    mask_box,
    render,
    sample_rendered,
    visible_enough,
)
from kvtool.demo.shapes import parts, shapes
from kvtool.demo.street import TRAIN_IDS, render_street, sample_street
from kvtool.demo.world import COLORS, Scene, categories, sample_motion, sample_scene, sample_size


def test_every_category_has_four_to_seven_parts() -> None:
    assert len(categories()) == 24
    for name in categories():
        assert 4 <= len(parts(name)) <= 7
        assert list(keypoint_offsets(name)) == list(parts(name))


def test_categories_are_told_apart_by_their_outline() -> None:
    """No two silhouettes of the same pose share more than four fifths of their area."""
    masks = {}
    for name in categories():
        scene = sample_scene(np.random.default_rng(0), size_wh=(100, 100), categories=[name])
        thing = replace(
            scene.things[0], scale_px=90.0, center_xy_px=(50.0, 50.0), angle_deg=0.0, mirror=False
        )
        masks[name] = render(replace(scene, things=(thing,))).thing_map > 0
    for first in categories():
        for second in categories():
            shared = (masks[first] & masks[second]).sum() / (masks[first] | masks[second]).sum()
            assert first == second or shared < 0.8, (first, second)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_same_seed_same_pixels(seed: int) -> None:
    scenes = [sample_scene(np.random.default_rng(seed)) for _ in range(2)]
    assert scenes[0] == scenes[1]
    first, second = (render(scene) for scene in scenes)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.part_map, second.part_map)
    assert first.keypoints_xy_px == second.keypoints_xy_px


def test_another_seed_gives_another_scene() -> None:
    scenes = {sample_scene(np.random.default_rng(seed)) for seed in range(50)}
    assert len(scenes) == 50


@pytest.fixture(scope="module")
def renderings() -> list[tuple[Scene, Rendered]]:
    rng = np.random.default_rng(5)
    return [sample_rendered(rng) for _ in range(60)]


@pytest.mark.slow
def test_maps_have_the_size_of_the_scene(renderings: list[tuple[Scene, Rendered]]) -> None:
    for scene, rendered in renderings:
        width, height = scene.size_wh
        assert rendered.image.shape == (height, width, 3)
        assert rendered.image.dtype == np.uint8
        assert rendered.thing_map.shape == rendered.part_map.shape == (height, width)


@pytest.mark.slow
def test_parts_lie_within_things_and_boxes_around_them(
    renderings: list[tuple[Scene, Rendered]],
) -> None:
    for scene, rendered in renderings:
        assert ((rendered.thing_map > 0) == (rendered.part_map > 0)).all()
        for index, thing in enumerate(scene.things):
            mask = rendered.thing_map == index + 1
            assert rendered.part_map[mask].max() <= len(parts(thing.category))
            rows, columns = np.nonzero(mask)
            assert rendered.boxes_xyxy_px[index] == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )


def test_a_visible_keypoint_lies_on_its_thing_and_mostly_on_its_part(
    renderings: list[tuple[Scene, Rendered]],
) -> None:
    on_part = []
    for scene, rendered in renderings:
        for index, thing in enumerate(scene.things):
            for part, (x, y, visible) in rendered.keypoints_xy_px[index].items():
                if visible:
                    assert rendered.thing_map[int(y), int(x)] == index + 1
                    on_part.append(
                        parts(thing.category)[rendered.part_map[int(y), int(x)] - 1] == part
                    )
    assert np.mean(on_part) > 0.93


def test_a_hidden_keypoint_is_marked() -> None:
    """A thing covered by a copy of itself has no visible keypoint; the one in front has all."""
    scene, _ = sample_rendered(np.random.default_rng(3), size_wh=(128, 128), n_things=1)
    thing = replace(scene.things[0], center_xy_px=(64.0, 64.0))
    rendered = render(replace(scene, things=(thing, thing)))
    assert rendered.boxes_xyxy_px[0] is None
    assert not any(visible for _, _, visible in rendered.keypoints_xy_px[0].values())
    assert all(visible for _, _, visible in rendered.keypoints_xy_px[1].values())
    assert not visible_enough(replace(scene, things=(thing, thing)), rendered)


def test_the_front_thing_hides_the_back_one() -> None:
    scene, _ = sample_rendered(np.random.default_rng(4), size_wh=(128, 128), categories=["house"])
    back = replace(scene.things[0], center_xy_px=(60.0, 60.0), scale_px=60.0)
    front = replace(back, category="fish", center_xy_px=(70.0, 64.0))
    mask = render(replace(scene, things=(front,))).thing_map == 1
    thing_map = render(replace(scene, things=(back, front))).thing_map
    np.testing.assert_array_equal(thing_map == 2, mask)
    reversed_order = render(replace(scene, things=(front, back))).thing_map
    assert (reversed_order == 1).sum() < mask.sum()


def test_the_things_color_is_what_is_seen() -> None:
    """A plain house by day, drawn flat: most pixels of its wall have the color's value."""
    for color, value in COLORS.items():
        scene = sample_scene(
            np.random.default_rng(1),
            size_wh=(128, 128),
            categories=["house"],
            time="day",
            style="flat",
        )
        thing = replace(
            scene.things[0],
            color=color,
            texture="plain",
            scale_px=80.0,
            center_xy_px=(64.0, 64.0),
        )
        rendered = render(replace(scene, things=(thing,)))
        wall = rendered.image[rendered.part_map == parts("house").index("wall") + 1]
        assert np.median(np.abs(wall.astype(int) - value).max(axis=1)) <= 2, color


def test_night_is_darker_and_styles_differ() -> None:
    scene = sample_scene(np.random.default_rng(2), size_wh=(128, 128), time="day", style="flat")
    day = render(scene).image.astype(int)
    assert render(replace(scene, time="night")).image.mean() < 0.75 * day.mean()
    for style in ("outlined", "pale", "mosaic"):
        assert np.abs(render(replace(scene, style=style)).image.astype(int) - day).mean() > 1


def test_area_fractions_agree_with_drawings() -> None:
    for name in shapes():
        scene = sample_scene(np.random.default_rng(0), size_wh=(160, 160), categories=[name])
        thing = replace(scene.things[0], center_xy_px=(80.0, 80.0), scale_px=100.0)
        area = (render(replace(scene, things=(thing,))).thing_map == 1).sum() / 100**2
        assert area == pytest.approx(area_fraction(name), rel=0.12)


def test_sampled_scenes_keep_what_is_given() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(
        rng,
        size_wh=(100, 90),
        categories=["fish", "cup"],
        setting="sea",
        time="night",
        style="pale",
    )
    assert [thing.category for thing in scene.things] == ["fish", "cup"]
    assert (scene.setting, scene.time, scene.style, scene.size_wh) == (
        "sea",
        "night",
        "pale",
        (100, 90),
    )
    assert len(sample_scene(rng, n_things=5).things) == 5
    for _ in range(100):
        width, height = sample_size(rng)
        assert 0.74 <= width / height <= 1.34


def test_motion_is_smooth_and_keeps_its_things() -> None:
    frames = sample_motion(np.random.default_rng(7), n_frames=20, size_wh=(160, 120))
    names = [thing.category for thing in frames[0].things]
    for before, after in pairwise(frames):
        assert [thing.category for thing in after.things] == names
        for earlier, later in zip(before.things, after.things, strict=True):
            assert np.hypot(*np.subtract(earlier.center_xy_px, later.center_xy_px)) < 12
            assert abs(earlier.angle_deg - later.angle_deg) < 8
    moved = [
        np.hypot(*np.subtract(frames[0].things[0].center_xy_px, frame.things[0].center_xy_px))
        for frame in frames
    ]
    assert max(moved) > 8


@pytest.mark.parametrize("kind", ["city street", "highway"])
def test_streets_have_a_class_everywhere(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        street = sample_street(rng, size_wh=(160, 90), kind=kind)
        rendered = render_street(street)
        assert rendered.class_map is not None
        assert rendered.class_map.shape == (90, 160)
        present = {TRAIN_IDS[index] for index in np.unique(rendered.class_map)}
        assert {"sky", "road"} <= present
        assert ("sidewalk" in present) == (kind == "city street")
        np.testing.assert_array_equal(rendered.image, render_street(street).image)
    dark = render_street(replace(street, time="night")).image.mean()
    assert dark < 0.6 * render_street(replace(street, time="day")).image.mean()


@pytest.mark.slow
def test_comparisons_are_answered_by_their_scenes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        styled, similar, point = same_style(rng), most_similar(rng), corresponding_point(rng)
        right = 1 + ("(A)", "(B)").index(styled.answer)
        assert (
            styled.scenes[right].style == styled.scenes[0].style != styled.scenes[3 - right].style
        )
        right = 1 + ("(A)", "(B)").index(similar.answer)
        first = sorted(thing.category for thing in similar.scenes[0].things)
        assert sorted(thing.category for thing in similar.scenes[right].things) == first
        assert not set(first) & {thing.category for thing in similar.scenes[3 - right].things}
        assert point.scenes[0].things[0].category == point.scenes[1].things[0].category
        assert len(point.images) == 2
        assert point.answer in ("(A)", "(B)", "(C)", "(D)")


def test_the_box_of_nothing() -> None:
    assert mask_box(np.zeros((4, 5), dtype=np.bool_)) is None
