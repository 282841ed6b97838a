"""The command line: whatever is given, one of its exit codes, and at most one line of an error."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tests.fuzz.arguments import commands, hostile_environment, hostile_line
from tests.fuzz.kind import Kind
from tests.fuzz.oracle import Hang, Wrong
from tests.fuzz.places import copy_tree
from tests.support import datasets as builders

EXIT_CODES = (0, 1, 2, 3, 4, 130, 141, 143)
REFUSED = (1, 2, 3)
IN_A_PROCESS = 0.02
"""Share of commands that are run as a process of their own, with odd standard streams."""
PROCESS_S = 120.0
"""A process imports everything anew, on a machine that may be busy."""
_FOREIGN = re.compile(r"Traceback|Exception ignored|Warning: |Error in sys|Fatal Python")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Commands(Kind):
    name = "commands"
    share = 0.07

    def write_seeds(self) -> None:
        _write_data(self.seeds)
        _write_stores(self.seeds)

    def open(self) -> None:
        import kvtool.cli.app
        import kvtool.engine.local
        import kvtool.experiments.show.run
        import kvtool.reporting.collect
        import kvtool.tasks  # noqa: F401
        from kvtool.models import load_model

        load_model(str(self.seeds / "models" / "llava"), dtype="float32")
        self.commands = commands()

    def attempt(self, rng: random.Random, folder: Path) -> None:
        copy_tree(self.seeds, folder / "here")
        os.chdir(folder / "here")
        line = hostile_line(rng, rng.choice(self.commands))
        environment = hostile_environment(rng)
        (folder / "line.json").write_text(json.dumps([line, environment]))
        if rng.random() < IN_A_PROCESS:
            return run_process(rng, line, environment)
        with variables(environment), streams(folder) as files:
            code = run_main(line)
        out, err = (path.read_bytes().decode("utf-8", "backslashreplace") for path in files)
        check_said(line, code, out, err)
        return None


def run_main(line: list[str]) -> int:
    """The command in this process; its exit code."""
    from kvtool.cli import app

    sys.argv = ["kvtool", *line]
    try:
        app.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@contextmanager
def variables(environment: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def streams(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Standard output and error, of Python and of C code, into two files."""
    paths = folder / "out.txt", folder / "err.txt"
    before, descriptors = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    for number, path in enumerate(paths, 1):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, number)
        os.close(target)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", encoding="utf-8") for n in (1, 2))
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        yield paths
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = before
        for number, descriptor in zip((1, 2), descriptors, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def check_said(line: list[str], code: int, out: str, err: str) -> None:
    """Exit code, and what a person and a program read of it."""
    text = " ".join(line)[:150]
    if code not in EXIT_CODES:
        raise Wrong(f"exit {code}: {text}")
    if match := _FOREIGN.search(err):
        raise Wrong(f"{match[0]!r} on standard error: {text}: {err[-200:]}")
    if _CONTROL.search(err):
        raise Wrong(f"a control character on standard error: {text}: {err[-200:]!r}")
    errors = [row for row in err.splitlines() if row.startswith("kvtool: ")]
    helped = "Usage: kvtool" in err or not len(line)
    if code in REFUSED and len(errors) != 1 and not helped and not verify_of(line):
        raise Wrong(f"exit {code} with {len(errors)} lines of an error: {text}: {err[-200:]!r}")
    if code == 0 and errors:
        raise Wrong(f"exit 0 with an error: {text}: {errors[0]}")
    if code == 0 and "jsonl" in line and not set(line) & {"-h", "--help", "--version"}:
        for row in out.split("\n"):
            if row:
                json.loads(row, parse_constant=_no_number)


def verify_of(line: list[str]) -> bool:
    """Verify lists problems as data, with exit code 1."""
    return "verify" in line


def _no_number(name: str) -> NoReturn:
    raise Wrong(f"{name} in JSON on standard output")


def run_process(rng: random.Random, line: list[str], environment: dict[str, str]) -> None:
    """The command as users start it, with streams as shells and schedulers leave them."""
    odd = rng.choice(("", "", "<&-", ">&-", ">/dev/full", "2>&-", "</dev/full"))
    locale = rng.choice(({}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}))
    process_env = {**os.environ, **environment, **locale, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["sh", "-c", f'exec "$0" -m kvtool "$@" {odd}', sys.executable, *line]
    try:
        process = subprocess.run(
            command, env=process_env, capture_output=True, timeout=PROCESS_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Hang(f"no end after {PROCESS_S} s: {' '.join(line)[:200]}") from error
    err = process.stderr.decode("utf-8", "backslashreplace")
    if process.returncode not in EXIT_CODES or _FOREIGN.search(err):
        raise Wrong(
            f"exit {process.returncode} with streams {odd!r}: {' '.join(line)[:150]}: {err[-300:]}"
        )


def _write_data(seeds: Path) -> None:
    builders.spair(seeds / "spair")
    builders.pope(seeds / "pope")
    builders.mme(seeds / "mme")
    for number in range(3):
        builders.picture(seeds / f"pics/{number}.png", seed=number)
    builders.write_text(seeds / "prefix.csv", "image,text\n0,a cat\n1,the dog\n2,red\n")
    builders.write_text(
        seeds / "heads.jsonl", '{"layer": 0, "kv_head": 1}\n{"layer": 1, "kv_head": 0}\n'
    )
    record = {**builders.pair_record("a", "b", "cat"), "prd_kps": [[6, 7], [11, 20]]}
    builders.write_text(seeds / "answers.jsonl", json.dumps(record) + "\n")


def _write_stores(seeds: Path) -> None:
    """One run over SPair pictures with kept results, and one that a tiny model made of POPE's
    pictures.
    """
    import kvtool
    from kvtool.datasets import open_dataset
    from tests.support import tiny
    from tests.support.units import noise, sample, write_run

    tiny.llava_onevision(seeds / "models" / "llava")
    tiny.siglip(seeds / "models" / "siglip")
    refs: Any = open_dataset(f"spair71k:{seeds / 'spair'}").images()
    samples = [sample(ref.id, index, (32, 24), (3, 4)) for index, ref in enumerate(refs)]
    data = Path("spair")
    run = write_run(
        seeds / "tiny.kv", "spair71k", "test", data, samples, noise(0), layers=2, name="tiny"
    )
    run.commit_text(["dog", "cat"], np.ones((2, 2, 2, 16), np.uint16))
    kvtool.probe(run, "semantic-correspondence", data=seeds / "spair", device="cpu")
    model = str(seeds / "models" / "llava")
    kvtool.extract(
        seeds / "asked.kv",
        model=model,
        dataset=f"pope:{seeds / 'pope'}",
        devices=["cpu"],
        dtype="float32",
    )
