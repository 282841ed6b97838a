"""What users see: command lines, and small results that stand in for the work behind them.

Every command of `kvtool --help` has a screen here. What it prints at 80 and at 60 columns lies in
tests/snapshots, see tests/tools/snapshots.py.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import kvtool
from kvtool.cli import app, console
from kvtool.result import Result
from tests.support import screen_records as records
from tests.support.runs import config, create_run, new_store
from tests.support.score_workspaces import ScoreWorkspaces

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
FROZEN = SNAPSHOTS / "results"
"""Results of the demo, with few layers and digits."""
WIDTHS = (80, 60)
NOTES = "standard error:"
"""Stands between the data and the notes of a snapshot."""


@dataclass(frozen=True)
class Screen:
    """A command line and what stands in for its work.

    Attributes:
        line: The words after `kvtool`.
        stand_ins: What is given in place of the objects of these dotted names.
        workspace: The attribute of ScoreWorkspaces whose files are read, if any.
        code: How the command ends.
    """

    line: str
    stand_ins: Mapping[str, Any] = field(default_factory=dict)
    workspace: str = ""
    code: int = 0


def frozen(name: str) -> Result:
    """Return a result of the demo."""
    return Result.from_json(json.loads((FROZEN / f"{name}.json").read_text(encoding="utf-8")))


def returning(value: Any) -> Any:
    """Return a stand-in for a function that gives this value, whatever it is called with."""
    return lambda *_, **__: value


def analysis(line: str, result: object) -> Screen:
    """Return the screen of an analysis that finds this result."""
    command = line.split()[0]
    stand_ins = {f"kvtool.{command}": returning(result), "kvtool.open": MagicMock()}
    return Screen(line, stand_ins)


def _analyses() -> dict[str, Screen]:
    """Return a screen for each result of the demo, by the name of its file."""
    lines = {
        "probe": "probe study.kv semantic-correspondence",
        "variance": "variance study.kv",
        "knockout": "knockout study.kv --benchmark mme:MME --heads lowest:4",
        "knockout-each": "knockout study.kv --benchmark mme:MME --each",
        "prefix": "prefix study.kv referring-expression",
        "paired": "paired study.kv art-style",
        "correlate": "correlate study.kv",
        "average": "average study.kv",
        "compare": "compare study.kv semantic-correspondence --runs demo,demo_tower",
        "sae": "sae study.kv --sae demo",
        "sae-directions": "sae study.kv --sae none",
        "lens": "lens study.kv",
        "attend": "attend study.kv --expressions",
        "attend-sinks": "attend study.kv --sinks",
        "surface": "surface study.kv art-style",
        "intervene": "intervene study.kv --benchmark mme:MME --heads sinks:2 --method block",
    }
    screens = {name: analysis(line, frozen(name)) for name, line in lines.items()}
    screens["lens-words"] = analysis("lens study.kv --image a", records.words())
    screens["search"] = analysis("search study.kv --image a --at 40,30", records.SEARCH)
    screens["show"] = analysis("show study.kv --image a -o a.png", records.PICTURE)
    return screens


SCREENS = {
    **_analyses(),
    "extract": Screen(
        "extract study.kv --model demo --dataset spair71k:SPair-71k",
        {"kvtool.engine.local.extract": returning(records.EXTRACTED)},
    ),
    "extract-failed": Screen(
        "extract study.kv --model demo --dataset spair71k:SPair-71k",
        {"kvtool.engine.local.extract": returning(records.EXTRACTED_IN_PART)},
        code=4,
    ),
    "extract-dry-run": Screen(
        "extract study.kv --model demo --dataset spair71k:SPair-71k --dry-run",
        {"kvtool.engine.local.estimate": returning(records.ESTIMATE)},
    ),
    "report": Screen("report study.kv -o study.html", {"kvtool.report": returning(records.PAGE)}),
    "serve": Screen("serve study.kv", {"kvtool.serve": returning(records.VIEWER)}),
    "demo": Screen(
        "demo",
        {
            "kvtool.demo.study.run_demo": records.demo(frozen("probe"), frozen("knockout")),
            "kvtool.demo.study.DemoStudy.extract": returning("demo-spair71k-test-59f7deee"),
        },
    ),
    "models": Screen("models"),
    "models-check": Screen(
        "models check demo", {"kvtool.check_model": returning(records.MODEL_CHECKS)}, code=1
    ),
    "datasets": Screen("datasets"),
    "datasets-spair71k": Screen("datasets spair71k"),
    "data-scenes": Screen(
        "data scenes scenes", {"kvtool.demo.layouts.write_scenes": returning(records.SCENES)}
    ),
    "data-check": Screen(
        "data check own:mine",
        {
            "kvtool.datasets.open_dataset": MagicMock(),
            "kvtool.tasks.survey.read_pictures": MagicMock(),
            "kvtool.tasks.survey.survey": returning(records.SERVED),
            "kvtool.asking.paired.tasks.survey_paired": returning(()),
        },
        code=4,
    ),
    "adapter-train": Screen(
        "adapter train --lm demo --vision demo-tower --dataset own:mine -o trained",
        {"kvtool.adapter_train": returning(records.TRAINED_ADAPTER)},
    ),
    "adapter-info": Screen(
        "adapter info trained", {"kvtool.adapter_info": returning(records.ADAPTER)}
    ),
    "adapter-import": Screen(
        "adapter import layer.pth --lm demo --vision demo-tower -o trained",
        {"kvtool.adapter_import": returning(records.ADAPTER)},
    ),
    "sae-train": Screen(
        "sae train --model demo --text captions.txt -o saes",
        {"kvtool.sae_train": returning(records.TRAINED_SAES)},
    ),
    "sae-check": Screen(
        "sae check --model demo --sae saes",
        {"kvtool.sae_check": returning(records.CHECKED_SAES)},
        code=1,
    ),
    "score-davis": Screen("score davis --data DAVIS --results masks", workspace="score_davis"),
    "score-imagenet-s": Screen(
        "score imagenet-s --data ImageNetS --results maps --classes 50",
        workspace="score_imagenet_s",
    ),
    "score-bdd10k": Screen("score bdd10k --data bdd100k --results maps", workspace="score_bdd10k"),
    "score-spair": Screen("score spair --answers keypoints.jsonl", workspace="score_spair"),
    "score-pope": Screen("score pope --answers random.jsonl popular.jsonl", workspace="score_pope"),
    "score-mme": Screen("score mme --answers answers", workspace="score_mme"),
    "store-info": Screen(
        "store info study.kv", {"kvtool.store.Store.info": returning(records.STORE)}
    ),
    "store-runs": Screen(
        "store runs study.kv", {"kvtool.store.Store.readable_runs": returning(records.RUNS)}
    ),
    "store-verify": Screen(
        "store verify study.kv",
        {"kvtool.store.verify.verify": returning(records.PROBLEMS)},
        code=1,
    ),
    "store-repair": Screen(
        "store repair study.kv", {"kvtool.store.repair.repair": returning(records.MENDED)}
    ),
    "store-prune": Screen(
        "store prune study.kv", {"kvtool.store.repair.prune": returning(records.PRUNED)}
    ),
    "store-remove": Screen("store remove study.kv tiny --yes"),
    "store-copy": Screen(
        "store copy study.kv copy.kv", {"kvtool.store.copying.copy": returning(records.COPIED)}
    ),
    "store-push": Screen(
        "store push study.kv hf://datasets/acme/study",
        {"kvtool.store.hub.push": returning(records.PUSHED)},
    ),
    "store-pull": Screen(
        "store pull hf://datasets/acme/study copy.kv",
        {"kvtool.store.hub.pull": returning(records.COPIED)},
    ),
}


def file_name(name: str, width: int) -> str:
    """Return the name of a screen's snapshot at a width."""
    return f"{name}.{width}.txt"


