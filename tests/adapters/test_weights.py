"""Layers that others trained: torch's files without their code, safetensors, what is neither."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import kvtool
from kvtool.errors import ModelError, UsageError
from kvtool.models import load_model
from tests.support.adapters import parts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    parts(folder)
    return folder


def layer(d_vision: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, d_vision, generator=generator)
    return {"weight": weight, "bias": torch.randn(32, generator=generator)}


def imported(root: Path, file: Path, out: Path, **options: Any) -> Any:
    models = {"lm": str(root / "language"), "vision": str(root / "vision")}
    return kvtool.adapter_import(file, out, **models | options)


@pytest.mark.sampled
@pytest.mark.parametrize("form", ["state", "module", "safetensors"])
def test_a_layer_becomes_a_model(root: Path, tmp_path: Path, form: str) -> None:
    d_vision = load_model(str(root / "vision"), weights=False).info.geometry.vision_dim
    weights = layer(d_vision)
    file = tmp_path / ("layer.safetensors" if form == "safetensors" else "layer.pth")
    if form == "safetensors":
        save_file(weights, file)
    else:
        prefix = "module." if form == "module" else ""
        torch.save({f"{prefix}{name}": part for name, part in weights.items()}, file)
    info = imported(root, file, tmp_path / "adapter", keep_marker=True)
    assert (info.d_vision, info.d_language, info.layer) == (d_vision, 32, 2)
    assert (info.language_is, info.vision_is, info.marker) == ("same", "same", "<image>\n")
    assert info.n_parameters == 32 * (d_vision + 1)
    model: Any = load_model(f"adapter:{tmp_path / 'adapter'}", dtype="float32")
    assert torch.equal(model.linear.weight, weights["weight"])
    assert torch.equal(model.linear.bias, weights["bias"])
    with pytest.raises(UsageError, match="holds a model; name another folder"):
        imported(root, file, tmp_path / "adapter")


class Code:
    """What unpickling would run."""

    def __reduce__(self) -> Any:
        return (Path("ran").touch, ())


def test_a_pickle_with_code_is_refused_and_not_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Code(), "bias": torch.zeros(32)}, tmp_path / "layer.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code()))
    for name in ("layer.pth", "plain.pth"):
        with pytest.raises(ModelError, match="expected") as raised:
            imported(root, tmp_path / name, tmp_path / "adapter")
        assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "adapter").exists()


def test_what_is_no_layer_of_these_models(root: Path, tmp_path: Path) -> None:
    def refused(content: Any, match: str) -> None:
        torch.save(content, tmp_path / "layer.pth")
        with pytest.raises(ModelError, match=match):
            imported(root, tmp_path / "layer.pth", tmp_path / "adapter")

    refused([torch.zeros(2)], "expected tensors by name, found list")
    refused({"weight": torch.zeros(2, 2)}, "expected the tensors weight and bias .* found weight")
    refused(layer(5), r"expected weight \(32, .* found .*\(32, 5\).* that it was trained with")
    d_vision = load_model(str(root / "vision"), weights=False).info.geometry.vision_dim
    weights = layer(d_vision)
    weights["weight"][0, 0] = float("nan")
    refused(weights, "expected finite weights, found NaN or infinity in weight")
    (tmp_path / "layer.safetensors").write_text("no tensors")
    with pytest.raises(ModelError, match="expected safetensors, found"):
        imported(root, tmp_path / "layer.safetensors", tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"absent.pth"):
        imported(root, tmp_path / "absent.pth", tmp_path / "adapter")


def test_a_folder_that_is_no_adapter(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config.json"):
        kvtool.adapter_info(tmp_path)
    with pytest.raises(ModelError, match="take the whole folder of an adapter"):
        kvtool.adapter_info(root / "language")
    with pytest.raises(ModelError, match="expected"):
        kvtool.adapter_info("no-such-adapter")
