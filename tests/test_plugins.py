"""Other people's models, data sets, tasks and experiments: installed packages and --plugin files,
by the real command.

The code is that of the pages that tell how to write them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kvtool.pictures.examples import SIDE_PX
from kvtool.registry import RESERVED
from tests.support import tiny
from tests.support.page import Reader
from tests.support.plugins import (
    N_IMAGES,
    TASK,
    WH_PX,
    ForkedKvtool,
    Kvtool,
    write_file,
    write_metadata,
    write_package,
    write_rooms,
)


@pytest.fixture(scope="module", params=["package", "file"])
def kvtool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kvtool:
    """The command with one of each, as an installed package or as a file."""
    folder = tmp_path_factory.mktemp(request.param)
    write_rooms(folder / "rooms")
    tiny.deit(folder / "deit")
    if request.param == "package":
        return ForkedKvtool(folder, [write_package(folder / "site")])
    return ForkedKvtool(folder, [], "--plugin", write_file(folder / "plugin.py"))


@pytest.fixture(scope="module")
def store(kvtool: Kvtool) -> Path:
    """A run of the plug-in's model over the plug-in's data set, made by two worker processes."""
    target = kvtool.folder / "rooms.kv"
    dataset = f"rooms:{kvtool.folder / 'rooms'}"
    flags = ("--layers", "0-2", "--dtype", "float32", "--devices", "cpu,cpu")
    done = kvtool.run(
        "extract", target, "--model", kvtool.folder / "deit", "--dataset", dataset, *flags
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_listed_and_in_the_help(kvtool: Kvtool) -> None:
    assert "deit" in [row["model_type"] for row in kvtool.rows("models")]
    (rooms,) = [row for row in kvtool.rows("datasets") if row["name"] == "rooms"]
    assert rooms["tasks"] == [TASK]
    helped = kvtool.run("--help").stdout
    assert re.search(r"^  norms +Measure the mean length", helped, re.MULTILINE)
    assert "Which vectors are measured." in kvtool.run("norms", "--help").stdout
    probe = " ".join(kvtool.run("probe", "--help").stdout.split())
    assert "--farthest-m <float range>" in probe
    assert f"do not count. ({TASK}; default 10.0)" in probe


@pytest.mark.slow
def test_the_run_is_whole(kvtool: Kvtool, store: Path) -> None:
    (run,) = kvtool.rows("store", "runs", store)
    assert (run["images"], run["dataset"]) == (N_IMAGES, "rooms")


@pytest.mark.slow
def test_an_error_in_meters_of_which_the_lowest_is_best(kvtool: Kvtool, store: Path) -> None:
    done = kvtool.run(
        "probe", store, TASK, "--kinds", "vision", "--format", "json", "--plot", "probe.png"
    )
    assert done.returncode == 4, done.stderr  # a depth map cannot be read, and is left out
    result = json.loads(done.stdout)
    assert (result["unit"], result["higher_is_better"], result["n"], result["n_skipped"]) == (
        "m",
        False,
        5,
        1,
    )
    errors = [row["depth_error"] for row in result["rows"]]
    assert result["best"]["depth_error"] == min(errors) < max(errors)
    assert all(0 <= error < 1.5 for error in errors)
    assert "room5.png: expected a depth map" in done.stderr
    table = kvtool.run("probe", store, "all", "--format", "table").stdout
    assert "vision: depth error, m" in table
    assert re.search(r"layer +h0 +min +head", table)
    assert "%" not in table.replace("95 % interval", "")
    with Image.open(kvtool.folder / "probe.png") as picture:
        assert picture.width > 0


@pytest.mark.slow
def test_an_option_of_its_own(kvtool: Kvtool, store: Path) -> None:
    result = kvtool.run("probe", store, TASK, "--farthest-m", "2", "--format", "json")
    assert json.loads(result.stdout)["config"]["options"]["farthest_m"] == 2
    assert (
        "greater than or equal to 0.1"
        in kvtool.run("probe", store, TASK, "--farthest-m", "0.05").stderr
    )
    assert (
        f"option 'episodes' is of foreground-segmentation alone; {TASK} takes: farthest_m"
        in kvtool.error("probe", store, TASK, "--episodes", "3")
    )


@pytest.mark.slow
def test_its_pictures(kvtool: Kvtool, store: Path) -> None:
    done = kvtool.run("show", store, "--task", TASK, "--image", "room1", "-o", "room1.png")
    assert done.returncode == 0, done.stderr
    with Image.open(kvtool.folder / "room1.png") as picture:
        assert picture.width > 2 * WH_PX[0]


@pytest.mark.slow
def test_a_command_with_a_table_and_a_plot(kvtool: Kvtool, store: Path) -> None:
    rows = kvtool.rows("norms", store, "--kind", "vision", "--plot", "norms.svg")
    assert all(row["norm_low"] <= row["norm"] <= row["norm_high"] for row in rows)
    assert "<svg" in (kvtool.folder / "norms.svg").read_text()
    table = kvtool.run("norms", store, "--kind", "vision", "--format", "table").stdout
    assert ("longest: layer" in table) == (not kvtool.words)  # the file has no table of its own


@pytest.mark.slow
def test_a_function_of_kvtool(kvtool: Kvtool, store: Path) -> None:
    """A folder's run.py is also a function of the library; a file has no such part."""
    code = f"import kvtool; print(kvtool.norms({str(store)!r}, kind='vision').metric)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=kvtool.environment, capture_output=True, text=True, check=False)
    assert (done.stdout == "norm\n") == (not kvtool.words)


