"""What the demo model is trained on, and its fast paths against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from kvtool.demo.draw import render, sample_rendered
from kvtool.demo.language import RANDOM_PREFIX, caption, domain_sentence, vocabulary
from kvtool.demo.questions import questions
from kvtool.demo.training.batches import Asker, padded, slot
from kvtool.demo.training.config import IGNORED, IMAGE_TOKENS, tiny
from kvtool.demo.training.contexts import Contexts
from kvtool.demo.training.data import World, draw_world, patch_labels, shrink
from kvtool.demo.training.drills import TASKS, answer, drill
from kvtool.demo.training.joint_stage import JointStage
from kvtool.demo.training.model import decoder, new_model
from kvtool.demo.training.optimizer import Muon, orthogonalize, schedule
from kvtool.demo.training.packed import decode, packed_positions
from kvtool.demo.training.symbols import few_patches, symbolic_grid, symbols
from kvtool.demo.training.text import build_tokenizer, encode, token_ids
from kvtool.demo.world import sample_scene


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
    example = slot("What color is the fish?", "red", 16)
    assert example is not None
    ids, labels, _ = example
    assert len(ids) == len(labels) == 16
    told = [(ids[position], label) for position, label in enumerate(labels) if label != IGNORED]
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
                    single = torch.cat((x[row, :length], x[row, start : start + size]))[None]
                    expected = decoder(model)(inputs_embeds=single).last_hidden_state[0, length:]
                    torch.testing.assert_close(
                        packed[row, start : start + size], expected, atol=2e-5, rtol=1e-4
                    )
                    start += size


@pytest.mark.slow
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
        expected = model.model(
            input_ids=ids.repeat(2, 1),
            pixel_values=pixels[:, None].repeat(2, 1, 1, 1, 1),
            image_sizes=torch.tensor([[96, 96]] * 2),
            batch_num_images=torch.tensor([2]),
        ).last_hidden_state[0, length:]
    outputs = hidden[0, batch.context_ids.shape[1] :][:first]
    assert torch.nn.functional.cosine_similarity(outputs, expected, dim=-1).min() > 0.998


@pytest.mark.slow
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
        for position, label in enumerate(labels):
            assert label == IGNORED or ids[position + 1] == label
    fish = replace(scene.things[0], category="fish", color="red", center_xy_px=(10.0, 10.0))
    scene = replace(scene, things=(fish, fish))
    answers = {
        task: answer(scene, task, "fish") for task in ("color", "count", "existence", "horizontal")
    }
    assert answers == {"color": "red", "count": "two", "existence": "yes", "horizontal": "left"}
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
            drill = asker.ask(scene, rng, 24)
            assert len(drill.ids) == len(drill.labels) == 24
            start = 0
            for position, label in enumerate(drill.labels):
                if label == IGNORED:
                    continue
                assert drill.ids[position + 1] == label
                words = [names[token] for token in drill.ids[start : position + 1]]
                start = position + 2
                told += 1
                if words[:3] == ["what", "color", "is"]:
                    (thing,) = [thing for thing in scene.things if thing.category == words[4]]
                    assert names[label] == thing.color
                if words[:2] == ["is", "there"] and words[-1 if asker.stubs else 3] in {
                    t.category for t in scene.things
                }:
                    assert len(words) > 4 or names[label] == "yes" or "only" in words
        assert told > 100


@pytest.mark.slow
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
