"""Every method against a slow, obvious one: an eager pass whose masks and cache are written out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from kvtool.models.cache import fork
from kvtool.models.intervention import Intervened
from kvtool.models.knockout import knocked_out
from kvtool.models.methods import METHODS, Intervention, Method, parse_methods
from kvtool.types import Sample
from tests.contracts.families import gemma3, llava_onevision, qwen_vl
from tests.contracts.model_contract import DecoderContract
from tests.support import tiny

CONTRACTS: list[type[DecoderContract]] = [
    llava_onevision.LlavaOnevision,
    qwen_vl.Qwen25VL,
    gemma3.Gemma3,  # layers of a sliding window, from which a text's end sees no image
]
HEADS = frozenset({(0, 1), (1, 0), (2, 1)})
"""(layer, kv_head): four query heads share two."""
QUESTION = "what is there"
N_SINKS = 3
STRENGTHS = ("scale:0.3", "scale:4", "redistribute:0.7", "redistribute:1", "temperature:0.5")


@dataclass
class Case:
    """A tiny model with an image's stored cache, and the same model on eager attention."""

    model: LanguageModel
    eager: LanguageModel
    sample: Sample
    arrays: Any

    def cache(self, model: LanguageModel) -> Any:
        return model.restore([self.sample], [self.arrays])

    def logits(self, label: str, question: str = QUESTION) -> torch.Tensor:
        (method,) = parse_methods(label)
        return self.intervened(method).logits(
            self.cache(self.model), [self.model.question(question)]
        )[0]

    def intervened(self, method: Method, heads: Any = HEADS) -> Intervened:
        means = MEANS if method.name.startswith("mean") else None
        return Intervened(self.model, self.sample, Intervention(method, heads), N_SINKS, means)

    @property
    def image(self) -> slice:
        """The image's keys in a prompt, with LLaVA's newline after a base view."""
        return slice(self.sample.image_start, self.model.image_end(self.sample))


MEANS = {layer: torch.randn(2, 8, generator=torch.manual_seed(layer)) for layer in range(3)}
"""Vectors by layer, (kv_head, dim)."""


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda contract: contract.build)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    contract = request.param()
    folder: Path = getattr(tiny, contract.build)(tmp_path_factory.mktemp("intervention"))
    models = [
        load_model(str(folder), dtype="float32", attention=name) for name in ("sdpa", "eager")
    ]
    model, eager = models
    assert isinstance(model, LanguageModel)
    assert isinstance(eager, LanguageModel)
    sample, captured = contract.capture(model, tiny.noise(70, 45), "base")
    return Case(model, eager, sample, contract.stored(captured))


@contextmanager
def written_out(case: Case, change: Any) -> Iterator[None]:
    """Let each eager attention of chosen heads attend with weights changed query by query.

    change: takes the weights (key,) of one query in one head, and returns others.
    """
    from transformers import AttentionInterface

    def attend(
        module: Any, query: Any, key: Any, value: Any, *_masks: Any, scaling: float, **_: Any
    ) -> tuple[torch.Tensor, None]:
        n_queries, n_keys = query.shape[2], key.shape[2]
        window = getattr(module, "sliding_window", None) or n_keys
        output = torch.zeros(1, n_queries, 4, query.shape[-1])
        for q_head in range(4):
            kv_head = q_head // 2
            for row in range(n_queries):
                position = n_keys - n_queries + row
                visible = range(max(0, position + 1 - window), position + 1)
                weights = torch.zeros(n_keys)
                logits = key[0, kv_head, visible] @ query[0, q_head, row] * scaling
                weights[visible] = logits.softmax(0)
                is_text = position >= case.image.stop
                if is_text and (module.layer_idx, kv_head) in HEADS:
                    weights = change(weights)
                output[0, row, q_head] = weights @ value[0, kv_head]
        return output, None

    AttentionInterface.register("written_out", attend)
    case.eager.language_model.config._attn_implementation = "written_out"
    try:
        yield
    finally:
        case.eager.language_model.config._attn_implementation = "eager"


def scaled(weights: torch.Tensor, image: slice, factor: float) -> torch.Tensor:
    """Attention on the image multiplied before the softmax is normalized."""
    changed = weights.clone()
    changed[image] *= factor
    return changed / changed.sum()


def redistributed(weights: torch.Tensor, image: slice, share: float) -> torch.Tensor:
    """The strongest tokens give a share of theirs to all others of the image."""
    changed = weights.clone()
    shares = changed[image]
    sinks = shares.argsort(descending=True)[:N_SINKS].tolist()
    strangers = [token for token in range(len(shares)) if token not in sinks]
    freed = share * sum(float(shares[token]) for token in sinks)
    total = sum(float(shares[token]) for token in strangers)
    if total == 0:
        return weights
    for token in strangers:
        shares[token] += freed * float(shares[token]) / total
    for token in sinks:
        shares[token] *= 1 - share
    return changed


def cooled(weights: torch.Tensor, image: slice, temperature: float) -> torch.Tensor:
    """The distribution over the image's tokens at a temperature, their sum as it was."""
    changed = weights.clone()
    powers = changed[image] ** (1 / temperature)
    changed[image] = changed[image].sum() * powers / powers.sum().clamp(min=1e-30)
    return changed


OBVIOUS = {"scale": scaled, "redistribute": redistributed, "temperature": cooled}


