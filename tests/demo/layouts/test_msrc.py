"""Seven classes of ten images, each mask that of the class's thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.demo.layouts.msrc import CLASSES, draw_picture


@pytest.mark.slow
def test_masks_are_binary_and_those_of_the_scene(world: Path) -> None:
    folder = world / "msrc"
    assert sorted(path.name for path in (folder / "image").iterdir()) == sorted(CLASSES)
    for name in CLASSES:
        images = sorted((folder / "image" / name).iterdir())
        masks = sorted((folder / "groundtruth" / name).iterdir())
        assert [path.stem for path in images] == [path.stem for path in masks]
        assert len(images) == 10
        for index, (image_path, mask_path) in enumerate(zip(images, masks, strict=True)):
            scene, rendered = draw_picture(0, name, index)
            mask = np.asarray(Image.open(mask_path))
            assert np.array_equal(mask, np.where(rendered.thing_map == 1, 255, 0))
            assert scene.things[0].category == name
            assert mask.mean() / 255 > 0.02
            with Image.open(image_path) as image:
                assert image.size == scene.size_wh
