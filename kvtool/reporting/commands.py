"""The commands that would make a result again, from its configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from kvtool.reporting.numbers import ranges
from kvtool.reporting.study import Kept
from kvtool.result import Row

DECODER = ("key", "value")
PREFIXES = ("none", "correct", "random", "incorrect")


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
    words += _flags({"prefix": info["prefix"], "view": info["view"], "keys": info["keys"]}, EXTRACT_DEFAULTS)
    words += ["--kinds", ",".join(info["kinds"]), "--dtype", info["dtype"]]
    return _command(words)


EXTRACT_DEFAULTS = {"prefix": "none", "view": "base", "keys": "post-rope"}


def result_command(kept: Kept, info: Row | None) -> str:
    """The command of a result; of one that is not known, its name and the store."""
    make = COMMANDS.get(kept.result.command)
    words = [kept.result.command, kept.store] if make is None else make(kept, kept.result.config, info)
    return _heads_given(kept.result.config) * ("-" in words) + _command(words)


def _heads_given(config: Mapping[str, Any]) -> str:
    """What to pipe into a knockout whose heads came from standard input or from Python: a JSON line each."""
    conditions: list[Row] = config.get("conditions", [])
    chosen = [head for each in conditions if each["condition"] == "chosen" for head in each["heads"]]
    lines = (json.dumps({"layer": layer, "kv_head": head}) for layer, head in chosen)
    return shlex.join(["printf", r"%s\n", *lines]) + " | "


def _probe(kept: Kept, config: Mapping[str, Any], info: Row | None) -> list[str]:
    words = ["probe", kept.store, str(kept.result.task), *_flags({"run": config.get("run")})]
    words += _blocks(config.get("blocks", []), info)
    words += _flags({"select": config.get("select"), "seed": config.get("seed")}, {"select": "max", "seed": 0})
    return words + _flags(config.get("options", {}))


def _blocks(blocks: list[Row], info: Row | None) -> list[str]:
    """--kinds, and where they were narrowed, or the run is gone, --layers and --heads."""
    words = ["--kinds", ",".join(block["kind"] for block in blocks)] if blocks else []
    narrowed = [b for b in blocks if b["kind"] in DECODER] or [b for b in blocks if b["kind"] != "projected"]
    for block in narrowed[:1]:
        stored = None if info is None else info["layers" if block["kind"] in DECODER else "vision_layers"]
        if block["layers"] != stored:
            words += ["--layers", ranges(block["layers"])]
        if block["kind"] in DECODER and (info is None or len(block["kv_heads"]) != info.get("kv_heads")):
            words += ["--heads", ranges(block["kv_heads"])]
    return words


def _variance(kept: Kept, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    threshold = config.get("threshold") if config.get("threshold_from") == "given" else None
    asked = {"run": config.get("run"), "kind": config.get("kind"), "threshold": threshold, "seed": config.get("seed")}
    return ["variance", kept.store, *_flags(asked, {"kind": "key", "seed": 0})]


def _knockout(kept: Kept, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    heads = {"given": "-", "standard input": "-"}.get(config.get("heads", "given"), config.get("heads"))
    layers = None if config.get("layers") is None else ranges(config["layers"])
    asked = {
        "run": config.get("heads_run"),
        "layers": layers,
        "controls": ",".join(config.get("controls") or []) or None,
        **{name: config.get(name) for name in ("draws", "max_new_tokens", "limit", "seed")},
    }
    words = ["knockout", kept.store, "--benchmark", config.get("benchmark", "SPEC"), "--heads", heads]
    return words + _flags(asked, {"draws": 1, "max_new_tokens": 16, "seed": 0})


def _prefix(kept: Kept, config: Mapping[str, Any], info: Row | None) -> list[str]:
    names = [each["condition"] for each in config.get("conditions", [])]
    layers = config.get("layers")
    narrowed = layers if layers and (info is None or layers != info["layers"]) else None
    asked = {
        "run": config.get("run"),
        "kinds": ",".join(config.get("kinds", [])) or None,
        "layers": None if narrowed is None else ranges(narrowed),
        "conditions": ",".join(name for name in names if name in PREFIXES) or None,
        **{name: config.get(name) for name in ("select", "seed")},
    }
    words = ["prefix", kept.store, str(kept.result.task), *_flags(asked, {"select": "max", "seed": 0})]
    for item in kept.result.items:
        if item.get("condition") not in PREFIXES and item.get("n_texts") == 1:
            words += ["--prefix", f"text:{item['text']}"]
    return words + _flags(config.get("options") or {})


def _paired(kept: Kept, config: Mapping[str, Any], info: Row | None) -> list[str]:
    words = ["paired", kept.store, str(kept.result.task), *_flags({"run": config.get("run")})]
    words += _blocks(config.get("blocks", []), info)
    asked = {name: config.get(name) for name in ("select", "seed", "n", "max_new_tokens", "folds", "c")}
    asked["reading"] = "pck" if config.get("metric") == "value_pck" else None
    return words + _flags(asked, {"select": "max", "seed": 0, "max_new_tokens": 16})


def _correlate(kept: Kept, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    own: dict[str, Any] = {}
    for options in (config.get("options") or {}).values():
        own |= options
    asked = {
        "models": ",".join(each["name"] for each in config.get("models", [])) or None,
        "tasks": ",".join(config.get("tasks", {})) or None,
        "benchmarks": ",".join(config.get("benchmarks", [])) or None,
        **{name: config.get(name) for name in ("select", "limit", "max_new_tokens", "seed")},
        **own,
    }
    return ["correlate", kept.store, *_flags(asked, {"select": "max", "max_new_tokens": 16, "seed": 0})]


COMMANDS: Mapping[str, Callable[[Kept, Mapping[str, Any], Row | None], list[str]]] = {
    "probe": _probe,
    "variance": _variance,
    "knockout": _knockout,
    "prefix": _prefix,
    "paired": _paired,
    "correlate": _correlate,
}


def _flags(asked: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
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
