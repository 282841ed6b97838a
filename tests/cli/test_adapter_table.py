"""What `kvtool adapter` shows on a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.shell import Shell


@pytest.mark.slow
def test_an_adapter_has_a_line_for_each_value(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    save_file({"weight": torch.zeros(128, 96), "bias": torch.zeros(128)}, "layer.safetensors")
    models = ("--lm", "demo", "--vision", "demo-tower")
    code, text, _ = shell(
        *("adapter", "import", "layer.safetensors", *models, "-o", "new", "--format", "table")
    )
    assert code == 0
    rows = [[cell.strip() for cell in line.split(":", 1)] for line in text.splitlines()]
    assert ["n parameters", "12416"] in rows
    assert ["language", "demo (the revision that the adapter was made for)"] in rows
    assert ["vision", "demo-tower (the revision that the adapter was made for)"] in rows
    assert not any(cells[0].endswith(" is") for cells in rows if cells)
    assert ["imported", "layer.safetensors"] in rows
    assert shell("adapter", "info", "new", "--format", "table")[1] == text
