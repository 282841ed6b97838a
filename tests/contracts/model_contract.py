"""The contract of every model family, run on tiny random weights of the real transformers classes.

The other side is always transformers itself: its own processor lays out the prompt, its own forward
runs it. A family's test names a builder of its checkpoint and its transformers classes, and
inherits every test here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.models import load_model
from kvtool.models.base import Captured, LanguageModel, Model, Prepared, Request
from kvtool.types import BEFORE_DECODER, GridSpan, Kind, Sample, View
from tests.support import tiny
from tests.support.tiny import noise

Array = np.ndarray[Any, Any]
SIZES = [(70, 45), (45, 70), (64, 64), (150, 100), (1, 1), (90, 1), (300, 20)]


def blanked(image: Image.Image, span: GridSpan, row: int, col: int) -> Image.Image:
    """The image with the pixels under one cell of a grid turned white."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    step_x, step_y = (x1 - x0) / span.grid[1], (y1 - y0) / span.grid[0]
    left, top = x0 + col * step_x, y0 + row * step_y
    white = image.copy()
    white.paste(
        (255, 255, 255), (round(left), round(top), round(left + step_x), round(top + step_y))
    )
    return white


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

    build: ClassVar[str]
    """The function of tests/support/tiny.py that writes the checkpoint."""
    own_class: ClassVar[Any]
    views: ClassVar[tuple[View, ...]] = ("base",)
    mapped: ClassVar[tuple[Kind, ...]] = ("vision",)
    """Kinds of which the map from pixels to tokens is checked."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        built: Path = getattr(tiny, cls.build)(tmp_path_factory.mktemp("model"))
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
                image = noise(25, 17, seed=3).resize((150, 100), Image.Resampling.NEAREST)
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
                for kind in request.kinds:
                    expected, values = single.arrays[kind][0], together.arrays[kind][i]
                    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)

    def test_spans_hold_every_token_once(self, model: Model) -> None:
        for size in SIZES:
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
        for size in ((1, 1), (3, 2), (20_000, 120)):
            for view in self.views:
                _, captured = self.capture(model, noise(*size), view)
                assert all(
                    np.isfinite(array).all()
                    for arrays in captured.arrays.values()
                    for array in arrays
                )

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
            reference = self.own_class.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
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


class DecoderContract(EncoderContract):
    """What holds for every multimodal family besides."""

    mapped: ClassVar[tuple[Kind, ...]] = ("vision", "projected")
    image_token: ClassVar[str]
    marker: ClassVar[str]
    """What the chat template writes for an image."""

    def own_processor(self, folder: Path) -> Any:
        """transformers' own processor of image and text."""
        raise NotImplementedError

    def own_tower(self, reference: Any, inputs: dict[str, Any]) -> list[Array]:
        """Outputs (view, patch, dim) of each tower layer, by transformers, class tokens left
        out.
        """
        raise NotImplementedError

    def own_features(self, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Image tokens (token, hidden) as transformers hands them to the decoder."""
        features: torch.Tensor = reference.model.get_image_features(
            **{
                name: inputs[name]
                for name in inputs
                if name not in ("input_ids", "attention_mask", "mm_token_type_ids")
            }
        ).pooler_output[0]
        return features

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = "what is there",
    ) -> dict[str, Any]:
        """transformers' inputs of the whole prompt; the base view of a family with tiles overrides
        this.
        """
        assert view in self.views
        del reference
        processor = self.own_processor(folder)
        turn = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        ]
        text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert text.count(self.marker) == 1
        if prefix:
            text = text.replace(self.marker, f"{prefix}\n{self.marker}")
        return dict(processor(images=image, text=text, return_tensors="pt"))

    def own_pass(
        self, reference: Any, folder: Path, image: Image.Image, view: View, prefix: str = ""
    ) -> tuple[list[Array], list[Array], Array]:
        """Keys and values (kv_head, token, dim) of each layer, and logits, of transformers' whole
        prompt.
        """
        with torch.inference_mode():
            outputs = reference(
                **self.own_inputs(reference, folder, image, view, prefix), use_cache=True
            )
        layers = outputs.past_key_values.layers
        return (
            [to_array(x.keys[0]) for x in layers],
            [to_array(x.values[0]) for x in layers],
            to_array(outputs.logits[0]),
        )

    def stored(self, captured: Captured, index: int = 0) -> dict[str, Array]:
        """What a store would hold of an image, through bytes and back."""
        arrays = {name: captured.arrays[name][index] for name in ("key", "value")}
        arrays |= {f"text_{name}": captured.text[name][index] for name in ("key", "value")}
        return {
            name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
            for name, array in arrays.items()
        }

    def lane_filling_prefix(self, model: Model, image: Image.Image, view: View) -> str:
        """A prefix with which text and image tokens fill whole vector lanes of the CPU's attention
        kernel.

        It sums over a row's keys in lanes of 16 or 32 numbers, so that its last bit depends on the
        length of the prompt: only then can equality with a longer prompt be exact. See
        docs/decisions/models-bit-equality.md.
        """
        for words in range(1, 33):
            prefix = "red " * words
            sample = model.prepare(image, id="a", index=0, prefix=prefix, view=view).sample
            if (sample.image_start + sample.n_tokens) % 32 == 0:
                return prefix
        raise AssertionError("one of 32 lengths in a row is a multiple of 32")

    def test_keys_and_values_equal_transformers_own_cache_bit_for_bit(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        half = load_model(str(folder), dtype="bfloat16")
        own_half = self.own_class.from_pretrained(folder, dtype=torch.bfloat16).eval()
        for view in self.views:
            image = noise(70, 45)
            prefix = self.lane_filling_prefix(model, image, view)
            for loaded, theirs in ((model, reference), (half, own_half)):
                for values, expected in self.key_value_pairs(loaded, theirs, folder, view, prefix):
                    assert values.dtype == (np.float32 if loaded is model else np.uint16)
                    np.testing.assert_array_equal(values, expected)

    @pytest.mark.parametrize("prefix", ["", "the red cat"])
    def test_keys_and_values_equal_transformers_own_cache(
        self, model: Model, reference: Any, folder: Path, prefix: str
    ) -> None:
        for view in self.views:
            for values, expected in self.key_value_pairs(model, reference, folder, view, prefix):
                np.testing.assert_allclose(values, expected, rtol=0, atol=3e-6)

    def key_value_pairs(
        self, model: Model, reference: Any, folder: Path, view: View, prefix: str
    ) -> Iterator[tuple[Array, Array]]:
        """(ours, transformers') of each layer: keys and values of image and of text tokens."""
        image = noise(70, 45)
        prepared = model.prepare(image, id="a", index=0, prefix=prefix, view=view)
        captured = model.capture([prepared], model.request(("key", "value"), None))
        keys, values, _ = self.own_pass(reference, folder, image, view, prefix)
        start, end = (
            prepared.sample.image_start,
            prepared.sample.image_start + prepared.sample.n_tokens,
        )
        assert captured.arrays["key"][0].shape == (3, 2, prepared.sample.n_tokens, 8)
        for layer in range(3):
            yield captured.arrays["key"][0][layer], keys[layer][:, start:end]
            yield captured.arrays["value"][0][layer], values[layer][:, start:end]
            yield captured.text["key"][0][layer], keys[layer][:, :start]
            yield captured.text["value"][0][layer], values[layer][:, :start]

    def test_prompt_ids_equal_transformers(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        for prefix in ("", "the red cat"):
            for view in self.views:
                inputs = self.own_inputs(reference, folder, noise(70, 45), view, prefix)
                if "input_ids" in inputs:
                    ids = inputs["input_ids"][0].tolist()
                    sample = model.prepare(
                        noise(70, 45), id="a", index=0, prefix=prefix, view=view
                    ).sample
                    assert tuple(ids[: sample.image_start]) == sample.prefix_ids

    def test_projected_equals_transformers_features(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, captured = self.capture(model, noise(70, 45), view)
            with torch.inference_mode():
                inputs = self.own_inputs(reference, folder, noise(70, 45), view)
                expected = to_array(self.own_features(reference, inputs))[: sample.n_tokens]
            np.testing.assert_array_equal(captured.arrays["projected"][0][0, 0], expected)

    def test_token_counts_equal_transformers_processor(self, model: Model, folder: Path) -> None:
        processor = self.own_processor(folder)
        for width, height in [*SIZES, (20_000, 120)]:
            encoded = processor(images=noise(width, height), text=f"the {self.image_token} cat")
            count = encoded["input_ids"][0].count(processor.image_token_id)
            sample = model.prepare(
                noise(width, height), id="a", index=0, view=self.views[-1]
            ).sample
            assert sample.n_tokens == count, (width, height)

    def test_continued_logits_equal_the_whole_prompt(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            image = noise(70, 45)
            sample, captured = self.capture(model, image, view)
            cache = model.restore([sample], [self.stored(captured)])
            text = model.question("what is there")
            logits = model.logits(cache, [sample], text)[0].numpy()
            _, _, expected = self.own_pass(reference, folder, image, view)
            np.testing.assert_allclose(logits, expected[-len(logits) :], rtol=0, atol=1e-4)
            last = model.logits(cache, [sample], text, last=True)[0].numpy()
            np.testing.assert_allclose(last, expected[-1], rtol=0, atol=1e-4)

    def test_answers_equal_transformers_generate(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, captured = self.capture(model, noise(70, 45), view)
            cache = model.restore([sample], [self.stored(captured)])
            answers = [
                model.generate(cache, [sample], model.question("what is there"), 12)
                for _ in range(2)
            ]
            inputs = self.own_inputs(reference, folder, noise(70, 45), view)
            start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
            ids = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, start:]
            expected = (
                self.own_processor(folder).tokenizer.decode(ids, skip_special_tokens=True).strip()
            )
            assert answers == [[expected], [expected]]

    def test_batch_goes_on_like_single(self, model: LanguageModel) -> None:
        items = [model.prepare(noise(70, 45, i), id=str(i), index=i) for i in range(2)]
        captured = model.capture(items, model.request(None, None))
        samples = [item.sample for item in items]
        cache = model.restore(samples, [self.stored(captured, i) for i in range(2)])
        texts = [model.question("what is there"), model.question("red cat left")]
        together = model.logits(cache, samples, texts)
        for i in range(2):
            restored = model.restore([samples[i]], [self.stored(captured, i)])
            expected = model.logits(restored, [samples[i]], texts[i])[0]
            np.testing.assert_allclose(together[i].numpy(), expected.numpy(), rtol=0, atol=1e-4)

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
            for ours, theirs in zip(
                model.prefill(items).layers, model.prefill(second).layers, strict=True
            ):
                assert torch.equal(ours.keys, theirs.keys)
                assert torch.equal(ours.values, theirs.values)

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
        request = model.request(("key", "projected"), [1])
        pixels = [model.prepare(noise(70, 45), id="a", index=0)]
        projected = model.capture(pixels, request).arrays["projected"][0]
        monkeypatch.setattr(type(model), "encode", lambda *_: pytest.fail("the tower ran"))
        item = model.prepare_stored(pixels[0].sample, {"projected": projected}, "red")
        assert set(model.capture([item], request).arrays) == {"key", "projected"}

    def test_stored_features_form_the_batches_of_pixels(self, model: LanguageModel) -> None:
        """Samples alone say which images share a batch, so that both ways sum their products over
        the same rows.
        """
        sizes = [*SIZES, (45, 70), (150, 100), (71, 45), (100, 150)]
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

    def test_prefill_equals_restore(self, model: LanguageModel) -> None:
        prepared = model.prepare(noise(70, 45), id="a", index=0, prefix="red", view=self.views[-1])
        captured = model.capture([prepared], model.request(None, None))
        restored = model.restore([prepared.sample], [self.stored(captured)])
        for prefilled, reread in zip(
            model.prefill([prepared]).layers, restored.layers, strict=True
        ):
            assert torch.equal(prefilled.keys, reread.keys)
            assert torch.equal(prefilled.values, reread.values)

    def test_pre_rope_keys_rotated_by_hand_equal_post_rope(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, after = self.capture(model, noise(70, 45), view)
            _, before = self.capture(model, noise(70, 45), view, keys="pre-rope")
            positions = self.positions_by_hand(sample)
            keys = np.concatenate([before.text["key"][0], before.arrays["key"][0]], axis=2)
            expected = np.concatenate([after.text["key"][0], after.arrays["key"][0]], axis=2)
            rope = reference.config.text_config.rope_parameters
            rotated = rotated_by_hand(
                keys, positions, rope["rope_theta"], rope.get("mrope_section")
            )
            np.testing.assert_allclose(rotated, expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(before.arrays["value"][0], after.arrays["value"][0])
            assert np.abs(before.arrays["key"][0] - after.arrays["key"][0]).max() > 0.01
            cache = model.restore([sample], [self.stored(before)], keys="pre-rope")
            logits = model.logits(cache, [sample], model.question("what is there"))[0].numpy()
            _, _, full_logits = self.own_pass(reference, folder, noise(70, 45), view)
            np.testing.assert_allclose(logits, full_logits[-len(logits) :], rtol=0, atol=1e-4)

    def positions_by_hand(self, sample: Sample) -> Array:
        """(axis, token) rotary positions of prefix and image; of most families just counted, the
        same on all axes.
        """
        return np.tile(np.arange(sample.image_start + sample.n_tokens), (3, 1))

    def test_some_layers_equal_those_of_all(self, model: Model) -> None:
        prepared = model.prepare(noise(70, 45), id="a", index=0)
        full = model.capture([prepared], model.request(None, None))
        part = model.capture([prepared], model.request(("value", "projected"), [1]))
        assert set(part.arrays) == {"value", "projected"}
        np.testing.assert_array_equal(part.arrays["value"][0][0], full.arrays["value"][0][1])
        np.testing.assert_array_equal(part.text["value"][0][0], full.text["value"][0][1])
        assert set(part.text) == {"value"}

    def test_work_nobody_needs_is_not_done(self, model: LanguageModel) -> None:
        ran: list[str] = []
        layers = model.language_model.layers
        watched = {
            "attention 1": layers[1].self_attn.o_proj,
            "mlp 0": layers[0].mlp,
            "mlp 1": layers[1].mlp,
        }
        watched |= {
            "layer 2": layers[2].input_layernorm,
            "embedding": model.language_model.embed_tokens,
        }
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
            for name, module in watched.items()
        ]
        prepared: Prepared = model.prepare(noise(70, 45), id="a", index=0)
        model.capture([prepared], model.request(("key", "value"), [0, 1]))
        assert sorted(ran) == ["embedding", "mlp 0"]
        ran.clear()
        model.capture([prepared], model.request(("projected", "vision"), None))
        assert ran == []
        for handle in handles:
            handle.remove()

    def test_text_values_are_those_within_the_chat_templates_own_turn(
        self, model: Any, reference: Any, folder: Path
    ) -> None:
        """What stands after a text changes nothing of it, so that the whole turn as transformers
        renders it is the reference.
        """
        texts = ["cat", "the red dog", "dog", "is there a cat"]
        vectors = model.text_vectors(texts, [0, 2], ("value", "projected"), "{}")
        tokenizer = self.own_processor(folder).tokenizer
        embed = reference.get_input_embeddings()
        assert vectors.token_counts == [1, 3, 1, 4]
        for row, text in enumerate(texts):
            turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            rendered = tokenizer.apply_chat_template(turn, tokenize=False)
            ids = tokenizer(rendered)["input_ids"]
            words = tokenizer(text, add_special_tokens=False)["input_ids"]
            # The text stands last in the turn, before <|im_end|>.
            end = max(i for i in range(len(ids)) if ids[i : i + len(words)] == words) + len(words)
            assert end > len(words)
            with torch.inference_mode():
                cache = reference.model.language_model(
                    input_ids=torch.tensor([ids]), use_cache=True
                ).past_key_values
                embedded = embed(torch.tensor(words))
            expected = [to_array(cache.layers[layer].values[0, :, end - 1]) for layer in (0, 2)]
            np.testing.assert_allclose(
                vectors.arrays["value"][row], np.stack(expected), rtol=1e-5, atol=1e-6
            )
            np.testing.assert_array_equal(
                vectors.arrays["projected"][row, 0, 0], to_array(embedded[-1])
            )
            np.testing.assert_allclose(
                vectors.arrays["projected_mean"][row, 0, 0], to_array(embedded.mean(0)), atol=1e-6
            )

    def test_text_values_alone_equal_each_text_alone(
        self, model: Any, reference: Any, folder: Path
    ) -> None:
        texts = ["cat", "the red dog", "dog", "is there a cat"]
        values = model.text_values(texts, [0, 2], "alone:{}")
        tokenizer = self.own_processor(folder).tokenizer
        for row, text in enumerate(texts):
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.inference_mode():
                cache = reference.model.language_model(
                    input_ids=ids, use_cache=True
                ).past_key_values
            expected = [to_array(cache.layers[layer].values[0, :, -1]) for layer in (0, 2)]
            np.testing.assert_allclose(values[row], np.stack(expected), rtol=1e-5, atol=1e-6)

    def test_several_patterns_are_averaged(self, model: Any) -> None:
        patterns = ["the {}", "a red {}", "{}"]
        averaged = model.text_values(["cat", "dog"], [0, 1], "|".join(patterns))
        apart = [model.text_values(["cat", "dog"], [0, 1], pattern) for pattern in patterns]
        np.testing.assert_allclose(averaged, np.mean(apart, axis=0), rtol=1e-5, atol=1e-6)


def assert_same(captured: Captured, expected: Captured) -> None:
    """The same arrays of the same images, bit for bit."""
    for ours, theirs in ((captured.arrays, expected.arrays), (captured.text, expected.text)):
        assert ours.keys() == theirs.keys()
        for kind, arrays in theirs.items():
            for actual, desired in zip(ours[kind], arrays, strict=True):  # type: ignore[index]
                assert actual.dtype == desired.dtype
                np.testing.assert_array_equal(actual, desired)


def to_array(tensor: torch.Tensor) -> Array:
    """On the host, bfloat16 as its bits."""
    bits: Any = tensor.detach().contiguous()
    array: Array = (bits.view(torch.uint16) if bits.dtype == torch.bfloat16 else bits).numpy()
    return array


def rotated_by_hand(
    keys: Array, positions: Array, theta: float, sections: list[int] | None
) -> Array:
    """Rotary embedding in NumPy (equation 34 of RoFormer, halves as in Llama).

    With `sections` the frequencies are dealt out to the three axes of
    M-RoPE in turn. keys (layer, kv_head, token, dim), positions (axis, token).
    """
    half = keys.shape[-1] // 2
    frequencies = theta ** (-np.arange(half) / half)
    axes = np.repeat(np.arange(len(sections)), sections) if sections else np.zeros(half, int)
    angles = positions[axes].T * frequencies
    first, second = keys[..., :half], keys[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
