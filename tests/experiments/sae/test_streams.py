"""What stands at the image's place under each condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.datasets.identity import dataset_of
from kvtool.engine.run_model import load_run_model
from kvtool.experiments.sae import streams as streams_module
from kvtool.experiments.sae.streams import (
    REPLACED,
    DecoderStreams,
    read_inputs,
    untrained,
)
from kvtool.experiments.sae.subject import Tokens, make_subject, read_cells, serves_untrained
from kvtool.models.device import from_numpy
from kvtool.models.hidden import prompt_states
from kvtool.models.language import language_of
from kvtool.store import Run
from kvtool.types import GridSpan, Sample
from tests.support.sae.tiny_study import tiny_run

DTYPE = torch.float32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    return tiny_run(tmp_path_factory.mktemp("streams"), tiny_model)


@pytest.fixture(scope="module")
def model(run: Run) -> Any:
    return load_run_model(run, device="cpu")


def streams_of(run: Run, model: Any, tokens: Tokens = 5) -> DecoderStreams:
    subject = make_subject(run, dataset_of(run), tokens, None, 0)
    return DecoderStreams(subject, model, language_of(model), (0, 2), read_inputs(subject, True))


def projected(run: Run) -> torch.Tensor:
    """What the run's images have at their place, (image, token, hidden)."""
    return torch.stack(
        [
            from_numpy(run.read_image(image, ["projected"], raw=True)["projected"][0, 0], DTYPE)
            for image in run.ids
        ]
    )


@pytest.fixture
def entering(
    run: Run, model: Any, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[torch.Tensor, Any]]:
    """By condition, the vectors that enter the decoder and the tokens that are read."""
    recorded = []

    def record(
        _model: Any, _samples: Any, vectors: torch.Tensor, tokens: Any, layers: Any
    ) -> torch.Tensor:
        recorded.append((vectors, tokens))
        return torch.zeros(len(layers), *tokens.shape, vectors.shape[-1])

    monkeypatch.setattr(streams_module, "prompt_states", record)
    streams_of(run, model).images(range(len(run)), REPLACED)
    return dict(zip(REPLACED, recorded, strict=True))


@pytest.mark.slow
def test_random_norm_has_the_lengths_of_each_token(run: Run, entering: Any) -> None:
    vectors, _ = entering["random-norm"]
    torch.testing.assert_close(vectors.norm(dim=-1), projected(run).norm(dim=-1))
    cosines = torch.cosine_similarity(vectors, projected(run), dim=-1)
    assert abs(float(cosines.mean())) < 0.05


@pytest.mark.slow
def test_random_has_mean_and_deviation_of_each_channel(run: Run, entering: Any) -> None:
    vectors = entering["random"][0].flatten(0, 1)
    images = projected(run).flatten(0, 1)
    error = images.std(dim=0) / len(vectors) ** 0.5
    assert float(((vectors.mean(dim=0) - images.mean(dim=0)) / error).abs().max()) < 5
    torch.testing.assert_close(vectors.std(dim=0), images.std(dim=0), rtol=0.35, atol=0)


@pytest.mark.slow
def test_shuffled_patches_are_read_where_they_went(run: Run, model: Any, entering: Any) -> None:
    vectors, tokens = entering["shuffled"]
    subject = streams_of(run, model).subject
    for position, image in enumerate(projected(run)):
        patches = run.samples[position].base().token_indices()
        scored = vectors[position][tokens[position]]
        torch.testing.assert_close(scored, image[subject.tokens(position)], rtol=0, atol=0)
        assert not torch.equal(vectors[position], image)
        # The same patches, in another order; other tokens stay.
        assert {tuple(row.tolist()) for row in vectors[position][patches]} == {
            tuple(row.tolist()) for row in image[patches]
        }


def test_untrained_vectors_are_as_long_on_average(run: Run, entering: Any) -> None:
    vectors, _ = entering["untrained"]
    images = projected(run)
    assert float(vectors.norm(dim=-1).mean()) == pytest.approx(
        float(images.norm(dim=-1).mean()), rel=1e-4
    )
    assert not torch.allclose(vectors, images)


def test_the_same_vectors_give_the_same_stream(run: Run, model: Any) -> None:
    """Where nothing is replaced, a pass over the prompt is what the run's own keys give."""
    streams = streams_of(run, model)
    tokens = np.stack([streams.subject.tokens(position) for position in range(3)])
    again = prompt_states(model, run.samples[:3], projected(run)[:3], tokens, streams.layers)
    images = streams.images(range(3), ["image"])["image"]
    torch.testing.assert_close(again, images, rtol=1e-4, atol=1e-4)


def test_captions_at_the_place_of_the_image_follow_its_text(run: Run, model: Any) -> None:
    streams = streams_of(run, model)
    texts = {item.text: item for item in streams.captions([0])}
    prefixed = {item.text: item for item in streams.captions([0], "text-prefix")}
    assert texts.keys() == prefixed.keys()
    ids = list(run.samples[0].prefix_ids)
    for text, item in prefixed.items():
        row = torch.tensor([ids + streams.language.token_ids(text)])
        expected = streams.language.states(row, [0, 2])[:, 0, len(ids) :]
        torch.testing.assert_close(item.states, expected)


def test_patches_that_share_a_token_are_averaged() -> None:
    """A token of 2 x 2 patches, and one that is no patch, which stays."""
    span = GridSpan("base", 0, (1, 2), 3, (0, 0, 4, 2))
    fine = GridSpan("base", 0, (2, 4), 4, (0, 0, 4, 2))
    sample = Sample("a", 0, (4, 2), 3, (span,), 8, (fine,), "", (1,), 1, 4)
    vision = torch.arange(8.0)[:, None]
    inputs = streams_module.Inputs(
        torch.zeros(1), torch.ones(1), torch.tensor([[2.0]]), torch.tensor([1.0])
    )
    assert serves_untrained(sample)
    vectors = untrained(sample, torch.full((3, 1), 9.0), vision, inputs)
    assert vectors[:, 0].tolist() == [2 * 2.5 + 1, 2 * 4.5 + 1, 9.0]


def test_the_first_token_of_a_prompt_is_never_read() -> None:
    span = GridSpan("base", 0, (4, 5), 5, (0, 0, 5, 4))
    first = Sample("a", 0, (5, 4), 20, (span,), 0, (), "", (), 0, 20)
    assert all(read_cells(first, 5, seed).min() > 0 for seed in range(30))
    assert read_cells(first, "all", 0).tolist() == list(range(1, 20))
    after_text = Sample("a", 0, (5, 4), 20, (span,), 0, (), "", (1,), 1, 21)
    assert read_cells(after_text, "all", 0).tolist() == list(range(20))
