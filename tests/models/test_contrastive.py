"""Encoders with their text towers, against transformers' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Aimv2Model,
    AutoTokenizer,
    CLIPModel,
    MetaClip2Model,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipModel,
    Tipsv2Model,
)

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.base import Model
from tests.contracts.arrays import Array
from tests.contracts.families.processors import own_pixels
from tests.support import tiny, tiny_encoders

TEXTS = ["cat", "the red dog", "is there a cat"]
"""Words of the tiny vocabulary, which SigLIP 2 reads letter by letter."""
CLASSES: dict[str, Any] = {
    "siglip_of_two": SiglipModel,
    "siglip2_of_two": Siglip2Model,
    "clip_of_two": CLIPModel,
    "metaclip_2_of_two": MetaClip2Model,
    "aimv2_of_two": Aimv2Model,
    "tipsv2_of_two": Tipsv2Model,
}
IMAGE = tiny.noise(64, 64)


class Checkpoint:
    """A tiny checkpoint of two towers, loaded by kvtool and by transformers."""

    def __init__(self, build: str, folder: Path) -> None:
        self.build = build
        self.folder: Path = tiny_encoders.built(build, folder)
        self.model: Model = load_model(str(folder), dtype="float32")
        self.reference = CLASSES[build].from_pretrained(folder, dtype=torch.float32).eval()

    def own_inputs(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Texts as the documentation of each class says to tokenize them."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        names = ["input_ids"]
        if not self.build.startswith("siglip"):
            names.append("attention_mask")
        if self.build.startswith(("siglip", "tips")):
            inputs = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
        else:
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
        return {name: inputs[name] for name in names}

    def own_states(self, image: Image.Image) -> torch.Tensor:
        """(patch, dim) of the image's tower, 16 patches of a square picture."""
        tower = self.reference.vision_model
        with torch.inference_mode():
            if self.build.startswith("siglip2"):
                processor: Any = Siglip2ImageProcessorPil.from_pretrained(self.folder)
                states = tower(**processor(image, return_tensors="pt")).last_hidden_state[0, :16]
            elif self.build.startswith("tips"):
                resized = np.array(image.resize((34, 34), Image.Resampling.BILINEAR))
                pixels = torch.tensor(resized).permute(2, 0, 1)[None] / 255
                states = tower(pixel_values=pixels).last_hidden_state[0, 2:]
            else:
                states = tower(own_pixels(self.folder, image)).last_hidden_state[0, -16:]
        return torch.as_tensor(states)

    def own_pooled(self, state: torch.Tensor) -> torch.Tensor:
        """What the class's pooling makes of a patch (dim) as if it were all of an image's."""
        reference = self.reference
        tower = reference.vision_model
        with torch.inference_mode():
            if self.build.startswith("tips"):
                return state
            if self.build.startswith("siglip"):
                return torch.as_tensor(tower.head(state[None, None])[0])
            if self.build.startswith("aimv2"):
                return torch.as_tensor(
                    reference.visual_projection(tower.head(state[None, None]))[0]
                )
            return torch.as_tensor(reference.visual_projection(tower.post_layernorm(state)))

    def own_texts(self, texts: list[str]) -> Array:
        """(text, dim) of length 1."""
        with torch.inference_mode():
            embedded = self.reference.get_text_features(**self.own_inputs(texts)).pooler_output
        return np.asarray(embedded / embedded.norm(dim=-1, keepdim=True))


@pytest.fixture(scope="module", params=CLASSES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
def test_texts_are_those_of_the_classs_own_text_tower(checkpoint: Checkpoint) -> None:
    vectors = checkpoint.model.text_vectors(TEXTS, [], ("projected", "vision"), "{}")
    assert list(vectors.arrays) == ["projected"]
    counts = [3, 11, 14] if checkpoint.build == "siglip2_of_two" else [1, 3, 4]
    assert vectors.token_counts == counts
    np.testing.assert_allclose(
        vectors.arrays["projected"][:, 0, 0], checkpoint.own_texts(TEXTS), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_patterns_are_averaged_as_clips_users_do(checkpoint: Checkpoint) -> None:
    """Each embedding has length 1, and so has their mean's direction."""
    vectors = checkpoint.model.text_vectors(["cat", "dog"], [], ("projected",), "a {}|the red {}")
    for row, name in enumerate(("cat", "dog")):
        mean = checkpoint.own_texts([f"a {name}", f"the red {name}"]).mean(0)
        np.testing.assert_allclose(
            vectors.arrays["projected"][row, 0, 0],
            mean / np.linalg.norm(mean),
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.slow
def test_a_patch_is_what_the_class_makes_of_an_image_that_is_this_patch_alone(
    checkpoint: Checkpoint,
) -> None:
    """The class's own pooling, with one patch in the place of all tokens."""
    prepared = checkpoint.model.prepare(IMAGE, id="a", index=0)
    request = checkpoint.model.request(None, None)
    assert request.kinds == ("projected", "vision")
    captured = checkpoint.model.capture([prepared], request)
    patches = captured.arrays["projected"][0][0, 0]
    assert len(patches) == prepared.sample.n_tokens == 16
    states = checkpoint.own_states(IMAGE)
    for state, patch in zip(states, patches, strict=True):
        pooled = checkpoint.own_pooled(state)
        np.testing.assert_allclose(patch, (pooled / pooled.norm()).numpy(), atol=1e-6)
    np.testing.assert_allclose(captured.arrays["vision"][0][0, 0], states, atol=1e-5)


@pytest.mark.sampled
def test_kinds_can_be_chosen_and_captured_apart(checkpoint: Checkpoint) -> None:
    model = checkpoint.model
    prepared = model.prepare(tiny.noise(70, 45), id="a", index=0)
    joint = model.capture([prepared], model.request(None, [0])).arrays
    for kind in ("projected", "vision"):
        single = model.capture([prepared], model.request((kind,), [0])).arrays
        assert list(single) == [kind]
        np.testing.assert_array_equal(single[kind][0], joint[kind][0])


@pytest.mark.sampled
def test_blank_texts_are_refused(checkpoint: Checkpoint) -> None:
    for texts in ([], ["cat", " "]):
        with pytest.raises(UsageError, match="expected at least one token in each"):
            checkpoint.model.text_vectors(texts, [], ("projected",), "{}")


NO_WORDS = ("clip_full", "siglip2_full", "metaclip_2_full", "aimv2_full", "tipsv2_full")


@pytest.mark.parametrize("build", NO_WORDS)
def test_without_a_tokenizer_the_tower_is_alone(build: str, tmp_path: Path) -> None:
    model = load_model(str(tiny_encoders.built(build, tmp_path)), dtype="float32")
    assert model.request(None, None).kinds == ("vision",)
    with pytest.raises(UsageError, match="an encoder with a text tower and a tokenizer"):
        model.text_vectors(["cat"], [], ("projected",), "{}")
