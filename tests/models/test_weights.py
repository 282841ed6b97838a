"""Weights: those that the network has no place for, that are not finite, that are not the file,
that do not fit.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kvtool.errors import ModelError, UsageError
from kvtool.models import load_model, networks
from kvtool.models.device_names import check_device
from kvtool.models.files import one_line
from kvtool.models.memory import cgroup_rooms, free_bytes, network_bytes
from tests.support import tiny
from tests.support.hub import POINTER

V_PROJ = "language_model.model.layers.1.self_attn.v_proj"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llava_onevision(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def folder(llava: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(llava, tmp_path / "model"))


def add_weights(folder: Path, **weights: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), **weights}, path, metadata={"format": "pt"})


def error(folder: Path, **options: Any) -> str:
    """The one line of a load that fails."""
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name",
    [
        f"{V_PROJ}.weight_scale",
        f"{V_PROJ}.bias_scale",
        f"{V_PROJ}.lora_A.default.weight",
        "language_model.model.layers.1.self_attn.q_norm.weight",
        "language_model.model.layers.3.self_attn.v_proj.weight",
        "vision_tower.encoder.layers.3.layer_norm1.bias",
        "multi_modal_projector.linear_1.weight_scale",
    ],
)
def test_weights_that_would_change_values_are_refused(folder: Path, name: str) -> None:
    add_weights(folder, **{name: torch.ones(2)})
    message = error(folder)
    assert "found 1 that it has no place for" in message
    assert name.rpartition("layers.")[2] in message


def test_weights_that_the_network_does_without_are_no_fault(folder: Path) -> None:
    """A pooling head, a task's head, and buffers of older releases."""
    names = [
        *(
            "vision_tower.head.probe",
            "vision_tower.head.attention.in_proj_weight",
            "value_head.weight",
        ),
        *(
            "vision_tower.embeddings.position_ids",
            "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
        ),
    ]
    add_weights(folder, **{name: torch.ones(2) for name in names})
    load_model(str(folder), dtype="float32")


def test_an_output_embedding_that_is_tied_may_be_there(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    load_model(str(folder), dtype="float32")


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights_is_refused(folder: Path, file: str) -> None:
    (folder / file).write_text("{}")
    assert f"found an adapter ({file}) beside them, which would not be applied" in error(folder)
    (folder / "config.json").unlink()
    if file == "adapter_config.json":
        assert "merge it into the weights of its base model" in error(folder)


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "float32"), (1e30, "float16")]
)
def test_weights_that_are_not_finite_are_told(
    folder: Path, value: float, dtype: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[f"{V_PROJ}.weight"][3, 1] = value
    save_file(weights, path, metadata={"format": "pt"})
    with caplog.at_level(logging.WARNING, "kvtool"):
        load_model(str(folder), dtype=dtype)
    assert "1 of its weights are not finite" in caplog.text
    assert "layers.1.self_attn.v_proj.weight" in caplog.text


def test_finite_weights_say_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_model(str(folder), dtype="float16")
    assert not caplog.records


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "preprocessor_config.json",
        "chat_template.jinja",
    ],
)
def test_git_lfs_pointers_are_named(folder: Path, file: str) -> None:
    (folder / file).write_text(POINTER)
    message = error(folder)
    assert f"{file}: expected the file itself, found a git-lfs pointer" in message
    assert "git lfs pull" in message


