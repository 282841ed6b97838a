"""The commands that would compute a result again, from its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvtool.display import unlike_flag
from kvtool.registry import experiment_part
from kvtool.reporting.numbers import ranges
from kvtool.reporting.study import KeptResult
from kvtool.result import Row
from kvtool.types import VECTOR_KINDS

DECODER = ("key", "value")


def extract_command(info: Row) -> str:
    """Return the extraction behind a run, from Run.info(); the data set's place is where it lay
    then."""
    path = f":{info['dataset_path']}" if info.get("dataset_path") else ""
    arguments = [
        "extract",
        unlike_flag(info["store"]),
        "--model",
        info["model"],
        "--dataset",
        f"{info['dataset']}{path}@{info['split']}",
    ]
    arguments += flags({name: info.get(name) for name in EXTRACT_DEFAULTS}, EXTRACT_DEFAULTS)
    # A flag that says what is the default anyway makes a command no clearer.
    layers = info.get("layers", [])
    if layers and layers != list(range(info.get("depth", len(layers)))):
        arguments += ["--layers", ranges(layers)]
    arguments += ["--kinds", ",".join(info["kinds"]), "--dtype", info["dtype"]]
    return _command(arguments)


EXTRACT_DEFAULTS = {
    "prefix": "none",
    "view": "base",
    "keys": "post-rope",
    "system": "",
    "image_size": "",
    "min_pixels": 0,
    "max_pixels": 0,
}


def result_command(stored: KeptResult, info: Row | None) -> str:
    """Return the command of a result; of one that is not known, its name and the store."""
    stored = replace(stored, store=unlike_flag(stored.store))
    part = experiment_part(stored.result.command, "article")
    if not hasattr(part, "command"):
        return _command([stored.result.command, stored.store])
    command = _command(part.command(stored, stored.result.config, info))
    piped = getattr(part, "piped_rows", None)
    return command if piped is None else piped(stored.result.config) + command


def viewer_parts(stored: KeptResult, info: Row | None) -> Row | None:
    """Return what the page's script makes the command of, that opens a block of a result's run in
    the viewer: the command up to its state, the run, the kinds of vectors that it holds, and of a
    probe its task, whose scores color the heads.

    It is None where the store does not have the run, and for results of several runs.
    """
    result = stored.result
    if info is None or any(row.get("run") not in (None, stored.run) for row in result.rows):
        return None
    return {
        "command": _command(["serve", unlike_flag(stored.store)]),
        "run": stored.run,
        "kinds": [kind for kind in info["kinds"] if kind in VECTOR_KINDS],
        "score": result.task if result.command == "probe" else None,
    }


def block_flags(blocks: list[Row], info: Row | None) -> list[str]:
    """Return --kinds, and where they were narrowed, or the run does not exist any more, --layers
    and --heads."""
    kinds = dict.fromkeys(block["kind"] for block in blocks)
    arguments = ["--kinds", ",".join(kinds)] if blocks else []
    narrowed = [block for block in blocks if block["kind"] in DECODER]
    # Of an encoder alone the layers are the tower's.
    if not narrowed:
        narrowed = [block for block in blocks if block["kind"] != "projected"]
    for kind in [block["kind"] for block in narrowed[:1]]:
        # Layers of other numbers of heads have an entry of their own.
        members = [block for block in narrowed if block["kind"] == kind]
        layers = sorted({layer for block in members for layer in block["layers"]})
        heads = sorted({head for block in members for head in block["kv_heads"]})
        # Flags name layers and heads only where they are not all of the run's.
        stored = None if info is None else info["vision_layers" if kind == "vision" else "layers"]
        if layers != stored:
            arguments += ["--layers", ranges(layers)]
        if kind in DECODER and (info is None or len(heads) != info.get("kv_heads")):
            arguments += ["--heads", ranges(heads)]
    return arguments


WORDED = ("style", "after_question", "question_dtype")
"""Options of how questions are asked."""
UNWORDED = {"style": "plain", "after_question": ""}
"""Their defaults."""


def request_flags(request: Mapping[str, Any]) -> list[str]:
    """Return the flags of what a request narrowed: kinds, layers by number or name, heads, limit;
    nothing for None."""
    texts: dict[str, Any] = {}
    for name, value in request.items():
        if isinstance(value, list | tuple):
            has_numbers = all(isinstance(entry, int) for entry in value)
            value = ranges(list(value)) if has_numbers else ",".join(map(str, value))
        texts[name] = value
    return flags(texts)


def flags(values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """Return options as flags: None, false and defaults are left out, true is the flag alone."""
    arguments: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if value is None or value is False or (defaults and value == defaults.get(name)):
            continue
        arguments += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    return arguments


def _command(arguments: list[str]) -> str:
    return shlex.join(["kvtool", *map(str, arguments)])