@pytest.mark.slow
def test_the_report(kvtool: Kvtool, store: Path) -> None:
    assert kvtool.run("probe", store, TASK).returncode == 4
    kvtool.rows("norms", store, "--kind", "vision")
    done = kvtool.run("report", store, "-o", "page.html")
    assert done.returncode == 0, done.stderr
    page = (kvtool.folder / "page.html").read_text()
    assert re.search(r"scores [\d.]+ \[[\d., ]+\] m \(depth error, n = 5; lower is better\)", page)
    assert "Relative depth per pixel" in page
    (examples,) = (entry["examples"] for entry in Reader(page).data["blocks"].values())
    assert {row["width_px"] for rows in examples.values() for row in rows} == {2 * SIDE_PX}
    assert ("The longest vectors are those of vision, layer" in page) == (not kvtool.words)


@pytest.mark.slow
def test_a_name_that_is_not_there_without_the_plugin(kvtool: Kvtool, store: Path) -> None:
    bare = ForkedKvtool(kvtool.folder, [])
    assert "No such command 'norms'" in bare.run("norms", store).stderr
    assert f"unknown name '{TASK}'" in bare.error("probe", store, TASK)
    page = bare.run("report", store, "-o", "bare.html")
    assert page.returncode == 0, page.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("none.py", None, "expected a file of Python, found none"),
        ("plugin.txt", "", "a name that ends in .py"),
        ("broken.py", "1 / 0", "found ZeroDivisionError: division by zero"),
        ("syntax.py", "def", "found SyntaxError: invalid syntax"),
        ("exits.py", "raise SystemExit(0)", "found SystemExit: 0"),
        ("list.py", "TASKS = ['a']", "TASKS: expected a dictionary by name, found list"),
        (
            "taken.py",
            "DATASETS = {'coco': 1}",
            "data set coco: expected a new name, found that of kvtool.datasets.coco",
        ),
        (
            "family.py",
            "MODELS = {'clip': 1}",
            "model family clip: expected a new name, found that of kvtool.models",
        ),
        (
            "task.py",
            "TASKS = {'co-segmentation': 1}",
            "found that of kvtool.tasks.co_segmentation:CoSegmentation",
        ),
        ("probe.py", "EXPERIMENTS = {'probe': 1}", "found that of kvtool.experiments.probe"),
        (
            "store.py",
            "EXPERIMENTS = {'store': 1}",
            "experiment store: expected a new name, found that of kvtool",
        ),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, code: str | None, message: str) -> None:
    if code is not None:
        (tmp_path / name).write_text(code)
    line = Kvtool(tmp_path, []).error("--plugin", tmp_path / name, "models")
    assert str(tmp_path / name) in line
    assert message in line


@pytest.mark.slow
def test_two_files_of_one_name(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("DATASETS = {'birds': 'birds:Birds'}")
    line = Kvtool(tmp_path, [], "--plugin", "a.py", "--plugin", "b.py").error("models")
    assert f"{tmp_path / 'b.py'}: data set birds" in line
    assert f"that of {tmp_path / 'a.py'}" in line


@pytest.mark.slow
def test_an_experiment_without_a_command(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("EXPERIMENTS = {'empty': object()}")
    line = Kvtool(tmp_path, [], "--plugin", "a.py").error("empty")
    assert "experiment empty of a plug-in: expected a part `command`" in line


@pytest.mark.slow
def test_a_task_that_does_not_say_all_of_itself(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A:\n    name = 'a'\n\n\nTASKS = {'a': A}")
    done = Kvtool(tmp_path, [], "--plugin", "a.py").run("datasets", "--format", "jsonl")
    assert done.returncode == 0
    assert (
        "left out: task a of a plug-in: expected an object with name, metric, unit" in done.stderr
    )
    assert (
        "found none of its metric, unit, higher_is_better, kinds, serves, promptable" in done.stderr
    )


@pytest.mark.slow
def test_packages_that_are_gone_or_take_a_name(tmp_path: Path) -> None:
    """They cost nobody the others: each is named, and what needs it is refused."""
    entries = "[kvtool.datasets]\nbirds = gone:Birds\ncoco = gone:Coco\n"
    entries += "[kvtool.tasks]\nnests = gone:Nests\n[kvtool.experiments]\nsongs = gone.songs\n"
    kvtool = Kvtool(tmp_path, [write_metadata(tmp_path / "site", "gone", entries)])
    cause = "of a plug-in, found ModuleNotFoundError: No module named 'gone'"
    done = kvtool.run("datasets", "--format", "jsonl")
    assert (done.returncode, '"name": "coco"' in done.stdout) == (0, True)
    assert done.stderr.splitlines() == [
        "gone:Coco of the package gone is left out: coco: kvtool has this name itself",
        f"left out: data set birds: expected gone:Birds {cause}",
        f"left out: task nests: expected gone:Nests {cause}",
    ]
    assert f"data set birds: expected gone:Birds {cause}" in kvtool.error("datasets", "birds")
    helped = kvtool.run("--help")
    assert (helped.returncode, "  extract " in helped.stdout, "songs" in helped.stdout) == (
        0,
        True,
        False,
    )
    assert f"experiment songs: expected gone.songs {cause}" in helped.stderr
    assert f"experiment songs: expected gone.songs {cause}" in kvtool.error("songs")


def test_all_commands_are_reserved() -> None:
    from typer.main import get_command

    from kvtool.cli.app import app
    from kvtool.registry import EXPERIMENTS

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    assert {*RESERVED["kvtool.experiments"], *EXPERIMENTS.table} == set(commands)
