"""What a command may end with: an exit code, data on standard output, and a line on standard
error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests.support.shell import Outcome

Weights = dict[str, Any]


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """The rows of a command that did all of its work."""
    code, out, err = outcome
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def refusal(outcome: Outcome, code: int = 1) -> str:
    """The one line of a command that was refused: plain text without terminal codes, and no
    data.
    """
    ended, out, err = outcome
    assert (ended, out) == (code, ""), (ended, out, err)
    (line,) = err
    assert line.startswith("kvtool: ")
    assert line.isprintable()
    return line


def told(outcome: Outcome, code: int, *words: str) -> list[str]:
    """Every one of the words stands in some line on standard error, and no line is a
    traceback's.
    """
    ended, _, err = outcome
    assert ended == code, err
    assert not any("Traceback" in line or line.startswith('  File "') for line in err), err
    for word in words:
        assert any(word in line for line in err), (word, err)
    return err


def copied(model: Path, to: Path) -> Path:
    """A copy of a checkpoint, to be changed."""
    return Path(shutil.copytree(model, to))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def change_weights(model: Path, change: Callable[[Weights], Weights]) -> None:
    path = model / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