class Stage:
    """A folder in which screens are shown, with an empty store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.scores = ScoreWorkspaces()
        self.scores.root = folder

    def shown(self, screen: Screen, width: int) -> str:
        """Return what a terminal of a width shows of a screen: the command, data and notes."""
        self._set_up(screen)
        out, notes = io.StringIO(), io.StringIO()
        words = ["kvtool", *shlex.split(screen.line)]
        with (
            _replaced(screen.stand_ins),
            patch.dict(os.environ, {"COLUMNS": str(width)}),
            patch.object(sys, "argv", [*words, *_table_flag(screen)]),
            chdir(self.folder),
            redirect_stdout(out),
            redirect_stderr(notes),
        ):
            code = _exit_code()
        # The handlers of notes go with the stream that they wrote to.
        console.configure(quiet=False, verbose=False, log_file=None)
        assert code == screen.code, notes.getvalue()
        remarks = f"\n{NOTES}\n{notes.getvalue()}" if notes.getvalue() else ""
        lines = f"$ kvtool {screen.line}\n{out.getvalue()}{remarks}".splitlines()
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _set_up(self, screen: Screen) -> None:
        """Fill the folder with what the command reads."""
        shutil.rmtree(self.folder)
        if screen.workspace:
            shutil.copytree(getattr(self.scores, screen.workspace), self.folder)
        else:
            self.folder.mkdir()
            create_run(new_store(self.folder), config())
            (self.folder / "tiny.kv").rename(self.folder / "study.kv")


def _table_flag(screen: Screen) -> list[str]:
    """Return the flag that makes a table of a pipe's rows, for commands that have it."""
    without = ("report", "serve", "store remove")
    return [] if screen.line.startswith(without) else ["--format", "table"]


@contextmanager
def _replaced(stand_ins: Mapping[str, Any]) -> Iterator[None]:
    """Put stand-ins where commands look for functions, for a while."""
    # Patching one of kvtool's own names would load what it stands for first, which is much.
    functions = {
        name.removeprefix("kvtool."): stand_in
        for name, stand_in in stand_ins.items()
        if name.count(".") == 1
    }
    with ExitStack() as stack:
        stack.enter_context(patch.dict(vars(kvtool), functions))
        for name, stand_in in stand_ins.items():
            if name.count(".") > 1:
                stack.enter_context(patch(name, stand_in))
        yield


def _exit_code() -> int:
    try:
        app.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
