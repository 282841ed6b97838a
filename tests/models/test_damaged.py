"""Checkpoints with one thing changed at random: whatever comes of it is one line of ours."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvtool.errors import KvtoolError
from kvtool.models import load_model
from tests.support import tiny

JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
VALUES: list[Any] = [
    *(
        None,
        True,
        "x",
        "",
        "é\ud800",
        -1,
        0,
        1,
        7,
        2**31,
        2**63,
        -(2**70),
        1e308,
        0.5,
        float("nan"),
        [],
        {},
    ),
    *([None], ["x"], {"a": 1}, [[1, 2], [3]], {"type": "x"}),
]
DAMAGES = 15
"""Of each model in the short test."""


def places(tree: Any, limit: int = 4000) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a JSON tree, up to a limit."""
    entries: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo and len(entries) < limit:
        item = todo.pop()
        keys: Any = (
            list(item)
            if isinstance(item, dict)
            else range(len(item))
            if isinstance(item, list)
            else ()
        )
        for key in keys:
            entries.append((item, key))
            todo.append(item[key])
    return entries


def change_json(path: Path, rng: random.Random) -> str:
    """Delete or replace one value at random."""
    tree = json.loads(path.read_text())
    container, key = rng.choice(places(tree))
    if rng.random() < 0.3:
        del container[key]
        change = f"{path.name}: {key} deleted"
    else:
        container[key] = rng.choice(VALUES)
        change = f"{path.name}: {key} = {container[key]!r}"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return change


def change_bytes(path: Path, rng: random.Random) -> str:
    """Cut a file short, flip bytes, or put something else in its place."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(("cut", "flip", "other"))
    if kind == "cut":
        data = data[: rng.randrange(len(data))]
    elif kind == "flip":
        for _ in range(3):
            data[rng.randrange(min(len(data), 4000))] ^= rng.randrange(1, 256)
    else:
        deep = b'{"a":' * 100_000
        data = bytearray(
            rng.choice(
                (b"", b"\0" * 9, b"[]", b"null", b'"x"', b"\xff\xfe{}", deep, b"[" * 100_000)
            )
        )
    path.write_bytes(data)
    return f"{path.name}: {kind}"


def change_header(path: Path, rng: random.Random) -> str:
    """Change one value of a safetensors header, and its length to what it is then."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tree = json.loads(data[8 : 8 + size])
    container, key = rng.choice(places(tree))
    container[key] = rng.choice([*VALUES, "F64", "I8", "F8_E4M3", [0, 8], [2**62, 2**62]])
    header = json.dumps(tree).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    return f"header: {key} = {container[key]!r}"


def damage(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Change one file of a model; what was done, and whether the weights must be read to see it."""
    if rng.random() < 0.2:
        change = rng.choice((change_header, change_bytes))
        return change(folder / "model.safetensors", rng), True
    path = folder / rng.choice([name for name in JSON_FILES if (folder / name).is_file()])
    change = change_bytes if rng.random() < 0.2 else change_json
    return change(path, rng), rng.random() < 0.2


def outcome(checkpoint: Path, folder: Path, seed: int) -> str:
    """What became of one damaged copy: "loaded", or the line it was refused with."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint, folder)
    change, weights = damage(folder, random.Random(seed))
    try:
        model = load_model(str(folder), dtype="float32", weights=weights)
        prepared = model.prepare(tiny.noise(70, 45), id="a", index=0, view="full")
        if weights:
            model.capture([prepared], model.request(None, None))
    except KvtoolError as error:
        if "\n" in str(error) or "\x1b" in str(error):
            pytest.fail(f"{seed} {change}: not one plain line: {error!r}")
        return f"{change}: {error}"
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {change}: {type(error).__name__}: {error}") from error
    return "loaded"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "build", [tiny.llava_onevision, tiny.llava_next, tiny.qwen2_5_vl, tiny.clip]
)
def test_damage_is_one_line(build: Callable[[Path], Path], tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model")
    outcomes = [outcome(checkpoint, tmp_path / "copy", seed) for seed in range(DAMAGES)]
    assert {"loaded"} < set(outcomes)
