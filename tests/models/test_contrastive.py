"""SigLIP and CLIP with their text towers, against transformers' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, SiglipModel

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.base import Model
from tests.contracts.arrays import Array
from tests.contracts.families.processors import own_pixels
from tests.support import tiny

TEXTS = ["cat", "the red dog", "is there a cat"]
CLASSES: dict[str, Any] = {"siglip_of_two": SiglipModel, "clip_of_two": CLIPModel}


class Checkpoint:
    """A tiny checkpoint of two towers, loaded by kvtool and by transformers."""

    def __init__(self, build: str, folder: Path) -> None:
        self.folder: Path = getattr(tiny, build)(folder)
        self.model: Model = load_model(str(folder), dtype="float32")
        self.reference = CLASSES[build].from_pretrained(folder, dtype=torch.float32).eval()

    def own_inputs(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Texts as the documentation of each class says to tokenize them."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        if isinstance(self.reference, SiglipModel):
            ids = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
            return {"input_ids": ids["input_ids"]}
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    def own_texts(self, texts: list[str]) -> Array:
        """(text, dim) of length 1."""
        with torch.inference_mode():
            embedded = self.reference.get_text_features(**self.own_inputs(texts)).pooler_output
        return np.asarray(embedded / embedded.norm(dim=-1, keepdim=True))


@pytest.fixture(scope="module", params=CLASSES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.sampled
def test_texts_are_those_of_the_classs_own_text_tower(checkpoint: Checkpoint) -> None:
    vectors = checkpoint.model.text_vectors(TEXTS, [], ("projected", "vision"), "{}")
    assert list(vectors.arrays) == ["projected"]
    assert vectors.token_counts == [1, 3, 4]
    np.testing.assert_allclose(
        vectors.arrays["projected"][:, 0, 0], checkpoint.own_texts(TEXTS), rtol=1e-5, atol=1e-6
    )


@pytest.mark.sampled
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


@pytest.mark.sampled
def test_a_patch_is_what_the_class_makes_of_an_image_that_is_this_patch_alone(
    checkpoint: Checkpoint,
) -> None:
    """The class's own pooling, with one patch in the place of all tokens."""
    image = tiny.noise(70, 45)
    prepared = checkpoint.model.prepare(image, id="a", index=0)
    request = checkpoint.model.request(None, None)
    assert request.kinds == ("projected", "vision")
    captured = checkpoint.model.capture([prepared], request)
    patches = captured.arrays["projected"][0][0, 0]
    assert len(patches) == prepared.sample.n_tokens == 16
    reference: Any = checkpoint.reference
    with torch.inference_mode():
        states = reference.vision_model(own_pixels(checkpoint.folder, image)).last_hidden_state[
            0, -16:
        ]
        for state, patch in zip(states, patches, strict=True):
            if isinstance(reference, SiglipModel):
                pooled = reference.vision_model.head(state[None, None])[0]
            else:
                pooled = reference.visual_projection(reference.vision_model.post_layernorm(state))
            np.testing.assert_allclose(patch, (pooled / pooled.norm()).numpy(), atol=1e-6)
    np.testing.assert_array_equal(captured.arrays["vision"][0][0, 0], states.numpy())


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


def test_without_a_tokenizer_the_tower_is_alone(tmp_path: Path) -> None:
    model = load_model(str(tiny.clip_full(tmp_path)), dtype="float32")
    assert model.request(None, None).kinds == ("vision",)
    with pytest.raises(UsageError, match="an encoder with a text tower and a tokenizer"):
        model.text_vectors(["cat"], [], ("projected",), "{}")
