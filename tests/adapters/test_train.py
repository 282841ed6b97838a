"""kvtool.adapter_train over pictures and captions: from a tower, from a store, interrupted, and on
what cannot be used.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import kvtool
from kvtool.adapters import train, training
from kvtool.errors import DatasetError, KvtoolError, ModelError, UsageError
from kvtool.models import load_model
from kvtool.store import Run
from tests.support.adapters import CAPTIONS, WHAT, parts, pictures
from tests.support.tiny_language import llama


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models language/ and vision/, and the data set mine/."""
    folder = tmp_path_factory.mktemp("adapters")
    parts(folder)
    pictures(folder / "mine")
    return folder


def trained(root: Path, out: Path, **options: Any) -> train.TrainedAdapter:
    defaults: dict[str, Any] = {
        "lm": str(root / "language"),
        "vision": str(root / "vision"),
        "dataset": f"own:{root / 'mine'}",
        "question": WHAT,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "dtype": "float32",
        "device": "cpu",
    }
    return kvtool.adapter_train(out, **defaults | options)


@pytest.mark.slow
def test_an_adapter_learns_what_pictures_show(root: Path, tmp_path: Path) -> None:
    adapter = trained(root, tmp_path / "adapter", epochs=20)
    assert (adapter.n_images, adapter.n_held_out, adapter.steps) == (18, 2, 80)
    assert (adapter.layer, adapter.pool, adapter.start) == (2, 1, "random")
    assert adapter.loss < adapter.loss_start - 0.5
    assert 0 <= adapter.right <= 1
    names = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert names == ["adapter.safetensors", "config.json"]
    # It is a model like any other, which is asked about a picture.
    model: Any = load_model(f"adapter:{adapter.path}", dtype="float32")
    answers = []
    for number in range(2):
        image = Image.open(root / f"mine/images/p{number:02d}.png")
        batch = [model.prepare(image, id="a", index=0)]
        answers += model.generate(model.prefill(batch), [batch[0].sample], model.question(WHAT), 12)
    # Random weights never say a whole caption, but begin with the word that tells the two apart.
    assert [answer.split()[0] for answer in answers] == [text.split()[0] for text in CAPTIONS]
    assert kvtool.adapter_info(adapter.path).training["loss"] == adapter.loss


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(root, tmp_path / "adapter", steps=2)
    monkeypatch.setattr(train, "train_layer", lambda *_, **__: pytest.fail("trained again"))
    assert trained(root, tmp_path / "adapter", steps=2) == first
    with pytest.raises(UsageError, match="of other models, captions or settings; name another"):
        trained(root, tmp_path / "adapter", steps=3)


@pytest.mark.parametrize("start", ["random", "ridge"])
@pytest.mark.slow
def test_stored_features_give_the_same_adapter(root: Path, tmp_path: Path, start: str) -> None:
    """A store's features are those of the tower: the layer is equal, and no tower runs over the
    pictures again.
    """
    store = tmp_path / "vision.kv"
    kvtool.extract(
        store,
        model=str(root / "vision"),
        dataset=f"own:{root / 'mine'}",
        dtype="float32",
        devices=("cpu",),
    )
    options = {"steps": 4, "start": start}
    layers = []
    for name, vision in (("tower", root / "vision"), ("store", store)):
        dataset = {} if name == "tower" else {"dataset": None}
        trained(root, tmp_path / name, vision=str(vision), **options, **dataset)
        layers.append(load_file(tmp_path / name / "adapter.safetensors"))
    assert all(torch.equal(layers[0][part], layers[1][part]) for part in layers[0])


