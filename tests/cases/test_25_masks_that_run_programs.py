"""A mask that is PostScript: no program is called for it; it is left out and named, and the probe
goes on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cases.outcomes import rows, told
from tests.support import datasets as builders
from tests.support.shell import Shell

POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.slow
def test_ghostscript_is_not_called(
    shell: Shell, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program, called = tmp_path / "bin/gs", tmp_path / "called"
    program.write_text(f'#!/bin/sh\ntouch "{called}"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    data, store = builders.msrc7(tmp_path / "data"), tmp_path / "s.kv"
    rows(
        shell(
            "-q",
            "extract",
            store,
            "--model",
            tiny_model,
            "--dataset",
            f"msrc:{data}",
            "--kinds",
            "value",
        )
    )
    mask = data / "groundtruth/bird/0.png"
    mask.write_text(POSTSCRIPT)
    outcome = shell("probe", store, "co-segmentation", "--restarts", 1, "--format", "json")
    told(outcome, 4, f"{mask}: expected a mask image, found: PostScript")
    result = json.loads(outcome[1])
    assert (result["n"], result["n_skipped"]) == (5, 1)
    assert not called.exists()
