"""Training of the demo model: all stages for a few steps, resumption, the card, what is shipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration, SiglipVisionModel

from kvtool.demo import weights as demo
from kvtool.demo.questions import SceneQuestion, questions
from kvtool.demo.training.__main__ import assess, export, main
from kvtool.demo.training.card import card, facts_of
from kvtool.demo.training.config import IMAGE_TOKENS, TrainingSettings, tiny
from kvtool.demo.training.contexts import prompt
from kvtool.demo.training.evaluate import Examiner, Figure, f1_interval
from kvtool.demo.training.exam import ExamQuestion, existence_questions
from kvtool.demo.training.export import quantized
from kvtool.demo.training.run import STAGES, TrainingRun
from kvtool.demo.world import Scene
from kvtool.errors import ModelError


@pytest.mark.slow
def test_all_stages_run_and_what_is_shipped_loads(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in log] == list(STAGES)
    demo = trained / "demo"
    model = cast(Any, LlavaOnevisionForConditionalGeneration).from_pretrained(demo / "model")
    assert model.dtype == torch.bfloat16
    assert (
        model.config.text_config.num_key_value_heads < model.config.text_config.num_attention_heads
    )
    tower = cast(Any, SiglipVisionModel).from_pretrained(demo / "tower")
    assert tower(
        pixel_values=torch.zeros(1, 3, 96, 96, dtype=tower.dtype)
    ).last_hidden_state.shape == (1, 144, 96)
    tokenizer: Any = AutoTokenizer.from_pretrained(demo / "model")
    message = [
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "Describe the image."}],
        }
    ]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = prompt("", 1)
    expanded = tokenizer(text.replace("<image>", "<image>" * (IMAGE_TOKENS + 1)))["input_ids"]
    assert expanded[: len(ids)] == ids
    assert all(
        (demo / "stages" / str(number) / "weights.int8.safetensors").exists()
        for number in (1, 2, 3)
    )


@pytest.mark.slow
def test_the_tower_is_kept_as_it_was_before_the_joint_training(trained: Path) -> None:
    tower = cast(Any, SiglipVisionModel).from_pretrained(trained / "demo" / "tower").state_dict()
    before = torch.load(trained / "checkpoints" / "tower.pt", weights_only=True)["model"]
    after = torch.load(trained / "checkpoints" / "joint.pt", weights_only=True)["model"]
    for name, weight in tower.items():
        torch.testing.assert_close(
            weight, before[f"model.vision_tower.{name}"].to(torch.bfloat16), atol=0, rtol=0
        )
    moved = [
        not torch.equal(before[name], after[name])
        for name in after
        if "vision_tower" in name and "layers" in name
    ]
    assert all(moved)


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_weights(trained: Path, tmp_path: Path) -> None:
    """kill -9 within the joint stage, then the script again: the unbroken run's weights, bit for
    bit.
    """
    for folder in ("world",):
        (tmp_path / folder).symlink_to(trained / folder)
    command = [sys.executable, "-m", "kvtool.demo.training", str(tmp_path), "--tiny", "--stage"]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "align.pt").write_bytes(
        (trained / "checkpoints" / "align.pt").read_bytes()
    )
    process = subprocess.Popen(
        [*command, "joint"], stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    checkpoint = tmp_path / "checkpoints" / "joint.pt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert step < tiny().joint_steps
    threads = torch.get_num_threads()
    assert main([str(tmp_path), "--tiny", "--stage", "joint"]) == 0
    assert torch.get_num_threads() == threads
    resumed, unbroken = (
        torch.load(path / "checkpoints" / "joint.pt", weights_only=True)["model"]
        for path in (tmp_path, trained)
    )
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)


@pytest.mark.slow
def test_stopped_by_the_clock_it_leaves_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "world").symlink_to(trained / "world")
    run = TrainingRun(tmp_path, tiny(), minutes=0.0)
    assert not run.stage("text")
    assert torch.load(run.checkpoint("text"), weights_only=True)["step"] == 0


@pytest.mark.slow
def test_the_card_holds_the_evaluations_figures(trained: Path) -> None:
    figures = [Figure(**row) for row in json.loads((trained / "figures.json").read_text())]
    text = (trained / "demo" / "MODEL_CARD.md").read_text()
    for figure in figures:
        assert (
            f"| {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {figure.n} |" in text
        )
    assert "Missed: existence f1" in text
    better = [
        replace(figure, value=0.5, n=77) if figure.name == "color" else figure for figure in figures
    ]
    facts = facts_of(1, 2, dict.fromkeys(STAGES, 3), 4, (0.5,))
    assert "| 0.500 |" in card(better, facts)


@pytest.mark.slow
def test_evaluation_asks_of_scenes_and_reads_answers(trained: Path) -> None:
    questions = existence_questions(24, np.random.default_rng(0))
    assert [question.answer for question in questions] == ["yes", "no"] * 12
    answerer = Examiner(trained / "demo" / "model")
    several = ExamQuestion(
        questions[0].images * 3,
        "Which image has the same style as the first image?",
        "(A)",
        "art_style",
    )
    mixed = [questions[0], several, questions[1]]
    together = answerer.answers(mixed)
    assert len(together) == 3
    assert [answerer.answers([question])[0] for question in mixed] == together


def test_the_interval_of_f1() -> None:
    value, low, high = f1_interval(
        [(True, True)] * 40 + [(True, False)] * 10 + [(False, True)] * 10
    )
    assert value == pytest.approx(0.8)
    assert low < value < high


def test_int8_stages_come_back_close() -> None:
    state = {
        "weight": torch.randn(6, 8) * torch.logspace(-3, 1, 6)[:, None],
        "bias": torch.randn(6),
    }
    small = quantized(state)
    back = small["weight"].float() * small["weight.scale"][:, None]
    assert ((back - state["weight"]).abs().amax(1) <= state["weight"].abs().amax(1) / 127).all()
    torch.testing.assert_close(small["bias"].float(), state["bias"], atol=0.02, rtol=0.01)


@pytest.mark.slow
def test_settings_reach_the_run(trained: Path) -> None:
    run = TrainingRun(trained, tiny())
    assert isinstance(run.settings, TrainingSettings)
    export(run, trained / "again")
    assess(run, trained / "again", 4)
    assert (trained / "again" / "MODEL_CARD.md").exists()
    assert isinstance(run.world.scenes.items[0], Scene)
    assert isinstance(
        questions(run.world.scenes.items[0], np.random.default_rng(0))[0], SceneQuestion
    )


@pytest.mark.slow
def test_stages_unpack_into_folders_that_load(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_FOLDER", trained / "demo")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo.demo_path("demo") == trained / "demo" / "model"
    assert demo.demo_path("demo-tower") == trained / "demo" / "tower"
    with pytest.raises(ModelError, match="expected demo, demo-tower or demo@1 to demo@3"):
        demo.demo_path("demo@4")
    folder = demo.demo_path("demo@2")
    assert folder == demo.demo_path("demo@2")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template
    model = cast(Any, LlavaOnevisionForConditionalGeneration).from_pretrained(
        folder, dtype=torch.bfloat16
    )
    exact = torch.load(trained / "checkpoints" / "joint-2.pt", weights_only=True)["model"]
    for name, weight in demo.load_stage(2).items():
        rows = exact[name].flatten(1) if exact[name].ndim > 1 else exact[name]
        assert (weight.float() - exact[name]).abs().max() <= rows.abs().max() / 100
        torch.testing.assert_close(model.state_dict()[name], weight, atol=0, rtol=0)
