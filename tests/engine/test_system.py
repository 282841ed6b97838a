"""Runs under a system message: their identity, what they take from others, and what asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.answering import Answerer
from kvtool.errors import UsageError
from kvtool.experiments.compare.pairing import describe_pairing
from kvtool.models.families.llava_onevision import LlavaOnevision
from kvtool.reporting.commands import extract_command
from kvtool.store import Run
from kvtool.store.provenance import describe_run
from tests.support import tiny, tiny_words
from tests.support.datasets import coco
from tests.support.scenes import World
from tests.support.shell import Shell

SYSTEM = "the dog left"


def extracted(store: Path, model: Path, dataset: str, **options: Any) -> Run:
    report = kvtool.extract(store, model=str(model), dataset=dataset, limit=3, **options)
    return kvtool.open(store).run(report.run)


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("spair71k", "blink")


@pytest.mark.slow
def test_a_run_is_told_apart_by_it(tmp_path: Path, tiny_model: Path, pictures: Path) -> None:
    store, dataset = tmp_path / "s.kv", f"folder:{pictures}"
    plain = extracted(store, tiny_model, dataset)
    run = extracted(store, tiny_model, dataset, system=SYSTEM)
    assert run.config.hash != plain.config.hash
    assert extracted(store, tiny_model, dataset, system=SYSTEM).name == run.name
    assert extracted(store, tiny_model, dataset).name == plain.name
    assert kvtool.open(store).runs() == sorted([plain.name, run.name])
    assert (run.info()["system"], plain.info()["system"]) == (SYSTEM, "")
    assert describe_run(run)["system"] == SYSTEM
    # What results of runs without it are kept under is what it was.
    assert "system" not in describe_run(plain)
    assert [entry.get("system") for entry in describe_pairing([run, plain])] == [SYSTEM, None]
    assert f"--system '{SYSTEM}'" in extract_command(run.info() | {"store": "s.kv"})
    assert "--system" not in extract_command(plain.info() | {"store": "s.kv"})
    assert f"system: {SYSTEM}" in repr(run)
    words = [tiny_words.word_id(word) for word in SYSTEM.split()]
    assert [token for token in run.samples[0].prefix_ids if token in words] == words


@pytest.mark.slow
def test_the_command_says_it(
    tmp_path: Path, tiny_model: Path, pictures: Path, shell: Shell
) -> None:
    store = str(tmp_path / "s.kv")
    arguments = ["extract", store, "--model", str(tiny_model), "--dataset", f"folder:{pictures}"]
    code, _, _ = shell(*arguments, "--limit", "1", "--system", SYSTEM)
    assert code == 0
    _, table, _ = shell("store", "runs", store, "--format", "table")
    assert f"system {SYSTEM}" in " ".join(table.replace("│", " ").split())
    tower = tiny.clip(tmp_path / "clip")
    arguments[3] = str(tower)
    code, _, lines = shell(*arguments, "--system", SYSTEM)
    assert code == 2
    assert "--system: expected a model that reads text before the image" in lines[-1]


@pytest.mark.slow
def test_features_before_the_decoder_serve_under_another_one(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = f"coco:{coco(tmp_path / 'coco')}"
    settings: dict[str, Any] = {"dtype": "float32", "system": SYSTEM, "prefix": "text:the cat"}
    pixels = extracted(tmp_path / "pixels.kv", tiny_model, dataset, **settings)
    plain = extracted(tmp_path / "s.kv", tiny_model, dataset, dtype="float32")
    monkeypatch.setattr(LlavaOnevision, "encode", lambda *_: pytest.fail("the tower ran"))
    run = extracted(tmp_path / "s.kv", tiny_model, dataset, check=False, **settings)
    for kind in ("key", "value", "projected", "vision"):
        layers = run.config.stored_layers(kind)
        np.testing.assert_array_equal(
            run.read(kind, layers, 0).values, pixels.read(kind, layers, 0).values
        )
    # Class names are read after the system message, too: they are not those of the other run.
    assert run.text_names == plain.text_names == pixels.text_names
    np.testing.assert_array_equal(run.text_values(2, 0), pixels.text_values(2, 0))
    assert not np.array_equal(run.text_values(2, 0), plain.text_values(2, 0))


@pytest.mark.slow
def test_conditions_of_a_prefix_have_it_too(tmp_path: Path, tiny_model: Path, scenes: Path) -> None:
    store = tmp_path / "s.kv"
    extracted(store, tiny_model, f"spair71k:{scenes}/spair71k", system=SYSTEM, run="base")
    task = "semantic-correspondence"
    result = kvtool.prefix(store, task, conditions=["random"], kinds=["value"])
    run = kvtool.open(store).run("base+random")
    assert run.config.system == SYSTEM
    assert result.config["system"] == SYSTEM
    start = kvtool.open(store).run("base").samples[0].prefix_ids
    assert run.samples[0].prefix_ids[: len(start)] == start


@pytest.mark.slow
def test_questions_are_asked_under_it(tmp_path: Path, tiny_model: Path, scenes: Path) -> None:
    store, dataset = tmp_path / "s.kv", f"blink:{scenes}/blink/Art_Style@val"
    runs = [
        extracted(store, tiny_model, dataset, dtype="float32", system=system)
        for system in ("", SYSTEM)
    ]
    opened = kvtool.open(store)
    plain, under = (Answerer(opened, run, None, "cpu", max_new_tokens=4) for run in runs)
    assert plain.key != under.key
    image = runs[0].ids[0]
    # Several images, and a picture that no run holds, are laid out by the model that answers.
    assert under.loaded.prepare_stored(runs[0].samples[0], {}).sample.prefix_ids == (
        runs[1].samples[0].prefix_ids
    )
    words = [tiny_words.word_id(word) for word in SYSTEM.split()]
    several = under.loaded.prompt.several_ids(2)  # type: ignore[attr-defined]
    assert [token for token in several[0] if token in words] == words
    # The stored cache goes on as a whole prompt under the same message does.
    arrays = runs[1].read_image(image, ("key", "value"), raw=True)
    sample = runs[1].samples[0]
    stored = under.loaded.restore([sample], [arrays])
    question = under.loaded.question("is the cat red")
    logits = under.loaded.logits(stored, [sample], question, last=True)
    bare_arrays = runs[0].read_image(image, ("key", "value"), raw=True)
    bare_sample = runs[0].samples[0]
    bare = plain.loaded.restore([bare_sample], [bare_arrays])
    other_logits = plain.loaded.logits(bare, [bare_sample], question, last=True)
    assert (logits - other_logits).abs().max() > 1e-3
    assert set(under.ask({image: ["is the cat red"]}, [frozenset()], lambda *_: None)) == {
        frozenset()
    }


def test_a_model_without_room_for_it_leaves_nothing_behind(tmp_path: Path, pictures: Path) -> None:
    folder = tiny.llava_next_mistral(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[INST] <image>{{ m.content[-1].text }} [/INST]{% endfor %}"
    )
    with pytest.raises(UsageError, match="which writes none there; leave it out"):
        extracted(tmp_path / "s.kv", folder, f"folder:{pictures}", system=SYSTEM)
    assert not (tmp_path / "s.kv").exists()