@pytest.mark.slow
def test_an_interrupted_call_goes_on_bit_for_bit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = trained(root, tmp_path / "uninterrupted", steps=9)
    monkeypatch.setattr(training, "SAVE_STEPS", 3)

    class StoppedError(Exception):
        pass

    def stop(_n: int, note: str = "", _total: int | None = None) -> None:
        if note.startswith("step 7,"):
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(root, tmp_path / "resumed", steps=9, progress=stop)
    assert not (tmp_path / "resumed/config.json").exists()
    notes: list[str] = []
    resumed = trained(
        root, tmp_path / "resumed", steps=9, progress=lambda _n, note="", *_: notes.append(note)
    )
    steps = [note.split(",")[0] for note in notes if note.startswith("step")]
    assert steps == ["step 7", "step 8", "step 9"]
    assert resumed.loss == uninterrupted.loss
    names = ("uninterrupted", "resumed")
    layers = [load_file(tmp_path / name / "adapter.safetensors") for name in names]
    assert all(torch.equal(layers[0][part], layers[1][part]) for part in layers[0])


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"start": "ridge"}, {"keep_marker": True}])
def test_another_training_does_not_go_on_from_an_interrupted_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Of as many captions and steps: it would write the weights of one under the other's name."""
    uninterrupted = trained(root, tmp_path / "uninterrupted", steps=4, **change)
    monkeypatch.setattr(training, "SAVE_STEPS", 1)

    def stop(_n: int, note: str = "", _total: int | None = None) -> None:
        if note.startswith("step 3,"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(root, tmp_path / "changed", steps=4, progress=stop)
    changed = trained(root, tmp_path / "changed", steps=4, **change)
    assert (changed.loss_start, changed.loss) == (uninterrupted.loss_start, uninterrupted.loss)
    names = ("uninterrupted", "changed")
    layers = [load_file(tmp_path / name / "adapter.safetensors") for name in names]
    assert all(torch.equal(layers[0][part], layers[1][part]) for part in layers[0])
    assert [path.name for path in (tmp_path / "changed").glob(".*")] == []


@pytest.mark.slow
def test_a_ridge_start_wants_masks_of_pictures_to_learn_from(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "mine", tmp_path / "mine")
    for mask in (tmp_path / "mine/masks").iterdir():
        mask.write_bytes(b"")
    with pytest.raises(UsageError, match="expected pictures with masks of concepts, found none"):
        trained(root, tmp_path / "adapter", dataset=f"own:{tmp_path / 'mine'}", start="ridge")


@pytest.mark.slow
def test_a_ridge_start_is_nearer_to_words(root: Path, tmp_path: Path) -> None:
    """Before any training soft tokens on a cat are the word for it, as far as features tell."""
    adapter = trained(root, tmp_path / "adapter", start="ridge", steps=1, learning_rate=1e-9)
    model: Any = load_model(adapter.path, dtype="float32")
    table = model.net.get_input_embeddings().weight.detach()
    vectors = [table[model.prompt.tokenizer(word).input_ids[0]] for word in ("cat", "dog")]
    for number in range(2):
        image = Image.open(root / f"mine/images/p{number:02d}.png")
        captured = model.capture([model.prepare(image, id="a", index=0)], model.request(None, None))
        soft = torch.from_numpy(captured.arrays["projected"][0][0, 0])
        nearness = torch.stack([soft @ vector / vector.norm() for vector in vectors])
        # Of the patches that are nearest to either word, those of the right one.
        assert int(nearness.amax(dim=1).argmax()) == number


@pytest.mark.slow
def test_the_marker_stands_before_the_question(root: Path, tmp_path: Path) -> None:
    adapter = trained(root, tmp_path / "adapter", steps=1, keep_marker=True)
    model: Any = load_model(adapter.path)
    assert model.question("what") == model.prompt.question("<image>\nwhat")
    assert kvtool.adapter_info(adapter.path).marker == "<image>\n"


@pytest.mark.slow
def test_features_that_are_not_finite_are_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Run.read

    def damaged(self: Run, *args: Any, **options: Any) -> Any:
        values = read(self, *args, **options)
        values.values.setflags(write=True)
        values.values[3] = np.nan
        return values

    monkeypatch.setattr(Run, "read", damaged)
    adapter = trained(root, tmp_path / "adapter", steps=1)
    assert adapter.skipped == ("image p00: features that are not finite",)
    assert adapter.n_images + adapter.n_held_out == 19


@pytest.mark.slow
def test_what_cannot_be_trained_on(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    with pytest.raises(DatasetError, match=r"folder: expected captions, found none; .* coco"):
        trained(root, out, dataset=f"folder:{root / 'mine/images'}")
    with pytest.raises(UsageError, match=r"expected a vision tower, found a language model"):
        trained(root, out, vision="demo")
    with pytest.raises(UsageError, match=r"--layer: expected a layer from 0 to 2 .* found 7"):
        trained(root, out, layer=7)
    with pytest.raises(UsageError, match=r"--pool: expected a number that divides .* found 3"):
        trained(root, out, pool=3)
    with pytest.raises(UsageError, match=r"expected 4 pictures with captions or more, found 3"):
        trained(root, out, limit=3)
    with pytest.raises(UsageError, match=r"start: expected random or ridge, found 'warm'"):
        trained(root, out, start="warm")
    with pytest.raises(ModelError, match=r"expected a causal language model|expected"):
        trained(root, out, lm=str(root / "vision"))
    with pytest.raises(KvtoolError, match=r"pool: expected a whole number from 1 to 64"):
        trained(root, out, pool=0)
    assert not (out / "config.json").exists()


@pytest.mark.slow
def test_an_adapter_for_another_decoder_is_refused(root: Path, tmp_path: Path) -> None:
    language = llama(tmp_path / "language", None)
    adapter = trained(root, tmp_path / "adapter", lm=str(language), steps=1)
    assert kvtool.adapter_info(adapter.path).language_is == "same"
    llama(tmp_path / "language", None, adds_start=True)
    assert kvtool.adapter_info(adapter.path).language_is == "other"
    with pytest.raises(ModelError, match="the layer was trained, found files-"):
        load_model(adapter.path)


@pytest.mark.slow
def test_settings_say_all_of_it(root: Path, tmp_path: Path) -> None:
    adapter = trained(root, tmp_path / "adapter", steps=1)
    record = json.loads((tmp_path / "adapter/config.json").read_text())
    assert record["model_type"] == "linear_adapter"
    assert record["language"]["name"] == str(root / "language")
    facts = adapter.row()
    shared = {name: record["training"][name] for name in ("steps", "loss", "n_images", "right")}
    assert shared == {name: facts[name] for name in shared}
