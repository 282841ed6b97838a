"""Judges: a tiny language model against transformers by hand, and answers out of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from kvtool.autoencoders.judge import PROMPT, FileJudge, LanguageJudge
from kvtool.errors import DatasetError, ModelError
from kvtool.models.language import load_language
from tests.support.tiny_language import llama
from tests.support.tiny_words import LLAVA_TEMPLATE, WORDS, word_id

PAIRS = [
    ("the cat", "a red cat is there"),
    ("dog", "a blue dog"),
    ("red", "no"),
    ("dog", "a blue dog"),
]


@pytest.mark.parametrize("template", [LLAVA_TEMPLATE, None])
def test_a_judge_compares_yes_and_no(tmp_path: Path, template: str | None) -> None:
    folder = llama(tmp_path, template)
    judge = LanguageJudge(load_language(str(folder), dtype="float32"))
    network: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    words = judge.language.tokenizer
    expected = []
    for description, text in PAIRS:
        question = PROMPT.format(text=text, description=description)
        if template:
            prompt = f"<|im_start|>user \n{question}<|im_end|><|im_start|>assistant\n"
        else:
            prompt = f"{question}\nAnswer:"
        ids = words(prompt, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = network(torch.tensor([ids])).logits[0, -1]
        yes, no = (float(logits[word_id(word)].exp()) for word in ("yes", "no"))
        expected.append(yes / (yes + no))
    shares = judge(PAIRS)
    np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-5)
    assert shares[1] == shares[3]
    assert len(set(np.round(expected, 6))) == 3


def test_a_model_without_yes_and_no_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.tiny_words.WORDS", [w for w in WORDS if w != "yes"])
    language = load_language(str(llama(tmp_path, None)), dtype="float32")
    with pytest.raises(ModelError, match="expected a judge whose tokenizer has yes and no"):
        LanguageJudge(language)


def test_questions_are_written_and_answers_read_back(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    judge = FileJudge(path)
    assert np.isnan(judge(PAIRS)).all()
    assert judge.write() == 3  # each question once
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["description"], line["text"]) for line in lines] == PAIRS[:3]
    assert "Does the description fit" in lines[0]["prompt"]
    # Somebody answers two of them, one in words.
    lines[0]["answer"] = " Yes."
    answered = [lines[0], {"id": lines[1]["id"], "answer": 0.25}, lines[2]]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in answered))
    judge = FileJudge(path)
    answers = judge(PAIRS)
    assert answers[[0, 1, 3]].tolist() == [1.0, 0.25, 0.25]
    assert np.isnan(answers[2])
    assert judge.write() == 1
    assert FileJudge(path)(PAIRS)[:2].tolist() == [1.0, 0.25]


def test_answers_that_are_none_are_named_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    judge = FileJudge(path)
    judge(PAIRS[:1])
    judge.write()
    record = json.loads(path.read_text())
    bad = [{**record, "answer": "perhaps"}, {**record, "answer": 1.5}, {"answer": 1}, [1]]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in bad) + "no JSON\n\n")
    judge = FileJudge(path)
    assert len(judge.skipped) == 5
    assert all(line.startswith(f"{path}: line ") for line in judge.skipped)
    assert np.isnan(judge(PAIRS[:1])).all()
    assert judge.write() == 1
    assert len(path.read_text().splitlines()) == 1
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="UTF-8"):
        FileJudge(path)
