"""The contract of images that are prepared from what a run stored before the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from kvtool.models import load_model
from kvtool.models.base import LanguageModel, Prepared, Request
from kvtool.models.captured import Captured
from kvtool.types import BEFORE_DECODER
from tests.contracts.arrays import Array, assert_same, assert_same_cache
from tests.contracts.transformers_side import TransformersSide
from tests.support.tiny import noise


class StoredContract(TransformersSide):
    """Stored features give what pixels give."""

    some_layer: ClassVar[int]

    def from_store(
        self, model: LanguageModel, pixels: list[Prepared], request: Request, prefix: str
    ) -> tuple[list[Prepared], Captured]:
        """The same images prepared from what a run of them stored before the decoder, and
        captured.
        """
        captured = model.capture(pixels, request)
        arrays: list[dict[str, Array]] = [
            {
                kind: captured.arrays[kind][i].copy()
                for kind in BEFORE_DECODER
                if kind in captured.arrays
            }
            for i in range(len(pixels))
        ]
        items = [
            model.prepare_stored(item.sample, features, prefix)
            for item, features in zip(pixels, arrays, strict=True)
        ]
        return items, model.capture(items, request)

    @pytest.mark.parametrize(
        ("before", "after"), [("", "the red cat"), ("the red cat", ""), ("red", "the blue dog")]
    )
    def test_stored_features_give_what_pixels_give(
        self, model: LanguageModel, before: str, after: str
    ) -> None:
        request = model.request(None, None, vision_layers=[2, 0])
        for view in self.views:
            first, second = (
                [
                    model.prepare(noise(70, 45, i), id=str(i), index=i, prefix=prefix, view=view)
                    for i in range(3)
                ]
                for prefix in (before, after)
            )
            items, captured = self.from_store(model, first, request, after)
            assert [item.sample for item in items] == [item.sample for item in second]
            assert_same(captured, model.capture(second, request))
            assert_same_cache(model.prefill(items), model.prefill(second))

    def test_stored_features_in_half_precision_too(self, folder: Path) -> None:
        model = load_model(str(folder), dtype="bfloat16")
        assert isinstance(model, LanguageModel)
        first, second = (
            [model.prepare(noise(70, 45, i), id=str(i), index=i, prefix=prefix) for i in range(3)]
            for prefix in ("", "the red cat")
        )
        request = model.request(None, None)
        _, captured = self.from_store(model, first, request, "the red cat")
        assert_same(captured, model.capture(second, request))

    def test_stored_features_run_no_tower(
        self, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = model.request(("key", "projected"), [self.some_layer])
        pixels = [model.prepare(noise(70, 45), id="a", index=0)]
        projected = model.capture(pixels, request).arrays["projected"][0]
        monkeypatch.setattr(type(model), "encode", lambda *_: pytest.fail("the tower ran"))
        item = model.prepare_stored(pixels[0].sample, {"projected": projected}, "red")
        assert set(model.capture([item], request).arrays) == {"key", "projected"}

    def test_stored_features_form_the_batches_of_pixels(self, model: LanguageModel) -> None:
        """Samples alone say which images share a batch, so that both ways sum their products over
        the same rows.
        """
        sizes = [*self.sizes, (45, 70), (150, 100), (71, 45), (100, 150)]
        for view in self.views:
            pixels = [
                model.prepare(noise(*size), id=str(i), index=i, view=view)
                for i, size in enumerate(sizes)
            ]
            stored = [model.prepare_stored(item.sample, {}, "red cat") for item in pixels]
            for left in range(len(sizes)):
                for right in range(left):
                    equal = pixels[left].signature == pixels[right].signature
                    assert (stored[left].signature == stored[right].signature) == equal
