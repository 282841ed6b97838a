"""A system message before everything else: as transformers' own processor writes it, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.families.llava_next import LLAMA_3, MISTRAL, VICUNA
from kvtool.models.families.llava_onevision import CHATML
from kvtool.models.families.qwen_vl import CHATML as QWEN_CHATML
from kvtool.models.prompts import Prompt
from tests.contracts.families.llava_next import LlavaNextLlama
from tests.contracts.families.llava_onevision import LlavaOnevision
from tests.contracts.families.qwen_vl import Qwen2VL, Qwen25VL
from tests.contracts.model_contract import DecoderContract
from tests.contracts.several_contract import fed
from tests.support import tiny, tiny_words

SYSTEM = "the dog left"
QUESTION = "what is there"
STRINGS = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' ' }}{% endfor %}"
"""A template that takes contents as strings."""


@pytest.fixture(scope="module", params=[LlavaOnevision, LlavaNextLlama, Qwen2VL, Qwen25VL])
def contract(request: pytest.FixtureRequest) -> DecoderContract:
    family: DecoderContract = request.param()
    return family


@pytest.fixture(scope="module")
def folder(contract: DecoderContract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built: Path = getattr(tiny, contract.build)(tmp_path_factory.mktemp("model"))
    return built


def prompt(folder: Path, template: str, system: str = SYSTEM, image: str = "<image>") -> Prompt:
    opening = "<|vision_start|>" if "vision_start" in template else ""
    return Prompt(tiny_words.tokenizer(None), folder, image, opening, template, system)


def own_inputs(contract: DecoderContract, folder: Path, n_images: int) -> dict[str, Any]:
    """transformers' inputs of a conversation that begins with a system message."""
    processor = contract.own_processor(folder)
    images = [{"type": "image"}] * n_images
    turns = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [*images, {"type": "text", "text": QUESTION}]},
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    pictures = [tiny.noise(48, 48, seed) for seed in range(n_images)]
    return dict(processor(images=[pictures], text=[text], return_tensors="pt"))


@pytest.mark.slow
def test_the_cache_and_what_follows_equal_transformers_whole_prompt(
    contract: DecoderContract, folder: Path
) -> None:
    inputs = own_inputs(contract, folder, 1)
    model: Any = load_model(str(folder), dtype="float32", system=SYSTEM)
    view = contract.views[-1]
    prepared = model.prepare(tiny.noise(48, 48), id="a", index=0, view=view)
    sample = prepared.sample
    ids = inputs["input_ids"][0].tolist()
    assert tuple(ids[: sample.image_start]) == sample.prefix_ids
    plain: Any = load_model(str(folder), dtype="float32")
    bare = plain.prepare(tiny.noise(48, 48), id="a", index=0, view=view)
    assert bare.sample.image_start < sample.image_start

    reference = contract.own_class.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = reference(**fed(inputs), use_cache=True)
    captured = model.capture([prepared], model.request(None, None))
    start, end = sample.image_start, sample.image_start + sample.n_tokens
    for layer, cached in enumerate(expected.past_key_values.layers):
        for kind, values in (("key", cached.keys[0].numpy()), ("value", cached.values[0].numpy())):
            stored, text = captured.arrays[kind][0][layer], captured.text[kind][0][layer]
            np.testing.assert_allclose(stored, values[:, start:end], rtol=0, atol=3e-6)
            np.testing.assert_allclose(text, values[:, :start], rtol=0, atol=3e-6)

    cache = model.restore([sample], [contract.stored(captured)])
    logits = model.logits(cache, [sample], model.question(QUESTION), last=True)[0].numpy()
    own_logits = expected.logits[0, -1].numpy()
    np.testing.assert_allclose(logits, own_logits, rtol=0, atol=1e-4)
    # The system message changes what the model says: the comparison is not of two equal prompts.
    bare_cache = plain.prefill([bare])
    bare_logits = plain.logits(bare_cache, [bare.sample], plain.question(QUESTION), last=True)[0]
    assert np.abs(bare_logits.numpy() - own_logits).max() > 1e-3

    # What a run stored before the decoder serves under any system message.
    arrays = {"projected": plain.capture([bare], plain.request(("projected",), None)).arrays}
    reused = model.prepare_stored(bare.sample, {"projected": arrays["projected"]["projected"][0]})
    assert reused.sample.prefix_ids == sample.prefix_ids
    again = model.capture([reused], model.request(("key", "value"), None))
    np.testing.assert_array_equal(again.arrays["value"][0], captured.arrays["value"][0])


