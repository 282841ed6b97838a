"""Prompt layouts: where templates come from, what they put around an image, and how text is cut
into tokens.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvtool.errors import ModelError, UsageError
from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from kvtool.models.families.llava_next import LLAMA_3, MISTRAL, VICUNA
from kvtool.models.families.llava_onevision import CHATML
from kvtool.models.families.qwen_vl import CHATML as QWEN_CHATML
from kvtool.models.prompts import Prompt
from tests.support import tiny
from tests.support.tiny_words import LLAVA_TEMPLATE, token_id, tokenizer, word_id


def prompt(
    folder: Path, template: str | None = None, adds_start: bool = False, fallback: str = CHATML
) -> Prompt:
    return Prompt(tokenizer(template, adds_start), folder, "<image>", "", fallback)


def test_template_is_taken_from_the_processor_before_the_tokenizer(tmp_path: Path) -> None:
    template = LLAVA_TEMPLATE.replace("<|im_start|>", "dog ")
    assert prompt(tmp_path).source == "family default"
    assert prompt(tmp_path, LLAVA_TEMPLATE).source == "tokenizer_config.json"
    (tmp_path / "processor_config.json").write_text(json.dumps({"chat_template": template}))
    assert prompt(tmp_path, LLAVA_TEMPLATE).source == "processor_config.json"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert prompt(tmp_path, LLAVA_TEMPLATE).source == "chat_template.json"
    (tmp_path / "chat_template.jinja").write_text(template)
    parsed = prompt(tmp_path, LLAVA_TEMPLATE)
    assert parsed.source == "chat_template.jinja"
    assert parsed.head == "dog user "


def test_templates_that_render_no_image_are_passed_over(tmp_path: Path) -> None:
    plain = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    parsed = prompt(tmp_path, plain)
    assert parsed.source == "tokenizer_config.json"
    assert (parsed.head, parsed.question("red")) == ("", "\nred")
    for broken in (
        "{{ raise_exception('no') }}",
        "{{ messages[0]['content'][0]['text'] + 1 }}",
        "only text",
    ):
        assert prompt(tmp_path, broken).source == "family default"


def test_a_template_that_is_passed_over_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ 1 // 0 }}")
    assert prompt(tmp_path, LLAVA_TEMPLATE).source == "tokenizer_config.json"
    assert prompt(tmp_path, LLAVA_TEMPLATE).source == "tokenizer_config.json"
    [record] = caplog.records
    assert "the chat template of chat_template.jinja does not render" in record.getMessage()
    assert "that of tokenizer_config.json is used" in record.getMessage()


def test_no_template_at_all_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert prompt(tmp_path).source == "family default"
    assert not caplog.records


@pytest.mark.parametrize("several", [dict, list])
def test_of_several_named_templates_the_default_is_taken(tmp_path: Path, several: type) -> None:
    templates = {"tool_use": "only text", "default": LLAVA_TEMPLATE}
    as_list = [{"name": name, "template": template} for name, template in templates.items()]
    content = {"chat_template": templates if several is dict else as_list}
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    assert prompt(tmp_path).source == "processor_config.json"


def test_the_template_that_is_used_is_recorded(tmp_path: Path) -> None:
    folder = tiny.llava_onevision(tmp_path / "model")
    before = load_model(str(folder), weights=False).info.template
    template = folder / "chat_template.jinja"
    template.write_text("<image>" + template.read_text())
    fallback = load_model(str(folder), weights=False).info.template
    assert len({before, fallback, ""}) == 3
    assert load_model(str(tiny.clip(tmp_path / "clip")), weights=False).info.template == ""


@pytest.mark.parametrize(
    ("fallback", "head", "question"),
    [
        (CHATML, "<|im_start|>user ", "\nred<|im_end|>\n<|im_start|>assistant\n"),
        (MISTRAL, "[INST] ", "\nred [/INST]"),
        (VICUNA, " USER: ", "\nred ASSISTANT:"),
        (
            LLAMA_3,
            "user<|end_header_id|>\n\n",
            "\nred<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_family_templates(tmp_path: Path, fallback: str, head: str, question: str) -> None:
    parsed = prompt(tmp_path, fallback=fallback)
    assert parsed.head.endswith(head)
    assert parsed.question("red") == question


def test_qwen_keeps_its_vision_marks_around_the_image(tmp_path: Path) -> None:
    parsed = Prompt(tokenizer(None), tmp_path, "<|image_pad|>", "<|vision_start|>", QWEN_CHATML)
    assert parsed.head.endswith("<|im_start|>user\n")
    assert parsed.prefix_ids("red")[-3:] == (
        word_id("red"),
        word_id("\n"),
        token_id("<|vision_start|>"),
    )
    assert parsed.question("red") == "<|vision_end|>red<|im_end|>\n<|im_start|>assistant\n"


def test_several_images_are_written_by_the_same_template(tmp_path: Path) -> None:
    red = word_id("red")
    dog, user, line = word_id("dog"), word_id("user"), word_id("\n")
    start, opens, closes = map(token_id, ("<s>", "<|vision_start|>", "<|vision_end|>"))
    numbered = (
        "{% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}dog {{ 'red ' * "
        "loop.index }}<image> "
        "{% else %}{{ part['text'] }} user{% endif %}{% endfor %}"
    )
    parsed = prompt(tmp_path, numbered, adds_start=True)
    assert parsed.several_ids(3) == [[start, dog, red], [dog, red, red], [dog, red, red, red]]
    assert parsed.several_ids(1) == [list(parsed.prefix_ids(""))]
    assert parsed.question("cat", 3) == parsed.question("cat") == " cat user"
    string = "{{ messages[0]['role'] }} {{ messages[0]['content'] + '' }}"
    parsed = prompt(tmp_path, string)
    assert parsed.source == "tokenizer_config.json"
    assert (parsed.several_ids(2), parsed.question("cat", 2)) == ([[user], []], "\ncat")
    qwen = Prompt(tokenizer(None), tmp_path, "<|image_pad|>", "<|vision_start|>", QWEN_CHATML)
    head, between = qwen.several_ids(2)
    assert (head[-2:], between) == ([line, opens], [closes, opens])
    assert qwen.question("red", 2) == qwen.question("red")


def test_a_template_of_one_image_only_is_named(tmp_path: Path) -> None:
    template = LLAVA_TEMPLATE.replace(
        "{{ '<image>' }}{% endfor %}", "{% if loop.first %}<image>{% endif %}{% endfor %}"
    )
    parsed = prompt(tmp_path, template)
    assert parsed.source == "tokenizer_config.json"
    with pytest.raises(
        ModelError,
        match=r"that writes 2 images and a question, found another in tokenizer_config\.json",
    ):
        parsed.several_ids(2)


def test_start_token_is_put_once(tmp_path: Path) -> None:
    start = token_id("<s>")
    assert prompt(tmp_path, LLAVA_TEMPLATE, adds_start=True).prefix_ids("")[0] == start
    parsed = prompt(tmp_path, "<s>" + LLAVA_TEMPLATE, adds_start=True)
    assert parsed.prefix_ids("").count(start) == 1
    words = [word_id("red"), word_id("cat")]
    assert parsed.placed_ids("red cat", is_alone=True) == ([start, *words], 2)
    ids, count = parsed.placed_ids("red cat", is_alone=False)
    assert (ids.count(start), ids[0], ids[-count:]) == (1, start, words)
    assert start not in parsed.text_ids("red cat")
    startless = prompt(tmp_path, LLAVA_TEMPLATE)
    assert startless.placed_ids("red", is_alone=True) == ([word_id("red")], 1)


def test_the_image_mark_cannot_hide_in_text(tmp_path: Path) -> None:
    parsed = prompt(tmp_path)
    for call in (parsed.prefix_ids, parsed.text_ids):
        with pytest.raises(UsageError, match="expected text without <image>"):
            call("a <image> b")
    with pytest.raises(ModelError, match="expected <picture> in the tokenizer's vocabulary"):
        Prompt(tokenizer(None), tmp_path, "<picture>", "", CHATML)


def test_prefixes_from_many_threads(tmp_path: Path) -> None:
    parsed = prompt(tmp_path, LLAVA_TEMPLATE)
    texts = [f"{'red ' * (i % 7)}cat" for i in range(200)]
    expected = [prompt(tmp_path, LLAVA_TEMPLATE).prefix_ids(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(parsed.prefix_ids, texts)) == expected


def test_texts_of_a_batch_must_be_of_one_length(tmp_path: Path) -> None:
    model = load_model(str(tiny.llava_onevision(tmp_path)), dtype="float32")
    assert isinstance(model, LanguageModel)
    prepared = [model.prepare(tiny.noise(70, 45, i), id=str(i), index=i) for i in range(2)]
    cache = model.prefill(prepared)
    samples = [item.sample for item in prepared]
    for texts in (["red", "red cat"], ["red"], ["", ""]):
        with pytest.raises(UsageError, match="of equal numbers of tokens"):
            model.logits(cache, samples, texts)
    with pytest.raises(UsageError, match=r"expected at least one token in each, found ''"):
        model.text_values(["red", ""], [0])
    with pytest.raises(UsageError, match="found no text"):
        model.text_values([], [0])
    captured = model.capture(prepared[:1], model.request(None, [0, 1]))
    arrays = {name: captured.arrays[name][0] for name in ("key", "value")}
    arrays |= {f"text_{name}": captured.text[name][0] for name in ("key", "value")}
    with pytest.raises(UsageError, match=r"cache: expected 3 layers .* extract every layer"):
        model.restore(samples[:1], [arrays])
