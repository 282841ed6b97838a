"""The contract of every vision encoder, which the tower of a multimodal family keeps too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.models import load_model
from kvtool.models.base import Model
from kvtool.models.captured import Captured
from kvtool.types import GridSpan, Kind, Sample, View
from tests.contracts.arrays import Array
from tests.contracts.own_networks import half_network
from tests.support import tiny
from tests.support.tiny import noise

SIZES = [(70, 45), (45, 70), (64, 64), (150, 100), (1, 1), (90, 1), (300, 20)]


def blanked(image: Image.Image, span: GridSpan, row: int, col: int) -> Image.Image:
    """The image with the pixels under one cell of a grid turned white, or black where they are
    light already.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    step_x, step_y = (x1 - x0) / span.grid[1], (y1 - y0) / span.grid[0]
    left, top = x0 + col * step_x, y0 + row * step_y
    cell = (round(left), round(top), round(left + step_x), round(top + step_y))
    is_light = np.asarray(image.crop(cell)).mean() > 127.5
    plain = image.copy()
    plain.paste((0, 0, 0) if is_light else (255, 255, 255), cell)
    return plain


def nine_cells(span: GridSpan, image_wh_px: tuple[int, int]) -> list[tuple[int, int]]:
    """At least nine cells spread over what a grid shows of the image, its corners among them."""
    width, height = image_wh_px
    rows = [row for row in range(span.grid[0]) if 0 <= span.centre_px(row, 0)[1] < height]
    cols = [col for col in range(span.grid[1]) if 0 <= span.centre_px(0, col)[0] < width]
    some_rows, some_cols = (
        sorted({n[0], n[len(n) // 3], n[2 * len(n) // 3], n[-1]}) for n in (rows, cols)
    )
    cells = [(row, col) for row in some_rows for col in some_cols]
    assert len(cells) >= 9
    return cells


class EncoderContract:
    """What holds for every family: tower outputs, the map from pixels to tokens, counts, batches,
    precisions.
    """

    builders: ClassVar[Any] = tiny
    build: ClassVar[str]
    """The function of that module that writes the checkpoint."""
    own_class: ClassVar[Any]
    views: ClassVar[tuple[View, ...]] = ("base",)
    mapped: ClassVar[tuple[Kind, ...]] = ("vision",)
    blanked_wh_px: ClassVar[tuple[int, int]] = (150, 100)
    """Kinds of which the map from pixels to tokens is checked."""
    sizes: ClassVar[Sequence[tuple[int, int]]] = SIZES
    """Width and height of pictures that can be prepared."""
    extremes: ClassVar[Sequence[tuple[int, int]]] = ((1, 1), (3, 2), (20_000, 120))

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        built: Path = getattr(cls.builders, cls.build)(tmp_path_factory.mktemp("model"))
        return built

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, folder: Path) -> Model:
        return load_model(str(folder), dtype="float32")

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, folder: Path) -> Any:
        """transformers' own model."""
        return cls.own_class.from_pretrained(folder, dtype=torch.float32).eval()

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        """Output (patch, dim) of a tower layer, row by row, class tokens left out, by
        transformers.
        """
        raise NotImplementedError

    def capture(
        self, model: Model, image: Image.Image, view: View = "base", **options: Any
    ) -> tuple[Sample, Captured]:
        prepared = model.prepare(image, id="a", index=0, view=view)
        return prepared.sample, model.capture([prepared], model.request(None, None, **options))

    def test_vision_equals_transformers_hidden_states(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            for layer in range(model.info.geometry.vision_layers):
                image = noise(70, 45)
                sample, captured = self.capture(model, image, view, vision_layers=[layer])
                values = captured.arrays["vision"][0]
                expected = self.own_vision(reference, folder, image, view, layer)
                assert values.shape == (
                    1,
                    1,
                    sample.n_vision_tokens,
                    model.info.geometry.vision_dim,
                )
                np.testing.assert_array_equal(values[0, 0], expected)

    def test_vision_layers_are_kept_in_order(self, model: Model) -> None:
        _, captured = self.capture(model, noise(70, 45), vision_layers=[2, 0])
        _, first = self.capture(model, noise(70, 45), vision_layers=[0])
        _, last = self.capture(model, noise(70, 45), vision_layers=[2])
        expected = np.concatenate([first.arrays["vision"][0], last.arrays["vision"][0]])
        np.testing.assert_array_equal(captured.arrays["vision"][0], expected)

    def test_blanked_patch_changes_the_token_the_map_names(self, model: Model) -> None:
        for view in self.views:
            for kind in self.mapped:
                image = noise(25, 17, seed=3).resize(self.blanked_wh_px, Image.Resampling.NEAREST)
                sample, before = self.capture(model, image, view)
                for span in sample.vision_spans if kind == "vision" else sample.spans:
                    for row, col in nine_cells(span, image.size):
                        _, after = self.capture(model, blanked(image, span, row, col), view)
                        change = np.abs(after.arrays[kind][0] - before.arrays[kind][0])[0, 0].sum(
                            axis=1
                        )
                        tokens = span.token_indices()
                        strongest = tokens[int(change[tokens].argmax())]
                        assert strongest == span.token_at(*span.centre_px(row, col)), (
                            view,
                            kind,
                            span.name,
                            row,
                            col,
                        )

    def test_batch_equals_single(self, model: Model) -> None:
        """One product over a batch may be summed in another order: fp32 within 1e-5, no more is
        claimed.
        """
        for view in self.views:
            items = [
                model.prepare(noise(70, 45, i), id=str(i), index=i, view=view) for i in range(3)
            ]
            assert len({item.signature for item in items}) == 1
            request = model.request(None, None)
            together = model.capture(items, request)
            for i, item in enumerate(items):
                single = model.capture([item], request)
                for name in together.arrays:
                    expected, values = single.arrays[name][0], together.arrays[name][i]
                    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)

    def test_spans_hold_every_token_once(self, model: Model) -> None:
        for size in self.sizes:
            for view in self.views:
                sample = model.prepare(noise(*size), id="a", index=0, view=view).sample
                vision = [token for span in sample.vision_spans for token in span.token_indices()]
                assert vision == list(range(sample.n_vision_tokens)), size
                marks = sample.token_marks()
                assert len(marks) == sample.n_tokens
                assert sum(mark != 2 for mark in marks) == sum(
                    rows * cols for rows, cols in map(_grid, sample.spans)
                )

    def test_wide_images_are_captured(self, model: Model) -> None:
        for size in self.extremes:
            for view in self.views:
                _, captured = self.capture(model, noise(*size), view)
                assert all(
                    np.isfinite(array).all()
                    for arrays in captured.arrays.values()
                    for array in arrays
                )

    @pytest.mark.slow
    def test_half_precisions_are_transformers_own_bits(self, folder: Path) -> None:
        sample, full = self.capture(load_model(str(folder), dtype="float32"), noise(70, 45))
        for dtype, stored in (("bfloat16", np.uint16), ("float16", np.float16)):
            model = load_model(str(folder), dtype=dtype)  # type: ignore[arg-type]
            _, captured = self.capture(model, noise(70, 45))
            assert model.info.dtype == dtype
            for kind, arrays in captured.arrays.items():
                assert arrays[0].dtype == stored
                values = (
                    arrays[0].astype(np.uint32) << 16
                    if dtype == "bfloat16"
                    else arrays[0].astype(np.float32)
                )
                close = values.view(np.float32) - full.arrays[kind][0]
                assert np.abs(close).max() < 0.1 * np.abs(full.arrays[kind][0]).max(), (dtype, kind)
            reference = half_network(self.own_class, folder, getattr(torch, dtype))
            layer = model.request(None, None).vision_layers[0]
            expected = self.own_vision(reference, folder, noise(70, 45), "base", layer)
            np.testing.assert_array_equal(captured.arrays["vision"][0][0, 0], expected)
        assert sample.n_vision_tokens > 0

    def test_arrays_hold_what_is_stored_and_nothing_else(self, model: Model) -> None:
        items = [model.prepare(noise(70, 45, i), id=str(i), index=i) for i in range(2)]
        captured = model.capture(items, model.request(None, None))
        for arrays in (*captured.arrays.values(), *captured.text.values()):
            owner = arrays[0]
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            assert owner.nbytes == sum(array.nbytes for array in arrays)

    def test_planner_prepares_without_weights(
        self, model: Model, folder: Path, tmp_path: Path
    ) -> None:
        for file in folder.iterdir():
            if file.suffix != ".safetensors":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        planner = load_model(str(tmp_path), dtype="float32", weights=False)
        assert planner.info.geometry == model.info.geometry
        loaded, planned = (
            source.prepare(noise(70, 45), id="a", index=0) for source in (model, planner)
        )
        assert loaded.sample == planned.sample
        assert loaded.signature == planned.signature


def _grid(span: GridSpan) -> tuple[int, int]:
    return span.grid
