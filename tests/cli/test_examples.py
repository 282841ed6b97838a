"""Every --help ends with examples, and each does what it says, where what it names lies."""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.main import get_command

import kvtool
from kvtool.cli.app import app
from kvtool.cli.everywhere import HEADING, examples_in
from kvtool.cli.reference import help_text
from kvtool.datasets.cvbench import CvBench
from kvtool.demo import study
from kvtool.demo.captions import scene_captions
from kvtool.demo.layouts import write_scenes
from kvtool.demo.weights import DEMO, demo_path, demo_saes_path
from kvtool.engine.checking import colors
from tests.support import datasets, results, tiny
from tests.support.adapters import pictures
from tests.support.command_lines import stand_in
from tests.support.correlations import answered, right_for, segmented, write_cvbench
from tests.support.hub_data import study_on_hub
from tests.support.object_stores import study_at_address
from tests.support.score_workspaces import ScoreWorkspaces
from tests.support.shell import Shell
from tests.support.tasks.language import imagenet

Examples = dict[tuple[str, ...], list[str]]
N_QUESTIONS = 24
NUMBERED = ("first.kv", "second.kv", "third.kv")


def examples_below(command: Any, words: tuple[str, ...] = ()) -> Examples:
    """The examples of a command and of all below it, by the words that call them."""
    examples = {words: examples_in(command.epilog or "")}
    for name, subcommand in getattr(command, "commands", {}).items():
        examples |= examples_below(subcommand, (*words, name))
    return examples


EXAMPLES = examples_below(get_command(app))
LINES = sorted({line for lines in EXAMPLES.values() for line in lines})


@pytest.mark.parametrize("words", EXAMPLES, ids=lambda words: " ".join(words) or "kvtool")
@pytest.mark.sampled
def test_help_ends_with_examples_of_the_command(words: tuple[str, ...]) -> None:
    lines = EXAMPLES[words]
    assert 2 <= len(lines) <= 3
    assert all(shlex.join(("kvtool", *words)) in line for line in lines)
    text = help_text(words)
    assert examples_in(text) == lines
    assert max(map(len, text.partition(HEADING)[2].splitlines())) <= 80


class Workspaces(ScoreWorkspaces):
    """Folders with what examples name, made once and copied for each example.

    Attributes:
        root: where they are made.
        model: the tiny model that stands for every other.
    """

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        self.model = model

    def copy(self, words: tuple[str, ...], target: Path) -> None:
        """Fill a folder for a command of these words."""
        names = ["_".join(words).replace("-", "_"), words[0] if words else "probe"]
        source = next((getattr(self, name) for name in names if hasattr(self, name)), self.probe)
        shutil.copytree(source, target, dirs_exist_ok=True)

    def _extract(self, folder: Path, layout: str, **options: Any) -> Path:
        """Store a run of the tiny model over one of the embedded world's data sets."""
        write_scenes(self.root / "scenes", only=[layout])
        dataset = f"{layout}:{self.root}/scenes/{layout}{options.pop('split', '')}"
        store = folder / "study.kv"
        kvtool.extract(
            store, model=str(self.model), dataset=dataset, **{"run": "first-try", **options}
        )
        return store

    @cached_property
    def extract(self) -> Path:
        folder = self._new("extract")
        datasets.spair(folder / "SPair-71k")
        for number in range(3):
            for name in ("pictures", "clips"):
                datasets.picture(folder / name / f"{number}.png", seed=number)
        return folder

    @cached_property
    def video_model(self) -> Path:
        """The tiny model that stands for every one that is given videos."""
        return tiny.qwen2_5_vl(self.root / "video_model")

    @cached_property
    def models_check(self) -> Path:
        """A picture that is not square."""
        folder = self._new("models_check")
        colors().save(folder / "photo.jpg")
        return folder

    @cached_property
    def probe(self) -> Path:
        """A store over eight images of SPair-71k, with a result and a page to write of it."""
        folder = self._new("probe")
        store = self._extract(folder, "spair71k", limit=8)
        kvtool.probe(store, "semantic-correspondence")
        for name in NUMBERED:
            shutil.copytree(store, folder / name)
        return folder

    @cached_property
    def adapter(self) -> Path:
        """Pictures with captions and masks, an adapter, and a layer as torch saves it."""
        folder = self._new("adapter")
        pictures(folder / "mine")
        shutil.copytree(demo_path("demo-adapter"), folder / "adapter")
        torch.save(load_file(folder / "adapter/adapter.safetensors"), folder / "layer.pth")
        return folder

    @cached_property
    def knockout(self) -> Path:
        """A store as that of probe, of a model of which half the keys hardly depend on the
        input.
        """
        folder = self._new("knockout")
        model, self.model = self.model, polarized(self.root / "polarized")
        self._extract(folder, "spair71k", limit=8)
        self.model = model
        for layout, name in (("pope", "POPE"), ("mme", "MME"), ("coco", "coco")):
            write_scenes(self.root / "scenes", only=[layout])
            shutil.copytree(self.root / "scenes" / layout, folder / name)
        # Questions about a few of the images do as well as about all.
        for file in (folder / "POPE").glob("*.json"):
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:N_QUESTIONS]))
        (folder / "heads.jsonl").write_text('{"layer": 1, "kv_head": 0}\n')
        return folder

    @cached_property
    def sae(self) -> Path:
        """A store of the shipped model, and its SAEs."""
        folder = self._new("sae")
        shutil.copytree(demo_saes_path(), folder / "saes")
        model, self.model = self.model, Path(DEMO)
        self._extract(folder, "coco", limit=8)
        self.model = model
        return folder

    @cached_property
    def sae_train(self) -> Path:
        """Captions, a line each."""
        folder = self._new("sae-train")
        lines = "a red cat is on the left\nthe dog is in the image\nwhat colour is the cat\n"
        texts = [f"{line} {number}" for number in range(80) for line in lines.splitlines()]
        (folder / "captions.txt").write_text("\n".join(texts))
        return folder

    @cached_property
    def sae_check(self) -> Path:
        folder = self._new("sae-check")
        (folder / "captions.txt").write_text("\n".join(scene_captions(60, 0)))
        return folder

    @cached_property
    def paired(self) -> Path:
        folder = self._new("paired")
        self._extract(folder, "blink", split="/Art_Style@val")
        return folder

    surface = property(lambda self: self.paired)
    intervene = property(lambda self: self.knockout)

    @cached_property
    def prefix(self) -> Path:
        folder = self._new("prefix")
        self._extract(folder, "refcoco", limit=3)
        return folder

    @cached_property
    def lens(self) -> Path:
        folder = self._new("lens")
        self._extract(folder, "coco", limit=12)
        return folder

    @cached_property
    def attend(self) -> Path:
        folder = self._new("attend")
        self._extract(folder, "refcoco", limit=6)
        return folder

    @cached_property
    def correlate(self) -> Path:
        """Three models in one store, and in a store each."""
        folder, data = self._new("correlate"), self._new("data")
        imagenet(data / "imagenet-s")
        cvbench = CvBench(write_cvbench(data / "cvbench"))
        for number, name in enumerate(NUMBERED):
            for store in (folder / name, folder / "study.kv"):
                segmented(store, data, f"model-{number}", number)
                answered(store, cvbench, f"model-{number}", right_for((20, 12, 16)[number]))
        return folder

    @cached_property
    def compare(self) -> Path:
        """A store with three runs of one model."""
        folder = self._new("compare")
        for name in ("first", "second", "third"):
            self._extract(folder, "spair71k", limit=8, run=name)
        return folder


