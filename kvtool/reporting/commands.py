"""The commands that would make a result again, from its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kvtool.registry import experiment_part
from kvtool.reporting.numbers import ranges
from kvtool.reporting.study import KeptResult
from kvtool.result import Row

DECODER = ("key", "value")


def extract_command(info: Row) -> str:
    """The extraction behind a run, from Run.info(); the data set's place is where it lay then."""
    path = f":{info['dataset_path']}" if info.get("dataset_path") else ""
    words = [
        "extract",
        info["store"],
        "--model",
        info["model"],
        "--dataset",
        f"{info['dataset']}{path}@{info['split']}",
    ]
    words += flags(
        {"prefix": info["prefix"], "view": info["view"], "keys": info["keys"]}, EXTRACT_DEFAULTS
    )
    words += ["--kinds", ",".join(info["kinds"]), "--dtype", info["dtype"]]
    return _command(words)


EXTRACT_DEFAULTS = {"prefix": "none", "view": "base", "keys": "post-rope"}


def result_command(kept: KeptResult, info: Row | None) -> str:
    """The command of a result; of one that is not known, its name and the store."""
    part = experiment_part(kept.result.command, "article")
    if not hasattr(part, "command"):
        return _command([kept.result.command, kept.store])
    command = _command(part.command(kept, kept.result.config, info))
    piped = getattr(part, "piped_rows", None)
    return command if piped is None else piped(kept.result.config) + command


def block_flags(blocks: list[Row], info: Row | None) -> list[str]:
    """--kinds, and where they were narrowed, or the run is gone, --layers and --heads."""
    words = ["--kinds", ",".join(block["kind"] for block in blocks)] if blocks else []
    narrowed = [b for b in blocks if b["kind"] in DECODER] or [
        b for b in blocks if b["kind"] != "projected"
    ]
    for block in narrowed[:1]:
        stored = (
            None
            if info is None
            else info["layers" if block["kind"] in DECODER else "vision_layers"]
        )
        if block["layers"] != stored:
            words += ["--layers", ranges(block["layers"])]
        if block["kind"] in DECODER and (
            info is None or len(block["kv_heads"]) != info.get("kv_heads")
        ):
            words += ["--heads", ranges(block["kv_heads"])]
    return words


def flags(asked: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """Options as flags: None, false and defaults are left out, true is the flag alone."""
    words: list[str] = []
    for name, value in asked.items():
        flag = name.replace("_", "-")
        if value is None or value is False or (defaults and value == defaults.get(name)):
            continue
        words += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    return words


def _command(words: list[str]) -> str:
    return shlex.join(["kvtool", *map(str, words)])
