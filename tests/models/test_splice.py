"""Losses with a replaced stream equal those of a pass over the whole prompt, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.splice import QUESTION, SplicedImage
from kvtool.types import KeyPosition
from tests.support import tiny
from tests.support.tiny import noise
from tests.support.whole_pass import FAMILIES, stored, whole_pass

CAPTION = "there is a red cat on the left"


def loaded(folder: Path, family: str) -> tuple[Any, Any]:
    model: Any = load_model(str(getattr(tiny, family)(folder)), dtype="float32")
    return model, model.prepare(noise(70, 45), id="a", index=0, prefix="the red cat")


def slow_loss(
    model: Any, item: Any, layer: int | None, tokens: list[int], vectors: torch.Tensor | None
) -> float:
    """The caption's loss in one pass over [before][image][question][caption], from the picture on,
    with a hook that overwrites one layer's output.
    """
    sample = item.sample
    text = model.question(QUESTION) + CAPTION
    ids = model.prompt.text_ids(text)
    n_caption = len(CAPTION.split())

    def overwrite(_module: Any, _inputs: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        for token, vector in zip(tokens, vectors if vectors is not None else [], strict=True):
            stream[0, sample.image_start + token] = vector
        return output

    handles = []
    if layer is not None:
        handles.append(model.language_model.layers[layer].register_forward_hook(overwrite))
    with torch.inference_mode():
        before = model.before_decoder([item], (), project=True)
        states = model.run_prompts([sample], before, model.new_cache(), ids)
        logits = model.net.lm_head(states)[0].log_softmax(dim=-1)
    for handle in handles:
        handle.remove()
    losses = [
        -logits[len(logits) - n_caption + n - 1, ids[len(ids) - n_caption + n]]
        for n in range(n_caption)
    ]
    return float(sum(losses)) / n_caption


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["post-rope", "pre-rope"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_equal_a_whole_pass(tmp_path: Path, family: str, keys: KeyPosition) -> None:
    model, item = loaded(tmp_path, family)
    arrays = stored(model.capture([item], model.request(None, None, keys)), 0)
    n = item.sample.n_tokens
    hidden = model.info.geometry.hidden
    tokens = [*range(1, n // 2), n - 1]
    image = SplicedImage(model, item.sample, arrays, np.array(tokens), CAPTION, keys=keys)
    assert image.n_tokens == len(CAPTION.split())
    plain = slow_loss(model, item, None, [], None)
    assert image.loss() == pytest.approx(plain, abs=2e-5)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for layer in range(3):
        vectors = 5 * torch.randn(len(tokens), hidden, generator=generator)
        expected = slow_loss(model, item, layer, tokens, vectors)
        losses.append(image.spliced_loss(layer, vectors))
        assert losses[-1] == pytest.approx(expected, abs=2e-5)
    # What comes after the last layer is read by nobody, as text never looks at outputs.
    assert losses[2] == pytest.approx(plain, abs=2e-5)
    assert abs(losses[0] - plain) > 4e-4  # twenty times the tolerance
    # The model is as it was.
    assert image.loss() == pytest.approx(plain, abs=2e-5)


@pytest.mark.slow
def test_the_stream_in_its_own_place_changes_nothing(tmp_path: Path) -> None:
    model, item = loaded(tmp_path, "llava_onevision")
    arrays = stored(model.capture([item], model.request(None, None)), 0)
    start = item.sample.image_start
    outputs = whole_pass(model, [item])[:, 0, start:]
    tokens = np.arange(item.sample.n_tokens)
    image = SplicedImage(model, item.sample, arrays, tokens, CAPTION)
    for layer in range(3):
        assert image.spliced_loss(layer, outputs[layer]) == pytest.approx(image.loss(), abs=2e-6)


@pytest.mark.slow
def test_an_image_at_the_start_of_a_prompt(tmp_path: Path) -> None:
    model: Any = load_model(str(tiny.llava_next(tmp_path)), dtype="float32")
    item = model.prepare(noise(70, 45), id="a", index=0)
    arrays = stored(model.capture([item], model.request(None, None)), 0)
    tokens = np.arange(item.sample.n_tokens)
    vectors = torch.zeros(len(tokens), model.info.geometry.hidden)
    image = SplicedImage(model, item.sample, arrays, tokens, CAPTION)
    expected = slow_loss(model, item, 0, tokens.tolist(), vectors)
    assert image.spliced_loss(0, vectors) == pytest.approx(expected, abs=2e-5)


def test_what_cannot_be_spliced_is_refused(tmp_path: Path) -> None:
    model, item = loaded(tmp_path, "llava_onevision")
    arrays = stored(model.capture([item], model.request(None, None)), 0)
    n = item.sample.n_tokens
    with pytest.raises(UsageError, match=f"expected tokens from 0 to {n - 1}, found"):
        SplicedImage(model, item.sample, arrays, np.array([n]), CAPTION)
    with pytest.raises(UsageError, match="expected a caption of words, found ''"):
        SplicedImage(model, item.sample, arrays, np.array([0]), "")
