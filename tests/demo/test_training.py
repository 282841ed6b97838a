"""Training of the demo model: fast paths against transformers, all stages for a few steps,
resumption, the card.
"""

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
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlavaOnevisionForConditionalGeneration,
    SiglipVisionModel,
)

from kvtool.demo import weights as demo
from kvtool.demo.draw import render, sample_rendered
from kvtool.demo.language import RANDOM_PREFIX, caption, domain_sentence, vocabulary
from kvtool.demo.questions import SceneQuestion, questions
from kvtool.demo.training.__main__ import assess, export, main
from kvtool.demo.training.batches import Asker, padded, slot
from kvtool.demo.training.card import card, facts_of
from kvtool.demo.training.config import IGNORED, IMAGE_TOKENS, TrainingSettings, tiny
from kvtool.demo.training.contexts import Contexts, prompt
from kvtool.demo.training.data import World, draw_world, patch_labels, shrink
from kvtool.demo.training.drills import TASKS, answer, drill
from kvtool.demo.training.evaluate import Examiner, Figure, f1_interval, wilson
from kvtool.demo.training.exam import ExamQuestion, existence_questions
from kvtool.demo.training.export import quantized
from kvtool.demo.training.joint_stage import JointStage
from kvtool.demo.training.model import decoder, new_model
from kvtool.demo.training.optimizer import Muon, orthogonalize, schedule
from kvtool.demo.training.packed import decode, packed_positions
from kvtool.demo.training.run import STAGES, TrainingRun
from kvtool.demo.training.symbols import few_patches, symbolic_grid, symbols
from kvtool.demo.training.text import build_tokenizer, encode, token_ids
from kvtool.demo.world import Scene, sample_scene
from kvtool.errors import ModelError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a few steps through all stages, exported and evaluated by the script
    itself.
    """
    out = tmp_path_factory.mktemp("trained")
    assert main([str(out), "--tiny", "--questions", "6"]) == 0
    return out


def _world(out: Path) -> World:
    return draw_world(out / "world", tiny())


def test_the_fast_encoder_equals_the_tokenizer() -> None:
    tokenizer: Any = build_tokenizer()
    rng = np.random.default_rng(0)
    texts = [
        RANDOM_PREFIX,
        domain_sentence("night", "highway"),
        "Unheard of! (A) a (B)",
        "<|im_start|>user <image>\nhi",
    ]
    for _ in range(20):
        scene = sample_scene(rng)
        texts.append(caption(scene, rng))
        texts += [
            text for question in questions(scene, rng) for text in (question.text, question.answer)
        ]
    for text in texts:
        assert tuple(tokenizer(text)["input_ids"]) == encode(text), text
    assert tokenizer.decode(encode("(B)"), skip_special_tokens=True) == "(B)"
    assert (
        tokenizer.decode(
            [*encode("a red fish"), token_ids()["<|im_end|>"]], skip_special_tokens=True
        )
        == "a red fish"
    )
    assert len(vocabulary()) == len(tokenizer)


def test_a_slot_labels_the_answer_and_its_end() -> None:
    found = slot("What color is the fish?", "red", 16)
    assert found is not None
    ids, labels, _ = found
    assert len(ids) == len(labels) == 16
    told = [(ids[at], label) for at, label in enumerate(labels) if label != IGNORED]
    names = token_ids()
    assert told == [(names["assistant"], names["red"]), (names["red"], names["<|im_end|>"])]
    assert slot("What color is the fish?", "red", 8) is None


def test_packed_slots_equal_each_question_alone() -> None:
    """Fast path against transformers' own forward of every (context, slot), with padded contexts,
    in float32.
    """
    model, slots, context = new_model(0), ((3, 5), (2, 7)), 20
    x = torch.randn(2, context + 3 * 5 + 2 * 7, 128)
    lengths = torch.tensor([20, 13])
    bias = (torch.arange(context)[None] >= lengths[:, None]).float() * -1e4
    with torch.no_grad():
        packed, _ = decode(
            decoder(model), x, packed_positions(lengths, context, slots), bias, context, slots
        )
        for row in range(2):
            start, length = context, int(lengths[row])
            for count, size in slots:
                for _ in range(count):
                    alone = torch.cat((x[row, :length], x[row, start : start + size]))[None]
                    wanted = decoder(model)(inputs_embeds=alone).last_hidden_state[0, length:]
                    torch.testing.assert_close(
                        packed[row, start : start + size], wanted, atol=2e-5, rtol=1e-4
                    )
                    start += size


def test_training_sees_what_transformers_sees(trained: Path) -> None:
    """The joint stage's hidden states against the whole model's own forward, prefix, image, newline
    and question.
    """
    settings = tiny()
    model, world = new_model(1), _world(trained)
    stage = JointStage(model, world, settings)
    batch = stage.contexts.one_image(np.random.default_rng(0), settings.batch, prefixed=True)
    with torch.no_grad():
        hidden = stage.states(batch)[0].float()
        length, first = int(batch.lengths[0]), settings.slots[0][1]
        ids = torch.cat((batch.context_ids[0, :length], batch.packed.ids[0, :first]))[None]
        pixels = (
            torch.from_numpy(batch.images[:1].astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        )
        wanted = model.model(
            input_ids=ids.repeat(2, 1),
            pixel_values=pixels[:, None].repeat(2, 1, 1, 1, 1),
            image_sizes=torch.tensor([[96, 96]] * 2),
            batch_num_images=torch.tensor([2]),
        ).last_hidden_state[0, length:]
    found = hidden[0, batch.context_ids.shape[1] :][:first]
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=-1).min() > 0.998


def test_pictures_are_resized_as_the_processor_does(trained: Path) -> None:
    processor: Any = cast(Any, AutoImageProcessor).from_pretrained(trained / "demo" / "model")
    for seed in range(3):
        image = render(sample_scene(np.random.default_rng(seed))).image
        view = processor(images=image, return_tensors="np")["pixel_values"][0, 0]
        np.testing.assert_allclose(view, shrink(image).transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)


def test_patch_labels_agree_with_the_maps() -> None:
    scene, rendered = sample_rendered(np.random.default_rng(8), size_wh=(96, 96))
    labels = patch_labels(scene, rendered)
    for row in range(12):
        for column in range(12):
            tile = rendered.thing_map[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            areas = np.bincount(tile.ravel(), minlength=len(scene.things) + 1)[1:]
            assert labels[0, row, column] == (areas.argmax() + 1 if areas.max() > 12 else 0)
    assert sorted(labels[2][labels[2] > 0].tolist()) == list(range(1, len(scene.things) + 1))


def test_symbols_are_the_sum_of_true_words() -> None:
    scene, rendered = sample_rendered(np.random.default_rng(9), size_wh=(96, 96), n_things=1)
    patches = patch_labels(scene, rendered)[None]
    table, ids = torch.eye(len(token_ids())), token_ids()
    grid = symbolic_grid(table, *symbols([scene], patches))[0]
    inside = torch.from_numpy(patches[0, 0].ravel() > 0)
    assert (grid[inside][:, ids[scene.things[0].category]] == 1).all()
    assert (grid[~inside][:, ids[scene.things[0].category]] == 0).all()
    assert (grid[:, ids[scene.setting]] == 0.5).all()
    few = few_patches(np.random.default_rng(0), patches, 12)
    assert inside[few[0]].sum() == 1


def test_drills_are_true() -> None:
    rng = np.random.default_rng(0)
    names = {index: word for word, index in token_ids().items()}
    for _ in range(200):
        scene = sample_scene(rng)
        ids, labels = drill(scene, rng, 24)
        assert len(ids) == len(labels) == 24
        for at, label in enumerate(labels):
            assert label == IGNORED or ids[at + 1] == label
    fish = replace(scene.things[0], category="fish", color="red", center_xy_px=(10.0, 10.0))
    scene = replace(scene, things=(fish, fish))
    found = {
        task: answer(scene, task, "fish") for task in ("color", "count", "existence", "horizontal")
    }
    assert found == {"color": "red", "count": "two", "existence": "yes", "horizontal": "left"}
    assert answer(scene, "by_color", "red") == "fish"
    assert answer(scene, "color", "cup") == "no"
    assert {
        names[token] for head in TASKS.values() for token in (token_ids()[word] for word in head)
    }


def test_stubs_and_chains_answer_as_their_questions_do() -> None:
    """The tokens before a label are a question asked of the scene, up to the thing it names (stub)
    or whole (chain).
    """
    rng, ids = np.random.default_rng(1), token_ids()
    names = {index: word for word, index in ids.items()}
    for asker in (Asker(0.0, 1.0, 0.0), Asker(0.0, 0.0, 1.0)):
        told = 0
        for _ in range(60):
            scene = sample_scene(rng)
            found = asker.ask(scene, rng, 24)
            assert len(found.ids) == len(found.labels) == 24
            start = 0
            for at, label in enumerate(found.labels):
                if label == IGNORED:
                    continue
                assert found.ids[at + 1] == label
                asked = [names[token] for token in found.ids[start : at + 1]]
                start = at + 2
                told += 1
                if asked[:3] == ["what", "color", "is"]:
                    (thing,) = [thing for thing in scene.things if thing.category == asked[4]]
                    assert names[label] == thing.color
                if asked[:2] == ["is", "there"] and asked[-1 if asker.stubs else 3] in {
                    t.category for t in scene.things
                }:
                    assert len(asked) > 4 or names[label] == "yes" or "only" in asked
        assert told > 100


def test_every_slot_of_a_batch_is_filled(trained: Path) -> None:
    settings, world = tiny(), _world(trained)
    contexts = Contexts(world, settings.slots, Asker(0.2, 0.2))
    rng = np.random.default_rng(0)
    for batch in (
        contexts.one_image(rng, 2, False),
        contexts.one_image(rng, 2, True),
        contexts.many_images(rng, 2),
    ):
        images = (batch.context_ids == token_ids()["<image>"]).sum().item()
        assert images == len(batch.images) * (IMAGE_TOKENS + 1)
        assert (batch.packed.labels != IGNORED).any(dim=1).all()
        assert (
            batch.context_ids.gather(1, batch.lengths[:, None] - 1) == token_ids()["<image>"]
        ).all()
    ids, lengths, bias = padded([[1, 2], [3]], 4)
    assert ids.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    assert lengths.tolist() == [2, 1]
    assert (bias < 0).tolist() == [[False, False, True, True], [False, True, True, True]]


def test_muon_orthogonalizes_and_schedules_fall() -> None:
    singular = torch.linalg.svdvals(orthogonalize(torch.randn(2, 32, 64)).float())
    assert ((singular > 0.5) & (singular < 1.4)).all()
    assert (
        schedule(0, 1000)
        < schedule(500, 1000)
        == 1.0
        > schedule(900, 1000)
        > schedule(999, 1000)
        > 0
    )
    weight = torch.nn.Parameter(torch.eye(4) * 3)
    bias = torch.nn.Parameter(torch.ones(3))
    optimizer = Muon([("layers.0.weight", weight), ("layers.0.bias", bias)], 0.1, 0.01)
    for _ in range(200):
        (weight.pow(2).sum() + bias.pow(2).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step(1.0)
    assert weight.abs().max() < 0.5
    assert bias.abs().max() < 0.1


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


def test_stopped_by_the_clock_it_leaves_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "world").symlink_to(trained / "world")
    run = TrainingRun(tmp_path, tiny(), minutes=0.0)
    assert not run.stage("text")
    assert torch.load(run.checkpoint("text"), weights_only=True)["step"] == 0


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


def test_evaluation_asks_of_scenes_and_reads_answers(trained: Path) -> None:
    asked = existence_questions(24, np.random.default_rng(0))
    assert [question.answer for question in asked] == ["yes", "no"] * 12
    answerer = Examiner(trained / "demo" / "model")
    several = ExamQuestion(
        asked[0].images * 3,
        "Which image has the same style as the first image?",
        "(A)",
        "art_style",
    )
    mixed = [asked[0], several, asked[1]]
    together = answerer.answers(mixed)
    assert len(together) == 3
    assert [answerer.answers([one])[0] for one in mixed] == together


def test_intervals() -> None:
    low, high = wilson(90, 100)
    assert low < 0.9 < high
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-3)
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


def test_stages_unpack_into_folders_that_load(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_HERE", trained / "demo")
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
