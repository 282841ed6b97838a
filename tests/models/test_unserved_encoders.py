"""Encoders that are not served, each with one line that says why and what to take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvtool.errors import ModelError
from kvtool.models import load_model
from kvtool.models.families import ENCODERS
from tests.support import tiny_encoders
from tests.support.tiny import noise


def error(folder: Path) -> str:
    """The one line of a load that fails."""
    with pytest.raises(ModelError) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "ijepa"},
            f"expected an encoder among {', '.join(ENCODERS)}, found 'ijepa'; take a model of one",
        ),
        (
            {"architectures": ["RADIOModel"], "auto_map": {"AutoModel": "hf_model.RADIOModel"}},
            "found 'RADIOModel', which brings code of its own, and kvtool runs none of a "
            "checkpoint's; take nvidia/C-RADIOv4-H at a revision whose config.json has the "
            "model_type radio",
        ),
        (
            {
                "model_type": "aimv2",
                "architectures": ["AIMv2Model"],
                "auto_map": {"AutoModel": "modeling_aimv2.AIMv2Model"},
            },
            "found 'AIMv2Model', which brings code of its own",
        ),
        (
            {"architecture": "vit_pe_core_base_patch16_224", "pretrained_cfg": {}},
            "found 'vit_pe_core_base_patch16_224' of timm, which kvtool does not run",
        ),
        (
            {"model_type": "pe_video"},
            "expected patches of a picture, found 'pe_video', whose encoder leaves one vector a",
        ),
    ],
)
def test_configurations(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert message in error(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_encoders.radio(tmp_path)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change settings of an image processor."""
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.slow
def test_an_image_processor_with_code_of_its_own(folder: Path) -> None:
    classes = {"AutoImageProcessor": "processing.RadioImageProcessor"}
    rewrite(folder, image_processor_type="RadioImageProcessor", auto_map=classes)
    message = error(folder)
    assert "preprocessor_config.json: expected an image processor of transformers' own" in message
    assert "found 'RadioImageProcessor', which brings code of its own" in message


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CLIPImageProcessorFast", "CLIPFeatureExtractor"])
def test_a_class_of_transformers_serves_where_there_is_code_too(folder: Path, kind: str) -> None:
    rewrite(folder, image_processor_type=kind, auto_map={"AutoImageProcessor": "processing.Clip"})
    load_model(str(folder), dtype="float32")


def test_an_input_of_too_many_patches(tmp_path: Path) -> None:
    folder = tiny_encoders.siglip2_vision(tmp_path)
    rewrite(folder, max_num_patches=1 << 30)
    assert "an input of 6.87195e+10 pixels, more than" in error(folder)


def test_a_size_of_no_whole_patches_that_is_cropped(tmp_path: Path) -> None:
    """RADIO takes whole patches alone; what its image processor crops is not resized again."""
    crop = {"height": 34, "width": 34}
    folder = tiny_encoders.radio(
        tmp_path, do_resize=True, do_center_crop=True, size={"shortest_edge": 34}, crop_size=crop
    )
    model: Any = load_model(str(folder), dtype="float32")
    item = model.prepare(noise(70, 45), id="a", index=0)
    with pytest.raises(ModelError, match="expected a forward pass of its configuration, found"):
        model.capture([item], model.request(None, None))
