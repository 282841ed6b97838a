"""Qwen's config.json as the first releases have it, and as fine-tunes of 2025 have it: values are
today's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from tests.cases.outcomes import change_json, copied, rows
from tests.support.shell import Shell


def scaling(rope: dict[str, Any], **fields: str) -> dict[str, Any]:
    return {"type": "default", "mrope_section": rope["mrope_section"], **fields}


def flat(config: dict[str, Any]) -> None:
    """No text_config: the decoder's settings at the top, rope_scaling instead of
    rope_parameters.
    """
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    for name in ("layer_types", "model_type"):
        text.pop(name, None)
    config.update(
        text, rope_theta=rope["rope_theta"], rope_scaling=scaling(rope) | {"type": "mrope"}
    )
    config.update(torch_dtype="bfloat16", transformers_version="4.41.2")
    vision = config["vision_config"]
    vision.pop("model_type")
    vision["in_chans"] = vision.pop("in_channels")


def both(config: dict[str, Any]) -> None:
    """The decoder's settings in text_config, and again at the top."""
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": scaling(rope, rope_type="default")}
    config.update(
        {name: value for name, value in text.items() if name not in ("model_type", "layer_types")}
    )


def pixels(processor: dict[str, Any]) -> None:
    size = processor.pop("size")
    processor.update(min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"])


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [flat, both])
def test_older_spellings_give_todays_values(
    shell: Shell,
    qwen: Path,
    photos: Path,
    tmp_path: Path,
    spelling: Callable[[dict[str, Any]], None],
) -> None:
    older = copied(qwen, tmp_path / "older")
    change_json(older / "config.json", spelling)
    if spelling is flat:
        change_json(older / "preprocessor_config.json", pixels)
    for name, model in (("older", older), ("today", qwen)):
        store = tmp_path / f"{name}.kv"
        command = (
            "extract",
            store,
            "--model",
            model,
            "--dataset",
            f"folder:{photos}",
            "--dtype",
            "float32",
        )
        assert rows(shell(*command))[0]["extracted"] == 3
    runs = [kvtool.open(tmp_path / f"{name}.kv").run() for name in ("older", "today")]
    for kind in ("value", "key"):
        for layer in range(3):
            (first, _), (second, _) = (run.read(kind, layer=layer, kv_head=1) for run in runs)
            np.testing.assert_array_equal(first, second)
