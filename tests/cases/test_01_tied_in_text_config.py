"""An output embedding that is tied to the input's, and said to be so in text_config alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kvtool.models import load_model
from tests.cases.outcomes import Weights, change_json, change_weights, copied, rows
from tests.support.shell import Shell


@pytest.fixture
def tied(tiny_model: Path, tmp_path: Path) -> Path:
    """As the hub has the 0.5B checkpoint: no lm_head in the file, the tower's weights under their
    older names.
    """
    folder = copied(tiny_model, tmp_path / "model")

    def published(weights: Weights) -> Weights:
        return {
            name.replace("vision_tower.", "vision_tower.vision_model."): tensor
            for name, tensor in weights.items()
            if "lm_head" not in name
        }

    def settings(config: Any) -> None:
        config["tie_word_embeddings"] = False
        config["text_config"]["tie_word_embeddings"] = True

    change_weights(folder, published)
    change_json(folder / "config.json", settings)
    return folder


@pytest.mark.slow
def test_it_extracts_and_the_embedding_is_the_inputs(
    shell: Shell, tied: Path, photos: Path, tmp_path: Path
) -> None:
    (row,) = rows(
        shell("extract", tmp_path / "s.kv", "--model", tied, "--dataset", f"folder:{photos}")
    )
    assert row["extracted"] == 3
    network: Any = load_model(str(tied), dtype="float32").net  # type: ignore[attr-defined]
    assert torch.equal(
        network.get_output_embeddings().weight, network.get_input_embeddings().weight
    )