def test_weights_that_do_not_fit_are_refused_before_loading(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: Any = load_model(str(llava), weights=False)
    needed = network_bytes(network.net, torch.float32)
    assert needed == sum(weight.numel() for weight in network.net.parameters()) * 4 + sum(
        buffer.nbytes for buffer in network.net.buffers()
    )
    monkeypatch.setattr(networks, "free_bytes", lambda _device: needed - 1)
    monkeypatch.setattr(network.network, "from_pretrained", None)
    figures = (
        f"expected room for {needed / 1e9:.2f} GB of weights in float32 on cpu, "
        f"found {(needed - 1) / 1e9:.2f} GB"
    )
    assert figures in error(llava, dtype="float32")
    assert "load it in bfloat16" in error(llava, dtype="float32")


@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_memory_that_ends_while_loading_is_one_line(
    llava: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def from_pretrained(*_arguments: Any, **_options: Any) -> None:
        raise raised

    model: Any = load_model(str(llava), weights=False)
    monkeypatch.setattr(model.network, "from_pretrained", from_pretrained)
    assert "to fit cpu, found no memory left" in error(llava)


def test_room_within_limits_of_groups(tmp_path: Path) -> None:
    """Version 2, then 1: a group may have what its limit leaves, the page cache counted as free."""
    for group, limit, used in (
        ("slurm", "9000", 1000),
        ("slurm/job", "max", 1000),
        ("slurm/job/step", "5000", 4000),
    ):
        folder = tmp_path / group
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 700\nactive_file 200\ninactive_file 100\n")
    assert cgroup_rooms(tmp_path, "/slurm/job/step") == [1300, 8300]
    older = tmp_path / "memory"
    older.mkdir()
    (older / "memory.limit_in_bytes").write_text("5000")
    (older / "memory.usage_in_bytes").write_text("1000")
    (older / "memory.stat").write_text("cache 500\nactive_file 20\n")
    assert cgroup_rooms(tmp_path, "/elsewhere") == [4020]
    assert cgroup_rooms(tmp_path / "none", "") == []
    assert free_bytes(torch.device("cpu")) > 0


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        (
            "config.json",
            {"text_config": {"num_hidden_layers": 10**9}},
            "num_hidden_layers of 0 to 1024, found 1000000000",
        ),
        (
            "config.json",
            {"vision_config": {"num_hidden_layers": -1}},
            "num_hidden_layers of 0 to 1024, found -1",
        ),
        (
            "config.json",
            {"vision_aspect_ratio": "anyres"},
            "expected vision_aspect_ratio anyres_max_N",
        ),
        (
            "preprocessor_config.json",
            {"size": {"height": 10**6, "width": 10**6}},
            "an input of 1e+12 pixels",
        ),
    ],
)
def test_settings_are_bounded(
    folder: Path, file: str, change: dict[str, Any], expected: str
) -> None:
    settings = json.loads((folder / file).read_text())
    for name, value in change.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    (folder / file).write_text(json.dumps(settings))
    assert expected in error(folder, weights=False)


def test_foreign_messages_become_one_plain_sentence() -> None:
    assert one_line(
        ValueError("\x1b[1mWeights\x1b[0m only load failed. You have two options,")
    ) == ("Weights only load failed")
    assert one_line(RuntimeError("Error(s) in loading:\n\tsize mismatch for a.b: 3.5 vs 4")) == (
        "Error(s) in loading: size mismatch for a.b: 3.5 vs 4"
    )
    assert one_line(KeyError()) == "KeyError"
    assert one_line(FileNotFoundError(2, "No such file", "/home/x")) == "No such file"
    long = one_line(ValueError("word " * 200))
    assert len(long) < 310
    assert long.endswith("word ...")


def test_pickled_objects_are_refused_in_our_words(folder: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return print, ("code of a checkpoint ran",)

    torch.save({"x": Harmful()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = error(folder)
    assert message.endswith(
        "pickled objects beside tensors, which could run code; convert the weights to safetensors"
    )


@pytest.mark.parametrize("name", ["mps", "meta", "cuda:-1", "cuda:x", "", "cpu\n", "cuda:٣"])
def test_devices_are_checked_by_name(name: str) -> None:
    with pytest.raises(UsageError, match="expected cpu, cuda or cuda:N"):
        check_device(name)
    assert [check_device(name) for name in ("cpu", "cuda", "cuda:11")] == ["cpu", "cuda", "cuda:11"]
