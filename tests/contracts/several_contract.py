"""What every multimodal family must do with questions over several images, against transformers'
whole prompt.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.errors import KvtoolError, UsageError
from kvtool.models import load_model, several
from kvtool.models.base import Prepared
from kvtool.models.several import SeveralImages
from kvtool.types import Sample, View
from tests.contracts.model_contract import DecoderContract
from tests.support import tiny

TEXTS = ("what is there", "is the cat red", "the dog on the left")
SIZES = ((70, 45), (45, 70), (34, 34))


def fed(inputs: dict[str, Any]) -> dict[str, Any]:
    """What of transformers' inputs its model takes: embeddings where a test made them, else ids."""
    return {
        name: inputs[name]
        for name in inputs
        if name != "input_ids" or "inputs_embeds" not in inputs
    }


class SeveralContract:
    family: ClassVar[type[DecoderContract]]
    """The tests of the family, for its tiny checkpoint and transformers' own classes."""
    view: ClassVar[View] = "base"

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        built: Path = getattr(tiny, cls.family.build)(tmp_path_factory.mktemp("model"))
        return built

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, folder: Path) -> Any:
        return load_model(str(folder), dtype="float32")

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, folder: Path) -> Any:
        return cls.family.own_class.from_pretrained(folder, dtype=torch.float32).eval()

    def own_inputs(
        self, reference: Any, folder: Path, images: list[Image.Image], text: str
    ) -> dict[str, Any]:
        """transformers' inputs of the whole prompt, by its own processor."""
        del reference
        processor = self.family().own_processor(folder)
        content = [*[{"type": "image"}] * len(images), {"type": "text", "text": text}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return dict(processor(images=[images], text=[prompt], return_tensors="pt"))

    def own_answer(self, reference: Any, folder: Path, images: list[Image.Image], text: str) -> str:
        inputs = self.own_inputs(reference, folder, images, text)
        ids = reference.generate(**fed(inputs), max_new_tokens=12, do_sample=False)[0]
        ids = ids if "inputs_embeds" in inputs else ids[inputs["input_ids"].shape[1] :]
        answer: str = (
            self.family().own_processor(folder).tokenizer.decode(ids, skip_special_tokens=True)
        )
        return answer.strip()

    def images(self, n_images: int, seed: int = 0) -> list[Image.Image]:
        """Six coarse colours each, so that answers differ with the image."""
        coarse = [tiny.noise(3, 2, seed=10 * seed + i) for i in range(n_images)]
        return [
            image.resize(size, Image.Resampling.NEAREST)
            for image, size in zip(coarse, SIZES, strict=False)
        ]

    def stored_images(self) -> list[Image.Image]:
        """Images that are stored with the pixels that they have in a prompt of several."""
        return self.images(3)

    def prepared(self, model: Any, images: list[Image.Image]) -> list[Prepared]:
        return [
            model.prepare_several(image, id=str(i), index=i, view=self.view)
            for i, image in enumerate(images)
        ]

    def ids(self, model: Any, samples: list[Sample], text: str) -> list[int]:
        """The prompt's ids as transformers counts them: a newline of LLaVA's is an image token."""
        ids: list[int] = []
        is_whole = hasattr(model, "layout")
        openings = [model.opening + model.layout(sample).opening for sample in samples if is_whole]
        befores = model.prompt.several_ids(len(samples), openings)
        for before, sample in zip(befores, samples, strict=True):
            n_tokens = model.image_end(sample) - sample.image_start
            image_ids = [model.config.image_token_id] * n_tokens
            ids += [*before, *(model.layout(sample).ids if is_whole else image_ids)]
        return ids + list(model.prompt.text_ids(model.prompt.question(text, len(samples))))

    def logits(
        self, model: Any, items: list[list[Prepared]], texts: list[str]
    ) -> np.ndarray[Any, Any]:
        """(question, vocabulary) after the last token of each prompt."""
        questions = [
            model.prompt.question(text, len(group))
            for group, text in zip(items, texts, strict=True)
        ]
        logits: np.ndarray[Any, Any] = model.logits(
            *model.prefill_several(items), questions, last=True
        ).numpy()
        return logits

    @pytest.mark.parametrize("n_images", [2, 3])
    def test_prompt_and_logits_equal_transformers(
        self, model: Any, reference: Any, folder: Path, n_images: int
    ) -> None:
        images = self.images(n_images)
        items = self.prepared(model, images)
        inputs = self.own_inputs(reference, folder, images, TEXTS[0])
        assert (
            self.ids(model, [item.sample for item in items], TEXTS[0])
            == inputs["input_ids"][0].tolist()
        )
        with torch.inference_mode():
            expected = reference(**fed(inputs)).logits[0, -1].numpy()
        logits = self.logits(model, [items], [TEXTS[0]])[0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)

    def test_answers_equal_transformers_generate(
        self, model: Any, reference: Any, folder: Path
    ) -> None:
        """Two and three images mixed; questions of one length run together, those of others
        apart.
        """
        images = [self.images(n_images, seed) for seed, n_images in enumerate((3, 2, 3, 3, 2, 3))]
        texts = [TEXTS[i] for i in (0, 0, 1, 2, 1, 0)]
        answers = model.ask_several([self.prepared(model, group) for group in images], texts, 12)
        expected = [
            self.own_answer(reference, folder, group, text)
            for group, text in zip(images, texts, strict=True)
        ]
        assert answers == expected
        assert len(set(answers)) > 1

    def test_batch_equals_one_by_one(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        items = [self.prepared(model, self.images(3, seed)) for seed in range(5)]
        texts = [TEXTS[0]] * 5
        single = np.concatenate([self.logits(model, [group], texts[:1]) for group in items])
        np.testing.assert_allclose(self.logits(model, items, texts), single, rtol=0, atol=1e-4)
        expected = [model.ask_several([group], texts[:1], 12)[0] for group in items]
        rows: list[int] = []
        prefill = type(model).prefill_several

        def counted(self: Any, images: list[list[Prepared]]) -> Any:
            rows.append(len(images))
            return prefill(self, images)

        monkeypatch.setattr(type(model), "prefill_several", counted)
        assert model.ask_several(items, texts, 12) == expected
        n_tokens = sum(item.sample.n_tokens for item in items[0])
        n_tokens += len(model.prompt.text_ids(model.prompt.question(TEXTS[0], 3)))
        monkeypatch.setattr(several, "PROMPT_TOKENS", 3 * n_tokens - 1)
        assert model.ask_several(items, texts, 12) == expected
        assert rows == [5, 2, 2, 1]

    def test_questions_over_other_grids_run_apart(self, model: Any) -> None:
        """Wide and tall images have equal numbers of tokens, and on Qwen's grids other
        positions.
        """
        items = [self.prepared(model, self.images(2, seed)) for seed in range(8)]
        items = [group if i % 2 else group[::-1] for i, group in enumerate(items)]
        expected = [model.ask_several([group], TEXTS[:1], 12)[0] for group in items]
        assert model.ask_several(items, [TEXTS[0]] * 8, 12) == expected

    def test_images_of_a_run_answer_like_their_pixels(self, model: Any) -> None:
        images = self.stored_images()
        items = [
            model.prepare(image, id=str(i), index=i, view=self.view, prefix="red cat")
            for i, image in enumerate(images)
        ]
        stored = []
        for item in items:
            captured = model.capture([item], model.request(("projected",), None))
            arrays = {"projected": captured.arrays["projected"][0]}
            stored.append(model.prepare_stored(item.sample, arrays))
        fresh = self.prepared(model, images)
        mixed = [fresh[0], stored[1], fresh[2]]
        expected = self.logits(model, [fresh], [TEXTS[0]])[0]
        for items in (stored, mixed):
            np.testing.assert_allclose(
                self.logits(model, [items], [TEXTS[0]])[0], expected, rtol=0, atol=1e-4
            )
        answers = model.ask_several([fresh, stored, mixed], [TEXTS[0]] * 3, 12)
        assert len(set(answers)) == 1

    def test_a_prompt_begins_with_the_first_images_stored_cache(
        self, model: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its tokens do not run again, and the logits are those of the whole prompt."""
        images = self.stored_images()
        expected = self.logits(model, [self.prepared(model, images)], [TEXTS[0]])
        first, *following = (
            model.prepare(image, id=str(i), index=i, view=self.view)
            for i, image in enumerate(images)
        )
        captured = model.capture([first], model.request(("key", "value"), None))
        stored = {name: items[0] for name, items in captured.arrays.items()}
        stored |= {f"text_{name}": items[0] for name, items in captured.text.items()}
        lengths: list[int] = []
        run = type(model).run

        def counted(model: Any, embeddings: torch.Tensor, *args: Any, **beside: Any) -> Any:
            """Run as ever, and count the tokens."""
            lengths.append(embeddings.shape[1])
            return run(model, embeddings, *args, **beside)

        monkeypatch.setattr(type(model), "run", counted)
        items = [replace(first, stored=stored), *following]
        np.testing.assert_allclose(
            self.logits(model, [items], [TEXTS[0]]), expected, rtol=0, atol=1e-4
        )
        if type(model).prefill_several is SeveralImages.prefill_several:
            n_begun = first.sample.image_start + first.sample.n_tokens
            whole_lengths, lengths[:] = lengths[:], []
            self.logits(model, [[first, *following]], [TEXTS[0]])
            assert lengths[0] - whole_lengths[0] == n_begun

    def test_the_order_of_images_matters(self, model: Any) -> None:
        left, middle, right = self.prepared(model, self.images(3))
        first = self.logits(model, [[left, middle, right]], [TEXTS[0]])
        assert np.abs(first - self.logits(model, [[middle, left, right]], [TEXTS[0]])).max() > 0.01

    def test_one_image_answers_like_ask(self, model: Any) -> None:
        (item,) = self.prepared(model, self.images(1))
        cache = model.prefill([item])
        questions = [model.question(text) for text in TEXTS]
        expected = model.ask(cache, item.sample, questions, 12)
        assert model.ask_several([[item]] * 3, TEXTS, 12) == expected
        several_cache, samples = model.prefill_several([[item]])
        assert samples == [item.sample]
        for layer, several_layer in zip(cache.layers, several_cache.layers, strict=True):
            assert torch.equal(layer.keys, several_layer.keys)
            assert torch.equal(layer.values, several_layer.values)

    def test_no_room_on_the_device_halves_the_batch(
        self, model: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = [self.prepared(model, self.images(2, seed)) for seed in range(4)]
        expected = model.ask_several(items, [TEXTS[0]] * 4, 12)
        run = type(model).run
        room, rows = 2, []

        def crowded(
            self: Any, embeddings: torch.Tensor, positions: torch.Tensor | None, cache: Any
        ) -> torch.Tensor:
            rows.append(len(embeddings))
            if len(embeddings) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            states: torch.Tensor = run(self, embeddings, positions, cache)
            return states

        monkeypatch.setattr(type(model), "run", crowded)
        assert model.ask_several(items, [TEXTS[0]] * 4, 12) == expected
        assert set(rows) == {4, 2}
        room = 0
        with pytest.raises(
            KvtoolError, match=r"question over 0, 1: expected its prompt to fit .* free the device"
        ):
            model.ask_several(items, [TEXTS[0]] * 4)

    def test_what_cannot_be_asked_is_refused(self, model: Any) -> None:
        item = self.prepared(model, self.images(1))[0]
        with pytest.raises(
            UsageError, match="expected as many texts as sets of images, found 1 texts and 2 sets"
        ):
            model.ask_several([[item], [item]], ["red"])
        with pytest.raises(
            UsageError, match="question 'cat': expected at least one image, found none"
        ):
            model.ask_several([[item], []], ["red", "cat"])
        prefixed = model.prepare(tiny.noise(70, 45), id="marked", index=0, prefix="red cat")
        with pytest.raises(
            UsageError, match=r"image marked: expected no prefix .* found 'red cat'"
        ):
            model.ask_several([[item, prefixed]], ["red"])
        with pytest.raises(
            UsageError, match=f"text: expected text without {re.escape(self.family.image_token)}"
        ):
            model.ask_several([[item, item]], [f"red {self.family.image_token}"])
        assert model.ask_several([], []) == []
