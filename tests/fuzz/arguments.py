"""Command lines and environments: every option of every command, with plausible and hostile
values.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from tests.fuzz.extremes import EXTREME_TEXTS

LEFT_OUT = (("demo",), ("serve",))
"""Commands that take a minute whatever they are given."""
OUTPUTS = (
    "out",
    "log_file",
    "answers",
    "official",
    "plot",
    "pictures",
    "save_predictions",
    "dir",
    "store",
)
"""Options that name what is written: hostile values that lead out of the working folder are none of
theirs.
"""
LEADING_OUT = ("..", "/", "~", "../../etc/passwd")

NUMBERS = (
    "-1",
    "0",
    "1",
    "3",
    "1e9",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "99999999999999999999999",
    "1_000",
    "１",
    "0x1",
    "",
)
LISTS = (
    "0",
    "0-1",
    "1,0",
    "0-999999999",
    "999999999-0",
    "-1",
    "a",
    "0,,1",
    "0-",
    "0:1",
    "1e3",
    "0," * 3000 + "1",
)

PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "store": (
        "tiny.kv",
        "tiny.kv",
        "asked.kv",
        "new.kv",
        "pics",
        "pics/0.png",
        "gone/x.kv",
        "s3://bucket/x.kv",
    ),
    "stores": ("tiny.kv", "asked.kv", "gone.kv"),
    "task": (
        "semantic-correspondence",
        "all",
        "art-style",
        "foreground-segmentation",
        "relative-depth",
        "pope",
    ),
    "run": ("tiny", "tiny", "other", "*"),
    "run_name": ("tiny", "tiny"),
    "model": (
        "models/llava",
        "models/llava",
        "models/siglip",
        "pics",
        "lab/none",
        "models",
        "lab/none@main",
    ),
    "models": ("planted", "a,b"),
    "runs": ("planted", "a,b", "planted,planted"),
    "dataset": (
        "folder:pics",
        "folder:pics",
        "spair71k:spair",
        "pope:pope",
        "mme:mme",
        "folder:-",
        "pope",
        "folder:gone",
    ),
    "data": ("spair", "pope", "pics", "gone", "spair71k:spair", "planted=spair"),
    "benchmark": ("pope:pope", "mme:mme", "scenes", "scenes@mme", "mme:mme@all", "blink:x"),
    "heads": ("0", "0-1", "heads.jsonl", "agnostic", "-"),
    "image": ("0", "aeroplane/a1", "a1"),
    "images": ("aeroplane/a1", "0,1", "all"),
    "at": ("5,5", "0,0", "nan,nan", "1e9,5", "5", "5;5", "-1,-1"),
    "prefix": (
        "none",
        "random",
        "correct",
        "text:the cat",
        "text:",
        "file:prefix.csv",
        "file:gone",
    ),
    "kinds": ("value", "key,value", "projected", "vision", "value,value", "keys", ","),
    "kind": ("value", "key"),
    "block": ("value:0:1", "value:99:0", "value:0", "key:nan:0", "value:-1:-1"),
    "devices": ("cpu", "cpu", "cpu,cpu", "cuda:0", "meta", "cuda:99"),
    "device": ("cpu", "cpu", "auto", "meta", "mps", "cuda:99", "xla"),
    "answers": ("answers.jsonl", "out.jsonl", "gone/out.jsonl"),
    "results": ("pics", "gone"),
    "out": ("out.html", "out.png", "out", "gone/out.html", "pics"),
    "plot": ("out.png", "out.svg", "out.pdf", "out.xyz", "gone/out.png"),
    "log_file": ("log.txt", "gone/log.txt", "pics"),
    "dir": ("scenes", "pics"),
    "only": ("pope", "spair71k,pope", "nothing"),
    "size": ("small",),
    "cutoff": ("mean", "otsu", "fraction:0.5", "fraction:nan", "fraction:2"),
    "controls": ("dependent", "random", "dependent,random", "none"),
    "conditions": ("none,correct", "none,random", "none"),
    "layers": LISTS,
    "min_free_vram": ("20GB", "0", "-1GB", "nanGB", "1e400B", "20 GB", "9" * 400 + "GB"),
    "engine": ("local",),
    "classes": ("50", "51"),
    "limit": ("1", "2", "3"),
    "n": ("1", "2", "3"),
    "k": ("1", "2", "3"),
}

VARIABLES: dict[str, tuple[str, ...]] = {
    "KVTOOL_STORE": ("tiny.kv", "gone.kv", "", "\udcff"),
    "KVTOOL_CACHE": ("cache", "pics/0.png", "/proc/self/mem", "gone/cache", ""),
    "KVTOOL_PROBE_DEVICE": ("cpu", "meta", "x"),
    "KVTOOL_PROBE_SEED": NUMBERS,
    "KVTOOL_SEARCH_K": NUMBERS,
    "KVTOOL_EXTRACT_LAYERS": LISTS,
    "KVTOOL_EXTRACT_MODEL": ("models/llava", "gone"),
    "KVTOOL_REPORT_EXAMPLES": NUMBERS,
    "HOME": ("gone", "", "pics/0.png"),
    "COLUMNS": ("0", "1", "-5", "x", "99999999999"),
    "NO_COLOR": ("1",),
    "TMPDIR": ("gone", "pics/0.png"),
    "TZ": ("Nowhere/None", "\x01"),
    "LC_ALL": ("C", "xx_XX.UTF-8"),
}


@dataclass(frozen=True)
class Command:
    """A command's path and its parameters as Typer has them."""

    path: tuple[str, ...]
    parameters: tuple[Any, ...]