def polarized(folder: Path) -> Path:
    """A tiny model of four layers; the keys of head 0 are nearly their bias, whatever the input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TEXT, "num_hidden_layers", 4)
        tiny.llava_onevision(folder)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("self_attn.k_proj.weight"):
            half = len(weight) // 2
            weights[name] = torch.cat([weight[:half] * 0.02, weight[half:]])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspaces:
    return Workspaces(tmp_path_factory.mktemp("workspaces"), tiny_model)


@pytest.fixture
def short_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/demo runs the demo itself, which takes minutes."""

    def demo(*_: Any, **_options: Any) -> Iterator[Any]:
        yield results.probe()

    monkeypatch.setattr(study, "run_demo", demo)
    monkeypatch.setattr(study.DemoStudy, "extract", lambda *_, **__: "demo-spair71k-test")


def words_of(line: str) -> tuple[str, ...]:
    """The command that a line calls last."""
    words = tuple(line.rpartition("kvtool ")[2].split())
    return max((command for command in EXAMPLES if words[: len(command)] == command), key=len)


@pytest.mark.slow
@pytest.mark.usefixtures("short_demo", "short_serve")
@pytest.mark.parametrize("line", LINES)
def test_an_example_does_what_it_says(
    line: str,
    shell: Shell,
    workspaces: Workspaces,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspaces.copy(words_of(line), tmp_path)
    monkeypatch.chdir(tmp_path)
    if "s3://" in line:
        study_at_address(monkeypatch, tmp_path)
    if "hf://" in line:
        study_on_hub(monkeypatch, tmp_path)
    # "y" answers the question of `store remove`.
    model = workspaces.video_model if "video:" in line else workspaces.model
    run_line(line, shell, monkeypatch, model, "y\n")


def run_line(
    line: str, shell: Shell, monkeypatch: pytest.MonkeyPatch, model: Path, text: str
) -> None:
    """Run a line of the shell in this process, with its pipes and files; `text` is its standard
    input.
    """
    for command in line.split("|"):
        words = shlex.split(command)
        target = Path(words.pop()) if ">" in words else None
        source = Path(words.pop()) if "<" in words else None
        text = source.read_text() if source else text
        words = [word for word in words if word not in ("<", ">")]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        exit_code, text, notes = shell(*stand_in(words[1:], model))
        assert exit_code == 0, notes
        if target is not None:
            assert text
            target.write_text(text)