@pytest.mark.sampled
def test_a_prompt_of_several_images_begins_with_it(contract: DecoderContract, folder: Path) -> None:
    model: Any = load_model(str(folder), dtype="float32", system=SYSTEM, weights=False)
    ids = own_inputs(contract, folder, 2)["input_ids"][0].tolist()
    first, between = model.prompt.several_ids(2)
    assert ids[: len(first)] == first
    start = ids.index(model.config.image_token_id)
    assert start == len(first)
    tail = list(model.prompt.text_ids(model.prompt.question(QUESTION, 2)))
    assert ids[-len(tail) :] == tail
    assert SYSTEM.split()[0] not in model.prompt.tokenizer.decode(between)


@pytest.mark.slow
def test_a_class_name_is_read_after_the_system_message(folder: Path) -> None:
    model: Any = load_model(str(folder), dtype="float32", system=SYSTEM)
    plain: Any = load_model(str(folder), dtype="float32")
    ids, n_tokens = model.prompt.placed_ids("red", is_alone=False)
    assert n_tokens == 1
    assert [tiny_words.word_id(word) for word in SYSTEM.split()] == [
        token for token in ids if token in set(map(tiny_words.word_id, SYSTEM.split()))
    ]
    read, bare = (loaded.text_values(["red"], [2]) for loaded in (model, plain))
    assert not np.array_equal(read, bare)


def refusals() -> list[Any]:
    """Templates that write no system message before the image."""
    raising = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    users = "{% for message in messages if message['role'] == 'user' %}"
    late = (
        "{% for m in messages if m.role == 'user' %}<image>{{ m.content[1].text }}{% endfor %}"
        "{% for m in messages if m.role == 'system' %}{{ m.content[0].text }}{% endfor %}"
    )
    return [
        pytest.param(MISTRAL, id="blind to roles, Mistral"),
        pytest.param(VICUNA, id="blind to roles, Vicuna"),
        pytest.param(LLAMA_3, id="blind to roles, Llama 3"),
        pytest.param(raising + CHATML, id="raises"),
        pytest.param(CHATML.replace("{% for message in messages %}", users), id="drops it"),
        pytest.param(late, id="after the image"),
    ]


@pytest.mark.parametrize("template", refusals())
def test_a_template_without_room_for_it_is_named(template: str, tmp_path: Path) -> None:
    prompt(tmp_path, template, system="")
    with pytest.raises(UsageError, match=r"^--system: expected .* found family default of model"):
        prompt(tmp_path, template)


@pytest.mark.parametrize(
    ("template", "image", "head"),
    [
        (CHATML, "<image>", "<|im_start|>system \n{}<|im_end|>\n<|im_start|>user "),
        (QWEN_CHATML, "<|image_pad|>", "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n"),
        (STRINGS, "<image>", "system {} user "),
    ],
)
def test_where_templates_write_it(template: str, image: str, head: str, tmp_path: Path) -> None:
    laid_out = prompt(tmp_path, template, image=image)
    assert laid_out.head == head.format(SYSTEM)
    assert laid_out.question("red") == prompt(tmp_path, template, "", image).question("red")


def test_a_template_of_parts_may_take_the_system_text_as_a_string(tmp_path: Path) -> None:
    template = CHATML.replace(
        "{% for message in messages %}",
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ 'rules ' ~ message['content'] ~ ' ' }}{% else %}",
    ).replace("{% endfor %}{% if add", "{% endif %}{% endfor %}{% if add")
    assert prompt(tmp_path, template).head == f"rules {SYSTEM} <|im_start|>user "


def test_what_is_no_system_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--system: expected text without <image>"):
        prompt(tmp_path, CHATML, "a <image> b")
    with pytest.raises(UsageError, match="--system: expected a text, found blanks alone"):
        load_model(str(tiny.llava_onevision(tmp_path / "a")), weights=False, system="  ")
    for build in (tiny.clip, tiny.siglip_of_two):
        with pytest.raises(UsageError, match="--system: expected a model that reads text before"):
            load_model(str(build(tmp_path / build.__name__)), weights=False, system=SYSTEM)