def commands() -> list[Command]:
    """All commands that can be run, of the application as it is."""
    import typer

    from kvtool.cli.app import app

    return [c for c in _walk(typer.main.get_command(app), ()) if c.path not in LEFT_OUT]


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[Command]:
    import typer

    inner = getattr(command, "commands", None)
    if inner is None:
        yield Command(
            path,
            tuple(
                parameter
                for parameter in command.get_params(typer.Context(command))
                if parameter.name != "help"
            ),
        )
        return
    for name, subcommand in inner.items():
        yield from _walk(subcommand, (*path, name))


def hostile_line(rng: random.Random, command: Command) -> list[str]:
    """Arguments for a command: what it requires nearly always, each other option now and then."""
    line = list(command.path)
    if rng.random() < 0.05:
        line[:0] = rng.choice(
            (["-v"], ["-q"], ["--log-file", rng.choice(PLAUSIBLE["log_file"])], ["--nothing"])
        )
    wildness = rng.choice((0.05, 0.15, 0.5))
    for parameter in command.parameters:
        positional = not parameter.opts[0].startswith("-")
        share = 0.97 if parameter.required or (positional and not parameter.required) else 0.18
        if parameter.name in ("help", "version", "fresh", "dry_run"):
            share = 0.05
        if parameter.name in ("device", "devices"):
            share = 0.7
        if rng.random() > share:
            continue
        option = rng.choice(parameter.opts)
        if getattr(parameter, "is_flag", False):
            line.append(option)
            continue
        value = _value(rng, parameter, wildness)
        line += [value] if positional else [option, value]
    if rng.random() < 0.03:
        line.insert(rng.randrange(len(line) + 1), _text(rng))
    return line


def _value(rng: random.Random, parameter: Any, wildness: float) -> str:
    name = parameter.name
    annotation = parameter.type_descriptor.annotation
    if rng.random() < wildness:
        if annotation in (int, float):
            return rng.choice(NUMBERS)
        while (text := _text(rng)) in LEADING_OUT and name in OUTPUTS:
            pass
        return text
    if name in PLAUSIBLE:
        return rng.choice(PLAUSIBLE[name])
    literals = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if literals:
        return rng.choice(literals)
    return rng.choice(("1", "2", "3") if annotation in (int, float) else ("a", "pics", "0"))


def _text(rng: random.Random) -> str:
    """A hostile text that the kernel lets through as an argument: no NUL, and surrogates only of
    undecodable bytes.
    """
    return (
        rng.choice((*EXTREME_TEXTS, *NUMBERS, *LISTS))
        .replace("\0", "\x01")
        .replace("\ud800", "\udcff")
    )


def hostile_environment(rng: random.Random) -> dict[str, str]:
    """Some variables that commands read, with values that nobody would wish for."""
    names = rng.sample(sorted(VARIABLES), rng.choice((0, 0, 1, 2)))
    return {name: rng.choice(VARIABLES[name]) for name in names}