@pytest.mark.slow
@pytest.mark.parametrize("label", STRENGTHS)
def test_weights_are_changed_as_written_out_query_by_query(case: Case, label: str) -> None:
    (method,) = parse_methods(label)
    with written_out(case, lambda w: OBVIOUS[method.name](w, case.image, method.strength or 0)):
        expected = case.eager.logits(
            case.cache(case.eager), [case.sample], case.model.question(QUESTION), last=True
        )[0]
    logits = case.logits(label)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert (logits - case.logits("scale:1")).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("label", ["mean-key", "mean-value"])
def test_means_stand_in_the_cache(case: Case, label: str) -> None:
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    for layer, kv_head in HEADS:
        arrays[label.removeprefix("mean-")][layer, kv_head, :] = MEANS[layer][kv_head].numpy()
    cache = case.eager.restore([case.sample], [arrays])
    text = case.model.question(QUESTION)
    expected = case.eager.logits(cache, [case.sample], text, last=True)[0]
    torch.testing.assert_close(case.logits(label), expected, rtol=0, atol=1e-4)
    assert (expected - case.logits("scale:1")).abs().max() > 1e-4


@pytest.mark.slow
def test_contrast_is_by_how_much_logits_exceed_blocked_ones(case: Case) -> None:
    expected = case.logits("scale:1") + 1.5 * (case.logits("scale:1") - case.logits("block"))
    torch.testing.assert_close(case.logits("contrast:1.5"), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_contrast_answers_token_by_token(case: Case) -> None:
    """Two caches side by side, both grown by what the compared logits say."""
    model: Any = case.model
    texts = [model.question(text) for text in (QUESTION, "is there a cat", "is there a dog", "red")]
    ours = case.intervened(Method("contrast", 2.0)).ask(case.cache(model), texts, 4)
    for text, answer in zip(texts, ours, strict=True):
        grown = [case.cache(model) for _ in range(2)]
        ids = model._text_ids([case.sample], text)
        answer_ids: list[int] = []
        for _ in range(4):
            logits = []
            for cache, heads in zip(grown, ((), HEADS), strict=True):
                with knocked_out(model, [case.sample], heads):
                    states = model._follow(cache, [case.sample], ids)
                logits.append(model.head(states[:, -1]))
            ids = (3 * logits[0] - 2 * logits[1]).argmax(dim=-1, keepdim=True)
            if int(ids) in model._end_ids():
                break
            answer_ids.append(int(ids))
        words = model.prompt.tokenizer.decode(answer_ids, skip_special_tokens=True)
        assert answer == words.strip()


@pytest.mark.parametrize("label", ["scale:1", "redistribute:0", "contrast:0", "temperature:1"])
def test_the_strength_that_does_nothing_leaves_every_bit(case: Case, label: str) -> None:
    (method,) = parse_methods(label)
    assert method.changes_nothing
    plain = case.model.logits(
        case.cache(case.model), [case.sample], case.model.question(QUESTION), last=True
    )[0]
    assert torch.equal(case.logits(label), plain)


def test_scale_zero_is_block(case: Case) -> None:
    assert torch.equal(case.logits("scale:0"), case.logits("block"))
    # As the strength goes to nothing it comes near.
    torch.testing.assert_close(case.logits("scale:1e-6"), case.logits("block"), atol=1e-4, rtol=0)


def test_the_cache_stays_and_texts_run_together_as_each_alone(case: Case) -> None:
    cache = case.cache(case.model)
    before: Any = fork(cache)
    texts = [case.model.question(text) for text in ("red", "is there a cat", "is there a dog")]
    for label in ("scale:0.3", "redistribute:1", "temperature:2", "mean-key", "contrast:1"):
        intervened = case.intervened(parse_methods(label)[0])
        together = intervened.logits(cache, texts)
        for row, text in zip(together, texts, strict=True):
            torch.testing.assert_close(row, intervened.logits(cache, [text])[0], atol=1e-4, rtol=0)
    for layer, earlier in zip(cache.layers, before.layers, strict=True):
        assert torch.equal(layer.keys, earlier.keys)
        assert torch.equal(layer.values, earlier.values)


def test_heads_the_decoder_does_not_have(case: Case) -> None:
    for method in (Method("scale", 0.5), Method("block")):
        with pytest.raises(UsageError, match="heads: expected kv_head from 0 to 1"):
            case.intervened(method, frozenset({(0, 2)})).logits(
                case.cache(case.model), [case.model.question(QUESTION)]
            )


def test_a_list_of_strengths_is_a_method_each() -> None:
    methods = parse_methods(["scale:0,0.5,2", "block", "scale:2"])
    assert [method.label for method in methods] == ["scale:0", "scale:0.5", "scale:2", "block"]
    assert [method.blocks for method in methods] == [True, False, False, True]
    assert set(METHODS) >= {method.name for method in methods}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("dim:2", "--method: expected one of block, scale:NUMBER, .*, found 'dim:2'"),
        ("skale:2", "did you mean scale?"),
        ("scale", "scale: expected a strength from 0 to 1e\\+06, as scale:0.5, found ''"),
        ("scale:-1", "found '-1'"),
        ("scale:1,nan", "found 'nan'"),
        ("redistribute:1.5", "expected a strength from 0 to 1,"),
        ("temperature:0", "expected a strength above 0 to 1e\\+06"),
        ("block:1", "--method block: expected no strength, found '1'"),
        ("mean-key:", "--method mean-key: expected no strength"),
    ],
)
def test_methods_that_there_are_not(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse_methods(text)
