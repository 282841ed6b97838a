"""Training of a layer: the loss falls, nothing but the layer changes, and what it learns in is the
prompt that it is asked in.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kvtool.adapters import training
from kvtool.adapters.examples import Exchange, examples
from kvtool.adapters.folder import put
from kvtool.adapters.reading import AnswerReader, answer_scores
from kvtool.adapters.standard import Standard
from kvtool.adapters.starts import random_layer
from kvtool.adapters.training import AdapterRecipe, Training, train_layer
from kvtool.errors import ModelError
from kvtool.models.families.linear_adapter import LinearAdapter
from tests.support.adapters import WHAT, begun, lesson
from tests.support.tiny import noise

RECIPE = AdapterRecipe(steps=30, batch=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LinearAdapter:
    return begun(tmp_path_factory.mktemp("adapter"))


@pytest.mark.slow
def test_the_loss_falls_and_the_frozen_models_stay(model: LinearAdapter) -> None:
    tokens, examples_ = lesson(model)
    first = random_layer(model, tokens, seed=0)
    put(model, first)
    frozen = {
        name: weight.clone()
        for part in (model.net, model.tower.net)
        for name, weight in part.state_dict().items()
    }
    layer = train_layer(model, tokens, examples_, RECIPE)
    before, after = (answer_scores(model, weights, tokens, examples_) for weights in (first, layer))
    swapped = answer_scores(model, layer, tokens.roll(1, 0), examples_)
    assert after.loss < before.loss - 0.5
    # Behind a picture of the other kind the caption is the wrong one.
    assert swapped.loss > after.loss + 0.5
    assert after.right > before.right
    for part in (model.net, model.tower.net):
        for name, weight in part.state_dict().items():
            assert torch.equal(weight, frozen[name])


@pytest.mark.slow
def test_an_interrupted_training_goes_on_bit_for_bit(
    model: LinearAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, examples_ = lesson(model)
    put(model, random_layer(model, tokens, seed=0))
    uninterrupted = train_layer(model, tokens, examples_, RECIPE)

    class StoppedError(Exception):
        pass

    def stop(step: int, _loss: float) -> None:
        if step == 17:
            raise StoppedError

    monkeypatch.setattr(training, "SAVE_STEPS", 5)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(StoppedError):
        train_layer(model, tokens, examples_, RECIPE, checkpoint=path, report=stop)
    steps: list[int] = []
    resumed = train_layer(
        *(model, tokens, examples_, RECIPE),
        checkpoint=path,
        report=lambda step, _: steps.append(step),
    )
    assert steps == list(range(16, 31))
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted)


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_refused(model: LinearAdapter, tmp_path: Path) -> None:
    tokens, examples_ = lesson(model)
    path = tmp_path / "checkpoint.pt"
    train_layer(model, tokens, examples_, AdapterRecipe(2, 4), checkpoint=path)
    with pytest.raises(ModelError, match="remove it, or train as before"):
        train_layer(model, tokens, examples_, AdapterRecipe(3, 4), checkpoint=path)


def test_every_example_is_read_once_an_epoch(model: LinearAdapter) -> None:
    tokens, examples_ = lesson(model)
    course = Training(model, tokens, examples_, AdapterRecipe(4, batch=2))
    batches = []
    for step in range(8):
        course.step = step
        batches.append(course._batch())
    epochs = [torch.cat(batches[:4]).tolist(), torch.cat(batches[4:]).tolist()]
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.slow
@pytest.mark.parametrize("pool", [1, 2])
def test_training_reads_the_prompt_that_the_model_is_asked_in(tmp_path: Path, pool: int) -> None:
    """Logits behind the features in training equal those of kvtool's own pass over the picture."""
    model = begun(tmp_path, pool)
    batch = [model.prepare(noise(70, 45), id="a", index=0)]
    with torch.no_grad():
        tokens = model.features(batch)
    put(model, random_layer(model, tokens, seed=0))
    answer = "the red cat"
    (example,) = examples(model, [Exchange(0, WHAT, answer)])
    with torch.no_grad():
        logits, targets = AnswerReader(model).logits(model.linear(tokens), [example])
    text = model.question(WHAT) + answer
    expected = model.logits(model.prefill(batch), [batch[0].sample], text)[0]
    # The answer's first token follows the question's last; its last is followed by the end.
    assert targets.tolist()[:-1] == model.prompt.text_ids(text)[example.start :]
    assert targets[-1] == model.prompt.tokenizer.eos_token_id
    torch.testing.assert_close(logits, expected[-len(targets) :], atol=1e-4, rtol=0)


def test_padding_and_batches_change_nothing(model: LinearAdapter) -> None:
    tokens, examples_ = lesson(model, 4)
    soft = torch.randn(4, tokens.shape[1], model.config.hidden_size)
    reader = AnswerReader(model)
    with torch.no_grad():
        together = reader.losses(soft, examples_)
        single = [reader.losses(soft[[row]], [examples_[row]]) for row in range(4)]
    assert len({len(example.ids) for example in examples_}) == 2
    torch.testing.assert_close(together, torch.cat(single), atol=1e-4, rtol=1e-4)


def test_a_standardized_layer_is_the_same_layer() -> None:
    tokens = torch.randn(5, 3, 7) * torch.arange(1, 8) + 4
    tokens[..., 2] = 6.0
    standard = Standard.of(tokens)
    z = standard.apply(tokens)
    assert float(z.mean(dim=(0, 1)).abs().max()) < 1e-5
    weight, bias = torch.randn(4, 7), torch.randn(4)
    folded = standard.fold(weight, bias)
    torch.testing.assert_close(
        tokens @ folded[0].T + folded[1], z @ weight.T + bias, atol=1e-4, rtol=1e-4
    )
    for part, original in zip(standard.unfold(*folded), (weight, bias), strict=True):
        torch.testing.assert_close(part, original, atol=1e-4, rtol=1e-4)


def test_the_rate_warms_up_and_falls() -> None:
    recipe = AdapterRecipe(steps=1000, learning_rate=1.0)
    rates = [recipe.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 30)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (29, 30)
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
