"""Knockout from a stored cache against transformers' eager forward of the whole prompt with
additive masks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.errors import UsageError
from kvtool.models import continuation, load_model
from kvtool.models.base import LanguageModel
from kvtool.models.knockout import knocked_out
from kvtool.models.methods import Head
from kvtool.types import Sample, View
from tests.contracts.families import llava_next, llava_onevision, qwen_vl
from tests.contracts.model_contract import DecoderContract
from tests.support import tiny

CONTRACTS: list[type[DecoderContract]] = [
    llava_onevision.LlavaOnevision,
    llava_next.LlavaNextLlama,
    llava_next.LlavaNextMistral,
    qwen_vl.Qwen2VL,
    qwen_vl.Qwen25VL,
]
HEADS = [(layer, kv_head) for layer in range(3) for kv_head in range(2)]
QUESTION = "what is there"


@dataclass
class Case:
    """A family's tiny checkpoint: ours, transformers' own in eager attention, and how to lay out
    its prompt.
    """

    contract: DecoderContract
    folder: Path
    model: LanguageModel
    reference: Any

    def stored(self, view: View, seed: int = 0) -> tuple[Sample, Any]:
        """An image as a store holds it: its sample and the restored cache."""
        sample, captured = self.contract.capture(self.model, tiny.noise(70, 45, seed), view)
        return sample, self.model.restore([sample], [self.contract.stored(captured)])

    def inputs(self, view: View, seed: int = 0) -> dict[str, Any]:
        return self.contract.own_inputs(
            self.reference, self.folder, tiny.noise(70, 45, seed), view, question=QUESTION
        )


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda contract: contract.build)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    contract = request.param()
    folder = getattr(tiny, contract.build)(tmp_path_factory.mktemp("knockout"))
    model = load_model(str(folder), dtype="float32")
    assert isinstance(model, LanguageModel)
    reference = contract.own_class.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return Case(contract, folder, model, reference)


@contextmanager
def masked(reference: Any, heads: Sequence[Head], start: int, stop: int) -> Iterator[None]:
    """Give the attention of each layer a float mask (1, q_head, query, key), minus infinity written
    out pair by pair.

    start, stop: the image's placeholders in the prompt. Four query heads share two kv_heads.
    """

    def hook(module: Any, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        n = options["hidden_states"].shape[1]
        mask = torch.zeros(1, 4, n, n)
        for q_head in range(4):
            blocked = (module.layer_idx, q_head // 2) in heads
            for query in range(n):
                mask[0, q_head, query, query + 1 :] = float("-inf")
                if blocked and query >= stop:
                    mask[0, q_head, query, start:stop] = float("-inf")
        return arguments, {**options, "attention_mask": mask}

    layers = reference.model.language_model.layers
    handles = [
        layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def placeholders(case: Case, view: View, sample: Sample) -> tuple[int, int]:
    """First and last + 1 of the image's placeholders in transformers' own prompt."""
    inputs = case.inputs(view)
    if "input_ids" in inputs:
        spots = (
            (inputs["input_ids"][0] == case.reference.config.image_token_id)
            .nonzero()[:, 0]
            .tolist()
        )
        assert spots == list(range(spots[0], spots[-1] + 1))
        return spots[0], spots[-1] + 1
    newline = case.reference.model.image_newline
    (index,) = (inputs["inputs_embeds"][0] == newline).all(dim=-1).nonzero()[:, 0].tolist()
    return sample.image_start, index + 1


@pytest.mark.slow
def test_logits_equal_an_eager_forward_of_the_whole_prompt(case: Case) -> None:
    generator = random.Random(1)
    for view in case.contract.views:
        sample, cache = case.stored(view)
        start, stop = placeholders(case, view, sample)
        assert (start, stop) == (sample.image_start, case.model.image_end(sample))
        plain = case.model.logits(cache, [sample], case.model.question(QUESTION))[0].numpy()
        for count in (1, 2, 3, 6):
            heads = generator.sample(HEADS, count)
            with knocked_out(case.model, [sample], heads):
                logits = case.model.logits(cache, [sample], case.model.question(QUESTION))[
                    0
                ].numpy()
            with masked(case.reference, heads, start, stop), torch.inference_mode():
                expected = case.reference(**case.inputs(view)).logits[0].numpy()
            np.testing.assert_allclose(logits, expected[-len(logits) :], rtol=0, atol=1e-4)
            assert np.abs(logits - plain).max() > 1e-3


@pytest.mark.slow
def test_answers_equal_eager_greedy_decoding_of_the_whole_prompt(case: Case) -> None:
    """transformers runs the whole prompt again for each token, so that its masks are written out in
    full too.
    """
    heads = [(0, 1), (2, 0)]
    view = case.contract.views[-1]
    sample, cache = case.stored(view)
    start, stop = placeholders(case, view, sample)
    with knocked_out(case.model, [sample], heads):
        (answer,) = case.model.generate(
            cache, [sample], case.model.question(QUESTION), max_new_tokens=5
        )
    inputs = case.inputs(view)
    with masked(case.reference, heads, start, stop):
        first = inputs["input_ids"].shape[1]
        ids = case.reference.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=False)[
            0, first:
        ]
    tokenizer = case.contract.own_processor(case.folder).tokenizer
    assert answer == tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.mark.sampled
def test_no_heads_change_nothing(case: Case) -> None:
    for view in case.contract.views:
        sample, cache = case.stored(view)
        text = case.model.question(QUESTION)
        before = case.model.logits(cache, [sample], text)
        with knocked_out(case.model, [sample], []):
            within = case.model.logits(cache, [sample], text)
        after = case.model.logits(cache, [sample], text)
        assert torch.equal(before, within)
        assert torch.equal(before, after)


@pytest.mark.sampled
def test_every_head_leaves_nothing_of_the_image_but_its_positions(case: Case) -> None:
    for view in case.contract.views:
        logits = []
        for seed in range(2):
            sample, cache = case.stored(view, seed)
            with knocked_out(case.model, [sample], HEADS):
                logits.append(case.model.logits(cache, [sample], case.model.question(QUESTION)))
            logits.append(case.model.logits(cache, [sample], case.model.question(QUESTION)))
        assert torch.equal(logits[0], logits[2])
        assert not torch.equal(logits[1], logits[3])


@pytest.mark.sampled
def test_the_images_cache_does_not_change(case: Case) -> None:
    view = case.contract.views[-1]
    prepared = case.model.prepare(tiny.noise(70, 45), id="a", index=0, view=view)
    plain = case.model.prefill([prepared])
    with knocked_out(case.model, [prepared.sample], HEADS):
        within = case.model.prefill([prepared])
    for plain_layer, layer in zip(plain.layers, within.layers, strict=True):
        torch.testing.assert_close(plain_layer.keys, layer.keys, rtol=0, atol=1e-6)
        torch.testing.assert_close(plain_layer.values, layer.values, rtol=0, atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("batch", [32, 2])
def test_questions_about_one_image_run_together_and_answer_as_each_alone(
    case: Case, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "QUESTION_BATCH", batch)
    sample, cache = case.stored(case.contract.views[0])
    texts = [
        case.model.question(text)
        for text in ("red", "is there a cat", "what is there", "is there a dog", "is the cat red")
    ]
    with knocked_out(case.model, [sample], [(1, 0)]):
        together = case.model.ask(cache, sample, texts, max_new_tokens=6)
        single = [case.model.generate(cache, [sample], text, max_new_tokens=6)[0] for text in texts]
    assert together == single
    assert cache.layers[0].keys.shape[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", CONTRACTS[3:], ids=lambda contract: contract.build, indirect=True)
def test_images_of_one_length_and_two_places_are_blocked_each_in_its_own(case: Case) -> None:
    """Rows whose images start at different positions: one has a shorter image and a longer text
    before it.
    """
    short, long = ((60, 40), (60, 44))
    prepared = [case.model.prepare(tiny.noise(*size), id="a", index=0) for size in (short, long)]
    shortfall = prepared[1].sample.n_tokens - prepared[0].sample.n_tokens
    assert shortfall > 0
    prefix = " ".join(["red"] * (shortfall - 1))
    samples, arrays = [], []
    for size, words in ((short, prefix), (long, "")):
        item = case.model.prepare(tiny.noise(*size), id="a", index=0, prefix=words)
        captured = case.model.capture([item], case.model.request(None, None))
        samples.append(item.sample)
        arrays.append(case.contract.stored(captured))
    assert samples[0].image_start != samples[1].image_start
    text = case.model.question(QUESTION)
    with knocked_out(case.model, samples, HEADS[:3]):
        together = case.model.logits(case.model.restore(samples, arrays), samples, text)
    for row, (sample, stored) in enumerate(zip(samples, arrays, strict=True)):
        with knocked_out(case.model, [sample], HEADS[:3]):
            single = case.model.logits(case.model.restore([sample], [stored]), [sample], text)
        torch.testing.assert_close(together[row], single[0], rtol=0, atol=1e-4)


@pytest.mark.sampled
@pytest.mark.parametrize("head", [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_heads_the_decoder_does_not_have(case: Case, head: Head) -> None:
    match = r"heads: expected (layer from 0 to 2|kv_head from 0 to 1) .*, found -?\d"
    with pytest.raises(UsageError, match=match), knocked_out(case.model, [], [head]):
        pass


@pytest.mark.sampled
def test_the_tower_keeps_its_attention(case: Case) -> None:
    net = case.model.language_model
    with knocked_out(case.model, [], []):
        assert net.config._attn_implementation == "kvtool_attention"
        assert case.contract.capture(case.model, tiny.noise(70, 45))[1].arrays["vision"]
        tower: Any = getattr(case.model, "net").model  # noqa: B009  not in the protocol
        vision = tower.visual if hasattr(tower, "visual") else tower.vision_tower
        assert vision.config._attn_implementation == "sdpa"
    assert net.config._attn_implementation == "sdpa"
